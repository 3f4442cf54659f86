//! `orcapack cluster render`: the files that run a cluster's nodes under systemd, Slurm or
//! Kubernetes.
//!
//! The file is read as the machines there will read it: a service has no home, and a pod has the
//! file at another place. So what is printed names the folders that a node will really use.

use std::collections::BTreeSet;
use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

use minijinja::value::Serde;
use serde::Serialize;

use crate::cli_cluster::{RenderArgs, RenderCommand};
use crate::cluster_config::ClusterConfig;
use crate::cluster_discovery::Discovery;
use crate::cluster_template::environment;
use crate::config::SandboxDriver;
use crate::config_layers::Host;
use crate::exit::{Exit, Failure};
use crate::output;

/// What a node needs, after its rollouts have drained, to remove what they left.
const STOP_MARGIN: Duration = Duration::from_secs(30);
/// Where a pod has the cluster file.
const FILE_IN_POD: &str = "/etc/orcapack/cluster.toml";
/// Node ids that the head of a unit names.
const IDS_SHOWN_MAX: usize = 8;

/// Prints the file.
///
/// # Errors
/// A faulty cluster file, or one that does not fit the kind.
pub fn render(command: &RenderCommand, host: &Host) -> Result<Exit, Failure> {
    let text = match command {
        RenderCommand::Systemd { of, id } => {
            let config = ClusterConfig::load(&of.cluster, &service_host(host))?;
            systemd(&config, id.as_deref(), &binary(of, host)?)?
        }
        RenderCommand::Slurm { of, nodes } => {
            slurm(&ClusterConfig::load(&of.cluster, host)?, *nodes, &binary(of, host)?)?
        }
        RenderCommand::K8s { cluster, image } => {
            k8s(&ClusterConfig::load(cluster, host)?, image, host)?
        }
    };
    output::print(&text)?;
    Ok(Exit::Done)
}

fn binary(args: &RenderArgs, host: &Host) -> Result<PathBuf, Failure> {
    match &args.binary {
        Some(binary) => Ok(host.working_dir.join(binary)),
        None => env::current_exe().map_err(|error| {
            Failure::bad_input(format!("--binary: where this program lies is not known: {error}"))
        }),
    }
}

/// What a service or a pod knows of its machine, as far as a cluster file asks.
pub fn service_host(host: &Host) -> Host {
    Host {
        cache_dir: PathBuf::from("/var/cache/orcapack"),
        variables: |name| (name == "XDG_STATE_HOME").then(|| "/var/lib".to_owned()),
        ..host.clone()
    }
}

/// A unit for systemd: of one node, or a template for all, whose instance is the id. The
/// configuration is to be read with [`service_host`].
///
/// # Errors
/// No such node, or a path that a unit cannot name.
pub fn systemd(config: &ClusterConfig, id: Option<&str>, binary: &Path) -> Result<String, Failure> {
    let nodes = match id {
        Some(id) => vec![config.node(id)?],
        None => config.peers()?,
    };
    let cache_dirs: BTreeSet<_> = nodes.iter().map(|node| node.cache_dir.as_path()).collect();
    let cache_dir = cache_dirs.first().filter(|_| cache_dirs.len() == 1);
    let drain = match nodes[..] {
        [node] => node.drain,
        _ => config.drain_max,
    };
    let unit = Unit {
        common: Common::of(config, drain)?,
        id,
        instance: id.unwrap_or("%i"),
        ids: nodes.iter().take(IDS_SHOWN_MAX).map(|node| node.id.as_str()).collect(),
        more: nodes.len().saturating_sub(IDS_SHOWN_MAX),
        binary: utf8(binary)?,
        state_directory: below(&config.state_dir, "/var/lib"),
        cache_directory: cache_dir.and_then(|path| below(path, "/var/cache")),
    };
    filled(include_str!("templates/systemd.j2"), systemd_word, unit)
}

/// What every template sees.
#[derive(Serialize)]
struct Common<'a> {
    name: &'a str,
    file: &'a str,
    state_dir: &'a str,
    drain_sec: u64,
    /// More than the drain takes.
    stop_sec: u64,
    bad_input: u8,
    fenced: u8,
}

impl<'a> Common<'a> {
    fn of(config: &'a ClusterConfig, drain: Duration) -> Result<Self, Failure> {
        Ok(Self {
            name: &config.name,
            file: utf8(&config.file)?,
            state_dir: utf8(&config.state_dir)?,
            drain_sec: drain.as_secs(),
            stop_sec: (drain + STOP_MARGIN).as_secs(),
            bad_input: Exit::BadInput.code(),
            fenced: Exit::Fenced.code(),
        })
    }
}

#[derive(Serialize)]
struct Unit<'a> {
    common: Common<'a>,
    /// `None`: for all nodes.
    id: Option<&'a str>,
    instance: &'a str,
    ids: Vec<&'a str>,
    /// Nodes that are not in `ids`.
    more: usize,
    binary: &'a str,
    /// What systemd makes below `/var/lib` and `/var/cache`.
    state_directory: Option<&'a str>,
    cache_directory: Option<&'a str>,
}

#[derive(Serialize)]
struct Job<'a> {
    common: Common<'a>,
    nodes: u32,
    binary: &'a str,
}

