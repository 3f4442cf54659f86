//! Control groups of the `process` driver: limits on memory, processes and processor time, in
//! version 1 or 2 of the kernel's interface or a mix of both, whatever is mounted.
//!
//! All groups are `orcapack/NAME` below the roots of the hierarchies. Nothing here fails a sandbox
//! for want of a controller: [`Cgroups::enforced`] tells which limits hold, as probed with a group
//! that was really made.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::process_state;
use crate::sandbox::Limits;

const PARENT: &str = "orcapack";
const CPU_PERIOD_US: u64 = 100_000;
/// A group can be removed a moment after its last process is gone.
const REMOVE_TRIES: u32 = 200;
const REMOVE_PAUSE: Duration = Duration::from_millis(10);

/// The hierarchies in which this process can make groups.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cgroups {
    hierarchies: Vec<Hierarchy>,
    enforced: LimitsEnforced,
}

/// Which limits the kernel enforces on a sandbox of the `process` driver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitsEnforced {
    pub memory: bool,
    pub pids: bool,
    pub cpus: bool,
}

#[derive(Clone, Debug)]
struct Hierarchy {
    root: PathBuf,
    version: Version,
    controllers: BTreeSet<Controller>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Controller {
    Memory,
    Pids,
    Cpu,
}

const CONTROLLERS: [(Controller, &str); 3] =
    [(Controller::Memory, "memory"), (Controller::Pids, "pids"), (Controller::Cpu, "cpu")];

/// The group of one sandbox: one folder in each hierarchy.
#[derive(Clone, Debug)]
pub(crate) struct Cgroup {
    folders: Vec<(PathBuf, Version)>,
    /// Files of memory events, memory in use and processes; empty where there is none.
    counters: [String; 3],
}

impl Cgroups {
    /// Looks at what is mounted, and tries every limit on a group made for that. Only for root:
    /// what is delegated to others lets them make groups, but not always move a process into one.
    pub fn probe() -> Self {
        if !nix::unistd::geteuid().is_root() {
            return Self::default();
        }
        let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
        let mut cgroups = Self { hierarchies: hierarchies(&mounts), ..Self::default() };
        cgroups.hierarchies.retain(Hierarchy::prepare);
        let probe = format!("probe.{}.0", std::process::id());
        let limits = Limits { cpus: 1.5, memory_bytes: 1 << 30, pids: 100, storage_bytes: 1 << 20 };
        if let Ok((group, enforced)) = cgroups.make(&probe, &limits) {
            cgroups.enforced = enforced;
            group.remove();
        }
        cgroups
    }

    pub fn enforced(&self) -> LimitsEnforced {
        self.enforced
    }

    /// The group `name`, whether it is there or not.
    pub fn named(&self, name: &str) -> Cgroup {
        let folder =
            |hierarchy: &Hierarchy| (hierarchy.root.join(PARENT).join(name), hierarchy.version);
        let folders = self.hierarchies.iter().map(folder).collect();
        Cgroup { folders, counters: Default::default() }
    }

    /// Removes groups without a process whose names end in the number of a process that is gone,
    /// and a count: those of sandboxes whose state file was lost.
    pub fn remove_abandoned(&self) {
        for hierarchy in &self.hierarchies {
            let groups = fs::read_dir(hierarchy.root.join(PARENT)).into_iter().flatten().flatten();
            for group in groups.map(|entry| entry.path()).filter(|path| path.is_dir()) {
                let name = group.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                if process_state::owner_is_gone(name) {
                    // The kernel refuses where a process is left.
                    let _ = fs::remove_dir(&group);
                }
            }
        }
    }

