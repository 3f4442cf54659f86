//! What is wrong with an input: where, what was expected, what was found.

use std::fmt;
use std::path::{Path, PathBuf};

/// One fault in a file that a user wrote: a config, a task, a data set, a report.
///
/// Printed as `FILE:LINE: KEY: expected EXPECTED, found FOUND`; the parts that are unknown are left
/// out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Defect {
    pub file: PathBuf,
    /// 1-based.
    pub line: Option<usize>,
    /// Dotted path of the key, column or member, such as `environment.memory_mb`.
    pub key: Option<String>,
    pub expected: String,
    pub found: String,
}

impl Defect {
    pub fn new(file: &Path, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line: None,
            key: None,
            expected: expected.into(),
            found: found.into(),
        }
    }

    #[must_use]
    pub fn at_line(mut self, line: usize) -> Self {
        self.line = Some(line);
        self
    }

    #[must_use]
    pub fn at_key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(key) = &self.key {
            write!(f, ": {key}")?;
        }
        write!(f, ": expected {}, found {}", self.expected, self.found)
    }
}

/// Everything that is wrong with an input, so that a user mends it in one go. Never empty as an
/// error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Defects(pub Vec<Defect>);

impl Defects {
    /// `Ok(value)` when nothing is wrong, else all the defects.
    pub fn into_result<T>(self, value: T) -> Result<T, Self> {
        if self.0.is_empty() { Ok(value) } else { Err(self) }
    }
}

impl From<Defect> for Defects {
    fn from(defect: Defect) -> Self {
        Self(vec![defect])
    }
}

impl fmt::Display for Defects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, defect) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{defect}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Defects {}
