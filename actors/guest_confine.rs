//! A command that may change one folder only.
//!
//! Landlock refuses it and all that it starts every way to change a file or folder elsewhere that
//! goes by opening, making, linking, renaming or removing; it may use the devices that programs
//! cannot do without. Landlock knows nothing of modes, owners and times, so a filter hands the
//! calls that set those to `guest_metadata`, which carries them out beneath the folder alone.
//! Extended attributes and file flags cannot be set at all, io_uring is refused since it makes
//! calls that no filter sees, and programs of another architecture are killed.
//!
//! Its signals and abstract sockets reach its own processes only (Linux 6.12 and later), and so
//! does tracing. What remains: services that listen on a path or a port may be asked to do
//! something, and descriptors that another process passes on may be used.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _};

use super::guest_channel as channel;
use super::guest_landlock::{self as landlock, Rules, VERSION_MIN};
use super::guest_metadata::MEDIATED;
use super::guest_seccomp as seccomp;
use super::guest_sys as sys;

const DEVICES: [&str; 7] =
    ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/ptmx"];
const TERMINALS: &str = "/dev/pts";

#[cfg(target_arch = "x86_64")]
mod arch {
    /// `AUDIT_ARCH_X86_64`.
    pub const ID: u32 = 0xc000_003e;
    pub const SYS_IOCTL: u32 = 16;
    /// utime, utimes and futimesat, which C libraries make no more.
    pub const REFUSED: &[u32] = &[132, 235, 261];
    pub const ATTRIBUTES: &[u32] = &[188, 189, 190, 197, 198, 199];
}
#[cfg(target_arch = "aarch64")]
mod arch {
    /// `AUDIT_ARCH_AARCH64`.
    pub const ID: u32 = 0xc000_00b7;
    pub const SYS_IOCTL: u32 = 29;
    pub const REFUSED: &[u32] = &[];
    pub const ATTRIBUTES: &[u32] = &[5, 6, 7, 14, 15, 16];
}

/// io_uring's three and file_setattr. The same on every architecture.
const REFUSED: [u32; 4] = [425, 426, 427, 469];
/// setxattrat and removexattrat. Extended attributes seem not to be there, which programs that copy
/// files get along with.
const ATTRIBUTES: [u32; 2] = [463, 466];
/// Above are the calls of another calling convention of x86-64.
const NUMBER_MAX: u32 = 0x3fff_ffff;

/// Requests to a file system by `ioctl`, some of which change a file that is open for reading only:
/// their types, and those numbers of them that only read or that clone into a file open for
/// writing.
const FILE_REQUEST_TYPES: [u32; 5] = [b'f' as u32, b'v' as u32, b'X' as u32, 0x94, 0xf5];
const HARMLESS_REQUESTS: [u32; 6] = [0x6601, 0x660b, 0x7601, 0x581f, 0x9409, 0x940d];

/// That this kernel can do it.
pub fn possible() -> Result<u32, String> {
    match landlock::version() {
        Ok(version) if version >= VERSION_MIN => Ok(version),
        Ok(version) => Err(format!(
            "this machine cannot confine a command to one folder: its kernel has version \
             {version} of Landlock, expected {VERSION_MIN} or later (Linux 6.2)"
        )),
        Err(error) => Err(format!(
            "this machine cannot confine a command to one folder: Landlock, expected in version \
             {VERSION_MIN} or later (Linux 6.2, and among the kernel's `lsm`), is not there: \
             {error}"
        )),
    }
}

/// For this process, whose user is `uid`, and all that it starts. `supervisor` gets the filter's
/// listener and the folder.
pub fn enter(path: &str, uid: u32, supervisor: &File) -> Result<(), String> {
    let version = possible()?;
    let folder = own_folder(path, uid)?;
    let failed = |error: io::Error| format!("cannot confine the command to {path:?}: {error}");
    confine(&folder, version).map_err(failed)?;
    let listener = seccomp::install_with_listener(&program()).map_err(failed)?;
    channel::send(supervisor, [&listener, &folder]).map_err(failed)
}

