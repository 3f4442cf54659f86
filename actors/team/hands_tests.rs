//! Hands in a live sandbox.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::{BoxFuture, join_all};
use orcapack_tasks::outcome::FailureClass;

use super::*;
use crate::sandbox::{ExecId, ExecOutput, ExecProgress, ExecRequest, Sandbox};
use crate::team::action::{Bash, Edit, ReadFile, Search};
use crate::team::inside_tests::{Inside, LEFT};

fn bash(cmd: &str) -> Tool {
    Tool::Bash(Bash { cmd: cmd.to_owned(), block: true, timeout: None })
}

fn read(path: &str, offset: Option<u64>, limit: Option<u64>) -> Tool {
    Tool::Read(ReadFile { path: path.to_owned(), offset, limit })
}

fn grep(pattern: &str, path: Option<&str>, include: Option<&str>) -> Tool {
    let (path, include) = (path.map(str::to_owned), include.map(str::to_owned));
    Tool::Search(Search::Grep { pattern: pattern.to_owned(), path, include })
}

fn glob(pattern: &str, path: Option<&str>) -> Tool {
    let path = path.map(str::to_owned);
    Tool::Search(Search::Glob { pattern: pattern.to_owned(), path })
}

fn write(path: &str, content: &str) -> Change {
    Change::Write { path: path.to_owned(), content: content.to_owned() }
}

fn edit(path: &str, old: &str, new: &str) -> Change {
    let edit = Edit { old: old.to_owned(), new: new.to_owned(), replace_all: false };
    Change::Edit { path: path.to_owned(), edits: vec![edit] }
}

impl<C: Access> Hands<C> {
    async fn saw(&self, tool: &Tool) -> String {
        self.tool(tool, LEFT).await.unwrap().text
    }

    async fn refusal(&self, tool: &Tool) -> String {
        let observation = self.tool(tool, LEFT).await.unwrap();
        assert!(!observation.done, "{}", observation.text);
        observation.text
    }
}

impl CoderHands {
    async fn changed(&self, change: &Change) -> String {
        let observation = self.change(change, LEFT).await.unwrap();
        assert!(observation.done, "{}", observation.text);
        observation.text
    }

    async fn unchanged(&self, change: &Change) -> String {
        let observation = self.change(change, LEFT).await.unwrap();
        assert!(!observation.done, "{}", observation.text);
        observation.text
    }
}

#[tokio::test]
async fn commands_start_in_the_working_folder_and_tell_how_they_ended() {
    let inside = Inside::new("commands").await;
    let hands = inside.coder();
    assert_eq!(hands.saw(&bash("pwd; echo $BASH | grep -c bash")).await, "/work\n1");
    let seen = hands.saw(&bash("echo out; echo err >&2; exit 3")).await;
    assert_eq!(seen, "[exit code 3]\nout\nstderr:\nerr");
    let seen = hands.saw(&bash("cd /etc")).await;
    assert!(seen.contains("starts in /work again"), "{seen}");
    assert_eq!(hands.saw(&bash("cd /etc && pwd")).await, "/etc");
    let seen = hands.saw(&bash("printf '\\033[31mred\\033[0m caf\\351'; seq 100000")).await;
    assert!(seen.starts_with("red caf\u{fffd}1\n2\n") && seen.ends_with("99999\n100000"));
    assert!(seen.contains("cut ...]") && seen.chars().count() <= 4000);
    let slow = Tool::Bash(Bash {
        cmd: "echo begun; sleep 600 & sleep 600".to_owned(),
        block: true,
        timeout: Some(Duration::from_secs(1)),
    });
    let seen = hands.saw(&slow).await;
    assert!(seen.starts_with("[killed at its time limit of 1 s") && seen.ends_with("begun"));
    // Of little time a command gets less, so that something is left for a report.
    let observation = hands.tool(&bash("sleep 600"), Duration::from_secs(6)).await.unwrap();
    assert!(observation.text.contains("time limit of 1 s"), "{}", observation.text);
    assert_eq!(inside.out("pgrep -c sleep || true").await, "0\n");
    inside.end().await;
}

