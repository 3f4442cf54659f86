//! What subagents do with files: `file` read and metadata, write and edit, and `write_temp_script`.
//!
//! All of it is `sh` and what every image has beside it, as the agent's user; contents go through
//! standard input, which has no limit of its own. A file is replaced by a rename in its folder, so
//! that nobody ever sees half of it. It is written in place where a rename would change more than
//! the content: where it has several names, where its owner could not be kept, or where the folder
//! may not be written.

use std::fmt::Write as _;
use std::path::{Component, Path};
use std::time::Duration;

use orcapack_tasks::near;
use sha2::{Digest as _, Sha256};

use crate::team::action::{Change, Edit, METADATA_PATHS_MAX, ReadFile};
use crate::team::diff;
use crate::team::edit::{self, EDIT_BYTES_MAX, size};
use crate::team::shell::{AgentShell, Answer, Refusal, Script, path_argument};
use crate::team::text::{self, count};

/// Lines of a read that asks for no number.
const READ_LINES_DEFAULT: u64 = 2000;
/// Of one line that is read; what is longer is rarely read for its end.
const LINE_CHARS_MAX: usize = 1000;
/// Beside the lines of a read: what is said of them.
const NOTE_CHARS_MAX: usize = 200;
/// What shows what an edit did.
const DIFF_CHARS_MAX: usize = 3000;

/// Numbered lines of a file, or the names in a folder.
pub async fn read(
    shell: &AgentShell,
    read: &ReadFile,
    chars_max: usize,
    time_left: Duration,
) -> Answer<String> {
    let path = match path_argument(&read.path) {
        Ok(path) => path,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let first = read.offset.unwrap_or(1).max(1);
    let limit = read.limit.unwrap_or(READ_LINES_DEFAULT).max(1);
    let bytes_max = chars_max.saturating_mul(4).saturating_add(LINE_CHARS_MAX);
    let numbers = [first.to_string(), limit.to_string(), bytes_max.to_string()];
    let [first_text, limit_text, bytes_text] = numbers.each_ref().map(String::as_str);
    let arguments = [path.as_str(), first_text, limit_text, bytes_text];
    // With the first line, and for a folder as much as is worth looking at.
    let script = Script::new(include_str!("read.sh"), &arguments, bytes_max + (64 << 10));
    let output = match shell.script(script, time_left).await? {
        Ok(output) => output.stdout,
        Err(Refusal(why)) => return Ok(Err(Refusal::about(&read.path, why))),
    };
    let end = output.head.iter().position(|byte| *byte == b'\n').unwrap_or(output.head.len());
    let (header, body) = output.head.split_at(end);
    let header = String::from_utf8_lossy(header).into_owned();
    let body = body.get(1..).unwrap_or_default();
    let words: Vec<&str> = header.split(' ').collect();
    Ok(match words.as_slice() {
        ["file", bytes, line_ends] => {
            let (bytes, line_ends) = (bytes.parse().unwrap_or(0), line_ends.parse().unwrap_or(0));
            let slice = Slice { body, first, bytes_max, bytes, line_ends };
            slice.show(chars_max).map_err(|why| Refusal::about(&read.path, why))
        }
        ["folder"] => {
            let more = if output.cut_bytes > 0 { "\n[... more ...]" } else { "" };
            let names = text::clean(body);
            let entries = count(names.lines().count(), "name");
            let room = chars_max.saturating_sub(NOTE_CHARS_MAX);
            let listing = text::cut_end(names.trim_end(), room);
            let path = text::cut_end(&read.path, NOTE_CHARS_MAX / 2);
            Ok(format!("{path} is a folder, {entries}:\n{listing}{more}"))
        }
        ["absent", ..] => {
            let folder = header.strip_prefix("absent ").unwrap_or_default();
            Err(absent(&read.path, folder, &text::clean(body)))
        }
        _ => Err(Refusal::about(&read.path, format!("the image's shell said {header:?}"))),
    })
}

/// What was read of a file.
struct Slice<'a> {
    body: &'a [u8],
    first: u64,
    bytes_max: usize,
    /// Of the whole file.
    bytes: u64,
    line_ends: u64,
}

