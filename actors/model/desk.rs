//! Endpoints for who asks models outside of rollouts: each with its gateway, under one root.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef, SpawnErr};

use crate::model::Model;
use crate::model::endpoint::Endpoint;
use crate::model::settings::EndpointSettings;
use crate::phase::Board;

/// Open until it is dropped. The end of one of its gateways ends the others, and all calls.
pub struct Desk {
    root: ActorRef<()>,
    endpoints: BTreeMap<String, Endpoint>,
}

impl Desk {
    /// Starts the gateways. What they wait for is told on `board`.
    ///
    /// # Errors
    /// When the actor system refuses.
    pub async fn open(
        endpoints: Vec<(EndpointSettings, Arc<dyn Model>)>,
        board: &Arc<Board>,
    ) -> Result<Self, SpawnErr> {
        let (root, _) = Actor::spawn(None, Root, ()).await?;
        let mut desk = Self { root, endpoints: BTreeMap::new() };
        for (settings, model) in endpoints {
            let name = settings.name.clone();
            let parent = desk.root.get_cell();
            let endpoint = Endpoint::spawn(settings, model, board.clone(), parent).await?;
            desk.endpoints.insert(name, endpoint);
        }
        Ok(desk)
    }

    /// The endpoint of this name.
    pub fn endpoint(&self, name: &str) -> Option<&Endpoint> {
        self.endpoints.get(name)
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.root.stop(None);
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.endpoints.keys()).finish()
    }
}

/// Supervises the gateways; its end is theirs. Has no messages of its own.
struct Root;

impl Actor for Root {
    type Msg = ();
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _myself: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;
    use crate::model::backoff::GaveUp;
    use crate::model::literal::Literal;
    use crate::model::settings::{EndpointKind, Mistakes, Sampling};
    use crate::model::{CallKey, Message, Request, Speaker};

    fn settings(name: &str) -> EndpointSettings {
        EndpointSettings {
            name: name.to_owned(),
            kind: EndpointKind::Literal,
            model: String::new(),
            url: String::new(),
            api_key: None,
            sampling: Sampling::default(),
            extra: serde_json::Map::new(),
            try_timeout: Duration::from_secs(60),
            tries_max: 1,
            in_flight_max: 1,
            price: None,
            run: None,
            policy: None,
            mistakes: Mistakes::default(),
        }
    }

    #[tokio::test]
    async fn calls_end_with_the_desk() {
        let endpoints: Vec<(_, Arc<dyn Model>)> =
            vec![(settings("a"), Arc::new(Literal)), (settings("b"), Arc::new(Literal))];
        let desk = Desk::open(endpoints, &Arc::default()).await.unwrap();
        assert!(desk.endpoint("c").is_none());
        let a = desk.endpoint("a").unwrap().clone();
        let request = Request {
            key: CallKey { rollout: 1, attempt: 1, step: 0, agent: 1, turn: 1 },
            messages: vec![Message::new(Speaker::User, "hello")],
            max_tokens: 1,
            instruction: "<bash>\ncmd: true\n</bash>".into(),
            policy_version: 0,
            scripts: None,
        };
        let deadline = || Instant::now() + Duration::from_secs(60);
        assert!(a.ask(&request, deadline()).await.is_ok());
        drop(desk);
        a.cell().wait(None).await.unwrap();
        let error = a.ask(&request, deadline()).await.expect_err("the gateway has ended");
        assert_eq!(error.why, GaveUp::GatewayGone);
    }
}
