//! What a model is to write, judged before anything starts: its endpoints, its bounds, and the
//! tasks that none of its own may be like.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use orcapack_actors::model::settings::EndpointSettings;
use orcapack_actors::model::{Model, connect};
use orcapack_tasks::authoring::Author;
use orcapack_tasks::authoring::wish::Wishes;
use orcapack_tasks::similarity::{Library, SIMILARITY_MAX, Text};
use orcapack_tasks::toml_doc::TomlDoc;
use orcapack_tasks::{Defect, Defects, Task};

use crate::cli::RunArgs;
use crate::cli_generate::{GenerateArgs, WritingArgs};
use crate::config::{EvalConfig, SelectConfig};
use crate::config_layers::{self, Host, given, path_value};
use crate::config_team::MODEL_MAIN;
use crate::embedded::Engines;
use crate::exit::Failure;
use crate::generate::journal::JOURNAL;
use crate::secrets::Variables;
use crate::{tasks_command, team_plan};

/// A solution is a script: one that takes longer is stuck.
const SOLUTION_LIMIT: Duration = Duration::from_secs(120);
const ROUNDS_MAX: u32 = 5;
const ANSWER_TOKENS_MAX: u32 = 16_384;
const CONCURRENT_MAX: u16 = 4;

/// Everything that is needed, and fits together.
pub struct Plan {
    pub output: PathBuf,
    /// Tasks that are wanted.
    pub count: u32,
    pub ideas_max: u32,
    pub rounds_max: u32,
    pub concurrent_max: usize,
    pub answer_tokens_max: u32,
    pub tokens_max: Option<u64>,
    pub wishes: Wishes,
    /// How tasks are tried.
    pub config: EvalConfig,
    /// Each once.
    pub endpoints: Vec<(EndpointSettings, Arc<dyn Model>)>,
    /// The name of each author's endpoint.
    pub names: [String; 3],
    /// Those that are given.
    pub against: Vec<Task>,
    pub similarity_max: f64,
}

impl Plan {
    /// # Errors
    /// Everything that is wrong with the configuration, a model, the topics, or a data set.
    pub fn make(args: &GenerateArgs, model: &str, host: &Host) -> Result<Self, Failure> {
        let writing = &args.writing;
        let similarity_max = writing.similarity_max.unwrap_or(SIMILARITY_MAX);
        if !(0.0..=1.0).contains(&similarity_max) {
            let place = Path::new("--similarity-max");
            let defect = Defect::new(place, "a number from 0 to 1", similarity_max.to_string());
            return Err(Defects::from(defect).into());
        }
        let (config, settings, names) = models(args, model, host)?;
        let wishes = wishes(args)?;
        let engines = Engines::default();
        let connected = settings.into_iter().map(|settings| {
            let model = connect::connect(&settings, &engines)?;
            Ok((settings, model))
        });
        Ok(Self {
            output: args.output.clone(),
            count: args.count,
            ideas_max: writing.ideas_max.unwrap_or(args.count.saturating_mul(2)),
            rounds_max: writing.patch_rounds.unwrap_or(ROUNDS_MAX),
            concurrent_max: writing.n_concurrent.unwrap_or(CONCURRENT_MAX).into(),
            answer_tokens_max: writing.answer_tokens_max.unwrap_or(ANSWER_TOKENS_MAX),
            tokens_max: writing.tokens_max,
            wishes,
            config,
            endpoints: connected.collect::<Result<_, Failure>>()?,
            names,
            against: against(&writing.against)?,
            similarity_max,
        })
    }

    /// What no task may be like, without any of its own yet.
    pub fn library(&self) -> Library {
        let mut library = Library::new(self.similarity_max);
        for author in Author::ALL {
            library.pass_over(author.system());
        }
        for task in &self.against {
            let instructions: Vec<&str> =
                task.steps.iter().map(|step| step.instruction.as_str()).collect();
            let instruction = instructions.join("\n");
            let tests = tests(task);
            library.add_benchmark(Text {
                name: &task.name,
                instruction: &instruction,
                tests: &tests,
            });
        }
        library
    }

    /// The endpoint that an author asks.
    pub fn name_of(&self, author: Author) -> &str {
        &self.names[author as usize]
    }
}

