//! Reading the files of a task's folder: bounded, without links, every fault reported.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::caps::{
    FILE_BYTES_MAX, FOLDER_DEPTH_MAX, INLINE_BYTES_MAX, TASK_BYTES_MAX, TASK_FILES_MAX,
};
use crate::defect::{Defect, Defects};
use crate::file_tree::{Content, FileEntry, FileTree};

/// A task's folder under reading, what is left of its caps, and the defects found so far.
#[derive(Debug)]
pub struct TaskFolder {
    root: PathBuf,
    files_left: usize,
    bytes_left: u64,
    defects: Vec<Defect>,
}

impl TaskFolder {
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            files_left: TASK_FILES_MAX,
            bytes_left: TASK_BYTES_MAX,
            defects: Vec::new(),
        }
    }

    pub fn path(&self, relative: &str) -> PathBuf {
        if relative.is_empty() { self.root.clone() } else { self.root.join(relative) }
    }

    /// Whether something of that name is there, be it only a broken link.
    pub fn has(&self, relative: &str) -> bool {
        self.path(relative).symlink_metadata().is_ok()
    }

    pub fn report(&mut self, relative: &str, expected: &str, found: impl Into<String>) {
        self.defects.push(Defect::new(&self.path(relative), expected, found));
    }

    pub fn append(&mut self, defects: Defects) {
        self.defects.extend(defects.0);
    }

    /// Everything reported so far, sorted by file and line.
    pub fn into_defects(mut self) -> Defects {
        self.defects.sort();
        self.defects.dedup();
        Defects(self.defects)
    }

    /// A text file that must be there. `None` after a defect.
    pub fn text(&mut self, relative: &str, bytes_max: u64) -> Option<String> {
        let path = self.path(relative);
        match read_text(&path, bytes_max) {
            Ok(text) => Some(text),
            Err(defect) => {
                self.defects.push(defect);
                None
            }
        }
    }

    /// All files below a folder, by their paths in it; empty where there is no such folder.
    pub fn tree(&mut self, relative: &str) -> FileTree {
        self.tree_of(relative, &|_| true)
    }

    /// The files below a folder whose first part satisfies `wanted`: its name in that folder.
    pub fn tree_of(&mut self, relative: &str, wanted: &dyn Fn(&str) -> bool) -> FileTree {
        let mut tree = FileTree::default();
        let path = self.path(relative);
        match path.symlink_metadata() {
            Ok(metadata) if metadata.is_dir() => self.walk(&path, "", 0, wanted, &mut tree),
            Ok(metadata) => self.report(relative, "a folder", kind(&metadata)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => self.report(relative, "a folder", error.to_string()),
        }
        tree
    }

    fn walk(
        &mut self,
        dir: &Path,
        prefix: &str,
        depth: usize,
        wanted: &dyn Fn(&str) -> bool,
        tree: &mut FileTree,
    ) {
        if depth > FOLDER_DEPTH_MAX {
            let expected = format!("at most {FOLDER_DEPTH_MAX} folders inside one another");
            self.defects.push(Defect::new(dir, expected, "one more"));
            return;
        }
        let entries = match fs::read_dir(dir).and_then(Iterator::collect::<io::Result<Vec<_>>>) {
            Ok(entries) => entries,
            Err(error) => {
                self.defects.push(Defect::new(dir, "a folder that can be read", error.to_string()));
                return;
            }
        };
        for entry in entries {
            let path = entry.path();
            let Ok(name) = entry.file_name().into_string() else {
                self.defects.push(Defect::new(dir, "names in UTF-8", format!("{path:?}")));
                continue;
            };
            if is_litter(&name) || !wanted(&name) {
                continue;
            }
            let relative = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
            let read = path.symlink_metadata().map_err(|error| error.to_string());
            match read {
                Ok(metadata) if metadata.is_dir() => {
                    self.walk(&path, &relative, depth + 1, &|_| true, tree);
                }
                Ok(metadata) if metadata.is_file() => match self.file(&path, &metadata) {
                    Ok(Some(entry)) => tree.insert_entry(relative, entry),
                    Ok(None) => return,
                    Err(defect) => self.defects.push(defect),
                },
                Ok(metadata) => {
                    let found = kind(&metadata);
                    self.defects.push(Defect::new(&path, "a regular file or a folder", found));
                }
                Err(error) => self.defects.push(Defect::new(&path, "a file", error)),
            }
        }
    }

    /// `None` once the task's caps are used up, which is reported once.
    fn file(&mut self, path: &Path, metadata: &fs::Metadata) -> Result<Option<FileEntry>, Defect> {
        let len = metadata.len();
        if len > FILE_BYTES_MAX {
            let expected = format!("a file of at most {FILE_BYTES_MAX} bytes");
            return Err(Defect::new(path, expected, format!("{len}")));
        }
        if self.files_left == 0 || len > self.bytes_left {
            let expected =
                format!("a task of at most {TASK_FILES_MAX} files and {TASK_BYTES_MAX} bytes");
            let defect = Defect::new(&self.root, expected, "more");
            if !self.defects.contains(&defect) {
                self.defects.push(defect);
            }
            return Ok(None);
        }
        self.files_left -= 1;
        self.bytes_left -= len;
        let unreadable =
            |error: io::Error| Defect::new(path, "a file that can be read", error.to_string());
        let (content, digest, len) = if len <= INLINE_BYTES_MAX {
            let bytes = read_at_most(path, FILE_BYTES_MAX).map_err(unreadable)?;
            let len = bytes.len() as u64;
            (Content::Inline(Arc::from(bytes.as_slice())), Sha256::digest(&bytes).into(), len)
        } else {
            (Content::OnDisk(path.to_owned()), hash_file(path).map_err(unreadable)?, len)
        };
        let executable = metadata.permissions().mode() & 0o111 != 0;
        Ok(Some(FileEntry { content, executable, digest, len }))
    }
}

