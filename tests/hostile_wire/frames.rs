//! Frames that no peer of good manners sends.

use std::path::Path;
use std::time::{Duration, SystemTime};

use bincode::Encode;
use orcapack::calls::{Answer, Question};
use orcapack::cluster_status::WaitingRow;
use orcapack::record::{AttemptRecord, RecordFiles};
use orcapack::store::Details;
use orcapack::train::delivery::weights_wire::{FromSampler, Supply, ToSampler};
use orcapack::train::remote::Berth;
use orcapack::train::remote::lobby::Hello;
use orcapack::wire::{
    Attach, FromNode, NodeLoad, Progress, ToNode, Welcome, WireAssignment, WireSolver,
};
use orcapack_actors::phase::{Phase, PhaseTimes};
use orcapack_cluster::address::Incarnation;
use orcapack_cluster::caps::{CHUNK_BYTES_MAX, CONTROL_MESSAGE_BYTES_MAX};
use orcapack_cluster::codec;
use orcapack_cluster::lease::{Beat, Epoch, Grant};
use orcapack_tasks::admission::TrialKind;
use orcapack_tasks::{Outcome, Task, harbor};

use crate::random::Random;

/// Says that the next chunk belongs to the same message.
const MORE: u32 = 1 << 31;

/// Good messages between coordinators and nodes, and of calls.
pub fn good() -> Vec<Vec<u8>> {
    fn frame(message: &impl Encode) -> Vec<u8> {
        codec::encode(message, CONTROL_MESSAGE_BYTES_MAX).unwrap()
    }
    let row = || WaitingRow { what: "an image".to_owned(), since_unix_ms: 5 };
    let load = || NodeLoad { waiting: vec![row(); 8], ..NodeLoad::default() };
    let held = (0..100).collect();
    let welcome = Welcome { incarnation: Incarnation(3), load: load(), held };
    let assignment = |agent| WireAssignment {
        rollout: 1,
        attempt: 1,
        fence: 7,
        grant: Grant { epoch: Epoch(2), term: 1 },
        task: 0,
        agent,
    };
    let text = "[ranks]\ncount = 2\n".repeat(100);
    let berth = Berth { run: "r-1".to_owned(), life: 2, rank: 1, config: text, temperature: 1.0 };
    let config = "[agent]\nkind = \"team\"\n".repeat(100);
    vec![
        frame(&Question::Status),
        frame(&Question::Drain(true)),
        frame(&Question::Revocations(vec![7; 3000])),
        frame(&Question::RevocationsAfter(2)),
        frame(&Question::Renew(vec![7; 300])),
        frame(&Answer::Done),
        frame(&Answer::Refused("no".repeat(100))),
        frame(&Attach { run: "r-1".to_owned(), epoch: Epoch(2), config }),
        frame(&ToNode::Assign(assignment(WireSolver::Team))),
        frame(&ToNode::Assign(assignment(WireSolver::Trial(TrialKind::KnownBad("x".into()))))),
        frame(&ToNode::NoTask { task: 1, why: "it has changed".to_owned() }),
        frame(&ToNode::Kill { fence: 7 }),
        frame(&ToNode::Progress(Progress::default())),
        frame(&ToNode::End),
        frame(&FromNode::Welcome(welcome)),
        frame(&FromNode::Refused("busy".to_owned())),
        frame(&FromNode::Beat { beat: Beat { epoch: Epoch(2), seq: 9 }, load: load() }),
        frame(&FromNode::WantTask { task: 9 }),
        frame(&FromNode::Leaving),
        frame(&FromNode::Record(Box::new(record()))),
        frame(&ToNode::Task { task: 1, whole: Box::new(task()) }),
        frame(&Supply { run: "r-1".to_owned(), life: 2, checkpoint: "/policy".to_owned() }),
        frame(&ToSampler::Begin { version: 3, digest: [7; 32], bytes: 4096 }),
        frame(&ToSampler::Chunk(vec![7; 4096])),
        frame(&FromSampler::Ready { version: Some(2) }),
        frame(&FromSampler::Refused { version: 3, why: "damaged".repeat(30) }),
        frame(&berth),
        frame(&Hello { run: "r-1".to_owned(), life: 2, epoch: 3, from: 0, to: 1 }),
    ]
}

