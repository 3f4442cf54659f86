//! Slurm's way of writing many hosts in few letters: `n[1-3,7],gpu01`, `r[0-1]n[01-16]`.

/// More than any cluster of ours; a range such as `n[0-999999999]` is refused before it is written
/// out.
pub const HOSTS_MAX: usize = 1024;
/// Of the whole list.
const TEXT_BYTES_MAX: usize = 64 << 10;
/// Of a number in a range: it fits `u32` so.
const DIGITS_MAX: usize = 9;
const HOST_BYTES_MAX: usize = 253;

/// The hosts of a list, in its order.
///
/// # Errors
/// What is wrong, in words that go after "found".
pub fn expand(text: &str) -> Result<Vec<String>, String> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(format!("{} bytes", text.len()));
    }
    let mut hosts = Vec::new();
    for item in items(text.trim())? {
        let room = HOSTS_MAX - hosts.len();
        hosts.extend(expand_item(item, room)?);
    }
    Ok(hosts)
}

fn too_many() -> String {
    format!("more than {HOSTS_MAX} hosts")
}

/// The parts between the commas that stand outside brackets.
fn items(text: &str) -> Result<Vec<&str>, String> {
    let mut items = Vec::new();
    let (mut start, mut inside) = (0, false);
    for (at, letter) in text.char_indices() {
        match letter {
            '[' if !inside => inside = true,
            ']' if inside => inside = false,
            '[' | ']' => return Err(format!("a stray `{letter}` in `{}`", shown(text))),
            ',' if !inside => {
                items.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    if inside {
        return Err(format!("no `]` at the end of `{}`", shown(&text[start..])));
    }
    items.push(&text[start..]);
    Ok(items)
}

/// One item: plain text and bracketed ranges in turn. Several ranges multiply, the last of them
/// fastest.
fn expand_item(item: &str, room: usize) -> Result<Vec<String>, String> {
    let mut hosts = vec![String::new()];
    let mut rest = item;
    while !rest.is_empty() {
        let (plain, ranges) = match rest.split_once('[') {
            None => (std::mem::take(&mut rest), None),
            Some((plain, after)) => {
                let (ranges, after) = after.split_once(']').unwrap_or((after, ""));
                rest = after;
                (plain, Some(ranges))
            }
        };
        hosts.iter_mut().for_each(|host| host.push_str(plain));
        if let Some(ranges) = ranges {
            let ends = numbers(ranges, room)?;
            if hosts.len().saturating_mul(ends.len()) > room {
                return Err(too_many());
            }
            hosts = hosts
                .iter()
                .flat_map(|host| ends.iter().map(move |end| format!("{host}{end}")))
                .collect();
        }
    }
    if hosts.len() > room {
        return Err(too_many());
    }
    match hosts.iter().find(|host| !is_host(host)) {
        Some(host) => Err(format!("`{}`, which is no host's name", shown(host))),
        None => Ok(hosts),
    }
}

/// What stands between brackets: `1-3,7`. Numbers keep the leading zeros of a range's start.
fn numbers(ranges: &str, room: usize) -> Result<Vec<String>, String> {
    let mut numbers = Vec::new();
    for range in ranges.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let bad = || format!("the range `{}`", shown(range));
        let from = number(first).ok_or_else(bad)?;
        let to = number(last).filter(|to| from <= *to).ok_or_else(bad)?;
        let width = first.len();
        if (to - from) as usize >= room.saturating_sub(numbers.len()) {
            return Err(too_many());
        }
        numbers.extend((from..=to).map(|number| format!("{number:0width$}")));
    }
    Ok(numbers)
}

fn number(text: &str) -> Option<u32> {
    let digits = (1..=DIGITS_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

/// Letters, digits, `-`, `_` and `.`, beginning with a letter or a digit.
pub(crate) fn is_host(host: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    host.len() <= HOST_BYTES_MAX
        && host.starts_with(|c: char| c.is_ascii_alphanumeric())
        && host.chars().all(plain)
}

/// The start of a text from outside, for a message of one line.
pub(crate) fn shown(text: &str) -> String {
    const SHOWN_CHARS_MAX: usize = 60;
    let start: String = text.chars().take(SHOWN_CHARS_MAX).collect();
    let cut = if start.len() < text.len() { "..." } else { "" };
    format!("{}{cut}", start.escape_debug())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hosts_are_written_out_in_order_with_their_zeros() {
        let table: &[(&str, &[&str])] = &[
            ("gpu01", &["gpu01"]),
            ("n[1-3,7],gpu01\n", &["n1", "n2", "n3", "n7", "gpu01"]),
            ("n[08-11]", &["n08", "n09", "n10", "n11"]),
            ("r[0-1]n[1-2].lab", &["r0n1.lab", "r0n2.lab", "r1n1.lab", "r1n2.lab"]),
            ("a-b_c,D.e", &["a-b_c", "D.e"]),
            ("n[5]", &["n5"]),
        ];
        for (text, hosts) in table {
            assert_eq!(expand(text), Ok(hosts.iter().map(|host| host.to_string()).collect()));
        }
    }

    #[test]
    fn a_list_that_is_none_is_refused() {
        let table = [
            ("", "``, which is no host's name"),
            ("a,,b", "``, which is no host's name"),
            ("n[1-3", "no `]` at the end of `n[1-3`"),
            ("n1-3]", "a stray `]` in `n1-3]`"),
            ("n[1[2]]", "a stray `[` in `n[1[2]]`"),
            ("n[3-1]", "the range `3-1`"),
            ("n[]", "the range ``"),
            ("n[1-]", "the range `1-`"),
            ("n[1-2-3]", "the range `1-2-3`"),
            ("n[-1]", "the range `-1`"),
            ("n[+1-2]", "the range `+1-2`"),
            ("n[1-9999999999]", "the range `1-9999999999`"),
            ("n 1", "`n 1`, which is no host's name"),
            ("-n", "`-n`, which is no host's name"),
            ("n\u{1b}[1]m", "`n\\u{1b}1m`, which is no host's name"),
        ];
        for (text, found) in table {
            assert_eq!(expand(text), Err(found.to_owned()), "{text}");
        }
    }

    #[test]
    fn a_small_text_cannot_ask_for_more_hosts_than_there_may_be() {
        assert_eq!(expand("n[1-1024]").map(|hosts| hosts.len()), Ok(1024));
        for text in [
            "n[0-999999999]",
            "n[1-1025]",
            "n[1-1024],m",
            "n[1-100][1-100]",
            "n[1-99][1-99][1-99][1-99][1-99][1-99]",
            "n[1-600,1-600]",
        ] {
            assert_eq!(expand(text), Err(too_many()), "{text}");
        }
        assert!(expand(&"n,".repeat(40_000)).is_err());
    }

    proptest! {
        #[test]
        fn no_text_is_a_panic_or_too_much(text in "[n01,\\[\\]-]{0,40}|.{0,40}") {
            if let Ok(hosts) = expand(&text) {
                prop_assert!((1..=HOSTS_MAX).contains(&hosts.len()));
                prop_assert!(hosts.iter().all(|host| is_host(host)));
            }
        }
    }
}
