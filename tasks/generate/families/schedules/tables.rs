//! Lists of times and tables of intervals.

use crate::generate::Difficulty::{Easy, Medium};
use crate::generate::families::programs::{FOLDER, THING, filled};
use crate::generate::families::schedules::shown;
use crate::generate::random::Random;
use crate::generate::template::{Made, Parameter, Template, has, number, text};

const HOUR: Parameter =
    Parameter { values: &["06", "07", "08", "09", "10", "11", "13", "15", "16", "18", "21"] };

pub(super) const AT_HOUR: Template = Template {
    name: "at-hour",
    difficulty: Easy,
    parameters: &[FOLDER, HOUR, THING],
    phrasings: &[
        "Each line of {0}.txt is a time HH:MM, a space and the name of a job. Write the names of \
         the jobs that start from {1}:00 to {1}:59 into {2}.txt, one a line, in the order of \
         {0}.txt.",
        "Which jobs in {0}.txt start in the hour after {1}:00, that is at {1}:00 or later but \
         before the next full hour? The file has lines such as \"14:05 job\". Put the names \
         alone, a line each and in the order they have there, into {2}.txt.",
        "{2}.txt is to list the jobs of {0}.txt whose time has the hour {1}: only their names, \
         one per line, in unchanged order. A line of {0}.txt has a time (hours:minutes), a \
         space, and a name.",
    ],
    make: |values, random| {
        let (from, hour, to) = (values[0], values[1], values[2]);
        let hour_number: usize = hour.parse().unwrap_or(0);
        let mut lines = Vec::new();
        let mut names = Vec::new();
        for at in 0..50 {
            let name = format!("{}-{}", random.pick(THING.values), 200 + at);
            let (at_hour, minute) = match at % 7 {
                0 => (hour_number, random.within(0..=59)),
                1 => ((hour_number + 1 + random.within(0..=11)) % 24, hour_number),
                _ => (random.within(0..=23), random.within(0..=59)),
            };
            lines.push(format!("{} {name}", shown(60 * at_hour + minute)));
        }
        let lines = random.shuffled(&lines);
        let start = format!("{hour}:");
        names.extend(lines.iter().filter(|line| line.starts_with(&start)).map(|line| &line[6..]));
        Made {
            start: vec![has(&format!("{from}.txt"), &lines.join("\n"))],
            end: vec![
                text(&format!("{to}.txt"), &names.join("\n")),
                text(&format!("{from}.txt"), &lines.join("\n")),
            ],
            solution: vec![format!("grep '^{hour}:' {from}.txt | cut -d ' ' -f 2 > {to}.txt")],
            hard_coded: vec![format!("echo backup > {to}.txt")],
            near_miss: vec![format!("grep {hour} {from}.txt | cut -d ' ' -f 2 > {to}.txt")],
            ..Made::default()
        }
    },
};

const ROOM: Parameter =
    Parameter { values: &["attic", "cellar", "garden", "hall", "studio", "tower"] };

/// Times of one room among those of others: name, room, start, end. The first three are of this
/// room: two that overlap, and one that begins when the second of them ends.
fn bookings(random: &mut Random, room: &str, count: usize) -> Vec<(String, String, usize, usize)> {
    let begin = 15 * random.within(28..=40);
    let mut times = vec![(begin, begin + 60), (begin + 30, begin + 90), (begin + 90, begin + 105)];
    times.extend((3..count).map(|_| {
        let begin = 15 * random.within(24..=80);
        (begin, begin + 15 * random.within(1..=6))
    }));
    let others: Vec<&str> = ROOM.values.iter().filter(|other| **other != room).copied().collect();
    let mut rows = Vec::new();
    for (at, (begin, end)) in times.into_iter().enumerate() {
        let ours = at < 3 || random.below(4) == 0;
        let place = if ours { room } else { *random.pick(&others[..3]) };
        let name = format!("{}{}", random.pick(THING.values), at + 1);
        rows.push((name, place.to_owned(), begin, end));
    }
    random.shuffled(&rows)
}

fn table(rows: &[(String, String, usize, usize)]) -> String {
    let row = |(name, room, begin, end): &(String, String, usize, usize)| {
        format!("{name},{room},{},{}", shown(*begin), shown(*end))
    };
    let lines: Vec<String> = rows.iter().map(row).collect();
    format!("name,room,start,end\n{}", lines.join("\n"))
}

/// A Python program over the rows of one room, as minutes.
const OF_ROOM: &str = r#"
python3 - <<'END'
import csv
def minutes(time):
    return int(time[:2]) * 60 + int(time[3:])
rows = [(row["name"], minutes(row["start"]), minutes(row["end"]))
        for row in csv.DictReader(open("@from.csv")) if row["room"] == "@room"]
