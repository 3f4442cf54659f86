//! Scripts that run commands and get signals.

use crate::generate::Difficulty::Medium;
use crate::generate::families::programs::{THING, TOOL, filled};
use crate::generate::template::{Made, Parameter, Template, has, holds, output, write};

pub(super) const RETRY: Template = Template {
    name: "retry",
    difficulty: Medium,
    parameters: &[TOOL, THING],
    phrasings: &[
        "bash {0}.sh N COMMAND... should run the command with its arguments, and again if it \
         does not end with status 0, but N times at most. It stops at the first success. Its \
         exit status is that of the last run, and it prints nothing of its own. Arguments with \
         spaces have to reach the command as they are. The script has mistakes; try bash {0}.sh \
         3 bash {1}.sh, which succeeds at the third run. Repair it.",
        "Fix {0}.sh, which retries a command: the first argument is the greatest number of runs \
         (1 or more), the rest is the command and its arguments, to be passed on unchanged, \
         spaces included. It is to run the command until that succeeds, never more often than \
         allowed, and then end with the status of the command's last run. No output besides the \
         command's. For example, bash {0}.sh 3 bash {1}.sh should run {1}.sh three times and end \
         with 0.",
        "The script {0}.sh does not do its job, which is: {0}.sh N COMMAND ARGUMENT... starts \
         COMMAND up to N times in all, until a run ends with 0; when a run succeeds there is no \
         other. Whatever status the last run had is the status of {0}.sh. It keeps arguments \
         together that contain spaces and adds no output. {1}.sh is a command to try it with, as \
         in bash {0}.sh 3 bash {1}.sh: only its third run succeeds. Repair {0}.sh.",
    ],
    make: |values, random| {
        let (tool, example) = (format!("{}.sh", values[0]), format!("{}.sh", values[1]));
        let of = |runs: &str, command: &str, end: &str| {
            filled(
                r#"
#!/bin/bash
# Usage: @tool N COMMAND...
runs=$1
@shift
for run in $(seq @runs); do
  @command
@end
done
@last
"#,
                &[
                    ("@tool", &*tool),
                    ("@shift", if command == "\"$@\"" { "shift\nstatus=0" } else { "shift" }),
                    ("@runs", runs),
                    ("@command", command),
                    ("@end", end),
                    ("@last", if command == "\"$@\"" { "exit $status" } else { "exit 0" }),
                ],
            )
        };
        let stop = "  status=$?\n  [ $status = 0 ] && break";
        let broken = of("0 $runs", "$*", "  [ $? = 0 ] && break");
        let fixed = of("$runs", "\"$@\"", stop);
        let near = of("0 $runs", "\"$@\"", stop);
        let (wins, loses) = (random.within(3..=5), random.within(3..=6));
        let flaky = "#!/bin/bash\n# FILE SUCCESS STATUS TEXT: fails before run SUCCESS\n\
                     echo \"$4\" >> \"$1\"\n[ $(wc -l < \"$1\") -ge $2 ] || exit $3";
        let status = random.within(3..=90);
        let texts = |count: usize| vec!["a  b *"; count].join("\n");
        let run = |file: &str, most: usize, wins: usize, ends: usize| {
            format!(
                "timeout 5 bash {tool} {most} bash /tests/flaky.sh /tmp/{file} {wins} {status} \
                 'a  b *' > /tmp/said; [ $? = {ends} ] && [ ! -s /tmp/said ]"
            )
        };
        let tried = filled(
            "
#!/bin/bash
# Succeeds at each third run.
echo run >> @t.runs
[ $(( $(wc -l < @t.runs) % 3 )) = 0 ]
",
            &[("@t", values[1])],
        );
        Made {
            start: vec![has(&tool, &broken), has(&example, &tried)],
            hidden: vec![has("flaky.sh", flaky)],
            end: vec![
                holds("status of a success", &run("one", wins + 3, wins, 0)),
                output("cat /tmp/one", &texts(wins)),
                holds("status of a failure", &run("two", loses, 99, status)),
                output("cat /tmp/two", &texts(loses)),
                holds("success of the last run", &run("three", wins, wins, 0)),
                output("cat /tmp/three", &texts(wins)),
                holds("one run", &run("four", 1, 99, status)),
                output("cat /tmp/four", &texts(1)),
            ],
            solution: vec![write(&tool, &fixed)],
            hard_coded: vec![write(
                &tool,
                &format!("#!/bin/bash\nfor run in 1 2 3; do\n  bash {example}\ndone"),
            )],
            near_miss: vec![write(&tool, &near)],
            ..Made::default()
        }
    },
};

