//! What this machine has for environments, read from the kernel's own files; nothing is changed but
//! by [`raise_open_files`].

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, access, geteuid};

/// The facts that `doctor` judges.
#[derive(Clone, Debug, PartialEq)]
pub struct HostFacts {
    pub root: bool,
    pub open_files: OpenFiles,
    pub cgroups: Cgroups,
    pub namespaces: UserNamespaces,
    /// The kernel knows overlay mounts.
    pub overlay: bool,
    pub disks: Vec<Disk>,
}

/// `RLIMIT_NOFILE`. A process may raise the soft limit to the hard one by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFiles {
    pub soft: u64,
    pub hard: u64,
}

/// The control groups that are mounted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cgroups {
    /// Controllers of version 1 hierarchies, such as `memory`.
    pub v1: BTreeSet<String>,
    /// Controllers of the version 2 hierarchy; `None` where it is not mounted.
    pub v2: Option<BTreeSet<String>>,
    /// Whether this process may make groups in all of them.
    pub writable: bool,
}

/// Whether a process without privileges may make a user namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserNamespaces {
    Allowed,
    /// By which setting, such as `user.max_user_namespaces = 0`.
    Forbidden(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// What is kept there.
    pub what: &'static str,
    pub path: PathBuf,
    pub free_bytes: u64,
}

impl HostFacts {
    /// # Errors
    /// One of the kernel's files cannot be read.
    pub fn read(cache_dir: &Path, runs_dir: &Path) -> io::Result<Self> {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        let filesystems = fs::read_to_string("/proc/filesystems")?;
        Ok(Self {
            root: geteuid().is_root(),
            open_files: OpenFiles { soft, hard },
            cgroups: Cgroups::read()?,
            namespaces: UserNamespaces::of(&|name| {
                let path = Path::new("/proc/sys").join(name);
                fs::read_to_string(path).ok()?.trim().parse().ok()
            }),
            overlay: filesystems.split_whitespace().any(|name| name == "overlay"),
            disks: [("image cache", cache_dir), ("runs", runs_dir)]
                .into_iter()
                .filter_map(|(what, path)| disk(what, path))
                .collect(),
        })
    }
}

/// Raises the soft limit of open files to the hard one; the new limit.
///
/// # Errors
/// The kernel refuses, which it does to no process that stays within the hard limit.
pub fn raise_open_files() -> io::Result<u64> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(hard)
}

impl Cgroups {
    fn read() -> io::Result<Self> {
        let mounts = cgroup_mounts(&fs::read_to_string("/proc/self/mountinfo")?);
        let controllers = |mount: &CgroupMount| {
            let file = mount.point.join("cgroup.controllers");
            fs::read_to_string(file).unwrap_or_default()
        };
        Ok(Self::of(&mounts, controllers, |mount| {
            access(&mount.point, AccessFlags::W_OK | AccessFlags::X_OK).is_ok()
        }))
    }

    fn of(
        mounts: &[CgroupMount],
        v2_controllers: impl Fn(&CgroupMount) -> String,
        writable: impl Fn(&CgroupMount) -> bool,
    ) -> Self {
        let mut found = Self { writable: mounts.iter().all(writable), ..Self::default() };
        for mount in mounts {
            if mount.version == 2 {
                let names = v2_controllers(mount);
                found.v2 = Some(names.split_whitespace().map(str::to_owned).collect());
            } else {
                found.v1.extend(mount.controllers.iter().cloned());
            }
        }
        found
    }

    /// Whether some hierarchy has this controller.
    pub fn has(&self, controller: &str) -> bool {
        self.v1.contains(controller) || self.v2.as_ref().is_some_and(|v2| v2.contains(controller))
    }

