use super::*;

/// On a machine that is the same everywhere.
pub(crate) fn host() -> Host {
    Host {
        cpus: 8,
        cache_dir: PathBuf::from("cache"),
        working_dir: PathBuf::from("/home/ada"),
        now: "2026-03-01T14:05:09[UTC]".parse().unwrap(),
        variables: nothing_set,
    }
}

fn nothing_set(name: &str) -> Option<String> {
    (name == "HOME").then(|| "/home/ada".to_owned())
}

fn in_a_job(name: &str) -> Option<String> {
    match name {
        JOB_HOSTS => Some("gpu[01-03],FAT_1.lab".to_owned()),
        _ => nothing_set(name),
    }
}

pub(crate) fn parsed(text: &str) -> ClusterConfig {
    parsed_where(text, nothing_set).unwrap_or_else(|faults| panic!("{faults}"))
}

fn parsed_where(text: &str, variables: Variables) -> Result<ClusterConfig, String> {
    let host = Host { variables, ..host() };
    let parsed = ClusterConfig::parse(Path::new("lab.toml"), text.to_owned(), &host);
    parsed.map_err(|defects| defects.to_string())
}

pub(crate) const LAB: &str = r#"
[cluster]
name = "lab"
[nodes.n1]
address = "10.0.0.1"
slots = 64
listen = "[::]:7401"
[nodes.n2]
address = "n2.lab:7500"
sandbox = "docker"
drain_sec = 5
[node]
slots = 8
sandbox = "process"
cache_dir = "cache"
create_concurrency = 4
"#;

pub(crate) const PODS: &str = r#"
[cluster]
name = "lab"
[node]
slots = 16
[discovery]
kind = "dns"
name = "orcapack.agents.svc.cluster.local"
replicas = 3
"#;

pub(crate) const JOB: &str = r#"
[cluster]
name = "lab"
[node]
slots = 16
[discovery]
kind = "slurm"
[nodes.fat-1]
slots = 128
[nodes.elsewhere]
slots = 1
[nodes.extra]
address = "10.0.0.9"
"#;

fn addresses(config: &ClusterConfig) -> Vec<String> {
    let nodes = config.nodes.values();
    nodes.map(|node| format!("{} {} {}", node.id, node.address, node.slots)).collect()
}

#[test]
fn a_file_says_who_is_there_and_what_each_has_room_for() {
    let config = parsed(LAB);
    assert_eq!(config.file, Path::new("/home/ada/lab.toml"));
    assert_eq!(config.pki, Path::new("/home/ada/pki"));
    assert_eq!(config.state_dir, Path::new("/home/ada/.local/state/orcapack/lab"));
    assert_eq!((config.lease, config.slots()), (LEASE, 72));
    assert_eq!(addresses(&config), ["n1 10.0.0.1:7400 64", "n2 n2.lab:7500 8"]);
    let [n1, n2] = [config.node("n1").unwrap(), config.node("n2").unwrap()];
    assert_eq!(n1.listen.to_string(), "[::]:7401");
    assert_eq!(n2.listen.to_string(), "0.0.0.0:7500");
    assert_eq!([n1.sandbox, n2.sandbox], [SandboxDriver::Process, SandboxDriver::Docker]);
    assert_eq!([n1.drain, n2.drain], [DRAIN, Duration::from_secs(5)]);
    assert_eq!(n2.cache_dir, Path::new("/home/ada/cache"));
    assert_eq!((n2.create_concurrency, n2.verify_concurrency), (Some(4), None));
    assert_eq!(config.state_of(&n1.id), config.state_dir.join("n1"));
}

#[test]
fn folders_are_relative_to_the_file() {
    let text = LAB.replace("name = \"lab\"", "name = \"lab\"\npki = '../ca'\nstate_dir = 'state'");
    let config = ClusterConfig::parse(Path::new("/etc/orcapack/lab.toml"), text, &host()).unwrap();
    assert_eq!(config.pki, Path::new("/etc/orcapack/../ca"));
    assert_eq!(config.state_dir, Path::new("/etc/orcapack/state"));
    assert_eq!(config.nodes.values().next().unwrap().cache_dir, Path::new("/etc/orcapack/cache"));
}

