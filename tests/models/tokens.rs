//! vLLM and SGLang: token ids in and out.

use orcapack_actors::model::settings::{EndpointKind, EndpointSettings, Sampling};
use orcapack_actors::model::{Answer, Finish, ModelErrorKind, Request, TokenTrace};
use serde_json::json;

use crate::token_servers::{END, OK, Sampled, Template, TokenServer, bytes, rendered};
use crate::{ask, client, failed, request, settings};

const KINDS: [EndpointKind; 2] = [EndpointKind::Vllm, EndpointKind::Sglang];

async fn start(kind: EndpointKind, template: Template) -> (TokenServer, EndpointSettings) {
    let server = match kind {
        EndpointKind::Vllm => TokenServer::vllm(template).await,
        _ => TokenServer::sglang(template).await,
    };
    let settings = settings(kind, &format!("{}/v1", server.http.url));
    (server, settings)
}

fn tokens(answer: &Answer) -> &TokenTrace {
    answer.tokens.as_ref().expect("tokens")
}

/// The request after an answer.
fn next(request: &Request, answer: &Answer, said: &str) -> Request {
    let mut next = request.clone();
    next.key.turn += 1;
    let speak = orcapack_actors::model::Message::new;
    next.messages.push(speak(orcapack_actors::model::Speaker::Assistant, answer.text.as_str()));
    next.messages.push(speak(orcapack_actors::model::Speaker::User, said));
    next
}

#[tokio::test]
async fn each_call_extends_the_tokens_of_the_one_before_verbatim() {
    for kind in KINDS {
        let (server, settings) = start(kind, Template::Marks).await;
        let model = client(&settings);
        let mut asked = request(1, &["hello"]);
        let mut whole: Vec<u32> = Vec::new();
        for turn in 0..4 {
            let answer = model.call(&asked).await.unwrap();
            assert_eq!((answer.text.as_str(), answer.finish), ("ok", Finish::Stop));
            let trace = tokens(&answer);
            assert!(trace.prompt_ids.starts_with(&whole), "{kind:?} turn {turn}");
            assert_eq!(trace.completion_ids, [OK, END]);
            assert_eq!(trace.logprobs, [-0.5, -1.5]);
            assert_eq!(trace.versions, [7, 7]);
            assert_eq!(answer.usage.cached_tokens, 2);
            assert_eq!(answer.usage.prompt_tokens, trace.prompt_ids.len() as u64);
            whole = [&trace.prompt_ids[..], &trace.completion_ids].concat();
            asked = next(&asked, &answer, "go on");
        }
        // What was sampled stands there as it was sampled, and the rest as the template writes it.
        let turns = [("system", "be brief"), ("user", "hello")];
        let mut expected = rendered(Template::Marks, &turns);
        for _ in 0..3 {
            expected.extend([OK, END]);
            expected.extend(rendered(Template::Marks, &[("user", "go on")]));
        }
        expected.extend([OK, END]);
        assert_eq!(whole, expected, "{kind:?}");
        let prompts = server.prompts();
        assert_eq!(prompts.last().unwrap()[..], expected[..expected.len() - 2]);
        // One rendering for each call, and four calls once for the ruler.
        assert_eq!(server.tokenized(), 4 + 4, "{kind:?}");
    }
}

#[tokio::test]
async fn a_cut_answer_is_ended_by_the_template() {
    for kind in KINDS {
        let (server, settings) = start(kind, Template::Marks).await;
        server.script.lock().unwrap().push(Sampled::Cut(bytes("to be c")));
        let model = client(&settings);
        let first = request(1, &["hello"]);
        let answer = model.call(&first).await.unwrap();
        assert_eq!((answer.text.as_str(), answer.finish), ("to be c", Finish::Length));
        let second = model.call(&next(&first, &answer, "go on")).await.unwrap();
        let cut = ("assistant", "to be c");
        let turns = [("system", "be brief"), ("user", "hello"), cut, ("user", "go on")];
        assert_eq!(tokens(&second).prompt_ids, rendered(Template::Marks, &turns));
    }
}

#[tokio::test]
async fn a_call_that_is_made_again_asks_with_the_same_tokens() {
    for kind in KINDS {
        let (_server, settings) = start(kind, Template::Marks).await;
        let model = client(&settings);
        let first = request(1, &["hello"]);
        let answer = model.call(&first).await.unwrap();
        let second = next(&first, &answer, "go on");
        let once = model.call(&second).await.unwrap();
        let again = model.call(&second).await.unwrap();
        assert_eq!(tokens(&once).prompt_ids, tokens(&again).prompt_ids);
        assert!(tokens(&again).prompt_ids.contains(&OK));
    }
}

