//! An answer's text, cut into the blocks that are meant to be run.
//!
//! A block is a tag at the start of a line, a body, and the closing tag at the start of a line (or
//! at the end of one). Whatever else there is at the top level is prose: markdown and its fences
//! too. What an agent thought is never run: not what stands in `<think>` and the like, nor in one
//! that is never closed, nor anything before a `</think>` that was never opened (chat templates
//! open it in the prompt).
//!
//! Where a block ends is never guessed at the price of running half of it: a block that the length
//! limit cut, or that could end at two places, is a [`Fault`] which the model is told.

use std::collections::HashMap;

use orcapack_tasks::near::nearest;

use crate::model::Finish;
use crate::team::fault::Fault;
use crate::team::role::Role;
use crate::team::schema::{Body, Spec, field, key_of, no_such_action};
use crate::team::tag::{
    NAME_BYTES_MAX, Open, closes, closing, indent_of, is_fence, is_ours, open_tag, thought_end,
    thought_named,
};

/// Blocks of one answer. Ten tasks, their launch and their contexts fit in.
pub const ACTIONS_MAX: usize = 32;
/// Of one block, in bytes: files that are larger are not written by hand.
pub const BODY_BYTES_MAX: usize = 256 << 10;
/// Of one answer, in bytes: more than the largest answers of any model.
pub const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Lines that are looked at in search of closing tags, all blocks together. Answers that are meant
/// come nowhere near; those that are not would take time that grows with their square.
const LINES_SEARCHED_MAX: usize = 4 << 20;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Block {
    pub spec: &'static Spec,
    /// Of the opening tag, 1 for the answer's first.
    pub line: usize,
    pub body: String,
    /// Of the body's first line.
    pub body_line: usize,
}

/// The blocks of an answer in their order. A fault stands where its block would. There are at most
/// [`ACTIONS_MAX`] and one more.
pub(crate) fn blocks(text: &str, finish: Finish, role: Role) -> Vec<Result<Block, Fault>> {
    if text.len() > ANSWER_BYTES_MAX {
        let message = format!("it has {} bytes; at most {ANSWER_BYTES_MAX} are read", text.len());
        return vec![Err(Fault { line: 0, tag: String::new(), message })];
    }
    let text = text.trim_start_matches('\u{feff}').replace("\r\n", "\n");
    let mut scanner = Scanner::new(&text, finish, role);
    scanner.scan();
    scanner.found
}

struct Scanner<'t> {
    role: Role,
    /// Of the line `at`, only what has not been read.
    lines: Vec<&'t str>,
    at: usize,
    /// The answer is not whole.
    is_cut: bool,
    in_fence: bool,
    /// Closing tags at line starts and line ends, in lower case, with their last line.
    closed: HashMap<String, usize>,
    /// Tags that are not closed on what is left of a line.
    not_on: HashMap<&'static str, usize>,
    searched: usize,
    found: Vec<Result<Block, Fault>>,
}

/// What stands in the way of an open block's closing tag.
#[derive(Clone, Copy, PartialEq)]
enum Limit {
    Open(usize),
    Thought(usize),
    End(usize),
}

/// Where a block's body ends.
enum End {
    /// Before line `to`, of whose last line only `keep` bytes count where there is such a bound;
    /// `next` is the line and the byte behind the closing tag.
    Closed { to: usize, keep: Option<usize>, next: (usize, usize) },
    /// Without one, before this line.
    Open(usize),
    /// Not known: what is wrong, and the line to go on from.
    Unknown(String, usize),
}

impl<'t> Scanner<'t> {
    fn new(text: &'t str, finish: Finish, role: Role) -> Self {
        let lines: Vec<&str> = text.split('\n').collect();
        let mut closed = HashMap::new();
        for (at, line) in lines.iter().enumerate() {
            for (start, mark) in line.match_indices("</") {
                let after = line.get(start + mark.len()..).unwrap_or("");
                let end = after.bytes().take(NAME_BYTES_MAX).position(|byte| byte == b'>');
                if let Some(name) = end.and_then(|end| after.get(..end)) {
                    closed.insert(name.trim_end().to_ascii_lowercase(), at);
                }
            }
        }
        let is_cut = finish != Finish::Stop;
        Self {
            role,
            lines,
            at: 0,
            is_cut,
            in_fence: false,
            closed,
            not_on: HashMap::new(),
            searched: 0,
            found: Vec::new(),
        }
    }

    fn scan(&mut self) {
        while let Some(line) = self.lines.get(self.at).copied() {
            if let Some(open) = open_tag(line) {
                if let Some(spec) = Spec::of_tag(open.name) {
                    self.block(spec, &open);
                    continue;
                }
                if let Some(thought) = thought_named(open.name) {
                    self.thought(thought, open.rest, true);
                    continue;
                }
            }
            if self.thought_in(line) {
                continue;
            }
            if is_fence(line) {
                self.in_fence = !self.in_fence;
            } else if let Some(open) = open_tag(line) {
                self.unknown(&open);
                continue;
            } else {
                self.half_tag(line);
            }
            self.at += 1;
        }
    }

