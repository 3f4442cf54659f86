//! Links over QUIC, over a socket or over a simulated network. Only files named `quic*.rs` know
//! quinn.
//!
//! A connection has mutual TLS 1.3 under it, without early data; a stream is a QUIC stream. Both
//! sides bound what the other may make them hold, by the windows in [`caps`](crate::caps).
//!
//! Whoever dials has its link when the other side has said that it takes it: in TLS 1.3 a client is
//! done before the server has seen its certificate, so the server's first word is what decides.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use quinn::udp::UdpSocketState;
use quinn::{AsyncUdpSocket, Endpoint, EndpointConfig, Runtime, TokioRuntime};
use tokio::sync::{Mutex, mpsc};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::address::NodeId;
use crate::caps::{CLOSE_TIMEOUT, CONNECT_TIMEOUT, SOCKET_BUFFER_BYTES};
use crate::credentials::Credentials;
use crate::link::{CloseReason, Link, LinkError, Purpose, Transport};
use crate::quic_accept::{Shared, accept_all, reach};
pub use crate::quic_config::{QuicConfig, ResetKey};
use crate::quic_config::{Settings, endpoint};
use crate::quic_error::{code, connect_error};

/// A UDP socket, and the connections over it. Dropped, it takes no more of them; those that there
/// are live as long as their links.
pub struct QuicTransport {
    endpoint: Endpoint,
    local_addr: SocketAddr,
    shared: Arc<Shared>,
    accepted: Mutex<mpsc::Receiver<Arc<dyn Link>>>,
    acceptor: AbortHandle,
}

impl QuicTransport {
    /// Opens the socket. Needs a tokio runtime.
    pub fn bind(config: QuicConfig, credentials: Arc<dyn Credentials>) -> Result<Self, LinkError> {
        let failed = |error| LinkError::Transport(format!("{}: {error}", config.listen));
        let socket = UdpSocket::bind(config.listen).map_err(failed)?;
        set_buffers(&socket).map_err(failed)?;
        let socket = TokioRuntime.wrap_udp_socket(socket).map_err(failed)?;
        Self::over(socket, endpoint(&config.reset_key), &config, credentials)
    }

    pub(crate) fn over(
        socket: Arc<dyn AsyncUdpSocket>,
        endpoint: EndpointConfig,
        config: &QuicConfig,
        credentials: Arc<dyn Credentials>,
    ) -> Result<Self, LinkError> {
        let failed = |error| LinkError::Transport(format!("{}: {error}", config.listen));
        let settings = Settings::new(config, &*credentials)?;
        let server = settings.initial_server();
        let local_addr = socket.local_addr().map_err(failed)?;
        // Its clock is tokio's, which a simulation turns.
        let runtime = Arc::new(TokioRuntime);
        let endpoint = Endpoint::new_with_abstract_socket(endpoint, Some(server), socket, runtime)
            .map_err(failed)?;
        let shared = Arc::new(Shared { credentials, settings, all_closed: Arc::default() });
        // One that waits here still counts as a handshake under way.
        let (accepted, taken) = mpsc::channel(1);
        let acceptor = tokio::spawn(accept_all(endpoint.clone(), shared.clone(), accepted));
        let (accepted, acceptor) = (Mutex::new(taken), acceptor.abort_handle());
        Ok(Self { endpoint, local_addr, shared, accepted, acceptor })
    }
}

impl Drop for QuicTransport {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

impl Transport for QuicTransport {
    fn dial<'a>(
        &'a self,
        node: &'a NodeId,
        at: SocketAddr,
        purpose: Purpose,
    ) -> BoxFuture<'a, Result<Arc<dyn Link>, LinkError>> {
        Box::pin(async move {
            let credentials = &*self.shared.credentials;
            let config = self.shared.settings.client(credentials, purpose)?;
            let name = credentials.server_name(node);
            let connecting = self
                .endpoint
                .connect_with(config, at, &name.to_str())
                .map_err(|error| connect_error(&error))?;
            let reached = reach(connecting, node, purpose, &self.shared);
            let silent = |_| LinkError::TimedOut(format!("{at} did not finish the handshake"));
            let link = timeout(CONNECT_TIMEOUT, reached).await.map_err(silent)??;
            Ok(Arc::new(link) as Arc<dyn Link>)
        })
    }

    fn accept(&self) -> BoxFuture<'_, Option<Arc<dyn Link>>> {
        Box::pin(async { self.accepted.lock().await.recv().await })
    }

    fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    fn close(&self, reason: CloseReason) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            // The first reason is the one that the peers are told.
            let _ = self.shared.all_closed.set(reason);
            self.endpoint.close(code(reason), b"");
            if timeout(CLOSE_TIMEOUT, self.endpoint.wait_idle()).await.is_err() {
                tracing::debug!("not all peers may know that this process ends");
            }
        })
    }
}

/// The kernel gives what it allows and says nothing.
fn set_buffers(socket: &UdpSocket) -> std::io::Result<()> {
    let state = UdpSocketState::new(socket.into())?;
    state.set_recv_buffer_size(socket.into(), SOCKET_BUFFER_BYTES)?;
    state.set_send_buffer_size(socket.into(), SOCKET_BUFFER_BYTES)?;
    let receive = state.recv_buffer_size(socket.into())?;
    let send = state.send_buffer_size(socket.into())?;
    if receive.min(send) < SOCKET_BUFFER_BYTES {
        tracing::warn!(
            receive,
            send,
            wanted = SOCKET_BUFFER_BYTES,
            "small socket buffers: raise net.core.rmem_max and net.core.wmem_max"
        );
    }
    Ok(())
}

#[cfg(test)]
#[path = "quic_tests.rs"]
mod tests;
