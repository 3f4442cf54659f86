//! The steps of a Dockerfile, done in a sandbox whose writable layer is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use globset::GlobBuilder;
use orcapack_tasks::FileTree;
use orcapack_tasks::dockerfile::{Action, Copy, ImageConfig, Run};
use orcapack_tasks::task::NetworkPolicy;

use crate::guest::{ExecDefaults, Guest};
use crate::process::{Core, Start, blocking};
use crate::process_image::{Build, image_error};
use crate::sandbox::{ExecOutput, ExecRequest, Labels, Limits, SandboxError};

/// A build is not an attempt: it may use what a machine that builds images has to have.
const MEMORY_BYTES: u64 = 4 << 30;
const PIDS: u32 = 4096;
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// Of what a failed command has said last.
const LAST_LINES: usize = 20;
/// Of one command line; a hundredth of what the kernel takes.
const PATHS_PER_COMMAND: usize = 100;
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The run of a build's sandbox: whoever has the turn to build this image may sweep it.
pub(crate) fn run_of(build: &Build) -> String {
    format!("image-build-{}", build.digest.short())
}

/// Fills `staging/upper`. A `RUN` has the host's network, as it has in an engine's build.
pub(crate) async fn run(
    core: &Arc<Core>,
    build: &Build,
    staging: &Path,
) -> Result<ImageConfig, SandboxError> {
    let base = ImageConfig {
        env: BTreeMap::from([("PATH".to_owned(), PATH.to_owned())]),
        workdir: "/".to_owned(),
        user: None,
    };
    let plan = build.dockerfile.plan(&base).map_err(|all| image_error(all.to_string()))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let start = Start {
        labels: Labels {
            run: run_of(build),
            node: String::new(),
            incarnation: 0,
            attempt: "build".to_owned(),
            deadline_unix_sec: (now + build.timeout).as_secs(),
        },
        limits: Limits {
            cpus: cpus as f64,
            memory_bytes: MEMORY_BYTES,
            pids: PIDS,
            storage_bytes: MEMORY_BYTES,
        },
        network: NetworkPolicy::Public,
        root: build.base.clone(),
        upper: Some(staging.to_owned()),
        defaults: ExecDefaults { workdir: "/".to_owned(), ..ExecDefaults::default() },
        timeout: START_TIMEOUT,
    };
    let sandbox = core.start(start).await?;
    let steps = async {
        let builder =
            Builder { guest: &sandbox.guest, context: &build.context, timeout: build.timeout };
        for step in &plan.steps {
            let done = match &step.action {
                Action::Copy(copy) => builder.copy(copy).await,
                Action::Run(run) => builder.run(run).await,
                Action::MakeFolder(path) => builder.must(&["mkdir", "-p", "--", path]).await,
            };
            done.map_err(|mut error| {
                error.message = format!("Dockerfile:{}: {}", step.line, error.message);
                error
            })?;
        }
        Ok(())
    };
    let timed_out = || image_error(format!("the build took longer than {:?}", build.timeout));
    let result =
        tokio::time::timeout(build.timeout, steps).await.unwrap_or_else(|_| Err(timed_out()));
    sandbox.end().await?;
    result.map(|()| plan.config)
}

struct Builder<'a> {
    guest: &'a Guest,
    context: &'a FileTree,
    timeout: Duration,
}