    /// Reads on behind `rest`, which is the end of line `at`.
    fn go_on(&mut self, at: usize, rest: &'t str) {
        self.at = at;
        if rest.trim().is_empty() {
            self.at += 1;
        } else if let Some(line) = self.lines.get_mut(at) {
            *line = rest;
        }
    }

    fn push(&mut self, line: usize, piece: Result<Block, Fault>) {
        if self.found.len() < ACTIONS_MAX {
            self.found.push(piece);
        } else if self.found.len() == ACTIONS_MAX {
            let message = format!("an answer may hold at most {ACTIONS_MAX} actions");
            self.found.push(Err(Fault { line: line + 1, tag: String::new(), message }));
        }
    }

    fn refuse(&mut self, line: usize, tag: &str, message: impl Into<String>) {
        let (tag, message) = (tag.to_owned(), message.into());
        self.push(line, Err(Fault { line: line + 1, tag, message }));
    }

    /// A thought that begins on this line, behind its opening tag. `is_sure`: at the line's start,
    /// where it is one even if it is never closed.
    fn thought(&mut self, name: &str, rest: &'t str, is_sure: bool) -> bool {
        let mut rest = rest;
        let end = self.closed.get(name).map_or(0, |last| last + 1);
        for at in self.at..end {
            let line = if at == self.at { rest } else { self.lines.get(at).copied().unwrap_or("") };
            if let Some((_, after)) = closing(line, name) {
                rest = line.get(after..).unwrap_or("");
                self.go_on(at, rest);
                return true;
            }
        }
        if is_sure {
            let message = format!(
                "`<{name}>` is never closed, so all that follows it was taken for thoughts and \
                 nothing of it was run; close it with `</{name}>` before the first action"
            );
            self.refuse(self.at, name, message);
            self.at = self.lines.len();
        }
        is_sure
    }

    /// Looks for the start or the end of thoughts anywhere in a line of prose.
    fn thought_in(&mut self, line: &'t str) -> bool {
        let mut never_closed = Vec::new();
        for (start, _) in line.match_indices('<') {
            let Some(tag) = line.get(start..) else { continue };
            if let Some(rest) = thought_end(tag) {
                self.forget(self.at, rest);
                return true;
            }
            let opened = open_tag(tag).and_then(|open| Some((thought_named(open.name)?, open)));
            let Some((name, open)) = opened else { continue };
            if never_closed.contains(&name) {
                continue;
            }
            if self.thought(name, open.rest, false) {
                return true;
            }
            never_closed.push(name);
        }
        false
    }

    /// Everything so far was a thought.
    fn forget(&mut self, at: usize, rest: &'t str) {
        self.found.clear();
        self.in_fence = false;
        self.go_on(at, rest);
    }

    /// A tag at a line's start that is none of ours. Prose has such things too: it counts when it
    /// is alone on its line, or closed at some later place, and not in a fence.
    fn unknown(&mut self, open: &Open<'t>) {
        let name = open.name.to_ascii_lowercase();
        let last = self.closed.get(&name).copied().filter(|last| *last >= self.at);
        let is_meant = !self.in_fence && (last.is_some() || open.rest.trim().is_empty());
        if is_meant && self.found.len() < ACTIONS_MAX {
            let message = no_such_action(self.role, &name);
            self.refuse(self.at, open.name, message);
        }
        // Not behind its end: what stands in it was meant to be run, and the thoughts in it must
        // be found.
        self.at += 1;
    }

    /// The start of a tag, at the very end of an answer that was cut.
    fn half_tag(&mut self, line: &str) {
        let line = line.trim();
        if !self.is_cut || !line.starts_with('<') || line.contains('>') {
            return;
        }
        if self.lines.iter().skip(self.at + 1).all(|line| line.trim().is_empty()) {
            let message = "the answer was cut at its length limit in the middle of a tag";
            self.refuse(self.at, "", message);
        }
    }