    /// `v1`, `v2`, `hybrid` or `none`.
    pub fn version(&self) -> &'static str {
        match (&self.v2, self.v1.is_empty()) {
            (None, true) => "none",
            (None, false) => "v1",
            (Some(_), true) => "v2",
            (Some(_), false) => "hybrid",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct CgroupMount {
    point: PathBuf,
    version: u8,
    controllers: Vec<String>,
}

/// Of `/proc/self/mountinfo` (proc(5)), whose lines are
/// `ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [TAGS...] - TYPE SOURCE SUPER_OPTIONS`.
/// Named hierarchies have no controllers and are left out.
fn cgroup_mounts(mountinfo: &str) -> Vec<CgroupMount> {
    let parse = |line: &str| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let point = PathBuf::from(mount.split(' ').nth(4)?);
        let mut fields = filesystem.split(' ');
        let kind = fields.next()?;
        let options = fields.nth(1)?;
        let controllers: Vec<String> = options
            .split(',')
            .filter(|option| !matches!(*option, "rw" | "ro") && !option.contains('='))
            .map(str::to_owned)
            .collect();
        match kind {
            "cgroup2" => Some(CgroupMount { point, version: 2, controllers: Vec::new() }),
            "cgroup" if !controllers.is_empty() => {
                Some(CgroupMount { point, version: 1, controllers })
            }
            _ => None,
        }
    };
    mountinfo.lines().filter_map(parse).collect()
}

impl UserNamespaces {
    /// `setting` reads a file below `/proc/sys`; kernels lack those that they do not know.
    fn of(setting: &dyn Fn(&str) -> Option<u64>) -> Self {
        let forbidding = [
            ("user/max_user_namespaces", 0),
            ("kernel/unprivileged_userns_clone", 0),
            ("kernel/apparmor_restrict_unprivileged_userns", 1),
        ];
        let found = forbidding.iter().find(|(name, value)| setting(name) == Some(*value));
        match found {
            None => Self::Allowed,
            Some((name, value)) => Self::Forbidden(format!("{} = {value}", name.replace('/', "."))),
        }
    }
}

/// The disk that `path` is on, or would be on once it is made.
fn disk(what: &'static str, path: &Path) -> Option<Disk> {
    let existing = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
    let stat = statvfs(existing).ok()?;
    let free_bytes = stat.blocks_available() * stat.fragment_size();
    Some(Disk { what, path: path.to_owned(), free_bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
43 42 0:39 / /merged rw,nodev shared:2 - fuse.fuse-overlayfs fuse-overlayfs rw,user_id=0
";
    const UNIFIED: &str =
        "29 22 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

    fn cgroups(mountinfo: &str, v2: &str) -> Cgroups {
        Cgroups::of(&cgroup_mounts(mountinfo), |_| v2.to_owned(), |_| true)
    }

    #[test]
    fn a_hybrid_hierarchy_takes_its_controllers_from_version_1() {
        let found = cgroups(HYBRID, "\n");
        assert_eq!(found.version(), "hybrid");
        assert!(found.has("memory") && found.has("cpu") && found.has("cpuacct"));
        assert!(!found.has("pids") && !found.has("name=systemd"));
    }

    #[test]
    fn a_unified_hierarchy_takes_its_controllers_from_its_file() {
        let found = cgroups(UNIFIED, "cpuset cpu io memory pids\n");
        assert_eq!(found.version(), "v2");
        assert!(found.has("memory") && found.has("pids") && !found.has("devices"));
        assert_eq!(cgroups("", "").version(), "none");
    }

    #[test]
    fn one_hierarchy_that_is_not_ours_to_write_makes_all_of_them_so() {
        let mounts = cgroup_mounts(HYBRID);
        let found = Cgroups::of(&mounts, |_| String::new(), |m| !m.point.ends_with("memory"));
        assert!(!found.writable);
    }

    #[test]
    fn user_namespaces_are_forbidden_by_any_of_three_settings() {
        let with = |name: &'static str, value: u64| {
            UserNamespaces::of(&move |asked| (asked == name).then_some(value))
        };
        assert_eq!(with("user/max_user_namespaces", 100), UserNamespaces::Allowed);
        assert_eq!(
            with("kernel/apparmor_restrict_unprivileged_userns", 1),
            UserNamespaces::Forbidden("kernel.apparmor_restrict_unprivileged_userns = 1".into())
        );
        assert_ne!(with("kernel/unprivileged_userns_clone", 0), UserNamespaces::Allowed);
    }

    #[test]
    fn this_machine_can_be_read_and_a_folder_to_be_made_counts_to_its_parents_disk() {
        let folder = tempfile::tempdir().unwrap();
        let facts = HostFacts::read(&folder.path().join("a/b"), folder.path()).unwrap();
        assert_eq!(facts.disks[0].path, folder.path().join("a/b"));
        assert!(facts.disks[0].free_bytes.abs_diff(facts.disks[1].free_bytes) < 1 << 30);
        assert!(facts.open_files.soft <= facts.open_files.hard);
    }
}
