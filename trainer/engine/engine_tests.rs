use std::time::Duration;

use candle_core::Device;

use super::*;
use crate::engine::fixture_tests::{odd_config, parameters};
use crate::engine::handle::{EngineStats, Generation};
use crate::engine::request::{EndReason, Event, GenerateRequest, SampledToken, SamplingParams};
use crate::model::config::ModelConfig;
use crate::model::parameters::Parameters;
use crate::model::step::{Activations, StepSettings, logprobs};
use crate::ops::Ops;
use crate::samples::batch::{Batch, Target};
use crate::text::CHATML_SPECIALS;

const VOCAB: usize = 259;
const SETTINGS: EngineSettings = EngineSettings {
    slots: 4,
    context_tokens_max: 128,
    kept_tokens_max: 512,
    queue_max: 64,
    prefill_tokens_max: 32,
    threads: 2,
};

fn config() -> ModelConfig {
    ModelConfig { vocab_size: VOCAB, ..odd_config() }
}

fn weights(version: u64) -> Arc<EngineWeights> {
    Arc::new(EngineWeights::pack(&parameters(&config(), version), version).unwrap())
}

fn tokenizer() -> Tokenizer {
    Tokenizer::train(&["a"], VOCAB, &CHATML_SPECIALS).unwrap()
}

fn engine(settings: EngineSettings) -> EngineHandle {
    Engine::start(weights(1), tokenizer(), vec![2], settings).unwrap()
}

fn request(prompt: &[u32], max_tokens: usize, seed: u64) -> GenerateRequest {
    GenerateRequest {
        prompt: prompt.into(),
        sampling: SamplingParams { temperature: 1.0, top_p: 1.0, top_k: 0, seed },
        max_tokens,
        stop_ids: Vec::new(),
        stop: Vec::new(),
        ignore_eos: true,
        top_logprobs: 0,
    }
}

fn prompt(count: usize, seed: u32) -> Vec<u32> {
    (0..count as u32).map(|i| (i * i * 31 + seed * 7) % VOCAB as u32).collect()
}

#[derive(Clone, Debug, PartialEq)]
struct Answer {
    cached_tokens: usize,
    tokens: Vec<SampledToken>,
    end: Event,
}

/// All that comes of a request, in the order that is promised.
async fn answer(mut generation: Generation) -> Answer {
    let mut answer =
        Answer { cached_tokens: 0, tokens: Vec::new(), end: next(&mut generation).await };
    if let Event::Started { cached_tokens } = answer.end {
        answer.cached_tokens = cached_tokens;
        answer.end = next(&mut generation).await;
    }
    while let Event::Token(token) = answer.end {
        answer.tokens.push(token);
        answer.end = next(&mut generation).await;
    }
    assert!(answer.end.is_last());
    assert_eq!(generation.next().await, None);
    answer
}

async fn next(generation: &mut Generation) -> Event {
    let next = tokio::time::timeout(Duration::from_secs(60), generation.next()).await;
    next.expect("comes soon").expect("an end is told")
}

/// Lets the engine come to its next step, until `holds`.
async fn until(engine: &EngineHandle, holds: impl Fn(&EngineStats) -> bool) {
    while !holds(&engine.stats()) {
        tokio::task::yield_now().await;
    }
}

fn bits(tokens: &[SampledToken]) -> Vec<(u32, u32)> {
    tokens.iter().map(|token| (token.id, token.logprob.to_bits())).collect()
}

#[tokio::test]
async fn an_answer_comes_token_by_token_and_ends() {
    let engine = engine(SETTINGS);
    let found = answer(engine.generate(request(&prompt(20, 1), 9, 3)).unwrap()).await;
    assert_eq!(found.end, Event::Ended(EndReason::Length));
    assert_eq!(found.tokens.len(), 9);
    assert!(found.tokens.iter().all(|token| token.version == 1 && token.logprob < 0.0));
    until(&engine, |stats| stats.running == 0).await;
    let EngineStats { prompt_tokens, generated_tokens, steps, .. } = engine.stats();
    assert_eq!((prompt_tokens, generated_tokens, steps), (20, 9, 9));
}

