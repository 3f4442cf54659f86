//! The system calls of the guest agent that the standard library does not offer, behind safe
//! functions.
//!
//! Linux only, x86-64 and 64-bit Arm. The agent links no crate, so the few C functions are declared
//! here.

use std::ffi::{CStr, CString, c_char, c_int, c_long, c_ulong};
use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

pub type Pid = c_int;

pub const SIGKILL: c_int = 9;
pub const SIGSTOP: c_int = 19;
const SIGCHLD: c_int = 17;
const SIGNALS: c_int = 64;

pub const O_CREAT: c_int = 0o100;
pub const O_EXCL: c_int = 0o200;
pub const O_WRONLY: c_int = 1;
pub const O_NONBLOCK: c_int = 0o4000;
#[cfg(target_arch = "x86_64")]
mod arch {
    pub const O_DIRECTORY: i32 = 0o200_000;
    pub const O_NOFOLLOW: i32 = 0o400_000;
    pub const SYS_CAPSET: i64 = 126;
    pub const SYS_RT_SIGACTION: i64 = 13;
}
#[cfg(target_arch = "aarch64")]
mod arch {
    pub const O_DIRECTORY: i32 = 0o40_000;
    pub const O_NOFOLLOW: i32 = 0o100_000;
    pub const SYS_CAPSET: i64 = 91;
    pub const SYS_RT_SIGACTION: i64 = 134;
}
pub use arch::{O_DIRECTORY, O_NOFOLLOW};
const O_CLOEXEC: c_int = 0o2_000_000;
const SYS_CLOSE_RANGE: c_long = 436;
const O_PATH: c_int = 0o10_000_000;
const AT_FDCWD: c_int = -100;
const AT_REMOVEDIR: c_int = 0x200;
const AT_EMPTY_PATH: c_int = 0x1000;

pub const POLLIN: i16 = 1;
pub const POLLOUT: i16 = 4;

/// CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID: what package managers and test suites
/// need.
const KEPT_CAPABILITIES: u64 = 1 << 0 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7;

#[repr(C)]
#[derive(Clone, Copy)]
pub struct PollFd {
    fd: c_int,
    events: i16,
    pub revents: i16,
}

impl PollFd {
    pub fn new(fd: &impl AsRawFd, events: i16) -> Self {
        Self { fd: fd.as_raw_fd(), events, revents: 0 }
    }
}

#[repr(C)]
struct SignalSet([u64; 16]);

unsafe extern "C" {
    safe fn fork() -> Pid;
    fn waitpid(pid: Pid, status: *mut c_int, options: c_int) -> Pid;
    safe fn setsid() -> Pid;
    fn poll(fds: *mut PollFd, count: c_ulong, timeout_ms: c_int) -> c_int;
    fn pipe2(fds: *mut c_int, flags: c_int) -> c_int;
    safe fn dup2(from: c_int, to: c_int) -> c_int;
    fn fcntl(fd: c_int, command: c_int, ...) -> c_int;
    fn prctl(option: c_int, ...) -> c_int;
    fn signalfd(fd: c_int, mask: *const SignalSet, flags: c_int) -> c_int;
    fn sigprocmask(how: c_int, set: *const SignalSet, old: *mut SignalSet) -> c_int;
    fn setgroups(count: usize, groups: *const u32) -> c_int;
    safe fn setresgid(real: u32, effective: u32, saved: u32) -> c_int;
    safe fn setresuid(real: u32, effective: u32, saved: u32) -> c_int;
    fn execve(path: *const c_char, argv: *const *const c_char, env: *const *const c_char) -> c_int;
    fn openat(dir: c_int, path: *const c_char, flags: c_int, ...) -> c_int;
    fn mkdirat(dir: c_int, path: *const c_char, mode: u32) -> c_int;
    fn unlinkat(dir: c_int, path: *const c_char, flags: c_int) -> c_int;
    fn chmod(path: *const c_char, mode: u32) -> c_int;
    fn fchownat(dir: c_int, path: *const c_char, uid: u32, gid: u32, flags: c_int) -> c_int;
    fn utimensat(dir: c_int, path: *const c_char, times: *const i64, flags: c_int) -> c_int;
    fn memfd_create(name: *const c_char, flags: u32) -> c_int;
    fn syscall(number: c_long, ...) -> c_long;
    #[link_name = "umask"]
    safe fn c_umask(mask: u32) -> u32;
    #[link_name = "kill"]
    safe fn c_kill(pid: Pid, signal: c_int) -> c_int;
    #[link_name = "_exit"]
    safe fn c_exit(code: c_int) -> !;
}

fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn own(fd: c_int) -> io::Result<File> {
    // SAFETY: the kernel just made this descriptor for us.
    check(fd).map(|fd| unsafe { File::from(OwnedFd::from_raw_fd(fd)) })
}

pub enum Fork {
    Parent(Pid),
    Child,
}

/// The agent has one thread, so the child may allocate and do whatever else it likes.
pub fn split() -> io::Result<Fork> {
    match check(fork())? {
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(pid)),
    }
}

/// Ends a forked child without running what its parent registered for its own exit.
pub fn exit(code: i32) -> ! {
    c_exit(code)
}

/// A child that ended and its raw wait status. `None`: no child at all, or with `block` false, none
/// that ended.
pub fn wait_any(block: bool) -> Option<(Pid, i32)> {
    let mut status = 0;
    loop {
        // SAFETY: `status` outlives the call.
        match unsafe { waitpid(-1, &mut status, c_int::from(!block)) } {
            pid if pid > 0 => return Some((pid, status)),
            0 => return None,
            _ if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
            _ => return None,
        }
    }
}

pub fn kill(pid: Pid, signal: c_int) -> io::Result<()> {
    check(c_kill(pid, signal)).map(drop)
}

/// Waits for one of `fds`, for `timeout_ms` at most (-1: for ever). An interruption counts as a
/// time-out.
pub fn poll_any(fds: &mut [PollFd], timeout_ms: i32) {
    // SAFETY: pointer and length are those of one slice.
    if unsafe { poll(fds.as_mut_ptr(), fds.len() as c_ulong, timeout_ms) } < 0 {
        fds.iter_mut().for_each(|fd| fd.revents = 0);
    }
}

/// The reading and the writing end, both closed on exec.
pub fn pipe() -> io::Result<(File, File)> {
    let mut fds = [-1; 2];
    // SAFETY: `fds` has room for the two descriptors.
    check(unsafe { pipe2(fds.as_mut_ptr(), O_CLOEXEC) })?;
    Ok((own(fds[0])?, own(fds[1])?))
}

pub fn set_nonblocking(fd: RawFd) -> io::Result<()> {
    const F_GETFL: c_int = 3;
    const F_SETFL: c_int = 4;
    // SAFETY: takes and gives plain integers.
    unsafe {
        let flags = check(fcntl(fd, F_GETFL))?;
        check(fcntl(fd, F_SETFL, flags | O_NONBLOCK)).map(drop)
    }
}

/// Keeps what the agent has inherited, its own channel first of all, from the commands.
pub fn close_all_on_exec() -> io::Result<()> {
    const CLOSE_RANGE_CLOEXEC: c_long = 4;
    // SAFETY: takes and gives plain integers.
    let result = unsafe {
        syscall(SYS_CLOSE_RANGE, 0 as c_long, c_long::from(u32::MAX), CLOSE_RANGE_CLOEXEC)
    };
    check(result as c_int).map(drop)
}

/// Makes `from` the descriptor number `to`, inherited on exec.
pub fn put_at(from: &impl AsRawFd, to: c_int) -> io::Result<()> {
    check(dup2(from.as_raw_fd(), to)).map(drop)
}

/// Closes every descriptor; owners of them must not run any more.
pub fn close_all() {
    // SAFETY: takes plain integers.
    unsafe { syscall(SYS_CLOSE_RANGE, 0 as c_long, c_long::from(u32::MAX), 0 as c_long) };
}

/// Closes every descriptor but `kept`; owners of the others must not run any more.
pub fn close_all_but(kept: &[&File]) {
    let mut kept: Vec<c_long> = kept.iter().map(|file| c_long::from(file.as_raw_fd())).collect();
    kept.sort_unstable();
    kept.push(c_long::from(u32::MAX) + 1);
    let mut first = 0;
    for next in kept {
        if first < next {
            // SAFETY: takes plain integers.
            unsafe { syscall(SYS_CLOSE_RANGE, first, next - 1, 0 as c_long) };
        }
        first = next + 1;
    }
}

/// Only a handle on it, for use as a name.
pub fn open_folder(path: &str) -> io::Result<File> {
    open_path(AT_FDCWD, &CString::new(path)?, O_DIRECTORY)
}

/// As [`open_folder`], of what is no link to a folder.
pub fn open_folder_itself(path: &str) -> io::Result<File> {
    open_path(AT_FDCWD, &CString::new(path)?, O_DIRECTORY | O_NOFOLLOW)
}

/// A handle on whatever it is, for use as a name.
pub fn open_name(path: &str) -> io::Result<File> {
    open_path(AT_FDCWD, &CString::new(path)?, 0)
}

