//! The contexts of a team: what its members found out and others are to know, as named, versioned,
//! immutable pieces of text.
//!
//! Pure. A name that is stored again gets a new version; older ones stay, as `name@1`. A *ref* is a
//! name (its latest version), `name@version`, or a task's id, which stands for everything that the
//! task reported. One bad ref refuses all of them, and the refusal lists what exists.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use crate::team::record::{AgentId, Entry, Event};
use crate::team::text::{cut_middle, shares};

/// Of a team; more would no longer be found in the orchestrator's view of them.
pub const CONTEXTS_MAX: usize = 500;
/// Of one context: a few pages. What is longer belongs into a file of the environment.
pub const CONTEXT_CHARS_MAX: usize = 40_000;
pub const ID_CHARS_MAX: usize = 100;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    pub id: String,
    /// 1 for the first of its name.
    pub version: u32,
    pub content: Arc<str>,
    /// Who stored it, working on which task (empty: the orchestrator), in which turn, and when.
    pub by: AgentId,
    pub task: String,
    pub turn: u32,
    pub at: Duration,
    /// The tasks that were launched with it, each as often as it was.
    pub used_by: Vec<String>,
}

/// What is to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewContext {
    pub id: String,
    pub content: Arc<str>,
}

/// Who stores it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provenance {
    pub by: AgentId,
    pub task: String,
    pub turn: u32,
    pub at: Duration,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Contexts {
    /// In the order in which they were stored.
    all: Vec<Context>,
    /// Every version of a name, as positions in `all`.
    by_id: BTreeMap<String, Vec<usize>>,
}

impl Context {
    /// The ref that means this one for ever.
    pub fn exact_ref(&self) -> String {
        format!("{}@{}", self.id, self.version)
    }
}

impl Contexts {
    /// The contexts that a record's events leave.
    pub fn replay<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Self {
        let mut contexts = Self::default();
        for entry in entries {
            match &entry.event {
                Event::Stored(context) => contexts.insert(Context::clone(context)),
                Event::Began(brief) => contexts.mark_used(&brief.contexts, &brief.task),
                _ => {}
            }
        }
        contexts
    }

    /// The version that a new context would become.
    ///
    /// # Errors
    /// Why it cannot be stored, for the model to read.
    pub fn admit(&self, new: &NewContext, from: &Provenance) -> Result<Context, String> {
        let id = new.id.trim();
        if id.is_empty() || id.chars().count() > ID_CHARS_MAX {
            return Err(format!("a context's id has 1 to {ID_CHARS_MAX} characters: {id:?}"));
        }
        if id.contains('@') || id.chars().any(char::is_control) {
            return Err(format!("a context's id has no `@` and no control characters: {id:?}"));
        }
        if names_task(id) {
            return Err(format!("`{id}` is a task's id: give the context a name of its own"));
        }
        let chars = new.content.chars().count();
        if chars > CONTEXT_CHARS_MAX {
            return Err(format!(
                "context `{id}` has {chars} characters, {CONTEXT_CHARS_MAX} at most: keep what \
                 others need, or write it to a file"
            ));
        }
        if self.all.len() >= CONTEXTS_MAX {
            return Err(format!("there are {CONTEXTS_MAX} contexts already, which is the most"));
        }
        let version = self.by_id.get(id).map_or(0, Vec::len) as u32 + 1;
        Ok(Context {
            id: id.to_owned(),
            version,
            content: new.content.clone(),
            by: from.by,
            task: from.task.clone(),
            turn: from.turn,
            at: from.at,
            used_by: Vec::new(),
        })
    }

    pub fn insert(&mut self, context: Context) {
        self.by_id.entry(context.id.clone()).or_default().push(self.all.len());
        self.all.push(context);
    }

    /// Counts one use of each by a task.
    pub fn mark_used(&mut self, exact_refs: &[String], task: &str) {
        for exact in exact_refs {
            if let Some(position) = self.exact(exact)
                && let Some(context) = self.all.get_mut(position)
            {
                context.used_by.push(task.to_owned());
            }
        }
    }

    /// What the refs mean, each context once, in the order of the refs.
    ///
    /// `tasks` are the ids that exist; one that has not reported anything is a bad ref too.
    ///
    /// # Errors
    /// Which refs are bad and what exists, for the model to read.
    pub fn resolve(&self, refs: &[String], tasks: &[String]) -> Result<Vec<Context>, String> {
        let mut positions: Vec<usize> = Vec::new();
        let mut bad = Vec::new();
        for reference in refs {
            let reference = reference.trim();
            let found = self.find(reference);
            match found.is_empty() {
                true if tasks.iter().any(|task| task == reference) => {
                    bad.push(format!("`{reference}` is a task that has stored no context"));
                }
                true => bad.push(format!("`{reference}` is neither a context nor a task")),
                false => {
                    let new: Vec<_> =
                        found.into_iter().filter(|at| !positions.contains(at)).collect();
                    positions.extend(new);
                }
            }
        }
        if bad.is_empty() {
            return Ok(positions.iter().filter_map(|at| self.all.get(*at).cloned()).collect());
        }
        Err(format!("{}. {}", bad.join("; "), self.inventory(tasks)))
    }

    fn find(&self, reference: &str) -> Vec<usize> {
        if let Some(latest) = self.by_id.get(reference).and_then(|versions| versions.last()) {
            return vec![*latest];
        }
        if let Some(exact) = self.exact(reference) {
            return vec![exact];
        }
        let of_task = |(_, context): &(usize, &Context)| context.task == reference;
        self.all.iter().enumerate().filter(of_task).map(|(at, _)| at).collect()
    }

