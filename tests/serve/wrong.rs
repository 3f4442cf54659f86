//! Requests that are not served, and what they are told.

use serde_json::{Value, json};

use crate::http::send;
use crate::lab::{Lab, USUAL};

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";

/// Asks with these keys over a request that is in order.
async fn refused(lab: &Lab, route: &str, more: &Value) -> (u16, String, Option<String>, String) {
    let mut body = match route {
        CHAT => json!({"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}),
        _ => json!({"prompt": "hi", "max_tokens": 1}),
    };
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let reply = lab.post(route, &body).await;
    assert_ne!(reply.status, 200, "{more}");
    let (message, param, code) = reply.error();
    (reply.status, message, param, code)
}

#[tokio::test]
async fn a_parameter_that_is_wrong_or_not_supported_is_named() {
    let lab = Lab::start().await;
    let both = [
        (json!({"temperature": 2.5}), "temperature"),
        (json!({"temperature": "hot"}), "temperature"),
        (json!({"top_p": 0}), "top_p"),
        (json!({"top_k": -2}), "top_k"),
        (json!({"n": 0}), "n"),
        (json!({"n": 33}), "n"),
        (json!({"max_tokens": 0}), "max_tokens"),
        (json!({"max_tokens": 1.5}), "max_tokens"),
        (json!({"seed": "x"}), "seed"),
        (json!({"stop": ""}), "stop"),
        (json!({"stop": ["a", 1]}), "stop"),
        (json!({"stop": vec!["a"; 65]}), "stop"),
        (json!({"stop_token_ids": [-1]}), "stop_token_ids[0]"),
        (json!({"stream": "yes"}), "stream"),
        (json!({"stream_options": {"include_usage": true}}), "stream_options"),
        (json!({"logit_bias": {"5": 1}}), "logit_bias"),
        (json!({"presence_penalty": 0.5}), "presence_penalty"),
        (json!({"best_of": 2}), "best_of"),
        (json!({"echo": true}), "echo"),
        (json!({"response_format": {"type": "json_object"}}), "response_format"),
        (json!({"tools": [{"type": "function"}]}), "tools"),
        (json!({"temprature": 1}), "temprature"),
    ];
    let chat = [
        (json!({"messages": []}), "messages"),
        (json!({"messages": "hi"}), "messages"),
        (json!({"messages": ["hi"]}), "messages[0]"),
        (json!({"messages": [{"role": "tool", "content": "x"}]}), "messages[0].role"),
        (json!({"messages": [{"role": "user"}]}), "messages[0].content"),
        (
            json!({"messages": [{"role": "user", "content": [
                {"type": "text", "text": "what is it?"},
                {"type": "image_url", "image_url": {"url": "data:"}},
            ]}]}),
            "messages[0].content[1].type",
        ),
        (json!({"messages": [{"role": "user", "content": "x", "audio": {}}]}), "messages[0].audio"),
        (json!({"top_logprobs": 2}), "top_logprobs"),
        (json!({"logprobs": true, "top_logprobs": 21}), "top_logprobs"),
        (json!({"logprobs": 2}), "logprobs"),
        (json!({"max_completion_tokens": 2}), "max_tokens"),
        (json!({"prompt": "x"}), "prompt"),
    ];
    let completions = [
        (json!({"prompt": null}), "prompt"),
        (json!({"prompt": ""}), "prompt"),
        (json!({"prompt": []}), "prompt"),
        (json!({"prompt": [1, "a"]}), "prompt[1]"),
        (json!({"prompt": [[5], [5, 4000]]}), "prompt[1][1]"),
        (json!({"prompt": vec!["a"; 129]}), "prompt"),
        (json!({"logprobs": true}), "logprobs"),
        (json!({"logprobs": 21}), "logprobs"),
        (json!({"suffix": "x"}), "suffix"),
        (json!({"messages": []}), "messages"),
    ];
    let cases =
        both.iter().map(|case| (CHAT, case)).chain(both.iter().map(|case| (COMPLETIONS, case)));
    let cases = cases.chain(chat.iter().map(|case| (CHAT, case)));
    let cases = cases.chain(completions.iter().map(|case| (COMPLETIONS, case)));
    for (route, (more, param)) in cases {
        let (status, message, found, _) = refused(&lab, route, more).await;
        assert_eq!((status, found.as_deref()), (400, Some(*param)), "{route} {more}: {message}");
        assert!(message.starts_with(param), "{message}");
    }
}

#[tokio::test]
async fn parameters_that_change_nothing_are_taken() {
    let lab = Lab::start().await;
    let body = json!({
        "model": "tiny", "prompt": "hi", "max_tokens": 1, "user": "me", "presence_penalty": 0,
        "logit_bias": {}, "best_of": 1, "echo": false, "suffix": null, "request_id": "x",
        "cache_salt": "policy-0", "add_special_tokens": false, "top_k": -1, "stop": null,
    });
    assert_eq!(lab.post(COMPLETIONS, &body).await.status, 200);
    let body = json!({
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}], "name": "me"}],
        "max_tokens": 1, "tools": [], "tool_choice": "none", "response_format": {"type": "text"},
        "chat_template_kwargs": {"enable_thinking": false}, "max_completion_tokens": 1,
    });
    assert_eq!(lab.post(CHAT, &body).await.status, 200);
}