    fn block(&mut self, spec: &'static Spec, open: &Open<'t>) {
        let start = self.at;
        if open.has_attributes {
            let example = spec.fields().first().map_or("the text", |field| field.name);
            let message = format!(
                "a tag has no attributes; write `<{0}>`, the fields below it as YAML (`{example}: \
                 ...`), and `</{0}>`",
                spec.tag
            );
            self.refuse(start, spec.tag, message);
        }
        let rest = if open.is_empty { "" } else { open.rest };
        if open.is_empty {
            let (body, body_line) = (String::new(), start + 1);
            self.keep(open, Block { spec, line: start + 1, body, body_line });
            self.go_on(start, open.rest);
            return;
        }
        if let Some((keep, after)) = self.one_line(spec, rest) {
            self.keep(
                open,
                Block {
                    spec,
                    line: start + 1,
                    body: rest.get(..keep).unwrap_or("").to_owned(),
                    body_line: start + 1,
                },
            );
            self.go_on(start, rest.get(after..).unwrap_or(""));
            return;
        }
        let (to, keep, next) = match self.end(spec, open) {
            End::Unknown(message, next) => {
                self.refuse(start, spec.tag, message);
                self.at = next.max(start + 1);
                return;
            }
            End::Open(to) => (to, None, None),
            End::Closed { to, keep, next } => (to, keep, Some(next)),
        };
        if let Some((at, rest)) = self.thought_ends(start, rest, to, next.is_some()) {
            self.forget(at, rest);
            return;
        }
        let mut body: Vec<&str> = vec![rest];
        body.extend(self.lines.iter().take(to).skip(start + 1));
        if let (Some(keep), Some(last)) = (keep, body.last_mut()) {
            *last = last.get(..keep).unwrap_or("");
        }
        let below = usize::from(rest.trim().is_empty() && body.len() > 1);
        let mut body = body.get(below..).unwrap_or_default().join("\n");
        if keep.is_none() {
            body.push('\n');
        }
        self.keep(open, Block { spec, line: start + 1, body, body_line: start + 1 + below });
        match next {
            Some((at, after)) => {
                let rest = self.lines.get(at).and_then(|line| line.get(after..)).unwrap_or("");
                self.go_on(at, rest);
            }
            None => self.at = to.max(start + 1),
        }
    }

    fn keep(&mut self, open: &Open<'_>, block: Block) {
        if open.has_attributes {
            return;
        }
        let line = block.line - 1;
        if block.body.len() > BODY_BYTES_MAX {
            let message = format!(
                "its body has {} bytes, at most {BODY_BYTES_MAX} are read",
                block.body.len()
            );
            return self.refuse(line, block.spec.tag, message);
        }
        self.push(line, Ok(block));
    }

    /// The block's closing tag on the line of its opening tag.
    fn one_line(&mut self, spec: &Spec, rest: &str) -> Option<(usize, usize)> {
        if self.not_on.get(spec.tag) == Some(&self.at) {
            return None;
        }
        let mut from = 0;
        while let Some((start, after)) = rest.get(from..).and_then(|r| closing(r, spec.tag)) {
            let behind = rest.get(from + after..)?.trim();
            let is_tag = open_tag(behind).is_some_and(|open| is_ours(open.name));
            if behind.is_empty() || is_tag || thought_end(behind).is_some() {
                return Some((from + start, from + after));
            }
            // Prose behind it, unless the tag is closed at some later place.
            let is_last = self.closed.get(spec.tag).is_some_and(|last| *last == self.at);
            from += after;
            if is_last && closing(rest.get(from..)?, spec.tag).is_none() {
                return Some((from - after + start, from));
            }
        }
        self.not_on.insert(spec.tag, self.at);
        None
    }

    /// Where the block that opens on line `at` ends.
    fn end(&mut self, spec: &'static Spec, open: &Open<'_>) -> End {
        if self.searched > LINES_SEARCHED_MAX {
            let message = "there are too many tags to tell where it ends".to_owned();
            return End::Unknown(message, self.lines.len());
        }
        let (ends, inner, limit) = self.marks(spec, open.indent);
        if let Some(last) = ends.last() {
            return self.closed_at(spec, &ends, &inner, *last);
        }
        let (Limit::Open(to) | Limit::Thought(to) | Limit::End(to)) = limit;
        // At the end of a line, or deeper than it was opened.
        let late = (self.at + 1..to).rev().find_map(|at| {
            let line = self.lines.get(at)?.trim_end();
            let start = line.rfind("</")?;
            let after = start + closes(line.get(start..)?, spec.tag)?;
            let before = line.get(..start)?.to_ascii_lowercase();
            let is_whole = before.contains(&format!("<{}>", spec.tag));
            (after == line.len() && !is_whole).then_some((at, start, after))
        });
        // In an answer that was cut it may as well be a part of what the block writes.
        if let Some((at, keep, after)) = late.filter(|_| !self.is_cut || limit != Limit::End(to)) {
            return End::Closed { to: at + 1, keep: Some(keep), next: (at, after) };
        }
        match limit {
            Limit::End(_) if self.is_cut => {
                let message = "the answer was cut at its length limit inside of it, so it was not \
                               run; write less in one answer, or a large file in parts";
                End::Unknown(message.to_owned(), to)
            }
            Limit::Thought(at) => {
                let message = format!("it is not closed before thoughts begin at line {}", at + 1);
                End::Unknown(message, at)
            }
            Limit::Open(_) => End::Open(to),
            Limit::End(_) => {
                // A stop sequence may have taken the closing tag, or a part of it.
                let close = format!("</{}>", spec.tag);
                let is_half = |line: &&str| {
                    let line = line.trim();
                    line.starts_with("<") && close.starts_with(line)
                };
                let half = self.lines.iter().take(to).rposition(|line| !line.trim().is_empty());
                let half =
                    half.filter(|at| *at > self.at && self.lines.get(*at).is_some_and(is_half));
                End::Open(half.unwrap_or(to))
            }
        }
    }