#[test]
fn a_state_belongs_to_the_user_or_to_the_system() {
    assert_eq!(default_state_dir("lab", |_| None), Path::new("/var/lib/orcapack/lab"));
    let xdg: Variables = |name| (name == "XDG_STATE_HOME").then(|| "/state".to_owned());
    assert_eq!(default_state_dir("lab", xdg), Path::new("/state/orcapack/lab"));
}

#[test]
fn the_pods_of_a_stateful_set_are_found_by_a_dns_name() {
    let config = parsed(PODS);
    let pod = |n| format!("orcapack-{n} orcapack-{n}.orcapack.agents.svc.cluster.local:7400 16");
    assert_eq!(addresses(&config), [pod(0), pod(1), pod(2)]);
    let config = parsed(&format!("{PODS}pods = 'w'\n[nodes.w-1]\nslots = 99\n"));
    let slots: Vec<_> = config.nodes.values().map(|node| (node.id.as_str(), node.slots)).collect();
    assert_eq!(slots, [("w-0", 16), ("w-1", 99), ("w-2", 16)]);
}

#[test]
fn the_hosts_of_a_slurm_job_are_found_by_its_environment() {
    let config = parsed_where(JOB, in_a_job).unwrap();
    let want = [
        "extra 10.0.0.9:7400 16",
        "fat-1 fat_1.lab:7400 128",
        "gpu01 gpu01:7400 16",
        "gpu02 gpu02:7400 16",
        "gpu03 gpu03:7400 16",
    ];
    assert_eq!(addresses(&config), want);
    let outside = JOB.replace("[nodes.extra]\naddress = \"10.0.0.9\"\n", "");
    let failure = parsed(&outside).peers().unwrap_err();
    assert_eq!(
        failure.message,
        "/home/ada/lab.toml: its nodes are the hosts of a Slurm job, but $SLURM_JOB_NODELIST is \
         not set: run this within the job, or set it to what `squeue -h -j JOB -o %N` prints"
    );
}

#[test]
fn a_machine_knows_which_node_it_is() {
    let config = parsed(LAB);
    let this = |asked, variables: Variables, host_name| {
        config
            .this_node(asked, variables, host_name)
            .map(|node| node.id.to_string())
            .map_err(|failure| failure.message)
    };
    let id = |text: &str| Ok(text.to_owned());
    let named: Variables = |name| (name == NODE_ID).then(|| "n2".to_owned());
    let slurm: Variables = |name| (name == "SLURMD_NODENAME").then(|| "n2".to_owned());
    let pod: Variables = |name| (name == "POD_NAME").then(|| "n2".to_owned());
    assert_eq!(this(Some("n1"), named, "n2"), id("n1"));
    assert_eq!(this(None, named, "n1"), id("n2"));
    assert_eq!(this(None, slurm, "N1.lab"), id("n1"));
    assert_eq!(this(None, slurm, "box"), id("n2"));
    assert_eq!(this(None, pod, ""), id("n2"));
    let nodes = "/home/ada/lab.toml has the nodes n1, n2";
    assert_eq!(
        this(None, nothing_set, "box"),
        Err(format!(
            "{nodes}: which of them is this? the host `box` is none: say --id ID, or set \
             $ORCAPACK_NODE_ID"
        ))
    );
    let wrong: Variables = |_| Some("n22".to_owned());
    assert_eq!(
        this(None, wrong, "n1"),
        Err(format!("{nodes}: no node `n22` (did you mean `n2`?)"))
    );
    assert_eq!(this(Some("../x"), wrong, "n1"), Err(format!("{nodes}: no node `../x`")));
}

