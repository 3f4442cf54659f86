//! A network of a seed, in one process, under the same QUIC code: for simulations.
//!
//! Everything here depends on the seed, on tokio's clock (which has to be paused, under a runtime
//! of one thread) and on the order of sends; so a seed that is run twice gives the same datagrams
//! at the same times, and [`SimNetwork::hash`] tells whether it did.
//!
//! There is no task and no timer per datagram. A datagram's fate is decided when it is sent; it
//! waits in its receiver's queue, and each socket has one timer for the first of them. Tokio's
//! clock goes in steps of a millisecond, so what arrives within one is read together.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::fmt;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use quinn::udp::{EcnCodepoint, RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::credentials::Credentials;
use crate::link::LinkError;
use crate::quic::{QuicConfig, QuicTransport};
use crate::quic_config::endpoint;

/// What a socket holds for a process that does not read.
const SOCKET_BYTES_MAX: usize = 4 << 20;
/// What waits before a link that is busy. What comes on top is lost, as in a router.
const QUEUE_WAIT_MAX: Duration = Duration::from_millis(200);

/// What happens to datagrams on every way between two addresses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SimFaults {
    /// Shares of 1.
    pub loss: f64,
    pub duplication: f64,
    /// One way. To it comes up to `jitter`, so that datagrams overtake each other.
    pub delay: Duration,
    pub jitter: Duration,
    /// Of each way by itself.
    pub bytes_per_sec: Option<u64>,
}

impl Default for SimFaults {
    /// None, on a network that is near.
    fn default() -> Self {
        let (delay, jitter) = (Duration::from_millis(1), Duration::ZERO);
        Self { loss: 0.0, duplication: 0.0, delay, jitter, bytes_per_sec: None }
    }
}

/// What became of the datagrams that were sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SimCounts {
    pub sent: u64,
    pub delivered: u64,
    pub duplicated: u64,
    pub lost: u64,
    /// On a way that is cut.
    pub cut: u64,
    /// The link or the receiver's socket was full.
    pub overflowed: u64,
    /// Nobody is at the address, or not any more.
    pub to_nobody: u64,
}

#[derive(Clone, Copy)]
enum Fate {
    Delivered = 1,
    Duplicated,
    Lost,
    Cut,
    Overflowed,
    ToNobody,
}

#[derive(Clone)]
pub struct SimNetwork(Arc<Mutex<Network>>);

struct Network {
    faults: SimFaults,
    random: Random,
    start: Instant,
    nodes: BTreeMap<SocketAddr, Node>,
    cut: BTreeSet<(SocketAddr, SocketAddr)>,
    /// Until when each way is busy with what was sent over it.
    busy: BTreeMap<(SocketAddr, SocketAddr), Instant>,
    sockets: u64,
    sent: u64,
    hash: u64,
    counts: SimCounts,
}

#[derive(Default)]
struct Node {
    /// Which socket is at the address.
    socket: u64,
    arriving: BinaryHeap<Reverse<Datagram>>,
    arriving_bytes: usize,
    /// Of the endpoint, while it waits for datagrams.
    waker: Option<Waker>,
    is_paused: bool,
    /// What it sent while it was paused.
    held: Vec<(SocketAddr, Option<EcnCodepoint>, Vec<u8>)>,
}

/// In the order of arrival; of those that arrive together, in the order of sending.
struct Datagram {
    at: Instant,
    number: u64,
    from: SocketAddr,
    ecn: Option<EcnCodepoint>,
    bytes: Vec<u8>,
}

impl SimNetwork {
    pub fn new(seed: u64, faults: SimFaults) -> Self {
        Self(Arc::new(Mutex::new(Network {
            faults,
            random: Random(seed),
            start: Instant::now(),
            nodes: BTreeMap::new(),
            cut: BTreeSet::new(),
            busy: BTreeMap::new(),
            sockets: 0,
            sent: 0,
            hash: HASH_START,
            counts: SimCounts::default(),
        })))
    }

    /// A process at an address, in the place of one that was there. Its configuration says where it
    /// listens, which need not be true.
    pub fn transport(
        &self,
        at: SocketAddr,
        credentials: Arc<dyn Credentials>,
        config: &QuicConfig,
    ) -> Result<QuicTransport, LinkError> {
        let mut endpoint = endpoint(&config.reset_key);
        let socket = {
            let mut network = self.network();
            let mut seed = [0; 32];
            for part in seed.chunks_mut(8) {
                part.copy_from_slice(&network.random.next().to_le_bytes());
            }
            endpoint.rng_seed(Some(seed));
            network.remove(at);
            network.sockets += 1;
            let id = network.sockets;
            network.nodes.insert(at, Node { socket: id, ..Node::default() });
            id
        };
        let timer = Mutex::new(Box::pin(sleep_until(Instant::now())));
        let socket = SimSocket { network: self.clone(), at, id: socket, timer };
        QuicTransport::over(Arc::new(socket), endpoint, config, credentials)
    }

