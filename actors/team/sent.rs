//! What an agent's model was sent, call by call, made anew from the record: what training on a
//! trajectory needs, and no record holds.

use std::sync::Arc;

use crate::model::{Message, Speaker};
use crate::team::action::{CoderAction, ExplorerAction, OrchestratorAction};
use crate::team::agent::{Acts, Agent, Step};
use crate::team::record::{AgentId, Entry, Event, TeamRun};
use crate::team::role::Role;

/// The messages of an answered call, beside the conversation that ended with the answer before: as
/// that was sent, and the answer behind it.
#[derive(Clone, Debug, PartialEq)]
pub struct Sent {
    pub turn: u32,
    /// Of that conversation, from its beginning; all of it where it only grew.
    pub kept: usize,
    /// What was sent behind those.
    pub added: Vec<Message>,
}

/// Of an agent of this role, in the order of its turns.
pub fn of_agent(run: &TeamRun, agent: AgentId, role: Role) -> Vec<Sent> {
    match role {
        Role::Orchestrator => replayed::<OrchestratorAction>(run, agent),
        Role::Explorer => replayed::<ExplorerAction>(run, agent),
        Role::Coder => replayed::<CoderAction>(run, agent),
    }
}

fn replayed<A: Acts>(run: &TeamRun, id: AgentId) -> Vec<Sent> {
    let mut agent = Agent::<A>::new(id, run.settings.clone());
    let (mut conversation, mut asked) = (Vec::new(), Vec::new());
    let mut sent = Vec::new();
    for entry in &run.record {
        let Entry { at, agent: whose, event } = &**entry;
        agent.apply(entry);
        match event {
            Event::Asked { .. } if *whose == id => {
                if let Step::Call { messages, .. } = agent.next(*at) {
                    asked = messages;
                }
            }
            Event::Answered { turn, answer, .. } if *whose == id => {
                let kept = kept(&conversation, &asked);
                sent.push(Sent { turn: *turn, kept, added: asked[kept..].to_vec() });
                conversation = std::mem::take(&mut asked);
                conversation.push(Message::new(Speaker::Assistant, Arc::from(&*answer.text)));
            }
            _ => {}
        }
    }
    sent
}

fn kept(before: &[Message], now: &[Message]) -> usize {
    before.iter().zip(now).take_while(|(before, now)| before == now).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::team::conductor::tests::{Sim, mode};
    use crate::team::settings::Mode;

    /// Delegates twice, then finishes.
    fn script(role: Role, _task: &str, turn: u32) -> &'static str {
        match (role, turn) {
            (Role::Orchestrator, 1 | 2) => {
                "<task_create>\nagent_type: coder\ntitle: t\ndescription: d\n</task_create>"
            }
            (Role::Orchestrator, _) => "<finish>\ndone\n</finish>",
            (_, 1) => "<bash>\ncmd: ls\n</bash>",
            _ => "<report>\ncomments: done\n</report>",
        }
    }

    #[test]
    fn what_was_sent_is_made_anew_message_by_message() {
        for style in [Mode::Stateful, Mode::Stateless] {
            let sim = Sim::new(3, mode(style), script).run();
            let (run, _) = sim.end.as_ref().unwrap();
            let sent = of_agent(run, AgentId::ORCHESTRATOR, Role::Orchestrator);
            assert_eq!(sent.iter().map(|sent| sent.turn).collect::<Vec<_>>(), [1, 2, 3]);
            let prompts = sim.calls.iter().zip(&sim.prompts);
            let prompts: Vec<&String> =
                prompts.filter(|(key, _)| key.agent == 0).map(|(_, last)| last).collect();
            let answers =
                ["", script(Role::Orchestrator, "", 1), script(Role::Orchestrator, "", 2)];
            let mut conversation: Vec<Message> = Vec::new();
            for ((Sent { kept, added, .. }, last), answer) in sent.iter().zip(prompts).zip(answers)
            {
                if !conversation.is_empty() {
                    conversation.push(Message::new(Speaker::Assistant, answer));
                }
                // A conversation that grows keeps all; one that is made anew its system message.
                let all = conversation.len();
                assert_eq!(*kept, if style == Mode::Stateful { all } else { all.min(1) });
                conversation.truncate(*kept);
                conversation.extend(added.iter().cloned());
                assert_eq!(conversation.last().map(|last| &*last.content), Some(last.as_str()));
                assert_eq!(conversation[0].role, Speaker::System);
            }
        }
    }
}
