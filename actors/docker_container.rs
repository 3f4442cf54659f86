//! What a container of ours looks like to the engine: its name, its labels, and the hardening
//! profile of every sandbox.

use std::collections::HashMap;

use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigLogConfig, ResourcesUlimits,
    RestartPolicy, RestartPolicyNameEnum,
};
use orcapack_tasks::task::NetworkPolicy;

use crate::docker::Host;
use crate::sandbox::{Image, Labels, SandboxSpec};

/// On everything of ours, with the value 1.
pub(crate) const OURS: &str = "orcapack";
pub(crate) const RUN: &str = "orcapack.run";
pub(crate) const NODE: &str = "orcapack.node";
pub(crate) const INCARNATION: &str = "orcapack.incarnation";
pub(crate) const ATTEMPT: &str = "orcapack.attempt";
pub(crate) const DEADLINE: &str = "orcapack.deadline";
/// Where the guest agent lies in every image of ours.
pub(crate) const GUEST_PATH: &str = "/.orcapack/guest";

/// What package managers and build tools in a container need to own, change and signal files and
/// processes of several users; nothing of networks, devices, modules, time or mounts.
const CAPABILITIES: [&str; 7] =
    ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID"];
/// The engine's default, said so that it stays.
const SHM_BYTES: i64 = 64 << 20;
/// Below what engines themselves may open, which bounds what they can give; 20,000 has been seen.
const OPEN_FILES: i64 = 16_384;

/// Docker's charset for names is `[a-zA-Z0-9][a-zA-Z0-9_.-]*`.
pub(crate) fn name(labels: &Labels) -> String {
    let name = format!("orcapack-{}-{}-{}", labels.run, labels.attempt, labels.incarnation);
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' }).collect()
}

pub(crate) fn labels(labels: &Labels) -> HashMap<String, String> {
    let pairs = [
        (OURS, "1".to_owned()),
        (RUN, labels.run.clone()),
        (NODE, labels.node.clone()),
        (INCARNATION, labels.incarnation.to_string()),
        (ATTEMPT, labels.attempt.clone()),
        (DEADLINE, labels.deadline_unix_sec.to_string()),
    ];
    pairs.map(|(name, value)| (name.to_owned(), value)).into()
}

/// A container whose first process is the guest agent, which we speak to over its standard streams.
///
/// The engine refuses more CPUs than `host` has, and a limit of storage that it cannot hold.
pub(crate) fn body(image: &Image, spec: &SandboxSpec, host: Host) -> ContainerCreateBody {
    ContainerCreateBody {
        image: Some(image.reference.clone()),
        entrypoint: Some(vec![GUEST_PATH.to_owned()]),
        cmd: Some(Vec::new()),
        // The agent runs as root, and gives each command its user and environment.
        user: Some("0".to_owned()),
        working_dir: Some(spec.workdir.clone().unwrap_or_else(|| image.workdir.clone())),
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        open_stdin: Some(true),
        // The agent's input ends with our connection, and the agent with its input.
        stdin_once: Some(true),
        tty: Some(false),
        healthcheck: Some(HealthConfig {
            test: Some(vec!["NONE".to_owned()]),
            ..Default::default()
        }),
        stop_timeout: Some(0),
        labels: Some(labels(&spec.labels)),
        host_config: Some(host_config(spec, host)),
        ..Default::default()
    }
}

fn host_config(spec: &SandboxSpec, host: Host) -> HostConfig {
    let memory = i64::try_from(spec.limits.memory_bytes).unwrap_or(i64::MAX);
    let network = match spec.network {
        NetworkPolicy::None => "none",
        NetworkPolicy::Public => "bridge",
    };
    HostConfig {
        cap_drop: Some(vec!["ALL".to_owned()]),
        cap_add: Some(CAPABILITIES.map(str::to_owned).to_vec()),
        security_opt: Some(vec!["no-new-privileges".to_owned()]),
        memory: Some(memory),
        memory_swap: Some(memory),
        nano_cpus: host.limits.cpus.then(|| (spec.limits.cpus.min(host.cpus) * 1e9) as i64),
        pids_limit: Some(i64::from(spec.limits.pids)),
        ulimits: Some(vec![ResourcesUlimits {
            name: Some("nofile".to_owned()),
            soft: Some(OPEN_FILES),
            hard: Some(OPEN_FILES),
        }]),
        storage_opt: host
            .limits
            .storage
            .then(|| HashMap::from([("size".to_owned(), spec.limits.storage_bytes.to_string())])),
        shm_size: Some(SHM_BYTES),
        network_mode: Some(network.to_owned()),
        log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        auto_remove: Some(true),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::docker_facts::LimitsEnforced;
    use crate::sandbox::Limits;

    fn host(storage: bool) -> Host {
        let limits = LimitsEnforced { cpus: true, memory: true, swap: true, pids: true, storage };
        Host { cpus: 2.0, limits }
    }

    fn spec() -> SandboxSpec {
        SandboxSpec {
            labels: Labels {
                run: "nightly/ü 1".to_owned(),
                node: "a".to_owned(),
                incarnation: 7,
                attempt: "12.1.agent".to_owned(),
                deadline_unix_sec: 99,
            },
            limits: Limits { cpus: 64.0, memory_bytes: 1 << 30, pids: 256, storage_bytes: 99 },
            network: NetworkPolicy::None,
            env: BTreeMap::new(),
            workdir: None,
            start_timeout: Duration::from_secs(60),
        }
    }

    #[test]
    fn a_name_keeps_to_the_engines_charset() {
        assert_eq!(name(&spec().labels), "orcapack-nightly---1-12-1-agent-7");
    }

    #[test]
    fn more_cpus_than_the_engine_has_are_capped_at_what_it_has() {
        assert_eq!(host_config(&spec(), host(false)).nano_cpus, Some(2_000_000_000));
    }

    #[test]
    fn swap_is_no_way_around_the_memory_limit() {
        let config = host_config(&spec(), host(false));
        assert_eq!((config.memory, config.memory_swap), (Some(1 << 30), Some(1 << 30)));
    }

    #[test]
    fn a_limit_of_storage_is_given_only_to_an_engine_that_holds_it() {
        let size = |storage| host_config(&spec(), host(storage)).storage_opt;
        assert_eq!(size(true), Some(HashMap::from([("size".to_owned(), "99".to_owned())])));
        assert_eq!(size(false), None);
    }

    #[test]
    fn nothing_of_the_host_is_mounted_and_nothing_is_privileged() {
        let config = host_config(&spec(), host(false));
        assert_eq!((config.binds, config.mounts, config.privileged), (None, None, None));
        assert_eq!((config.pid_mode, config.ipc_mode, config.userns_mode), (None, None, None));
        assert_eq!(config.cap_drop, Some(vec!["ALL".to_owned()]));
        assert_eq!(config.network_mode.as_deref(), Some("none"));
    }
}
