//! Habits of writing: what fits a screen, what must not be written, what must be explained.

use crate::{Source, files, none, read, rust};

const FILE_LINES_MAX: usize = 500;
/// Files that may be longer, up to so many lines, and why.
const LONGER: [(&str, usize, &str); 1] =
    [("actors/guest.rs", 550, "one connection: its handle, its reader and its writer share types")];

#[test]
fn files_are_short() {
    let lines_max = |path: &str| {
        let longer = LONGER.iter().find(|(name, ..)| *name == path);
        longer.map_or(FILE_LINES_MAX, |(_, lines_max, _)| *lines_max)
    };
    let sources = rust();
    let too_long = sources.iter().filter_map(|source| {
        let (lines, lines_max) = (source.lines().count(), lines_max(&source.path));
        (lines > lines_max).then(|| format!("{}: {lines} of {lines_max} lines", source.path))
    });
    let needless = LONGER.iter().filter_map(|(path, ..)| {
        let source = sources.iter().find(|source| source.path == *path);
        let needed = source.is_some_and(|source| source.lines().count() > FILE_LINES_MAX);
        (!needed).then(|| format!("{path}: needs no exception any more"))
    });
    none(too_long.chain(needless), "a file with one reason to exist is rarely above 300 lines");
}

/// Rustfmt breaks code, and neither comments nor texts. A text may be as long as what a user sees
/// in one line, but only tests have such a need: they quote it.
#[test]
fn lines_fit_100_columns() {
    let sources = rust();
    let faults = sources.iter().flat_map(|source| {
        let fits = |line: &str| line.chars().count() <= 100;
        let comments = source.tests().filter(|(_, line)| line.trim_start().starts_with("//"));
        let long = source.program().chain(comments).filter(move |(_, line)| !fits(line));
        long.map(|(number, _)| format!("{}:{number}", source.path))
    });
    none(faults, "two files side by side, or a diff of one, fit a screen");
}

#[test]
fn nothing_is_left_for_later() {
    // Put together here, so that this file does not find itself.
    let marks = [["TO", "DO"], ["FIX", "ME"], ["HA", "CK"]].map(|parts| parts.concat());
    let texts = files().into_iter().filter(|path| {
        [".rs", ".md", ".toml", ".sh", ".sql", ".html", "justfile", ".ci/run"]
            .iter()
            .any(|end| path.ends_with(end))
    });
    let faults = texts.map(read).flat_map(|source| {
        let is_marked = |line: &str| {
            let mut words = line.split(|c: char| !c.is_ascii_alphanumeric());
            words.any(|word| marks.iter().any(|mark| mark == word))
        };
        let marked = source.lines().filter(|(_, line)| is_marked(line));
        marked.map(|(number, _)| format!("{}:{number}", source.path)).collect::<Vec<_>>()
    });
    none(faults.collect::<Vec<_>>(), "what is not done is not there; a mark says that it is");
}

#[test]
fn programs_do_not_unwrap() {
    /// File and why a panic is right in it.
    const MAY: [(&str, &str); 1] =
        [("actors/build.rs", "a build script's only way to tell cargo is to fail")];
    let sources = rust();
    let strict = sources.iter().filter(|source| MAY.iter().all(|(path, _)| *path != source.path));
    let faults = strict.flat_map(|source| {
        let calls = [".unwrap()", ".expect(", "panic!(", "unimplemented!("];
        let panics = move |line: &str| calls.iter().any(|call| line.contains(call));
        let lines = source.program().filter(move |(_, line)| panics(line));
        lines.map(|(number, line)| format!("{}:{number}: {}", source.path, line.trim()))
    });
    none(faults, "whatever comes from outside is an error with a message, never a panic");
}

/// A sleep that waits for something to happen is too short on a busy machine and too long on
/// another. Those that remain have a comment above them, or in their line, that says why.
#[test]
fn sleeps_in_tests_say_why() {
    let mut sources = rust();
    // Which speaks of sleeps and has none.
    sources.retain(|source| source.path != file!());
    let faults = sources.iter().flat_map(|source| {
        let lines: Vec<&str> = source.text.lines().collect();
        let sleeps = source.tests().filter(|(_, line)| is_sleep(line));
        let silent = sleeps.filter(move |(number, line)| {
            let above = number.checked_sub(2).and_then(|above| lines.get(above));
            let explained = |line: &str| line.trim_start().starts_with("//");
            !line.contains("//") && !above.is_some_and(|above| explained(above))
        });
        silent.map(|(number, _)| format!("{}:{number}", source.path))
    });
    none(faults, "tests wait for what happened, not for time");
}

fn is_sleep(line: &str) -> bool {
    let calls = line.match_indices("sleep(").filter(|(at, _)| {
        let before = &line[..*at];
        !before.ends_with(|c: char| c.is_alphanumeric() || c == '_') && !before.ends_with("fn ")
    });
    calls.count() > 0 && !line.trim_start().starts_with("//")
}

#[test]
fn a_sleep_is_recognised() {
    let lines = ["    tokio::time::sleep(MS).await;", "sleep(MS).await", "fn sleep(x: u8) {", "x"];
    let source = Source { path: "tests/x.rs".to_owned(), text: lines.join("\n") };
    let found: Vec<usize> =
        source.tests().filter(|(_, line)| is_sleep(line)).map(|(number, _)| number).collect();
    assert_eq!(found, [1, 2]);
}
