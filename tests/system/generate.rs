//! Tasks that a model writes, by the real program over real sandboxes: the model is a file of
//! recorded answers, or a small server that says what it is told to.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::openai_server::Reply;
use crate::program::{Ended, HONEST_SOLUTION, HONEST_TEST, Running, Task, World};
use crate::team_bench::Served;

/// Passes whatever was done.
const LAX_TEST: &str = "echo 1 > /logs/verifier/reward.txt\n";
const ACCEPT: &str = "<verdict>\ndecision: accept\n</verdict>\n";
const PATCH: &str = "<verdict>\ndecision: patch\nreason: The tests are too lax.\n</verdict>\n";
/// More than a dozen words, of a task that is measured with.
const BENCHMARK: &str = "Find the largest file below the folder of the archive and write its name \
                         and its size in bytes into the report.";

/// An idea whose words no other has.
fn idea(slug: &str) -> String {
    idea_about(slug, &format!("{slug}-one {slug}-two {slug}-three {slug}-four {slug}-five"))
}

fn idea_about(slug: &str, description: &str) -> String {
    format!(
        "<idea>\ntitle: About {slug}\nslug: {slug}\ncategory: files\ndifficulty: easy\n\
         description: {description}\n</idea>\n"
    )
}

fn file(path: &str, text: &str) -> String {
    format!("<file path=\"{path}\">\n{text}</file>\n")
}

fn files(slug: &str, test: &str) -> String {
    let instruction = format!("Write 42 into /app/answer. {slug}-six {slug}-seven {slug}-eight\n");
    file("instruction.md", &instruction)
        + &file("environment/Dockerfile", "FROM orcapack/base:1\nWORKDIR /app\n")
        + &file("tests/test.sh", test)
        + &file("solution/solve.sh", HONEST_SOLUTION)
        + &file("known-bad/guess.sh", "echo 41 > /app/answer\n")
}

/// What the authors say of a task, turn by turn.
struct Said<'s> {
    idea: &'s [String],
    builder: &'s [String],
    reviewer: &'s [&'s str],
}

/// A world with `answers.jsonl`, of tasks 1, 2 and so on.
fn recorded(tasks: &[Said<'_>]) -> World {
    let world = World::new(&[]);
    let mut lines = String::new();
    for (task, said) in (1..).zip(tasks) {
        let reviewer: Vec<String> = said.reviewer.iter().map(ToString::to_string).collect();
        for (author, texts) in
            [("idea", said.idea), ("builder", said.builder), ("reviewer", &reviewer)]
        {
            for (turn, text) in (1..).zip(texts) {
                let event = json!({"kind": "answer", "author": author, "turn": turn, "text": text});
                lines += &format!("{}\n", json!({"task": task, "event": event}));
            }
        }
    }
    fs::write(world.path("answers.jsonl"), lines).unwrap();
    world
}

fn start<'w>(world: &'w World, args: &[&str]) -> Running<'w> {
    let own = ["tasks", "generate", "--sandbox", "process", "-o", "out"];
    let env = [("TEAM_KEY", "sk-of-the-account"), ("NO_PROXY", "127.0.0.1")];
    world.start_any(&env, &[&own[..], args].concat())
}

fn replay(world: &World, args: &[&str]) -> Ended {
    start(world, &[&["--from-model", "replay/answers.jsonl"], args].concat()).end()
}

/// Flags that name a server's model.
fn served(server: &Served) -> [String; 6] {
    let url = format!("models.main.url={}/v1", server.server.url);
    ["--from-model", "openai/scripted", "--set", &url, "--set", "models.main.api_key=${TEAM_KEY}"]
        .map(str::to_owned)
}

fn start_served<'w>(world: &'w World, server: &Served, args: &[&str]) -> Running<'w> {
    let flags = served(server);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    start(world, &[&flags, args].concat())
}

/// The events of a folder's journal, as task and event.
fn events(world: &World, folder: &str) -> Vec<(u64, Value)> {
    let text = fs::read_to_string(world.path(folder).join("pipeline.jsonl")).unwrap_or_default();
    let whole = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    whole.map(|line| (line["task"].as_u64().unwrap(), line["event"].clone())).collect()
}

fn kinds(world: &World) -> Vec<String> {
    let name = |event: &Value| match event["author"].as_str() {
        Some(author) => author.to_owned(),
        None => event["kind"].as_str().unwrap().to_owned(),
    };
    events(world, "out").iter().map(|(_, event)| name(event)).collect()
}

fn reasons(world: &World, name: &str) -> String {
    fs::read_to_string(world.path("out/.rejected").join(name).join("reasons.txt")).unwrap()
}

