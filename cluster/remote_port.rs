//! The ends of a remote actor, where its messages go in and come out.
//!
//! Each class of messages has a lane of its own in each direction. A lane is opened by its sender,
//! with the first message, so actors that exchange nothing cost no streams. It is read only while
//! [`Port::receive`] is awaited: a receiver that stalls stops the writer of its own peer, through
//! the stream's window and the lane's bounded queue, and nobody else.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::{mpsc, oneshot, watch};

use crate::caps::{CONTROL_QUEUE_BYTES_MAX, DATA_QUEUE_BYTES_MAX};
use crate::lane::{Lane, LaneConfig, LaneError, LaneReceiver, LaneSender};
use crate::link::Priority;
use crate::remote::{Class, DownReason};
use crate::session::Session;
use crate::session_wire::{First, LaneHead, Side};

/// One end of a remote actor. Dropping the watcher's stops the actor.
pub struct Port {
    end: Arc<PortEnd>,
    /// Lanes that the other end opens.
    arriving: mpsc::Receiver<(Class, LaneReceiver)>,
    lanes: [Option<LaneReceiver>; Class::COUNT],
    received: [u64; Class::COUNT],
    /// Classes whose lane has come and ended.
    over: [bool; Class::COUNT],
    down: oneshot::Receiver<Ending>,
    ending: Option<Ending>,
    told: Option<DownReason>,
}

/// How the other end ended, and how much it had sent by then.
#[derive(Debug)]
pub(crate) struct Ending {
    pub reason: DownReason,
    pub sent: [u64; Class::COUNT],
}

#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    Message(Class, Vec<u8>),
    /// Once and last: a call after it answers the same again.
    Down(DownReason),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// [`Port::receive`] says why.
    #[error("the other end is down")]
    Down,
    #[error("a message of {bytes} bytes, where {bytes_max} are the most")]
    TooLong { bytes: usize, bytes_max: usize },
}

impl Port {
    /// See [`PortSender::send`].
    // It borrows nothing: a port's reader cannot be shared, so an actor that awaited a borrow of it
    // could not move between threads.
    pub fn send(
        &self,
        class: Class,
        message: Vec<u8>,
    ) -> impl Future<Output = Result<(), SendError>> + Send + use<> {
        let end = self.end.clone();
        async move { end.send(class, message).await }
    }

    /// For others to send with, at the same time as this receives. It does not keep the port.
    pub fn sender(&self) -> PortSender {
        PortSender(self.end.clone())
    }

    /// The next message, of the smaller class first where there are several, or the end of the
    /// other side. Dropped before it is done, it has lost nothing.
    pub async fn receive(&mut self) -> Received {
        loop {
            if let Some(reason) = &self.told {
                return Received::Down(reason.clone());
            }
            if let Some(told) = self.ending.as_ref().and_then(|ending| self.settled(ending)) {
                self.told = Some(told);
                continue;
            }
            let [control, data, bulk] = &mut self.lanes;
            let (class, received) = tokio::select! {
                biased;
                down = &mut self.down, if self.ending.is_none() => {
                    // Without a word, the session has ended.
                    match down {
                        Ok(ending) => self.ending = Some(ending),
                        Err(_) => self.told = Some(DownReason::NodeLost),
                    }
                    continue;
                }
                arrived = self.arriving.recv() => {
                    match arrived {
                        Some((class, lane)) => self.lanes[class as usize] = Some(lane),
                        // The session has ended, and what it has not brought will not come.
                        None => self.told = Some(DownReason::NodeLost),
                    }
                    continue;
                }
                received = receive(control), if control.is_some() => (Class::Control, received),
                received = receive(data), if data.is_some() => (Class::Data, received),
                received = receive(bulk), if bulk.is_some() => (Class::Bulk, received),
            };
            match received {
                Ok(Some(message)) => {
                    self.received[class as usize] += 1;
                    return Received::Message(class, message);
                }
                // Its sender has ended; the session says why, or ends too.
                ended => {
                    self.lanes[class as usize] = None;
                    self.over[class as usize] = true;
                    ended.err().inspect(|error| self.end.broken(error));
                }
            }
        }
    }

    /// What to tell of the other end's end, if all that it had sent has come or never will.
    fn settled(&self, ending: &Ending) -> Option<DownReason> {
        let missing = |class: &Class| ending.sent[*class as usize] > self.received[*class as usize];
        let mut missing = Class::ALL.into_iter().filter(missing).peekable();
        if missing.peek().is_none() {
            return Some(ending.reason.clone());
        }
        missing.any(|class| self.over[class as usize]).then_some(DownReason::NodeLost)
    }
}

async fn receive(lane: &mut Option<LaneReceiver>) -> Result<Option<Vec<u8>>, LaneError> {
    match lane {
        Some(lane) => lane.receive().await,
        None => Ok(None),
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        if self.end.side == Side::Watcher {
            self.end.close();
            if let Some(session) = self.end.session.upgrade() {
                session.watcher_gone(self.end.actor);
            }
        }
    }
}

/// Sends to the other end of a remote actor.
#[derive(Clone)]
pub struct PortSender(Arc<PortEnd>);

