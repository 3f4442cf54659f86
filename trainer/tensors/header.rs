//! The header of a safetensors file: a JSON object of names, with types, shapes and places. Pure.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::ops::Range;
use std::path::Path;

use orcapack_tasks::defect::{Defect, Defects};
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::{Element, few};

/// Key of what is said of the file as a whole.
pub(super) const METADATA: &str = "__metadata__";

/// A tensor as a file has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub element: Element,
    pub shape: Vec<usize>,
    /// From the header's end.
    pub(super) bytes: Range<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    pub tensors: BTreeMap<String, Stored>,
    pub metadata: BTreeMap<String, String>,
}

impl Header {
    /// Reads the header of a file with `data_bytes` bytes behind it.
    ///
    /// The tensors must cover those bytes wholly, none twice, as the format demands: what nobody
    /// reads could be anything.
    pub fn parse(path: &Path, json: &[u8], data_bytes: u64) -> Result<Self, Defects> {
        let mut json = serde_json::Deserializer::from_slice(json);
        let entries =
            json.deserialize_map(Entries).and_then(|entries| json.end().map(|()| entries));
        let entries = entries.map_err(|error| {
            Defect::new(path, "a JSON object as header", error.to_string()).at_key("header")
        })?;
        let mut parser = Parser { path, defects: Defects::default() };
        let mut header = Self::default();
        for (name, value) in entries {
            if name == METADATA {
                header.metadata = parser.metadata(&value).unwrap_or_default();
                continue;
            }
            match header.tensors.entry(name) {
                Entry::Occupied(entry) => {
                    parser.refuse(entry.key(), "each name once", "the name again");
                }
                Entry::Vacant(entry) => {
                    if let Some(stored) = parser.tensor(entry.key(), &value) {
                        entry.insert(stored);
                    }
                }
            }
        }
        // With an entry missing there are gaps, which are no fault of the others.
        if parser.defects.0.is_empty() {
            parser.cover(&header, data_bytes);
        }
        few(parser.defects).into_result(header)
    }
}

struct Parser<'p> {
    path: &'p Path,
    defects: Defects,
}

impl Parser<'_> {
    fn refuse(&mut self, name: &str, expected: impl Into<String>, found: impl Into<String>) {
        self.defects.0.push(Defect::new(self.path, expected, found).at_key(name));
    }

    fn metadata(&mut self, value: &Value) -> Option<BTreeMap<String, String>> {
        let texts = value.as_object().and_then(|object| {
            let text =
                |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.into()));
            object.iter().map(text).collect()
        });
        if texts.is_none() {
            self.refuse(METADATA, "an object of texts", "something else");
        }
        texts
    }

    fn tensor(&mut self, name: &str, value: &Value) -> Option<Stored> {
        let element = self.element(name, value.get("dtype"));
        let numbers = |key: &str| -> Option<Vec<u64>> {
            value.get(key)?.as_array()?.iter().map(Value::as_u64).collect()
        };
        let shape = numbers("shape").and_then(|shape| {
            shape.into_iter().map(|side| usize::try_from(side).ok()).collect::<Option<Vec<_>>>()
        });
        if shape.is_none() {
            self.refuse(name, "a shape: a list of whole numbers", "another shape, or none");
        }
        let range = match numbers("data_offsets").as_deref() {
            Some([begin, end]) if begin <= end => Some(*begin..*end),
            _ => None,
        };
        if range.is_none() {
            self.refuse(name, "data_offsets: a begin, and an end not before it", "others, or none");
        }
        let (element, shape, bytes) = (element?, shape?, range?);
        let sides = [element.bytes()].into_iter().chain(shape.iter().copied());
        let size = sides
            .map(|side| u64::try_from(side).ok())
            .try_fold(1, |size: u64, side| size.checked_mul(side?));
        if size != Some(bytes.end - bytes.start) {
            let of = format!("{} {shape:?}", element.name());
            let expected = size.map_or(format!("{of} of a size that 64 bits hold"), |size| {
                format!("{size} bytes, as {of} has")
            });
            self.refuse(name, expected, format!("{} bytes", bytes.end - bytes.start));
            return None;
        }
        Some(Stored { element, shape, bytes })
    }

    fn element(&mut self, name: &str, value: Option<&Value>) -> Option<Element> {
        let found = value.and_then(Value::as_str);
        let element = found.and_then(Element::of);
        if element.is_none() {
            let found = found.map_or("no dtype".to_owned(), |found| format!("{found:.20}"));
            self.refuse(name, "dtype F32, F16 or BF16", found);
        }
        element
    }

    /// Every byte belongs to one tensor.
    fn cover(&mut self, header: &Header, data_bytes: u64) {
        let mut tensors: Vec<(&String, &Range<u64>)> =
            header.tensors.iter().map(|(name, stored)| (name, &stored.bytes)).collect();
        tensors.sort_by_key(|(name, bytes)| (bytes.start, bytes.end, *name));
        let mut covered = 0;
        for (name, bytes) in tensors {
            if bytes.start != covered {
                let what = if bytes.start > covered { "a gap before it" } else { "an overlap" };
                let expected = format!("data from byte {covered} on");
                self.refuse(name, expected, format!("{what}: byte {}", bytes.start));
            }
            if bytes.end > data_bytes {
                let expected = format!("an end within the file's {data_bytes} bytes of data");
                self.refuse(name, expected, bytes.end.to_string());
            }
            covered = covered.max(bytes.end);
        }
        if covered < data_bytes {
            let found = format!("{data_bytes} bytes");
            self.refuse("header", format!("{covered} bytes of data, as the tensors have"), found);
        }
    }
}

/// An object's entries in their order, those that come twice as well.
struct Entries;

impl<'de> Visitor<'de> for Entries {
    type Value = Vec<(String, Value)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(entries)
    }
}
