//! `orcapack tasks curriculum`: a data set of the tasks that were passed at times, out of ledgers.
//!
//! The rule is [`orcapack_tasks::curriculum`]'s. What is written holds only tasks whose files are
//! still those that were measured.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use orcapack_tasks::curriculum::{Band, Cut, Pool};
use orcapack_tasks::dataset::{self, DataSet, LoadOptions};
use orcapack_tasks::manifest::{Manifest, Measured};
use orcapack_tasks::{Defect, Defects, Task};
use serde::Serialize;

use crate::cli_compare::CurriculumArgs;
use crate::exit::{Exit, Failure};
use crate::files::{self, PUBLIC};
use crate::output;
use crate::past_run::{PastRun, Tried};

/// What is told at the end.
#[derive(Serialize)]
struct Told<'a> {
    manifest: &'a Path,
    name: &'a str,
    min: u32,
    max: u32,
    of: u32,
    /// Tasks by their number of passes, from 0.
    histogram: &'a [usize],
    kept: Vec<Kept<'a>>,
    /// Too few attempts with a reward.
    left_out: Vec<LeftOut<'a>>,
    excluded: &'a [String],
}

#[derive(Serialize)]
struct Kept<'a> {
    task: &'a str,
    passed: u32,
}

#[derive(Serialize)]
struct LeftOut<'a> {
    task: &'a str,
    scored: usize,
}

/// # Errors
/// What is no band, a run that cannot be read or is of another kind, tasks that have changed, no
/// task in the band, or a file that is there already. Nothing has been written then.
pub fn cut(args: &CurriculumArgs) -> Result<Exit, Failure> {
    let band = Band::new(args.min, args.max, args.of);
    let band = band.map_err(|error| Failure::bad_input(format!("--min, --max, --of: {error}")))?;
    if args.output.extension().is_none_or(|ending| ending != "toml") {
        let expected = "a file that ends in .toml, as which a manifest is known";
        return Err(Defect::new(&args.output, expected, "another name").into());
    }
    let runs = read(&args.runs)?;
    let mut tasks = measured(&runs)?;
    let excluded = exclude(&mut tasks, &args.exclude)?;
    let passes = tasks.iter().map(|(name, tried)| (name.as_str(), tried.scored.as_slice()));
    let cut = band.cut(passes);
    if cut.kept.is_empty() {
        let table = table(band, &cut, &excluded);
        return Err(Failure::bad_input(format!("no task passed {band} attempts\n{table}")));
    }
    let name = args.name.clone().unwrap_or_else(|| stem(&args.output));
    let manifest = manifest(&args.output, &name, band, &cut, &tasks, &runs)?;
    write_new(&args.output, &manifest)?;
    let told = Told {
        manifest: &args.output,
        name: &name,
        min: band.min,
        max: band.max,
        of: band.of,
        histogram: &cut.histogram,
        kept: cut.kept.iter().map(|&(task, passed)| Kept { task, passed }).collect(),
        left_out: cut.too_few.iter().map(|&(task, scored)| LeftOut { task, scored }).collect(),
        excluded: &excluded,
    };
    if args.json {
        output::print_json(&told)?;
    } else {
        let kept = output::plural(cut.kept.len(), "task");
        let file = args.output.display();
        output::print(&format!("{}{kept} in {file}\n", table(band, &cut, &excluded)))?;
    }
    Ok(Exit::Done)
}

