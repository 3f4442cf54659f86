//! Descriptors on their way from one process of the agent's to another.

use std::ffi::c_int;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd as _};

unsafe extern "C" {
    fn socketpair(domain: c_int, kind: c_int, protocol: c_int, fds: *mut c_int) -> c_int;
    fn sendmsg(fd: c_int, message: *const Message, flags: c_int) -> isize;
    fn recvmsg(fd: c_int, message: *mut Message, flags: c_int) -> isize;
}

fn own(fd: c_int) -> File {
    // SAFETY: only called with what the kernel just made for us.
    unsafe { File::from_raw_fd(fd) }
}

/// `struct msghdr`, for one byte and the descriptors that go with it.
#[repr(C)]
struct Message {
    name: *const u8,
    name_bytes: u32,
    parts: *const Part,
    part_count: usize,
    control: *mut Control,
    control_bytes: usize,
    flags: c_int,
}

/// `struct iovec`.
#[repr(C)]
struct Part {
    bytes: *mut u8,
    count: usize,
}

/// `struct cmsghdr` and two descriptors.
#[repr(C)]
#[derive(Default)]
struct Control {
    bytes: usize,
    level: c_int,
    kind: c_int,
    fds: [c_int; 2],
}

const SOL_SOCKET: c_int = 1;
const SCM_RIGHTS: c_int = 1;

/// Two ends between which descriptors can be passed, both closed on exec.
pub fn pair() -> io::Result<(File, File)> {
    const AF_UNIX: c_int = 1;
    const SOCK_STREAM_CLOEXEC: c_int = 1 | 0o2_000_000;
    let mut fds = [-1; 2];
    // SAFETY: `fds` has room for the two descriptors.
    if unsafe { socketpair(AF_UNIX, SOCK_STREAM_CLOEXEC, 0, fds.as_mut_ptr()) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((own(fds[0]), own(fds[1])))
}

pub fn send(channel: &File, files: [&File; 2]) -> io::Result<()> {
    const MSG_NOSIGNAL: c_int = 0x4000;
    let fds = files.map(AsRawFd::as_raw_fd);
    let bytes = size_of::<Control>();
    let mut control = Control { bytes, level: SOL_SOCKET, kind: SCM_RIGHTS, fds };
    let mut byte = 0;
    let part = Part { bytes: &raw mut byte, count: 1 };
    let message = message(&part, &mut control);
    // SAFETY: `message` points to one byte and one control message, which outlive the call.
    let sent = unsafe { sendmsg(channel.as_raw_fd(), &raw const message, MSG_NOSIGNAL) };
    if sent == 1 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Waits for what [`send`] sends. An error when the other end was closed before.
pub fn receive(channel: &File) -> io::Result<[File; 2]> {
    const MSG_CMSG_CLOEXEC: c_int = 0x4000_0000;
    let mut control = Control::default();
    let mut byte = 0;
    let part = Part { bytes: &raw mut byte, count: 1 };
    let mut message = message(&part, &mut control);
    // SAFETY: `message` points to room for one byte and one control message, which outlive the
    // call.
    let received = unsafe { recvmsg(channel.as_raw_fd(), &raw mut message, MSG_CMSG_CLOEXEC) };
    if received < 0 {
        return Err(io::Error::last_os_error());
    }
    let whole = (control.bytes, control.level, control.kind);
    if received == 0 || whole != (size_of::<Control>(), SOL_SOCKET, SCM_RIGHTS) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(control.fds.map(own))
}

fn message(part: &Part, control: &mut Control) -> Message {
    Message {
        name: std::ptr::null(),
        name_bytes: 0,
        parts: part,
        part_count: 1,
        control,
        control_bytes: size_of::<Control>(),
        flags: 0,
    }
}
