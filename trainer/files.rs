//! Files of a policy's directory: read within a limit, replaced as a whole.

use std::fs::{self, File, Metadata};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use orcapack_tasks::defect::Defect;

/// Opens a regular file, or what a link leads to: hubs keep their directories as links.
pub(crate) fn open(path: &Path) -> Result<(File, Metadata), Defect> {
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Defect::new(path, "a file", "nothing"),
        _ => Defect::new(path, "a file that can be read", error.to_string()),
    };
    // Asked first: to open a pipe would wait for who writes to it.
    let metadata = fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        let found = if metadata.is_dir() { "a folder" } else { "a device, pipe or socket" };
        return Err(Defect::new(path, "a regular file", found));
    }
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    Ok((file, metadata))
}

/// All of a file.
pub(crate) fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>, Defect> {
    let (file, _) = open(path)?;
    let mut bytes = Vec::new();
    file.take(bytes_max + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Defect::new(path, "a file that can be read", error.to_string()))?;
    if bytes.len() as u64 > bytes_max {
        return Err(Defect::new(path, format!("a file of at most {bytes_max} bytes"), "more"));
    }
    Ok(bytes)
}

/// The text of a file in UTF-8.
pub(crate) fn read_text(path: &Path, bytes_max: u64) -> Result<String, Defect> {
    String::from_utf8(read(path, bytes_max)?).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let before = error.as_bytes().iter().take(at);
        let line = 1 + before.filter(|byte| **byte == b'\n').count();
        let found = error.as_bytes().get(at).map(|byte| format!("the byte 0x{byte:02x}"));
        Defect::new(path, "text in UTF-8", found.unwrap_or_default()).at_line(line)
    })
}

/// Either the old bytes or the new ones are there, whenever the process dies: `write` fills a file
/// beside, which then takes the place.
pub(crate) fn write_whole(
    path: &Path,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let mut staged = path.as_os_str().to_owned();
    staged.push(".staged");
    let staged = Path::new(&staged);
    let written = File::create(staged).and_then(|mut file| {
        write(&mut file)?;
        file.sync_all()
    });
    let renamed = written.and_then(|()| fs::rename(staged, path));
    if renamed.is_err() {
        // What is half written is of no use; the error above is the one to tell.
        drop(fs::remove_file(staged));
    }
    renamed
}

pub(crate) fn write_text(path: &Path, text: &str) -> io::Result<()> {
    write_whole(path, |file| file.write_all(text.as_bytes()))
}

/// Makes the names of the files in `dir` last through a loss of power.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_within_its_limit_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x");
        let found = |bytes: &[u8]| {
            fs::write(&file, bytes).unwrap();
            read_text(&file, 8).map_err(|defect| (defect.line, defect.found))
        };
        assert_eq!(found(b"12345678"), Ok("12345678".to_owned()));
        assert_eq!(found(b"123456789"), Err((None, "more".to_owned())));
        assert_eq!(found(b"a\n\xFFb"), Err((Some(2), "the byte 0xff".to_owned())));
        assert_eq!(read_text(dir.path(), 8).unwrap_err().found, "a folder");
        assert_eq!(read_text(&dir.path().join("y"), 8).unwrap_err().found, "nothing");
    }

    #[test]
    fn a_write_that_fails_leaves_the_old_file_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x");
        write_whole(&file, |file| file.write_all(b"old")).unwrap();
        let failed = write_whole(&file, |file| {
            file.write_all(b"new")?;
            Err(io::Error::other("full"))
        });
        assert_eq!(failed.unwrap_err().to_string(), "full");
        assert_eq!(fs::read(&file).unwrap(), b"old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
