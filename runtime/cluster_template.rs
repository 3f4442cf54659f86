//! The cluster file that `cluster init` writes: every key, with what it is for.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::{self, Write as _};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior};
use orcapack_cluster::address::NodeId;
use serde::Serialize;

use crate::cli_cluster::InitArgs;
use crate::cluster_config::ClusterConfig;
use crate::cluster_discovery::{NodeSpec, id_of_host};
use crate::config_layers::Host;
use crate::exit::Failure;

/// The file of `cluster init`: read where there is one, else written; whether it was.
///
/// # Errors
/// A file that cannot be read or written, that says another name, or to which nodes are to be
/// added.
pub fn ensure(
    args: &InitArgs,
    host: &Host,
    host_name: &str,
) -> Result<(ClusterConfig, bool), Failure> {
    let file = args.cluster.display();
    let refused = |error: io::Error| Failure::bad_input(format!("{file}: {error}"));
    if args.cluster.try_exists().map_err(refused)? {
        let config = ClusterConfig::load(&args.cluster, host)?;
        if let Some(name) = args.name.as_ref().filter(|name| name.as_str() != config.name) {
            let found = &config.name;
            return Err(Failure::bad_input(format!(
                "{file}: cluster.name: expected `{name}`, as --name says, found `{found}`"
            )));
        }
        if !args.nodes.is_empty() {
            return Err(Failure::bad_input(format!(
                "{file}: is there already: write the nodes into it instead of --node"
            )));
        }
        return Ok((config, false));
    }
    let Some(name) = &args.name else {
        return Err(Failure::bad_input(format!("{file}: is not there: a new one needs --name")));
    };
    let mut nodes = args.nodes.clone();
    let mut ids = BTreeSet::new();
    if let Some(twice) = nodes.iter().find(|node| !ids.insert(&node.id)) {
        return Err(Failure::bad_input(format!("--node: node `{}` twice", twice.id)));
    }
    if nodes.is_empty() {
        nodes.extend(this_machine(host_name, host.cpus));
    }
    let text =
        text(name, &nodes).map_err(|error| Failure::internal(format!("a template: {error}")))?;
    // What is wrong with it, such as two nodes at one address, is told before it is written.
    let config = ClusterConfig::parse(&args.cluster, text, host)?;
    let mut options = OpenOptions::new();
    let written = options.write(true).create_new(true).open(&args.cluster);
    written.and_then(|mut file| file.write_all(config.text.as_bytes())).map_err(refused)?;
    Ok((config, true))
}

/// The text of a new cluster file.
///
/// # Errors
/// A defect of the template only.
pub fn text(name: &NodeId, nodes: &[NodeSpec]) -> Result<String, minijinja::Error> {
    let mut environment = environment()?;
    environment.add_filter("toml", |text: &str| toml::Value::from(text).to_string());
    environment.add_template("cluster", include_str!("templates/cluster.toml.j2"))?;
    let nodes = nodes.iter().map(|node| View {
        id: node.id.as_str(),
        address: &node.address,
        slots: node.slots,
    });
    let view = Views { name: name.as_str(), nodes: nodes.collect() };
    environment.get_template("cluster")?.render(Serde(view))
}

/// What the template sees.
#[derive(Serialize)]
struct Views<'a> {
    name: &'a str,
    nodes: Vec<View<'a>>,
}

#[derive(Serialize)]
struct View<'a> {
    id: &'a str,
    address: &'a str,
    slots: u32,
}

/// The one node of a cluster to try things out on: this machine, with a slot for each core.
pub fn this_machine(host_name: &str, cpus: usize) -> Option<NodeSpec> {
    let id = id_of_host(host_name).or_else(|| "n1".parse().ok())?;
    let slots = u32::try_from(cpus).unwrap_or(u32::MAX).clamp(1, 4096);
    Some(NodeSpec { id, address: "127.0.0.1".to_owned(), slots })
}

