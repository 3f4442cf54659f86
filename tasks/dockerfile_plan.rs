//! From a Dockerfile's instructions to the steps of a build: variables put in, paths made absolute.

use std::collections::BTreeMap;

use crate::defect::{Defect, Defects};
use crate::dockerfile::{
    Action, Copy, Dockerfile, ImageConfig, Instruction, Plan, Refusal, Run, Step, platform_arg,
    quoted, refusal,
};
use crate::dockerfile_words::expand;

const ARCHIVES: [&str; 9] =
    [".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".tzst"];

/// Docker's own, for a base image that says nothing.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What `ENV` and `ARG` may hold together, bytes: every `RUN` step carries it.
const ENV_BYTES_MAX: usize = 64 << 10;

/// The state of a build between its instructions.
pub(crate) struct Planner<'a> {
    source: &'a Dockerfile,
    config: ImageConfig,
    args: BTreeMap<String, String>,
    shell: Vec<String>,
    steps: Vec<Step>,
    defects: Vec<Defect>,
}

impl<'a> Planner<'a> {
    pub fn new(source: &'a Dockerfile, base: &ImageConfig) -> Self {
        let mut config = base.clone();
        config.env.entry("PATH".to_owned()).or_insert_with(|| PATH.to_owned());
        Self {
            source,
            config,
            args: BTreeMap::new(),
            shell: vec!["/bin/sh".to_owned(), "-c".to_owned()],
            steps: Vec::new(),
            defects: Vec::new(),
        }
    }

    pub fn run(mut self) -> Result<Plan, Defects> {
        for (line, instruction) in &self.source.instructions {
            match self.step(instruction) {
                Ok(None) => {}
                Ok(Some(action)) => self.steps.push(Step { line: *line, action }),
                Err((expected, found)) => {
                    let defect = Defect::new(&self.source.file, expected, found).at_line(*line);
                    self.defects.push(defect.at_key(keyword(instruction)));
                }
            }
        }
        Defects(self.defects).into_result(Plan { steps: self.steps, config: self.config })
    }

    fn step(&mut self, instruction: &Instruction) -> Result<Option<Action>, Refusal> {
        match instruction {
            Instruction::Env(pairs) => {
                // All of one line see the environment before it.
                let mut news = Vec::new();
                for (name, value) in pairs {
                    news.push((self.put_in(name)?, self.put_in(value)?));
                }
                self.config.env.extend(news);
                self.bound_env()?;
            }
            Instruction::Arg(args) => {
                for (name, default) in args {
                    let value = match default {
                        Some(default) => Some(self.put_in(default)?),
                        None => self.global(name),
                    };
                    if let Some(value) = value {
                        self.args.insert(name.clone(), value);
                    }
                }
                self.bound_env()?;
            }
            Instruction::Shell(argv) => self.shell.clone_from(argv),
            Instruction::User(user) => self.config.user = Some(self.filled(user)?),
            Instruction::Workdir(folder) => {
                let folder = self.absolute(&self.filled(folder)?);
                self.config.workdir.clone_from(&folder);
                return Ok(Some(Action::MakeFolder(folder)));
            }
            Instruction::RunShell(command) => {
                let mut argv = self.shell.clone();
                argv.push(command.clone());
                return Ok(Some(self.command(argv)));
            }
            Instruction::RunExec(argv) => return Ok(Some(self.command(argv.clone()))),
            Instruction::Copy { words, owner, mode, add } => {
                let owner = owner.as_deref().map(|owner| self.filled(owner)).transpose()?;
                let mode = mode.as_deref().map(|mode| self.mode(mode)).transpose()?;
                return self.copy(words, owner, mode, *add).map(|copy| Some(Action::Copy(copy)));
            }
        }
        Ok(None)
    }

    fn bound_env(&mut self) -> Result<(), Refusal> {
        let held = self.config.env.iter().chain(&self.args);
        let bytes: usize = held.map(|(name, value)| name.len() + value.len()).sum();
        if bytes > ENV_BYTES_MAX {
            self.args.clear();
            self.config.env.clear();
            return refusal("at most 64 KiB of ENV and ARG", format!("{bytes} bytes"));
        }
        Ok(())
    }

