use orcapack_actors::docker_facts::{Disk as DockerDisk, Labelled, LimitsEnforced as DockerLimits};

use super::*;
use crate::host::OpenFiles;

fn good() -> Facts {
    let disk = Disk { what: "runs", path: "/runs".into(), free_bytes: 50 * GIB };
    let limits_enforced =
        DockerLimits { cpus: true, memory: true, swap: true, pids: true, storage: false };
    let limits = LimitsEnforced { cpus: true, memory: true, pids: true };
    Facts {
        host: HostFacts {
            root: false,
            open_files: OpenFiles { soft: 1024, hard: 20_000 },
            namespaces: UserNamespaces::Allowed,
            overlay: true,
            disks: vec![disk],
        },
        docker: Ok(DockerFacts {
            host: "unix:///var/run/docker.sock".to_owned(),
            version: "28.2.2".to_owned(),
            api_version: "1.50".to_owned(),
            storage_driver: "overlay2".to_owned(),
            cgroup_version: 2,
            cpus: 8.0,
            memory_bytes: 16 << 30,
            data_root: "/var/lib/docker".to_owned(),
            data_root_disk: Some(DockerDisk { total_bytes: 100 * GIB, free_bytes: 40 * GIB }),
            bridge_networks: 1,
            address_pools: 31,
            images: vec![BASE_IMAGE.to_owned()],
            labelled: Labelled::default(),
            limits_enforced,
        }),
        process: Ok(ProcessTrial {
            elapsed: Duration::from_millis(12),
            limits,
            confinement: Ok(()),
        }),
        base_rootfs: true,
    }
}

fn no_docker() -> Facts {
    let message = "docker engine at unix:///var/run/docker.sock does not answer";
    Facts { docker: Err(SandboxError::new(FailureClass::Daemon, message)), ..good() }
}

/// The rows that are not ok: check, status, found.
fn troubles(facts: &Facts, n_concurrent: u64) -> Vec<(String, Status, String)> {
    let checks = checks(facts, n_concurrent).into_iter();
    let troubles = checks.filter(|check| check.status != Status::Ok);
    troubles
        .map(|check| {
            assert!(check.advice.is_some(), "{} says what to do", check.check);
            (check.check, check.status, check.found)
        })
        .collect()
}

fn names(facts: &Facts, n_concurrent: u64) -> Vec<(String, Status)> {
    troubles(facts, n_concurrent).into_iter().map(|(name, status, _)| (name, status)).collect()
}

#[test]
fn a_machine_with_everything_is_told_so() {
    insta::assert_snapshot!(table(&checks(&good(), 64), None), @"
    check                       status  found                                                        what to do
    sandbox                     ok      docker, process
    docker engine               ok      28.2.2 at unix:///var/run/docker.sock (API 1.50, cgroup v2)
    docker storage              ok      overlay2
    docker limits               ok      cpus, memory, pids; storage is not limited
    docker address pools        ok      1 of about 31 used
    docker, with our labels     ok      0 containers, 0 networks, 0 volumes
    process sandbox             ok      started, used and removed one in 12 ms
    process limits              ok      cpus, memory, pids, storage
    explorers                   ok      can be held to one writable folder (Landlock)
    base image orcapack/base:1  ok      in the engine and unpacked
    open files                  ok      20000 allowed, 1280 needed for 64 rollouts at once
    disk of runs                ok      50.0 GiB free at /runs
    disk of docker              ok      40.0 GiB free at /var/lib/docker
    ");
}

#[test]
fn a_machine_without_an_engine_still_has_the_process_sandbox() {
    assert_eq!(names(&no_docker(), 4), [("docker engine".to_owned(), Status::Warn)]);
}

#[test]
fn a_machine_that_can_isolate_nothing_fails_and_tells_what_is_in_the_way() {
    let mut facts = no_docker();
    let refused = "the sandbox's process ended at once";
    facts.process = Err(SandboxError::new(FailureClass::Daemon, refused));
    facts.host.namespaces = UserNamespaces::Forbidden("user.max_user_namespaces = 0".to_owned());
    let found = troubles(&facts, 4);
    assert_eq!(found[0], ("sandbox".to_owned(), Status::Fail, "none".to_owned()));
    assert_eq!(found[2], ("process sandbox".to_owned(), Status::Warn, refused.to_owned()));
    let advice = |facts: &Facts| checks(facts, 4)[2].advice.clone().unwrap();
    assert!(advice(&facts).contains("max_user_namespaces = 0"), "{}", advice(&facts));
    facts.host.root = true;
    assert_eq!(advice(&facts), "use --sandbox docker");
    facts.host.overlay = false;
    assert!(advice(&facts).contains("modprobe overlay"), "{}", advice(&facts));
}

#[test]
fn open_files_are_judged_against_the_rollouts_at_once() {
    assert_eq!(troubles(&good(), 1000), []);
    let [(name, status, found)] = &troubles(&good(), 10_000)[..] else { panic!("one trouble") };
    assert_eq!((name.as_str(), *status), ("open files", Status::Fail));
    assert_eq!(found, "20000 allowed, 160256 needed for 10000 rollouts at once");
}

#[test]
fn each_lack_is_a_row_of_its_own() {
    let mut facts = good();
    facts.base_rootfs = false;
    facts.host.disks[0].free_bytes = GIB - 1;
    if let Ok(trial) = &mut facts.process {
        trial.limits.pids = false;
    }
    if let Ok(docker) = &mut facts.docker {
        docker.storage_driver = "fuse-overlayfs".to_owned();
        docker.limits_enforced.memory = false;
        docker.bridge_networks = 30;
        docker.data_root_disk = Some(DockerDisk { total_bytes: GIB, free_bytes: 2 * GIB });
    }
    let expected = [
        ("docker storage", Status::Warn),
        ("docker limits", Status::Warn),
        ("docker address pools", Status::Warn),
        ("process limits", Status::Warn),
        ("base image orcapack/base:1", Status::Warn),
        ("disk of runs", Status::Fail),
        ("disk of docker", Status::Warn),
    ];
    assert_eq!(names(&facts, 4), expected.map(|(name, status)| (name.to_owned(), status)));
}

#[test]
fn a_kernel_that_cannot_confine_explorers_is_told_before_a_team_needs_it() {
    let message = "this machine cannot confine a command to one folder";
    let confinement = Err(SandboxError::new(FailureClass::ExecTransport, message));
    let mut facts = good();
    facts.process = facts.process.map(|trial| ProcessTrial { confinement, ..trial });
    let expected = ("explorers".to_owned(), Status::Warn, message.to_owned());
    assert_eq!(troubles(&facts, 1), [expected]);
}
