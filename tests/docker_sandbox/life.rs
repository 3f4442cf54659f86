//! Containers come up, end and are swept away, also when something goes wrong half-way.

use super::*;

#[tokio::test]
async fn a_kill_from_outside_resolves_every_call_with_what_happened() {
    let Some(bench) = Bench::new().await else { return };
    let sandbox = bench.sandbox().await;
    let long = sh("sleep 1000");
    let killing = async {
        said(&*sandbox, "echo up").await;
        let options = None::<query::KillContainerOptions>;
        bench.engine.kill_container(sandbox.id(), options).await.unwrap();
        Instant::now()
    };
    let calls = future::join4(killing, sandbox.exec(&long), sandbox.exec(&long), sandbox.lost());
    let (killed_at, first, second, lost) = timeout(SOON, calls).await.expect("every call ends");
    assert!(killed_at.elapsed() < Duration::from_secs(5), "late by {:?}", killed_at.elapsed());
    assert_eq!(lost.class, FailureClass::ExecTransport, "{lost}");
    let expected = format!("container {} was killed from outside (exit 137)", sandbox.id());
    assert_eq!(lost.message, expected);
    assert_eq!(first.unwrap_err(), lost);
    assert_eq!(second.unwrap_err(), lost);
    assert_eq!(sandbox.exec(&long).await.unwrap_err(), lost);
    sandbox.remove().await.unwrap();
    bench.until_no_container().await;
}

#[tokio::test]
async fn removing_what_is_gone_or_going_is_a_success() {
    let Some(bench) = Bench::new().await else { return };
    let image = bench.image().await;
    let first = bench.driver.create(&image, &bench.spec("1.1.agent")).await.unwrap();
    let second = bench.driver.create(&image, &bench.spec("1.1.verifier")).await.unwrap();
    let (removed, swept) = future::join(first.remove(), bench.sweep()).await;
    removed.unwrap();
    assert!(swept.sandboxes >= 1);
    assert!(bench.containers().await.is_empty(), "a removal waits until it is gone");
    second.remove().await.unwrap();
}

#[tokio::test]
async fn a_dropped_sandbox_goes_by_itself() {
    let Some(bench) = Bench::new().await else { return };
    drop(bench.sandbox().await);
    bench.until_no_container().await;
}

#[tokio::test]
async fn the_death_of_its_owner_takes_the_container_along() {
    const OWNER: &str = "ORCAPACK_TEST_OWNER";
    let Some(mut bench) = Bench::new().await else { return };
    if let Ok(run) = std::env::var(OWNER) {
        bench.run = run;
        let _sandbox = bench.sandbox().await;
        return future::pending().await;
    }
    bench.image().await;
    let test = "life::the_death_of_its_owner_takes_the_container_along";
    let mut owner = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test])
        .env(OWNER, &bench.run)
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let deadline = Instant::now() + SOON;
    while bench.list(false).await.is_empty() {
        assert!(Instant::now() < deadline, "the owner started no container");
        // The owner is another process, whose containers can only be looked for: polled.
        sleep(Duration::from_millis(20)).await;
    }
    owner.kill().await.unwrap();
    bench.until_no_container().await;
}

/// A container with our labels that nothing started.
async fn plant(bench: &Bench, incarnation: u64, deadline_unix_sec: u64) {
    let labels = [
        ("orcapack", "1".to_owned()),
        ("orcapack.run", bench.run.clone()),
        ("orcapack.incarnation", incarnation.to_string()),
        ("orcapack.deadline", deadline_unix_sec.to_string()),
    ];
    let body = ContainerCreateBody {
        image: Some(bench.image().await.reference),
        cmd: Some(vec!["sh".to_owned()]),
        labels: Some(labels.map(|(name, value)| (name.to_owned(), value)).into()),
        ..Default::default()
    };
    let name = format!("orcapack-{}-planted-{incarnation}", bench.run);
    let options = query::CreateContainerOptions { name: Some(name), ..Default::default() };
    bench.engine.create_container(Some(options), body).await.unwrap();
}

