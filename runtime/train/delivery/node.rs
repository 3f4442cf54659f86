//! A node's side of the delivery: the remote actor `weights`.
//!
//! It puts what comes whole on the [shelf](Shelf) of the run's engine. The shelf is kept while the
//! coordinator is linked, before the run has an engine here; after that the engine keeps it, so
//! that one that breaks while nobody can be reached starts again with the newest there were.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use orcapack_cluster::address::Role;
use orcapack_cluster::codec;
use orcapack_cluster::remote::{Class, Kinds, Received, Spawned};
use orcapack_trainer::model::config::ModelConfig;
use orcapack_trainer::snapshot::{SnapshotDigest, SnapshotReader, stream_bytes};

use crate::embedded::Engines;
use crate::shelf::{Issue, PutError, Shelf};
use crate::train::delivery::embedded::pack;
use crate::train::delivery::weights_wire::{
    CHUNK_BYTES_MAX, FromSampler, Supply, ToSampler, WEIGHTS,
};

/// A way to the engines for coordinators.
pub fn weights(kinds: Kinds, engines: Arc<Engines>) -> Kinds {
    kinds.on(WEIGHTS, &[Role::Coordinator], move |spawned| {
        let engines = engines.clone();
        async move { serve(&engines, spawned).await }
    })
}

async fn serve(engines: &Engines, spawned: Spawned) -> Result<(), String> {
    let Spawned { args, mut port, .. } = spawned;
    let Supply { run, life, checkpoint } = codec::decode(&args, Class::Control.bytes_max())
        .map_err(|error| format!("the arguments of `{WEIGHTS}`: {error}"))?;
    let checkpoint = PathBuf::from(checkpoint);
    let shelf = engines.of_run(&run).shelf(&checkpoint);
    let of_life = shelf.newest().filter(|issue| issue.life == life);
    let mut answer = Some(FromSampler::Ready { version: of_life.map(|issue| issue.version) });
    let mut intake = Intake { shelf, life, checkpoint, reader: None };
    loop {
        if let Some(answer) = answer.take() {
            let class = Class::Control;
            let bytes = codec::encode(&answer, class.bytes_max()).map_err(|e| e.to_string())?;
            port.send(class, bytes).await.map_err(|error| error.to_string())?;
        }
        answer = match port.receive().await {
            Received::Message(class, bytes) => {
                let message = codec::decode(&bytes, class.bytes_max())
                    .map_err(|error| format!("a message of the coordinator: {error}"))?;
                intake.take(message).await
            }
            Received::Down(_) => return Ok(()),
        };
    }
}

/// What has come of a version.
struct Intake {
    shelf: Arc<Shelf>,
    life: u64,
    checkpoint: PathBuf,
    /// `None` between versions, and after one that was refused: what still comes of it is nothing.
    reader: Option<(u64, Box<SnapshotReader>)>,
}

impl Intake {
    async fn take(&mut self, message: ToSampler) -> Option<FromSampler> {
        match message {
            ToSampler::Begin { version, digest, bytes } => {
                self.reader = None;
                let issue = Issue { life: self.life, version };
                if let Some(newer) = self.shelf.newest().filter(|newest| *newest > issue) {
                    let why = PutError::Older(issue, newer).to_string();
                    return Some(FromSampler::Refused { version, why });
                }
                match begin(self.checkpoint.clone(), version, digest, bytes).await {
                    Ok(reader) => {
                        self.reader = Some((version, Box::new(reader)));
                        None
                    }
                    Err(why) => Some(FromSampler::Refused { version, why }),
                }
            }
            ToSampler::Chunk(chunk) => {
                let (version, mut reader) = self.reader.take()?;
                let pushed = match chunk.len() {
                    0..=CHUNK_BYTES_MAX => reader.push(&chunk).map_err(|error| error.to_string()),
                    bytes => Err(format!("a chunk of {bytes} bytes, {CHUNK_BYTES_MAX} at most")),
                };
                if let Err(why) = pushed {
                    return Some(FromSampler::Refused { version, why });
                }
                if !reader.is_whole() {
                    self.reader = Some((version, reader));
                    return None;
                }
                match self.put(*reader).await {
                    Ok(()) => Some(FromSampler::Has { version }),
                    Err(why) => Some(FromSampler::Refused { version, why }),
                }
            }
        }
    }

    async fn put(&self, reader: SnapshotReader) -> Result<(), String> {
        let snapshot = reader.finish().map_err(|error| error.to_string())?;
        let weights = pack(snapshot).await?;
        self.shelf.put(self.life, weights).await.map_err(|error| error.to_string())
    }
}

/// The model is that of the directory here: what is sent for another is refused.
async fn begin(
    checkpoint: PathBuf,
    version: u64,
    digest: [u8; 32],
    bytes: u64,
) -> Result<SnapshotReader, String> {
    let read = move || ModelConfig::read(&Path::new(&checkpoint).join("config.json"));
    let config = tokio::task::spawn_blocking(read).await.map_err(|error| error.to_string())?;
    let config = config.map_err(|defects| defects.to_string())?;
    let expected = stream_bytes(&config);
    if bytes != expected {
        return Err(format!("{bytes} bytes of weights, where the model here has {expected}"));
    }
    Ok(SnapshotReader::new(version, config, SnapshotDigest(digest)))
}