#[derive(Serialize)]
struct Pods<'a> {
    common: Common<'a>,
    /// On the machine that it is rendered on.
    file: &'a str,
    pods: &'a str,
    replicas: u32,
    service: &'a str,
    /// An option of `kubectl`.
    in_namespace: String,
    /// Lines of every object's metadata.
    metadata: String,
    /// Of the cluster file, indented.
    text: String,
    image: &'a str,
    port: u16,
    cache_dirs: Vec<&'a str>,
}

/// A batch script: `nodes` hosts, and a node on each.
///
/// # Errors
/// Another discovery than Slurm's, or a path that a script cannot name.
pub fn slurm(config: &ClusterConfig, nodes: u32, binary: &Path) -> Result<String, Failure> {
    if config.discovery != Discovery::Slurm {
        return Err(unfit(config, "slurm", "kind = \"slurm\""));
    }
    let job = Job { common: Common::of(config, config.drain_max)?, nodes, binary: utf8(binary)? };
    filled(include_str!("templates/slurm.j2"), shell_word, job)
}

/// The objects of Kubernetes, as one document of several.
///
/// # Errors
/// Another discovery than that by DNS, or nodes that want a Docker engine.
pub fn k8s(config: &ClusterConfig, image: &str, host: &Host) -> Result<String, Failure> {
    let pod_host = service_host(host);
    let in_pod = ClusterConfig::parse(Path::new(FILE_IN_POD), config.text.clone(), &pod_host)?;
    let Discovery::Dns { name, pods, replicas } = &in_pod.discovery else {
        return Err(unfit(config, "k8s", "kind = \"dns\", a name and replicas"));
    };
    let nodes = in_pod.peers()?;
    if let Some(node) = nodes.iter().find(|node| node.sandbox == SandboxDriver::Docker) {
        return Err(Failure::bad_input(format!(
            "{}: sandbox of node `{}`: expected \"process\" or \"auto\", as there is no Docker \
             engine in a pod, found \"docker\"",
            config.file.display(),
            node.id,
        )));
    }
    let mut labels = name.split('.');
    let (service, namespace) = (labels.next().unwrap_or(name), labels.next());
    let mut metadata =
        namespace.map_or_else(String::new, |name| format!("  namespace: {name:?}\n"));
    metadata.push_str(&format!(
        "  labels: {{ app.kubernetes.io/name: orcapack, app.kubernetes.io/instance: {:?} }}",
        in_pod.name
    ));
    let cache_dirs: BTreeSet<_> = nodes.iter().map(|node| node.cache_dir.as_path()).collect();
    // A blank line must not end with blanks.
    let indented = in_pod.text.lines().map(|line| match line.trim() {
        "" => String::new(),
        _ => format!("    {line}"),
    });
    let pods = Pods {
        common: Common::of(&in_pod, in_pod.drain_max)?,
        file: utf8(&config.file)?,
        pods,
        replicas: *replicas,
        service,
        in_namespace: namespace.map_or_else(String::new, |name| format!(" -n {name}")),
        metadata,
        text: indented.collect::<Vec<_>>().join("\n"),
        image,
        port: in_pod.port,
        cache_dirs: cache_dirs.into_iter().map(utf8).collect::<Result<_, _>>()?,
    };
    filled(include_str!("templates/k8s.j2"), shell_word, pods)
}

fn unfit(config: &ClusterConfig, kind: &str, wanted: &str) -> Failure {
    Failure::bad_input(format!(
        "{}: for `{kind}`: expected [discovery] with {wanted}, found kind = {:?}",
        config.file.display(),
        config.discovery.as_str(),
    ))
}

fn filled(
    template: &'static str,
    word: fn(&str) -> String,
    values: impl Serialize,
) -> Result<String, Failure> {
    let fill = || {
        let mut environment = environment()?;
        environment.add_filter("word", word);
        // JSON's strings are YAML's too.
        environment.add_filter("yaml", |text: &str| serde_json::Value::from(text).to_string());
        environment.template_from_str(template)?.render(Serde(values))
    };
    let broken = |error: minijinja::Error| Failure::internal(format!("a template: {error}"));
    fill().map_err(broken)
}

/// A path as text, on one line.
fn utf8(path: &Path) -> Result<&str, Failure> {
    path.to_str().filter(|text| !text.contains(char::is_control)).ok_or_else(|| {
        Failure::bad_input(format!("{path:?}: expected a path of UTF-8 without control characters"))
    })
}

/// A path that systemd makes below a folder `of` its own.
fn below<'a>(path: &'a Path, of: &str) -> Option<&'a str> {
    let path = path.strip_prefix(of).ok()?;
    let plain = path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    path.to_str().filter(|text| plain && !text.is_empty())
}

fn is_plain(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/_.:@+=,-".contains(c);
    !text.is_empty() && text.chars().all(plain)
}

/// A word of `ExecStart=`: in quotes where it must be, and nothing in it is expanded.
fn systemd_word(text: &str) -> String {
    if is_plain(text) {
        return text.to_owned();
    }
    let text = text.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", text.replace('%', "%%").replace('$', "$$"))
}

fn shell_word(text: &str) -> String {
    match is_plain(text) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
#[path = "cluster_render_tests.rs"]
mod tests;
