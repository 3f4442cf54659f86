import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import unittest

SUPERVISE = "/app/supervise"
LIMIT = 8

# Notes its process id in $1, then sleeps; goes on SIGTERM at once.
SLEEPER = 'echo $$ >> "$1"; exec sleep 60'
# $1: note of the main process, $2: of a child in the same group. The main process leaves on SIGTERM at once.
# The child takes 0.2 seconds to clean up, then writes "cleaned" into $3.
SLOW_CHILD = '''
bash -c 'trap "sleep 0.2; echo cleaned >> \\"$2\\"; exit" TERM; echo $$ >> "$1"; while :; do sleep 0.02; done' child "$2" "$3" &
while [ ! -s "$2" ]; do sleep 0.01; done
echo $$ >> "$1"
trap "exit 0" TERM
wait
'''
# The same, but the child ignores SIGTERM.
STUBBORN_CHILD = '''
bash -c 'trap "" TERM; echo $$ >> "$1"; while :; do sleep 0.02; done' child "$2" &
while [ ! -s "$2" ]; do sleep 0.01; done
echo $$ >> "$1"
exec sleep 60
'''


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", "rb") as f:
            return f.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False


def poll(condition, what):
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError(f"this did not happen in {LIMIT} seconds: {what}")


class PidfileSupervisor(unittest.TestCase):
    def setUp(self):
        self.dir = os.path.realpath(tempfile.mkdtemp(prefix="sup-"))
        self.addCleanup(shutil.rmtree, self.dir, True)
        self.pidfile = self.path("app.pid")
        self.notes = set()
        self.addCleanup(self.kill_noted)

    def kill_noted(self):
        for name in self.notes:
            for pid in self.pids(name):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass

    def path(self, name):
        return os.path.join(self.dir, name)

    def pids(self, name):
        """The process ids noted in this file."""
        self.notes.add(name)
        try:
            with open(self.path(name)) as f:
                return [int(line) for line in f.read().splitlines() if line.strip().isdigit()]
        except FileNotFoundError:
            return []

    def start(self, script, *names, options=(), pidfile=None):
        """Starts a supervisor of a bash script that gets paths of these names as arguments."""
        self.notes.update(names)
        process = subprocess.Popen(
            [SUPERVISE, "run", "--pidfile", pidfile or self.pidfile, *options, "--", "bash", "-c", script, "main", *map(self.path, names)],
            cwd=self.dir, stdin=subprocess.PIPE)
        # Reaps it at once, so that nobody sees a zombie.
        reaper = threading.Thread(target=process.wait, daemon=True)
        reaper.start()

        def end():
            process.kill()
            reaper.join(LIMIT)
            process.stdin.close()

        self.addCleanup(end)
        return process

    def ready(self, process, name, count=1):
        """Waits until the script has noted so many process ids; returns the last one."""
        def check():
            found = self.pids(name)
            if len(found) < count and process.poll() is not None:
                raise AssertionError(f"the supervisor ended with {process.returncode}")
            return found[count - 1] if len(found) >= count else None
        return poll(check, f"start number {count} of the command")

    def call(self, command, code, pidfile=None, cwd=None):
        done = subprocess.run([SUPERVISE, command, "--pidfile", pidfile or self.pidfile], capture_output=True, text=True, timeout=LIMIT,
                              cwd=cwd or self.dir)
        self.assertEqual(done.returncode, code, f"exit status of {command}; output: {done.stdout} {done.stderr}")
        return done.stdout.strip()

    def test_restarts_failed_commands_and_passes_on_the_last_status(self):
        count = 'echo $$ >> "$1"; n=$(wc -l < "$1"); '
        done = self.start(count + 'exit $((10 + n))', "a", options=["--max-restarts", "2"])
        self.assertEqual(done.wait(LIMIT), 13)
        self.assertEqual(len(self.pids("a")), 3)
        done = self.start(count + '[ $n = 3 ] && exit 0; kill -KILL $$', "b")
        self.assertEqual(done.wait(LIMIT), 0)
        self.assertEqual(len(self.pids("b")), 3)
        done = self.start(count + '[ -z "$(cat)" ] && kill -KILL $$', "c", options=["--max-restarts", "0"])
        self.assertEqual(done.wait(LIMIT), 137)
        done = subprocess.run([SUPERVISE, "run", "--pidfile", self.pidfile, "--", "no-such-program-x"], capture_output=True, timeout=LIMIT)
        self.assertEqual(done.returncode, 127)
        self.assertFalse(os.path.exists(self.pidfile), "the pid file must be removed")

    def test_leftovers_of_a_crashed_command_are_killed(self):
        crash = 'trap "" TERM; sleep 60 & echo $! >> "$1"; exit 5'
        self.assertEqual(self.start(crash, "children", options=["--max-restarts", "1", "--grace", "30"]).wait(LIMIT), 5)
        self.assertEqual(len(self.pids("children")), 2)
        poll(lambda: not any(map(alive, self.pids("children"))), "end of the children")

    def test_stop_waits_for_the_whole_group_and_kills_after_the_grace_time(self):
        process = self.start(SLOW_CHILD, "main", "child", "cleaned", options=["--grace", "12.5"])
        self.ready(process, "main")
        with open(self.pidfile) as f:
            self.assertEqual(f.read(), f"{process.pid}\n")
        self.assertEqual(self.call("status", 0), f"running {process.pid}")
        self.call("stop", 0)
        self.assertEqual(process.wait(LIMIT), 0)
        with open(self.path("cleaned")) as f:
            self.assertEqual(f.read(), "cleaned\n")
        self.assertFalse(os.path.exists(self.pidfile))
        self.assertEqual(self.call("status", 1), "stopped")

        process = self.start(STUBBORN_CHILD, "main2", "child2", options=["--grace", "0.3"])
        main = self.ready(process, "main2")
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(LIMIT), 0)
        poll(lambda: not alive(main) and not alive(self.pids("child2")[0]), "end of the group")
        self.assertEqual(len(self.pids("main2")), 1, "the command must not be started again")

    def test_sighup_restarts_without_counting_and_sigterm_wins(self):
        process = self.start(SLEEPER, "main", options=["--max-restarts", "0"])
        first = self.ready(process, "main")
        process.send_signal(signal.SIGHUP)
        second = self.ready(process, "main", 2)
        self.assertFalse(alive(first), "the old process must be gone before the new one starts")
        self.assertEqual(os.getpgid(second), second, "the command needs a process group of its own")
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(LIMIT), 0)

        process = self.start(STUBBORN_CHILD, "main2", "child2", options=["--grace", "30"])
        main = self.ready(process, "main2")
        process.send_signal(signal.SIGHUP)
        poll(lambda: not alive(main), "end of the main process")
        process.send_signal(signal.SIGTERM)
        os.kill(self.pids("child2")[0], signal.SIGKILL)  # the last one of the group, long before the grace time is over
        self.assertEqual(process.wait(LIMIT), 0)
        self.assertEqual(len(self.pids("main2")), 1, "the command must not be started again")
        self.assertFalse(os.path.exists(self.pidfile))

    def test_second_supervisor_is_refused(self):
        process = self.start(SLEEPER, "main")
        self.ready(process, "main")
        again = self.start("touch started", "unused", pidfile="./app.pid")
        self.assertEqual(again.wait(LIMIT), 3)
        self.assertFalse(os.path.exists(self.path("started")))
        self.assertEqual(self.call("status", 0, pidfile="app.pid"), f"running {process.pid}")
        self.assertEqual(self.call("status", 0, pidfile=os.path.relpath(self.pidfile, "/usr"), cwd="/usr"), f"running {process.pid}")
        self.call("stop", 0, pidfile="app.pid")
        self.assertEqual(process.wait(LIMIT), 0)

    def test_stale_pid_files_are_recognized(self):
        other = subprocess.Popen(["sleep", "60"])
        self.addCleanup(other.wait)
        self.addCleanup(other.kill)
        twin = self.start(SLEEPER, "twin", pidfile=self.path("twin.pid"))
        self.ready(twin, "twin")
        for content in ("garbage\n", "4194999\n", f"{other.pid}\n", f"{twin.pid}\n"):
            with self.subTest(content):
                with open(self.pidfile, "w") as f:
                    f.write(content)
                self.assertEqual(self.call("status", 1), "stopped")
                self.call("stop", 1)
        # The file still (or again) names the other supervisor: run takes it over.
        with open(self.pidfile, "w") as f:
            f.write(f"{twin.pid}\n")
        process = self.start(SLEEPER, "main")
        survivor = self.ready(process, "main")
        self.assertEqual(self.call("status", 0), f"running {process.pid}")
        process.kill()
        process.wait(LIMIT)
        self.assertTrue(alive(survivor))
        self.assertEqual(self.call("status", 1), "stopped")
        self.call("stop", 1)
        with open(self.pidfile, "w") as f:
            f.write(f"{process.pid}\n")
        self.assertEqual(self.start("exit 0", "unused").wait(LIMIT), 0)
        self.assertIsNone(other.poll(), "an unrelated process was signalled")
        self.assertIsNone(twin.poll(), "the supervisor of another file was signalled")
        self.assertEqual(self.call("status", 0, pidfile=self.path("twin.pid")), f"running {twin.pid}")


if __name__ == "__main__":
    unittest.main(verbosity=2)