#[tokio::test]
async fn a_sweep_takes_what_other_incarnations_left_and_nothing_else() {
    let Some(bench) = Bench::new().await else { return };
    plant(&bench, 1, unix_sec() + 3600).await;
    plant(&bench, 2, unix_sec() + 3600).await;
    let scope = SweepScope::Run { run: bench.run.clone(), except_incarnation: Some(2) };
    let swept = bench.driver.sweep(&scope).await.unwrap();
    assert_eq!(swept, Swept { sandboxes: 1, networks: 0, volumes: 0 });
    assert_eq!(bench.containers().await, [format!("/orcapack-{}-planted-2", bench.run)]);
    assert_eq!(bench.sweep().await.sandboxes, 1);
    assert!(bench.containers().await.is_empty());
}

#[tokio::test]
async fn a_sweep_of_the_expired_takes_what_is_past_its_deadline() {
    let Some(bench) = Bench::new().await else { return };
    plant(&bench, 1, 1_000).await;
    plant(&bench, 2, unix_sec() + 3600).await;
    // A past so distant that nothing of anyone else's has expired by then.
    let scope = SweepScope::Expired { now_unix_sec: 1_000 };
    assert_eq!(bench.driver.sweep(&scope).await.unwrap().sandboxes, 1);
    assert_eq!(bench.containers().await, [format!("/orcapack-{}-planted-2", bench.run)]);
    bench.sweep().await;
}

#[tokio::test]
async fn labelled_networks_and_volumes_are_swept() {
    let Some(bench) = Bench::new().await else { return };
    let labels = || [("orcapack", "1"), ("orcapack.run", &*bench.run)];
    let volume = bollard::models::VolumeCreateRequest {
        name: Some(bench.run.clone()),
        labels: Some(labels().map(|(name, value)| (name.to_owned(), value.to_owned())).into()),
        ..Default::default()
    };
    bench.engine.create_volume(volume).await.unwrap();
    let network = bollard::models::NetworkCreateRequest {
        name: bench.run.clone(),
        labels: Some(labels().map(|(name, value)| (name.to_owned(), value.to_owned())).into()),
        ..Default::default()
    };
    bench.engine.create_network(network).await.unwrap();
    assert_eq!(bench.sweep().await, Swept { sandboxes: 0, networks: 1, volumes: 1 });
    assert_eq!(bench.sweep().await, Swept::default());
}

#[tokio::test]
async fn a_start_that_takes_too_long_is_refused_and_leaves_nothing() {
    let Some(bench) = Bench::new().await else { return };
    let image = bench.image().await;
    let start_timeout = Duration::from_millis(20);
    let spec = SandboxSpec { start_timeout, ..bench.spec("1.1.agent") };
    let error = bench.driver.create(&image, &spec).await.err().expect("20 ms are too short");
    assert_eq!(error.class, FailureClass::StartTimeout, "{error}");
    assert!(bench.containers().await.is_empty());
}

#[tokio::test]
async fn a_creation_that_its_caller_gives_up_leaves_nothing() {
    let Some(bench) = Bench::new().await else { return };
    let image = bench.image().await;
    for patience_ms in [1, 30, 100, 150] {
        let spec = bench.spec(&format!("{patience_ms}.1.agent"));
        let patience = Duration::from_millis(patience_ms);
        let _ = timeout(patience, bench.driver.create(&image, &spec)).await;
    }
    // The engine may not have heard of the last one yet: it is gone once one more has come and gone
    // after it.
    bench.driver.create(&image, &bench.spec("last")).await.unwrap().remove().await.unwrap();
    bench.until_no_container().await;
}

#[tokio::test]
async fn an_image_that_is_gone_is_an_image_failure() {
    let Some(bench) = Bench::new().await else { return };
    let mut image = bench.image().await;
    image.reference = "orcapack/env:none".to_owned();
    let error = bench.driver.create(&image, &bench.spec("1.1.agent")).await.err().unwrap();
    assert_eq!(error.class, FailureClass::Image, "{error}");
}

#[tokio::test]
async fn an_engine_that_is_not_there_is_a_daemon_failure() {
    let driver = DockerDriver::at("unix:///no/such/docker.sock");
    let error = driver.ping().await.unwrap_err();
    assert_eq!(error.class, FailureClass::Daemon);
    assert!(error.message.contains("unix:///no/such/docker.sock"), "{error}");
}
