//! What a QUIC endpoint is told: every limit, for every purpose.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::congestion::CubicConfig;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    ClientConfig, ConnectionId, ConnectionIdGenerator, EndpointConfig, IdleTimeout, NoneTokenStore,
    ServerConfig, TransportConfig, VarInt,
};
use quinn_proto::{HashedConnectionIdGenerator, RandomConnectionIdGenerator};

use crate::caps;
use crate::credentials::Credentials;
use crate::link::{LinkError, Purpose};

#[derive(Clone, Debug)]
pub struct QuicConfig {
    /// Port 0 lets the system choose: who is never dialled needs no port of its own.
    pub listen: SocketAddr,
    pub reset_key: ResetKey,
    pub keep_alive: Duration,
    pub idle_timeout: Duration,
}

impl QuicConfig {
    pub fn new(listen: SocketAddr, reset_key: ResetKey) -> Self {
        let (keep_alive, idle_timeout) = (caps::KEEP_ALIVE, caps::IDLE_TIMEOUT);
        Self { listen, reset_key, keep_alive, idle_timeout }
    }
}

/// A secret that a node keeps over restarts. By it the node can prove, in one packet, that it knows
/// nothing any more of a connection that its earlier life had: its peers hear of a restart at once,
/// and not when they have waited long enough.
#[derive(Clone)]
pub struct ResetKey([u8; Self::BYTES]);

impl ResetKey {
    pub const BYTES: usize = 64;

    /// Of random bytes.
    pub fn new(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// For the names of connections, and for proofs. The names could give their part away: the
    /// function behind them is fast and not made to hide anything.
    fn parts(&self) -> (u64, &[u8]) {
        let (names, proofs) = self.0.split_at(8);
        (names.iter().fold(0, |key, byte| key << 8 | u64::from(*byte)), proofs)
    }
}

impl fmt::Debug for ResetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResetKey")
    }
}

/// What does not change while an endpoint lives.
pub(crate) struct Settings {
    server: ServerConfig,
    as_server: [Arc<TransportConfig>; Purpose::COUNT],
    as_client: [Arc<TransportConfig>; Purpose::COUNT],
}

impl Settings {
    pub(crate) fn new(
        config: &QuicConfig,
        credentials: &dyn Credentials,
    ) -> Result<Self, LinkError> {
        let crypto = Arc::new(server_crypto(credentials)?);
        let mut server = ServerConfig::with_crypto(crypto);
        server
            .max_incoming(caps::INCOMING_QUEUE_MAX)
            .incoming_buffer_size(caps::INCOMING_BUFFER_BYTES)
            .incoming_buffer_size_total(
                caps::INCOMING_BUFFER_BYTES * caps::INCOMING_QUEUE_MAX as u64,
            )
            // A node's address is its name's: one that moves connects anew.
            .migration(false);
        server.validation_token.sent(0);
        let idle_timeout = IdleTimeout::try_from(config.idle_timeout)
            .map_err(|_| LinkError::Transport("an idle timeout that is too long".to_owned()))?;
        let transports = |unidirectional| {
            Purpose::ALL.map(|purpose| {
                let mut transport = transport(purpose);
                transport
                    .max_concurrent_uni_streams(VarInt::from_u32(unidirectional))
                    .keep_alive_interval(Some(config.keep_alive))
                    .max_idle_timeout(Some(idle_timeout));
                Arc::new(transport)
            })
        };
        // By its one stream a server tells a client that it has taken it.
        Ok(Self { server, as_server: transports(0), as_client: transports(1) })
    }

    pub(crate) fn initial_server(&self) -> ServerConfig {
        self.server.clone()
    }

    /// For one handshake.
    pub(crate) fn server(
        &self,
        credentials: &dyn Credentials,
        hint: Purpose,
    ) -> Result<Arc<ServerConfig>, LinkError> {
        let mut server = self.server.clone();
        server.crypto = Arc::new(server_crypto(credentials)?);
        server.transport = of(&self.as_server, hint);
        Ok(Arc::new(server))
    }

