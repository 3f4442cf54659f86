//! A Dockerfile's text as logical lines: directives read, comments dropped, continuations joined,
//! heredocs cut out.

/// One instruction as written, before its words are looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// 1-based, of the keyword.
    pub number: usize,
    /// In capitals.
    pub keyword: String,
    /// What follows the keyword, trimmed; continuation lines are joined without a line feed, as
    /// Docker does.
    pub rest: String,
    pub heredocs: Vec<Heredoc>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Heredoc {
    /// The word that ends it.
    pub name: String,
    /// `<<-`: tabs at the start of its lines are dropped.
    pub strip_tabs: bool,
    /// Whole lines, each with its line feed.
    pub body: String,
    pub terminated: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Lines {
    /// `\`, or what the `escape` directive says.
    pub escape: char,
    /// The line and value of an `escape` directive that is neither `\` nor a backtick.
    pub bad_escape: Option<(usize, String)>,
    pub lines: Vec<Line>,
}

/// Splits a whole Dockerfile. Never fails: what is odd in a line is found when the line is read.
pub(crate) fn split(text: &str) -> Lines {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut source = text.lines().enumerate().map(|(i, line)| (i + 1, line)).peekable();
    let mut result = Lines { escape: '\\', bad_escape: None, lines: Vec::new() };
    while let Some((name, value)) = source.peek().and_then(|(_, line)| directive(line)) {
        if name == "escape" {
            match value {
                "\\" => result.escape = '\\',
                "`" => result.escape = '`',
                other => result.bad_escape = source.peek().map(|(n, _)| (*n, other.to_owned())),
            }
        }
        source.next();
    }
    while let Some((number, first)) = source.next() {
        if is_comment_or_blank(first) {
            continue;
        }
        let (mut joined, mut open) = cut_continuation(first, result.escape);
        while open {
            let Some((_, next)) = source.next() else { break };
            if is_comment_or_blank(next) {
                continue;
            }
            let (part, more) = cut_continuation(next, result.escape);
            joined.push_str(&part);
            open = more;
        }
        let joined = joined.trim();
        let (keyword, rest) = joined.split_once(char::is_whitespace).unwrap_or((joined, ""));
        let keyword = keyword.to_ascii_uppercase();
        let mut heredocs = Vec::new();
        if matches!(keyword.as_str(), "RUN" | "COPY" | "ADD") {
            for (name, strip_tabs) in heredoc_names(rest, result.escape) {
                let mut heredoc =
                    Heredoc { name, strip_tabs, body: String::new(), terminated: false };
                for (_, line) in source.by_ref() {
                    let bare = if strip_tabs { line.trim_start_matches('\t') } else { line };
                    if bare == heredoc.name {
                        heredoc.terminated = true;
                        break;
                    }
                    heredoc.body.push_str(line);
                    heredoc.body.push('\n');
                }
                heredocs.push(heredoc);
            }
        }
        result.lines.push(Line { number, keyword, rest: rest.trim().to_owned(), heredocs });
    }
    result
}

/// Words between white space, quotes and escapes kept as written: white space inside quotes does
/// not split.
pub(crate) fn words(text: &str, escape: char) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote: Option<char> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c.is_whitespace() && quote.is_none() {
            if !word.is_empty() {
                words.push(std::mem::take(&mut word));
            }
            continue;
        }
        word.push(c);
        if c == escape && quote != Some('\'') {
            word.extend(chars.next());
        } else if quote == Some(c) {
            quote = None;
        } else if quote.is_none() && (c == '"' || c == '\'') {
            quote = Some(c);
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

/// `# name=value`, which is a directive only above everything else.
fn directive(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.trim_start().strip_prefix('#')?.split_once('=')?;
    let name = name.trim();
    ["escape", "syntax", "check"]
        .into_iter()
        .find(|known| name.eq_ignore_ascii_case(known))
        .map(|known| (known, value.trim()))
}

fn is_comment_or_blank(line: &str) -> bool {
    let line = line.trim();
    line.is_empty() || line.starts_with('#')
}

/// The line without its escape at the end, and whether there was one.
fn cut_continuation(line: &str, escape: char) -> (String, bool) {
    match line.trim_end().strip_suffix(escape) {
        Some(cut) => (cut.to_owned(), true),
        None => (line.to_owned(), false),
    }
}

/// The heredocs that a line opens, by BuildKit's rule: a word `<<NAME` or `<<-NAME`, a file number
/// before it or not.
fn heredoc_names(rest: &str, escape: char) -> Vec<(String, bool)> {
    let opener = |word: &String| {
        let word = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
        let (word, strip_tabs) = match word.strip_prefix('-') {
            Some(word) => (word, true),
            None => (word, false),
        };
        let name = word.replace(['"', '\''], "");
        (!name.is_empty() && !name.contains('<')).then_some((name, strip_tabs))
    };
    words(rest, escape).iter().filter_map(opener).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rests(text: &str) -> Vec<(usize, String)> {
        split(text)
            .lines
            .into_iter()
            .map(|l| (l.number, format!("{} {}", l.keyword, l.rest)))
            .collect()
    }

    #[test]
    fn continuations_are_joined_and_comments_and_blank_lines_in_them_dropped() {
        let text = "from a\n\nrun x \\  \n  # why\n\n   && y \\\n\t&& z\n# end\nUSER u";
        let want = vec![
            (1, "FROM a".to_owned()),
            (3, "RUN x    && y \t&& z".to_owned()),
            (9, "USER u".to_owned()),
        ];
        assert_eq!(rests(text), want);
    }

    #[test]
    fn the_escape_directive_moves_continuations_to_backticks() {
        let text = "# syntax=docker/dockerfile:1\n# Escape = `\nFROM a\nRUN dir c:\\\nRUN x `\n y";
        let lines = split(text);
        assert_eq!(lines.escape, '`');
        let rest: Vec<_> = lines.lines.iter().map(|l| l.rest.as_str()).collect();
        assert_eq!(rest, ["a", "dir c:\\", "x  y"]);
    }

    #[test]
    fn a_directive_below_the_first_comment_is_a_comment() {
        assert_eq!(split("# hello\n# escape=`\nFROM a").escape, '\\');
    }

    #[test]
    fn a_heredoc_takes_the_lines_up_to_its_name() {
        let lines = split("FROM a\nRUN cat <<'E' >x <<-F\nUSER no\nE\n\tb\n\tF\nUSER u").lines;
        assert_eq!(lines.len(), 3);
        let bodies: Vec<_> = lines[1].heredocs.iter().map(|h| h.body.as_str()).collect();
        assert_eq!(bodies, ["USER no\n", "\tb\n"]);
        assert!(lines[1].heredocs.iter().all(|h| h.terminated));
        assert_eq!(lines[2].number, 7);
    }

    #[test]
    fn a_here_string_and_a_shift_are_not_heredocs() {
        let lines = split("RUN cat <<<x && echo $((1<<2))\nUSER u").lines;
        assert!(lines[0].heredocs.is_empty());
        assert_eq!(lines.len(), 2);
    }
}
