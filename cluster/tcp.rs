//! Links over TLS over TCP, for bulk: a byte costs a fraction of what it does over QUIC.
//!
//! A link is several TCP connections. Its head says who is there, keeps the link alive and ends it.
//! Each stream is two more, one for each direction: so that one direction can end or be given up
//! while the other goes on, which TCP alone has no words for. All of them are made by who dialled;
//! the other side asks for a stream over the head. There is no joining over TCP.
//!
//! On a new connection the dialler says what it is, in [`Hello::BYTES`] bytes. A server answers a
//! head with the link's number, and so tells the client that it has taken it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use crate::address::{NodeId, PeerIdentity};
use crate::admission::{admit, alert, reached};
use crate::caps::{CLOSE_TIMEOUT, CONNECT_TIMEOUT, IDLE_TIMEOUT, INCOMING_MAX, KEEP_ALIVE};
use crate::credentials::Credentials;
use crate::link::{CloseReason, Link, LinkError, Purpose, Transport};
use crate::tcp_link::{Core, Dialler, TcpLink};

#[derive(Clone, Debug)]
pub struct TcpConfig {
    pub listen: SocketAddr,
    pub keep_alive: Duration,
    pub idle_timeout: Duration,
}

impl TcpConfig {
    pub fn new(listen: SocketAddr) -> Self {
        Self { listen, keep_alive: KEEP_ALIVE, idle_timeout: IDLE_TIMEOUT }
    }
}

/// A TCP port, and the links over it.
pub struct TcpTransport {
    shared: Arc<Shared>,
    local_addr: SocketAddr,
    accepted: tokio::sync::Mutex<mpsc::Receiver<Arc<dyn Link>>>,
    acceptor: AbortHandle,
}

pub(crate) struct Shared {
    pub(crate) credentials: Arc<dyn Credentials>,
    pub(crate) config: TcpConfig,
    /// Links that this process was dialled for, by the numbers that it gave them.
    links: Mutex<BTreeMap<u64, Weak<Core>>>,
    dialled: Mutex<Vec<Weak<Core>>>,
    last_link: AtomicU64,
}

impl TcpTransport {
    pub async fn bind(
        config: TcpConfig,
        credentials: Arc<dyn Credentials>,
    ) -> Result<Self, LinkError> {
        let failed = |error| LinkError::Transport(format!("{}: {error}", config.listen));
        let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
        let local_addr = listener.local_addr().map_err(failed)?;
        let shared = Arc::new(Shared {
            credentials,
            config,
            links: Mutex::default(),
            dialled: Mutex::default(),
            last_link: AtomicU64::new(0),
        });
        let (accepted, taken) = mpsc::channel(1);
        let acceptor = tokio::spawn(accept_all(listener, shared.clone(), accepted));
        let (accepted, acceptor) = (tokio::sync::Mutex::new(taken), acceptor.abort_handle());
        Ok(Self { shared, local_addr, accepted, acceptor })
    }
}

impl Drop for TcpTransport {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

impl Transport for TcpTransport {
    fn dial<'a>(
        &'a self,
        node: &'a NodeId,
        at: SocketAddr,
        purpose: Purpose,
    ) -> BoxFuture<'a, Result<Arc<dyn Link>, LinkError>> {
        Box::pin(async move {
            if purpose == Purpose::Join {
                return Err(LinkError::Transport("there is no joining over TCP".to_owned()));
            }
            let dialler = Dialler { shared: self.shared.clone(), node: node.clone(), at, purpose };
            let silent = |_| LinkError::TimedOut(format!("{at} did not finish the handshake"));
            let head = async {
                let (mut stream, peer) = connect(&dialler, Hello::HEAD).await?;
                let number = stream.read_u64().await.map_err(|error| tls_error(&error))?;
                Ok::<_, LinkError>((stream, peer, number))
            };
            let (stream, peer, number) = timeout(CONNECT_TIMEOUT, head).await.map_err(silent)??;
            let core = Core::start(stream, peer, number, Some(dialler), &self.shared.config);
            let mut dialled = lock(&self.shared.dialled);
            dialled.retain(|core| core.strong_count() > 0);
            dialled.push(Arc::downgrade(&core));
            Ok(Arc::new(TcpLink { core, purpose }) as Arc<dyn Link>)
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
            self.acceptor.abort();
            let mut cores: Vec<Arc<Core>> =
                lock(&self.shared.links).values().filter_map(Weak::upgrade).collect();
            cores.extend(lock(&self.shared.dialled).iter().filter_map(Weak::upgrade));
            cores.iter().for_each(|core| core.close(reason));
            let ended = cores.iter().map(|core| core.wait_end());
            // Who does not hear of it notices that the process is gone.
            let _ = timeout(CLOSE_TIMEOUT, futures_util::future::join_all(ended)).await;
        })
    }
}

/// What a connection is, in its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    kind: u8,
    link: u64,
    stream: u64,
}

impl Hello {
    pub(crate) const BYTES: usize = 17;
    const HEAD: Self = Self { kind: 0, link: 0, stream: 0 };

    /// Of a stream, what the dialler writes, or what it reads.
    pub(crate) fn stream(link: u64, stream: u64, writes: bool) -> Self {
        Self { kind: if writes { 1 } else { 2 }, link, stream }
    }

    fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[0] = self.kind;
        bytes[1..9].copy_from_slice(&self.link.to_be_bytes());
        bytes[9..].copy_from_slice(&self.stream.to_be_bytes());
        bytes
    }
}

/// A connection to where a link goes: proved, and its hello said.
pub(crate) async fn connect(
    dialler: &Dialler,
    hello: Hello,
) -> Result<(TlsStream<TcpStream>, PeerIdentity), LinkError> {
    let credentials = &*dialler.shared.credentials;
    let failed = |error: std::io::Error| tls_error(&error);
    let stream = TcpStream::connect(dialler.at).await.map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    let connector = TlsConnector::from(credentials.client_config(dialler.purpose));
    let name = credentials.server_name(&dialler.node);
    let mut stream = connector.connect(name, stream).await.map_err(failed)?;
    let chain = stream.get_ref().1.peer_certificates();
    let peer = reached(credentials, &dialler.node, dialler.purpose, chain)?;
    let nobody = || LinkError::Untrusted("it has no certificate".to_owned());
    stream.write_all(&hello.to_bytes()).await.map_err(failed)?;
    stream.flush().await.map_err(failed)?;
    Ok((stream.into(), peer.ok_or_else(nobody)?))
}

async fn accept_all(
    listener: TcpListener,
    shared: Arc<Shared>,
    accepted: mpsc::Sender<Arc<dyn Link>>,
) {
    let mut handshakes = JoinSet::new();
    loop {
        if handshakes.len() >= INCOMING_MAX {
            // Others wait in the kernel's queue, and then at their own side.
            handshakes.join_next().await;
        }
        let incoming = tokio::select! {
            biased;
            Some(_) = handshakes.join_next() => continue,
            incoming = listener.accept() => incoming,
        };
        match incoming {
            Ok((stream, from)) => {
                let (shared, accepted) = (shared.clone(), accepted.clone());
                handshakes.spawn(async move {
                    match timeout(CONNECT_TIMEOUT, take(stream, &shared)).await {
                        // It fails when the transport is gone; the link goes with it.
                        Ok(Ok(Some(link))) => drop(accepted.send(Arc::new(link)).await),
                        Ok(Ok(None)) => {}
                        Ok(Err(error)) => tracing::info!(%from, %error, "refused a connection"),
                        Err(_) => tracing::info!(%from, "gave up a handshake that took too long"),
                    }
                });
            }
            Err(error) => {
                // Out of descriptors, most often: those that end give some back.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(KEEP_ALIVE).await;
            }
        }
    }
}

/// A link, if the connection was the head of one.
async fn take(stream: TcpStream, shared: &Arc<Shared>) -> Result<Option<TcpLink>, LinkError> {
    let failed = |error: std::io::Error| tls_error(&error);
    stream.set_nodelay(true).map_err(failed)?;
    let acceptor = TlsAcceptor::from(shared.credentials.server_config());
    let mut stream = acceptor.accept(stream).await.map_err(failed)?;
    let (_, session) = stream.get_ref();
    let (purpose, peer) =
        admit(&*shared.credentials, session.alpn_protocol(), session.peer_certificates())?;
    let stranger = || LinkError::Untrusted("there is no joining over TCP".to_owned());
    let peer = peer.ok_or_else(stranger)?;
    let (kind, link, number) = (
        stream.read_u8().await.map_err(failed)?,
        stream.read_u64().await.map_err(failed)?,
        stream.read_u64().await.map_err(failed)?,
    );
    if kind == Hello::HEAD.kind {
        let id = shared.last_link.fetch_add(1, Ordering::Relaxed) + 1;
        stream.write_u64(id).await.map_err(failed)?;
        stream.flush().await.map_err(failed)?;
        let core = Core::start(stream.into(), peer, id, None, &shared.config);
        let mut links = lock(&shared.links);
        links.retain(|_, core| core.strong_count() > 0);
        links.insert(id, Arc::downgrade(&core));
        return Ok(Some(TcpLink { core, purpose }));
    }
    let core = lock(&shared.links).get(&link).and_then(Weak::upgrade);
    let core = core.filter(|core| core.peer == peer);
    let core = core.ok_or_else(|| LinkError::Untrusted(format!("{peer} has no link {link}")))?;
    core.attach(number, kind == 1, stream.into())?;
    Ok(None)
}

/// What went wrong with a connection.
pub(crate) fn tls_error(error: &std::io::Error) -> LinkError {
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset, TimedOut, UnexpectedEof};
    let tls = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    match (tls, error.kind()) {
        (Some(rustls::Error::AlertReceived(description)), _) => {
            match alert(u8::from(*description)) {
                Some(what) => LinkError::Untrusted(format!("the peer says that we show {what}")),
                None => LinkError::Transport(error.to_string()),
            }
        }
        (
            Some(
                rustls::Error::InvalidCertificate(_)
                | rustls::Error::NoCertificatesPresented
                | rustls::Error::NoApplicationProtocol,
            ),
            _,
        ) => LinkError::Untrusted(error.to_string()),
        (None, ConnectionReset | BrokenPipe | UnexpectedEof) => LinkError::Reset,
        (None, TimedOut) => LinkError::TimedOut(error.to_string()),
        _ => LinkError::Transport(error.to_string()),
    }
}

/// No code panics while it holds one of these locks.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "tcp_tests.rs"]
mod tests;
