//! The commands of a guest agent: their pipes, their time limits, their ends, and who is told.
//!
//! A job is answered when its command has ended, whatever its daemons hold open; it is kept, and
//! their output dropped, until the last process of its tree is gone.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::time::{Duration, Instant};

use super::guest_capture::Capture;
use super::guest_command;
use super::guest_confine;
use super::guest_sys::{self as sys, Pid};
use super::guest_tree;
use super::guest_wire::{CHUNK_BYTES, Exec, OUTPUT_BYTES_MAX, Part, Reply, WireExit};
use super::{Counters, Outbox};

/// Of commands that run, wait for their input, or left daemons behind; each holds three
/// descriptors.
const JOBS_MAX: usize = 256;
/// What a pipe can hold at most: all that a command wrote before its end, even if a daemon goes on
/// writing.
const PIPE_BYTES_MAX: usize = 1 << 20;
/// Of the outputs of background commands whose trees are gone: older ones are forgotten.
const FINISHED_BYTES_MAX: usize = 32 << 20;
const FINISHED_MAX: usize = 256;

/// What a shell says when it cannot start a command.
const CANNOT_RUN: i32 = 126;

#[derive(Default)]
pub struct Jobs {
    running: BTreeMap<u32, Job>,
    /// Their input is not whole yet.
    waiting: BTreeMap<u32, (Exec, File)>,
    finished: VecDeque<(u32, Record)>,
    /// A supervisor was killed from inside, and its processes fork faster than they can be stopped.
    strays: bool,
}

struct Job {
    supervisor: Pid,
    /// Closed when the tree is gone.
    status: Option<File>,
    streams: [Option<File>; 2],
    record: Record,
    background: bool,
    started: Instant,
    deadline: Option<Instant>,
    memory_kills_before: u64,
    /// The tree is to be killed, and the command to end like this.
    killing: Option<WireExit>,
}

/// What a command has said, and how it ended.
struct Record {
    captures: [Capture; 2],
    end: Option<(WireExit, Duration)>,
}

impl Jobs {
    pub fn exec(
        &mut self,
        call: u32,
        mut exec: Exec,
        counters: &Counters,
        outbox: &mut Outbox,
    ) -> Result<(), String> {
        if exec.writable_only.is_some() {
            guest_confine::possible()?;
        }
        let bytes = std::mem::take(&mut exec.stdin);
        if bytes.is_empty() && !exec.stdin_more {
            self.start(call, &exec, None, counters, outbox);
            return Ok(());
        }
        if self.waiting.len() >= JOBS_MAX {
            return Err(format!("more than {JOBS_MAX} commands at a time"));
        }
        // Not a pipe: a file needs nobody to go on writing, and holds up neither the agent nor the
        // command.
        let file = sys::memory_file(c"stdin").map_err(|error| format!("no input file: {error}"))?;
        let more = exec.stdin_more;
        self.waiting.insert(call, (exec, file));
        self.stdin(call, &bytes, more, counters, outbox)
    }

    pub fn stdin(
        &mut self,
        call: u32,
        bytes: &[u8],
        more: bool,
        counters: &Counters,
        outbox: &mut Outbox,
    ) -> Result<(), String> {
        let Some((_, file)) = self.waiting.get_mut(&call) else { return Ok(()) };
        let written =
            file.write_all(bytes).and_then(|()| if more { Ok(()) } else { file.rewind() });
        if more && written.is_ok() {
            return Ok(());
        }
        let Some((exec, file)) = self.waiting.remove(&call) else { return Ok(()) };
        written.map_err(|error| format!("cannot keep the command's input: {error}"))?;
        self.start(call, &exec, Some(file), counters, outbox);
        Ok(())
    }

