//! `orcapack tasks list` and `tasks import`, which need no environment.

use std::path::Path;

use orcapack_tasks::dataset::{self, DataSet, LoadOptions};
use orcapack_tasks::select::Selection;
use orcapack_tasks::task::{Format, ImageSource};
use orcapack_tasks::{Defects, Task, import};
use serde::Serialize;

use crate::cli::{ImportArgs, SelectArgs};
use crate::config::SelectConfig;
use crate::exit::{Exit, Failure};
use crate::output;

/// The tasks under `path` that are selected, sorted by name, and the defects of the others.
///
/// # Errors
/// The data set as a whole cannot be read, or the selection selects nothing.
pub fn load(path: &Path, select: &SelectConfig) -> Result<DataSet, Defects> {
    let options = LoadOptions { lookup: &|name| std::env::var(name).ok() };
    let mut set = dataset::load(path, &options)?;
    // Where no task is good, its defects say more than an empty selection.
    if !set.tasks.is_empty() {
        set.tasks = selection(select).apply(set.tasks, path)?;
    }
    Ok(set)
}

fn selection(select: &SelectConfig) -> Selection {
    Selection {
        include: select.include.clone(),
        exclude: select.exclude.clone(),
        tags: select.tags.clone(),
        difficulties: select.difficulties.clone(),
        categories: select.categories.clone(),
        limit: select.n_tasks,
    }
}

/// One task in `tasks list --json`.
#[derive(Debug, Serialize)]
pub struct Listed<'a> {
    name: &'a str,
    format: Format,
    digest: String,
    source: &'a Path,
    description: &'a str,
    difficulty: Option<&'a str>,
    category: Option<&'a str>,
    tags: &'a [String],
    image: String,
    steps: usize,
    /// Of all steps together, before `timeouts.multiplier`.
    agent_timeout_sec: f64,
    oracle: bool,
    known_bad: usize,
}

#[derive(Debug, Serialize)]
struct ListedDefect<'a> {
    task: &'a str,
    file: &'a Path,
    line: Option<usize>,
    key: Option<&'a str>,
    expected: &'a str,
    found: &'a str,
}

#[derive(Debug, Serialize)]
struct Listing<'a> {
    data_set: &'a str,
    tasks: Vec<Listed<'a>>,
    defects: Vec<ListedDefect<'a>>,
}

/// Lists what can be read on standard output, then what cannot on standard error; then with exit
/// code 2.
pub fn list(select: &SelectArgs, json: bool) -> Result<Exit, Failure> {
    let path = select.dataset.as_ref().or(select.path.as_ref());
    let path = path.ok_or_else(|| Failure::bad_input("no tasks are given: -d PATH, or -p PATH"))?;
    let set = load(path, &select.as_config())?;
    if json {
        output::print_json(&listing(&set))?;
    } else {
        output::print(&table(&set))?;
    }
    if set.defects.is_empty() {
        return Ok(Exit::Done);
    }
    Err(Failure::bad_input(defects_text(&set.defects)))
}

/// Converts every task into a directory below `output`, the good ones also when others cannot be.
pub fn import(args: &ImportArgs) -> Result<Exit, Failure> {
    let set = load(&args.source, &SelectConfig::default())?;
    let mut defects = Vec::new();
    let mut written = 0;
    for task in &set.tasks {
        match import::write(task, &args.output.join(folder(&task.name))) {
            Ok(()) => written += 1,
            Err(found) => defects.push((task.name.clone(), found)),
        }
    }
    let written_text = output::plural(written, "task");
    output::print(&format!("{written_text} written to {}\n", args.output.display()))?;
    defects.extend(set.defects);
    if defects.is_empty() {
        return Ok(Exit::Done);
    }
    Err(Failure::bad_input(defects_text(&defects)))
}

/// The part of a name after its organisation.
fn folder(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

fn listing(set: &DataSet) -> Listing<'_> {
    let defects = set.defects.iter().flat_map(|(task, defects)| {
        defects.0.iter().map(move |defect| ListedDefect {
            task,
            file: &defect.file,
            line: defect.line,
            key: defect.key.as_deref(),
            expected: &defect.expected,
            found: &defect.found,
        })
    });
    Listing {
        data_set: &set.name,
        tasks: set.tasks.iter().map(Listed::of).collect(),
        defects: defects.collect(),
    }
}

impl<'a> Listed<'a> {
    pub fn of(task: &'a Task) -> Self {
        let timeouts = task.steps.iter().map(|step| step.agent.timeout.as_secs_f64());
        Self {
            name: &task.name,
            format: task.format,
            digest: task.digest.to_string(),
            source: &task.source,
            description: &task.description,
            difficulty: task.difficulty.as_deref(),
            category: task.category.as_deref(),
            tags: &task.tags,
            image: match &task.environment.image {
                ImageSource::Dockerfile(_) => "Dockerfile".to_owned(),
                ImageSource::Prebuilt(reference) => reference.clone(),
            },
            steps: task.steps.len(),
            agent_timeout_sec: timeouts.sum(),
            oracle: task.has_solution(),
            known_bad: task.known_bad.len(),
        }
    }
}

/// The tasks as text, a row each.
pub fn table(set: &DataSet) -> String {
    let rows = set.tasks.iter().map(Listed::of).map(|task| {
        [
            task.name.to_owned(),
            task.difficulty.unwrap_or("-").to_owned(),
            task.category.unwrap_or("-").to_owned(),
            if task.tags.is_empty() { "-".to_owned() } else { task.tags.join(",") },
            if task.oracle { "yes" } else { "no" }.to_owned(),
            task.known_bad.to_string(),
            task.steps.to_string(),
            format!("{:.0}", task.agent_timeout_sec),
            task.image,
        ]
    });
    let header = [
        "task",
        "difficulty",
        "category",
        "tags",
        "oracle",
        "known bad",
        "steps",
        "agent sec",
        "image",
    ];
    let tasks = output::plural(set.tasks.len(), "task");
    format!("{}\n{tasks} in {}\n", output::table(header, rows, None), set.name)
}

/// Every defect under its task, for standard error.
pub fn defects_text(tasks: &[(String, Defects)]) -> String {
    let mut text = format!("{} cannot be used", output::plural(tasks.len(), "task"));
    for (task, defects) in tasks {
        text.push_str(&format!("\n{task}:"));
        for defect in &defects.0 {
            text.push_str(&format!("\n  {defect}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use orcapack_tasks::Defect;

    use super::*;

    #[test]
    fn a_folder_is_named_after_the_task_without_its_organisation() {
        assert_eq!([folder("org/name"), folder("plain")], ["name", "plain"]);
    }

    #[test]
    fn every_defect_is_told_under_its_task() {
        let defect = |line| Defect::new(Path::new("t.csv"), "a number", "x").at_line(line);
        let set = DataSet {
            name: "set".to_owned(),
            tasks: Vec::new(),
            defects: vec![
                ("a".to_owned(), Defects(vec![defect(2), defect(3)])),
                ("b".to_owned(), defect(4).into()),
            ],
        };
        assert_eq!(
            defects_text(&set.defects),
            "2 tasks cannot be used\n\
             a:\n  t.csv:2: expected a number, found x\n  t.csv:3: expected a number, found x\n\
             b:\n  t.csv:4: expected a number, found x"
        );
        let json = serde_json::to_value(listing(&set)).unwrap();
        assert_eq!(json["defects"][2]["task"], "b");
        assert_eq!(json["defects"].as_array().map(Vec::len), Some(3));
    }
}
