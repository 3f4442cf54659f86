//! Two transports as one: what must not wait goes over the one, what is long over the other.
//!
//! A byte costs about four times as much processor time over QUIC as over TLS over TCP. Where nodes
//! send each other much, [`Purpose::Data`] and [`Purpose::Gradients`] over TCP, with everything
//! else over QUIC, are worth a second open port (of the same number).

use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::future::{BoxFuture, join};

use crate::address::NodeId;
use crate::link::{CloseReason, Link, LinkError, Purpose, Transport};

pub struct SplitTransport {
    main: Arc<dyn Transport>,
    data: Arc<dyn Transport>,
}

impl SplitTransport {
    /// Both listen at the same address, or neither is dialled.
    pub fn new(main: Arc<dyn Transport>, data: Arc<dyn Transport>) -> Self {
        Self { main, data }
    }
}

impl Transport for SplitTransport {
    fn dial<'a>(
        &'a self,
        node: &'a NodeId,
        at: SocketAddr,
        purpose: Purpose,
    ) -> BoxFuture<'a, Result<Arc<dyn Link>, LinkError>> {
        match purpose {
            Purpose::Data | Purpose::Gradients => self.data.dial(node, at, purpose),
            Purpose::Control | Purpose::Call | Purpose::Join => self.main.dial(node, at, purpose),
        }
    }

    fn accept(&self) -> BoxFuture<'_, Option<Arc<dyn Link>>> {
        Box::pin(async {
            // Each waits in a queue of its own; the one that is not taken loses nothing.
            tokio::select! {
                biased;
                link = self.main.accept() => link,
                link = self.data.accept() => link,
            }
        })
    }

    fn local_addr(&self) -> SocketAddr {
        self.main.local_addr()
    }

    fn close(&self, reason: CloseReason) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            join(self.main.close(reason), self.data.close(reason)).await;
        })
    }
}
