use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use serde_json::Value;

use super::*;
use crate::cluster_config::tests::{JOB, LAB, PODS, host, parsed};

const BINARY: &str = "/usr/local/bin/orcapack";

fn read(file: &str, text: &str) -> ClusterConfig {
    let host = service_host(&host());
    ClusterConfig::parse(Path::new(file), text.to_owned(), &host).unwrap()
}

/// The settings of a unit, by section: all values of each, in order.
fn settings(unit: &str) -> BTreeMap<(String, String), Vec<String>> {
    let mut settings: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let mut section = String::new();
    for line in unit.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        match (line.strip_prefix('[').and_then(|line| line.strip_suffix(']')), line.split_once('='))
        {
            (Some(name), _) => section = name.to_owned(),
            (None, Some((key, value))) => {
                let key = (section.clone(), key.to_owned());
                settings.entry(key).or_default().push(value.to_owned());
            }
            (None, None) => panic!("no setting: {line}"),
        }
    }
    settings
}

#[test]
fn a_unit_for_all_nodes_or_for_one() {
    let config = read("/etc/orcapack/lab.toml", LAB);
    let all = systemd(&config, None, Path::new(BINARY)).unwrap();
    insta::assert_snapshot!("systemd", all);
    let of = |unit: &str, key: &str| {
        settings(unit).remove(&("Service".to_owned(), key.to_owned())).unwrap_or_default()
    };
    let start = "/usr/local/bin/orcapack node /etc/orcapack/lab.toml --id";
    assert_eq!(of(&all, "ExecStart"), [format!("{start} %i")]);
    assert_eq!(of(&all, "TimeoutStopSec"), ["90"]);
    assert_eq!(of(&all, "StateDirectory"), ["orcapack/lab"]);

    let one = systemd(&config, Some("n2"), Path::new(BINARY)).unwrap();
    assert_eq!(of(&one, "ExecStart"), [format!("{start} n2")]);
    assert_eq!(of(&one, "TimeoutStopSec"), ["35"]);
    assert!(one.starts_with("# Node n2 of cluster lab.\n#\n"), "{one}");
    let none = systemd(&config, Some("n3"), Path::new(BINARY)).unwrap_err();
    assert!(none.message.contains("no node `n3`"), "{none}");
}

#[test]
fn a_unit_names_the_folders_that_systemd_cannot_make_only_as_they_are() {
    let text = LAB.replace("name = \"lab\"", "name = \"lab\"\nstate_dir = '/data/orca'");
    let unit = systemd(&read("/srv/my 100% $HOME/lab.toml", &text), None, Path::new(BINARY));
    let unit = unit.unwrap();
    assert!(unit.contains(" node \"/srv/my 100%% $$HOME/lab.toml\" --id %i\n"), "{unit}");
    assert!(!unit.contains("StateDirectory"), "{unit}");
    assert!(unit.contains("#   /data/orca/%i\n"), "{unit}");
    let lines = read("/srv/a\nExecStartPre=b/lab.toml", LAB);
    let failure = systemd(&lines, None, Path::new(BINARY)).unwrap_err();
    assert!(failure.message.contains("without control characters"), "{failure}");
}

#[test]
fn a_batch_script_runs_a_node_on_each_host() {
    let config = parsed(JOB);
    let script = slurm(&config, 8, Path::new(BINARY)).unwrap();
    insta::assert_snapshot!("slurm", script);
    let failure = slurm(&parsed(LAB), 8, Path::new(BINARY)).unwrap_err();
    assert_eq!(
        failure.message,
        "/home/ada/lab.toml: for `slurm`: expected [discovery] with kind = \"slurm\", found kind = \
         \"static\""
    );
}

/// The script with an `srun` that runs its command here, and a node that ends as `ends` says, one
/// start after another. Its exit code, and what the node was started with.
fn run_script(ends: &[u8]) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let tool = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, format!("#!/bin/bash\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    };
    tool("srun", "while [[ $1 == --* ]]; do shift; done; exec \"$@\"");
    tool("sleep", "");
    let ends = ends.iter().map(u8::to_string).collect::<Vec<_>>().join(" ");
    let node = tool(
        "it's a node",
        &format!(
            "cd \"$(dirname \"$0\")\"; echo \"$@\" >> starts; ends=({ends})\n\
             end=${{ends[$(wc -l < starts) - 1]}}\n\
             [[ $end != 143 ]] || kill -TERM $PPID\n\
             exit $end"
        ),
    );
    let script = slurm(&parsed(JOB), 2, &node).unwrap();
    let script = tool("nodes.sbatch", &script);
    let path = format!("{}:{}", folder.path().display(), env::var("PATH").unwrap());
    let ended = Command::new("bash").arg(script).env("PATH", path).status().unwrap();
    (ended.code(), fs::read_to_string(folder.path().join("starts")).unwrap())
}

