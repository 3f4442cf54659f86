//! The guest agent as a real process 1 of a PID namespace, and the host's end against guests that
//! misbehave.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;
use std::time::Instant;

use tokio::io::{DuplexStream, duplex};
use tokio::process::{Child, Command};

use super::*;

const LIMIT: Duration = Duration::from_secs(20);

/// An agent in namespaces of its own, with this machine's files. It ends with the test's last
/// handle on it.
struct Inside {
    guest: Guest,
    child: Child,
}

async fn inside() -> Inside {
    let mut program = tempfile::NamedTempFile::new().expect("a temporary file");
    program.write_all(GUEST_AGENT).expect("room for the agent");
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(program.path(), mode).expect("the file is ours");
    let program = program.into_temp_path();
    let mut child = Command::new("unshare")
        .args(["--map-root-user", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc"])
        .arg(&program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("util-linux is installed");
    let (reader, writer) =
        (child.stdout.take().expect("piped"), child.stdin.take().expect("piped"));
    let defaults = ExecDefaults { workdir: "/".to_owned(), ..ExecDefaults::default() };
    let guest = Guest::connect(reader, writer, defaults, LIMIT).await.expect("the agent greets");
    Inside { guest, child }
}

impl Inside {
    async fn sh(&self, script: &str) -> ExecOutput {
        self.guest.exec(&ExecRequest::new(["sh", "-c", script], LIMIT)).await.expect("an answer")
    }

    async fn out(&self, script: &str) -> String {
        let output = self.sh(script).await;
        assert_eq!(output.exit, Exit::Code(0), "{script}: {}{}", output.stdout, output.stderr);
        output.stdout.to_string()
    }

    /// Waits until a condition inside holds; the conditions of these tests always come true.
    async fn until(&self, condition: &str) {
        let script = format!("until {condition}; do sleep 0.01; done");
        assert_eq!(self.sh(&script).await.exit, Exit::Code(0), "{condition}");
    }
}

fn fetched(result: Result<Fetched, SandboxError>) -> Vec<u8> {
    match result {
        Ok(Fetched::Archive(archive)) => archive,
        other => panic!("expected an archive, found {other:?}"),
    }
}

#[tokio::test]
async fn exit_codes_signals_and_both_outputs_are_exact() {
    let inside = inside().await;
    let output = inside.sh("echo out; echo err >&2; exit 41").await;
    assert_eq!(output.exit, Exit::Code(41));
    assert_eq!((output.stdout.head, output.stderr.head), (b"out\n".to_vec(), b"err\n".to_vec()));
    assert_eq!(inside.sh("kill -TERM $$").await.exit, Exit::Signal(15));
    assert_eq!(inside.sh("exit 255").await.exit, Exit::Code(255));
}

#[tokio::test]
async fn what_cannot_be_started_fails_as_in_a_shell() {
    let inside = inside().await;
    let exec = async |argv: [&str; 1], cwd: Option<&str>, user: Option<&str>| {
        let mut request = ExecRequest::new(argv, LIMIT);
        request.cwd = cwd.map(str::to_owned);
        request.user = user.map(str::to_owned);
        let output = inside.guest.exec(&request).await.expect("an answer");
        (output.exit, output.stderr.to_string())
    };
    assert_eq!(
        exec(["no-such-program"], None, None).await,
        (Exit::Code(127), "no-such-program: command not found\n".to_owned())
    );
    assert_eq!(exec(["/no/such"], None, None).await.0, Exit::Code(127));
    assert_eq!(exec(["/etc/passwd"], None, None).await.0, Exit::Code(126));
    assert_eq!(exec([""], None, None).await.0, Exit::Code(127));
    let (exit, message) = exec(["true"], Some("/no/such"), None).await;
    assert_eq!(exit, Exit::Code(126));
    assert!(message.contains("\"/no/such\""), "{message}");
    let (exit, message) = exec(["true"], None, Some("nobody-we-know")).await;
    assert_eq!(exit, Exit::Code(126));
    assert!(message.contains("nobody-we-know"), "{message}");
}

#[tokio::test]
async fn a_command_sees_its_input_directory_and_environment_and_nothing_of_the_agent() {
    let inside = inside().await;
    let mut request =
        ExecRequest::new(["sh", "-c", "cat; pwd; env | sort; ls /proc/self/fd"], LIMIT);
    request.stdin = vec![b'x'; 3 * CHUNK_BYTES + 5];
    request.cwd = Some("/usr".to_owned());
    request.env = BTreeMap::from([("A".to_owned(), "1 2".to_owned())]);
    request.output_bytes_max = 1 << 20;
    let output = inside.guest.exec(&request).await.expect("an answer");
    let text = output.stdout.to_string();
    let rest = text.trim_start_matches('x');
    assert_eq!(text.len() - rest.len(), request.stdin.len());
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    // Descriptor 3 is the folder that ls reads.
    assert_eq!(rest, format!("/usr\nA=1 2\nHOME=/root\nPATH={path}\nPWD=/usr\n0\n1\n2\n3\n"));
    assert_eq!(
        inside.out("cat; grep SigIgn /proc/self/status").await,
        "SigIgn:\t0000000000000000\n"
    );
}

#[tokio::test]
async fn output_is_bounded_and_says_what_was_cut() {
    let inside = inside().await;
    let mut request = ExecRequest::new(["sh", "-c", "seq 1 200000"], LIMIT);
    request.output_bytes_max = 1000;
    let captured = inside.guest.exec(&request).await.expect("an answer").stdout;
    assert!(
        captured.head.starts_with(b"1\n2\n3\n") && captured.tail.ends_with(b"199999\n200000\n")
    );
    assert_eq!((captured.head.len(), captured.tail.len()), (500, 500));
    let whole: u64 = (1..=200_000_u32).map(|number| number.to_string().len() as u64 + 1).sum();
    assert_eq!(captured.cut_bytes, whole - 1000);
}

#[tokio::test]
async fn the_time_limit_kills_the_whole_tree_even_what_was_forked_twice() {
    let inside = inside().await;
    let script = "(setsid sh -c 'setsid sleep 4711 & sleep 4711' &) ; \
                  trap '' TERM INT; (trap '' TERM; while :; do sleep 0.01; done) & sleep 4711";
    let request = ExecRequest::new(["sh", "-c", script], Duration::from_millis(300));
    let output = inside.guest.exec(&request).await.expect("an answer");
    assert_eq!(output.exit, Exit::TimedOut);
    assert!(output.elapsed >= Duration::from_millis(300) && output.elapsed < LIMIT);
    // What is left: the agent, this command's supervisor, and its shell.
    inside.until("set -- /proc/[0-9]*; [ $# = 3 ]").await;
}

#[tokio::test]
async fn a_fork_storm_is_ended_at_the_time_limit() {
    let inside = inside().await;
    let storm =
        "f() { sh -c 'while :; do sleep 0.001 & done' & }; for i in 1 2 3 4; do f; done; wait";
    let request = ExecRequest::new(["sh", "-c", storm], Duration::from_millis(200));
    let output = inside.guest.exec(&request).await.expect("an answer");
    assert_eq!(output.exit, Exit::TimedOut);
    inside.until("! pgrep -f 'sleep 0.001' | grep -v $$ | grep -q .").await;
}

#[tokio::test]
async fn a_daemon_outlives_its_command_without_delaying_the_answer() {
    let inside = inside().await;
    let begun = Instant::now();
    // It holds both outputs open, and is not killed by writing to them later.
    let script =
        "(sleep 0.2; echo late; sleep 0.1; echo alive >/tmp/guest-daemon-$$; sleep 600) & echo $$";
    let pid = inside.out(script).await;
    assert!(begun.elapsed() < LIMIT / 2);
    let file = format!("/tmp/guest-daemon-{}", pid.trim());
    inside.until(&format!("[ -s {file} ]")).await;
    assert_eq!(inside.out(&format!("cat {file}; rm {file}")).await, "alive\n");
}

#[tokio::test]
async fn background_commands_can_be_watched_and_killed() {
    let inside = inside().await;
    let request = ExecRequest::new(["sh", "-c", "echo begun; exec sleep 600"], LIMIT);
    let id = inside.guest.spawn(&request).await.expect("it starts");
    let begun = async || inside.guest.poll(id).await.expect("it is known");
    while begun().await.stdout.head.is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(begun().await.exit, None);
    inside.guest.kill(id).await.expect("it can be killed");
    for _ in 0..2 {
        let progress = begun().await;
        assert_eq!(progress.exit, Some(Exit::Signal(9)));
        assert_eq!(progress.stdout.to_string(), "begun\n");
    }
    assert!(inside.guest.poll(ExecId(999)).await.is_err());
    inside.guest.kill(ExecId(999)).await.expect("killing what is gone is no error");
}

#[tokio::test]
async fn a_background_command_ends_with_the_exit_code_of_the_whole() {
    let inside = inside().await;
    let script = "false; (exit 3) | cat; (sleep 600 &) ; { exit 4; } & wait $!; exit 5";
    let id = inside.guest.spawn(&ExecRequest::new(["sh", "-c", script], LIMIT)).await.expect("id");
    let poll = async || inside.guest.poll(id).await.expect("it is known").exit;
    while poll().await.is_none() {
        tokio::task::yield_now().await;
    }
    assert_eq!(poll().await, Some(Exit::Code(5)));
}

#[tokio::test]
async fn a_command_that_nobody_waits_for_any_more_is_killed() {
    let inside = inside().await;
    let request = ExecRequest::new(["sleep", "4712"], LIMIT);
    {
        let exec = inside.guest.exec(&request);
        tokio::pin!(exec);
        tokio::select! {
            _ = &mut exec => panic!("it sleeps"),
            () = inside.until("pgrep -x sleep >/dev/null") => {}
        }
    }
    inside.until("! pgrep -f 'sleep 4712' | grep -v $$ | grep -q .").await;
}

#[tokio::test]
async fn killing_the_supervisor_from_inside_ends_the_command_and_hurts_nobody_else() {
    let inside = inside().await;
    let sleep = ExecRequest::new(["sleep", "0.5"], LIMIT);
    let other = inside.guest.spawn(&sleep).await.expect("it starts");
    let script = "sleep 600 & kill -STOP 1; kill -KILL 1; kill -KILL $PPID; sleep 600";
    assert_eq!(inside.sh(script).await.exit, Exit::Signal(9));
    inside.until("! pgrep -f 'sleep 600' | grep -v $$ | grep -q .").await;
    while inside.guest.poll(other).await.expect("it is known").exit.is_none() {
        tokio::task::yield_now().await;
    }
    assert_eq!(inside.guest.poll(other).await.expect("it is known").exit, Some(Exit::Code(0)));
}

fn archive(entries: &[(&str, &[u8], u32)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes, mode) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_mode(*mode);
        header.set_size(bytes.len() as u64);
        builder.append_data(&mut header, name, *bytes).expect("a vector takes everything");
    }
    builder.into_inner().expect("a vector takes everything")
}

fn unpacked(archive: &[u8]) -> BTreeMap<String, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    for entry in tar::Archive::new(archive).entries().expect("an archive") {
        let mut entry = entry.expect("a whole entry");
        let name = entry.path().expect("a path").display().to_string();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut bytes).expect("a whole entry");
        found.insert(name, (entry.header().mode().expect("a mode"), bytes));
    }
    found
}