#[tokio::test]
async fn what_becomes_of_a_background_command_is_told_after_later_actions() {
    let inside = Inside::new("background").await;
    let hands = inside.coder();
    let cmd = "echo waiting; until [ -e go ]; do sleep 0.01; done; echo gone; exit 4";
    let start = Tool::Bash(Bash { cmd: cmd.to_owned(), block: false, timeout: None });
    let mut seen = hands.saw(&start).await;
    assert!(seen.starts_with("[job 1 started in the background"), "{seen}");
    while !seen.contains("[job 1 runs; 8 new characters]\nwaiting") {
        seen = hands.saw(&bash("true")).await;
    }
    assert_eq!(hands.saw(&bash("true")).await, "[no output]");
    // Another actor goes on with the same hands.
    let hands = hands.clone();
    // The last words may come before the end, or with it.
    seen = hands.saw(&bash("touch go")).await;
    while !seen.contains("[job 1 ended (exit code 4)") {
        seen += &hands.saw(&bash("true")).await;
    }
    assert_eq!(seen.matches("gone").count(), 1, "{seen}");
    assert_eq!(hands.saw(&bash("true")).await, "[no output]");
    assert!(hands.jobs().await.concat().starts_with("job 1 ended (exit code 4): echo waiting;"));
    let forever = Bash { cmd: "sleep 47111".to_owned(), block: false, timeout: None };
    hands.saw(&Tool::Bash(forever)).await;
    hands.stop_jobs().await.unwrap();
    assert_eq!(hands.saw(&bash("pgrep -cf '^sleep 47111' || true")).await, "0");
    inside.end().await;
}

#[tokio::test]
async fn files_are_read_in_numbered_lines_within_the_bound() {
    let inside = Inside::new("read").await;
    let hands = inside.coder();
    inside.out("seq 1000 >n; printf 'a\\r\\nb\\r\\n' >crlf; printf 'a\\0b' >bin; : >empty").await;
    inside.out("printf 'caf\\351' >latin; mkfifo pipe; ln -s nowhere dangling; mkdir -p d/e").await;
    inside.out("printf 'x%.0s' {1..5000} >long; echo text >d/main.rs").await;
    let seen = hands.saw(&read("n", Some(10), Some(2))).await;
    assert_eq!(seen, "    10\t10\n    11\t11\n[lines 10 to 11 of 1000; for more: offset 12]\n");
    let seen = hands.saw(&read("/work/n", None, None)).await;
    assert!(seen.chars().count() <= 4000 && !seen.contains("cut"), "{seen}");
    let more = seen.rsplit("offset ").next().unwrap().trim_end_matches("]\n").parse().unwrap();
    let next = hands.saw(&read("n", Some(more), Some(1))).await;
    assert!(next.starts_with(&format!("{more:>6}\t{more}\n")), "{next}");
    let seen = hands.saw(&read("n", Some(1000), None)).await;
    assert_eq!(seen, "  1000\t1000\n[lines 1000 to 1000, the end of the file]\n");
    assert!(hands.refusal(&read("n", Some(1001), None)).await.contains("it has 1000 lines only"));
    assert!(hands.saw(&read("crlf", None, None)).await.contains("2\tb\n[lines end with CR LF]"));
    assert!(hands.saw(&read("latin", None, None)).await.contains("[not UTF-8"));
    assert!(hands.refusal(&read("bin", None, None)).await.contains("a binary file of 3 bytes"));
    assert_eq!(hands.saw(&read("empty", None, None)).await, "[an empty file]");
    assert!(hands.saw(&read("long", None, None)).await.contains("characters cut ...]"));
    assert!(hands.refusal(&read("pipe", None, None)).await.contains("a fifo"));
    assert!(hands.refusal(&read("dangling", None, None)).await.contains("a link to nowhere"));
    let seen = hands.saw(&read("d", None, None)).await;
    assert_eq!(seen, "d is a folder, 2 names:\ne/\nmain.rs");
    let seen = hands.refusal(&read("d/mian.rs", None, None)).await;
    assert_eq!(seen, "d/mian.rs: no such file or folder; did you mean \"main.rs\" there?");
    assert!(hands.refusal(&read("x/y/z", None, None)).await.contains("there is . only"));
    assert!(hands.refusal(&read("~/x", None, None)).await.contains("~ is not expanded"));
    let paths = ["n", "bin", "d", "dangling", "gone"].map(str::to_owned).to_vec();
    let seen = hands.saw(&Tool::Metadata { paths }).await;
    let lines: Vec<&str> = seen.lines().collect();
    assert!(lines[0].starts_with("n: regular file, 3893 bytes, mode 644, owner root:root, mod"));
    assert!(lines[0].ends_with(", text of 1000 lines") && lines[1].ends_with(", binary"));
    assert!(lines[2].ends_with(", 2 entries") && lines[3].ends_with(", links to nowhere"));
    assert_eq!(lines[4], "gone: does not exist");
    inside.end().await;
}

