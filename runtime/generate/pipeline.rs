//! Takes tasks through their lives, several at a time: asks what is to be asked, tries what is to
//! be tried, and writes everything down before it goes on.
//!
//! Ideas are had one after the other, so that each is told of those before it. Tasks are tried one
//! after the other too, the trials of each side by side: so they do not disturb each other's
//! clocks.

use std::cell::RefCell;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use orcapack_tasks::authoring::Author;
use orcapack_tasks::authoring::evidence::{Evidence, list};
use orcapack_tasks::authoring::life::{Ending, Life, Want};
use orcapack_tasks::authoring::line::{Event, Why};
use orcapack_tasks::{Defect, FileTree, Task, admission, harbor};
use tokio::sync::{Mutex, watch};

use crate::exit::Failure;
use crate::generate::authors::Authors;
use crate::generate::folder::Folder;
use crate::generate::journal::Journal;
use crate::generate::plan::Plan;
use crate::generate::state::{State, Unfinished};
use crate::generate::tally;
use crate::progress::Mode;
use crate::signals::Signals;
use crate::trials::{self, Bench, Planned};

/// Of a trial's log, its end: where a script says what went wrong.
const LOG_CHARS_MAX: usize = 3_000;

/// What the lives share.
pub struct Pipeline<'p> {
    pub plan: &'p Plan,
    pub folder: &'p Folder,
    pub authors: Authors<'p>,
    /// Whether progress is told.
    pub tells: bool,
    pub journal: RefCell<Journal>,
    pub state: RefCell<State>,
    /// Whose turn it is to have an idea.
    pub ideas: Mutex<()>,
    /// Whose turn it is to be tried.
    pub trials: Mutex<()>,
    /// Nothing more is to be begun.
    pub stop: watch::Sender<bool>,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// There is nothing more to do, or to do it with.
    Done,
    /// A signal stopped it.
    Interrupted,
}

