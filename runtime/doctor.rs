//! `orcapack doctor`: what this machine lacks for rollouts, and what to do about it.
//!
//! Facts are gathered first, from [`crate::host`], the Docker driver, and a process sandbox that is
//! really started; [`checks`] only judges them.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use orcapack_actors::docker::DockerDriver;
use orcapack_actors::docker_facts::DockerFacts;
use orcapack_actors::process::{LimitsEnforced, ProcessConfig, ProcessDriver};
use orcapack_actors::sandbox::{
    Driver as _, ExecOutput, ExecRequest, ImageSpec, Labels, Limits, SandboxError, SandboxSpec,
};
use orcapack_tasks::task::{ImageSource, NetworkPolicy};
use orcapack_tasks::{FailureClass, FileTree};
use serde::Serialize;

use crate::cli::DoctorArgs;
use crate::config_layers::Host;
use crate::exit::{Exit, Failure};
use crate::host::{Disk, HostFacts, UserNamespaces};
use crate::output::{self, plural};

/// One row of the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    pub check: String,
    pub status: Status,
    pub found: String,
    /// What to do; `None` where there is nothing to do.
    pub advice: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Ok,
    /// Something works less well, or only one kind of sandbox.
    Warn,
    /// Rollouts cannot run.
    Fail,
}

/// Everything that is judged.
#[derive(Clone, Debug)]
pub struct Facts {
    pub host: HostFacts,
    pub docker: Result<DockerFacts, SandboxError>,
    /// What came of starting one.
    pub process: Result<ProcessTrial, SandboxError>,
    /// The unpacked base image of the built-in tasks is there, for the process driver.
    pub base_rootfs: bool,
}

/// A sandbox of the process driver that was started, ran a command, and was removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessTrial {
    pub elapsed: Duration,
    pub limits: LimitsEnforced,
    /// What came of a command that may change one folder only. It is this kernel that can or
    /// cannot, whatever the kind of sandbox.
    pub confinement: Result<(), SandboxError>,
}

/// The image that the built-in tasks start from; made by `tasks/base/build.sh`.
const BASE_IMAGE: &str = "orcapack/base:1";

/// What a rollout has open at most (pipes or sockets to its sandboxes, files in transfer), and the
/// rest of the process.
const OPEN_FILES_PER_ROLLOUT: u64 = 16;
const OPEN_FILES_OF_PROCESS: u64 = 256;

const GIB: u64 = 1 << 30;
const DISK_FREE_WARN: u64 = 10 * GIB;
const DISK_FREE_FAIL: u64 = GIB;

/// Prints the table. Exit code 4 when something failed.
pub async fn doctor(args: &DoctorArgs, host: &Host) -> Result<Exit, Failure> {
    let read = HostFacts::read(&host.cache_dir, Path::new("runs"));
    let facts = Facts {
        host: read.map_err(|error| Failure::bad_input(format!("this machine: {error}")))?,
        docker: DockerDriver::from_env().facts().await,
        process: try_process(host).await,
        base_rootfs: host.cache_dir.join("rootfs").join(BASE_IMAGE).is_dir(),
    };
    let checks = checks(&facts, args.n_concurrent);
    if args.json {
        output::print_json(&checks)?;
    } else {
        output::print(&table(&checks, output::terminal_width()))?;
    }
    let failed = checks.iter().any(|check| check.status == Status::Fail);
    Ok(if failed { Exit::NoSandbox } else { Exit::Done })
}

/// Starts, uses and removes a sandbox of the process driver.
async fn try_process(host: &Host) -> Result<ProcessTrial, SandboxError> {
    const LIMIT: Duration = Duration::from_secs(20);
    let driver = ProcessDriver::open(ProcessConfig { cache: host.cache_dir.clone() })?;
    let mut context = FileTree::default();
    context.insert("Dockerfile", format!("FROM {BASE_IMAGE}\n").as_bytes(), false);
    let source = ImageSource::Dockerfile(context);
    let image = driver.image(&ImageSpec { source, build_timeout: LIMIT }).await?;
    let now_unix_sec = u64::try_from(host.now.timestamp().as_second()).unwrap_or(0);
    let spec = SandboxSpec {
        labels: Labels {
            run: "doctor".to_owned(),
            node: "doctor".to_owned(),
            incarnation: 0,
            attempt: "0.1".to_owned(),
            deadline_unix_sec: now_unix_sec + 2 * LIMIT.as_secs(),
        },
        limits: Limits { cpus: 1.0, memory_bytes: 256 << 20, pids: 64, storage_bytes: 16 << 20 },
        network: NetworkPolicy::None,
        env: BTreeMap::new(),
        workdir: None,
        start_timeout: LIMIT,
    };
    let begun = Instant::now();
    let sandbox = driver.create(&image, &spec).await?;
    let confined = ExecRequest {
        writable_only: Some("/tmp/doctor".to_owned()),
        ..ExecRequest::new(["true"], LIMIT)
    };
    let ran = sandbox.exec(&ExecRequest::new(["true"], LIMIT)).await;
    let elapsed = begun.elapsed();
    let confinement = sandbox.exec(&confined).await;
    sandbox.remove().await?;
    succeeded(ran?)?;
    let confinement = confinement.and_then(succeeded);
    Ok(ProcessTrial { elapsed, limits: driver.limits_enforced(), confinement })
}

