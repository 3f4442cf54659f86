//! Typed values out of a table of a [`TomlDoc`].

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde_json::{Map, Value as Json};

use crate::toml_doc::{Node, Place, Table, TomlDoc, Value, join};

/// A table under reading.
///
/// Each method asks for one key, and thereby makes it a known one. `opt_X` gives `None` where the
/// key is absent, `X_or` a default, plain `X` demands the key. A value that is wrong becomes a
/// defect of the document, and reading goes on as if the key were absent (but never reports it
/// missing as well).
#[derive(Clone, Debug)]
pub struct Section<'d> {
    doc: &'d TomlDoc,
    state: State<'d>,
    /// Dotted path of this table; empty for the root.
    path: String,
    place: Option<Place>,
}

#[derive(Clone, Copy, Debug)]
enum State<'d> {
    Present(&'d Table),
    Absent,
    /// Not a table at all, which has been reported: nothing in it is missing.
    Wrong,
}

#[derive(Clone, Debug)]
pub enum StringOrSection<'d> {
    String(String),
    Section(Section<'d>),
}

impl<'d> Section<'d> {
    pub(crate) fn root(doc: &'d TomlDoc, node: &'d Node) -> Self {
        Self { place: None, ..Self::of(doc, node, String::new()) }
    }

    fn of(doc: &'d TomlDoc, node: &'d Node, path: String) -> Self {
        node.asked.set(true);
        let state = match &node.value {
            Value::Table(table) => State::Present(table),
            other => {
                doc.defect(Some(node.place), &path, "a table", other.describe());
                State::Wrong
            }
        };
        Self { doc, state, path, place: Some(node.place) }
    }

    /// Where the table stands in its file, 1-based.
    pub fn line(&self) -> Option<usize> {
        match self.place {
            Some(Place::Line(line)) => Some(line),
            Some(Place::Argument(_)) | None => None,
        }
    }

    /// Whether the key is there, of whatever type.
    pub fn has(&self, key: &str) -> bool {
        self.peek(key).is_some()
    }

    /// The dotted path of a key of this section, as defects name it.
    pub fn path_of(&self, key: &str) -> String {
        join(&self.path, key)
    }

    /// Reports that the value of `key` will not do, for a reason only the caller knows.
    pub fn refuse(&self, key: &str, expected: &str, found: impl Into<String>) {
        let place = match self.state {
            State::Present(table) => table.entries.get(key).map(|node| node.place),
            State::Absent | State::Wrong => None,
        };
        self.doc.defect(place.or(self.place), &self.path_of(key), expected, found.into());
    }

    pub fn opt_string(&self, key: &str) -> Option<String> {
        self.value(key, "a string", |value| match value {
            Value::String(text) => Some(text.clone()),
            _ => None,
        })
    }

    pub fn string_or(&self, key: &str, default: &str) -> String {
        self.opt_string(key).unwrap_or_else(|| default.to_owned())
    }

    /// A string that no message repeats: what stands here may be a secret.
    pub fn opt_secret_string(&self, key: &str, expected: &str) -> Option<String> {
        let node = self.ask(key)?;
        if let Value::String(text) = &node.value {
            return Some(text.clone());
        }
        node.ask_all();
        self.refuse(key, expected, "a value of another type");
        None
    }

    /// A string that must be there and hold more than white space; empty after a defect.
    pub fn string(&self, key: &str) -> String {
        const EXPECTED: &str = "a string that is not empty";
        let text = self.value(key, EXPECTED, |value| match value {
            Value::String(text) if !text.trim().is_empty() => Some(text.clone()),
            _ => None,
        });
        self.demand(key, EXPECTED);
        text.unwrap_or_default()
    }

    /// A user by name or by number, as a string.
    pub fn opt_name_or_id(&self, key: &str) -> Option<String> {
        self.value(key, "a name or a number", |value| match value {
            Value::String(text) if !text.trim().is_empty() => Some(text.clone()),
            Value::Integer(number) => u32::try_from(*number).ok().map(|id| id.to_string()),
            _ => None,
        })
    }