impl Pipeline<'_> {
    /// Goes on with the unfinished, then with new ones, until there are as many as are wanted.
    ///
    /// # Errors
    /// An endpoint does not answer, no sandbox is to be had, or the folder cannot be written. All
    /// that is known is in the journal then.
    pub async fn run(&self, unfinished: Unfinished, signals: &mut Signals) -> Result<End, Failure> {
        let mut under_way = FuturesUnordered::new();
        let (mut waiting, mut next) = (unfinished.into_iter(), self.state.borrow().tally.next());
        let (mut end, mut failed) = (End::Done, None);
        loop {
            while under_way.len() < self.plan.concurrent_max && self.wants_more(under_way.len()) {
                let (number, life) = match waiting.next() {
                    Some((number, life)) => (number, Some(life)),
                    None if next <= self.plan.ideas_max => (next, None),
                    None => break,
                };
                next = next.max(number + 1);
                under_way.push(self.live(number, life));
            }
            tokio::select! {
                biased;
                () = signals.next(), if !self.is_stopped() => {
                    end = End::Interrupted;
                    self.stop();
                }
                lived = under_way.next() => match lived {
                    None => break,
                    Some(Ok(())) => {}
                    Some(Err(failure)) => {
                        failed.get_or_insert(failure);
                        self.stop();
                    }
                },
            }
        }
        failed.map_or(Ok(end), Err)
    }

    fn wants_more(&self, under_way: usize) -> bool {
        let accepted = self.state.borrow().tally.accepted() as usize;
        accepted + under_way < self.plan.count as usize && !self.is_stopped()
    }

    fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }

    fn stop(&self) {
        self.stop.send_replace(true);
    }

    async fn stopped(&self) {
        // It fails only where the sender is gone, which is here.
        let _ = self.stop.subscribe().wait_for(|stop| *stop).await;
    }

    /// Takes a task to its end, or to where it is stopped.
    async fn live(&self, number: u32, life: Option<Life>) -> Result<(), Failure> {
        let has_idea =
            |life: &Life| !matches!(life.want(), Want::Ask(Author::Idea) | Want::Compare);
        let mut turn = match &life {
            Some(life) if has_idea(life) => None,
            _ => Some(self.ideas.lock().await),
        };
        let begin = || self.state.borrow().begin(self.plan, number);
        let mut life = life.unwrap_or_else(begin);
        loop {
            if has_idea(&life) {
                turn.take();
            }
            if let Want::Nothing(ending) = life.want() {
                return self.end(number, &life, ending.clone());
            }
            if self.is_stopped() {
                return Ok(());
            }
            let Some(event) = self.step(number, &life).await? else { return Ok(()) };
            self.write(number, &mut life, &event)?;
        }
    }

    /// Does what a life wants. `None`: it is stopped.
    async fn step(&self, number: u32, life: &Life) -> Result<Option<Event>, Failure> {
        match life.want() {
            Want::Ask(author) => self.ask(number, *author, life).await,
            Want::Compare => {
                let idea = life.idea().ok_or_else(no_idea)?;
                Ok(Some(self.state.borrow().compare_idea(number, idea)))
            }
            Want::Try => self.try_out(number, life).await,
            Want::Nothing(_) => Ok(None),
        }
    }

    async fn ask(
        &self,
        number: u32,
        author: Author,
        life: &Life,
    ) -> Result<Option<Event>, Failure> {
        let used = self.state.borrow().tally.tokens();
        if self.plan.tokens_max.is_some_and(|tokens_max| used >= tokens_max) {
            self.tell("the tokens are used up");
            self.stop();
            return Ok(None);
        }
        tokio::select! {
            biased;
            () = self.stopped() => Ok(None),
            event = self.authors.ask(number, author, life) => event.map(Some),
        }
    }

    async fn try_out(&self, number: u32, life: &Life) -> Result<Option<Event>, Failure> {
        let idea = life.idea().ok_or_else(no_idea)?;
        let tests = life.draft().tests();
        let findings = self.state.borrow().compare(number, life.draft().text(idea, &tests));
        let dir = self.folder.draft(&idea.slug, &life.draft().tree(idea))?;
        let task = match harbor::read(&dir, &|_| None) {
            Ok(task) => Arc::new(task),
            Err(defects) => {
                let own = |defect: Defect| {
                    let file = defect.file.strip_prefix(&dir).unwrap_or(&defect.file).to_owned();
                    Defect { file, ..defect }.to_string()
                };
                let faults = defects.0.into_iter().map(own).collect();
                return Ok(Some(Event::Unreadable { faults }));
            }
        };
        let _turn = self.trials.lock().await;
        if self.is_stopped() {
            return Ok(None);
        }
        self.admit(number, life, &task, findings).await
    }

    async fn admit(
        &self,
        number: u32,
        life: &Life,
        task: &Arc<Task>,
        findings: Vec<String>,
    ) -> Result<Option<Event>, Failure> {
        let bench = Bench {
            config: &self.plan.config,
            run_id: format!("generate-{}-{number}-{}", std::process::id(), life.rounds()),
            progress: Mode::Silent,
            log_chars_max: Some(LOG_CHARS_MAX),
        };
        let planned: Vec<Planned> = trials::of(task).collect();
        let Some(done) = bench.run(&planned).await? else { return Ok(None) };
        let done = done.into_iter().map(|done| (done.trial, done.log)).collect();
        let evidence = Evidence::of(&admission::trials(task), done, findings);
        Ok(Some(Event::Tried(evidence)))
    }

    /// Puts a task where it belongs.
    fn end(&self, number: u32, life: &Life, ending: Ending) -> Result<(), Failure> {
        let files = life.idea().filter(|_| life.draft().file_count() > 0);
        let files = files.map(|idea| life.draft().tree(idea)).unwrap_or_default();
        let event = match ending {
            Ending::Accepted => {
                let idea = life.idea().ok_or_else(no_idea)?;
                self.folder.accept(&idea.slug, &files)?;
                Event::Accepted
            }
            Ending::Rejected { why, reasons } => {
                self.put_aside(number, life, why, &reasons, &files)?;
                Event::Rejected { why, reasons }
            }
        };
        self.write_down(number, life, &event)
    }

    fn put_aside(
        &self,
        number: u32,
        life: &Life,
        why: Why,
        reasons: &[String],
        files: &FileTree,
    ) -> Result<(), Failure> {
        let mut text = format!("Rejected, {}:\n{}", why.as_str(), list(reasons));
        if let Some(idea) = life.idea() {
            text.push_str(&format!("\nIdea: {}\n{}\n", idea.title, idea.description));
        }
        // The name of an idea that was given up may be another task's.
        let named = life.idea().filter(|_| why != Why::Idea);
        let name = named.map_or_else(|| format!("idea-{number}"), |idea| idea.slug.clone());
        self.folder.reject(&name, files, &text)
    }

    /// Writes down what came of what a life wanted, and has it hear of it.
    fn write(&self, number: u32, life: &mut Life, event: &Event) -> Result<(), Failure> {
        let mut after = life.clone();
        after.hear(event).map_err(|error| {
            Failure::internal(format!("task {number}: expected {}", error.expected))
        })?;
        self.write_down(number, &after, event)?;
        *life = after;
        Ok(())
    }

    fn write_down(&self, number: u32, life: &Life, event: &Event) -> Result<(), Failure> {
        let slug = life.idea().map(|idea| idea.slug.as_str());
        self.journal.borrow_mut().append(number, slug, event)?;
        self.state.borrow_mut().note(number, life, event);
        self.tell(&tally::progress(number, life, event));
        Ok(())
    }

    fn tell(&self, line: &str) {
        if self.tells {
            eprintln!("{line}");
        }
    }
}

fn no_idea() -> Failure {
    Failure::internal("a task without an idea is tried")
}
