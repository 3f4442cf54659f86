//! The frames between a host and the guest agent of a sandbox, over the agent's standard input and
//! output.
//!
//! A frame is `[u32 length][u8 kind][u32 call][payload]`, little-endian; the length counts what
//! follows it. The first frame is the guest's [`Reply::Hello`]. Then each [`Request`] names its
//! call with a number of the host's choosing, and every [`Reply`] carries the number of the call
//! that it belongs to.
//!
//! Compiled twice, into the library and into the agent, hence std-only. Decoding trusts nothing: a
//! length above [`FRAME_BYTES_MAX`] is refused before anything is allocated for it, and a payload
//! must be used up to its last byte.

use std::fmt;

/// Raised with every change of a frame.
pub const PROTOCOL_VERSION: u32 = 2;

/// Of the bytes after the length field. The largest frame is an `Exec` with a long script or
/// environment.
pub const FRAME_BYTES_MAX: usize = 1 << 20;

/// Bulk data is cut into pieces of this size, so that a small frame never waits long behind a large
/// transfer.
pub const CHUNK_BYTES: usize = 64 << 10;

/// Of one output stream of one command, whatever the host asks for.
pub const OUTPUT_BYTES_MAX: usize = 8 << 20;

const HEADER_BYTES: usize = 5;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Starts when all of its input is there. Foreground: answered by `Output`s and `Exited`.
    /// Background: `Done`.
    Exec(Box<Exec>),
    /// More input for an `Exec` of the same call.
    Stdin {
        bytes: Vec<u8>,
        more: bool,
    },
    /// Answered by `Output`s and `Running` or `Exited`.
    Poll {
        exec: u32,
    },
    /// Kills the process tree of an `Exec`, or ends a `Put` or `Get`.
    Cancel {
        call: u32,
    },
    /// A tar archive follows in `PutData`s and `PutEnd`, which is answered by `Done`.
    /// Unless `follow`, what is a link where the archive has a folder is replaced.
    Put {
        dir: String,
        follow: bool,
    },
    PutData {
        bytes: Vec<u8>,
    },
    PutEnd,
    /// Answered by `Data`s and `Done`, or `Absent`, or `TooLarge`, after some of it or none.
    Get {
        path: String,
        bytes_max: u64,
    },
    StopProcesses,
    Stats,
    Ping,
    Shutdown,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exec {
    pub argv: Vec<String>,
    pub cwd: String,
    pub env: Vec<(String, String)>,
    /// A name or `uid[:gid]`; empty is root.
    pub user: String,
    pub time_limit_ms: u64,
    pub output_bytes_max: u32,
    pub background: bool,
    /// The only folder that it may change; where the kernel cannot hold it to that, the answer is
    /// `Failed`.
    pub writable_only: Option<String>,
    pub stdin: Vec<u8>,
    pub stdin_more: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Hello {
        version: u32,
    },
    Done,
    /// The request was understood and could not be carried out.
    Failed {
        message: String,
    },
    Output {
        part: Part,
        bytes: Vec<u8>,
    },
    Running {
        cut: [u64; 2],
    },
    Exited {
        exit: WireExit,
        elapsed_us: u64,
        cut: [u64; 2],
    },
    Data {
        bytes: Vec<u8>,
    },
    Absent,
    TooLarge,
    Stats {
        memory_bytes: u64,
        pids: u32,
    },
}

/// Which part of a command's output; `cut` of [`Reply::Exited`] counts the bytes between head and
/// tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    StdoutHead,
    StdoutTail,
    StderrHead,
    StderrTail,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireExit {
    Code(i32),
    Signal(i32),
    TimedOut,
    OutOfMemory,
}

/// Bytes that are no frame. The connection they came over cannot be used any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    Length(u32),
    Kind(u8),
    /// A payload that is too short, too long, or holds a value out of range.
    Payload(u8),
}

impl std::error::Error for Malformed {}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(length) => {
                write!(f, "frame length {length}, expected {HEADER_BYTES} to {FRAME_BYTES_MAX}")
            }
            Self::Kind(kind) => write!(f, "unknown frame kind {kind}"),
            Self::Payload(kind) => write!(f, "malformed payload of a frame of kind {kind}"),
        }
    }
}

