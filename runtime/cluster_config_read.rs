//! Reads the cluster file out of a TOML document: each key with its range.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use orcapack_cluster::address::NodeId;
use orcapack_tasks::toml_section::Section;

use crate::cluster_config::{
    AUTHORITY_PORT, ClusterConfig, ClusterNode, DRAIN, DataOver, LEASE, NODES_MAX, PORT, SLOTS,
    default_state_dir,
};
use crate::cluster_discovery::{ADDRESS, Discovery, Found, HostPort};
use crate::cluster_hostlist::{is_host, shown};
use crate::config::SandboxDriver;
use crate::config_layers::Host;

/// Up to a day.
const DRAIN_SEC: RangeInclusive<f64> = 0.0..=86_400.0;
const LABEL: &str = "1 to 63 of a-z, 0-9 and `-`, which is at neither end";

impl ClusterConfig {
    /// `file` is absolute. What is wrong is told to the document.
    pub(crate) fn read(root: &Section<'_>, file: &Path, text: String, host: &Host) -> Self {
        let folder = file.parent().unwrap_or(Path::new("/"));
        let cluster = root.section("cluster");
        let name = label(&cluster, "name", cluster.string("name"));
        let port = port(&cluster, "port");
        let defaults =
            NodeKeys { cache_dir: host.working_dir.join(&host.cache_dir), ..NodeKeys::default() };
        let defaults = NodeKeys::read(&root.section("node"), defaults, folder);
        let discovery = Discovery::read(&root.section("discovery"));
        let tables = root.section_map("nodes");
        let drains =
            tables.iter().filter_map(|(_, table)| table.opt_duration_sec("drain_sec", DRAIN_SEC));
        let drain_max = drains.fold(defaults.drain, Duration::max);
        let nodes = Nodes { root, discovery: &discovery, defaults, port, folder };
        Self {
            file: file.to_owned(),
            pki: opt_path(&cluster, "pki", folder).unwrap_or_else(|| folder.join("pki")),
            authority: authority(&cluster),
            state_dir: opt_path(&cluster, "state_dir", folder)
                .unwrap_or_else(|| host.working_dir.join(default_state_dir(&name, host.variables))),
            port,
            data_over: cluster.one_of_or("data_over", DataOver::default(), &DataOver::NAMES),
            lease: cluster.duration_sec_or("lease_sec", LEASE, 1.0..=600.0),
            drain_max,
            nodes: nodes.read(host),
            discovery,
            name,
            text,
        }
    }
}

fn authority(cluster: &Section<'_>) -> Option<HostPort> {
    let said = cluster.opt_string("authority")?;
    let address = HostPort::parse(&said, AUTHORITY_PORT);
    if address.is_none() {
        cluster.refuse("authority", ADDRESS, format!("`{}`", shown(&said)));
    }
    address
}

/// What may stand in `[node]`, for all nodes, and in `[nodes.ID]`, for one.
#[derive(Clone)]
struct NodeKeys {
    slots: Option<u32>,
    sandbox: SandboxDriver,
    cache_dir: PathBuf,
    listen: Option<SocketAddr>,
    drain: Duration,
    create_concurrency: Option<usize>,
    verify_concurrency: Option<usize>,
}

impl Default for NodeKeys {
    fn default() -> Self {
        Self {
            slots: None,
            sandbox: SandboxDriver::default(),
            cache_dir: PathBuf::new(),
            listen: None,
            drain: DRAIN,
            create_concurrency: None,
            verify_concurrency: None,
        }
    }
}

impl NodeKeys {
    fn read(section: &Section<'_>, base: Self, folder: &Path) -> Self {
        let small = |key| section.opt_u64(key, SLOTS);
        Self {
            slots: small("slots").map(|n| n as u32).or(base.slots),
            sandbox: section.one_of_or("sandbox", base.sandbox, &SandboxDriver::NAMES),
            cache_dir: opt_path(section, "cache_dir", folder).unwrap_or(base.cache_dir),
            listen: listen(section).or(base.listen),
            drain: section.duration_sec_or("drain_sec", base.drain, DRAIN_SEC),
            create_concurrency: small("create_concurrency")
                .map(|n| n as usize)
                .or(base.create_concurrency),
            verify_concurrency: small("verify_concurrency")
                .map(|n| n as usize)
                .or(base.verify_concurrency),
        }
    }
}

