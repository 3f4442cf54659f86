//! What carries out the actions of one subagent: its hands in the environment.
//!
//! An action flows in, what the agent is to see of it flows out: bounded, and marked where it was
//! cut. Whatever goes wrong inside (a command that fails, a file that is not there) is text for the
//! agent; an error means that the environment failed. [`Hands`] of an explorer have no value to be
//! asked to change a file with, and all their commands may write to their scratch folder only.
//!
//! Clones are the same hands. Whoever takes an agent over goes on with its hands, which know its
//! background commands, or makes new ones with its [`Notes`], rebuilt from the record.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex as SyncMutex, PoisonError};
use std::time::Duration;

use tokio::sync::Mutex;

use crate::sandbox::SandboxError;
use crate::team::action::{Change, Tool};
use crate::team::bash::{self, Jobs};
use crate::team::notes::Notes;
use crate::team::record::Observation;
use crate::team::shell::{AgentShell, Answer, Refusal, Shell};
use crate::team::{files, search, text};

#[derive(Clone, Debug)]
pub struct HandsSettings {
    /// Whose commands they are; `None` is the image's user.
    pub user: Option<String>,
    /// Absolute; where commands start.
    pub cwd: String,
    /// A folder of the agent's own; see [`scratch`].
    pub scratch: String,
    /// Of one action.
    pub observation_chars_max: usize,
    /// The same for all who change files in one environment.
    pub changes: ChangeLock,
}

/// Lets agents that work side by side change files one after the other, so that an edit of one is
/// never lost to another's. Clones are the same lock.
#[derive(Clone, Debug, Default)]
pub struct ChangeLock(Arc<Mutex<()>>);

/// The scratch folder of the agent that is called this and nobody else in its environment, before
/// or after it, is. There is no folder around all of them: it would belong to the first one's user.
pub fn scratch(agent: &str) -> String {
    format!("/tmp/orcapack-{agent}")
}

/// Which changes of files hands may be asked for: none, or all.
pub trait Access: Send + Sync + 'static {
    const READ_ONLY: bool;

    fn as_change(&self) -> &Change;
}

impl Access for Infallible {
    const READ_ONLY: bool = true;

    fn as_change(&self) -> &Change {
        match *self {}
    }
}

impl Access for Change {
    const READ_ONLY: bool = false;

    fn as_change(&self) -> &Change {
        self
    }
}

pub type ExplorerHands = Hands<Infallible>;
pub type CoderHands = Hands<Change>;

pub struct Hands<C> {
    inner: Arc<Inner>,
    access: PhantomData<fn(&C)>,
}

struct Inner {
    shell: AgentShell,
    settings: HandsSettings,
    notes: SyncMutex<Notes>,
    jobs: Mutex<Jobs>,
}

impl<C> Clone for Hands<C> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), access: PhantomData }
    }
}

impl<C: Access> Hands<C> {
    pub fn new(shell: Arc<dyn Shell>, settings: HandsSettings, notes: Notes) -> Self {
        let scratch = C::READ_ONLY.then(|| settings.scratch.clone());
        // Programs that need a temporary file find a place for it.
        let env = scratch.iter().map(|scratch| ("TMPDIR".to_owned(), scratch.clone()));
        let env: BTreeMap<String, String> = env.collect();
        let shell = AgentShell {
            shell,
            user: settings.user.clone(),
            cwd: settings.cwd.clone(),
            writable_only: scratch,
            env,
        };
        let (notes, jobs) = (SyncMutex::new(notes), Mutex::default());
        Self { inner: Arc::new(Inner { shell, settings, notes, jobs }), access: PhantomData }
    }

    /// Uses a tool, within the agent's remaining time.
    ///
    /// # Errors
    /// When the environment failed.
    pub async fn tool(
        &self,
        tool: &Tool,
        time_left: Duration,
    ) -> Result<Observation, SandboxError> {
        let noted = self.inner.notes.lock().unwrap_or_else(PoisonError::into_inner).apply(tool);
        let observation = match noted {
            Some(observation) => observation,
            None => observed(self.inner.tool(tool, time_left).await?),
        };
        Ok(self.inner.finish(observation).await)
    }

    /// Changes a file: wholly, or not at all.
    ///
    /// # Errors
    /// When the environment failed.
    pub async fn change(
        &self,
        change: &C,
        time_left: Duration,
    ) -> Result<Observation, SandboxError> {
        let changing = self.inner.settings.changes.0.lock().await;
        let answer = files::change(&self.inner.shell, change.as_change(), time_left).await?;
        drop(changing);
        Ok(self.inner.finish(observed(answer)).await)
    }

    /// A line on each background command, as it was after the last action.
    pub async fn jobs(&self) -> Vec<String> {
        self.inner.jobs.lock().await.states()
    }

    /// Kills the background commands that still run.
    ///
    /// # Errors
    /// When the environment failed.
    pub async fn stop_jobs(&self) -> Result<(), SandboxError> {
        self.inner.jobs.lock().await.stop(&self.inner.shell).await
    }
}

impl Inner {
    async fn tool(&self, tool: &Tool, time_left: Duration) -> Answer<String> {
        let chars_max = self.settings.observation_chars_max;
        match tool {
            Tool::Bash(bash) if bash.block => {
                bash::run(&self.shell, bash, chars_max, time_left).await
            }
            Tool::Bash(bash) => self.jobs.lock().await.start(&self.shell, bash, time_left).await,
            Tool::Read(read) => files::read(&self.shell, read, chars_max, time_left).await,
            Tool::Metadata { paths } => {
                files::metadata(&self.shell, paths, chars_max, time_left).await
            }
            Tool::Search(search) => search::search(&self.shell, search, chars_max, time_left).await,
            Tool::WriteTempScript { path, content } => {
                let scratch = &self.settings.scratch;
                files::write_temp_script(&self.shell, scratch, path, content, time_left).await
            }
            // Answered by the notes.
            Tool::Todo(_) | Tool::Scratchpad(_) => Ok(Ok(String::new())),
        }
    }

    /// With what is new of background commands, and bounded with it.
    async fn finish(&self, mut observation: Observation) -> Observation {
        let news = self.jobs.lock().await.news(&self.shell).await;
        let chars_max = self.settings.observation_chars_max;
        let news = text::cut_middle(news.trim_end(), chars_max / 2);
        let room = chars_max.saturating_sub(news.chars().count());
        if news.is_empty() {
            observation.text = text::cut_middle(&observation.text, room);
        } else {
            // One line end between.
            let text = text::cut_middle(&observation.text, room.saturating_sub(1));
            observation.text = format!("{}\n{news}", text.trim_end_matches('\n'));
        }
        observation
    }
}

fn observed(answer: Result<String, Refusal>) -> Observation {
    match answer {
        Ok(text) => Observation { text, done: true, ..Observation::default() },
        Err(refusal) => refusal.into(),
    }
}

#[cfg(test)]
#[path = "hands_tests.rs"]
mod tests;
