//! What authors are told beside their prompts.

use crate::authoring::evidence::{Evidence, list};
use crate::authoring::idea::Idea;
use crate::authoring::wish::Wish;

/// Of the titles that an author of ideas is shown, the newest: what a prompt can hold of thousands.
const TITLES_MAX: usize = 300;

pub(super) fn wish(wish: &Wish, titles: &[String]) -> String {
    let newest = titles.get(titles.len().saturating_sub(TITLES_MAX)..).unwrap_or_default();
    let titles = match newest {
        [] => "There are no tasks yet.\n".to_owned(),
        newest => format!("Tasks that there are, or were refused:\n{}", list(newest)),
    };
    let difficulty = wish.difficulty.as_str();
    format!("{titles}\nTopic: {}\nDifficulty: {difficulty}\n", wish.topic)
}

pub(super) fn idea(idea: &Idea) -> String {
    let Idea { title, slug: _, category, difficulty, description } = idea;
    let difficulty = difficulty.as_str();
    format!("Title: {title}\nCategory: {category}\nDifficulty: {difficulty}\n\n{description}\n")
}

pub(super) fn faults(faults: &[String], left: u32) -> String {
    format!("Your answer cannot be used:\n{}\n{}Answer again.\n", list(faults), rounds(left))
}

/// To a builder, from the reviewer; `unseen` are files that the reviewer changed meanwhile.
pub(super) fn patch(reason: &str, unseen: &str, left: u32) -> String {
    let unseen = match unseen {
        "" => String::new(),
        unseen => format!("These files have been changed meanwhile:\n\n{unseen}\n"),
    };
    format!(
        "The reviewer wants the task changed:\n\n{reason}\n\n{unseen}{}Answer with the files that \
         change, each whole.\n",
        rounds(left)
    )
}

/// To a reviewer; `files` are those that it has not seen as they are now.
pub(super) fn review(new: Option<&Idea>, files: &str, evidence: &Evidence, left: u32) -> String {
    let what = match new {
        Some(new) => format!("# The idea\n\n{}\n# The files\n", idea(new)),
        None => "# The files that have changed\n".to_owned(),
    };
    let evidence = evidence.text();
    format!("{what}\n{files}\n# The trials\n\n{evidence}\n{}", rounds(left))
}

pub(super) fn not_acceptable(against: &[String], left: u32) -> String {
    format!(
        "The task cannot be accepted as it is:\n{}\n{}Patch it, or reject it.\n",
        list(against),
        rounds(left)
    )
}

fn rounds(left: u32) -> String {
    match left {
        0 => "No change is possible any more: what is not right now is given up. ".to_owned(),
        1 => "The task can be changed once more. ".to_owned(),
        left => format!("The task can be changed {left} times more. "),
    }
}
