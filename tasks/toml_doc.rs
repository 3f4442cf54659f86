//! A TOML document that remembers where each value stands and which keys somebody asked for.
//!
//! Reading goes on after a fault, so that a user sees all of them at once: [`TomlDoc::parse`], then
//! typed values through [`TomlDoc::root`] (a [`Section`]), then [`TomlDoc::finish`], which gives
//! every defect: wrong values, missing keys, and keys that nobody asked for.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::defect::{Defect, Defects};
use crate::near::nearest;
use crate::toml_section::Section;

/// A parsed document and the defects found in it so far.
#[derive(Debug)]
pub struct TomlDoc {
    pub(crate) file: PathBuf,
    root: Node,
    pub(crate) defects: RefCell<Vec<Defect>>,
}

/// A value, where it stands, and whether a reader wanted it.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) value: Value,
    pub(crate) asked: Cell<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// 1-based.
    Line(usize),
    /// Given by [`TomlDoc::set`] from this argument, not by the file.
    Argument(&'static str),
}

#[derive(Debug)]
pub(crate) enum Value {
    String(String),
    /// Wide enough for all that TOML allows; what is wider still is kept as `Unreadable`.
    Integer(i128),
    Float(f64),
    Bool(bool),
    Datetime(String),
    Array(Vec<Node>),
    Table(Table),
    Unreadable(String),
}

#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) entries: BTreeMap<String, Node>,
    /// The keys that readers asked for, in the order of asking.
    pub(crate) expected: RefCell<Vec<String>>,
}

impl TomlDoc {
    /// Reads `text`; `file` is only named in defects. Every line with a syntax error is reported
    /// once.
    pub fn parse(file: &Path, text: &str) -> Result<Self, Defects> {
        let (table, errors) = DeTable::parse_recoverable(text);
        let lines = Lines::of(text);
        let mut defects: Vec<Defect> = errors
            .iter()
            .map(|error| {
                let message = error.message().lines().collect::<Vec<_>>().join(": ");
                let defect = Defect::new(file, "valid TOML", message);
                match error.span() {
                    Some(span) => defect.at_line(lines.line(span.start)),
                    None => defect,
                }
            })
            .collect();
        // One slip makes the parser stumble several times on a line; the first is what a user must
        // mend.
        defects.sort_by_key(|defect| defect.line);
        defects.dedup_by_key(|defect| defect.line);
        let root = Node {
            place: Place::Line(1),
            value: Value::Table(Table::of(table.get_ref(), &|at| Place::Line(lines.line(at)))),
            asked: Cell::new(false),
        };
        Defects(defects).into_result(Self::of_root(file, root))
    }

    /// A document that was written in another notation; `root` holds a table.
    pub(crate) fn of_root(file: &Path, root: Node) -> Self {
        root.asked.set(true);
        Self { file: file.to_owned(), root, defects: RefCell::default() }
    }

    /// Puts `value` over whatever the file says for the dotted `key`, as for `--set KEY=VALUE`.
    ///
    /// Defects name `argument`, such as `--set`, in the place of a file. A value that is not valid
    /// TOML is taken as a string, so that words need no quotes.
    pub fn set(&mut self, argument: &'static str, key: &str, value: &str) -> Result<(), Defect> {
        let place = Place::Argument(argument);
        let defect = |expected: &str, found: String| {
            Defect::new(Path::new(argument), expected, found).at_key(key)
        };
        let mut parts = key_parts(key)
            .ok_or_else(|| defect("a dotted key, such as `trainer.steps`", format!("`{key}`")))?;
        let last = parts.pop().unwrap_or_default();
        let mut table = match &mut self.root.value {
            Value::Table(table) => table,
            _ => return Ok(()),
        };
        for part in parts {
            let node = table.entries.entry(part.clone()).or_insert_with(|| Node {
                place,
                value: Value::Table(Table::default()),
                asked: Cell::new(false),
            });
            match &mut node.value {
                Value::Table(inner) => table = inner,
                other => {
                    let found = format!("`{part}`, which is {}", other.describe());
                    return Err(defect("a path of tables", found));
                }
            }
        }
        table.entries.insert(last, set_value(place, value));
        Ok(())
    }

    /// The whole document.
    pub fn root(&self) -> Section<'_> {
        Section::root(self, &self.root)
    }

    /// Everything wrong in the order of the file: what readers found, and each key that none asked
    /// for.
    pub fn finish<T>(self, value: T) -> Result<T, Defects> {
        let mut defects = self.defects.take();
        if let Value::Table(table) = &self.root.value {
            self.unknown_keys(table, "", &mut defects);
        }
        defects.sort();
        defects.dedup();
        Defects(defects).into_result(value)
    }

    pub(crate) fn defect(&self, place: Option<Place>, key: &str, expected: &str, found: String) {
        let defect = self.defect_of(place, key, expected.to_owned(), found);
        self.defects.borrow_mut().push(defect);
    }

    fn defect_of(
        &self,
        place: Option<Place>,
        key: &str,
        expected: String,
        found: String,
    ) -> Defect {
        let file = match place {
            Some(Place::Argument(argument)) => Path::new(argument),
            Some(Place::Line(_)) | None => &self.file,
        };
        let defect = Defect::new(file, expected, found);
        let defect = if key.is_empty() { defect } else { defect.at_key(key) };
        match place {
            Some(Place::Line(line)) => defect.at_line(line),
            Some(Place::Argument(_)) | None => defect,
        }
    }

    fn unknown_keys(&self, table: &Table, path: &str, defects: &mut Vec<Defect>) {
        for (key, node) in &table.entries {
            let path = join(path, key);
            if node.asked.get() {
                self.unknown_keys_below(node, &path, defects);
                continue;
            }
            let expected = table.expected.borrow();
            let hint = nearest(key, expected.iter().map(String::as_str))
                .map(|name| format!(" (did you mean `{name}`?)"))
                .unwrap_or_default();
            let one_of = if expected.is_empty() {
                "no keys here".to_owned()
            } else {
                format!("one of: {}", expected.join(", "))
            };
            let found = format!("unknown key `{key}`{hint}");
            defects.push(self.defect_of(Some(node.place), &path, one_of, found));
        }
    }

    fn unknown_keys_below(&self, node: &Node, path: &str, defects: &mut Vec<Defect>) {
        match &node.value {
            Value::Table(table) => self.unknown_keys(table, path, defects),
            Value::Array(items) => {
                for (i, item) in items.iter().enumerate() {
                    self.unknown_keys_below(item, &format!("{path}[{i}]"), defects);
                }
            }
            _ => {}
        }
    }
}

