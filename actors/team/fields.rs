//! A body's fields as values of their types: present or absent, in range, and no others.

use std::ops::RangeInclusive;

use crate::team::lenient_repair::unknown_field;
use crate::team::lenient_yaml::{BodyFault, Node, Readings, Value, shortened};
use crate::team::schema::{Field, Kind, field};

/// Of a name or path, in bytes: what a path may have.
const WORD_BYTES_MAX: usize = 4096;

pub(crate) type Read<T> = Result<T, BodyFault>;

pub(crate) struct Fields<'n> {
    known: &'static [Field],
    line: usize,
    entries: &'n [(String, Node)],
}

impl<'n> Fields<'n> {
    /// Refuses fields that are not `known`.
    pub(crate) fn of(known: &'static [Field], node: &'n Node) -> Read<Self> {
        let entries = match &node.value {
            Value::Null => &[],
            Value::Map(entries) => entries.as_slice(),
            other => {
                let names: Vec<&str> = known.iter().map(|field| field.name).collect();
                let message = format!(
                    "expected fields in YAML, each as `{}: ...` on a line of its own, found {} \
                     (fields: {})",
                    names.first().unwrap_or(&"name"),
                    other.describe(),
                    names.join(", ")
                );
                return Err(BodyFault::new(node.line, message));
            }
        };
        for (key, value) in entries {
            if field(known, key).is_none() {
                return Err(BodyFault::new(value.line, unknown_field(known, key)));
            }
        }
        Ok(Self { known, line: node.line, entries })
    }

    /// Refuses fields that `what` does not have, although others of its tag have.
    pub(crate) fn only(&self, what: &str, names: &[&str]) -> Read<()> {
        for (key, value) in self.entries {
            if !names.contains(&key.as_str()) && value.value != Value::Null {
                let message = format!("{what} has no `{key}` (fields: {})", names.join(", "));
                return Err(BodyFault::new(value.line, message));
            }
        }
        Ok(())
    }

    pub(crate) fn fault(&self, message: impl Into<String>) -> BodyFault {
        BodyFault::new(self.line, message)
    }