#[tokio::test]
async fn a_conversation_that_is_not_known_is_rendered_whole() {
    for kind in KINDS {
        let (_server, settings) = start(kind, Template::Marks).await;
        let first = request(1, &["hello"]);
        let answer = client(&settings).call(&first).await.unwrap();
        // As after a restart: another client, which knows the text of the answer only.
        let second = next(&first, &answer, "go on");
        let model = client(&settings);
        let rebuilt = model.call(&second).await.unwrap();
        let turns =
            [("system", "be brief"), ("user", "hello"), ("assistant", "ok"), ("user", "go on")];
        assert_eq!(tokens(&rebuilt).prompt_ids, rendered(Template::Marks, &turns));
        // From there on it is extended again.
        let third = model.call(&next(&second, &rebuilt, "and on")).await.unwrap();
        let before = [&tokens(&rebuilt).prompt_ids[..], &tokens(&rebuilt).completion_ids].concat();
        assert!(tokens(&third).prompt_ids.starts_with(&before));
    }
}

#[tokio::test]
async fn a_template_without_bridges_is_rendered_whole() {
    for kind in KINDS {
        let (server, settings) = start(kind, Template::Joined).await;
        let model = client(&settings);
        let mut asked = request(1, &["hello"]);
        for _ in 0..2 {
            let answer = model.call(&asked).await.unwrap();
            asked = next(&asked, &answer, "go on");
        }
        let answer = model.call(&asked).await.unwrap();
        let (ok, go_on) = (("assistant", "ok"), ("user", "go on"));
        let turns = [("system", "be brief"), ("user", "hello"), ok, go_on, ok, go_on];
        assert_eq!(tokens(&answer).prompt_ids, rendered(Template::Joined, &turns));
        assert_eq!(server.tokenized(), 3 + 4, "the ruler is looked for once");
    }
}

#[tokio::test]
async fn a_thought_is_parted_from_the_text_and_stays_in_the_tokens() {
    for kind in KINDS {
        let (server, settings) = start(kind, Template::Marks).await;
        let sampled = [&bytes("<think>hm</think>\nyes")[..], &[END]].concat();
        server.script.lock().unwrap().push(Sampled::Tokens(sampled.clone()));
        let model = client(&settings);
        let first = request(1, &["hello"]);
        let answer = model.call(&first).await.unwrap();
        assert_eq!((answer.text.as_str(), answer.reasoning.as_deref()), ("yes", Some("hm")));
        let second = model.call(&next(&first, &answer, "go on")).await.unwrap();
        let before = [&tokens(&answer).prompt_ids[..], &sampled].concat();
        assert!(tokens(&second).prompt_ids.starts_with(&before));
    }
}

#[tokio::test]
async fn every_fault_is_told_for_what_it_is() {
    use ModelErrorKind::*;
    let longer = "The input (9 tokens) is longer than the model's context length (8 tokens).";
    let faults = [
        (Sampled::Status(400, longer), ContextOverflow, "longer than"),
        (Sampled::Status(400, "top_k must be positive"), Rejected, "top_k"),
        (Sampled::Status(503, "loading"), Overloaded, "loading"),
        (Sampled::Unproven(vec![OK, END]), Malformed, "expected one for each of 2 ids"),
        (Sampled::Aborted, Overloaded, ""),
    ];
    for kind in KINDS {
        for (sampled, expected, words) in faults.clone() {
            let (server, settings) = start(kind, Template::Marks).await;
            // SGLang gives log-probabilities and ids in pairs: one too few shows in the ids.
            let words = match (kind, &sampled) {
                (EndpointKind::Sglang, Sampled::Unproven(_)) => "output_ids",
                _ => words,
            };
            server.script.lock().unwrap().push(sampled);
            let error = failed(ask(&client(&settings)).await, expected);
            assert!(error.message.contains(words), "{kind:?}: {error}");
        }
    }
}

#[tokio::test]
async fn requests_are_named_salted_and_sampled_as_configured() {
    for kind in KINDS {
        let (server, mut settings) = start(kind, Template::Marks).await;
        settings.sampling = Sampling { temperature: Some(0.5), top_p: None, seed: Some(1) };
        settings.extra = json!({
            "chat_template_kwargs": {"enable_thinking": false},
            "priority": 3,
            "sampling_params": {"top_k": 20},
        })
        .as_object()
        .unwrap()
        .clone();
        let model = client(&settings);
        for _ in 0..2 {
            ask(&model).await.unwrap();
        }
        let asked = server.http.asked();
        assert_eq!(asked[0].path, "/tokenize");
        assert_eq!(asked[0].body["chat_template_kwargs"]["enable_thinking"], false);
        let [one, two] = [&asked[1].body, &asked[2].body];
        assert_eq!(one.get("chat_template_kwargs"), None);
        assert_eq!(one["priority"], 3);
        let (name, salt, params) = match kind {
            EndpointKind::Vllm => ("request_id", "cache_salt", one),
            _ => ("rid", "extra_key", &one["sampling_params"]),
        };
        assert!(one[name].as_str().unwrap().ends_with("-3.1.0.2.1"), "{}", one[name]);
        assert_ne!(one[name], two[name], "a name that may still be in use");
        assert_eq!(one[salt], "policy-5");
        assert_eq!(params["temperature"], 0.5);
        if kind == EndpointKind::Sglang {
            assert_eq!((&params["top_k"], &params["max_new_tokens"]), (&json!(20), &json!(64)));
        }
    }
}
