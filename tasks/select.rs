//! Which tasks of a data set a run is to use.

use std::collections::BTreeSet;
use std::path::Path;

use globset::{Glob, GlobMatcher};

use crate::defect::{Defect, Defects};
use crate::near::distance;
use crate::task::Task;

/// Empty lists leave everything in. A task must satisfy every list that is not empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Globs over names, with or without the part before the `/`; a task needs one of them.
    pub include: Vec<String>,
    pub exclude: Vec<String>,
    /// A task needs one of them; likewise below.
    pub tags: Vec<String>,
    pub difficulties: Vec<String>,
    pub categories: Vec<String>,
    /// The first that many, in the order of names.
    pub limit: Option<usize>,
}

impl Selection {
    /// Keeps the selected tasks. What selects nothing is a typing error and therefore a defect;
    /// `source` is the data set, for the messages.
    pub fn apply(&self, tasks: Vec<Task>, source: &Path) -> Result<Vec<Task>, Defects> {
        let mut defects = Defects::default();
        let include = globs("include", &self.include, &tasks, source, &mut defects);
        let exclude = globs("exclude", &self.exclude, &tasks, source, &mut defects);
        let tags = tasks.iter().flat_map(|task| &task.tags);
        known("tags", &self.tags, tags, source, &mut defects);
        let difficulties = tasks.iter().filter_map(|task| task.difficulty.as_ref());
        known("difficulties", &self.difficulties, difficulties, source, &mut defects);
        let categories = tasks.iter().filter_map(|task| task.category.as_ref());
        known("categories", &self.categories, categories, source, &mut defects);
        if !defects.0.is_empty() {
            return Err(defects);
        }
        let total = tasks.len();
        let selected = |task: &Task| {
            (include.is_empty() || include.iter().any(|glob| matches(glob, task)))
                && !exclude.iter().any(|glob| matches(glob, task))
                && one_of(&self.tags, task.tags.iter())
                && one_of(&self.difficulties, task.difficulty.iter())
                && one_of(&self.categories, task.category.iter())
        };
        let kept: Vec<Task> =
            tasks.into_iter().filter(selected).take(self.limit.unwrap_or(usize::MAX)).collect();
        if kept.is_empty() {
            let found = format!("none of {total}");
            return Err(Defect::new(source, "a selection that leaves tasks", found).into());
        }
        Ok(kept)
    }
}

fn one_of<'a>(wanted: &[String], mut has: impl Iterator<Item = &'a String>) -> bool {
    wanted.is_empty() || has.any(|value| wanted.contains(value))
}

fn globs(
    key: &str,
    patterns: &[String],
    tasks: &[Task],
    source: &Path,
    defects: &mut Defects,
) -> Vec<GlobMatcher> {
    let mut globs = Vec::new();
    for pattern in patterns {
        let glob = match Glob::new(pattern) {
            Ok(glob) => glob.compile_matcher(),
            Err(error) => {
                let found = format!("{pattern:?}: {}", error.kind());
                defects.0.push(Defect::new(source, "a glob", found).at_key(key));
                continue;
            }
        };
        if tasks.iter().any(|task| matches(&glob, task)) {
            globs.push(glob);
        } else {
            let names = tasks.iter().map(|task| short_name(&task.name));
            let expected = such_as("a glob that matches a task", pattern, names);
            defects.0.push(Defect::new(source, expected, format!("{pattern:?}")).at_key(key));
        }
    }
    globs
}

fn known<'a>(
    key: &str,
    wanted: &[String],
    has: impl Iterator<Item = &'a String>,
    source: &Path,
    defects: &mut Defects,
) {
    let has: BTreeSet<&str> = has.map(String::as_str).collect();
    for value in wanted.iter().filter(|value| !has.contains(value.as_str())) {
        let expected = such_as("one that a task has", value, has.iter().copied());
        defects.0.push(Defect::new(source, expected, format!("{value:?}")).at_key(key));
    }
}

fn matches(glob: &GlobMatcher, task: &Task) -> bool {
    glob.is_match(&task.name) || glob.is_match(short_name(&task.name))
}

fn short_name(name: &str) -> &str {
    name.split_once('/').map_or(name, |(_, short)| short)
}

/// Names the three that are nearest to what was written.
fn such_as<'a>(what: &str, wrong: &str, names: impl Iterator<Item = &'a str>) -> String {
    let bare: String = wrong.chars().filter(|c| !"*?[]{}".contains(*c)).collect();
    let bare = short_name(&bare);
    let mut names: Vec<(usize, &str)> = names
        .map(|name| {
            let same_length: String = name.chars().take(bare.chars().count()).collect();
            (distance(bare, name).min(distance(bare, &same_length)), name)
        })
        .collect();
    names.sort_unstable();
    names.dedup();
    let nearest: Vec<&str> = names.into_iter().take(3).map(|(_, name)| name).collect();
    if nearest.is_empty() {
        what.to_owned()
    } else {
        format!("{what}, such as {}", nearest.join(", "))
    }
}

#[cfg(test)]
#[path = "select_tests.rs"]
mod tests;