/// Made when absent, with the parents that are. What is there already and not the user's own folder
/// is refused: it would open to the command what it must not change.
fn own_folder(path: &str, uid: u32) -> Result<File, String> {
    let refuse = |why: &str| format!("{path:?} cannot be a command's only writable folder: {why}");
    let plain = |name: &str| !matches!(name, "" | "." | "..");
    if !path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(plain)) {
        return Err(refuse("expected a plain absolute path below /"));
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| refuse(&error.to_string()))?;
    let folder = sys::open_folder_itself(path)
        .map_err(|error| refuse(&format!("not a folder itself: {error}")))?;
    let owner = folder.metadata().map_err(|error| refuse(&error.to_string()))?.uid();
    if owner == uid {
        Ok(folder)
    } else {
        Err(refuse(&format!("it belongs to user {owner}, expected {uid}")))
    }
}

fn confine(folder: &File, version: u32) -> io::Result<()> {
    sys::forbid_new_privileges()?;
    let rules = Rules::new(version)?;
    rules.allow_beneath(folder)?;
    for path in DEVICES {
        // Not every sandbox has each of them, and a file in the place of one is no device.
        let Ok(device) = sys::open_name(path) else { continue };
        if device.metadata()?.file_type().is_char_device() {
            rules.allow_device(&device)?;
        }
    }
    if let Ok(terminals) = sys::open_folder_itself(TERMINALS) {
        rules.allow_device(&terminals)?;
    }
    rules.enforce()
}

const EPERM: u32 = 1;
const EOPNOTSUPP: u32 = 95;
const ALLOW: u32 = 0x7fff_0000;
const REFUSE: u32 = 0x0005_0000 | EPERM;
const NOT_THERE: u32 = 0x0005_0000 | EOPNOTSUPP;
const HAND_OVER: u32 = 0x7fc0_0000;
const KILL: u32 = 0x8000_0000;

/// The filter. An instruction, `struct sock_filter`, is a code, two jumps (if true, if false), and
/// an operand.
fn program() -> Vec<u64> {
    const LOAD: u16 = 0x20;
    const IS: u16 = 0x15;
    const ABOVE: u16 = 0x25;
    const AND: u16 = 0x54;
    const SHIFT_RIGHT: u16 = 0x74;
    const RETURN: u16 = 0x06;
    // Offsets in `struct seccomp_data`.
    const NUMBER: u32 = 0;
    const ARCH: u32 = 4;
    const SECOND_ARGUMENT: u32 = 24;

    fn step(code: u16, jumps: [u8; 2], operand: u32) -> u64 {
        let [low, high] = code.to_le_bytes();
        let [a, b, c, d] = operand.to_le_bytes();
        u64::from_le_bytes([low, high, jumps[0], jumps[1], a, b, c, d])
    }
    let end = |action: u32| step(RETURN, [0, 0], action);
    let ends = |values: &[u32], action: u32| -> Vec<u64> {
        values.iter().flat_map(|value| [step(IS, [0, 1], *value), end(action)]).collect()
    };
    [
        vec![step(LOAD, [0, 0], ARCH), step(IS, [1, 0], arch::ID), end(KILL)],
        vec![step(LOAD, [0, 0], NUMBER), step(ABOVE, [0, 1], NUMBER_MAX), end(KILL)],
        ends(&REFUSED, REFUSE),
        ends(arch::REFUSED, REFUSE),
        ends(&ATTRIBUTES, NOT_THERE),
        ends(arch::ATTRIBUTES, NOT_THERE),
        ends(MEDIATED, HAND_OVER),
        vec![step(IS, [1, 0], arch::SYS_IOCTL), end(ALLOW)],
        vec![step(LOAD, [0, 0], SECOND_ARGUMENT), step(AND, [0, 0], 0xffff)],
        ends(&HARMLESS_REQUESTS, ALLOW),
        vec![step(SHIFT_RIGHT, [0, 0], 8)],
        ends(&FILE_REQUEST_TYPES, REFUSE),
        vec![end(ALLOW)],
    ]
    .concat()
}
