//! The Anthropic protocol.

use std::time::Duration;

use orcapack_actors::model::settings::{EndpointKind, EndpointSettings, Sampling};
use orcapack_actors::model::{Answer, Finish, ModelErrorKind, Usage};
use serde_json::json;

use crate::anthropic_server::{Reply, Said, start};
use crate::http_server::HttpServer;
use crate::{KEY, ask, client, failed, request, settings};

fn over(server: &HttpServer) -> EndpointSettings {
    settings(EndpointKind::Anthropic, &server.url)
}

async fn answered(said: Said) -> Answer {
    let server = start(move |_| Reply::Answer(said.clone())).await;
    ask(&client(&over(&server))).await.unwrap()
}

#[tokio::test]
async fn a_growing_conversation_is_read_from_the_cache() {
    let server = start(|_| Reply::Answer(Said { text: "fine", ..Said::default() })).await;
    let model = client(&over(&server));
    let mut texts = vec!["how do you do?"];
    let mut last_prompt = 0;
    for turn in 1..6 {
        let answer = model.call(&request(turn, &texts)).await.unwrap();
        let all: usize = "be brief".len() + texts.iter().map(|text| text.len()).sum::<usize>();
        let Usage { prompt_tokens, completion_tokens, cached_tokens } = answer.usage;
        assert_eq!((prompt_tokens, completion_tokens), (all as u64, 4), "turn {turn}");
        assert_eq!(cached_tokens, last_prompt, "turn {turn}");
        last_prompt = prompt_tokens;
        texts.extend(["fine", "and now?"]);
    }
    let asked = server.asked();
    assert_eq!(asked[0].header("x-api-key"), Some(KEY));
    assert_eq!(asked[0].header("authorization"), None);
    assert_eq!(asked[0].header("anthropic-version"), Some("2026-10-21"));
    assert_eq!(asked[0].path, "/v1/messages");
    let marked =
        |text: &str| json!({"type": "text", "text": text, "cache_control": {"type": "ephemeral"}});
    assert_eq!(
        asked[0].body,
        json!({
            "model": "toy",
            "max_tokens": 64,
            "system": [marked("be brief")],
            "messages": [{"role": "user", "content": [marked("how do you do?")]}],
        })
    );
}

#[tokio::test]
async fn another_agent_of_a_role_reads_its_system_prompt_from_the_cache() {
    let server = start(|_| Reply::Answer(Said { text: "fine", ..Said::default() })).await;
    let model = client(&over(&server));
    model.call(&request(1, &["one task"])).await.unwrap();
    let answer = model.call(&request(1, &["another task"])).await.unwrap();
    assert_eq!(answer.usage.cached_tokens, "be brief".len() as u64);
}

#[tokio::test]
async fn thoughts_refusals_and_cuts_are_told_apart() {
    let thought = answered(Said { text: "4", thinking: Some("2 and 2"), ..Said::default() }).await;
    assert_eq!((thought.text.as_str(), thought.reasoning.as_deref()), ("4", Some("2 and 2")));
    assert_eq!(thought.finish, Finish::Stop);
    for (stop_reason, finish) in [
        ("max_tokens", Finish::Length),
        ("model_context_window_exceeded", Finish::Length),
        ("refusal", Finish::Refused),
        ("stop_sequence", Finish::Stop),
    ] {
        let answer = answered(Said { stop_reason, ..Said::default() }).await;
        assert_eq!((answer.finish, answer.text.as_str()), (finish, ""), "{stop_reason}");
    }
}

#[tokio::test]
async fn an_answer_without_text_does_not_break_the_conversation() {
    let server = start(|_| Reply::Answer(Said { text: "fine", ..Said::default() })).await;
    let answer = client(&over(&server)).call(&request(2, &["hello", "", "well?"])).await;
    assert_eq!(answer.unwrap().text, "fine");
    let said = &server.asked()[0].body["messages"][1]["content"][0]["text"];
    assert_eq!(said, "(no text)");
}

#[tokio::test]
async fn every_fault_is_told_for_what_it_is() {
    use ModelErrorKind::*;
    let faults = [
        (Reply::Status(400, "invalid_request_error", None), Rejected, "as it was told to"),
        (Reply::Status(403, "permission_error", None), Unauthorized, "403"),
        (Reply::Status(404, "not_found_error", None), Rejected, "404"),
        (Reply::Status(413, "request_too_large", None), ContextOverflow, "413"),
        (Reply::Status(429, "rate_limit_error", Some("7")), RateLimited, "429"),
        (Reply::Status(500, "api_error", None), Overloaded, "500"),
        (Reply::Status(529, "overloaded_error", None), Overloaded, "529"),
        (Reply::ContextOverflow, ContextOverflow, "prompt is too long"),
        (Reply::EchoKey, Unauthorized, "wrong key: ***"),
        (Reply::CutOffJson, Malformed, "EOF"),
        (Reply::WrongRole, Malformed, "expected \"assistant\", found \"user\""),
    ];
    for (reply, kind, words) in faults {
        let told = reply.clone();
        let server = start(move |_| told.clone()).await;
        let error = failed(ask(&client(&over(&server))).await, kind);
        assert!(error.message.contains(words), "{reply:?}: {error}");
        let wish = (kind == RateLimited).then_some(Duration::from_secs(7));
        assert_eq!(error.retry_after, wish);
    }
}

#[tokio::test]
async fn the_protocol_has_no_seed_and_extra_keys_go_over_the_body() {
    let server = start(|_| Reply::Answer(Said::default())).await;
    let mut settings = over(&server);
    settings.url.push_str("/v1/");
    settings.sampling = Sampling { temperature: Some(1.0), top_p: None, seed: Some(1) };
    settings.extra = json!({"thinking": {"type": "adaptive"}, "max_tokens": 9, "top_k": 5})
        .as_object()
        .unwrap()
        .clone();
    ask(&client(&settings)).await.unwrap();
    let asked = &server.asked()[0];
    assert_eq!(asked.header("anthropic-version"), Some("2023-06-01"), "the last that samples so");
    let body = &asked.body;
    assert_eq!((body.get("seed"), &body["temperature"]), (None, &json!(1.0)));
    assert_eq!((&body["max_tokens"], &body["thinking"]["type"]), (&json!(9), &json!("adaptive")));
}
