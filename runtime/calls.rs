//! Calls: one question to a node and its answer, over a connection of its own. They are what people
//! and scripts ask; no session comes of them, so they are in nobody's way.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bincode::{Decode, Encode};
use orcapack_cluster::address::{NodeId, PeerIdentity};
use orcapack_cluster::caps::CONTROL_MESSAGE_BYTES_MAX;
use orcapack_cluster::codec;
use orcapack_cluster::lane::{Lane, LaneConfig};
use orcapack_cluster::link::{CloseReason, Link, Priority, Purpose, Transport};
use tokio::time::timeout;

use crate::cluster_discovery::HostPort;
use crate::cluster_status::NodeStatus;

/// Connecting, asking, and being answered.
const CALL_LIMIT: Duration = Duration::from_secs(8);

/// From the end of a stream to that of its connection, if they have one reason.
const REASON_LIMIT: Duration = Duration::from_millis(100);

#[derive(Clone, Debug, Encode, Decode)]
pub enum Question {
    Status,
    /// Take nothing more, or again. An operator's.
    Drain(bool),
    /// A revocation list, DER. It proves itself.
    Revocations(Vec<u8>),
    /// The list of who is asked, if its number is greater.
    RevocationsAfter(u64),
    /// Give me a request for your next certificate. An operator's.
    Rotate,
    /// What the authority says to that request.
    Rotated(Vec<u8>),
    /// To an authority: the request for the next certificate of who asks.
    Renew(Vec<u8>),
}

#[derive(Clone, Debug, Encode, Decode)]
pub enum Answer {
    Status(Box<NodeStatus>),
    Done,
    /// To [`Question::Rotate`], [`Question::Renew`] and [`Question::RevocationsAfter`], where there
    /// are none if there is nothing newer.
    Bytes(Vec<u8>),
    Refused(String),
}

/// Asks a node.
///
/// # Errors
/// Why there is no answer, for the user.
pub async fn ask(
    transport: &Arc<dyn Transport>,
    node: &NodeId,
    address: &HostPort,
    question: &Question,
) -> Result<Answer, String> {
    let asked = timeout(CALL_LIMIT, async {
        let from = match transport.local_addr().ip() {
            ip if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            ip => ip,
        };
        let at: SocketAddr = address.resolve(from).await?;
        let dialled = transport.dial(node, at, Purpose::Call).await;
        let link = dialled.map_err(|error| error.to_string())?;
        let answer = match ask_over(&*link, question).await {
            // What ended the connection says more than the stream that ended with it.
            Err(why) => match timeout(REASON_LIMIT, link.closed()).await {
                Ok(reason) => Err(reason.to_string()),
                Err(_) => Err(why),
            },
            answer => answer,
        };
        link.close(CloseReason::Leaving);
        answer
    });
    asked.await.unwrap_or_else(|_| Err(format!("no answer within {} s", CALL_LIMIT.as_secs())))
}

async fn ask_over(link: &dyn Link, question: &Question) -> Result<Answer, String> {
    let stream = link.open(Priority::Normal).await.map_err(|error| error.to_string())?;
    let mut lane = Lane::new(stream, lane_config());
    let message = codec::encode(question, CONTROL_MESSAGE_BYTES_MAX);
    let message = message.map_err(|error| error.to_string())?;
    lane.sender.send(message).await.map_err(|error| error.to_string())?;
    match lane.receiver.receive().await {
        Ok(Some(bytes)) => {
            codec::decode(&bytes, CONTROL_MESSAGE_BYTES_MAX).map_err(|error| error.to_string())
        }
        Ok(None) => Err("the node ended the call".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Who answers calls.
pub trait Desk: Send + Sync {
    fn answer(
        &self,
        from: &PeerIdentity,
        question: Question,
    ) -> impl Future<Output = Answer> + Send;
}

/// Answers one caller. Whatever is wrong with the call ends it, and nothing else.
pub async fn serve(link: Arc<dyn Link>, desk: &impl Desk) {
    let served = timeout(CALL_LIMIT, serve_link(&*link, desk)).await;
    match served {
        Ok(Ok(())) => {}
        Ok(Err(why)) => tracing::debug!(why, "a call was not answered"),
        Err(_) => tracing::debug!("a call took too long"),
    }
    link.close(CloseReason::Leaving);
}

async fn serve_link(link: &dyn Link, desk: &impl Desk) -> Result<(), String> {
    let Some(peer) = link.peer().cloned() else { return Err("a stranger".to_owned()) };
    let stream = link.accept().await.map_err(|error| error.to_string())?;
    let mut lane = Lane::new(stream, lane_config());
    let received = lane.receiver.receive().await.map_err(|error| error.to_string())?;
    let Some(bytes) = received else { return Err("nothing was asked".to_owned()) };
    let question = codec::decode(&bytes, CONTROL_MESSAGE_BYTES_MAX);
    let answer = match question {
        Ok(question) => desk.answer(&peer, question).await,
        Err(error) => Answer::Refused(error.to_string()),
    };
    let answer = codec::encode(&answer, CONTROL_MESSAGE_BYTES_MAX);
    let answer = answer.map_err(|error| error.to_string())?;
    lane.sender.send(answer).await.map_err(|error| error.to_string())?;
    // The caller hangs up when it has the answer; the end of the connection would overtake it.
    link.closed().await;
    Ok(())
}

fn lane_config() -> LaneConfig {
    LaneConfig {
        message_bytes_max: CONTROL_MESSAGE_BYTES_MAX,
        queue_bytes_max: CONTROL_MESSAGE_BYTES_MAX,
    }
}
