//! A scripted model: what it says is a function of the conversation alone. Over one of the built-in
//! tasks its team uses every action of the grammar, and a coder of it runs the task's solution.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// What the orchestrator knows, and tells by the context's id.
pub const ACCEPTANCE: &str = "acceptance: the hidden tests decide, nobody else";
/// What the first explorer finds out, and tells by its task.
pub const LAYOUT: &str = "layout: what there is lies in one folder";
pub const THOUGHT: &str = "first look, then delegate";
/// In a file of the explorer's that it must not be able to write.
pub const INTRUDER: &str = "/app/intruder";

/// Ends when agents 2 and 3 are both there: each has a scratch folder that the other can see.
const MEET: &str = "touch $TMPDIR/here; \
    until [ -e /tmp/orcapack-0-2/here ] && [ -e /tmp/orcapack-0-3/here ]; do sleep 0.01; done";

/// A built-in task, with what stands in it from the beginning.
pub struct Job {
    pub name: &'static str,
    pub file: &'static str,
    pub in_file: &'static str,
    pub folder: &'static str,
    pub in_folder: &'static str,
}

/// Quick ones, which need no more than a shell, coreutils and Python.
pub const JOBS: [Job; 5] = [
    Job {
        name: "server-errors-by-path",
        file: "/app/logs/access.log.1",
        in_file: "HTTP/1.1",
        folder: "/app/logs",
        in_folder: "access.log.2.gz",
    },
    Job {
        name: "reproducible-tarball",
        file: "/app/pack.sh",
        in_file: "#!/bin/bash",
        folder: "/app/src",
        in_folder: "manual.txt",
    },
    Job {
        name: "prune-backups",
        file: "/app/prune-backups.sh",
        in_file: "#!/bin/bash",
        folder: "/app/example",
        in_folder: "web-2_2024-03-01.tar.gz",
    },
    Job {
        name: "relink-moved-release",
        file: "/app/site/shared/app.conf",
        in_file: "workers = 4",
        folder: "/app/site/bin",
        in_folder: "echo deploy",
    },
    Job {
        name: "rename-property-key",
        file: "/app/conf/application.properties",
        in_file: "dbxhost=legacy",
        folder: "/app/conf/env",
        in_folder: "cache.ttl=300",
    },
];

impl Job {
    pub fn path(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tasks/builtin").join(self.name)
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path().join(file)).unwrap()
    }
}

/// A conversation, as the model sees it.
#[derive(Clone, Debug)]
pub struct Heard {
    /// The first user message: the task.
    pub first: String,
    /// The last one.
    pub last: String,
    /// How often the model has answered.
    pub answers: usize,
}

impl Heard {
    /// Of a request's messages, in either protocol.
    pub fn of(messages: &Value) -> Self {
        let messages = messages.as_array().unwrap();
        let said = |role: &str| {
            let of_role = messages.iter().filter(|message| message["role"] == role);
            of_role.map(|message| text(&message["content"])).collect::<Vec<_>>()
        };
        let user = said("user");
        Self {
            first: user.first().unwrap().clone(),
            last: user.last().unwrap().clone(),
            answers: said("assistant").len(),
        }
    }

    /// The title of a subagent's task; an orchestrator has none.
    pub fn title(&self) -> Option<&str> {
        self.first.strip_prefix("# Your task (")?.split_once("): ")?.1.lines().next()
    }
}

/// A text, or a list of blocks of text.
pub fn text(content: &Value) -> String {
    match content.as_array() {
        Some(blocks) => blocks.iter().map(|block| block["text"].as_str().unwrap()).collect(),
        None => content.as_str().unwrap().to_owned(),
    }
}

/// The next answer of the team that solves one of the [`JOBS`].
pub fn answer(heard: &Heard) -> String {
    let Some(title) = heard.title() else { return orchestrator(heard) };
    let (what, name) = title.split_once(' ').unwrap();
    let job = JOBS.iter().find(|job| job.name == name).unwrap();
    match (what, heard.answers) {
        ("look", 0) => tools(job),
        ("look", 1) => intrusion(),
        ("look", _) => report("layout", LAYOUT),
        ("solve", 0) => tools(job) + &changes(job),
        ("solve", _) => report("solved", "the solution was run"),
        (_, 0) => format!("<bash>\ncmd: {MEET}\ntimeout_secs: 30\n</bash>\n"),
        (scan, _) => report(scan, &format!("found by {scan}")),
    }
}

