//! Tags, and what else a line of an answer can begin with.

use crate::team::schema::{Spec, THOUGHTS};

/// Of a tag's name, in bytes: longer ones are none of ours.
pub(crate) const NAME_BYTES_MAX: usize = 64;

/// An opening tag at the start of a line.
pub(crate) struct Open<'t> {
    pub name: &'t str,
    pub indent: usize,
    pub has_attributes: bool,
    /// `<tag/>`
    pub is_empty: bool,
    /// What follows it on its line.
    pub rest: &'t str,
}

pub(crate) fn open_tag(line: &str) -> Option<Open<'_>> {
    let tag = line.trim_start().strip_prefix('<')?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let (name, after) = tag.split_at_checked(tag.find(|c| !is_name(c))?)?;
    if name.len() > NAME_BYTES_MAX || !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return None;
    }
    let (inside, rest) = split_at_end(after)?;
    if !(inside.is_empty() || inside.starts_with([' ', '\t', '/'])) {
        return None;
    }
    let attributes = inside.trim_end().trim_end_matches('/').trim();
    Some(Open {
        name,
        indent: indent_of(line),
        has_attributes: !attributes.is_empty(),
        is_empty: inside.trim_end().ends_with('/'),
        rest,
    })
}

/// What stands before and behind the `>` of a tag. A tag has a bound, so that a text of open ones
/// is read in linear time.
fn split_at_end(text: &str) -> Option<(&str, &str)> {
    const TAG_BYTES_MAX: usize = 512;
    let end = text.bytes().take(TAG_BYTES_MAX).position(|byte| byte == b'>')?;
    Some((text.get(..end)?, text.get(end + 1..)?))
}

/// The first `</name>` of a text: where it begins and where it ends.
pub(crate) fn closing(text: &str, name: &str) -> Option<(usize, usize)> {
    text.match_indices("</").find_map(|(start, _)| {
        let after = closes(text.get(start..)?, name)?;
        Some((start, start + after))
    })
}

/// The end of the `</name>` that a text begins with.
pub(crate) fn closes(text: &str, name: &str) -> Option<usize> {
    let after = text.strip_prefix("</")?;
    let found = after.get(..name.len()).filter(|found| found.eq_ignore_ascii_case(name))?;
    let behind = after.get(found.len()..)?;
    let spaces = behind.bytes().take(NAME_BYTES_MAX).take_while(|byte| *byte == b' ').count();
    let is_whole = behind.get(spaces..)?.starts_with('>');
    is_whole.then_some(2 + found.len() + spaces + 1)
}

/// What follows a closing tag of thoughts that the text begins with.
pub(crate) fn thought_end(text: &str) -> Option<&str> {
    THOUGHTS.iter().find_map(|name| text.get(closes(text, name)?..))
}

pub(crate) fn thought_named(name: &str) -> Option<&'static str> {
    THOUGHTS.into_iter().find(|thought| thought.eq_ignore_ascii_case(name))
}

pub(crate) fn is_ours(name: &str) -> bool {
    Spec::of_tag(name).is_some() || thought_named(name).is_some()
}

pub(crate) fn is_fence(line: &str) -> bool {
    let line = line.trim();
    line.starts_with("```") || line.starts_with("~~~")
}

pub(crate) fn indent_of(line: &str) -> usize {
    line.len() - line.trim_start_matches([' ', '\t']).len()
}
