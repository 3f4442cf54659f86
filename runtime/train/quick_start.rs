//! `orcapack train` without any input: a policy from nothing, and what rewards alone make of it.
//!
//! It is this program's own commands, one after the other, each shown as it can be typed: tasks are
//! generated; a demonstrator solves them, often wrongly on purpose; `sft` teaches a new policy
//! that; `train` goes on from there. What the first three make stays in `RUNS/NAME-parts`, and is
//! made once for each seed.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};

use crate::cli_train::TrainArgs;
use crate::config_layers::Host;
use crate::exit::{Exit, Failure};
use crate::signals::Signals;
use crate::train::io;

/// Tasks to learn from and to measure with.
const TASKS: u32 = 960;
const HELD_OUT: u32 = 200;
/// Steps of `sft`, of 16 samples each: 16 times all that was said.
const WARM_STEPS: u32 = 960;

const DEMO: &str = include_str!("quick_start_demo.toml");
const TRAIN: &str = include_str!("quick_start.toml");

/// Runs all parts that are missing, and then trains.
///
/// # Errors
/// Those of the parts: each has told its own.
pub fn run(args: &TrainArgs, host: &Host) -> Result<Exit, Failure> {
    let parts = Parts::new(args, host)?;
    for part in parts.all() {
        if let Some(exit) = parts.make(&part)? {
            return Ok(exit);
        }
    }
    parts.train(args)
}

/// One command, and what it makes.
struct Part {
    about: &'static str,
    arguments: Vec<String>,
    /// The run that it is, which goes on where it was stopped.
    run: Option<&'static str>,
    /// Is there when all of it is.
    made: PathBuf,
}

struct Parts {
    program: PathBuf,
    folder: PathBuf,
    runs_dir: PathBuf,
    name: String,
    seed: u64,
    sandbox: &'static str,
    is_quiet: bool,
}

impl Parts {
    fn new(args: &TrainArgs, host: &Host) -> Result<Self, Failure> {
        let program = std::env::current_exe().map_err(io)?;
        let seed = args.seed.unwrap_or(0);
        let name = args.run.name.clone().unwrap_or_else(|| match seed {
            0 => "quick-start".to_owned(),
            seed => format!("quick-start-{seed}"),
        });
        let runs_dir = args.run.runs_dir.clone().unwrap_or_else(|| PathBuf::from("runs"));
        let runs_dir = host.working_dir.join(runs_dir);
        let folder = runs_dir.join(format!("quick-start-parts-{seed}"));
        let sandbox = args.sandbox.map_or("process", |sandbox| sandbox.as_str());
        let is_quiet = args.output.quiet || args.output.json;
        Ok(Self { program, folder, runs_dir, name, seed, sandbox, is_quiet })
    }

