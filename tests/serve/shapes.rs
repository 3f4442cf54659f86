//! What each route answers, member by member.

use serde_json::{Value, json};

use crate::lab::{Lab, MODEL};

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";

/// The value with what differs from run to run replaced by the kind of value that it is.
fn masked(mut value: Value) -> Value {
    for key in ["id", "created"] {
        if let Some(found) = value.get_mut(key) {
            let kind = if found.is_u64() { "a number" } else { found.as_str().unwrap() };
            *found = kind.split('-').next().unwrap().into();
        }
    }
    value
}

/// The ids of a chat's prompt and answer.
fn said(seed: u64) -> Value {
    json!({
        "model": MODEL,
        "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}],
        "max_tokens": 3,
        "seed": seed,
    })
}

fn with(mut body: Value, more: Value) -> Value {
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

#[tokio::test]
async fn a_chat_completion_has_the_members_of_openai_s() {
    let lab = Lab::start().await;
    let answer = lab.post(CHAT, &said(1)).await.ok();
    let text = answer["choices"][0]["message"]["content"].clone();
    let prompt_tokens = answer["usage"]["prompt_tokens"].as_u64().unwrap();
    let expected = json!({
        "id": "chatcmpl",
        "object": "chat.completion",
        "created": "a number",
        "model": MODEL,
        "choices": [{
            "index": 0,
            "message": {"role": "assistant", "content": text, "refusal": null},
            "logprobs": null,
            "finish_reason": "length",
        }],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": 3,
            "total_tokens": prompt_tokens + 3,
            "prompt_tokens_details": {"cached_tokens": 0},
        },
    });
    assert_eq!(masked(answer), expected);
}

#[tokio::test]
async fn a_chat_tells_tokens_and_log_probabilities_to_who_asks() {
    let lab = Lab::start().await;
    let more = json!({"logprobs": true, "top_logprobs": 2, "return_token_ids": true});
    let answer = lab.post(CHAT, &with(said(1), more)).await.ok();
    let choice = &answer["choices"][0];
    let ids = choice["token_ids"].as_array().unwrap();
    assert_eq!(ids.len(), 3);
    assert_eq!(choice["weight_versions"], json!([{"version": "0", "start": 0, "end": 3}]));
    let told = choice["logprobs"]["content"].as_array().unwrap();
    assert_eq!(told.len(), 3);
    for token in told {
        assert!(token["logprob"].as_f64().unwrap() <= 0.0);
        let members = |token: &Value| {
            let mut keys: Vec<String> = token.as_object().unwrap().keys().cloned().collect();
            keys.sort();
            keys
        };
        assert_eq!(members(token), ["bytes", "logprob", "token", "top_logprobs"]);
        let top = token["top_logprobs"].as_array().unwrap();
        assert_eq!(top.len(), 2);
        assert_eq!(members(&top[0]), ["bytes", "logprob", "token"]);
        assert!(top[0]["logprob"].as_f64() >= top[1]["logprob"].as_f64());
        let bytes: Vec<u8> = serde_json::from_value(token["bytes"].clone()).unwrap();
        match String::from_utf8(bytes) {
            Ok(text) => assert_eq!(token["token"], text),
            Err(_) => assert!(token["token"].as_str().unwrap().starts_with("bytes:\\x")),
        }
    }
    // The prompt is what the tokenizer's route makes of the same messages.
    let tokenized = lab.post("/tokenize", &json!({"messages": said(1)["messages"]})).await.ok();
    assert_eq!(answer["prompt_token_ids"], tokenized["tokens"]);
}

#[tokio::test]
async fn a_completion_has_the_members_of_openai_s_and_of_vllm_s() {
    let lab = Lab::start().await;
    let body = json!({
        "model": MODEL, "prompt": [[5, 6, 7], [8, 9]], "n": 2, "max_tokens": 2, "seed": 3,
        "logprobs": 1, "return_token_ids": true,
    });
    let answer = lab.post(COMPLETIONS, &body).await.ok();
    assert_eq!(answer["object"], "text_completion");
    assert_eq!(answer["usage"]["prompt_tokens"], 5, "each prompt once");
    assert_eq!(answer["usage"]["completion_tokens"], 8);
    let choices = answer["choices"].as_array().unwrap();
    assert_eq!(choices.len(), 4);
    for (index, choice) in choices.iter().enumerate() {
        let prompt = [json!([5, 6, 7]), json!([8, 9])][index / 2].clone();
        let logprobs = &choice["logprobs"];
        let expected = json!({
            "index": index,
            "text": choice["text"],
            "logprobs": {
                "tokens": logprobs["tokens"],
                "token_logprobs": logprobs["token_logprobs"],
                "top_logprobs": logprobs["top_logprobs"],
                "text_offset": logprobs["text_offset"],
            },
            "finish_reason": "length",
            "token_ids": choice["token_ids"],
            "prompt_token_ids": prompt,
            "weight_versions": [{"version": "0", "start": 0, "end": 2}],
        });
        assert_eq!(*choice, expected);
        for of_each in ["tokens", "token_logprobs", "top_logprobs", "text_offset"] {
            assert_eq!(logprobs[of_each].as_array().unwrap().len(), 2, "{of_each}");
        }
        assert_eq!(logprobs["text_offset"][0], 0);
        let own = logprobs["tokens"][0].as_str().unwrap();
        assert_eq!(logprobs["top_logprobs"][0][own], logprobs["token_logprobs"][0]);
    }
    assert_ne!(choices[0]["token_ids"], choices[1]["token_ids"], "another seed");
}

