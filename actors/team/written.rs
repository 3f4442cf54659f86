//! An action on its way out: as text of the grammar, or as the fields of a trajectory.

use std::fmt::Write as _;

use serde_json::{Map, Value};

/// A tag with what stands in it.
pub(crate) struct Written<'a> {
    tag: &'static str,
    content: Content<'a>,
}

enum Content<'a> {
    Fields(Body<'a>),
    /// A message, which has no fields.
    Plain(&'a str),
}

/// A mapping. Its fields come in the order in which they are put.
#[derive(Default)]
pub(crate) struct Body<'a>(Vec<(&'static str, Field<'a>)>);

enum Field<'a> {
    /// That needs no quotes.
    Word(&'static str),
    Flag(bool),
    Number(u64),
    Text(&'a str),
    List(&'a [String]),
    Items(Vec<Body<'a>>),
}

/// Of the mappings in a list, behind their dashes.
const ITEM_INDENT: &str = "    ";

impl<'a> Written<'a> {
    pub(crate) fn plain(tag: &'static str, text: &'a str) -> Self {
        Self { tag, content: Content::Plain(text) }
    }

    pub(crate) fn text(&self) -> String {
        let tag = self.tag;
        match &self.content {
            Content::Fields(body) => {
                let mut text = format!("<{tag}>\n");
                body.write(&mut text, "");
                let _ = writeln!(text, "</{tag}>");
                text
            }
            Content::Plain(message) => {
                let message = message.trim().replace("\n<", "\n <");
                let gap = if message.starts_with('<') { " " } else { "" };
                format!("<{tag}>\n{gap}{message}\n</{tag}>\n")
            }
        }
    }

    pub(crate) fn fields(&self) -> Map<String, Value> {
        match &self.content {
            Content::Fields(body) => body.to_json(),
            Content::Plain(message) => {
                Map::from_iter([("message".to_owned(), Value::from(*message))])
            }
        }
    }
}

impl<'a> Body<'a> {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    fn with(mut self, key: &'static str, field: Field<'a>) -> Self {
        self.0.push((key, field));
        self
    }

    pub(crate) fn word(self, key: &'static str, word: &'static str) -> Self {
        self.with(key, Field::Word(word))
    }

    pub(crate) fn flag(self, key: &'static str, flag: bool) -> Self {
        self.with(key, Field::Flag(flag))
    }

    pub(crate) fn text(self, key: &'static str, text: &'a str) -> Self {
        self.with(key, Field::Text(text))
    }

    pub(crate) fn optional(self, key: &'static str, text: &'a Option<String>) -> Self {
        match text {
            Some(text) => self.text(key, text),
            None => self,
        }
    }

    pub(crate) fn number(self, key: &'static str, number: Option<u64>) -> Self {
        match number {
            Some(number) => self.with(key, Field::Number(number)),
            None => self,
        }
    }

    /// Left out where it is empty.
    pub(crate) fn list(self, key: &'static str, list: &'a [String]) -> Self {
        if list.is_empty() { self } else { self.with(key, Field::List(list)) }
    }

    /// Left out where there are none.
    pub(crate) fn items(self, key: &'static str, items: impl Iterator<Item = Self>) -> Self {
        let items: Vec<Self> = items.collect();
        if items.is_empty() { self } else { self.with(key, Field::Items(items)) }
    }

    pub(crate) fn within(self, tag: &'static str) -> Written<'a> {
        Written { tag, content: Content::Fields(self) }
    }

    /// Writing into a string cannot fail.
    fn write(&self, out: &mut String, indent: &str) {
        for (key, field) in &self.0 {
            let _ = match field {
                Field::Word(word) => writeln!(out, "{indent}{key}: {word}"),
                Field::Flag(flag) => writeln!(out, "{indent}{key}: {flag}"),
                Field::Number(number) => writeln!(out, "{indent}{key}: {number}"),
                Field::Text(text) => writeln!(out, "{indent}{key}: {}", scalar(text, indent)),
                Field::List(_) | Field::Items(_) => writeln!(out, "{indent}{key}:"),
            };
            match field {
                Field::List(list) => {
                    for text in *list {
                        let _ = writeln!(out, "  - {}", quoted(text));
                    }
                }
                Field::Items(items) => {
                    for item in items {
                        let mut text = String::new();
                        item.write(&mut text, ITEM_INDENT);
                        let first = text.strip_prefix(ITEM_INDENT).unwrap_or(&text);
                        let _ = write!(out, "  - {first}");
                    }
                }
                _ => {}
            }
        }
    }

    fn to_json(&self) -> Map<String, Value> {
        let value = |field: &Field<'_>| match field {
            Field::Word(word) => Value::from(*word),
            Field::Flag(flag) => Value::from(*flag),
            Field::Number(number) => Value::from(*number),
            Field::Text(text) => Value::from(*text),
            Field::List(list) => Value::from(*list),
            Field::Items(items) => items.iter().map(Body::to_json).collect(),
        };
        self.0.iter().map(|(key, field)| ((*key).to_owned(), value(field))).collect()
    }
}

/// A text as a YAML scalar: as it is where that is safe, else as a block, else in quotes.
fn scalar(text: &str, indent: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '-' | '.' | ' ');
    let is_word = text.starts_with(|c: char| c == '/' || c.is_ascii_alphabetic())
        && !text.ends_with(' ')
        && text.chars().all(is_plain)
        && !["true", "false", "null"].contains(&text.to_ascii_lowercase().as_str());
    if is_word {
        return text.to_owned();
    }
    let is_printable = |c: char| match c {
        '\n' | '\t' => true,
        // Line ends of some readers, and marks that are lost on the way.
        '\u{2028}' | '\u{2029}' | '\u{feff}' => false,
        c => {
            !c.is_control()
                && !('\u{fdd0}'..='\u{fdef}').contains(&c)
                && u32::from(c) & 0xfffe != 0xfffe
        }
    };
    let fits = text.chars().all(is_printable) && text.contains('\n') && !text.trim().is_empty();
    if !fits {
        return quoted(text);
    }
    // Said where the text itself would hide it.
    let digit = if text.starts_with([' ', '\t', '\n']) { "2" } else { "" };
    let ends = text.len() - text.trim_end_matches('\n').len();
    let sign = match ends {
        0 => "-",
        1 => "",
        _ => "+",
    };
    let mut block = format!("|{digit}{sign}");
    for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
        block.push('\n');
        if !line.is_empty() {
            let _ = write!(block, "{indent}  {line}");
        }
    }
    block
}

/// In double quotes, which hold everything.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        let _ = match c {
            '"' | '\\' => write!(quoted, "\\{c}"),
            '\n' => write!(quoted, "\\n"),
            '\t' => write!(quoted, "\\t"),
            ' '..='~' => write!(quoted, "{c}"),
            c if c.is_alphanumeric() => write!(quoted, "{c}"),
            c => write!(quoted, "\\U{:08x}", u32::from(c)),
        };
    }
    quoted.push('"');
    quoted
}