#[tokio::test]
async fn an_answer_ends_with_the_context() {
    let engine = engine(SETTINGS);
    let found = answer(engine.generate(request(&prompt(120, 1), 1000, 3)).unwrap()).await;
    assert_eq!((found.tokens.len(), found.end), (8, Event::Ended(EndReason::Length)));
}

#[tokio::test]
async fn the_same_request_gives_the_same_bits_alone_and_in_any_company() {
    let alone = EngineSettings { slots: 1, threads: 1, prefill_tokens_max: 128, ..SETTINGS };
    let lone = engine(alone);
    let busy = engine(SETTINGS);
    let requests: Vec<_> = (0..40)
        .map(|index| {
            let sampling = SamplingParams {
                temperature: [0.0, 0.7, 1.0][index % 3],
                top_p: [1.0, 0.9][index % 2],
                top_k: [0, 0, 0, 20][index % 4],
                seed: index as u64,
            };
            // Some prompts are the same, some begin alike, and lengths are all different.
            let prompt = prompt(1 + (index * 13) % 90, (index % 4) as u32);
            GenerateRequest {
                sampling,
                top_logprobs: index % 3,
                ..request(&prompt, 1 + index % 30, 0)
            }
        })
        .collect();
    let together: Vec<_> =
        requests.iter().map(|request| busy.generate(request.clone()).unwrap()).collect();
    for (request, generation) in requests.into_iter().zip(together) {
        let expected = answer(lone.generate(request).unwrap()).await;
        let found = answer(generation).await;
        assert_eq!(bits(&found.tokens), bits(&expected.tokens));
        assert_eq!((found.tokens, found.end), (expected.tokens, expected.end));
    }
    assert!(busy.stats().cached_tokens > 0, "some begin alike");
}

#[tokio::test]
async fn logprobs_are_those_of_the_trainer() {
    for config in [ModelConfig::small(VOCAB, 0), config()] {
        let parameters = parameters(&config, 3);
        let weights = Arc::new(EngineWeights::pack(&parameters, 3).unwrap());
        let engine = Engine::start(weights, tokenizer(), vec![2], SETTINGS).unwrap();
        for len in [1, 17, 50] {
            let mut ids = prompt(len, 8);
            let answer = answer(engine.generate(request(&ids, 40, 5)).unwrap()).await;
            ids.extend(answer.tokens.iter().map(|token| token.id));
            let batch = row(&ids, len);
            for ops in [Ops::Fused, Ops::Composed] {
                let settings = StepSettings {
                    ops,
                    activations: Activations::Keep,
                    logprob_chunk: 64,
                    temperature: 1.0,
                };
                let expected = logprobs(&parameters, &batch, &settings).unwrap().logprobs;
                assert_eq!(expected.len(), answer.tokens.len());
                for (token, expected) in answer.tokens.iter().zip(expected) {
                    let error = (token.logprob - expected).abs();
                    assert!(error < 1e-4, "{} for {expected}, {ops:?}", token.logprob);
                }
            }
        }
    }
}

/// One sequence, whose tokens from `from` on are asked for.
fn row(ids: &[u32], from: usize) -> Batch {
    let target = |at: usize| Target {
        place: at as u32 - 1,
        id: ids[at],
        sample: 0,
        sampler_logprob: f32::NAN,
        version: 0,
    };
    Batch {
        rows: 1,
        len: ids.len(),
        ids: ids.to_vec(),
        positions: (0..ids.len() as u32).collect(),
        segments: vec![vec![ids.len() as u32]],
        targets: (from..ids.len()).map(target).collect(),
    }
}

