//! The Dockerfile subset that can be built without a container engine: one stage, files of the
//! context, commands.
//!
//! [`Dockerfile::parse`] reads and refuses, with every defect at once. [`Dockerfile::plan`] takes
//! what the base image says (environment, working directory, user) and gives the steps to do, with
//! every variable put in, every path absolute, and every command with the environment it runs in:
//! whoever builds keeps no state between steps.
//!
//! Read: `FROM` (one stage), `ARG`, `ENV`, `COPY`, `ADD` of local files, `RUN` (shell form, exec
//! form, heredocs), `WORKDIR`, `USER`, `SHELL`. Read and left aside: `LABEL`, `CMD`, `ENTRYPOINT`,
//! `EXPOSE`, `VOLUME`, `STOPSIGNAL`, `HEALTHCHECK`, `MAINTAINER`. Refused, because they would be
//! built into something else than Docker builds: more stages, `--from`, `--mount`, `ONBUILD`, and
//! `ADD` of addresses and archives.
//!
//! Source: <https://docs.docker.com/reference/dockerfile/>.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::defect::{Defect, Defects};
use crate::dockerfile_lines::{self as lines, Heredoc, Line};
use crate::dockerfile_plan::Planner;
use crate::dockerfile_words::expand;

/// The longest Dockerfile that is read, bytes.
const BYTES_MAX: usize = 1 << 20;
/// The most instructions; Docker's own limit is about 127 layers.
const INSTRUCTIONS_MAX: usize = 1000;

/// A Dockerfile that can be built.
#[derive(Clone, Debug)]
pub struct Dockerfile {
    /// The base image, variables put in.
    pub from: String,
    pub(crate) file: PathBuf,
    pub(crate) escape: char,
    /// `ARG`s before `FROM`: the values that an `ARG` without one takes in the stage.
    pub(crate) globals: BTreeMap<String, String>,
    /// Of the stage, in order, each with its line.
    pub(crate) instructions: Vec<(usize, Instruction)>,
}

/// What an image says about the processes started in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageConfig {
    pub env: BTreeMap<String, String>,
    /// Absolute.
    pub workdir: String,
    /// `USER` as written; `None` is root.
    pub user: Option<String>,
}

/// How to make the image from its base, and what it says in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub steps: Vec<Step>,
    pub config: ImageConfig,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// 1-based line of the Dockerfile, for messages.
    pub line: usize,
    pub action: Action,
}

/// What changes the image's files. `ENV`, `ARG`, `USER` and `SHELL` are in the steps that they bear
/// on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Copy(Copy),
    /// A command that must exit with 0.
    Run(Run),
    /// An absolute folder that is made, with its parents, when it is absent; it belongs to root.
    MakeFolder(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// Relative to the context, with no `..` and no `/` around them; may hold the wildcards of Go's
    /// `filepath.Match`. Empty text is the whole context. Of a folder the contents are copied, not
    /// the folder.
    pub sources: Vec<String>,
    /// Absolute. A folder where it ends with `/`, where a source is a folder, or where there is a
    /// folder already.
    pub destination: String,
    /// `USER[:GROUP]`, names or numbers; `None` is root.
    pub owner: Option<String>,
    /// Permission bits for everything copied; `None` keeps those of the context.
    pub mode: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    pub argv: Vec<String>,
    /// All of it: `ENV` over `ARG` over nothing.
    pub env: BTreeMap<String, String>,
    /// Absolute.
    pub cwd: String,
    pub user: Option<String>,
}

/// An instruction with its words as written: no variable put in yet.
#[derive(Clone, Debug)]
pub(crate) enum Instruction {
    Copy { words: Vec<String>, owner: Option<String>, mode: Option<String>, add: bool },
    RunShell(String),
    RunExec(Vec<String>),
    Workdir(String),
    Env(Vec<(String, String)>),
    Arg(Vec<(String, Option<String>)>),
    User(String),
    Shell(Vec<String>),
}

