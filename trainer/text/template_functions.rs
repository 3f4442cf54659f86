//! What transformers gives to chat templates beside Jinja's own.

use std::fmt::Write as _;

use minijinja::value::{Kwargs, Value};
use minijinja::{Environment, Error, ErrorKind, State};
use serde_json::Value as Json;

/// Adds `tojson`, `raise_exception` and `strftime_now`.
pub(super) fn add_to(environment: &mut Environment<'static>) {
    environment.add_filter("tojson", tojson);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
}

/// `{% generation %}` marks what the assistant said, for masks that nobody asks for here. Jinja
/// does not know it, so it is made a block that is always there.
pub(super) fn without_generation_tags(source: &str) -> String {
    let mut plain = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at + 2);
        plain.push_str(before);
        let name = tag.trim_start_matches(['-', '+']).trim_start();
        let word = name.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next();
        let plain_word = match word {
            Some("generation") => "if true",
            Some("endgeneration") => "endif",
            _ => {
                rest = tag;
                continue;
            }
        };
        plain.push_str(&tag[..tag.len() - name.len()]);
        plain.push_str(plain_word);
        rest = &name[word.map_or(0, str::len)..];
    }
    plain.push_str(rest);
    plain
}

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

/// A conversation must be the same text whenever it is rendered, so the time that templates are
/// told stands still: Friday, 26 July 2024, 00:00, the day that templates write where no clock is.
fn strftime_now(format: &str) -> String {
    let mut text = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        match chars.next() {
            Some('d' | 'e') => text.push_str("26"),
            Some('m') => text.push_str("07"),
            Some('Y') => text.push_str("2024"),
            Some('y') => text.push_str("24"),
            Some('b') => text.push_str("Jul"),
            Some('B') => text.push_str("July"),
            Some('a') => text.push_str("Fri"),
            Some('A') => text.push_str("Friday"),
            Some('H' | 'M' | 'S') => text.push_str("00"),
            Some('j') => text.push_str("208"),
            Some('F') => text.push_str("2024-07-26"),
            Some('T') => text.push_str("00:00:00"),
            Some('%') => text.push('%'),
            Some(other) => text.extend(['%', other]),
            None => text.push('%'),
        }
    }
    text
}

/// Of one level; a template chooses it.
const INDENT_MAX: usize = 16;

/// Python's `json.dumps`, without the escapes of HTML that Jinja's own filter adds.
fn tojson(state: &State, value: Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<Value> = options.get("indent")?;
    let separators: Option<Vec<String>> = options.get("separators")?;
    let writer = Writer {
        ensure_ascii: options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
        sort_keys: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
        separators: match separators.as_deref() {
            Some([item, key]) => [item.clone(), key.clone()],
            Some(_) => {
                let message = "separators: expected two";
                return Err(Error::new(ErrorKind::InvalidOperation, message));
            }
            None => {
                let item = if indent.is_some() { "," } else { ", " };
                [item.to_owned(), ": ".to_owned()]
            }
        },
        indent: indent.map(|indent| match (indent.as_str(), indent.as_usize()) {
            (Some(text), _) => text.to_owned(),
            (None, spaces) => " ".repeat(spaces.unwrap_or(0).min(INDENT_MAX)),
        }),
    };
    options.assert_all_used()?;
    let json = serde_json::to_value(&value)
        .map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))?;
    let mut text = String::new();
    writer.write(&json, 0, &mut text);
    state.consume_fuel((text.len() / 64) as u64)?;
    Ok(text)
}

struct Writer {
    ensure_ascii: bool,
    sort_keys: bool,
    /// Between items, and between a key and its value.
    separators: [String; 2],
    /// Of each level; all stands in one line without.
    indent: Option<String>,
}