fn succeeded(output: ExecOutput) -> Result<(), SandboxError> {
    if output.exit.success() {
        return Ok(());
    }
    let message = format!("`true` in a sandbox ended with {}: {}", output.exit, output.stderr);
    Err(SandboxError::new(FailureClass::ExecTransport, message))
}

fn table(checks: &[Check], width: Option<u16>) -> String {
    let rows = checks.iter().map(|check| {
        let status = match check.status {
            Status::Ok => "ok",
            Status::Warn => "warn",
            Status::Fail => "FAIL",
        };
        let advice = check.advice.clone().unwrap_or_default();
        [check.check.clone(), status.to_owned(), check.found.clone(), advice]
    });
    output::table(["check", "status", "found", "what to do"], rows, width)
}

/// All rows, for `n_concurrent` rollouts at once.
pub fn checks(facts: &Facts, n_concurrent: u64) -> Vec<Check> {
    let mut checks = vec![sandboxes(facts)];
    match &facts.docker {
        Ok(docker) => {
            checks.extend([engine(docker), storage_driver(docker), engine_limits(docker)]);
            checks.extend([address_pools(docker), leftovers(docker)]);
        }
        Err(error) => checks.push(
            Check::warn("docker engine", &error.message)
                .advise("start it or set DOCKER_HOST; without it, --sandbox process"),
        ),
    }
    match &facts.process {
        Ok(trial) => {
            checks.extend([process_sandbox(trial), process_limits(trial.limits)]);
            checks.push(confinement(trial));
        }
        Err(error) => checks.push(no_process_sandbox(error, &facts.host)),
    }
    checks.extend([base_image(facts), open_files(&facts.host, n_concurrent)]);
    checks.extend(facts.host.disks.iter().map(disk));
    if let Ok(docker) = &facts.docker
        && let Some(free) = docker.data_root_disk
    {
        let path = Path::new(&docker.data_root).to_owned();
        checks.push(disk(&Disk { what: "docker", path, free_bytes: free.free_bytes }));
    }
    checks
}

fn sandboxes(facts: &Facts) -> Check {
    let docker = facts.docker.is_ok().then_some("docker");
    let process = facts.process.is_ok().then_some("process");
    match (docker, process) {
        (None, None) => Check::fail("sandbox", "none")
            .advise("start a Docker engine, or see the row of the process sandbox"),
        _ => {
            let names: Vec<&str> = docker.into_iter().chain(process).collect();
            Check::ok("sandbox", names.join(", "))
        }
    }
}

fn engine(docker: &DockerFacts) -> Check {
    Check::ok(
        "docker engine",
        format!(
            "{} at {} (API {}, cgroup v{})",
            docker.version, docker.host, docker.api_version, docker.cgroup_version
        ),
    )
}

/// Drivers that copy whole files, or go through user space, make every start and write slow.
fn storage_driver(docker: &DockerFacts) -> Check {
    const FAST: [&str; 5] = ["overlay2", "overlayfs", "btrfs", "zfs", "devicemapper"];
    let driver = &docker.storage_driver;
    if FAST.contains(&driver.as_str()) {
        Check::ok("docker storage", driver)
    } else {
        Check::warn("docker storage", format!("{driver}, which is slow"))
            .advise("use overlay2 if the kernel lets it (storage-driver in daemon.json)")
    }
}

fn engine_limits(docker: &DockerFacts) -> Check {
    let limits = docker.limits_enforced;
    let all = [("cpus", limits.cpus), ("memory", limits.memory), ("pids", limits.pids)];
    let missing = names(&all, false);
    if !missing.is_empty() {
        return Check::warn("docker limits", format!("not enforced: {missing}"))
            .advise("enable these control groups in the kernel, or use --sandbox process");
    }
    let storage = if limits.storage { ", storage" } else { "; storage is not limited" };
    Check::ok("docker limits", format!("{}{storage}", names(&all, true)))
}

/// Our sandboxes take no pool; what else runs on the engine may.
fn address_pools(docker: &DockerFacts) -> Check {
    let (used, all) = (docker.bridge_networks, docker.address_pools);
    let found = format!("{used} of about {all} used");
    if used + 2 > all {
        Check::warn("docker address pools", found)
            .advise("remove unused networks: docker network prune")
    } else {
        Check::ok("docker address pools", found)
    }
}