/// For texts that are no HTML: nothing is escaped but by a template's own filters, and a line with
/// a block alone leaves none behind.
pub(crate) fn environment() -> Result<Environment<'static>, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_debug(false);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    let mut syntax = SyntaxConfig::builder();
    syntax.trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(true);
    environment.set_syntax(syntax.build()?);
    Ok(environment)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster_config::tests::{host, parsed};

    fn made(nodes: &[&str]) -> String {
        let nodes: Vec<NodeSpec> = nodes.iter().map(|node| node.parse().unwrap()).collect();
        text(&"lab".parse().unwrap(), &nodes).unwrap()
    }

    #[test]
    fn a_new_cluster_file_reads_back() {
        let text = made(&["n1=10.0.0.1:7500,64", "n2=[fd00::2],8"]);
        insta::assert_snapshot!("new_file", text);
        let config = parsed(&text);
        let nodes: Vec<_> =
            config.nodes.values().map(|node| (node.address.to_string(), node.slots)).collect();
        let want = [("10.0.0.1:7500", 64), ("[fd00::2]:7400", 8)];
        assert_eq!(nodes, want.map(|(address, slots)| (address.to_owned(), slots)));
    }

    /// Each commented key is what it says, and each default the one that holds.
    #[test]
    fn what_is_commented_is_true() {
        let text = made(&["n1=10.0.0.1,64"]);
        let uncommented: String = text
            .lines()
            .take_while(|line| !line.starts_with("# Instead"))
            .map(|line| match line.strip_prefix("# ") {
                Some(setting) if setting.contains(" = ") => format!("{setting}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        let (plain, all) = (parsed(&text), parsed(&uncommented));
        assert_eq!((&plain.pki, plain.port, plain.lease), (&all.pki, all.port, all.lease));
        assert_eq!(plain.nodes["n1".parse::<NodeId>().as_ref().unwrap()].drain, {
            all.nodes["n1".parse::<NodeId>().as_ref().unwrap()].drain
        });
        assert!(all.state_dir.ends_with("orcapack/lab"));
    }

    #[test]
    fn a_cluster_to_try_is_this_machine() {
        let spec = this_machine("Box_1.lab", 8).unwrap();
        assert_eq!((spec.id.as_str(), spec.slots), ("box-1", 8));
        assert_eq!(this_machine("", 0).map(|spec| spec.slots), Some(1));
    }

    #[test]
    fn a_file_that_is_there_is_read_and_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lab.toml");
        let args = |name: &str, nodes: &[&str]| InitArgs {
            cluster: path.clone(),
            name: (!name.is_empty()).then(|| name.parse().unwrap()),
            nodes: nodes.iter().map(|node| node.parse().unwrap()).collect(),
        };
        let ensure = |args: &InitArgs| {
            ensure(args, &host(), "box").map_err(|failure| {
                failure.message.replace(&folder.path().display().to_string(), "DIR")
            })
        };
        let twice = ["n1=10.0.0.1,4", "n1=10.0.0.2,4"];
        assert_eq!(
            ensure(&args("", &[])).unwrap_err(),
            "DIR/lab.toml: is not there: a new one needs --name"
        );
        assert_eq!(ensure(&args("lab", &twice)).unwrap_err(), "--node: node `n1` twice");
        let one_place = ["n1=10.0.0.1,4", "n2=10.0.0.1,4"];
        assert!(ensure(&args("lab", &one_place)).unwrap_err().contains("an address of its own"));
        assert!(!path.exists());

        let (made, written) = ensure(&args("lab", &[])).unwrap();
        assert_eq!((made.slots(), written), (8, true));
        assert_eq!(ensure(&args("", &[])), Ok((made.clone(), false)));
        assert_eq!(ensure(&args("lab", &[])), Ok((made, false)));
        assert_eq!(
            ensure(&args("other", &[])).unwrap_err(),
            "DIR/lab.toml: cluster.name: expected `other`, as --name says, found `lab`"
        );
        assert_eq!(
            ensure(&args("", &["n1=10.0.0.1,4"])).unwrap_err(),
            "DIR/lab.toml: is there already: write the nodes into it instead of --node"
        );
    }
}
