//! A link over TCP, and its streams: pairs of connections, one for each direction.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_rustls::TlsStream;

use crate::address::{NodeId, PeerIdentity};
use crate::caps::{CONNECT_TIMEOUT, STREAMS_MAX};
use crate::link::{CloseReason, Link, LinkError, Priority, Purpose, Stream};
use crate::tcp::{Hello, Shared, TcpConfig, connect, lock};
use crate::tcp_head::{self, Command};

/// Where the connections of a link go, on the side that makes them.
#[derive(Clone)]
pub(crate) struct Dialler {
    pub(crate) shared: Arc<Shared>,
    pub(crate) node: NodeId,
    pub(crate) at: SocketAddr,
    pub(crate) purpose: Purpose,
}

/// What a link's holder, its head and its streams share.
pub(crate) struct Core {
    pub(crate) peer: PeerIdentity,
    number: u64,
    dialler: Option<Dialler>,
    ended: watch::Sender<Option<LinkError>>,
    commands: mpsc::UnboundedSender<Command>,
    /// Streams that the peer has opened; no more than may be open.
    incoming: mpsc::UnboundedSender<Stream>,
    accepted: tokio::sync::Mutex<mpsc::UnboundedReceiver<Stream>>,
    /// Streams of which one connection has come, with how it came.
    halves: Mutex<BTreeMap<u64, (bool, TlsStream<TcpStream>)>>,
    /// Streams that this side has asked for.
    asked: Mutex<BTreeMap<u64, oneshot::Sender<Stream>>>,
    last_stream: AtomicU64,
    /// What each side may still open.
    mine: Arc<Semaphore>,
    theirs: Arc<Semaphore>,
}

pub(crate) struct TcpLink {
    pub(crate) core: Arc<Core>,
    pub(crate) purpose: Purpose,
}

impl Core {
    /// Starts the head.
    pub(crate) fn start(
        head: TlsStream<TcpStream>,
        peer: PeerIdentity,
        number: u64,
        dialler: Option<Dialler>,
        config: &TcpConfig,
    ) -> Arc<Self> {
        let (commands, to_head) = mpsc::unbounded_channel();
        let (incoming, accepted) = mpsc::unbounded_channel();
        let streams = || Arc::new(Semaphore::new(STREAMS_MAX as usize));
        let core = Arc::new(Self {
            peer,
            number,
            dialler,
            ended: watch::Sender::new(None),
            commands,
            incoming,
            accepted: tokio::sync::Mutex::new(accepted),
            halves: Mutex::default(),
            asked: Mutex::default(),
            last_stream: AtomicU64::new(0),
            mine: streams(),
            theirs: streams(),
        });
        let (of_head, config) = (core.clone(), config.clone());
        tokio::spawn(async move {
            let wanted = |stream| of_head.wanted(stream);
            let error = tcp_head::run(head, &config, to_head, wanted).await;
            of_head.end(error);
        });
        core
    }

    fn end(&self, error: LinkError) {
        self.ended.send_replace(Some(error));
        self.mine.close();
        lock(&self.halves).clear();
        lock(&self.asked).clear();
    }

    pub(crate) fn close(&self, reason: CloseReason) {
        // It fails when the link has ended.
        let _ = self.commands.send(Command::Close(reason));
    }

    pub(crate) async fn wait_end(&self) -> LinkError {
        // Its sender is here.
        let _ = self.ended.subscribe().wait_for(Option::is_some).await;
        self.error()
    }

    fn error(&self) -> LinkError {
        let unknown = || LinkError::Transport("the connection has ended".to_owned());
        self.ended.borrow().clone().unwrap_or_else(unknown)
    }

    /// The side that cannot dial wants a stream: this one makes it.
    fn wanted(self: &Arc<Self>, number: u64) -> Result<(), LinkError> {
        let protocol = |what: &str| Err(LinkError::Transport(what.to_owned()));
        if self.dialler.is_none() {
            return protocol("the peer has asked for what it can do itself");
        }
        let Ok(permit) = self.theirs.clone().try_acquire_owned() else {
            return protocol("the peer has asked for too many streams");
        };
        let core = self.clone();
        tokio::spawn(async move {
            match core.make(number, permit).await {
                // It fails when nobody holds the link any more.
                Ok(stream) => drop(core.incoming.send(stream)),
                Err(error) => tracing::debug!(%error, "no stream for the peer"),
            }
        });
        Ok(())
    }

    /// Both connections of a stream, from the side that dials.
    async fn make(&self, number: u64, permit: OwnedSemaphorePermit) -> Result<Stream, LinkError> {
        let dialler = self.dialler.as_ref().ok_or_else(|| self.error())?;
        let half = |writes| connect(dialler, Hello::stream(self.number, number, writes));
        let both = async { tokio::try_join!(half(true), half(false)) };
        let silent = |_| LinkError::TimedOut(format!("{} made no stream", self.peer));
        let (forth, back) = timeout(CONNECT_TIMEOUT, both).await.map_err(silent)??;
        Ok(self.stream(forth.0, back.0, permit))
    }

