//! Saved tables of processes.

use crate::generate::Difficulty::{Easy, Medium};
use crate::generate::families::programs::{FOLDER, THING, filled, things};
use crate::generate::random::Random;
use crate::generate::template::{Made, Template, has, text};

struct Process {
    user: &'static str,
    pid: usize,
    parent: usize,
    memory: usize,
    command: String,
}

/// As `ps -eo user,pid,ppid,rss,comm` prints them.
fn table(processes: &[Process]) -> String {
    let mut lines = vec!["USER         PID    PPID   RSS COMMAND".to_owned()];
    lines.extend(processes.iter().map(|it| {
        format!("{:<8} {:>7} {:>7} {:>5} {}", it.user, it.pid, it.parent, it.memory, it.command)
    }));
    lines.join("\n")
}

/// Each another, ascending.
fn pids(random: &mut Random, count: usize) -> Vec<usize> {
    let mut last = 100;
    let mut next = || {
        last += random.within(1..=40);
        last
    };
    (0..count).map(|_| next()).collect()
}

fn shown(pids: &[usize]) -> String {
    pids.iter().map(usize::to_string).collect::<Vec<_>>().join("\n")
}

pub(super) const PIDS: Template = Template {
    name: "pids",
    difficulty: Easy,
    parameters: &[FOLDER, THING, THING],
    phrasings: &[
        "{0}.txt is a table of processes, saved from ps, with the columns USER, PID, PPID, RSS \
         and COMMAND. Write the PIDs of the processes whose command is exactly {1} into {2}.txt, \
         one a line, in the order of the table.",
        "Which processes in the saved ps output {0}.txt run the command {1}? That has to be the \
         whole name in the last column (COMMAND). Put their process ids (second column) into \
         {2}.txt, each on a line, in the order in which they are listed.",
        "From the process list {0}.txt (a header, then user, PID, parent's PID, memory and \
         command), pick the PID of each process with the command {1}, not of commands that \
         merely have {1} in their name, and save these numbers in {2}.txt, a line each, in \
         unchanged order.",
    ],
    make: |values, random| {
        let (from, command, to) = (values[0], values[1], values[2]);
        let others = things(random, 6, &[command]);
        let mut processes = Vec::new();
        for (at, pid) in pids(random, 60).into_iter().enumerate() {
            let other = *random.pick(&others);
            let name = match at % 8 {
                1 => command.to_owned(),
                3 => format!("{command}-helper"),
                6 => format!("re{command}"),
                _ => other.to_owned(),
            };
            processes.push(Process {
                user: if at % 5 == 0 { command } else { "root" },
                pid,
                parent: random.within(1..=99),
                memory: random.within(1000..=99999),
                command: name,
            });
        }
        let found: Vec<usize> =
            processes.iter().filter(|it| it.command == command).map(|it| it.pid).collect();
        let table = table(&processes);
        let (from, to) = (format!("{from}.txt"), format!("{to}.txt"));
        Made {
            start: vec![has(&from, &table)],
            end: vec![text(&to, &shown(&found)), text(&from, &table)],
            solution: vec![format!("awk '$5 == \"{command}\" {{ print $2 }}' {from} > {to}")],
            hard_coded: vec![format!("echo 1234 > {to}")],
            near_miss: vec![format!("awk '/{command}/ {{ print $2 }}' {from} > {to}")],
            ..Made::default()
        }
    },
};

const USERS: [&str; 3] = ["root", "www", "daemon"];

pub(super) const BELOW: Template = Template {
    name: "below",
    difficulty: Medium,
    parameters: &[FOLDER, THING, THING],
    phrasings: &[
        "{0}.txt is a saved process table (columns USER, PID, PPID, RSS, COMMAND; PPID is the \
         PID of the parent). There is one process with the command {1}. Write the PIDs of all \
         processes below it, that is its children, their children and so on, but not its own, \
         into {2}.txt, one a line, from the smallest to the largest.",
        "Someone wants to end {1} with all that it started. In the process list {0}.txt (PID in \
         the second, the parent's PID in the third column), find every descendant of the process \
         {1}, at any depth and without {1} itself, and write their PIDs to {2}.txt, one per \
         line, in ascending order.",
        "Make {2}.txt from {0}.txt: the PIDs, sorted by number and one on each line, of all \
         direct and indirect child processes of {1} (only one process has this command; it is \
         not to be listed). {0}.txt comes from ps, with the columns user, PID, PPID, memory and \
         command.",
    ],
    make: |values, random| {
        let (from, command, to) = (values[0], values[1], values[2]);
        let others = things(random, 8, &[command]);
        let rows = pids(random, 60);
        // In this order each has its parent among those before, so that PIDs do not tell depth.
        let order = random.shuffled(&rows);
        let mut parents: Vec<(usize, usize)> = Vec::new();
        let mut below: Vec<usize> = Vec::new();
        for (at, pid) in order.iter().enumerate() {
            let parent = match at {
                0..=3 => 1,
                // A chain under the first.
                4..=6 => order[if at == 4 { 0 } else { at - 1 }],
                _ => order[random.within(0..=at - 1)],
            };
            parents.push((*pid, parent));
            if parent == order[0] || below.contains(&parent) {
                below.push(*pid);
            }
        }
        below.sort_unstable();
        let mut processes = Vec::new();
        for pid in rows {
            let parent = parents.iter().find(|(of, _)| *of == pid).map_or(1, |(_, parent)| *parent);
            processes.push(Process {
                user: USERS[random.within(0..=USERS.len() - 1)],
                pid,
                parent,
                memory: random.within(1000..=99999),
                command: if pid == order[0] { command } else { *random.pick(&others) }.to_owned(),
            });
        }
        let table = table(&processes);
        let (from, to) = (format!("{from}.txt"), format!("{to}.txt"));
        let all = filled(
            r#"
python3 - <<'END'
rows = [line.split() for line in open("@from").read().splitlines()[1:]]
left = [row[1] for row in rows if row[4] == "@command"]
below = []
while left:
    parent = left.pop()
    children = [row[1] for row in rows if row[2] == parent]
    below += children
    left += children
print(*sorted(below, key=int), sep="\n", file=open("@to", "w"))
END
"#,
            &[("@from", &*from), ("@to", &to), ("@command", command)],
        );
        Made {
            start: vec![has(&from, &table)],
            end: vec![text(&to, &shown(&below)), text(&from, &table)],
            near_miss: vec![all.replace("    left += children\n", "")],
            solution: vec![all],
            hard_coded: vec![format!("echo 1234 > {to}")],
            ..Made::default()
        }
    },
};
