//! The context store's actor, and the desk through which a rollout uses it.
//!
//! The store can die at any moment and is rebuilt from the record. What makes that safe is the
//! order at the [`ContextDesk`]: a new store is only made when every request to the dead one has
//! come back, answered or lost, so that the record holds whatever was answered.

use std::sync::Arc;
use std::time::Duration;

use ractor::rpc::CallResult;
use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, RpcReplyPort};

use crate::team::contexts::{Context, Contexts, NewContext, Provenance};
use crate::team::record::Entry;

/// For an answer that costs the store no time of its own. Ample: a node with all cores busy can be
/// slow.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Clone, Debug)]
pub(crate) enum ContextRequest {
    /// All refs or none; counted as a use by the task, where there is one.
    Resolve {
        refs: Vec<String>,
        tasks: Vec<String>,
        for_task: Option<String>,
    },
    Store {
        contexts: Vec<NewContext>,
        from: Provenance,
    },
}

#[derive(Debug)]
pub(crate) enum ContextAnswer {
    Resolved(Result<Vec<Context>, String>),
    Stored { stored: Vec<Context>, refused: Vec<String> },
}

pub struct ContextMessage {
    request: ContextRequest,
    reply: RpcReplyPort<ContextAnswer>,
}

pub(crate) struct ContextStoreActor;

impl Actor for ContextStoreActor {
    type Msg = ContextMessage;
    type State = Contexts;
    type Arguments = Contexts;

    async fn pre_start(
        &self,
        _myself: ActorRef<Self::Msg>,
        contexts: Contexts,
    ) -> Result<Contexts, ActorProcessingErr> {
        Ok(contexts)
    }

    async fn handle(
        &self,
        _myself: ActorRef<Self::Msg>,
        ContextMessage { request, reply }: ContextMessage,
        contexts: &mut Contexts,
    ) -> Result<(), ActorProcessingErr> {
        // A failed send means that the rollout has ended; the answer is then nobody's.
        let _ = reply.send(answer(contexts, request));
        Ok(())
    }
}

pub(crate) fn answer(contexts: &mut Contexts, request: ContextRequest) -> ContextAnswer {
    match request {
        ContextRequest::Resolve { refs, tasks, for_task } => {
            let resolved = contexts.resolve(&refs, &tasks);
            if let (Ok(found), Some(task)) = (&resolved, for_task) {
                let refs: Vec<_> = found.iter().map(Context::exact_ref).collect();
                contexts.mark_used(&refs, &task);
            }
            ContextAnswer::Resolved(resolved)
        }
        ContextRequest::Store { contexts: new, from } => {
            let (mut stored, mut refused) = (Vec::new(), Vec::new());
            for new in new {
                match contexts.admit(&new, &from) {
                    Ok(context) => {
                        contexts.insert(context.clone());
                        stored.push(context);
                    }
                    Err(reason) => refused.push(reason),
                }
            }
            ContextAnswer::Stored { stored, refused }
        }
    }
}

/// A rollout's end of its context store. `T` names a request, and comes back with its answer.
pub(crate) struct ContextDesk<T> {
    store: Option<ActorRef<ContextMessage>>,
    /// Requests that have not come back.
    outstanding: usize,
    /// Requests that wait for a new store.
    waiting: Vec<(T, ContextRequest)>,
    /// The store lost a request, and is dead or will be: nothing is asked until its death is told.
    /// One that was only slow might otherwise do a request twice.
    condemned: bool,
}

/// A request that came back.
pub(crate) struct Returned<T> {
    pub id: T,
    pub request: ContextRequest,
    /// `None`: the store died before it answered.
    pub answer: Option<ContextAnswer>,
}

impl<T> Default for ContextDesk<T> {
    fn default() -> Self {
        Self { store: None, outstanding: 0, waiting: Vec::new(), condemned: false }
    }
}

