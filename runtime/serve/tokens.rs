//! `POST /tokenize` and `POST /detokenize`, as vLLM has them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use orcapack_trainer::caps::CONTEXT_TOKENS_MAX;
use serde_json::{Value, json};

use super::Served;
use super::asked::token_ids;
use super::body::JsonBody;
use super::chat::Conversation;
use super::errors::ApiError;
use super::fields::{Fields, Rule, shown};

const TOKENIZE: &[&str] = &[
    "model",
    "prompt",
    "messages",
    "chat_template_kwargs",
    "add_generation_prompt",
    "return_token_strs",
];
/// The tokenizer adds none, asked or not: templates write them themselves.
const TOKENIZE_RULES: [(&str, Rule); 1] = [("add_special_tokens", Rule::Ignored)];

pub(super) async fn tokenize(
    State(served): State<Arc<Served>>,
    body: JsonBody,
) -> Result<Json<Value>, ApiError> {
    let fields = Fields(&body.map);
    fields.allow(&[TOKENIZE], &TOKENIZE_RULES)?;
    served.check_model(&fields)?;
    let tokens = match (fields.string("prompt")?, fields.get("messages")) {
        (Some(text), None) => served.encoded(vec![text.to_owned()]).await?.concat(),
        (None, Some(_)) => served.rendered(Conversation::read(&fields)?).await?.to_vec(),
        (prompt, _) => {
            let found = prompt.map_or("neither", |_| "both");
            return Err(ApiError::param("prompt", "this or messages", found));
        }
    };
    let strings = fields.boolean("return_token_strs")?.unwrap_or(false);
    let tokenizer = &served.policy().tokenizer;
    let strings = strings
        .then(|| tokens.iter().map(|id| tokenizer.decode(&[*id], true)).collect::<Vec<String>>());
    Ok(Json(json!({
        "count": tokens.len(),
        "max_model_len": served.context_tokens_max(),
        "tokens": tokens,
        "token_strs": strings,
    })))
}

pub(super) async fn detokenize(
    State(served): State<Arc<Served>>,
    body: JsonBody,
) -> Result<Json<Value>, ApiError> {
    let fields = Fields(&body.map);
    fields.allow(&[&["model", "tokens"]], &[])?;
    served.check_model(&fields)?;
    let Some(tokens) = fields.get("tokens") else {
        return Err(ApiError::param("tokens", "a list of token ids", shown(&Value::Null)));
    };
    let range = 0..=served.policy().config.vocab_size as i64 - 1;
    let tokens = token_ids("tokens", tokens, CONTEXT_TOKENS_MAX, range)?;
    let text = served.policy().tokenizer.decode(&tokens, true);
    Ok(Json(json!({"prompt": text})))
}