#[tokio::test]
async fn files_come_out_as_they_went_in() {
    let inside = inside().await;
    let home = tempfile::tempdir().expect("a temporary folder");
    let dir = format!("{}/a/b", home.path().display());
    let (large, long) =
        (vec![7; 5 * CHUNK_BYTES + 1], format!("{}/{}", "d".repeat(90), "f".repeat(90)));
    let files: [(&str, &[u8], u32); 4] = [
        ("run.sh", b"#!/bin/sh\n", 0o755),
        ("in/large", &large, 0o640),
        (&long, b"long", 0o600),
        ("none", b"", 0o644),
    ];
    inside.guest.put(&dir, archive(&files)).await.expect("they can be put");
    // Names are relative to the parent of what was asked for.
    let back = fetched(inside.guest.get(&dir, 1 << 20).await);
    let back = unpacked(&back);
    for (name, bytes, mode) in files {
        assert_eq!(back.get(&format!("b/{name}")), Some(&(mode, bytes.to_vec())), "{name}");
    }
    let folders = back.keys().filter(|name| name.ends_with('/')).count();
    assert_eq!((folders, back.len()), (3, 7));
    let one = fetched(inside.guest.get(&format!("{dir}/run.sh"), 10 << 10).await);
    assert_eq!(unpacked(&one).keys().collect::<Vec<_>>(), ["run.sh"]);
    assert_eq!(inside.guest.get(&format!("{dir}/absent"), 1).await, Ok(Fetched::Absent));
    assert_eq!(inside.guest.get("/etc/passwd/absent", 1).await, Ok(Fetched::Absent));
    assert_eq!(inside.guest.get(&dir, large.len() as u64).await, Ok(Fetched::TooLarge));
}

