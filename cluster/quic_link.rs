//! A QUIC connection as a link.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use quinn::{Connection, ConnectionError, RecvStream, SendStream, VarInt};
use tokio::io::AsyncWrite;

use crate::address::PeerIdentity;
use crate::credentials::Credentials;
use crate::link::{CloseReason, Link, LinkError, Priority, Purpose, Stream};
use crate::quic_accept::chain;
use crate::quic_error::{code, link_error};

pub(crate) struct QuicLink {
    pub(crate) connection: Connection,
    pub(crate) peer: Option<PeerIdentity>,
    pub(crate) purpose: Purpose,
    pub(crate) credentials: Arc<dyn Credentials>,
    /// Why this side has closed it.
    pub(crate) closed: OnceLock<CloseReason>,
    /// Why this side has closed all of its connections.
    pub(crate) all_closed: Arc<OnceLock<CloseReason>>,
}

impl QuicLink {
    fn error(&self, error: &ConnectionError) -> LinkError {
        link_error(error, self.closed.get().or(self.all_closed.get()).copied())
    }
}

impl Link for QuicLink {
    fn peer(&self) -> Option<&PeerIdentity> {
        self.peer.as_ref()
    }

    fn purpose(&self) -> Purpose {
        self.purpose
    }

    fn open(&self, priority: Priority) -> BoxFuture<'_, Result<Stream, LinkError>> {
        Box::pin(async move {
            let (send, receive) =
                self.connection.open_bi().await.map_err(|error| self.error(&error))?;
            // It fails for a stream that has ended, and this one is new.
            let _ = send.set_priority(match priority {
                Priority::Bulk => -1,
                Priority::Normal => 0,
                Priority::Urgent => 1,
            });
            Ok(stream(send, receive))
        })
    }

    fn accept(&self) -> BoxFuture<'_, Result<Stream, LinkError>> {
        Box::pin(async move {
            let accepted = self.connection.accept_bi().await;
            let (send, receive) = accepted.map_err(|error| self.error(&error))?;
            Ok(stream(send, receive))
        })
    }

    fn closed(&self) -> BoxFuture<'_, LinkError> {
        Box::pin(async move {
            let error = self.connection.closed().await;
            self.error(&error)
        })
    }

    fn close(&self, reason: CloseReason) {
        // The first reason is the one that the peer is told.
        let _ = self.closed.set(reason);
        self.connection.close(code(reason), b"");
    }

    fn round_trip(&self) -> Option<Duration> {
        Some(self.connection.rtt())
    }

    fn is_revoked(&self) -> bool {
        chain(&self.connection).is_some_and(|chain| self.credentials.revoked(&chain))
    }
}

fn stream(send: SendStream, receive: RecvStream) -> Stream {
    // Quinn's reader stops the peer when it is dropped, as ours has to.
    Stream {
        send: Box::new(Sender { stream: send, is_finished: false }),
        receive: Box::new(receive),
    }
}

/// Quinn's writer, when it is dropped, says that all was sent. Who gives up in the middle of a
/// message must say that instead.
struct Sender {
    stream: SendStream,
    is_finished: bool,
}

impl AsyncWrite for Sender {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut self.stream), context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.is_finished = true;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        if !self.is_finished {
            // It fails for a stream that the peer has stopped, who then knows.
            let _ = self.stream.reset(VarInt::from_u32(0));
        }
    }
}
