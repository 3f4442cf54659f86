//! Records of tests: made by hand, so that what is told of a team can be held against what is known
//! to have happened.

use std::sync::Arc;
use std::time::Duration;

use crate::model::{Answer, Finish, TokenTrace, Usage};
use crate::team::record::{
    AgentEnd, AgentId, Brief, CallFacts, Entry, Event, ForcedBy, Observation, TeamRun,
};
use crate::team::role::Role;

/// Writes a record entry by entry; the clock is set by hand.
#[derive(Debug, Default)]
pub struct Recorder {
    pub now: Duration,
    pub record: Vec<Arc<Entry>>,
}

impl Recorder {
    /// What follows happens at this second.
    pub fn at(&mut self, seconds: f64) -> &mut Self {
        self.now = Duration::from_secs_f64(seconds);
        self
    }

    pub fn put(&mut self, agent: u32, event: Event) -> &mut Self {
        self.record.push(Arc::new(Entry { at: self.now, agent: AgentId(agent), event }));
        self
    }

    pub fn began(&mut self, agent: u32, role: Role, task: &str, title: &str) -> &mut Self {
        let brief = Brief {
            role,
            task: task.to_owned(),
            title: title.to_owned(),
            instruction: format!("Do {title}.").into(),
            max_turns: 8,
            deadline: Duration::from_secs(600),
            tokens_max: 1_000_000,
            contexts: Vec::new(),
            system: format!("You are the {role}.").into(),
            first: format!("Do {title}.").into(),
        };
        self.put(agent, Event::Began(Arc::new(brief)))
    }

    pub fn asked(&mut self, agent: u32, turn: u32, forced: Option<ForcedBy>) -> &mut Self {
        self.put(agent, Event::Asked { turn, forced, snapshot: None })
    }

    /// Its prompt has a thousand tokens a turn, nine tenths of those before out of the cache.
    pub fn answered(&mut self, agent: u32, turn: u32, text: &str, cost: Option<f64>) -> &mut Self {
        let prompt_tokens = 1000 * u64::from(turn);
        let usage = Usage {
            prompt_tokens,
            completion_tokens: 100,
            cached_tokens: (prompt_tokens - 1000) / 10 * 9,
        };
        let answer = Answer {
            text: text.to_owned(),
            reasoning: (turn == 1).then(|| "Let me see.".to_owned()),
            finish: Finish::Stop,
            usage,
            model: "qwen3".to_owned(),
            tokens: None,
        };
        let call = CallFacts { tries: 1, cost_usd: cost, ..CallFacts::default() };
        self.put(agent, Event::Answered { turn, answer: Arc::new(answer), call })
    }

    pub fn acted(
        &mut self,
        agent: u32,
        turn: u32,
        index: usize,
        took_sec: f64,
        observation: Observation,
    ) -> &mut Self {
        let took = Duration::from_secs_f64(took_sec);
        self.put(agent, Event::Acted { turn, index, observation: Arc::new(observation), took })
    }

    pub fn ended(&mut self, agent: u32, end: AgentEnd) -> &mut Self {
        self.put(agent, Event::Ended(end))
    }

    pub fn run(&mut self, end: AgentEnd) -> TeamRun {
        TeamRun { settings: Arc::default(), record: std::mem::take(&mut self.record), end }
    }
}

/// A plain answer.
pub fn answer(text: &str) -> Answer {
    Answer {
        text: text.to_owned(),
        reasoning: None,
        finish: Finish::Stop,
        usage: Usage::default(),
        model: String::new(),
        tokens: None,
    }
}

/// What an agent sees of something that was done.
pub fn seen(text: &str) -> Observation {
    Observation { text: text.to_owned(), done: true, ..Observation::default() }
}

const TWO_AT_ONCE: &str = "<task_create>
agent_type: explorer
title: Look around
description: See what is there.
auto_launch: false
</task_create>
<launch_parallel_subagents>
task_ids: [task_1, task_2]
</launch_parallel_subagents>";

/// An orchestrator that sends an explorer and a coder out side by side, then finishes. The explorer
/// was taken over once, the coder had to be told to end.
pub fn pair() -> TeamRun {
    let mut recorder = Recorder::default();
    let r = &mut recorder;
    r.at(0.0).began(0, Role::Orchestrator, "", "");
    r.asked(0, 1, None).at(2.0).answered(0, 1, TWO_AT_ONCE, Some(0.25));
    r.acted(0, 1, 0, 0.0, seen("task_1 was made"));
    r.began(1, Role::Explorer, "task_1", "Look around").asked(1, 1, None);
    r.began(2, Role::Coder, "task_2", "Write it").asked(2, 1, None);
    r.at(3.0).answered(1, 1, "ls", None).at(3.5).acted(1, 1, 0, 0.5, seen("a.txt"));
    r.asked(1, 2, None).at(4.0).put(1, Event::TakenOver);
    r.at(5.0).answered(1, 2, "It is a.txt.", None);
    r.ended(1, AgentEnd::Finished { message: "It is a.txt.".to_owned() });
    r.at(6.0).answered(2, 1, "write", None).at(7.0).acted(2, 1, 0, 1.0, seen("written"));
    r.asked(2, 2, Some(ForcedBy::TurnsUsedUp)).at(9.0).answered(2, 2, "Written.", None);
    let by = ForcedBy::TurnsUsedUp;
    r.ended(2, AgentEnd::Forced { by, message: "Written.".to_owned() });
    let launched =
        Observation { subagents: vec![AgentId(1), AgentId(2)], ..seen("Both have reported.") };
    r.acted(0, 1, 1, 7.0, launched).asked(0, 2, None);
    r.at(10.0).answered(0, 2, "finish: done", Some(0.5));
    let end = AgentEnd::Finished { message: "done".to_owned() };
    r.ended(0, end.clone()).run(end)
}

/// Tokens of an answer, as servers tell them that training needs.
pub fn tokens() -> TokenTrace {
    TokenTrace {
        prompt_ids: vec![1, 2, 3],
        completion_ids: vec![4, 5],
        logprobs: vec![-0.5, -0.25],
        versions: vec![7, 8],
    }
}