/// What editors and interpreters leave behind; Harbor's packages leave out the same.
pub(crate) fn is_litter(name: &str) -> bool {
    name == "__pycache__"
        || name == ".DS_Store"
        || name.ends_with('~')
        || [".pyc", ".swp", ".swo"].iter().any(|end| name.ends_with(end))
}

/// The text of a regular file in UTF-8, or what is wrong with it.
pub(crate) fn read_text(path: &Path, bytes_max: u64) -> Result<String, Defect> {
    let metadata = path.symlink_metadata().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Defect::new(path, "a file", "nothing"),
        _ => Defect::new(path, "a file", error.to_string()),
    })?;
    if !metadata.is_file() {
        return Err(Defect::new(path, "a regular file", kind(&metadata)));
    }
    if metadata.len() > bytes_max {
        let expected = format!("a file of at most {bytes_max} bytes");
        return Err(Defect::new(path, expected, metadata.len().to_string()));
    }
    let bytes = read_at_most(path, bytes_max)
        .map_err(|error| Defect::new(path, "a file that can be read", error.to_string()))?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let bytes = error.as_bytes();
        let line = 1 + bytes.iter().take(at).filter(|byte| **byte == b'\n').count();
        let found = bytes.get(at).map(|byte| format!("the byte 0x{byte:02x}"));
        Defect::new(path, "text in UTF-8", found.unwrap_or_default()).at_line(line)
    })
}

/// Stops at the cap also where a file grows while it is read.
fn read_at_most(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(io::Error::other("it grows while it is read"));
    }
    Ok(bytes)
}

pub(crate) fn hash_file(path: &Path) -> io::Result<[u8; 32]> {
    let mut hasher = Sha256::new();
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(hasher.finalize().into());
        }
        hasher.update(buffer.get(..read).unwrap_or_default());
    }
}

fn kind(metadata: &fs::Metadata) -> &'static str {
    let file_type = metadata.file_type();
    if file_type.is_symlink() {
        "a symbolic link"
    } else if file_type.is_dir() {
        "a folder"
    } else if file_type.is_file() {
        "a file"
    } else {
        "a device, pipe or socket"
    }
}
