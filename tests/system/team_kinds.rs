//! Teams of other kinds: an orchestrator that is told everything anew each turn, subagents without
//! a model, and an orchestrator whose tokens are recorded.

use orcapack_tasks::trajectory::Step;
use tokio::runtime::Runtime;

use crate::openai_server::Reply;
use crate::program::{Task, World};
use crate::team_bench::{Served, answers, run, trajectory};
use crate::team_script::{Heard, report};
use crate::token_servers::{END, OK, Sampled, Template, TokenServer, bytes};

#[test]
fn a_stateless_orchestrator_is_told_everything_anew_each_turn() {
    let served = Served::openai(|messages| {
        let heard = Heard::of(messages);
        let turn = heard.last.matches("You answered:\n").count();
        let text = match (heard.title().is_some(), heard.answers, turn) {
            (false, 0, 0) => {
                "<task_create>\nagent_type: coder\ntitle: solve it\ndescription: Do it.\n\
                 </task_create>\n"
            }
            (false, 0, _) => "<finish>\nIt is there.\n</finish>\n",
            (true, 0, _) => "<bash>\ncmd: echo 42 > /app/answer\n</bash>\n",
            _ => return Reply::text(report("answer", "it is 42").leak()),
        };
        Reply::text(text)
    });
    let world = World::new(&[Task::new("a", "true\n")]);
    let ended = run(&world, &format!("team.mode = \"stateless\"\n{}", served.model("main")), &[]);
    assert_eq!((ended.code, world.results()[0].reward), (Some(0), Some(1.0)), "{ended:?}");
    let asked = served.asked();
    let told: Vec<Heard> = asked.iter().map(|asked| Heard::of(&asked.body["messages"])).collect();
    let orchestrator: Vec<&Heard> = told.iter().filter(|told| told.title().is_none()).collect();
    assert_eq!(orchestrator.len(), 2);
    assert!(orchestrator.iter().all(|told| told.answers == 0 && told.first == told.last));
    let last = &orchestrator[1].last;
    for part in [
        "# The task\n\nWrite 42 into /app/answer.",
        "# Tasks\n\n- task_1: solve it (coder): reported",
        "# Contexts\n",
        "it is 42",
        "# History\n\nYou answered:\n<task_create>",
        "# Environment now\n",
        "\nanswer\n",
        "[turn 2 of ",
    ] {
        assert!(last.contains(part), "{part} in {last}");
    }
    assert!(!orchestrator[0].last.contains("# Environment now"));
}

/// Tokens of a text in which the model writes `ok` in its own way, and ends.
fn sampled(text: &str) -> Sampled {
    let parts: Vec<Vec<u32>> = text.split("ok").map(bytes).collect();
    let mut ids = parts.join(&OK);
    ids.push(END);
    Sampled::Tokens(ids)
}

#[test]
fn an_orchestrators_tokens_are_recorded_and_its_literal_subagents_do_what_they_are_told() {
    let runtime = Runtime::new().unwrap();
    let server = runtime.block_on(TokenServer::vllm(Template::Marks));
    *server.script.lock().unwrap() = [
        "<task_create>\nagent_type: explorer\ntitle: look ok\ndescription: |\n  See:\n\
         \x20 $ cat /app/answer || echo nothing there\n</task_create>\n",
        "<task_create>\nagent_type: coder\ntitle: ok, write\ndescription: |\n  Write it.\n\
         \x20 ```sh\n  answer=42\n  echo $answer > /app/answer\n  ```\n</task_create>\n",
        "<finish>\nok\n</finish>\n",
    ]
    .map(sampled)
    .to_vec();
    let config = format!(
        "[team.roles]\norchestrator = \"small\"\nexplorer = \"plain\"\ncoder = \"plain\"\n\
         [models.plain]\nkind = \"literal\"\n\
         [models.small]\nkind = \"vllm\"\nmodel = \"toy\"\nurl = \"{}/v1\"\n",
        server.http.url
    );
    let world = World::new(&[Task::new("a", "true\n")]);
    let ended = run(&world, &config, &[]);
    assert_eq!((ended.code, world.results()[0].reward), (Some(0), Some(1.0)), "{ended:?}");

    let root = trajectory(&world, 0, 1);
    let turns = answers(&root);
    assert_eq!(turns.len(), 3);
    let ids = |step: &Step| {
        let metrics = step.metrics.clone().unwrap();
        let (prompt, completion) = (metrics.prompt_token_ids, metrics.completion_token_ids);
        let completion = completion.unwrap();
        assert!(completion.contains(&OK), "as it was sampled, not as it would be encoded");
        assert_eq!(metrics.logprobs.unwrap().len(), completion.len());
        (prompt.unwrap(), completion)
    };
    let ids: Vec<_> = turns.into_iter().map(ids).collect();
    for two in ids.windows(2) {
        let before = [&*two[0].0, &*two[0].1].concat();
        assert!(two[1].0.len() > before.len() && two[1].0.starts_with(&before));
    }
    let prompts: Vec<_> = ids.into_iter().map(|(prompt, _)| prompt).collect();
    assert_eq!(server.prompts(), prompts);

    let [explorer, coder] = &*root.subagent_trajectories else { panic!("two subagents") };
    for (agent, command) in [
        (explorer, "cat /app/answer || echo nothing there"),
        (coder, "answer=42\necho $answer > /app/answer\n"),
    ] {
        assert_eq!(agent.agent.model_name.as_deref(), Some("literal"));
        let steps = answers(agent);
        assert_eq!(steps.len(), 2);
        assert_eq!(steps[0].tool_calls[0].arguments["cmd"], command);
    }
    let told = root.steps.iter().filter_map(|step| step.observation.as_ref());
    let told: Vec<&str> =
        told.flat_map(|seen| &seen.results).filter_map(|seen| seen.content.as_deref()).collect();
    assert!(told[0].contains("nothing there"), "{told:?}");
}
