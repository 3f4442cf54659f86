use orcapack_tasks::Digest;

use super::*;
use crate::config::{AgentKind, EvalConfig};

/// A `runs` folder and the configuration of run `r` in it.
fn runs() -> (tempfile::TempDir, EvalConfig) {
    let dir = tempfile::tempdir().unwrap();
    let mut config = EvalConfig::defaults(2, PathBuf::from("/cache"));
    config.run.name = "r".to_owned();
    config.run.runs_dir = dir.path().join("runs");
    config.run.dataset = PathBuf::from("/ds");
    (dir, config)
}

fn open(opening: Opening, config: &EvalConfig) -> Result<RunDir, RunDirError> {
    let kind = RunKind::of_eval(config, &Digest::of(b"tasks"));
    let wanted = Wanted {
        runs_dir: &config.run.runs_dir,
        name: &config.run.name,
        kind: &kind,
        config: &config.to_toml().unwrap(),
    };
    RunDir::open(opening, &wanted)
}

fn exit_of(error: RunDirError) -> Exit {
    Failure::from(error).exit
}

#[test]
fn a_name_is_given_once() {
    let (_dir, config) = runs();
    let first = open(Opening::New, &config).unwrap();
    let second = open(Opening::New, &config).unwrap_err();
    assert!(matches!(second, RunDirError::NameTaken(_)), "{second}");
    drop(first);
    assert_eq!(exit_of(open(Opening::New, &config).unwrap_err()), Exit::RunTaken);
}

#[test]
fn two_processes_never_work_in_one_directory() {
    let (_dir, config) = runs();
    let first = open(Opening::New, &config).unwrap();
    for opening in [Opening::Resume, Opening::Clean] {
        let error = open(opening, &config).unwrap_err();
        assert!(error.to_string().ends_with(&format!("process {}", std::process::id())), "{error}");
        assert_eq!(exit_of(error), Exit::RunTaken);
    }
    assert!(first.path().join("config.toml").exists(), "a refused --clean deletes nothing");
    drop(first);
    open(Opening::Resume, &config).unwrap();
}

#[test]
fn resume_keeps_the_id_and_what_was_written() {
    let (_dir, mut config) = runs();
    let first = open(Opening::New, &config).unwrap();
    let id = first.id().to_owned();
    fs::write(first.ledger(), "ledger").unwrap();
    drop(first);
    config.rollouts.n_concurrent = 99;
    let resumed = open(Opening::Resume, &config).unwrap();
    assert_eq!((resumed.id(), resumed.replaced()), (id.as_str(), None));
    assert_eq!(fs::read_to_string(resumed.ledger()).unwrap(), "ledger");
    let written = fs::read_to_string(resumed.path().join("config.toml")).unwrap();
    assert_eq!(written, config.to_toml().unwrap());
}

#[test]
fn resume_of_another_kind_of_run_lists_what_differs() {
    let (_dir, mut config) = runs();
    drop(open(Opening::New, &config).unwrap());
    config.rollouts.n_attempts = 5;
    config.agent.kind = AgentKind::Nop;
    let error = open(Opening::Resume, &config).unwrap_err();
    let message = error.to_string();
    assert!(
        message.ends_with(
            ":\n  agent.kind: oracle then, nop now\n  rollouts.n_attempts: 1 then, 5 now"
        )
    );
    assert_eq!(exit_of(error), Exit::BadInput);
}

#[test]
fn resume_needs_a_run() {
    let (_dir, config) = runs();
    let error = open(Opening::Resume, &config).unwrap_err();
    assert!(matches!(error, RunDirError::NoSuchRun(_)), "{error}");
    assert!(!config.run.runs_dir.exists(), "a refused start makes no folders");
}

#[test]
fn clean_empties_the_directory_and_names_the_run_it_deleted() {
    let (_dir, config) = runs();
    let first = open(Opening::New, &config).unwrap();
    let id = first.id().to_owned();
    fs::write(first.ledger(), "ledger").unwrap();
    fs::write(first.folder(TRAJECTORIES).unwrap().join("1.json"), "{}").unwrap();
    drop(first);
    let second = open(Opening::Clean, &config).unwrap();
    assert_eq!(second.replaced(), Some(id.as_str()));
    assert_ne!(second.id(), id);
    assert!(!second.ledger().exists());
    assert!(!second.path().join(TRAJECTORIES).join("1.json").exists());
}

#[test]
fn clean_of_a_name_that_is_free_is_a_new_run() {
    let (_dir, config) = runs();
    let run = open(Opening::Clean, &config).unwrap();
    assert_eq!(run.replaced(), None);
}

#[test]
fn clean_and_resume_leave_a_folder_alone_that_is_not_a_runs() {
    let (_dir, config) = runs();
    let path = config.run.runs_dir.join("r");
    fs::create_dir_all(&path).unwrap();
    fs::write(path.join("thesis.tex"), "years of work").unwrap();
    for opening in [Opening::Clean, Opening::Resume] {
        let error = open(opening, &config).unwrap_err();
        assert!(matches!(error, RunDirError::NotARun(_)), "{error}");
    }
    assert_eq!(fs::read_dir(&path).unwrap().count(), 1);
}

#[test]
fn a_run_that_died_before_its_first_file_can_be_cleaned() {
    let (_dir, config) = runs();
    fs::create_dir_all(config.run.runs_dir.join("r")).unwrap();
    assert_eq!(open(Opening::Clean, &config).unwrap().replaced(), None);
}
