//! Where streams that other nodes open for gradients wait until a rank wants them, and ranks for
//! those streams.
//!
//! Who calls says first, in a message of bounded size, for which ring it is, and is answered when
//! the rank takes the stream. A call for a run that has no rank here, for an earlier epoch, or from
//! another node than it should come from is refused: its stream is dropped. One that comes before
//! its rank is told of the epoch waits a while.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bincode::{Decode, Encode};
use orcapack_cluster::address::NodeId;
use orcapack_cluster::codec;
use orcapack_cluster::link::Stream;
use orcapack_cluster::mesh::Mesh;
use orcapack_trainer::collective::exchange::Exchange;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Of a hello, with the name of a run.
pub const HELLO_BYTES_MAX: usize = 1024;
/// A call has said what it is for in this time.
const HELLO_LIMIT: Duration = Duration::from_secs(5);
/// The rank that a call is for wants it within this time.
pub const WAIT_LIMIT: Duration = Duration::from_secs(10);
/// Calls that are heard or wait at a time.
const CALLS_MAX: usize = 128;
/// The answer to who is taken.
pub const TAKEN: u8 = 1;

/// What a stream is for: of one ring, from one rank to the next.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Hello {
    pub run: String,
    /// The epoch of the run's coordinator.
    pub life: u64,
    /// Of the ranks.
    pub epoch: u64,
    /// Places in the epoch.
    pub from: u32,
    pub to: u32,
}

/// One for each process. Clones are the same.
#[derive(Clone)]
pub struct Lobby(Arc<Inner>);

struct Inner {
    mesh: watch::Sender<Option<Mesh>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    runs: BTreeMap<String, Run>,
    calls: u64,
    waiting: Vec<Call>,
    wanted: Vec<Wanted>,
}

/// A run that has ranks here.
struct Run {
    life: u64,
    ranks: usize,
    /// The newest that a rank was told of.
    epoch: u64,
    exchange: Exchange,
}

struct Call {
    number: u64,
    from: NodeId,
    hello: Hello,
    stream: Stream,
}

struct Wanted {
    number: u64,
    from: NodeId,
    hello: Hello,
    give: oneshot::Sender<Stream>,
}

impl Default for Lobby {
    fn default() -> Self {
        Self(Arc::new(Inner { mesh: watch::Sender::new(None), state: Mutex::default() }))
    }
}

impl Lobby {
    /// Hears those who call over a mesh, as long as that is.
    pub async fn serve(self, mesh: Mesh) {
        self.0.mesh.send_replace(Some(mesh.clone()));
        let mut calls = JoinSet::new();
        while let Some((peer, stream)) = mesh.accept_gradients().await {
            while calls.try_join_next().is_some() {}
            if calls.len() >= CALLS_MAX {
                tracing::warn!(%peer, "too many calls for gradients");
                continue;
            }
            let lobby = self.clone();
            calls.spawn(async move { lobby.hear(peer.node, stream).await });
        }
    }

    /// The mesh, as soon as there is one.
    pub(super) async fn mesh(&self) -> Option<Mesh> {
        let mut mesh = self.0.mesh.subscribe();
        let found = mesh.wait_for(Option::is_some).await;
        found.ok().and_then(|mesh| mesh.clone())
    }

    async fn hear(&self, from: NodeId, mut stream: Stream) {
        let hello = match timeout(HELLO_LIMIT, hello(&mut stream)).await {
            Ok(Ok(hello)) => hello,
            Ok(Err(why)) => return tracing::debug!(%from, why, "a call for gradients is refused"),
            Err(_) => return tracing::debug!(%from, "a call for gradients that says nothing"),
        };
        let number = match self.state().call(from.clone(), hello, stream) {
            Ok(Some(number)) => number,
            Ok(None) => return,
            Err(why) => return tracing::debug!(%from, why, "a call for gradients is refused"),
        };
        sleep(WAIT_LIMIT).await;
        self.state().waiting.retain(|call| call.number != number);
    }

