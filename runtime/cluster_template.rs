//! The cluster file that `cluster init` writes: every key, with what it is for.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior};
use orcapack_cluster::address::NodeId;
use serde::Serialize;

use crate::cluster_discovery::{NodeSpec, id_of_host};

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

/// For texts that are no HTML: nothing is escaped but by a template's own filters, and a line with a
/// block alone leaves none behind.
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
    use crate::cluster_config::tests::parsed;

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
}
