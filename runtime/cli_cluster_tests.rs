use clap::{CommandFactory as _, Parser};

use super::*;

/// As the program's own command line has them.
#[derive(Debug, Parser)]
#[command(name = "orcapack", max_term_width = 100)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Be a node of a cluster, or drain one
    Node(NodeArgs),
    /// Show what the nodes of a cluster do
    Status(StatusArgs),
    /// Make a cluster, and say who belongs to it
    #[command(subcommand)]
    Cluster(ClusterCommand),
    Eval {
        #[command(flatten)]
        on: OnCluster,
    },
}

fn parse(line: &str) -> Result<Command, clap::Error> {
    let words = ["orcapack"].into_iter().chain(line.split_whitespace());
    Line::try_parse_from(words).map(|line| line.command)
}

fn cluster(line: &str) -> Result<ClusterCommand, String> {
    match parse(&format!("cluster {line}")).map_err(|error| error.to_string())? {
        Command::Cluster(command) => Ok(command),
        other => panic!("parsed as {other:?}"),
    }
}

#[test]
fn definition_is_consistent() {
    Line::command().debug_assert();
}

#[test]
fn node_is_run_by_its_file_and_drained_by_its_id() {
    let node = |line| match parse(line) {
        Ok(Command::Node(args)) => args,
        other => panic!("parsed as {other:?}"),
    };
    let args = node("node lab.toml --id n1 --join @n1.token --drain-sec 9");
    let run = NodeRunArgs {
        id: Some("n1".to_owned()),
        join: Some("@n1.token".to_owned()),
        exit_when_done: false,
        drain_sec: Some(9),
    };
    assert_eq!(args.action(), NodeAction::Run(Path::new("lab.toml"), &run));
    let args = node("node ./drain");
    assert_eq!(args.action(), NodeAction::Run(Path::new("./drain"), &NodeRunArgs::default()));
    for (line, undo) in
        [("node drain n2 --cluster lab.toml", false), ("node drain -c lab.toml n2 --undo", true)]
    {
        let drain = DrainArgs { id: "n2".to_owned(), cluster: "lab.toml".into(), undo };
        assert_eq!(node(line).action(), NodeAction::Drain(&drain));
    }
}

#[test]
fn lines_that_make_no_sense_are_refused() {
    for line in [
        "node",
        "node drain",
        "node drain n2",
        "node drain --cluster lab.toml",
        "node lab.toml drain n2 --cluster lab.toml",
        "node --id n1 drain n2 --cluster lab.toml",
        "node lab.toml --drain-sec -1",
        "node lab.toml --drain-sec 86401",
        "status",
        "status lab.toml --self --node n1",
        "cluster init",
        "cluster init lab.toml --name Lab",
        "cluster init lab.toml --node n1",
        "cluster token lab.toml",
        "cluster token lab.toml N1",
        "cluster token lab.toml n1 --ttl 5s",
        "cluster token lab.toml n1 --ttl 31d",
        "cluster token lab.toml n1 --ttl -1h",
        "cluster token lab.toml n1 --ttl 999999999999999999d",
        "cluster token lab.toml n1 --role admin",
        "cluster issue lab.toml n1",
        "cluster revoke lab.toml",
        "cluster render lab.toml",
        "cluster render k8s lab.toml --id n1",
        "cluster render slurm lab.toml --nodes 0",
        "cluster render systemd lab.toml --image x",
    ] {
        let error = parse(line).expect_err(line);
        assert_eq!(error.exit_code(), i32::from(Exit::BadInput.code()), "{line}");
    }
}

#[test]
fn status_is_of_all_nodes_of_some_or_of_this_one() {
    let config = crate::cluster_config::tests::parsed(crate::cluster_config::tests::LAB);
    let asked = |line| {
        let Ok(Command::Status(args)) = parse(line) else { panic!("no status: {line}") };
        let nodes = args.asked(&config, |_| None, "n2.lab")?;
        Ok::<_, Failure>(nodes.iter().map(|node| node.id.to_string()).collect::<Vec<_>>())
    };
    assert_eq!(asked("status lab.toml").unwrap(), ["n1", "n2"]);
    assert_eq!(asked("status lab.toml --self").unwrap(), ["n2"]);
    assert_eq!(asked("status lab.toml -n n1 --node n2 --json").unwrap(), ["n1", "n2"]);
    assert_eq!(asked("status lab.toml -n n9").unwrap_err().exit, Exit::BadInput);
}