/// The configuration layers are `eval`'s. `[models.main]` plays all parts that have no model of
/// their own.
fn models(
    args: &GenerateArgs,
    model: &str,
    host: &Host,
) -> Result<(EvalConfig, Vec<EndpointSettings>, [String; 3]), Failure> {
    let WritingArgs { idea_model, builder_model, reviewer_model, .. } = &args.writing;
    let run = RunArgs {
        config: args.writing.config.clone(),
        set: args.writing.set.clone(),
        ..RunArgs::default()
    };
    let flags = given([
        ("--output", "run.dataset", Some(path_value(&args.output))),
        ("--sandbox", "sandbox.driver", args.writing.sandbox.map(|it| it.as_str().into())),
    ]);
    let mut doc = config_layers::layered(&run, flags)?;
    let named = [
        ("--from-model", MODEL_MAIN, Some(model)),
        ("--idea-model", Author::Idea.as_str(), idea_model.as_deref()),
        ("--builder-model", Author::Builder.as_str(), builder_model.as_deref()),
        ("--reviewer-model", Author::Reviewer.as_str(), reviewer_model.as_deref()),
    ];
    let mut defects = Vec::new();
    for (flag, name, text) in named {
        if let Some(text) = text {
            defects.extend(name_model(&mut doc, flag, name, text).err());
        }
    }
    Defects(defects).into_result(())?;
    let base = EvalConfig::defaults(host.cpus, host.cache_dir.clone());
    let mut config = EvalConfig::of(&doc.root(), base);
    config_layers::complete(&mut config, host);
    config.timeouts.agent = config.timeouts.agent.or(Some(SOLUTION_LIMIT));
    // A model's Dockerfile that cannot be built will not be built the next time.
    config.retries.image = 0;
    let names = Author::ALL.map(|author| {
        let own = config.models.contains_key(author.as_str());
        if own { author.as_str().to_owned() } else { MODEL_MAIN.to_owned() }
    });
    let endpoints = endpoints(&doc, &config, &names, host.variables);
    Ok(doc.finish((config, endpoints, names))?)
}

/// A flag says which model a part has, unless the configuration does.
fn name_model(doc: &mut TomlDoc, flag: &'static str, name: &str, text: &str) -> Result<(), Defect> {
    if doc.root().section("models").section(name).has("kind") {
        let expected = format!("no kind in [models.{name}] beside it");
        return Err(Defect::new(Path::new(flag), expected, format!("`{text}`")));
    }
    config_layers::name_model(doc, flag, name, text)
}

/// Those that are named, each once. Faults are told to the document.
fn endpoints(
    doc: &TomlDoc,
    config: &EvalConfig,
    names: &[String; 3],
    variables: Variables,
) -> Vec<EndpointSettings> {
    let models = doc.root().section("models");
    let mut endpoints: Vec<EndpointSettings> = Vec::new();
    for name in names {
        // A table that is there but faulty has been told so.
        let Some(model) = config.models.get(name) else { continue };
        if endpoints.iter().any(|endpoint| endpoint.name == *name) {
            continue;
        }
        let section = models.section(name);
        let mut model = model.clone();
        if let Some(run) = &mut model.run {
            // The folder of tasks that were written, or its journal, or a file like it.
            if run.is_dir() {
                run.push(JOURNAL);
            }
            if !run.is_file() {
                let found = format!("no file {}", run.display());
                section.refuse("run", "a folder of tasks that a model wrote", found);
                continue;
            }
        }
        let endpoint = team_plan::endpoint(&section, name, &model, variables);
        let endpoint = endpoint.filter(|endpoint| {
            let policy = endpoint.policy.as_ref();
            policy.is_none_or(|policy| team_plan::bounds_agree(&section, policy, &endpoints))
        });
        endpoints.extend(endpoint);
    }
    endpoints
}

fn wishes(args: &GenerateArgs) -> Result<Wishes, Failure> {
    let Some(file) = &args.writing.topics else {
        return Ok(Wishes::new(None, args.difficulty, args.seed)?);
    };
    let text = fs::read_to_string(file)
        .map_err(|error| Defects::from(Defect::new(file, "a readable file", error.to_string())))?;
    Ok(Wishes::new(Some((file, &text)), args.difficulty, args.seed)?)
}

/// The tasks of data sets, as far as they can be read.
fn against(paths: &[PathBuf]) -> Result<Vec<Task>, Failure> {
    let mut tasks = Vec::new();
    for path in paths {
        let set = tasks_command::load(path, &SelectConfig::default())?;
        if set.tasks.is_empty() {
            return Err(Failure::bad_input(tasks_command::defects_text(&set.defects)));
        }
        if !set.defects.is_empty() {
            let defects = tasks_command::defects_text(&set.defects);
            eprintln!("warning: of {}, nothing is compared with these: {defects}", path.display());
        }
        tasks.extend(set.tasks);
    }
    Ok(tasks)
}

/// The files of a task's tests that are text.
fn tests(task: &Task) -> Vec<String> {
    let files = task.steps.iter().flat_map(|step| step.verifier.tests.iter());
    let texts = files.filter_map(|(_, entry)| String::from_utf8(entry.read().ok()?.to_vec()).ok());
    texts.collect()
}
