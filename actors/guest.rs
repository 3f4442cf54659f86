//! The host's end of a sandbox's guest agent: calls with deadlines over one pair of byte streams.
//!
//! A [`Guest`] is a cheap handle. One task reads, one writes; each call waits for its own reply, so
//! calls overlap. Whatever ends the connection (the sandbox's death, a malformed frame) resolves
//! every call at once with [`FailureClass::ExecTransport`], and [`Guest::lost`] too. When the last
//! handle is dropped the agent's input ends, and with it the agent and everything in its sandbox.
//!
//! Memory is bounded: the writer's queue holds a few chunks, and each call says how much it may be
//! sent. A guest that sends more has its connection closed, as one that sends anything else that it
//! should not.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use orcapack_tasks::outcome::FailureClass;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use crate::guest_wire::{
    self, CHUNK_BYTES, Exec, OUTPUT_BYTES_MAX, PROTOCOL_VERSION, Part, Reply, Request, WireExit,
};
use crate::sandbox::{
    Captured, ExecId, ExecOutput, ExecProgress, ExecRequest, Exit, Fetched, Image, SandboxError,
    SandboxSpec, Stats,
};

/// The agent's program: static, for any Linux image of this machine's architecture.
pub const GUEST_AGENT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/guest_agent"));

/// Frames that wait for the writer; a put waits here for its turn like everybody else.
const QUEUE_FRAMES: usize = 8;
/// For an answer that costs the guest no time of its own. Ample: a node with all slots busy can be
/// slow.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// For the slowest disk that is worth working with.
const TRANSFER_BYTES_PER_SEC_MIN: u64 = 1 << 20;

/// What an [`ExecRequest`] leaves open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecDefaults {
    pub workdir: String,
    pub user: Option<String>,
    pub env: BTreeMap<String, String>,
}

impl ExecDefaults {
    pub fn new(image: &Image, spec: &SandboxSpec) -> Self {
        let mut env = image.env.clone();
        env.extend(spec.env.clone());
        let workdir = spec.workdir.clone().unwrap_or_else(|| image.workdir.clone());
        Self { workdir, user: image.user.clone(), env }
    }
}

#[derive(Clone)]
pub struct Guest {
    frames: mpsc::Sender<Vec<u8>>,
    calls: Arc<Mutex<Calls>>,
    lost: watch::Receiver<Option<SandboxError>>,
    next_call: Arc<AtomicU32>,
    defaults: Arc<ExecDefaults>,
}

/// The calls that wait for their reply, or why there will be none.
#[derive(Default)]
struct Calls {
    open: HashMap<u32, Call>,
    lost: Option<SandboxError>,
}

struct Call {
    answer: Answer,
    /// How many bytes it may still be sent.
    bytes_left: u64,
    done: oneshot::Sender<Result<Answer, SandboxError>>,
}

/// The last reply to a call, and what was sent before it.
struct Answer {
    last: Reply,
    data: Vec<u8>,
    /// By [`Part`].
    output: [Vec<u8>; 4],
}

impl Guest {
    /// Waits for the guest's first word, for `deadline` at most.
    ///
    /// # Errors
    /// [`FailureClass::StartTimeout`] when nothing comes, else [`FailureClass::ExecTransport`].
    pub async fn connect(
        mut reader: impl AsyncRead + Send + Unpin + 'static,
        writer: impl AsyncWrite + Send + Unpin + 'static,
        defaults: ExecDefaults,
        deadline: Duration,
    ) -> Result<Self, SandboxError> {
        match timeout(deadline, read_frame(&mut reader)).await {
            Ok(Ok((_, Reply::Hello { version: PROTOCOL_VERSION }))) => {}
            // In place of a greeting: its sandbox cannot be set up.
            Ok(Ok((_, Reply::Failed { message }))) => return Err(broken(message)),
            Ok(Ok((_, other))) => {
                return Err(broken(format!(
                    "expected a greeting of protocol version {PROTOCOL_VERSION}, found {other:?}"
                )));
            }
            Ok(Err(reason)) => return Err(broken(reason)),
            Err(_) => {
                let message = format!("the guest agent said nothing within {deadline:?}");
                return Err(SandboxError::new(FailureClass::StartTimeout, message));
            }
        }
        let calls = Arc::new(Mutex::new(Calls::default()));
        let (frames, queue) = mpsc::channel(QUEUE_FRAMES);
        let (lost_sender, lost) = watch::channel(None);
        let (end_writing, ended) = oneshot::channel::<()>();
        tokio::spawn(write_frames(writer, queue, ended));
        tokio::spawn(read_replies(reader, calls.clone(), lost_sender, end_writing));
        let (next_call, defaults) = (Arc::new(AtomicU32::new(1)), Arc::new(defaults));
        Ok(Self { frames, calls, lost, next_call, defaults })
    }

