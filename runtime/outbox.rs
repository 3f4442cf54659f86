//! What is on its way to the other end of a [port](orcapack_cluster::remote::Port): a bounded
//! queue, and the task that empties it, so that who sends never waits.

use std::sync::Arc;

use orcapack_cluster::codec;
use orcapack_cluster::remote::{Class, PortSender};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

use crate::wire::{FromNode, ToNode};

/// Far more than the attempts of a node have under way. Who is that far behind is as good as gone.
const MESSAGES_MAX: usize = 65_536;

/// A message that knows which way it goes.
pub trait Wire: bincode::Encode {
    fn class(&self) -> Class;
}

impl Wire for ToNode {
    fn class(&self) -> Class {
        match self {
            Self::Task { .. } => Class::Bulk,
            _ => Class::Control,
        }
    }
}

impl Wire for FromNode {
    fn class(&self) -> Class {
        match self {
            Self::Record(_) => Class::Data,
            _ => Class::Control,
        }
    }
}

/// Puts messages into the queue. Clones put them into the same one.
#[derive(Clone, Debug)]
pub struct Outbox {
    queue: mpsc::Sender<(Class, Vec<u8>)>,
    overflow: Arc<Notify>,
}

impl Outbox {
    /// A queue to the port, emptied by a task of `tasks`. The task ends when the port does, or when
    /// the queue has overflowed: its owner drops the port then, and the link begins anew, so that
    /// nothing is lost from the middle of what was said.
    pub fn new(port: PortSender, tasks: &mut JoinSet<()>) -> Self {
        let (queue, mut waiting) = mpsc::channel(MESSAGES_MAX);
        let overflow = Arc::new(Notify::new());
        let overflowed = overflow.clone();
        tasks.spawn(async move {
            let send_all = async {
                while let Some((class, message)) = waiting.recv().await {
                    if let Err(error) = port.send(class, message).await {
                        tracing::debug!(%error, "a message was not sent");
                        return;
                    }
                }
            };
            tokio::select! {
                biased;
                () = overflowed.notified() => tracing::warn!("too many messages wait for a peer"),
                () = send_all => {}
            }
        });
        Self { queue, overflow }
    }

    /// What cannot be sent is lost with the link: whoever needs it hears of the link's end.
    pub fn send<M: Wire>(&self, message: &M) {
        let class = message.class();
        match codec::encode(message, class.bytes_max()) {
            Ok(bytes) => self.send_encoded(class, bytes),
            Err(error) => tracing::error!(%error, "a message cannot be sent"),
        }
    }

    pub fn send_encoded(&self, class: Class, bytes: Vec<u8>) {
        if let Err(error) = self.queue.try_send((class, bytes)) {
            metrics::counter!("orcapack_messages_lost_total").increment(1);
            if matches!(error, TrySendError::Full(_)) {
                self.overflow.notify_one();
            }
        }
    }
}