/// The tables of nodes, and what they are read with.
struct Nodes<'a> {
    root: &'a Section<'a>,
    discovery: &'a Discovery,
    defaults: NodeKeys,
    port: u16,
    folder: &'a Path,
}

impl Nodes<'_> {
    /// What is found comes first, and a table of the same id goes over it.
    fn read(&self, host: &Host) -> BTreeMap<NodeId, ClusterNode> {
        let mut nodes = BTreeMap::new();
        let found = self.found(host);
        let tables = self.root.section_map("nodes");
        let named: BTreeSet<&str> = tables.iter().map(|(id, _)| id.as_str()).collect();
        let others = || found.iter().filter(|(id, _)| !named.contains(id.as_str()));
        if others().next().is_some() && self.defaults.slots.is_none() {
            let expected = format!("{}, of nodes that are found", slots_text());
            self.root.section("node").refuse("slots", &expected, "nothing");
        }
        for (id, at) in others() {
            let address = HostPort::parse(at, self.port);
            if address.is_none() {
                let section = self.root.section("discovery");
                section.refuse("kind", "hosts with names of hosts", format!("`{at}`"));
            }
            let node = self.node(id, address, &self.defaults);
            nodes.extend(node.map(|node| (id.clone(), node)));
        }
        for (id, section) in tables.iter().take(NODES_MAX) {
            let Ok(id) = id.parse::<NodeId>() else {
                self.root.section("nodes").refuse(id, &format!("an id of {LABEL}"), shown(id));
                NodeKeys::read(section, self.defaults.clone(), self.folder);
                section.allow_any_of("address");
                continue;
            };
            let node = self.table(&id, section, &found);
            nodes.extend(node.map(|node| (id, node)));
        }
        let elsewhere = self.root.section("discovery").opt_string("kind");
        if tables.is_empty() && elsewhere.is_none_or(|kind| kind == "static") {
            let expected = "a table [nodes.ID] for each node, or a table [discovery]";
            self.root.refuse("nodes", expected, "none");
        }
        if nodes.len() > NODES_MAX || tables.len() > NODES_MAX {
            let count = tables.len().max(nodes.len());
            self.root.refuse("nodes", &format!("at most {NODES_MAX} nodes"), count.to_string());
        }
        self.refuse_shared_addresses(&nodes);
        nodes
    }

    fn found(&self, host: &Host) -> Vec<Found> {
        let section = self.root.section("discovery");
        let found = self.discovery.find(host.variables).unwrap_or_else(|found| {
            let key = if *self.discovery == Discovery::Slurm { "kind" } else { "pods" };
            section.refuse(key, "hosts that can be nodes", found);
            Vec::new()
        });
        let mut seen = BTreeSet::new();
        let (first, again): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|(id, _)| seen.insert(id.clone()));
        if let Some((id, host)) = again.first() {
            let found = format!("`{host}` and another host that is node `{id}` too");
            section.refuse("kind", "hosts with different names", found);
        }
        first
    }

    /// One table `[nodes.ID]`. A node that this job does not have is none.
    fn table(&self, id: &NodeId, section: &Section<'_>, found: &[Found]) -> Option<ClusterNode> {
        let keys = NodeKeys::read(section, self.defaults.clone(), self.folder);
        let said = section.opt_string("address");
        let at = said.as_deref().or_else(|| {
            let found = found.iter().find(|(found, _)| found == id);
            found.map(|(_, host)| host.as_str())
        });
        let Some(at) = at else {
            if *self.discovery != Discovery::Slurm && !section.has("address") {
                section.refuse("address", ADDRESS, "nothing");
            }
            return None;
        };
        let address = HostPort::parse(at, self.port);
        if address.is_none() {
            section.refuse("address", ADDRESS, format!("{at:?}"));
        }
        if keys.slots.is_none() && !section.has("slots") {
            let expected = format!("{}, here or for all nodes in [node]", slots_text());
            section.refuse("slots", &expected, "nothing");
        }
        self.node(id, address, &keys)
    }

    /// `None` after a defect.
    fn node(&self, id: &NodeId, address: Option<HostPort>, keys: &NodeKeys) -> Option<ClusterNode> {
        let (address, slots) = (address?, keys.slots?);
        Some(ClusterNode {
            id: id.clone(),
            listen: keys.listen.unwrap_or_else(|| address.listen()),
            address,
            slots,
            sandbox: keys.sandbox,
            cache_dir: keys.cache_dir.clone(),
            drain: keys.drain,
            create_concurrency: keys.create_concurrency,
            verify_concurrency: keys.verify_concurrency,
        })
    }

    fn refuse_shared_addresses(&self, nodes: &BTreeMap<NodeId, ClusterNode>) {
        let mut first: BTreeMap<&HostPort, &NodeId> = BTreeMap::new();
        for node in nodes.values() {
            if let Some(other) = first.insert(&node.address, &node.id) {
                let tables = self.root.section("nodes");
                let found = format!("{}, as node `{other}` has", node.address);
                let expected = "an address of its own";
                match tables.has(node.id.as_str()) {
                    true => tables.section(node.id.as_str()).refuse("address", expected, found),
                    false => tables.refuse(node.id.as_str(), expected, found),
                }
            }
        }
    }
}