impl<T: Copy + Send + 'static> ContextDesk<T> {
    /// The requests that can be sent now; each is a future that has to be run, and its result given
    /// to [`Self::returned`].
    ///
    /// # Errors
    /// When the actor system refuses to start a store.
    pub(crate) async fn ask(
        &mut self,
        id: T,
        request: ContextRequest,
        record: &[Arc<Entry>],
        parent: ActorCell,
    ) -> Result<Vec<impl Future<Output = Returned<T>> + Send + use<T>>, ractor::SpawnErr> {
        self.waiting.push((id, request));
        self.send(record, parent).await
    }

    pub(crate) async fn returned(
        &mut self,
        id: T,
        request: Option<ContextRequest>,
        record: &[Arc<Entry>],
        parent: ActorCell,
    ) -> Result<Vec<impl Future<Output = Returned<T>> + Send + use<T>>, ractor::SpawnErr> {
        self.outstanding = self.outstanding.saturating_sub(1);
        if let (Some(_), Some(store)) = (&request, &self.store) {
            store.kill();
            self.condemned = true;
        }
        self.waiting.extend(request.map(|request| (id, request)));
        self.send(record, parent).await
    }

    /// Whether the actor that died was the store; [`Self::send`] makes a new one.
    pub(crate) fn died(&mut self, id: ActorId) -> bool {
        let is_store = self.store.as_ref().is_some_and(|store| store.get_id() == id);
        if is_store {
            self.store = None;
            self.condemned = false;
        }
        is_store
    }

    /// Nothing more will be asked.
    pub(crate) fn close(&mut self) {
        if let Some(store) = self.store.take() {
            store.stop(None);
        }
    }

    /// The requests that wait, when they can be sent.
    ///
    /// # Errors
    /// When the actor system refuses to start a store.
    pub(crate) async fn send(
        &mut self,
        record: &[Arc<Entry>],
        parent: ActorCell,
    ) -> Result<Vec<impl Future<Output = Returned<T>> + Send + use<T>>, ractor::SpawnErr> {
        if self.condemned {
            return Ok(Vec::new());
        }
        if self.store.is_none() {
            if self.outstanding > 0 || self.waiting.is_empty() {
                return Ok(Vec::new());
            }
            let contexts = Contexts::replay(record.iter().map(|entry| &**entry));
            let (store, _) = Actor::spawn_linked(None, ContextStoreActor, contexts, parent).await?;
            self.store = Some(store);
        }
        let Some(store) = &self.store else { return Ok(Vec::new()) };
        self.outstanding += self.waiting.len();
        let waiting = self.waiting.drain(..);
        Ok(waiting.map(|(id, request)| call(store.clone(), id, request)).collect())
    }
}

async fn call<T>(store: ActorRef<ContextMessage>, id: T, request: ContextRequest) -> Returned<T> {
    let message = |reply| ContextMessage { request: request.clone(), reply };
    let answer = match store.call(message, Some(ANSWER_TIMEOUT)).await {
        Ok(CallResult::Success(answer)) => Some(answer),
        _ => None,
    };
    Returned { id, request, answer }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::team::record::AgentId;

    struct Parent;

    impl Actor for Parent {
        type Msg = ();
        type State = tokio::sync::mpsc::UnboundedSender<ActorId>;
        type Arguments = Self::State;

        async fn pre_start(
            &self,
            _myself: ActorRef<()>,
            deaths: Self::State,
        ) -> Result<Self::State, ActorProcessingErr> {
            Ok(deaths)
        }

        async fn handle_supervisor_evt(
            &self,
            _myself: ActorRef<()>,
            event: ractor::SupervisionEvent,
            deaths: &mut Self::State,
        ) -> Result<(), ActorProcessingErr> {
            if let ractor::SupervisionEvent::ActorTerminated(cell, ..) = event {
                deaths.send(cell.get_id())?;
            }
            Ok(())
        }
    }

    /// A store that is only slow has done the request, and would do it again.
    #[tokio::test]
    async fn a_store_that_lost_a_request_is_never_asked_again() {
        let (deaths, mut died) = tokio::sync::mpsc::unbounded_channel();
        let (parent, _) = Actor::spawn(None, Parent, deaths).await.unwrap();
        let mut desk = ContextDesk::default();
        let request = ContextRequest::Store {
            contexts: vec![NewContext { id: "a".to_owned(), content: "b".into() }],
            from: Provenance { by: AgentId(1), task: "t".into(), turn: 1, at: Duration::ZERO },
        };
        let calls = desk.ask(1, request.clone(), &[], parent.get_cell()).await.unwrap();
        for call in calls {
            assert!(call.await.answer.is_some());
        }
        // As if the answer had not come in time.
        let calls = desk.returned(1, Some(request), &[], parent.get_cell()).await.unwrap();
        assert_eq!(calls.len(), 0);
        assert!(desk.died(died.recv().await.unwrap()));
        let mut versions = Vec::new();
        for call in desk.send(&[], parent.get_cell()).await.unwrap() {
            if let Some(ContextAnswer::Stored { stored, .. }) = call.await.answer {
                versions.extend(stored.into_iter().map(|context| context.version));
            }
        }
        assert_eq!(versions, [1]);
        parent.stop(None);
    }
}
