//! What the writer of a body meant, where it is not YAML, or YAML for something else.
//!
//! It goes by the fields of the action: a field's key at the start of a line begins its value, and
//! what belongs to the value follows from its kind. A text is taken as it stands, with its colons,
//! quotes, stars and brackets, and may run over lines. A block (`key: |`) is whatever follows until
//! the next key, however it is indented. Where two meanings are possible, it is refused.

use std::borrow::Cow;

use orcapack_tasks::near::nearest;

use crate::team::lenient_yaml::{BodyFault, Node, Parsed, Value, flow, shortened};
use crate::team::schema::{Field, Kind, field, key_of};
use crate::team::tag::indent_of;

struct Line<'b> {
    number: usize,
    text: Cow<'b, str>,
}

type Entries = Vec<(String, Node)>;

pub(crate) fn repair(fields: &[Field], body: &str, line: usize) -> Parsed {
    let lines = body.strip_suffix('\n').unwrap_or(body).split('\n').zip(line..);
    let mut lines: Vec<Line<'_>> =
        lines.map(|(text, number)| Line { number, text: Cow::Borrowed(text) }).collect();
    let first = lines.iter().position(|line| !is_blank(line)).unwrap_or(0);
    if lines.get(first).is_some_and(|line| line.text.trim() == "---") {
        lines.drain(..=first);
    }
    Ok(Node { line, value: Value::Map(mapping(fields, &lines)?) })
}

fn mapping(fields: &[Field], lines: &[Line<'_>]) -> Result<Entries, BodyFault> {
    let is_skipped = |line: &Line<'_>| is_blank(line) || line.text.trim_start().starts_with('#');
    let mut entries: Entries = Vec::new();
    let mut at = 0;
    let mut base = None;
    while let Some(line) = lines.get(at) {
        if is_skipped(line) {
            at += 1;
            continue;
        }
        let base = *base.get_or_insert(indent_of(&line.text));
        let Some((key, value)) = key_of(&line.text) else {
            return Err(BodyFault::new(line.number, not_a_key(fields, &line.text)));
        };
        let Some(field) = field(fields, key) else {
            return Err(BodyFault::new(line.number, unknown_field(fields, key)));
        };
        if entries.iter().any(|(name, _)| name == key) {
            return Err(BodyFault::new(line.number, format!("`{key}` is there twice")));
        }
        let below = lines.get(at + 1..).unwrap_or_default();
        let is_seen = |key: &str| entries.iter().any(|(name, _)| name == key);
        let reach = Reach { fields, field, base, is_block: is_block(value) };
        let end =
            below.iter().position(|line| reach.ends_at(line, &is_seen)).unwrap_or(below.len());
        let below = below.get(..end).unwrap_or_default();
        let node = match field.kind {
            Kind::Text => text(fields, field, base, value, line.number, below)?,
            Kind::Word => word(key, value, line.number, below)?,
            Kind::Words => words(key, value, line.number, below)?,
            Kind::Items(inner) => items(key, inner, value, line.number, below)?,
        };
        entries.push((key.to_owned(), node));
        at += 1 + end;
    }
    Ok(entries)
}

/// How far a field's value goes.
struct Reach<'f> {
    fields: &'f [Field],
    field: &'f Field,
    /// The indentation of the mapping's keys.
    base: usize,
    is_block: bool,
}

impl Reach<'_> {
    fn ends_at(&self, line: &Line<'_>, is_seen: &impl Fn(&str) -> bool) -> bool {
        let Some((key, _)) = key_of(&line.text) else { return false };
        let is_known = field(self.fields, key).is_some();
        let is_outer = indent_of(&line.text) <= self.base;
        match self.field.kind {
            Kind::Word => is_known,
            // A second one is a part of the text; so is one that only looks like a key.
            Kind::Text if self.is_block => {
                is_outer && is_known && key != self.field.name && !is_seen(key)
            }
            _ => is_outer && is_known && key != self.field.name,
        }
    }
}

pub(crate) fn unknown_field(fields: &[Field], key: &str) -> String {
    let names: Vec<&str> = fields.iter().map(|field| field.name).collect();
    let is_part = |name: &str| key.len() > 2 && (name.contains(key) || key.contains(name));
    let part = || names.iter().copied().find(|name| is_part(name));
    let near = nearest(key, names.iter().copied()).or_else(part);
    let near = near.map_or(String::new(), |near| format!(", did you mean `{near}`?"));
    format!("there is no field `{}`{near} (fields: {})", shortened(key), names.join(", "))
}

fn not_a_key(fields: &[Field], line: &str) -> String {
    let first = fields.first().map_or("key", |field| field.name);
    format!("expected a field such as `{first}: ...` in YAML, found `{}`", shortened(line))
}

