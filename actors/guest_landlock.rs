//! Landlock: rules that a process lays on itself and on all that it will ever start, and that
//! nobody takes off again. No privilege is needed.

use std::ffi::{c_int, c_long};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd as _, OwnedFd};

/// The ways to change a file system that Landlock knows, each with the version of its interface
/// that brought it.
const RIGHTS: [(u64, u32); 13] = [
    (WRITE_FILE, 1),
    (1 << 4, 1),  // REMOVE_DIR
    (1 << 5, 1),  // REMOVE_FILE
    (1 << 6, 1),  // MAKE_CHAR
    (1 << 7, 1),  // MAKE_DIR
    (1 << 8, 1),  // MAKE_REG
    (1 << 9, 1),  // MAKE_SOCK
    (1 << 10, 1), // MAKE_FIFO
    (1 << 11, 1), // MAKE_BLOCK
    (1 << 12, 1), // MAKE_SYM
    (1 << 13, 2), // REFER: links and renames between folders
    (1 << 14, 3), // TRUNCATE
    (IOCTL_DEV, 5),
];
const WRITE_FILE: u64 = 1 << 1;
const IOCTL_DEV: u64 = 1 << 15;
/// Abstract Unix sockets and signals: none to processes outside of the rules' domain.
const SCOPES: (u64, u32) = (1 << 0 | 1 << 1, 6);

/// The first whose rules hold for `truncate` too.
pub const VERSION_MIN: u32 = 3;

// The same on every architecture.
const SYS_CREATE_RULESET: c_long = 444;
const SYS_ADD_RULE: c_long = 445;
const SYS_RESTRICT_SELF: c_long = 446;

unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
}

fn check(result: c_long) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as c_int) }
}

/// Of the running kernel's interface, from 1.
pub fn version() -> io::Result<u32> {
    const CREATE_RULESET_VERSION: c_long = 1;
    let (none, size) = (std::ptr::null::<u64>(), 0 as c_long);
    // SAFETY: nothing is read by this kind of call.
    check(unsafe { syscall(SYS_CREATE_RULESET, none, size, CREATE_RULESET_VERSION) })
        .map(|version| version.unsigned_abs())
}

/// Refuses every change of every file system but what is allowed to it.
pub struct Rules {
    fd: OwnedFd,
    refused: u64,
}

impl Rules {
    pub fn new(version: u32) -> io::Result<Self> {
        let known = RIGHTS.iter().filter(|(_, since)| *since <= version);
        let refused = known.fold(0, |all, (right, _)| all | right);
        let scopes = if SCOPES.1 <= version { SCOPES.0 } else { 0 };
        // `struct landlock_ruleset_attr`: files, network, scopes. Older kernels know less of it,
        // and take it as long as the rest is zero.
        let attributes = [refused, 0, scopes];
        let size = size_of_val(&attributes) as c_long;
        // SAFETY: pointer and size are those of one array, which outlives the call.
        let fd =
            check(unsafe { syscall(SYS_CREATE_RULESET, attributes.as_ptr(), size, 0 as c_long) })?;
        // SAFETY: the kernel just made this descriptor for us.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) }, refused })
    }

    /// Every change beneath a folder.
    pub fn allow_beneath(&self, folder: &File) -> io::Result<()> {
        self.allow(folder, self.refused)
    }

    /// Using a device, or all in a folder.
    pub fn allow_device(&self, device: &File) -> io::Result<()> {
        self.allow(device, self.refused & (WRITE_FILE | IOCTL_DEV))
    }

    fn allow(&self, at: &File, rights: u64) -> io::Result<()> {
        const PATH_BENEATH: c_long = 1;
        /// `struct landlock_path_beneath_attr`.
        #[repr(C, packed)]
        struct PathBeneath {
            rights: u64,
            fd: c_int,
        }
        let rule = PathBeneath { rights, fd: at.as_raw_fd() };
        let rules = c_long::from(self.fd.as_raw_fd());
        // SAFETY: `rule` has the layout that this kind of rule takes, and outlives the call.
        check(unsafe { syscall(SYS_ADD_RULE, rules, PATH_BENEATH, &raw const rule, 0 as c_long) })
            .map(drop)
    }

    /// From now on, for this process and all that it starts. Needs "no new privileges".
    pub fn enforce(self) -> io::Result<()> {
        let rules = c_long::from(self.fd.as_raw_fd());
        // SAFETY: takes plain integers.
        check(unsafe { syscall(SYS_RESTRICT_SELF, rules, 0 as c_long) }).map(drop)
    }
}