fn leftovers(docker: &DockerFacts) -> Check {
    let labelled = docker.labelled;
    let found = [
        plural(labelled.containers, "container"),
        plural(labelled.networks, "network"),
        plural(labelled.volumes, "volume"),
    ]
    .join(", ");
    let check = Check::ok("docker, with our labels", found);
    if labelled.containers + labelled.networks + labelled.volumes == 0 {
        check
    } else {
        check.advise("if no run is alive: orcapack gc --all")
    }
}

fn process_sandbox(trial: &ProcessTrial) -> Check {
    let millis = trial.elapsed.as_secs_f64() * 1000.0;
    Check::ok("process sandbox", format!("started, used and removed one in {millis:.0} ms"))
}

fn confinement(trial: &ProcessTrial) -> Check {
    let check = "explorers";
    match &trial.confinement {
        Ok(()) => Check::ok(check, "can be held to one writable folder (Landlock)"),
        Err(error) => Check::warn(check, &error.message)
            .advise("for agent teams: Linux 6.2 or later with landlock among its lsm="),
    }
}

fn no_process_sandbox(error: &SandboxError, host: &HostFacts) -> Check {
    let advice = match &host.namespaces {
        _ if !host.overlay => "load overlay mounts (modprobe overlay), or use --sandbox docker",
        UserNamespaces::Forbidden(setting) if !host.root => {
            let advice = format!("run as root, or change {setting}, or use --sandbox docker");
            return Check::warn("process sandbox", &error.message).advise(advice);
        }
        _ => "use --sandbox docker",
    };
    Check::warn("process sandbox", &error.message).advise(advice)
}

fn process_limits(limits: LimitsEnforced) -> Check {
    let all = [("cpus", limits.cpus), ("memory", limits.memory), ("pids", limits.pids)];
    let missing = names(&all, false);
    if missing.is_empty() {
        return Check::ok("process limits", format!("{}, storage", names(&all, true)));
    }
    Check::warn("process limits", format!("not enforced: {missing}"))
        .advise("run as root, or get these control groups delegated")
}

/// The names whose value is `value`.
fn names(all: &[(&str, bool)], value: bool) -> String {
    let names = all.iter().filter(|(_, is)| *is == value).map(|(name, _)| *name);
    names.collect::<Vec<_>>().join(", ")
}

fn base_image(facts: &Facts) -> Check {
    let in_engine = facts
        .docker
        .as_ref()
        .is_ok_and(|docker| docker.images.iter().any(|image| image == BASE_IMAGE));
    let docker_lacks = facts.docker.is_ok() && !in_engine;
    let found = match (in_engine, facts.base_rootfs) {
        (true, true) => "in the engine and unpacked",
        (true, false) => "in the engine only",
        (false, true) => "unpacked only",
        (false, false) => "none",
    };
    let check = format!("base image {BASE_IMAGE}");
    if docker_lacks || !facts.base_rootfs {
        Check::warn(&check, found).advise("for the built-in tasks: tasks/base/build.sh")
    } else {
        Check::ok(&check, found)
    }
}

fn open_files(host: &HostFacts, n_concurrent: u64) -> Check {
    let of_rollouts = OPEN_FILES_PER_ROLLOUT.saturating_mul(n_concurrent);
    let needed = OPEN_FILES_OF_PROCESS.saturating_add(of_rollouts);
    let hard = host.open_files.hard;
    let found = format!("{hard} allowed, {needed} needed for {n_concurrent} rollouts at once");
    if hard < needed {
        let fits = hard.saturating_sub(OPEN_FILES_OF_PROCESS) / OPEN_FILES_PER_ROLLOUT;
        let advice = format!("raise it (ulimit -Hn {needed}), or run with -n {}", fits.max(1));
        Check::fail("open files", found).advise(advice)
    } else {
        Check::ok("open files", found)
    }
}

fn disk(disk: &Disk) -> Check {
    let check = format!("disk of {}", disk.what);
    let gib = disk.free_bytes as f64 / GIB as f64;
    let found = format!("{gib:.1} GiB free at {}", disk.path.display());
    let advice = "free some: orcapack gc --images";
    if disk.free_bytes < DISK_FREE_FAIL {
        Check::fail(&check, found).advise(advice)
    } else if disk.free_bytes < DISK_FREE_WARN {
        Check::warn(&check, found).advise(advice)
    } else {
        Check::ok(&check, found)
    }
}

impl Check {
    fn ok(check: &str, found: impl Into<String>) -> Self {
        Self { check: check.to_owned(), status: Status::Ok, found: found.into(), advice: None }
    }

    fn warn(check: &str, found: impl Into<String>) -> Self {
        Self { status: Status::Warn, ..Self::ok(check, found) }
    }

    fn fail(check: &str, found: impl Into<String>) -> Self {
        Self { status: Status::Fail, ..Self::ok(check, found) }
    }

    fn advise(self, advice: impl Into<String>) -> Self {
        Self { advice: Some(advice.into()), ..self }
    }
}

#[cfg(test)]
#[path = "doctor_tests.rs"]
mod tests;