    /// A rank of the run begins to live here.
    ///
    /// # Errors
    /// The run has ranks of a later coordinator here.
    pub(super) fn enter(&self, run: &str, life: u64, patience: Duration) -> Result<Seat, String> {
        let state = &mut *self.state();
        let new = || Run { life, ranks: 0, epoch: 0, exchange: Exchange::new(patience) };
        let known = state.runs.entry(run.to_owned()).or_insert_with(new);
        if known.life > life {
            return Err(format!("the run has ranks here of its coordinator's life {}", known.life));
        }
        if known.life < life {
            // Those of the old life end with its coordinator.
            *known = new();
        }
        known.ranks += 1;
        let (lobby, run) = (self.clone(), run.to_owned());
        Ok(Seat { lobby, run, life, exchange: known.exchange.clone() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Gives a stream to who wants it, or lets it wait: then answers its number.
    fn call(&mut self, from: NodeId, hello: Hello, stream: Stream) -> Result<Option<u64>, String> {
        let known = self.runs.get(&hello.run).filter(|run| run.life == hello.life);
        let run = known.ok_or_else(|| format!("run {} has no ranks here", hello.run))?;
        if hello.epoch < run.epoch {
            return Err(format!("epoch {} is over: this is {}", hello.epoch, run.epoch));
        }
        let is_wanted = |it: &Wanted| it.hello == hello && it.from == from;
        if let Some(at) = self.wanted.iter().position(is_wanted) {
            let wanted = self.wanted.swap_remove(at);
            // Who does not want it any more has just left.
            drop(wanted.give.send(stream));
            return Ok(None);
        }
        // Who calls again has given up the call before.
        self.waiting.retain(|call| call.hello != hello || call.from != from);
        self.calls += 1;
        self.waiting.push(Call { number: self.calls, from, hello, stream });
        Ok(Some(self.calls))
    }
}

/// Of one rank, as long as it lives.
pub(super) struct Seat {
    lobby: Lobby,
    pub run: String,
    pub life: u64,
    /// Where it finds those of its own node.
    pub exchange: Exchange,
}

impl Seat {
    pub async fn mesh(&self) -> Option<Mesh> {
        self.lobby.mesh().await
    }

    /// An epoch begins: whoever still calls for one before it is refused from now on.
    ///
    /// # Errors
    /// It is over already.
    pub fn begin(&self, epoch: u64) -> Result<(), String> {
        let state = &mut *self.lobby.state();
        let known = state.runs.get_mut(&self.run).filter(|run| run.life == self.life);
        let run = known.ok_or_else(|| "the run has a newer coordinator".to_owned())?;
        if epoch < run.epoch {
            return Err(format!("epoch {epoch} is over: this is {}", run.epoch));
        }
        run.epoch = epoch;
        state.waiting.retain(|call| call.hello.run != self.run || call.hello.epoch >= epoch);
        Ok(())
    }

    /// The stream that is opened for this, once it is there and its caller has been answered.
    pub async fn take(&self, from: &NodeId, hello: &Hello) -> Stream {
        loop {
            let mut stream = self.next(from, hello).await;
            let answered = async {
                stream.send.write_all(&[TAKEN]).await?;
                stream.send.shutdown().await
            };
            // Else its caller has given it up, and calls again.
            if answered.await.is_ok() {
                return stream;
            }
        }
    }

    async fn next(&self, from: &NodeId, hello: &Hello) -> Stream {
        let (_leave, given) = {
            let state = &mut *self.lobby.state();
            let is_it = |call: &Call| call.hello == *hello && call.from == *from;
            if let Some(at) = state.waiting.iter().position(is_it) {
                return state.waiting.swap_remove(at).stream;
            }
            let (give, given) = oneshot::channel();
            state.calls += 1;
            let number = state.calls;
            let (from, hello) = (from.clone(), hello.clone());
            state.wanted.push(Wanted { number, from, hello, give });
            (Leave { lobby: &self.lobby, number }, given)
        };
        match given.await {
            Ok(stream) => stream,
            // Another rank of this place has come; the one before it is about to end.
            Err(_) => std::future::pending().await,
        }
    }
}

/// Who waits no more.
struct Leave<'l> {
    lobby: &'l Lobby,
    number: u64,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.lobby.state().wanted.retain(|wanted| wanted.number != self.number);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let state = &mut *self.lobby.state();
        let Some(run) = state.runs.get_mut(&self.run).filter(|run| run.life == self.life) else {
            return;
        };
        run.ranks -= 1;
        if run.ranks == 0 {
            state.runs.remove(&self.run);
            state.waiting.retain(|call| call.hello.run != self.run);
        }
    }
}

async fn hello(stream: &mut Stream) -> Result<Hello, String> {
    let told = |error: std::io::Error| error.to_string();
    let len = usize::from(stream.receive.read_u16().await.map_err(told)?);
    if len > HELLO_BYTES_MAX {
        return Err(format!("a hello of {len} bytes, {HELLO_BYTES_MAX} at most"));
    }
    let mut bytes = vec![0; len];
    stream.receive.read_exact(&mut bytes).await.map_err(told)?;
    codec::decode(&bytes, HELLO_BYTES_MAX).map_err(|error| error.to_string())
}

/// Says what a stream is for, and waits until it is taken.
///
/// # Errors
/// It is refused, or its connection has ended.
pub(super) async fn introduce(stream: &mut Stream, hello: &Hello) -> Result<(), String> {
    let bytes = codec::encode(hello, HELLO_BYTES_MAX).map_err(|error| error.to_string())?;
    let told = |error: std::io::Error| error.to_string();
    // Not longer than HELLO_BYTES_MAX.
    stream.send.write_u16(bytes.len() as u16).await.map_err(told)?;
    stream.send.write_all(&bytes).await.map_err(told)?;
    stream.send.flush().await.map_err(told)?;
    match stream.receive.read_u8().await.map_err(told)? {
        TAKEN => Ok(()),
        other => Err(format!("answered by {other}")),
    }
}