    /// One of a stream's connections has come; with the other one it is a stream.
    pub(crate) fn attach(
        &self,
        number: u64,
        peer_writes: bool,
        connection: TlsStream<TcpStream>,
    ) -> Result<(), LinkError> {
        if self.ended.borrow().is_some() {
            return Err(self.error());
        }
        let other = {
            let mut halves = lock(&self.halves);
            match halves.remove(&number) {
                Some(half) => half,
                None if halves.len() < 2 * STREAMS_MAX as usize => {
                    halves.insert(number, (peer_writes, connection));
                    return Ok(());
                }
                None => return Err(LinkError::Transport("too many half streams".to_owned())),
            }
        };
        let (read, write) = match (peer_writes, other) {
            (true, (false, other)) => (connection, other),
            (false, (true, other)) => (other, connection),
            _ => return Err(LinkError::Transport("a stream with two equal halves".to_owned())),
        };
        let asked = lock(&self.asked).remove(&number);
        let streams = if asked.is_some() { &self.mine } else { &self.theirs };
        let too_many = |_| LinkError::Transport("the peer opens too many streams".to_owned());
        // Who asked has a permit for the asking, and gives it back when the stream is here.
        let permit = streams.clone().try_acquire_owned().map_err(too_many)?;
        let stream = self.stream(write, read, permit);
        // They fail when nobody wants the stream any more.
        match asked {
            Some(asked) => drop(asked.send(stream)),
            None => drop(self.incoming.send(stream)),
        }
        Ok(())
    }

    fn stream(
        &self,
        write: TlsStream<TcpStream>,
        read: TlsStream<TcpStream>,
        permit: OwnedSemaphorePermit,
    ) -> Stream {
        let permit = Arc::new(permit);
        let half = |connection, permit| {
            let mut ended = self.ended.subscribe();
            let ended: BoxFuture<'static, ()> = Box::pin(async move {
                // The link is gone if its sender is.
                let _ = ended.wait_for(Option::is_some).await;
            });
            Half { connection, ended: Some(ended), _permit: permit }
        };
        Stream {
            send: Box::new(half(write, permit.clone())),
            receive: Box::new(half(read, permit)),
        }
    }

    async fn open(&self) -> Result<Stream, LinkError> {
        let permit = self.mine.clone().acquire_owned().await.map_err(|_| self.error())?;
        let number = self.last_stream.fetch_add(1, Ordering::Relaxed) + 1;
        if self.dialler.is_some() {
            // Odd ones are this side's.
            return self.make(number * 2 + 1, permit).await;
        }
        let (asked, answer) = oneshot::channel();
        lock(&self.asked).insert(number * 2, asked);
        drop(permit);
        self.commands.send(Command::Open(number * 2)).map_err(|_| self.error())?;
        let silent = |_| LinkError::TimedOut(format!("{} made no stream", self.peer));
        timeout(CONNECT_TIMEOUT, answer).await.map_err(silent)?.map_err(|_| self.error())
    }
}

impl Drop for TcpLink {
    fn drop(&mut self) {
        // It fails when the link has ended.
        let _ = self.core.commands.send(Command::GiveUp);
    }
}

impl Link for TcpLink {
    fn peer(&self) -> Option<&PeerIdentity> {
        Some(&self.core.peer)
    }

    fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// There are no priorities: each stream has connections of its own.
    fn open(&self, _: Priority) -> BoxFuture<'_, Result<Stream, LinkError>> {
        Box::pin(async {
            tokio::select! {
                biased;
                error = self.core.wait_end() => Err(error),
                stream = self.core.open() => stream,
            }
        })
    }

    fn accept(&self) -> BoxFuture<'_, Result<Stream, LinkError>> {
        Box::pin(async {
            let mut accepted = self.core.accepted.lock().await;
            tokio::select! {
                biased;
                error = self.core.wait_end() => Err(error),
                stream = accepted.recv() => stream.ok_or_else(|| self.core.error()),
            }
        })
    }

    fn closed(&self) -> BoxFuture<'_, LinkError> {
        Box::pin(self.core.wait_end())
    }

    fn close(&self, reason: CloseReason) {
        self.core.close(reason);
    }

    fn round_trip(&self) -> Option<Duration> {
        None
    }
}

/// One direction of a stream. Dropped before it is shut down, its connection ends without the word
/// that TLS has for an end in order, and the reader sees that.
struct Half {
    connection: TlsStream<TcpStream>,
    /// With the link ends what goes over it. `None`: it has ended.
    ended: Option<BoxFuture<'static, ()>>,
    _permit: Arc<OwnedSemaphorePermit>,
}

impl Half {
    fn or_ended<T>(
        &mut self,
        polled: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if polled.is_pending()
            && self.ended.as_mut().is_none_or(|ended| ended.as_mut().poll(context).is_ready())
        {
            self.ended = None;
            let ended = io::Error::new(io::ErrorKind::NotConnected, "the connection has ended");
            return Poll::Ready(Err(ended));
        }
        polled
    }
}

impl AsyncRead for Half {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.connection).poll_read(context, buffer);
        let polled = polled.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => io::ErrorKind::ConnectionReset.into(),
            _ => error,
        });
        self.or_ended(polled, context)
    }
}

impl AsyncWrite for Half {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.connection).poll_write(context, bytes);
        self.or_ended(polled, context)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.connection).poll_flush(context);
        self.or_ended(polled, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.connection).poll_shutdown(context);
        self.or_ended(polled, context)
    }
}
