//! The reaper: removes, on a timer, whatever is past its deadline, whoever made it.
//!
//! Sandboxes end with their owner; what is left for the reaper is what an owner that was killed had
//! created and not yet started, and what an engine would not remove when it was asked. The node
//! sweeps its own run by its labels at start and at stop; the deadline in the labels covers runs
//! that nobody starts again.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr};

use crate::sandbox::{Driver, SweepScope, Swept};

/// Deadlines are hours away, so nobody waits for this.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// Starts a reaper under `supervisor`. Its first sweep is at once.
///
/// # Errors
/// When the actor system refuses.
pub async fn spawn(driver: Arc<dyn Driver>, supervisor: ActorCell) -> Result<(), SpawnErr> {
    let (reaper, _) = Actor::spawn_linked(None, Reaper, driver, supervisor).await?;
    // Fails only when the reaper has ended.
    let _ = reaper.cast(Sweep);
    Ok(())
}

struct Sweep;

struct Reaper;

impl Actor for Reaper {
    type Msg = Sweep;
    type State = Arc<dyn Driver>;
    type Arguments = Arc<dyn Driver>;

    async fn pre_start(
        &self,
        _myself: ActorRef<Sweep>,
        driver: Arc<dyn Driver>,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(driver)
    }

    async fn handle(
        &self,
        myself: ActorRef<Sweep>,
        Sweep: Sweep,
        driver: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        match driver.sweep(&SweepScope::Expired { now_unix_sec: now.as_secs() }).await {
            Ok(swept) if swept == Swept::default() => {}
            Ok(swept) => tracing::info!(?swept, "removed what was past its deadline"),
            // The engine may be restarting; there is a next time.
            Err(error) => tracing::warn!(%error, "could not sweep"),
        }
        myself.send_after(SWEEP_EVERY, || Sweep);
        Ok(())
    }
}