#[tokio::test]
async fn writing_replaces_the_content_and_keeps_everything_else() {
    let inside = Inside::new("write").await;
    let hands = inside.coder();
    let seen = hands.changed(&write("a/b/new.txt", "one\n")).await;
    assert_eq!(seen, "a/b/new.txt: a new file, 1 line, 4 bytes");
    inside.out("umask 077; echo old >run.sh; chown 12:34 run.sh; chmod 4755 run.sh").await;
    inside.out("ln -s ../run.sh a/link; echo old >first; ln first second").await;
    let seen = hands.changed(&write("a/link", "new\n")).await;
    assert_eq!(seen, "a/link: replaced, 1 line, 4 bytes (it had 4 bytes)");
    hands.changed(&edit("first", "old", "new")).await;
    let stat = "cat run.sh first second; stat -c '%F %a %u:%g' a/link run.sh a/b/new.txt";
    let kept = "symbolic link 777 0:0\nregular file 4755 12:34\nregular file 644 0:0\n";
    assert_eq!(inside.out(stat).await, format!("new\nnew\nnew\n{kept}"));
    let large = "line\n".repeat(300_000);
    hands.changed(&write("large", &large)).await;
    assert_eq!(
        inside.out("wc -lc <large").await.split_whitespace().collect::<Vec<_>>(),
        ["300000", "1500000"]
    );
    assert!(hands.unchanged(&write("a", "x")).await.contains("it is a folder"));
    assert!(hands.unchanged(&write("first/x", "x")).await.contains("first"));
    assert!(hands.unchanged(&write("/dev/null", "x")).await.contains("not a regular file"));
    let strange = "-rf $(touch owned) \"'`.txt";
    hands.changed(&write(strange, "x")).await;
    assert!(hands.saw(&read(strange, None, None)).await.contains("1\tx"));
    assert_eq!(
        inside.out("ls -A /work | grep -cx -e '.*orcapack.*' -e owned || true").await,
        "0\n"
    );
    inside.end().await;
}

#[tokio::test]
async fn an_agent_changes_what_its_user_may_and_no_more() {
    let inside = Inside::new("users").await;
    inside.out("echo old >theirs; chmod 600 theirs; echo old >shared; chmod 666 shared").await;
    inside.out("mkdir own; chown 1000:1000 own; chmod 755 .").await;
    let hands = inside.coder_with(Arc::new(inside.sandbox.clone()), Some("1000:1000"));
    assert!(hands.unchanged(&write("theirs", "x")).await.contains("permission denied"));
    assert!(hands.unchanged(&write("fresh", "x")).await.contains("denied"));
    hands.changed(&edit("shared", "old", "new")).await;
    hands.changed(&write("own/file", "x")).await;
    let seen = inside.out("cat theirs shared; stat -c %u shared own/file; ls -A").await;
    assert_eq!(seen, "old\nnew\n0\n1000\nown\nshared\ntheirs\n");
    let script = Tool::WriteTempScript { path: "x.sh".to_owned(), content: "id -u".to_owned() };
    hands.saw(&script).await;
    assert_eq!(hands.saw(&bash("/tmp/orcapack-1/x.sh")).await, "1000");
    inside.end().await;
}

