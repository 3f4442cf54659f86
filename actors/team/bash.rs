//! `bash`: commands that an agent waits for, and those that go on in the background.
//!
//! Every command is a new shell, without a terminal and without input, that starts in the agent's
//! working folder with the environment's variables. At its time limit its whole process tree is
//! killed.

use std::time::Duration;

use crate::sandbox::{Captured, ExecId, ExecOutput, ExecProgress, Exit, SandboxError};
use crate::team::action::Bash;
use crate::team::shell::{AgentShell, Answer, Refusal, bounded};
use crate::team::text::{self, count};

/// Of a command that names none.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(120);
/// A command is one argument, and the kernel takes no longer one than 128 KiB.
const CMD_BYTES_MAX: usize = 120 << 10;
/// A command that took longer is told how long.
const LONG: Duration = Duration::from_secs(5);
/// Of an agent's background commands that run at a time.
pub const JOBS_RUNNING_MAX: usize = 8;
/// Of each stream of a background command, which is fetched anew whenever it is looked at.
const JOB_OUTPUT_BYTES_MAX: usize = 16 << 10;
/// Of what is new of a background command, while it runs and when it has ended.
const RUNNING_CHARS_MAX: usize = 400;
const ENDED_CHARS_MAX: usize = 1500;
/// Of what is new of all background commands together.
pub const NEWS_CHARS_MAX: usize = 3000;
/// Of a background command's own text, by which an agent knows it again.
const NAME_CHARS_MAX: usize = 80;
/// Beside the outputs of a command.
const NOTE_CHARS_MAX: usize = 300;

/// An image without bash has another shell, in which most commands mean the same.
const START: &str = r#"command -v bash >/dev/null 2>&1 && exec bash -c "$1"; exec sh -c "$1""#;