#[tokio::test]
async fn a_prompt_that_leaves_no_room_is_told_in_openai_s_words() {
    let lab = Lab::start().await;
    let long = "task ".repeat(600);
    for (route, more, param) in [
        (COMPLETIONS, json!({"prompt": vec![5; USUAL.context]}), "prompt"),
        (CHAT, json!({"messages": [{"role": "user", "content": long}]}), "messages"),
    ] {
        for stream in [false, true] {
            let mut more = more.clone();
            more["stream"] = stream.into();
            let (status, message, found, code) = refused(&lab, route, &more).await;
            assert_eq!((status, code.as_str()), (400, "context_length_exceeded"));
            assert_eq!(found.as_deref(), Some(param));
            assert!(message.contains("maximum context length is 512 tokens"), "{message}");
        }
    }
}

#[tokio::test]
async fn another_model_is_not_found() {
    let lab = Lab::start().await;
    for route in [CHAT, COMPLETIONS] {
        let (status, _, param, code) = refused(&lab, route, &json!({"model": "gpt-5"})).await;
        assert_eq!(
            (status, param.as_deref(), code.as_str()),
            (404, Some("model"), "model_not_found")
        );
    }
    let reply = lab.post("/tokenize", &json!({"model": "gpt-5", "prompt": "a"})).await;
    assert_eq!(reply.status, 404);
}

#[tokio::test]
async fn what_is_no_request_is_told_where() {
    let lab = Lab::start().await;
    let post = |body: String| async { send(lab.at, CHAT, &[], Some(body)).await.whole().await };
    let reply = post("{\"messages\": [\n  oops]}".to_owned()).await;
    let (message, _, code) = reply.error();
    assert_eq!((reply.status, code.as_str()), (400, "invalid_json"));
    assert!(message.contains("line 2 column 3"), "{message}");
    assert_eq!(post("[1]".to_owned()).await.status, 400);
    let large = post(format!("{{\"messages\": \"{}\"}}", "x".repeat(9 << 20))).await;
    assert_eq!((large.status, large.error().2.as_str()), (413, "invalid_body"));
    let nowhere = lab.post("/v1/embeddings", &json!({})).await;
    assert_eq!((nowhere.status, nowhere.error().2.as_str()), (404, "not_found"));
    let method = lab.get(CHAT).await;
    assert_eq!((method.status, method.error().2.as_str()), (405, "method_not_allowed"));
    let tokens = lab.post("/detokenize", &json!({"tokens": [5, 99_999]})).await;
    assert_eq!((tokens.status, tokens.error().1.as_deref()), (400, Some("tokens[1]")));
}
