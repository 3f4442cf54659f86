//! A peer's actor: one try to have a session with it, from a dial or a call to the session's end.
//!
//! It is straight-line code, and ends with the reason in [`Life::ended`]; its supervisor, the mesh,
//! decides whether there is another. The handshake:
//!
//! ```text
//! who dials                                  who is dialled
//!   control connection, first stream: Hello  ──►   is it who it says, and the newest?
//!   is it who it says, and the newest?       ◄──  Welcome, with the session's number
//!   data connection, first stream: Bind      ──►   is it the session under way?
//!   the session is up                        ◄──  Bound; the session is up
//! ```

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use ractor::rpc::CallResult;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use crate::address::{Incarnation, NodeId, Role};
use crate::caps::{CONNECT_TIMEOUT, HANDSHAKE_TIMEOUT};
use crate::lane::{Lane, LaneReceiver};
use crate::link::{CloseReason, Link, LinkError, Priority, Purpose, Transport};
use crate::mesh_actor::MeshMessage;
use crate::mesh_greet::{Bound, Greeted};
use crate::peer_rules::{Verdict, check_hello};
use crate::remote::Class;
use crate::remote_port::lane_config;
use crate::session::{Joined, Session};
use crate::session_run::{Host, run};
use crate::session_wire::{First, Hello, Message, PROTOCOL};

/// A connection that was closed knows why a moment later than its streams.
const REASON_LIMIT: Duration = Duration::from_millis(100);

/// This process, as it shows itself to peers.
pub(crate) struct Me {
    pub node: NodeId,
    pub role: Role,
    pub cluster: String,
    pub incarnation: Incarnation,
    pub process: u64,
    pub listens: bool,
}

impl Me {
    fn hello(&self, to: &NodeId) -> Hello {
        Hello {
            protocol: PROTOCOL,
            cluster: self.cluster.clone(),
            to: to.clone(),
            node: self.node.clone(),
            role: self.role,
            incarnation: self.incarnation,
            process: self.process,
            listens: self.listens,
        }
    }
}

pub(crate) struct Life {
    pub me: Arc<Me>,
    pub host: Arc<Host>,
    pub transport: Arc<dyn Transport>,
    pub mesh: ActorRef<MeshMessage>,
    pub node: NodeId,
    /// Which of the mesh's lives this is, and the session's number where we are dialled.
    pub number: u64,
    /// The mesh wants it to end.
    pub cancel: watch::Receiver<Option<CloseReason>>,
    /// Set before the actor ends, unless it dies.
    pub ended: Arc<OnceLock<LinkError>>,
}

pub(crate) enum Begin {
    Dial(SocketAddr),
    Called { greeted: Box<Greeted>, bound: oneshot::Receiver<Box<Bound>> },
}

pub(crate) struct PeerActor;

impl Actor for PeerActor {
    type Msg = ();
    type State = (Life, Option<Begin>);
    type Arguments = (Life, Begin);

    async fn pre_start(
        &self,
        myself: ActorRef<()>,
        (life, begin): Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        myself.cast(())?;
        Ok((life, Some(begin)))
    }

    async fn handle(
        &self,
        myself: ActorRef<()>,
        (): (),
        (life, begin): &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        if let Some(begin) = begin.take() {
            let error = life.live(begin).await;
            let _ = life.ended.set(error);
        }
        myself.stop(None);
        Ok(())
    }
}

/// A handshake's failure, and what the peer is to hear of it.
struct Failure {
    error: LinkError,
    tell: CloseReason,
}

impl From<LinkError> for Failure {
    fn from(error: LinkError) -> Self {
        Self { error, tell: CloseReason::Refused }
    }
}

/// The connections of a life: closed when it is dropped, in whatever way.
struct Opened {
    links: Mutex<Vec<Arc<dyn Link>>>,
    tell: Mutex<CloseReason>,
}

