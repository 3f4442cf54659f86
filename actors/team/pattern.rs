//! The regular expressions of `search` grep: pure.
//!
//! Agents write what Python, Perl or Rust would understand; every image has a `grep -E`. The
//! dialect is therefore POSIX extended, matched line by line, plus what can be said in its terms:
//! `\d`, `\D`, `\h`, `\t`, escapes within brackets, `(?:...)`, a leading `(?i)`, and lazy
//! quantifiers, which match the same lines as greedy ones. `\w`, `\s`, `\b` and their opposites are
//! left to `grep`, which knows them. Look-around, named groups and code points are refused.

use std::iter::Peekable;
use std::str::Chars;

use crate::team::shell::Refusal;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extended {
    pub pattern: String,
    pub ignore_case: bool,
}

/// # Errors
/// What of it cannot be said as an extended regular expression.
pub fn extended(pattern: &str) -> Result<Extended, Refusal> {
    let (ignore_case, rest) = match pattern.strip_prefix("(?i)") {
        Some(rest) => (true, rest),
        None => (false, pattern),
    };
    let translated = translate(rest).map_err(|why| {
        Refusal(format!(
            "pattern {pattern:?}: {why} (POSIX extended regular expressions, per line)"
        ))
    })?;
    Ok(Extended { pattern: translated, ignore_case })
}

fn translate(pattern: &str) -> Result<String, String> {
    if pattern.is_empty() {
        return Err("it is empty".to_owned());
    }
    let mut out = String::with_capacity(pattern.len());
    let mut chars = pattern.chars().peekable();
    let mut quantified = false;
    while let Some(c) = chars.next() {
        let after_quantifier = std::mem::take(&mut quantified);
        match c {
            '\n' | '\0' => return Err("it holds a line end or a zero byte".to_owned()),
            '\\' => escape(&mut chars, &mut out)?,
            '[' => bracket(&mut chars, &mut out)?,
            '(' => {
                out.push('(');
                if chars.next_if_eq(&'?').is_some() {
                    match chars.next() {
                        Some(':') => {}
                        _ => {
                            return Err("(? is understood as (?:...) only, and as a leading \
                                         (?i)"
                                .to_owned());
                        }
                    }
                }
            }
            // Laziness decides how much of a line matches, not whether.
            '?' if after_quantifier => {}
            '*' | '+' | '?' => {
                quantified = true;
                out.push(c);
            }
            '{' => match interval(&chars) {
                Some(interval) => {
                    chars.nth(interval.len() - 1);
                    out.push('{');
                    out.push_str(&interval);
                    quantified = true;
                }
                None => out.push_str("\\{"),
            },
            c => out.push(c),
        }
    }
    Ok(out)
}

/// `2}`, `2,}`, `2,5}` or `,5}`, if that is what follows.
fn interval(chars: &Peekable<Chars>) -> Option<String> {
    let mut inside = String::new();
    for c in chars.clone() {
        inside.push(c);
        match c {
            '0'..='9' | ',' => {}
            '}' => break,
            _ => return None,
        }
    }
    let numbers = inside.strip_suffix('}')?;
    let commas = numbers.matches(',').count();
    (commas < 2 && numbers.contains(|c: char| c.is_ascii_digit())).then_some(inside)
}

fn escape(chars: &mut Peekable<Chars>, out: &mut String) -> Result<(), String> {
    match chars.next() {
        None => return Err("it ends with a single backslash".to_owned()),
        Some('d') => out.push_str("[0-9]"),
        Some('D') => out.push_str("[^0-9]"),
        Some('h') => out.push_str("[[:blank:]]"),
        Some('t') => out.push('\t'),
        Some('r') => out.push('\r'),
        Some('A') => out.push('^'),
        Some('z' | 'Z') => out.push('$'),
        Some(c @ ('w' | 'W' | 's' | 'S' | 'b' | 'B' | '<' | '>' | '1'..='9')) => {
            out.push('\\');
            out.push(c);
        }
        Some(c) if ".[]()*+?{}^$|\\".contains(c) => {
            out.push('\\');
            out.push(c);
        }
        Some(c) if c.is_ascii_alphanumeric() => return Err(format!("\\{c} is not understood")),
        Some('\n' | '\0') => return Err("it holds a line end or a zero byte".to_owned()),
        // Superfluous, and `grep` warns of it.
        Some(c) => out.push(c),
    }
    Ok(())
}