const JOB: Parameter = Parameter {
    values: &["import", "export", "backup", "report", "upload", "index", "cleanup", "mirror"],
};

pub(super) const TRAP: Template = Template {
    name: "trap",
    difficulty: Medium,
    parameters: &[TOOL, JOB],
    phrasings: &[
        "{0}.sh keeps a lock file {1}.lock, in the folder where it is started, while it works. \
         Its argument says how many rounds it works. Repair it: the lock must be gone when it \
         ends, be it by itself (then it prints done) or by the signals TERM or INT, which have \
         to end it within two seconds, with status 143 or 130. If {1}.lock is there already when \
         it starts, it prints locked, ends with status 1 at once, and leaves that file alone.",
        "When {0}.sh is stopped, its lock {1}.lock (in the current folder) is left, or it does \
         not even stop. Fix the script. On SIGTERM or SIGINT it should remove the lock and end \
         within two seconds with the usual status, 143 for TERM and 130 for INT. After its \
         rounds, whose number is the argument, it should remove the lock and print done. When \
         another run holds the lock, that is {1}.lock exists at the start, it is to print locked \
         and exit with 1 without touching the file.",
        "Fix how {0}.sh deals with its lock file {1}.lock. The script makes the file in the \
         current folder, works for as many rounds as its argument says, and prints done. The \
         file must be removed at the end, and also if a TERM or INT signal comes; the signal \
         then ends the script within two seconds (exit status 143 or 130). If the file exists \
         before, someone else works: print locked, exit with status 1, and do not remove it.",
    ],
    make: |values, random| {
        let (tool, lock) = (format!("{}.sh", values[0]), format!("{}.lock", values[1]));
        let pid = random.within(100..=999).to_string();
        let of = |first: &str, taken: &str, last: &str| {
            filled(
                r#"
#!/bin/bash
# Usage: @tool ROUNDS
lock=@lock@first
if [ -e $lock ]; then
  echo locked
  exit 1
fi
echo $$ > $lock@taken
for round in $(seq "$1"); do
  sleep 0.2
done@last
echo done
"#,
                &[
                    ("@tool", &*tool),
                    ("@lock", &lock),
                    ("@first", first),
                    ("@taken", taken),
                    ("@last", last),
                ],
            )
        };
        let clean = "\ntrap 'rm -f $lock' EXIT\ntrap 'exit 143' TERM\ntrap 'exit 130' INT";
        let broken = of("\ntrap 'rm -f $lock' TERM INT", "", "");
        let check = filled(
            r#"
import os, signal, subprocess, time
os.makedirs("/tmp/here", exist_ok=True)
os.chdir("/tmp/here")
def start(rounds):
    return subprocess.Popen(["bash", "/app/@tool", str(rounds)], stdout=subprocess.PIPE,
                            text=True, start_new_session=True)
def ended(process):
    status = process.wait(timeout=5)
    return 128 - status if status < 0 else status
for rounds in (0, 2):
    run = start(rounds)
    assert ended(run) == 0 and run.stdout.read() == "done\n" and not os.listdir()
for number, send in ((signal.SIGTERM, os.kill), (signal.SIGINT, os.killpg)):
    run = start(200)
    for _ in range(50):
        time.sleep(0.1)
        if os.path.exists("@lock"):
            break
    assert os.path.exists("@lock")
    time.sleep(0.5)
    assert os.path.exists("@lock") and run.poll() is None
    send(run.pid, number)
    assert ended(run) == 128 + number
    assert not os.listdir()
with open("@lock", "w") as file:
    file.write("@pid\n")
run = start(2)
assert ended(run) == 1 and run.stdout.read() == "locked\n"
assert open("@lock").read() == "@pid\n"
print("right")
"#,
            &[("@tool", &*tool), ("@lock", &lock), ("@pid", &pid)],
        );
        let quick = "#!/bin/bash\nif [ -e @lock ]; then\n  echo locked\n  exit 1\nfi\necho done";
        Made {
            start: vec![has(&tool, &broken)],
            hidden: vec![has("check.py", &check)],
            end: vec![output("timeout 20 python3 /tests/check.py", "right")],
            solution: vec![write(&tool, &of("", clean, ""))],
            hard_coded: vec![write(&tool, &filled(quick, &[("@lock", &lock)]))],
            near_miss: vec![write(&tool, &of(clean, "", ""))],
            ..Made::default()
        }
    },
};
