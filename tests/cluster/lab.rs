//! A cluster for one test: its files, its nodes on machines of their own, and runs on it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::ledger::Ledger;
use crate::network::Network;
use crate::process::{PATIENCE, Process, read, until};
use crate::program::{Task, groups, in_engine, processes, states};

/// The machine of the coordinator, and of whoever looks after the nodes.
pub const COORDINATOR: &str = "c";
/// Every run of a test has this name, in a cluster of its own.
const RUN: &str = "r";
const BINARY: &str = env!("CARGO_BIN_EXE_orcapack");

/// What a test's cluster is like.
pub struct Layout<'a> {
    /// Their names.
    pub nodes: &'a [&'a str],
    /// Of each.
    pub slots: usize,
    pub sandbox: &'a str,
    pub lease_sec: f64,
    pub tasks: &'a [Task],
}

/// A cluster. Dropped, all of it is killed and removed.
pub struct Lab {
    // Processes end before the machines that they are on.
    nodes: BTreeMap<String, Process>,
    pub network: Network,
    dir: TempDir,
    sandbox: String,
}

impl Lab {
    /// No node is started. `None` where a cluster cannot be on this machine; a line says why.
    pub fn new(layout: &Layout<'_>) -> Option<Self> {
        let hosts = [layout.nodes, &[COORDINATOR]].concat();
        let network = Network::of(&hosts)?;
        let mut dir = tempfile::tempdir().unwrap();
        if std::env::var_os("ORCAPACK_KEEP").is_some() {
            dir.disable_cleanup(true);
            eprintln!("kept: {}", dir.path().display());
        }
        let lab = Self { nodes: BTreeMap::new(), network, dir, sandbox: layout.sandbox.into() };
        fs::create_dir(lab.path("tasks")).unwrap();
        layout.tasks.iter().for_each(|task| task.write(&lab.path("tasks")));
        fs::write(lab.path("cluster.toml"), lab.file(layout)).unwrap();
        lab.ask(&["cluster", "init", "cluster.toml"]);
        for node in layout.nodes {
            let identity = format!("{node}/state/orcapack/lab/{node}");
            lab.ask(&["cluster", "issue", "cluster.toml", node, "-o", &identity]);
        }
        Some(lab)
    }

    fn file(&self, layout: &Layout<'_>) -> String {
        let Layout { nodes, slots, sandbox, lease_sec, .. } = layout;
        let mut text = format!(
            "[cluster]\nname = \"lab\"\nlease_sec = {lease_sec}\n\n\
             [node]\nslots = {slots}\nsandbox = \"{sandbox}\"\n"
        );
        for node in *nodes {
            let address = self.network.address(node);
            text += &format!("\n[nodes.{node}]\naddress = \"{address}:7400\"\n");
        }
        text
    }

    /// The program on a machine, which has its own state and cache.
    fn command(&self, host: &str) -> Command {
        let other = std::env::var("ORCAPACK_BINARY");
        let mut command = self.network.command(host, other.as_deref().unwrap_or(BINARY));
        command
            .current_dir(self.dir.path())
            .env("XDG_STATE_HOME", self.path(&format!("{host}/state")))
            .env("ORCAPACK_CACHE", self.path(&format!("{host}/cache")));
        command
    }

    /// Asks something of the program that is done at once. What it prints.
    pub fn ask(&self, args: &[&str]) -> String {
        let output = self.command(COORDINATOR).args(args).output().unwrap();
        let (stdout, stderr) = (&output.stdout, &output.stderr);
        let stderr = String::from_utf8_lossy(stderr);
        assert!(output.status.success(), "{args:?}: {}: {stderr}", output.status);
        String::from_utf8_lossy(stdout).into_owned()
    }

    /// Starts a node, again or for the first time.
    pub fn start(&mut self, node: &str) {
        let process = self.start_as(node, node);
        self.nodes.insert(node.to_owned(), process);
    }

    /// Starts a node on the machine of another.
    pub fn start_as(&self, node: &str, host: &str) -> Process {
        let log = self.path(&format!("{host}.log"));
        let mut command = self.command(host);
        let command = command.args(["node", "cluster.toml", "--id", node]);
        Process::start(&format!("node {node} on {host}"), command, &log, None)
    }

    /// Starts all these, and waits until they are up.
    pub fn start_all(&mut self, nodes: &[&str]) {
        nodes.iter().for_each(|node| self.start(node));
        for node in nodes {
            let log = self.node(node).log().to_owned();
            until(&format!("up: {node}"), &log, || read(&log).contains("the node is up"));
        }
    }

    pub fn kill(&mut self, node: &str) {
        self.nodes.remove(node).expect("a node that runs").kill();
    }

    pub fn node(&self, node: &str) -> &Process {
        &self.nodes[node]
    }

    /// Tells a node to end, and waits until it has.
    pub fn stop(&mut self, node: &str) -> i32 {
        self.node(node).signal(Signal::SIGTERM);
        self.end(node)
    }

    /// Waits until a node has ended.
    pub fn end(&mut self, node: &str) -> i32 {
        self.nodes.remove(node).expect("a node that runs").end(PATIENCE)
    }

    /// Starts `orcapack eval` on the cluster.
    pub fn eval(&self, args: &[&str]) -> Process {
        let mut command = self.command(COORDINATOR);
        command
            .args(["eval", "-d", "tasks", "-a", "oracle", "--name", RUN])
            .args(["--cluster", "cluster.toml"])
            .args(args);
        let log = self.path("eval.log");
        Process::start("eval", &mut command, &log, Some(&self.path("stdout")))
    }

    /// Starts another command on the machine of the coordinator; what it says is in `NAME.log`.
    pub fn program(&self, name: &str, args: &[&str]) -> Process {
        let mut command = self.command(COORDINATOR);
        command.args(args);
        Process::start(name, &mut command, &self.path(&format!("{name}.log")), None)
    }

    /// What the coordinator logs.
    pub fn run_log(&self) -> PathBuf {
        self.path(&format!("runs/{RUN}/logs/orcapack.log"))
    }

    pub fn ledger(&self) -> Ledger {
        Ledger::at(self.path(&format!("runs/{RUN}/run.db")), self.run_log())
    }

    pub fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    /// As a user sees the nodes.
    pub fn status_table(&self) -> String {
        let output = self.command(COORDINATOR).args(["status", "cluster.toml"]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What a node says of itself. `None` where it does not answer.
    pub fn status(&self, node: &str) -> Option<serde_json::Value> {
        let mut command = self.command(COORDINATOR);
        let output = command.args(["status", "cluster.toml", "--json"]).output().unwrap();
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
        status["nodes"].as_array()?.iter().find(|row| row["node"] == node).cloned()
    }

    /// That are alive, as the nodes say.
    pub fn environments(&self) -> u64 {
        let count = |node| self.status(node)?["status"]["environments"].as_u64();
        self.nodes.keys().filter_map(|node| count(node)).sum()
    }

    /// Whatever is left of the run on this machine: of sandboxes, groups and processes.
    pub fn left(&self) -> Vec<String> {
        let run = run_id(&self.path(&format!("runs/{RUN}/run.json"))).expect("there is a run");
        if self.sandbox == "docker" {
            return in_engine(&run);
        }
        let hosts = fs::read_dir(self.dir.path()).unwrap().flatten();
        let states = hosts.flat_map(|host| states(&host.path().join("cache")));
        [states.collect(), groups(&run), processes(&run)].concat()
    }
}

fn run_id(file: &Path) -> Option<String> {
    let file: serde_json::Value = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
    Some(file["id"].as_str()?.to_owned())
}
