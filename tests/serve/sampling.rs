//! What is sampled does not depend on how it is asked for, nor on who else asks.

use serde_json::{Value, json};

use crate::lab::{Lab, MODEL};

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";

fn messages() -> Value {
    json!([{"role": "user", "content": "hello"}])
}

/// A completion of ten tokens with everything told, and more keys over it.
fn asked(more: Value) -> Value {
    let mut body = json!({
        "model": MODEL, "prompt": [5, 6, 7], "max_tokens": 10, "seed": 11,
        "logprobs": 2, "return_token_ids": true,
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

async fn complete(lab: &Lab, more: Value) -> Value {
    lab.post(COMPLETIONS, &asked(more)).await.ok()["choices"][0].clone()
}

fn ids(choice: &Value) -> Vec<u64> {
    choice["token_ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect()
}

/// The choices of a stream, put together again as whole ones.
fn joined(events: &[Value], text: impl Fn(&Value) -> Option<&str>) -> Vec<Value> {
    let mut choices: Vec<Value> = Vec::new();
    for choice in events.iter().flat_map(|event| event["choices"].as_array().unwrap()) {
        let index = choice["index"].as_u64().unwrap() as usize;
        while choices.len() <= index {
            choices.push(json!({"text": "", "token_ids": [], "logprobs": [], "end": null}));
        }
        let whole = &mut choices[index];
        let said = format!("{}{}", whole["text"].as_str().unwrap(), text(choice).unwrap_or(""));
        whole["text"] = said.into();
        append(&mut whole["token_ids"], &choice["token_ids"]);
        append(&mut whole["logprobs"], &choice["logprobs"]["content"]);
        append(&mut whole["logprobs"], &choice["logprobs"]["token_logprobs"]);
        assert!(whole["end"].is_null(), "an end that is not the last");
        whole["end"] = choice["finish_reason"].clone();
    }
    choices
}

fn append(to: &mut Value, more: &Value) {
    to.as_array_mut().unwrap().extend(more.as_array().cloned().unwrap_or_default());
}

#[tokio::test]
async fn a_streamed_completion_is_the_whole_one_in_pieces() {
    let lab = Lab::start().await;
    for more in [json!({}), json!({"n": 3}), json!({"stop": [" ", "e"], "max_tokens": 60})] {
        let whole = lab.post(COMPLETIONS, &asked(more.clone())).await.ok();
        let mut streamed = asked(more);
        streamed["stream"] = true.into();
        let events = lab.post(COMPLETIONS, &streamed).await.events();
        let joined = joined(&events, |choice| choice["text"].as_str());
        let expected: Vec<Value> = whole["choices"]
            .as_array()
            .unwrap()
            .iter()
            .map(|choice| {
                json!({
                    "text": choice["text"],
                    "token_ids": choice["token_ids"],
                    "logprobs": choice["logprobs"]["token_logprobs"],
                    "end": choice["finish_reason"],
                })
            })
            .collect();
        assert_eq!(joined, expected);
        assert_eq!(events[0]["choices"][0]["prompt_token_ids"], json!([5, 6, 7]));
    }
}

#[tokio::test]
async fn a_streamed_chat_is_the_whole_one_in_pieces() {
    let lab = Lab::start().await;
    let mut body = json!({
        "messages": messages(), "max_tokens": 20, "seed": 4, "n": 2, "logprobs": true,
        "top_logprobs": 1, "return_token_ids": true,
    });
    let whole = lab.post(CHAT, &body).await.ok();
    body["stream"] = true.into();
    let events = lab.post(CHAT, &body).await.events();
    let joined = joined(&events, |choice| choice["delta"]["content"].as_str());
    let expected: Vec<Value> = whole["choices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|choice| {
            json!({
                "text": choice["message"]["content"],
                "token_ids": choice["token_ids"],
                "logprobs": choice["logprobs"]["content"],
                "end": choice["finish_reason"],
            })
        })
        .collect();
    assert_eq!(joined, expected);
    let first = events.iter().find(|event| event["choices"][0]["index"] == 0).unwrap();
    assert_eq!(first["prompt_token_ids"], whole["prompt_token_ids"]);
}

#[tokio::test]
async fn a_seed_makes_an_answer_repeat_and_another_seed_another_one() {
    let lab = Lab::start().await;
    let one = complete(&lab, json!({})).await;
    assert_eq!(complete(&lab, json!({})).await, one);
    let other = complete(&lab, json!({"seed": 12})).await;
    assert_ne!(other["token_ids"], one["token_ids"]);
    // The second choice is what the next seed says.
    let two = lab.post(COMPLETIONS, &asked(json!({"n": 2}))).await.ok();
    assert_eq!(two["choices"][0]["token_ids"], one["token_ids"]);
    assert_eq!(two["choices"][1]["token_ids"], other["token_ids"]);
    // Who asks for no seed is given one of the server's, each time another.
    let free = json!({"seed": null});
    let first = complete(&lab, free.clone()).await;
    assert_ne!(complete(&lab, free).await["token_ids"], first["token_ids"]);
}

#[tokio::test]
async fn a_prompt_of_many_is_answered_as_if_it_were_alone() {
    let lab = Lab::start().await;
    let texts = ["solve", "hello", "write the answer"];
    let batch = lab.post(COMPLETIONS, &asked(json!({"prompt": texts}))).await.ok();
    for (index, text) in texts.iter().enumerate() {
        let tokens = lab.post("/tokenize", &json!({"prompt": text})).await.ok()["tokens"].clone();
        let own = &batch["choices"][index];
        assert_eq!(own["prompt_token_ids"], tokens);
        for prompt in [json!(text), tokens] {
            let alone = complete(&lab, json!({"prompt": prompt})).await;
            assert_eq!(alone["token_ids"], own["token_ids"], "{text}");
            assert_eq!(alone["text"], own["text"]);
        }
    }
}

#[tokio::test]
async fn a_chat_is_a_completion_of_its_rendering() {
    let lab = Lab::start().await;
    let body = json!({
        "messages": messages(), "max_completion_tokens": 10, "seed": 11, "logprobs": true,
        "top_logprobs": 2, "return_token_ids": true,
    });
    let chat = lab.post(CHAT, &body).await.ok();
    let completion = complete(&lab, json!({"prompt": chat["prompt_token_ids"]})).await;
    let choice = &chat["choices"][0];
    assert_eq!(choice["message"]["content"], completion["text"]);
    assert_eq!(choice["token_ids"], completion["token_ids"]);
    let told = choice["logprobs"]["content"].as_array().unwrap().iter();
    let logprobs: Vec<Value> = told.map(|token| token["logprob"].clone()).collect();
    assert_eq!(Value::from(logprobs), completion["logprobs"]["token_logprobs"]);
}

#[tokio::test]
async fn the_likeliest_token_is_taken_where_nothing_else_may_be() {
    let lab = Lab::start().await;
    let greedy = complete(&lab, json!({"temperature": 0})).await;
    for narrow in
        [json!({"top_k": 1}), json!({"top_p": 1e-9}), json!({"temperature": 0, "seed": 1})]
    {
        assert_eq!(complete(&lab, narrow).await["token_ids"], greedy["token_ids"]);
    }
    for (token, top) in greedy["logprobs"]["tokens"]
        .as_array()
        .unwrap()
        .iter()
        .zip(greedy["logprobs"]["top_logprobs"].as_array().unwrap())
    {
        let own = &top[token.as_str().unwrap()];
        assert!(top.as_object().unwrap().values().all(|p| p.as_f64() <= own.as_f64()), "{top}");
    }
}

#[tokio::test]
async fn a_stop_text_across_tokens_ends_the_text_before_it_and_not_the_tokens() {
    let lab = Lab::start().await;
    // Letters only: an answer of the tiny policy is any bytes.
    let free = complete(&lab, json!({"max_tokens": 200})).await;
    let text = free["text"].as_str().unwrap();
    let tokens = free["logprobs"]["tokens"].as_array().unwrap();
    // The end of one token and the beginning of the next, both of them plain text.
    let plain = |at: usize| tokens[at].as_str().filter(|t| t.is_ascii() && !t.starts_with("bytes"));
    let found = (0..tokens.len() - 1).find_map(|at| {
        let (one, two) = (plain(at)?, plain(at + 1)?);
        let stop = format!("{}{}", one.chars().last()?, two.chars().next()?);
        (at > 2 && two.len() > 1 || at > 20).then_some(stop)
    });
    let stop = found.expect("two plain tokens side by side");
    let cut = complete(&lab, json!({"max_tokens": 200, "stop": stop})).await;
    let expected = &text[..text.find(&stop).unwrap()];
    assert_eq!((cut["text"].as_str().unwrap(), &cut["finish_reason"]), (expected, &json!("stop")));
    let (sampled, whole) = (ids(&cut), ids(&free));
    assert!(sampled.len() < whole.len() && whole.starts_with(&sampled));
}

#[tokio::test]
async fn a_stop_token_ends_an_answer_and_is_no_part_of_its_text() {
    let lab = Lab::start().await;
    let free = complete(&lab, json!({})).await;
    let whole = ids(&free);
    let at = (2..whole.len()).find(|at| !whole[..*at].contains(&whole[*at])).unwrap();
    let cut = complete(&lab, json!({"stop_token_ids": [whole[at]]})).await;
    assert_eq!((ids(&cut), &cut["finish_reason"]), (whole[..=at].to_vec(), &json!("stop")));
    let before = complete(&lab, json!({"max_tokens": at})).await;
    assert_eq!((&cut["text"], &before["finish_reason"]), (&before["text"], &json!("length")));
}

#[tokio::test]
async fn an_answer_ends_with_the_context() {
    let lab = Lab::start().await;
    let body = json!({"prompt": vec![5; 500], "max_tokens": 1000, "ignore_eos": true});
    let answer = lab.post(COMPLETIONS, &body).await.ok();
    assert_eq!(answer["usage"]["completion_tokens"], 12);
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
}
