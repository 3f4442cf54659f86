//! Files made by hand, byte by byte.

use candle_core::{Device, Tensor};
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::super::write::{WeightType, write};
use super::*;

fn bytes(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend((0..data).map(|at| (at % 61) as u8));
    bytes
}

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn open(&self, bytes: &[u8]) -> Result<TensorFile, Vec<String>> {
        let path = self.0.path().join("x");
        std::fs::write(&path, bytes).unwrap();
        TensorFile::open(&path).map_err(|defects| {
            let path = format!("{}: ", path.display());
            defects.0.iter().map(|defect| defect.to_string().replace(&path, "")).collect()
        })
    }

    fn faults(&self, bytes: &[u8]) -> Vec<String> {
        self.open(bytes).map_or_else(|faults| faults, |_| Vec::new())
    }
}

fn entry(dtype: &str, shape: &[usize], begin: u64, end: u64) -> Value {
    json!({"dtype": dtype, "shape": shape, "data_offsets": [begin, end]})
}

#[test]
fn a_file_made_by_hand_is_read() {
    let header = json!({
        "__metadata__": {"format": "pt"}, "b": entry("F32", &[2], 4, 12),
        "a": entry("BF16", &[2, 1], 0, 4), "none": entry("F16", &[0, 3], 12, 12),
    });
    let mut bytes = bytes(&format!("{header}   "), 0);
    bytes.extend([0x80, 0x3F, 0x00, 0xC0]);
    bytes.extend([1.5f32, -0.25].iter().flat_map(|number| number.to_le_bytes()));
    let mut file = Folder::new().open(&bytes).unwrap();
    assert_eq!(file.read("a"), Ok(vec![1.0, -2.0]));
    assert_eq!(file.read("b"), Ok(vec![1.5, -0.25]));
    assert_eq!(file.read("none"), Ok(vec![]));
    assert_eq!(file.read("c").unwrap_err().found, "nothing");
    assert_eq!(file.metadata().get("format").map(String::as_str), Some("pt"));
    assert_eq!(file.tensors()["a"].shape, [2, 1]);
}

#[test]
fn a_file_that_is_cut_short_is_told() {
    let folder = Folder::new();
    assert_eq!(folder.faults(&[]), ["expected a header's length of 8 bytes, found 0 bytes"]);
    let longer = [bytes("{}", 0), vec![]].concat();
    assert_eq!(folder.faults(&longer[..9]), ["expected a header of at most 1 bytes, found 2"]);
    let huge = [u64::MAX.to_le_bytes().as_slice(), b"{}"].concat();
    let expected = format!("expected a header of at most 2 bytes, found {}", u64::MAX);
    assert_eq!(folder.faults(&huge), [expected]);
    let header = json!({"a": entry("F32", &[2], 0, 8)}).to_string();
    let faults = folder.faults(&bytes(&header, 7));
    assert_eq!(faults, ["a: expected an end within the file's 7 bytes of data, found 8"]);
    assert_eq!(
        folder.faults(&bytes(&header, 9)),
        ["header: expected 8 bytes of data, as the tensors have, found 9 bytes"]
    );
}

#[test]
fn a_header_that_is_no_object_is_told() {
    let folder = Folder::new();
    for header in ["", "[]", "{\"a\":", "{} {}", "\u{0}", "{\"a\": 1e999}"] {
        let faults = folder.faults(&bytes(header, 0));
        let expected = "header: expected a JSON object as header, found ";
        assert!(faults.len() == 1 && faults[0].starts_with(expected), "{header}: {faults:?}");
    }
    let deep = format!("{{\"a\":{}", "[".repeat(1 << 20));
    assert_eq!(folder.faults(&bytes(&deep, 0)).len(), 1, "and no stack is spent");
}

#[test]
fn each_entry_that_is_wrong_is_told_at_once() {
    let many = usize::MAX / 2;
    let header = json!({
        "long": {"dtype": "I64", "shape": [1], "data_offsets": [0, 8]},
        "untyped": {"shape": [1], "data_offsets": [0, 8]},
        "negative": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]},
        "backwards": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]},
        "short": entry("F32", &[3], 0, 4),
        "vast": entry("F32", &[many, many], 0, 4),
        "text": "F32",
        "__metadata__": {"format": 1},
    });
    let shape = "expected a shape: a list of whole numbers, found another shape, or none";
    let offsets = "expected data_offsets: a begin, and an end not before it, found others, or none";
    let expected = [
        "long: expected dtype F32, F16 or BF16, found I64".to_owned(),
        "untyped: expected dtype F32, F16 or BF16, found no dtype".to_owned(),
        format!("negative: {shape}"),
        format!("backwards: {offsets}"),
        "short: expected 12 bytes, as F32 [3] has, found 4 bytes".to_owned(),
        format!("vast: expected F32 [{many}, {many}] of a size that 64 bits hold, found 4 bytes"),
        "text: expected dtype F32, F16 or BF16, found no dtype".to_owned(),
        format!("text: {shape}"),
        format!("text: {offsets}"),
        "__metadata__: expected an object of texts, found something else".to_owned(),
    ];
    assert_eq!(Folder::new().faults(&bytes(&header.to_string(), 8)), expected);
}

