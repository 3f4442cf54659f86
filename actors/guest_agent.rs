//! The guest agent: PID 1 of every sandbox, which runs what the host asks for and outlives whatever
//! that does.
//!
//! It speaks the frames of `guest_wire` over its standard input and output, and ends when its input
//! ends: then the kernel kills everything else in its PID namespace, so the death of the host's
//! process leaves no sandbox behind.
//!
//! A single thread polls, so that forking is safe. Nothing inside the sandbox can kill it (PID 1),
//! trace it or reach its channel (not dumpable, no CAP_SYS_PTRACE, every descriptor closed on
//! exec), fill it up (every record has a bound) or hold it up (no read or write blocks, and no file
//! is opened that could). It needs `/proc` and Linux 5.11.
//!
//! `build.rs` compiles it by itself, without any crate and linked statically, so that it runs in
//! any image.

#![cfg_attr(test, allow(dead_code, reason = "the library only tests the agent's parts"))]

mod guest_capture;
mod guest_channel;
mod guest_command;
mod guest_confine;
mod guest_init;
mod guest_jobs;
mod guest_landlock;
mod guest_metadata;
mod guest_namespace;
mod guest_seccomp;
#[cfg(not(test))]
mod guest_setup;
mod guest_sys;
mod guest_tar;
mod guest_tree;
#[cfg(not(test))]
mod guest_wire;
#[cfg(test)]
use crate::{guest_setup, guest_wire};

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

use guest_jobs::Jobs;
use guest_sys::{self as sys, POLLIN, POLLOUT, PollFd};
use guest_tar::{Pack, Stopped, Unpack};
use guest_wire::{Malformed, PROTOCOL_VERSION, Reply, Request};

/// No request is read while this much waits to be sent; no piece of an archive is packed above a
/// quarter of it.
const OUTBOX_BYTES_MAX: usize = 4 << 20;
const TRANSFERS_MAX: usize = 64;
const MESSAGE_CHARS_MAX: usize = 4096;
/// For the last process of a sandbox to be gone after SIGKILL; only one that hangs in the kernel
/// takes longer.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

fn main() {
    let begun = match std::env::args().nth(1).as_deref() {
        // Started by the `process` driver, outside of any sandbox.
        Some("init") => guest_init::enter(),
        _ => Ok((Counters::of_container(), Vec::new())),
    };
    let begun = begun.and_then(|(counters, filters)| Agent::start(counters, &filters));
    let result = match begun {
        Ok(agent) => agent.run().map_err(|error| error.to_string()),
        Err(message) => {
            // In place of the greeting. The host waits for nothing else.
            let reply = Reply::Failed { message: message.clone() };
            let frame = guest_wire::encode(0, &reply).unwrap_or_default();
            let _ = sys::standard_io().1.write_all(&frame);
            Err(message)
        }
    };
    if let Err(message) = result {
        eprintln!("guest agent: {message}");
        std::process::exit(1);
    }
}

struct Agent {
    input: File,
    output: File,
    inbox: Vec<u8>,
    outbox: Outbox,
    children: File,
    jobs: Jobs,
    unpacks: BTreeMap<u32, Unpack>,
    packs: VecDeque<(u32, Pack)>,
    stopping: Vec<(u32, Instant)>,
    counters: Counters,
    ending: bool,
}

impl Agent {
    fn start(counters: Counters, filters: &[Vec<u8>]) -> Result<Self, String> {
        if std::process::id() != 1 {
            return Err("must be process 1 of a PID namespace of its own".to_owned());
        }
        Self::shield(filters).map_err(|error| format!("cannot shield itself: {error}"))?;
        let children = sys::child_signals().map_err(|error| format!("no signals: {error}"))?;
        let (input, output) = sys::standard_io();
        let mut outbox = Outbox::default();
        outbox.send(0, &Reply::Hello { version: PROTOCOL_VERSION });
        Ok(Self {
            input,
            output,
            inbox: Vec::new(),
            outbox,
            children,
            jobs: Jobs::default(),
            unpacks: BTreeMap::new(),
            packs: VecDeque::new(),
            stopping: Vec::new(),
            counters,
            ending: false,
        })
    }

    /// Against everything that will ever run in here.
    fn shield(filters: &[Vec<u8>]) -> io::Result<()> {
        sys::hide_from_proc()?;
        sys::close_all_on_exec()?;
        for number in [0, 1] {
            sys::set_nonblocking(number)?;
        }
        sys::drop_privileges()?;
        sys::umask(0o022);
        filters.iter().try_for_each(|program| guest_seccomp::install(program))
    }

    /// Until the host closes the channel or asks for the end.
    fn run(mut self) -> io::Result<()> {
        loop {
            self.outbox.flush(&mut self.output)?;
            if self.ending && self.outbox.is_empty() {
                return Ok(());
            }
            let ready = self.wait();
            if ready.children {
                let mut signals = [0; 1024];
                let _ = self.children.read(&mut signals);
                while sys::wait_any(false).is_some() {}
            }
            self.jobs.advance(&ready.jobs, &self.counters, &mut self.outbox);
            if ready.input && !self.receive()? {
                return Ok(());
            }
            self.continue_stopping();
            self.continue_packing();
        }
    }