impl Slice<'_> {
    fn show(&self, chars_max: usize) -> Result<String, String> {
        if self.body.contains(&0) {
            let looks = "look at it with bash, for example with file, strings or od";
            return Err(format!("a binary file of {} bytes; {looks}", self.bytes));
        }
        if self.body.is_empty() && self.bytes == 0 {
            return Ok("[an empty file]".to_owned());
        }
        if self.body.is_empty() {
            return Err(format!("it has {} only", count(self.line_ends as usize, "line")));
        }
        let content = String::from_utf8_lossy(self.body);
        let partly = self.body.len() >= self.bytes_max;
        let mut shown = String::new();
        let mut room = chars_max.saturating_sub(NOTE_CHARS_MAX);
        let (mut next, mut crlf) = (self.first, false);
        let mut lines = content.split_inclusive('\n').peekable();
        while let Some(line) = lines.next() {
            let broken_off = partly && lines.peek().is_none() && !line.ends_with('\n');
            crlf |= line.ends_with("\r\n");
            let line = numbered(next, line.trim_end_matches(['\n', '\r']));
            let chars = line.chars().count();
            if next > self.first && (chars > room || broken_off) {
                break;
            }
            room = room.saturating_sub(chars);
            shown.push_str(&line);
            // The image's programs may have been replaced by ones that print anything.
            next = next.saturating_add(1);
        }
        let last = next.saturating_sub(1);
        let open_line = self.body.last() != Some(&b'\n') && !partly;
        let reaches_end = open_line && last == self.line_ends.saturating_add(1);
        let all = if reaches_end { last } else { self.line_ends.max(last) };
        if last < all {
            let first = self.first;
            // Writing to a string does not fail.
            let _ = writeln!(shown, "[lines {first} to {last} of {all}; for more: offset {next}]");
        } else if self.first > 1 {
            let _ = writeln!(shown, "[lines {} to {last}, the end of the file]", self.first);
        }
        if crlf {
            shown.push_str("[lines end with CR LF]\n");
        }
        if std::str::from_utf8(self.body).is_err() && !partly {
            shown.push_str("[not UTF-8: what is not is shown as \u{fffd}]\n");
        }
        Ok(shown)
    }
}

/// A line with its number, and visible control characters.
fn numbered(number: u64, line: &str) -> String {
    let mut shown = String::with_capacity(line.len());
    for c in text::cut_end(line, LINE_CHARS_MAX).chars() {
        match c {
            '\t' => shown.push(c),
            c if c.is_control() => shown.extend(c.escape_default()),
            c => shown.push(c),
        }
    }
    format!("{number:>6}\t{}\n", text::cut_end(&shown, LINE_CHARS_MAX))
}

/// That there is no such file, with the names that could be meant.
fn absent(path: &str, folder: &str, names: &str) -> Refusal {
    let parent = Path::new(path).parent().unwrap_or(Path::new(""));
    let is_parent = Path::new(folder) == parent || (folder == "." && parent == Path::new(""));
    let wanted = Path::new(path).file_name().unwrap_or_default().to_string_lossy();
    let meant = near::nearest(&wanted, names.lines()).filter(|_| is_parent);
    Refusal::about(
        path,
        match meant {
            Some(name) => format!("no such file or folder; did you mean {name:?} there?"),
            None if is_parent => "no such file or folder".to_owned(),
            None => format!("no such file or folder; there is {folder} only"),
        },
    )
}