impl Dockerfile {
    /// Reads a Dockerfile; `file` is only its name in messages.
    ///
    /// # Errors
    /// Everything in it that is wrong or outside of the subset, each with its line.
    pub fn parse(file: &Path, text: &str) -> Result<Self, Defects> {
        if text.len() > BYTES_MAX {
            let found = format!("{} bytes", text.len());
            return Err(Defect::new(file, "a Dockerfile of at most 1 MiB", found).into());
        }
        let split = lines::split(text);
        let mut reader = Reader {
            file,
            escape: split.escape,
            from: None,
            globals: BTreeMap::new(),
            instructions: Vec::new(),
            defects: Vec::new(),
        };
        if let Some((line, value)) = split.bad_escape {
            reader.refuse(line, "ESCAPE", r"`\` or a backtick", format!("`{value}`"));
        }
        for (count, line) in split.lines.iter().enumerate() {
            if count == INSTRUCTIONS_MAX {
                reader.refuse(line.number, &line.keyword, "at most 1000 instructions", "more");
                break;
            }
            if line.keyword == "FROM" && reader.from.is_some() {
                reader.refuse(line.number, "FROM", "one stage", "a second `FROM`");
                break;
            }
            if let Err((expected, found)) = reader.line(line) {
                reader.refuse(line.number, &line.keyword, expected, found);
            }
        }
        if reader.from.is_none() && reader.defects.is_empty() {
            reader.defects.push(Defect::new(file, "a `FROM`", "none"));
        }
        let Reader { from, globals, instructions, mut defects, .. } = reader;
        let dockerfile = Self {
            from: from.unwrap_or_default(),
            file: file.to_owned(),
            escape: split.escape,
            globals,
            instructions,
        };
        // What only shows once variables are in; a base image can hardly mend it.
        if let Err(more) = dockerfile.plan(&ImageConfig::default()) {
            defects.extend(more.0);
            defects.sort_by_key(|defect| defect.line);
        }
        Defects(defects).into_result(dockerfile)
    }

    /// The steps from a base image that says `base`, in order.
    ///
    /// # Errors
    /// Words that the base's variables make wrong, such as an `ADD $SOURCE` that becomes an
    /// address.
    pub fn plan(&self, base: &ImageConfig) -> Result<Plan, Defects> {
        Planner::new(self, base).run()
    }
}

impl Default for ImageConfig {
    /// What an image says that says nothing.
    fn default() -> Self {
        Self { env: BTreeMap::new(), workdir: "/".to_owned(), user: None }
    }
}

/// Expected, found.
pub(crate) type Refusal = (String, String);

pub(crate) fn refusal<T>(
    expected: impl Into<String>,
    found: impl Into<String>,
) -> Result<T, Refusal> {
    Err((expected.into(), found.into()))
}

/// The values of `TARGETPLATFORM` and its like: the machine this is built on.
pub(crate) fn platform_arg(name: &str) -> Option<&'static str> {
    match name {
        "TARGETPLATFORM" | "BUILDPLATFORM" if cfg!(target_arch = "aarch64") => Some("linux/arm64"),
        "TARGETPLATFORM" | "BUILDPLATFORM" => Some("linux/amd64"),
        "TARGETARCH" | "BUILDARCH" if cfg!(target_arch = "aarch64") => Some("arm64"),
        "TARGETARCH" | "BUILDARCH" => Some("amd64"),
        "TARGETOS" | "BUILDOS" => Some("linux"),
        _ => None,
    }
}

struct Reader<'a> {
    file: &'a Path,
    escape: char,
    from: Option<String>,
    globals: BTreeMap<String, String>,
    instructions: Vec<(usize, Instruction)>,
    defects: Vec<Defect>,
}

