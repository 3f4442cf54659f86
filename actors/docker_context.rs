//! Build contexts: which images a Dockerfile builds on, which files its builder may see, and the
//! archive they travel in. Pure but for the reading of files.
//!
//! The engine's classic builder leaves `.dockerignore` to its client, so it is honoured here.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use globset::{GlobBuilder, GlobMatcher};
use orcapack_tasks::FileTree;

/// The images that a Dockerfile names in `FROM` and `COPY --from`, without its own stages and
/// `scratch`, in order.
///
/// A reference that needs a variable other than an `ARG` above the first `FROM` is left to the
/// builder.
pub(crate) fn base_images(dockerfile: &str) -> Vec<String> {
    let mut args: BTreeMap<String, String> = BTreeMap::new();
    let mut stages: Option<BTreeSet<String>> = None;
    let mut bases = Vec::new();
    for line in instructions(dockerfile) {
        let mut words = line.split_whitespace();
        let keyword = words.next().unwrap_or_default().to_ascii_uppercase();
        let (flags, words): (Vec<&str>, Vec<&str>) = words.partition(|word| word.starts_with("--"));
        let copied_from = flags.iter().find_map(|flag| flag.strip_prefix("--from="));
        let (reference, new_stage) = match (keyword.as_str(), words.as_slice(), copied_from) {
            ("ARG", words, _) if stages.is_none() => {
                let pairs = words.iter().filter_map(|word| word.split_once('='));
                args.extend(pairs.map(|(name, value)| (name.to_owned(), unquoted(value))));
                continue;
            }
            ("FROM", [reference], _) => (*reference, None),
            ("FROM", [reference, r#as, stage], _) if r#as.eq_ignore_ascii_case("as") => {
                (*reference, Some(stage.to_lowercase()))
            }
            ("COPY", _, Some(reference)) if reference.parse::<usize>().is_err() => {
                (reference, None)
            }
            _ => continue,
        };
        let stages = stages.get_or_insert_with(|| BTreeSet::from(["scratch".to_owned()]));
        if let Some(reference) = expanded(reference, &args)
            && !stages.contains(&reference.to_lowercase())
            && !bases.contains(&reference)
        {
            bases.push(reference);
        }
        stages.extend(new_stage);
    }
    bases
}

/// The instructions of a Dockerfile, each on one line: comments dropped, continued lines joined.
fn instructions(dockerfile: &str) -> Vec<String> {
    let escape = escape_character(dockerfile);
    let mut instructions = Vec::new();
    let mut open = String::new();
    for line in dockerfile.trim_start_matches('\u{feff}').lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match line.strip_suffix(escape) {
            Some(start) => open.push_str(start),
            None => {
                open.push_str(line);
                instructions.push(std::mem::take(&mut open));
            }
        }
    }
    instructions.push(open);
    instructions
}

/// `\`, or what the parser directive `# escape=` at the top of the file says.
fn escape_character(dockerfile: &str) -> char {
    let directives = dockerfile.lines().map_while(|line| {
        let (name, value) = line.trim().strip_prefix('#')?.split_once('=')?;
        Some((name.trim().to_ascii_lowercase(), value.trim()))
    });
    let escape = directives.into_iter().find(|(name, _)| name == "escape");
    escape.and_then(|(_, value)| value.chars().next()).unwrap_or('\\')
}

/// With `$NAME` and `${NAME}` replaced; `None` where a variable is unknown or has a modifier.
fn expanded(reference: &str, args: &BTreeMap<String, String>) -> Option<String> {
    let mut parts = reference.split('$');
    let mut text = parts.next()?.to_owned();
    for part in parts {
        let (name, rest) = match part.strip_prefix('{') {
            Some(braced) => braced.split_once('}')?,
            None => {
                let end = part.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                part.split_at(end.unwrap_or(part.len()))
            }
        };
        text.push_str(args.get(name)?);
        text.push_str(rest);
    }
    Some(text)
}

fn unquoted(value: &str) -> String {
    value.trim_matches(['"', '\'']).to_owned()
}

/// The rules of a `.dockerignore`. The last one that matches a path, or a folder above it, decides.
#[derive(Default)]
pub(crate) struct Ignore {
    rules: Vec<(GlobMatcher, bool)>,
}

impl Ignore {
    /// An error names the line.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut rules = Vec::new();
        for (number, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            let pattern = if line.starts_with('#') { "" } else { line.trim() };
            let (pattern, ignores) = match pattern.strip_prefix('!') {
                Some(pattern) => (pattern.trim(), false),
                None => (pattern, true),
            };
            let parts: Vec<&str> =
                pattern.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
            if parts.is_empty() {
                continue;
            }
            // Braces are plain characters there, and alternatives here.
            let pattern = parts.join("/").replace('{', "[{]").replace('}', "[}]");
            let glob = GlobBuilder::new(&pattern)
                .literal_separator(true)
                .backslash_escape(true)
                .build()
                .map_err(|error| format!(".dockerignore:{}: {error}", number + 1))?;
            rules.push((glob.compile_matcher(), ignores));
        }
        Ok(Self { rules })
    }

    pub(crate) fn ignores(&self, path: &str) -> bool {
        let matches = |glob: &GlobMatcher| {
            glob.is_match(path) || folders_above(path).any(|folder| glob.is_match(folder))
        };
        let decisive = self.rules.iter().rev().find(|(glob, _)| matches(glob));
        decisive.is_some_and(|(_, ignores)| *ignores)
    }
}