    pub fn opt_bool(&self, key: &str) -> Option<bool> {
        self.value(key, "true or false", |value| match value {
            Value::Bool(value) => Some(*value),
            _ => None,
        })
    }

    pub fn bool_or(&self, key: &str, default: bool) -> bool {
        self.opt_bool(key).unwrap_or(default)
    }

    pub fn opt_u64(&self, key: &str, range: RangeInclusive<u64>) -> Option<u64> {
        self.value(key, &integer_text(&range), |value| match value {
            Value::Integer(number) => {
                u64::try_from(*number).ok().filter(|number| range.contains(number))
            }
            _ => None,
        })
    }

    pub fn u64_or(&self, key: &str, default: u64, range: RangeInclusive<u64>) -> u64 {
        self.opt_u64(key, range).unwrap_or(default)
    }

    /// The start of the range after a defect.
    pub fn u64(&self, key: &str, range: RangeInclusive<u64>) -> u64 {
        self.demand(key, &integer_text(&range));
        let start = *range.start();
        self.opt_u64(key, range).unwrap_or(start)
    }

    /// Integers are numbers too; NaN is in no range.
    pub fn opt_f64(&self, key: &str, range: RangeInclusive<f64>) -> Option<f64> {
        self.number(key, &number_text("a number", &range), range)
    }

    pub fn f64_or(&self, key: &str, default: f64, range: RangeInclusive<f64>) -> f64 {
        self.opt_f64(key, range).unwrap_or(default)
    }

    /// A span of time in seconds, whole or not; `range` in seconds.
    pub fn opt_duration_sec(&self, key: &str, range: RangeInclusive<f64>) -> Option<Duration> {
        let expected = number_text("a number of seconds", &range);
        let seconds = self.number(key, &expected, range)?;
        let duration = Duration::try_from_secs_f64(seconds);
        if duration.is_err() {
            self.refuse(key, &expected, format!("{seconds:?}"));
        }
        duration.ok()
    }

    pub fn duration_sec_or(
        &self,
        key: &str,
        default: Duration,
        range: RangeInclusive<f64>,
    ) -> Duration {
        self.opt_duration_sec(key, range).unwrap_or(default)
    }

    /// An array of strings; empty where absent. Items that are no strings are reported and left
    /// out.
    pub fn strings(&self, key: &str) -> Vec<String> {
        let Some(node) = self.ask(key) else { return Vec::new() };
        let Value::Array(items) = &node.value else {
            node.ask_all();
            self.refuse(key, "an array of strings", node.value.describe());
            return Vec::new();
        };
        let mut strings = Vec::new();
        for (i, item) in items.iter().enumerate() {
            match &item.value {
                Value::String(text) => strings.push(text.clone()),
                other => {
                    item.ask_all();
                    let path = format!("{}[{i}]", self.path_of(key));
                    self.doc.defect(Some(item.place), &path, "a string", other.describe());
                }
            }
        }
        strings
    }

    /// A table with keys of the user's own choice and strings as values; empty where absent.
    pub fn string_map(&self, key: &str) -> BTreeMap<String, String> {
        let Some(table) = self.free_table(key) else { return BTreeMap::new() };
        let path = self.path_of(key);
        let mut map = BTreeMap::new();
        for (name, node) in &table.entries {
            node.asked.set(true);
            match &node.value {
                Value::String(text) => {
                    map.insert(name.clone(), text.clone());
                }
                other => {
                    node.ask_all();
                    let path = join(&path, name);
                    self.doc.defect(Some(node.place), &path, "a string", other.describe());
                }
            }
        }
        map
    }