with open("@to.txt", "w") as out:
@body
END
"#;

pub(super) const CONFLICTS: Template = Template {
    name: "conflicts",
    difficulty: Medium,
    parameters: &[FOLDER, ROOM, THING],
    phrasings: &[
        "{0}.csv is a table of bookings with a header: name,room,start,end (times HH:MM, all of \
         one day). Find each two bookings of the room {1} that overlap, and write them into \
         {2}.txt, a line for each pair: the two names with a space between, the one that is \
         earlier in the table first. The lines are ordered by the first name's place in the \
         table, then by the second's. A booking that starts when another ends does not overlap \
         it.",
        "Which bookings for the room {1} in {0}.csv are in conflict? The columns are name, room, \
         start and end. Write to {2}.txt one line NAME NAME per pair of bookings that share some \
         time (one may end at the minute when the other starts), within a pair in the order of \
         the table's rows. Sort the lines by the row of the first, then by the row of the \
         second.",
        "The table {0}.csv (header name,room,start,end, times of one day such as 09:30) may book \
         a room twice. For the room {1}, list all pairs of bookings whose times overlap in \
         {2}.txt: two names separated by a space, first the one whose row comes first. Go \
         through the rows from the top: pairs of an earlier first row come earlier, and for the \
         same first row those with an earlier second row. Bookings that only touch, end against \
         start, are fine.",
    ],
    make: |values, random| {
        let (from, room, to) = (values[0], values[1], values[2]);
        let rows = bookings(random, room, 40);
        let ours: Vec<_> = rows.iter().filter(|(_, place, ..)| place == room).collect();
        let mut pairs = Vec::new();
        for (at, one) in ours.iter().enumerate() {
            for other in &ours[at + 1..] {
                if one.2 < other.3 && other.2 < one.3 {
                    pairs.push(format!("{} {}", one.0, other.0));
                }
            }
        }
        let program = |less: &str| {
            let body = format!(
                "    for at, one in enumerate(rows):\n\
                 \x20       for other in rows[at + 1:]:\n            \
                 if one[1] {less} other[2] and other[1] {less} one[2]:\n                \
                 print(one[0], other[0], file=out)"
            );
            filled(OF_ROOM, &[("@from", from), ("@room", room), ("@to", to), ("@body", &body)])
        };
        Made {
            start: vec![has(&format!("{from}.csv"), &table(&rows))],
            end: vec![
                text(&format!("{to}.txt"), &pairs.join("\n")),
                text(&format!("{from}.csv"), &table(&rows)),
            ],
            solution: vec![program("<")],
            hard_coded: vec![format!("echo none > {to}.txt")],
            near_miss: vec![program("<=")],
            ..Made::default()
        }
    },
};

pub(super) const BUSY: Template = Template {
    name: "busy",
    difficulty: Medium,
    parameters: &[FOLDER, ROOM, THING],
    phrasings: &[
        "{0}.csv has bookings of rooms on one day: name,room,start,end with a header, times \
         HH:MM. For how many minutes in all is the room {1} taken? Minutes in which two bookings \
         of the room overlap count once. Write the number into {2}.txt.",
        "Work out the number of minutes during which there is at least one booking of the room \
         {1} in the table {0}.csv (columns name, room, start, end; times like 09:30; the end is \
         not part of the booking), and write it to {2}.txt. Bookings may overlap.",
        "How long is the room {1} in use, according to {0}.csv? The table has a header line \
         name,room,start,end and times of the same day. Write the total in minutes, just the \
         number, to {2}.txt. Where bookings overlap, the time must not be counted twice.",
    ],
    make: |values, random| {
        let (from, room, to) = (values[0], values[1], values[2]);
        let rows = bookings(random, room, 40);
        let taken = |minute: &usize| {
            rows.iter().any(|row| row.1 == room && (row.2..row.3).contains(minute))
        };
        let minutes = (0..24 * 60).filter(taken).count();
        let program = |value: &str| {
            let body = format!("    print({value}, file=out)");
            filled(OF_ROOM, &[("@from", from), ("@room", room), ("@to", to), ("@body", &body)])
        };
        Made {
            start: vec![has(&format!("{from}.csv"), &table(&rows))],
            end: vec![
                number(&format!("{to}.txt"), minutes),
                text(&format!("{from}.csv"), &table(&rows)),
            ],
            solution: vec![program("len({at for row in rows for at in range(row[1], row[2])})")],
            hard_coded: vec![format!("echo 60 > {to}.txt")],
            near_miss: vec![program("sum(row[2] - row[1] for row in rows)")],
            ..Made::default()
        }
    },
};
