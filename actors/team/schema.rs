//! The names of the grammar: which tags there are, which fields the body of each has, and who may
//! use them.

use orcapack_tasks::near::nearest;

use crate::team::role::Role;

/// One kind of action, as models write it.
#[derive(Debug, PartialEq)]
pub(crate) struct Spec {
    pub tag: &'static str,
    pub body: Body,
}

#[derive(Debug, PartialEq)]
pub(crate) enum Body {
    /// Text that is taken as it is.
    Plain,
    /// A YAML mapping of these fields.
    Fields(&'static [Field]),
}

#[derive(Debug, PartialEq)]
pub(crate) struct Field {
    pub name: &'static str,
    pub kind: Kind,
}

#[derive(Debug, PartialEq)]
pub(crate) enum Kind {
    /// Free text, which may hold whatever YAML would take for its own.
    Text,
    /// A name, path, number or truth value, in one line.
    Word,
    /// A list of words.
    Words,
    /// A list of mappings.
    Items(&'static [Field]),
}

const fn text(name: &'static str) -> Field {
    Field { name, kind: Kind::Text }
}

const fn word(name: &'static str) -> Field {
    Field { name, kind: Kind::Word }
}

const fn words(name: &'static str) -> Field {
    Field { name, kind: Kind::Words }
}

const fn items(name: &'static str, fields: &'static [Field]) -> Field {
    Field { name, kind: Kind::Items(fields) }
}

const fn spec(tag: &'static str, fields: &'static [Field]) -> Spec {
    Spec { tag, body: Body::Fields(fields) }
}

const BOOTSTRAP: &[Field] = &[word("path"), text("reason")];
const CONTEXT: &[Field] = &[word("id"), text("content")];
const EDIT: &[Field] = &[text("old_string"), text("new_string"), word("replace_all")];
const OPERATION: &[Field] = &[word("action"), text("content"), word("task_id")];

pub(crate) static SPECS: [Spec; 12] = [
    spec(
        "task_create",
        &[
            word("agent_type"),
            text("title"),
            text("description"),
            word("max_turns"),
            words("context_refs"),
            items("context_bootstrap", BOOTSTRAP),
            word("auto_launch"),
        ],
    ),
    spec("launch_subagent", &[word("task_id")]),
    spec("launch_parallel_subagents", &[words("task_ids")]),
    spec("add_context", CONTEXT),
    Spec { tag: "finish", body: Body::Plain },
    spec("bash", &[text("cmd"), word("block"), word("timeout_secs")]),
    spec(
        "file",
        &[
            word("action"),
            word("file_path"),
            word("offset"),
            word("limit"),
            text("content"),
            text("old_string"),
            text("new_string"),
            word("replace_all"),
            items("edits", EDIT),
            words("file_paths"),
        ],
    ),
    spec("search", &[word("action"), text("pattern"), word("path"), word("include")]),
    spec("write_temp_script", &[word("file_path"), text("content")]),
    spec("todo", &[items("operations", OPERATION), word("view_all")]),
    spec("scratchpad", &[word("action"), text("content")]),
    spec("report", &[items("contexts", CONTEXT), text("comments")]),
];

/// Blocks with these tags are an agent's thoughts: nothing in them is ever run.
pub(crate) const THOUGHTS: [&str; 3] = ["reasoning", "think", "thinking"];

/// What a role may use, in the order in which it is told.
pub(crate) fn tags_of(role: Role) -> &'static [&'static str] {
    match role {
        Role::Orchestrator => &[
            "task_create",
            "launch_subagent",
            "launch_parallel_subagents",
            "add_context",
            "finish",
        ],
        Role::Explorer | Role::Coder => {
            &["bash", "file", "search", "write_temp_script", "todo", "scratchpad", "report"]
        }
    }
}

/// Of a tag that is none: what there is, and what was meant.
pub(crate) fn no_such_action(role: Role, tag: &str) -> String {
    let exist = tags_of(role);
    let words = |tag: &str| {
        let mut words: Vec<String> = tag.split(['_', '-']).map(str::to_owned).collect();
        words.sort_unstable();
        words
    };
    let same = || exist.iter().copied().find(|exists| words(exists) == words(tag));
    let near = nearest(tag, exist.iter().copied()).or_else(same);
    let near = near.map_or(String::new(), |near| format!(", did you mean `{near}`?"));
    format!("there is no such action{near} (actions: {})", exist.join(", "))
}

impl Spec {
    /// Tags are told apart without regard to case.
    pub(crate) fn of_tag(tag: &str) -> Option<&'static Self> {
        SPECS.iter().find(|spec| spec.tag.eq_ignore_ascii_case(tag))
    }

    pub(crate) fn fields(&self) -> &'static [Field] {
        match self.body {
            Body::Plain => &[],
            Body::Fields(fields) => fields,
        }
    }
}

pub(crate) fn field<'f>(fields: &'f [Field], name: &str) -> Option<&'f Field> {
    fields.iter().find(|field| field.name == name)
}

/// The key at the start of a line of YAML or JSON and what follows its colon; with or without
/// quotes around it.
pub(crate) fn key_of(line: &str) -> Option<(&str, &str)> {
    let line = line.trim_start();
    let (quote, after) = match line.chars().next() {
        Some(quote @ ('"' | '\'')) => (Some(quote), line.get(1..)?),
        _ => (None, line),
    };
    let end = after.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-'))?;
    let (name, mut rest) = after.split_at_checked(end)?;
    if let Some(quote) = quote {
        rest = rest.strip_prefix(quote)?;
    }
    let value = rest.trim_start_matches(' ').strip_prefix(':')?;
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let is_key = is_name && (value.is_empty() || value.starts_with([' ', '\t']));
    is_key.then_some((name, value.trim_start_matches([' ', '\t'])))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_tag_is_some_roles_and_every_role_ends_with_its_own() {
        let used: BTreeSet<&str> =
            Role::ALL.iter().flat_map(|role| tags_of(*role)).copied().collect();
        assert_eq!(used, SPECS.iter().map(|spec| spec.tag).collect());
        assert!(THOUGHTS.iter().all(|tag| Spec::of_tag(tag).is_none()));
    }

    #[test]
    fn a_key_is_a_name_a_colon_and_a_gap() {
        assert_eq!(key_of("  cmd: ls"), Some(("cmd", "ls")));
        assert_eq!(key_of("\"cmd\" : x"), Some(("cmd", "x")));
        assert_eq!(key_of("cmd:"), Some(("cmd", "")));
        assert_eq!(key_of("http://x"), None);
        assert_eq!(key_of("a b: c"), None);
        assert_eq!(key_of(": c"), None);
        assert_eq!(key_of("\"cmd: x"), None);
    }
}
