//! Seccomp: filters over system calls, and the calls that a filter hands to another process to be
//! carried out.

use std::ffi::{c_int, c_long, c_ulong};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _};

#[cfg(target_arch = "x86_64")]
const SYS_SECCOMP: c_long = 317;
#[cfg(target_arch = "aarch64")]
const SYS_SECCOMP: c_long = 277;

const SET_MODE_FILTER: c_long = 1;
const NEW_LISTENER: c_long = 1 << 3;
/// A call that is being carried out is not interrupted by signals, which would have it made again.
const WAIT_KILLABLE_RECV: c_long = 1 << 5;

const NOTIF_RECV: c_ulong = 0xc050_2100;
const NOTIF_SEND: c_ulong = 0xc018_2101;
const NOTIF_ID_VALID: c_ulong = 0x4008_2102;

unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
    fn ioctl(fd: c_int, request: c_ulong, ...) -> c_int;
}

/// A call that waits to be carried out: `struct seccomp_notif`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Call {
    id: u64,
    /// The calling thread.
    pub pid: u32,
    flags: u32,
    pub number: i32,
    arch: u32,
    instruction: u64,
    pub arguments: [u64; 6],
}

/// For this process and all that it starts, for ever. Each instruction of `program` is 8 bytes.
pub fn install(program: &[u8]) -> io::Result<()> {
    let (instructions, _) = program.as_chunks::<8>();
    let aligned: Vec<u64> = instructions.iter().map(|bytes| u64::from_ne_bytes(*bytes)).collect();
    set_filter(&aligned, 0).map(drop)
}

/// As [`install`], with a descriptor by which the calls arrive that the program hands over. Without
/// a process that holds it, those calls fail.
pub fn install_with_listener(program: &[u64]) -> io::Result<File> {
    let listener = set_filter(program, NEW_LISTENER | WAIT_KILLABLE_RECV)?;
    // SAFETY: the kernel just made this descriptor for us.
    Ok(unsafe { File::from_raw_fd(listener) })
}

fn set_filter(program: &[u64], flags: c_long) -> io::Result<c_int> {
    /// `struct sock_fprog`.
    #[repr(C)]
    struct Program {
        length: u16,
        instructions: *const u64,
    }
    let length = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = Program { length, instructions: program.as_ptr() };
    // SAFETY: `program` describes one aligned array; both outlive the call, and the kernel checks
    // the instructions.
    let result = unsafe { syscall(SYS_SECCOMP, SET_MODE_FILTER, flags, &raw const program) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as c_int) }
}

/// Waits for the next call. An error: there will be none any more.
pub fn next_call(listener: &File) -> io::Result<Call> {
    const ENOENT: i32 = 2; // its caller was killed meanwhile
    loop {
        let mut call = Call::default();
        // SAFETY: `call` has the layout that this request fills, is zero as it demands, and
        // outlives the call.
        if unsafe { ioctl(listener.as_raw_fd(), NOTIF_RECV, &raw mut call) } == 0 {
            return Ok(call);
        }
        let error = io::Error::last_os_error();
        let again = error.kind() == io::ErrorKind::Interrupted;
        if !again && error.raw_os_error() != Some(ENOENT) {
            return Err(error);
        }
    }
}

/// That the caller still waits. What was opened by its process number before is then its own.
pub fn still_waits(listener: &File, call: &Call) -> bool {
    // SAFETY: the request reads one number, which outlives the call.
    unsafe { ioctl(listener.as_raw_fd(), NOTIF_ID_VALID, &raw const call.id) == 0 }
}

/// Success, or the error number that the caller gets. A caller that is gone gets nothing.
pub fn answer(listener: &File, call: &Call, result: Result<(), i32>) {
    /// `struct seccomp_notif_resp`.
    #[repr(C)]
    struct Response {
        id: u64,
        value: i64,
        error: i32,
        flags: u32,
    }
    let error = result.err().unwrap_or(0);
    let response = Response { id: call.id, value: 0, error: -error, flags: 0 };
    // SAFETY: `response` has the layout that this request reads, and outlives the call.
    unsafe { ioctl(listener.as_raw_fd(), NOTIF_SEND, &raw const response) };
}
