//! Who calls: from a connection that the transport has accepted to its first message.

use std::sync::Arc;

use ractor::ActorRef;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::address::PeerIdentity;
use crate::caps::{HANDSHAKE_TIMEOUT, INCOMING_MAX};
use crate::gradients::Gradients;
use crate::lane::Lane;
use crate::link::{CloseReason, Link, Purpose, Transport};
use crate::mesh_actor::MeshMessage;
use crate::peer::Me;
use crate::peer_rules::check_hello;
use crate::remote::Class;
use crate::remote_port::lane_config;
use crate::session_wire::{First, Hello};

/// A control connection whose hello is in order.
pub(crate) struct Greeted {
    pub peer: PeerIdentity,
    pub control: Arc<dyn Link>,
    pub lane: Lane,
    pub hello: Hello,
}

/// A data connection that says to which session it belongs.
pub(crate) struct Bound {
    pub data: Arc<dyn Link>,
    pub lane: Lane,
}

/// Where those go who call.
#[derive(Clone)]
pub(crate) struct Greeter {
    pub me: Arc<Me>,
    pub gradients: Arc<Gradients>,
    pub mesh: ActorRef<MeshMessage>,
}

/// Accepts until the transport is closed. At most [`INCOMING_MAX`] callers are heard at a time,
/// each for [`HANDSHAKE_TIMEOUT`].
pub(crate) async fn accept_all(
    greeter: Greeter,
    transport: Arc<dyn Transport>,
    guests: Option<mpsc::Sender<Arc<dyn Link>>>,
) {
    let mut greetings = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            Some(_) = greetings.join_next(), if !greetings.is_empty() => {}
            link = transport.accept(), if greetings.len() < INCOMING_MAX => match link {
                None => return,
                Some(link) if matches!(link.purpose(), Purpose::Call | Purpose::Join) => {
                    hand_on(link, guests.as_ref());
                }
                Some(link) => {
                    greetings.spawn(greet(greeter.clone(), link));
                }
            }
        }
    }
}

fn hand_on(link: Arc<dyn Link>, guests: Option<&mpsc::Sender<Arc<dyn Link>>>) {
    if let Some(Err(refused)) = guests.map(|guests| guests.try_send(link.clone())) {
        tracing::debug!(%refused, "a guest is not heard");
        link.close(CloseReason::Refused);
    } else if guests.is_none() {
        link.close(CloseReason::Refused);
    }
}

async fn greet(greeter: Greeter, link: Arc<dyn Link>) {
    let Greeter { me, gradients, mesh } = greeter;
    if link.purpose() == Purpose::Gradients {
        return gradients.take(link).await;
    }
    let Some(peer) = link.peer().cloned() else { return link.close(CloseReason::Refused) };
    match timeout(HANDSHAKE_TIMEOUT, first(&*link)).await {
        Err(_) => {
            tracing::debug!(%peer, "a connection that says nothing");
            link.close(CloseReason::Refused);
        }
        Ok(Err(what)) => {
            tracing::warn!(%peer, what, "a connection begins with something else than it should");
            metrics::counter!("orcapack_cluster_protocol_violations_total").increment(1);
            link.close(CloseReason::Protocol);
        }
        Ok(Ok((First::Hello(hello), lane))) if link.purpose() == Purpose::Control => {
            let message = match check_hello(&hello, &me.node, &me.cluster, &peer) {
                Ok(()) => {
                    MeshMessage::Greeted(Box::new(Greeted { peer, control: link, lane, hello }))
                }
                Err(why) => MeshMessage::Refused { peer, link, why },
            };
            // Fails only when the mesh has ended, and its transport with it.
            let _ = mesh.cast(message);
        }
        Ok(Ok((First::Bind { session }, lane))) if link.purpose() == Purpose::Data => {
            let bound = Box::new(Bound { data: link, lane });
            let _ = mesh.cast(MeshMessage::Bound { peer, session, bound });
        }
        Ok(Ok(_)) => link.close(CloseReason::Protocol),
    }
}

/// The first message on the first stream.
async fn first(link: &dyn Link) -> Result<(First, Lane), String> {
    let stream = link.accept().await.map_err(|error| error.to_string())?;
    let mut lane = Lane::new(stream, lane_config(Class::Control));
    let first = lane.receiver.receive().await.map_err(|error| error.to_string())?;
    let first = first.ok_or_else(|| "nothing".to_owned())?;
    Ok((First::decode(&first).map_err(|error| error.to_string())?, lane))
}
