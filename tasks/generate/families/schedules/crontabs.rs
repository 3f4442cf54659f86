//! The text of crontabs.

use crate::generate::Difficulty::{Easy, Medium};
use crate::generate::families::programs::{FOLDER, THING, filled};
use crate::generate::families::schedules::{TIME, clock};
use crate::generate::random::Random;
use crate::generate::template::{Made, Template, has, output, text};

/// Entries that cron takes, each with a command of its own.
fn entries(random: &mut Random, count: usize) -> Vec<String> {
    let entry = |at: usize| {
        let minute = match random.below(4) {
            0 => "*/15".to_owned(),
            1 => format!("{},{}", random.within(0..=29), random.within(30..=59)),
            _ => random.within(0..=59).to_string(),
        };
        let hour = match random.below(4) {
            0 => "*".to_owned(),
            1 => format!("{}-{}", random.within(0..=11), random.within(12..=23)),
            _ => random.within(0..=23).to_string(),
        };
        let days = *random.pick(&["* * *", "1 * *", "31 12 *", "* * 1-5", "* 6-8 7", "*/2 * 0"]);
        format!("{minute} {hour} {days} run-{} {}", random.pick(THING.values), at + 1)
    };
    (0..count).map(entry).collect()
}

pub(super) const RETIME: Template = Template {
    name: "retime",
    difficulty: Easy,
    parameters: &[FOLDER, THING, TIME],
    phrasings: &[
        "In the crontab {0}.cron, the command save-{1} runs every day at another time. Change \
         its entry so that it runs every day at {2}. Leave all the other lines as they are.",
        "Change {0}.cron, which is a crontab: save-{1} should run daily at {2} from now on. \
         Nothing else in the file may change.",
        "The daily job save-{1} in the crontab file {0}.cron is to start at {2} instead. Edit \
         its line, and no other.",
    ],
    make: |values, random| {
        let (from, job, time) = (format!("{}.cron", values[0]), values[1], values[2]);
        let (hour, minute) = clock(time);
        let mut lines = entries(random, 24);
        let place = random.within(5..=20);
        let old = format!("{} {} * * * save-{job}", (minute + 7) % 60, (hour + 3) % 24);
        lines.insert(place, old);
        lines.insert(place - 3, format!("# save-{job} runs every day"));
        lines.insert(place + 3, format!("30 4 * * * unsave-{job}"));
        lines.insert(place + 5, format!("15 3 * * * save-{job}-copy"));
        let crontab = lines.join("\n");
        let check = r#"
new, old = [open(name).read().rstrip("\n").split("\n") for name in ("/app/@from", "/tests/old")]
assert len(new) == len(old)
for line, before in zip(new, old):
    if before.endswith(" * * * save-@job"):
        fields = line.split()
        assert [int(field) for field in fields[:2]] == [@minute, @hour], line
        assert fields[2:] == before.split()[2:], line
    else:
        assert line == before, line
print("right")
"#;
        let check = filled(
            check,
            &[
                ("@from", &*from),
                ("@job", job),
                ("@minute", &minute.to_string()),
                ("@hour", &hour.to_string()),
            ],
        );
        let set = |first: usize, second: usize| {
            format!(
                "sed -i 's/^{} \\(.* save-{job}\\)$/{first} {second} * * * save-{job}/' {from}",
                (minute + 7) % 60
            )
        };
        Made {
            start: vec![has(&from, &crontab)],
            hidden: vec![has("old", &crontab), has("check.py", &check)],
            end: vec![output("python3 /tests/check.py", "right")],
            solution: vec![set(minute, hour)],
            hard_coded: vec![format!("echo '{minute} {hour} * * * save-{job}' > {from}")],
            near_miss: vec![set(hour, minute)],
            ..Made::default()
        }
    },
};

/// What is wrong with each: a number, a range, a step, or how many fields there are.
const FAULTS: [&str; 12] = [
    "60 4 * * *",
    "5 24 * * *",
    "0 3 0 * *",
    "0 3 32 * *",
    "15 2 * 13 *",
    "15 2 * 0 *",
    "30 6 * * 8",
    "0 17-9 * * *",
    "*/0 * * * *",
    "10 5 * *",
    "0 8-25 * * 1",
    "5,61 1 * * *",
];

