//! An idea of a task: a small document of YAML, or JSON, between `<idea>` tags.

use std::path::Path;

use crate::authoring::blocks::blocks;
use crate::generate::Difficulty;
use crate::toml_section::Section;
use crate::yaml_doc;

const TITLE_CHARS_MAX: usize = 100;
/// Of a slug, and of a category.
const NAME_CHARS_MAX: usize = 60;
const DESCRIPTION_CHARS_MAX: usize = 2_000;

/// What a task is to be about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idea {
    pub title: String,
    /// Of its folder, and after the organisation of its task.
    pub slug: String,
    pub category: String,
    pub difficulty: Difficulty,
    /// Which skill it exercises, and on what.
    pub description: String,
}

impl Idea {
    /// Reads an answer.
    ///
    /// # Errors
    /// Everything that is wrong with it, for its author to mend.
    pub fn read(answer: &str) -> Result<Self, Vec<String>> {
        let found = blocks(answer, &["idea"])?;
        let [block] = found.as_slice() else {
            return Err(vec![format!("expected one <idea>, found {}", found.len())]);
        };
        let told = |defects: crate::Defects| defects.0.iter().map(ToString::to_string).collect();
        let doc = yaml_doc::parse(Path::new("idea"), &block.body).map_err(told)?;
        let root = doc.root();
        let difficulty = root.one_of("difficulty", &Difficulty::NAMES);
        let idea = Self {
            title: text(&root, "title", TITLE_CHARS_MAX),
            slug: name(&root, "slug"),
            category: name(&root, "category"),
            difficulty: difficulty.unwrap_or(Difficulty::Medium),
            description: text(&root, "description", DESCRIPTION_CHARS_MAX),
        };
        doc.finish(idea).map_err(told)
    }

    /// What it is compared by.
    pub fn text(&self) -> String {
        format!("{} {}", self.title, self.description)
    }
}

fn text(root: &Section<'_>, key: &str, chars_max: usize) -> String {
    let text = root.string(key).trim().to_owned();
    let chars = text.chars().count();
    if chars > chars_max {
        root.refuse(key, &format!("at most {chars_max} characters"), chars.to_string());
    }
    if key == "title" && text.contains('\n') {
        root.refuse(key, "one line", "several");
    }
    text
}

fn name(root: &Section<'_>, key: &str) -> String {
    let name = root.string(key);
    let is_plain = name.len() <= NAME_CHARS_MAX
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if !name.is_empty() && !is_plain {
        let expected = format!(
            "a small letter, then small letters, digits and `-`, at most {NAME_CHARS_MAX} together"
        );
        root.refuse(key, &expected, format!("{name:?}"));
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idea_is_read_from_yaml_and_from_json() {
        let yaml = "An idea:\n<idea>\ntitle: Rotate logs\nslug: rotate-logs\ncategory: shell\n\
                    difficulty: easy\ndescription: |\n  Rename files\n  in order.\n</idea>\n";
        let json = "<idea>\n{\"title\": \"Rotate logs\", \"slug\": \"rotate-logs\",\n\
                    \"category\": \"shell\", \"difficulty\": \"easy\",\n\
                    \"description\": \"Rename files\\nin order.\"}\n</idea>\n";
        let idea = Idea::read(yaml).expect("an idea");
        assert_eq!(idea.description, "Rename files\nin order.");
        assert_eq!(Idea::read(json), Ok(idea));
    }

    #[test]
    fn everything_that_is_wrong_with_an_idea_is_told_at_once() {
        let answer = format!(
            "<idea>\ntitle: {}\nslug: Rotate Logs\ndifficulty: trivial\nskill: x\n</idea>",
            "x".repeat(101)
        );
        let faults = Idea::read(&answer).expect_err("faulty");
        for words in [
            "title: expected at most 100 characters, found 101",
            "slug: expected a small letter, then",
            "found \"Rotate Logs\"",
            "difficulty: expected",
            "category: expected",
            "description: expected",
            "skill",
        ] {
            assert!(faults.iter().any(|fault| fault.contains(words)), "{words}: {faults:#?}");
        }
        assert_eq!(Idea::read("no idea"), Err(vec!["expected one <idea>, found 0".into()]));
        assert!(Idea::read("<idea>\n- a\n</idea>").is_err());
    }
}
