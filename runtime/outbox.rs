//! What is on its way to the other end of a [port](orcapack_cluster::remote::Port): a bounded queue,
//! and the task that empties it, so that who sends never waits.

use orcapack_cluster::codec;
use orcapack_cluster::remote::{Class, PortSender};
use tokio::sync::mpsc;
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
pub struct Outbox(mpsc::Sender<(Class, Vec<u8>)>);

impl Outbox {
    /// A queue to the port, emptied by a task of `tasks`. The task ends when the port does, or when
    /// the queue has overflowed: the queue's owner sees the port's end in either case, since it
    /// drops the port with the task.
    pub fn new(port: PortSender, tasks: &mut JoinSet<()>) -> Self {
        let (sender, mut queue) = mpsc::channel(MESSAGES_MAX);
        tasks.spawn(async move {
            while let Some((class, message)) = queue.recv().await {
                if let Err(error) = port.send(class, message).await {
                    tracing::debug!(%error, "a message was not sent");
                    return;
                }
            }
        });
        Self(sender)
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
        if self.0.try_send((class, bytes)).is_err() {
            metrics::counter!("orcapack_messages_lost_total").increment(1);
        }
    }
}
