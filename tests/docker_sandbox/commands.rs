//! What commands and files see and may do in a sandbox.

use super::*;

fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        archive.append_data(&mut header, path, *bytes).unwrap();
    }
    archive.into_inner().unwrap()
}

#[tokio::test]
async fn a_command_gets_its_input_and_gives_its_exit_code_and_both_outputs() {
    let Some(bench) = Bench::new().await else { return };
    let sandbox = bench.sandbox().await;
    let request = ExecRequest { stdin: b"in".to_vec(), ..sh("cat; echo err >&2; exit 7") };
    let output = run(&*sandbox, request).await;
    assert_eq!(output.exit, Exit::Code(7));
    assert_eq!(
        (output.stdout.to_string(), output.stderr.to_string()),
        ("in".into(), "err\n".into())
    );
    let missing = run(&*sandbox, ExecRequest::new(["no-such-program"], SOON)).await;
    assert_eq!(missing.exit, Exit::Code(127));
    let killed = run(&*sandbox, sh("kill -9 $$")).await;
    assert_eq!(killed.exit, Exit::Signal(9));
    sandbox.remove().await.unwrap();
    assert!(bench.containers().await.is_empty());
}

#[tokio::test]
async fn a_command_runs_as_the_images_user_in_its_directory_with_its_variables() {
    let Some(bench) = Bench::new().await else { return };
    let image = bench.image().await;
    let mut spec = bench.spec("1.1.agent");
    spec.env.insert("SHAPE".to_owned(), "round".to_owned());
    let sandbox = bench.driver.create(&image, &spec).await.unwrap();
    let seen = said(&*sandbox, "id -u; pwd; echo $COLOUR $SHAPE; echo > file").await;
    assert_eq!(seen, "1000\n/home/alice\ngreen round\n");
    let request = ExecRequest { cwd: Some("/etc".to_owned()), ..as_root("id -u; pwd") };
    assert_eq!(run(&*sandbox, request).await.stdout.to_string(), "0\n/etc\n");
    bench.sweep().await;
}

#[tokio::test]
async fn the_time_limit_kills_the_whole_process_tree() {
    let Some(bench) = Bench::new().await else { return };
    let sandbox = bench.sandbox().await;
    let script = "sleep 1000 & (sleep 1000 & sleep 1000) & sleep 1000";
    let request = ExecRequest { time_limit: Duration::from_millis(500), ..sh(script) };
    assert_eq!(run(&*sandbox, request).await.exit, Exit::TimedOut);
    let left = run(&*sandbox, as_root("cat /proc/[0-9]*/cmdline | tr '\\0' ' '")).await;
    assert!(!left.stdout.to_string().contains("sleep"), "{}", left.stdout);
    bench.sweep().await;
}

#[tokio::test]
async fn a_background_command_is_polled_and_killed() {
    let Some(bench) = Bench::new().await else { return };
    let sandbox = bench.sandbox().await;
    let id = sandbox.spawn(&sh("echo first; sleep 1000")).await.unwrap();
    let deadline = Instant::now() + SOON;
    let progress = loop {
        let progress = sandbox.poll(id).await.unwrap();
        if !progress.stdout.head.is_empty() {
            break progress;
        }
        assert!(Instant::now() < deadline, "no output came");
        // Between two polls, which is what this test is about.
        sleep(Duration::from_millis(10)).await;
    };
    assert_eq!((progress.exit, progress.stdout.to_string()), (None, "first\n".to_owned()));
    sandbox.kill(id).await.unwrap();
    let deadline = Instant::now() + SOON;
    while sandbox.poll(id).await.unwrap().exit.is_none() {
        assert!(Instant::now() < deadline, "it outlived its kill");
        // Between two polls, which is what this test is about.
        sleep(Duration::from_millis(10)).await;
    }
    bench.sweep().await;
}

