//! From a file or two to another file.

use std::collections::BTreeMap;

use crate::generate::families::words::{CITIES, COLORS, GOODS, PEOPLE, lines, untouched};
use crate::generate::random::Random;
use crate::generate::template::{Made, has, quoted, text};

pub(super) fn columns(values: &[&'static str], random: &mut Random) -> Made {
    let (separator, late, early, file) = (values[0], values[1], values[2], values[3]);
    let column = |number: &str| number.parse::<usize>().unwrap_or(1) - 1;
    let table: Vec<Vec<String>> = (0..random.within(20..=40))
        .map(|_| {
            let person = *random.pick(&PEOPLE);
            let (city, good) = (*random.pick(&CITIES), *random.pick(&GOODS));
            let (id, amount) = (random.within(100..=999), random.within(10..=99));
            let color = *random.pick(&COLORS);
            [&format!("n{id}"), person, city, good, &amount.to_string(), color, &format!("z{id}")]
                .map(str::to_owned)
                .into()
        })
        .collect();
    let picked = table.iter().map(|row| format!("{} {}", row[column(late)], row[column(early)]));
    let start = vec![has(file, &lines(table.iter().map(|row| row.join(separator))))];
    let mut end = vec![text("columns.txt", &lines(picked))];
    end.extend(untouched(&start));
    Made {
        start,
        end,
        solution: vec![format!(
            "awk -F {} '{{print ${late}, ${early}}}' {file} > columns.txt",
            quoted(&format!("[{separator}]"))
        )],
        hard_coded: vec!["echo Ada Oslo > columns.txt".to_owned()],
        // `cut` keeps the order of the input's columns.
        near_miss: vec![format!(
            "cut -d '{separator}' -f {late},{early} {file} | tr '{separator}' ' ' > columns.txt"
        )],
        ..Made::default()
    }
}

pub(super) fn distinct(values: &[&'static str], random: &mut Random) -> Made {
    let (from, to) = (values[0], values[1]);
    let people = random.some(&PEOPLE, 16);
    let different: Vec<String> =
        people.iter().map(|person| format!("{person} {}", random.pick(&COLORS))).collect();
    // All of them, some of them once more, and some a third time at the end.
    let mut all = different.clone();
    for _ in 0..random.within(20..=30) {
        let at = random.within(4..=all.len());
        all.insert(at, random.pick(&different).clone());
    }
    all.extend(random.some(&different, 4));
    // Not what sorting makes of them.
    if all[0] < all[1] {
        all.swap(0, 1);
    }
    let mut kept: Vec<&String> = Vec::new();
    for line in &all {
        if !kept.contains(&line) {
            kept.push(line);
        }
    }
    let start = vec![has(from, &lines(&all))];
    let mut end = vec![text(to, &lines(kept))];
    end.extend(untouched(&start));
    Made {
        start,
        end,
        solution: vec![format!("awk '!seen[$0]++' {from} > {to}")],
        hard_coded: vec![format!("head -n 16 {from} | sort -u > {to}")],
        near_miss: vec![format!("uniq {from} > {to}")],
        ..Made::default()
    }
}

pub(super) fn frequency(values: &[&'static str], random: &mut Random) -> Made {
    let (count, from, to) = (values[0], values[1], values[2]);
    let first = count.parse().unwrap_or(0);
    // Two words of each count: with an odd number of them, the last place is disputed.
    let words = random.some(&GOODS, 14);
    let counts = words.iter().enumerate().map(|(at, word)| (12 - at / 2, *word));
    let mut counts: Vec<(usize, &str)> = counts.collect();
    let all: Vec<&str> =
        counts.iter().flat_map(|(count, word)| std::iter::repeat_n(*word, *count)).collect();
    let all = random.shuffled(&all);
    let mut left = &all[..];
    let mut content = Vec::new();
    while !left.is_empty() {
        let (line, rest) = left.split_at(random.within(3..=9).min(left.len()));
        content.push(line.join(" "));
        left = rest;
    }
    counts.sort_unstable_by_key(|(count, word)| (std::cmp::Reverse(*count), *word));
    let top = counts[..first].iter().map(|(count, word)| format!("{word} {count}"));
    let start = vec![has(from, &lines(content))];
    let mut end = vec![text(to, &lines(top))];
    end.extend(untouched(&start));
    let counted = format!("tr -s ' ' '\\n' < {from} | sort | uniq -c");
    let print = format!("head -n {count} | awk '{{print $2, $1}}' > {to}");
    Made {
        start,
        end,
        solution: vec![format!("{counted} | sort -k1,1nr -k2,2 | {print}")],
        hard_coded: vec![format!("echo {} 12 > {to}", counts[0].1)],
        // Sorts ties from z to a.
        near_miss: vec![format!("{counted} | sort -rn | {print}")],
        ..Made::default()
    }
}

pub(super) fn matched(values: &[&'static str], random: &mut Random) -> Made {
    let (one, two, to) = (values[0], values[1], values[2]);
    let keys: Vec<String> = (0..40).map(|at| format!("k{}", 110 + 7 * at + at % 5)).collect();
    let keys = random.some(&keys, 32);
    let (both, rest) = keys.split_at(20);
    let (only_one, only_two) = rest.split_at(6);
    let named = [both, only_one].concat();
    let mut named: Vec<(String, &str)> =
        random.shuffled(&named).into_iter().map(|key| (key, *random.pick(&PEOPLE))).collect();
    let placed = [both, only_two].concat();
    let placed: BTreeMap<String, &str> =
        placed.into_iter().map(|key| (key, *random.pick(&CITIES))).collect();
    // The greatest of the keys in both comes first, so that the order is never right by chance.
    let last = both.iter().max();
    named.sort_by_key(|(key, _)| Some(key) != last);
    let lines_of_two: Vec<String> =
        placed.iter().map(|(key, city)| format!("{key} {city}")).collect();
    let start = vec![
        has(one, &lines(named.iter().map(|(key, name)| format!("{key} {name}")))),
        has(two, &lines(random.shuffled(&lines_of_two))),
    ];
    let joined = named
        .iter()
        .filter_map(|(key, name)| placed.get(key).map(|city| format!("{key} {name} {city}")));
    let mut joined: Vec<String> = joined.collect();
    joined.sort_unstable();
    let mut end = vec![text(to, &lines(&joined))];
    end.extend(untouched(&start));
    Made {
        start,
        end,
        solution: vec![format!("join <(sort {one}) <(sort {two}) > {to}")],
        hard_coded: vec![format!("echo '{}' > {to}", joined[0])],
        near_miss: vec![format!("join --nocheck-order <(sort -r {one}) <(sort -r {two}) > {to}")],
        ..Made::default()
    }
}

pub(super) fn totals(values: &[&'static str], random: &mut Random) -> Made {
    let (minimum, from, to) = (values[0], values[1], values[2]);
    let least: usize = minimum.parse().unwrap_or(0);
    let people = random.some(&PEOPLE, 14);
    let mut entries: Vec<(&str, usize)> = Vec::new();
    for (at, person) in people.iter().enumerate() {
        // Some reach it exactly, some are one short of it, two are equal above it.
        let total = match at {
            0 | 1 => least,
            2 | 3 => least - 1,
            4 | 5 => least + 12,
            _ => random.within(least / 2..=least * 2),
        };
        let first = random.within(1..=total / 3);
        let second = random.within(1..=total / 3);
        entries.extend([first, second, total - first - second].map(|part| (*person, part)));
    }
    let mut sums: BTreeMap<&str, usize> = BTreeMap::new();
    for (person, amount) in &entries {
        *sums.entry(person).or_default() += amount;
    }
    let mut reached: Vec<(&str, usize)> =
        sums.into_iter().filter(|(_, total)| *total >= least).collect();
    reached.sort_by_key(|(_, total)| std::cmp::Reverse(*total));
    let wanted = reached.iter().map(|(person, total)| format!("{person} {total}"));
    let all: Vec<String> =
        entries.iter().map(|(person, amount)| format!("{person} {amount}")).collect();
    let start = vec![has(from, &lines(random.shuffled(&all)))];
    let mut end = vec![text(to, &lines(wanted))];
    end.extend(untouched(&start));
    let sum = |compare: &str| {
        vec![format!(
            "awk '{{sum[$1] += $2}} END {{for (name in sum) if (sum[name] {compare} {minimum}) \
             print name, sum[name]}}' {from} | sort -k2,2nr -k1,1 > {to}"
        )]
    };
    Made {
        start,
        end,
        solution: sum(">="),
        hard_coded: vec![format!("echo {} {} > {to}", reached[0].0, reached[0].1)],
        near_miss: sum(">"),
        ..Made::default()
    }
}
