//! Rings whose ranks are processes, one of which is killed at each frame that it sends: the others
//! know who it was within 2 s, and have formed the next ring and its sum within 10.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::pin::Pin;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, raise};
use orcapack_trainer::collective::frame::HEADER_BYTES;
use orcapack_trainer::collective::ring::{Neighbours, Ring, RingSettings};
use orcapack_trainer::collective::{Collective, CollectiveError};
use tokio::io::AsyncWrite;
use tokio::net::{TcpListener, TcpStream};

/// Of each chunk, which is one frame.
const CHUNK: usize = 1000;
const FRAME_BYTES: usize = HEADER_BYTES + CHUNK * size_of::<f32>();
/// Long: no rank here is given up for being late.
const TIMEOUT: Duration = Duration::from_secs(30);
const ABORTED_WITHIN: Duration = Duration::from_secs(2);
const FORMED_WITHIN: Duration = Duration::from_secs(10);
/// Before each word to the scenario, since the harness prints too.
const MARK: &str = "@ ";

fn values(rank: usize, len: usize) -> Vec<f32> {
    (0..len).map(|at| (at * 7 + rank * 13 + 1) as f32 / 3.0).collect()
}

/// A stream whose process ends, without a word, once so many bytes were written.
struct Doomed {
    stream: TcpStream,
    left: Option<usize>,
}

impl AsyncWrite for Doomed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let most = self.left.map_or(bytes.len(), |left| left.min(bytes.len()));
        if most == 0 && !bytes.is_empty() {
            raise(Signal::SIGKILL).unwrap();
        }
        let written = Pin::new(&mut self.stream).poll_write(context, &bytes[..most]);
        if let (Poll::Ready(Ok(written)), Some(left)) = (&written, &mut self.left) {
            *left -= written;
        }
        written
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        // All was written: it was to die behind its last frame.
        if self.left == Some(0) {
            raise(Signal::SIGKILL).unwrap();
        }
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

fn say(word: &str) {
    println!("{MARK}{word}");
}

/// One rank: for each line `NAME EPOCH RANK WORLD LEFT`, it says where it listens, is told
/// where the next rank does, makes a sum with the others, and says what came of it.
#[test]
#[ignore = "a process of the scenario below"]
fn a_rank() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut lines = std::io::stdin().lines().map(Result::unwrap);
    while let Some(line) = lines.next() {
        let [name, epoch, rank, world_size, left] = line
            .split(' ')
            .map(|word| word.parse::<usize>().ok())
            .collect::<Vec<_>>()
            .try_into()
            .unwrap();
        let [name, epoch, rank, world_size] = [name, epoch, rank, world_size].map(Option::unwrap);
        let neighbours = runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            say(&listener.local_addr().unwrap().to_string());
            let next: SocketAddr = lines.next().unwrap().parse().unwrap();
            let (to, from) = tokio::join!(TcpStream::connect(next), listener.accept());
            let (stream, (from, _)) = (to.unwrap(), from.unwrap());
            stream.set_nodelay(true).unwrap();
            let to_next = Box::new(Doomed { stream, left });
            Neighbours { to_next, from_previous: Box::new(from) }
        });
        let segment_bytes = CHUNK * size_of::<f32>();
        let settings = RingSettings { segment_bytes, ..RingSettings::new(epoch as u64, TIMEOUT) };
        let handle = runtime.handle().clone();
        let (mut ring, _abort) = Ring::new(rank, world_size, neighbours, settings, handle);
        let mut sum = values(name, CHUNK * world_size);
        say(&match ring.all_reduce(&mut sum) {
            Ok(()) => sum.iter().fold("sum ".to_owned(), |mut text, value| {
                let _ = write!(text, "{:08x}", value.to_bits());
                text
            }),
            Err(CollectiveError::PeerLost { rank, .. }) => format!("lost {rank}"),
            Err(error) => format!("error {error}"),
        });
    }
}