impl Reader<'_> {
    fn refuse(
        &mut self,
        line: usize,
        keyword: &str,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) {
        let defect = Defect::new(self.file, expected, found).at_line(line).at_key(keyword);
        self.defects.push(defect);
    }

    fn line(&mut self, line: &Line) -> Result<(), Refusal> {
        if let Some(open) = line.heredocs.iter().find(|heredoc| !heredoc.terminated) {
            let expected = format!("a line `{}` that ends the heredoc", open.name);
            return refusal(expected, "the end of the file");
        }
        if self.from.is_none() && !matches!(line.keyword.as_str(), "FROM" | "ARG") {
            return refusal("`FROM` first, with nothing but `ARG` above it", "no `FROM` yet");
        }
        let instruction = match line.keyword.as_str() {
            "FROM" => return self.from(&line.rest),
            "ARG" if self.from.is_none() => return self.global_arg(&line.rest),
            "ARG" => Instruction::Arg(args(&line.rest, self.escape)?),
            "ENV" => Instruction::Env(pairs(&line.rest, self.escape)?),
            "COPY" | "ADD" => copy(line, self.escape)?,
            "RUN" => run(line)?,
            "WORKDIR" => Instruction::Workdir(one(&line.rest, "a folder")?),
            "USER" => Instruction::User(one(&line.rest, "a user")?),
            "SHELL" => match json_words(&line.rest) {
                Some(argv) if !argv.is_empty() => Instruction::Shell(argv),
                _ => return refusal(r#"a JSON list such as ["bash", "-c"]"#, quoted(&line.rest)),
            },
            "LABEL" | "CMD" | "ENTRYPOINT" | "EXPOSE" | "VOLUME" | "STOPSIGNAL" | "HEALTHCHECK"
            | "MAINTAINER" => return Ok(()),
            "ONBUILD" => return refusal("an instruction of this image", "one for other images"),
            other => return refusal("a Dockerfile instruction", quoted(other)),
        };
        self.instructions.push((line.number, instruction));
        Ok(())
    }

    fn from(&mut self, rest: &str) -> Result<(), Refusal> {
        // Set even when the line is refused: what follows is read as the stage's.
        let from = self.from.insert(String::new());
        let lookup =
            |name: &str| self.globals.get(name).map(String::as_str).or_else(|| platform_arg(name));
        let put_in = |word: &str| {
            expand(word, self.escape, &lookup).map_err(|bad| (bad.expected.to_owned(), bad.found))
        };
        let (flags, words) = flags(rest);
        for (name, value) in flags {
            let platform = put_in(value)?;
            let host = platform_arg("TARGETPLATFORM").unwrap_or_default();
            if name != "platform" {
                return refusal("`--platform` or no flag", format!("`--{name}`"));
            }
            if platform != host {
                return refusal(format!("the platform {host}"), quoted(&platform));
            }
        }
        let words = lines::words(words, self.escape);
        let image = match words.as_slice() {
            [image] => image,
            [image, word, _] if word.eq_ignore_ascii_case("AS") => image,
            _ => return refusal("`IMAGE` or `IMAGE AS NAME`", quoted(rest)),
        };
        *from = put_in(image)?;
        if from.is_empty() {
            return refusal("an image", format!("`{image}`, which is empty"));
        }
        Ok(())
    }

    fn global_arg(&mut self, rest: &str) -> Result<(), Refusal> {
        for (name, default) in args(rest, self.escape)? {
            let Some(default) = default else { continue };
            let lookup = |name: &str| self.globals.get(name).map(String::as_str);
            let value = expand(&default, self.escape, &lookup)
                .map_err(|bad| (bad.expected.to_owned(), bad.found))?;
            self.globals.insert(name, value);
        }
        Ok(())
    }
}

fn copy(line: &Line, escape: char) -> Result<Instruction, Refusal> {
    if !line.heredocs.is_empty() {
        return refusal("files of the build context", "a heredoc");
    }
    let (flags, rest) = flags(&line.rest);
    let (mut owner, mut mode) = (None, None);
    for (name, value) in flags {
        match name {
            "chown" => owner = Some(value.to_owned()),
            "chmod" => mode = Some(value.to_owned()),
            "link" => {}
            "from" => return refusal("files of the build context", "`--from`"),
            _ => return refusal("`--chown`, `--chmod` or `--link`", format!("`--{name}`")),
        }
    }
    let words = json_words(rest).unwrap_or_else(|| lines::words(rest, escape));
    if words.len() < 2 {
        return refusal("one source or more, and a destination", quoted(rest));
    }
    Ok(Instruction::Copy { words, owner, mode, add: line.keyword == "ADD" })
}

