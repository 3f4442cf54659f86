//! A policy that is served, in the protocol of vLLM, leads teams as it does within the process.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Stdio;

use orcapack_tasks::trajectory::{Source, Trajectory};

use crate::policy::{Learnt, ended, orcapack};

const TEAM: &str = r#"
[agent]
kind = "team"
[team]
prompts = "compact"
orchestrator_turns_max = 2
orchestrator_answer_tokens_max = 64
[team.roles]
orchestrator = "policy"
explorer = "literal"
coder = "literal"
[models.literal]
kind = "literal"
[models.policy]
temperature = 1.0
seed = 5
"#;

/// What the orchestrators of a run sampled, token by token, by rollout.
fn sampled(folder: &Path, run: &str) -> BTreeMap<String, Vec<Vec<u32>>> {
    let files = fs::read_dir(folder.join("runs").join(run).join("trajectories")).unwrap();
    let read = files.map(|entry| {
        let path = entry.unwrap().path();
        let trajectory = Trajectory::from_json(&path, &fs::read(&path).unwrap()).unwrap();
        let steps = trajectory.steps.into_iter().filter(|step| step.source == Source::Agent);
        let ids = steps.map(|step| step.metrics.unwrap().completion_token_ids.unwrap()).collect();
        (path.file_name().unwrap().to_string_lossy().into_owned(), ids)
    });
    read.collect()
}

#[test]
fn a_served_policy_leads_as_the_embedded_one_token_by_token() {
    let (learnt, folder) = (Learnt::get(), tempfile::tempdir().unwrap());
    let folder = folder.path();
    fs::write(folder.join("team.toml"), TEAM).unwrap();
    let (base, tasks) = (learnt.base(), learnt.tasks());
    let (base, tasks) = (base.to_str().unwrap(), tasks.to_str().unwrap());
    let serve = ["serve", base, "--name", "small", "--listen", "127.0.0.1:0"];
    let mut server = orcapack(folder, &serve).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let at = line.split_whitespace().find(|word| word.starts_with("http://")).unwrap();
    let url = format!("models.policy.url={}", at.trim_end_matches(':'));
    let eval = |name: &str, model: &[&str]| {
        let run = ["eval", "-c", "team.toml", "-d", tasks, "-k", "4", "-n", "8", "-q"];
        let named = ["--sandbox", "process", "--name", name];
        let model = model.iter().flat_map(|setting| ["--set", setting]);
        let words: Vec<&str> = run.into_iter().chain(named).chain(model).collect();
        orcapack(folder, &words).output().unwrap()
    };
    let served = eval("served", &["models.policy.kind=vllm", "models.policy.model=small", &url]);
    server.kill().unwrap();
    server.wait().unwrap();
    ended(served);
    let checkpoint = format!("models.policy.checkpoint={base}");
    ended(eval("embedded", &["models.policy.kind=embedded", &checkpoint]));
    let (served, embedded) = (sampled(folder, "served"), sampled(folder, "embedded"));
    assert_eq!(served.len(), 16);
    assert_eq!(served, embedded);
}
