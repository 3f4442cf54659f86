//! Root file systems of the `process` driver: the folders of the store, and the host's own as a
//! stand-in.

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use orcapack_tasks::Digest;

/// What of the host's root stays: programs, libraries, and the public part of the configuration.
const HOST_KEPT: [&str; 8] = ["bin", "etc", "lib", "lib32", "lib64", "libx32", "sbin", "usr"];
/// Of `/etc`, whatever their modes.
const ETC_HIDDEN: [&str; 8] = [
    "etc/gshadow",
    "etc/gshadow-",
    "etc/shadow",
    "etc/shadow-",
    "etc/ssh",
    "etc/ssl/private",
    "etc/sudoers",
    "etc/sudoers.d",
];

/// Folders of every sandbox: mount points, and what an image may lack.
const FOLDERS: [(&str, u32); 4] =
    [("dev", 0o755), ("etc", 0o755), ("proc", 0o555), ("tmp", 0o1777)];
/// What hides the host's own.
const HOST_FOLDERS: [(&str, u32); 14] = [
    ("home", 0o755),
    ("media", 0o755),
    ("mnt", 0o755),
    ("opt", 0o755),
    ("root", 0o700),
    ("run", 0o755),
    ("srv", 0o755),
    ("var", 0o755),
    ("var/cache", 0o755),
    ("var/lib", 0o755),
    ("var/log", 0o755),
    ("var/mail", 0o755),
    ("var/spool", 0o755),
    ("var/tmp", 0o1777),
];

/// What a sandbox sees below everything that it writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Root {
    pub path: PathBuf,
    /// Paths below `path` that are not there for the sandbox; not empty for the host's own root.
    pub hidden: Arc<[String]>,
    /// Over `path`, the uppermost first.
    pub layers: Vec<PathBuf>,
    /// Changes when its files do.
    pub identity: Digest,
}

impl Root {
    pub fn folders(&self) -> Vec<(String, u32)> {
        let host = if self.hidden.is_empty() { &[][..] } else { &HOST_FOLDERS };
        FOLDERS.iter().chain(host).map(|(path, mode)| ((*path).to_owned(), *mode)).collect()
    }
}

pub(crate) struct Rootfs {
    store: PathBuf,
    /// The stand-in, and the times of the folders that it was made from.
    host: Mutex<Option<(Vec<i64>, Root)>>,
}

impl Rootfs {
    pub fn new(cache: &Path) -> Self {
        Self { store: cache.join("rootfs"), host: Mutex::new(None) }
    }

    pub fn folder(&self, reference: &str) -> PathBuf {
        self.store.join(reference)
    }

    /// `None`: there is no such folder. A reference is a path of plain names.
    pub fn find(&self, reference: &str) -> Option<Root> {
        let plain = |part: Component<'_>| matches!(part, Component::Normal(_));
        if reference.is_empty() || !Path::new(reference).components().all(plain) {
            return None;
        }
        let path = self.folder(reference);
        let metadata = fs::metadata(&path).ok().filter(Metadata::is_dir)?;
        // A root that is built anew is another folder.
        let (inode, seconds, nanos) = (metadata.ino(), metadata.ctime(), metadata.ctime_nsec());
        let identity = Digest::of(format!("{reference} {inode} {seconds} {nanos}").as_bytes());
        Some(Root { path, hidden: Arc::new([]), layers: Vec::new(), identity })
    }

    /// Looked through again when `/` or `/etc` has changed.
    pub fn host(&self) -> Root {
        let times: Vec<i64> = ["/", "/etc", "/usr/bin", "/usr/lib"]
            .iter()
            .filter_map(|path| fs::metadata(path).ok())
            .flat_map(|metadata| [metadata.mtime(), metadata.mtime_nsec()])
            .collect();
        let mut known = self.host.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, root)) = known.as_ref().filter(|(then, _)| *then == times) {
            return root.clone();
        }
        // Not the time of `/`, which changes with every scratch file there.
        let programs = times.get(4..).unwrap_or_default();
        let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let root = Root {
            path: "/".into(),
            hidden: hidden_of_host(Path::new("/")).into_iter().collect(),
            layers: Vec::new(),
            identity: Digest::of(format!("host {programs:?} {release}").as_bytes()),
        };
        *known = Some((times, root.clone()));
        root
    }
}

fn hidden_of_host(root: &Path) -> BTreeSet<String> {
    let mut hidden: BTreeSet<String> = names(root)
        .filter(|name| !HOST_KEPT.contains(&name.as_str()))
        .chain(ETC_HIDDEN.map(str::to_owned))
        .filter(|path| root.join(path).symlink_metadata().is_ok())
        .collect();
    let mut open = vec!["etc".to_owned()];
    while let Some(folder) = open.pop() {
        for name in names(&root.join(&folder)) {
            let path = format!("{folder}/{name}");
            let Ok(metadata) = root.join(&path).symlink_metadata() else { continue };
            let needed = if metadata.is_dir() { 0o5 } else { 0o4 };
            if metadata.mode() & needed != needed {
                hidden.insert(path);
            } else if metadata.is_dir() && !hidden.contains(&path) {
                open.push(path);
            }
        }
    }
    hidden
}

fn names(folder: &Path) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn of_the_host_only_what_everybody_may_read_is_shown() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let make = |path: &str, mode: u32| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("below the root")).expect("room");
            fs::write(&path, "x").expect("room");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("ours");
        };
        make("home/me/secret", 0o644);
        make("usr/bin/tool", 0o755);
        make("etc/passwd", 0o644);
        make("etc/shadow", 0o644);
        make("etc/app/public", 0o644);
        make("etc/app/token", 0o640);
        make("etc/ssh/sshd_config", 0o644);
        make("etc/closed/x", 0o644);
        let closed = fs::Permissions::from_mode(0o750);
        fs::set_permissions(root.path().join("etc/closed"), closed).expect("ours");
        let hidden: Vec<String> = hidden_of_host(root.path()).into_iter().collect();
        assert_eq!(hidden, ["etc/app/token", "etc/closed", "etc/shadow", "etc/ssh", "home"]);
    }

    #[test]
    fn references_stay_inside_the_store() {
        let cache = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir_all(cache.path().join("rootfs/team/base:1")).expect("room");
        let rootfs = Rootfs::new(cache.path());
        assert!(rootfs.find("team/base:1").is_some());
        for reference in ["", "..", "../rootfs", "/", "/etc", "team/../team/base:1", "team/base:2"]
        {
            assert_eq!(rootfs.find(reference), None, "{reference}");
        }
    }
}