#[tokio::test]
async fn a_stream_ends_with_what_was_used_and_done() {
    let lab = Lab::start().await;
    let more = json!({"stream": true, "stream_options": {"include_usage": true}});
    let events = lab.post(CHAT, &with(said(1), more)).await.events();
    assert_eq!(events[0]["object"], "chat.completion.chunk");
    assert_eq!(events[0]["choices"][0]["delta"], json!({"role": "assistant", "content": ""}));
    let (usage, events) = events.split_last().unwrap();
    assert_eq!((&usage["choices"], &usage["usage"]["completion_tokens"]), (&json!([]), &json!(3)));
    let last = &events.last().unwrap()["choices"][0];
    assert_eq!((&last["finish_reason"], &last["delta"].is_object()), (&json!("length"), &true));
    let unfinished = &events[..events.len() - 1];
    assert!(unfinished.iter().all(|event| event["choices"][0]["finish_reason"].is_null()));
    let ids: Vec<&Value> = events.iter().map(|event| &event["id"]).collect();
    assert!(ids.iter().all(|id| *id == ids[0]));
}

#[tokio::test]
async fn there_is_one_model() {
    let lab = Lab::start().await;
    let models = lab.get("/v1/models").await.ok();
    let model = models["data"][0].clone();
    assert_eq!(models["object"], "list");
    assert_eq!(
        model,
        json!({
            "id": MODEL,
            "object": "model",
            "created": model["created"],
            "owned_by": "orcapack",
            "max_model_len": 512,
        })
    );
    assert_eq!(lab.get(&format!("/v1/models/{MODEL}")).await.ok(), model);
    let other = lab.get("/v1/models/other/7b").await;
    assert_eq!((other.status, other.error().2.as_str()), (404, "model_not_found"));
    assert_eq!(lab.get("/health").await.status, 200);
}

#[tokio::test]
async fn texts_become_tokens_and_come_back() {
    let lab = Lab::start().await;
    let text = "solve the task<|im_end|> \u{e9}\u{1f600}";
    let body = json!({"model": MODEL, "prompt": text, "return_token_strs": true});
    let tokenized = lab.post("/tokenize", &body).await.ok();
    let tokens = tokenized["tokens"].as_array().unwrap();
    assert_eq!(
        (&tokenized["count"], &tokenized["max_model_len"]),
        (&tokens.len().into(), &512.into())
    );
    assert_eq!(tokenized["token_strs"].as_array().unwrap().len(), tokens.len());
    assert!(tokenized["token_strs"].as_array().unwrap().contains(&json!("<|im_end|>")));
    let back = lab.post("/detokenize", &json!({"model": MODEL, "tokens": tokens})).await.ok();
    assert_eq!(back, json!({"prompt": text}));
    let both = lab.post("/tokenize", &json!({"prompt": "a", "messages": []})).await;
    assert_eq!((both.status, both.error().1.as_deref()), (400, Some("prompt")));
}

#[tokio::test]
async fn what_is_done_is_counted() {
    let lab = Lab::start().await;
    lab.post(CHAT, &said(1)).await.ok();
    lab.post(CHAT, &json!({"messages": 1})).await;
    lab.get("/nowhere").await;
    assert_eq!(lab.metric("orcapack_generation_tokens_total").await, 3.0);
    let requests = |route: &str, status: u16| {
        format!("orcapack_http_requests_total{{route=\"{route}\",status=\"{status}\"}}")
    };
    assert_eq!(lab.metric(&requests(CHAT, 200)).await, 1.0);
    assert_eq!(lab.metric(&requests(CHAT, 400)).await, 1.0);
    assert_eq!(lab.metric(&requests("other", 404)).await, 1.0);
    let ended = "orcapack_request_success_total{finished_reason=\"length\"}";
    assert_eq!(lab.metric(ended).await, 1.0);
    assert_eq!(lab.metric("orcapack_time_to_first_token_seconds_count").await, 1.0);
}
