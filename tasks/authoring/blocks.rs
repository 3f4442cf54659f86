//! An answer's text, cut into blocks: a tag alone on its line, a body, and the closing tag alone on
//! its line. Everything else is prose.
//!
//! ```text
//! <file path="tests/test.sh">
//! ...
//! </file>
//! <remove path="tests/old.sh"/>
//! ```
//!
//! Tags begin their lines. Where a block ends is never guessed: one that is not closed before the
//! next begins is a fault, and so is a closing tag without an opening one. What stands before a
//! `</think>` was thought and not said.

/// Faults that are told at one time. Who has made more will make others when these are mended.
const FAULTS_MAX: usize = 20;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Block<'t> {
    pub tag: &'static str,
    /// Its attribute, where it has one.
    pub path: Option<&'t str>,
    /// Of the opening tag, 1 for the first.
    pub line: usize,
    /// Whole lines; of a tag that has no body, nothing.
    pub body: String,
}

/// The blocks of these tags in their order.
///
/// # Errors
/// Everything that is wrong with them, each with its line.
pub(super) fn blocks<'t>(
    text: &'t str,
    tags: &[&'static str],
) -> Result<Vec<Block<'t>>, Vec<String>> {
    let thought = text.rfind("</think>").map_or(0, |at| at + "</think>".len());
    let before = text.get(..thought).unwrap_or_default().matches('\n').count();
    let said = text.get(thought..).unwrap_or_default();
    let (mut blocks, mut faults) = (Vec::new(), Vec::new());
    let mut open: Option<Block<'t>> = None;
    for (at, line) in said.split_inclusive('\n').enumerate() {
        let number = before + at + 1;
        let mark = tags.iter().find_map(|tag| Some((*tag, mark(line.trim_end(), tag)?)));
        match (mark, open.as_mut()) {
            (None, None) => {}
            (None, Some(block)) => {
                block.body.push_str(line.trim_end_matches(['\r', '\n']));
                block.body.push('\n');
            }
            (Some((tag, Mark::Close)), Some(block)) if block.tag == tag => {
                blocks.extend(open.take())
            }
            (Some((tag, Mark::Close)), _) => {
                faults.push(format!("line {number}: </{tag}> closes nothing"));
            }
            (Some((tag, _)), Some(block)) => {
                let (opened, since) = (block.tag, block.line);
                faults.push(format!(
                    "line {number}: <{tag}> stands in the <{opened}> of line {since}, which must \
                     be closed before"
                ));
            }
            (Some((tag, Mark::Wrong)), None) => {
                faults.push(format!("line {number}: expected <{tag} path=\"PATH\"> and no more"));
            }
            (Some((tag, Mark::Open(path))), None) => {
                open = Some(Block { tag, path, line: number, body: String::new() });
            }
            (Some((tag, Mark::Whole(path))), None) => {
                blocks.push(Block { tag, path: Some(path), line: number, body: String::new() });
            }
        }
    }
    if let Some(block) = open {
        let Block { tag, line, .. } = block;
        faults.push(format!("line {line}: <{tag}> is never closed by a line </{tag}>"));
    }
    faults.truncate(FAULTS_MAX);
    if faults.is_empty() { Ok(blocks) } else { Err(faults) }
}

/// What a line is to a tag.
enum Mark<'t> {
    Open(Option<&'t str>),
    /// Opening and closing in one.
    Whole(&'t str),
    Close,
    /// Neither, though it begins like one.
    Wrong,
}

fn mark<'t>(line: &'t str, tag: &str) -> Option<Mark<'t>> {
    let rest = line.strip_prefix('<')?;
    if rest.strip_prefix('/').and_then(|rest| rest.strip_prefix(tag)) == Some(">") {
        return Some(Mark::Close);
    }
    let rest = rest.strip_prefix(tag)?;
    if rest == ">" {
        return Some(Mark::Open(None));
    }
    let attribute = rest.strip_prefix(' ')?;
    let whole = || {
        let path = attribute.trim_start().strip_prefix("path=\"")?;
        let (path, end) = path.split_once('"')?;
        match end.trim_start() {
            ">" => Some(Mark::Open(Some(path))),
            "/>" => Some(Mark::Whole(path)),
            _ => None,
        }
    };
    Some(whole().unwrap_or(Mark::Wrong))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TAGS: [&str; 2] = ["file", "remove"];

    fn faults(text: &str) -> Vec<String> {
        blocks(text, &TAGS).expect_err("faulty")
    }

    #[test]
    fn blocks_stand_among_prose_and_keep_their_bodies_as_they_are() {
        let text = "Here it is:\r\n\r\n<file path=\"a/b.sh\">\r\necho <file>\r\n  </file>\r\n\
                    </file>\r\nand <file path=\"x\"> is a tag\n<remove path=\"c d\" />\n\
                    <files>\n</filed>\n<file path=\"empty\">\n</file>";
        let found = blocks(text, &TAGS).expect("whole");
        let seen: Vec<_> = found.iter().map(|b| (b.tag, b.path, b.line, b.body.as_str())).collect();
        assert_eq!(
            seen,
            [
                ("file", Some("a/b.sh"), 3, "echo <file>\n  </file>\n"),
                ("remove", Some("c d"), 8, ""),
                ("file", Some("empty"), 11, ""),
            ]
        );
    }

    #[test]
    fn what_was_thought_was_not_said() {
        let text = "<think>\n<file path=\"a\">\nno\n</think>\n<file path=\"b\">\nyes\n</file>\n";
        let found = blocks(text, &TAGS).expect("whole");
        assert_eq!((found.len(), found[0].path, found[0].line), (1, Some("b"), 5));
        assert_eq!(blocks("it was never opened\n</think>\n", &TAGS), Ok(vec![]));
    }

    #[test]
    fn where_a_block_ends_is_never_guessed() {
        let open = "<file path=\"a\">\n1\n";
        assert_eq!(faults(open), ["line 1: <file> is never closed by a line </file>"]);
        let nested = format!("{open}<file path=\"b\">\n2\n</file>\n");
        let expected = "line 3: <file> stands in the <file> of line 1, which must be closed before";
        assert_eq!(faults(&nested), [expected]);
        assert_eq!(faults("x\n</remove>\n"), ["line 2: </remove> closes nothing"]);
        for wrong in ["<file path=a>", "<file name=\"a\">", "<file path=\"a\" mode=\"7\">"] {
            let expected = "line 1: expected <file path=\"PATH\"> and no more";
            assert_eq!(faults(&format!("{wrong}\n"))[0], expected, "{wrong}");
        }
    }

    proptest! {
        /// Whatever it says, nothing of an answer gets into a file that is not between its tags.
        #[test]
        fn any_text_is_read_or_refused(text in "(<|/|file|remove|>| path=\"a\"|\n|x){0,40}") {
            match blocks(&text, &TAGS) {
                Ok(found) => {
                    let bodies: usize = found.iter().map(|block| block.body.len()).sum();
                    prop_assert!(bodies <= text.len() + found.len());
                }
                Err(faults) => prop_assert!(!faults.is_empty() && faults.len() <= FAULTS_MAX),
            }
        }
    }
}