impl Builder<'_> {
    async fn run(&self, run: &Run) -> Result<(), SandboxError> {
        let mut request = self.request(run.argv.clone());
        request.cwd = Some(run.cwd.clone());
        request.env = run.env.clone();
        request.user = run.user.clone();
        let output = self.guest.exec(&request).await?;
        // What a step left running, an engine would end with the step's container.
        self.guest.stop_processes().await?;
        success(&run.argv, &output)
    }

    async fn must(&self, argv: &[&str]) -> Result<(), SandboxError> {
        let argv: Vec<String> = argv.iter().map(|word| (*word).to_owned()).collect();
        let output = self.guest.exec(&self.request(argv.clone())).await?;
        success(&argv, &output)
    }

    /// Its own limit is only for a guest that is left alone: the build's, which is told as such,
    /// comes first.
    fn request(&self, argv: Vec<String>) -> ExecRequest {
        let mut request = ExecRequest::new([], self.timeout.saturating_mul(2));
        request.argv = argv;
        request
    }

    async fn copy(&self, copy: &Copy) -> Result<(), SandboxError> {
        let to = copy.destination.trim_end_matches('/');
        let probe = self.request(["test", "-d", &copy.destination].map(str::to_owned).to_vec());
        let there = self.guest.exec(&probe).await?.exit.success();
        let is_folder = there || copy.destination.ends_with('/');
        let files = chosen(self.context, &copy.sources, is_folder).map_err(image_error)?;
        let (folder, files) = match files {
            Chosen::Into(files) => (to, files),
            Chosen::As(file) => {
                let (folder, name) = to.rsplit_once('/').unwrap_or(("", to));
                (folder, BTreeMap::from([(name.to_owned(), file)]))
            }
        };
        let mut owned: BTreeSet<String> = files
            .keys()
            .flat_map(|path| with_parents(path))
            .map(|path| format!("{folder}/{path}"))
            .collect();
        if !there && folder == to {
            owned.insert(to.to_owned());
        }
        let (context, mode) = (self.context.clone(), copy.mode);
        let archive =
            blocking(move || archive(&context, &files, mode)).await?.map_err(image_error)?;
        let folder = if folder.is_empty() { "/" } else { folder };
        self.guest.put_through_links(folder, archive).await?;
        let Some(owner) = &copy.owner else { return Ok(()) };
        let owned: Vec<&str> = owned.iter().map(String::as_str).collect();
        for paths in owned.chunks(PATHS_PER_COMMAND) {
            self.must(&[&["chown", "-h", "--", owner], paths].concat()).await?;
        }
        Ok(())
    }
}

fn success(argv: &[String], output: &ExecOutput) -> Result<(), SandboxError> {
    if output.exit.success() {
        return Ok(());
    }
    let said = format!("{}{}", output.stdout, output.stderr);
    let lines: Vec<&str> = said.lines().collect();
    let last = lines.get(lines.len().saturating_sub(LAST_LINES)..).unwrap_or_default().join("\n");
    Err(image_error(format!("{argv:?} ended with {}:\n{last}", output.exit)))
}

/// Files of the context, by their paths in it, under the paths that they get below a folder, or one
/// under its own name.
#[derive(Debug, PartialEq, Eq)]
enum Chosen {
    Into(BTreeMap<String, String>),
    As(String),
}

/// Of a folder its contents, of a file the file; a pattern may choose several of both.
fn chosen(context: &FileTree, sources: &[String], to_folder: bool) -> Result<Chosen, String> {
    let mut files = BTreeMap::new();
    let (mut folders, mut count) = (false, 0);
    let known: BTreeSet<String> =
        context.iter().flat_map(|(path, _)| with_parents(path)).chain([String::new()]).collect();
    for source in sources {
        let literal = known.contains(source);
        // Go's patterns know neither alternatives nor `**`.
        let pattern = source.replace('{', "[{]").replace('}', "[}]").replace("**", "*");
        let matcher =
            GlobBuilder::new(&pattern).literal_separator(true).backslash_escape(true).build();
        let matcher = matcher.map_err(|error| format!("{source:?}: {error}"))?.compile_matcher();
        let before = count;
        let hit = |path: &&String| if literal { *path == source } else { matcher.is_match(path) };
        for path in known.iter().filter(hit) {
            count += 1;
            if context.get(path).is_some() {
                let name = path.rsplit('/').next().unwrap_or(path);
                files.insert(name.to_owned(), path.clone());
                continue;
            }
            folders = true;
            let inside =
                |(file, _)| inside(file, path).map(|rest| (rest.to_owned(), file.to_owned()));
            files.extend(context.iter().filter_map(inside));
        }
        if count == before {
            return Err(format!("no {source:?} in the build context"));
        }
    }
    match files.pop_first() {
        Some((_, only)) if !to_folder && !folders && count == 1 => Ok(Chosen::As(only)),
        first => Ok(Chosen::Into(first.into_iter().chain(files).collect())),
    }
}

