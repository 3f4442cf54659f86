//! `search`: lines by a regular expression, and paths by a glob.
//!
//! `find` names the files, globs are matched here, and the image's `grep -E` looks into them: so it
//! works the same with GNU's programs and with busybox. Folders of version control and the kernel's
//! file systems are left out unless they are what is searched.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use globset::{GlobBuilder, GlobMatcher};

use crate::sandbox::ExecOutput;
use crate::team::action::Search;
use crate::team::pattern;
use crate::team::shell::{AgentShell, Answer, Refusal, Script, path_argument};
use crate::team::text::{self, count};

/// Of the names of a search; some ten thousand files.
const NAMES_BYTES_MAX: usize = 4 << 20;
/// Of the matching lines; more than any agent is shown.
const MATCHES_BYTES_MAX: usize = 1 << 20;
/// Matching lines of one file.
const PER_FILE_MAX: &str = "200";
/// Of a matching line, with its path and number.
const LINE_BYTES_MAX: &str = "600";
/// Beside what is found: how much it is, and what could not be read.
const NOTE_CHARS_MAX: usize = 400;

pub async fn search(
    shell: &AgentShell,
    search: &Search,
    chars_max: usize,
    time_left: Duration,
) -> Answer<String> {
    match search {
        Search::Grep { pattern, path, include } => {
            let (path, include) = (path.as_deref(), include.as_deref());
            grep(shell, pattern, path, include, chars_max, time_left).await
        }
        Search::Glob { pattern, path } => {
            glob(shell, pattern, path.as_deref(), chars_max, time_left).await
        }
    }
}

async fn grep(
    shell: &AgentShell,
    pattern: &str,
    path: Option<&str>,
    include: Option<&str>,
    chars_max: usize,
    time_left: Duration,
) -> Answer<String> {
    let asked = pattern::extended(pattern).and_then(|extended| {
        let include =
            include.map(|include| Glob::new(include, !include.contains('/'))).transpose()?;
        Ok((extended, include, path_argument(path.unwrap_or("."))?))
    });
    let (extended, include, root) = match asked {
        Ok(asked) => asked,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let mut found = match names(shell, &root, None, true, time_left).await? {
        Ok(found) => found,
        Err(Refusal(why)) => return Ok(Err(Refusal::about(&root, why))),
    };
    if let Some(include) = include {
        found.names.retain(|name| include.matches(below(name, &root)));
    }
    if found.names.is_empty() {
        return Ok(Ok(format!("no file to look into in {root}\n{}", found.note)));
    }
    let mut stdin = Vec::new();
    for name in &found.names {
        stdin.extend_from_slice(name.as_bytes());
        stdin.push(0);
    }
    let flag = if extended.ignore_case { "i" } else { "" };
    let arguments = [extended.pattern.as_str(), flag, PER_FILE_MAX, LINE_BYTES_MAX];
    let script = Script {
        stdin,
        partial: true,
        ..Script::new(include_str!("grep.sh"), &arguments, MATCHES_BYTES_MAX)
    };
    let output = match shell.script(script, time_left).await? {
        Ok(output) => output,
        Err(Refusal(why)) => {
            return Ok(Err(Refusal(format!("pattern {pattern:?}: {why}"))));
        }
    };
    let matches = Matches::read(&output);
    Ok(Ok(matches.show(found.names.len(), &found.note, chars_max)))
}

/// Matching lines by file, in the order of names.
struct Matches {
    files: BTreeMap<String, Vec<String>>,
    /// There are more than these.
    cut: bool,
}

impl Matches {
    fn read(output: &ExecOutput) -> Self {
        let mut files: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut bytes = output.stdout.head.as_slice();
        let cut = output.stdout.cut_bytes > 0 || !output.exit.success();
        if cut {
            let whole = bytes.iter().rposition(|byte| *byte == b'\n').unwrap_or(0);
            bytes = bytes.get(..whole).unwrap_or_default();
        }
        // Some kinds of grep look into binary files whatever they are told.
        let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.contains(&0));
        for line in lines {
            let line = text::clean(line);
            if let Some((path, rest)) = split(&line) {
                let path = path.strip_prefix("./").unwrap_or(path).to_owned();
                files.entry(path).or_default().push(rest.to_owned());
            }
        }
        Self { files, cut }
    }

    fn show(&self, searched: usize, note: &str, chars_max: usize) -> String {
        let lines: usize = self.files.values().map(Vec::len).sum();
        let searched = count(searched, "file");
        if lines == 0 {
            return format!("no line matches in {searched}\n{note}");
        }
        let than = if self.cut { "more than " } else { "" };
        let (lines, files) = (count(lines, "matching line"), count(self.files.len(), "file"));
        let mut shown = String::new();
        for (path, lines) in &self.files {
            let full = if lines.len().to_string() == PER_FILE_MAX { ", or more" } else { "" };
            // Writing to a string does not fail.
            let _ = writeln!(shown, "{path} ({}{full})", lines.len());
            for line in lines {
                let _ = writeln!(shown, "  {line}");
            }
        }
        let room = chars_max.saturating_sub(NOTE_CHARS_MAX);
        let shown = text::cut_end(&shown, room);
        format!("{than}{lines} in {files} of {searched}\n{shown}{note}")
    }
}

