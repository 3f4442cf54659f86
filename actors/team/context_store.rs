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

fn answer(contexts: &mut Contexts, request: ContextRequest) -> ContextAnswer {
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
        Self { store: None, outstanding: 0, waiting: Vec::new() }
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
        self.waiting.extend(request.map(|request| (id, request)));
        self.send(record, parent).await
    }

    /// Whether the actor that died was the store; the next request makes a new one.
    pub(crate) fn died(&mut self, id: ActorId) -> bool {
        let is_store = self.store.as_ref().is_some_and(|store| store.get_id() == id);
        if is_store {
            self.store = None;
        }
        is_store
    }

    async fn send(
        &mut self,
        record: &[Arc<Entry>],
        parent: ActorCell,
    ) -> Result<Vec<impl Future<Output = Returned<T>> + Send + use<T>>, ractor::SpawnErr> {
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