/// Runs a command to its end.
pub async fn run(
    shell: &AgentShell,
    bash: &Bash,
    chars_max: usize,
    time_left: Duration,
) -> Answer<String> {
    let argv = match argv(&bash.cmd) {
        Ok(argv) => argv,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let time_limit = bounded(bash.timeout.unwrap_or(TIMEOUT_DEFAULT), time_left);
    let mut request = shell.request(argv, time_limit);
    // Ample for what is kept of it, whatever its characters.
    request.output_bytes_max = chars_max.saturating_mul(8);
    let output = shell.shell.exec(request).await?;
    let mut said = shown(&output, time_limit, chars_max);
    if ends_in_cd(&bash.cmd) && output.exit.success() {
        said.push_str(&format!("\n[the next command starts in {} again]", shell.cwd));
    }
    Ok(Ok(said))
}

fn argv(cmd: &str) -> Result<Vec<String>, Refusal> {
    if cmd.trim().is_empty() {
        return Err(Refusal("an empty command does nothing".to_owned()));
    }
    if cmd.len() > CMD_BYTES_MAX {
        let why = format!(
            "the command is {} bytes long, of at most {CMD_BYTES_MAX}; write it as a script first",
            cmd.len()
        );
        return Err(Refusal(why));
    }
    Ok(["sh", "-c", START, "sh", cmd].map(str::to_owned).to_vec())
}

/// How it ended unless well, what it said, and what it complained of.
fn shown(output: &ExecOutput, time_limit: Duration, chars_max: usize) -> String {
    let mut notes = Vec::new();
    match output.exit {
        Exit::Code(0) => {}
        Exit::Code(code) => notes.push(format!("exit code {code}")),
        Exit::Signal(signal) => notes.push(format!("ended by signal {signal}")),
        Exit::TimedOut => notes.push(format!(
            "killed at its time limit of {} s, with all that it started; long work can go on in \
             the background (block: false)",
            time_limit.as_secs()
        )),
        Exit::OutOfMemory => notes.push("killed: out of memory".to_owned()),
    }
    if output.elapsed >= LONG && output.exit != Exit::TimedOut {
        notes.push(format!("took {} s", output.elapsed.as_secs()));
    }
    let room = chars_max.saturating_sub(NOTE_CHARS_MAX);
    let streams = [&output.stdout, &output.stderr].map(|stream| text::of_output(stream, room));
    let [stdout, stderr] = streams.each_ref().map(|text| text.trim_end_matches('\n'));
    let needs = [stdout.chars().count(), stderr.chars().count()];
    let room = text::shares(&needs, room);
    let mut said = String::new();
    if !notes.is_empty() {
        said.push_str(&format!("[{}]\n", notes.join("; ")));
    }
    for ((name, stream), room) in [("", stdout), ("stderr:\n", stderr)].into_iter().zip(room) {
        if !stream.is_empty() {
            said.push_str(name);
            said.push_str(&text::cut_middle(stream, room));
            said.push('\n');
        }
    }
    if stdout.is_empty() && stderr.is_empty() {
        said.push_str("[no output]\n");
    }
    said.truncate(said.trim_end_matches('\n').len());
    said
}

/// Whether the last thing that a command does is to change its folder, which nothing is left of.
fn ends_in_cd(cmd: &str) -> bool {
    let last = cmd.trim_end().rsplit(['\n', ';', '&', '|']).next().unwrap_or_default().trim();
    last == "cd" || last.starts_with("cd ")
}

/// An agent's background commands.
#[derive(Default)]
pub struct Jobs {
    jobs: Vec<Job>,
}

struct Job {
    number: usize,
    id: ExecId,
    name: String,
    state: State,
    /// Bytes of each stream that the agent has been told of.
    told: [u64; 2],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    Ended(Exit),
    /// The environment knows nothing of it any more.
    Forgotten,
}

impl Jobs {
    pub async fn start(
        &mut self,
        shell: &AgentShell,
        bash: &Bash,
        time_left: Duration,
    ) -> Answer<String> {
        let running = self.jobs.iter().filter(|job| job.state == State::Running).count();
        if running >= JOBS_RUNNING_MAX {
            let why = format!("{running} commands run in the background already; end one first");
            return Ok(Err(Refusal(why)));
        }
        let argv = match argv(&bash.cmd) {
            Ok(argv) => argv,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let time_limit = bounded(bash.timeout.unwrap_or(time_left), time_left);
        let mut request = shell.request(argv, time_limit);
        request.output_bytes_max = JOB_OUTPUT_BYTES_MAX;
        let id = shell.shell.spawn(request).await?;
        let number = self.jobs.len() + 1;
        let name = bash.cmd.split_whitespace().collect::<Vec<_>>().join(" ");
        let name = text::cut_end(&name, NAME_CHARS_MAX);
        self.jobs.push(Job { number, id, name, state: State::Running, told: [0; 2] });
        Ok(Ok(format!(
            "[job {number} started in the background; killed after {} s at the latest; what \
             becomes of it is told after later actions]",
            time_limit.as_secs()
        )))
    }

    /// What has become of them since this was last asked; empty when nothing has.
    pub async fn news(&mut self, shell: &AgentShell) -> String {
        let mut news = String::new();
        for job in self.jobs.iter_mut().filter(|job| job.state == State::Running) {
            // An environment that failed says so at the next action.
            let progress = shell.shell.poll(job.id).await.ok();
            news.push_str(&job.news(progress));
        }
        text::cut_middle(&news, NEWS_CHARS_MAX)
    }

    /// A line on each, as it was when it was last looked at.
    pub fn states(&self) -> Vec<String> {
        self.jobs
            .iter()
            .map(|job| format!("job {} {}: {}", job.number, job.state(), job.name))
            .collect()
    }

    /// Kills those that run.
    ///
    /// # Errors
    /// When the environment failed.
    pub async fn stop(&mut self, shell: &AgentShell) -> Result<(), SandboxError> {
        for job in self.jobs.iter_mut().filter(|job| job.state == State::Running) {
            shell.shell.kill(job.id).await?;
            job.state = State::Ended(Exit::Signal(KILLED));
        }
        Ok(())
    }
}

/// SIGKILL.
const KILLED: i32 = 9;

impl Job {
    fn state(&self) -> String {
        match self.state {
            State::Running => "runs".to_owned(),
            State::Ended(Exit::TimedOut) => "was killed at its time limit".to_owned(),
            State::Ended(exit) => format!("ended ({exit})"),
            State::Forgotten => "is lost: the environment does not know it any more".to_owned(),
        }
    }

    fn news(&mut self, progress: Option<ExecProgress>) -> String {
        let mut fresh = String::new();
        match progress {
            None => self.state = State::Forgotten,
            Some(progress) => {
                self.state = progress.exit.map_or(State::Running, State::Ended);
                let streams = [&progress.stdout, &progress.stderr];
                for (stream, told) in streams.into_iter().zip(&mut self.told) {
                    fresh.push_str(&text::clean(&newest(stream, *told)));
                    *told = said(stream);
                }
            }
        }
        let running = self.state == State::Running;
        if running && fresh.is_empty() {
            return String::new();
        }
        let chars_max = if running { RUNNING_CHARS_MAX } else { ENDED_CHARS_MAX };
        let chars = count(fresh.chars().count(), "new character");
        let mut news = format!("[job {} {}; {chars}]\n", self.number, self.state());
        if !fresh.is_empty() {
            news.push_str(text::cut_start(&fresh, chars_max).trim_end_matches('\n'));
            news.push('\n');
        }
        news
    }
}

/// Bytes of a stream so far.
fn said(stream: &Captured) -> u64 {
    (stream.head.len() + stream.tail.len()) as u64 + stream.cut_bytes
}

/// What a stream has said after its first `told` bytes, as far as it was kept.
fn newest(stream: &Captured, told: u64) -> Vec<u8> {
    let kept = if stream.cut_bytes > 0 { &stream.tail } else { &stream.head };
    let fresh = usize::try_from(said(stream).saturating_sub(told)).unwrap_or(usize::MAX);
    kept.get(kept.len().saturating_sub(fresh)..).unwrap_or_default().to_vec()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn output(exit: Exit, stdout: &str, stderr: &str) -> ExecOutput {
        let stream = |text: &str| Captured { head: text.into(), ..Captured::default() };
        let elapsed = Duration::from_secs(1);
        ExecOutput { exit, stdout: stream(stdout), stderr: stream(stderr), elapsed }
    }

    fn seen(output: &ExecOutput) -> String {
        shown(output, Duration::from_secs(7), 1000)
    }

    #[test]
    fn an_end_is_told_unless_it_is_a_good_one() {
        assert_eq!(seen(&output(Exit::Code(0), "a\n", "")), "a");
        assert_eq!(seen(&output(Exit::Code(0), "", "")), "[no output]");
        let bad = output(Exit::Code(2), "a\n", "b\n");
        assert_eq!(seen(&bad), "[exit code 2]\na\nstderr:\nb");
        let late = seen(&output(Exit::TimedOut, "so far", ""));
        assert!(late.starts_with("[killed at its time limit of 7 s") && late.ends_with("so far"));
        let slow = ExecOutput { elapsed: Duration::from_secs(61), ..bad };
        assert_eq!(seen(&slow), "[exit code 2; took 61 s]\na\nstderr:\nb");
    }

    #[test]
    fn only_a_change_of_folder_that_is_lost_is_spoken_of() {
        for (cmd, lost) in [
            ("cd src", true),
            ("make && cd build\n", true),
            ("cd src && make", false),
            ("echo cd", false),
            ("cdparanoia x", false),
        ] {
            assert_eq!(ends_in_cd(cmd), lost, "{cmd}");
        }
    }

    proptest! {
        #[test]
        fn an_observation_keeps_its_bound(
            stdout in "\\PC{0,400}", stderr in "\\PC{0,400}", chars_max in 300..700_usize
        ) {
            let output = output(Exit::TimedOut, &stdout, &stderr);
            let seen = shown(&output, Duration::from_secs(7), chars_max);
            prop_assert!(seen.chars().count() <= chars_max, "{}", seen.chars().count());
        }

        /// Whatever is looked at between, an agent is told each byte once as long as it is kept.
        #[test]
        fn new_output_is_told_once(parts in prop::collection::vec("[a-z]{0,9}", 1..6)) {
            let (mut whole, mut told, mut seen) = (String::new(), 0, Vec::new());
            for part in &parts {
                whole.push_str(part);
                let stream = Captured { head: whole.clone().into_bytes(), ..Captured::default() };
                seen.extend(newest(&stream, told));
                told = said(&stream);
            }
            prop_assert_eq!(seen, whole.into_bytes());
        }
    }
}