impl Writer {
    fn write(&self, json: &Json, depth: usize, text: &mut String) {
        match json {
            Json::Null => text.push_str("null"),
            Json::Bool(value) => text.push_str(if *value { "true" } else { "false" }),
            Json::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
                Some(float) => push_float(float, text),
                None => text.push_str(&number.to_string()),
            },
            Json::String(string) => self.push_string(string, text),
            Json::Array(items) => {
                let items = items.iter().map(|item| (None, item));
                self.push_items(['[', ']'], items.collect(), depth, text);
            }
            Json::Object(entries) => {
                let mut entries: Vec<_> =
                    entries.iter().map(|(key, value)| (Some(key.as_str()), value)).collect();
                if self.sort_keys {
                    entries.sort_by_key(|(key, _)| *key);
                }
                self.push_items(['{', '}'], entries, depth, text);
            }
        }
    }

    fn push_items(
        &self,
        [open, close]: [char; 2],
        items: Vec<(Option<&str>, &Json)>,
        depth: usize,
        text: &mut String,
    ) {
        text.push(open);
        let [item_separator, key_separator] = &self.separators;
        let is_empty = items.is_empty();
        for (number, (key, value)) in items.into_iter().enumerate() {
            if number > 0 {
                text.push_str(item_separator);
            }
            self.push_line_break(depth + 1, text);
            if let Some(key) = key {
                self.push_string(key, text);
                text.push_str(key_separator);
            }
            self.write(value, depth + 1, text);
        }
        if !is_empty {
            self.push_line_break(depth, text);
        }
        text.push(close);
    }

    fn push_line_break(&self, depth: usize, text: &mut String) {
        if let Some(indent) = &self.indent {
            text.push('\n');
            text.extend(std::iter::repeat_n(indent.as_str(), depth));
        }
    }

    fn push_string(&self, string: &str, text: &mut String) {
        text.push('"');
        for c in string.chars() {
            match c {
                '"' => text.push_str("\\\""),
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                '\t' => text.push_str("\\t"),
                '\u{8}' => text.push_str("\\b"),
                '\u{c}' => text.push_str("\\f"),
                '\0'..='\u{1f}' => push_escape(c, text),
                '\u{7f}'.. if self.ensure_ascii => push_escape(c, text),
                _ => text.push(c),
            }
        }
        text.push('"');
    }
}

fn push_escape(c: char, text: &mut String) {
    for unit in c.encode_utf16(&mut [0; 2]) {
        // Writing into a string cannot fail.
        let _ = write!(text, "\\u{unit:04x}");
    }
}

/// As Python's `repr`: the shortest digits that are this number, with an exponent from 1e16 on and
/// below 1e-4.
fn push_float(float: f64, text: &mut String) {
    let size = float.abs();
    let _ = if size != 0.0 && !(1e-4..1e16).contains(&size) {
        let digits = format!("{float:e}");
        let (mantissa, exponent) = digits.split_once('e').unwrap_or((&digits, "0"));
        let (sign, exponent) =
            exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
        write!(text, "{mantissa}e{sign}{exponent:0>2}")
    } else {
        write!(text, "{float:?}")
    };
}

#[cfg(test)]
mod tests {
    use minijinja::value::Serde;

    use super::*;

    fn rendered(template: &str) -> Result<String, Error> {
        let mut environment = Environment::new();
        add_to(&mut environment);
        let value: Json = serde_json::from_str(
            r#"{"b": [1, 2.0, 1e16, 1e-5, true, null],
                "a": "<\u00e9\ud83d\ude00\n>", "e": [], "o": {}}"#,
        )
        .unwrap();
        environment.render_str(template, minijinja::context! { x => Value::from(Serde(value)) })
    }

    #[test]
    fn json_is_written_as_python_writes_it() {
        let plain = rendered("{{ x|tojson }}").unwrap();
        assert_eq!(
            plain,
            "{\"b\": [1, 2.0, 1e+16, 1e-05, true, null], \"a\": \"<\u{e9}\u{1f600}\\n>\", \
             \"e\": [], \"o\": {}}"
        );
        let packed = "{{ x|tojson(separators=(',', ':'), sort_keys=true, ensure_ascii=true) }}";
        assert_eq!(
            rendered(packed).unwrap(),
            "{\"a\":\"<\\u00e9\\ud83d\\ude00\\n>\",\"b\":[1,2.0,1e+16,1e-05,true,null],\
             \"e\":[],\"o\":{}}"
        );
        let indented = rendered("{{ {'k': [1, {}]}|tojson(indent=2) }}").unwrap();
        assert_eq!(indented, "{\n  \"k\": [\n    1,\n    {}\n  ]\n}");
        assert!(rendered("{{ x|tojson(colour=1) }}").is_err());
    }

    #[test]
    fn the_time_stands_still() {
        let told = rendered("{{ strftime_now('%d %b %Y, %H:%M, 100%%') }}").unwrap();
        assert_eq!(told, "26 Jul 2024, 00:00, 100%");
    }

    #[test]
    fn the_assistants_marks_are_passed_over() {
        let source = "{%- generation -%} a {%- endgeneration %}b{% generations %}{%generation%}";
        let plain = "{%- if true -%} a {%- endif %}b{% generations %}{%if true%}";
        assert_eq!(without_generation_tags(source), plain);
        assert_eq!(without_generation_tags("{% generation"), "{% if true");
    }
}