    /// The lines below with closing tags of the block, those with opening tags that belong to its
    /// body, and what ends the search for them.
    fn marks(&mut self, spec: &'static Spec, indent: usize) -> (Vec<usize>, Vec<usize>, Limit) {
        let (mut ends, mut inner) = (Vec::new(), Vec::new());
        for (at, line) in self.lines.iter().enumerate().skip(self.at + 1) {
            self.searched += 1;
            if indent_of(line) > indent {
                continue;
            }
            if closes(line.trim_start(), spec.tag).is_some() {
                ends.push(at);
            } else if let Some(open) = open_tag(line) {
                if thought_named(open.name).is_some() {
                    return (ends, inner, Limit::Thought(at));
                }
                if let Some(other) = Spec::of_tag(open.name) {
                    if self.is_start(other, &open, at) {
                        return (ends, inner, Limit::Open(at));
                    }
                    if other == spec && closing(open.rest, spec.tag).is_none() {
                        inner.push(at);
                    }
                }
            }
        }
        (ends, inner, Limit::End(self.lines.len()))
    }

    /// Whether an opening tag that was found in a block begins another one, and is no part of what
    /// the block writes: one of its fields follows, or nearly one.
    fn is_start(&self, spec: &Spec, open: &Open<'_>, at: usize) -> bool {
        if spec.body == Body::Plain {
            return true;
        }
        let below = self.lines.iter().skip(at + 1).map(|line| line.trim());
        let mut below = below.filter(|line| !line.is_empty() && !is_fence(line));
        let first = match open.rest.trim() {
            "" => below.next().unwrap_or(""),
            rest => rest,
        };
        let fields = spec.fields();
        let near = |key| nearest(key, fields.iter().map(|field| field.name)).is_some();
        let is_key = |key| field(fields, key).is_some() || near(key);
        first.starts_with('{') || key_of(first).is_some_and(|(key, _)| is_key(key))
    }

    /// The end of a block whose closing tag stands at the start of one or several lines. In what it
    /// writes there may be such tags too, if they are in pairs.
    fn closed_at(&self, spec: &Spec, ends: &[usize], inner: &[usize], last: usize) -> End {
        let mut marks: Vec<(usize, bool)> = ends.iter().map(|at| (*at, true)).collect();
        marks.extend(inner.iter().map(|at| (*at, false)));
        marks.sort_unstable();
        let mut depth = 1_usize;
        let matching = marks.iter().find(|(_, is_end)| {
            depth = if *is_end { depth.saturating_sub(1) } else { depth + 1 };
            depth == 0
        });
        let to = matching.map_or(last, |(at, _)| *at);
        let behind = |at: usize| {
            let line = self.lines.get(at).copied().unwrap_or("");
            let after = closes(line.trim_start(), spec.tag).unwrap_or(0);
            (indent_of(line) + after, line)
        };
        let is_blank = |(after, line): (usize, &str)| {
            is_fence(line) || line.get(after..).unwrap_or("").trim().is_empty()
        };
        if !(to..last).map(behind).all(is_blank) {
            let message = format!(
                "it could end at line {} or at line {}; indent all that belongs to its body by \
                 two spaces below `key: |`",
                to + 1,
                last + 1
            );
            return End::Unknown(message, last + 1);
        }
        End::Closed { to, keep: None, next: (last, behind(last).0) }
    }

    /// The end of thoughts inside of a block's lines: then it was a draft. In the body of a closed
    /// block it is one at the start of a line only, since files may hold such tags.
    fn thought_ends(
        &self,
        start: usize,
        rest: &'t str,
        end: usize,
        is_closed: bool,
    ) -> Option<(usize, &'t str)> {
        (start..end).rev().find_map(|at| {
            let line: &'t str = if at == start { rest } else { self.lines.get(at)? };
            if is_closed {
                let is_first = at > start && indent_of(line) == 0;
                return is_first.then(|| thought_end(line)).flatten().map(|rest| (at, rest));
            }
            let mut tags = line.match_indices("</").filter_map(|(tag, _)| line.get(tag..));
            Some((at, tags.find_map(thought_end)?))
        })
    }
}