    /// For one handshake.
    pub(crate) fn client(
        &self,
        credentials: &dyn Credentials,
        purpose: Purpose,
    ) -> Result<ClientConfig, LinkError> {
        let crypto = QuicClientConfig::try_from(credentials.client_config(purpose));
        let mut client = ClientConfig::new(Arc::new(crypto.map_err(unusable)?));
        client
            .transport_config(of(&self.as_client, purpose))
            .token_store(Arc::new(NoneTokenStore))
            .initial_dst_cid_provider(Arc::new(move || hint(purpose)));
        Ok(client)
    }
}

/// Of one of [`Purpose::ALL`], in its order.
fn of(
    transports: &[Arc<TransportConfig>; Purpose::COUNT],
    purpose: Purpose,
) -> Arc<TransportConfig> {
    let [control, data, call, join, gradients] = transports;
    match purpose {
        Purpose::Control => control.clone(),
        Purpose::Data => data.clone(),
        Purpose::Call => call.clone(),
        Purpose::Join => join.clone(),
        Purpose::Gradients => gradients.clone(),
    }
}

fn server_crypto(credentials: &dyn Credentials) -> Result<QuicServerConfig, LinkError> {
    QuicServerConfig::try_from(credentials.server_config()).map_err(unusable)
}

fn unusable(error: impl fmt::Display) -> LinkError {
    LinkError::Transport(format!("a TLS configuration that QUIC cannot use: {error}"))
}

// A server has to choose a connection's windows before TLS tells what it is for. So the dialler
// says so in the first byte of the random name that it gives to the server in its first packet. The
// server believes it until the handshake is over, and closes the connection if it was not true.

/// A name of 20 bytes, of which 19 are random; 8 would do.
fn hint(purpose: Purpose) -> ConnectionId {
    let mut name = RandomConnectionIdGenerator::new(20).generate_cid();
    if let Some(first) = name.first_mut() {
        *first = purpose as u8;
    }
    name
}

/// What a dialler says that a connection is for.
pub(crate) fn hinted(name: &ConnectionId) -> Option<Purpose> {
    let first = *name.first()?;
    Purpose::ALL.into_iter().find(|purpose| *purpose as u8 == first)
}

pub(crate) fn endpoint(reset_key: &ResetKey) -> EndpointConfig {
    let (names, proofs) = reset_key.parts();
    let proofs = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, proofs);
    let mut endpoint = EndpointConfig::new(Arc::new(proofs));
    endpoint.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(names)));
    endpoint
}

/// The limits of a connection, but for its times.
fn transport(purpose: Purpose) -> TransportConfig {
    let (streams, stream_window, window, send_window) = match purpose {
        Purpose::Control => (
            caps::STREAMS_MAX,
            caps::CONTROL_STREAM_WINDOW_BYTES,
            caps::CONTROL_WINDOW_BYTES,
            caps::CONTROL_SEND_WINDOW_BYTES,
        ),
        Purpose::Data => (
            caps::STREAMS_MAX,
            caps::STREAM_WINDOW_BYTES,
            caps::CONNECTION_WINDOW_BYTES,
            caps::SEND_WINDOW_BYTES,
        ),
        Purpose::Gradients => (
            caps::GRADIENT_STREAMS_MAX,
            caps::GRADIENT_STREAM_WINDOW_BYTES,
            caps::CONNECTION_WINDOW_BYTES,
            caps::SEND_WINDOW_BYTES,
        ),
        Purpose::Call | Purpose::Join => (
            caps::GUEST_STREAMS_MAX,
            caps::GUEST_WINDOW_BYTES,
            caps::GUEST_WINDOW_BYTES,
            caps::GUEST_WINDOW_BYTES.into(),
        ),
    };
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(streams))
        .stream_receive_window(VarInt::from_u32(stream_window))
        .receive_window(VarInt::from_u32(window))
        .send_window(send_window)
        .datagram_receive_buffer_size(None)
        .datagram_send_buffer_size(0)
        .initial_rtt(caps::INITIAL_ROUND_TRIP)
        .congestion_controller_factory(Arc::new(CubicConfig::default()));
    transport
}