#[test]
fn gaps_overlaps_and_names_that_come_twice_are_told() {
    let folder = Folder::new();
    let gap = json!({"a": entry("F32", &[1], 0, 4), "b": entry("F32", &[1], 8, 12)}).to_string();
    let faults = folder.faults(&bytes(&gap, 12));
    assert_eq!(faults, ["b: expected data from byte 4 on, found a gap before it: byte 8"]);
    let overlap = json!({"a": entry("F32", &[2], 0, 8), "b": entry("F32", &[1], 4, 8)}).to_string();
    let faults = folder.faults(&bytes(&overlap, 8));
    assert_eq!(faults, ["b: expected data from byte 8 on, found an overlap: byte 4"]);
    let one = entry("F32", &[1], 0, 4);
    let faults = folder.faults(&bytes(&format!("{{\"a\":{one},\"a\":{one}}}"), 4));
    assert_eq!(faults, ["a: expected each name once, found the name again"]);
}

/// Two tensors of 8 bytes each.
fn sound() -> Vec<u8> {
    let header = json!({"a": entry("F32", &[2], 0, 8), "b": entry("F16", &[2, 2], 8, 16)});
    bytes(&header.to_string(), 16)
}

proptest! {
    /// Whatever is opened can be read, every element within the file.
    #[test]
    fn a_damaged_file_is_refused_or_read_within_itself(
        damage in prop::collection::vec((any::<Index>(), any::<u8>()), 1..4),
        cut in any::<Index>(),
        is_cut: bool,
    ) {
        let mut bytes = sound();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if is_cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let opened = Folder::new().open(&bytes);
        if let Ok(mut file) = opened {
            let tensors = file.tensors().clone();
            let data: u64 = tensors.values().map(|stored| stored.bytes.end - stored.bytes.start).sum();
            prop_assert_eq!(file.data + data, bytes.len() as u64);
            for (name, stored) in tensors {
                if let Ok(elements) = file.read(&name) {
                    prop_assert_eq!(elements.len(), stored.shape.iter().product::<usize>());
                }
            }
        }
    }

    #[test]
    fn tensors_are_read_as_they_were_written(
        shapes in prop::collection::vec(prop::collection::vec(0usize..5, 0..4), 0..5),
        seed: u64,
    ) {
        let mut draws = crate::model::init::Normal::new(seed, 0);
        let tensors: BTreeMap<String, Tensor> = shapes.iter().enumerate().map(|(at, shape)| {
            let elements = draws.draws(shape.iter().product(), 1.0);
            let tensor = Tensor::from_vec(elements, shape.as_slice(), &Device::Cpu).unwrap();
            (format!("tensor \"{at}\" ä"), tensor)
        }).collect();
        let metadata = BTreeMap::from([("step".to_owned(), seed.to_string())]);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        write(&path, &tensors, WeightType::F32, &metadata).unwrap();
        let mut file = TensorFile::open(&path).unwrap();
        prop_assert_eq!(file.metadata(), &metadata);
        prop_assert_eq!(file.tensors().len(), tensors.len());
        prop_assert_eq!(file.data % 8, 0);
        for (name, tensor) in &tensors {
            let expected: Vec<f32> = tensor.flatten_all().unwrap().to_vec1().unwrap();
            prop_assert_eq!(&file.tensors()[name].shape, tensor.dims());
            prop_assert_eq!(file.read(name).unwrap(), expected);
        }
    }
}

#[test]
fn a_tensor_longer_than_a_piece_is_read_whole_and_its_fault_found() {
    let len = CHUNK_BYTES / 2;
    let mut elements: Vec<f32> = (0..len).map(|at| at as f32).collect();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    let read = |elements: &[f32]| {
        let tensor = Tensor::from_slice(elements, (len / 4, 4), &Device::Cpu).unwrap();
        let tensors = BTreeMap::from([("a".to_owned(), tensor)]);
        write(&path, &tensors, WeightType::F32, &BTreeMap::new()).unwrap();
        TensorFile::open(&path).unwrap().read("a")
    };
    assert_eq!(read(&elements), Ok(elements.clone()));
    elements[len - 2] = f32::INFINITY;
    let place = format!("inf at [{}, 2]", len / 4 - 1);
    assert_eq!(read(&elements).unwrap_err().found, place);
}
