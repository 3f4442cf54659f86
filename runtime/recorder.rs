//! The recorder actor: makes the [record](crate::record) of each attempt that ended on this node,
//! and passes it on to whoever keeps the books. It stands between the two so that rendering a
//! team's trajectory holds up neither the attempts nor the ledger.

use orcapack_actors::attempt::AttemptReport;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, DerivedActorRef, SpawnErr};

use crate::record::AttemptRecord;

/// Who is told of attempts that ended.
pub type Records = DerivedActorRef<Box<AttemptRecord>>;

pub struct Recorded(Box<AttemptReport>);

pub struct Config {
    /// The run's id.
    pub run: String,
    /// Whether logs and trajectories are wanted.
    pub keep_files: bool,
    pub records: Records,
}

/// Starts a recorder under `parent`, and gives the address that takes reports.
///
/// # Errors
/// When the actor system refuses.
pub async fn spawn(
    config: Config,
    parent: ActorCell,
) -> Result<DerivedActorRef<Box<AttemptReport>>, SpawnErr> {
    let (actor, _) = Actor::spawn_linked(None, Recorder, config, parent).await?;
    Ok(actor.get_derived())
}

struct Recorder;

impl Actor for Recorder {
    type Msg = Recorded;
    type State = Config;
    type Arguments = Config;

    async fn pre_start(
        &self,
        _myself: ActorRef<Recorded>,
        config: Config,
    ) -> Result<Config, ActorProcessingErr> {
        Ok(config)
    }

    async fn handle(
        &self,
        _myself: ActorRef<Recorded>,
        Recorded(report): Recorded,
        config: &mut Config,
    ) -> Result<(), ActorProcessingErr> {
        let record = AttemptRecord::of(&report, &config.run, config.keep_files);
        config.records.cast(Box::new(record))?;
        Ok(())
    }
}

impl From<Box<AttemptReport>> for Recorded {
    fn from(report: Box<AttemptReport>) -> Self {
        Self(report)
    }
}

impl TryFrom<Recorded> for Box<AttemptReport> {
    type Error = ();

    fn try_from(Recorded(report): Recorded) -> Result<Self, ()> {
        Ok(report)
    }
}
