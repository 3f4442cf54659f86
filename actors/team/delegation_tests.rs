//! What becomes of subagents that are late, that die for good, or that are many.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::CallKey;
use crate::team::conductor::tests::{Script, Sim, mode, usual};
use crate::team::protocol::{CallFailure, Effect, Input};
use crate::team::record::{AgentEnd, AgentId, Event, ForcedBy};
use crate::team::role::Role;
use crate::team::settings::{Mode, TeamSettings};

fn call(agent: u32, turn: u32) -> CallKey {
    CallKey { rollout: 7, attempt: 1, step: 0, agent, turn }
}

fn ends(sim: &Sim, agent: u32) -> Vec<AgentEnd> {
    let own = sim.record().iter().filter(|entry| entry.agent == AgentId(agent));
    own.filter_map(|entry| match &entry.event {
        Event::Ended(end) => Some(end.clone()),
        _ => None,
    })
    .collect()
}

impl Sim {
    /// Carries out what can be, but for what `held` holds back.
    fn go_on_without(&mut self, held: impl Fn(&Effect) -> bool) {
        while let Some(at) = self.pending.iter().position(|effect| !held(effect)) {
            let effect = self.pending.remove(at);
            self.carry_out(effect);
        }
    }

    fn die(&mut self, agent: u32) {
        let agent = AgentId(agent);
        let (life, _) = self.members.remove(&agent).expect("is alive");
        self.input(Input::Died { agent, life, reason: "killed".into() });
    }
}

#[test]
fn a_subagent_whose_model_is_too_slow_ends_and_its_orchestrator_goes_on() {
    let mut sim = Sim::new(1, mode(Mode::Stateful), usual);
    sim.fail_call = Some((call(2, 1), CallFailure::TimeOver));
    let sim = sim.run();
    let by = ForcedBy::DeadlineNear;
    assert!(matches!(ends(&sim, 2)[..], [AgentEnd::Synthetic { by: found, .. }] if found == by));
    let told = sim.observations(0).join("\n");
    assert!(told.contains("task_2 ended without a report (deadline near) after 1 turn,"), "{told}");
    assert_eq!(*sim.end(), AgentEnd::Finished { message: "all done".into() });
}

#[test]
fn the_calls_of_subagents_leave_their_orchestrator_the_time_for_its_last_words() {
    let sim = Sim::new(1, mode(Mode::Stateful), usual).run();
    let limit = Duration::from_secs(600);
    let reserve = TeamSettings::default().time_reserve;
    assert!(sim.call_times.len() > 6);
    for (agent, until) in &sim.call_times {
        let expected = if *agent == AgentId::ORCHESTRATOR { limit } else { limit - reserve };
        let apart = until.abs_diff(expected);
        assert!(apart < Duration::from_secs(1), "{agent:?}, {until:?}");
    }
}

#[test]
fn subagents_are_numbered_as_they_are_launched_whoever_is_ready_first() {
    for seed in 0..20 {
        let sim = Sim::new(seed, mode(Mode::Stateful), usual).run();
        let began = sim.record().iter().filter_map(|entry| match &entry.event {
            Event::Began(brief) => Some((entry.agent.0, brief.task.clone())),
            _ => None,
        });
        let tasks: Vec<String> = began.collect::<BTreeMap<_, _>>().into_values().collect();
        assert_eq!(tasks, ["", "task_1", "task_2", "task_3"], "seed {seed}");
    }
}

#[test]
fn what_is_being_done_for_an_agent_that_dies_for_good_is_still_recorded() {
    let settings = TeamSettings { restarts_max: 0, ..TeamSettings::default() };
    let mut sim = Sim::new(1, settings, usual);
    let first = call(1, 1);
    let first_call = |effect: &Effect| match effect {
        Effect::Call { request, .. } => request.key == first,
        _ => false,
    };
    sim.pending = sim.conductor.start();
    sim.go_on_without(first_call);
    sim.die(1);
    sim.go_on_without(first_call);
    assert!(sim.end.is_none(), "the call is still under way");
    sim.go_on_without(|_| false);
    let own = sim.record().iter().filter(|entry| entry.agent == AgentId(1));
    let own: Vec<_> = own.map(|entry| &entry.event).collect();
    assert!(matches!(own[own.len() - 2], Event::Answered { .. }), "{own:?}");
    assert!(matches!(own[own.len() - 1], Event::Ended(AgentEnd::Failed { .. })), "{own:?}");
    assert_eq!(*sim.end(), AgentEnd::Finished { message: "all done".into() });
}

