//! The body of a block, read into a tree: as YAML (1.2's booleans) or JSON, and where it is
//! neither, as what its writer meant.
//!
//! A body has up to two readings. The strict one is a parser's. The other knows the fields of its
//! action, and is in [`lenient_repair`](super::lenient_repair). Whoever makes an action of a tree
//! takes the first reading that becomes one.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use crate::team::lenient_repair;
use crate::team::schema::{Field, Kind, field, key_of};
use crate::team::tag::is_fence;

/// Values inside of values. Actions have lists of mappings: 3 levels.
const DEPTH_MAX: usize = 16;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    /// In the answer, 1 for its first line.
    pub line: usize,
    pub value: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    /// Absent.
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    /// In the order in which they were written, each key once.
    Map(Vec<(String, Node)>),
}

/// Why a body is not a tree.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct BodyFault {
    /// In the answer.
    pub line: usize,
    pub message: String,
}

pub(crate) type Parsed = Result<Node, BodyFault>;

impl BodyFault {
    pub(crate) fn new(line: usize, message: impl Into<String>) -> Self {
        Self { line, message: message.into() }
    }
}

/// The readings of a body, made as they are asked for: mostly the first becomes an action.
pub(crate) struct Readings<'b> {
    fields: &'b [Field],
    body: Cow<'b, str>,
    /// Of its first line.
    line: usize,
    /// The likelier one first.
    ways: [Way; 2],
}

#[derive(Clone, Copy)]
enum Way {
    Json,
    Strict,
    Repaired,
}

impl<'b> Readings<'b> {
    pub(crate) fn of(fields: &'b [Field], body: &'b str, line: usize) -> Self {
        let (body, line) = without_fences(body, line);
        let ways = if body.trim_start().starts_with('{') {
            // YAML folds line ends in quotes, which JSON does not have at all: it comes second.
            [Way::Json, Way::Strict]
        } else if is_misread(fields, &body) {
            [Way::Repaired, Way::Strict]
        } else {
            [Way::Strict, Way::Repaired]
        };
        Self { fields, body, line, ways }
    }

    pub(crate) fn likelier(&self) -> Parsed {
        self.read(self.ways[0])
    }

    pub(crate) fn other(&self) -> Parsed {
        self.read(self.ways[1])
    }

    fn read(&self, way: Way) -> Parsed {
        match way {
            Way::Json => json(&lenient_repair::json(&self.body), self.line),
            Way::Strict => strict(&self.body, self.line),
            Way::Repaired => lenient_repair::repair(self.fields, &self.body, self.line),
        }
    }
}

/// Markdown's fences around a body are no part of it.
fn without_fences(body: &str, line: usize) -> (Cow<'_, str>, usize) {
    let lines: Vec<&str> = body.split('\n').collect();
    let first = lines.iter().position(|line| !line.trim().is_empty());
    let last = lines.iter().rposition(|line| !line.trim().is_empty());
    match (first, last) {
        (Some(first), Some(last)) if is_fence(lines.get(first).unwrap_or(&"")) => {
            let is_closed = last > first && is_fence(lines.get(last).unwrap_or(&""));
            let end = if is_closed { last } else { last + 1 };
            let inside = lines.get(first + 1..end).unwrap_or_default();
            (inside.join("\n").into(), line + first + 1)
        }
        _ => (body.into(), line),
    }
}

/// Whether YAML would take a part of a plain text for something else without a word: a comment, an
/// anchor, a tag, or the lines of a here-document for one.
fn is_misread(fields: &[Field], body: &str) -> bool {
    let lines: Vec<&str> = body.split('\n').collect();
    lines.iter().zip(1..).any(|(line, next)| {
        let line = line.trim_start();
        let Some((key, value)) = key_of(line.strip_prefix("- ").unwrap_or(line)) else {
            return false;
        };
        let below = || lines.get(next).is_some_and(|next| key_of(next).is_none());
        is_text(fields, key)
            && !value.starts_with(['"', '\'', '|', '>'])
            && (value.starts_with(['&', '!', '*', '#'])
                || value.contains(" #")
                || value.contains("<<") && below())
    })
}

fn is_text(fields: &[Field], key: &str) -> bool {
    let inner = fields.iter().filter_map(|field| match field.kind {
        Kind::Items(inner) => Some(inner),
        _ => None,
    });
    let mut all = inner.chain([fields]);
    all.any(|fields| field(fields, key).is_some_and(|field| field.kind == Kind::Text))
}