/// `PATH:NUMBER:TEXT`
fn split(line: &str) -> Option<(&str, &str)> {
    for (at, _) in line.match_indices(':') {
        let rest = line.get(at + 1..)?;
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        if digits > 0 && rest.get(digits..).is_some_and(|rest| rest.starts_with(':')) {
            return Some((line.get(..at)?, rest));
        }
    }
    None
}

async fn glob(
    shell: &AgentShell,
    pattern: &str,
    path: Option<&str>,
    chars_max: usize,
    time_left: Duration,
) -> Answer<String> {
    let (folder, rest) = fixed_part(pattern);
    let root = match path.filter(|_| !folder.starts_with('/')) {
        None if folder.is_empty() => ".".to_owned(),
        None => folder.to_owned(),
        Some(path) if folder.is_empty() => path.to_owned(),
        Some(path) => format!("{}/{folder}", path.trim_end_matches('/')),
    };
    let asked =
        Glob::new(rest, !pattern.contains('/')).and_then(|glob| Ok((glob, path_argument(&root)?)));
    let (glob, root) = match asked {
        Ok(asked) => asked,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let found = match names(shell, &root, glob.depth, false, time_left).await? {
        Ok(found) => found,
        Err(Refusal(why)) => return Ok(Err(Refusal::about(&root, why))),
    };
    let matching = found.names.iter().filter(|name| glob.matches(below(name, &root)));
    let matching: Vec<&str> =
        matching.map(|name| name.strip_prefix("./").unwrap_or(name)).collect();
    let note = found.note;
    if matching.is_empty() {
        return Ok(Ok(format!("no path matches, of {} in {root}\n{note}", found.names.len())));
    }
    let room = chars_max.saturating_sub(NOTE_CHARS_MAX);
    let listing = text::cut_end(&matching.join("\n"), room);
    Ok(Ok(format!("{}\n{listing}\n{note}", count(matching.len(), "path"))))
}

/// The folders of a glob before its first special character, and the rest: where the search begins.
fn fixed_part(pattern: &str) -> (&str, &str) {
    let special = pattern.find(['*', '?', '[', '{', '\\']).unwrap_or(pattern.len());
    match pattern.get(..special).and_then(|fixed| fixed.rfind('/')) {
        // Of the root its slash stays.
        Some(at) => {
            let folder = pattern.get(..at.max(1)).unwrap_or_default();
            (folder, pattern.get(at + 1..).unwrap_or_default())
        }
        None => ("", pattern),
    }
}

/// A glob over paths below a folder.
struct Glob {
    matcher: GlobMatcher,
    /// It is about names at any depth: what a glob without a slash means.
    by_name: bool,
    /// Levels that a match can be deep.
    depth: Option<usize>,
}

impl Glob {
    fn new(pattern: &str, by_name: bool) -> Result<Self, Refusal> {
        if pattern.is_empty() {
            return Err(Refusal("an empty glob matches nothing".to_owned()));
        }
        let glob = GlobBuilder::new(pattern.strip_prefix("./").unwrap_or(pattern))
            .literal_separator(true)
            .build()
            .map_err(|error| Refusal(format!("glob {pattern:?}: {}", error.kind())))?;
        let deep = by_name || pattern.contains("**") || pattern.contains('{');
        let levels = pattern.split('/').count();
        Ok(Self { matcher: glob.compile_matcher(), by_name, depth: (!deep).then_some(levels) })
    }

    fn matches(&self, path: &str) -> bool {
        let name = path.rsplit('/').next().unwrap_or(path);
        self.matcher.is_match(if self.by_name { name } else { path })
    }
}

/// The path from a search's root on.
fn below<'n>(name: &'n str, root: &str) -> &'n str {
    let rest = name.strip_prefix(root.trim_end_matches('/')).unwrap_or(name);
    match rest.trim_start_matches('/') {
        // The root itself, where it is a file.
        "" => name.rsplit('/').next().unwrap_or(name),
        rest => rest,
    }
}

