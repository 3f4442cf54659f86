//! Log-probabilities in the two shapes that OpenAI has for them. Pure.

use orcapack_trainer::text::tokenizer::Tokenizer;
use serde_json::{Map, Value, json};

use super::answers::Told;

/// Of `/v1/chat/completions`: one object for each token.
pub(super) fn of_chat(tokenizer: &Tokenizer, tokens: &[Told]) -> Value {
    let content: Vec<Value> = tokens
        .iter()
        .map(|Told { sampled, .. }| {
            let top = sampled.top.iter().map(|(id, logprob)| token(tokenizer, *id, *logprob));
            let top: Vec<Value> = top.map(Value::from).collect();
            let mut told = token(tokenizer, sampled.id, sampled.logprob);
            told.insert("top_logprobs".into(), top.into());
            told.into()
        })
        .collect();
    json!({"content": content, "refusal": null})
}

fn token(tokenizer: &Tokenizer, id: u32, logprob: f32) -> Map<String, Value> {
    Map::from_iter([
        ("token".to_owned(), written(tokenizer, id).into()),
        ("logprob".to_owned(), logprob.into()),
        ("bytes".to_owned(), tokenizer.bytes(id).into()),
    ])
}

/// Of `/v1/completions`: a list for each kind of value. The sampled token is among its own
/// alternatives.
pub(super) fn of_completion(tokenizer: &Tokenizer, tokens: &[Told]) -> Value {
    let top = |told: &Told| {
        let own = (told.sampled.id, told.sampled.logprob);
        let top = told.sampled.top.iter().copied().filter(|(id, _)| *id != own.0);
        let all = [own].into_iter().chain(top);
        let all = all.map(|(id, logprob)| (written(tokenizer, id), Value::from(logprob)));
        Value::from(all.collect::<Map<String, Value>>())
    };
    let texts: Vec<String> =
        tokens.iter().map(|told| written(tokenizer, told.sampled.id)).collect();
    let logprobs: Vec<f32> = tokens.iter().map(|told| told.sampled.logprob).collect();
    let offsets: Vec<usize> = tokens.iter().map(|told| told.offset).collect();
    json!({
        "tokens": texts,
        "token_logprobs": logprobs,
        "top_logprobs": tokens.iter().map(top).collect::<Vec<Value>>(),
        "text_offset": offsets,
    })
}

/// A token's text; of one that is no text by itself, its bytes, as OpenAI writes them.
fn written(tokenizer: &Tokenizer, id: u32) -> String {
    let bytes = tokenizer.bytes(id);
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => {
            let hex: String = bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect();
            format!("bytes:{hex}")
        }
    }
}
