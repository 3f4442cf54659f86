//! The `docker-compose.yaml` of a Terminal-Bench 1 task, of which only the standard one can be run.

use std::collections::BTreeMap;

use crate::caps::TASK_CONFIG_BYTES_MAX;
use crate::env_template::{Lookup, resolve};
use crate::folder::TaskFolder;
use crate::task::NetworkPolicy;
use crate::toml_section::Section;
use crate::yaml_doc;

pub(crate) const FILE: &str = "docker-compose.yaml";

/// What a compose file may say about the one service that the agent works in.
pub(crate) struct Client {
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) network: NetworkPolicy,
}

/// Accepts the compose file that every task is given, with variables and a cut network of its own,
/// no more.
pub(crate) fn read(folder: &mut TaskFolder, lookup: Lookup<'_>) -> Client {
    let mut client = Client { env: BTreeMap::new(), network: NetworkPolicy::Public };
    if !folder.has(FILE) {
        return client;
    }
    let Some(text) = folder.text(FILE, TASK_CONFIG_BYTES_MAX) else { return client };
    let doc = match yaml_doc::parse(&folder.path(FILE), &text) {
        Ok(doc) => doc,
        Err(defects) => {
            folder.append(defects);
            return client;
        }
    };
    let root = doc.root();
    root.opt_string("version");
    let services = root.section("services");
    for (name, service) in root.section_map("services") {
        if name == "client" {
            client = read_client(&service, lookup);
        } else {
            service.allow_any_but(&[]);
            let expected = "the one service `client`, as several are not run together";
            services.refuse(&name, expected, format!("the service `{name}`"));
        }
    }
    if !services.has("client") {
        root.refuse("services", "a service `client`", "none");
    }
    if let Err(defects) = doc.finish(()) {
        folder.append(defects);
    }
    client
}

fn read_client(service: &Section<'_>, lookup: Lookup<'_>) -> Client {
    service.opt_string("image");
    service.opt_string("container_name");
    build(service);
    let command = if service.is_array("command") {
        service.strings("command").join(" ")
    } else {
        service.string_or("command", "sleep infinity")
    };
    if !matches!(
        command.as_str(),
        "sleep infinity" | "sh -c sleep infinity" | "bash -c sleep infinity"
    ) {
        let expected = "`sleep infinity`, which is what every environment runs";
        service.refuse("command", expected, format!("`{command}`"));
    }
    for volume in service.strings("volumes") {
        if !volume.starts_with("${T_BENCH_TASK_") {
            let expected = "only the logs' volumes, as nothing of the host is mounted";
            service.refuse("volumes", expected, format!("{volume:?}"));
        }
    }
    let networks = [("none", NetworkPolicy::None), ("bridge", NetworkPolicy::Public)];
    let network = service.one_of_or("network_mode", NetworkPolicy::Public, &networks);
    Client { env: client_env(service, lookup), network }
}

fn build(service: &Section<'_>) {
    if !service.has("build") {
        service.refuse("build", "a build of the task's folder", "none");
    }
    if !service.is_table("build") {
        let context = service.opt_string("build");
        if context.is_some_and(|context| !matches!(context.as_str(), "." | "./")) {
            service.refuse("build", "\".\", the task's folder", "another");
        }
        return;
    }
    let build = service.section("build");
    for (key, standard) in
        [("context", [".", "./"]), ("dockerfile", ["Dockerfile", "./Dockerfile"])]
    {
        let value = build.opt_string(key);
        if let Some(value) = value.filter(|value| !standard.contains(&value.as_str())) {
            build.refuse(key, &format!("{:?}", standard[0]), format!("{value:?}"));
        }
    }
}

/// `environment`, as a mapping or as a list of `NAME=VALUE`. `TEST_DIR` is the verifier's alone.
fn client_env(service: &Section<'_>, lookup: Lookup<'_>) -> BTreeMap<String, String> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    if service.is_table("environment") {
        pairs.extend(service.string_map("environment"));
    } else {
        for item in service.strings("environment") {
            match item.split_once('=') {
                Some((name, value)) => pairs.push((name.to_owned(), value.to_owned())),
                None => service.refuse("environment", "NAME=VALUE", format!("{item:?}")),
            }
        }
    }
    let container_side = |name: &str| match name {
        "T_BENCH_TEST_DIR" => Some("/tests".to_owned()),
        "T_BENCH_CONTAINER_LOGS_PATH" => Some("/logs".to_owned()),
        "T_BENCH_CONTAINER_AGENT_LOGS_PATH" => Some("/logs/agent".to_owned()),
        _ => lookup(name),
    };
    let mut env = BTreeMap::new();
    for (name, template) in pairs.into_iter().filter(|(name, _)| name != "TEST_DIR") {
        match resolve(&template, &container_side) {
            Ok(value) => {
                env.insert(name, value);
            }
            Err(found) => {
                let expected = "a text with ${VAR}s that are set, or ${VAR:-default}";
                service.refuse("environment", expected, found);
            }
        }
    }
    env
}
