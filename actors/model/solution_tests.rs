use std::sync::Arc;

use super::*;
use crate::model::endpoint::tests::settings;
use crate::model::literal::Literal;
use crate::model::settings::EndpointKind;
use crate::team::action::{SubagentAction, Tool};
use crate::team::read_action;

fn demonstrator(mistakes: Mistakes, seed: u64) -> Solution {
    let mut settings = settings("demo", EndpointKind::Solution);
    settings.mistakes = mistakes;
    settings.sampling.seed = Some(seed);
    Solution::new(&settings)
}

fn scripts(solution: &str) -> Arc<Scripts> {
    let script = |name: &str, text: &str| Script { name: name.to_owned(), text: text.into() };
    Arc::new(Scripts {
        solution: Some(script("", solution)),
        known_bad: ["hasty", "idle"].map(|name| script(name, &format!("{name}\n"))).to_vec(),
    })
}

fn request(rollout: u32, turn: u32, scripts: Option<Arc<Scripts>>) -> Request {
    Request {
        key: CallKey { rollout, attempt: 1, step: 0, agent: 0, turn },
        messages: Vec::new(),
        max_tokens: 100,
        instruction: "Do it.".into(),
        policy_version: 0,
        scripts,
    }
}

/// The commands that a literal coder runs of what is delegated.
fn run_of(solution: &str) -> Vec<String> {
    let request = request(0, 1, Some(scripts(solution)));
    let answer = demonstrator(Mistakes::default(), 0).answer(&request).unwrap();
    let reading = read_action::orchestrator(&answer.text, Finish::Stop);
    assert_eq!(reading.complaint(), None, "{}", answer.text);
    let [OrchestratorAction::CreateTask(task)] = &*reading.actions else { panic!("one task") };
    assert_eq!((task.agent, task.auto_launch), (SubagentKind::Coder, true));
    let request = Request { instruction: task.description.as_str().into(), ..request };
    let ran = Literal.call(&request).now_or_never().unwrap().unwrap();
    let commands = read_action::coder(&ran.text, Finish::Stop).actions.into_iter();
    commands
        .map(|action| match action {
            SubagentAction::Tool(Tool::Bash(bash)) => bash.cmd,
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn plain_commands_are_delegated_one_by_one() {
    for (script, commands) in [
        ("#!/bin/bash\nset -eu\n\n# Why.\necho dog > a\n", vec!["echo dog > a"]),
        ("mv a z\nmv b a  \nmv z b", vec!["mv a z", "mv b a", "mv z b"]),
        ("echo \"it's\" 'so \"' \\' > a\n", vec!["echo \"it's\" 'so \"' \\' > a"]),
        ("./run.sh; ls\n", vec!["./run.sh; ls"]),
        ("\n", vec!["true"]),
    ] {
        assert_eq!(run_of(script), commands, "{script}");
    }
}

#[test]
fn what_one_line_leaves_to_the_next_is_delegated_as_a_whole() {
    for script in [
        "cd /app\nls\n",
        "x=1\necho $x > a\n",
        "export X=1\nenv > a\n",
        "cat > a <<EOF\n$ text\nEOF\n",
        "echo 'a\nb' > c\n",
        "echo a \\\n  > c\n",
        "ls |\nsort\n",
        "for i in 1 2; do\n  echo $i\ndone\n",
        "f() {\n  ls\n}\nf\n",
        "(ls\n)\n",
        "! ls\n",
        "echo `ls`\n",
        "cat <<'E'\n```\nfenced\n```\nE\n",
        "#!/bin/bash\n# nothing\n",
    ] {
        assert_eq!(run_of(script), [script], "{script}");
    }
    let long = "true\n".repeat(PLAIN_LINES_MAX + 1);
    assert_eq!(run_of(&long), [long]);
}

#[test]
fn the_text_is_short_and_regular() {
    let demo = demonstrator(Mistakes::default(), 0);
    let answer = |turn| demo.answer(&request(0, turn, Some(scripts("cp a b\n")))).unwrap().text;
    let first = "<task_create>\nagent_type: coder\ntitle: solve\ndescription: |\n  $ cp a b\n\
                 </task_create>\n";
    assert_eq!([answer(1), answer(2)], [first, "<finish>\ndone\n</finish>\n"]);
}

#[test]
fn mistakes_are_made_on_their_share_of_rollouts_the_same_in_every_attempt() {
    let wrong = |mistakes: Mistakes, seed, rollout| {
        let demo = demonstrator(mistakes, seed);
        let scripts = scripts("right");
        let name = demo.script(&scripts, rollout).unwrap().name.clone();
        let key = CallKey { attempt: 2, ..request(rollout, 1, None).key };
        let again = Request { key, ..request(rollout, 1, Some(scripts.clone())) };
        let said = demo.answer(&again).unwrap().text;
        assert!(said.contains(if name.is_empty() { "right" } else { &name }), "{said}");
        name
    };
    let share = |share: f64| Mistakes { share, known_bad: None };
    let names = |mistakes: &Mistakes, seed| -> Vec<String> {
        (0..1000).map(|rollout| wrong(mistakes.clone(), seed, rollout)).collect()
    };
    assert!(names(&share(0.0), 1).iter().all(String::is_empty));
    assert!(names(&share(1.0), 1).iter().all(|name| !name.is_empty()));
    let some = names(&share(0.3), 1);
    for (name, expected) in [("", 700), ("hasty", 150), ("idle", 150)] {
        let count = some.iter().filter(|it| *it == name).count();
        assert!(count.abs_diff(expected) < 60, "{name}: {count}");
    }
    assert_ne!(some, names(&share(0.3), 2), "other seeds, other rollouts");
    let named = Mistakes { share: 1.0, known_bad: Some("idle".to_owned()) };
    assert!(names(&named, 1).iter().all(|name| name == "idle"));
}

#[test]
fn what_the_task_lacks_is_told() {
    let told = |mistakes: Mistakes, scripts: Option<Arc<Scripts>>| {
        let error = demonstrator(mistakes, 0).answer(&request(0, 1, scripts)).unwrap_err();
        assert!(!error.kind.is_transient());
        error.message
    };
    let none = || Some(Arc::<Scripts>::default());
    let all = |known_bad| Mistakes { share: 1.0, known_bad };
    assert_eq!(told(all(None), None), "the task has no scripts to demonstrate");
    assert_eq!(told(Mistakes::default(), none()), "the task has no solution to demonstrate");
    assert_eq!(told(all(None), none()), "the task has no known-bad solution to demonstrate");
    assert_eq!(
        told(all(Some("x".to_owned())), none()),
        "the task has no known-bad solution `x` to demonstrate"
    );
}
