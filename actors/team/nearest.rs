//! The place in a file that an absent old string most likely means: pure.

use std::collections::BTreeMap;

use crate::team::text::cut_end;

/// Of a file's lines that are looked at, and of an old string's.
const LINES_MAX: usize = 20_000;
const OLD_LINES_MAX: usize = 100;
/// Of a line that is compared letter by letter, and shown.
const LINE_CHARS_MAX: usize = 200;
/// Of the lines that are shown.
const SHOWN_MAX: usize = 12;
/// Two letters in a row that two lines must share, of all they have, to be similar at all.
const SIMILAR_MIN: f64 = 0.6;

/// A sentence for the agent with the lines in question, or that there are none.
pub fn describe(content: &[u8], old: &str) -> String {
    let content = String::from_utf8_lossy(content);
    let lines: Vec<&str> = content.lines().take(LINES_MAX).collect();
    let wanted: Vec<&str> = old.lines().take(OLD_LINES_MAX).collect();
    let place = by_equal_lines(&lines, &wanted).or_else(|| by_similar_line(&lines, &wanted));
    let Some(start) = place else {
        return "No line is similar to it; read the file again.".to_owned();
    };
    let range = lines.iter().enumerate().skip(start).take(wanted.len());
    let spaces = range.clone().zip(&wanted).all(|((_, line), old)| same(line, old));
    let shown = range.take(SHOWN_MAX).map(|(index, line)| numbered(index as u64 + 1, line));
    let shown: String = shown.collect();
    let how = if spaces { ", which differs in white space only" } else { "" };
    format!("The nearest place{how}:\n{shown}").trim_end().to_owned()
}

/// As `file` read shows it.
pub fn numbered(number: u64, line: &str) -> String {
    format!("{number:>6}\t{}\n", cut_end(line, LINE_CHARS_MAX))
}

/// Where most lines are the same but for white space.
fn by_equal_lines(lines: &[&str], wanted: &[&str]) -> Option<usize> {
    let mut places: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (offset, line) in wanted.iter().enumerate() {
        if !line.trim().is_empty() {
            places.entry(line.trim()).or_default().push(offset);
        }
    }
    let mut votes: BTreeMap<usize, usize> = BTreeMap::new();
    for (index, line) in lines.iter().enumerate() {
        for offset in places.get(line.trim()).into_iter().flatten() {
            if let Some(start) = index.checked_sub(*offset) {
                *votes.entry(start).or_default() += 1;
            }
        }
    }
    // The first of the best.
    votes.into_iter().rev().max_by_key(|(_, votes)| *votes).map(|(start, _)| start)
}

/// Where a line looks most like the first one that is wanted.
fn by_similar_line(lines: &[&str], wanted: &[&str]) -> Option<usize> {
    let (offset, first) = wanted.iter().enumerate().find(|(_, line)| !line.trim().is_empty())?;
    let first = pairs(first);
    let mut best = None;
    let mut best_share = SIMILAR_MIN;
    for (index, line) in lines.iter().enumerate() {
        let share = similarity(&first, &pairs(line));
        if share > best_share {
            (best, best_share) = (index.checked_sub(offset), share);
        }
    }
    best
}

fn same(a: &str, b: &str) -> bool {
    a.split_whitespace().eq(b.split_whitespace())
}

fn pairs(line: &str) -> Vec<(char, char)> {
    let letters: Vec<char> =
        line.chars().filter(|c| !c.is_whitespace()).take(LINE_CHARS_MAX).collect();
    let mut pairs: Vec<_> =
        letters.windows(2).filter_map(|pair| Some((*pair.first()?, *pair.last()?))).collect();
    pairs.sort_unstable();
    pairs
}

/// Dice's coefficient of two sorted lists: 0 for nothing in common, 1 for the same.
fn similarity(a: &[(char, char)], b: &[(char, char)]) -> f64 {
    let (mut a_left, mut b_left) = (a.iter().peekable(), b.iter().peekable());
    let mut shared = 0_usize;
    while let (Some(x), Some(y)) = (a_left.peek(), b_left.peek()) {
        match x.cmp(y) {
            std::cmp::Ordering::Less => drop(a_left.next()),
            std::cmp::Ordering::Greater => drop(b_left.next()),
            std::cmp::Ordering::Equal => {
                shared += 1;
                a_left.next();
                b_left.next();
            }
        }
    }
    2.0 * shared as f64 / (a.len() + b.len()).max(1) as f64
}