    /// A table of the user's own, to be handed on as JSON; empty where absent. TOML's dates and
    /// numbers that are none have no place in JSON.
    pub fn json_map(&self, key: &str) -> Map<String, Json> {
        let Some(table) = self.free_table(key) else { return Map::new() };
        let path = self.path_of(key);
        let entries = table.entries.iter();
        let json = |(name, node): (&String, &Node)| {
            Some((name.clone(), self.json(node, &join(&path, name))?))
        };
        entries.filter_map(json).collect()
    }

    fn json(&self, node: &Node, path: &str) -> Option<Json> {
        node.asked.set(true);
        let json = match &node.value {
            Value::String(text) => Some(text.clone().into()),
            Value::Integer(number) => i64::try_from(*number).ok().map(Json::from),
            Value::Float(number) => serde_json::Number::from_f64(*number).map(Json::Number),
            Value::Bool(value) => Some((*value).into()),
            Value::Array(items) => {
                let items = items.iter().enumerate();
                let item = |(i, item)| self.json(item, &format!("{path}[{i}]"));
                return Some(Json::Array(items.filter_map(item).collect()));
            }
            Value::Table(table) => {
                let entries = table.entries.iter();
                let entry = |(name, node): (&String, &Node)| {
                    Some((name.clone(), self.json(node, &join(path, name))?))
                };
                return Some(Json::Object(entries.filter_map(entry).collect()));
            }
            Value::Datetime(_) | Value::Unreadable(_) => None,
        };
        if json.is_none() {
            let expected = "a value that JSON has too";
            self.doc.defect(Some(node.place), path, expected, node.value.describe());
        }
        json
    }

    /// A table with keys of the user's own choice and tables as values; empty where absent.
    pub fn section_map(&self, key: &str) -> Vec<(String, Section<'d>)> {
        let Some(table) = self.free_table(key) else { return Vec::new() };
        let path = self.path_of(key);
        table
            .entries
            .iter()
            .map(|(name, node)| (name.clone(), Self::of(self.doc, node, join(&path, name))))
            .collect()
    }

    /// One of a fixed set of names, as the value that it stands for.
    pub fn opt_one_of<T: Clone>(&self, key: &str, names: &[(&str, T)]) -> Option<T> {
        self.value(key, &names_text(names), |value| match value {
            Value::String(text) => {
                names.iter().find(|(name, _)| name == text).map(|(_, value)| value.clone())
            }
            _ => None,
        })
    }

    pub fn one_of_or<T: Clone>(&self, key: &str, default: T, names: &[(&str, T)]) -> T {
        self.opt_one_of(key, names).unwrap_or(default)
    }

    /// `None` after a defect.
    pub fn one_of<T: Clone>(&self, key: &str, names: &[(&str, T)]) -> Option<T> {
        self.demand(key, &names_text(names));
        self.opt_one_of(key, names)
    }