impl Opened {
    fn add(&self, link: &Arc<dyn Link>) {
        self.links.lock().unwrap_or_else(PoisonError::into_inner).push(link.clone());
    }

    fn tell(&self, reason: CloseReason) {
        *self.tell.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        let reason = *self.tell.lock().unwrap_or_else(PoisonError::into_inner);
        for link in self.links.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            link.close(reason);
        }
    }
}

/// Ends the session even where its actor is killed.
struct CloseOnDrop(Arc<Session>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close(CloseReason::Leaving);
    }
}

impl Life {
    async fn live(&self, begin: Begin) -> LinkError {
        let opened = Opened { links: Mutex::default(), tell: Mutex::new(CloseReason::Leaving) };
        let mut cancel = self.cancel.clone();
        let shaken = tokio::select! {
            biased;
            reason = wanted(&mut cancel) => {
                opened.tell(reason);
                return LinkError::Closed(reason);
            }
            shaken = self.shake(begin, &opened) => shaken,
        };
        let (joined, messages) = match shaken {
            Ok(shaken) => shaken,
            Err(failure) => {
                opened.tell(failure.tell);
                return failure.error;
            }
        };
        let (session, dropped) = Session::new(joined);
        let _close = CloseOnDrop(session.clone());
        let (node, life) = (self.node.clone(), self.number);
        // These fail only when the mesh has ended, and then this is about to.
        let up = MeshMessage::Up { node: node.clone(), life, session: session.clone() };
        let _ = self.mesh.cast(up);
        let tell = |pulse| {
            let _ = self.mesh.cast(MeshMessage::Pulse { node: node.clone(), life, pulse });
        };
        let mut run = std::pin::pin!(run(&session, messages, dropped, &self.host, tell));
        tokio::select! {
            biased;
            error = &mut run => return error,
            reason = wanted(&mut cancel) => session.close(reason),
        }
        run.await
    }

    async fn shake(
        &self,
        begin: Begin,
        opened: &Opened,
    ) -> Result<(Joined, LaneReceiver), Failure> {
        match begin {
            Begin::Dial(at) => self.dial(at, opened).await,
            Begin::Called { greeted, bound } => {
                opened.add(&greeted.control);
                self.answer(*greeted, bound, opened).await
            }
        }
    }

    async fn dial(
        &self,
        at: SocketAddr,
        opened: &Opened,
    ) -> Result<(Joined, LaneReceiver), Failure> {
        let (control, mut lane) = self.connect(at, Purpose::Control, opened).await?;
        say(&lane, First::Hello(self.me.hello(&self.node)).encode())?;
        let (hello, session) = match hear(&*control, &mut lane).await? {
            Message::Welcome { hello, session } => (hello, session),
            _ => return Err(broken("expected a welcome")),
        };
        let Some(peer) = control.peer().cloned() else { return Err(broken("without a name")) };
        if let Err(why) = check_hello(&hello, &self.me.node, &self.me.cluster, &peer) {
            let error = LinkError::Transport(format!("the peer {}", why.as_str()));
            return Err(error.into());
        }
        self.judge(&hello).await?;
        let (data, mut first) = self.connect(at, Purpose::Data, opened).await?;
        if data.peer() != Some(&peer) {
            return Err(broken("two peers at one address"));
        }
        say(&first, First::Bind { session }.encode())?;
        match hear(&*data, &mut first).await? {
            Message::Bound => {}
            _ => return Err(broken("expected the data connection to be bound")),
        }
        let Lane { sender, receiver } = lane;
        let incarnation = hello.incarnation;
        Ok((Joined { peer, incarnation, control, data, sender }, receiver))
    }

    async fn connect(
        &self,
        at: SocketAddr,
        purpose: Purpose,
        opened: &Opened,
    ) -> Result<(Arc<dyn Link>, Lane), Failure> {
        let dial = self.transport.dial(&self.node, at, purpose);
        let link = within(CONNECT_TIMEOUT, "connect", dial).await?;
        opened.add(&link);
        let stream =
            within(HANDSHAKE_TIMEOUT, "open a stream", link.open(Priority::Urgent)).await?;
        Ok((link, Lane::new(stream, lane_config(Class::Control))))
    }