/// As [`open_name`], in a folder; unless `follow`, a last component that is a link is meant itself.
pub fn open_name_in(dir: Option<&File>, path: &CStr, follow: bool) -> io::Result<File> {
    let flags = if follow { 0 } else { O_NOFOLLOW };
    open_path(dir.map_or(AT_FDCWD, AsRawFd::as_raw_fd), path, flags)
}

fn open_path(dir: c_int, path: &CStr, flags: c_int) -> io::Result<File> {
    // SAFETY: `path` ends with a zero byte.
    own(unsafe { openat(dir, path.as_ptr(), O_PATH | O_CLOEXEC | flags) })
}

/// Of what a handle names.
pub fn set_mode(object: &File, mode: u32) -> io::Result<()> {
    let path = CString::new(format!("/proc/self/fd/{}", object.as_raw_fd()))?;
    // SAFETY: `path` ends with a zero byte.
    check(unsafe { chmod(path.as_ptr(), mode) }).map(drop)
}

/// Of what a handle names.
pub fn set_owner(object: &File, uid: u32, gid: u32) -> io::Result<()> {
    // SAFETY: the path ends with a zero byte.
    let result = unsafe { fchownat(object.as_raw_fd(), c"".as_ptr(), uid, gid, AT_EMPTY_PATH) };
    check(result).map(drop)
}

/// Access and modification, each in seconds and nanoseconds.
pub type Times = [i64; 4];

/// Of what a handle names; `None` is now.
pub fn set_times(object: &File, times: Option<&Times>) -> io::Result<()> {
    let times = times.map_or(std::ptr::null(), |times| times.as_ptr());
    // SAFETY: the path ends with a zero byte; `times` is null or has the layout of two `timespec`s.
    let result = unsafe { utimensat(object.as_raw_fd(), c"".as_ptr(), times, AT_EMPTY_PATH) };
    check(result).map(drop)
}

/// A file without a name, for the input of a command.
pub fn memory_file(name: &CStr) -> io::Result<File> {
    // SAFETY: `name` ends with a zero byte; 1 is MFD_CLOEXEC.
    own(unsafe { memfd_create(name.as_ptr(), 1) })
}

/// Opens `name` in the folder `dir`. A last component that is a link is never followed.
pub fn open_in(dir: &impl AsRawFd, name: &str, flags: c_int, mode: u32) -> io::Result<File> {
    let name = CString::new(name)?;
    let flags = flags | O_CLOEXEC | O_NOFOLLOW;
    // SAFETY: `name` ends with a zero byte.
    own(unsafe { openat(dir.as_raw_fd(), name.as_ptr(), flags, mode) })
}

/// Opens the folder `name` in the folder `dir`, through a link too.
pub fn open_folder_in(dir: &impl AsRawFd, name: &str) -> io::Result<File> {
    let name = CString::new(name)?;
    // SAFETY: `name` ends with a zero byte.
    own(unsafe { openat(dir.as_raw_fd(), name.as_ptr(), O_DIRECTORY | O_CLOEXEC) })
}

pub fn make_dir_in(dir: &impl AsRawFd, name: &str) -> io::Result<()> {
    let name = CString::new(name)?;
    // SAFETY: `name` ends with a zero byte.
    check(unsafe { mkdirat(dir.as_raw_fd(), name.as_ptr(), 0o755) }).map(drop)
}

/// Removes a file, or an empty folder when `folder`.
pub fn remove_in(dir: &impl AsRawFd, name: &str, folder: bool) -> io::Result<()> {
    let name = CString::new(name)?;
    let flags = if folder { AT_REMOVEDIR } else { 0 };
    // SAFETY: `name` ends with a zero byte.
    check(unsafe { unlinkat(dir.as_raw_fd(), name.as_ptr(), flags) }).map(drop)
}

pub fn umask(mask: u32) {
    c_umask(mask);
}

/// Ends of children arrive by this descriptor from now on.
pub fn child_signals() -> io::Result<File> {
    let mut set = SignalSet([0; 16]);
    set.0[0] = 1 << (SIGCHLD - 1);
    // SAFETY: `set` has the layout and size of the C library's `sigset_t`; 0 is SIG_BLOCK.
    unsafe {
        check(sigprocmask(0, &set, std::ptr::null_mut()))?;
        own(signalfd(-1, &set, O_CLOEXEC | O_NONBLOCK))
    }
}

pub enum Disposition {
    Default = 0,
    Ignore = 1,
}

