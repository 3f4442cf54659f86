//! Task files as tar archives, and files out of tar archives that came from an environment.

use std::io::{self, Read as _};

use orcapack_tasks::FileTree;

/// At most what the archive of one small file is larger than the file.
pub const OVERHEAD_BYTES: u64 = 8 << 10;

/// The two empty blocks at an archive's end.
const END_BYTES: usize = 1024;

const MODE_FILE: u32 = 0o644;
const MODE_EXECUTABLE: u32 = 0o755;

/// A tree as a tar archive: equal trees give equal bytes (sorted, times 0, owner root).
///
/// # Errors
/// Where a file on disk is gone or has changed since its task was read.
pub fn of_tree(tree: &FileTree) -> io::Result<Vec<u8>> {
    let capacity = tree.iter().map(|(_, entry)| room(entry.len)).sum::<usize>() + END_BYTES;
    let mut archive = tar::Builder::new(Vec::with_capacity(capacity));
    for (path, entry) in tree.iter() {
        let mode = if entry.executable { MODE_EXECUTABLE } else { MODE_FILE };
        append(&mut archive, path, &entry.read()?, mode)?;
    }
    archive.into_inner()
}

/// One file as a tar archive.
pub fn of_file(name: &str, bytes: &[u8]) -> Vec<u8> {
    let capacity = room(bytes.len() as u64) + END_BYTES;
    let mut archive = tar::Builder::new(Vec::with_capacity(capacity));
    // Writing into memory fails only for a name that tar cannot hold, and then the archive is
    // empty.
    let _ = append(&mut archive, name, bytes, MODE_FILE);
    archive.into_inner().unwrap_or_default()
}

/// The bytes of the file that an archive is of, such as
/// [`Sandbox::get`](crate::sandbox::Sandbox::get) gives for the path of a file; `None` where it is
/// of a folder, whatever is in it, or empty.
///
/// # Errors
/// Where the bytes are not a tar archive.
pub fn file_of(archive: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let mut archive = tar::Archive::new(archive);
    let Some(entry) = archive.entries()?.next() else { return Ok(None) };
    let mut entry = entry?;
    if !entry.header().entry_type().is_file() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// What a file of `len` bytes takes, with its header; a long path takes more.
fn room(len: u64) -> usize {
    512 + len.next_multiple_of(512) as usize
}

fn append(
    archive: &mut tar::Builder<Vec<u8>>,
    path: &str,
    bytes: &[u8],
    mode: u32,
) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(mode);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_cksum();
    archive.append_data(&mut header, path, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_found_in_its_own_archive_and_not_in_that_of_its_folder() {
        assert_eq!(file_of(&of_file("reward.txt", b"1")).unwrap(), Some(b"1".to_vec()));
        let mut folder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_size(0);
        header.set_cksum();
        folder.append_data(&mut header, "reward.txt", io::empty()).unwrap();
        append(&mut folder, "reward.txt/reward.txt", b"1", MODE_FILE).unwrap();
        assert_eq!(file_of(&folder.into_inner().unwrap()).unwrap(), None);
        assert_eq!(file_of(&[0; 1024]).unwrap(), None);
        assert!(file_of(b"no archive").is_err());
    }
}
