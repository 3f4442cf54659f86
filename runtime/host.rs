//! What this machine has for environments, read from the kernel's own files; nothing is changed but
//! by [`raise_open_files`].

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::statvfs::statvfs;
use nix::unistd::geteuid;

/// The facts that `doctor` judges.
#[derive(Clone, Debug, PartialEq)]
pub struct HostFacts {
    pub root: bool,
    pub open_files: OpenFiles,
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