/// A line of facts for each path.
pub async fn metadata(
    shell: &AgentShell,
    paths: &[String],
    chars_max: usize,
    time_left: Duration,
) -> Answer<String> {
    if paths.is_empty() || paths.len() > METADATA_PATHS_MAX {
        let given = paths.len();
        let why = format!("1 to {METADATA_PATHS_MAX} paths are expected, and {given} were given");
        return Ok(Err(Refusal(why)));
    }
    let paths: Vec<String> = match paths.iter().map(|path| path_argument(path)).collect() {
        Ok(paths) => paths,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let arguments: Vec<&str> = paths.iter().map(String::as_str).collect();
    let script = Script::new(include_str!("metadata.sh"), &arguments, 64 << 10);
    let output = shell.script(script, time_left).await?;
    Ok(output.map(|output| text::of_output(&output.stdout, chars_max).trim_end().to_owned()))
}

/// Makes, replaces or edits a file.
pub async fn change(shell: &AgentShell, change: &Change, time_left: Duration) -> Answer<String> {
    match change {
        Change::Write { path, content } => {
            let wanted = Wanted { path, content: content.as_bytes(), ..Wanted::default() };
            Ok(write(shell, &wanted, time_left).await?.map(|before| {
                let now = size(content.as_bytes());
                match before {
                    Some(before) => format!("{path}: replaced, {now} (it had {before})"),
                    None => format!("{path}: a new file, {now}"),
                }
            }))
        }
        Change::Edit { path, edits } => edit(shell, path, edits, time_left).await,
    }
}

async fn edit(
    shell: &AgentShell,
    path: &str,
    edits: &[Edit],
    time_left: Duration,
) -> Answer<String> {
    let about = |Refusal(why): Refusal| Refusal::about(path, why);
    let argument = match path_argument(path) {
        Ok(argument) => argument,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let arguments = [argument.as_str()];
    let script = Script::new(include_str!("load.sh"), &arguments, EDIT_BYTES_MAX);
    let before = match shell.script(script, time_left).await? {
        Ok(output) if output.stdout.cut_bytes > 0 => {
            let why = format!("longer than {EDIT_BYTES_MAX} bytes; change it with bash");
            return Ok(Err(Refusal::about(path, why)));
        }
        Ok(output) => output.stdout.head,
        Err(refusal) => return Ok(Err(about(refusal))),
    };
    let after = match edit::apply(&before, edits) {
        Ok(after) => after,
        Err(refusal) => return Ok(Err(about(refusal))),
    };
    let expected = hex(&Sha256::digest(&before));
    let wanted = Wanted { path, content: &after, expected: &expected, ..Wanted::default() };
    Ok(write(shell, &wanted, time_left).await?.map(|_| {
        let shown = diff::short(&before, &after, DIFF_CHARS_MAX);
        format!("{path}: {} done, {} now\n{shown}", count(edits.len(), "edit"), size(&after))
    }))
}

/// A script of the agent's own, in its scratch folder.
pub async fn write_temp_script(
    shell: &AgentShell,
    scratch: &str,
    name: &str,
    content: &str,
    time_left: Duration,
) -> Answer<String> {
    // A model that was told the whole path may give it back.
    let inside = Path::new(name).strip_prefix(scratch).unwrap_or(Path::new(name));
    let plain = |part: Component| matches!(part, Component::Normal(_) | Component::CurDir);
    if inside.file_name().is_none() || !inside.components().all(plain) {
        let why = format!("a script's path is relative, without .., and ends up in {scratch}");
        return Ok(Err(Refusal::about(name, why)));
    }
    let path = format!("{scratch}/{}", inside.display());
    let wanted =
        Wanted { path: &path, content: content.as_bytes(), executable: true, ..Wanted::default() };
    let written = write(shell, &wanted, time_left).await?;
    Ok(written.map(|_| format!("{path}: written, executable, {}", size(content.as_bytes()))))
}

#[derive(Default)]
struct Wanted<'a> {
    path: &'a str,
    content: &'a [u8],
    /// The SHA-256 of what is replaced; empty where anything may be.
    expected: &'a str,
    executable: bool,
}

/// `Some` with its size before where the file was there.
async fn write(
    shell: &AgentShell,
    wanted: &Wanted<'_>,
    time_left: Duration,
) -> Answer<Option<String>> {
    let path = match path_argument(wanted.path) {
        Ok(path) => path,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let executable = if wanted.executable { "x" } else { "" };
    let arguments = [path.as_str(), wanted.expected, executable];
    let script = Script {
        stdin: wanted.content.to_vec(),
        ..Script::new(include_str!("write.sh"), &arguments, 1 << 10)
    };
    let output = shell.script(script, time_left).await?;
    Ok(output.map_err(|Refusal(why)| Refusal::about(wanted.path, why)).map(|output| {
        let said = output.stdout.to_string();
        said.trim().strip_prefix("replaced ").map(|bytes| format!("{bytes} bytes"))
    }))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        // Writing to a string does not fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