    fn all(&self) -> [Part; 4] {
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        let at = |name: &str| text(self.folder.join(name));
        let generate = |split: &str, count: u32| {
            let (count, seed) = (count.to_string(), self.seed.to_string());
            let folder = at(split);
            ["tasks", "generate", "--family", "files", "--difficulty", "easy", "--split", split]
                .into_iter()
                .chain(["--count", &count, "--seed", &seed, "-o", &folder])
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let seed = self.seed;
        let demo = [
            "eval".to_owned(),
            "-c".to_owned(),
            at("demo.toml"),
            "-d".to_owned(),
            at("train"),
            "-n".to_owned(),
            "16".to_owned(),
            "--sandbox".to_owned(),
            self.sandbox.to_owned(),
            "--set".to_owned(),
            format!("models.demo.seed={seed}"),
        ];
        let epochs = f64::from(WARM_STEPS) * 16.0 / f64::from(TASKS);
        let warm = [
            "sft".to_owned(),
            "--from".to_owned(),
            at("demo"),
            "--new".to_owned(),
            "--epochs".to_owned(),
            format!("{epochs}"),
        ];
        let settings = [
            "data.reward_min=0".to_owned(),
            "data.held_out=0".to_owned(),
            "train.batch_samples=16".to_owned(),
            "train.warmup_steps=30".to_owned(),
            format!("train.seed={seed}"),
            format!("policy.new.seed={seed}"),
        ];
        let settings = settings.into_iter().flat_map(|it| ["--set".to_owned(), it]);
        [
            Part {
                about: "tasks to learn from",
                arguments: generate("train", TASKS),
                run: None,
                made: self.folder.join("train"),
            },
            Part {
                about: "tasks to measure with, which have nothing in common with those",
                arguments: generate("held-out", HELD_OUT),
                run: None,
                made: self.folder.join("held-out"),
            },
            Part {
                about: "a demonstrator solves the tasks, half of them wrongly on purpose",
                arguments: demo.into_iter().collect(),
                run: Some("demo"),
                made: self.folder.join("demo").join("report.html"),
            },
            Part {
                about: "a small policy learns what the demonstrator said, mistakes included",
                arguments: warm.into_iter().chain(settings).collect(),
                run: Some("warm"),
                made: self.warm(),
            },
        ]
    }

    /// The policy that training begins with.
    fn warm(&self) -> PathBuf {
        self.folder.join(format!("warm/checkpoints/step_{WARM_STEPS}"))
    }

    /// Unless it is there already. An exit code where it did not come to its end.
    fn make(&self, part: &Part) -> Result<Option<Exit>, Failure> {
        if part.made.exists() {
            return Ok(None);
        }
        fs::create_dir_all(&self.folder).map_err(io)?;
        fs::write(self.folder.join("demo.toml"), DEMO).map_err(io)?;
        let mut arguments = part.arguments.clone();
        if let Some(run) = part.run {
            let runs_dir = self.folder.to_string_lossy().into_owned();
            arguments.extend([
                "--name".to_owned(),
                run.to_owned(),
                "--runs-dir".to_owned(),
                runs_dir,
            ]);
            // Of its own kind only: what is there otherwise was made by other settings.
            let is_begun = self.folder.join(run).is_dir();
            arguments.extend(is_begun.then(|| "--clean".to_owned()));
            arguments.extend(self.is_quiet.then(|| "-q".to_owned()));
        }
        self.say(part.about, &arguments);
        let ended = self.spawn(&arguments, Stdio::null())?;
        match ended.code() {
            Some(0) => Ok(None),
            Some(code) if code == i32::from(Exit::Interrupted.code()) => {
                Ok(Some(Exit::Interrupted))
            }
            _ => {
                let message = format!("`orcapack {}` has failed", arguments[0]);
                Err(Failure::new(Exit::of_code(ended.code()), message))
            }
        }
    }

    fn train(&self, args: &TrainArgs) -> Result<Exit, Failure> {
        let config = self.folder.join("train.toml");
        let quoted =
            |path: PathBuf| toml::Value::from(path.to_string_lossy().into_owned()).to_string();
        let text = TRAIN
            .replace("@TRAIN@", &quoted(self.folder.join("train")))
            .replace("@HELD_OUT@", &quoted(self.folder.join("held-out")))
            .replace("@BASE@", &quoted(self.warm()))
            .replace("@SEED@", &self.seed.to_string());
        fs::write(&config, text).map_err(io)?;
        let mut arguments: Vec<String> = ["train", "-c"].map(str::to_owned).into();
        arguments.push(config.to_string_lossy().into_owned());
        let mut option = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                arguments.extend([name.to_owned(), value]);
            }
        };
        option("--name", Some(self.name.clone()));
        option("--runs-dir", Some(self.runs_dir.to_string_lossy().into_owned()));
        option("--sandbox", Some(self.sandbox.to_owned()));
        option("--steps", args.steps.map(|steps| steps.to_string()));
        option("-n", args.n_concurrent.map(|n| n.to_string()));
        for setting in &args.run.set {
            option("--set", Some(setting.clone()));
        }
        let flags = [
            ("--clean", args.run.clean),
            ("--dry-run", args.run.dry_run),
            ("--json", args.output.json),
            ("-q", args.output.quiet),
        ];
        let given = flags.into_iter().filter(|(_, is_given)| *is_given);
        arguments.extend(given.map(|(flag, _)| flag.to_owned()));
        arguments.extend((0..args.output.verbose).map(|_| "-v".to_owned()));
        self.say("training on rewards alone", &arguments);
        let ended = self.spawn(&arguments, Stdio::inherit())?;
        Ok(Exit::of_code(ended.code()))
    }

    fn say(&self, about: &str, arguments: &[String]) {
        if !self.is_quiet {
            eprintln!("\n== {about}\n$ orcapack {}", arguments.join(" "));
        }
    }

    /// Waits for its end. A signal goes to it as well; how it ends then is its own affair.
    fn spawn(&self, arguments: &[String], stdout: Stdio) -> Result<ExitStatus, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let _deaf = runtime.map_err(io)?.block_on(async { Signals::listen() })?;
        let mut child = Command::new(&self.program);
        child.args(arguments).stdout(stdout).status().map_err(io)
    }
}