/// A message that travels in frames: a [`Request`] or a [`Reply`].
pub trait Message: Sized {
    fn kind(&self) -> u8;
    fn write(&self, out: &mut Writer);
    /// `None` where the payload is malformed.
    fn read(kind: u8, from: &mut Reader<'_>) -> Result<Option<Self>, Malformed>;
}

/// The whole frame. `None` when it would be longer than [`FRAME_BYTES_MAX`].
pub fn encode<M: Message>(call: u32, message: &M) -> Option<Vec<u8>> {
    let mut out = Writer(vec![0; 4]);
    out.u8(message.kind());
    out.u32(call);
    message.write(&mut out);
    let length = out.0.len() - 4;
    if length > FRAME_BYTES_MAX {
        return None;
    }
    out.0[..4].copy_from_slice(&(length as u32).to_le_bytes());
    Some(out.0)
}

/// How many bytes follow a length field.
pub fn body_length(field: [u8; 4]) -> Result<usize, Malformed> {
    let length = u32::from_le_bytes(field);
    match length as usize {
        HEADER_BYTES..=FRAME_BYTES_MAX => Ok(length as usize),
        _ => Err(Malformed::Length(length)),
    }
}

/// The call and the message in the bytes that follow a length field.
pub fn decode<M: Message>(body: &[u8]) -> Result<(u32, M), Malformed> {
    let mut from = Reader(body);
    let header = from.u8().zip(from.u32());
    let (kind, call) = header.ok_or(Malformed::Length(body.len() as u32))?;
    match M::read(kind, &mut from)? {
        Some(message) if from.0.is_empty() => Ok((call, message)),
        _ => Err(Malformed::Payload(kind)),
    }
}

impl Message for Request {
    fn kind(&self) -> u8 {
        match self {
            Self::Exec(_) => 1,
            Self::Stdin { .. } => 2,
            Self::Poll { .. } => 3,
            Self::Cancel { .. } => 4,
            Self::Put { .. } => 5,
            Self::PutData { .. } => 6,
            Self::PutEnd => 7,
            Self::Get { .. } => 8,
            Self::StopProcesses => 9,
            Self::Stats => 10,
            Self::Ping => 11,
            Self::Shutdown => 12,
        }
    }

    fn write(&self, out: &mut Writer) {
        match self {
            Self::Exec(exec) => exec.write(out),
            Self::Stdin { bytes, more } => {
                out.bool(*more);
                out.bytes(bytes);
            }
            Self::Poll { exec: call } | Self::Cancel { call } => out.u32(*call),
            Self::Put { dir, follow } => {
                out.bytes(dir.as_bytes());
                out.bool(*follow);
            }
            Self::PutData { bytes } => out.bytes(bytes),
            Self::Get { path, bytes_max } => {
                out.bytes(path.as_bytes());
                out.u64(*bytes_max);
            }
            Self::PutEnd | Self::StopProcesses | Self::Stats | Self::Ping | Self::Shutdown => {}
        }
    }

    fn read(kind: u8, from: &mut Reader<'_>) -> Result<Option<Self>, Malformed> {
        Ok(match kind {
            1 => Exec::read(from).map(|exec| Self::Exec(Box::new(exec))),
            2 => from.bool().zip(from.bytes()).map(|(more, bytes)| Self::Stdin { more, bytes }),
            3 => from.u32().map(|exec| Self::Poll { exec }),
            4 => from.u32().map(|call| Self::Cancel { call }),
            5 => from.string().zip(from.bool()).map(|(dir, follow)| Self::Put { dir, follow }),
            6 => from.bytes().map(|bytes| Self::PutData { bytes }),
            7 => Some(Self::PutEnd),
            8 => {
                from.string().zip(from.u64()).map(|(path, max)| Self::Get { path, bytes_max: max })
            }
            9 => Some(Self::StopProcesses),
            10 => Some(Self::Stats),
            11 => Some(Self::Ping),
            12 => Some(Self::Shutdown),
            _ => return Err(Malformed::Kind(kind)),
        })
    }
}

impl Exec {
    fn write(&self, out: &mut Writer) {
        out.list(&self.argv, |out, word| out.bytes(word.as_bytes()));
        out.bytes(self.cwd.as_bytes());
        out.list(&self.env, |out, (name, value)| {
            out.bytes(name.as_bytes());
            out.bytes(value.as_bytes());
        });
        out.bytes(self.user.as_bytes());
        out.u64(self.time_limit_ms);
        out.u32(self.output_bytes_max);
        out.bool(self.background);
        out.bool(self.writable_only.is_some());
        if let Some(folder) = &self.writable_only {
            out.bytes(folder.as_bytes());
        }
        out.bytes(&self.stdin);
        out.bool(self.stdin_more);
    }