impl Discovery {
    fn read(section: &Section<'_>) -> Self {
        const KINDS: [(&str, &str); 3] = [("static", "static"), ("dns", "dns"), ("slurm", "slurm")];
        match section.one_of_or("kind", "static", &KINDS) {
            "dns" => Self::read_dns(section).unwrap_or(Self::Static),
            "slurm" => Self::Slurm,
            _ => Self::Static,
        }
    }

    /// `None` after a defect, so that it is not told again of every pod.
    fn read_dns(section: &Section<'_>) -> Option<Self> {
        let name = section.string("name").trim_end_matches('.').to_ascii_lowercase();
        if !name.is_empty() && !is_host(&name) {
            let expected = "a DNS name, such as orcapack.default.svc.cluster.local";
            section.refuse("name", expected, format!("{name:?}"));
        }
        let replicas = section.u64("replicas", 1..=NODES_MAX as u64) as u32;
        let first = name.split('.').next().unwrap_or_default().to_owned();
        let said = section.opt_string("pods").map(|pods| label(section, "pods", pods));
        let is_bad = |pods: &String| pods.parse::<NodeId>().is_err();
        if !is_host(&name) || said.as_ref().is_some_and(is_bad) {
            return None;
        }
        Some(Self::Dns { pods: said.unwrap_or(first), name, replicas })
    }
}

fn slots_text() -> String {
    format!("an integer from {} to {}", SLOTS.start(), SLOTS.end())
}

/// The same text; what is no DNS label is reported.
fn label(section: &Section<'_>, key: &str, text: String) -> String {
    if !text.is_empty() && text.parse::<NodeId>().is_err() {
        section.refuse(key, LABEL, format!("{text:?}"));
    }
    text
}

fn port(section: &Section<'_>, key: &str) -> u16 {
    let port = section.opt_u64(key, 1..=u64::from(u16::MAX));
    port.and_then(|port| u16::try_from(port).ok()).unwrap_or(PORT)
}

fn listen(section: &Section<'_>) -> Option<SocketAddr> {
    let text = section.opt_string("listen")?;
    let listen = text.parse().ok().filter(|at: &SocketAddr| at.port() > 0);
    if listen.is_none() {
        let expected = "IP:PORT, such as 0.0.0.0:7400 or [::]:7400";
        section.refuse("listen", expected, format!("{text:?}"));
    }
    listen
}

/// Relative to the folder of the file.
fn opt_path(section: &Section<'_>, key: &str, folder: &Path) -> Option<PathBuf> {
    let path = section.opt_string(key)?;
    if path.is_empty() {
        section.refuse(key, "a path", "an empty string");
    }
    Some(folder.join(path))
}
