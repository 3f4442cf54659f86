//! A rank's actor: one life of it, from its start at its home to its end. It belongs to the leader,
//! and ends with it.

use std::sync::Arc;

use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr};

use crate::collective::RankId;
use crate::ranks::home::{Home, Life, Order, Said, Say};

pub(super) enum RankMessage {
    Start,
    Order(Order),
}

pub(super) struct Config {
    pub rank: RankId,
    pub home: Arc<dyn Home>,
    pub say: Say,
}

/// # Errors
/// When the actor system refuses.
pub(super) async fn spawn(
    config: Config,
    leader: ActorCell,
) -> Result<ActorRef<RankMessage>, SpawnErr> {
    let (actor, _) = Actor::spawn_linked(None, RankActor, config, leader).await?;
    // Fails only when the actor has ended, and of that its leader is told.
    let _ = actor.cast(RankMessage::Start);
    Ok(actor)
}

struct RankActor;

impl Actor for RankActor {
    type Msg = RankMessage;
    type State = (Config, Option<Box<dyn Life>>);
    type Arguments = Config;

    async fn pre_start(
        &self,
        _myself: ActorRef<RankMessage>,
        config: Config,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok((config, None))
    }

    async fn handle(
        &self,
        _myself: ActorRef<RankMessage>,
        message: RankMessage,
        (config, life): &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            RankMessage::Start => match config.home.start(config.rank, config.say.clone()).await {
                Ok(begun) => *life = Some(begun),
                Err(why) => (config.say)(Said::Down(why)),
            },
            RankMessage::Order(order) => {
                if let Some(life) = life {
                    life.order(order);
                }
            }
        }
        Ok(())
    }
}
