//! A vLLM and an SGLang server over a toy model: tokens are bytes, but for the marks of the chat
//! template, so that every text can be written in tokens in one way only by the tokenizer, and in
//! others by the model.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::http_server::{Asked, HttpReply, HttpServer};

/// Starts of turns, in the order of the roles, and the end of any turn.
const TURNS: [(&str, u32); 3] = [("system", 256), ("user", 257), ("assistant", 258)];
pub const END: u32 = 259;
/// Another way to write `ok`, which the model chooses and the tokenizer does not.
pub const OK: u32 = 260;

/// The quirk of a chat template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Template {
    /// Turns are marked by tokens that stand in no text.
    Marks,
    /// Each turn begins on a line of its own, and the last byte of a turn and the line break are
    /// one token: no bridge can be cut out of it.
    Joined,
}

/// What the model samples, and what becomes of it.
#[derive(Clone, Debug)]
pub enum Sampled {
    Tokens(Vec<u32>),
    /// Cut at the limit.
    Cut(Vec<u32>),
    /// One log-probability too few.
    Unproven(Vec<u32>),
    Aborted,
    Status(u16, &'static str),
}

/// Either server, and what it answers from.
pub struct TokenServer {
    pub http: HttpServer,
    /// What is sampled next; `ok` and the end of the turn where it is empty.
    pub script: Arc<Mutex<Vec<Sampled>>>,
}

impl TokenServer {
    pub async fn vllm(template: Template) -> Self {
        Self::start(template, "/v1/completions", vllm).await
    }

    pub async fn sglang(template: Template) -> Self {
        Self::start(template, "/generate", sglang).await
    }

    async fn start(
        template: Template,
        generate: &'static str,
        answer: fn(&Asked, Sampled) -> HttpReply,
    ) -> Self {
        let script = Arc::new(Mutex::new(Vec::<Sampled>::new()));
        let next = script.clone();
        let http = HttpServer::start(move |asked| match asked.path.as_str() {
            "/tokenize" => tokenize(template, &asked.body),
            path if path == generate => {
                let mut script = next.lock().unwrap();
                let ok = Sampled::Tokens(vec![OK, END]);
                let sampled = if script.is_empty() { ok } else { script.remove(0) };
                answer(asked, sampled)
            }
            path => HttpReply::Json(404, json!({"detail": format!("no such path: {path}")})),
        });
        Self { http: http.await, script }
    }

    /// The prompts that were asked with, in ids.
    pub fn prompts(&self) -> Vec<Vec<u32>> {
        let asked = self.http.asked().into_iter();
        let prompts = asked.filter_map(|asked| ids(&asked.body));
        prompts.collect()
    }

