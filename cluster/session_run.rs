//! The loop of a session: what comes from the peer, what is due, and the actors that run for it.
//!
//! The loop waits for nothing but the next event. What has to wait for room to the peer (the end of
//! an actor, say) does so in a task of the session's own set, so that a peer that does not read
//! stops only what concerns itself, and there are at most as many as there are actors.
//!
//! Silence is counted in our own ticks: a process that stood still itself has seen few of them, and
//! does not blame its peers.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::address::{Address, Incarnation, NodeId};
use crate::caps::{
    HANDSHAKE_TIMEOUT, IDLE_TIMEOUT, KIND_BYTES_MAX, PING_INTERVAL, SPAWN_ARGS_BYTES_MAX,
    SUSPECT_AFTER,
};
use crate::lane::{Lane, LaneError, LaneReceiver};
use crate::link::{CloseReason, LinkError, Stream};
use crate::remote::{Class, DownReason, Kinds, Port, Spawned, cut};
use crate::remote_port::{Ending, lane_config};
use crate::session::Session;
use crate::session_wire::{First, Message};

/// What peers find here.
pub(crate) struct Host {
    pub node: NodeId,
    pub incarnation: Incarnation,
    pub kinds: Kinds,
    /// Actors so far.
    pub spawned: AtomicU64,
}

/// What the mesh wants to know of a live session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pulse {
    Suspect,
    Heard,
}

struct Running<'a, F> {
    session: &'a Arc<Session>,
    host: &'a Arc<Host>,
    tell: F,
    tasks: JoinSet<()>,
    /// Ticks since anything was heard.
    silent: u128,
    ping: Option<(u64, Instant)>,
    pings: u64,
}

/// Runs until the session is over, and answers why. All that ran in it has ended then.
pub(crate) async fn run(
    session: &Arc<Session>,
    mut messages: LaneReceiver,
    mut dropped: mpsc::Receiver<u64>,
    host: &Arc<Host>,
    tell: impl Fn(Pulse),
) -> LinkError {
    let tasks = JoinSet::new();
    let mut running = Running { session, host, tell, tasks, silent: 0, ping: None, pings: 0 };
    let mut ticks = interval(PING_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut over = std::pin::pin!(session.over());
    let (mut control, mut data) = (session.control().accept(), session.data().accept());
    let error = loop {
        tokio::select! {
            biased;
            error = &mut over => break error,
            // Their results are where they belong; this frees their memory.
            Some(_) = running.tasks.join_next(), if !running.tasks.is_empty() => {}
            _ = ticks.tick() => running.tick(),
            Some(actor) = dropped.recv() => running.stop(actor),
            message = messages.receive() => match message {
                Ok(Some(bytes)) => running.message(&bytes),
                Ok(None) => session.violated("its messages have ended"),
                Err(error) => running.lane_ended(&error),
            },
            // A link that accepts no more is over.
            Ok(stream) = &mut control => {
                running.accept(stream, true);
                control = session.control().accept();
            }
            Ok(stream) = &mut data => {
                running.accept(stream, false);
                data = session.data().accept();
            }
        }
    };
    session.end(error.clone(), CloseReason::Refused);
    running.tasks.shutdown().await;
    error
}

impl<F: Fn(Pulse)> Running<'_, F> {
    fn tick(&mut self) {
        let silence = |limit: Duration| limit.as_millis() / PING_INTERVAL.as_millis();
        self.silent += 1;
        if self.silent > silence(IDLE_TIMEOUT) {
            let error = LinkError::TimedOut("its process is silent".to_owned());
            return self.session.end(error, CloseReason::Refused);
        }
        if self.silent == silence(SUSPECT_AFTER) + 1 {
            (self.tell)(Pulse::Suspect);
        }
        self.pings += 1;
        self.ping = Some((self.pings, Instant::now()));
        self.session.try_say(&Message::Ping { number: self.pings });
    }

    fn message(&mut self, bytes: &[u8]) {
        if std::mem::take(&mut self.silent) > SUSPECT_AFTER.as_millis() / PING_INTERVAL.as_millis()
        {
            (self.tell)(Pulse::Heard);
        }
        match Message::decode(bytes) {
            Ok(Message::Ping { number }) => self.session.try_say(&Message::Pong { number }),
            Ok(Message::Pong { number }) => {
                if let Some((asked, at)) = self.ping
                    && asked == number
                {
                    self.session.measured(at.elapsed());
                }
            }
            Ok(Message::Spawn { actor, kind, args }) => self.spawn(actor, kind, args),
            Ok(Message::Spawned { actor, id }) => self.session.started(actor, id),
            Ok(Message::Stop { actor }) => self.session.stop_hosted(actor),
            Ok(Message::Down { actor, reason, sent }) => {
                self.session.down(actor, Ending { reason, sent });
            }
            Ok(Message::Welcome { .. } | Message::Bound) => {
                self.session.violated("a message of the handshake after it");
            }
            Err(error) => self.session.violated(&format!("a message: {error}")),
        }
    }

    /// Tells the peer that a watcher is gone.
    fn stop(&mut self, actor: u64) {
        let session = self.session.clone();
        self.tasks.spawn(async move {
            // Where it fails, the session ends.
            let _ = session.say(&Message::Stop { actor }).await;
            session.unwatch(actor);
        });
    }

    fn spawn(&mut self, actor: u64, kind: String, args: Vec<u8>) {
        if kind.len() > KIND_BYTES_MAX || args.len() > SPAWN_ARGS_BYTES_MAX {
            return self.session.violated("a spawn that is too long");
        }
        let (session, host, tasks) = (self.session.clone(), self.host.clone(), &mut self.tasks);
        let begin = |port| tasks.spawn(host_actor(session, host, actor, kind, args, port));
        if let Err(what) = self.session.host(actor, begin) {
            self.session.violated(what);
        }
    }

    fn accept(&mut self, stream: Stream, on_control: bool) {
        // Not more of them than streams that a peer may have open.
        self.tasks.spawn(arrive(self.session.clone(), stream, on_control));
    }

    fn lane_ended(&self, error: &LaneError) {
        match error {
            LaneError::TooLong { .. } | LaneError::Malformed(_) => {
                self.session.violated(&format!("its messages: {error}"));
            }
            // The connection's end says more, where it has one.
            LaneError::Cut | LaneError::Reset | LaneError::Broken(_) => {
                let error = LinkError::Transport(format!("its messages have ended: {error}"));
                let lost = self.session.over().now_or_never().unwrap_or(error);
                self.session.end(lost, CloseReason::Protocol);
            }
        }
    }
}

