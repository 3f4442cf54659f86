//! The ways to reach the other ranks that the bench of all-reduces compares. All ranks are in this
//! process, with a thread each; what they say goes over loopback.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use orcapack_cluster::address::Role;
use orcapack_cluster::fixture::TestAuthority;
use orcapack_cluster::link::{Link, Priority, Purpose, Transport};
use orcapack_cluster::quic::{QuicConfig, QuicTransport, ResetKey};
use orcapack_cluster::tcp::{TcpConfig, TcpTransport};
use orcapack_trainer::collective::memory::{MemorySettings, group};
use orcapack_trainer::collective::ring::{Neighbours, Ring, RingSettings};
use orcapack_trainer::collective::{Abort, Collective};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;

const TIMEOUT: Duration = Duration::from_secs(30);

/// A rank, and what it needs to live.
pub struct Rank {
    pub collective: Box<dyn Collective>,
    pub abort: Abort,
    pub kept: Kept,
}

/// What the links of a rank need to live.
#[derive(Default)]
pub struct Kept {
    _transport: Option<Arc<dyn Transport>>,
    _links: Vec<Arc<dyn Link>>,
}

pub async fn ranks(link: &str, world_size: usize) -> Vec<Rank> {
    match link {
        "memory" => in_memory(world_size),
        "tcp" => over_tcp(world_size).await,
        _ => over_links(link, world_size).await,
    }
}

fn in_memory(world_size: usize) -> Vec<Rank> {
    let ranks = group(world_size, MemorySettings { timeout: TIMEOUT, first_rank: 0 });
    let rank = |(rank, abort)| Rank { collective: Box::new(rank), abort, kept: Kept::default() };
    ranks.into_iter().map(rank).collect()
}

fn ring(rank: usize, world_size: usize, neighbours: Neighbours) -> (Box<dyn Collective>, Abort) {
    let settings = RingSettings::new(1, TIMEOUT);
    let (ring, abort) = Ring::new(rank, world_size, neighbours, settings, Handle::current());
    (Box::new(ring), abort)
}

/// Sockets with nothing around them.
async fn over_tcp(world_size: usize) -> Vec<Rank> {
    let (mut to_next, mut from_previous) = (Vec::new(), Vec::new());
    for _ in 0..world_size {
        let listener = TcpListener::bind(localhost()).await.expect("a port");
        let at = listener.local_addr().expect("its address");
        let (to, from) = tokio::join!(TcpStream::connect(at), listener.accept());
        let (to, (from, _)) = (to.expect("it is accepted"), from.expect("it is connected"));
        to.set_nodelay(true).expect("a setting of any socket");
        to_next.push(to);
        from_previous.push(from);
    }
    from_previous.rotate_right(1);
    let streams = to_next.into_iter().zip(from_previous).enumerate();
    let rank = |(rank, (to, from))| {
        let neighbours = Neighbours { to_next: Box::new(to), from_previous: Box::new(from) };
        let (collective, abort) = ring(rank, world_size, neighbours);
        Rank { collective, abort, kept: Kept::default() }
    };
    streams.map(rank).collect()
}

/// The links between nodes, with certificates: a node for each rank.
async fn over_links(kind: &str, world_size: usize) -> Vec<Rank> {
    let authority = TestAuthority::default();
    let mut transports: Vec<Arc<dyn Transport>> = Vec::new();
    for rank in 0..world_size {
        let credentials = authority.issue(&name(rank), Role::Worker);
        transports.push(if kind == "quic" {
            let key = ResetKey::new([rank as u8; ResetKey::BYTES]);
            let config = QuicConfig::new(localhost(), key);
            Arc::new(QuicTransport::bind(config, credentials).expect("it binds"))
        } else {
            let transport = TcpTransport::bind(TcpConfig::new(localhost()), credentials);
            Arc::new(transport.await.expect("it binds"))
        });
    }
    let mut links: Vec<Vec<Arc<dyn Link>>> = (0..world_size).map(|_| Vec::new()).collect();
    let (mut to_next, mut from_previous) = (Vec::new(), Vec::new());
    for rank in 0..world_size {
        let next = (rank + 1) % world_size;
        let node = name(next).parse().expect("a name");
        let at = transports[next].local_addr();
        let (there, here) = tokio::join!(
            transports[rank].dial(&node, at, Purpose::Gradients),
            transports[next].accept()
        );
        let (there, here) = (there.expect("it answers"), here.expect("it is open"));
        let mut to = there.open(Priority::Bulk).await.expect("a stream");
        // The peer hears of a stream with its first byte.
        to.send.write_all(b"?").await.expect("it is open");
        to.send.flush().await.expect("it is open");
        let mut from = here.accept().await.expect("a stream");
        from.receive.read_exact(&mut [0]).await.expect("its first byte");
        links[rank].push(there);
        links[next].push(here);
        to_next.push(to);
        from_previous.push(from);
    }
    from_previous.rotate_right(1);
    let streams = to_next.into_iter().zip(from_previous);
    let parts = streams.zip(transports).zip(links).enumerate();
    let rank = |(rank, (((to, from), transport), links))| {
        let (collective, abort) = ring(rank, world_size, Neighbours::over(to, from));
        Rank { collective, abort, kept: Kept { _transport: Some(transport), _links: links } }
    };
    parts.map(rank).collect()
}

fn name(rank: usize) -> String {
    format!("rank-{rank}")
}

fn localhost() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}
