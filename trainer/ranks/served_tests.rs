use std::fs as files_of;
use std::time::Duration;

use bincode::config::standard;
use bincode::{Decode, Encode};
use futures_util::future::BoxFuture;

use super::super::faults_tests::group;
use super::super::fixture_tests::{batch, config, learner, policy, run, settings};
use super::super::home::Say;
use super::super::remote::{MESSAGES_WAITING_MAX, connect};
use super::super::thread::Local;
use super::super::{GroupSettings, Ranks, RanksSetup, RestartSettings};
use super::*;
use crate::collective::exchange::Exchange;
use crate::policy_step::RlSettings;
use crate::ranks::wire::{TensorHead, WireCause};

/// Passes messages on as bytes.
async fn carry<T: Encode + Decode<()>>(mut from: mpsc::Receiver<T>, to: mpsc::Sender<T>) {
    while let Some(message) = from.recv().await {
        let bytes = bincode::encode_to_vec(&message, standard()).unwrap();
        let (message, used) = bincode::decode_from_slice(&bytes, standard()).unwrap();
        assert_eq!(used, bytes.len());
        if to.send(message).await.is_err() {
            return;
        }
    }
}

/// A home that is reached by messages.
#[derive(Clone)]
struct Wired {
    local: Local,
    scratch: PathBuf,
}

impl Home for Wired {
    fn start(&self, rank: RankId, say: Say) -> BoxFuture<'_, Result<Box<dyn Life>, String>> {
        Box::pin(async move {
            let channel = mpsc::channel::<ToRank>;
            let (send, sent) = channel(MESSAGES_WAITING_MAX);
            let (carried, receive) = channel(MESSAGES_WAITING_MAX);
            tokio::spawn(carry(sent, carried));
            let channel = mpsc::channel::<FromRank>;
            let (answer, answered) = channel(MESSAGES_WAITING_MAX);
            let (carried, heard) = channel(MESSAGES_WAITING_MAX);
            tokio::spawn(carry(answered, carried));
            let Self { local, scratch } = self.clone();
            tokio::spawn(async move { serve(&local, rank, scratch, answer, receive).await });
            Ok(connect(say, config(), send, heard))
        })
    }

    fn node(&self) -> &str {
        "other"
    }
}