    fn start(
        &mut self,
        call: u32,
        exec: &Exec,
        stdin: Option<File>,
        counters: &Counters,
        outbox: &mut Outbox,
    ) {
        let output_max = (exec.output_bytes_max as usize).min(OUTPUT_BYTES_MAX);
        let mut record =
            Record { captures: [Capture::new(output_max), Capture::new(output_max)], end: None };
        let started = Instant::now();
        let result = if self.running.len() < JOBS_MAX {
            guest_command::start(exec, stdin).map_err(|error| error.to_string())
        } else {
            Err(format!("more than {JOBS_MAX} commands at a time"))
        };
        if exec.background {
            outbox.send(call, &Reply::Done);
        }
        match result {
            Ok(process) => {
                let job = Job {
                    supervisor: process.supervisor,
                    status: Some(process.status),
                    streams: [Some(process.stdout), Some(process.stderr)],
                    record,
                    background: exec.background,
                    started,
                    deadline: started.checked_add(Duration::from_millis(exec.time_limit_ms)),
                    memory_kills_before: counters.memory_kills(),
                    killing: None,
                };
                self.running.insert(call, job);
            }
            Err(message) => {
                record.captures[1].push(format!("cannot start a process: {message}\n").as_bytes());
                record.end = Some((WireExit::Code(CANNOT_RUN), started.elapsed()));
                if exec.background {
                    self.keep(call, record);
                } else {
                    record.send(call, outbox);
                }
            }
        }
    }

    pub fn poll(&self, call: u32, exec: u32, outbox: &mut Outbox) -> Result<(), String> {
        let running = self.running.get(&exec).filter(|job| job.background).map(|job| &job.record);
        let finished = || self.finished.iter().find(|(known, _)| *known == exec);
        let record = running.or_else(|| finished().map(|(_, record)| record));
        record.ok_or("no such background command, or one long over")?.send(call, outbox);
        Ok(())
    }

    /// A command that is unknown or over is fine: then nothing is left to be killed.
    pub fn kill(&mut self, call: u32, counters: &Counters, outbox: &mut Outbox) {
        self.waiting.remove(&call);
        if let Some(job) = self.running.get_mut(&call) {
            job.killing.get_or_insert(WireExit::Signal(sys::SIGKILL));
            job.continue_killing(call, counters, outbox);
        }
    }

    /// Everything that can be read from, in the order in which [`Jobs::advance`] wants to know what
    /// is readable.
    pub fn pipes(&self) -> impl Iterator<Item = &File> {
        self.running.values().flat_map(|job| job.streams.iter().flatten().chain(&job.status))
    }

    /// When to call [`Jobs::advance`] at the latest.
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.strays || self.running.values().any(|job| job.killing.is_some()) {
            return Some(Instant::now());
        }
        self.running.values().filter_map(|job| job.deadline).min()
    }

    pub fn advance(&mut self, readable: &[bool], counters: &Counters, outbox: &mut Outbox) {
        let mut readable = readable.iter().copied();
        let now = Instant::now();
        let mut gone = Vec::new();
        for (call, job) in &mut self.running {
            self.strays |= job.read(*call, &mut readable, counters, outbox);
            if job.deadline.is_some_and(|deadline| deadline <= now) {
                job.deadline = None;
                job.killing.get_or_insert(WireExit::TimedOut);
            }
            job.continue_killing(*call, counters, outbox);
            if job.status.is_none() {
                gone.push(*call);
            }
        }
        for call in gone {
            if let Some(job) = self.running.remove(&call)
                && job.background
            {
                self.keep(call, job.record);
            }
        }
        if self.strays {
            let supervisors: Vec<Pid> = self.running.values().map(|job| job.supervisor).collect();
            self.strays = !guest_tree::kill_strays(&supervisors);
        }
    }

    fn keep(&mut self, call: u32, record: Record) {
        self.finished.push_back((call, record));
        let bytes =
            |jobs: &Self| jobs.finished.iter().map(|(_, record)| record.len()).sum::<usize>();
        while self.finished.len() > FINISHED_MAX || bytes(self) > FINISHED_BYTES_MAX {
            self.finished.pop_front();
        }
    }
}