#[test]
fn a_cluster_is_made_with_its_nodes() {
    let line = "init lab.toml --name lab --node n1=10.0.0.1:7400,64 --node n2=fd00::2,8";
    let Ok(ClusterCommand::Init(args)) = cluster(line) else { panic!("no init") };
    assert_eq!(args.name.map(|name| name.to_string()).as_deref(), Some("lab"));
    let nodes: Vec<_> = args.nodes.iter().map(|n| (n.id.as_str(), &*n.address, n.slots)).collect();
    assert_eq!(nodes, [("n1", "10.0.0.1:7400", 64), ("n2", "fd00::2", 8)]);
}

#[test]
fn a_token_holds_an_hour_for_a_worker_if_nothing_is_said() {
    let token = |line| match cluster(line) {
        Ok(ClusterCommand::Token(args)) => (args.ttl.as_secs(), args.role.role),
        other => panic!("parsed as {other:?}"),
    };
    assert_eq!(token("token lab.toml n1"), (3600, Role::Worker));
    assert_eq!(token("token lab.toml n1 --ttl 90s --role operator"), (90, Role::Operator));
    assert_eq!(token("token lab.toml n1 --ttl 2d"), (2 * 86_400, Role::Worker));
    assert_eq!(token("token lab.toml n1 --ttl 1h30m"), (5400, Role::Worker));
}

#[test]
fn files_for_other_systems_have_their_own_options() {
    let Ok(ClusterCommand::Render(RenderCommand::Slurm { of, nodes })) =
        cluster("render slurm lab.toml --nodes 8 --binary /opt/orcapack")
    else {
        panic!("no slurm")
    };
    assert_eq!((of.binary.as_deref(), nodes), (Some(Path::new("/opt/orcapack")), 8));
    let Ok(ClusterCommand::Render(RenderCommand::K8s { image, .. })) = cluster("render k8s x.toml")
    else {
        panic!("no k8s")
    };
    assert_eq!(image, format!("orcapack:{}", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_token_comes_from_the_line_a_file_or_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("n1.token");
    let args = |join: &str| NodeRunArgs { join: Some(join.to_owned()), ..NodeRunArgs::default() };
    let of_file = args(&format!("@{}", file.display()));
    let set: Variables = |name| (name == JOIN_TOKEN).then(|| "from-env".to_owned());
    let unset: Variables = |name| (name == JOIN_TOKEN).then(String::new);
    assert_eq!(args("abc").join_token(set), Ok(Some("abc".to_owned())));
    assert_eq!(NodeRunArgs::default().join_token(set), Ok(Some("from-env".to_owned())));
    assert_eq!(NodeRunArgs::default().join_token(unset), Ok(None));
    assert!(of_file.join_token(set).unwrap_err().message.contains("No such file"));
    fs::write(&file, " \n").unwrap();
    assert!(of_file.join_token(set).unwrap_err().message.ends_with("n1.token: no token in it"));
    fs::write(&file, "from-file\n").unwrap();
    assert_eq!(of_file.join_token(set), Ok(Some("from-file".to_owned())));
}

#[test]
fn help_teaches_examples_and_exit_codes() {
    let mut line = Line::command();
    let mut help = |names: &[&str]| {
        let start = &mut line;
        let command = names.iter().fold(start, |at, name| at.find_subcommand_mut(name).unwrap());
        command.render_long_help().to_string()
    };
    let node = help(&["node"]);
    assert!(node.contains("orcapack node drain n2 --cluster cluster.toml"), "{node}");
    assert!(node.contains("  8  this node was fenced"), "{node}");
    for name in ["init", "token", "issue", "rotate", "revoke", "render", "peers"] {
        let text = help(&["cluster", name]);
        assert!(text.contains(&format!("\n  orcapack cluster {name} ")), "{text}");
    }
    assert!(help(&["status"]).contains("7: some did not"));
}

#[test]
fn help_fits_a_screen() {
    for texts in [
        node_help(),
        status_help(),
        [CLUSTER_INIT_HELP, CLUSTER_TOKEN_HELP, CLUSTER_ISSUE_HELP, CLUSTER_ROTATE_HELP].join("\n"),
        [CLUSTER_REVOKE_HELP, CLUSTER_RENDER_HELP, CLUSTER_PEERS_HELP].join("\n"),
    ] {
        let long = texts.lines().find(|line| line.chars().count() > 100);
        assert_eq!(long, None);
    }
}