    fn get(&self, name: &str) -> Option<&'n Node> {
        let (_, node) = self.entries.iter().find(|(key, _)| key == name)?;
        (node.value != Value::Null).then_some(node)
    }

    fn needed<T>(&self, name: &str, value: Option<T>) -> Read<T> {
        value.ok_or_else(|| self.fault(format!("`{name}` is missing")))
    }

    pub(crate) fn opt_text(&self, name: &str) -> Read<Option<String>> {
        match self.get(name) {
            None => Ok(None),
            Some(Node { value: Value::Text(text), .. }) => Ok(Some(text.clone())),
            Some(node) => Err(expected(name, "text", node)),
        }
    }

    /// A text, which may be empty: `key:` is.
    pub(crate) fn text(&self, name: &str) -> Read<String> {
        let is_there = self.entries.iter().any(|(key, _)| key == name);
        let text = self.opt_text(name)?.or_else(|| is_there.then(String::new));
        self.needed(name, text)
    }

    pub(crate) fn filled_text(&self, name: &str) -> Read<String> {
        let text = self.text(name)?;
        match text.trim().is_empty() {
            true => Err(self.fault(format!("`{name}` is empty"))),
            false => Ok(text),
        }
    }

    pub(crate) fn opt_word(&self, name: &str) -> Read<Option<String>> {
        self.get(name).map(|node| one_word(name, node)).transpose()
    }

    pub(crate) fn word(&self, name: &str) -> Read<String> {
        let word = self.opt_word(name)?;
        self.needed(name, word)
    }

    /// One of several names, and what it stands for.
    pub(crate) fn choice<T: Copy>(&self, name: &str, choices: &[(&str, T)]) -> Read<T> {
        let word = self.word(name)?;
        let found = choices.iter().find(|(choice, _)| choice.eq_ignore_ascii_case(&word));
        found.map(|(_, value)| *value).ok_or_else(|| {
            let names: Vec<&str> = choices.iter().map(|(choice, _)| *choice).collect();
            let line = self.get(name).map_or(self.line, |node| node.line);
            let message = format!("`{name}` is one of {}, found `{word}`", names.join(", "));
            BodyFault::new(line, message)
        })
    }

    pub(crate) fn flag(&self, name: &str, default: bool) -> Read<bool> {
        match self.get(name) {
            None => Ok(default),
            Some(Node { value: Value::Bool(value), .. }) => Ok(*value),
            Some(Node { value: Value::Text(text), .. }) if text.eq_ignore_ascii_case("true") => {
                Ok(true)
            }
            Some(Node { value: Value::Text(text), .. }) if text.eq_ignore_ascii_case("false") => {
                Ok(false)
            }
            Some(node) => Err(expected(name, "true or false", node)),
        }
    }

    pub(crate) fn number(&self, name: &str, range: RangeInclusive<u64>) -> Read<Option<u64>> {
        let Some(node) = self.get(name) else { return Ok(None) };
        let number = match &node.value {
            Value::Integer(number) => u64::try_from(*number).ok(),
            Value::Text(text) => text.trim().parse().ok(),
            _ => None,
        };
        let what = || match range.end() {
            &u64::MAX => format!("a whole number from {}", range.start()),
            end => format!("a whole number from {} to {end}", range.start()),
        };
        match number.filter(|number| range.contains(number)) {
            Some(number) => Ok(Some(number)),
            None => Err(expected(name, &what(), node)),
        }
    }

    /// A list of words; a single word is a list of one.
    pub(crate) fn words(&self, name: &str, max: usize) -> Read<Vec<String>> {
        let Some(node) = self.get(name) else { return Ok(Vec::new()) };
        match &node.value {
            Value::List(items) => {
                bounded(name, node, items.len(), max)?;
                items.iter().map(|item| one_word(name, item)).collect()
            }
            Value::Text(text) if !text.contains([' ', ',', '\n']) => {
                Ok(vec![one_word(name, node)?])
            }
            _ => Err(expected(name, "a list", node)),
        }
    }

    /// A list of mappings; a single mapping is a list of one.
    pub(crate) fn items<T>(
        &self,
        name: &str,
        max: usize,
        read: impl Fn(Fields<'n>) -> Read<T>,
    ) -> Read<Vec<T>> {
        let Some(node) = self.get(name) else { return Ok(Vec::new()) };
        let known: &'static [Field] = match field(self.known, name).map(|field| &field.kind) {
            Some(Kind::Items(known)) => known,
            _ => &[],
        };
        match &node.value {
            Value::List(items) => {
                bounded(name, node, items.len(), max)?;
                items.iter().map(|item| read(Fields::of(known, item)?)).collect()
            }
            Value::Map(_) => Ok(vec![read(Fields::of(known, node)?)?]),
            _ => Err(expected(name, "a list of mappings", node)),
        }
    }
}

/// Of the readings of a body, the first that becomes an action. If none does, the fault is that of
/// the first which is a tree at all.
pub(crate) fn first<A>(readings: &Readings<'_>, make: impl Fn(&Node) -> Read<A>) -> Read<A> {
    let likelier = readings.likelier();
    let was_tree = likelier.is_ok();
    likelier.and_then(|node| make(&node)).or_else(|fault| {
        let other = readings.other().and_then(|node| make(&node));
        other.map_err(|second| if was_tree { fault } else { second })
    })
}

fn expected(name: &str, what: &str, node: &Node) -> BodyFault {
    let message = format!("`{name}` is {what}, found {}", node.value.describe());
    BodyFault::new(node.line, message)
}

fn bounded(name: &str, node: &Node, count: usize, max: usize) -> Read<()> {
    match count <= max {
        true => Ok(()),
        false => Err(expected(name, &format!("at most {max} items"), node)),
    }
}

fn one_word(name: &str, node: &Node) -> Read<String> {
    let text = match &node.value {
        Value::Text(text) => text.trim(),
        _ => return Err(expected(name, "a name", node)),
    };
    let message = if text.is_empty() {
        format!("`{name}` is empty")
    } else if text.len() > WORD_BYTES_MAX {
        format!("`{name}` has {} bytes, at most {WORD_BYTES_MAX} are read", text.len())
    } else if text.contains(char::is_control) {
        format!("`{name}` is one line without control characters, found `{}`", shortened(text))
    } else {
        return Ok(text.to_owned());
    };
    Err(BodyFault::new(node.line, message))
}
