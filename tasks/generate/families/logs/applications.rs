//! Of programs: lines of date, time, level, component and message.

use crate::generate::families::words::{PEOPLE, lines, untouched};
use crate::generate::random::Random;
use crate::generate::template::{End, Made, has, output, quoted, text};

const LEVELS: [&str; 5] = ["DEBUG", "INFO", "WARN", "ERROR", "FATAL"];

const PARTS: [&str; 6] = ["web", "db", "auth", "mail", "cache", "jobs"];

fn entry(time: usize, level: &str, part: &str, message: &str) -> String {
    let (hours, minutes, seconds) = (time / 3600, time / 60 % 60, time % 60);
    format!("2024-03-12 {hours:02}:{minutes:02}:{seconds:02} {level} [{part}] {message}")
}

fn message(random: &mut Random) -> String {
    let person = random.pick(&PEOPLE).to_lowercase();
    match random.below(5) {
        0 => format!("request of {person} took {} ms", random.within(2..=900)),
        1 => format!("{person} came back"),
        2 => format!("retry {} for {person}", random.within(1..=5)),
        3 => format!("no answer for {person}, next try at {}:30", random.within(10..=12)),
        _ => format!("{} entries written", random.within(1..=99)),
    }
}

/// Seconds of the day of a time HH:MM.
fn seconds(time: &str) -> usize {
    let (hours, minutes) = time.split_once(':').unwrap_or_default();
    let number = |digits: &str| digits.parse().unwrap_or(0);
    3600 * number(hours) + 60 * number(minutes)
}

pub(super) fn window(values: &[&'static str], random: &mut Random) -> Made {
    let (from, until, log, to) = (values[0], values[1], values[2], values[3]);
    let (first, end) = (seconds(from), seconds(until));
    // At both ends of both ends.
    let mut times = vec![first - 1, first, first + 25, end - 1, end, end + 20, end + 59];
    times.extend((0..80).map(|_| random.within(7 * 3600..=14 * 3600)));
    times.sort_unstable();
    let all = times.iter().map(|time| {
        let (level, part) = (*random.pick(&LEVELS), *random.pick(&PARTS));
        (*time, entry(*time, level, part, &message(random)))
    });
    let all: Vec<(usize, String)> = all.collect();
    let inside = all.iter().filter(|(time, _)| (first..end).contains(time));
    let wanted = lines(inside.map(|(_, line)| line));
    let start = vec![has(log, &lines(all.iter().map(|(_, line)| line)))];
    let mut ends = vec![text(to, &wanted)];
    ends.extend(untouched(&start));
    let awk = |until: &str| vec![format!("awk '$2 >= \"{from}:00\" && $2 {until}' {log} > {to}")];
    Made {
        start,
        end: ends,
        solution: awk(&format!("< \"{until}:00\"")),
        hard_coded: vec![format!("head -n 2 {log} > {to}")],
        near_miss: awk(&format!("<= \"{until}:59\"")),
        ..Made::default()
    }
}

pub(super) fn entries(values: &[&'static str], random: &mut Random) -> Made {
    let (level, part, log) = (values[0], values[1], values[2]);
    let mut time = 6 * 3600;
    let (mut all, mut wanted) = (Vec::new(), Vec::new());
    for at in 0..random.within(40..=55) {
        time += random.within(0..=300);
        let (own_level, own_part) = match at % 6 {
            1 => (level, part),
            3 => (level, *random.pick(&PARTS)),
            4 => (*random.pick(&LEVELS), part),
            _ => (*random.pick(&LEVELS), *random.pick(&PARTS)),
        };
        let message = match at % 5 {
            2 => format!("told [{part}] about {level} of {}", random.pick(&PEOPLE)),
            _ => message(random),
        };
        let mut own = vec![entry(time, own_level, own_part, &message)];
        // The first that is wanted has a trace.
        if at == 1 || random.below(3) == 0 {
            for _ in 0..random.within(1..=3) {
                let (name, line) = (random.pick(&PEOPLE).to_lowercase(), random.within(5..=400));
                own.push(format!("    at {name}.run, line {line}"));
            }
        }
        if (own_level, own_part) == (level, part) {
            wanted.extend(own.clone());
        }
        all.extend(own);
    }
    let start = vec![has(log, &lines(&all))];
    let mut end = vec![text("found.txt", &lines(&wanted))];
    end.extend(untouched(&start));
    let first = format!("$3 == \"{level}\" && $4 == \"[{part}]\"");
    Made {
        start,
        end,
        solution: vec![format!("awk '/^[^ ]/ {{on = {first}}} on' {log} > found.txt")],
        hard_coded: vec![format!("grep -A 3 -m 1 '{level} .{part}. ' {log} > found.txt")],
        near_miss: vec![format!("grep '{level} \\[{part}\\]' {log} > found.txt")],
        ..Made::default()
    }
}

pub(super) fn rotated(values: &[&'static str], random: &mut Random) -> Made {
    let (level, folder, to) = (values[0], values[1], values[2]);
    let mut time = 3600;
    let (mut start, mut setup, mut wanted) = (Vec::new(), Vec::new(), Vec::new());
    let mut end = Vec::new();
    for (name, zipped) in [
        ("app.log.4", true),
        ("app.log.3", true),
        ("app.log.2", true),
        ("app.log.1", false),
        ("app.log", false),
    ] {
        let mut log = Vec::new();
        for at in 0..random.within(18..=28) {
            time += random.within(5..=300);
            let own = if at == 3 { level } else { *random.pick(&LEVELS) };
            let part = *random.pick(&PARTS);
            let message =
                if at % 6 == 4 { format!("not a {level} this time") } else { message(random) };
            let line = entry(time, own, part, &message);
            if own == level {
                wanted.push(line.clone());
            }
            log.push(line);
        }
        let (path, log) = (format!("{folder}/{name}"), lines(log));
        start.push(has(&path, &log));
        if zipped {
            setup.push(format!("gzip -n {path}"));
            end.push(output(&format!("gzip -dc {path}.gz"), &log));
        } else {
            end.push(text(&path, &log));
        }
    }
    end.insert(0, text(to, &lines(&wanted)));
    end.push(listing(folder));
    let collect = |files: &str| vec![format!("zcat -f {files} | awk '$3 == \"{level}\"' > {to}")];
    Made {
        start,
        setup,
        end,
        solution: vec![
            format!("cd {folder}"),
            format!(
                "zcat -f app.log.4.gz app.log.3.gz app.log.2.gz app.log.1 app.log | awk {} \
                 > ../{to}",
                quoted(&format!("$3 == \"{level}\""))
            ),
        ],
        hard_coded: vec![format!("grep -h {level} {folder}/app.log > {to}")],
        // Newest first.
        near_miss: collect(&format!("{folder}/*")),
        ..Made::default()
    }
}

/// The files of a log are there, and no others.
fn listing(folder: &str) -> End {
    let names = "app.log app.log.1 app.log.2.gz app.log.3.gz app.log.4.gz";
    output(&format!("cd {folder} && echo *"), names)
}