    /// The process at an address is gone without a word: what it sends from now on is lost, and
    /// nothing comes to it.
    pub fn crash(&self, at: SocketAddr) {
        self.network().remove(at);
    }

    pub fn set_faults(&self, faults: SimFaults) {
        self.network().faults = faults;
    }

    /// What is sent from one address to the other is lost from now on; not the other way round.
    pub fn cut(&self, from: SocketAddr, to: SocketAddr) {
        self.network().cut.insert((from, to));
    }

    pub fn heal(&self, from: SocketAddr, to: SocketAddr) {
        self.network().cut.remove(&(from, to));
    }

    /// Cuts all ways between those of one side and those of the other, both ways.
    pub fn part(&self, one: &[SocketAddr], other: &[SocketAddr]) {
        let mut network = self.network();
        for (one, other) in one.iter().flat_map(|one| other.iter().map(move |it| (*one, *it))) {
            network.cut.extend([(one, other), (other, one)]);
        }
    }

    /// No way is cut any more.
    pub fn heal_all(&self) {
        self.network().cut.clear();
    }

    /// The process hears and says nothing until it is resumed: what comes waits as in its socket,
    /// and what it sends waits too. Its clock goes on.
    pub fn pause(&self, at: SocketAddr) {
        self.network().nodes.entry(at).and_modify(|node| node.is_paused = true);
    }

    pub fn resume(&self, at: SocketAddr) {
        let mut network = self.network();
        let Some(node) = network.nodes.get_mut(&at) else { return };
        node.is_paused = false;
        let (held, waker) = (std::mem::take(&mut node.held), node.waker.take());
        let mut wakers: Vec<Waker> = waker.into_iter().collect();
        for (to, ecn, bytes) in held {
            wakers.extend(network.send(at, to, ecn, &bytes));
        }
        drop(network);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Sends a datagram that need not be anybody's, as strangers can.
    pub fn inject(&self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let waker = self.network().send(from, to, None, bytes);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub fn counts(&self) -> SimCounts {
        self.network().counts
    }

    /// Of all that has happened: when, from where, to where, how long, and what became of it.
    pub fn hash(&self) -> u64 {
        self.network().hash
    }

    /// No code panics while it holds the lock.
    fn network(&self) -> MutexGuard<'_, Network> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Network {
    fn remove(&mut self, at: SocketAddr) {
        let Some(node) = self.nodes.remove(&at) else { return };
        for Reverse(datagram) in node.arriving.into_sorted_vec() {
            self.note(datagram.from, at, datagram.bytes.len(), Fate::ToNobody);
        }
    }

    /// Decides what becomes of a datagram, and tells who is to be woken for it.
    fn send(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        ecn: Option<EcnCodepoint>,
        bytes: &[u8],
    ) -> Option<Waker> {
        self.counts.sent += 1;
        // Drawn always, so that a fault that is set changes what it is about, not all that follows.
        let [loss, duplication, jitter, jitter_again] = [(); 4].map(|()| self.random.share());
        if self.cut.contains(&(from, to)) {
            return self.note(from, to, bytes.len(), Fate::Cut);
        }
        if loss < self.faults.loss {
            return self.note(from, to, bytes.len(), Fate::Lost);
        }
        if !self.nodes.contains_key(&to) {
            return self.note(from, to, bytes.len(), Fate::ToNobody);
        }
        let now = Instant::now();
        let mut at = now;
        if let Some(bytes_per_sec) = self.faults.bytes_per_sec {
            let busy = self.busy.entry((from, to)).or_insert(now);
            at =
                now.max(*busy) + Duration::from_secs_f64(bytes.len() as f64 / bytes_per_sec as f64);
            if at > now + QUEUE_WAIT_MAX {
                return self.note(from, to, bytes.len(), Fate::Overflowed);
            }
            *busy = at;
        }
        let waker = self.put(from, to, ecn, bytes, at + self.delay(jitter));
        if duplication < self.faults.duplication {
            self.note(from, to, bytes.len(), Fate::Duplicated);
            let again = self.put(from, to, ecn, bytes, at + self.delay(jitter_again));
            return waker.or(again);
        }
        waker
    }

    fn delay(&self, jitter: f64) -> Duration {
        self.faults.delay + self.faults.jitter.mul_f64(jitter)
    }

    fn put(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        ecn: Option<EcnCodepoint>,
        bytes: &[u8],
        at: Instant,
    ) -> Option<Waker> {
        let node = self.nodes.get_mut(&to)?;
        if node.arriving_bytes + bytes.len() > SOCKET_BYTES_MAX {
            return self.note(from, to, bytes.len(), Fate::Overflowed);
        }
        let is_first = node.arriving.peek().is_none_or(|Reverse(first)| at < first.at);
        node.arriving_bytes += bytes.len();
        self.sent += 1;
        let (number, bytes) = (self.sent, bytes.to_vec());
        node.arriving.push(Reverse(Datagram { at, number, from, ecn, bytes }));
        // Its timer is set for a later one, or for none.
        if is_first { node.waker.take() } else { None }
    }

    /// Nobody is to be woken for what is only noted.
    fn note(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        bytes: usize,
        fate: Fate,
    ) -> Option<Waker> {
        *match fate {
            Fate::Delivered => &mut self.counts.delivered,
            Fate::Duplicated => &mut self.counts.duplicated,
            Fate::Lost => &mut self.counts.lost,
            Fate::Cut => &mut self.counts.cut,
            Fate::Overflowed => &mut self.counts.overflowed,
            Fate::ToNobody => &mut self.counts.to_nobody,
        } += 1;
        let at = Instant::now().duration_since(self.start).as_nanos() as u64;
        for word in [at, number_of(from), number_of(to), bytes as u64, fate as u64] {
            self.hash = mix(self.hash ^ word);
        }
        None
    }
}

/// A way to tell addresses apart that is the same in every run.
fn number_of(address: SocketAddr) -> u64 {
    let ip = match address {
        SocketAddr::V4(address) => u128::from(u32::from(*address.ip())),
        SocketAddr::V6(address) => u128::from(*address.ip()),
    };
    mix(ip as u64 ^ mix((ip >> 64) as u64 ^ u64::from(address.port())))
}

struct SimSocket {
    network: SimNetwork,
    at: SocketAddr,
    id: u64,
    /// For the first datagram that is on its way here.
    timer: Mutex<Pin<Box<Sleep>>>,
}

impl fmt::Debug for SimSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimSocket({})", self.at)
    }
}