#[tokio::test]
async fn hostile_archives_and_paths_stay_inside() {
    let inside = inside().await;
    let home = tempfile::tempdir().expect("a temporary folder");
    let home = home.path().display().to_string();
    inside
        .out(&format!(
            "cd {home}; mkdir out real dir; echo kept >out/file; ln -s out link; \
             ln -s out/file real/file; mkdir -p real/tree/deep; touch real/tree/deep/x; \
             ln -s ../out real/folder; mkfifo real/fifo"
        ))
        .await;
    let put = async |dir: &str, archive| inside.guest.put(&format!("{home}/{dir}"), archive).await;

    // A link where the archive has a file, a folder, or where the whole is to go: replaced, not
    // followed.
    let files: [(&str, &[u8], u32); 3] =
        [("file", b"1", 0o644), ("folder/x", b"2", 0o644), ("tree", b"3", 0o644)];
    put("real", archive(&files)).await.expect("it replaces what is there");
    put("link", archive(&[("x", b"4", 0o644)])).await.expect("it replaces what is there");
    let seen = format!("cd {home}; cat out/file real/file real/folder/x real/tree link/x; ls out");
    assert_eq!(inside.out(&seen).await, "kept\n1234file\n");

    for name in ["../out/x", "/etc/x", "a/../../x"] {
        // The crate refuses to make such an archive.
        let mut bytes = archive(&[("placeholder", b"x", 0o644)]);
        bytes[..100].fill(0);
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        bytes[148..156].fill(b' ');
        let sum: u32 = bytes[..512].iter().map(|byte| u32::from(*byte)).sum();
        bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let error = put("real", bytes).await.expect_err("it would leave the folder");
        assert!(error.message.contains("would leave"), "{error}");
    }
    let mut torn = archive(&[("torn", &[0; 2000], 0o644)]);
    torn.truncate(1500);
    assert!(put("torn", torn).await.expect_err("torn").message.contains("in the middle"));
    assert!(put("real", vec![1; 512]).await.expect_err("noise").message.contains("checksum"));
    assert!(inside.guest.put("relative", archive(&[])).await.is_err());

    // A FIFO does not hold up the agent; links are left out, and are not there when asked for by
    // name.
    inside.out(&format!("cd {home}; ln -s /etc/passwd real/secret; ln -s /etc dir/etc")).await;
    let back = fetched(inside.guest.get(&format!("{home}/real"), 1 << 20).await);
    let names: Vec<String> = unpacked(&back).into_keys().collect();
    assert_eq!(names, ["real/", "real/file", "real/folder/", "real/folder/x", "real/tree"]);
    assert_eq!(
        inside.guest.get(&format!("{home}/real/secret"), 1 << 20).await,
        Ok(Fetched::Absent)
    );
    assert_eq!(inside.guest.get(&format!("{home}/dir/etc"), 1 << 20).await, Ok(Fetched::Absent));
}

