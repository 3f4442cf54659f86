use std::sync::Mutex;

use super::*;
use crate::model::endpoint::tests::settings;
use crate::model::settings::EndpointKind;
use crate::model::{CallKey, Message, Speaker};

/// Of the toy template: the start of each role's turn is its first letter, and this the end.
const END: u32 = 1000;

/// A policy that says what it is told to, in a spelling that no tokenizer would choose.
#[derive(Default)]
struct Toy {
    asked: Mutex<Vec<Ask>>,
    says: Mutex<Vec<Sampled>>,
    has_bridges: bool,
}

fn turn(message: &Message) -> Vec<u32> {
    let start = match message.role {
        Speaker::System => 's',
        Speaker::User => 'u',
        Speaker::Assistant => 'a',
    };
    let text = message.content.bytes().map(u32::from);
    [u32::from(start)].into_iter().chain(text).chain([END]).collect()
}

fn rendered(messages: &[Message]) -> Vec<u32> {
    messages.iter().flat_map(turn).chain(['a'.into()]).collect()
}

impl Renderer for Toy {
    fn prompt<'a>(
        &'a self,
        messages: &'a [Message],
    ) -> BoxFuture<'a, Result<Vec<u32>, ModelError>> {
        Box::pin(async { Ok(rendered(messages)) })
    }

    fn bridge<'a>(
        &'a self,
        added: &'a [Message],
    ) -> BoxFuture<'a, Result<Option<Vec<u32>>, ModelError>> {
        let bridge = [vec![END], rendered(added)].concat();
        Box::pin(async { Ok(self.has_bridges.then_some(bridge)) })
    }
}

impl TokenSampler for Toy {
    fn sample(&self, ask: Ask) -> BoxFuture<'_, Result<Sampled, ModelError>> {
        self.asked.lock().unwrap().push(ask);
        let mut says = self.says.lock().unwrap();
        let said = if says.is_empty() { ok() } else { says.remove(0) };
        Box::pin(async { Ok(said) })
    }
}

/// `ok` in one token, and the end.
fn ok() -> Sampled {
    Sampled {
        text: "ok".into(),
        ids: vec![500, END],
        logprobs: vec![-0.5, -1.5],
        versions: vec![3, 4],
        cached_tokens: 2,
        finish: Finish::Stop,
    }
}

fn policy(toy: Toy, sampling: Sampling) -> (Arc<Toy>, Embedded) {
    let toy = Arc::new(toy);
    let settings = EndpointSettings { sampling, ..settings("main", EndpointKind::Embedded) };
    (toy.clone(), Embedded::new(&settings, toy))
}

fn first() -> Request {
    Request {
        key: CallKey { rollout: 3, attempt: 1, step: 0, agent: 0, turn: 1 },
        messages: vec![
            Message::new(Speaker::System, "be brief"),
            Message::new(Speaker::User, "hello"),
        ],
        max_tokens: 64,
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

async fn three_turns(policy: &Embedded) -> Vec<crate::model::TokenTrace> {
    let mut asked = first();
    let mut traces = Vec::new();
    for _ in 0..3 {
        let answer = policy.call(&asked).await.unwrap();
        asked = next(&asked, &answer);
        traces.push(answer.tokens.unwrap());
    }
    traces
}

#[tokio::test]
async fn each_call_extends_the_tokens_of_the_one_before_verbatim() {
    let (toy, policy) = policy(Toy { has_bridges: true, ..Toy::default() }, Sampling::default());
    let traces = three_turns(&policy).await;
    let mut expected = rendered(&first().messages);
    for trace in &traces {
        assert_eq!(trace.prompt_ids, expected);
        assert_eq!((&trace.logprobs[..], &trace.versions[..]), (&[-0.5, -1.5][..], &[3, 4][..]));
        expected.extend([500, END]);
        expected.extend(rendered(&[Message::new(Speaker::User, "go on")]));
    }
    let asked: Vec<Vec<u32>> = toy.asked.lock().unwrap().iter().map(|a| a.prompt.clone()).collect();
    assert_eq!(asked, traces.into_iter().map(|trace| trace.prompt_ids).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_template_without_bridges_is_rendered_whole() {
    let (_, policy) = policy(Toy::default(), Sampling::default());
    let traces = three_turns(&policy).await;
    let said = Message::new(Speaker::Assistant, "ok");
    let whole = [&first().messages[..], &[said, Message::new(Speaker::User, "go on")]].concat();
    assert_eq!(traces[1].prompt_ids, rendered(&whole));
}

#[tokio::test]
async fn calls_are_sampled_as_configured_each_with_a_seed_of_its_own() {
    let sampling = Sampling { temperature: Some(0.5), top_p: None, seed: Some(7) };
    let (toy, one) = policy(Toy::default(), sampling.clone());
    let answer = one.call(&first()).await.unwrap();
    one.call(&first()).await.unwrap();
    one.call(&next(&first(), &answer)).await.unwrap();
    let asked = toy.asked.lock().unwrap().clone();
    assert_eq!((asked[0].temperature, asked[0].top_p, asked[0].max_tokens), (0.5, 1.0, 64));
    assert_eq!(asked[0], asked[1], "the same call again");
    assert_ne!(asked[0].seed, asked[2].seed);

    let (again, other) = policy(Toy::default(), sampling);
    other.call(&first()).await.unwrap();
    assert_eq!(again.asked.lock().unwrap()[0], asked[0], "in another process");
}

#[tokio::test]
async fn what_was_thought_is_parted_from_the_text_and_stays_in_the_tokens() {
    let thought = Sampled { text: "<think>hm</think>\nyes".into(), ..ok() };
    let toy = Toy { says: vec![thought].into(), has_bridges: true, ..Toy::default() };
    let (_, policy) = policy(toy, Sampling::default());
    let answer = policy.call(&first()).await.unwrap();
    assert_eq!((answer.text.as_str(), answer.reasoning.as_deref()), ("yes", Some("hm")));
    assert_eq!((answer.usage.completion_tokens, answer.usage.cached_tokens), (2, 2));
    let second = policy.call(&next(&first(), &answer)).await.unwrap();
    let before = [rendered(&first().messages), vec![500, END]].concat();
    assert!(second.tokens.unwrap().prompt_ids.starts_with(&before));
}

#[tokio::test]
async fn tokens_without_their_log_probabilities_are_no_answer() {
    let unproven = Sampled { logprobs: vec![-0.5], ..ok() };
    let toy = Toy { says: vec![unproven].into(), ..Toy::default() };
    let (_, policy) = policy(toy, Sampling::default());
    let error = policy.call(&first()).await.unwrap_err();
    assert_eq!(error.kind, ModelErrorKind::Malformed);
    assert!(error.message.starts_with("endpoint \"main\": log-probabilities"), "{error}");
}