    fn wait(&self) -> Ready {
        let wanted = if self.outbox.bytes < OUTBOX_BYTES_MAX { POLLIN } else { 0 };
        let sending = if self.outbox.is_empty() { 0 } else { POLLOUT };
        let mut fds = vec![
            PollFd::new(&self.input, wanted),
            PollFd::new(&self.output, sending),
            PollFd::new(&self.children, POLLIN),
        ];
        fds.extend(self.jobs.pipes().map(|pipe| PollFd::new(pipe, POLLIN)));
        sys::poll_any(&mut fds, self.timeout_ms());
        let mut ready = fds.iter().map(|fd| fd.revents != 0);
        let input = ready.next() == Some(true);
        ready.next();
        Ready { input, children: ready.next() == Some(true), jobs: ready.collect() }
    }

    fn timeout_ms(&self) -> i32 {
        if !self.stopping.is_empty() {
            return 1;
        }
        if !self.packs.is_empty() && self.outbox.bytes < OUTBOX_BYTES_MAX / 4 {
            return 0;
        }
        let Some(deadline) = self.jobs.next_deadline() else { return -1 };
        let wait = deadline.saturating_duration_since(Instant::now());
        // Rounded up: waking before the deadline would only lead to another, shorter wait.
        i32::try_from(wait.as_micros().div_ceil(1000)).unwrap_or(i32::MAX)
    }

    /// Reads once and carries out every whole request. False at the end of the input.
    fn receive(&mut self) -> io::Result<bool> {
        let mut chunk = [0; 64 << 10];
        match self.input.read(&mut chunk) {
            Ok(0) => return Ok(false),
            Ok(count) => self.inbox.extend_from_slice(chunk.get(..count).unwrap_or_default()),
            Err(error) if is_later(&error) => {}
            Err(error) => return Err(error),
        }
        while let Some((call, request)) = self.next_request().map_err(io::Error::other)? {
            self.carry_out(call, request);
        }
        Ok(true)
    }

    /// `None`: not whole yet.
    fn next_request(&mut self) -> Result<Option<(u32, Request)>, Malformed> {
        let Some(field) = self.inbox.first_chunk::<4>() else { return Ok(None) };
        let end = 4 + guest_wire::body_length(*field)?;
        let Some(body) = self.inbox.get(4..end) else { return Ok(None) };
        let request = guest_wire::decode(body)?;
        self.inbox.drain(..end);
        Ok(Some(request))
    }

    fn carry_out(&mut self, call: u32, request: Request) {
        let result = match request {
            Request::Exec(exec) => self.jobs.exec(call, *exec, &self.counters, &mut self.outbox),
            Request::Stdin { bytes, more } => {
                self.jobs.stdin(call, &bytes, more, &self.counters, &mut self.outbox)
            }
            Request::Poll { exec } => self.jobs.poll(call, exec, &mut self.outbox),
            Request::Cancel { call: target } => {
                self.unpacks.remove(&target);
                self.packs.retain(|(packing, _)| *packing != target);
                self.jobs.kill(target, &self.counters, &mut self.outbox);
                self.outbox.send(call, &Reply::Done);
                Ok(())
            }
            Request::Put { dir, follow } => self.put(call, &dir, follow),
            Request::PutData { bytes } => match self.unpacks.get_mut(&call) {
                Some(unpack) => unpack.write(&bytes),
                None => Ok(()), // of an archive that has failed already
            },
            Request::PutEnd => match self.unpacks.remove(&call).map(Unpack::finish) {
                Some(Ok(())) => {
                    self.outbox.send(call, &Reply::Done);
                    Ok(())
                }
                Some(failed) => failed,
                None => Ok(()),
            },
            Request::Get { path, bytes_max } => self.get(call, &path, bytes_max),
            Request::StopProcesses => {
                self.stopping.push((call, Instant::now() + STOP_TIMEOUT));
                Ok(())
            }
            Request::Stats => {
                let (memory_bytes, pids) = self.counters.usage();
                self.outbox.send(call, &Reply::Stats { memory_bytes, pids });
                Ok(())
            }
            Request::Ping => {
                self.outbox.send(call, &Reply::Done);
                Ok(())
            }
            Request::Shutdown => {
                self.outbox.send(call, &Reply::Done);
                self.ending = true;
                Ok(())
            }
        };
        if let Err(message) = result {
            let message = message.chars().take(MESSAGE_CHARS_MAX).collect();
            self.unpacks.remove(&call);
            self.outbox.send(call, &Reply::Failed { message });
        }
    }

    fn put(&mut self, call: u32, dir: &str, follow: bool) -> Result<(), String> {
        if self.unpacks.len() >= TRANSFERS_MAX {
            return Err(format!("more than {TRANSFERS_MAX} archives at a time"));
        }
        self.unpacks.insert(call, Unpack::new(dir, follow)?);
        Ok(())
    }