#[tokio::test]
async fn all_processes_can_be_stopped() {
    let inside = inside().await;
    let id = inside.guest.spawn(&ExecRequest::new(["sleep", "600"], LIMIT)).await.expect("a start");
    inside.out("(setsid sleep 600 >/dev/null 2>&1 &)").await;
    inside.guest.stop_processes().await.expect("they can be stopped");
    assert_eq!(inside.out("pgrep -cx sleep || true").await, "0\n");
    assert_eq!(inside.guest.poll(id).await.expect("it is known").exit, Some(Exit::Signal(9)));
}

#[tokio::test]
async fn the_agent_is_out_of_reach() {
    let inside = inside().await;
    let forge = "echo x >/proc/1/fd/1; echo x >/proc/1/fd/0; cat /proc/1/environ; \
                 kill -KILL 1; kill -STOP 1; kill -TERM 1; kill -CHLD 1";
    let output = inside.sh(forge).await;
    assert_eq!(
        output.stderr.to_string().matches("Permission denied").count(),
        3,
        "{}",
        output.stderr
    );
    let capabilities = inside.out("grep -E 'CapEff|CapBnd|NoNewPrivs' /proc/self/status").await;
    let kept = "00000000000000fb";
    assert_eq!(capabilities, format!("CapEff:\t{kept}\nCapBnd:\t{kept}\nNoNewPrivs:\t1\n"));
}