#[tokio::test]
async fn files_go_in_and_come_out_and_an_absent_one_is_none() {
    let Some(bench) = Bench::new().await else { return };
    let sandbox = bench.sandbox().await;
    let big: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let files = archive(&[("a/small", b"hello"), ("big", &big)]);
    sandbox.put("/work/in", files).await.unwrap();
    assert_eq!(said(&*sandbox, "cat /work/in/a/small").await, "hello");

    let Fetched::Archive(back) = sandbox.get("/work/in", 32 << 20).await.unwrap() else {
        panic!("it is there, and small enough");
    };
    let mut entries = BTreeMap::new();
    for entry in tar::Archive::new(&*back).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_string_lossy().trim_end_matches('/').to_owned();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
        entries.insert(path, bytes);
    }
    assert_eq!(entries.get("in/a/small").map(Vec::as_slice), Some(&b"hello"[..]));
    assert!(entries.get("in/big") == Some(&big), "the large file came back changed");

    assert_eq!(sandbox.get("/no/such", 1 << 20).await.unwrap(), Fetched::Absent);
    assert_eq!(sandbox.get("/work/in/big", 1_000).await.unwrap(), Fetched::TooLarge);
    bench.sweep().await;
}

#[tokio::test]
async fn an_endless_output_is_cut_in_the_middle() {
    let Some(bench) = Bench::new().await else { return };
    let sandbox = bench.sandbox().await;
    let script = "echo start; head -c 50000000 /dev/zero; echo end";
    let request = ExecRequest { output_bytes_max: 1_000, ..sh(script) };
    let stdout = run(&*sandbox, request).await.stdout;
    assert!(stdout.head.starts_with(b"start\n") && stdout.tail.ends_with(b"end\n"));
    assert_eq!(stdout.head.len() + stdout.tail.len(), 1_000);
    assert_eq!(stdout.cut_bytes, 50_000_010 - 1_000);
    bench.sweep().await;
}

#[tokio::test]
async fn a_command_that_takes_too_much_memory_is_killed_and_the_sandbox_lives_on() {
    let Some(bench) = Bench::new().await else { return };
    let sandbox = bench.sandbox().await;
    assert_eq!(run(&*sandbox, sh("tail /dev/zero")).await.exit, Exit::OutOfMemory);
    assert_eq!(said(&*sandbox, "echo alive").await, "alive\n");
    bench.sweep().await;
}

#[tokio::test]
async fn processes_are_limited_and_the_agent_still_answers() {
    let Some(bench) = Bench::new().await else { return };
    let sandbox = bench.sandbox().await;
    let script = "i=0; while [ $i -lt 500 ]; do sleep 1000 & i=$((i+1)); done";
    let bomb = run(&*sandbox, sh(script)).await;
    assert!(!bomb.exit.success(), "500 processes in a limit of 64");
    assert!(sandbox.stats().await.unwrap().pids <= 64);
    sandbox.stop_processes().await.unwrap();
    assert_eq!(said(&*sandbox, "echo alive").await, "alive\n");
    bench.sweep().await;
}

#[tokio::test]
async fn without_a_network_there_is_only_loopback() {
    let Some(bench) = Bench::new().await else { return };
    let sandbox = bench.sandbox().await;
    let devices = said(&*sandbox, "cat /proc/net/dev").await;
    let devices: Vec<&str> =
        devices.lines().filter_map(|line| line.split_once(':')).map(|d| d.0.trim()).collect();
    assert_eq!(devices, ["lo"]);
    bench.sweep().await;
}

#[tokio::test]
async fn a_hostile_command_reaches_neither_the_agents_streams_nor_its_life() {
    let Some(bench) = Bench::new().await else { return };
    let sandbox = bench.sandbox().await;
    for script in ["echo forged > /proc/1/fd/1", "cat < /proc/1/fd/0", "cat /proc/1/mem"] {
        for request in [sh(script), as_root(script)] {
            let output = run(&*sandbox, request).await;
            assert!(!output.exit.success(), "{script} went through");
        }
    }
    run(&*sandbox, as_root("kill -9 1; kill -TERM 1; kill -STOP 1; kill -9 -1")).await;
    assert_eq!(said(&*sandbox, "echo alive").await, "alive\n");
    let status = run(&*sandbox, as_root("cat /proc/self/status")).await.stdout.to_string();
    assert!(status.contains("NoNewPrivs:\t1") && status.contains("Seccomp:\t2"), "{status}");
    // CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID: bits 0, 1, 3, 4, 5, 6, 7.
    assert!(status.contains("CapBnd:\t00000000000000fb"), "{status}");
    bench.sweep().await;
}
