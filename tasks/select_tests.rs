use super::*;
use crate::dataset::{LoadOptions, load};
use crate::fixture::Fixture;

fn select(selection: Selection) -> Result<Vec<String>, String> {
    let named = |name: &str, difficulty: &str, tag: &str| {
        format!(
            "task.name = 'org/{name}'\nmetadata.difficulty = '{difficulty}'\nmetadata.tags = ['{tag}', 'all']"
        )
    };
    let fixture = Fixture::harbor("1").with_harbor("2").with_harbor("3");
    let fixture = fixture
        .file("1/task.toml", named("merge-json", "easy", "json"))
        .file("2/task.toml", named("merge-csv", "hard", "csv"))
        .file("3/task.toml", named("prune-backups", "hard", "shell"));
    let set = load(&fixture.at("."), &LoadOptions { lookup: &|_| None }).unwrap();
    let selected = selection.apply(set.tasks, Path::new("tasks"));
    let names = |tasks: Vec<Task>| tasks.into_iter().map(|task| task.name).collect();
    selected.map(names).map_err(|defects| defects.to_string())
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn globs_match_names_with_and_without_their_organisation() {
    let include = |globs: &[&str]| {
        select(Selection { include: words(globs), ..Selection::default() }).unwrap()
    };
    assert_eq!(include(&[]).len(), 3);
    assert_eq!(include(&["merge-*"]), ["org/merge-csv", "org/merge-json"]);
    assert_eq!(include(&["org/*-{csv,backups}"]), ["org/merge-csv", "org/prune-backups"]);
    let selection = Selection {
        include: words(&["merge-*"]),
        exclude: words(&["*json"]),
        ..Selection::default()
    };
    assert_eq!(select(selection).unwrap(), ["org/merge-csv"]);
}

#[test]
fn every_list_must_be_satisfied_and_the_limit_cuts_last() {
    let hard = Selection { difficulties: words(&["hard"]), ..Selection::default() };
    assert_eq!(select(hard.clone()).unwrap().len(), 2);
    let tagged = Selection { tags: words(&["csv", "json"]), ..hard.clone() };
    assert_eq!(select(tagged).unwrap(), ["org/merge-csv"]);
    assert_eq!(select(Selection { limit: Some(1), ..hard }).unwrap(), ["org/merge-csv"]);
}

#[test]
fn what_selects_nothing_is_a_defect_that_names_what_is_near() {
    let selection = Selection {
        include: words(&["marge-*", "["]),
        tags: words(&["jsn"]),
        categories: words(&["files"]),
        ..Selection::default()
    };
    insta::assert_snapshot!(select(selection).unwrap_err(), @r#"
    tasks: include: expected a glob that matches a task, such as merge-csv, merge-json, prune-backups, found "marge-*"
    tasks: include: expected a glob, found "[": unclosed character class; missing ']'
    tasks: tags: expected one that a task has, such as json, csv, all, found "jsn"
    tasks: categories: expected one that a task has, found "files"
    "#);
    let selection = Selection { limit: Some(0), ..Selection::default() };
    assert_eq!(
        select(selection).unwrap_err(),
        "tasks: expected a selection that leaves tasks, found none of 3"
    );
}
