//! A whole directory: written, read again, and in disorder.

use std::fs;

use tempfile::TempDir;

use super::*;
use crate::text::CHATML_SPECIALS;
use crate::text::chat::ChatMessage;

const VOCAB_SIZE: usize = 300;

fn policy() -> Policy {
    let texts = ["hello there, hello you", "the cat sat on the mat"];
    Policy {
        // Of <|im_end|>.
        config: ModelConfig { num_hidden_layers: 1, ..ModelConfig::small(VOCAB_SIZE, 1) },
        tokenizer: Tokenizer::train(&texts, VOCAB_SIZE, &CHATML_SPECIALS).unwrap(),
        chat: ChatTemplate::chatml().unwrap(),
    }
}

fn saved() -> TempDir {
    let (dir, policy) = (tempfile::tempdir().unwrap(), policy());
    let parameters = Parameters::random(&policy.config, 1, &Device::Cpu).unwrap();
    policy.save(dir.path(), &parameters, WeightsFormat::default()).unwrap();
    dir
}

fn faults(dir: &TempDir) -> Vec<String> {
    let Err(defects) = Policy::open(dir.path()) else { return Vec::new() };
    let folder = format!("{}/", dir.path().display());
    defects.0.iter().map(|defect| defect.to_string().replace(&folder, "")).collect()
}

#[test]
fn a_policy_that_is_saved_is_the_same_when_opened() {
    let (dir, before) = (saved(), policy());
    let after = Policy::open(dir.path()).unwrap();
    assert_eq!(after.config, before.config);
    assert_eq!(after.tokenizer.to_json(), before.tokenizer.to_json());
    let messages = [ChatMessage::new("user", "hello the cat")];
    let rendered = |policy: &Policy| policy.chat.render(&messages, true, &Map::new()).unwrap();
    assert_eq!(rendered(&after), rendered(&before));
    assert_eq!(after.chat.specials()["eos_token"], "<|im_end|>");

    let expected = Parameters::random(&before.config, 1, &Device::Cpu).unwrap();
    let found = after.load(dir.path(), &Device::Cpu).unwrap();
    for ((name, found), (_, expected)) in found.named().into_iter().zip(expected.named()) {
        let values = |tensor: &candle_core::Tensor| -> Vec<f32> {
            tensor.flatten_all().unwrap().to_vec1().unwrap()
        };
        assert_eq!(values(found), values(expected), "{name}");
    }
}

#[test]
fn the_same_policy_is_the_same_bytes() {
    let files = |dir: &TempDir| {
        let entries = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap());
        let mut files: Vec<_> =
            entries.map(|entry| (entry.file_name(), fs::read(entry.path()).unwrap())).collect();
        files.sort();
        files
    };
    let saved_once = files(&saved());
    assert_eq!(saved_once, files(&saved()));
    let names: Vec<_> = saved_once.iter().map(|(name, _)| name.to_str().unwrap()).collect();
    let expected = [
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    assert_eq!(names, expected);
}

#[test]
fn nothing_is_saved_over_something() {
    let (dir, policy) = (saved(), policy());
    let parameters = Parameters::random(&policy.config, 2, &Device::Cpu).unwrap();
    let refused = policy.save(dir.path(), &parameters, WeightsFormat::default()).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
}

#[test]
fn faults_of_all_files_are_told_at_once() {
    let dir = saved();
    fs::write(dir.path().join(TOKENIZER), "{}").unwrap();
    fs::write(dir.path().join(CHAT_TEMPLATE), "{% if %}").unwrap();
    let told = faults(&dir);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("tokenizer.json: expected "), "{told:?}");
    assert!(told[1].starts_with("chat_template.jinja:1: expected "), "{told:?}");
}

#[test]
fn tokens_that_the_model_does_not_have_are_refused() {
    let dir = saved();
    let mut config = ModelConfig::read(&dir.path().join("config.json")).unwrap();
    config.vocab_size = 200;
    config.write(dir.path(), WeightsFormat::default().element).unwrap();
    let told = faults(&dir);
    assert!(told[0].starts_with("tokenizer.json: model.vocab: expected ids below 200"), "{told:?}");
}

#[test]
fn an_end_token_that_the_tokenizer_does_not_have_is_refused() {
    let dir = saved();
    let mut config = ModelConfig::read(&dir.path().join("config.json")).unwrap();
    config.vocab_size = 2 * VOCAB_SIZE;
    config.eos_token_ids = vec![1, 2 * VOCAB_SIZE as u32 - 1];
    config.write(dir.path(), WeightsFormat::default().element).unwrap();
    let expected = "tokenizer.json: expected a token with eos_token_id 599, found none";
    assert_eq!(faults(&dir), [expected]);
}

#[test]
fn a_policy_that_would_not_stop_at_the_end_of_its_turn_is_refused() {
    let dir = saved();
    let mut config = ModelConfig::read(&dir.path().join("config.json")).unwrap();
    config.eos_token_ids = vec![0];
    config.write(dir.path(), WeightsFormat::default().element).unwrap();
    let told = faults(&dir);
    let expected = "generation_config.json: eos_token_id: expected 1 among them, `<|im_end|>`, which \
                    ends an assistant's turn in the template, found [0]";
    assert_eq!(told, [expected]);
    config.eos_token_ids = vec![0, 1];
    config.write(dir.path(), WeightsFormat::default().element).unwrap();
    assert_eq!(faults(&dir), [""; 0]);
}
