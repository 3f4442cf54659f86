//! A server of the OpenAI chat protocol that says what it is told to.

use serde_json::{Value, json};

use crate::http_server::{Asked, HttpReply, HttpServer};

/// What to answer.
#[derive(Clone, Debug)]
pub enum Reply {
    Answer(Said),
    /// A status with an error, and the wish to wait.
    Status(u16, Option<&'static str>),
    ContextOverflow,
    /// A status of 401 with the key in it.
    EchoKey,
    Hang,
    CutOffJson,
    /// The connection breaks in the middle of the answer.
    Break,
    Drop,
    /// More than anyone reads.
    Flood,
    WrongRole,
    NoChoices,
    /// 200 with another status inside, as some proxies do.
    Disguised(u16),
    /// The server gave up in the middle.
    Aborted,
}

/// An answer.
#[derive(Clone, Debug, Default)]
pub struct Said {
    pub text: &'static str,
    /// As a list of parts.
    pub in_parts: bool,
    pub reasoning: Option<&'static str>,
    pub refusal: Option<&'static str>,
    /// `stop` where it is empty.
    pub finish: &'static str,
    pub cached_tokens: u64,
}

impl Reply {
    pub fn text(text: &'static str) -> Self {
        Self::Answer(Said { text, ..Said::default() })
    }
}

/// A server that answers with what `reply` makes of the request's messages.
pub async fn start(reply: impl Fn(&Value) -> Reply + Send + Sync + 'static) -> HttpServer {
    HttpServer::start(move |asked| match refused(asked) {
        Some(fault) => HttpReply::Json(400, json!({"error": error(&fault, "invalid_value")})),
        None => answer(asked, reply(&asked.body["messages"])),
    })
    .await
}

/// What a strict server finds wrong with a request.
fn refused(asked: &Asked) -> Option<String> {
    let body = &asked.body;
    if asked.path != "/v1/chat/completions" {
        return Some(format!("no such path: {}", asked.path));
    }
    if body["model"].as_str().is_none_or(str::is_empty) {
        return Some("you must provide a model parameter".into());
    }
    let messages = body["messages"].as_array()?;
    let roles: Vec<&str> = messages.iter().filter_map(|m| m["role"].as_str()).collect();
    let turns = roles.strip_prefix(&["system"]).unwrap_or(&roles);
    let in_turns =
        turns.iter().enumerate().all(|(at, role)| *role == ["user", "assistant"][at % 2]);
    if !in_turns || turns.last() != Some(&"user") || roles.len() != messages.len() {
        return Some(format!("roles must alternate and end with the user: {roles:?}"));
    }
    if messages.iter().any(|message| !message["content"].is_string()) {
        return Some("content must be a string".into());
    }
    let limits = ["max_tokens", "max_completion_tokens"];
    let limits: Vec<_> = limits.iter().filter(|limit| body.get(**limit).is_some()).collect();
    (limits.len() != 1).then(|| format!("set one limit, not {limits:?}"))
}

fn answer(asked: &Asked, reply: Reply) -> HttpReply {
    match reply {
        Reply::Answer(said) => HttpReply::Json(200, completion(asked, &said)),
        Reply::Status(status, retry_after) => {
            let headers = retry_after.map(|wish| ("retry-after", wish.to_owned()));
            let body = json!({"error": error("as it was told to", "told")}).to_string();
            HttpReply::Raw(status, headers.into_iter().collect(), body)
        }
        Reply::ContextOverflow => {
            let said = "This model's maximum context length is 8 tokens.";
            HttpReply::Json(400, json!({"error": error(said, "context_length_exceeded")}))
        }
        Reply::EchoKey => {
            let said = format!("wrong key: {}", asked.header("authorization").unwrap());
            HttpReply::Json(401, json!({"error": error(&said, "invalid_api_key")}))
        }
        Reply::Hang => HttpReply::Hang,
        Reply::CutOffJson | Reply::Break => {
            let mut whole = completion(asked, &Said::default()).to_string();
            whole.truncate(whole.len() / 2);
            match reply {
                Reply::Break => HttpReply::Break(whole),
                _ => HttpReply::Raw(200, vec![], whole),
            }
        }
        Reply::Drop => HttpReply::Drop,
        Reply::Flood => HttpReply::Raw(200, vec![], " ".repeat(65 << 20)),
        Reply::WrongRole => {
            let mut completion = completion(asked, &Said::default());
            completion["choices"][0]["message"]["role"] = "user".into();
            HttpReply::Json(200, completion)
        }
        Reply::NoChoices => {
            let mut completion = completion(asked, &Said::default());
            completion["choices"] = json!([]);
            HttpReply::Json(200, completion)
        }
        Reply::Disguised(status) => {
            HttpReply::Json(200, json!({"error": {"code": status, "message": "behind me"}}))
        }
        Reply::Aborted => {
            let said = Said { text: "half of", finish: "abort", ..Said::default() };
            HttpReply::Json(200, completion(asked, &said))
        }
    }
}

fn completion(asked: &Asked, said: &Said) -> Value {
    let content = match said.in_parts {
        true => json!([{"type": "text", "text": said.text}]),
        false if said.refusal.is_some() => Value::Null,
        false => json!(said.text),
    };
    let mut message = json!({"role": "assistant", "content": content, "refusal": said.refusal});
    if let Some(reasoning) = said.reasoning {
        message["reasoning_content"] = reasoning.into();
    }
    let finish = if said.finish.is_empty() { "stop" } else { said.finish };
    let prompt_tokens = asked.body["messages"].to_string().split_whitespace().count() as u64;
    let completion_tokens = said.text.split_whitespace().count() as u64;
    json!({
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": asked.body["model"],
        "choices": [{"index": 0, "message": message, "logprobs": null, "finish_reason": finish}],
        "usage": {
            "prompt_tokens": prompt_tokens + said.cached_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + said.cached_tokens + completion_tokens,
            "prompt_tokens_details": {"cached_tokens": said.cached_tokens},
        },
    })
}

fn error(message: &str, code: &str) -> Value {
    json!({"message": message, "type": "invalid_request_error", "param": null, "code": code})
}