fn record() -> AttemptRecord {
    let second = Duration::from_secs(1);
    let details = Details {
        started: SystemTime::UNIX_EPOCH + second,
        wall: second,
        phases: PhaseTimes([second; Phase::ALL.len()]),
        note: Some("of the verifier".to_owned()),
        agents: Vec::new(),
    };
    let files = RecordFiles { log: vec![b'x'; 2000], trajectory: Some(vec![b'{'; 2000]) };
    let outcome = Outcome::Graded { reward: 0.5 };
    AttemptRecord { rollout: 1, attempt: 1, fence: 7, outcome, details, files: Some(files) }
}

/// The smallest of the built-in ones.
fn task() -> Task {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tasks/builtin");
    let tasks = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let tasks = tasks.filter_map(|path| harbor::read(&path, &|_| None).ok());
    let length = |task: &Task| codec::encode(task, 1 << 20).map_or(usize::MAX, |it| it.len());
    tasks.min_by_key(length).unwrap()
}

/// Noise, a good frame that was spoiled, or one that is good and comes at a wrong time.
pub fn hostile_frame(random: &mut Random, good: &[Vec<u8>]) -> Vec<u8> {
    let mut frame = good[random.below(good.len())].clone();
    match random.below(9) {
        0 => frame = noise(random, 200),
        1 => {
            frame = noise(random, 200);
            frame.insert(0, codec::VERSION);
        }
        2 => {
            for _ in 0..=random.below(8) {
                let place = random.below(frame.len());
                frame[place] = random.below(256) as u8;
            }
        }
        3 => frame.truncate(random.below(frame.len())),
        4 => frame.extend(noise(random, 20)),
        // A length, or another number, that is huge: marked so by bincode.
        5 => {
            let place = 1 + random.below(frame.len().max(2) - 1);
            let marker = 251 + random.below(4) as u8;
            let huge = [0xff, 0xff, 0xff, 0x7f, 0, 0, 0, 0, 0, 0];
            let huge = huge.map(|byte: u8| byte >> random.below(3));
            frame.splice(place..(place + 1).min(frame.len()), [&[marker][..], &huge].concat());
        }
        6 if frame.len() > 1 => frame[1] = random.below(256) as u8,
        7 if random.below(20) == 0 => {
            frame = noise(random, 70 << 10);
            frame.splice(..0, [codec::VERSION, random.below(8) as u8]);
        }
        _ => {}
    }
    frame
}

/// The bytes of a lane: chunks, chains of them, and headers that announce what does not come.
pub fn hostile_lane(random: &mut Random) -> Vec<u8> {
    let mut bytes = vec![random.below(256) as u8];
    for _ in 0..random.below(6) {
        let (header, body) = match random.below(12) {
            0 => (u32::MAX, 0),
            1 => (random.below(1 << 32) as u32, random.below(100)),
            2 => (CHUNK_BYTES_MAX as u32 + 1, CHUNK_BYTES_MAX + 1),
            // Never ends, or ends in what is too long.
            3 | 4 => (CHUNK_BYTES_MAX as u32 | MORE, CHUNK_BYTES_MAX),
            5 => (random.below(200) as u32 | MORE, 200),
            6 => (CHUNK_BYTES_MAX as u32, random.below(CHUNK_BYTES_MAX)),
            _ => {
                let length = random.below(2000);
                (length as u32, length)
            }
        };
        bytes.extend(header.to_le_bytes());
        bytes.resize(bytes.len() + body, 0x5a);
    }
    if random.below(4) == 0 {
        bytes.truncate(1 + random.below(bytes.len()));
    }
    bytes
}

fn noise(random: &mut Random, length_max: usize) -> Vec<u8> {
    (0..random.below(length_max)).map(|_| random.below(256) as u8).collect()
}
