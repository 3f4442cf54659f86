//! Slots, queue, and connections that go.

use serde_json::{Value, json};

use crate::http::send;
use crate::lab::{Lab, Setup, USUAL};

const COMPLETIONS: &str = "/v1/completions";
const RUNNING: &str = "orcapack_num_requests_running";
const WAITING: &str = "orcapack_num_requests_waiting";
const GENERATED: &str = "orcapack_generation_tokens_total";

/// More than a test waits for.
const LONG: usize = 30_000;

const ONE_SLOT: Setup = Setup { slots: 1, queue: 1, context: 32_768, ..USUAL };

fn long(stream: bool) -> Value {
    json!({"prompt": [5, 6, 7], "max_tokens": LONG, "ignore_eos": true, "stream": stream})
}

fn short() -> Value {
    json!({"prompt": [8, 9], "max_tokens": 2})
}

#[tokio::test]
async fn a_connection_that_goes_gives_its_slot_back() {
    let lab = Lab::with(ONE_SLOT).await;
    for stream in [true, false] {
        let before = lab.metric(GENERATED).await;
        let body = long(stream);
        if stream {
            let mut coming = lab.begin(COMPLETIONS, &body).await;
            coming.frame().await.expect("an event");
        } else {
            // Whoever waits for the whole answer waits long: the connection goes meanwhile.
            tokio::select! {
                _whole = lab.begin(COMPLETIONS, &body) => panic!("a whole answer, so soon"),
                () = lab.until(GENERATED, |count| count > before + 5.0) => {}
            }
        }
        lab.until(RUNNING, |running| running == 0.0).await;
        assert_eq!(lab.post(COMPLETIONS, &short()).await.status, 200);
        let generated = lab.metric(GENERATED).await - before;
        assert!(generated < LONG as f64, "{generated} tokens for nobody");
    }
}

#[tokio::test]
async fn a_full_queue_is_told_at_once_and_with_a_time() {
    let lab = Lab::with(ONE_SLOT).await;
    let mut running = lab.begin(COMPLETIONS, &long(true)).await;
    running.frame().await.expect("an event");
    lab.until(RUNNING, |running| running == 1.0).await;
    let waiting = lab.begin(COMPLETIONS, &long(true)).await;
    lab.until(WAITING, |waiting| waiting == 1.0).await;
    for stream in [false, true] {
        let mut body = short();
        body["stream"] = stream.into();
        let refused = lab.post(COMPLETIONS, &body).await;
        assert_eq!((refused.status, refused.error().2.as_str()), (429, "rate_limit_exceeded"));
        assert_eq!(refused.headers["retry-after"], "1");
    }
    // A place in the queue comes free as well as a slot.
    drop(waiting);
    lab.until(WAITING, |waiting| waiting == 0.0).await;
    let one = json!({"prompt": [8], "max_tokens": 1, "stream": true});
    let next = lab.begin(COMPLETIONS, &one).await;
    assert_eq!(next.status(), 200);
    drop(running);
    assert_eq!(next.whole().await.events().len(), 3, "a beginning, a token, an end");
}

#[tokio::test]
async fn no_request_asks_for_more_answers_than_could_ever_wait() {
    let lab = Lab::with(ONE_SLOT).await;
    let refused = lab.post(COMPLETIONS, &json!({"prompt": ["a", "b"], "max_tokens": 1})).await;
    assert_eq!((refused.status, refused.error().1.as_deref()), (400, Some("n")));
}

#[tokio::test]
async fn only_who_has_the_key_is_served() {
    let lab = Lab::with(Setup { key: Some("sk-of-the-server"), ..USUAL }).await;
    let ask = |header: Option<&'static str>| {
        let headers: Vec<(&str, &str)> =
            header.map(|value| ("authorization", value)).into_iter().collect();
        let body = short().to_string();
        async move { send(lab.at, COMPLETIONS, &headers, Some(body)).await.whole().await }
    };
    for wrong in [
        None,
        Some("Bearer sk-of-the-serves"),
        Some("Bearer sk-of-the-server-"),
        Some("Bearer "),
        Some("sk-of-the-server"),
    ] {
        let refused = ask(wrong).await;
        assert_eq!((refused.status, refused.error().2.as_str()), (401, "invalid_api_key"));
        assert!(!refused.text.contains("sk-of"), "{}", refused.text);
    }
    assert_eq!(ask(Some("Bearer sk-of-the-server")).await.status, 200);
    for path in ["/v1/models", "/v1/models/tiny"] {
        assert_eq!(lab.get(path).await.status, 401, "{path}");
    }
    for path in ["/health", "/metrics"] {
        assert_eq!(lab.get(path).await.status, 200, "{path}");
    }
}
