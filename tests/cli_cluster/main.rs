//! Clusters as scripts see them: real processes on this machine, from `cluster init` to the end of
//! their nodes. Nodes need the `process` driver, and so root.

mod lab;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use lab::{Lab, can_run};
use nix::sys::signal::Signal;

/// Stands in a terminal's one line: an error of ours names what it is about.
fn assert_one_line(said: &str, expected: &[&str]) {
    assert!(said.starts_with("error: ") && said.lines().count() == 1, "{said}");
    expected.iter().for_each(|part| assert!(said.contains(part), "{part}: {said}"));
}

#[test]
fn what_is_wrong_is_told_in_one_line_and_its_exit_code() {
    let lab = Lab::new(&["n1", "n2"]);
    let cases: [(&[&str], i32, &[&str]); 9] = [
        (&["node", "none.toml", "--id", "n1"], 2, &["none.toml", "readable cluster file"]),
        (&["node", "c.toml"], 2, &["nodes n1, n2", "which of them is this?", "--id ID"]),
        (&["node", "c.toml", "--id", "n3"], 2, &["no node `n3` (did you mean `n1`?)"]),
        (&["node", "c.toml", "--id", "n1"], 2, &["lab/n1: there is no identity yet", "--join"]),
        (&["node", "c.toml", "--id", "n1", "--join", "@no"], 2, &["--join: no: No such file"]),
        (&["node", "c.toml", "--id", "n1", "--join", "x"], 2, &["expected a join token"]),
        (&["node", "drain", "n3", "-c", "c.toml"], 2, &["no node `n3`"]),
        (&["node", "drain", "n1", "-c", "c.toml"], 7, &["n1: no answer"]),
        (&["cluster", "token", "c.toml", "n3"], 2, &["no node `n3`"]),
    ];
    for (args, code, expected) in cases {
        let ended = lab.run(args);
        assert_eq!(ended.code, Some(code), "{args:?}: {}", ended.stderr);
        assert_one_line(&ended.stderr, expected);
    }
    // The file says another name than the certificates.
    let other = fs::read_to_string(lab.path("c.toml")).unwrap().replace("\"lab\"", "\"other\"");
    fs::write(lab.path("other.toml"), other).unwrap();
    let ended = lab.run(&["cluster", "token", "other.toml", "n1"]);
    assert_one_line(&ended.stderr, &["/pki: expected the authority of other, found that of lab"]);
    // The file names no authority, or the machine does not have it.
    let text = fs::read_to_string(lab.path("c.toml")).unwrap();
    let without: Vec<&str> = text.lines().filter(|line| !line.starts_with("authority")).collect();
    fs::write(lab.path("without.toml"), without.join("\n")).unwrap();
    let token = lab.token("n1");
    let ended = lab.run(&["node", "without.toml", "--id", "n1", "--join", &token]);
    assert_one_line(&ended.stderr, &["without.toml: cluster.authority: expected the address"]);
    let ended = lab.run(&["node", "c.toml", "--id", "n1", "--join", &token]);
    assert_eq!(ended.code, Some(7));
    assert_one_line(&ended.stderr, &["joining at 127.0.0.1:", "no answer"]);
    fs::rename(lab.path("pki"), lab.path("away")).unwrap();
    for args in [&["cluster", "serve", "c.toml"][..], &["cluster", "revoke", "c.toml", "n1"]] {
        let ended = lab.run(args);
        assert_eq!(ended.code, Some(2));
        assert_one_line(&ended.stderr, &["/pki: the authority is not on this machine"]);
    }
    fs::rename(lab.path("away"), lab.path("pki")).unwrap();
    // A key that others may read.
    lab.issue("n1");
    let key = lab.state("n1").join("node.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let ended = lab.run(&["node", "c.toml", "--id", "n1"]);
    assert_eq!(ended.code, Some(2));
    assert_one_line(&ended.stderr, &["n1/node.key: expected mode 0600 or 0400, found 0644"]);
    // An identity in another's place.
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(lab.state("n1"), lab.state("n2")).unwrap();
    let ended = lab.run(&["node", "c.toml", "--id", "n2"]);
    assert_one_line(&ended.stderr, &["expected the identity of worker n2 of lab, found worker n1"]);
}

#[test]
fn a_node_joins_works_drains_and_leaves() {
    if !can_run() {
        return;
    }
    let lab = Lab::new(&["n1"]);
    let mut authority = lab.start("serve", &["cluster", "serve", "c.toml"]);
    authority.until("lets nodes join");
    let token = lab.token("n1");
    fs::write(lab.path("n1.token"), &token).unwrap();
    let (prefix, code) = token.split_once('_').unwrap();
    let other = if code.starts_with('A') { 'B' } else { 'A' };
    let mistyped = format!("{prefix}_{other}{}", &code[1..]);
    let ended = lab.run(&["node", "c.toml", "--id", "n1", "--join", &mistyped]);
    assert_one_line(&ended.stderr, &["the join token was mistyped or cut"]);
    let mut node = lab.start("n1", &["node", "c.toml", "--id", "n1", "--join", "@n1.token"]);
    node.until("the node is up");
    assert!(!node.said().contains(token.trim()), "a log must not have it");

    let table = lab.run(&["status", "c.toml"]);
    assert_eq!(table.code, Some(0), "{}", table.stderr);
    assert!(table.stdout.starts_with("lab · 1 node: 1 up · 0 of 2 slots in use"), "{table:?}");
    let own = lab.run(&["status", "c.toml", "--self", "--json"]);
    assert_eq!(own.code, Some(2), "the host's name is no node: {}", own.stderr);
    let own = lab.run_with(&[("ORCAPACK_NODE_ID", "n1")], &["status", "c.toml", "--self"]);
    assert_eq!(own.code, Some(0), "{}", own.stderr);
    assert_eq!(lab.row("n1")["state"], "up");
    // Each document is one line, and Ctrl-C ends it.
    let mut watch = lab.start("watch", &["status", "c.toml", "--json", "--watch"]);
    watch.until_out("\"n1\"");
    assert_eq!(watch.end_with(Signal::SIGINT).code, Some(0));

    lab.task("quick", "true");
    let eval = lab.run(&["eval", "-d", "tasks", "-a", "oracle", "-k", "3", "--cluster", "c.toml"]);
    assert_eq!(eval.code, Some(0), "{}", eval.stderr);
    assert!(eval.stdout.contains("3 of 3"), "{}", eval.stdout);

    // What the user has, and the node has not.
    let key = [("OPENAI_API_KEY", "k"), ("OPENAI_BASE_URL", "http://127.0.0.1:9")];
    let args = ["eval", "-d", "tasks", "-a", "team", "-m", "openai/m", "--cluster", "c.toml"];
    let mut team = lab.start_with(&key, "team", &args);
    team.until("waiting for node n1: ");
    team.until("OPENAI_API_KEY");
    assert_eq!(team.end_with(Signal::SIGINT).code, Some(130));

    let drained = lab.run(&["node", "drain", "n1", "-c", "c.toml"]);
    assert_eq!((drained.code, drained.stderr.as_str()), (Some(0), "n1 takes nothing more\n"));
    assert_eq!(lab.row("n1")["state"], "draining");
    assert_eq!(lab.run(&["node", "drain", "n1", "-c", "c.toml", "--undo"]).code, Some(0));
    assert_eq!(lab.row("n1")["state"], "up");

    // A token is good once, and one process at a time is the node.
    let taken = lab.run(&["node", "c.toml", "--id", "n1"]);
    assert_eq!(taken.code, Some(5));
    assert_one_line(&taken.stderr, &["n1/lock is in use by process"]);
    assert_eq!(node.end_with(Signal::SIGTERM).code, Some(0));
    let gone = lab.run(&["status", "c.toml"]);
    assert_eq!(gone.code, Some(7));
    assert!(gone.stdout.contains("n1 at 127.0.0.1:"), "{}", gone.stdout);
    fs::remove_dir_all(lab.state("n1")).unwrap();
    let again = lab.run(&["node", "c.toml", "--id", "n1", "--join", "@n1.token"]);
    assert_eq!(again.code, Some(7));
    assert!(again.stderr.contains("the join token was used already"), "{}", again.stderr);
    assert_eq!(authority.end_with(Signal::SIGTERM).code, Some(0));
}

#[test]
fn keys_change_under_a_run_and_who_is_revoked_is_out_until_it_joins_anew() {
    if !can_run() {
        return;
    }
    let lab = Lab::new(&["n1", "n2"]);
    let mut authority = lab.start("serve", &["cluster", "serve", "c.toml"]);
    authority.until("lets nodes join");
    let mut n1 = lab.join("n1");
    let n2 = lab.join("n2");
    lab.task("slow", "sleep 600");
    let args = ["eval", "-d", "tasks", "-a", "oracle", "-k", "4", "--name", "r"];
    let args = [&args[..], &["--cluster", "c.toml"]].concat();
    let mut eval = lab.start("eval", &args);
    lab.until("both work", || ["n1", "n2"].iter().all(|id| lab.held(id) == 2));

    let before = fs::read(lab.state("n2").join("node.pem")).unwrap();
    let rotated = lab.run(&["cluster", "rotate", "c.toml"]);
    assert_eq!(rotated.code, Some(0), "{}", rotated.stderr);
    assert!(rotated.stdout.contains("n2: has a new key and certificate"), "{rotated:?}");
    assert_ne!(fs::read(lab.state("n2").join("node.pem")).unwrap(), before);
    assert_eq!((lab.held("n1"), lab.held("n2")), (2, 2), "the run goes on");

    let revoked = lab.run(&["cluster", "revoke", "c.toml", "n2"]);
    assert_eq!(revoked.code, Some(0), "{}", revoked.stderr);
    assert_eq!(revoked.stdout, "revoked 2 certificates of n2\nn1: knows it\n");
    n1.until("a peer's certificate has been revoked");
    assert!(lab.row("n2")["error"].as_str().unwrap().contains("revoked certificate"));
    // The coordinator asks its nodes; it was not told.
    lab.until("the coordinator has dropped it", || {
        lab.run_log().contains("a peer's certificate has been revoked node=n2")
    });
    // Its own clock takes the attempts from it.
    drop(n2.end_now(Signal::SIGTERM));
    let mut n2 = lab.start("n2", &["node", "c.toml", "--id", "n2"]);
    n2.until("that we show a revoked certificate");
    eval.until("waiting for node n2: no link: not trusted: ");
    drop(n2.end_now(Signal::SIGTERM));
    let mut n2 = lab.join("n2");
    n2.until("has joined lab anew");
    lab.until("it works again", || lab.held("n2") == 2);
    assert_eq!(eval.end_now(Signal::SIGINT).code, Some(130));
}

#[test]
fn of_two_processes_with_one_identity_the_older_ends() {
    if !can_run() {
        return;
    }
    let lab = Lab::new(&["n1", "n2"]);
    lab.issue("n1");
    lab.issue("n2");
    let mut n1 = lab.start("n1", &["node", "c.toml", "--id", "n1"]);
    n1.until("the node is up");
    let mut n2 = lab.start("n2", &["node", "c.toml", "--id", "n2"]);
    n2.until("up peer=worker n1");
    // A copy of the machine: another state folder, another address.
    lab.copy_state("copy", "n2");
    let copy = [("XDG_STATE_HOME", "copy")];
    let mut clone = lab.start_with(&copy, "clone", &["node", "moved.toml", "--id", "n2"]);
    clone.until("up peer=worker n1");
    let ended = n2.end();
    assert_eq!(ended.code, Some(8), "{}", ended.stderr);
    let last = ended.stderr.lines().last().unwrap();
    assert_eq!(last, "error: a newer process has this node's identity");
    // The same of a coordinator: its run ends, and can be resumed.
    lab.task("slow", "sleep 600");
    let args = ["eval", "-d", "tasks", "-a", "oracle", "--name", "r", "--cluster", "c.toml"];
    let mut first = lab.start("first", &args);
    lab.until("it works", || lab.held("n1") == 1);
    let taken = lab.run(&["eval", "-d", "tasks", "-a", "oracle", "--cluster", "c.toml"]);
    assert_eq!(taken.code, Some(5));
    assert_one_line(&taken.stderr, &["coordinator/lock is in use by process"]);
    // One with an identity of its own has to wait.
    let issue = ["cluster", "issue", "c.toml", "bob", "--role", "coordinator", "-o"];
    let state = lab.state("bob");
    let ended = lab.run(&[&issue[..], &[state.to_str().unwrap()]].concat());
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let args = ["eval", "-d", "tasks", "-a", "oracle", "--name", "b", "--cluster", "c.toml"];
    let mut bob = lab.start_with(&[("ORCAPACK_COORDINATOR_ID", "bob")], "bob", &args);
    bob.until("waiting for node n1: busy with run r-");
    assert_eq!(bob.end_with(Signal::SIGINT).code, Some(130));
    // A copy of the first evicts it.
    lab.copy_state("copy", "coordinator");
    let args = ["eval", "-d", "tasks", "-a", "oracle", "--name", "c", "--cluster", "c.toml"];
    let second = lab.start_with(&copy, "second", &args);
    let ended = first.end();
    assert_eq!(ended.code, Some(8), "{}", ended.stderr);
    assert!(ended.stderr.contains("a newer process coordinates with this identity"), "{ended:?}");
    drop(second.end_now(Signal::SIGINT));
}

#[test]
fn an_eval_waits_for_its_nodes_and_a_taken_port_is_told() {
    let lab = Lab::new(&["n1"]);
    lab.task("quick", "true");
    let args = ["eval", "-d", "tasks", "-a", "oracle", "--cluster", "c.toml"];
    let mut eval = lab.start("eval", &args);
    eval.until("waiting for node n1: no ");
    assert_eq!(eval.end_with(Signal::SIGINT).code, Some(130));
    if !can_run() {
        return;
    }
    lab.issue("n1");
    let taken = std::net::UdpSocket::bind(lab.listen("n1")).unwrap();
    let ended = lab.run(&["node", "c.toml", "--id", "n1"]);
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    let last = ended.stderr.lines().last().unwrap();
    assert_one_line(last, &["cannot listen on 0.0.0.0:", "Address already in use"]);
    drop(taken);
}
