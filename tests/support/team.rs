//! Models for scenarios over whole nodes: a script answers, and what was answered is written down.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use orcapack_actors::model::{Answer, CallKey, Finish, Model, ModelError, Request, Usage};
use orcapack_actors::team::role::Role;

/// What to say to a request; the role is the one that asks.
pub type Script = Arc<dyn Fn(Role, &Request) -> Result<String, ModelError> + Send + Sync>;

/// A model that a script speaks for.
pub struct Scripted {
    role: Role,
    script: Script,
    /// How long an answer takes.
    time: Duration,
    answered: Arc<Mutex<HashMap<CallKey, u32>>>,
}

impl Scripted {
    /// One for each role, which write down together how often each call was answered.
    pub fn team(script: Script, time: Duration) -> ([Arc<dyn Model>; 3], Answered) {
        let answered: Arc<Mutex<HashMap<CallKey, u32>>> = Arc::default();
        let model = |role| {
            let (script, answered) = (script.clone(), answered.clone());
            Arc::new(Self { role, script, time, answered }) as Arc<dyn Model>
        };
        (Role::ALL.map(model), Answered(answered))
    }
}

/// How often each call was answered.
#[derive(Clone)]
pub struct Answered(Arc<Mutex<HashMap<CallKey, u32>>>);

impl Answered {
    /// Calls that were answered more than once.
    pub fn repeated(&self) -> Vec<CallKey> {
        let answered = self.0.lock().expect("no holder panics");
        answered.iter().filter(|(_, times)| **times > 1).map(|(key, _)| key.clone()).collect()
    }

    pub fn count(&self) -> usize {
        self.0.lock().expect("no holder panics").len()
    }
}

impl Model for Scripted {
    fn name(&self) -> &str {
        "scripted"
    }

    fn call<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<Answer, ModelError>> {
        Box::pin(async move {
            // What a model takes to think.
            tokio::time::sleep(self.time).await;
            let text = (self.script)(self.role, request)?;
            let mut answered = self.answered.lock().expect("no holder panics");
            *answered.entry(request.key.clone()).or_default() += 1;
            drop(answered);
            let letters: usize = request.messages.iter().map(|message| message.content.len()).sum();
            let usage = Usage {
                prompt_tokens: letters as u64 / 4,
                completion_tokens: text.len() as u64 / 4,
                cached_tokens: 0,
            };
            let (finish, model) = (Finish::Stop, "scripted".to_owned());
            Ok(Answer { text, reasoning: None, finish, usage, model, tokens: None })
        })
    }
}

/// Two explorers side by side, a coder that solves the task with what they found, the end.
///
/// # Errors
/// None; the type is a script's.
pub fn explore_then_solve(role: Role, request: &Request) -> Result<String, ModelError> {
    let text = match (role, request.key.turn) {
        (Role::Orchestrator, 1) => {
            "<task_create>\nagent_type: explorer\ntitle: left\ndescription: look left\n\
             auto_launch: false\n</task_create>\n\
             <task_create>\nagent_type: explorer\ntitle: right\ndescription: look right\n\
             auto_launch: false\n</task_create>\n\
             <launch_parallel_subagents>\ntask_ids: [task_1, task_2]\n\
             </launch_parallel_subagents>"
        }
        (Role::Orchestrator, 2) => {
            "<add_context>\nid: plan\ncontent: first left, then right\n</add_context>\n\
             <task_create>\nagent_type: coder\ntitle: build\ndescription: build it\n\
             context_refs: [plan, task_1, task_2]\n</task_create>"
        }
        (Role::Orchestrator, _) => "<finish>\nall done\n</finish>",
        (Role::Explorer, 1) => "<bash>\ncmd: ls\n</bash>\n<bash>\ncmd: pwd\n</bash>",
        (Role::Explorer, _) => {
            let context = format!("seen_{}", request.key.agent);
            return Ok(format!(
                "<report>\ncontexts:\n  - id: {context}\n    content: a wall\ncomments: seen\n\
                 </report>"
            ));
        }
        (Role::Coder, 1) => "<bash>\ncmd: solve\n</bash>",
        (Role::Coder, _) => "<report>\ncomments: built\n</report>",
    };
    Ok(text.to_owned())
}