    /// A table; where it is absent, an empty one, so that defaults come from one place.
    pub fn section(&self, key: &str) -> Section<'d> {
        self.opt_section(key).unwrap_or_else(|| Section {
            doc: self.doc,
            state: if matches!(self.state, State::Wrong) { State::Wrong } else { State::Absent },
            path: self.path_of(key),
            place: self.place,
        })
    }

    pub fn opt_section(&self, key: &str) -> Option<Section<'d>> {
        let node = self.ask(key)?;
        Some(Self::of(self.doc, node, self.path_of(key)))
    }

    /// An array of tables; empty where absent.
    pub fn sections(&self, key: &str) -> Vec<Section<'d>> {
        let Some(node) = self.ask(key) else { return Vec::new() };
        let path = self.path_of(key);
        match &node.value {
            Value::Array(items) => items
                .iter()
                .enumerate()
                .map(|(i, item)| Self::of(self.doc, item, format!("{path}[{i}]")))
                .collect(),
            other => {
                self.doc.defect(Some(node.place), &path, "an array of tables", other.describe());
                Vec::new()
            }
        }
    }

    /// An array whose items are strings, or tables with more to say; empty where absent.
    pub fn strings_or_sections(&self, key: &str) -> Vec<StringOrSection<'d>> {
        let Some(node) = self.ask(key) else { return Vec::new() };
        let Value::Array(items) = &node.value else {
            node.ask_all();
            self.refuse(key, "an array of strings or tables", node.value.describe());
            return Vec::new();
        };
        let path = self.path_of(key);
        items
            .iter()
            .enumerate()
            .map(|(i, item)| match &item.value {
                Value::String(text) => StringOrSection::String(text.clone()),
                _ => StringOrSection::Section(Self::of(self.doc, item, format!("{path}[{i}]"))),
            })
            .collect()
    }

    /// Makes every key of this section a known one, whatever it holds, but those that are named:
    /// for tables that are free to their author.
    pub fn allow_any_but(&self, strict: &[&str]) {
        if let State::Present(table) = self.state {
            let free = table.entries.iter().filter(|(key, _)| !strict.contains(&key.as_str()));
            free.for_each(|(_, node)| node.ask_all());
        }
    }

    /// Makes `key` and all below it known, whatever it holds.
    pub fn allow_any_of(&self, key: &str) {
        if let Some(node) = self.ask(key) {
            node.ask_all();
        }
    }

    /// Whether the key holds a table, for keys that take more than one type.
    pub fn is_table(&self, key: &str) -> bool {
        self.peek(key).is_some_and(|value| matches!(value, Value::Table(_)))
    }

    /// Whether the key holds an array, for keys that take more than one type.
    pub fn is_array(&self, key: &str) -> bool {
        self.peek(key).is_some_and(|value| matches!(value, Value::Array(_)))
    }

    fn peek(&self, key: &str) -> Option<&'d Value> {
        let State::Present(table) = self.state else { return None };
        table.entries.get(key).map(|node| &node.value)
    }

    fn ask(&self, key: &str) -> Option<&'d Node> {
        let State::Present(table) = self.state else { return None };
        let mut expected = table.expected.borrow_mut();
        if !expected.iter().any(|name| name == key) {
            expected.push(key.to_owned());
        }
        let node = table.entries.get(key)?;
        node.asked.set(true);
        Some(node)
    }

    fn value<T>(
        &self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<T> {
        let node = self.ask(key)?;
        let value = read(&node.value);
        if value.is_none() {
            node.ask_all();
            self.refuse(key, expected, node.value.describe());
        }
        value
    }

    fn number(&self, key: &str, expected: &str, range: RangeInclusive<f64>) -> Option<f64> {
        let number = |value: &Value| match value {
            Value::Integer(number) => Some(*number as f64),
            Value::Float(number) => Some(*number),
            _ => None,
        };
        self.value(key, expected, |value| number(value).filter(|number| range.contains(number)))
    }

    fn free_table(&self, key: &str) -> Option<&'d Table> {
        match self.opt_section(key)?.state {
            State::Present(table) => Some(table),
            State::Absent | State::Wrong => None,
        }
    }

    fn demand(&self, key: &str, expected: &str) {
        if !self.has(key) && !matches!(self.state, State::Wrong) {
            self.ask(key);
            self.refuse(key, expected, "nothing");
        }
    }
}

fn integer_text(range: &RangeInclusive<u64>) -> String {
    match (range.start(), range.end()) {
        (start, &u64::MAX) => format!("an integer of at least {start}"),
        (start, end) => format!("an integer from {start} to {end}"),
    }
}

fn number_text(what: &str, range: &RangeInclusive<f64>) -> String {
    match (range.start(), range.end()) {
        (&f64::NEG_INFINITY, &f64::INFINITY) => what.to_owned(),
        (start, &f64::INFINITY) => format!("{what} of at least {start}"),
        (start, end) => format!("{what} from {start} to {end}"),
    }
}

fn names_text<T>(names: &[(&str, T)]) -> String {
    let quoted: Vec<String> = names.iter().map(|(name, _)| format!("{name:?}")).collect();
    quoted.join(" or ")
}
