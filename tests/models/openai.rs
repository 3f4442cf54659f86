//! The OpenAI chat protocol.

use std::time::{Duration, SystemTime};

use orcapack_actors::model::settings::{EndpointKind, Sampling};
use orcapack_actors::model::{Finish, ModelErrorKind, Usage};
use serde_json::json;

use crate::http_server::HttpServer;
use crate::openai_server::{Reply, Said, start};
use crate::{KEY, ask, client, failed, request, settings};

fn over(server: &HttpServer) -> orcapack_actors::model::settings::EndpointSettings {
    settings(EndpointKind::OpenAi, &format!("{}/v1", server.url))
}

async fn answered(said: Said) -> orcapack_actors::model::Answer {
    let server = start(move |_| Reply::Answer(said.clone())).await;
    ask(&client(&over(&server))).await.unwrap()
}

#[tokio::test]
async fn an_answer_comes_with_its_tokens_counted() {
    let server = start(|_| {
        Reply::Answer(Said { text: "all is well", cached_tokens: 40, ..Said::default() })
    })
    .await;
    let model = client(&over(&server));
    let answer = model.call(&request(2, &["hello", "", "again"])).await.unwrap();
    assert_eq!((answer.text.as_str(), answer.finish), ("all is well", Finish::Stop));
    assert_eq!((answer.model.as_str(), model.name()), ("toy", "toy"));
    let Usage { prompt_tokens, completion_tokens, cached_tokens } = answer.usage;
    assert_eq!((completion_tokens, cached_tokens), (3, 40));
    assert!(prompt_tokens > 40);

    let asked = server.asked();
    assert_eq!(asked[0].header("authorization"), Some(format!("Bearer {KEY}").as_str()));
    let expected = json!({
        "model": "toy",
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "hello"},
            {"role": "assistant", "content": ""},
            {"role": "user", "content": "again"},
        ],
        "max_tokens": 64,
    });
    assert_eq!(asked[0].body, expected);
}

#[tokio::test]
async fn content_may_be_a_text_parts_or_nothing() {
    let parts = answered(Said { text: "in parts", in_parts: true, ..Said::default() }).await;
    assert_eq!(parts.text, "in parts");
    let empty = answered(Said::default()).await;
    assert_eq!((empty.text.as_str(), empty.finish), ("", Finish::Stop));
}

#[tokio::test]
async fn thoughts_refusals_and_cuts_are_told_apart() {
    let thought = answered(Said { text: "4", reasoning: Some("2 and 2"), ..Said::default() }).await;
    assert_eq!((thought.text.as_str(), thought.reasoning.as_deref()), ("4", Some("2 and 2")));
    let refused = answered(Said { refusal: Some("I will not"), ..Said::default() }).await;
    assert_eq!((refused.text.as_str(), refused.finish), ("I will not", Finish::Refused));
    let withheld = answered(Said { finish: "content_filter", ..Said::default() }).await;
    assert_eq!(withheld.finish, Finish::Refused);
    let cut = answered(Said { text: "half", finish: "length", ..Said::default() }).await;
    assert_eq!((cut.finish, cut.reasoning), (Finish::Length, None));
}

