//! Modes, owners and times, set for a confined command by its supervisor: beneath the command's
//! folder and nowhere else.
//!
//! The command's own calls stop in the filter of `guest_confine`. The supervisor, which has become
//! the command's user and is under no rules, opens what a call means, as its caller would; looks
//! where that is; and changes what it has opened. What a path means may change meanwhile, what is
//! open does not.

use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::FileExt as _;

use super::guest_seccomp::{self as seccomp, Call};
use super::guest_sys::{self as sys, Times};

const FCHMODAT2: u32 = 452;
#[cfg(target_arch = "x86_64")]
mod arch {
    pub const CHMOD: u32 = 90;
    pub const FCHMOD: u32 = 91;
    pub const CHOWN: u32 = 92;
    pub const FCHOWN: u32 = 93;
    pub const LCHOWN: u32 = 94;
    pub const FCHOWNAT: u32 = 260;
    pub const FCHMODAT: u32 = 268;
    pub const UTIMENSAT: u32 = 280;
}
#[cfg(target_arch = "aarch64")]
mod arch {
    pub const FCHMOD: u32 = 52;
    pub const FCHMODAT: u32 = 53;
    pub const FCHOWNAT: u32 = 54;
    pub const FCHOWN: u32 = 55;
    pub const UTIMENSAT: u32 = 88;
}
use arch::{FCHMOD, FCHMODAT, FCHOWN, FCHOWNAT, UTIMENSAT};

/// The calls that are carried out here.
pub const MEDIATED: &[u32] = &[
    FCHMOD,
    FCHMODAT,
    FCHMODAT2,
    FCHOWN,
    FCHOWNAT,
    UTIMENSAT,
    #[cfg(target_arch = "x86_64")]
    arch::CHMOD,
    #[cfg(target_arch = "x86_64")]
    arch::CHOWN,
    #[cfg(target_arch = "x86_64")]
    arch::LCHOWN,
];

const PATH_BYTES_MAX: usize = 4096;
const PAGE_BYTES: u64 = 4096;
const AT_FDCWD: i32 = -100;
const AT_SYMLINK_NOFOLLOW: u64 = 0x100;
const AT_EMPTY_PATH: u64 = 0x1000;

const EPERM: i32 = 1;
const ENOENT: i32 = 2;
const EBADF: i32 = 9;
const EFAULT: i32 = 14;
const EINVAL: i32 = 22;
const ENAMETOOLONG: i32 = 36;
const ENOSYS: i32 = 38;

/// A call's arguments by their meaning; addresses are the caller's.
struct Wanted {
    /// A descriptor of the caller's, or the one that means its working directory.
    at: i32,
    /// `None`: what the descriptor itself is.
    path: Option<u64>,
    flags: u64,
    change: Change,
}

enum Change {
    Mode(u32),
    Owner(u32, u32),
    /// The address of two times; 0 is now.
    Times(u64),
}

/// Until the last confined process is gone.
pub fn serve(listener: &File, folder: &File) {
    while let Ok(call) = seccomp::next_call(listener) {
        seccomp::answer(listener, &call, carry_out(listener, folder, &call));
    }
}

fn carry_out(listener: &File, folder: &File, call: &Call) -> Result<(), i32> {
    let wanted = wanted(call)?;
    let caller = Caller::open(listener, call, wanted.at)?;
    let object = caller.object(&wanted)?;
    let times = match wanted.change {
        Change::Times(address) if address != 0 => Some(caller.times(address)?),
        _ => None,
    };
    if !is_beneath(&object, folder) {
        return Err(EPERM);
    }
    match wanted.change {
        Change::Mode(mode) => sys::set_mode(&object, mode),
        Change::Owner(uid, gid) => sys::set_owner(&object, uid, gid),
        Change::Times(_) => sys::set_times(&object, times.as_ref()),
    }
    .map_err(|error| error.raw_os_error().unwrap_or(EPERM))
}

fn wanted(call: &Call) -> Result<Wanted, i32> {
    let [a, b, c, d, e, _] = call.arguments;
    let itself = |change| Wanted { at: a as i32, path: None, flags: 0, change };
    let at = |flags, change| Wanted { at: a as i32, path: Some(b), flags, change };
    let here = |flags, change| Wanted { at: AT_FDCWD, path: Some(a), flags, change };
    let wanted = match call.number as u32 {
        FCHMOD => itself(Change::Mode(b as u32)),
        FCHMODAT => at(0, Change::Mode(c as u32)),
        FCHMODAT2 => at(d, Change::Mode(c as u32)),
        FCHOWN => itself(Change::Owner(b as u32, c as u32)),
        FCHOWNAT => at(e, Change::Owner(c as u32, d as u32)),
        UTIMENSAT if b == 0 => itself(Change::Times(c)),
        UTIMENSAT => at(d, Change::Times(c)),
        #[cfg(target_arch = "x86_64")]
        arch::CHMOD => here(0, Change::Mode(b as u32)),
        #[cfg(target_arch = "x86_64")]
        arch::CHOWN => here(0, Change::Owner(b as u32, c as u32)),
        #[cfg(target_arch = "x86_64")]
        arch::LCHOWN => here(AT_SYMLINK_NOFOLLOW, Change::Owner(b as u32, c as u32)),
        _ => return Err(ENOSYS),
    };
    if wanted.flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(EINVAL);
    }
    Ok(wanted)
}

