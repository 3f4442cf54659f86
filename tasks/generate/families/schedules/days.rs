//! When the entries of a crontab run.

use crate::generate::Difficulty::Hard;
use crate::generate::families::programs::{FOLDER, THING, filled};
use crate::generate::families::schedules::calendar::{Day, Entry, field};
use crate::generate::families::schedules::{DATE, TIME, clock, shown};
use crate::generate::random::Random;
use crate::generate::template::{Made, Template, has, text};

/// What a solution reads entries with.
const READ: &str = r#"
python3 - <<'END'
import datetime
def has(field, value, low):
    for part in field.split(","):
        span, _, step = part.partition("/")
        if span == "*":
            first, last = low, 99
        else:
            first, _, last = span.partition("-")
            first, last = int(first), int(last or first)
        if first <= value <= last and (value - first) % int(step or 1) == 0:
            return True
    return False
def on(fields, day):
    weekday = day.isoweekday() % 7
    by_day = has(fields[2], day.day, 1)
    by_weekday = has(fields[4], weekday, 0) or weekday == 0 and has(fields[4], 7, 0)
    if fields[2] != "*" and fields[4] != "*":
        days = by_day @or by_weekday
    else:
        days = by_day and by_weekday
    return days and has(fields[3], day.month, 1)
def at(fields, time):
    return has(fields[1], time.hour, 0) and has(fields[0], time.minute, 0)
now = datetime.datetime.fromisoformat("@date @time")
entries = [line.split() for line in open("@from.cron") if line[0] not in '#\n']
with open("@to.txt", "w") as out:
    for fields in entries:
@body
END
"#;

/// Which of the fields let it run at the moment: minute, hour, month, day, weekday; `None` is `*`.
type Hits = [Option<bool>; 5];

fn entry(random: &mut Random, hits: Hits, day: Day, (hour, minute): (usize, usize)) -> Entry {
    let mut of = |hit: Option<bool>, range, value| {
        hit.map_or("*".to_owned(), |hit| field(random, range, value, hit))
    };
    let [by_minute, by_hour, by_month, by_day, by_weekday] = hits;
    // Sunday is also 7.
    let weekdays = if by_weekday == Some(true) { (0, 6) } else { (1, 6) };
    let mut entry = Entry {
        minute: of(by_minute, (0, 59), minute),
        hour: of(by_hour, (0, 23), hour),
        day: of(by_day, (1, 31), day.day),
        month: of(by_month, (1, 12), day.month),
        weekday: of(by_weekday, weekdays, day.weekday),
    };
    if entry.weekday == "0" {
        "7".clone_into(&mut entry.weekday);
    }
    entry
}

fn crontab(entries: &[(String, Entry)]) -> String {
    let lines: Vec<String> =
        entries.iter().map(|(name, entry)| format!("{} {name}", entry.shown())).collect();
    format!("# minute hour day month weekday job\n{}", lines.join("\n"))
}

fn named(random: &mut Random, entries: Vec<Entry>) -> Vec<(String, Entry)> {
    let entries = random.shuffled(&entries);
    let name =
        |(at, entry): (usize, Entry)| (format!("{}-{}", random.pick(THING.values), at + 1), entry);
    entries.into_iter().enumerate().map(name).collect()
}

const YES: Option<bool> = Some(true);
const NO: Option<bool> = Some(false);

pub(super) const RUNS_AT: Template = Template {
    name: "runs-at",
    difficulty: Hard,
    parameters: &[FOLDER, DATE, TIME, THING],
    phrasings: &[
        "{0}.cron is a crontab: minute, hour, day of month, month, day of week (0 and 7 are \
         Sunday) and the name of a job. Which jobs does cron start on {1} at {2}? Write their \
         names into {3}.txt, one a line, in the order of the crontab. Remember how cron treats \
         the two fields for days: where neither of them is *, one that fits is enough.",
        "Find out what runs on {1} at {2} according to {0}.cron, whose lines have the five \
         fields of cron (minute, hour, day of the month, month, weekday with Sunday as 0 or 7) \
         and then a job's name; lines with # are comments. Fields can be *, numbers, ranges, \
         lists and steps as in */5. If both the day of the month and the weekday are restricted, \
         the entry runs on days on which either matches. Write the jobs to {3}.txt in the order \
         of the file, a name per line.",
        "Make {3}.txt, a list of the jobs in {0}.cron that are started at {2} on {1}: their \
         names, in file order, each on its own line. The file follows the rules of cron (five \
         time fields, then the job's name; weekday 0 or 7 for Sunday), also the one that an \
         entry with both a day of the month and a weekday, neither of them *, runs when at least \
         one of the two is met.",
    ],
    make: |values, random| {
        let (from, date, time, to) = (values[0], values[1], values[2], values[3]);
        let (day, now) = (Day::of_2027(date), clock(time));
        let kinds: [Hits; 12] = [
            [YES, YES, YES, YES, NO],
            [YES, YES, None, NO, YES],
            [YES, YES, None, None, YES],
            [YES, None, YES, YES, None],
            [YES, YES, None, None, None],
            [YES, YES, YES, YES, YES],
            [YES, YES, None, NO, NO],
            [YES, YES, NO, None, None],
            [NO, YES, None, None, None],
            [YES, NO, None, None, YES],
            [YES, YES, None, NO, None],
            [YES, None, YES, None, NO],
        ];
        let entries = (0..36).map(|at| entry(random, kinds[at % kinds.len()], day, now)).collect();
        let entries = named(random, entries);
        let run = |entry: &Entry| entry.on(day) && entry.at(now.0, now.1);
        let names = entries.iter().filter(|(_, entry)| run(entry)).map(|(name, _)| name.as_str());
        let names: Vec<&str> = names.collect();
        let program = |or: &str| {
            let body = "        if on(fields, now) and at(fields, now):\n            \
                        print(fields[5], file=out)";
            filled(
                READ,
                &[
                    ("@or", or),
                    ("@date", date),
                    ("@time", time),
                    ("@from", from),
                    ("@to", to),
                    ("@body", body),
                ],
            )
        };
        Made {
            start: vec![has(&format!("{from}.cron"), &crontab(&entries))],
            end: vec![
                text(&format!("{to}.txt"), &names.join("\n")),
                text(&format!("{from}.cron"), &crontab(&entries)),
            ],
            solution: vec![program("or")],
            hard_coded: vec![format!("echo {} > {to}.txt", names[0])],
            near_miss: vec![program("and")],
            ..Made::default()
        }
    },
};