#[tokio::test]
async fn every_fault_is_told_for_what_it_is() {
    use ModelErrorKind::*;
    let faults = [
        (Reply::Status(400, None), Rejected, "400 Bad Request: as it was told to"),
        (Reply::Status(401, None), Unauthorized, "401"),
        (Reply::Status(403, None), Unauthorized, "403"),
        (Reply::Status(404, None), Rejected, "404"),
        (Reply::Status(307, None), Rejected, "307"),
        (Reply::Status(408, None), TimedOut, "408"),
        (Reply::Status(409, None), Overloaded, "409"),
        (Reply::Status(413, None), ContextOverflow, "413"),
        (Reply::Status(422, None), Rejected, "422"),
        (Reply::Status(429, None), RateLimited, "429"),
        (Reply::Status(500, None), Overloaded, "500"),
        (Reply::Status(503, None), Overloaded, "503"),
        (Reply::Status(529, None), Overloaded, "529"),
        (Reply::ContextOverflow, ContextOverflow, "maximum context length is 8 tokens"),
        (Reply::EchoKey, Unauthorized, "wrong key: Bearer ***"),
        (Reply::CutOffJson, Malformed, "EOF while parsing"),
        (Reply::Break, Unreachable, "body"),
        (Reply::Drop, Unreachable, "closed"),
        (Reply::Flood, Malformed, "more than 64 MiB"),
        (Reply::WrongRole, Malformed, "expected \"assistant\", found \"user\""),
        (Reply::NoChoices, Malformed, "choices: expected one, found none"),
        (Reply::Disguised(429), RateLimited, "429 within an answer of 200: behind me"),
        (Reply::Aborted, Overloaded, "the server gave up"),
    ];
    for (reply, kind, words) in faults {
        let told = reply.clone();
        let server = start(move |_| told.clone()).await;
        let error = failed(ask(&client(&over(&server))).await, kind);
        assert!(error.message.contains(words), "{reply:?}: {error}");
        assert_eq!(error.retry_after, None);
        assert_eq!(server.asked().len(), 1, "{reply:?} was tried again");
    }
}

#[tokio::test]
async fn a_try_ends_at_its_time_limit() {
    let server = start(|_| Reply::Hang).await;
    let mut settings = over(&server);
    settings.try_timeout = Duration::from_millis(50);
    let error = failed(ask(&client(&settings)).await, ModelErrorKind::TimedOut);
    assert!(error.message.ends_with("no answer in 0.05 s"), "{error}");
}

#[tokio::test]
async fn a_wish_to_wait_is_handed_on() {
    for (wish, secs) in [("3", 3.0), ("0.5", 0.5)] {
        let server = start(move |_| Reply::Status(429, Some(wish))).await;
        let error = failed(ask(&client(&over(&server))).await, ModelErrorKind::RateLimited);
        assert_eq!(error.retry_after, Some(Duration::from_secs_f64(secs)));
    }
    let server = start(|_| Reply::Status(503, Some("Fri, 01 Jan 2100 00:00:00 GMT"))).await;
    let error = failed(ask(&client(&over(&server))).await, ModelErrorKind::Overloaded);
    let until = SystemTime::UNIX_EPOCH + Duration::from_secs(4_102_444_800);
    let wait = until.duration_since(SystemTime::now()).unwrap();
    let off = error.retry_after.unwrap().abs_diff(wait);
    assert!(off < Duration::from_secs(60), "{off:?}");
}

#[tokio::test]
async fn sampling_is_sent_as_configured_and_extra_keys_go_over_it() {
    let server = start(|_| Reply::text("ok")).await;
    let mut settings = over(&server);
    settings.sampling = Sampling { temperature: Some(0.7), top_p: Some(0.9), seed: Some(11) };
    let model = client(&settings);
    for turn in [1, 1, 2] {
        model.call(&request(turn, &["hello"])).await.unwrap();
    }
    settings.extra =
        json!({"max_completion_tokens": 9, "temperature": 1, "reasoning_effort": "low"})
            .as_object()
            .unwrap()
            .clone();
    ask(&client(&settings)).await.unwrap();

    let bodies: Vec<_> = server.asked().into_iter().map(|asked| asked.body).collect();
    assert_eq!((&bodies[0]["temperature"], &bodies[0]["top_p"]), (&json!(0.7), &json!(0.9)));
    assert!(bodies[0]["seed"].is_u64());
    assert_eq!(bodies[0], bodies[1], "a call tried again is the same call");
    assert_ne!(bodies[0]["seed"], bodies[2]["seed"]);
    assert_eq!(bodies[3]["max_completion_tokens"], 9);
    assert_eq!(bodies[3].get("max_tokens"), None);
    assert_eq!(
        (&bodies[3]["temperature"], &bodies[3]["reasoning_effort"]),
        (&json!(1), &json!("low"))
    );
}