struct Process {
    name: usize,
    child: Child,
    orders: ChildStdin,
    said: BufReader<ChildStdout>,
}

impl Process {
    fn start(name: usize) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "ring_processes::a_rank", "--ignored", "--nocapture"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (orders, said) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { name, child, orders, said: BufReader::new(said) }
    }

    fn tell(&mut self, line: &str) {
        writeln!(self.orders, "{line}").unwrap();
    }

    /// `None`: it is gone.
    fn hear(&mut self) -> Option<String> {
        let lines = (&mut self.said).lines().map_while(Result::ok);
        lines.filter_map(|line| Some(line.split_once(MARK)?.1.to_owned())).next()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may be dead already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What each of them says of the sum of an epoch. The one that is to die dies behind `bytes`.
fn all_reduce(
    ranks: &mut [Process],
    epoch: usize,
    doomed: Option<(usize, usize)>,
) -> Vec<Option<String>> {
    let world_size = ranks.len();
    for (rank, process) in ranks.iter_mut().enumerate() {
        let bytes =
            doomed.filter(|(victim, _)| *victim == rank).map(|(_, bytes)| bytes.to_string());
        let bytes = bytes.unwrap_or_else(|| "-".to_owned());
        process.tell(&format!("{} {epoch} {rank} {world_size} {bytes}", process.name));
    }
    let mut at: Vec<String> = ranks.iter_mut().map(|it| it.hear().expect("it listens")).collect();
    at.rotate_left(1);
    ranks.iter_mut().zip(&at).for_each(|(process, next)| process.tell(next));
    ranks.iter_mut().map(Process::hear).collect()
}

/// The bits of a ring's sum: chunk c is `((v[c+1] + v[c+2]) + ...) + v[c]`.
fn sum(names: &[usize]) -> String {
    let count = names.len();
    let of: Vec<Vec<f32>> = names.iter().map(|name| values(*name, CHUNK * count)).collect();
    let mut text = "sum ".to_owned();
    let places = (0..count).flat_map(|chunk| (0..CHUNK).map(move |at| (chunk, chunk * CHUNK + at)));
    for (chunk, at) in places {
        let order = (1..=count).map(|step| of[(chunk + step) % count][at]);
        let _ = write!(text, "{:08x}", order.reduce(|sum, value| sum + value).unwrap().to_bits());
    }
    text
}

#[test]
fn survivors_of_a_rank_that_is_killed_at_any_frame_name_it_and_go_on_without_it() {
    for world_size in [2, 3, 4, 8] {
        // A whole number of frames, and in the middle of one.
        let frames = 2 * (world_size - 1);
        let places = (0..frames).flat_map(|frame| [frame * FRAME_BYTES, frame * FRAME_BYTES + 777]);
        for (at, bytes) in places.enumerate() {
            let victim = at % world_size;
            let mut ranks: Vec<Process> = (0..world_size).map(Process::start).collect();
            let began = Instant::now();
            let said = all_reduce(&mut ranks, 1, Some((victim, bytes)));
            let case =
                format!("{world_size} ranks, {victim} killed behind {bytes} bytes: {said:?}");
            assert!(began.elapsed() < ABORTED_WITHIN, "{:?}: {case}", began.elapsed());
            let whole = sum(&(0..world_size).collect::<Vec<_>>());
            for (rank, said) in said.iter().enumerate() {
                let is_right = match said.as_deref() {
                    None => rank == victim,
                    // All of its own was there before.
                    Some(said) => said == whole || said == format!("lost {victim}"),
                };
                assert!(is_right, "{rank}: {case}");
            }
            ranks.remove(victim);
            let survivors: Vec<usize> = ranks.iter().map(|it| it.name).collect();
            let again = all_reduce(&mut ranks, 2, None);
            assert!(began.elapsed() < FORMED_WITHIN, "{:?}: {case}", began.elapsed());
            let expected = sum(&survivors);
            for said in again {
                assert_eq!(said.as_ref(), Some(&expected), "{case}");
            }
        }
    }
}