#[test]
fn an_actor_that_comes_after_its_agents_end_is_told_to_go() {
    let mut sim = Sim::new(1, mode(Mode::Stateful), usual);
    let of_store = |effect: &Effect| matches!(effect, Effect::Store { .. });
    sim.pending = sim.conductor.start();
    sim.go_on_without(of_store);
    sim.die(1);
    let its_report =
        |effect: &Effect| matches!(effect, Effect::Store { from, .. } if from.by == AgentId(1));
    sim.go_on_without(|effect| !its_report(effect));
    sim.go_on_without(|effect| !matches!(effect, Effect::Spawn { .. } | Effect::Reply { .. }));
    assert!(!sim.members.contains_key(&AgentId(1)), "it waits for ever");
}

#[test]
fn ten_subagents_are_alive_at_one_time() {
    fn ten(role: Role, task: &str, turn: u32) -> &'static str {
        match (role, turn) {
            (Role::Orchestrator, 1) => {
                let mut text = String::new();
                for number in 0..10 {
                    text.push_str(&format!(
                        "<task_create>\nagent_type: coder\ntitle: t{number}\ndescription: d\n\
                         auto_launch: false\n</task_create>\n"
                    ));
                }
                let ids: Vec<_> = (1..=10).map(|number| format!("task_{number}")).collect();
                let ids = ids.join(", ");
                text.push_str(&format!(
                    "<launch_parallel_subagents>\ntask_ids: [{ids}]\n</launch_parallel_subagents>"
                ));
                text.leak()
            }
            (Role::Orchestrator, _) => usual(role, task, 3),
            _ => "<report>\ncomments: done\n</report>",
        }
    }
    let mut sim = Sim::new(1, mode(Mode::Stateful), ten);
    sim.pending = sim.conductor.start();
    sim.go_on_without(
        |effect| matches!(effect, Effect::Call { request, .. } if request.key.agent > 0),
    );
    assert_eq!((sim.members.len(), sim.pending.len()), (11, 10), "ten calls at one time");
    sim.go_on_without(|_| false);
    assert_eq!(*sim.end(), AgentEnd::Finished { message: "all done".into() });
}

#[test]
fn nobody_is_launched_when_all_tokens_are_used_up() {
    let settings = TeamSettings { tokens_max: 100, ..TeamSettings::default() };
    let sim = Sim::new(1, settings, usual).run();
    let told = sim.observations(0).join("\n");
    assert!(told.contains("nothing launched: all tokens are used up"), "{told}");
    assert!(sim.calls.iter().all(|key| key.agent == 0), "{:?}", sim.calls);
}

#[test]
fn a_stateless_orchestrator_sees_that_a_task_failed_and_what_came_of_turns_without_answer() {
    fn never(role: Role, task: &str, turn: u32) -> &'static str {
        if role == Role::Orchestrator { usual(role, task, turn) } else { "" }
    }
    let settings = TeamSettings { restarts_max: 0, mode: Mode::Stateless, ..Default::default() };
    let mut sim = Sim::new(1, settings, never);
    sim.fail_call = Some((call(0, 2), CallFailure::ContextOverflow));
    sim.pending = sim.conductor.start();
    sim.go_on_without(|effect| matches!(effect, Effect::Spawn { agent: AgentId(1), .. }));
    let spawned = sim.pending.pop();
    assert!(matches!(spawned, Some(Effect::Spawn { .. })), "{spawned:?}");
    sim.input(Input::Died { agent: AgentId(1), life: 1, reason: "at its start".into() });
    sim.go_on_without(|_| false);
    let [.., before, last] = &sim.prompts[..] else { panic!("{:?}", sim.prompts) };
    for prompt in [before, last] {
        assert!(prompt.contains("- task_1: left (explorer): failed"), "{prompt}");
        assert!(prompt.contains("task_2 ended without a report (no actions)"), "{prompt}");
    }
    assert!(last.contains("no longer fits the model's context window"), "{last}");
}

