//! Services: the port that one listens on, and a script that starts and stops one.

use crate::generate::Difficulty::{Hard, Medium};
use crate::generate::families::programs::{THING, TOOL, filled};
use crate::generate::template::{Made, Template, has, output, write};

pub(super) const PORT: Template = Template {
    name: "port",
    difficulty: Medium,
    parameters: &[TOOL, THING, THING],
    phrasings: &[
        "{0}.py is a small server: it answers each connection with a greeting and a line end, \
         then closes it. Its port and greeting are fixed. Change it to read them from {1}.ini in \
         the folder where it is started, keys port and greeting of the section [{2}]. If the \
         environment variable PORT is set and not empty, that is the port instead. It listens on \
         127.0.0.1.",
        "Make the server {0}.py configurable. It should take its port and its greeting from the \
         section {2} of {1}.ini (keys port and greeting; the file is in the current folder), \
         unless the environment has a PORT that is not empty, which goes before the port of the \
         file. As now, it listens on 127.0.0.1 and sends the greeting and a newline to whoever \
         connects, then closes the connection.",
        "The server {0}.py ignores its settings. Repair it: on start it has to read {1}.ini in \
         its working directory, and use port and greeting as given there under [{2}], not those \
         of other sections. A nonempty environment variable PORT overrides the port. It keeps \
         listening on 127.0.0.1, and each client gets the greeting followed by a newline before \
         the connection is closed.",
    ],
    make: |values, random| {
        let (tool, file, section) = (format!("{}.py", values[0]), values[1], values[2]);
        let ini = format!("{file}.ini");
        let ports: Vec<String> = random
            .some(&(0..400).collect::<Vec<usize>>(), 6)
            .into_iter()
            .map(|at| (20_000 + at).to_string())
            .collect();
        let settings = |port: &str, other: &str, greeting: &str| {
            format!(
                "[un{section}]\nport = {other}\ngreeting = wrong\n\n[{section}]\ngreeting = \
                 {greeting}\nport = {port}\n\n[last]\nport = {other}\ngreeting = wrong"
            )
        };
        let of = |imports: &str, read: &str| {
            filled(
                r#"
@importsimport socketserver

@read


class Greeter(socketserver.BaseRequestHandler):
    def handle(self):
        self.request.sendall((greeting + "\n").encode())


socketserver.TCPServer.allow_reuse_address = True
with socketserver.TCPServer(("127.0.0.1", port), Greeter) as server:
    server.serve_forever()
"#,
                &[("@imports", imports), ("@read", read.trim_matches('\n'))],
            )
        };
        let marks = [("@ini", &*ini), ("@section", section)];
        let read = filled(
            "
config = configparser.ConfigParser()
config.read(\"@ini\")
section = config[\"@section\"]
port = int(os.environ.get(\"PORT\") or section[\"port\"])
greeting = section[\"greeting\"]
",
            &marks,
        );
        // The first port in the file.
        let near = filled(
            "
text = open(\"@ini\").read()
port = int(os.environ.get(\"PORT\") or re.search(r\"port *= *(\\d+)\", text)[1])
greeting = re.search(r\"\\[@section\\]\\s+greeting *= *(.*)\", text)[1]
",
            &marks,
        );
        let seen = settings(&ports[0], &ports[1], "good day");
        let check = filled(
            r#"
import os, socket, subprocess, time
os.makedirs("/tmp/here", exist_ok=True)
os.chdir("/tmp/here")
def answer(settings, port, environment):
    with open("@ini", "w") as file:
        file.write(settings)
    env = {name: value for name, value in os.environ.items() if name != "PORT"}
    server = subprocess.Popen(["python3", "/app/@tool"], env={**env, **environment})
    try:
        for _ in range(60):
            time.sleep(0.1)
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=2) as client:
                    return client.makefile().read()
            except ConnectionRefusedError:
                pass
    finally:
        server.kill()
        server.wait()
one = """@one"""
two = """@two"""
three = """@three"""
assert answer(one, @p2, {}) == "good evening\n"
assert answer(two, @p3, {}) == "hello you\n"
assert answer(two, @p4, {"PORT": "@p4"}) == "hello you\n"
assert answer(three, @p5, {"PORT": ""}) == "so long\n"
print("right")
"#,
            &[
                ("@one", &*settings(&ports[2], &ports[1], "good evening")),
                ("@two", &settings(&ports[3], &ports[1], "hello you")),
                ("@three", &settings(&ports[5], &ports[1], "so long")),
                ("@ini", &ini),
                ("@tool", &tool),
                ("@p2", &ports[2]),
                ("@p3", &ports[3]),
                ("@p4", &ports[4]),
                ("@p5", &ports[5]),
            ],
        );
        let fixed_port = |port: &str| of("", &format!("port = {port}\ngreeting = \"good day\""));
        Made {
            start: vec![has(&tool, &fixed_port("8000")), has(&ini, &seen)],
            hidden: vec![has("check.py", &check)],
            end: vec![output("timeout 25 python3 /tests/check.py", "right")],
            solution: vec![write(&tool, &of("import configparser\nimport os\n", &read))],
            hard_coded: vec![write(&tool, &fixed_port(&ports[0]))],
            near_miss: vec![write(&tool, &of("import os\nimport re\n", &near))],
            ..Made::default()
        }
    },
};

pub(super) const PIDFILE: Template = Template {
    name: "pidfile",
    difficulty: Hard,
    parameters: &[TOOL, THING, THING],
    phrasings: &[
        "Write /app/{0}.sh, which controls the program /app/{1}.sh by a PID file /app/{2}.pid. \
         bash {0}.sh start runs bash {1}.sh in the background, puts its PID into the file, \
         prints started and returns at once; if it runs already, it prints already running, \
         starts nothing and ends with 1. stop ends the program with TERM, waits until it is \
         gone, removes the PID file and prints stopped; if it does not run: not running and \
         status 1. status prints running, or not running with status 1. It runs if the process \
         of the PID in the file is there; a PID file left by one that is gone counts as not \
         running, and stop removes it. Other statuses are 0.",
        "The program {1}.sh in /app never ends by itself. Make a script {0}.sh in /app with \
         three commands. start: start it in the background with bash, write the PID to \
         /app/{2}.pid, print started, do not wait. stop: send it TERM, wait for its end, delete \
         /app/{2}.pid, print stopped. status: print running. Exit status 0 so far. When start \
         finds it running: print already running, exit with 1, do nothing else. When stop or \
         status find it is not running: print not running, exit with 1. A PID file whose process \
         no longer exists means not running; start then works as usual, and stop deletes the \
         file.",
        "We need a control script: /app/{0}.sh start|stop|status for /app/{1}.sh, with the PID \
         in /app/{2}.pid. It prints one line each time. start launches bash {1}.sh in the \
         background, records its PID, says started and returns immediately; already running \
         (status 1, no second process) if the recorded process exists. stop terminates it by \
         SIGTERM, waits till it no longer exists, deletes the PID file and says stopped; else \
         not running with status 1. status says running (0) or not running (1). If the recorded \
         process is dead, the program is not running: start replaces the stale PID file, stop \
         removes it.",
    ],
    make: |values, random| {
        let (tool, program, pid) = (
            format!("{}.sh", values[0]),
            format!("{}.sh", values[1]),
            format!("{}.pid", values[2]),
        );
        let beats = random.within(2..=5);
        let worker = format!(
            "#!/bin/bash\n# Each start leaves its PID in a file.\necho $$ >> /app/starts.txt\n\
             while true; do\n  sleep 0.{beats}\ndone"
        );
        let of = |runs: &str| {
            filled(
                r#"
#!/bin/bash
# Usage: @tool start|stop|status
file=/app/@pid
runs() {
  @runs
}
case $1 in
  start)
    if runs; then
      echo "already running"
      exit 1
    fi
    nohup bash /app/@program > /dev/null 2>&1 < /dev/null &
    echo $! > $file
    echo started
    ;;
  stop)
    if ! runs; then
      rm -f $file
      echo "not running"
      exit 1
    fi
    pid=$(cat $file)
    kill "$pid"
    while kill -0 "$pid" 2> /dev/null; do
      sleep 0.1
    done
    rm -f $file
    echo stopped
    ;;
  status)
    if ! runs; then
      echo "not running"
      exit 1
    fi
    echo running
    ;;
esac
"#,
                &[("@tool", &*tool), ("@pid", &pid), ("@program", &program), ("@runs", runs)],
            )
        };
        let fixed = of("[ -f $file ] && kill -0 \"$(cat $file)\" 2> /dev/null");
        let near = of("[ -f $file ]");
        let check = filled(
            r#"
import os, subprocess, time
os.chdir("/app")
for name in ("@pid", "starts.txt"):
    if os.path.exists(name):
        os.remove(name)
def call(word, line, status):
    with open("/tmp/said", "w+") as said:
        done = subprocess.run(["bash", "/app/@tool", word], stdin=subprocess.DEVNULL,
                              stdout=said, stderr=subprocess.DEVNULL, timeout=8)
        said.seek(0)
        text = said.read()
    assert text.strip() == line and done.returncode == status, (word, text, done.returncode)
def starts(count):
    for _ in range(50):
        pids = open("starts.txt").read().split() if os.path.exists("starts.txt") else []
        if len(pids) >= count:
            break
        time.sleep(0.1)
    assert len(pids) == count, pids
    return pids
def alive(pid):
    try:
        return open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
call("status", "not running", 1)
call("stop", "not running", 1)
call("start", "started", 0)
first = starts(1)[0]
assert open("@pid").read().strip() == first and alive(first)
call("status", "running", 0)
call("start", "already running", 1)
time.sleep(0.5)
assert starts(1) == [first] and alive(first)
assert open("@pid").read().strip() == first
call("stop", "stopped", 0)
assert not alive(first) and not os.path.exists("@pid")
call("status", "not running", 1)
gone = subprocess.run(["bash", "-c", "echo $$"], capture_output=True, text=True).stdout
for word in ("status", "stop"):
    with open("@pid", "w") as file:
        file.write(gone)
    call(word, "not running", 1)
assert not os.path.exists("@pid")
with open("@pid", "w") as file:
    file.write(gone)
call("start", "started", 0)
second = starts(2)[1]
assert open("@pid").read().strip() == second and alive(second)
call("stop", "stopped", 0)
assert not alive(second)
print("right")
"#,
            &[("@tool", &*tool), ("@pid", &pid)],
        );
        let talk = "#!/bin/bash\ncase $1 in\n  start) echo started ;;\n  stop) echo stopped ;;\n  \
                    status) echo running ;;\nesac";
        Made {
            start: vec![has(&program, &worker)],
            hidden: vec![has("check.py", &check)],
            end: vec![output("timeout 25 python3 /tests/check.py", "right")],
            solution: vec![write(&tool, &fixed)],
            hard_coded: vec![write(&tool, talk)],
            near_miss: vec![write(&tool, &near)],
            ..Made::default()
        }
    },
};