/// A stream that the peer has opened: to whom does it go?
async fn arrive(session: Arc<Session>, stream: Stream, on_control: bool) {
    // A head is short, whatever follows it.
    let mut lane = Lane::new(stream, lane_config(Class::Control)).receiver;
    let first = match timeout(HANDSHAKE_TIMEOUT, lane.receive()).await {
        Ok(Ok(Some(first))) => First::decode(&first),
        Ok(Err(error @ (LaneError::TooLong { .. } | LaneError::Malformed(_)))) => {
            return session.violated(&format!("a stream: {error}"));
        }
        // Given up before it began.
        _ => return,
    };
    let arrived = match first {
        Ok(First::Lane(head)) if on_control == (head.class == Class::Control) => {
            lane.raise_message_bytes_max(head.class.bytes_max());
            session.arrived(head, lane)
        }
        Ok(First::Lane(_)) => Err("a lane on the wrong connection"),
        Ok(_) => Err("a handshake on a connection that has one"),
        Err(error) => return session.violated(&format!("a stream's head: {error}")),
    };
    if let Err(what) = arrived {
        session.violated(what);
    }
}

/// A hosted actor, from its start to the word of its end.
async fn host_actor(
    session: Arc<Session>,
    host: Arc<Host>,
    actor: u64,
    kind: String,
    args: Vec<u8>,
    port: Port,
) {
    let reason = match host.kinds.find(&kind, session.peer().role) {
        Err(reason) => reason,
        Ok(start) => {
            let id = host.spawned.fetch_add(1, Ordering::Relaxed) + 1;
            if session.say(&Message::Spawned { actor, id }).await.is_err() {
                return;
            }
            let address =
                Address { node: host.node.clone(), incarnation: host.incarnation, actor: id };
            let peer_incarnation = session.incarnation();
            let peer = session.peer().clone();
            let spawned = Spawned { address, peer, peer_incarnation, args, port };
            let _hosted = Hosted::new();
            let run = AssertUnwindSafe(async move { start(spawned).await });
            match run.catch_unwind().await {
                Ok(Ok(())) => DownReason::Finished,
                Ok(Err(why)) => DownReason::Failed(cut(why)),
                Err(panic) => DownReason::Panicked(cut(panic_text(&*panic))),
            }
        }
    };
    let sent = session.close_hosted(actor);
    // Where it fails, the session ends.
    let _ = session.say(&Message::Down { actor, reason, sent }).await;
    session.forget_hosted(actor);
}

/// Counts an actor while it runs.
struct Hosted(metrics::Gauge);

impl Hosted {
    fn new() -> Self {
        let gauge = metrics::gauge!("orcapack_cluster_hosted_actors");
        gauge.increment(1.0);
        Self(gauge)
    }
}

impl Drop for Hosted {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "without a text".to_owned())
}