fn run(line: &Line) -> Result<Instruction, Refusal> {
    let (flags, rest) = flags(&line.rest);
    for (name, value) in flags {
        if (name, value) != ("network", "default") {
            return refusal("no flag", format!("`--{name}`"));
        }
    }
    if rest.is_empty() {
        return refusal("a command", "none");
    }
    if let Some(argv) = json_words(rest) {
        return match argv.is_empty() {
            true => refusal("a command", "an empty list"),
            false => Ok(Instruction::RunExec(argv)),
        };
    }
    match line.heredocs.as_slice() {
        [only] if !rest.contains(char::is_whitespace) => {
            if only.body.starts_with("#!") {
                return refusal("a heredoc of shell commands", "a script with a `#!` line");
            }
            Ok(Instruction::RunShell(heredoc_body(only)))
        }
        heredocs => {
            let mut command = rest.to_owned();
            for Heredoc { name, body, .. } in heredocs {
                command.push_str(&format!("\n{body}{name}"));
            }
            Ok(Instruction::RunShell(command))
        }
    }
}

fn heredoc_body(heredoc: &Heredoc) -> String {
    if !heredoc.strip_tabs {
        return heredoc.body.clone();
    }
    heredoc.body.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
}

fn args(rest: &str, escape: char) -> Result<Vec<(String, Option<String>)>, Refusal> {
    let split = |word: String| {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (word, None),
        };
        if name.is_empty() { refusal("a name before `=`", "none") } else { Ok((name, value)) }
    };
    let words = lines::words(rest, escape);
    if words.is_empty() {
        return refusal("`NAME` or `NAME=DEFAULT`", "nothing");
    }
    words.into_iter().map(split).collect()
}

/// `A=1 B=2`, or the old form `A 1`, whose value is the rest of the line.
fn pairs(rest: &str, escape: char) -> Result<Vec<(String, String)>, Refusal> {
    let words = lines::words(rest, escape);
    let Some(first) = words.first() else { return refusal("`NAME=VALUE`", "nothing") };
    if !first.contains('=') {
        return match rest.split_once(char::is_whitespace) {
            Some((name, value)) => Ok(vec![(name.to_owned(), value.trim_start().to_owned())]),
            None => refusal("`NAME=VALUE`", quoted(rest)),
        };
    }
    let split = |word: &String| match word.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => refusal("`NAME=VALUE`", quoted(word)),
    };
    words.iter().map(split).collect()
}

fn one(rest: &str, what: &str) -> Result<String, Refusal> {
    if rest.is_empty() { refusal(what, "nothing") } else { Ok(rest.to_owned()) }
}

/// The `--name=value` words at the start, and what follows them.
fn flags(rest: &str) -> (Vec<(&str, &str)>, &str) {
    let mut flags = Vec::new();
    let mut rest = rest;
    while let Some(tail) = rest.strip_prefix("--") {
        let (flag, after) = tail.split_once(char::is_whitespace).unwrap_or((tail, ""));
        flags.push(flag.split_once('=').unwrap_or((flag, "")));
        rest = after.trim_start();
    }
    (flags, rest)
}

/// The words of a JSON form; `None` where it is not one, which makes it a shell form as in Docker.
fn json_words(rest: &str) -> Option<Vec<String>> {
    serde_json::from_str(rest).ok()
}

pub(crate) fn quoted(text: &str) -> String {
    if text.is_empty() {
        return "nothing".to_owned();
    }
    let short: String = text.chars().take(80).collect();
    let dots = if short.len() < text.len() { "..." } else { "" };
    format!("`{short}{dots}`")
}

#[cfg(test)]
#[path = "dockerfile_tests.rs"]
mod tests;