#[tokio::test]
async fn a_conversation_reads_what_was_kept() {
    let engine = engine(SETTINGS);
    let mut tokens = prompt(40, 5);
    let first = answer(engine.generate(request(&tokens, 20, 1)).unwrap()).await;
    assert_eq!(first.cached_tokens, 0);
    tokens.extend(first.tokens.iter().map(|token| token.id));
    tokens.extend([7, 8, 9]);
    let second = answer(engine.generate(request(&tokens, 5, 2)).unwrap()).await;
    assert_eq!(second.cached_tokens, 48, "59 were computed, in pages of 16");
    let fresh = Engine::start(weights(1), tokenizer(), vec![2], SETTINGS).unwrap();
    let expected = answer(fresh.generate(request(&tokens, 5, 2)).unwrap()).await;
    assert_eq!(bits(&second.tokens), bits(&expected.tokens));
}

#[tokio::test]
async fn end_tokens_and_stop_ids_end_an_answer() {
    let engine = engine(SETTINGS);
    let free = answer(engine.generate(request(&prompt(9, 2), 50, 4)).unwrap()).await;
    let ids: Vec<u32> = free.tokens.iter().map(|token| token.id).collect();
    let asked = GenerateRequest { stop_ids: vec![ids[6]], ..request(&prompt(9, 2), 50, 4) };
    let found = answer(engine.generate(asked).unwrap()).await;
    let first = ids.iter().position(|id| *id == ids[6]).unwrap();
    assert_eq!(found.end, Event::Ended(EndReason::StopToken));
    assert_eq!(bits(&found.tokens), bits(&free.tokens[..=first]), "with its last token");
    let eos = Engine::start(weights(1), tokenizer(), vec![ids[6]], SETTINGS).unwrap();
    let asked = GenerateRequest { ignore_eos: false, ..request(&prompt(9, 2), 50, 4) };
    assert_eq!(answer(eos.generate(asked).unwrap()).await.tokens.len(), first + 1);
}

#[tokio::test]
async fn a_stop_text_ends_an_answer_over_several_tokens() {
    let engine = engine(SETTINGS);
    let free = answer(engine.generate(request(&prompt(9, 2), 100, 8)).unwrap()).await;
    let tokenizer = tokenizer();
    let mut stream = tokenizer.stream();
    let texts: Vec<String> = free.tokens.iter().map(|token| stream.push(token.id)).collect();
    // The first two neighbours that are whole characters.
    let plain = |text: &String| text.len() == 1 && text.is_ascii();
    let at = texts.windows(2).position(|pair| pair.iter().all(plain)).unwrap();
    let stop = texts[at..at + 2].concat();
    let first = (0..texts.len()).find(|end| texts[..=*end].concat().contains(&stop)).unwrap();
    let stops = vec!["never in it".to_owned(), stop];
    let asked = GenerateRequest { stop: stops, ..request(&prompt(9, 2), 100, 8) };
    let found = answer(engine.generate(asked).unwrap()).await;
    assert_eq!(found.end, Event::Ended(EndReason::StopText(1)));
    assert_eq!(bits(&found.tokens), bits(&free.tokens[..=first]));
}

#[tokio::test]
async fn new_weights_come_between_two_tokens() {
    let engine = engine(SETTINGS);
    let mut generation = engine.generate(request(&prompt(30, 1), 90, 3)).unwrap();
    next(&mut generation).await;
    next(&mut generation).await;
    engine.swap(weights(2)).await.unwrap();
    assert_eq!(engine.version(), 2);
    let found = answer(generation).await;
    let versions: Vec<u64> = found.tokens.iter().map(|token| token.version).collect();
    assert!(versions.is_sorted() && versions.last() == Some(&2));
    // What version 1 computed is not read by later requests.
    let later = answer(engine.generate(request(&prompt(30, 1), 5, 3)).unwrap()).await;
    assert_eq!(later.cached_tokens, 0);
    let fresh = Engine::start(weights(2), tokenizer(), vec![2], SETTINGS).unwrap();
    let expected = answer(fresh.generate(request(&prompt(30, 1), 5, 3)).unwrap()).await;
    assert_eq!(bits(&later.tokens), bits(&expected.tokens));
}