pub(super) const NEXT_RUN: Template = Template {
    name: "next-run",
    difficulty: Hard,
    parameters: &[FOLDER, DATE, TIME, THING],
    phrasings: &[
        "It is {1}, {2}. For each entry of the crontab {0}.cron (minute, hour, day of month, \
         month, day of week, name of the job; 0 and 7 are Sunday), find the next time it runs, \
         after this minute: an entry that runs right at {2} counts with its run after that. \
         Write them into {3}.txt in the order of the crontab, in lines such as NAME 2027-01-31 \
         09:05.",
        "When does each job of {0}.cron run for the first time after {1} {2}? The file is a \
         crontab, with a job's name as the command and comments that begin with #. Write to \
         {3}.txt a line per entry, in the same order: the name, the date as YYYY-MM-DD and the \
         time as HH:MM, with single spaces. A run at {2} on that day itself does not count. \
         Weekdays are 0 to 7, with Sunday both 0 and 7.",
        "List the next runs of the jobs in {0}.cron in {3}.txt. Each line of the crontab, apart \
         from comments, has the usual five fields (0 or 7 in the last is Sunday) and a name; \
         each line of the list is NAME YYYY-MM-DD HH:MM, in the crontab's order, with the \
         earliest run that is later than {1} at {2}, not at that very minute.",
    ],
    make: |values, random| {
        let (from, date, time, to) = (values[0], values[1], values[2], values[3]);
        let (day, now) = (Day::of_2027(date), clock(time));
        let kinds: [Hits; 8] = [
            [YES, YES, None, None, None],
            [YES, YES, None, None, NO],
            [YES, YES, None, NO, None],
            [NO, YES, None, None, None],
            [NO, None, YES, None, None],
            [YES, NO, NO, YES, None],
            [NO, NO, None, None, YES],
            [YES, YES, None, None, YES],
        ];
        let entries = (0..16)
            .map(|at| {
                let mut entry = entry(random, kinds[at % kinds.len()], day, now);
                // Every month has such a day.
                if entry.day != "*" {
                    entry.day = random.within(1..=28).to_string();
                }
                entry
            })
            .collect();
        let entries = named(random, entries);
        let next = |entry: &Entry| {
            let mut on = day;
            let mut from = 60 * now.0 + now.1 + 1;
            // A year has every day that an entry may wait for.
            for _ in 0..800 {
                if entry.on(on)
                    && let Some(at) = (from..24 * 60).find(|at| entry.at(at / 60, at % 60))
                {
                    return format!("{} {}", on.shown(), shown(at));
                }
                on = on.next();
                from = 0;
            }
            String::new()
        };
        let lines: Vec<String> =
            entries.iter().map(|(name, entry)| format!("{name} {}", next(entry))).collect();
        let program = |first: &str| {
            let body = format!(
                "        time = now{first}\n\
                 \x20       while not (on(fields, time) and at(fields, time)):\n\
                 \x20           time += datetime.timedelta(minutes=1)\n\
                 \x20           if not on(fields, time):\n\
                 \x20               time = time.replace(hour=23, minute=59)\n\
                 \x20       print(fields[5], time.strftime(\"%Y-%m-%d %H:%M\"), file=out)"
            );
            filled(
                READ,
                &[
                    ("@or", "or"),
                    ("@date", date),
                    ("@time", time),
                    ("@from", from),
                    ("@to", to),
                    ("@body", &body),
                ],
            )
        };
        Made {
            start: vec![has(&format!("{from}.cron"), &crontab(&entries))],
            end: vec![
                text(&format!("{to}.txt"), &lines.join("\n")),
                text(&format!("{from}.cron"), &crontab(&entries)),
            ],
            solution: vec![program(" + datetime.timedelta(minutes=1)")],
            hard_coded: vec![format!(
                "grep -v '#' {from}.cron | sed 's/.* \\(.*\\)$/\\1 {date} {time}/' > {to}.txt"
            )],
            near_miss: vec![program("")],
            ..Made::default()
        }
    },
};
