//! Text as an agent sees it: without control sequences, and never above its bound.
//!
//! Bounds are in characters. What is cut is marked with how much it was, so that an agent knows
//! that it has not seen everything.

use std::iter::Peekable;
use std::str::Chars;

use crate::sandbox::Captured;

/// What a mark takes at most, with its line breaks.
pub const MARK_CHARS_MAX: usize = 52;

/// Bytes from a program as text: invalid UTF-8 replaced, terminal sequences and control characters
/// left out, and of a line that was written over (a progress bar) only what it said last.
pub fn clean(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut clean = String::with_capacity(text.len());
    let mut line_start = 0;
    let mut returned = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\x1b' => skip_sequence(&mut chars),
            '\n' => {
                clean.push('\n');
                line_start = clean.len();
                returned = false;
            }
            '\r' => returned = true,
            '\x08' if clean.len() > line_start => drop(clean.pop()),
            c if c.is_control() && c != '\t' => {}
            c => {
                if std::mem::take(&mut returned) {
                    clean.truncate(line_start);
                }
                clean.push(c);
            }
        }
    }
    clean
}

/// The rest of a sequence after its escape character, as ECMA-48 has them.
fn skip_sequence(chars: &mut Peekable<Chars>) {
    match chars.next_if(|c| *c != '\n') {
        Some('[') => {
            while chars.next_if(|c| (' '..='?').contains(c)).is_some() {}
            chars.next_if(|c| ('@'..='~').contains(c));
        }
        // A string, to its terminator; one that has none ends with its line.
        Some(']' | 'P' | 'X' | '^' | '_') => {
            while let Some(c) = chars.next_if(|c| *c != '\n') {
                if c == '\x07' {
                    break;
                }
                if c == '\x1b' {
                    chars.next_if_eq(&'\\');
                    break;
                }
            }
        }
        Some(' '..='/') => {
            chars.next_if(|c| ('0'..='~').contains(c));
        }
        _ => {}
    }
}

/// The text, or its start and its end with a mark between.
pub fn cut_middle(text: &str, chars_max: usize) -> String {
    let count = text.chars().count();
    if count <= chars_max {
        return text.to_owned();
    }
    let keep = chars_max.saturating_sub(MARK_CHARS_MAX);
    let (head, tail) = (keep.div_ceil(2), keep / 2);
    let mark = format!("\n[... {} characters cut ...]\n", count - keep);
    within(format!("{}{mark}{}", first(text, head), last(text, tail)), chars_max)
}

/// The text, or its start with a mark after it.
pub fn cut_end(text: &str, chars_max: usize) -> String {
    let count = text.chars().count();
    if count <= chars_max {
        return text.to_owned();
    }
    let keep = chars_max.saturating_sub(MARK_CHARS_MAX);
    let mark = format!("[... {} characters cut ...]", count - keep);
    within(format!("{}{mark}", first(text, keep)), chars_max)
}

/// The text, or its end with a mark before it.
pub fn cut_start(text: &str, chars_max: usize) -> String {
    let count = text.chars().count();
    if count <= chars_max {
        return text.to_owned();
    }
    let keep = chars_max.saturating_sub(MARK_CHARS_MAX);
    let mark = format!("[... {} characters cut ...]", count - keep);
    within(format!("{mark}{}", last(text, keep)), chars_max)
}

/// An output, cleaned; the mark counts what the sandbox had cut already.
pub fn of_output(output: &Captured, chars_max: usize) -> String {
    let head = clean(&output.head);
    if output.cut_bytes == 0 {
        return cut_middle(&head, chars_max);
    }
    let keep = chars_max.saturating_sub(MARK_CHARS_MAX);
    let tail = clean(&output.tail);
    let (head_kept, tail_kept) = (first(&head, keep.div_ceil(2)), last(&tail, keep / 2));
    let left_out = head.len() - head_kept.len() + tail.len() - tail_kept.len();
    let cut = output.cut_bytes.saturating_add(left_out as u64);
    within(format!("{head_kept}\n[... {cut} bytes cut ...]\n{tail_kept}"), chars_max)
}

/// How `total` is shared out so that nobody gets more than it needs, and what the small leave over
/// goes to the large.
pub fn shares(needs: &[usize], total: usize) -> Vec<usize> {
    let mut smallest_first: Vec<(usize, usize)> = needs.iter().copied().enumerate().collect();
    smallest_first.sort_by_key(|(_, need)| *need);
    let mut left = total;
    let mut waiting = needs.len();
    let mut shares = vec![0; needs.len()];
    for (index, need) in smallest_first {
        let share = need.min(left / waiting);
        shares[index] = share;
        left -= share;
        waiting -= 1;
    }
    shares
}

