//! What subagents do, in a container, as a user who is not root.

use orcapack_actors::team::action::{
    Bash, Bootstrap, Change, Edit, ReadFile, Search, Todo, TodoOperation, Tool,
};
use orcapack_actors::team::hands::{
    ChangeLock, CoderHands, ExplorerHands, Hands, HandsSettings, scratch,
};
use orcapack_actors::team::notes::Notes;
use orcapack_actors::team::shell::{AgentShell, Shell};
use orcapack_actors::team::{bootstrap, snapshot};

use super::*;

/// Beside those of every image.
const PROGRAMS: [&str; 23] = [
    "bash",
    "chmod",
    "cut",
    "df",
    "dirname",
    "find",
    "grep",
    "mktemp",
    "mv",
    "nproc",
    "readlink",
    "rm",
    "sha256sum",
    "sort",
    "stat",
    "touch",
    "uname",
    "wc",
    "xargs",
    "true",
    "seq",
    "ln",
    "env",
];

fn bash(cmd: &str) -> Tool {
    Tool::Bash(Bash { cmd: cmd.to_owned(), block: true, timeout: None })
}

async fn tool(hands: &CoderHands, tool: &Tool) -> String {
    let observation = hands.tool(tool, SOON).await.unwrap();
    assert!(observation.done, "{tool:?}: {}", observation.text);
    observation.text
}

async fn change(hands: &CoderHands, change: &Change) -> String {
    let observation = hands.change(change, SOON).await.unwrap();
    assert!(observation.done, "{change:?}: {}", observation.text);
    observation.text
}

#[tokio::test]
async fn subagents_do_all_that_they_can_do() {
    let Some(bench) = Bench::new().await else { return };
    let mut files = machine_files();
    PROGRAMS.iter().for_each(|name| insert_program(&mut files, name));
    let dockerfile = "FROM scratch\nCOPY root/ /\nWORKDIR /home/alice\n\
                      RUN mkdir /tmp && chmod 1777 /tmp && chown 1000:1000 /home/alice\n\
                      USER alice\n";
    files.insert("Dockerfile", dockerfile.as_bytes(), false);
    let image = bench.build(files).await.unwrap();
    let sandbox = bench.driver.create(&image, &bench.spec("1.1.agent")).await.unwrap();
    let shell: Arc<dyn Shell> = Arc::new(sandbox.clone());
    let settings = |agent: &str| HandsSettings {
        user: None,
        cwd: "/home/alice".to_owned(),
        scratch: scratch(agent),
        observation_chars_max: 4000,
        changes: ChangeLock::default(),
    };
    let hands: CoderHands = Hands::new(shell.clone(), settings("1"), Notes::default());

    let path = "src/main.rs".to_owned();
    let content = "fn main() {\n    let x = 1;\n}\n".to_owned();
    let seen = change(&hands, &Change::Write { path: path.clone(), content }).await;
    assert_eq!(seen, "src/main.rs: a new file, 3 lines, 29 bytes");
    let edits = vec![Edit { old: "x = 1".into(), new: "x = 2".into(), replace_all: false }];
    let seen = change(&hands, &Change::Edit { path: path.clone(), edits }).await;
    assert!(seen.contains("-    let x = 1;\n+    let x = 2;"), "{seen}");
    let read = Tool::Read(ReadFile { path: path.clone(), offset: Some(2), limit: Some(1) });
    assert!(tool(&hands, &read).await.starts_with("     2\t    let x = 2;\n"));
    let seen = tool(&hands, &Tool::Metadata { paths: vec![path.clone()] }).await;
    assert!(seen.contains("29 bytes, mode 644, owner alice:alice") && seen.ends_with("3 lines"));
    let grep = Search::Grep { pattern: r"x = \d".into(), path: None, include: Some("*.rs".into()) };
    let seen = tool(&hands, &Tool::Search(grep)).await;
    assert!(seen.contains("src/main.rs (1)\n  2:    let x = 2;"), "{seen}");
    let glob = Search::Glob { pattern: "**/*.rs".into(), path: None };
    assert_eq!(tool(&hands, &Tool::Search(glob)).await, "1 path\nsrc/main.rs\n");
    let (path, content) = ("look.sh".to_owned(), "#!/bin/sh\necho looked\n".to_owned());
    tool(&hands, &Tool::WriteTempScript { path, content }).await;
    assert_eq!(tool(&hands, &bash("/tmp/orcapack-1/look.sh")).await, "looked");
    assert_eq!(tool(&hands, &bash("pwd; exit 3")).await, "[exit code 3]\n/home/alice");
    let job = Bash { cmd: "seq 3; exit 2".to_owned(), block: false, timeout: None };
    let mut seen = tool(&hands, &Tool::Bash(job)).await;
    while !seen.contains("[job 1 ended (exit code 2)") {
        seen = tool(&hands, &bash("true")).await;
    }
    let operations = vec![TodoOperation::Add { content: "test it".to_owned() }];
    let seen = tool(&hands, &Tool::Todo(Todo { operations, view_all: true })).await;
    assert!(seen.contains("[ ] 1 test it"), "{seen}");

    let explorer: ExplorerHands = Hands::new(shell.clone(), settings("2"), Notes::default());
    let seen = explorer.tool(&bash("cat src/main.rs"), SOON).await.unwrap();
    assert!(seen.text.contains("let x = 2;"), "{}", seen.text);
    let seen = explorer.tool(&bash("rm src/main.rs; touch $TMPDIR/x && ls $TMPDIR"), SOON).await;
    let seen = seen.unwrap().text;
    assert!(seen.starts_with("x\nstderr:\nrm: ") && seen.contains("denied"), "{seen}");

    let agent = AgentShell {
        shell,
        user: None,
        cwd: "/home/alice".to_owned(),
        writable_only: None,
        env: BTreeMap::new(),
    };
    let seen = snapshot::take(&agent, &bench.spec("hands").limits).await.unwrap();
    assert!(seen.starts_with("## System\nuser alice, working folder /home/alice\n"), "{seen}");
    assert!(seen.contains("src/main.rs\n") && !seen.contains("green"), "{seen}");
    let wanted = Bootstrap { path: "src".to_owned(), reason: "the program".to_owned() };
    let seen = bootstrap::contents(&agent, &[wanted], 2000, SOON).await.unwrap();
    assert!(seen.contains("### src (the program)\n```\nsrc/main.rs\n--- src/main.rs\nfn main"));
    bench.sweep().await;
}
