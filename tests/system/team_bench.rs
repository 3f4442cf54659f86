//! Teams of the real program, asked of real servers of the models' protocols.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use orcapack_tasks::trajectory::{Source, Step, Trajectory};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::anthropic_server;
use crate::http_server::{Asked, HttpServer};
use crate::openai_server;
use crate::program::{Ended, World};

/// Of the account: nothing of the run may show it.
pub const KEY: &str = "sk-of-the-account-4711";
/// In the program's environment, and in those of the tasks.
pub const SECRETS: [&str; 2] = ["tok-of-the-shell-4712", "tok-of-the-task-4713"];

/// A model's server, which stops when this is dropped.
pub struct Served {
    pub server: HttpServer,
    kind: &'static str,
    /// Runs the server.
    _runtime: Runtime,
}

impl Served {
    /// `reply` is told the request's messages.
    pub fn openai(reply: impl Fn(&Value) -> openai_server::Reply + Send + Sync + 'static) -> Self {
        let runtime = Runtime::new().unwrap();
        let server = runtime.block_on(openai_server::start(reply));
        Self { server, kind: "openai", _runtime: runtime }
    }

    pub fn anthropic(
        reply: impl Fn(&Value) -> anthropic_server::Reply + Send + Sync + 'static,
    ) -> Self {
        let runtime = Runtime::new().unwrap();
        let server = runtime.block_on(anthropic_server::start(reply));
        Self { server, kind: "anthropic", _runtime: runtime }
    }

    /// The table of a model that is asked there, to be followed by more of its keys.
    pub fn model(&self, name: &str) -> String {
        format!(
            "[models.{name}]\nkind = \"{}\"\nmodel = \"scripted\"\nurl = \"{}/v1\"\n\
             api_key = \"${{TEAM_KEY}}\"\n",
            self.kind, self.server.url
        )
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.server.asked()
    }
}

/// Runs a team by a configuration of its models.
pub fn run(world: &World, config: &str, args: &[&str]) -> Ended {
    fs::write(world.path("team.toml"), format!("agent.kind = \"team\"\n{config}")).unwrap();
    let env = [("TEAM_KEY", KEY), ("SHELL_TOKEN", SECRETS[0]), ("NO_PROXY", "127.0.0.1")];
    world.start_with(&env, &[&["-c", "team.toml"], args].concat()).end()
}

/// The trajectory of a rollout's attempt.
pub fn trajectory(world: &World, rollout: u32, attempt: u32) -> Trajectory {
    let file = world.run(&format!("trajectories/{rollout}.{attempt}.json"));
    Trajectory::from_json(&file, &fs::read(&file).unwrap()).unwrap()
}

/// An orchestrator's trajectory and its subagents'.
pub fn agents(root: &Trajectory) -> Vec<&Trajectory> {
    std::iter::once(root).chain(&root.subagent_trajectories).collect()
}

/// What a model said in an agent's trajectory, in order.
pub fn answers(trajectory: &Trajectory) -> Vec<&Step> {
    let of_model = |step: &&Step| step.source == Source::Agent && step.metrics.is_some();
    trajectory.steps.iter().filter(of_model).collect()
}

/// Every action that was done, as `ROLE TAG` and what tells those of one tag apart; those that end
/// an agent, which nothing comes of, too.
pub fn done(trajectory: &Trajectory, role: &str) -> BTreeSet<String> {
    let mut done = BTreeSet::new();
    for step in answers(trajectory) {
        let results = step.observation.iter().flat_map(|observed| &observed.results);
        let results: Vec<_> = results
            .filter(|result| result.extra.as_ref().is_some_and(|extra| extra["done"] == true))
            .filter_map(|result| result.source_call_id.as_deref())
            .collect();
        for call in &step.tool_calls {
            let ends = ["finish", "report"].contains(&call.function_name.as_str());
            if ends || results.contains(&call.tool_call_id.as_str()) {
                let kind = call.arguments.get("action").and_then(Value::as_str);
                let waits = call.arguments.get("block").or(call.arguments.get("auto_launch"));
                let waits = waits.filter(|value| **value == false).map(|_| "later");
                let words = [Some(role), Some(&*call.function_name), kind, waits];
                done.insert(words.into_iter().flatten().collect::<Vec<_>>().join(" "));
            }
        }
    }
    done
}

/// The files below a folder in which a text stands.
pub fn files_with(folder: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files_with(&path, text));
        } else {
            let bytes = fs::read(&path).unwrap();
            if bytes.windows(text.len()).any(|window| window == text.as_bytes()) {
                found.push(path.display().to_string());
            }
        }
    }
    found
}