    pub async fn exec(&self, request: &ExecRequest) -> Result<ExecOutput, SandboxError> {
        let Some(frames) = self.encode_exec(request, false) else { return Ok(too_long()) };
        let output_max = 2 * bounded_output(request) as u64;
        let deadline = request.time_limit.saturating_add(ANSWER_TIMEOUT);
        let answer = self.call(frames, output_max, deadline).await?;
        match answer.last {
            Reply::Exited { exit, elapsed_us, cut } => {
                let [stdout, stderr] = captured(answer.output, cut);
                let elapsed = Duration::from_micros(elapsed_us);
                Ok(ExecOutput { exit: exit.into(), stdout, stderr, elapsed })
            }
            other => Err(refused("cannot run a command", other)),
        }
    }

    pub async fn spawn(&self, request: &ExecRequest) -> Result<ExecId, SandboxError> {
        let Some(frames) = self.encode_exec(request, true) else {
            let message = "cannot run a command: argument list too long";
            return Err(SandboxError::new(FailureClass::ExecTransport, message));
        };
        let id = ExecId(frames.call);
        self.done("cannot run a command", frames, ANSWER_TIMEOUT).await.map(|()| id)
    }

    pub async fn poll(&self, id: ExecId) -> Result<ExecProgress, SandboxError> {
        let frames = self.encode(&Request::Poll { exec: id.0 });
        let answer = self.call(frames, 4 * OUTPUT_BYTES_MAX as u64, ANSWER_TIMEOUT).await?;
        let (exit, cut) = match answer.last {
            Reply::Running { cut } => (None, cut),
            Reply::Exited { exit, cut, .. } => (Some(exit.into()), cut),
            other => return Err(refused("cannot look at a command", other)),
        };
        let [stdout, stderr] = captured(answer.output, cut);
        Ok(ExecProgress { exit, stdout, stderr })
    }

    pub async fn kill(&self, id: ExecId) -> Result<(), SandboxError> {
        let frames = self.encode(&Request::Cancel { call: id.0 });
        self.done("cannot kill a command", frames, ANSWER_TIMEOUT).await
    }

    pub async fn put(&self, dir: &str, archive: Vec<u8>) -> Result<(), SandboxError> {
        self.unpack(dir, archive, false).await
    }

    /// As [`Guest::put`], but through links to folders, as into an image that is being built.
    pub async fn put_through_links(&self, dir: &str, archive: Vec<u8>) -> Result<(), SandboxError> {
        self.unpack(dir, archive, true).await
    }

    async fn unpack(&self, dir: &str, archive: Vec<u8>, follow: bool) -> Result<(), SandboxError> {
        let mut frames = self.encode(&Request::Put { dir: dir.to_owned(), follow });
        let deadline = transfer_timeout(archive.len() as u64);
        frames.then = Then::Put(archive);
        self.done(&format!("cannot put files into {dir:?}"), frames, deadline).await
    }

    pub async fn get(&self, path: &str, bytes_max: u64) -> Result<Fetched, SandboxError> {
        let frames = self.encode(&Request::Get { path: path.to_owned(), bytes_max });
        let answer = self.call(frames, bytes_max, transfer_timeout(bytes_max)).await?;
        match answer.last {
            Reply::Done => Ok(Fetched::Archive(answer.data)),
            Reply::Absent => Ok(Fetched::Absent),
            Reply::TooLarge => Ok(Fetched::TooLarge),
            other => Err(refused(&format!("cannot get {path:?}"), other)),
        }
    }