fn inside<'a>(file: &'a str, folder: &str) -> Option<&'a str> {
    if folder.is_empty() { Some(file) } else { file.strip_prefix(folder)?.strip_prefix('/') }
}

/// `a/b/c`: `a`, `a/b`, `a/b/c`.
fn with_parents(path: &str) -> impl Iterator<Item = String> {
    let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
    ends.map(|end| path[..end].to_owned())
}

fn archive(
    context: &FileTree,
    files: &BTreeMap<String, String>,
    mode: Option<u32>,
) -> Result<Vec<u8>, String> {
    let mut builder = tar::Builder::new(Vec::new());
    let folders: BTreeSet<String> = files
        .keys()
        .flat_map(|path| with_parents(path))
        .filter(|path| !files.contains_key(path))
        .collect();
    let mut header = tar::Header::new_gnu();
    // Before the files in them. Without a mode that is asked for, folders that are there keep
    // theirs.
    for folder in folders.iter().filter(|_| mode.is_some()) {
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(mode.unwrap_or(0o755));
        header.set_size(0);
        builder.append_data(&mut header, folder, &[][..]).map_err(|error| error.to_string())?;
    }
    for (to, from) in files {
        let entry = context.get(from).ok_or_else(|| format!("no {from:?} in the build context"))?;
        let bytes = entry.read().map_err(|error| error.to_string())?;
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(mode.unwrap_or(if entry.executable { 0o755 } else { 0o644 }));
        header.set_size(bytes.len() as u64);
        builder.append_data(&mut header, to, &*bytes).map_err(|error| error.to_string())?;
    }
    builder.into_inner().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(sources: &[&str], to_folder: bool) -> Result<Vec<(String, String)>, String> {
        let mut context = FileTree::default();
        for path in ["Dockerfile", "a.py", "b.py", "src/main.c", "src/lib/x.h", "odd{1}"] {
            context.insert(path, b"x", false);
        }
        let sources: Vec<String> = sources.iter().map(|source| (*source).to_owned()).collect();
        Ok(match chosen(&context, &sources, to_folder)? {
            Chosen::Into(files) => files.into_iter().collect(),
            Chosen::As(file) => vec![(String::new(), file)],
        })
    }

    fn pairs(pairs: &[(&str, &str)]) -> Result<Vec<(String, String)>, String> {
        Ok(pairs.iter().map(|(to, from)| ((*to).to_owned(), (*from).to_owned())).collect())
    }

    #[test]
    fn copies_choose_what_docker_would() {
        assert_eq!(choose(&["a.py"], false), pairs(&[("", "a.py")]));
        assert_eq!(choose(&["a.py"], true), pairs(&[("a.py", "a.py")]));
        assert_eq!(choose(&["*.py"], false), pairs(&[("a.py", "a.py"), ("b.py", "b.py")]));
        assert_eq!(
            choose(&["src"], false),
            pairs(&[("lib/x.h", "src/lib/x.h"), ("main.c", "src/main.c")])
        );
        assert_eq!(
            choose(&["src/*"], true),
            pairs(&[("main.c", "src/main.c"), ("x.h", "src/lib/x.h")])
        );
        assert_eq!(choose(&["odd{1}"], false), pairs(&[("", "odd{1}")]));
        assert_eq!(choose(&[""], false).map(|all| all.len()), Ok(6));
        assert!(choose(&["a.py", "c.py"], true).is_err());
        assert!(choose(&["sr"], true).is_err());
    }
}