    fn read(from: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            argv: from.list(Reader::string)?,
            cwd: from.string()?,
            env: from.list(|from| from.string().zip(from.string()))?,
            user: from.string()?,
            time_limit_ms: from.u64()?,
            output_bytes_max: from.u32()?,
            background: from.bool()?,
            writable_only: match from.bool()? {
                true => Some(from.string()?),
                false => None,
            },
            stdin: from.bytes()?,
            stdin_more: from.bool()?,
        })
    }
}

impl Message for Reply {
    fn kind(&self) -> u8 {
        match self {
            Self::Hello { .. } => 1,
            Self::Done => 2,
            Self::Failed { .. } => 3,
            Self::Output { .. } => 4,
            Self::Running { .. } => 5,
            Self::Exited { .. } => 6,
            Self::Data { .. } => 7,
            Self::Absent => 8,
            Self::Stats { .. } => 9,
            Self::TooLarge => 10,
        }
    }

    fn write(&self, out: &mut Writer) {
        match self {
            Self::Hello { version } => out.u32(*version),
            Self::Done | Self::Absent | Self::TooLarge => {}
            Self::Failed { message } => out.bytes(message.as_bytes()),
            Self::Output { part, bytes } => {
                out.u8(*part as u8);
                out.bytes(bytes);
            }
            Self::Running { cut } => cut.iter().for_each(|count| out.u64(*count)),
            Self::Exited { exit, elapsed_us, cut } => {
                let (tag, value) = match *exit {
                    WireExit::Code(code) => (0, code),
                    WireExit::Signal(signal) => (1, signal),
                    WireExit::TimedOut => (2, 0),
                    WireExit::OutOfMemory => (3, 0),
                };
                out.u8(tag);
                out.u32(value as u32);
                out.u64(*elapsed_us);
                cut.iter().for_each(|count| out.u64(*count));
            }
            Self::Data { bytes } => out.bytes(bytes),
            Self::Stats { memory_bytes, pids } => {
                out.u64(*memory_bytes);
                out.u32(*pids);
            }
        }
    }

    fn read(kind: u8, from: &mut Reader<'_>) -> Result<Option<Self>, Malformed> {
        Ok(match kind {
            1 => from.u32().map(|version| Self::Hello { version }),
            2 => Some(Self::Done),
            3 => from.string().map(|message| Self::Failed { message }),
            4 => from.part().zip(from.bytes()).map(|(part, bytes)| Self::Output { part, bytes }),
            5 => from.pair().map(|cut| Self::Running { cut }),
            6 => from.exited(),
            7 => from.bytes().map(|bytes| Self::Data { bytes }),
            8 => Some(Self::Absent),
            10 => Some(Self::TooLarge),
            9 => from
                .u64()
                .zip(from.u32())
                .map(|(memory_bytes, pids)| Self::Stats { memory_bytes, pids }),
            _ => return Err(Malformed::Kind(kind)),
        })
    }
}

/// A frame under construction.
pub struct Writer(Vec<u8>);

impl Writer {
    pub fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub fn bool(&mut self, value: bool) {
        self.u8(u8::from(value));
    }

    pub fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        self.u32(bytes.len() as u32);
        self.0.extend_from_slice(bytes);
    }

    pub fn list<T>(&mut self, items: &[T], write: impl Fn(&mut Self, &T)) {
        self.u32(items.len() as u32);
        items.iter().for_each(|item| write(self, item));
    }
}

/// The rest of a payload. Every method is `None` where the bytes are not there or out of range.
pub struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (value, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*value)
    }

    pub fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub fn bool(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub fn bytes(&mut self) -> Option<Vec<u8>> {
        let length = self.u32()? as usize;
        let (value, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(value.to_vec())
    }

    pub fn string(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?).ok()
    }

    /// Grows with the items that are really there, not by the count that a frame claims.
    pub fn list<T>(&mut self, read: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.u32()?;
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(read(self)?);
        }
        Some(items)
    }

    fn pair(&mut self) -> Option<[u64; 2]> {
        Some([self.u64()?, self.u64()?])
    }

    fn part(&mut self) -> Option<Part> {
        let parts = [Part::StdoutHead, Part::StdoutTail, Part::StderrHead, Part::StderrTail];
        parts.get(self.u8()? as usize).copied()
    }

    fn exited(&mut self) -> Option<Reply> {
        let (tag, value) = (self.u8()?, self.u32()? as i32);
        let exit = match (tag, value) {
            (0, code) => WireExit::Code(code),
            (1, signal) => WireExit::Signal(signal),
            (2, 0) => WireExit::TimedOut,
            (3, 0) => WireExit::OutOfMemory,
            _ => return None,
        };
        Some(Reply::Exited { exit, elapsed_us: self.u64()?, cut: self.pair()? })
    }
}