/// The names in a folder that a data set's reader sees.
fn tasks(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let folders = entries.filter(|entry| entry.file_type().unwrap().is_dir());
    let names = folders.map(|entry| entry.file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| !name.starts_with('.')).collect();
    names.sort();
    names
}

#[test]
fn a_task_that_is_right_at_once_is_accepted_and_can_be_replayed_and_checked() {
    let world = recorded(&[Said {
        idea: &[idea("answer")],
        builder: &[files("answer", HONEST_TEST)],
        reviewer: &[ACCEPT],
    }]);
    let ended = replay(&world, &["--count", "1"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.contains("accepted") && ended.stderr.contains("task 1 answer: admitted"));
    assert_eq!(kinds(&world), ["idea", "compared", "builder", "tried", "reviewer", "accepted"]);
    assert_eq!(tasks(&world.path("out")), ["answer"]);
    assert!(!world.path("out/.drafts").exists() && !world.path("out/.rejected").exists());

    // The journal answers once more, and the same task comes of it.
    let again = ["tasks", "generate", "--from-model", "replay/out", "--sandbox", "process"];
    let again = [&again[..], &["--count", "1", "-o", "again", "--json"]].concat();
    let ended = world.start_any(&[], &again).end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let json: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((&json["accepted"], &json["tasks"][0]["slug"]), (&json!(1), &json!("answer")));
    for path in ["task.toml", "tests/test.sh", "known-bad/guess.sh"] {
        let read = |folder: &str| fs::read(world.path(folder).join("answer").join(path)).unwrap();
        assert_eq!(read("out"), read("again"), "{path}");
    }
    let check = ["tasks", "check", "-d", "out", "--sandbox", "process"];
    assert_eq!(world.start_any(&[], &check).end().code, Some(0));

    // Nothing more is done where there is nothing more to do.
    let before = events(&world, "out");
    assert_eq!(replay(&world, &["--count", "1"]).code, Some(0));
    assert_eq!(events(&world, "out"), before);
}

#[test]
fn a_builder_may_mend_its_files_and_the_tests_that_were_too_lax() {
    let lax = files("answer", LAX_TEST);
    let whole = lax.replace("<file path=\"solution/solve.sh\">", "<file path=\"solution/s.sh\">");
    let world = recorded(&[Said {
        idea: &[idea("answer")],
        builder: &[whole, lax, file("tests/test.sh", HONEST_TEST)],
        reviewer: &[PATCH, ACCEPT],
    }]);
    let ended = replay(&world, &["--count", "1", "--json"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let json: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(json["patch_rounds"], 2);
    let tried: Vec<Value> = events(&world, "out")
        .into_iter()
        .filter(|(_, event)| event["kind"] == "tried")
        .map(|(_, event)| event["reasons"].clone())
        .collect();
    let lax = ["the tests pass when nothing is done", "the tests pass on the wrong solution guess"];
    assert_eq!(tried, [json!(lax), json!([])]);
    let test = fs::read_to_string(world.path("out/answer/tests/test.sh")).unwrap();
    assert_eq!(test, HONEST_TEST);
}

#[test]
fn tests_that_pass_on_nothing_are_put_aside_after_five_rounds() {
    let patches = vec![file("tests/test.sh", LAX_TEST); 5];
    let world = recorded(&[Said {
        idea: &[idea("answer")],
        builder: &[&[files("answer", LAX_TEST)][..], &patches].concat(),
        reviewer: &[PATCH; 6],
    }]);
    let ended = replay(&world, &["--count", "1", "--ideas-max", "1"]);
    assert_eq!(ended.code, Some(6), "{ended:?}");
    assert!(ended.stdout.contains("rejected, not admitted"), "{ended:?}");
    assert_eq!(kinds(&world).iter().filter(|kind| *kind == "tried").count(), 6);
    assert_eq!(tasks(&world.path("out")), [""; 0]);
    let reasons = reasons(&world, "answer");
    assert!(
        reasons.starts_with("Rejected, not admitted:\n- the tests pass when nothing is done\n")
    );
    assert!(reasons.contains("The tests are too lax.") && reasons.contains("Idea: About answer"));
    assert!(world.path("out/.rejected/answer/tests/test.sh").is_file());
}

#[test]
fn a_copy_of_a_benchmark_or_of_an_own_task_is_refused_with_its_name_and_the_figure() {
    let again = idea("answer").replace("slug: answer", "slug: answer-again");
    let world = recorded(&[
        Said { idea: &[idea_about("copy", BENCHMARK)], builder: &[], reviewer: &[] },
        Said {
            idea: &[idea("answer")],
            builder: &[files("answer", HONEST_TEST)],
            reviewer: &[ACCEPT],
        },
        Said { idea: &[again], builder: &[], reviewer: &[] },
    ]);
    Task::new("largest", HONEST_SOLUTION)
        .file("instruction.md", BENCHMARK)
        .file("tests/test.sh", "echo 0 > /logs/verifier/reward.txt\n")
        .write(&world.path("tasks"));
    let args = ["--count", "2", "--ideas-max", "3", "--against", "tasks", "-n", "1"];
    let ended = replay(&world, &args);
    assert_eq!(ended.code, Some(6), "{ended:?}");
    assert_eq!(tasks(&world.path("out")), ["answer"]);
    let copy = reasons(&world, "copy");
    assert!(copy.contains("sequences of 13 words with largest, the first of them: "), "{copy}");
    assert!(copy.contains("it is nearly the same as largest: a Jaccard index of 0.9"), "{copy}");
    let again = reasons(&world, "answer-again");
    assert!(again.contains("nearly the same as answer: a Jaccard index of 1.00"), "{again}");
}

#[test]
fn answers_that_cannot_be_read_are_told_back_and_then_given_up() {
    let world = recorded(&[
        Said {
            idea: &["hm".to_owned(), idea("answer")],
            builder: &["I cannot do that."; 2].map(str::to_owned),
            reviewer: &[],
        },
        Said { idea: &["no idea"; 3].map(str::to_owned), builder: &[], reviewer: &[] },
    ]);
    let args = ["--count", "2", "--ideas-max", "2", "--patch-rounds", "2", "-n", "1"];
    let ended = replay(&world, &args);
    assert_eq!(ended.code, Some(6), "{ended:?}");
    let answer = reasons(&world, "answer");
    assert!(answer.contains("expected <file path=\"PATH\"> and its text, found none"), "{answer}");
    assert!(reasons(&world, "idea-2").contains("expected one <idea>, found 0"));
    assert!(
        ended.stdout.contains("rejected, no idea") && ended.stdout.contains("rejected, no task")
    );
}

/// What a server's authors say: each idea another, everything right at once.
fn right(messages: &Value, ideas: &AtomicUsize) -> String {
    let system = messages[0]["content"].as_str().unwrap();
    let told = messages[1]["content"].as_str().unwrap();
    match author(system) {
        "idea" => idea(&format!("answer-{}", ideas.fetch_add(1, Ordering::Relaxed))),
        "builder" => {
            let slug = told.lines().find_map(|line| line.strip_prefix("Title: About ")).unwrap();
            files(slug, HONEST_TEST)
        }
        _ => ACCEPT.to_owned(),
    }
}

fn author(system: &str) -> &'static str {
    let begins = [("You think of tasks", "idea"), ("You build tasks", "builder")];
    let known = begins.iter().find(|(begin, _)| system.starts_with(begin));
    known.map_or("reviewer", |(_, author)| author)
}

/// How often the server was asked as each author.
fn asked(server: &Served, who: &str) -> usize {
    let asked = server.asked();
    let systems = asked.iter().map(|asked| asked.body["messages"][0]["content"].as_str().unwrap());
    systems.filter(|system| author(system) == who).count()
}

#[test]
fn several_tasks_are_written_at_once_by_a_served_model() {
    let ideas = AtomicUsize::new(0);
    let server = Served::openai(move |messages| Reply::text(right(messages, &ideas).leak()));
    let world = World::new(&[]);
    let ended = start_served(&world, &server, &["--count", "3", "-n", "3"]).end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(tasks(&world.path("out")), ["answer-0", "answer-1", "answer-2"]);
    assert_eq!(["idea", "builder", "reviewer"].map(|who| asked(&server, who)), [3, 3, 3]);
    // Each idea was told of those before it, and of its topic.
    let told: Vec<String> = server
        .asked()
        .iter()
        .filter(|asked| author(asked.body["messages"][0]["content"].as_str().unwrap()) == "idea")
        .map(|asked| asked.body["messages"][1]["content"].as_str().unwrap().to_owned())
        .collect();
    assert!(told[0].starts_with("There are no tasks yet.") && told[0].contains("\nTopic: "));
    assert!(told[2].contains("- About answer-0\n- About answer-1\n"), "{}", told[2]);
    let text = fs::read_to_string(world.path("out/pipeline.jsonl")).unwrap();
    assert!(!text.contains("sk-of-the-account"), "the key is nobody's to see");
}

#[test]
fn an_endpoint_that_fails_loses_nothing() {
    let ideas = AtomicUsize::new(0);
    let failing =
        Served::openai(move |messages| match author(messages[0]["content"].as_str().unwrap()) {
            "reviewer" => Reply::Status(401, None),
            _ => Reply::text(right(messages, &ideas).leak()),
        });
    let world = World::new(&[]);
    let ended = start_served(&world, &failing, &["--count", "1"]).end();
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert!(ended.stderr.contains("the reviewer of task 1 was not answered: "), "{ended:?}");
    assert!(ended.stdout.contains("unfinished") && tasks(&world.path("out")).is_empty());

    let server = Served::openai(|_| Reply::text(ACCEPT));
    let ended = start_served(&world, &server, &["--count", "1"]).end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(server.asked().len(), 1, "only what was not answered is asked");
    assert_eq!(tasks(&world.path("out")), ["answer-0"]);
}

/// Stops the program with a signal while the reviewer thinks, and has it go on.
fn stopped_and_resumed(signal: Signal, code: Option<i32>) {
    let ideas = AtomicUsize::new(0);
    let hanging =
        Served::openai(move |messages| match author(messages[0]["content"].as_str().unwrap()) {
            "reviewer" => Reply::Hang,
            _ => Reply::text(right(messages, &ideas).leak()),
        });
    let world = World::new(&[]);
    let mut running = start_served(&world, &hanging, &["--count", "2", "-n", "2"]);
    running.until("both tasks are with the reviewer", || asked(&hanging, "reviewer") == 2);
    running.signal(signal);
    let ended = running.end();
    assert_eq!(ended.code, code, "{ended:?}");
    assert!(tasks(&world.path("out")).is_empty());

    let server = Served::openai(|_| Reply::text(ACCEPT));
    let ended = start_served(&world, &server, &["--count", "2", "-n", "2"]).end();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(server.asked().len(), 2, "nobody is asked twice");
    assert_eq!(tasks(&world.path("out")), ["answer-0", "answer-1"]);
    assert_eq!(kinds(&world).iter().filter(|kind| *kind == "accepted").count(), 2);
    assert!(!world.path("out/.drafts").exists());
}

#[test]
fn an_interrupted_pipeline_goes_on_where_it_was() {
    stopped_and_resumed(Signal::SIGINT, Some(130));
}

#[test]
fn a_killed_pipeline_goes_on_where_it_was() {
    stopped_and_resumed(Signal::SIGKILL, None);
}

#[test]
fn tokens_that_are_used_up_end_it_and_more_go_on() {
    let world = recorded(&[Said {
        idea: &[idea("answer")],
        builder: &[files("answer", HONEST_TEST)],
        reviewer: &[ACCEPT],
    }]);
    let ended = replay(&world, &["--count", "1", "--tokens-max", "0"]);
    assert_eq!(ended.code, Some(6), "{ended:?}");
    assert!(ended.stderr.contains("the tokens are used up"), "{ended:?}");
    assert_eq!(replay(&world, &["--count", "1"]).code, Some(0));
}

#[test]
fn wrong_input_is_told_before_anything_is_made() {
    let world = recorded(&[Said { idea: &[idea("a")], builder: &[], reviewer: &[] }]);
    fs::write(world.path("topics"), "# none\n").unwrap();
    fs::create_dir(world.path("thesis")).unwrap();
    fs::write(world.path("thesis/mine.txt"), "").unwrap();
    let good = "replay/answers.jsonl";
    for (args, words) in [
        (&["--from-model", "replay/nowhere"][..], "models.main.run: expected a folder of tasks"),
        (&["--from-model", "odd/model"], "--from-model: expected KIND/MODEL"),
        (&["--from-model", "literal/x"], "which cannot plan"),
        (&["--from-model", good, "--builder-model", "openai"], "--builder-model: expected KIND"),
        (&["--from-model", good, "--reviewer-model", "openai/m"], "models.reviewer.api_key"),
        (&["--from-model", good, "--similarity-max", "1.5"], "expected a number from 0 to 1"),
        (&["--from-model", good, "--topics", "topics"], "expected 1 to 10000 topics"),
        (&["--from-model", good, "--against", "thesis"], "thesis: expected tasks"),
        (&["--from-model", good, "--set", "models.main.url=http://x"], "models.main.url"),
        (&["--from-model", good, "-o", "thesis"], "found something else in it"),
    ] {
        let out = if args.contains(&"-o") { &[][..] } else { &["-o", "out"] };
        let line = [&["tasks", "generate", "--count", "1"][..], out, args].concat();
        let ended = world.start_any(&[], &line).end();
        assert_eq!(ended.code, Some(2), "{args:?}: {ended:?}");
        assert!(ended.stderr.contains(words), "{words}: {ended:?}");
        assert!(!world.path("out").exists(), "{args:?}");
    }
}