    fn exact(&self, reference: &str) -> Option<usize> {
        let (id, version) = reference.rsplit_once('@')?;
        let version: usize = version.parse().ok()?;
        self.by_id.get(id)?.get(version.checked_sub(1)?).copied()
    }

    /// In the order in which they were stored.
    pub fn iter(&self) -> impl Iterator<Item = &Context> {
        self.all.iter()
    }

    /// What can be referred to, in a line.
    pub fn inventory(&self, tasks: &[String]) -> String {
        let names = |names: Vec<&str>| match names.is_empty() {
            true => "none".to_owned(),
            false => names.join(", "),
        };
        let ids = names(self.by_id.keys().map(String::as_str).collect());
        let with_contexts = |task: &&String| self.all.iter().any(|at| at.task == **task);
        let tasks = names(tasks.iter().filter(with_contexts).map(String::as_str).collect());
        format!("Contexts that exist: {ids}. Tasks with contexts: {tasks}")
    }

    /// For an orchestrator that is shown all of it anew: the latest version of each name, within
    /// about so many characters. What needs less than an equal share leaves the rest to the others.
    pub fn render(&self, chars_max: usize) -> String {
        let latest = |(at, context): &(usize, &Context)| {
            self.by_id.get(&context.id).and_then(|versions| versions.last()) == Some(at)
        };
        let shown: Vec<_> = self.all.iter().enumerate().filter(latest).map(|(_, at)| at).collect();
        let needs: Vec<_> = shown.iter().map(|context| context.content.chars().count()).collect();
        let mut text = String::new();
        for (context, share) in shown.into_iter().zip(shares(&needs, chars_max)) {
            let Context { id, version, task, used_by, content, .. } = context;
            let by = if task.is_empty() { "orchestrator" } else { task };
            // Writing into a string cannot fail.
            let _ = writeln!(
                text,
                "## {id} (version {version}, by {by}, used {} times)",
                used_by.len()
            );
            let _ = writeln!(text, "{}", cut_middle(content, share).trim_end());
        }
        text
    }
}

/// A ref that could mean a task must not mean a context.
fn names_task(id: &str) -> bool {
    let number = id.strip_prefix("task_");
    number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provenance(task: &str) -> Provenance {
        Provenance { by: AgentId(1), task: task.into(), turn: 1, at: Duration::ZERO }
    }

    fn stored(contexts: &mut Contexts, id: &str, content: &str, task: &str) {
        let new = NewContext { id: id.into(), content: content.into() };
        let context = contexts.admit(&new, &provenance(task)).expect("can be stored");
        contexts.insert(context);
    }

    fn refs(contexts: &Contexts, refs: &[&str]) -> Result<Vec<String>, String> {
        let refs: Vec<_> = refs.iter().map(|text| (*text).to_owned()).collect();
        let found = contexts.resolve(&refs, &["task_1".into(), "task_2".into()])?;
        Ok(found.iter().map(Context::exact_ref).collect())
    }

    #[test]
    fn a_ref_is_a_name_a_version_or_a_task_and_each_context_comes_once() {
        let mut contexts = Contexts::default();
        stored(&mut contexts, "layout", "a", "task_1");
        stored(&mut contexts, "layout", "b", "task_1");
        stored(&mut contexts, "plan", "c", "");
        assert_eq!(refs(&contexts, &["layout"]).unwrap(), ["layout@2"]);
        assert_eq!(refs(&contexts, &["layout@1", "plan"]).unwrap(), ["layout@1", "plan@1"]);
        assert_eq!(refs(&contexts, &["layout", "task_1"]).unwrap(), ["layout@2", "layout@1"]);
    }

    #[test]
    fn one_bad_ref_refuses_all_and_lists_what_exists() {
        let mut contexts = Contexts::default();
        stored(&mut contexts, "layout", "a", "task_1");
        let refusal = refs(&contexts, &["layout", "layuot", "task_2", "layout@7"]).unwrap_err();
        assert_eq!(
            refusal,
            "`layuot` is neither a context nor a task; `task_2` is a task that has stored no \
             context; `layout@7` is neither a context nor a task. Contexts that exist: layout. \
             Tasks with contexts: task_1"
        );
    }

    #[test]
    fn however_much_is_stored_what_is_shown_is_bounded_and_is_the_latest() {
        let mut contexts = Contexts::default();
        stored(&mut contexts, "small", "old news", "task_1");
        stored(&mut contexts, "small", "news", "task_1");
        for number in 0..50 {
            let id = format!("large {number}");
            stored(&mut contexts, &id, &"x".repeat(CONTEXT_CHARS_MAX), "task_2");
        }
        let seen = contexts.render(10_000);
        assert!(
            seen.starts_with("## small (version 2, by task_1, used 0 times)\nnews\n## large 0")
        );
        assert!(seen.chars().count() < 15_000, "{}", seen.chars().count());
        assert_eq!(seen.matches("characters cut").count(), 50);
    }

    #[test]
    fn what_cannot_be_stored_is_refused_with_the_reason() {
        let contexts = Contexts::default();
        let refused = |id: &str, content: &str| {
            let new = NewContext { id: id.into(), content: content.into() };
            contexts.admit(&new, &provenance("")).unwrap_err()
        };
        assert!(refused(" ", "x").contains("1 to 100 characters"));
        assert!(refused("a@1", "x").contains("no `@`"));
        assert!(refused("task_1", "x").contains("a task's id"));
        assert!(refused("a\u{1b}[2J", "x").contains("no control characters"));
        assert!(refused("a", &"x".repeat(CONTEXT_CHARS_MAX + 1)).contains("40001 characters"));
    }
}
