//! A server of the Anthropic protocol that says what it is told to.

use serde_json::{Value, json};

use crate::http_server::{Asked, HttpReply, HttpServer};

/// What to answer.
#[derive(Clone, Debug)]
pub enum Reply {
    Answer(Said),
    /// A status, the error's type, and the wish to wait.
    Status(u16, &'static str, Option<&'static str>),
    ContextOverflow,
    EchoKey,
    CutOffJson,
    WrongRole,
}

/// An answer.
#[derive(Clone, Debug, Default)]
pub struct Said {
    pub text: &'static str,
    pub thinking: Option<&'static str>,
    /// `end_turn` where it is empty.
    pub stop_reason: &'static str,
}

/// A server that answers with what `reply` makes of the request's messages. It caches prompts as
/// the real one does: up to the last marked block that an earlier request had marked, or one within
/// it.
pub async fn start(reply: impl Fn(&Value) -> Reply + Send + Sync + 'static) -> HttpServer {
    let cached = std::sync::Mutex::new(Vec::<String>::new());
    HttpServer::start(move |asked| match refused(asked) {
        Some(fault) => HttpReply::Json(400, error("invalid_request_error", &fault)),
        None => {
            let mut cached = cached.lock().unwrap();
            let marked = marked_prefixes(&asked.body);
            let is_cached = |prefix: &&String| cached.iter().any(|known| known == *prefix);
            let read = marked.iter().filter(is_cached).map(String::len).max().unwrap_or(0);
            let written = marked.iter().map(String::len).max().unwrap_or(0).max(read) - read;
            cached.extend(marked);
            answer(asked, reply(&asked.body["messages"]), [read, written])
        }
    })
    .await
}

/// What a strict server finds wrong with a request.
fn refused(asked: &Asked) -> Option<String> {
    let body = &asked.body;
    if asked.path != "/v1/messages" {
        return Some(format!("no such path: {}", asked.path));
    }
    let takes_sampling = match asked.header("anthropic-version") {
        Some("2026-10-21") => false,
        Some("2023-06-01") => true,
        other => return Some(format!("anthropic-version: {other:?} is no version")),
    };
    let sampled = ["temperature", "top_p", "top_k"].iter().find(|key| body.get(**key).is_some());
    if let (Some(key), false) = (sampled, takes_sampling) {
        return Some(format!("{key}: Extra inputs are not permitted"));
    }
    if body["model"].as_str().is_none_or(str::is_empty) || !body["max_tokens"].is_u64() {
        return Some("model, max_tokens: field required".into());
    }
    let messages = body["messages"].as_array()?;
    let roles: Vec<&str> = messages.iter().filter_map(|m| m["role"].as_str()).collect();
    let in_turns =
        roles.iter().enumerate().all(|(at, role)| *role == ["user", "assistant"][at % 2]);
    if !in_turns || roles.last() != Some(&"user") {
        return Some(format!("messages: roles must alternate and end with the user: {roles:?}"));
    }
    let blocks = blocks(body);
    if blocks.iter().any(|block| block["text"].as_str().is_none_or(|t| t.trim().is_empty())) {
        return Some("messages: text content blocks must be non-empty".into());
    }
    let marks = blocks.iter().filter(|block| block.get("cache_control").is_some()).count();
    (marks > 4).then(|| format!("a maximum of 4 blocks with cache_control, found {marks}"))
}

/// All blocks, in the order in which they are read.
fn blocks(body: &Value) -> Vec<&Value> {
    let system = body["system"].as_array().into_iter().flatten();
    let messages = body["messages"].as_array().into_iter().flatten();
    system.chain(messages.filter_map(|m| m["content"].as_array()).flatten()).collect()
}

fn marked_prefixes(body: &Value) -> Vec<String> {
    let mut text = String::new();
    let mut marked = Vec::new();
    for block in blocks(body) {
        text.push_str(block["text"].as_str().unwrap());
        if block.get("cache_control").is_some() {
            marked.push(text.clone());
        }
    }
    marked
}

fn answer(asked: &Asked, reply: Reply, cache: [usize; 2]) -> HttpReply {
    match reply {
        Reply::Answer(said) => HttpReply::Json(200, message(asked, &said, cache)),
        Reply::Status(status, kind, retry_after) => {
            let headers = retry_after.map(|wish| ("retry-after", wish.to_owned()));
            let body = error(kind, "as it was told to").to_string();
            HttpReply::Raw(status, headers.into_iter().collect(), body)
        }
        Reply::ContextOverflow => {
            let said = "prompt is too long: 210000 tokens > 200000 maximum";
            HttpReply::Json(400, error("invalid_request_error", said))
        }
        Reply::EchoKey => {
            let said = format!("wrong key: {}", asked.header("x-api-key").unwrap());
            HttpReply::Json(401, error("authentication_error", &said))
        }
        Reply::CutOffJson => {
            let whole = message(asked, &Said::default(), cache).to_string();
            HttpReply::Raw(200, vec![], whole[..whole.len() / 2].to_owned())
        }
        Reply::WrongRole => {
            let mut message = message(asked, &Said::default(), cache);
            message["role"] = "user".into();
            HttpReply::Json(200, message)
        }
    }
}

/// One token for each character.
fn message(asked: &Asked, said: &Said, [read, written]: [usize; 2]) -> Value {
    let stop_reason = if said.stop_reason.is_empty() { "end_turn" } else { said.stop_reason };
    let all: usize =
        blocks(&asked.body).iter().filter_map(|block| block["text"].as_str()).map(str::len).sum();
    let thinking = said
        .thinking
        .map(|thinking| json!({"type": "thinking", "thinking": thinking, "signature": "c2lnbmVk"}));
    let text = json!({"type": "text", "text": said.text, "citations": null});
    let text = (!said.text.is_empty()).then_some(text);
    json!({
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": asked.body["model"],
        "content": thinking.into_iter().chain(text).collect::<Vec<_>>(),
        "stop_reason": stop_reason,
        "stop_sequence": null,
        "usage": {
            "input_tokens": all - read - written,
            "cache_read_input_tokens": read,
            "cache_creation_input_tokens": written,
            "output_tokens": said.text.len(),
        },
    })
}

fn error(kind: &str, message: &str) -> Value {
    json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"})
}
