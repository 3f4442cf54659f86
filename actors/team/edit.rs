//! What `edit` and `multi_edit` do to the bytes of a file: pure.
//!
//! Bytes, because a file need not be UTF-8 and what is not edited must stay as it is. Edits are
//! done one after the other, and all or none. In a file whose every line ends with CR LF, old and
//! new strings with plain line ends mean CR LF.

use crate::team::action::Edit;
use crate::team::nearest;
use crate::team::shell::Refusal;
use crate::team::text::count;

/// Of a file that is edited, before and after. More is not source code.
pub const EDIT_BYTES_MAX: usize = 4 << 20;
/// Of the places named where an old string occurs more than once.
const PLACES_MAX: usize = 10;

/// The content after all edits.
///
/// # Errors
/// Which edit cannot be done and why; then none is.
pub fn apply(content: &[u8], edits: &[Edit]) -> Result<Vec<u8>, Refusal> {
    if edits.is_empty() {
        return Err(Refusal("no edit is given".to_owned()));
    }
    if content.contains(&0) {
        return Err(Refusal("a binary file (it holds zero bytes) cannot be edited".to_owned()));
    }
    let kind = Kind::of(content);
    let mut edited = content.to_vec();
    for (index, edit) in edits.iter().enumerate() {
        edited = one(&edited, edit, kind).map_err(|why| match edits.len() {
            1 => Refusal(format!("{why}\nNothing was changed.")),
            all => Refusal(format!("edit {} of {all}: {why}\nNothing was changed.", index + 1)),
        })?;
    }
    if edited == content {
        return Err(Refusal("the edits together change nothing".to_owned()));
    }
    Ok(edited)
}

#[derive(Clone, Copy)]
struct Kind {
    utf8: bool,
    /// Every line end is CR LF, and there is one.
    crlf: bool,
}

impl Kind {
    fn of(content: &[u8]) -> Self {
        let line_ends = content.iter().filter(|byte| **byte == b'\n').count();
        let crlf = content.windows(2).filter(|pair| *pair == b"\r\n").count();
        Self { utf8: std::str::from_utf8(content).is_ok(), crlf: crlf > 0 && crlf == line_ends }
    }

    fn line_ends(self, text: &str) -> String {
        if self.crlf { text.replace("\r\n", "\n").replace('\n', "\r\n") } else { text.to_owned() }
    }
}

fn one(content: &[u8], edit: &Edit, kind: Kind) -> Result<Vec<u8>, String> {
    let (old, new) = (kind.line_ends(&edit.old), kind.line_ends(&edit.new));
    if old.is_empty() {
        return Err("old_string is empty; to make a whole file use action write".to_owned());
    }
    if old == new {
        return Err("old_string and new_string are the same".to_owned());
    }
    if !kind.utf8 && !new.is_ascii() {
        return Err("the file is not UTF-8, and new_string holds characters beyond ASCII, whose \
                    bytes would not be those that the file means"
            .to_owned());
    }
    let places = Places::find(content, old.as_bytes());
    if places.count == 0 {
        let hint = if kind.utf8 || old.is_ascii() {
            nearest::describe(content, &old)
        } else {
            "The file is not UTF-8; leave characters beyond ASCII out of old_string.".to_owned()
        };
        return Err(format!("old_string does not occur in the file. {hint}"));
    }
    if places.count > 1 && !edit.replace_all {
        return Err(format!(
            "old_string occurs {} times ({}); take in more of the lines around the one that is \
             meant, or set replace_all",
            places.count,
            places.lines(content)
        ));
    }
    let grown = new.len().saturating_sub(old.len()).saturating_mul(places.count);
    if content.len().saturating_add(grown) > EDIT_BYTES_MAX {
        return Err(format!("the file would be longer than {EDIT_BYTES_MAX} bytes"));
    }
    Ok(replace(content, old.as_bytes(), new.as_bytes()))
}

/// Where something occurs, overlapping occurrences too: each could be the one that is meant.
struct Places {
    count: usize,
    first: Vec<usize>,
}

impl Places {
    fn find(content: &[u8], wanted: &[u8]) -> Self {
        let mut places = Self { count: 0, first: Vec::new() };
        let mut from = 0;
        while let Some(at) = find(content, wanted, from) {
            places.count += 1;
            if places.first.len() < PLACES_MAX {
                places.first.push(at);
            }
            from = at + 1;
        }
        places
    }

    fn lines(&self, content: &[u8]) -> String {
        let number = |at: &usize| {
            let before = content.get(..*at).unwrap_or_default();
            (before.iter().filter(|byte| **byte == b'\n').count() + 1).to_string()
        };
        let numbers: Vec<String> = self.first.iter().map(number).collect();
        let more = if self.count > numbers.len() { ", ..." } else { "" };
        format!("at lines {}{more}", numbers.join(", "))
    }
}

/// Left to right, each byte in one occurrence at most.
fn replace(content: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut replaced = Vec::with_capacity(content.len());
    let mut from = 0;
    while let Some(at) = find(content, old, from) {
        replaced.extend_from_slice(content.get(from..at).unwrap_or_default());
        replaced.extend_from_slice(new);
        from = at + old.len();
    }
    replaced.extend_from_slice(content.get(from..).unwrap_or_default());
    replaced
}

fn find(content: &[u8], wanted: &[u8], from: usize) -> Option<usize> {
    let first = wanted.first()?;
    let mut from = from;
    loop {
        let at = from + content.get(from..)?.iter().position(|byte| byte == first)?;
        if content.get(at..)?.starts_with(wanted) {
            return Some(at);
        }
        from = at + 1;
    }
}

/// What a file's content is, in a few words.
pub fn size(content: &[u8]) -> String {
    let ends = content.iter().filter(|byte| **byte == b'\n').count();
    let open_line = content.last().is_some_and(|byte| *byte != b'\n');
    let lines = ends + usize::from(open_line);
    format!("{}, {}", count(lines, "line"), count(content.len(), "byte"))
}

#[cfg(test)]
#[path = "edit_tests.rs"]
mod tests;