fn is_blank(line: &Line<'_>) -> bool {
    line.text.trim().is_empty()
}

fn text_node(line: usize, text: impl Into<String>) -> Node {
    Node { line, value: Value::Text(text.into()) }
}

fn text(
    fields: &[Field],
    field: &Field,
    base: usize,
    value: &str,
    number: usize,
    below: &[Line<'_>],
) -> Parsed {
    let is_deep =
        below.iter().find(|line| !is_blank(line)).is_some_and(|l| indent_of(&l.text) > base);
    let is_open = !is_block(value) || is_deep;
    let stray = below.iter().filter(|line| is_open && indent_of(&line.text) <= base);
    for line in stray {
        if let Some((key, _)) = key_of(&line.text) {
            let name = field.name;
            if super::schema::field(fields, key).is_some() {
                return Err(BodyFault::new(line.number, format!("`{key}` is there twice")));
            }
            let message = unknown_field(fields, key);
            let hint =
                format!("; if it belongs to `{name}`, write `{name}: |` and indent all of it");
            return Err(BodyFault::new(line.number, message + &hint));
        }
    }
    if is_block(value) {
        return Ok(text_node(number, block(value, base, below)));
    }
    if value.starts_with(['|', '>']) && !value.starts_with(">=") {
        let message = format!(
            "the text after `{}: {}` must begin on the next line, indented by two spaces",
            field.name,
            value.chars().next().unwrap_or('|')
        );
        return Err(BodyFault::new(number, message));
    }
    let first = below.iter().map(|line| line.text.trim()).find(|line| !line.is_empty());
    if value.is_empty() && first.is_some_and(|line| line == "-" || line.starts_with("- ")) {
        let message = format!(
            "`{0}` is text, found a list; write `{0}: |` and the text below it, indented by two \
             spaces",
            field.name
        );
        return Err(BodyFault::new(number, message));
    }
    let mut whole = value.trim_end().to_owned();
    if below.iter().any(|line| !is_blank(line)) {
        if !whole.is_empty() {
            whole.push('\n');
        }
        whole.push_str(dedented(below).join("\n").trim_end());
    }
    match unquoted(&whole) {
        Unquoted::Text(text) => Ok(text_node(number, text)),
        Unquoted::Plain if whole.is_empty() => Ok(Node { line: number, value: Value::Null }),
        Unquoted::Plain => Ok(text_node(number, whole)),
        Unquoted::Unclear => {
            let message = format!(
                "`{0}` has quotes inside of quotes; write `{0}: |` and the text below it, indented \
                 by two spaces and without quotes around it",
                field.name
            );
            Err(BodyFault::new(number, message))
        }
    }
}

/// `|` or `>` with YAML's indicators, and nothing behind it but a comment.
fn is_block(value: &str) -> bool {
    let Some(after) = value.strip_prefix(['|', '>']) else { return false };
    let header = after.split(" #").next().unwrap_or("").trim_end();
    let count = |of: fn(&char) -> bool| header.chars().filter(of).count();
    let signs = count(|c| matches!(c, '+' | '-'));
    let digits = count(|c| matches!(c, '1'..='9'));
    header.chars().count() == signs + digits && signs <= 1 && digits <= 1
}

fn block(header: &str, base: usize, below: &[Line<'_>]) -> String {
    let digit = header.chars().find(char::is_ascii_digit).and_then(|c| c.to_digit(10));
    let wanted = digit.and_then(|digit| Some(base + usize::try_from(digit).ok()?));
    let is_wanted = |indent: usize| {
        below.iter().filter(|line| !is_blank(line)).all(|line| indent_of(&line.text) >= indent)
    };
    let lines = match wanted.filter(|indent| is_wanted(*indent)) {
        Some(indent) => below.iter().map(|line| line.text.get(indent..).unwrap_or("")).collect(),
        None => dedented(below),
    };
    let last = lines.iter().rposition(|line| !line.trim().is_empty());
    let ends = match last {
        // Only empty lines: they are kept where YAML keeps them.
        None if header.contains('+') => return "\n".repeat(lines.len()),
        None => return String::new(),
        Some(last) => last + 1,
    };
    let kept = lines.get(..ends).unwrap_or_default();
    let mut text = if header.starts_with('>') { folded(kept) } else { kept.join("\n") };
    if header.contains('+') {
        text.push_str(&"\n".repeat(lines.len() - ends + 1));
    } else if !header.contains('-') {
        text.push('\n');
    }
    text
}

/// Lines of a paragraph become one; lines that are indented more stay.
fn folded(lines: &[&str]) -> String {
    let mut text = String::new();
    let mut before: Option<&str> = None;
    for line in lines {
        let is_more = |line: &str| line.starts_with([' ', '\t']);
        match before {
            None => {}
            Some(before) if line.is_empty() || is_more(line) || is_more(before) => text.push('\n'),
            Some("") if !text.ends_with('\n') => text.push('\n'),
            Some("") => {}
            Some(_) => text.push(' '),
        }
        text.push_str(line);
        before = Some(line);
    }
    text
}

/// The lines without the white space that all of them begin with.
fn dedented<'l>(lines: &'l [Line<'_>]) -> Vec<&'l str> {
    let filled = lines.iter().filter(|line| !is_blank(line));
    let common = filled.filter_map(|line| line.text.get(..indent_of(&line.text))).reduce(|a, b| {
        let same = a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
        a.get(..same).unwrap_or("")
    });
    let common = common.map_or(0, str::len);
    let lines = lines.iter();
    lines.map(|line| line.text.get(common..).unwrap_or("")).collect()
}

enum Unquoted {
    Text(String),
    /// There are no quotes around it.
    Plain,
    /// There are, and inside of it too.
    Unclear,
}

fn unquoted(text: &str) -> Unquoted {
    let Some(quote) = text.chars().next().filter(|c| matches!(c, '"' | '\'')) else {
        return Unquoted::Plain;
    };
    let inside = text.get(1..).unwrap_or("");
    let Some(end) = closing_quote(inside, quote) else { return Unquoted::Plain };
    let behind = inside.get(end + 1..).unwrap_or("");
    let value = inside.get(..end).unwrap_or("");
    if behind.trim().is_empty() || behind.starts_with(" #") && !behind.contains('\n') {
        return Unquoted::Text(match quote {
            '"' => unescaped(value),
            _ => value.replace("''", "'"),
        });
    }
    if behind.ends_with(quote) { Unquoted::Unclear } else { Unquoted::Plain }
}

/// Where the first quote stands that is not escaped.
fn closing_quote(inside: &str, quote: char) -> Option<usize> {
    let mut chars = inside.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if c == '\\' && quote == '"' {
            chars.next();
        } else if c == quote && (quote == '"' || chars.next_if(|(_, next)| *next == '\'').is_none())
        {
            return Some(at);
        }
    }
    None
}

/// The escapes of YAML's double quotes; a backslash before anything else is one.
fn unescaped(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        plain.push_str(before);
        let mut chars = after.chars();
        let simple = match chars.next() {
            Some('n') => Some('\n'),
            Some('t') => Some('\t'),
            Some('r') => Some('\r'),
            Some('0') => Some('\0'),
            Some('e') => Some('\x1b'),
            Some(same @ ('"' | '\\' | '/')) => Some(same),
            _ => None,
        };
        let digits = match after.chars().next() {
            Some('x') => 2,
            Some('u') => 4,
            Some('U') => 8,
            _ => 0,
        };
        let code = after.get(1..=digits).filter(|_| digits > 0);
        let code = code.and_then(|code| char::from_u32(u32::from_str_radix(code, 16).ok()?));
        rest = match (simple, code) {
            (Some(c), _) => {
                plain.push(c);
                chars.as_str()
            }
            (None, Some(c)) => {
                plain.push(c);
                after.get(1 + digits..).unwrap_or("")
            }
            (None, None) => {
                plain.push('\\');
                after
            }
        };
    }
    plain.push_str(rest);
    plain
}

/// One line, without a comment and without quotes around it.
fn scalar(value: &str) -> String {
    match unquoted(value.trim()) {
        Unquoted::Text(text) => text,
        Unquoted::Plain | Unquoted::Unclear => {
            let value = value.trim();
            let value = value.split_once(" #").map_or(value, |(before, _)| before);
            value.trim_end_matches([' ', '\t', ',']).to_owned()
        }
    }
}

fn word(key: &str, value: &str, number: usize, below: &[Line<'_>]) -> Parsed {
    let mut more = below.iter().filter(|line| !is_blank(line) && !is_comment(line));
    let is_below = value.is_empty() || is_block(value);
    let (value, number) = match more.next() {
        Some(line) if is_below => (line.text.trim(), line.number),
        Some(line) => return Err(unexpected(key, line)),
        None if is_below => ("", number),
        None => (value, number),
    };
    if let Some(line) = more.next() {
        return Err(unexpected(key, line));
    }
    match scalar(value) {
        text if text.is_empty() || text == "null" || text == "~" => {
            Ok(Node { line: number, value: Value::Null })
        }
        text => Ok(text_node(number, text)),
    }
}

fn is_comment(line: &Line<'_>) -> bool {
    line.text.trim_start().starts_with('#')
}

fn unexpected(key: &str, line: &Line<'_>) -> BodyFault {
    let message =
        format!("`{key}` is one line; this one belongs to no field: `{}`", shortened(&line.text));
    BodyFault::new(line.number, message)
}

/// A value in brackets, with all of its lines.
fn in_brackets(value: &str, number: usize, below: &[Line<'_>]) -> Option<Parsed> {
    let mut whole = value.to_owned();
    for line in below {
        whole.push('\n');
        whole.push_str(&line.text);
    }
    whole.trim_start().starts_with(['[', '{']).then(|| flow(&whole, number))
}

fn words(key: &str, value: &str, number: usize, below: &[Line<'_>]) -> Parsed {
    if let Some(parsed) = in_brackets(value, number, below) {
        return parsed;
    }
    let mut list = Vec::new();
    let below = below.iter().filter(|line| !is_blank(line) && !is_comment(line));
    for line in below {
        let item = line.text.trim_start().strip_prefix('-').ok_or_else(|| unexpected(key, line))?;
        list.push(text_node(line.number, scalar(item)));
    }
    match (scalar(value), list.is_empty()) {
        (text, true) if text.is_empty() => Ok(Node { line: number, value: Value::Null }),
        (text, true) => Ok(text_node(number, text)),
        (text, false) if text.is_empty() => Ok(Node { line: number, value: Value::List(list) }),
        (text, false) => {
            let message = format!("`{key}` is a list, one `- item` on each line; found `{text}`");
            Err(BodyFault::new(number, message))
        }
    }
}

fn items(key: &str, fields: &[Field], value: &str, number: usize, below: &[Line<'_>]) -> Parsed {
    if let Some(parsed) = in_brackets(value, number, below) {
        return parsed;
    }
    let first = below.iter().find(|line| !is_blank(line) && !is_comment(line));
    let Some(first) = first.filter(|_| value.is_empty() || value.starts_with('#')) else {
        let value = scalar(value);
        return match value.is_empty() {
            true => Ok(Node { line: number, value: Value::Null }),
            false => Ok(text_node(number, value)),
        };
    };
    let dash = indent_of(&first.text);
    let starts = |line: &Line<'_>| {
        let item =
            line.text.trim_start().strip_prefix('-').filter(|_| indent_of(&line.text) <= dash);
        let item = item.filter(|item| item.starts_with([' ', '\t']));
        item.is_some_and(|item| {
            let is_known = key_of(item).is_some_and(|(key, _)| field(fields, key).is_some());
            is_known || item.trim_start().starts_with('{')
        })
    };
    let mut list: Vec<(usize, Vec<Line<'_>>)> = Vec::new();
    for line in below {
        let is_start = starts(line);
        let text = match is_start {
            true => Cow::Owned(line.text.replacen('-', " ", 1)),
            false => Cow::Borrowed(line.text.as_ref()),
        };
        if is_start || list.is_empty() && !is_blank(line) && !is_comment(line) {
            list.push((line.number, Vec::new()));
        }
        if let Some((_, lines)) = list.last_mut() {
            lines.push(Line { number: line.number, text });
        }
    }
    if !starts(first) && key_of(&first.text).is_none() {
        let name = fields.first().map_or("key", |field| field.name);
        let message = format!(
            "`{key}` is a list of mappings, each begun by `- {name}: ...`; found `{}`",
            shortened(&first.text)
        );
        return Err(BodyFault::new(first.number, message));
    }
    let list = list.into_iter().map(|(line, lines)| match in_brackets("", line, &lines) {
        Some(parsed) => parsed,
        None => Ok(Node { line, value: Value::Map(mapping(fields, &lines)?) }),
    });
    Ok(Node { line: number, value: Value::List(list.collect::<Result<_, BodyFault>>()?) })
}

/// JSON with the mistakes that models make in it: line ends and tabs inside of strings, and commas
/// before closing brackets.
pub(crate) fn json(text: &str) -> String {
    let mut fixed = String::with_capacity(text.len());
    let mut is_string = false;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => {
                is_string = !is_string;
                fixed.push(c);
            }
            '\\' if is_string => {
                fixed.push(c);
                fixed.extend(chars.next());
            }
            '\n' if is_string => fixed.push_str("\\n"),
            '\t' if is_string => fixed.push_str("\\t"),
            '\r' if is_string => fixed.push_str("\\r"),
            ',' if !is_string && chars.as_str().trim_start().starts_with(['}', ']']) => {}
            c => fixed.push(c),
        }
    }
    fixed
}
