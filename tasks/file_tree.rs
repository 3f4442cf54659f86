//! The files of a task, wherever they came from: a folder on disk or the cells of a CSV file.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

/// Regular files by relative path with `/` between the parts, sorted; no links, no `..`, no empty
/// folders.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileTree {
    /// Shared: every attempt has a clone of what its image is made from.
    files: Arc<BTreeMap<String, FileEntry>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    pub content: Content,
    pub executable: bool,
    /// SHA-256 of the bytes, taken when the file was read.
    pub digest: [u8; 32],
    pub len: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    Inline(Arc<[u8]>),
    OnDisk(PathBuf),
}

impl FileTree {
    /// Adds a file whose bytes are at hand. A file of the same path is replaced.
    pub fn insert(&mut self, path: impl Into<String>, bytes: &[u8], executable: bool) {
        let entry = FileEntry {
            content: Content::Inline(bytes.into()),
            executable,
            digest: Sha256::digest(bytes).into(),
            len: bytes.len() as u64,
        };
        Arc::make_mut(&mut self.files).insert(path.into(), entry);
    }

    /// Adds an entry as it is; readers of folders use it for files that stay on disk.
    pub fn insert_entry(&mut self, path: impl Into<String>, entry: FileEntry) {
        Arc::make_mut(&mut self.files).insert(path.into(), entry);
    }

    pub fn get(&self, path: &str) -> Option<&FileEntry> {
        self.files.get(path)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &FileEntry)> {
        self.files.iter().map(|(path, entry)| (path.as_str(), entry))
    }

    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Puts the files of `upper` over these; those of the same path are replaced.
    pub fn overlay(&mut self, upper: &Self) {
        Arc::make_mut(&mut self.files)
            .extend(upper.files.iter().map(|(path, entry)| (path.clone(), entry.clone())));
    }

    /// Whether a path may be put into a tree: relative, with `/` between plain parts.
    pub fn is_plain_path(path: &str) -> bool {
        let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
        !path.contains(['\\', '\0']) && path.split('/').all(plain)
    }

    /// Over paths, modes and contents. Equal trees have equal digests on every machine.
    pub fn digest(&self) -> Digest {
        let mut hasher = Sha256::new();
        for (path, entry) in self.files.iter() {
            hasher.update((path.len() as u64).to_le_bytes());
            hasher.update(path.as_bytes());
            hasher.update([u8::from(entry.executable)]);
            hasher.update(entry.digest);
        }
        Digest(hasher.finalize().into())
    }
}

impl FileEntry {
    /// The bytes; an error where a file on disk is gone or has changed since it was read.
    pub fn read(&self) -> io::Result<Arc<[u8]>> {
        match &self.content {
            Content::Inline(bytes) => Ok(bytes.clone()),
            Content::OnDisk(path) => {
                let bytes = std::fs::read(path)?;
                if <[u8; 32]>::from(Sha256::digest(&bytes)) != self.digest {
                    return Err(io::Error::other(format!(
                        "{} has changed since the task was read",
                        path.display()
                    )));
                }
                Ok(bytes.into())
            }
        }
    }
}

/// A SHA-256 digest; printed as `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, bincode::Encode, bincode::Decode)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The first 12 hexadecimal digits, for names of images and folders.
    pub fn short(&self) -> String {
        hex(&self.0[..6])
    }
}

impl FromStr for Digest {
    type Err = ();

    /// The form in which digests are printed, and no other.
    fn from_str(text: &str) -> Result<Self, ()> {
        let digits = text.strip_prefix("sha256:").filter(|digits| digits.len() == 64).ok_or(())?;
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| ())?;
            if !pair.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')) {
                return Err(());
            }
            *byte = u8::from_str_radix(pair, 16).map_err(|_| ())?;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", hex(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_paths_that_stay_below_are_plain() {
        for path in ["a", "a/b.c", ".hidden", "a b/..c"] {
            assert!(FileTree::is_plain_path(path), "{path}");
        }
        for path in ["", "/a", "a/", "a//b", "..", "a/../b", "./a", "a\\b", "a\0"] {
            assert!(!FileTree::is_plain_path(path), "{path}");
        }
    }

    #[test]
    fn a_digest_tells_paths_modes_and_contents_apart() {
        let digest = |files: &[(&str, &str, bool)]| {
            let mut tree = FileTree::default();
            files.iter().for_each(|(path, text, mode)| tree.insert(*path, text.as_bytes(), *mode));
            tree.digest()
        };
        let one = digest(&[("a", "1", false), ("b", "2", false)]);
        assert_eq!(one, digest(&[("b", "2", false), ("a", "1", false)]));
        for other in [
            digest(&[("a", "2", false), ("b", "1", false)]),
            digest(&[("a", "1", true), ("b", "2", false)]),
            digest(&[("a", "1", false)]),
            digest(&[("a", "1", false), ("c", "2", false)]),
        ] {
            assert_ne!(one, other);
        }
    }

    proptest! {
        #[test]
        fn a_digest_is_read_as_it_is_printed(bytes: [u8; 32], other in "\\PC{0,80}") {
            prop_assert_eq!(Digest(bytes).to_string().parse(), Ok(Digest(bytes)));
            if let Ok(digest) = other.parse::<Digest>() {
                prop_assert_eq!(digest.to_string(), other);
            }
        }
    }
}