    pub async fn stop_processes(&self) -> Result<(), SandboxError> {
        let frames = self.encode(&Request::StopProcesses);
        self.done("cannot stop all processes", frames, ANSWER_TIMEOUT).await
    }

    pub async fn stats(&self) -> Result<Stats, SandboxError> {
        let answer = self.call(self.encode(&Request::Stats), 0, ANSWER_TIMEOUT).await?;
        match answer.last {
            Reply::Stats { memory_bytes, pids } => Ok(Stats { memory_bytes, pids }),
            other => Err(refused("cannot read statistics", other)),
        }
    }

    /// That the guest agent answers at all.
    pub async fn ping(&self) -> Result<(), SandboxError> {
        self.done("no answer to a ping", self.encode(&Request::Ping), ANSWER_TIMEOUT).await
    }

    /// Asks the agent to end, and every process in the sandbox with it.
    pub async fn shutdown(&self) -> Result<(), SandboxError> {
        self.done("cannot shut down", self.encode(&Request::Shutdown), ANSWER_TIMEOUT).await
    }

    /// Whether the connection has ended. It has, when a call returns with an error because of it.
    pub fn is_lost(&self) -> bool {
        lock(&self.calls).lost.is_some()
    }

    /// Resolves when the connection has ended, for whatever reason.
    pub async fn lost(&self) -> SandboxError {
        let mut lost = self.lost.clone();
        match lost.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(error)) => error.clone(),
            _ => broken("its reader is gone"),
        }
    }
}

/// The frames of one call.
struct Frames {
    call: u32,
    first: Option<Vec<u8>>,
    then: Then,
}

/// Bulk that follows the first frame, in chunks.
enum Then {
    Nothing,
    Stdin(Vec<u8>),
    Put(Vec<u8>),
}

impl Guest {
    fn encode(&self, request: &Request) -> Frames {
        let call = self.next_call.fetch_add(1, Ordering::Relaxed);
        Frames { call, first: guest_wire::encode(call, request), then: Then::Nothing }
    }

    /// `None`: longer than any kernel would take.
    fn encode_exec(&self, request: &ExecRequest, background: bool) -> Option<Frames> {
        let mut env = self.defaults.env.clone();
        env.extend(request.writable_only.clone().map(|folder| ("TMPDIR".to_owned(), folder)));
        env.extend(request.env.clone());
        let (stdin, rest) = request.stdin.split_at(request.stdin.len().min(CHUNK_BYTES));
        let user = request.user.as_ref().or(self.defaults.user.as_ref());
        let mut frames = self.encode(&Request::Exec(Box::new(Exec {
            argv: request.argv.clone(),
            cwd: request.cwd.clone().unwrap_or_else(|| self.defaults.workdir.clone()),
            env: env.into_iter().collect(),
            user: user.cloned().unwrap_or_default(),
            time_limit_ms: u64::try_from(request.time_limit.as_millis()).unwrap_or(u64::MAX),
            output_bytes_max: bounded_output(request) as u32,
            background,
            writable_only: request.writable_only.clone(),
            stdin: stdin.to_vec(),
            stdin_more: !rest.is_empty(),
        })));
        if !rest.is_empty() {
            frames.then = Then::Stdin(rest.to_vec());
        }
        frames.first.is_some().then_some(frames)
    }

    async fn done(&self, what: &str, frames: Frames, wait: Duration) -> Result<(), SandboxError> {
        match self.call(frames, 0, wait).await?.last {
            Reply::Done => Ok(()),
            other => Err(refused(what, other)),
        }
    }