    /// Fences who is older than what we know of its node.
    async fn judge(&self, hello: &Hello) -> Result<(), Failure> {
        let (incarnation, process) = (hello.incarnation, hello.process);
        let node = self.node.clone();
        let judge = |reply| MeshMessage::Judge { node, incarnation, process, reply };
        match self.mesh.call(judge, None).await {
            Ok(CallResult::Success(Verdict::Same | Verdict::Newer)) => Ok(()),
            Ok(CallResult::Success(Verdict::Stale)) => {
                let error = LinkError::Closed(CloseReason::Fenced);
                Err(Failure { error, tell: CloseReason::Fenced })
            }
            _ => Err(LinkError::Closed(CloseReason::Leaving).into()),
        }
    }

    async fn answer(
        &self,
        greeted: Greeted,
        bound: oneshot::Receiver<Box<Bound>>,
        opened: &Opened,
    ) -> Result<(Joined, LaneReceiver), Failure> {
        let Greeted { peer, control, lane, hello } = greeted;
        let (mine, session) = (self.me.hello(&self.node), self.number);
        say(&lane, Message::Welcome { hello: mine, session }.encode())?;
        let bound = async {
            tokio::select! {
                biased;
                error = control.closed() => Err(error),
                bound = bound => bound.map_err(|_| LinkError::Closed(CloseReason::Leaving)),
            }
        };
        let bound = within(HANDSHAKE_TIMEOUT, "bind a data connection", Box::pin(bound)).await?;
        let Bound { data, lane: first } = *bound;
        opened.add(&data);
        say(&first, Message::Bound.encode())?;
        let Lane { sender, receiver } = lane;
        let incarnation = hello.incarnation;
        Ok((Joined { peer, incarnation, control, data, sender }, receiver))
    }
}

async fn wanted(cancel: &mut watch::Receiver<Option<CloseReason>>) -> CloseReason {
    match cancel.wait_for(Option::is_some).await {
        Ok(reason) => reason.unwrap_or(CloseReason::Leaving),
        Err(_) => CloseReason::Leaving,
    }
}

async fn within<T>(
    limit: Duration,
    what: &str,
    step: BoxFuture<'_, Result<T, LinkError>>,
) -> Result<T, LinkError> {
    let late = |_| LinkError::TimedOut(format!("took longer than {limit:?} to {what}"));
    timeout(limit, step).await.map_err(late)?
}

/// The first message that we send on a stream, for which there is room.
fn say(lane: &Lane, message: Result<Vec<u8>, crate::codec::CodecError>) -> Result<(), LinkError> {
    let failed = |error: String| LinkError::Transport(error);
    let message = message.map_err(|error| failed(error.to_string()))?;
    lane.sender.try_send(message).map_err(|error| failed(error.to_string()))
}

/// The peer's answer in a handshake.
async fn hear(link: &dyn Link, lane: &mut Lane) -> Result<Message, Failure> {
    let late = || LinkError::TimedOut("no answer in the handshake".to_owned());
    let heard = timeout(HANDSHAKE_TIMEOUT, lane.receiver.receive()).await.map_err(|_| late())?;
    match heard {
        Ok(Some(bytes)) => Message::decode(&bytes).map_err(|error| broken(&error.to_string())),
        ended => {
            let closed = timeout(REASON_LIMIT, link.closed()).await;
            let ended = || LinkError::Transport(format!("ended in the handshake: {ended:?}"));
            Err(closed.unwrap_or_else(|_| ended()).into())
        }
    }
}

fn broken(what: &str) -> Failure {
    let error = LinkError::Transport(format!("the peer broke the protocol: {what}"));
    Failure { error, tell: CloseReason::Protocol }
}