impl PortSender {
    /// Waits for room in the class's queue. That a message was taken does not mean that it arrives:
    /// the other end may go down before. Dropped before it is done, it has sent nothing.
    pub async fn send(&self, class: Class, message: Vec<u8>) -> Result<(), SendError> {
        self.0.send(class, message).await
    }
}

/// What a port, its senders and the session share of one end.
pub(crate) struct PortEnd {
    session: Weak<Session>,
    actor: u64,
    side: Side,
    closed: watch::Sender<bool>,
    lanes: Mutex<[Option<LaneSender>; Class::COUNT]>,
    /// Held by whoever opens a class's lane.
    opening: [tokio::sync::Mutex<()>; Class::COUNT],
    sent: [AtomicU64; Class::COUNT],
    sent_bytes: [metrics::Counter; Class::COUNT],
}

/// The session's hold on a port.
pub(crate) struct PortHandle {
    pub end: Arc<PortEnd>,
    /// Each class arrives once.
    pub arriving: mpsc::Sender<(Class, LaneReceiver)>,
    pub down: Option<oneshot::Sender<Ending>>,
}

pub(crate) fn port(session: &Arc<Session>, actor: u64, side: Side) -> (Port, PortHandle) {
    let end = Arc::new(PortEnd {
        session: Arc::downgrade(session),
        actor,
        side,
        closed: watch::Sender::new(false),
        lanes: Mutex::default(),
        opening: Default::default(),
        sent: Default::default(),
        sent_bytes: Class::ALL.map(|class| {
            metrics::counter!("orcapack_cluster_sent_bytes_total", "class" => class.as_str())
        }),
    });
    let (to_port, arriving) = mpsc::channel(Class::COUNT);
    let (say_down, down) = oneshot::channel();
    let handle = PortHandle { end: end.clone(), arriving: to_port, down: Some(say_down) };
    let (lanes, received, over) = Default::default();
    (Port { end, arriving, lanes, received, over, down, ending: None, told: None }, handle)
}

impl PortEnd {
    async fn send(&self, class: Class, message: Vec<u8>) -> Result<(), SendError> {
        let (bytes, bytes_max) = (message.len(), class.bytes_max());
        if bytes > bytes_max {
            return Err(SendError::TooLong { bytes, bytes_max });
        }
        let mut closed = self.closed.subscribe();
        let send = async {
            let lane = self.lane(class).await?;
            lane.send(message).await.map_err(|_| SendError::Down)?;
            self.sent[class as usize].fetch_add(1, Ordering::Release);
            self.sent_bytes[class as usize].increment(bytes as u64);
            Ok(())
        };
        tokio::select! {
            biased;
            _ = closed.wait_for(|closed| *closed) => Err(SendError::Down),
            sent = send => sent,
        }
    }

    /// The class's lane, which the first caller opens.
    async fn lane(&self, class: Class) -> Result<LaneSender, SendError> {
        if let Some(lane) = &self.lanes()[class as usize] {
            return Ok(lane.clone());
        }
        let _turn = self.opening[class as usize].lock().await;
        if let Some(lane) = &self.lanes()[class as usize] {
            return Ok(lane.clone());
        }
        let session = self.session.upgrade().ok_or(SendError::Down)?;
        let (link, priority) = match class {
            Class::Control => (session.control(), Priority::Normal),
            Class::Data => (session.data(), Priority::Normal),
            Class::Bulk => (session.data(), Priority::Bulk),
        };
        let stream = link.open(priority).await.map_err(|_| SendError::Down)?;
        // Nothing is awaited from here on: the peer sees a lane with its head, or none.
        let lane = Lane::new(stream, lane_config(class)).sender;
        let head = First::Lane(LaneHead { actor: self.actor, from: self.side, class });
        let head = head.encode().map_err(|_| SendError::Down)?;
        lane.try_send(head).map_err(|_| SendError::Down)?;
        let mut lanes = self.lanes();
        if *self.closed.borrow() {
            return Err(SendError::Down);
        }
        lanes[class as usize] = Some(lane.clone());
        Ok(lane)
    }

    /// Nothing more is sent; what was, still goes out. Answers how much that was.
    pub(crate) fn close(&self) -> [u64; Class::COUNT] {
        let mut lanes = self.lanes();
        self.closed.send_replace(true);
        *lanes = Default::default();
        self.sent.each_ref().map(|sent| sent.load(Ordering::Acquire))
    }

    /// A lane that ended otherwise than its sender's end ends it.
    fn broken(&self, error: &LaneError) {
        if let LaneError::TooLong { .. } | LaneError::Malformed(_) = error
            && let Some(session) = self.session.upgrade()
        {
            session.violated(&format!("a lane between actors: {error}"));
        }
    }

    fn lanes(&self) -> MutexGuard<'_, [Option<LaneSender>; Class::COUNT]> {
        // No code panics while it holds the lock.
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn lane_config(class: Class) -> LaneConfig {
    let queue_bytes_max = match class {
        Class::Control => CONTROL_QUEUE_BYTES_MAX,
        Class::Data | Class::Bulk => DATA_QUEUE_BYTES_MAX,
    };
    LaneConfig { message_bytes_max: class.bytes_max(), queue_bytes_max }
}