/// The process of a call, as `/proc` shows it.
struct Caller {
    pid: u32,
    memory: File,
    /// What the call's descriptor means; `None` where it means nothing.
    base: Option<File>,
}

impl Caller {
    fn open(listener: &File, call: &Call, at: i32) -> Result<Self, i32> {
        let pid = call.pid;
        let memory = File::open(format!("/proc/{pid}/mem")).map_err(|_| EPERM)?;
        let base = match at {
            AT_FDCWD => format!("/proc/{pid}/cwd"),
            _ => format!("/proc/{pid}/fd/{at}"),
        };
        let base = sys::open_name(&base).ok();
        // A number is another process's as soon as its own is gone.
        if seccomp::still_waits(listener, call) {
            Ok(Self { pid, memory, base })
        } else {
            Err(EPERM)
        }
    }

    /// A handle on what the call means, for use as a name.
    fn object(&self, wanted: &Wanted) -> Result<File, i32> {
        let path = wanted.path.map(|address| self.text(address)).transpose()?;
        let itself = || self.base.as_ref().ok_or(EBADF)?.try_clone().map_err(|_| EPERM);
        let path = match path {
            None => return itself(),
            Some(path) if path.is_empty() && wanted.flags & AT_EMPTY_PATH != 0 => return itself(),
            Some(path) if path.is_empty() => return Err(ENOENT),
            Some(path) => self.own_names(path),
        };
        let base = match &self.base {
            Some(base) => Some(base),
            None if path.starts_with(b"/") => None,
            None => return Err(EBADF),
        };
        let path = CString::new(path).map_err(|_| EINVAL)?;
        let follow = wanted.flags & AT_SYMLINK_NOFOLLOW == 0;
        sys::open_name_in(base, &path, follow)
            .map_err(|error| error.raw_os_error().unwrap_or(EPERM))
    }

    /// What names the process that opens it is to name the caller.
    fn own_names(&self, path: Vec<u8>) -> Vec<u8> {
        for (prefix, folder) in
            [(&b"/proc/self/"[..], ""), (b"/proc/thread-self/", ""), (b"/dev/fd/", "fd/")]
        {
            if let Some(rest) = path.strip_prefix(prefix) {
                return [format!("/proc/{}/{folder}", self.pid).as_bytes(), rest].concat();
            }
        }
        path
    }

    /// Up to its zero byte. Page by page, since the next one need not be there.
    fn text(&self, address: u64) -> Result<Vec<u8>, i32> {
        let mut text = Vec::new();
        while text.len() < PATH_BYTES_MAX {
            let from = address.checked_add(text.len() as u64).ok_or(EFAULT)?;
            let mut piece = [0; PAGE_BYTES as usize];
            let room = (PAGE_BYTES - from % PAGE_BYTES) as usize;
            let piece = piece.get_mut(..room).ok_or(EFAULT)?;
            self.memory.read_exact_at(piece, from).map_err(|_| EFAULT)?;
            match piece.iter().position(|byte| *byte == 0) {
                Some(end) => {
                    text.extend_from_slice(piece.get(..end).unwrap_or_default());
                    return Ok(text);
                }
                None => text.extend_from_slice(piece),
            }
        }
        Err(ENAMETOOLONG)
    }

    fn times(&self, address: u64) -> Result<Times, i32> {
        let mut bytes = [0; 32];
        self.memory.read_exact_at(&mut bytes, address).map_err(|_| EFAULT)?;
        let mut times = [0; 4];
        for (time, bytes) in times.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *time = i64::from_ne_bytes(*bytes);
        }
        Ok(times)
    }
}

/// By the names that both have now: no call of a confined process moves anything between inside and
/// outside.
fn is_beneath(object: &File, folder: &File) -> bool {
    let name = |file: &File| {
        let name = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()));
        name.map(|name| name.into_os_string().into_vec())
    };
    match (name(object), name(folder)) {
        (Ok(object), Ok(folder)) => object
            .strip_prefix(&folder[..])
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/")),
        _ => false,
    }
}
