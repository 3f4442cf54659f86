//! Typed values out of a JSON file that holds one object.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use orcapack_tasks::defect::{Defect, Defects};
use serde_json::{Map, Value};

use crate::caps::TEXT_BYTES_MAX;
use crate::files;

/// An object under reading.
///
/// Keys are dotted paths; a key that holds `null` is absent, as it is for Python's readers. A value
/// that is wrong becomes a defect and reading goes on, so that all are told at once.
#[derive(Debug)]
pub(crate) struct JsonFile {
    path: PathBuf,
    object: Map<String, Value>,
    defects: Vec<Defect>,
}

impl JsonFile {
    pub(crate) fn read(path: &Path) -> Result<Self, Defect> {
        let text = files::read_text(path, TEXT_BYTES_MAX)?;
        let object = match serde_json::from_str(&text) {
            Ok(Value::Object(object)) => object,
            Ok(other) => return Err(Defect::new(path, "an object", describe(&other))),
            Err(error) => {
                let defect = Defect::new(path, "JSON", error.to_string());
                return Err(defect.at_line(error.line()));
            }
        };
        Ok(Self { path: path.to_owned(), object, defects: Vec::new() })
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        let mut parts = key.split('.');
        let first = self.object.get(parts.next()?)?;
        let value = parts.try_fold(first, |value, part| value.get(part))?;
        (!value.is_null()).then_some(value)
    }

    /// Reports that the value of `key` will not do.
    pub(crate) fn refuse(&mut self, key: &str, expected: impl Into<String>) {
        let found = self.get(key).map_or("nothing".to_owned(), describe);
        self.defects.push(Defect::new(&self.path, expected, found).at_key(key));
    }

    /// A whole number that must be there; 0 after a defect.
    pub(crate) fn size(&mut self, key: &str, range: RangeInclusive<usize>) -> usize {
        let expected = format!("a whole number in {}..={}", range.start(), range.end());
        if self.get(key).is_none() {
            self.refuse(key, expected);
            return 0;
        }
        let size = self.value(key, &expected, |value| {
            let number = usize::try_from(value.as_u64()?).ok()?;
            range.contains(&number).then_some(number)
        });
        size.unwrap_or_default()
    }

    /// A number above 0; `None` where the key is absent, or after a defect.
    pub(crate) fn opt_positive(&mut self, key: &str) -> Option<f64> {
        self.value(key, "a number above 0", |value| value.as_f64().filter(|number| *number > 0.0))
    }

    pub(crate) fn flag_or(&mut self, key: &str, default: bool) -> bool {
        self.value(key, "true or false", Value::as_bool).unwrap_or(default)
    }

    /// Refuses any other value; the key may be absent.
    pub(crate) fn only(&mut self, key: &str, value: impl Into<Value>, why: &str) {
        let value = value.into();
        // 0 and 0.0 are the same.
        let same = |found: &Value| match (found.as_f64(), value.as_f64()) {
            (Some(found), Some(value)) => found.total_cmp(&value).is_eq(),
            _ => *found == value,
        };
        if self.get(key).is_some_and(|found| !same(found)) {
            self.refuse(key, format!("{value}{why}"));
        }
    }

    /// The value of `key` as `parse` understands it.
    pub(crate) fn value<T>(
        &mut self,
        key: &str,
        expected: &str,
        parse: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<T> {
        let parsed = parse(self.get(key)?);
        if parsed.is_none() {
            self.refuse(key, expected);
        }
        parsed
    }

    pub(crate) fn finish(self) -> Defects {
        Defects(self.defects)
    }
}

/// A value as a message shows it: short.
fn describe(value: &Value) -> String {
    const CHARS_MAX: usize = 60;
    let text = value.to_string();
    if text.chars().count() <= CHARS_MAX {
        return text;
    }
    text.chars().take(CHARS_MAX).chain("...".chars()).collect()
}