#[tokio::test]
async fn the_death_of_the_agent_resolves_calls_and_the_end_of_the_channel_ends_the_agent() {
    let Inside { guest, mut child } = inside().await;
    let sleep = ExecRequest::new(["sleep", "600"], LIMIT);
    let (exec, _) = tokio::join!(guest.exec(&sleep), async {
        guest.ping().await.expect("it answers");
        child.kill().await.expect("it is ours");
    });
    assert_eq!(exec.expect_err("it died").class, FailureClass::ExecTransport);
    assert_eq!(guest.lost().await.class, FailureClass::ExecTransport);
    assert_eq!(guest.ping().await.expect_err("it died").class, FailureClass::ExecTransport);

    let Inside { guest, mut child } = inside().await;
    guest.spawn(&sleep).await.expect("it starts");
    drop(guest);
    let status = timeout(LIMIT, child.wait()).await.expect("it ends");
    assert!(status.expect("it is our child").success());
}

fn host() -> (impl Future<Output = Result<Guest, SandboxError>>, DuplexStream) {
    let (host, guest) = duplex(4 << 10);
    let (reader, writer) = tokio::io::split(host);
    (Guest::connect(reader, writer, ExecDefaults::default(), LIMIT), guest)
}

async fn say(guest: &mut DuplexStream, call: u32, reply: &Reply) {
    let frame = guest_wire::encode(call, reply).expect("it fits");
    guest.write_all(&frame).await.expect("somebody reads");
}

const HELLO: Reply = Reply::Hello { version: PROTOCOL_VERSION };

#[tokio::test(start_paused = true)]
async fn a_guest_that_says_nothing_is_a_start_time_out() {
    let (connect, _guest) = host();
    assert_eq!(connect.await.err().map(|error| error.class), Some(FailureClass::StartTimeout));
}