    fn get(&mut self, call: u32, path: &str, bytes_max: u64) -> Result<(), String> {
        if self.packs.len() >= TRANSFERS_MAX {
            return Err(format!("more than {TRANSFERS_MAX} archives at a time"));
        }
        match Pack::new(path, bytes_max)? {
            Some(pack) => self.packs.push_back((call, pack)),
            None => self.outbox.send(call, &Reply::Absent),
        }
        Ok(())
    }

    /// One piece of one archive, in turn, and only while the host keeps up with reading.
    fn continue_packing(&mut self) {
        if self.outbox.bytes >= OUTBOX_BYTES_MAX / 4 {
            return;
        }
        let Some((call, mut pack)) = self.packs.pop_front() else { return };
        match pack.next_piece() {
            Ok(bytes) if bytes.is_empty() => self.outbox.send(call, &Reply::Done),
            Ok(bytes) => {
                self.outbox.send(call, &Reply::Data { bytes });
                self.packs.push_back((call, pack));
            }
            Err(Stopped::TooLarge) => self.outbox.send(call, &Reply::TooLarge),
            Err(Stopped::Failed(message)) => {
                self.outbox.send(call, &Reply::Failed { message });
            }
        }
    }

    /// Kills until nobody but the agent is left to be killed.
    fn continue_stopping(&mut self) {
        if self.stopping.is_empty() {
            return;
        }
        while sys::wait_any(false).is_some() {}
        if sys::kill(-1, sys::SIGKILL).is_err() {
            for (call, _) in self.stopping.drain(..) {
                self.outbox.send(call, &Reply::Done);
            }
            return;
        }
        let now = Instant::now();
        let (late, going): (Vec<_>, Vec<_>) =
            self.stopping.drain(..).partition(|(_, deadline)| *deadline <= now);
        self.stopping = going;
        for (call, _) in late {
            let message = "a process is still there after SIGKILL".to_owned();
            self.outbox.send(call, &Reply::Failed { message });
        }
    }
}

/// What `poll` has reported.
struct Ready {
    input: bool,
    children: bool,
    /// In the order of [`Jobs::pipes`].
    jobs: Vec<bool>,
}

/// Frames on their way to the host.
#[derive(Default)]
pub struct Outbox {
    frames: VecDeque<Vec<u8>>,
    /// Of the first frame.
    sent: usize,
    bytes: usize,
}

impl Outbox {
    pub fn send(&mut self, call: u32, reply: &Reply) {
        // Always: every reply is far below the limit of a frame.
        if let Some(frame) = guest_wire::encode(call, reply) {
            self.bytes += frame.len();
            self.frames.push_back(frame);
        }
    }

    fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// As much as the channel takes now.
    fn flush(&mut self, output: &mut File) -> io::Result<()> {
        while let Some(frame) = self.frames.front() {
            let rest = frame.get(self.sent..).unwrap_or_default();
            match output.write(rest) {
                Ok(count) if count < rest.len() => self.sent += count,
                Ok(_) => {
                    self.bytes -= frame.len();
                    self.sent = 0;
                    self.frames.pop_front();
                }
                Err(error) if is_later(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

pub fn is_later(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// The control group's files where they can be seen.
pub struct Counters {
    events: Option<File>,
    memory: Option<File>,
    pids: Option<File>,
}

impl Counters {
    /// Of memory events, memory in use and processes. Opened before the sandbox's root is entered,
    /// where they may not be.
    fn open(paths: &[&str; 3]) -> Self {
        let [events, memory, pids] = paths.map(|path| File::open(path).ok());
        Self { events, memory, pids }
    }

    /// Where an engine shows a container its own control group, of version 2 or 1.
    fn of_container() -> Self {
        let version_2 = Self::open(&[
            "/sys/fs/cgroup/memory.events",
            "/sys/fs/cgroup/memory.current",
            "/sys/fs/cgroup/pids.current",
        ]);
        if version_2.events.is_some() {
            return version_2;
        }
        Self::open(&[
            "/sys/fs/cgroup/memory/memory.oom_control",
            "/sys/fs/cgroup/memory/memory.usage_in_bytes",
            "/sys/fs/cgroup/pids/pids.current",
        ])
    }

    /// How many processes of this sandbox the kernel has killed for memory; 0 where it does not
    /// say.
    pub fn memory_kills(&self) -> u64 {
        let text = text_of(self.events.as_ref());
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
    }

    /// Bytes of memory and number of processes.
    fn usage(&self) -> (u64, u32) {
        let (pids, bytes) = guest_tree::usage();
        (
            text_of(self.memory.as_ref()).trim().parse().unwrap_or(bytes),
            text_of(self.pids.as_ref()).trim().parse().unwrap_or(pids),
        )
    }
}

fn text_of(file: Option<&File>) -> String {
    let mut bytes = [0; 4096];
    let count = file.and_then(|file| file.read_at(&mut bytes, 0).ok()).unwrap_or(0);
    String::from_utf8_lossy(bytes.get(..count).unwrap_or_default()).into_owned()
}