    fn command(&self, argv: Vec<String>) -> Action {
        let mut env = self.args.clone();
        env.extend(self.config.env.clone());
        let ImageConfig { workdir, user, .. } = &self.config;
        Action::Run(Run { argv, env, cwd: workdir.clone(), user: user.clone() })
    }

    fn copy(
        &self,
        words: &[String],
        owner: Option<String>,
        mode: Option<u32>,
        add: bool,
    ) -> Result<Copy, Refusal> {
        let mut words =
            words.iter().map(|word| self.filled(word)).collect::<Result<Vec<_>, _>>()?;
        let destination = words.pop().unwrap_or_default();
        let several = words.len() > 1;
        if several && !destination.ends_with('/') && destination != "." {
            return refusal(
                "a destination that ends with `/` for several sources",
                quoted(&destination),
            );
        }
        let sources = words.iter().map(|word| source(word, add)).collect::<Result<Vec<_>, _>>()?;
        let folder =
            destination.ends_with('/') || destination.ends_with("/.") || destination == ".";
        let mut destination = self.absolute(&destination);
        if folder && !destination.ends_with('/') {
            destination.push('/');
        }
        Ok(Copy { sources, destination, owner, mode })
    }

    fn mode(&self, mode: &str) -> Result<u32, Refusal> {
        let mode = self.filled(mode)?;
        match u32::from_str_radix(&mode, 8) {
            Ok(bits) if bits <= 0o7777 && !mode.starts_with('+') => Ok(bits),
            _ => refusal("`--chmod` with an octal number such as 755", quoted(&mode)),
        }
    }

    /// `path` seen from the working directory, with no `.` and `..` in it.
    fn absolute(&self, path: &str) -> String {
        let workdir = if path.starts_with('/') { "" } else { self.config.workdir.as_str() };
        let mut parts: Vec<&str> = Vec::new();
        for part in workdir.split('/').chain(path.split('/')) {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop()),
                part => parts.push(part),
            }
        }
        format!("/{}", parts.join("/"))
    }

    fn global(&self, name: &str) -> Option<String> {
        let global = self.source.globals.get(name).map(String::as_str);
        global.or_else(|| platform_arg(name)).map(str::to_owned)
    }

    fn put_in(&self, word: &str) -> Result<String, Refusal> {
        let lookup = |name: &str| {
            self.config.env.get(name).or_else(|| self.args.get(name)).map(String::as_str)
        };
        expand(word, self.source.escape, &lookup)
            .map_err(|bad| (bad.expected.to_owned(), bad.found))
    }

    fn filled(&self, word: &str) -> Result<String, Refusal> {
        let value = self.put_in(word)?;
        match value.contains('\0') {
            true => refusal("text without a NUL", quoted(word)),
            false if value.is_empty() => {
                refusal("a value that is not empty", format!("{}, which is empty", quoted(word)))
            }
            false => Ok(value),
        }
    }
}

/// A path of the context, cleaned.
fn source(word: &str, add: bool) -> Result<String, Refusal> {
    if add && (word.contains("://") || word.starts_with("git@")) {
        return refusal("files of the build context (fetch addresses with RUN)", quoted(word));
    }
    let lower = word.to_ascii_lowercase();
    if add && ARCHIVES.iter().any(|suffix| lower.ends_with(suffix)) {
        return refusal("a file that ADD does not unpack (use COPY and RUN tar)", quoted(word));
    }
    if add && word.contains(['*', '?', '[']) {
        return refusal("ADD without wildcards (use COPY)", quoted(word));
    }
    let parts: Vec<&str> = word.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if parts.contains(&"..") {
        return refusal("a path inside the build context", quoted(word));
    }
    Ok(parts.join("/"))
}

fn keyword(instruction: &Instruction) -> &'static str {
    match instruction {
        Instruction::Copy { add: false, .. } => "COPY",
        Instruction::Copy { add: true, .. } => "ADD",
        Instruction::RunShell(_) | Instruction::RunExec(_) => "RUN",
        Instruction::Workdir(_) => "WORKDIR",
        Instruction::Env(_) => "ENV",
        Instruction::Arg(_) => "ARG",
        Instruction::User(_) => "USER",
        Instruction::Shell(_) => "SHELL",
    }
}