/// In POSIX brackets a backslash is itself; `]` must come first, `^` not, and `-` last.
fn bracket(chars: &mut Peekable<Chars>, out: &mut String) -> Result<(), String> {
    let negated = chars.next_if_eq(&'^').is_some();
    let (mut body, mut close, mut caret, mut dash) = (String::new(), false, false, false);
    let mut first = true;
    loop {
        let at_start = std::mem::take(&mut first);
        match chars.next() {
            None => return Err("a bracket is not closed".to_owned()),
            Some(']') if at_start => close = true,
            Some(']') => break,
            Some('[') if chars.peek() == Some(&':') => {
                body.push('[');
                loop {
                    let c = chars.next().ok_or("a bracket is not closed")?;
                    body.push(c);
                    if c == ']' {
                        break;
                    }
                }
            }
            Some('-') if at_start || chars.peek() == Some(&']') => dash = true,
            Some('^') => caret = true,
            Some('\n' | '\0') => return Err("it holds a line end or a zero byte".to_owned()),
            Some('\\') => match chars.next() {
                None => return Err("a bracket is not closed".to_owned()),
                Some('d') => body.push_str("0-9"),
                Some('w') => body.push_str("[:alnum:]_"),
                Some('s') => body.push_str("[:space:]"),
                Some('h') => body.push_str("[:blank:]"),
                Some('t') => body.push('\t'),
                Some('r') => body.push('\r'),
                Some(']') => close = true,
                Some('^') => caret = true,
                Some('-') => dash = true,
                Some(c) if c.is_ascii_alphanumeric() => {
                    return Err(format!("\\{c} is not understood within brackets"));
                }
                Some(c) => body.push(c),
            },
            Some(c) => body.push(c),
        }
    }
    if caret && !negated && !close && body.is_empty() {
        // A lone caret cannot be said in brackets.
        out.push_str(if dash { "[-^]" } else { "\\^" });
        return Ok(());
    }
    out.push_str(if negated { "[^" } else { "[" });
    out.push_str(if close { "]" } else { "" });
    out.push_str(&body);
    out.push_str(if caret { "^" } else { "" });
    out.push_str(if dash { "-]" } else { "]" });
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn what_agents_write_is_said_as_an_extended_expression() {
        for (written, said) in [
            (r"\d+\.\d{1,3}", r"[0-9]+\.[0-9]{1,3}"),
            (r"fn \w+\(.*?\)", r"fn \w+\(.*\)"),
            (r"(?:a|b)+?c", "(a|b)+c"),
            (r"[\w.\-]+@[^\]\s]", "[[:alnum:]_.-]+@[^][:space:]]"),
            (r"interface {", r"interface \{"),
            (r"\{% \/x\-y", r"\{% /x-y"),
            (r"[]a]|[\^]|[a^-]", r"[]a]|\^|[a^-]"),
            (r"[[:digit:]\[]", "[[:digit:][]"),
            (r"a{2,}?\tb", "a{2,}\tb"),
        ] {
            assert_eq!(extended(written).map(|e| e.pattern).as_deref(), Ok(said), "{written}");
        }
        let folded = extended("(?i)error").expect("it is understood");
        assert_eq!((folded.pattern.as_str(), folded.ignore_case), ("error", true));
    }

    #[test]
    fn what_cannot_be_said_is_refused_clearly() {
        for (written, why) in [
            (r"(?=x)", "(?:...) only"),
            (r"(?P<n>x)", "(?:...) only"),
            (r"\p{L}", r"\p is not understood"),
            ("a\\nb", r"\n is not understood"),
            ("a\nb", "line end"),
            ("", "empty"),
            ("[abc", "not closed"),
            ("x\\", "single backslash"),
        ] {
            let refusal = extended(written).expect_err("it is refused").0;
            assert!(refusal.contains(why), "{refusal}");
        }
    }

    #[test]
    fn grep_matches_what_was_meant() {
        for (written, line, matches) in [
            (r"^\s*def \w+\(", "    def f(x):", true),
            (r"[\]\[]", "a[0]", true),
            (r"[^\]\[]{3}", "[]a[]", false),
            (r"[\^]", "a^b", true),
            (r"[\-^]x", "-x", true),
            (r"x{", "x{", true),
            (r"\bfoo\b", "a foo.", true),
            (r"\bfoo\b", "food", false),
            (r"[\d]+\$", "12$", true),
            (r"a+?b", "aab", true),
        ] {
            let said = extended(written).expect("it is understood").pattern;
            let mut grep = Command::new("grep")
                .args(["-qE", "-e", &said])
                .stdin(Stdio::piped())
                .spawn()
                .expect("grep is there");
            grep.stdin.take().expect("piped").write_all(line.as_bytes()).expect("it reads");
            let status = grep.wait().expect("it ends");
            assert_eq!(status.code(), Some(i32::from(!matches)), "{written} as {said} in {line}");
        }
    }
}
