//! Harbor task directories, the native format (schema 1.0 to 1.4), with one step or several.
//!
//! Read as Harbor 0.25 reads them, but strictly: an unknown key is refused, and so is what cannot
//! be run here. One extension of our own: `known-bad/NAME.sh` are wrong solutions, which admission
//! demands to fail.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use crate::caps::{INSTRUCTION_BYTES_MAX, TASK_CONFIG_BYTES_MAX};
use crate::defect::Defects;
use crate::env_template::Lookup;
use crate::file_tree::{Digest, FileTree};
use crate::folder::TaskFolder;
use crate::harbor_environment::{TIMEOUT_SEC, env, environment, healthcheck, phase_network};
use crate::harbor_verifier::{all, only_main_service, verifier};
use crate::task::{
    AgentSpec, EnvironmentSpec, Format, NetworkPolicy, RewardStrategy, Solution, Step, Task,
};
use crate::task_digest;
use crate::toml_doc::TomlDoc;
use crate::toml_section::{Section, StringOrSection};

pub const CONFIG_FILE: &str = "task.toml";
/// The one that is written.
pub const SCHEMA_VERSION: &str = "1.4";
const SCHEMA_VERSIONS: [(&str, ()); 5] =
    [("1.0", ()), ("1.1", ()), ("1.2", ()), ("1.3", ()), ("1.4", ())];
/// Where a task gives none. Harbor has no default of its own: it waits for ever.
const AGENT_TIMEOUT: Duration = Duration::from_secs(600);

/// Reads a task's directory; `lookup` gives the values of `${VAR}` in its environment variables.
pub fn read(dir: &Path, lookup: Lookup<'_>) -> Result<Task, Defects> {
    let mut folder = TaskFolder::new(dir);
    let Some(text) = folder.text(CONFIG_FILE, TASK_CONFIG_BYTES_MAX) else {
        return Err(folder.into_defects());
    };
    let doc = TomlDoc::parse(&folder.path(CONFIG_FILE), &text)?;
    let task = Reader { folder: &mut folder, root: doc.root(), lookup }.task(dir);
    if let Err(defects) = doc.finish(()) {
        folder.append(defects);
    }
    folder.into_defects().into_result(task)
}

struct Reader<'d, 'f> {
    folder: &'f mut TaskFolder,
    root: Section<'d>,
    lookup: Lookup<'f>,
}

/// The task's own tables, which a step's tables go over key by key.
struct Base<'d> {
    agent: Section<'d>,
    verifier: Section<'d>,
    tests: FileTree,
    artifacts: Vec<String>,
    environment: EnvironmentSpec,
}