fn stem(file: &Path) -> String {
    file.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// Each once: a run that counts twice would measure nothing anew.
fn read(dirs: &[PathBuf]) -> Result<Vec<PastRun>, Failure> {
    let mut known = BTreeSet::new();
    let twice = dirs.iter().find(|dir| fs::canonicalize(dir).is_ok_and(|dir| !known.insert(dir)));
    if let Some(dir) = twice {
        return Err(Defect::new(dir, "each run once", "this one twice").into());
    }
    dirs.iter().map(|dir| read_eval(dir)).collect()
}

/// A run of eval; that it has not ended is told.
fn read_eval(dir: &Path) -> Result<PastRun, Failure> {
    let run = PastRun::read(dir)?;
    if run.command != "eval" {
        let found = format!("one of {}", run.command);
        return Err(Defect::new(dir, "a run of eval", found).into());
    }
    if run.missing() > 0 {
        let (missing, all) = (run.missing(), output::plural(run.planned.len(), "rollout"));
        eprintln!("warning: {}: {missing} of {all} have not ended", dir.display());
    }
    Ok(run)
}

/// What came of each task in all runs together, in their order.
fn measured(runs: &[PastRun]) -> Result<BTreeMap<String, Tried>, Failure> {
    let mut tasks: BTreeMap<String, Tried> = BTreeMap::new();
    let mut first: BTreeMap<String, &Path> = BTreeMap::new();
    let mut defects = Vec::new();
    for run in runs {
        for (name, tried) in run.tried(0..u32::MAX) {
            let before = *first.entry(name.clone()).or_insert(&run.dir);
            match tasks.entry(name) {
                Entry::Vacant(place) => {
                    place.insert(tried);
                }
                Entry::Occupied(place) if place.get().digest != tried.digest => {
                    let expected = format!(
                        "{} with {}, as in {}",
                        place.key(),
                        place.get().digest,
                        before.display()
                    );
                    defects.push(Defect::new(&run.dir, expected, tried.digest));
                }
                Entry::Occupied(mut place) => {
                    let sum = place.get_mut();
                    sum.planned += tried.planned;
                    sum.scored.extend(tried.scored);
                    sum.lost += tried.lost;
                }
            }
        }
    }
    Ok(Defects(defects).into_result(tasks)?)
}

/// Takes those away that a file names; gives their names.
fn exclude(tasks: &mut BTreeMap<String, Tried>, files: &[PathBuf]) -> Result<Vec<String>, Failure> {
    let mut excluded = BTreeSet::new();
    for file in files {
        let named = names(file)?.into_iter();
        excluded.extend(named.filter(|name| tasks.remove(name).is_some()));
    }
    Ok(excluded.into_iter().collect())
}

/// Of a manifest, or of a text with a name on each line.
fn names(file: &Path) -> Result<Vec<String>, Failure> {
    if file.extension().is_some_and(|ending| ending == "toml") {
        let manifest = Manifest::read(file)?;
        return Ok(manifest.tasks.into_iter().map(|task| task.name).collect());
    }
    let text = fs::read_to_string(file).map_err(|error| {
        let expected = "a manifest, or a text with the name of a task on each line";
        Failure::from(Defect::new(file, expected, error.to_string()))
    })?;
    Ok(names_of(&text))
}

/// From `#` on, a line is a comment.
fn names_of(text: &str) -> Vec<String> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    lines.filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// The text of the manifest of the tasks that are kept.
fn manifest(
    file: &Path,
    name: &str,
    band: Band,
    cut: &Cut<'_>,
    tasks: &BTreeMap<String, Tried>,
    runs: &[PastRun],
) -> Result<String, Failure> {
    let mut set = DataSet { name: name.to_owned(), tasks: Vec::new(), defects: Vec::new() };
    let mut roots = BTreeSet::new();
    let mut defects = Vec::new();
    let found = found(runs)?;
    for (name, _) in &cut.kept {
        let digest = tasks.get(*name).map(|tried| tried.digest.as_str()).unwrap_or_default();
        let same = || found.iter().filter(|(_, task)| task.name == *name);
        match same().find(|(_, task)| task.digest.to_string() == digest) {
            Some((root, task)) => {
                roots.insert(root.clone());
                set.tasks.push(task.clone());
            }
            None => {
                let changed = same().next().map(|(_, task)| {
                    let expected = format!("{digest}, with which it was measured");
                    Defect::new(&task.source, expected, task.digest.to_string())
                });
                defects.push(changed.unwrap_or_else(|| {
                    Defect::new(&dataset_of(name, runs), format!("the task {name}"), "none")
                }));
            }
        }
    }
    Defects(defects).into_result(())?;
    let unread = |error: io::Error| Failure::bad_input(error.to_string());
    let mut manifest = Manifest::of(&set).map_err(unread)?;
    for (entry, (_, passed)) in manifest.tasks.iter_mut().zip(&cut.kept) {
        entry.measured = Some(Measured { passed: *passed, attempts: band.of });
    }
    manifest.roots = relative(file, roots)?;
    Ok(manifest.to_toml())
}

/// That of the first run that had the task.
fn dataset_of(task: &str, runs: &[PastRun]) -> PathBuf {
    let had = |run: &&PastRun| run.planned.values().any(|planned| planned.task == task);
    let run = runs.iter().find(had);
    run.and_then(|run| run.path("run.dataset").ok()).unwrap_or_default()
}

/// Every task that lies where the runs had theirs from, with the root that it was found under.
fn found(runs: &[PastRun]) -> Result<Vec<(PathBuf, Task)>, Failure> {
    let options = LoadOptions { lookup: &|name| std::env::var(name).ok() };
    let mut searched = BTreeSet::new();
    let mut found = Vec::new();
    for run in runs {
        let lost = |defects: Defects| {
            Failure::bad_input(format!("the tasks of {}: {defects}", run.dir.display()))
        };
        for root in dataset::roots(&run.path("run.dataset")?).map_err(lost)? {
            if searched.insert(root.clone()) {
                let set = dataset::search(std::slice::from_ref(&root), &options).map_err(lost)?;
                found.extend(set.tasks.into_iter().map(|task| (root.clone(), task)));
            }
        }
    }
    Ok(found)
}

/// The roots as a manifest at `file` has them.
fn relative(file: &Path, roots: BTreeSet<PathBuf>) -> Result<Vec<PathBuf>, Failure> {
    let whole = |path: &Path| {
        fs::canonicalize(path).map_err(|error| {
            Failure::from(Defect::new(path, "a folder that is there", error.to_string()))
        })
    };
    let folder = file.parent().filter(|path| !path.as_os_str().is_empty());
    let folder = whole(folder.unwrap_or(Path::new(".")))?;
    roots.iter().map(|root| Ok(files::way(&folder, &whole(root)?))).collect()
}

/// A file that is there may be somebody's work: it is left, whatever it is.
fn write_new(file: &Path, text: &str) -> Result<(), Failure> {
    match fs::read(file) {
        Ok(there) if there == text.as_bytes() => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Ok(_) | Err(_) => {
            let expected = "a path where nothing is yet, or this very manifest";
            return Err(Defect::new(file, expected, "something else").into());
        }
    }
    files::write_whole(file, text.as_bytes(), PUBLIC)
        .map_err(|error| Failure::bad_input(format!("{}: {error}", file.display())))
}

/// How many tasks passed how often, and what became of them.
fn table(band: Band, cut: &Cut<'_>, excluded: &[String]) -> String {
    let rows = (0..).zip(&cut.histogram).map(|(passed, tasks)| {
        let pool = match band.pool(passed) {
            Pool::Hard => "too hard",
            Pool::InBand => "kept",
            Pool::Easy => "too easy",
        };
        [format!("{passed} of {}", band.of), tasks.to_string(), pool.to_owned()]
    });
    let mut text = output::table(["passed", "tasks", ""], rows, None);
    for (task, scored) in &cut.too_few {
        let scored = output::plural(*scored, "attempt");
        text += &format!("left out: {task}: {scored} with a reward, {} are needed\n", band.of);
    }
    for task in excluded {
        text += &format!("excluded: {task}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_names_has_comments_and_empty_lines() {
        let text = "# stage 0\none\n\n  org/two  # too easy\n\t\n#three\n";
        assert_eq!(names_of(text), ["one", "org/two"]);
    }

    #[test]
    fn the_table_says_what_became_of_every_task() {
        let cut = Cut {
            histogram: vec![3, 0, 1, 12],
            kept: vec![("a", 2)],
            too_few: vec![("b", 1), ("c", 0)],
        };
        let band = Band::new(1, 2, 3).unwrap();
        assert_eq!(
            table(band, &cut, &["d".to_owned()]),
            "passed  tasks\n\
             0 of 3  3      too hard\n\
             1 of 3  0      kept\n\
             2 of 3  1      kept\n\
             3 of 3  12     too easy\n\
             left out: b: 1 attempt with a reward, 3 are needed\n\
             left out: c: 0 attempts with a reward, 3 are needed\n\
             excluded: d\n"
        );
    }

    #[test]
    fn a_file_is_written_once_and_once_more_only_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("one.toml");
        write_new(&file, "a").unwrap();
        write_new(&file, "a").unwrap();
        let failure = write_new(&file, "b").unwrap_err();
        assert_eq!(failure.exit, Exit::BadInput);
        assert_eq!(fs::read_to_string(&file).unwrap(), "a");
        assert!(write_new(dir.path(), "a").is_err(), "a folder");
    }
}
