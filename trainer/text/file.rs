//! Files that people and tools wrote, read within a bound.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use orcapack_tasks::defect::Defect;

/// All of `file`, at most `bytes_max`.
pub(super) fn read(file: &Path, bytes_max: u64) -> Result<Vec<u8>, Defect> {
    let unreadable = |error| Defect::new(file, "a file that can be read", format!("{error}"));
    let mut bytes = Vec::new();
    let opened = File::open(file).map_err(unreadable)?;
    opened.take(bytes_max + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > bytes_max {
        return Err(Defect::new(file, format!("at most {bytes_max} bytes"), "more"));
    }
    Ok(bytes)
}

/// All of `file` as text.
pub(super) fn read_text(file: &Path, bytes_max: u64) -> Result<String, Defect> {
    String::from_utf8(read(file, bytes_max)?)
        .map_err(|error| Defect::new(file, "UTF-8", format!("{}", error.utf8_error())))
}
