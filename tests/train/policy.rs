//! A small policy that has learnt a few tasks, half of them wrongly: made once, for all scenarios.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Where tasks and policy are: a folder that is whole.
pub struct Learnt {
    folder: PathBuf,
}

const TEAM: &str = r#"
[agent]
kind = "team"
[team]
prompts = "compact"
[team.roles]
orchestrator = "demo"
explorer = "literal"
coder = "literal"
[models.demo]
kind = "solution"
mistakes = 0.5
known_bad = "near-miss"
[models.literal]
kind = "literal"
"#;

impl Learnt {
    /// Made by whoever comes first; the others wait for it.
    pub fn get() -> Self {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("learnt");
        fs::create_dir_all(&root).unwrap();
        let lock = File::create(root.join("lock")).unwrap();
        lock.lock().unwrap();
        let program = Path::new(env!("CARGO_BIN_EXE_orcapack"));
        let built = fs::metadata(program).unwrap().modified().unwrap();
        let folder = root.join("whole");
        let is_whole =
            fs::metadata(&folder).and_then(|made| made.modified()).is_ok_and(|made| made > built);
        if !is_whole {
            let staged = root.join("staged");
            for old in [&staged, &folder] {
                let _ = fs::remove_dir_all(old);
            }
            fs::create_dir(&staged).unwrap();
            make(&staged);
            fs::rename(&staged, &folder).unwrap();
        }
        Self { folder }
    }

    pub fn tasks(&self) -> PathBuf {
        self.folder.join("tasks")
    }

    pub fn held_out(&self) -> PathBuf {
        self.folder.join("held-out")
    }

    pub fn base(&self) -> PathBuf {
        let checkpoints = fs::read_dir(self.folder.join("runs/warm/checkpoints")).unwrap();
        checkpoints.map(|entry| entry.unwrap().path()).max().unwrap()
    }

    /// A run file: synchronous, two ranks, a few short steps.
    pub fn run_file(&self, to: &Path, more: &str) -> PathBuf {
        let quoted = |path: PathBuf| toml::Value::from(path.to_str().unwrap().to_owned());
        let (tasks, held_out, base) =
            (quoted(self.tasks()), quoted(self.held_out()), quoted(self.base()));
        let text = format!(
            r#"
[run]
dataset = {tasks}
[policy]
base = {base}
[team]
prompts = "compact"
orchestrator_turns_max = 2
orchestrator_answer_tokens_max = 64
[rollouts]
n_attempts = 4
n_concurrent = 8
[sandbox]
driver = "process"
[train]
steps = 6
groups_per_step = 2
max_off_policy_steps = 0
lr = 1e-3
[loss]
kl_coef = 0.0
[ranks]
count = 2
[evaluation]
dataset = {held_out}
every_steps = 3
n_attempts = 2
[checkpoints]
every_steps = 2
keep = 3
{more}"#
        );
        let file = to.join("run.toml");
        fs::write(&file, text).unwrap();
        file
    }
}

pub fn orcapack(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orcapack"));
    command.current_dir(folder).args(arguments).stdin(Stdio::null());
    command
}

/// What a command printed that came to its end.
pub fn ended(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn make(folder: &Path) {
    let run = |arguments: &[&str]| ended(orcapack(folder, arguments).output().unwrap());
    let generate = ["tasks", "generate", "--family", "files", "--difficulty", "easy", "--count"];
    run(&[&generate[..], &["4", "-o", "tasks"]].concat());
    run(&[&generate[..], &["4", "--split", "held-out", "-o", "held-out"]].concat());
    fs::write(folder.join("team.toml"), TEAM).unwrap();
    let demo = ["eval", "-c", "team.toml", "-d", "tasks", "-k", "12", "-n", "8", "-q"];
    run(&[&demo[..], &["--sandbox", "process", "--name", "demo"]].concat());
    let sft = ["sft", "--from", "runs/demo", "--new", "--epochs", "16", "--name", "warm", "-q"];
    let settings = [
        "policy.new.vocab_size=300",
        "policy.new.hidden_size=64",
        "policy.new.intermediate_size=128",
        "policy.new.head_dim=16",
        "data.reward_min=0",
        "data.held_out=0",
        "train.batch_samples=8",
        "train.warmup_steps=10",
        "train.lr=1e-2",
        "checkpoints.keep=1",
    ];
    let settings = settings.iter().flat_map(|setting| ["--set", setting]);
    run(&sft.into_iter().chain(settings).collect::<Vec<_>>());
}