/// Of every signal that has one, and nothing blocked any more.
pub fn set_signals(disposition: Disposition) {
    // The kernel's `struct sigaction`: handler, flags, on some machines a restorer, mask.
    let action = [disposition as u64, 0, 0, 0];
    for number in (1..=SIGNALS).filter(|number| *number != SIGCHLD) {
        // SAFETY: SIG_DFL and SIG_IGN run no code of ours; 8 is the size of a mask. Not by
        // `signal`, which refuses the two that the C library keeps for itself. SIGKILL and SIGSTOP
        // refuse.
        let (action, old) = (action.as_ptr(), std::ptr::null_mut::<u64>());
        unsafe { syscall(arch::SYS_RT_SIGACTION, c_long::from(number), action, old, 8 as c_ulong) };
    }
    let empty = SignalSet([0; 16]);
    // SAFETY: as in `child_signals`; 2 is SIG_SETMASK.
    unsafe { sigprocmask(2, &empty, std::ptr::null_mut()) };
}

fn process_control(option: c_int, argument: c_ulong) -> io::Result<c_int> {
    // SAFETY: every option used here takes and gives plain integers.
    check(unsafe { prctl(option, argument, 0 as c_ulong, 0 as c_ulong, 0 as c_ulong) })
}

/// No other process, not even one of root's, may look into this one or reach its descriptors
/// through /proc.
pub fn hide_from_proc() -> io::Result<()> {
    process_control(4, 0).map(drop) // PR_SET_DUMPABLE
}

/// SIGKILL comes when the parent ends.
pub fn die_with_parent() -> io::Result<()> {
    process_control(1, SIGKILL as c_ulong).map(drop) // PR_SET_PDEATHSIG
}

pub fn adopt_orphans() -> io::Result<()> {
    process_control(36, 1).map(drop) // PR_SET_CHILD_SUBREAPER
}

/// By exec, for this process and all that it starts.
pub fn forbid_new_privileges() -> io::Result<()> {
    process_control(38, 1).map(drop) // PR_SET_NO_NEW_PRIVS
}

/// For this process and all that it starts: no more capabilities than those kept, and none gained
/// by exec.
pub fn drop_privileges() -> io::Result<()> {
    const PR_CAPBSET_READ: c_int = 23;
    const PR_CAPBSET_DROP: c_int = 24;
    forbid_new_privileges()?;
    for capability in (0..64).filter(|capability| KEPT_CAPABILITIES >> capability & 1 == 0) {
        match process_control(PR_CAPBSET_READ, capability) {
            Ok(0) => {}
            Ok(_) => drop(process_control(PR_CAPBSET_DROP, capability)?),
            Err(_) => break, // beyond this kernel's last capability
        }
    }
    limit_capabilities()
}

/// Effective and permitted become what is kept of them, inheritable becomes empty.
fn limit_capabilities() -> io::Result<()> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let permitted = status.lines().find_map(|line| line.strip_prefix("CapPrm:"));
    let permitted = permitted.and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
    let kept = (permitted.unwrap_or(0) & KEPT_CAPABILITIES) as u32;
    let header = [0x2008_0522_u32, 0]; // _LINUX_CAPABILITY_VERSION_3, this process
    let sets = [kept, kept, 0, 0, 0, 0]; // effective, permitted, inheritable: low words, high words
    // SAFETY: both arrays have the layout of the kernel's two structures of this version.
    let result = unsafe { syscall(arch::SYS_CAPSET as c_long, header.as_ptr(), sets.as_ptr()) };
    check(result as c_int).map(drop)
}

/// A session of its own, so that signals to its process group stay among its own processes.
pub fn own_session() {
    setsid();
}

pub fn become_user(uid: u32, gid: u32, groups: &[u32]) -> io::Result<()> {
    // SAFETY: pointer and length are those of one slice.
    check(unsafe { setgroups(groups.len(), groups.as_ptr()) })?;
    check(setresgid(gid, gid, gid))?;
    check(setresuid(uid, uid, uid)).map(drop)
}

/// Returns only with the reason why not.
pub fn exec(path: &CStr, argv: &[CString], env: &[CString]) -> io::Error {
    let pointers = |list: &[CString]| -> Vec<*const c_char> {
        list.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (argv, env) = (pointers(argv), pointers(env));
    // SAFETY: both arrays end with null, and the strings that they point to are borrowed until the
    // call returns.
    unsafe { execve(path.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// For what comes before the agent's frames; never closed.
pub fn standard_input() -> ManuallyDrop<File> {
    // SAFETY: it is open, and not closed by this handle.
    ManuallyDrop::new(unsafe { File::from_raw_fd(0) })
}

/// Standard input and output, which the agent speaks frames over and nothing else uses. To be
/// called once.
pub fn standard_io() -> (File, File) {
    // SAFETY: the standard library makes sure at start that both are open.
    unsafe { (File::from_raw_fd(0), File::from_raw_fd(1)) }
}
