//! YAML read into the same tree as TOML, so that both formats are refused in the same words.
//!
//! A key without a value (`key:` or `key: null`) counts as absent.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use crate::defect::{Defect, Defects};
use crate::toml_doc::{Node, Place, Table, TomlDoc, Value};

/// Reads `text`, which must hold a mapping; `file` is only named in defects.
pub fn parse(file: &Path, text: &str) -> Result<TomlDoc, Defects> {
    let root: Spanned<Yaml> = from_str(file, text)?;
    match node(root) {
        Some(root) if matches!(root.value, Value::Table(_)) => Ok(TomlDoc::of_root(file, root)),
        Some(other) => Err(Defect::new(file, "a mapping of keys", other.value.describe()).into()),
        None => Err(Defect::new(file, "a mapping of keys", "nothing").into()),
    }
}

/// Reads `text` into a type of the caller's; the first fault ends it.
pub(crate) fn from_str<T: for<'de> Deserialize<'de>>(file: &Path, text: &str) -> Result<T, Defect> {
    // With YAML 1.2's booleans, so that a tag `y` or `on` stays a word.
    let options = serde_saphyr::options! { strict_booleans: true };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let line = error.location().and_then(|location| usize::try_from(location.line()).ok());
        let message = error.without_snippet().to_string();
        // The place is told by the defect, and the parser's own options are no business of the
        // user.
        let ends = [" at line ", "; use ", ", set "];
        let message = ends.iter().fold(message.lines().next().unwrap_or_default(), |text, end| {
            text.split_once(end).map_or(text, |(before, _)| before)
        });
        let defect = Defect::new(file, "valid YAML", message);
        match line.filter(|line| *line > 0) {
            Some(line) => defect.at_line(line),
            None => defect,
        }
    })
}

enum Yaml {
    Null,
    Bool(bool),
    Integer(i128),
    Float(f64),
    String(String),
    Sequence(Vec<Spanned<Yaml>>),
    Mapping(BTreeMap<String, Spanned<Yaml>>),
}

/// `None` for null.
fn node(spanned: Spanned<Yaml>) -> Option<Node> {
    let place = Place::Line(usize::try_from(spanned.referenced.line()).unwrap_or(0));
    let value = match spanned.value {
        Yaml::Null => return None,
        Yaml::Bool(value) => Value::Bool(value),
        Yaml::Integer(number) => Value::Integer(number),
        Yaml::Float(number) => Value::Float(number),
        Yaml::String(text) => Value::String(text),
        Yaml::Sequence(items) => Value::Array(items.into_iter().filter_map(node).collect()),
        Yaml::Mapping(entries) => {
            let entries = entries.into_iter();
            Value::Table(Table {
                entries: entries.filter_map(|(key, value)| Some((key, node(value)?))).collect(),
                expected: RefCell::default(),
            })
        }
    };
    Some(Node { place, value, asked: Cell::new(false) })
}

impl<'de> Deserialize<'de> for Yaml {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(YamlVisitor)
    }
}

struct YamlVisitor;

impl<'de> Visitor<'de> for YamlVisitor {
    type Value = Yaml;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Yaml, E> {
        Ok(Yaml::Null)
    }

    fn visit_none<E>(self) -> Result<Yaml, E> {
        Ok(Yaml::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Yaml, E> {
        Ok(Yaml::Bool(value))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Yaml, E> {
        Ok(Yaml::Integer(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Yaml, E> {
        Ok(Yaml::Integer(number.into()))
    }

    fn visit_i128<E>(self, number: i128) -> Result<Yaml, E> {
        Ok(Yaml::Integer(number))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Yaml, E> {
        Ok(Yaml::Float(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Yaml, E> {
        Ok(Yaml::String(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Yaml, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Yaml::Sequence(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Yaml, A::Error> {
        let mut entries = BTreeMap::new();
        while let Some((key, value)) = access.next_entry()? {
            entries.insert(key, value);
        }
        Ok(Yaml::Mapping(entries))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> String {
        let parsed = parse(Path::new("task.yaml"), text).and_then(|doc| {
            let root = doc.root();
            root.string("instruction");
            root.strings("tags");
            root.opt_f64("limit", 0.0..=10.0);
            for item in root.sections("items") {
                item.bool_or("on", true);
            }
            doc.finish(())
        });
        parsed.map_or_else(|defects| defects.to_string(), |()| "fine".to_owned())
    }

    #[test]
    fn values_have_their_types_and_nulls_are_absent() {
        let text = "instruction: |-\n  Do it.\n  Now.\ntags: [a, 'b', \"c\"]\nlimit: 1.5\nitems:\n  - on: true\n  - on:\n";
        assert_eq!(read(text), "fine");
        assert_eq!(read("instruction: &x it\ntags: [*x]\nlimit: 3"), "fine");
    }

    #[test]
    fn faults_are_told_as_for_toml() {
        let text =
            "instruction: 3\ntags:\n  - a\n  - 2\nlimit: 11\nitems:\n  - on: maybe\n    off: 1\n";
        insta::assert_snapshot!(read(text), @r#"
        task.yaml:1: instruction: expected a string that is not empty, found 3
        task.yaml:4: tags[1]: expected a string, found 2
        task.yaml:5: limit: expected a number from 0 to 10, found 11
        task.yaml:7: items[0].on: expected true or false, found the string "maybe"
        task.yaml:8: items[0].off: expected one of: on, found unknown key `off`
        "#);
        insta::assert_snapshot!(read("a: [1,\nb: {"), @r"task.yaml:2: expected valid YAML, found unclosed bracket '{'");
        insta::assert_snapshot!(read("a: 1\na: 2\n"), @r"task.yaml:2: expected valid YAML, found duplicate mapping key: a");
        insta::assert_snapshot!(read("a: .inf"), @r"task.yaml:1: expected valid YAML, found non-finite float `.inf` rejected by the configured policy");
        insta::assert_snapshot!(read("- 1\n"), @r"task.yaml: expected a mapping of keys, found an array of 1");
        insta::assert_snapshot!(read(""), @r"task.yaml: expected a mapping of keys, found nothing");
        insta::assert_snapshot!(read("a: 1\n---\nb: 2\n"), @r"task.yaml:3: expected valid YAML, found multiple YAML documents detected");
    }

    #[test]
    fn a_bomb_of_aliases_is_refused_soon() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for i in 1..12 {
            let again = vec![format!("*a{}", i - 1); 9].join(", ");
            text.push_str(&format!("a{i}: &a{i} [{again}]\n"));
        }
        let message = read(&text);
        assert!(message.contains("expected valid YAML"), "{message}");
    }

    proptest! {
        #[test]
        fn no_text_makes_reading_panic(text in "[a-c:\\-&*\\[\\]{}|>!'\"# \n\t0-9]{0,60}|\\PC{0,60}") {
            read(&text);
        }
    }
}
