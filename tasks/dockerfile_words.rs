//! Quotes, escapes and variables in a word of a Dockerfile, by the rules of BuildKit's
//! `shell/lex.go`.

use std::iter::Peekable;
use std::str::Chars;

/// What a word may grow to: `ENV A=$A$A` doubles with every line.
const WORD_BYTES_MAX: usize = 32 << 10;
/// How deep `${A:-${B:-...}}` may nest.
const NESTING_MAX: usize = 16;

/// Why a word cannot be read: what was expected, what was found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadWord {
    pub expected: &'static str,
    pub found: String,
}

/// Takes quotes and escapes away and puts variables in. A variable without a value is empty text.
pub(crate) fn expand<'a>(
    word: &str,
    escape: char,
    lookup: &dyn Fn(&str) -> Option<&'a str>,
) -> Result<String, BadWord> {
    let mut expander = Expander { chars: word.chars().peekable(), escape, lookup };
    expander.until(None, 0)
}

struct Expander<'w, 'l, 'a> {
    chars: Peekable<Chars<'w>>,
    escape: char,
    lookup: &'l dyn Fn(&str) -> Option<&'a str>,
}

impl Expander<'_, '_, '_> {
    /// Up to and with `stop`, or to the end of the word where it is `None`.
    fn until(&mut self, stop: Option<char>, depth: usize) -> Result<String, BadWord> {
        if depth > NESTING_MAX {
            return Err(bad("variables nested at most 16 deep", "more"));
        }
        let mut out = String::new();
        loop {
            let Some(c) = self.chars.next() else {
                return match stop {
                    None => Ok(out),
                    Some(_) => Err(bad("a `}` that ends the variable", "the end of the word")),
                };
            };
            match c {
                c if Some(c) == stop => return Ok(out),
                '\'' => self.single_quoted(&mut out)?,
                '"' => self.double_quoted(&mut out, depth)?,
                '$' => out.push_str(&self.variable(depth)?),
                c if c == self.escape => out.extend(self.chars.next()),
                c => out.push(c),
            }
            if out.len() > WORD_BYTES_MAX {
                return Err(bad("a word of at most 32 KiB after substitution", "more"));
            }
        }
    }

    fn single_quoted(&mut self, out: &mut String) -> Result<(), BadWord> {
        loop {
            match self.chars.next() {
                Some('\'') => return Ok(()),
                Some(c) => out.push(c),
                None => return Err(bad("a closing single quote", "the end of the word")),
            }
        }
    }

    fn double_quoted(&mut self, out: &mut String, depth: usize) -> Result<(), BadWord> {
        loop {
            match self.chars.next() {
                Some('"') => return Ok(()),
                Some('$') => out.push_str(&self.variable(depth)?),
                Some(c) if c == self.escape => match self.chars.peek() {
                    Some(&next) if next == '"' || next == '$' || next == self.escape => {
                        out.extend(self.chars.next());
                    }
                    _ => out.push(c),
                },
                Some(c) => out.push(c),
                None => return Err(bad("a closing double quote", "the end of the word")),
            }
            if out.len() > WORD_BYTES_MAX {
                return Err(bad("a word of at most 32 KiB after substitution", "more"));
            }
        }
    }

    /// After a `$`.
    fn variable(&mut self, depth: usize) -> Result<String, BadWord> {
        if self.chars.next_if_eq(&'{').is_none() {
            let name = self.name();
            let value = if name.is_empty() { Some("$") } else { (self.lookup)(&name) };
            return Ok(value.unwrap_or_default().to_owned());
        }
        let name = self.name();
        if name.is_empty() {
            return Err(bad("a variable's name after `${`", self.rest()));
        }
        let value = (self.lookup)(&name);
        let colon = self.chars.next_if_eq(&':').is_some();
        match self.chars.next() {
            Some('}') if !colon => Ok(value.unwrap_or_default().to_owned()),
            Some(modifier @ ('-' | '+')) => {
                let word = self.until(Some('}'), depth + 1)?;
                let set = value.filter(|value| !(colon && value.is_empty()));
                Ok(match (modifier, set) {
                    ('-', Some(value)) => value.to_owned(),
                    ('-', None) | ('+', Some(_)) => word,
                    _ => String::new(),
                })
            }
            Some(other) => Err(bad(
                "`}`, `:-` or `:+` after a variable's name",
                format!("`{other}` after `{name}`"),
            )),
            None => Err(bad("a `}` that ends the variable", "the end of the word")),
        }
    }

    /// A variable's name, or one digit; empty where none stands here.
    fn name(&mut self) -> String {
        if let Some(digit) = self.chars.next_if(char::is_ascii_digit) {
            return digit.to_string();
        }
        let mut name = String::new();
        while let Some(c) = self.chars.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
            name.push(c);
        }
        name
    }

    fn rest(&self) -> String {
        format!("`{}`", self.chars.clone().collect::<String>())
    }
}

fn bad(expected: &'static str, found: impl Into<String>) -> BadWord {
    BadWord { expected, found: found.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(word: &str) -> Result<String, BadWord> {
        expand(word, '\\', &|name| match name {
            "A" => Some("a b"),
            "EMPTY" => Some(""),
            _ => None,
        })
    }

    #[test]
    fn words_expand_as_in_docker() {
        let cases = [
            ("$A/x", "a b/x"),
            ("${A}x", "a bx"),
            ("$NONE", ""),
            ("${NONE:-d}", "d"),
            ("${EMPTY:-d}", "d"),
            ("${EMPTY-d}", ""),
            ("${A:+set}", "set"),
            ("${EMPTY:+set}", ""),
            ("${EMPTY+set}", "set"),
            ("${NONE:-${ALSO:-$A}}", "a b"),
            (r"\$A", "$A"),
            (r"'$A'", "$A"),
            (r#""$A\n\"\$""#, r#"a b\n"$"#),
            ("a$", "a$"),
            ("$.", "$."),
            (r"a\ b", "a b"),
        ];
        for (word, want) in cases {
            assert_eq!(expanded(word).as_deref(), Ok(want), "{word}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for word in ["${A", "${}", "${A:?x}", "${A%x}", "'a", "\"a", "${A:-x", "${A:"] {
            assert!(expanded(word).is_err(), "{word}");
        }
    }

    #[test]
    fn neither_nesting_nor_growth_has_no_bound() {
        let deep = format!("{}{}", "${X:-".repeat(10_000), "}".repeat(10_000));
        assert!(expanded(&deep).is_err());
        let long = "y".repeat(20 << 10);
        let lookup = |_: &str| Some(long.as_str());
        assert!(expand("$A$A", '\\', &lookup).is_err());
    }
}