    /// How many calls went to the tokenizer.
    pub fn tokenized(&self) -> usize {
        self.http.asked().iter().filter(|asked| asked.path == "/tokenize").count()
    }
}

fn ids(body: &Value) -> Option<Vec<u32>> {
    let ids = body.get("prompt").or(body.get("input_ids"))?.as_array()?;
    ids.iter().map(|id| id.as_u64()?.try_into().ok()).collect()
}

pub fn bytes(text: &str) -> Vec<u32> {
    text.bytes().map(u32::from).collect()
}

/// The tokens of a conversation up to where the assistant is to speak.
pub fn rendered(template: Template, messages: &[(&str, &str)]) -> Vec<u32> {
    let mut ids = Vec::new();
    for (role, text) in messages {
        match template {
            Template::Marks => {
                ids.extend(TURNS.iter().find(|(name, _)| name == role).map(|(_, id)| *id));
                ids.extend(bytes(text));
                ids.push(END);
            }
            Template::Joined => {
                ids.extend(bytes(&format!("{role}: {text}")));
                ids.last_mut().into_iter().for_each(|last| *last += 1000);
            }
        }
    }
    match template {
        Template::Marks => ids.push(TURNS[2].1),
        Template::Joined => ids.extend(bytes("assistant: ")),
    }
    ids
}

fn tokenize(template: Template, body: &Value) -> HttpReply {
    let tokens = match (body["messages"].as_array(), body["prompt"].as_str()) {
        (Some(messages), None) => {
            let text = |m: &Value, key| m[key].as_str().unwrap().to_owned();
            let messages: Vec<_> =
                messages.iter().map(|m| (text(m, "role"), text(m, "content"))).collect();
            let messages: Vec<_> = messages.iter().map(|(r, t)| (r.as_str(), t.as_str())).collect();
            rendered(template, &messages)
        }
        (None, Some(text)) => bytes(text),
        _ => return HttpReply::Json(400, json!({"error": {"message": "messages or prompt"}})),
    };
    if body["add_special_tokens"] != false {
        return HttpReply::Json(400, json!({"error": {"message": "special tokens twice"}}));
    }
    HttpReply::Json(200, json!({"count": tokens.len(), "max_model_len": 4096, "tokens": tokens}))
}

fn text(ids: &[u32]) -> String {
    let piece = |id: &u32| match *id {
        OK => "ok".to_owned(),
        id => u8::try_from(id).map(|byte| char::from(byte).to_string()).unwrap_or_default(),
    };
    ids.iter().map(piece).collect()
}

fn logprob(at: usize) -> f64 {
    -0.5 - at as f64
}

/// The tokens, their log-probabilities, and whether they were cut.
fn told(sampled: Sampled) -> Result<(Vec<u32>, Vec<f64>, bool), HttpReply> {
    let (ids, missing, is_cut) = match sampled {
        Sampled::Tokens(ids) => (ids, 0, false),
        Sampled::Cut(ids) => (ids, 0, true),
        Sampled::Unproven(ids) => (ids, 1, false),
        Sampled::Status(status, said) => {
            return Err(HttpReply::Json(status, json!({"error": {"message": said}})));
        }
        Sampled::Aborted => (Vec::new(), 0, false),
    };
    let logprobs = (0..ids.len() - missing).map(logprob).collect();
    Ok((ids, logprobs, is_cut))
}

fn vllm(asked: &Asked, sampled: Sampled) -> HttpReply {
    let body = &asked.body;
    let is_aborted = matches!(sampled, Sampled::Aborted);
    let whole = body["return_token_ids"] == true && body["logprobs"].is_u64();
    let (Some(prompt), true) = (ids(body), whole) else {
        return HttpReply::Json(400, json!({"error": {"message": "ids, please"}}));
    };
    let (ids, logprobs, is_cut) = match told(sampled) {
        Ok(told) => told,
        Err(refused) => return refused,
    };
    let finish = if is_cut { "length" } else { "stop" };
    HttpReply::Json(
        200,
        json!({
            "id": "cmpl-1",
            "object": "text_completion",
            "created": 1_700_000_000,
            "model": body["model"],
            "choices": [{
                "index": 0,
                "text": text(&ids),
                "logprobs": {
                    "text_offset": [], "token_logprobs": logprobs, "tokens": [], "top_logprobs": [],
                },
                "finish_reason": if is_aborted { "abort" } else { finish },
                "token_ids": ids,
                "prompt_token_ids": prompt,
                "weight_versions": [{"version": "7", "start": 0, "end": ids.len()}],
            }],
            "usage": {
                "prompt_tokens": prompt.len(),
                "completion_tokens": ids.len(),
                "total_tokens": prompt.len() + ids.len(),
                "prompt_tokens_details": {"cached_tokens": 2},
            },
        }),
    )
}

fn sglang(asked: &Asked, sampled: Sampled) -> HttpReply {
    let body = &asked.body;
    let is_aborted = matches!(sampled, Sampled::Aborted);
    let (Some(prompt), true) = (ids(body), body["return_logprob"] == true) else {
        return HttpReply::Json(400, json!({"error": {"message": "ids, please"}}));
    };
    let (ids, logprobs, is_cut) = match told(sampled) {
        Ok(told) => told,
        Err(refused) => return refused,
    };
    let finish = match (is_aborted, is_cut) {
        (true, _) => {
            json!({"type": "abort", "message": "paused for new weights", "status_code": 503})
        }
        (false, true) => json!({"type": "length", "length": ids.len()}),
        (false, false) => json!({"type": "stop", "matched": END}),
    };
    let pairs: Vec<Value> = logprobs.iter().zip(&ids).map(|(p, id)| json!([p, id, null])).collect();
    HttpReply::Json(
        200,
        json!({
            "text": text(&ids),
            "output_ids": ids,
            "meta_info": {
                "id": body["rid"],
                "finish_reason": finish,
                "prompt_tokens": prompt.len(),
                "completion_tokens": ids.len(),
                "cached_tokens": 2,
                "weight_version": "7",
                "weight_versions": [{"version": "7", "start": 0, "end": ids.len()}],
                "output_token_logprobs": pairs,
            },
        }),
    )
}