#[test]
fn a_step_of_a_few_seconds_ends_within_them_and_not_by_its_clock() {
    for seconds in [5, 20] {
        let limit = Duration::from_secs(seconds);
        let mut sim = Sim::new(1, mode(Mode::Stateful), usual);
        sim.limit(limit);
        sim.tick = limit / 50;
        let sim = sim.run();
        let by = ForcedBy::DeadlineNear;
        assert_eq!(*sim.end(), AgentEnd::Forced { by, message: "all done".into() });
        assert!(sim.now < limit, "{:?}", sim.now);
    }
}

#[test]
fn a_team_is_told_what_it_has_left_of_its_tokens_when_that_is_little() {
    let left = |tokens_max| {
        let settings = TeamSettings { tokens_max, ..TeamSettings::default() };
        let sim = Sim::new(1, settings, usual).run();
        sim.observations(0).join("\n").contains("tokens left for the team]")
    };
    assert!(left(100_000) && !left(1_000_000));
}

#[test]
fn each_rung_of_the_ladder_asks_once_more_and_then_writes_the_end() {
    /// No action of an orchestrator's.
    fn commands(_: Role, _: &str, _: u32) -> &'static str {
        "<bash>\ncmd: ls\n</bash>"
    }
    fn busy(_: Role, _: &str, _: u32) -> &'static str {
        "<add_context>\nid: a\ncontent: b\n</add_context>"
    }
    let bounds = TeamSettings::default();
    let (few_turns, few_tokens) = (
        TeamSettings { orchestrator_turns_max: 2, ..bounds.clone() },
        TeamSettings { tokens_max: 200, ..bounds.clone() },
    );
    let rungs: [(TeamSettings, Script, ForcedBy, u32); 3] = [
        (bounds, commands, ForcedBy::ParseErrors, 3),
        (few_turns, busy, ForcedBy::TurnsUsedUp, 2),
        (few_tokens, busy, ForcedBy::TokensUsedUp, 2),
    ];
    for (settings, script, by, free) in rungs {
        let sim = Sim::new(1, settings, script).run();
        assert!(matches!(sim.end(), AgentEnd::Synthetic { by: found, .. } if *found == by));
        let asked: Vec<_> = sim
            .record()
            .iter()
            .filter_map(|entry| match &entry.event {
                Event::Asked { turn, forced, .. } => Some((*turn, *forced)),
                _ => None,
            })
            .collect();
        let mut expected: Vec<_> = (1..=free).map(|turn| (turn, None)).collect();
        expected.push((free + 1, Some(by)));
        assert_eq!(asked, expected);
        assert!(sim.acted.is_empty(), "an orchestrator has no hands");
    }
}

#[test]
fn a_context_that_is_stored_again_is_a_new_version_and_its_author_is_told() {
    fn again(_: Role, _: &str, turn: u32) -> &'static str {
        match turn {
            1 | 2 => "<add_context>\nid: a\ncontent: b\n</add_context>",
            _ => "<finish>\ndone\n</finish>",
        }
    }
    let told = Sim::new(1, mode(Mode::Stateful), again).run().observations(0);
    assert_eq!(
        told,
        ["stored as `a`", "stored as version 2 of `a`; the one before stays as `a@1`"]
    );
}

#[test]
fn a_refused_task_is_in_no_tree_and_the_refusal_lists_what_exists() {
    fn script(_: Role, _: &str, turn: u32) -> &'static str {
        match turn {
            1 => {
                "<add_context>\nid: plan\ncontent: p\n</add_context>\n<task_create>\n\
                 agent_type: coder\ntitle: t\ndescription: d\ncontext_refs: [plam]\n\
                 </task_create>\n\
                 <launch_subagent>\ntask_id: task_1\n</launch_subagent>"
            }
            _ => "<finish>\nno\n</finish>",
        }
    }
    let sim = Sim::new(1, mode(Mode::Stateful), script).run();
    let told = sim.observations(0);
    assert_eq!(told[0], "stored as `plan`");
    assert_eq!(
        told[1],
        "task not created: `plam` is neither a context nor a task. Contexts that exist: plan. \
         Tasks with contexts: none"
    );
    assert!(told[2].contains("no task `task_1`. Tasks that exist: none"), "{}", told[2]);
}
