//! The model clients, each against a server of its protocol over real HTTP.

mod anthropic;
#[path = "../support/anthropic_server.rs"]
mod anthropic_server;
#[path = "../support/http_server.rs"]
mod http_server;
mod openai;
#[path = "../support/openai_server.rs"]
mod openai_server;
mod shapes;
#[path = "../support/token_servers.rs"]
mod token_servers;
mod tokens;

use std::sync::Arc;
use std::time::Duration;

use orcapack::embedded::Engines;
use orcapack_actors::model::connect::connect;
use orcapack_actors::model::settings::{EndpointKind, EndpointSettings, Sampling, Secret};
use orcapack_actors::model::{
    Answer, CallKey, Message, Model, ModelError, ModelErrorKind, Request, Speaker,
};

const KEY: &str = "sk-very-secret";

fn settings(kind: EndpointKind, url: &str) -> EndpointSettings {
    EndpointSettings {
        name: "main".into(),
        kind,
        model: "toy".into(),
        url: url.into(),
        api_key: Some(Secret::new(KEY)),
        sampling: Sampling::default(),
        extra: Default::default(),
        try_timeout: Duration::from_secs(20),
        tries_max: 1,
        in_flight_max: 8,
        price: None,
        run: None,
        policy: None,
        mistakes: Default::default(),
    }
}

fn client(settings: &EndpointSettings) -> Arc<dyn Model> {
    connect(settings, &Engines::default()).unwrap()
}

/// A request of a conversation: a system prompt, then user and assistant in turns.
fn request(turn: u32, texts: &[&str]) -> Request {
    let speakers = [Speaker::User, Speaker::Assistant].into_iter().cycle();
    let turns = speakers.zip(texts).map(|(speaker, text)| Message::new(speaker, *text));
    let system = [Message::new(Speaker::System, "be brief")];
    Request {
        key: CallKey { rollout: 3, attempt: 1, step: 0, agent: 2, turn },
        messages: system.into_iter().chain(turns).collect(),
        max_tokens: 64,
        instruction: "".into(),
        policy_version: 5,
        scripts: None,
    }
}

async fn ask(model: &Arc<dyn Model>) -> Result<Answer, ModelError> {
    model.call(&request(1, &["hello"])).await
}

/// A failure of a kind, told in a line that names the endpoint and hides the key.
#[track_caller]
fn failed(result: Result<Answer, ModelError>, kind: ModelErrorKind) -> ModelError {
    let error = result.expect_err("an answer");
    assert_eq!(error.kind, kind, "{error}");
    let message = &error.message;
    assert!(message.starts_with("endpoint \"main\": POST http://127.0.0.1:"), "{message}");
    assert!(!message.contains(KEY) && !message.contains('\n'), "{message}");
    error
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unreachable() {
    // A port that was free a moment ago, with nobody on it.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    drop(listener);
    for kind in [EndpointKind::OpenAi, EndpointKind::Anthropic, EndpointKind::Vllm] {
        let error = failed(ask(&client(&settings(kind, &url))).await, ModelErrorKind::Unreachable);
        assert!(error.message.contains("refused"), "{error}");
    }
}
