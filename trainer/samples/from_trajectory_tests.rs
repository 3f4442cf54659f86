use std::sync::LazyLock;

use orcapack_tasks::trajectory::{Agent, Extra};
use proptest::prelude::*;
use serde_json::{Map, json};

use super::*;
use crate::text::CHATML_SPECIALS;
use crate::text::chat::ChatTemplate;
use crate::text::tokenizer::Tokenizer;

fn renderer() -> &'static Renderer {
    static RENDERER: LazyLock<Renderer> = LazyLock::new(|| {
        let tokenizer = Tokenizer::train(&["the cat sat on the mat"; 4], 300, &CHATML_SPECIALS);
        Renderer::new(tokenizer.unwrap(), ChatTemplate::chatml().unwrap(), Map::new()).unwrap()
    });
    &RENDERER
}

fn file() -> &'static Path {
    Path::new("1.1.json")
}

fn trajectory(steps: impl IntoIterator<Item = Step>) -> Trajectory {
    let agent = Agent {
        name: "team".to_owned(),
        version: "1".to_owned(),
        model_name: None,
        tool_definitions: None,
        extra: None,
    };
    let mut trajectory = Trajectory::new("run", "1.1", agent);
    trajectory.append(Step::new(Source::System, "", "You delegate."));
    steps.into_iter().for_each(|step| {
        trajectory.append(step);
    });
    trajectory
}

fn extra_of(value: Json) -> Option<Extra> {
    value.as_object().cloned()
}

/// An answer with its tokens, each as likely as `-0.5`, of version 7.
fn told(prompt: &[u32], completion: &[u32]) -> Step {
    let metrics = Metrics {
        prompt_token_ids: Some(prompt.to_vec()),
        completion_token_ids: Some(completion.to_vec()),
        logprobs: Some(vec![-0.5; completion.len()]),
        extra: extra_of(json!({ "versions": vec![7; completion.len()] })),
        ..Metrics::default()
    };
    Step {
        metrics: Some(metrics),
        extra: extra_of(json!({"turn": 1, "step": 0, "finish": "stop"})),
        ..Step::new(Source::Agent, "", "said")
    }
}

/// An answer as text, to what was asked.
fn written(text: &str, kept: usize, added: &[(&str, &str)]) -> Step {
    let added: Vec<Json> =
        added.iter().map(|(role, content)| json!({"role": role, "content": content})).collect();
    let prompt = json!({"kept": kept, "added": added});
    Step {
        extra: extra_of(json!({"turn": 1, "step": 0, "finish": "stop", "prompt": prompt})),
        ..Step::new(Source::Agent, "", text)
    }
}

fn read(steps: impl IntoIterator<Item = Step>, origin: Origin) -> Vec<Sample> {
    from_trajectory(file(), &trajectory(steps), renderer(), origin).unwrap()
}

fn refused(step: Step, origin: Origin) -> Vec<String> {
    let refused = from_trajectory(file(), &trajectory([step]), renderer(), origin).unwrap_err();
    refused.0.iter().map(Defect::to_string).collect()
}

fn trained(sample: &Sample) -> Vec<u32> {
    sample.trained.iter().map(|token| token.index).collect()
}

#[test]
fn turns_that_extend_each_other_are_one_sample_and_a_break_begins_the_next() {
    let samples = read(
        [told(&[5, 6], &[7, 8]), told(&[5, 6, 7, 8, 9], &[10]), told(&[5, 6, 7, 9], &[11, 12])],
        Origin::Sampled,
    );
    let [one, other] = &*samples else { panic!("{samples:?}") };
    assert_eq!(one.ids, [5, 6, 7, 8, 9, 10]);
    assert_eq!(trained(one), [2, 3, 5]);
    assert_eq!(one.trained[0], TrainedToken { index: 2, sampler_logprob: -0.5, version: 7 });
    assert_eq!((&*other.ids, trained(other)), (&[5, 6, 7, 9, 11, 12][..], vec![4, 5]));
}

#[test]
fn tokens_of_unproven_origin_are_context_only() {
    let change = |change: fn(&mut Metrics)| {
        let mut step = told(&[5], &[6, 7]);
        step.metrics.as_mut().map(change);
        read([step, told(&[5, 6, 7, 8], &[9])], Origin::Sampled)
    };
    for unproven in
        [change(|metrics| metrics.logprobs = None), change(|metrics| metrics.extra = None)]
    {
        let [sample] = &*unproven else { panic!("{unproven:?}") };
        assert_eq!((trained(sample), sample.unproven), (vec![4], 2));
    }
    let untold = change(|metrics| metrics.prompt_token_ids = None);
    assert_eq!((untold.len(), trained(&untold[0])), (1, vec![4]));
    let copied = Step { is_copied_context: true, ..told(&[5], &[6]) };
    let solution = Step { extra: None, ..told(&[5], &[6]) };
    let mut root = trajectory([copied, solution]);
    root.subagent_trajectories.push(trajectory([told(&[5], &[6])]));
    assert_eq!(from_trajectory(file(), &root, renderer(), Origin::Sampled).unwrap(), []);
}