fn local(settings: &RlSettings) -> Local {
    Local {
        make: Arc::new(|| Ok(learner())),
        policy: Arc::new(policy()),
        settings: settings.clone(),
        collectives: Arc::new(Exchange::new(Duration::from_secs(100))),
        threads: 1,
        pins: false,
        node: String::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rank_elsewhere_is_a_rank_like_any_other() {
    for shard_optimizer in [false, true] {
        let settings = RlSettings { shard_optimizer, clip_norm: f64::MAX, ..settings() };
        let scratch = tempfile::tempdir().unwrap();
        let local = local(&settings);
        let here: Arc<dyn Home> = Arc::new(local.clone());
        let there = Wired { local, scratch: scratch.path().to_owned() };
        let homes: Vec<Arc<dyn Home>> = vec![here, Arc::new(there)];
        let setup = RanksSetup { homes, settings: settings.clone(), group: group() };
        let ranks = Ranks::start(setup).await.unwrap();
        let (expected, _) = run(learner, &settings, &[2; 2], 7);
        for (step, digest) in (1..).zip(expected) {
            let report = ranks.step(batch(step, 7)).await.unwrap();
            assert_eq!((report.digest, report.world_size), (digest, 2));
            assert_eq!(report.metrics.tokens as usize, report.trained_tokens);
        }
        let dir = scratch.path().join("saved");
        ranks.save(dir.clone()).await.unwrap();
        assert!(dir.join("optimizer.safetensors").is_file());
        ranks.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_rank_elsewhere_gives_is_what_one_here_gives() {
    let scratch = tempfile::tempdir().unwrap();
    let saved = |is_here: bool| {
        let local = local(&settings());
        let there = Wired { local: local.clone(), scratch: scratch.path().join("scratch") };
        let home: Arc<dyn Home> = if is_here { Arc::new(local) } else { Arc::new(there) };
        let setup = RanksSetup { homes: vec![home], settings: settings(), group: group() };
        let dir = scratch.path().join(is_here.to_string());
        async move {
            let ranks = Ranks::start(setup).await.unwrap();
            ranks.step(batch(1, 7)).await.unwrap();
            ranks.save(dir.clone()).await.unwrap();
            let snapshot = ranks.snapshot().await.unwrap();
            (dir, snapshot)
        }
    };
    let ((here, taken_here), (there, taken_there)) = (saved(true).await, saved(false).await);
    let names = files(&here).await.unwrap();
    assert_eq!(files(&there).await.unwrap(), names);
    for name in names.iter().filter(|name| *name != "optimizer.safetensors") {
        let read = |dir: &Path| files_of::read(dir.join(name)).unwrap();
        assert_eq!(read(&here), read(&there), "{name}");
    }
    assert_eq!(files_of::read_dir(scratch.path().join("scratch")).unwrap().count(), 0);
    assert_eq!((taken_here.version, taken_there.version), (1, 1));
    let (here, there) = (taken_here.parameters, taken_there.parameters);
    for ((name, here), (_, there)) in here.named().into_iter().zip(there.named()) {
        let values = |var: &candle_core::Var| crate::ops::composed::to_host(var).unwrap();
        assert_eq!(values(here), values(there), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rank_elsewhere_catches_up_and_others_catch_up_from_it() {
    let scratch = tempfile::tempdir().unwrap();
    let local = local(&settings());
    let there: Arc<dyn Home> = Arc::new(Wired { local, scratch: scratch.path().to_owned() });
    let restarts = RestartSettings { after: Duration::from_millis(10), ..Default::default() };
    let group = GroupSettings { restarts, ..group() };
    let setup = RanksSetup { homes: vec![there; 2], settings: settings(), group };
    let ranks = Ranks::start(setup).await.unwrap();
    let mut worlds = Vec::new();
    let mut last = 0;
    for victim in [RankId(0), RankId(1)] {
        ranks.kill(victim).await;
        let back = worlds.len() + 2;
        while worlds.len() < back || worlds.last() != Some(&2) {
            let step = worlds.len() as u64 + 1;
            let report = ranks.step(batch(step, 7)).await.unwrap();
            worlds.push(report.world_size);
            last = report.digest;
            assert!(step < 2000, "it does not come back");
        }
    }
    assert!(worlds.contains(&1), "{worlds:?}");
    assert_eq!(run(learner, &settings(), &worlds, 7).0.last(), Some(&last));
}

#[test]
fn messages_have_these_bytes() {
    let bytes = |message: ToRank| bincode::encode_to_vec(message, standard()).unwrap();
    assert_eq!(bytes(ToRank::Commit { epoch: 3 }), [3, 3]);
    assert_eq!(bytes(ToRank::Values(vec![1.0])), [6, 1, 0, 0, 128, 63]);
    let head = TensorHead { name: "w".to_owned(), dims: vec![2, 300] };
    let state = StateHead { steps: 1, optimizer_steps: 1, weights: vec![head], optimizer: vec![] };
    let expected = [5, 1, 2, 1, 1, b'w', 2, 2, 251, 44, 1, 0];
    assert_eq!(bytes(ToRank::Load(state)), expected);
    let cause = WireCause::TimedOut { rank: 1, after_ms: 7 };
    let aborted = FromRank::Aborted { epoch: 2, cause };
    assert_eq!(bincode::encode_to_vec(aborted, standard()).unwrap(), [5, 2, 3, 1, 7]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_to_what_came_before_ends_the_life() {
    let scratch = tempfile::tempdir().unwrap();
    let head = |dims: &[u64]| TensorHead { name: "w".to_owned(), dims: dims.to_vec() };
    let load = |dims| {
        let weights = vec![head(dims)];
        ToRank::Load(StateHead { steps: 1, optimizer_steps: 1, weights, optimizer: vec![] })
    };
    let begin =
        |samples| ToRank::Begin { epoch: 1, step: 1, version: 0, learning_rate: 0.1, samples };
    let cases = [
        (vec![ToRank::Values(vec![1.0])], "a piece of nothing"),
        (vec![load(&[2]), ToRank::Values(vec![1.0; 3])], "3 values, where 2 are missing"),
        (vec![load(&[1 << 40])], "1 tensors with 1099511627776 values"),
        (vec![load(&[u64::MAX, u64::MAX])], "1 tensors with 18446744073709551615 values"),
        (vec![begin(u32::MAX)], "4294967295 samples of one step"),
        (vec![begin(1), ToRank::State], "something else than the rest of an order"),
    ];
    for (messages, expected) in cases {
        let (to, receive) = mpsc::channel(MESSAGES_WAITING_MAX);
        let (send, _heard) = mpsc::channel(MESSAGES_WAITING_MAX);
        for message in messages {
            to.send(message).await.unwrap();
        }
        let local = local(&settings());
        let scratch = scratch.path().to_owned();
        let why = serve(&local, RankId(0), scratch, send, receive).await.unwrap_err();
        assert_eq!(why, expected);
    }
}

#[tokio::test]
async fn a_rank_that_says_what_it_must_not_is_down() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| FromRank::File { name: name.to_owned(), bytes: 2 };
    let outside = "../x: not the name of a file in a checkpoint";
    let cases = [
        (vec![FromRank::Saved], false, "it answers what nobody has asked"),
        (vec![file("../x")], true, outside),
        (
            vec![file("x"), FromRank::Bytes(vec![0; 3])],
            true,
            "it sends more of a file than it has said",
        ),
        (
            vec![file("y"), FromRank::Saved],
            true,
            "it says something else than the rest of its answer",
        ),
        (vec![], false, "its node is gone"),
    ];
    for (messages, is_asked, expected) in cases {
        let (send, mut sent) = mpsc::channel(MESSAGES_WAITING_MAX);
        let (say, receive) = mpsc::channel(MESSAGES_WAITING_MAX);
        let (told, mut hears) = mpsc::unbounded_channel();
        let hear: Say = Arc::new(move |said| drop(told.send(said)));
        let mut life = connect(hear, config(), send, receive);
        let (reply, _answer) = oneshot::channel();
        if is_asked {
            life.order(Order::Save { dir: folder.path().to_owned(), optimizer: None, reply });
            assert_eq!(sent.recv().await, Some(ToRank::Save { optimizer: None }));
        }
        for message in messages {
            say.send(message).await.unwrap();
        }
        drop(say);
        assert_eq!(hears.recv().await, Some(Said::Down(expected.to_owned())));
    }
    assert!(!folder.path().parent().unwrap().join("x").exists());
}