/// The first characters of a text.
pub fn first(text: &str, chars: usize) -> &str {
    let end = text.char_indices().nth(chars).map_or(text.len(), |(at, _)| at);
    text.get(..end).unwrap_or_default()
}

/// The last characters of a text.
pub fn last(text: &str, chars: usize) -> &str {
    let start = match chars.checked_sub(1) {
        None => text.len(),
        Some(before) => text.char_indices().rev().nth(before).map_or(0, |(at, _)| at),
    };
    text.get(start..).unwrap_or_default()
}

/// For bounds that are shorter than a mark.
fn within(text: String, chars_max: usize) -> String {
    first(&text, chars_max).to_owned()
}

/// `1 line`, `2 lines`.
pub fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn terminal_sequences_are_left_out_and_of_a_progress_bar_the_last_state_stays() {
        for (raw, seen) in [
            ("\x1b[1;31mred\x1b[0m\tend\n", "red\tend\n"),
            ("10%\r50%\r100%\ndone\r\n", "100%\ndone\n"),
            ("\x1b]0;title\x07a\x1b]8;;x\x1b\\b\x1b(Bc\x1b7d", "abcd"),
            ("a\x1b]never ended\nb\0\x07", "a\nb"),
            ("N\x08NA\x08A\x08\x08\x08", ""),
            ("windows\r\r\n", "windows\n"),
            ("\x1b[", ""),
        ] {
            assert_eq!(clean(raw.as_bytes()), seen, "{raw:?}");
        }
        assert_eq!(clean(b"caf\xe9"), "caf\u{fffd}");
    }

    #[test]
    fn what_the_sandbox_cut_is_counted_with_what_is_cut_here() {
        let output = Captured { head: vec![b'a'; 500], tail: vec![b'z'; 500], cut_bytes: 1000 };
        let seen = of_output(&output, 152);
        assert!(seen.contains("[... 1900 bytes cut ...]"), "{seen}");
        assert!(seen.starts_with('a') && seen.ends_with('z'));
    }

    proptest! {
        #[test]
        fn a_cut_text_keeps_its_bound_and_says_that_it_was_cut(
            text in "\\PC{0,300}", chars_max in 0..250_usize
        ) {
            for (cut, mark) in [
                (cut_middle(&text, chars_max), "\n[... "),
                (cut_end(&text, chars_max), "[... "),
                (cut_start(&text, chars_max), "[... "),
            ] {
                prop_assert!(cut.chars().count() <= chars_max);
                let whole = text.chars().count() <= chars_max;
                prop_assert_eq!(whole, cut == text);
                prop_assert!(whole || chars_max < MARK_CHARS_MAX || cut.contains(mark));
            }
        }

        #[test]
        fn any_output_is_bounded_and_free_of_control_characters(
            head in prop::collection::vec(any::<u8>(), 0..300),
            tail in prop::collection::vec(any::<u8>(), 0..300),
            cut_bytes in prop_oneof![Just(0), any::<u64>()],
            chars_max in 0..400_usize,
        ) {
            let seen = of_output(&Captured { head, tail, cut_bytes }, chars_max);
            prop_assert!(seen.chars().count() <= chars_max);
            prop_assert!(seen.chars().all(|c| !c.is_control() || c == '\n' || c == '\t'));
            let told = seen.contains("bytes cut");
            prop_assert!(told || cut_bytes == 0 || chars_max < MARK_CHARS_MAX);
        }

        #[test]
        fn shares_are_fair(
            needs in prop::collection::vec(0..1000_usize, 0..10), total in 0..5000_usize
        ) {
            let given = shares(&needs, total);
            let sum: usize = given.iter().sum();
            prop_assert!(sum <= total);
            prop_assert!(given.iter().zip(&needs).all(|(given, need)| given <= need));
            // Nobody goes short while another has more than it, and nothing is held back.
            let pairs = given.iter().zip(&needs);
            let least_short = pairs.filter(|(given, need)| given < need).map(|(g, _)| *g).min();
            if let Some(short) = least_short {
                prop_assert!(given.iter().all(|given| *given <= short + 1));
                prop_assert!(total - sum < needs.len());
            }
        }
    }
}