impl<'d> Reader<'d, '_> {
    fn task(&mut self, dir: &Path) -> Task {
        let root = self.root.clone();
        self.schema_version();
        root.opt_string("source");
        let about = root.section("task");
        let metadata = root.section("metadata");
        metadata.allow_any_but(&["orcapack"]);
        let mut tags = metadata.strings("tags");
        tags.extend(about.strings("keywords"));
        let mut seen = BTreeSet::new();
        tags.retain(|tag| seen.insert(tag.clone()));
        let context = self.folder.tree("environment");
        let environment =
            environment(&root.section("environment"), context, "environment", self.lookup);
        let reward_strategy = root.opt_one_of(
            "multi_step_reward_strategy",
            &[("mean", RewardStrategy::Mean), ("final", RewardStrategy::Final)],
        );
        let base = Base {
            agent: root.section("agent"),
            verifier: root.section("verifier"),
            tests: self.folder.tree("tests"),
            artifacts: artifacts(&root),
            environment,
        };
        let steps = self.steps(&base);
        let mut task = Task {
            name: self.name(&about, dir),
            source: dir.to_owned(),
            format: Format::Harbor,
            digest: Digest([0; 32]),
            description: about.string_or("description", ""),
            difficulty: metadata.opt_string("difficulty"),
            category: metadata.opt_string("category"),
            tags,
            environment: base.environment,
            steps,
            reward_strategy: reward_strategy.unwrap_or(RewardStrategy::Mean),
            known_bad: self.known_bad(),
            keep_processes: metadata.section("orcapack").bool_or("keep_processes", false),
        };
        task.digest = task_digest::of(&task);
        task
    }

    fn schema_version(&self) {
        // Files older than the key's present name say `version`.
        let key = if self.root.has("version") { "version" } else { "schema_version" };
        self.root.opt_one_of(key, &SCHEMA_VERSIONS);
    }

    fn name(&mut self, about: &Section<'_>, dir: &Path) -> String {
        about.opt_string("version");
        for author in about.sections("authors") {
            author.string("name");
            author.opt_string("email");
        }
        if let Some(name) = about.opt_string("name") {
            let part = |part: &str| {
                !part.is_empty()
                    && !part.starts_with('.')
                    && !part.contains("..")
                    && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
            };
            if !name.split_once('/').is_some_and(|(org, short)| part(org) && part(short)) {
                about.refuse(
                    "name",
                    "org/name of letters, digits, `-`, `_`, `.`",
                    format!("{name:?}"),
                );
            }
            return name;
        }
        folder_name(dir).unwrap_or_else(|| {
            self.folder.report("", "a folder whose name is UTF-8", format!("{dir:?}"));
            String::new()
        })
    }

    fn steps(&mut self, base: &Base<'d>) -> Vec<Step> {
        let sections = self.root.sections("steps");
        if sections.is_empty() {
            if self.folder.has("steps") {
                self.root.refuse("steps", "a [[steps]] table for each folder of steps/", "none");
            }
            return vec![self.step(base, None)];
        }
        let mut names = BTreeSet::new();
        let mut steps = Vec::new();
        for section in sections {
            let name = section.string("name");
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if name.is_empty() {
                continue;
            }
            if name.starts_with('.') || !name.chars().all(plain) {
                section.refuse("name", "the name of a folder of steps/", format!("{name:?}"));
            } else if !names.insert(name.clone()) {
                section.refuse("name", "a name that no other step has", format!("{name:?}"));
            } else {
                steps.push(self.step(base, Some((&name, section))));
            }
        }
        steps
    }

    /// One step of several, or the only one.
    fn step(&mut self, base: &Base<'d>, of: Option<(&str, Section<'d>)>) -> Step {
        let prefix = of.as_ref().map(|(name, _)| format!("steps/{name}/")).unwrap_or_default();
        let (mut agents, mut verifiers) = (vec![base.agent.clone()], vec![base.verifier.clone()]);
        let mut tests = base.tests.clone();
        let mut kept = base.artifacts.clone();
        if let Some((_, section)) = &of {
            agents.insert(0, section.section("agent"));
            verifiers.insert(0, section.section("verifier"));
            // As in Harbor, a step's own tests go over the task's, file by file.
            tests.overlay(&self.folder.tree(&format!("{prefix}tests")));
            kept.extend(artifacts(section));
        }
        let script = format!("{prefix}tests/test.sh");
        if !self.folder.has(&script) && !self.folder.has("tests/test.sh") {
            self.folder.report(&script, "the script that grades", "nothing");
        }
        Step {
            name: of.as_ref().map(|(name, _)| (*name).to_owned()).unwrap_or_default(),
            instruction: self.instruction(&format!("{prefix}instruction.md")),
            agent: agent(&agents, base.environment.network),
            verifier: verifier(&verifiers, &base.environment, tests, self.lookup),
            solution: self.solution(&format!("{prefix}solution")),
            workdir_files: if of.is_some() {
                self.folder.tree(&format!("{prefix}workdir"))
            } else {
                FileTree::default()
            },
            healthcheck: of
                .as_ref()
                .and_then(|(_, section)| section.opt_section("healthcheck"))
                .map(|section| healthcheck(&section)),
            min_reward: of.as_ref().and_then(|(_, section)| min_reward(section)),
            artifacts: kept,
        }
    }

    fn instruction(&mut self, path: &str) -> String {
        let text = self.folder.text(path, INSTRUCTION_BYTES_MAX);
        if text.as_ref().is_some_and(|text| text.trim().is_empty()) {
            self.folder.report(path, "an instruction", "an empty file");
        }
        text.unwrap_or_default()
    }

    fn solution(&mut self, path: &str) -> Option<Solution> {
        let env = env(&self.root.section("solution"), self.lookup);
        if !self.folder.has(path) {
            return None;
        }
        let files = self.folder.tree(path);
        let script = format!("{path}/solve.sh");
        if !self.folder.has(&script) {
            self.folder.report(&script, "the script that solves it", "nothing");
        }
        Some(Solution { files, env })
    }

    fn known_bad(&mut self) -> Vec<(String, FileTree)> {
        let mut known_bad = Vec::new();
        for (path, entry) in self.folder.tree("known-bad").iter() {
            match path.strip_suffix(".sh").filter(|name| !name.is_empty() && !name.contains('/')) {
                Some(name) => {
                    let mut files = FileTree::default();
                    files.insert_entry("solve.sh", entry.clone());
                    known_bad.push((name.to_owned(), files));
                }
                None => {
                    let path = format!("known-bad/{path}");
                    self.folder.report(&path, "wrong solutions by the name of NAME.sh", "a file");
                }
            }
        }
        known_bad
    }
}

/// The name of a task that gives none itself.
pub(crate) fn folder_name(dir: &Path) -> Option<String> {
    // `.` and `..` have no name of their own.
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    Some(dir.file_name()?.to_str()?.to_owned())
}

fn agent(sections: &[Section<'_>], network: NetworkPolicy) -> AgentSpec {
    sections.iter().for_each(|section| phase_network(section, network));
    let timeout = all(sections, |section| section.opt_duration_sec("timeout_sec", TIMEOUT_SEC));
    AgentSpec {
        timeout: timeout.unwrap_or(AGENT_TIMEOUT),
        user: all(sections, |section| section.opt_name_or_id("user")),
    }
}

fn artifacts(section: &Section<'_>) -> Vec<String> {
    let source = |item| match item {
        StringOrSection::String(source) => source,
        StringOrSection::Section(item) => {
            only_main_service(&item);
            for key in ["destination", "exclude"] {
                if item.has(key) {
                    item.refuse(
                        key,
                        "none, as artifacts are kept whole and under their own paths",
                        "one",
                    );
                    item.allow_any_of(key);
                }
            }
            item.string("source")
        }
    };
    let sources: Vec<String> =
        section.strings_or_sections("artifacts").into_iter().map(source).collect();
    for source in &sources {
        if source.is_empty() || source.contains('\0') || source.split('/').any(|part| part == "..")
        {
            section.refuse(
                "artifacts",
                "paths in the environment, without `..`",
                format!("{source:?}"),
            );
        }
    }
    sources
}

/// A number, or Harbor's table of thresholds by key, of which we grade `reward` alone.
fn min_reward(section: &Section<'_>) -> Option<f64> {
    let all_numbers = f64::NEG_INFINITY..=f64::INFINITY;
    if section.is_table("min_reward") {
        return section.section("min_reward").opt_f64("reward", all_numbers);
    }
    section.opt_f64("min_reward", all_numbers)
}

#[cfg(test)]
#[path = "harbor_tests.rs"]
mod tests;