#[tokio::test]
async fn an_edit_shows_what_it_changed_and_a_failed_one_changes_nothing() {
    let inside = Inside::new("edit").await;
    let hands = inside.coder();
    inside.out("printf 'a\\nb\\nc\\n' >f; chmod 640 f; printf 'caf\\351\\nx\\n' >latin").await;
    let seen = hands.changed(&edit("f", "b", "B")).await;
    let diff = "@@ line 1 @@\n a\n-b\n+B\n c";
    assert_eq!(seen, format!("f: 1 edit done, 3 lines, 6 bytes now\n{diff}"));
    let edit_of =
        |old: &str, new: &str| Edit { old: old.into(), new: new.into(), replace_all: false };
    let edits = vec![edit_of("a", "A"), edit_of("nowhere", "x")];
    let seen = hands.unchanged(&Change::Edit { path: "f".to_owned(), edits }).await;
    assert!(seen.starts_with("f: edit 2 of 2: old_string does not occur"), "{seen}");
    hands.changed(&edit("latin", "x", "y")).await;
    assert!(hands.unchanged(&edit("gone", "x", "y")).await.contains("no such file"));
    let seen = inside.out("cat f; stat -c %a f; od -An -c latin").await;
    assert_eq!(seen, "a\nB\nc\n640\n   c   a   f 351  \\n   y  \\n\n");
    inside.end().await;
}

#[tokio::test]
async fn edits_of_one_file_by_agents_side_by_side_are_all_there_in_the_end() {
    let inside = Inside::new("parallel").await;
    let lines: Vec<String> = (0..24).map(|number| format!("line <{number}>")).collect();
    let coders = [inside.coder(), inside.coder(), inside.coder()];
    coders[0].changed(&write("f", &lines.join("\n"))).await;
    let edits = lines.iter().zip(coders.iter().cycle()).map(|(line, coder)| async move {
        coder.changed(&edit("f", line, &format!("{line} edited"))).await;
    });
    join_all(edits).await;
    assert_eq!(inside.out("grep -c edited f").await, "24\n");
    inside.end().await;
}

/// A shell that does something of its own before a certain command, as a coder's own programs may.
struct Meddler {
    inner: Arc<dyn Sandbox>,
    before: usize,
    script: &'static str,
    calls: AtomicUsize,
    requests: SyncMutex<Vec<ExecRequest>>,
}

impl Meddler {
    fn new(inside: &Inside, before: usize, script: &'static str) -> Arc<Self> {
        let (calls, requests) = (AtomicUsize::new(0), SyncMutex::default());
        Arc::new(Self { inner: inside.sandbox.clone(), before, script, calls, requests })
    }

    fn note(&self, request: &ExecRequest) {
        self.requests.lock().unwrap().push(request.clone());
    }
}

impl Shell for Meddler {
    fn exec(&self, request: ExecRequest) -> BoxFuture<'_, Result<ExecOutput, SandboxError>> {
        self.note(&request);
        Box::pin(async move {
            if self.calls.fetch_add(1, Ordering::SeqCst) == self.before {
                let meddling = ExecRequest::new(["sh", "-c", self.script], LEFT);
                Sandbox::exec(&*self.inner, &meddling).await?;
            }
            Sandbox::exec(&*self.inner, &request).await
        })
    }

    fn spawn(&self, request: ExecRequest) -> BoxFuture<'_, Result<ExecId, SandboxError>> {
        self.note(&request);
        Box::pin(async move { Sandbox::spawn(&*self.inner, &request).await })
    }

    fn poll(&self, id: ExecId) -> BoxFuture<'_, Result<ExecProgress, SandboxError>> {
        Sandbox::poll(&*self.inner, id)
    }

    fn kill(&self, id: ExecId) -> BoxFuture<'_, Result<(), SandboxError>> {
        Sandbox::kill(&*self.inner, id)
    }
}

#[tokio::test]
async fn what_a_program_wrote_meanwhile_is_not_overwritten_by_an_edit() {
    let inside = Inside::new("meanwhile").await;
    inside.out("echo old >/work/f").await;
    for (script, why, content) in [
        ("echo theirs >>/work/f", "changed meanwhile", "old\ntheirs\n"),
        ("mv /work/f /work/g", "removed meanwhile", ""),
    ] {
        let meddler = Meddler::new(&inside, 1, script);
        let hands = inside.coder_with(meddler, None);
        let seen = hands.unchanged(&edit("f", "old", "new")).await;
        assert!(seen.contains(why), "{seen}");
        assert_eq!(inside.out("cat f 2>/dev/null || true").await, content);
    }
    inside.end().await;
}