pub(super) const FAULTY: Template = Template {
    name: "faulty",
    difficulty: Medium,
    parameters: &[FOLDER, THING],
    phrasings: &[
        "cron refuses the crontab {0}.cron, since some of its entries are faulty. Move these \
         lines to {1}.txt, in their order, and leave the rest of {0}.cron as it is, with its \
         comments (lines that begin with #) and empty lines. An entry has five fields and then a \
         command, which begins with run-. The fields are minute (0-59), hour (0-23), day of \
         month (1-31), month (1-12) and day of week (0-7). Each is a list, separated by commas, \
         of numbers, ranges A-B with A not greater than B, or *, and a * or a range may have a \
         step /N with N at least 1.",
        "Clean up {0}.cron: each entry in it that is not valid has to be cut out and put into \
         {1}.txt, one line after the other as they came. All other lines stay, unchanged and in \
         order, also the empty ones and those starting with #. Valid means: five fields before \
         the command (commands start with run-), with minute 0 to 59, hour 0 to 23, day 1 to 31, \
         month 1 to 12, weekday 0 to 7; a field is *, a number, a range such as 9-17 (not \
         backwards), one of these with a step as in */5 (1 or more), or several of them with \
         commas between.",
        "Sort out the bad entries of the crontab {0}.cron. They belong into {1}.txt, in the same \
         order, and no longer in {0}.cron, of which everything else is kept as it is (comments \
         with # and blank lines, too). Good entries have exactly five time fields, then a \
         command run-SOMETHING. Allowed are in the fields minute 0-59, hour 0-23, day of the \
         month 1-31, month 1-12 and day of the week 0-7, written as numbers, ranges (the smaller \
         one first), *, comma lists, and steps like */10, but no step 0.",
    ],
    make: |values, random| {
        let (from, to) = (format!("{}.cron", values[0]), format!("{}.txt", values[1]));
        let good = entries(random, 40);
        let faults = random.shuffled(&FAULTS);
        let mut lines: Vec<(String, bool)> = good.into_iter().map(|line| (line, true)).collect();
        for (at, fault) in faults.iter().enumerate() {
            let line = format!("{fault} run-{} {}", random.pick(THING.values), 60 + at);
            lines.push((line, false));
        }
        let mut lines = random.shuffled(&lines);
        lines.insert(9, (String::new(), true));
        lines.insert(20, ("# 61 25 of the old machine".to_owned(), true));
        lines.insert(30, ("#0 24 * * * run-late".to_owned(), true));
        let kept = |good: bool| {
            let lines = lines.iter().filter(|(_, is_good)| *is_good == good);
            lines.map(|(line, _)| line.as_str()).collect::<Vec<_>>().join("\n")
        };
        let all: Vec<&str> = lines.iter().map(|(line, _)| line.as_str()).collect();
        let program = filled(
            r#"
python3 - <<'END'
import re
LIMITS = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 7)]
def part_is_good(part, low, high):
    match = re.fullmatch(r"(\*|(\d+)(?:-(\d+))?)(?:/(\d+))?", part)
    if not match or match[4] and int(match[4]) < 1:
        return False
    if match[1] == "*":
        return True
    first, last = int(match[2]), int(match[3] or match[2])
    return low <= first <= last <= high
def is_good(line):
    if not line.strip() or line.startswith('#'):
        return True
    fields = line.split()
    if len(fields) < 6 or not fields[5].startswith("run-"):
        return False
    return all(part_is_good(part, *limits)
               for field, limits in zip(fields, LIMITS) for part in field.split(","))
lines = open("@from").read().splitlines(keepends=True)
with open("@from", "w") as good, open("@to", "w") as bad:
    for line in lines:
        (good if is_good(line) else bad).write(line)
END
"#,
            &[("@from", &*from), ("@to", &*to)],
        );
        let near = program.replace("first <= last <= high", "first and last <= high");
        Made {
            start: vec![has(&from, &all.join("\n"))],
            end: vec![text(&from, &kept(true)), text(&to, &kept(false))],
            solution: vec![program],
            hard_coded: vec![
                format!("grep '^60 ' {from} > {to}"),
                format!("sed -i '/^60 /d' {from}"),
            ],
            near_miss: vec![near],
            ..Made::default()
        }
    },
};
