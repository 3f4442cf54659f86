//! The program itself: how it begins, and how it ends.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::http::send;
use crate::policy;

const COMPLETIONS: &str = "/v1/completions";

fn program(args: &[&str], dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orcapack"));
    command.arg("serve").arg(dir).args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A server in a process of its own, killed if a test forgets it.
struct Running {
    child: Child,
    at: SocketAddr,
    line: String,
    _stdout: BufReader<ChildStdout>,
}

impl Running {
    fn start(args: &[&str], dir: &Path) -> Self {
        let args = [&["--listen", "127.0.0.1:0", "--threads", "1"], args].concat();
        let mut child = program(&args, dir).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let at = line.split("http://").nth(1).and_then(|rest| rest.split('/').next());
        let at = at.unwrap_or_else(|| panic!("no address in {line:?}")).parse().unwrap();
        Self { child, at, line, _stdout: stdout }
    }

    fn signal(&self) {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM).unwrap();
    }

    /// Exit code and standard error.
    fn end(&mut self) -> (Option<i32>, String) {
        let code = self.child.wait().unwrap().code();
        let stderr = std::io::read_to_string(self.child.stderr.take().unwrap()).unwrap();
        (code, stderr)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended long ago.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn failed(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(output.stdout.is_empty());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn it_says_what_it_serves_and_ends_when_its_answers_have() {
    let dir = tempfile::tempdir().unwrap();
    policy::write(dir.path(), 1);
    let mut server = Running::start(&["--name", "tiny", "--context", "512"], dir.path());
    assert!(server.line.starts_with("serving tiny at http://127.0.0.1:"), "{}", server.line);
    for figure in ["parameters", "32 slots", "context 512 tokens", "1 threads", "MiB of weights"] {
        assert!(server.line.contains(figure), "{figure} in {}", server.line);
    }
    let body = json!({"prompt": [5], "max_tokens": 400, "ignore_eos": true, "stream": true});
    let mut coming = send(server.at, COMPLETIONS, &[], Some(body.to_string())).await;
    coming.frame().await.expect("an event");
    server.signal();
    // What is under way may end; that is the last that the server does.
    let mut text = String::new();
    while let Some(frame) = coming.frame().await {
        text.push_str(&frame);
    }
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    let (code, stderr) = server.end();
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stderr.contains("draining for up to 20 s"), "{stderr}");
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let dir = tempfile::tempdir().unwrap();
    policy::write(dir.path(), 1);
    let mut server = Running::start(&["--context", "32768"], dir.path());
    let body = json!({"prompt": [5], "max_tokens": 32_000, "ignore_eos": true, "stream": true});
    let mut coming = send(server.at, COMPLETIONS, &[], Some(body.to_string())).await;
    coming.frame().await.expect("an event");
    server.signal();
    let mut stderr = BufReader::new(server.child.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    assert!(line.contains("once more to stop now"), "{line}");
    server.signal();
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
}

#[test]
fn what_is_wrong_with_a_policy_is_told_all_at_once_with_exit_code_2() {
    let dir = tempfile::tempdir().unwrap();
    let stderr = failed(&program(&[], dir.path()).output().unwrap());
    assert!(stderr.contains("config.json"), "{stderr}");
    policy::write(dir.path(), 1);
    let long = failed(&program(&["--context", "40000"], dir.path()).output().unwrap());
    assert!(long.contains("context_tokens_max: expected at most 32768"), "{long}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let taken = failed(&program(&["--listen", &address], dir.path()).output().unwrap());
    assert!(taken.contains(&format!("cannot listen on {address}")), "{taken}");
    let key = failed(&program(&["--api-key-env", "NOT_SET_4711"], dir.path()).output().unwrap());
    assert!(key.contains("--api-key-env") && key.contains("which is not set"), "{key}");
}

/// Of `eval` by a configuration whose models are these tables, without running anything.
fn dry_run(dir: &Path, models: &str) -> Output {
    let config = dir.join("eval.toml");
    let tasks = concat!(env!("CARGO_MANIFEST_DIR"), "/tasks/builtin");
    let text = format!("run.dataset = \"{tasks}\"\nagent.kind = \"team\"\n{models}");
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_orcapack"));
    command.args(["eval", "--dry-run", "-c"]).arg(config).current_dir(dir).output().unwrap()
}

#[test]
fn an_embedded_policy_is_found_from_the_working_directory_and_checked_before_a_run() {
    let dir = tempfile::tempdir().unwrap();
    let policy = dir.path().join("small");
    std::fs::create_dir(&policy).unwrap();
    policy::write(&policy, 1);
    let main = "[models.main]\nkind = \"embedded\"\ncheckpoint = \"small\"\nslots = 7\n";
    let output = dry_run(dir.path(), main);
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    for line in
        [&format!("checkpoint = \"{}\"", policy.display()), "slots = 7", "in_flight_max = 7"]
    {
        assert!(stdout.contains(line), "{line} in {stdout}");
    }
    let two = "[team.roles]\nexplorer = \"b\"\n\
               [models.b]\nkind = \"embedded\"\ncheckpoint = \"small\"\n";
    let stderr = failed(&dry_run(dir.path(), &format!("{main}{two}")));
    assert!(stderr.contains("expected the bounds of `main`, which shares its engine"), "{stderr}");

    std::fs::write(policy.join("config.json"), "{}").unwrap();
    let stderr = failed(&dry_run(dir.path(), main));
    assert!(
        stderr.contains("models.main.checkpoint: expected the directory of a policy"),
        "{stderr}"
    );
    assert!(stderr.contains("hidden_size") && stderr.contains("num_hidden_layers"), "{stderr}");
}