fn orchestrator(heard: &Heard) -> String {
    let job = JOBS.iter().find(|job| heard.first.contains(job.read("instruction.md").trim()));
    let Job { name, file, folder, .. } = job.unwrap();
    match heard.answers {
        0 => format!(
            "<reasoning>\n{THOUGHT}\n</reasoning>\n\
             <add_context>\nid: acceptance\ncontent: \"{ACCEPTANCE}\"\n</add_context>\n\
             <task_create>\nagent_type: explorer\ntitle: look {name}\ndescription: Look around.\n\
             context_refs: [acceptance]\ncontext_bootstrap:\n\
             \x20 - path: {file}\n    reason: a file\n\
             \x20 - path: {folder}\n    reason: a folder\n</task_create>\n"
        ),
        1 => {
            let waits = |role: &str, what: &str, refs: &str| {
                format!(
                    "<task_create>\nagent_type: {role}\ntitle: {what} {name}\n\
                     description: Go on.\nmax_turns: 5\ncontext_refs: [{refs}]\n\
                     auto_launch: false\n</task_create>\n"
                )
            };
            waits("explorer", "scan_a", "")
                + &waits("explorer", "scan_b", "")
                + &waits("coder", "solve", "task_1, acceptance")
                + "<launch_parallel_subagents>\ntask_ids: [task_2, task_3]\n\
                   </launch_parallel_subagents>\n"
        }
        2 => "<launch_subagent>\ntask_id: task_4\n</launch_subagent>\n".to_owned(),
        _ => "<finish>\nAll is done: see above.\n</finish>\n".to_owned(),
    }
}

/// Everything that explorers and coders may do.
fn tools(job: &Job) -> String {
    let Job { file, folder, .. } = job;
    format!(
        "<bash>\ncmd: pwd && id -u\ntimeout_secs: 20\n</bash>\n\
         <bash>\ncmd: echo heard from behind\nblock: false\n</bash>\n\
         <file>\naction: read\nfile_path: {file}\noffset: 1\nlimit: 2\n</file>\n\
         <file>\naction: metadata\nfile_paths: [{file}, {folder}]\n</file>\n\
         <search>\naction: grep\npattern: '[a-z]'\npath: {file}\n</search>\n\
         <search>\naction: glob\npattern: '**/*'\npath: {folder}\n</search>\n\
         <write_temp_script>\nfile_path: probe.sh\ncontent: |\n  #!/bin/sh\n  echo probed\n\
         </write_temp_script>\n\
         <todo>\noperations:\n  - action: add\n    content: look\n  - action: complete\n\
         \x20   task_id: 1\nview_all: true\n</todo>\n\
         <scratchpad>\naction: add\ncontent: nothing yet\n</scratchpad>\n\
         <scratchpad>\naction: view\n</scratchpad>\n"
    )
}

/// What an explorer must not do.
fn intrusion() -> String {
    format!(
        "<bash>\ncmd: echo x > {INTRUDER}\n</bash>\n\
         <file>\naction: write\nfile_path: {INTRUDER}\ncontent: x\n</file>\n"
    )
}

/// The solution as a script that runs only after all edits.
fn changes(job: &Job) -> String {
    let script = format!("exit 71\nexit 72\nexit 73\n{}", job.read("solution/solve.sh"));
    let lines = script.lines().map(|line| match line {
        "" => "\n".to_owned(),
        line => format!("  {line}\n"),
    });
    format!(
        "<file>\naction: write\nfile_path: /tmp/solve.sh\ncontent: |\n{}</file>\n\
         <file>\naction: edit\nfile_path: /tmp/solve.sh\nold_string: exit 71\n\
         new_string: \": first\"\n</file>\n\
         <file>\naction: multi_edit\nfile_path: /tmp/solve.sh\nedits:\n\
         \x20 - old_string: exit 72\n    new_string: \": second\"\n\
         \x20 - old_string: exit 73\n    new_string: \": third\"\n</file>\n\
         <bash>\ncmd: bash /tmp/solve.sh\n</bash>\n",
        lines.collect::<String>()
    )
}

pub fn report(id: &str, content: &str) -> String {
    format!(
        "<report>\ncontexts:\n  - id: {id}\n    content: \"{content}\"\ncomments: done\n</report>\n"
    )
}
