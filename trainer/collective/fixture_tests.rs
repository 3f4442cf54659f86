//! Rings over pipes for tests: their values, what must come of them, and ranks that fail.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, duplex};
use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::collective::ring::{Neighbours, Ring, RingSettings};
use crate::collective::schedule::Operation;
use crate::collective::{Abort, CollectiveError, part};
use crate::random::bits;

pub(crate) const TIMEOUT: Duration = Duration::from_secs(5);

/// Numbers with all of their bits in use, whose sums depend on the order.
pub(crate) fn values(rank: usize, len: usize) -> Vec<f32> {
    let value = |at: usize| (bits(rank as u64, at as u64) >> 40) as f32 / 1e3 - 8e3;
    (0..len).map(value).collect()
}

/// What a ring's schedule promises: chunk c is `((v[c+1] + v[c+2]) + ...) + v[c]`.
pub(crate) fn sum_of_ring(world_size: usize, len: usize) -> Vec<f32> {
    let all: Vec<Vec<f32>> = (0..world_size).map(|rank| values(rank, len)).collect();
    let chunk = |chunk: usize| {
        let all = &all;
        part(len, chunk, world_size).map(move |at| {
            let order = (1..=world_size).map(|step| all[(chunk + step) % world_size][at]);
            order.reduce(|sum, value| sum + value).unwrap()
        })
    };
    (0..world_size).flat_map(chunk).collect()
}

/// In the order of the ranks.
pub(crate) fn sum_in_order(world_size: usize, len: usize) -> Vec<f32> {
    let all: Vec<Vec<f32>> = (0..world_size).map(|rank| values(rank, len)).collect();
    let sum = |at: usize| all.iter().map(|values| values[at]).reduce(|sum, value| sum + value);
    (0..len).map(|at| sum(at).unwrap()).collect()
}

pub(crate) fn bits_of(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

pub(crate) fn even(len: usize, world_size: usize) -> Vec<std::ops::Range<usize>> {
    (0..world_size).map(|rank| part(len, rank, world_size)).collect()
}

type Write = Box<dyn AsyncWrite + Send + Unpin>;
type Read = Box<dyn AsyncRead + Send + Unpin>;

/// Streams of a ring, by rank, over pipes that hold so many bytes.
pub(crate) fn pipes(world_size: usize, bytes: usize) -> Vec<Neighbours> {
    let pipes = (0..world_size).map(|_| duplex(bytes));
    let (writers, mut readers): (Vec<_>, Vec<_>) = pipes.unzip();
    // Pipe r goes from rank r to the next one.
    readers.rotate_right(1);
    let ranks = writers.into_iter().zip(readers);
    let neighbours =
        |(to, from)| Neighbours { to_next: Box::new(to), from_previous: Box::new(from) };
    ranks.map(neighbours).collect()
}

pub(crate) fn rings(neighbours: Vec<Neighbours>, settings: RingSettings) -> Vec<(Ring, Abort)> {
    let world_size = neighbours.len();
    let ranks = neighbours.into_iter().enumerate();
    let ring =
        |(rank, neighbours)| Ring::new(rank, world_size, neighbours, settings, Handle::current());
    ranks.map(ring).collect()
}

/// What is done to a rank when it has written so many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Its next byte is another one.
    Flip,
    /// It is gone, streams and all.
    Kill,
    /// It does nothing more, and does not go either.
    Freeze,
    /// It is aborted.
    Abort,
    /// It does nothing for a while.
    Delay(Duration),
}

/// A stream that knows how much was written, and lets a fault happen.
struct Watched {
    inner: Write,
    left: usize,
    is_flipped: bool,
    reached: Arc<Notify>,
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut piece = bytes[..bytes.len().min(self.left.max(1))].to_vec();
        if self.left == 0 {
            self.reached.notify_one();
            if self.is_flipped {
                piece[0] ^= 0x10;
            }
        }
        let polled = Pin::new(&mut self.inner).poll_write(context, &piece);
        if let Poll::Ready(Ok(written)) = polled {
            self.left = if self.left == 0 { usize::MAX } else { self.left - written };
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

/// How a rank's call has ended: its values, and after how long. `None` of one that is no more.
pub(crate) type Ended = Option<(Result<Vec<f32>, CollectiveError>, Duration)>;

/// One call of all ranks of a ring, of which `victim` has a fault once it has written `at` bytes.
pub(crate) async fn struck(
    mut neighbours: Vec<Neighbours>,
    settings: RingSettings,
    operation: Operation,
    len: usize,
    (victim, at, fault): (usize, usize, Fault),
) -> Vec<Ended> {
    let reached = Arc::new(Notify::new());
    let world_size = neighbours.len();
    let nothing: Write = Box::new(tokio::io::sink());
    let inner = std::mem::replace(&mut neighbours[victim].to_next, nothing);
    let (is_flipped, signal) = (fault == Fault::Flip, reached.clone());
    neighbours[victim].to_next = Box::new(Watched { inner, left: at, is_flipped, reached: signal });
    let begin = tokio::time::Instant::now();
    let ranks = rings(neighbours, settings).into_iter().enumerate().map(|(rank, (ring, abort))| {
        let reached = reached.clone();
        async move {
            let mut ring = ring;
            let mut values = values(rank, len);
            let result = {
                let mut run = Box::pin(ring.run(operation, even(len, world_size), &mut values));
                let struck = async {
                    match rank == victim {
                        true => reached.notified().await,
                        false => std::future::pending().await,
                    }
                };
                let first = tokio::select! {
                    biased;
                    () = struck => None,
                    result = &mut run => Some(result),
                };
                match (first, fault) {
                    (Some(result), _) => result,
                    (None, Fault::Flip) => run.await,
                    (None, Fault::Kill) => return None,
                    // It holds its streams for as long as anyone could wait.
                    (None, Fault::Freeze) => {
                        tokio::time::sleep(10 * settings.timeout).await; // Of paused time.
                        return None;
                    }
                    (None, Fault::Abort) => {
                        abort.abort("struck");
                        run.await
                    }
                    (None, Fault::Delay(delay)) => {
                        tokio::time::sleep(delay).await; // Of paused time.
                        run.await
                    }
                }
            };
            Some((result.map(|()| values), begin.elapsed()))
        }
    });
    futures_util::future::join_all(ranks).await
}

/// As [`struck`], with nothing done to anyone.
pub(crate) async fn call(
    neighbours: Vec<Neighbours>,
    settings: RingSettings,
    operation: Operation,
    len: usize,
) -> Vec<Vec<f32>> {
    let unstruck = (0, usize::MAX, Fault::Flip);
    let ended = struck(neighbours, settings, operation, len, unstruck).await;
    ended.into_iter().map(|ended| ended.unwrap().0.unwrap()).collect()
}

/// Streams of a ring over loopback.
pub(crate) async fn sockets(world_size: usize) -> Vec<Neighbours> {
    let mut ends: Vec<(Option<Write>, Option<Read>)> =
        (0..world_size).map(|_| (None, None)).collect();
    for rank in 0..world_size {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = tokio::net::TcpStream::connect(listener.local_addr().unwrap());
        let (to, from) = tokio::join!(to, listener.accept());
        let (to, (from, _)) = (to.unwrap(), from.unwrap());
        to.set_nodelay(true).unwrap();
        ends[rank].0 = Some(Box::new(to));
        ends[(rank + 1) % world_size].1 = Some(Box::new(from));
    }
    let neighbours = |(to, from): (Option<Write>, Option<Read>)| Neighbours {
        to_next: to.unwrap(),
        from_previous: from.unwrap(),
    };
    ends.into_iter().map(neighbours).collect()
}