    async fn call(
        &self,
        frames: Frames,
        bytes_max: u64,
        wait: Duration,
    ) -> Result<Answer, SandboxError> {
        let call = frames.call;
        let Some(first) = frames.first else {
            let message = "a request longer than a frame can be";
            return Err(SandboxError::new(FailureClass::ExecTransport, message));
        };
        let (done, reply) = oneshot::channel();
        self.open(call, bytes_max, done)?;
        // From here on the call is closed whatever happens, also when its caller loses interest.
        let mut closing = Closing { guest: self, call, answered: false };
        let exchange = async {
            // An early answer, to a put that fails half-way, must not wait for the rest to be sent.
            let sending = self.send(call, first, frames.then);
            tokio::pin!(sending, reply);
            tokio::select! {
                answer = &mut reply => answer,
                () = sending => reply.await,
            }
        };
        let answer = timeout(wait, exchange).await;
        match answer {
            Ok(answer) => {
                closing.answered = true;
                answer.unwrap_or_else(|_| Err(broken("its reader is gone")))
            }
            Err(_) => Err(broken(format!("no answer within {wait:?}"))),
        }
    }

    fn open(
        &self,
        call: u32,
        bytes_left: u64,
        done: oneshot::Sender<Result<Answer, SandboxError>>,
    ) -> Result<(), SandboxError> {
        let mut calls = lock(&self.calls);
        if let Some(error) = &calls.lost {
            return Err(error.clone());
        }
        let answer = Answer { last: Reply::Done, data: Vec::new(), output: Default::default() };
        calls.open.insert(call, Call { answer, bytes_left, done });
        Ok(())
    }

    /// A send fails only when the connection is lost, of which the reader tells every call.
    async fn send(&self, call: u32, first: Vec<u8>, then: Then) {
        let _ = self.frames.send(first).await;
        let (bulk, put) = match then {
            Then::Nothing => return,
            Then::Stdin(bulk) => (bulk, false),
            Then::Put(bulk) => (bulk, true),
        };
        let mut chunks = bulk.chunks(CHUNK_BYTES).peekable();
        while let Some(chunk) = chunks.next() {
            let (bytes, more) = (chunk.to_vec(), chunks.peek().is_some());
            let request =
                if put { Request::PutData { bytes } } else { Request::Stdin { bytes, more } };
            let Some(frame) = guest_wire::encode(call, &request) else { return };
            if self.frames.send(frame).await.is_err() {
                return;
            }
        }
        if let Some(frame) = guest_wire::encode(call, &Request::PutEnd).filter(|_| put) {
            let _ = self.frames.send(frame).await;
        }
    }
}

/// Closes a call on every way out, and tells the guest when nobody waits for its answer any more.
struct Closing<'a> {
    guest: &'a Guest,
    call: u32,
    answered: bool,
}

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        lock(&self.guest.calls).open.remove(&self.call);
        let Some(frame) = self.guest.encode(&Request::Cancel { call: self.call }).first else {
            return;
        };
        if let Err(mpsc::error::TrySendError::Full(frame)) = self.guest.frames.try_send(frame) {
            let frames = self.guest.frames.clone();
            if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                runtime.spawn(async move { frames.send(frame).await });
            }
        }
    }
}

async fn write_frames(
    mut writer: impl AsyncWrite + Unpin,
    mut queue: mpsc::Receiver<Vec<u8>>,
    mut ended: oneshot::Receiver<()>,
) {
    // The end of `ended`: the reader is gone. A failed write is told by the reader, which sees the
    // same death.
    loop {
        let frame = tokio::select! {
            frame = queue.recv() => frame,
            _ = &mut ended => None,
        };
        let Some(frame) = frame else {
            // Said aloud: where both directions are one stream, dropping this half of it ends
            // nothing.
            let _ = writer.shutdown().await;
            return;
        };
        tokio::select! {
            written = writer.write_all(&frame) => if written.is_err() { return },
            _ = &mut ended => return,
        }
        if queue.is_empty() && writer.flush().await.is_err() {
            return;
        }
    }
}

async fn read_replies(
    mut reader: impl AsyncRead + Unpin,
    calls: Arc<Mutex<Calls>>,
    lost: watch::Sender<Option<SandboxError>>,
    end_writing: oneshot::Sender<()>,
) {
    let reason = loop {
        match read_frame(&mut reader).await {
            Ok((call, reply)) => {
                if let Err(reason) = lock(&calls).take_reply(call, reply) {
                    break reason;
                }
            }
            Err(reason) => break reason,
        }
    };
    let error = broken(reason);
    let open = {
        let mut calls = lock(&calls);
        calls.lost = Some(error.clone());
        std::mem::take(&mut calls.open)
    };
    for call in open.into_values() {
        let _ = call.done.send(Err(error.clone()));
    }
    lost.send_replace(Some(error));
    drop(end_writing);
}