#[test]
fn every_value_that_does_not_fit_is_told_with_its_step() {
    let mut step = told(&[5, 300], &[6, 7]);
    let metrics = step.metrics.as_mut().unwrap();
    metrics.logprobs = Some(vec![-1.0, 0.5]);
    metrics.extra = extra_of(json!({"versions": [1]}));
    assert_eq!(
        refused(step, Origin::Sampled),
        [
            "1.1.json: steps[1].metrics.prompt_token_ids: expected ids below 300, the model's \
             vocab_size, found 300",
            "1.1.json: steps[1].metrics.logprobs: expected finite numbers not above 0, found 0.5",
            "1.1.json: steps[1].metrics.extra.versions: expected 2, one for each completion token, \
             found 1",
        ]
    );
    for bad in [f64::NAN, f64::NEG_INFINITY] {
        let mut step = told(&[5], &[6]);
        step.metrics.as_mut().unwrap().logprobs = Some(vec![bad]);
        assert!(refused(step, Origin::Sampled)[0].contains("steps[1].metrics.logprobs"));
    }
    let mut step = told(&[5], &[6]);
    step.metrics.as_mut().unwrap().logprobs = Some(vec![]);
    assert!(refused(step, Origin::Sampled)[0].ends_with("completion token, found 0"));
}

#[test]
fn a_taught_conversation_is_rendered_as_its_model_would_be_asked() {
    let first = [("system", "Be brief."), ("user", "the cat?")];
    let samples = read(
        [written("sat", 0, &first), written("on the mat", 3, &[("user", "where?")])],
        Origin::Taught,
    );
    let [sample] = &*samples else { panic!("{samples:?}") };
    let text = renderer().tokenizer().decode(&sample.ids, true);
    assert_eq!(
        text,
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nthe cat?<|im_end|>\n\
         <|im_start|>assistant\nsat<|im_end|>\n<|im_start|>user\nwhere?<|im_end|>\n\
         <|im_start|>assistant\non the mat<|im_end|>"
    );
    let taught: Vec<u32> = trained(sample).iter().map(|at| sample.ids[*at as usize]).collect();
    let learnt = renderer().tokenizer().decode(&taught, true);
    assert_eq!(learnt, "sat<|im_end|>on the mat<|im_end|>");
    assert!(sample.trained.iter().all(|token| token.sampler_logprob.is_nan()));
}

#[test]
fn a_conversation_that_was_changed_begins_a_new_sample() {
    let samples = read(
        [
            written("a", 0, &[("system", "s"), ("user", "u")]),
            written("b", 1, &[("user", "v")]),
            written("c", 2, &[("assistant", "cut"), ("user", "w")]),
        ],
        Origin::Taught,
    );
    let texts: Vec<String> =
        samples.iter().map(|sample| renderer().tokenizer().decode(&sample.ids, false)).collect();
    assert_eq!(
        texts,
        [
            "system\ns\nuser\nu\nassistant\na",
            "system\ns\nuser\nv\nassistant\nb",
            "system\ns\nuser\nv\nassistant\ncut\nuser\nw\nassistant\nc",
        ]
    );
    assert_eq!(samples.iter().map(|sample| sample.trained.len()).collect::<Vec<_>>(), [2, 2, 2]);
}

#[test]
fn a_cut_answer_is_not_taught_to_end_and_a_refused_one_is_not_taught() {
    let finished = |finish: &str| {
        let mut step = written("sat", 0, &[("user", "u")]);
        step.extra.as_mut().unwrap().insert("finish".to_owned(), json!(finish));
        let samples = read([step, written("b", 2, &[("user", "v")])], Origin::Taught);
        let sample = samples.into_iter().next().unwrap();
        let learnt: Vec<u32> = trained(&sample).iter().map(|at| sample.ids[*at as usize]).collect();
        (renderer().tokenizer().decode(&learnt, true), sample.ids)
    };
    let (whole, ids) = finished("stop");
    assert_eq!(whole, "sat<|im_end|>b<|im_end|>");
    assert_eq!(finished("length"), ("satb<|im_end|>".to_owned(), ids.clone()));
    assert_eq!(finished("refused"), ("b<|im_end|>".to_owned(), ids));
}

#[test]
fn nothing_is_guessed_of_what_a_taught_answer_was_asked() {
    let mut silent = written("a", 0, &[("user", "u")]);
    silent.extra.as_mut().unwrap().remove("prompt");
    assert_eq!(
        refused(silent, Origin::Taught),
        ["1.1.json: steps[1].extra.prompt: expected what was asked, in messages, found none"]
    );
    let said = refused(written("a", 1, &[("user", "u")]), Origin::Taught);
    assert!(said[0].contains("steps[1].extra.prompt.kept: expected at most 0"), "{said:?}");
    let said = refused(written("a", 0, &[]), Origin::Taught);
    assert!(said[0].contains("a conversation that can be rendered"), "{said:?}");
    let mut other = written("a", 0, &[("user", "u")]);
    other.extra.as_mut().unwrap().remove("finish");
    assert!(refused(other, Origin::Taught)[0].contains("steps[1].extra.finish"));
}

proptest! {
    /// What the engine would be asked with, and what a sample of the same texts holds.
    #[test]
    fn a_taught_sample_has_the_ids_of_the_prompts_that_were_sampled_from(
        first in any::<String>(),
        turns in prop::collection::vec((any::<String>(), any::<String>()), 1..4),
    ) {
        let mut messages = vec![ChatMessage::new("user", first.as_str())];
        let mut steps = Vec::new();
        let mut sampled = Vec::new();
        let mut question = first.as_str();
        for (answer, next) in &turns {
            let kept = messages.len() - 1;
            steps.push(written(answer, kept, &[("user", question)]));
            let prompt = renderer().prompt(&messages).unwrap();
            sampled.push(told(&prompt, &renderer().answer(answer)));
            messages.push(ChatMessage::answer(answer.as_str()));
            messages.push(ChatMessage::new("user", next.as_str()));
            question = next;
        }
        let (taught, sampled) = (read(steps, Origin::Taught), read(sampled, Origin::Sampled));
        prop_assert_eq!((taught.len(), sampled.len()), (1, 1));
        prop_assert_eq!(&taught[0].ids, &sampled[0].ids);
        prop_assert_eq!(trained(&taught[0]), trained(&sampled[0]));
    }
}
