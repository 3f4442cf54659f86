//! The system calls that make a sandbox: namespaces, mounts, the loopback device. Used only as
//! `init`.

use std::ffi::{CString, c_char, c_int, c_long, c_ulong, c_void};
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

const CLONE_NEWNS: c_int = 0x0002_0000;
const CLONE_NEWCGROUP: c_int = 0x0200_0000;
const CLONE_NEWUTS: c_int = 0x0400_0000;
const CLONE_NEWIPC: c_int = 0x0800_0000;
const CLONE_NEWUSER: c_int = 0x1000_0000;
const CLONE_NEWPID: c_int = 0x2000_0000;
const CLONE_NEWNET: c_int = 0x4000_0000;

pub const READ_ONLY: u64 = 1;
pub const NOSUID: u64 = 2;
pub const NODEV: u64 = 4;
pub const NOEXEC: u64 = 8;
pub const REMOUNT: u64 = 32;
pub const BIND: u64 = 4096;
const RECURSIVE: u64 = 16384;
const PRIVATE: u64 = 1 << 18;

#[cfg(target_arch = "x86_64")]
mod arch {
    pub const SYS_PIVOT_ROOT: i64 = 155;
}
#[cfg(target_arch = "aarch64")]
mod arch {
    pub const SYS_PIVOT_ROOT: i64 = 41;
}

unsafe extern "C" {
    #[link_name = "unshare"]
    safe fn c_unshare(flags: c_int) -> c_int;
    #[link_name = "mount"]
    fn c_mount(
        source: *const c_char,
        target: *const c_char,
        kind: *const c_char,
        flags: c_ulong,
        options: *const c_void,
    ) -> c_int;
    fn umount2(target: *const c_char, flags: c_int) -> c_int;
    fn mknod(path: *const c_char, mode: u32, device: u64) -> c_int;
    fn sethostname(name: *const c_char, length: usize) -> c_int;
    fn setrlimit(resource: c_int, limit: *const [u64; 2]) -> c_int;
    safe fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int;
    fn ioctl(fd: c_int, request: c_ulong, ...) -> c_int;
    fn syscall(number: c_long, ...) -> c_long;
}

fn check(result: c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Own mounts, processes, IPC, host name and control groups; a new process namespace begins with
/// the next fork.
pub fn unshare(user: bool, network: bool) -> io::Result<()> {
    let mut flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP;
    if user {
        flags |= CLONE_NEWUSER;
    }
    if network {
        flags |= CLONE_NEWNET;
    }
    check(c_unshare(flags).into())
}

/// Nothing that is mounted from now on is seen outside.
pub fn make_mounts_private() -> io::Result<()> {
    mount("", "/", "", RECURSIVE | PRIVATE, "")
}

pub fn mount(source: &str, target: &str, kind: &str, flags: u64, options: &str) -> io::Result<()> {
    let texts = [source, target, kind, options].map(CString::new);
    let [Ok(source), Ok(target), Ok(kind), Ok(options)] = texts else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let options = options.as_ptr().cast();
    // SAFETY: every text ends with a zero byte and outlives the call.
    let result =
        unsafe { c_mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, options) };
    check(result.into())
}

/// `root`, a mount point, becomes `/`; the old root and all that is mounted below it are gone.
pub fn pivot_to(root: &str) -> io::Result<()> {
    const MNT_DETACH: c_int = 2;
    std::env::set_current_dir(root)?;
    // SAFETY: both texts end with a zero byte.
    unsafe {
        check(syscall(arch::SYS_PIVOT_ROOT as c_long, c".".as_ptr(), c".".as_ptr()))?;
        check(umount2(c".".as_ptr(), MNT_DETACH).into())?;
    }
    std::env::set_current_dir("/")
}

/// A character device with number 0:0, which anybody may make.
pub fn make_whiteout(path: &str) -> io::Result<()> {
    const CHARACTER_DEVICE: u32 = 0o020_000;
    let path = CString::new(path)?;
    // SAFETY: the text ends with a zero byte.
    check(unsafe { mknod(path.as_ptr(), CHARACTER_DEVICE, 0) }.into())
}

pub fn set_hostname(name: &str) -> io::Result<()> {
    // SAFETY: pointer and length are those of one text.
    check(unsafe { sethostname(name.as_ptr().cast(), name.len()) }.into())
}

/// A core pattern that is a pipe would start a program of the host's, outside.
pub fn forbid_core_dumps() -> io::Result<()> {
    const RLIMIT_CORE: c_int = 4;
    // SAFETY: the array has the layout of `struct rlimit`, and outlives the call.
    check(unsafe { setrlimit(RLIMIT_CORE, &[0, 0]) }.into())
}

pub fn loopback_up() -> io::Result<()> {
    const AF_INET: c_int = 2;
    const SOCK_DGRAM_CLOEXEC: c_int = 2 | 0o2_000_000;
    const SIOCSIFFLAGS: c_ulong = 0x8914;
    const IFF_UP: u16 = 1;
    /// `struct ifreq`, its union used for flags.
    #[repr(C)]
    struct Request {
        name: [u8; 16],
        flags: u16,
        rest: [u8; 22],
    }
    let mut request = Request { name: [0; 16], flags: IFF_UP, rest: [0; 22] };
    request.name[..2].copy_from_slice(b"lo");
    let socket = socket(AF_INET, SOCK_DGRAM_CLOEXEC, 0);
    check(socket.into())?;
    // SAFETY: the kernel just made this descriptor for us.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    // SAFETY: `request` has the layout that this request takes, and outlives the call.
    check(unsafe { ioctl(socket.as_raw_fd(), SIOCSIFFLAGS, &request) }.into())
}