#[tokio::test]
async fn weights_of_another_model_are_refused() {
    let engine = engine(SETTINGS);
    let other = Parameters::random(&ModelConfig::small(VOCAB, 0), 0, &Device::Cpu).unwrap();
    let other = Arc::new(EngineWeights::pack(&other, 2).unwrap());
    let error = engine.swap(other).await.unwrap_err();
    assert!(matches!(error, EngineError::BadRequest { key: "weights", .. }), "{error}");
    assert_eq!(engine.version(), 1);
}

#[tokio::test]
async fn a_full_queue_is_an_answer_and_room_is_waited_for() {
    let settings = EngineSettings { slots: 1, queue_max: 2, ..SETTINGS };
    let engine = engine(settings);
    let running = engine.generate(request(&prompt(3, 0), 120, 0)).unwrap();
    until(&engine, |stats| stats.running == 1 && stats.waiting == 0).await;
    let waiting: Vec<_> =
        (0..2).map(|seed| engine.generate(request(&prompt(3, 0), 1, seed)).unwrap()).collect();
    let full = engine.generate(request(&prompt(3, 0), 1, 0)).err();
    assert_eq!(full, Some(EngineError::QueueFull(2)));
    let later = tokio::spawn({
        let engine = engine.clone();
        async move { engine.generate_when_room(request(&prompt(3, 0), 1, 0)).await }
    });
    drop(running);
    for generation in waiting {
        assert_eq!(answer(generation).await.tokens.len(), 1);
    }
    assert_eq!(answer(later.await.unwrap().unwrap()).await.tokens.len(), 1);
}

#[tokio::test]
async fn a_dropped_generation_frees_its_slot() {
    let engine = engine(EngineSettings { slots: 1, ..SETTINGS });
    let running = engine.generate(request(&prompt(3, 0), 120, 0)).unwrap();
    let waiting = engine.generate(request(&prompt(4, 0), 120, 0)).unwrap();
    until(&engine, |stats| stats.running == 1 && stats.waiting == 1).await;
    drop((running, waiting));
    until(&engine, |stats| stats.running == 0 && stats.waiting == 0).await;
    assert!(engine.stats().generated_tokens < 120);
}

#[tokio::test]
async fn the_end_of_the_engine_is_told_to_all() {
    let settings = EngineSettings { slots: 1, ..SETTINGS };
    let engine = engine(settings);
    let generations: Vec<_> =
        (0..3).map(|seed| engine.generate(request(&prompt(3, 0), 120, seed)).unwrap()).collect();
    drop(engine);
    for generation in generations {
        let end = answer(generation).await.end;
        let ended = EngineError::Ended("its last handle was dropped".to_owned());
        assert!(end == Event::Failed(ended) || end == Event::Ended(EndReason::Length), "{end:?}");
    }
}

#[tokio::test]
async fn a_panic_is_told_to_all() {
    let mut broken = EngineWeights::pack(&parameters(&config(), 1), 1).unwrap();
    broken.layers[1].down.blocks.truncate(1);
    let settings = EngineSettings { slots: 1, ..SETTINGS };
    let engine = Engine::start(Arc::new(broken), tokenizer(), vec![2], settings).unwrap();
    let first = engine.generate(request(&prompt(3, 0), 5, 0)).unwrap();
    let ended = EngineError::Ended("a step has panicked".to_owned());
    assert_eq!(answer(first).await.end, Event::Failed(ended.clone()));
    let later = engine.generate_when_room(request(&prompt(3, 0), 5, 0)).await.err();
    assert_eq!(later, Some(ended.clone()));
    assert_eq!(engine.generate(request(&prompt(3, 0), 5, 0)).err(), Some(ended.clone()));
    assert_eq!(engine.swap(weights(2)).await, Err(ended));
}

