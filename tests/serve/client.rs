//! Our own client of vLLM's protocol against it: token ids in and out.

use std::sync::Arc;
use std::time::Duration;

use orcapack::embedded::Engines;
use orcapack_actors::model::connect::connect;
use orcapack_actors::model::settings::{EndpointKind, EndpointSettings, Sampling};
use orcapack_actors::model::{
    Answer, CallKey, Message, Model, ModelErrorKind, Request, Speaker, TokenTrace,
};

use crate::lab::{Lab, MODEL, USUAL};

pub fn settings(kind: EndpointKind, url: String) -> EndpointSettings {
    EndpointSettings {
        name: "main".into(),
        kind,
        model: MODEL.into(),
        url,
        api_key: None,
        sampling: Sampling { temperature: Some(1.0), top_p: None, seed: Some(3) },
        extra: Default::default(),
        try_timeout: Duration::from_secs(60),
        tries_max: 1,
        in_flight_max: 8,
        price: None,
        run: None,
        policy: None,
        mistakes: Default::default(),
    }
}

fn client(lab: &Lab) -> Arc<dyn Model> {
    connect(&settings(EndpointKind::Vllm, lab.url()), &Engines::default()).unwrap()
}

fn first(text: &str) -> Request {
    Request {
        key: CallKey { rollout: 1, attempt: 1, step: 0, agent: 0, turn: 1 },
        messages: vec![
            Message::new(Speaker::System, "be brief"),
            Message::new(Speaker::User, text),
        ],
        max_tokens: 12,
        instruction: "".into(),
        policy_version: 0,
        scripts: None,
    }
}

fn next(request: &Request, answer: &Answer) -> Request {
    let mut next = request.clone();
    next.key.turn += 1;
    next.messages.push(Message::new(Speaker::Assistant, answer.text.as_str()));
    next.messages.push(Message::new(Speaker::User, "go on"));
    next
}

#[tokio::test]
async fn each_prompt_extends_the_tokens_that_were_sampled() {
    let lab = Lab::start().await;
    let model = client(&lab);
    let mut asked = first("hello");
    let mut whole: Vec<u32> = Vec::new();
    for turn in 0..4 {
        let answer = model.call(&asked).await.unwrap();
        asked = next(&asked, &answer);
        let TokenTrace { prompt_ids, completion_ids, logprobs, versions } =
            answer.tokens.expect("tokens");
        assert!(prompt_ids.len() > whole.len() && prompt_ids.starts_with(&whole), "turn {turn}");
        assert!(!completion_ids.is_empty() && completion_ids.len() <= 12);
        assert_eq!((logprobs.len(), versions), (completion_ids.len(), vec![0; logprobs.len()]));
        assert_eq!(answer.usage.prompt_tokens, prompt_ids.len() as u64);
        assert_eq!(answer.usage.cached_tokens > 0, turn > 0, "what came before is kept");
        whole = [prompt_ids, completion_ids].concat();
    }
}

#[tokio::test]
async fn faults_are_understood_for_what_they_are() {
    let lab = Lab::start().await;
    let long = first(&"task ".repeat(2 * USUAL.context));
    let error = client(&lab).call(&long).await.unwrap_err();
    assert_eq!(error.kind, ModelErrorKind::ContextOverflow, "{error}");
    let mut other = settings(EndpointKind::Vllm, lab.url());
    other.model = "other".into();
    let other = connect(&other, &Engines::default()).unwrap();
    let error = other.call(&first("hello")).await.unwrap_err();
    assert_eq!(error.kind, ModelErrorKind::Rejected, "{error}");
}