impl AsyncUdpSocket for SimSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let waker = {
            let mut network = self.network.network();
            let (to, ecn, bytes) = (transmit.destination, transmit.ecn, transmit.contents);
            match network.nodes.get_mut(&self.at) {
                Some(node) if node.socket == self.id && node.is_paused => {
                    node.held.push((to, ecn, bytes.to_vec()));
                    None
                }
                Some(node) if node.socket == self.id => network.send(self.at, to, ecn, bytes),
                // A dead process sends nothing.
                _ => None,
            }
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut timer = self.timer.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let mut network = self.network.network();
            let now = Instant::now();
            let (network, mut received) = (&mut *network, 0);
            let node = network.nodes.get_mut(&self.at).filter(|node| node.socket == self.id);
            // A dead process hears nothing, ever.
            let Some(node) = node else { return Poll::Pending };
            node.waker = Some(context.waker().clone());
            if node.is_paused {
                return Poll::Pending;
            }
            let mut notes = Vec::new();
            for (buffer, meta) in buffers.iter_mut().zip(metas.iter_mut()) {
                let Some(first) = node.arriving.peek_mut() else { break };
                if first.0.at > now {
                    break;
                }
                let Reverse(datagram) = std::collections::binary_heap::PeekMut::pop(first);
                let bytes = datagram.bytes.len().min(buffer.len());
                node.arriving_bytes -= datagram.bytes.len();
                buffer[..bytes].copy_from_slice(&datagram.bytes[..bytes]);
                let (addr, ecn) = (datagram.from, datagram.ecn);
                *meta = RecvMeta { addr, len: bytes, stride: bytes, ecn, dst_ip: None };
                notes.push((datagram.from, bytes));
                received += 1;
            }
            let next = node.arriving.peek().map(|Reverse(first)| first.at);
            for (from, bytes) in notes {
                network.note(from, self.at, bytes, Fate::Delivered);
            }
            if received > 0 {
                return Poll::Ready(Ok(received));
            }
            let Some(next) = next else { return Poll::Pending };
            timer.as_mut().reset(next);
            if timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.at)
    }
}

#[derive(Debug)]
struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl PartialEq for Datagram {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Datagram {}

impl PartialOrd for Datagram {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Datagram {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// SplitMix64: small, and the same everywhere for ever.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// From 0 to below 1.
    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

const HASH_START: u64 = 0xcbf2_9ce4_8422_2325;

fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
#[path = "quic_sim_tests.rs"]
mod tests;