#[test]
fn a_node_of_a_job_is_started_again_until_it_ends_well_or_cannot() {
    let start = "node /home/ada/lab.toml\n";
    assert_eq!(run_script(&[0]), (Some(0), start.to_owned()));
    assert_eq!(run_script(&[1, 137, 0]), (Some(0), start.repeat(3)));
    assert_eq!(run_script(&[1, Exit::Fenced.code()]), (Some(8), start.repeat(2)));
    assert_eq!(run_script(&[Exit::BadInput.code()]), (Some(2), start.to_owned()));
    // The signal that ends a job goes to the loop too.
    assert_eq!(run_script(&[1, 143, 0]), (Some(143), start.repeat(2)));
}

fn objects(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

#[test]
fn pods_have_what_a_node_needs() {
    let config = parsed(PODS);
    let text = k8s(&config, "registry.lab/orcapack:1", &host()).unwrap();
    insta::assert_snapshot!("k8s", text);
    let objects = objects(&text);
    let kinds: Vec<_> = objects.iter().filter_map(|object| object["kind"].as_str()).collect();
    assert_eq!(kinds, ["ConfigMap", "Service", "PodDisruptionBudget", "StatefulSet"]);
    for object in &objects {
        assert_eq!(object["metadata"]["namespace"], "agents");
    }
    // The file that the pods have is the file.
    let file = objects[0]["data"]["cluster.toml"].as_str().unwrap();
    assert_eq!(parsed(file).nodes, config.nodes);
    let set = &objects[3]["spec"];
    assert_eq!((&set["serviceName"], &set["replicas"]), (&"orcapack".into(), &3.into()));
    assert_eq!(objects[1]["metadata"]["name"], "orcapack");
    let pod = &set["template"]["spec"];
    assert_eq!(pod["terminationGracePeriodSeconds"], 90);
    assert_eq!(set["selector"]["matchLabels"], set["template"]["metadata"]["labels"]);
    assert_eq!(objects[1]["spec"]["selector"], set["template"]["metadata"]["labels"]);
    let volumes: BTreeSet<_> = ["/volumes", "/containers/0/volumeMounts"]
        .iter()
        .map(|part| {
            let names = pod.pointer(part).unwrap().as_array().unwrap().iter();
            names.map(|volume| volume["name"].as_str().unwrap()).collect::<BTreeSet<_>>()
        })
        .reduce(|volumes, mounts| {
            mounts.iter().filter(|name| !volumes.contains(*name)).copied().collect()
        })
        .unwrap();
    // All that is mounted is there: the state by its claim.
    assert_eq!(volumes, BTreeSet::from(["state"]));
    assert_eq!(set["volumeClaimTemplates"][0]["metadata"]["name"], "state");
    assert_eq!(pod["containers"][0]["volumeMounts"][1]["mountPath"], "/var/lib/orcapack/lab");
    assert_eq!(pod["containers"][0]["volumeMounts"][2]["mountPath"], "/var/cache/orcapack");
    assert_eq!(pod["volumes"][1]["secret"]["defaultMode"], 0o400);
}

#[test]
fn a_cluster_file_of_any_form_is_whole_in_its_pod() {
    let odd =
        format!("\n   # indented: \"first\"\t{{{{ x }}}}\r\n\r\n{PODS}\n\n# last ---\n---x = 1");
    let odd = odd.replace("---x = 1", "");
    let text = k8s(&parsed(&odd), "a \"b\": #c", &host()).unwrap();
    let objects = objects(&text);
    let file = objects[0]["data"]["cluster.toml"].as_str().unwrap();
    assert_eq!(file.trim_end(), odd.replace("\r\n", "\n").trim_end());
    let pod = &objects[3]["spec"]["template"]["spec"];
    assert_eq!(pod["containers"][0]["image"], "a \"b\": #c");
}

#[test]
fn pods_are_made_of_a_file_that_finds_them_and_has_no_docker() {
    let failure = k8s(&parsed(LAB), "x", &host()).unwrap_err();
    assert!(failure.message.contains("for `k8s`: expected [discovery] with kind = \"dns\""));
    let docker = PODS.replace("slots = 16", "slots = 16\nsandbox = 'docker'");
    let failure = k8s(&parsed(&docker), "x", &host()).unwrap_err();
    assert!(failure.message.contains("no Docker engine in a pod"), "{failure}");
    let state = PODS.replace("name = \"lab\"", "name = \"lab\"\nstate_dir = '/data'");
    let text = k8s(&parsed(&state), "x", &host()).unwrap();
    assert!(text.contains("- { name: state, mountPath: \"/data\" }"), "{text}");
}

#[test]
fn words_are_what_they_say_to_their_reader() {
    for text in ["/usr/bin/x", "a b", "it's", "$(id)", "`id`", "\"q\"", "\\", "é;&|", ""] {
        let line = format!("printf %s {}", shell_word(text));
        let said = Command::new("bash").args(["-c", &line]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&said.stdout), text);
    }
    let quoted = systemd_word("a\"b\\c $d 5%");
    assert_eq!(quoted, r#""a\"b\\c $$d 5%%""#);
}