#[tokio::test]
async fn what_is_not_finite_fails_its_request_alone() {
    let config = config();
    let broken = parameters(&config, 1);
    let mut rows = broken.embed.to_vec2::<f32>().unwrap();
    rows[5].fill(f32::NAN);
    let embed = candle_core::Tensor::new(rows, &Device::Cpu).unwrap();
    broken.embed.set(&embed).unwrap();
    let broken = Arc::new(EngineWeights::pack(&broken, 1).unwrap());
    let engine = Engine::start(broken, tokenizer(), vec![2], SETTINGS).unwrap();
    let bad = engine.generate(request(&[4, 5], 5, 0)).unwrap();
    let good = engine.generate(request(&[4, 6], 5, 0)).unwrap();
    let error = answer(bad).await.end;
    let is_told =
        |event: &Event| matches!(event, Event::Failed(EngineError::NotFinite { index: 0, .. }));
    assert!(is_told(&error), "{error:?}");
    assert!(!is_told(&answer(good).await.end));
}

#[test]
fn each_field_of_a_request_is_checked() {
    let engine = engine(SETTINGS);
    let good = request(&prompt(3, 0), 5, 0);
    let with = |sampling| GenerateRequest { sampling, ..good.clone() };
    let sampling = good.sampling;
    let key = |request: GenerateRequest| match engine.generate(request).err() {
        Some(EngineError::BadRequest { key, .. }) => key,
        other => panic!("expected a bad request, found {other:?}"),
    };
    assert_eq!(key(GenerateRequest { prompt: [].into(), ..good.clone() }), "prompt");
    assert_eq!(key(GenerateRequest { prompt: [VOCAB as u32].into(), ..good.clone() }), "prompt");
    assert_eq!(key(GenerateRequest { max_tokens: 0, ..good.clone() }), "max_tokens");
    assert_eq!(key(with(SamplingParams { temperature: -1.0, ..sampling })), "temperature");
    assert_eq!(key(with(SamplingParams { temperature: f32::NAN, ..sampling })), "temperature");
    assert_eq!(key(with(SamplingParams { top_p: 0.0, ..sampling })), "top_p");
    assert_eq!(key(with(SamplingParams { top_p: f32::NAN, ..sampling })), "top_p");
    assert_eq!(key(GenerateRequest { top_logprobs: 21, ..good.clone() }), "top_logprobs");
    assert_eq!(key(GenerateRequest { stop: vec![String::new()], ..good.clone() }), "stop");
    assert_eq!(key(GenerateRequest { stop: vec!["x".repeat(1025)], ..good.clone() }), "stop");
    assert_eq!(key(GenerateRequest { stop_ids: vec![0; 65], ..good.clone() }), "stop_ids");
    let long = engine.generate(request(&prompt(128, 0), 1, 0)).err();
    assert_eq!(long, Some(EngineError::PromptTooLong { found: 128, max: 128 }));
}

#[test]
fn each_setting_is_checked() {
    let key = |settings| match Engine::start(weights(1), tokenizer(), vec![], settings).err() {
        Some(EngineError::BadRequest { key, .. }) => key,
        other => panic!("expected a bad setting, found {other:?}"),
    };
    assert_eq!(key(EngineSettings { slots: 0, ..SETTINGS }), "slots");
    assert_eq!(key(EngineSettings { context_tokens_max: 1, ..SETTINGS }), "context_tokens_max");
    let most =
        EngineSettings { context_tokens_max: usize::MAX, kept_tokens_max: usize::MAX, ..SETTINGS };
    assert_eq!(key(most), "context_tokens_max");
    assert_eq!(key(EngineSettings { kept_tokens_max: 127, ..SETTINGS }), "kept_tokens_max");
    assert_eq!(key(EngineSettings { kept_tokens_max: usize::MAX, ..SETTINGS }), "kept_tokens_max");
    assert_eq!(key(EngineSettings { queue_max: 0, ..SETTINGS }), "queue_max");
    assert_eq!(key(EngineSettings { queue_max: usize::MAX, ..SETTINGS }), "queue_max");
    assert_eq!(key(EngineSettings { prefill_tokens_max: 15, ..SETTINGS }), "prefill_tokens_max");
    assert_eq!(key(EngineSettings { threads: 0, ..SETTINGS }), "threads");
}
