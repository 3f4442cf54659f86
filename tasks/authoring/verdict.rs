//! What a reviewer says of a task: a small document of YAML, or JSON, between `<verdict>` tags, and
//! files that replace the builder's, where it mends the task itself.

use std::path::Path;

use crate::Defects;
use crate::authoring::blocks::blocks;
use crate::authoring::draft::{Change, TAGS};
use crate::yaml_doc;

/// Of a reason, in characters: more is cut.
const REASON_CHARS_MAX: usize = 4_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Accept,
    Reject {
        reason: String,
    },
    /// With files: it is mended. Without: the builder is to do what the reason says.
    Patch {
        reason: String,
        change: Change,
    },
}

impl Verdict {
    /// Reads an answer.
    ///
    /// # Errors
    /// Everything that is wrong with it, for its author to mend.
    pub fn read(answer: &str) -> Result<Self, Vec<String>> {
        let found = blocks(answer, &[&TAGS[..], &["verdict"]].concat())?;
        let (verdicts, files): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|block| block.tag == "verdict");
        let [block] = verdicts.as_slice() else {
            return Err(vec![format!("expected one <verdict>, found {}", verdicts.len())]);
        };
        let change = Change::of(&files)?;
        let told = |defects: Defects| defects.0.iter().map(ToString::to_string).collect();
        let doc = yaml_doc::parse(Path::new("verdict"), &block.body).map_err(told)?;
        let root = doc.root();
        let decision = root.one_of("decision", &Decision::NAMES);
        let reason = match decision {
            Some(Decision::Accept) => root.string_or("reason", ""),
            _ => root.string("reason"),
        };
        let reason = reason.trim().chars().take(REASON_CHARS_MAX).collect();
        if !change.is_empty() && decision != Some(Decision::Patch) {
            root.refuse("decision", "patch, as there are files", "another");
        }
        let verdict = match decision {
            Some(Decision::Accept) => Self::Accept,
            Some(Decision::Patch) => Self::Patch { reason, change },
            Some(Decision::Reject) | None => Self::Reject { reason },
        };
        doc.finish(verdict).map_err(told)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    Accept,
    Reject,
    Patch,
}

impl Decision {
    const NAMES: [(&str, Self); 3] =
        [("accept", Self::Accept), ("reject", Self::Reject), ("patch", Self::Patch)];
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(answer: &str) -> Result<Verdict, Vec<String>> {
        Verdict::read(answer)
    }

    #[test]
    fn a_reviewer_accepts_rejects_or_patches_with_files_or_without() {
        let accept = "Good.\n<verdict>\ndecision: accept\n</verdict>\n";
        assert_eq!(read(accept), Ok(Verdict::Accept));
        let reject = "<verdict>\n{\"decision\": \"reject\", \"reason\": \"dull\"}\n</verdict>";
        assert_eq!(read(reject), Ok(Verdict::Reject { reason: "dull".into() }));
        let patch = "<verdict>\ndecision: patch\nreason: too lax\n</verdict>\n";
        let Ok(Verdict::Patch { reason, change }) = read(patch) else { panic!("a patch") };
        assert_eq!((reason.as_str(), change.is_empty()), ("too lax", true));
        let files = format!("{patch}<file path=\"tests/test.sh\">\nfalse\n</file>\n");
        assert!(matches!(read(&files), Ok(Verdict::Patch { change, .. }) if !change.is_empty()));
    }

    #[test]
    fn a_verdict_that_can_be_taken_in_two_ways_is_none() {
        for (answer, words) in [
            ("fine", "expected one <verdict>, found 0"),
            ("<verdict>\ndecision: maybe\nreason: x\n</verdict>", "decision: expected"),
            ("<verdict>\ndecision: reject\n</verdict>", "reason: expected"),
            (
                "<verdict>\ndecision: accept\n</verdict>\n<file path=\"tests/a\">\n</file>",
                "decision: expected patch, as there are files",
            ),
            (
                "<verdict>\ndecision: patch\nreason: x\n</verdict>\n<file path=\"/a\">\n</file>",
                "/a",
            ),
        ] {
            let faults = read(answer).expect_err(answer);
            assert!(faults.iter().any(|fault| fault.contains(words)), "{answer}: {faults:?}");
        }
    }
}