#[tokio::test]
async fn all_that_an_explorer_runs_may_write_to_its_scratch_folder_only() {
    let inside = Inside::new("explorer").await;
    let meddler = Meddler::new(&inside, usize::MAX, "");
    let hands: ExplorerHands = Hands::new(meddler.clone(), inside.settings(None), Notes::default());
    let job = Bash { cmd: "true".to_owned(), block: false, timeout: None };
    let tools = [
        bash("echo $TMPDIR"),
        Tool::Bash(job),
        read("/etc/passwd", None, None),
        Tool::Metadata { paths: vec!["/".to_owned()] },
        grep("x", Some("/etc/passwd"), None),
        glob("/etc/*", None),
        Tool::WriteTempScript { path: "x.sh".to_owned(), content: String::new() },
    ];
    for tool in &tools {
        hands.tool(tool, LEFT).await.unwrap();
    }
    let requests = std::mem::take(&mut *meddler.requests.lock().unwrap());
    assert!(requests.len() >= tools.len());
    for request in &requests {
        assert_eq!(request.writable_only.as_deref(), Some("/tmp/orcapack-1"));
        assert_eq!(request.env["TMPDIR"], "/tmp/orcapack-1");
    }
    inside.end().await;
}

#[tokio::test]
async fn an_explorer_reads_and_runs_but_changes_nothing_outside_of_its_scratch_folder() {
    let inside = Inside::new("confined").await;
    inside.out("echo text >f; chmod 777 . f; git init -q .").await;
    for user in [None, Some("1000:1000")] {
        let agent = format!("of-{}", user.unwrap_or("root").trim_end_matches(":1000"));
        let settings = HandsSettings { scratch: scratch(&agent), ..inside.settings(user) };
        let shell = Arc::new(inside.sandbox.clone());
        let hands: ExplorerHands = Hands::new(shell, settings, Notes::default());
        for cmd in ["echo x >f", "rm f", "mv f g", "touch new", "mkdir d", "chmod 600 f"] {
            let seen = hands.saw(&bash(cmd)).await;
            assert!(seen.starts_with("[exit code 1]\nstderr:\n"), "{cmd}: {seen}");
        }
        let seen = hands.saw(&bash("cat f; python3 -c 'import tempfile as t; t.mkstemp()'")).await;
        assert_eq!(seen, "text");
        assert!(hands.saw(&read("f", None, None)).await.contains("1\ttext"));
        assert!(hands.saw(&grep("te.t", None, None)).await.contains("f (1)\n  1:text"));
        assert_eq!(hands.saw(&glob("*", None)).await, "1 path\nf\n");
        let metadata = Tool::Metadata { paths: vec!["f".to_owned()] };
        assert!(hands.saw(&metadata).await.contains("text of 1 lines"));
        let (path, content) = ("a/x.sh".to_owned(), "#!/bin/sh\necho ran".to_owned());
        hands.saw(&Tool::WriteTempScript { path, content }).await;
        assert_eq!(hands.saw(&bash("$TMPDIR/a/x.sh")).await, "ran");
        let job = Bash { cmd: "echo x >g".to_owned(), block: false, timeout: None };
        let mut seen = hands.saw(&Tool::Bash(job)).await;
        while !seen.contains("[job 1 ended (exit code 1)") {
            seen = hands.saw(&bash("true")).await;
        }
        assert_eq!(inside.out("ls; cat f; stat -c %a f").await, "f\ntext\n777\n");
    }
    inside.end().await;
}