impl Job {
    /// True when its supervisor was killed from inside.
    fn read(
        &mut self,
        call: u32,
        readable: &mut impl Iterator<Item = bool>,
        counters: &Counters,
        outbox: &mut Outbox,
    ) -> bool {
        for number in 0..2 {
            if self.streams[number].is_some() && readable.next() == Some(true) {
                self.read_stream(number);
            }
        }
        if self.status.is_none() || readable.next() != Some(true) {
            return false;
        }
        let mut raw = [0; 4];
        match self.status.as_mut().map(|status| status.read(&mut raw)) {
            Some(Ok(4)) => {
                self.finish(call, exit_of(i32::from_le_bytes(raw)), counters, outbox);
                false
            }
            Some(Err(error)) if super::is_later(&error) => false,
            _ => {
                self.status = None;
                let unexpected = self.record.end.is_none();
                self.finish(call, WireExit::Signal(sys::SIGKILL), counters, outbox);
                unexpected
            }
        }
    }

    /// The number of bytes; 0 when there are none for now, or no more ever.
    fn read_stream(&mut self, number: usize) -> usize {
        let mut chunk = [0; 64 << 10];
        let Some(stream) = &mut self.streams[number] else { return 0 };
        match stream.read(&mut chunk) {
            Ok(count) if count > 0 => {
                if self.record.end.is_none() {
                    self.record.captures[number].push(chunk.get(..count).unwrap_or_default());
                }
                count
            }
            Err(error) if super::is_later(&error) => 0,
            _ => {
                self.streams[number] = None;
                0
            }
        }
    }

    /// A tree that cannot be killed at once is tried again in the next round.
    fn continue_killing(&mut self, call: u32, counters: &Counters, outbox: &mut Outbox) {
        let Some(exit) = self.killing else { return };
        // Once the tree is gone, its supervisor's number may be another process's.
        if self.status.is_none() || guest_tree::kill_tree(self.supervisor) {
            self.killing = None;
            self.finish(call, exit, counters, outbox);
        }
    }

    fn finish(&mut self, call: u32, exit: WireExit, counters: &Counters, outbox: &mut Outbox) {
        if self.record.end.is_some() {
            return;
        }
        for number in 0..2 {
            let mut read = 0;
            while read < PIPE_BYTES_MAX {
                match self.read_stream(number) {
                    0 => break,
                    count => read += count,
                }
            }
        }
        let failed = !matches!(exit, WireExit::Code(0) | WireExit::TimedOut);
        let starved = failed && counters.memory_kills() > self.memory_kills_before;
        let exit = if starved { WireExit::OutOfMemory } else { exit };
        self.deadline = None;
        self.record.end = Some((exit, self.started.elapsed()));
        if !self.background {
            self.record.send(call, outbox);
            self.record.captures = [Capture::new(0), Capture::new(0)];
        }
    }
}

impl Record {
    fn len(&self) -> usize {
        self.captures.iter().map(Capture::len).sum()
    }

    fn send(&self, call: u32, outbox: &mut Outbox) {
        let parts = [(Part::StdoutHead, Part::StdoutTail), (Part::StderrHead, Part::StderrTail)];
        let mut cut = [0; 2];
        for ((capture, parts), cut) in self.captures.iter().zip(parts).zip(&mut cut) {
            let (head, tail, cut_bytes) = capture.parts();
            *cut = cut_bytes;
            for (part, bytes) in [(parts.0, head), (parts.1, tail)] {
                for chunk in bytes.chunks(CHUNK_BYTES) {
                    outbox.send(call, &Reply::Output { part, bytes: chunk.to_vec() });
                }
            }
        }
        let reply = match self.end {
            None => Reply::Running { cut },
            Some((exit, elapsed)) => {
                let elapsed_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
                Reply::Exited { exit, elapsed_us, cut }
            }
        };
        outbox.send(call, &reply);
    }
}

/// From a raw wait status, as in `wait(2)`.
fn exit_of(raw: i32) -> WireExit {
    match raw & 0x7f {
        0 => WireExit::Code(raw >> 8 & 0xff),
        signal => WireExit::Signal(signal),
    }
}