struct Names {
    /// Sorted.
    names: Vec<String>,
    /// What could not be looked at; empty, or ends its line.
    note: String,
}

async fn names(
    shell: &AgentShell,
    root: &str,
    depth: Option<usize>,
    files: bool,
    time_left: Duration,
) -> Answer<Names> {
    let depth = depth.map(|depth| depth.to_string()).unwrap_or_default();
    let arguments = [root, depth.as_str(), if files { "f" } else { "" }];
    let script = Script {
        partial: true,
        ..Script::new(include_str!("find.sh"), &arguments, NAMES_BYTES_MAX)
    };
    let output = match shell.script(script, time_left).await? {
        Ok(output) => output,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let mut note = String::new();
    let mut bytes = output.stdout.head.as_slice();
    if output.stdout.cut_bytes > 0 || !output.exit.success() {
        let whole = bytes.iter().rposition(|byte| *byte == 0).unwrap_or(0);
        bytes = bytes.get(..whole).unwrap_or_default();
        note.push_str("[not everything was looked at: too many files; name a folder]\n");
    }
    let refused = output.stderr.head.iter().filter(|byte| **byte == b'\n').count();
    if refused > 0 {
        let refused = count(refused, "folder");
        let _ = writeln!(note, "[{refused} could not be looked into]");
    }
    // A name that is not UTF-8 could not be given back in an action either.
    let names = bytes.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let mut names: Vec<String> =
        names.filter_map(|name| String::from_utf8(name.to_vec()).ok()).collect();
    names.sort_unstable();
    Ok(Ok(Names { names, note }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_begins_in_the_folders_that_a_glob_names() {
        for (pattern, folder, rest) in [
            ("*.rs", "", "*.rs"),
            ("src/**/*.rs", "src", "**/*.rs"),
            ("/etc/*.conf", "/etc", "*.conf"),
            ("/*", "/", "*"),
            ("a/b/c.txt", "a/b", "c.txt"),
        ] {
            assert_eq!(fixed_part(pattern), (folder, rest), "{pattern}");
        }
    }

    #[test]
    fn two_stars_cross_folders_and_one_does_not() {
        for (pattern, path, matches) in [
            ("**/*.py", "a/b/c.py", true),
            ("**/*.py", "c.py", true),
            ("a/*.py", "a/c.py", true),
            ("a/*.py", "a/b/c.py", false),
            ("*.py", "a/b/c.py", true),
            ("*.{js,ts}", "a/x.ts", true),
            ("[ab]?.txt", "x/b1.txt", true),
        ] {
            let glob = Glob::new(pattern, !pattern.contains('/')).expect("it is a glob");
            assert_eq!(glob.matches(path), matches, "{pattern} {path}");
            assert!(!matches || glob.depth.is_none_or(|depth| path.split('/').count() <= depth));
        }
        assert!(Glob::new("a[", true).is_err_and(|refusal| refusal.0.contains("a[")));
    }

    #[test]
    fn a_matching_line_is_told_from_its_path() {
        assert_eq!(split("a:b.rs:12:x: 3:4"), Some(("a:b.rs", "12:x: 3:4")));
        assert_eq!(split("cut off"), None);
    }
}
