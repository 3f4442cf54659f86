//! The way from a plain child of the host's process to process 1 of a sandbox of its own:
//! namespaces, a root file system, devices, `/proc`. The `process` driver starts the agent as
//! `init`; an engine does all this itself.
//!
//! Two processes come out of it: the one that the host started stays outside and only waits, so
//! that its end is the end of the last process inside; the other one becomes the agent. The second
//! dies with the first.

use std::fs::{self, File, Permissions};
use std::io::{self, Read as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::Counters;
use super::guest_namespace::{self as ns, BIND, NODEV, NOEXEC, NOSUID, READ_ONLY, REMOUNT};
use super::guest_setup::Setup;
use super::guest_sys::{self as sys, Fork};
use super::guest_wire;

/// Where the new root is put together. Every system has the folder, and it is only hidden in the
/// own mount namespace.
const SCAFFOLD: &str = "/tmp";

/// Shared memory, in the folder that programs expect it in; as Docker's.
const SHM_BYTES: u32 = 64 << 20;

const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// What of `/proc` tells about the host or acts on it. Capabilities are no guard here: root may
/// write to its own files.
const PROC_READ_ONLY: [&str; 4] = ["sys", "irq", "bus", "fs"];
const PROC_EMPTY: [&str; 4] = ["acpi", "asound", "scsi", "driver"];
const PROC_NULL: [&str; 12] = [
    "kcore",
    "keys",
    "key-users",
    "kmsg",
    "kpagecgroup",
    "kpagecount",
    "kpageflags",
    "latency_stats",
    "sched_debug",
    "sysrq-trigger",
    "timer_list",
    "vmcore",
];

/// Returns inside, as process 1; the caller becomes the agent. The process outside never returns.
pub fn enter() -> Result<(Counters, Vec<Vec<u8>>), String> {
    let setup = read_setup()?;
    let counters = Counters::open(&setup.counters.each_ref().map(String::as_str));
    let (user, group) = setup.user_and_group;
    ns::unshare(user != 0, setup.own_network).map_err(context("unshare namespaces"))?;
    if user != 0 {
        // One user is all that an unprivileged process may map; groups cannot be changed at all
        // then.
        write("/proc/self/setgroups", "deny")?;
        write("/proc/self/uid_map", &format!("0 {user} 1"))?;
        write("/proc/self/gid_map", &format!("0 {group} 1"))?;
    }
    let root = make_root(&setup)?;
    if setup.own_network {
        ns::loopback_up().map_err(context("bring loopback up"))?;
    }
    ns::set_hostname(&setup.hostname).map_err(context("set the host name"))?;
    ns::forbid_core_dumps().map_err(context("limit core dumps"))?;
    // Meanwhile the host has put this process into its control group, which takes the kernel as
    // long as all of this.
    sys::standard_input().read_exact(&mut [0]).map_err(context("wait for the control group"))?;
    if let Fork::Parent(_) = sys::split().map_err(context("fork"))? {
        sys::close_all();
        while sys::wait_any(true).is_some() {}
        sys::exit(0);
    }
    sys::die_with_parent().map_err(context("set the parent-death signal"))?;
    // So that the kernel takes a command first when memory runs out. Needs a privilege that not
    // every host has.
    let _ = fs::write("/proc/self/oom_score_adj", "-900");
    // Of the process namespace that began with the fork.
    mount("proc", &format!("{root}/proc"), "proc", NOSUID | NODEV | NOEXEC, "")?;
    ns::pivot_to(&root).map_err(context("change the root"))?;
    guard_proc()?;
    Ok((counters, setup.filters))
}

/// Exactly its bytes: what comes after them is the agent's.
fn read_setup() -> Result<Setup, String> {
    let mut input = sys::standard_input();
    let mut field = [0; 4];
    input.read_exact(&mut field).map_err(context("read the set-up"))?;
    let length = guest_wire::body_length(field).map_err(|error| error.to_string())?;
    let mut body = vec![0; length];
    input.read_exact(&mut body).map_err(context("read the set-up"))?;
    guest_wire::decode(&body).map(|(_, setup)| setup).map_err(|error| error.to_string())
}

/// Where it is, all but `/proc`.
fn make_root(setup: &Setup) -> Result<String, String> {
    ns::make_mounts_private().map_err(context("make mounts private"))?;
    // Opened before the scaffold may hide them; named by descriptor, since a path may hold any
    // character.
    let open = |path: &String| sys::open_folder(path).map_err(context(path));
    let rootfs = open(&setup.rootfs)?;
    let layers = setup.layers.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    let upper = (!setup.upper.is_empty()).then(|| open(&setup.upper)).transpose()?;

    let options = format!("mode=755,size={}", setup.storage_bytes);
    mount("tmpfs", SCAFFOLD, "tmpfs", NOSUID | NODEV, &options)?;
    let at = |name: &str| format!("{SCAFFOLD}/{name}");
    for name in ["root", "base", "mask", "skeleton", "upper", "work"] {
        make_folder(&at(name), 0o755)?;
    }
    make_skeleton(&at("skeleton"), setup)?;
    let user_attributes = if setup.user_and_group.0 == 0 { "" } else { ",userxattr" };
    let by_descriptor = |folder: &File| format!("/proc/self/fd/{}", folder.as_raw_fd());
    let mut lower = vec![at("skeleton")];
    lower.extend(layers.iter().map(by_descriptor));
    if setup.hidden.is_empty() {
        lower.push(by_descriptor(&rootfs));
    } else {
        // An overlay of its own: layers kept somewhere below `/` cannot be stacked on `/` itself.
        make_mask(&at("mask"), &setup.hidden)?;
        let options =
            format!("lowerdir={}:{}{user_attributes}", at("mask"), by_descriptor(&rootfs));
        mount("overlay", &at("base"), "overlay", READ_ONLY | NODEV, &options)?;
        lower.push(at("base"));
    }
    let (kept, work) = match &upper {
        None => (at("upper"), at("work")),
        Some(folder) => {
            (format!("{}/upper", by_descriptor(folder)), format!("{}/work", by_descriptor(folder)))
        }
    };
    let options =
        format!("lowerdir={},upperdir={kept},workdir={work}{user_attributes}", lower.join(":"));
    let root = at("root");
    mount("overlay", &root, "overlay", NODEV, &options)?;
    make_devices(&format!("{root}/dev"))?;
    Ok(root)
}

/// The mount points, and what an engine too would put into every container.
fn make_skeleton(at: &str, setup: &Setup) -> Result<(), String> {
    for (path, mode) in &setup.folders {
        make_folder(&format!("{at}/{path}"), *mode)?;
    }
    for (path, bytes) in &setup.files {
        fs::write(format!("{at}/{path}"), bytes).map_err(context(path))?;
    }
    Ok(())
}

/// Whiteouts, the overlay's mark for what is not there any more.
fn make_mask(at: &str, hidden: &[String]) -> Result<(), String> {
    for path in hidden {
        let path = format!("{at}/{path}");
        if let Some((parent, _)) = path.rsplit_once('/') {
            fs::create_dir_all(parent).map_err(context(parent))?;
        }
        ns::make_whiteout(&path).map_err(context(&path))?;
    }
    Ok(())
}

fn make_devices(at: &str) -> Result<(), String> {
    mount("tmpfs", at, "tmpfs", NOSUID | NOEXEC, "mode=755,size=64k")?;
    for name in DEVICES {
        let node = format!("{at}/{name}");
        File::create(&node).map_err(context(&node))?;
        mount(&format!("/dev/{name}"), &node, "", BIND, "")?;
    }
    make_folder(&format!("{at}/pts"), 0o755)?;
    let options = "newinstance,ptmxmode=0666,mode=0620";
    mount("devpts", &format!("{at}/pts"), "devpts", NOSUID | NOEXEC, options)?;
    make_folder(&format!("{at}/shm"), 0o1777)?;
    let options = format!("mode=1777,size={SHM_BYTES}");
    mount("shm", &format!("{at}/shm"), "tmpfs", NOSUID | NODEV | NOEXEC, &options)?;
    for (name, target) in [
        ("ptmx", "pts/ptmx"),
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        symlink(target, format!("{at}/{name}")).map_err(context(name))?;
    }
    Ok(())
}

fn guard_proc() -> Result<(), String> {
    let there = |name: &&&str| fs::symlink_metadata(format!("/proc/{name}")).is_ok();
    for name in PROC_READ_ONLY.iter().filter(there) {
        let path = format!("/proc/{name}");
        mount(&path, &path, "", BIND, "")?;
        mount("", &path, "", BIND | REMOUNT | READ_ONLY | NOSUID | NODEV | NOEXEC, "")?;
    }
    for name in PROC_EMPTY.iter().filter(there) {
        mount("tmpfs", &format!("/proc/{name}"), "tmpfs", READ_ONLY | NOSUID | NODEV, "size=0")?;
    }
    for name in PROC_NULL.iter().filter(there) {
        mount("/dev/null", &format!("/proc/{name}"), "", BIND, "")?;
    }
    Ok(())
}

fn make_folder(path: &str, mode: u32) -> Result<(), String> {
    fs::create_dir_all(path)
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(mode)))
        .map_err(context(path))
}

fn mount(source: &str, target: &str, kind: &str, flags: u64, options: &str) -> Result<(), String> {
    ns::mount(source, target, kind, flags, options)
        .map_err(|error| format!("mount {source} on {target} ({options}): {error}"))
}

fn write(path: &str, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(context(path))
}

fn context(what: &str) -> impl FnOnce(io::Error) -> String + '_ {
    move |error| format!("{what}: {error}")
}
