//! A live sandbox of the `process` driver for the tests of this folder, with this machine's own
//! programs over an overlay; and what agents are told before they begin. They need root.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use orcapack_tasks::FileTree;
use orcapack_tasks::task::{ImageSource, NetworkPolicy};
use tempfile::TempDir;

use crate::process::{ProcessConfig, ProcessDriver};
use crate::sandbox::{Driver as _, ExecRequest, ImageSpec, Labels, Limits, Sandbox, SandboxSpec};
use crate::team::action::Bootstrap;
use crate::team::hands::{ChangeLock, CoderHands, Hands, HandsSettings, scratch};
use crate::team::notes::Notes;
use crate::team::shell::{AgentShell, Shell};
use crate::team::{bootstrap, snapshot};

pub const LEFT: Duration = Duration::from_secs(60);

const LIMITS: Limits =
    Limits { cpus: 2.0, memory_bytes: 1 << 30, pids: 200, storage_bytes: 64 << 20 };

pub struct Inside {
    pub sandbox: Arc<dyn Sandbox>,
    changes: ChangeLock,
    _cache: TempDir,
}

impl Inside {
    pub async fn new(run: &str) -> Self {
        let cache = tempfile::tempdir().unwrap();
        let driver = ProcessDriver::open(ProcessConfig { cache: cache.path().to_owned() }).unwrap();
        let mut tree = FileTree::default();
        tree.insert("Dockerfile", b"FROM stand-in\nWORKDIR /work\n", false);
        let source = ImageSource::Dockerfile(tree);
        let image = driver.image(&ImageSpec { source, build_timeout: LEFT }).await.unwrap();
        let spec = SandboxSpec {
            labels: Labels {
                run: format!("hands-{run}"),
                node: "node".to_owned(),
                incarnation: 1,
                attempt: "1.1.agent".to_owned(),
                deadline_unix_sec: 1 << 40,
            },
            limits: LIMITS,
            network: NetworkPolicy::None,
            env: BTreeMap::from([("API_TOKEN".to_owned(), "hunter2".to_owned())]),
            workdir: None,
            start_timeout: LEFT,
        };
        let sandbox = driver.create(&image, &spec).await.unwrap();
        Self { sandbox, changes: ChangeLock::default(), _cache: cache }
    }

    pub fn settings(&self, user: Option<&str>) -> HandsSettings {
        HandsSettings {
            user: user.map(str::to_owned),
            cwd: "/work".to_owned(),
            scratch: scratch("1"),
            observation_chars_max: 4000,
            changes: self.changes.clone(),
        }
    }

    pub fn coder(&self) -> CoderHands {
        self.coder_with(Arc::new(self.sandbox.clone()), None)
    }

    pub fn coder_with(&self, shell: Arc<dyn Shell>, user: Option<&str>) -> CoderHands {
        Hands::new(shell, self.settings(user), Notes::default())
    }

    pub fn shell(&self) -> AgentShell {
        AgentShell {
            shell: Arc::new(self.sandbox.clone()),
            user: None,
            cwd: "/work".to_owned(),
            writable_only: None,
            env: BTreeMap::new(),
        }
    }

    /// Standard output of a script that must succeed, as root.
    pub async fn out(&self, script: &str) -> String {
        let request = ExecRequest {
            cwd: Some("/work".to_owned()),
            ..ExecRequest::new(["bash", "-c", script], LEFT)
        };
        let output = Sandbox::exec(&*self.sandbox, &request).await.unwrap();
        assert!(output.exit.success(), "{script}: {}", output.stderr);
        output.stdout.to_string()
    }

    pub async fn end(self) {
        self.sandbox.remove().await.unwrap();
    }
}

#[tokio::test]
async fn the_snapshot_tells_what_is_there_and_no_secrets() {
    let inside = Inside::new("snapshot").await;
    inside.out("mkdir src; echo 'SECRET=hunter3' >.env; echo 'fn main(){}' >src/main.rs").await;
    inside.out("printf '[package]\\ntoken = \"hunter4\"\\n' >Cargo.toml; git init -q .").await;
    inside.out("cd /usr/local/bin; echo 'touch /work/started' >npm; chmod 755 npm").await;
    let shell = inside.shell();
    let sleeper = shell.request(["sleep", "47112"].map(str::to_owned).to_vec(), LEFT);
    Sandbox::spawn(&*inside.sandbox, &sleeper).await.unwrap();
    let seen = snapshot::take(&shell, &LIMITS).await.unwrap();
    for part in [
        "## System\nuser root, working folder /work\n",
        "\n.env\n",
        "\nsrc/main.rs\n",
        "--- Cargo.toml\n[package]\ntoken = ***",
        "## Processes\nsleep\n",
        "## Git\n## No commits yet",
        "bash: GNU bash",
        "## Limits\n2 processors, 1024 MiB of memory, 200 processes, 64 MiB of disk\n",
        "\nnpm\n",
    ] {
        assert!(seen.contains(part), "{part} in {seen}");
    }
    assert!(!seen.contains("hunter") && !seen.contains("47112"), "{seen}");
    assert!(seen.chars().count() <= snapshot::SNAPSHOT_CHARS_MAX);
    let without_disk = |seen: &str| {
        let changing = |line: &&str| !line.starts_with("disk");
        seen.lines().filter(changing).map(str::to_owned).collect::<Vec<_>>()
    };
    let again = snapshot::take(&shell, &LIMITS).await.unwrap();
    assert!(!again.contains("started"), "a slow tool was asked for its version: {again}");
    assert_eq!(without_disk(&seen), without_disk(&again));
    inside.end().await;
}

#[tokio::test]
async fn a_subagent_begins_with_the_files_and_folders_that_it_was_given() {
    let inside = Inside::new("bootstrap").await;
    inside.out("mkdir -p d/e d/.git; echo inner >d/e/x; echo no >d/.git/y; echo k >d/id_rsa").await;
    inside.out("printf 'a\\0' >bin; seq 9000 >long; echo short >'a b'; ln -s long link").await;
    let paths = ["a b", "d", "gone", "bin", "link", "/dev/null", ""];
    let wanted = paths.map(|path| Bootstrap { path: path.to_owned(), reason: "why".to_owned() });
    let seen = bootstrap::contents(&inside.shell(), &wanted, 6000, LEFT).await.unwrap();
    for part in [
        "### a b (why)\n```\nshort\n```\n",
        "### d (why)\n```\nd/e\nd/e/x\nd/id_rsa\n--- d/e/x\ninner\n```\n",
        "### gone (why)\n[no such file or folder]\n",
        "### bin (why)\n[a binary file of 2 bytes]\n",
        "### link (why)\n```\n1\n2\n",
        "[the file has 43893 bytes]",
        "### /dev/null (why)\n[not a file that may be read]\n",
        "(why)\n[path \"\": it is empty]\n",
    ] {
        assert!(seen.contains(part), "{part} in {seen}");
    }
    assert!((5000..=6000).contains(&seen.chars().count()), "{}", seen.chars().count());
    let none = bootstrap::contents(&inside.shell(), &[], 6000, LEFT).await.unwrap();
    assert_eq!(none, "");
    inside.end().await;
}