impl Table {
    fn of(table: &DeTable<'_>, place: &dyn Fn(usize) -> Place) -> Self {
        let entries = table.iter().map(|(key, value)| {
            let node = Node::of(value, place(key.span().start), place);
            (key.get_ref().to_string(), node)
        });
        Self { entries: entries.collect(), expected: RefCell::default() }
    }
}

impl Node {
    fn of(value: &Spanned<DeValue<'_>>, at: Place, place: &dyn Fn(usize) -> Place) -> Self {
        let value = match value.get_ref() {
            DeValue::String(text) => Value::String(text.to_string()),
            DeValue::Integer(number) => i128::from_str_radix(number.as_str(), number.radix())
                .map_or_else(|_| Value::Unreadable(number.as_str().to_owned()), Value::Integer),
            DeValue::Float(number) => match number.as_str().parse() {
                Ok(number) => Value::Float(number),
                Err(_) => Value::Unreadable(number.as_str().to_owned()),
            },
            DeValue::Boolean(value) => Value::Bool(*value),
            DeValue::Datetime(value) => Value::Datetime(value.to_string()),
            DeValue::Array(items) => Value::Array(
                items.iter().map(|item| Self::of(item, place(item.span().start), place)).collect(),
            ),
            DeValue::Table(table) => Value::Table(Table::of(table, place)),
        };
        Self { place: at, value, asked: Cell::new(false) }
    }

    /// Marks this value and all below it as wanted, whatever it holds.
    pub(crate) fn ask_all(&self) {
        self.asked.set(true);
        match &self.value {
            Value::Table(table) => table.entries.values().for_each(Self::ask_all),
            Value::Array(items) => items.iter().for_each(Self::ask_all),
            _ => {}
        }
    }
}

impl Value {
    /// For the "found" of a defect.
    pub(crate) fn describe(&self) -> String {
        const SHOWN_CHARS_MAX: usize = 60;
        match self {
            Self::String(text) if text.chars().count() > SHOWN_CHARS_MAX => {
                let start: String = text.chars().take(SHOWN_CHARS_MAX).collect();
                format!("the string {start:?}... of {} bytes", text.len())
            }
            Self::String(text) => format!("the string {text:?}"),
            Self::Integer(number) => number.to_string(),
            Self::Float(number) => format!("{number:?}"),
            Self::Bool(value) => value.to_string(),
            Self::Datetime(text) => format!("the date-time {text}"),
            Self::Array(items) => format!("an array of {}", items.len()),
            Self::Table(_) => "a table".to_owned(),
            Self::Unreadable(text) => format!("the number {text}"),
        }
    }
}

/// `path.key`, the key in quotes where TOML needs them.
pub(crate) fn join(path: &str, key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let key =
        if !key.is_empty() && key.chars().all(bare) { key.to_owned() } else { format!("{key:?}") };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

/// The parts of a dotted key in TOML's grammar, or `None` where it is none.
fn key_parts(key: &str) -> Option<Vec<String>> {
    if key.contains(['\n', '\r', '=', '#']) {
        return None;
    }
    let text = format!("{key} = 0");
    let document = DeTable::parse(&text).ok()?;
    let mut table = document.get_ref();
    let mut parts = Vec::new();
    loop {
        let (key, value) = table.iter().next()?;
        parts.push(key.get_ref().to_string());
        match value.get_ref() {
            DeValue::Table(inner) => table = inner,
            _ => return Some(parts),
        }
    }
}

fn set_value(place: Place, text: &str) -> Node {
    let line = format!("value = {text}");
    let parsed = DeTable::parse(&line).ok().and_then(|document| {
        let table = document.get_ref();
        match table.iter().next() {
            Some((_, value)) if table.len() == 1 => Some(Node::of(value, place, &|_| place)),
            _ => None,
        }
    });
    parsed.unwrap_or_else(|| Node {
        place,
        value: Value::String(text.to_owned()),
        asked: Cell::new(false),
    })
}

/// Line numbers of byte offsets.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        Self(text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at).collect())
    }

    fn line(&self, offset: usize) -> usize {
        1 + self.0.partition_point(|newline| *newline < offset)
    }
}

#[cfg(test)]
#[path = "toml_doc_tests.rs"]
mod tests;