async fn read_frame(reader: &mut (impl AsyncRead + Unpin)) -> Result<(u32, Reply), String> {
    let mut field = [0; 4];
    reader.read_exact(&mut field).await.map_err(end_of_stream)?;
    let length = guest_wire::body_length(field).map_err(|error| error.to_string())?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).await.map_err(end_of_stream)?;
    guest_wire::decode(&body).map_err(|error| error.to_string())
}

fn end_of_stream(error: std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => "the sandbox has ended".to_owned(),
        _ => error.to_string(),
    }
}

impl Calls {
    /// An error ends the connection. A reply to a call that nobody waits for any more is dropped.
    fn take_reply(&mut self, number: u32, reply: Reply) -> Result<(), String> {
        let Some(call) = self.open.get_mut(&number) else { return Ok(()) };
        match reply {
            Reply::Output { part, bytes } => {
                call.spend(bytes.len())?;
                let part = match part {
                    Part::StdoutHead => 0,
                    Part::StdoutTail => 1,
                    Part::StderrHead => 2,
                    Part::StderrTail => 3,
                };
                call.answer.output[part].extend_from_slice(&bytes);
            }
            Reply::Data { bytes } => {
                call.spend(bytes.len())?;
                call.answer.data.extend_from_slice(&bytes);
            }
            last => {
                if let Some(mut call) = self.open.remove(&number) {
                    call.answer.last = last;
                    let _ = call.done.send(Ok(call.answer));
                }
            }
        }
        Ok(())
    }
}

impl Call {
    fn spend(&mut self, bytes: usize) -> Result<(), String> {
        let left = self.bytes_left.checked_sub(bytes as u64);
        self.bytes_left = left.ok_or("the guest agent sent more than it was asked for")?;
        Ok(())
    }
}

impl From<WireExit> for Exit {
    fn from(exit: WireExit) -> Self {
        match exit {
            WireExit::Code(code) => Self::Code(code),
            WireExit::Signal(signal) => Self::Signal(signal),
            WireExit::TimedOut => Self::TimedOut,
            WireExit::OutOfMemory => Self::OutOfMemory,
        }
    }
}

fn captured(output: [Vec<u8>; 4], cut: [u64; 2]) -> [Captured; 2] {
    let [out_head, out_tail, err_head, err_tail] = output;
    [
        Captured { head: out_head, tail: out_tail, cut_bytes: cut[0] },
        Captured { head: err_head, tail: err_tail, cut_bytes: cut[1] },
    ]
}

/// What a shell answers to arguments that the kernel would not take either.
fn too_long() -> ExecOutput {
    let head = b"argument list too long\n".to_vec();
    ExecOutput {
        exit: Exit::Code(126),
        stdout: Captured::default(),
        stderr: Captured { head, ..Captured::default() },
        elapsed: Duration::ZERO,
    }
}

fn bounded_output(request: &ExecRequest) -> usize {
    request.output_bytes_max.min(OUTPUT_BYTES_MAX)
}

fn transfer_timeout(bytes: u64) -> Duration {
    ANSWER_TIMEOUT + Duration::from_secs(bytes / TRANSFER_BYTES_PER_SEC_MIN)
}

fn refused(what: &str, reply: Reply) -> SandboxError {
    let message = match reply {
        Reply::Failed { message } => format!("{what}: {message}"),
        other => format!("{what}: unexpected answer {other:?}"),
    };
    SandboxError::new(FailureClass::ExecTransport, message)
}

fn broken(reason: impl Into<String>) -> SandboxError {
    let message = format!("the guest agent cannot be reached: {}", reason.into());
    SandboxError::new(FailureClass::ExecTransport, message)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "guest_tests.rs"]
mod tests;