/// `a`, `a/b` for `a/b/c`.
fn folders_above(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(end, _)| &path[..end])
}

/// The files that `ignore` lets through as a tar archive, folders first: same files, same bytes.
pub(crate) fn archive(files: &FileTree, ignore: &Ignore) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut folders = BTreeSet::new();
    // The builder needs these two whatever the rules say.
    let kept = |path: &str| matches!(path, "Dockerfile" | ".dockerignore") || !ignore.ignores(path);
    for (path, entry) in files.iter().filter(|(path, _)| kept(path)) {
        for folder in folders_above(path) {
            if folders.insert(folder) {
                let mut header = header(tar::EntryType::Directory, 0o755, 0);
                archive.append_data(&mut header, folder, io::empty())?;
            }
        }
        let bytes = entry.read()?;
        let mode = if entry.executable { 0o755 } else { 0o644 };
        let mut header = header(tar::EntryType::Regular, mode, bytes.len() as u64);
        archive.append_data(&mut header, path, &*bytes)?;
    }
    archive.into_inner()
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_image_that_is_built_on_is_found_once() {
        let dockerfile = "\
            ARG TAG=12 VARIANT='slim'\n\
            from --platform=linux/amd64 debian:${TAG}-$VARIANT AS build\n\
            RUN echo \\\n  # a comment inside\n\n  FROM nowhere\n\
            FROM debian:12-slim\n\
            COPY --from=build /a /b\n\
            COPY --chown=1:1 --from=busybox:1 /c /d\n\
            COPY --from=0 /a /c\n\
            FROM scratch\n\
            FROM Build AS last";
        assert_eq!(base_images(dockerfile), ["debian:12-slim", "busybox:1"]);
    }

    #[test]
    fn a_stage_may_bear_the_name_of_the_image_it_builds_on() {
        assert_eq!(base_images("FROM python AS python\nFROM python"), ["python"]);
    }

    #[test]
    fn a_reference_with_an_unknown_variable_is_left_to_the_builder() {
        assert_eq!(base_images("FROM $BASE\nFROM ${BASE:-x}\nFROM a"), ["a"]);
    }

    #[test]
    fn python_in_a_dockerfile_is_no_base_image() {
        assert!(base_images("RUN python3 - <<E\nfrom os import path\nE\n").is_empty());
    }

    #[test]
    fn the_escape_directive_changes_what_continues_a_line() {
        let dockerfile = "# syntax=x\n# escape=`\nRUN dir C:\\\nRUN a `\nFROM no\nFROM yes";
        assert_eq!(base_images(dockerfile), ["yes"]);
    }

    #[test]
    fn the_last_matching_rule_decides_and_folders_count() {
        let rules = "# comment\n\n/build/\n*.log\n**/secret\n!keep.log\ndocs/*\n!docs/a.md\n{x}\n";
        let ignore = Ignore::parse(rules).unwrap();
        for path in ["build", "build/a/b", "a.log", "a/b/secret", "secret/x", "docs/b.md", "{x}"] {
            assert!(ignore.ignores(path), "{path}");
        }
        for path in ["keep.log", "a/b.log", "docs/a.md", "a/build", "x"] {
            assert!(!ignore.ignores(path), "{path}");
        }
    }

    #[test]
    fn a_malformed_rule_is_named_by_its_line() {
        let error = Ignore::parse("a\n[\n").err().unwrap();
        assert!(error.starts_with(".dockerignore:2: "), "{error}");
    }

    #[test]
    fn an_archive_holds_folders_modes_and_no_ignored_file() {
        let mut files = FileTree::default();
        files.insert("Dockerfile", b"FROM scratch", false);
        files.insert("a/b/run.sh", b"#!/bin/sh\n", true);
        files.insert("a/no.log", b"", false);
        let ignore = Ignore::parse("Dockerfile\n**/*.log").unwrap();
        let bytes = archive(&files, &ignore).unwrap();
        assert_eq!(bytes, archive(&files, &ignore).unwrap());

        let mut archive = tar::Archive::new(&*bytes);
        let entries = archive.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            let path = entry.path().unwrap().to_string_lossy().into_owned();
            (path, entry.header().mode().unwrap(), entry.header().mtime().unwrap())
        });
        let expected = [("Dockerfile", 0o644), ("a", 0o755), ("a/b", 0o755), ("a/b/run.sh", 0o755)];
        let expected = expected.map(|(path, mode)| (path.to_owned(), mode, 0));
        assert_eq!(entries.collect::<Vec<_>>(), expected);
    }
}
