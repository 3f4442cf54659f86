use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::text::CHATML_SPECIALS;

const TEXTS: [&str; 4] = [
    "the cat sat on the mat, and the rat saw the cat",
    "<bash>\ncmd: ls -la /app/data\n</bash>\n",
    "fn main() {\n    println!(\"12 of 345\");\n}\n",
    "d\u{e9}j\u{e0} vu, na\u{ef}ve caf\u{e9}, \u{65e5}\u{672c}\u{8a9e}, \u{1f600}\u{1f601}",
];

fn tokenizer() -> Tokenizer {
    static TRAINED: LazyLock<Tokenizer> = LazyLock::new(|| {
        let texts: Vec<&str> = TEXTS.iter().copied().cycle().take(12).collect();
        Tokenizer::train(&texts, 400, &CHATML_SPECIALS).unwrap()
    });
    TRAINED.clone()
}

fn refused(change: impl FnOnce(&mut Value), vocab_size: usize) -> Vec<String> {
    let mut json: Value = serde_json::from_str(&tokenizer().to_json().unwrap()).unwrap();
    change(&mut json);
    let read = Tokenizer::from_json(Path::new("t.json"), json.to_string().as_bytes(), vocab_size);
    read.unwrap_err().0.iter().map(Defect::to_string).collect()
}

#[test]
fn the_same_texts_give_the_same_bytes_in_any_order() {
    let word =
        |n: u32| format!("{:x}", n.wrapping_mul(2_654_435_761)).replace(char::is_numeric, "z");
    let mut texts: Vec<String> =
        (0..600).map(|n| format!("{} {} {n}", TEXTS[n as usize % 4], word(n / 3))).collect();
    let one = Tokenizer::train(&texts, 500, &CHATML_SPECIALS).unwrap();
    texts.reverse();
    let other = Tokenizer::train(&texts, 500, &CHATML_SPECIALS).unwrap();
    assert_eq!(one.to_json().unwrap(), other.to_json().unwrap());
    assert_eq!(one.tokens(), 500);
}

#[test]
fn a_trained_vocabulary_has_its_specials_first_and_digits_one_by_one() {
    let tokenizer = tokenizer();
    let specials: Vec<(&str, u32)> =
        tokenizer.specials().iter().map(|(text, id)| (text.as_str(), *id)).collect();
    assert_eq!(specials, [("<|im_start|>", 0), ("<|im_end|>", 1), ("<|endoftext|>", 2)]);
    assert_eq!(tokenizer.encode("345").len(), 3);
    assert_eq!(tokenizer.encode(" cat").len(), 1, "learnt");
    assert_eq!(tokenizer.encode("a<|im_end|>b")[1], 1);
    let small = Tokenizer::train(&TEXTS, 258, &CHATML_SPECIALS).unwrap_err().to_string();
    assert_eq!(small, "tokenizer.json: vocab_size: expected at least 259, found 258");
}

#[test]
fn a_file_is_read_as_it_was_written_and_without_its_padding_and_truncation() {
    let tokenizer = tokenizer();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tokenizer.json");
    let mut json: Value = serde_json::from_str(&tokenizer.to_json().unwrap()).unwrap();
    json["truncation"] = json!({
        "direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0,
    });
    std::fs::write(&file, json.to_string()).unwrap();
    let bytes = std::fs::read(&file).unwrap();
    let read = Tokenizer::from_json(&file, &bytes, 400).unwrap();
    assert_eq!(read.to_json().unwrap(), tokenizer.to_json().unwrap());
    assert_eq!(read.encode(TEXTS[0]), tokenizer.encode(TEXTS[0]));
}

#[test]
fn what_is_no_byte_level_tokenizer_of_the_model_is_refused_with_all_its_faults() {
    let beyond = refused(|_| {}, 300);
    assert!(beyond[0].starts_with("t.json: model.vocab: expected ids below 300"), "{beyond:?}");
    let faults = refused(
        |json| {
            json["decoder"] = Value::Null;
            json["model"]["dropout"] = json!(0.5);
            let vocab = json["model"]["vocab"].as_object_mut().unwrap();
            vocab.remove("q");
            json["model"]["merges"] = json!([]);
        },
        400,
    );
    assert_eq!(
        faults,
        [
            "t.json: decoder.type: expected `ByteLevel`, found another",
            "t.json: model.dropout: expected no dropout, found 0.5",
            "t.json: model.vocab: expected a token for each byte, found 1 bytes without one",
        ]
    );
    let lossy = json!({"type": "Replace", "pattern": {"String": "\t"}, "content": " "});
    let replaced = refused(|json| json["normalizer"] = lossy, 400);
    assert!(replaced[0].contains("to come back from its tokens"), "{replaced:?}");
}

#[test]
fn a_character_of_several_bytes_comes_whole() {
    let tokenizer = tokenizer();
    let bytes: Vec<u32> =
        "x\u{1f980}y".bytes().map(|byte| tokenizer.shared.pieces.of_byte(byte).unwrap()).collect();
    let mut stream = tokenizer.stream();
    let told: Vec<String> = bytes.iter().map(|id| stream.push(*id)).collect();
    assert_eq!(told, ["x", "", "", "", "\u{1f980}", "y"]);
    assert_eq!(stream.finish(), "");
    let mut cut = tokenizer.stream();
    assert_eq!(cut.push(bytes[1]), "");
    assert_eq!(cut.push(tokenizer.specials()[1].1), "", "a special token has no text");
    assert_eq!(cut.finish(), "\u{fffd}");
}

proptest! {
    #[test]
    fn every_text_comes_back_from_its_tokens(text in any::<String>()) {
        let tokenizer = tokenizer();
        let ids = tokenizer.encode(&text);
        prop_assert_eq!(tokenizer.decode(&ids, true), text);
    }

    #[test]
    fn a_stream_gives_the_text_of_all_tokens(
        ids in prop::collection::vec(0_u32..410, 0..40),
    ) {
        let tokenizer = tokenizer();
        let mut stream = tokenizer.stream();
        let mut text: String = ids.iter().map(|id| stream.push(*id)).collect();
        text.push_str(&stream.finish());
        prop_assert_eq!(&text, &tokenizer.decode(&ids, false));
        prop_assert_eq!(text, tokenizer.shared.inner.decode(&ids, true).unwrap());
        let all = tokenizer.shared.inner.decode(&ids, false).unwrap();
        prop_assert_eq!(tokenizer.decode(&ids, true), all);
    }
}
