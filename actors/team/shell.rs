//! What agents need of an environment, and how one agent's commands are run in it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::environment::Workbench;
use crate::sandbox::{ExecId, ExecOutput, ExecProgress, ExecRequest, Exit, Sandbox, SandboxError};
use crate::team::record::Observation;
use crate::team::text;

/// Runs commands in one environment. See [`Sandbox`] for what each call does.
pub trait Shell: Send + Sync + 'static {
    fn exec(&self, request: ExecRequest) -> BoxFuture<'_, Result<ExecOutput, SandboxError>>;
    fn spawn(&self, request: ExecRequest) -> BoxFuture<'_, Result<ExecId, SandboxError>>;
    fn poll(&self, id: ExecId) -> BoxFuture<'_, Result<ExecProgress, SandboxError>>;
    fn kill(&self, id: ExecId) -> BoxFuture<'_, Result<(), SandboxError>>;
}

impl Shell for Workbench {
    fn exec(&self, request: ExecRequest) -> BoxFuture<'_, Result<ExecOutput, SandboxError>> {
        Box::pin(Self::exec(self, request))
    }

    fn spawn(&self, request: ExecRequest) -> BoxFuture<'_, Result<ExecId, SandboxError>> {
        Box::pin(Self::spawn(self, request))
    }

    fn poll(&self, id: ExecId) -> BoxFuture<'_, Result<ExecProgress, SandboxError>> {
        Box::pin(Self::poll(self, id))
    }

    fn kill(&self, id: ExecId) -> BoxFuture<'_, Result<(), SandboxError>> {
        Box::pin(Self::kill(self, id))
    }
}

/// For whoever owns a sandbox without an actor around it.
impl Shell for Arc<dyn Sandbox> {
    fn exec(&self, request: ExecRequest) -> BoxFuture<'_, Result<ExecOutput, SandboxError>> {
        Box::pin(async move { Sandbox::exec(&**self, &request).await })
    }

    fn spawn(&self, request: ExecRequest) -> BoxFuture<'_, Result<ExecId, SandboxError>> {
        Box::pin(async move { Sandbox::spawn(&**self, &request).await })
    }

    fn poll(&self, id: ExecId) -> BoxFuture<'_, Result<ExecProgress, SandboxError>> {
        Sandbox::poll(&**self, id)
    }

    fn kill(&self, id: ExecId) -> BoxFuture<'_, Result<(), SandboxError>> {
        Sandbox::kill(&**self, id)
    }
}

/// For what we run ourselves to carry out an action; an action has its own limit only in `bash`.
const SCRIPT_TIME_LIMIT: Duration = Duration::from_secs(60);
/// What an agent keeps of its time when a command uses it up, for a last word.
const LAST_WORD: Duration = Duration::from_secs(5);
/// A command that is allowed to start at all gets this long.
const TIME_LIMIT_MIN: Duration = Duration::from_secs(1);
/// The kernel's limit of a path.
const PATH_BYTES_MAX: usize = 4096;

/// One agent's shell: whose commands they are, where they run, and what they may change.
#[derive(Clone)]
pub struct AgentShell {
    pub shell: Arc<dyn Shell>,
    pub user: Option<String>,
    /// Where every command starts, and what paths are relative to; absolute.
    pub cwd: String,
    /// The only folder that commands may change; `None`: whatever their user may.
    pub writable_only: Option<String>,
    pub env: BTreeMap<String, String>,
}

/// Why an action was not done, for the agent to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal(pub String);

/// An inner error is the agent's, an outer one the environment's.
pub type Answer<T> = Result<Result<T, Refusal>, SandboxError>;

impl AgentShell {
    pub fn request(&self, argv: Vec<String>, time_limit: Duration) -> ExecRequest {
        ExecRequest {
            argv,
            cwd: Some(self.cwd.clone()),
            user: self.user.clone(),
            env: self.env.clone(),
            writable_only: self.writable_only.clone(),
            ..ExecRequest::new([], time_limit)
        }
    }

    /// Runs one of our own `sh` scripts, which need no more than what every image with a shell has.
    ///
    /// They say what is wrong on standard error and end with another exit code than 0: a
    /// [`Refusal`].
    pub async fn script(&self, script: Script<'_>, time_left: Duration) -> Answer<ExecOutput> {
        let mut argv = vec!["sh".to_owned(), "-c".to_owned(), script.text.to_owned()];
        argv.push("sh".to_owned());
        argv.extend(script.arguments.iter().map(|argument| (*argument).to_owned()));
        let time_limit = bounded(SCRIPT_TIME_LIMIT, time_left);
        let request = ExecRequest {
            stdin: script.stdin,
            output_bytes_max: script.output_bytes_max,
            ..self.request(argv, time_limit)
        };
        let output = self.shell.exec(request).await?;
        Ok(match output.exit {
            Exit::Code(0) => Ok(output),
            Exit::TimedOut if script.partial => Ok(output),
            Exit::TimedOut => Err(Refusal(format!("not done within {} s", time_limit.as_secs()))),
            exit => {
                let said = text::of_output(&output.stderr, REFUSAL_CHARS_MAX);
                let said = said.trim();
                Err(Refusal(if said.is_empty() { exit.to_string() } else { said.to_owned() }))
            }
        })
    }
}

/// Of what a script says is wrong.
const REFUSAL_CHARS_MAX: usize = 1000;

pub struct Script<'a> {
    pub text: &'a str,
    pub arguments: &'a [&'a str],
    pub stdin: Vec<u8>,
    pub output_bytes_max: usize,
    /// What was said before the time limit is worth having.
    pub partial: bool,
}

impl<'a> Script<'a> {
    pub fn new(text: &'a str, arguments: &'a [&'a str], output_bytes_max: usize) -> Self {
        Self { text, arguments, stdin: Vec::new(), output_bytes_max, partial: false }
    }
}

/// A time limit within an agent's remaining time.
pub fn bounded(time_limit: Duration, time_left: Duration) -> Duration {
    time_limit.min(time_left.saturating_sub(LAST_WORD)).max(TIME_LIMIT_MIN)
}

/// A path as an argument of a command.
pub fn path_argument(path: &str) -> Result<String, Refusal> {
    let refused = |why: &str| Err(Refusal(format!("path {:?}: {why}", text::cut_end(path, 200))));
    match path {
        "" => refused("it is empty"),
        _ if path.contains('\0') => refused("it holds a zero byte"),
        _ if path.len() > PATH_BYTES_MAX => refused("it is too long"),
        _ if path == "~" || path.starts_with("~/") => {
            refused("~ is not expanded here; give an absolute path, or one in the working folder")
        }
        _ if path.starts_with('-') => Ok(format!("./{path}")),
        _ => Ok(path.to_owned()),
    }
}

impl Refusal {
    pub fn about(path: &str, why: impl std::fmt::Display) -> Self {
        Self(format!("{path}: {why}"))
    }
}

impl From<Refusal> for Observation {
    fn from(Refusal(text): Refusal) -> Self {
        Self { text, done: false, ..Self::default() }
    }
}
