//! Of web servers.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::generate::families::words::{PEOPLE, lines, prints, untouched};
use crate::generate::random::Random;
use crate::generate::template::{Made, has, number, text, write};

const PAGES: [&str; 10] =
    ["/", "/about", "/cart", "/help", "/items", "/login", "/news", "/search", "/shop", "/users"];

/// Of one day, later and later.
struct Clock(usize);

impl Clock {
    fn tick(&mut self, random: &mut Random) -> String {
        self.0 += random.within(5..=200);
        let (hours, minutes) = (self.0 / 3600, self.0 / 60 % 60);
        format!("{hours:02}:{minutes:02}:{:02}", self.0 % 60)
    }
}

fn request(time: &str, address: &str, path: &str, status: &str, size: usize) -> String {
    format!("{address} - - [12/Mar/2024:{time} +0000] \"GET {path} HTTP/1.1\" {status} {size}")
}

fn addresses(random: &mut Random, count: usize) -> Vec<String> {
    let last: Vec<usize> = (2..=240).collect();
    let last = random.some(&last, count);
    last.into_iter().enumerate().map(|(at, last)| format!("10.0.{}.{last}", at % 3)).collect()
}

pub(super) fn status(values: &[&'static str], random: &mut Random) -> Made {
    let (status, from, to) = (values[0], values[1], values[2]);
    let code: usize = status.parse().unwrap_or(0);
    let others: Vec<&str> =
        ["200", "301", "403", "404", "500"].into_iter().filter(|it| *it != status).collect();
    let clients = addresses(random, 12);
    let mut clock = Clock(8 * 3600);
    let (mut log, mut count) = (Vec::new(), 0);
    for at in 0..random.within(80..=120) {
        let (client, time) = (random.pick(&clients).clone(), clock.tick(random));
        let (path, size) = (*random.pick(&PAGES), random.within(600..=9000));
        // Its digits occur as a size and in a path as well.
        let (path, answer, size) = match at % 8 {
            1 => (format!("{path}?id={status}"), *random.pick(&others), size),
            3 => (path.to_owned(), *random.pick(&others), code),
            5 | 6 => (path.to_owned(), status, size),
            _ => (path.to_owned(), *random.pick(&others), size),
        };
        count += usize::from(answer == status);
        log.push(request(&time, &client, &path, answer, size));
    }
    let start = vec![has(from, &lines(&log))];
    let mut end = vec![number(to, count)];
    end.extend(untouched(&start));
    Made {
        start,
        end,
        solution: vec![format!("awk '$9 == {status}' {from} | wc -l > {to}")],
        hard_coded: vec![format!("echo 7 > {to}")],
        near_miss: vec![format!("grep -c {status} {from} > {to}")],
        ..Made::default()
    }
}

pub(super) fn clients(values: &[&'static str], random: &mut Random) -> Made {
    let (count, from, to) = (values[0], values[1], values[2]);
    let first = count.parse().unwrap_or(0);
    // Two addresses of each count.
    let clients = addresses(random, 16);
    let mut counts: Vec<(usize, &str)> =
        clients.iter().enumerate().map(|(at, client)| (10 - at / 2, &**client)).collect();
    let all: Vec<&str> =
        counts.iter().flat_map(|(count, client)| std::iter::repeat_n(*client, *count)).collect();
    let mut clock = Clock(9 * 3600);
    let log: Vec<String> = random
        .shuffled(&all)
        .into_iter()
        .map(|client| {
            let (time, page) = (clock.tick(random), *random.pick(&PAGES));
            let answer = *random.pick(&["200", "200", "304", "404"]);
            request(&time, client, page, answer, random.within(200..=9000))
        })
        .collect();
    counts.sort_unstable_by_key(|(count, client)| (Reverse(*count), *client));
    let top = counts[..first].iter().map(|(count, client)| format!("{client} {count}"));
    let start = vec![has(from, &lines(&log))];
    let mut end = vec![text(to, &lines(top))];
    end.extend(untouched(&start));
    let program = |sort: &str| {
        vec![format!(
            "cut -d ' ' -f 1 {from} | sort | uniq -c | {sort} | head -n {count} | awk '{{print \
             $2, $1}}' > {to}"
        )]
    };
    Made {
        start,
        end,
        solution: program("LC_ALL=C sort -k1,1nr -k2,2"),
        hard_coded: vec![format!("echo {} 10 > {to}", counts[0].1)],
        near_miss: program("LC_ALL=C sort -rn"),
        ..Made::default()
    }
}

pub(super) fn latency(values: &[&'static str], random: &mut Random) -> Made {
    let (percent, from, to) = (values[0], values[1], values[2]);
    let percentile: usize = percent.parse().unwrap_or(50);
    let position = |count: usize| (percentile * count).div_ceil(100);
    let mut paths: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, page) in random.some(&PAGES[1..], 6).into_iter().enumerate() {
        // Of 20, every percentile here is at a whole position.
        let mut count = if at == 0 { 20 } else { random.within(7..=19) };
        // Where floating point would be off by one, another count is taken.
        let off = |count: usize| {
            let exact = position(count);
            (percentile as f64 / 100.0 * count as f64).ceil() as usize != exact
        };
        while off(count) {
            count += 1;
        }
        let all: Vec<usize> = (3..=400).collect();
        paths.insert(page, random.some(&all, count));
    }
    let requests = paths.iter().flat_map(|(page, times)| times.iter().map(|ms| (*page, *ms)));
    let requests: Vec<(&str, usize)> = requests.collect();
    let mut clock = Clock(10 * 3600);
    let log = random.shuffled(&requests).into_iter().enumerate().map(|(at, (page, ms))| {
        let time = clock.tick(random);
        let query =
            if at % 3 == 1 { format!("?page={}", random.within(1..=9)) } else { String::new() };
        format!("2024-03-12T{time}Z GET {page}{query} status=200 ms={ms}")
    });
    let start = vec![has(from, &lines(log))];
    let wanted = paths.iter().map(|(page, times)| {
        let mut times = times.clone();
        times.sort_unstable();
        format!("{page} {} {}", times.len(), times[position(times.len()) - 1])
    });
    let mut end = vec![text(to, &lines(wanted))];
    end.extend(untouched(&start));
    let program = |index: &str| {
        vec![format!(
            r#"python3 - <<'PROGRAM'
times = {{}}
for line in open("{from}"):
    _, _, path, _, ms = line.split()
    times.setdefault(path.split("?")[0], []).append(int(ms[3:]))
with open("{to}", "w") as file:
    for path, own in sorted(times.items()):
        own.sort()
        print(path, len(own), own[{index}], file=file)
PROGRAM"#
        )]
    };
    Made {
        start,
        end,
        solution: program(&format!("(len(own) * {percent} + 99) // 100 - 1")),
        hard_coded: vec![format!("echo /about 20 100 > {to}")],
        near_miss: program(&format!("len(own) * {percent} // 100")),
        ..Made::default()
    }
}

pub(super) fn sessions(values: &[&'static str], random: &mut Random) -> Made {
    let (minutes, sample, script) = (values[0], values[1], values[2]);
    let gap = 60 * minutes.parse::<usize>().unwrap_or(0);
    let (shown, wanted) = some_visits(random, gap, 3, 6);
    let start = vec![has(sample, &shown)];
    let mut end = vec![prints(&format!("bash {script} {sample}"), &wanted)];
    let mut hidden = Vec::new();
    for (at, (users, visits)) in [(8, 9), (5, 14)].into_iter().enumerate() {
        let (log, wanted) = some_visits(random, gap, users, visits);
        hidden.push(has(&format!("input{at}.log"), &log));
        end.push(prints(&format!("bash {script} /tests/input{at}.log"), &wanted));
    }
    end.extend(untouched(&start));
    let program = |compare: &str| {
        format!(
            r#"sort -k2,2 -k1,1n "$1" | awk '
function done() {{ if (user != "") print user, count, longest }}
$2 != user {{ done(); user = $2; count = 1; longest = 0; first = last = $1 }}
$1 - last {compare} {gap} {{ count++; first = $1 }}
{{ last = $1; if (last - first > longest) longest = last - first }}
END {{ done() }}'"#
        )
    };
    Made {
        start,
        hidden,
        end,
        solution: vec![write(script, &program(">"))],
        hard_coded: vec![write(script, &format!("cat <<'SAID'\n{wanted}\nSAID"))],
        near_miss: vec![write(script, &program(">="))],
        ..Made::default()
    }
}

/// Visits, and what is to be printed about them. The first pause of each user is as long as a
/// session allows, the second a second longer.
fn some_visits(random: &mut Random, gap: usize, users: usize, visits: usize) -> (String, String) {
    let mut log = Vec::new();
    let mut wanted = BTreeMap::new();
    for user in random.some(&PEOPLE, users) {
        let user = user.to_lowercase();
        // All have ten digits, so that their order as text is that as numbers.
        let mut time = 1_710_000_000 + random.within(0..=9000);
        let (mut first, mut count, mut longest) = (time, 1, 0);
        for at in 0..visits {
            if at > 0 {
                let pause = match at {
                    1 => gap,
                    2 => gap + 1,
                    _ if random.below(3) == 0 => gap + random.within(1..=2000),
                    _ => random.within(3..=gap - 1),
                };
                time += pause;
                if pause > gap {
                    count += 1;
                    first = time;
                }
                longest = longest.max(time - first);
            }
            log.push(format!("{time} {user} {}", random.pick(&PAGES)));
        }
        wanted.insert(user.clone(), format!("{user} {count} {longest}"));
    }
    (lines(random.shuffled(&log)), lines(wanted.values()))
}