fn strict(body: &str, line: usize) -> Parsed {
    // Nothing in an action needs aliases, and a deep one would be a stack that overflows.
    let options = serde_saphyr::options! {
        strict_booleans: true,
        budget: serde_saphyr::budget! {
            max_depth: DEPTH_MAX,
            flow_nesting_limit: DEPTH_MAX,
            max_aliases: 0,
        },
    };
    let root: Result<Spanned<Value>, _> = serde_saphyr::from_str_with_options(body, options);
    match root {
        Ok(root) => {
            let mut node = Node { line: line_of(&root), value: root.value };
            shift(&mut node, line);
            Ok(node)
        }
        Err(error) => {
            let at = error.location().and_then(|location| usize::try_from(location.line()).ok());
            let message = error.without_snippet().to_string();
            // The place is told beside it, and the parser's own options are no business of a model.
            let ends = [" at line ", "; use ", ", set "];
            let first = message.lines().next().unwrap_or_default();
            let message = ends
                .iter()
                .fold(first, |text, end| text.split_once(end).map_or(text, |(before, _)| before));
            let at = line + at.filter(|at| *at > 0).map_or(0, |at| at - 1);
            Err(BodyFault::new(at, format!("its body is not valid YAML: {message}")))
        }
    }
}

fn json(body: &str, line: usize) -> Parsed {
    match serde_json::from_str(body) {
        Ok(json) => Ok(of_json(json, line)),
        Err(error) => {
            let at = line + error.line().saturating_sub(1);
            let message = error.to_string();
            let message = message.split(" at line ").next().unwrap_or_default();
            Err(BodyFault::new(at, format!("its body is not valid JSON: {message}")))
        }
    }
}

/// A list or mapping in YAML's flow style or JSON, as a field's value.
pub(crate) fn flow(text: &str, line: usize) -> Parsed {
    json(&lenient_repair::json(text), line).or_else(|_| strict(text, line))
}

fn of_json(json: serde_json::Value, line: usize) -> Node {
    use serde_json::Value as Json;

    let value = match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(value),
        Json::Number(number) => match number.as_i64() {
            Some(number) => Value::Integer(number.into()),
            None => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::Text(text),
        Json::Array(items) => {
            Value::List(items.into_iter().map(|item| of_json(item, line)).collect())
        }
        Json::Object(entries) => Value::Map(
            entries.into_iter().map(|(key, value)| (key, of_json(value, line))).collect(),
        ),
    };
    Node { line, value }
}

fn line_of<T>(spanned: &Spanned<T>) -> usize {
    usize::try_from(spanned.referenced.line()).unwrap_or(0)
}

/// From lines of the body to lines of the answer.
fn shift(node: &mut Node, line: usize) {
    node.line = line + node.line.saturating_sub(1);
    match &mut node.value {
        Value::List(items) => items.iter_mut().for_each(|item| shift(item, line)),
        Value::Map(entries) => entries.iter_mut().for_each(|(_, value)| shift(value, line)),
        _ => {}
    }
}

impl Value {
    /// As an error says what was found.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Null => "nothing".to_owned(),
            Self::Bool(value) => value.to_string(),
            Self::Integer(number) => number.to_string(),
            Self::Float(number) => number.to_string(),
            Self::Text(text) => format!("`{}`", shortened(text)),
            Self::List(items) => format!("a list of {}", items.len()),
            Self::Map(_) => "a mapping".to_owned(),
        }
    }
}

/// The beginning of a text, in one line.
pub(crate) fn shortened(text: &str) -> String {
    const CHARS_MAX: usize = 60;
    let mut line: String = text.trim().chars().take(CHARS_MAX).collect();
    if let Some(end) = line.find(['\n', '\r']) {
        line.truncate(end);
    }
    if line.len() < text.trim().len() {
        line.push('…');
    }
    line
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Integer(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Integer(number.into()))
    }

    fn visit_i128<E>(self, number: i128) -> Result<Value, E> {
        Ok(Value::Integer(number))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Float(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element::<Spanned<Value>>()? {
            items.push(node(item));
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut entries: Vec<(String, Node)> = Vec::new();
        while let Some((key, value)) = access.next_entry::<String, Spanned<Value>>()? {
            entries.push((key, node(value)));
        }
        Ok(Value::Map(entries))
    }
}

fn node(spanned: Spanned<Value>) -> Node {
    Node { line: line_of(&spanned), value: spanned.value }
}