#[tokio::test]
async fn lines_and_paths_are_found() {
    let inside = Inside::new("search").await;
    let hands = inside.coder();
    inside.out("mkdir -p src/deep .git; echo 'fn alpha() { 12 }' >src/a.rs").await;
    inside.out("printf 'x\\nfn beta(){}\\nfn Gamma(){}\\n' >src/deep/b.rs; cp src/a.rs .git").await;
    inside.out("printf 'fn bin\\0' >src/bin; echo 'fn py' >c.py; seq 3000 >n").await;
    let seen = hands.saw(&grep(r"^fn \w+\(", None, None)).await;
    let found = "src/a.rs (1)\n  1:fn alpha() { 12 }\n\
                 src/deep/b.rs (2)\n  2:fn beta(){}\n  3:fn Gamma(){}\n";
    assert_eq!(seen, format!("3 matching lines in 2 files of 5 files\n{found}"));
    let seen = hands.saw(&grep("(?i)gamma", Some("src"), Some("deep/*.{rs,c}"))).await;
    assert_eq!(seen, "1 matching line in 1 file of 1 file\nsrc/deep/b.rs (1)\n  3:fn Gamma(){}\n");
    let seen = hands.saw(&grep(r"\d{2}", Some("src/a.rs"), None)).await;
    assert!(seen.contains("1:fn alpha"), "{seen}");
    assert_eq!(hands.saw(&grep("zzz", None, None)).await, "no line matches in 5 files\n");
    let seen = hands.saw(&grep(r"\d", Some("n"), None)).await;
    assert!(seen.contains("n (200, or more)") && seen.chars().count() <= 4000, "{seen}");
    assert!(hands.refusal(&grep("a(b", None, None)).await.starts_with("pattern \"a(b\": "));
    assert!(hands.refusal(&grep("(?=x)", None, None)).await.contains("(?:...) only"));
    assert!(hands.refusal(&grep("x", Some("gone"), None)).await.contains("no such file or folder"));
    assert_eq!(hands.saw(&glob("**/*.rs", None)).await, "2 paths\nsrc/a.rs\nsrc/deep/b.rs\n");
    assert_eq!(hands.saw(&glob("src/*.rs", None)).await, "1 path\nsrc/a.rs\n");
    assert_eq!(
        hands.saw(&glob("*.rs", Some("/work/src/deep"))).await,
        "1 path\n\
         /work/src/deep/b.rs\n"
    );
    assert_eq!(hands.saw(&glob("/work/*.py", None)).await, "1 path\n/work/c.py\n");
    assert!(hands.saw(&glob("*.nope", None)).await.starts_with("no path matches"));
    assert!(hands.refusal(&glob("a[", None)).await.contains("glob"));
    inside.end().await;
}

#[tokio::test]
async fn scripts_are_written_to_the_scratch_folder_and_nowhere_else() {
    let inside = Inside::new("scripts").await;
    let hands = inside.coder();
    let script = |path: &str| Tool::WriteTempScript {
        path: path.to_owned(),
        content: "#!/bin/sh\necho ran\n".to_owned(),
    };
    let seen = hands.saw(&script("probe/look.sh")).await;
    assert!(seen.starts_with("/tmp/orcapack-1/probe/look.sh: written, executable"), "{seen}");
    assert_eq!(hands.saw(&bash("/tmp/orcapack-1/probe/look.sh")).await, "ran");
    assert!(hands.saw(&script("/tmp/orcapack-1/b.sh")).await.starts_with("/tmp/orcapack-1/b.sh"));
    for path in ["../x", "a/../../x", "/etc/x", "", "/tmp/orcapack-12/x", "."] {
        hands.refusal(&script(path)).await;
    }
    let seen = inside.out("ls -d /tmp/*; ls /tmp/orcapack-1").await;
    assert_eq!(seen, "/tmp/orcapack-1\nb.sh\nprobe\n");
    inside.end().await;
}

#[tokio::test]
async fn a_failed_environment_is_an_error_and_notes_need_none() {
    let inside = Inside::new("failed").await;
    let hands = inside.coder();
    inside.sandbox.remove().await.unwrap();
    let error = hands.tool(&bash("true"), LEFT).await.expect_err("there is nothing to run it in");
    assert_eq!(error.class, FailureClass::ExecTransport);
    let error = hands.change(&write("f", "x"), LEFT).await.expect_err("nor a file to write");
    assert_eq!(error.class, FailureClass::ExecTransport);
    let view = Tool::Scratchpad(crate::team::action::Scratchpad::View);
    assert_eq!(hands.saw(&view).await, "the scratchpad is empty");
}
