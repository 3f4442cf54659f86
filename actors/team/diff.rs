//! What an edit changed, in a few lines: pure.

use crate::team::text::{cut_end, cut_middle};

/// Lines before and after a change.
const CONTEXT: usize = 2;
/// Between the first and the last line that changed; with more, all between counts as changed.
const COMPARED_MAX: usize = 400;
const LINE_CHARS_MAX: usize = 160;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Same,
    Removed,
    Added,
}

/// Changed lines with a mark (`-` before, `+` after) and those around them; each group is headed by
/// the number of its first line in the new content.
pub fn short(old: &[u8], new: &[u8], chars_max: usize) -> String {
    let (old, new) = (String::from_utf8_lossy(old), String::from_utf8_lossy(new));
    let old: Vec<&str> = old.split_inclusive('\n').collect();
    let new: Vec<&str> = new.split_inclusive('\n').collect();
    let mut shown = String::new();
    let steps = steps(&old, &new);
    let near = near(&steps);
    let (mut olds, mut news) = (old.iter(), new.iter());
    let mut number = 0;
    let mut before = false;
    for (step, near) in steps.iter().zip(near) {
        let (mark, line) = match step {
            Step::Removed => ('-', olds.next()),
            Step::Added => ('+', news.next()),
            Step::Same => {
                olds.next();
                (' ', news.next())
            }
        };
        number += usize::from(*step != Step::Removed);
        if near {
            if !before {
                let first = number.max(1) + usize::from(*step == Step::Removed && number > 0);
                shown.push_str(&format!("@@ line {first} @@\n"));
            }
            let line = line.map_or("", |line| line.trim_end_matches(['\n', '\r']));
            shown.push_str(&format!("{mark}{}\n", cut_end(line, LINE_CHARS_MAX)));
        }
        before = near;
    }
    cut_middle(shown.trim_end(), chars_max)
}

fn steps(old: &[&str], new: &[&str]) -> Vec<Step> {
    let start = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let (old_rest, new_rest) = (old.get(start..).unwrap_or(&[]), new.get(start..).unwrap_or(&[]));
    let pairs = old_rest.iter().rev().zip(new_rest.iter().rev());
    let end = pairs.take_while(|(a, b)| a == b).count();
    let old_middle = old_rest.get(..old_rest.len() - end).unwrap_or(&[]);
    let new_middle = new_rest.get(..new_rest.len() - end).unwrap_or(&[]);
    let mut steps = vec![Step::Same; start];
    if old_middle.len().max(new_middle.len()) > COMPARED_MAX {
        steps.extend(vec![Step::Removed; old_middle.len()]);
        steps.extend(vec![Step::Added; new_middle.len()]);
    } else {
        steps.extend(compared(old_middle, new_middle));
    }
    steps.extend(vec![Step::Same; end]);
    steps
}

/// By a longest common subsequence.
fn compared(old: &[&str], new: &[&str]) -> Vec<Step> {
    // common[i][j]: of old from i on and new from j on.
    let mut common = vec![vec![0_usize; new.len() + 1]; old.len() + 1];
    for (i, a) in old.iter().enumerate().rev() {
        for (j, b) in new.iter().enumerate().rev() {
            common[i][j] = if a == b {
                common[i + 1][j + 1] + 1
            } else {
                common[i + 1][j].max(common[i][j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut steps = Vec::with_capacity(old.len() + new.len());
    while i < old.len() || j < new.len() {
        let step = if i < old.len() && j < new.len() && old[i] == new[j] {
            Step::Same
        } else if j == new.len() || (i < old.len() && common[i + 1][j] >= common[i][j + 1]) {
            Step::Removed
        } else {
            Step::Added
        };
        i += usize::from(step != Step::Added);
        j += usize::from(step != Step::Removed);
        steps.push(step);
    }
    steps
}

/// Which steps are changes, or close to one.
fn near(steps: &[Step]) -> Vec<bool> {
    let mut near = vec![false; steps.len()];
    for (index, _) in steps.iter().enumerate().filter(|(_, step)| **step != Step::Same) {
        let from = index.saturating_sub(CONTEXT);
        near.iter_mut().take(index + CONTEXT + 1).skip(from).for_each(|near| *near = true);
    }
    near
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn changed_lines_are_shown_with_those_around_them() {
        let old = "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n12\n";
        let new = "1\n2\n3\nfour\n5\n6\n7\n8\n9\n10\n11\n12\n13\n";
        let expected = "@@ line 2 @@\n 2\n 3\n-4\n+four\n 5\n 6\n@@ line 11 @@\n 11\n 12\n+13";
        assert_eq!(short(old.as_bytes(), new.as_bytes(), 1000), expected);
        assert_eq!(short(b"a\nb\n", b"b\n", 1000), "@@ line 1 @@\n-a\n b");
        assert_eq!(short(b"", b"a", 1000), "@@ line 1 @@\n+a");
    }

    proptest! {
        #[test]
        fn the_steps_lead_from_old_to_new(
            old in prop::collection::vec("[ab]\n", 0..12),
            new in prop::collection::vec("[ab]\n", 0..12),
        ) {
            let old: Vec<&str> = old.iter().map(String::as_str).collect();
            let new: Vec<&str> = new.iter().map(String::as_str).collect();
            let (mut olds, mut news) = (old.iter(), new.iter());
            for step in steps(&old, &new) {
                match step {
                    Step::Same => prop_assert_eq!(olds.next(), news.next()),
                    Step::Removed => drop(olds.next()),
                    Step::Added => drop(news.next()),
                }
            }
            prop_assert_eq!((olds.next(), news.next()), (None, None));
        }

        #[test]
        fn it_is_bounded(
            old in "[ab\n]{0,300}", new in "[ab\n]{0,300}", chars_max in 0..300_usize
        ) {
            let shown = short(old.as_bytes(), new.as_bytes(), chars_max);
            prop_assert!(shown.chars().count() <= chars_max);
        }
    }
}
