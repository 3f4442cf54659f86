//! `pipeline.jsonl`: what was written down of the tasks, a line for each event. A line is on disk
//! before the next step is taken.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use orcapack_tasks::authoring::line::{self, Event, Line};
use orcapack_tasks::{Defect, Defects};

use crate::exit::Failure;

/// Its name in the folder of the tasks.
pub const JOURNAL: &str = "pipeline.jsonl";

#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
}

impl Journal {
    /// Opens the journal of a folder, which is new where there is none, and gives its lines with
    /// their numbers. What a process that died had begun to write is cut off.
    ///
    /// # Errors
    /// It cannot be read or written, or holds lines that are none of ours.
    pub fn open(folder: &Path) -> Result<(Self, Vec<(usize, Line)>), Defects> {
        let path = folder.join(JOURNAL);
        let unusable = |error: io::Error| {
            Defects::from(Defect::new(&path, "a file to be continued", error.to_string()))
        };
        let mut options = File::options();
        let file = options.read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = file.map_err(unusable)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(unusable)?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        bytes.truncate(whole);
        file.set_len(whole as u64).map_err(unusable)?;
        file.seek(SeekFrom::End(0)).map_err(unusable)?;
        let text = String::from_utf8(bytes)
            .map_err(|error| Defect::new(&path, "text in UTF-8", error.to_string()))?;
        let lines = line::read(&path, &text)?;
        Ok((Self { path, file }, lines))
    }

    /// # Errors
    /// It cannot be written; what comes next must not be done then.
    pub fn append(&mut self, task: u32, slug: Option<&str>, event: &Event) -> Result<(), Failure> {
        let at = format!("{:.3}", jiff::Timestamp::now());
        let line = Line { at, task, slug: slug.map(str::to_owned), event: event.clone() };
        let failed = |error: &dyn std::fmt::Display| {
            Failure::internal(format!("{}: {error}", self.path.display()))
        };
        let mut text = serde_json::to_string(&line).map_err(|error| failed(&error))?;
        text.push('\n');
        let written = self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_data());
        written.map_err(|error| failed(&error))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_journal_goes_on_behind_its_last_whole_line() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, lines) = Journal::open(dir.path()).unwrap();
        assert!(lines.is_empty());
        journal.append(1, Some("a"), &Event::Accepted).unwrap();
        drop(journal);
        let path = dir.path().join(JOURNAL);
        let whole = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{whole}{{\"task\": 2, \"ev")).unwrap();

        let (mut journal, lines) = Journal::open(dir.path()).unwrap();
        assert_eq!(lines.len(), 1);
        journal.append(2, None, &Event::Accepted).unwrap();
        let (_, lines) = Journal::open(dir.path()).unwrap();
        let seen: Vec<_> = lines.iter().map(|(n, line)| (*n, line.task, &line.slug)).collect();
        assert_eq!(seen, [(1, 1, &Some("a".to_owned())), (2, 2, &None)]);

        fs::write(&path, "nonsense\n").unwrap();
        let error = Journal::open(dir.path()).expect_err("refused");
        assert!(error.to_string().contains("pipeline.jsonl:1: expected an event"), "{error}");
    }
}