    /// Makes a group with limits, and reads each limit back.
    pub fn make(&self, name: &str, limits: &Limits) -> io::Result<(Cgroup, LimitsEnforced)> {
        let mut group = self.named(name);
        let mut enforced = LimitsEnforced::default();
        for (hierarchy, (folder, _)) in self.hierarchies.iter().zip(&group.folders) {
            fs::create_dir_all(folder)?;
            for controller in &hierarchy.controllers {
                let held = limit(folder, hierarchy.version, *controller, limits);
                let file = |name: &str| folder.join(name).display().to_string();
                match (controller, hierarchy.version) {
                    (Controller::Memory, version) => {
                        enforced.memory = held;
                        let (events, usage) = match version {
                            Version::One => ("memory.oom_control", "memory.usage_in_bytes"),
                            Version::Two => ("memory.events", "memory.current"),
                        };
                        group.counters[0] = file(events);
                        group.counters[1] = file(usage);
                    }
                    (Controller::Pids, _) => {
                        enforced.pids = held;
                        group.counters[2] = file("pids.current");
                    }
                    (Controller::Cpu, _) => enforced.cpus = held,
                }
            }
        }
        Ok((group, enforced))
    }
}

impl Hierarchy {
    /// False where no group can be made below it. Version 2 hands controllers down only where it is
    /// told to.
    fn prepare(&self) -> bool {
        let parent = self.root.join(PARENT);
        if fs::create_dir_all(&parent).is_err() {
            return false;
        }
        if self.version == Version::Two {
            for folder in [&self.root, &parent] {
                for (_, name) in CONTROLLERS {
                    // What is refused shows when the limits are read back.
                    let _ = fs::write(folder.join("cgroup.subtree_control"), format!("+{name}"));
                }
            }
        }
        true
    }
}

/// The mounts of `/proc/mounts` that are good for a controller which no other one before them has.
fn hierarchies(mounts: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    let mut missing: BTreeSet<Controller> = CONTROLLERS.iter().map(|(one, _)| *one).collect();
    for line in mounts.lines() {
        let mut fields = line.split(' ').skip(1);
        let (Some(root), Some(kind), Some(options)) = (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let (version, offered) = match kind {
            "cgroup" => (Version::One, options.replace(',', " ")),
            "cgroup2" => {
                let file = Path::new(root).join("cgroup.controllers");
                (Version::Two, fs::read_to_string(file).unwrap_or_default())
            }
            _ => continue,
        };
        let offered: BTreeSet<&str> = offered.split_ascii_whitespace().collect();
        let named = CONTROLLERS.iter().filter(|(_, name)| offered.contains(name));
        let controllers: BTreeSet<Controller> =
            named.map(|(one, _)| *one).filter(|one| missing.remove(one)).collect();
        if !controllers.is_empty() {
            found.push(Hierarchy { root: root.into(), version, controllers });
        }
    }
    found
}

/// Whether the limit holds: it was written, and reads back as it was written.
fn limit(folder: &Path, version: Version, controller: Controller, limits: &Limits) -> bool {
    let set = |name: &str, value: String| {
        let file = folder.join(name);
        fs::write(&file, &value).is_ok()
            && fs::read_to_string(&file).is_ok_and(|now| now.trim() == value)
    };
    // In whole pages, as the kernel keeps it.
    let memory = (limits.memory_bytes / 4096 * 4096).to_string();
    let quota = ((limits.cpus * CPU_PERIOD_US as f64) as u64).max(1000);
    match (controller, version) {
        (Controller::Memory, Version::One) => {
            let held = set("memory.limit_in_bytes", memory.clone());
            // Only where swap is accounted for; without it nothing can be swapped beyond the
            // limit's reach.
            set("memory.memsw.limit_in_bytes", memory);
            held
        }
        (Controller::Memory, Version::Two) => {
            let held = set("memory.max", memory);
            set("memory.swap.max", "0".to_owned());
            held
        }
        (Controller::Pids, _) => set("pids.max", limits.pids.to_string()),
        (Controller::Cpu, Version::One) => {
            set("cpu.cfs_period_us", CPU_PERIOD_US.to_string())
                && set("cpu.cfs_quota_us", quota.to_string())
        }
        (Controller::Cpu, Version::Two) => set("cpu.max", format!("{quota} {CPU_PERIOD_US}")),
    }
}

impl Cgroup {
    pub fn counters(&self) -> &[String; 3] {
        &self.counters
    }

    /// Everything that the process starts from now on is in the group too.
    pub fn add(&self, pid: u32) -> io::Result<()> {
        let pid = pid.to_string();
        self.folders.iter().try_for_each(|(folder, _)| fs::write(folder.join("cgroup.procs"), &pid))
    }

    /// How many of its processes the kernel has killed for memory.
    pub fn memory_kills(&self) -> u64 {
        let text = fs::read_to_string(&self.counters[0]).unwrap_or_default();
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
    }

    /// Kills every process in it. Processes that are forked meanwhile are taken in the next round
    /// of [`Cgroup::remove`].
    fn kill(&self) {
        for (folder, _) in &self.folders {
            let text = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
            for pid in text.lines().filter_map(|line| line.parse().ok()) {
                let pid = nix::unistd::Pid::from_raw(pid);
                let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            }
        }
    }

    /// Kills what is left in it and removes it. Blocks until it is gone; false where that takes
    /// more than seconds.
    pub fn remove(&self) -> bool {
        for _ in 0..REMOVE_TRIES {
            let left = self.folders.iter().any(|(folder, _)| match fs::remove_dir(folder) {
                Ok(()) => false,
                Err(error) => error.kind() != io::ErrorKind::NotFound,
            });
            if !left {
                return true;
            }
            self.kill();
            std::thread::sleep(REMOVE_PAUSE);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controllers_are_found_in_version_1_and_in_mixed_hierarchies() {
        let mounts = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n\
                      cgroup2 /nowhere/unified cgroup2 rw 0 0\n\
                      cgroup /cg/memory cgroup rw,relatime,memory 0 0\n\
                      cgroup /cg/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0\n\
                      cgroup /cg/cpuset cgroup rw,cpuset 0 0\n\
                      short\n\
                      cgroup /cg/pids cgroup rw,pids 0 0\n\
                      cgroup /again/pids cgroup rw,pids 0 0\n";
        let found = hierarchies(mounts);
        let roots: Vec<_> = found.iter().map(|one| one.root.to_str().expect("text")).collect();
        assert_eq!(roots, ["/cg/memory", "/cg/cpu,cpuacct", "/cg/pids"]);
        let controllers: Vec<_> = found.iter().flat_map(|one| &one.controllers).collect();
        assert_eq!(controllers, [&Controller::Memory, &Controller::Cpu, &Controller::Pids]);
    }
}