#[test]
fn a_long_list_of_nodes_is_cut() {
    let nodes: String =
        (10..40).map(|n| format!("[nodes.n{n}]\naddress = '10.0.0.{n}'\nslots = 1\n")).collect();
    let config = parsed(&format!("[cluster]\nname = 'lab'\n{nodes}"));
    let message = config.node("x").unwrap_err().message;
    assert!(message.ends_with("n24, n25 and 14 more: no node `x`"), "{message}");
}

#[test]
fn bad_cluster_files_are_told_all_their_faults_with_place_and_remedy() {
    let bad_list: Variables = |name| (name == JOB_HOSTS).then(|| "n[3-1]".to_owned());
    let twins: Variables = |name| (name == JOB_HOSTS).then(|| "n1.a,n1.b".to_owned());
    let table: &[(&str, Variables, &str)] = &[
        ("nothing", nothing_set, ""),
        ("syntax", nothing_set, "[cluster\nname = lab"),
        (
            "unknown keys",
            nothing_set,
            "[clusters]\n[cluster]\nname = 'lab'\nlease = 3\n[nodes.n1]\nadress = '10.0.0.1'\n\
             slot = 3\n[node]\nslots = 2\nstate_dir = 'x'\n",
        ),
        (
            "out of range",
            nothing_set,
            "[cluster]\nname = 'Lab'\nport = 0\nlease_sec = 0.5\npki = ''\n[node]\nslots = 0\n\
             drain_sec = -1\n[nodes.n1]\naddress = '0.0.0.0'\nlisten = 'n1:7400'\nslots = 5000\n\
             sandbox = 'podman'\n[nodes.N_2]\naddress = 'n2'\nslots = 'many'\n",
        ),
        ("no slots", nothing_set, "[cluster]\nname = 'lab'\n[nodes.n1]\naddress = 'n1'\n"),
        (
            "two nodes at one address",
            nothing_set,
            "[cluster]\nname = 'lab'\n[node]\nslots = 1\n[nodes.n1]\naddress = 'host'\n\
             [nodes.n2]\naddress = 'HOST:7400'\n",
        ),
        (
            "dns without its keys",
            nothing_set,
            "[cluster]\nname = 'lab'\n[discovery]\nkind = 'dns'\npod = 'x'\n",
        ),
        (
            "dns with names that are none",
            nothing_set,
            "[cluster]\nname = 'lab'\n[node]\nslots = 1\n[discovery]\nkind = 'dns'\n\
             name = 'a b.svc'\nreplicas = 9999\npods = 'W-'\n",
        ),
        (
            "a table for a pod that is none",
            nothing_set,
            "[cluster]\nname = 'lab'\n[node]\nslots = 1\n[discovery]\nkind = 'dns'\n\
             name = 'w.svc'\nreplicas = 2\n[nodes.w-2]\nslots = 9\n",
        ),
        (
            "slurm with keys of dns",
            in_a_job,
            "[cluster]\nname = 'lab'\n[discovery]\nkind = 'slurm'\nname = 'x'\n",
        ),
        ("slurm with a bad list", bad_list, &JOB.replace("[nodes.extra]", "[nodes.extra2]")),
        ("slurm with twins", twins, JOB),
        ("another discovery", nothing_set, "[cluster]\nname = 'lab'\n[discovery]\nkind = 'mdns'\n"),
        ("too many", nothing_set, "[cluster]\nname = 'lab'\n[nodes]\nn1 = 3\n[discovery.x]\n"),
    ];
    let mut report = String::new();
    for (name, variables, text) in table {
        let message = parsed_where(text, *variables).expect_err(name);
        report.push_str(&format!("## {name}\n{message}\n\n"));
    }
    insta::assert_snapshot!("faults", report);
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let message = ClusterConfig::load(Path::new("/none/lab.toml"), &host()).unwrap_err();
    let message = message.to_string();
    assert!(message.starts_with("/none/lab.toml: expected a readable cluster file"), "{message}");
}