#[tokio::test]
async fn the_last_handle_ends_the_agents_input_where_both_directions_are_one_stream() {
    let (connecting, mut guest) = host();
    say(&mut guest, 0, &HELLO).await;
    drop(connecting.await.expect("a greeted guest"));
    let mut input = Vec::new();
    let ended = timeout(LIMIT, guest.read_to_end(&mut input)).await;
    assert_eq!(ended.expect("the input ends").expect("the stream holds"), 0);
}

#[tokio::test]
async fn a_guest_of_another_version_is_refused() {
    let (connect, mut guest) = host();
    say(&mut guest, 0, &Reply::Hello { version: PROTOCOL_VERSION + 1 }).await;
    assert_eq!(connect.await.err().map(|error| error.class), Some(FailureClass::ExecTransport));
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_hangs_is_given_up_after_the_time_limit() {
    let (connect, mut guest) = host();
    say(&mut guest, 0, &HELLO).await;
    let host = connect.await.expect("it greeted");
    let begun = tokio::time::Instant::now();
    let error = host.exec(&ExecRequest::new(["true"], LIMIT)).await.expect_err("it hangs");
    assert_eq!(error.class, FailureClass::ExecTransport);
    assert_eq!(begun.elapsed().as_secs(), (LIMIT + ANSWER_TIMEOUT).as_secs());
}

#[tokio::test]
async fn malformed_and_excessive_frames_close_the_connection() {
    let excess = Reply::Output { part: Part::StdoutHead, bytes: vec![0; 100] };
    let excess = guest_wire::encode(1, &excess).expect("it fits");
    for bytes in [&excess[..], &[255; 8], &[5, 0, 0, 0, 99, 0, 0, 0, 0]] {
        let (connect, mut guest) = host();
        say(&mut guest, 0, &HELLO).await;
        let host = connect.await.expect("it greeted");
        let mut request = ExecRequest::new(["true"], LIMIT);
        request.output_bytes_max = 40;
        let (exec, written) = tokio::join!(host.exec(&request), guest.write_all(bytes));
        written.expect("somebody reads");
        assert_eq!(exec.expect_err("it lied").class, FailureClass::ExecTransport);
        host.lost().await;
        let mut rest = Vec::new();
        guest.read_to_end(&mut rest).await.expect("the host hangs up");
    }
}

#[tokio::test]
async fn a_small_command_overtakes_a_large_put() {
    let (connect, mut guest) = host();
    say(&mut guest, 0, &HELLO).await;
    let host = connect.await.expect("it greeted");
    let chunks = 20 * QUEUE_FRAMES;
    let put = host.put("/", vec![0; chunks * CHUNK_BYTES]);
    let request = ExecRequest::new(["true"], LIMIT);
    let (mut before, mut after) = (0, 0);
    let serve = async {
        let mut exec = None;
        loop {
            let mut field = [0; 4];
            guest.read_exact(&mut field).await.expect("more frames come");
            let mut body = vec![0; guest_wire::body_length(field).expect("a frame")];
            guest.read_exact(&mut body).await.expect("a whole frame");
            match guest_wire::decode::<Request>(&body).expect("a request") {
                (_, Request::PutData { .. }) if exec.is_none() => before += 1,
                (_, Request::PutData { .. }) => after += 1,
                (call, Request::Exec(_)) => exec = Some(call),
                (_, Request::Put { .. }) => {}
                (call, Request::PutEnd) => {
                    say(&mut guest, call, &Reply::Done).await;
                    let exit = WireExit::Code(0);
                    let reply = Reply::Exited { exit, elapsed_us: 1, cut: [0; 2] };
                    return say(&mut guest, exec.expect("it came before"), &reply).await;
                }
                (_, other) => panic!("unexpected {other:?}"),
            }
        }
    };
    let (put, exec, ()) = tokio::join!(put, host.exec(&request), serve);
    assert_eq!((put, exec.map(|output| output.exit)), (Ok(()), Ok(Exit::Code(0))));
    assert_eq!(before + after, chunks);
    assert!(before <= 2 * QUEUE_FRAMES, "it waited for {before} chunks");
}
