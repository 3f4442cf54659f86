//! The "short test summary info" that `pytest -rA` ends with.
//!
//! What a test prints is in the same stream above the summary, and may look like one: the last
//! summary counts, and it must agree with the line of counts under it. A report that was cut off
//! therefore cannot pass.

use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TestStatus {
    Passed,
    /// Failed as its author expects; neither a pass nor a failure.
    ExpectedFailure,
    UnexpectedPass,
    Failed,
    Error,
}

/// A whole summary.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PytestReport {
    /// By test id (`tests/test_a.py::TestB::test_c[1]`); the worst where an id has several lines.
    /// Skipped tests have no id in a summary.
    pub tests: BTreeMap<String, TestStatus>,
    /// The last line's numbers, such as `passed` and `errors`.
    pub tally: BTreeMap<String, u64>,
}

impl PytestReport {
    /// Whether the named test ran and passed, with all its parameters where the name has none.
    pub fn passed(&self, name: &str) -> bool {
        let named = |id: &str| {
            let head = id.strip_suffix(name);
            head.is_some_and(|head| head.is_empty() || head.ends_with("::"))
        };
        let mut statuses = self
            .tests
            .iter()
            .filter(|(id, _)| named(id) || id.split_once('[').is_some_and(|(bare, _)| named(bare)))
            .map(|(_, status)| *status)
            .peekable();
        statuses.peek().is_some() && statuses.all(|status| status <= TestStatus::ExpectedFailure)
    }

    /// Why this is not a full pass; `None` where every test passed, one at least, and none was
    /// skipped.
    pub fn shortfall(&self) -> Option<String> {
        let count = |word: &str| self.tally.get(word).copied().unwrap_or(0);
        let bad = |status: TestStatus| status > TestStatus::ExpectedFailure;
        let lost: Vec<&str> =
            self.tests.iter().filter(|(_, s)| bad(**s)).map(|(id, _)| id.as_str()).collect();
        let failed = count("failed") + count("error") + count("xpassed");
        if failed > 0 || !lost.is_empty() {
            let names = lost.iter().take(3).copied().collect::<Vec<_>>().join(", ");
            let total = failed.max(lost.len() as u64);
            return Some(format!("{total} failed, {} passed: {names}", count("passed")));
        }
        match count("skipped") {
            0 if count("passed") == 0 => Some("no test ran".to_owned()),
            0 => None,
            skipped => Some(format!("{skipped} skipped, {} passed", count("passed"))),
        }
    }
}

/// Reads a verifier's standard output.
///
/// # Errors
/// A lower-case fragment that says what is missing or malformed.
pub fn parse(output: &str) -> Result<PytestReport, String> {
    let lines: Vec<String> = output.lines().map(plain).collect();
    let Some(header) = lines.iter().rposition(|line| is_header(line)) else {
        let empty =
            |line: &String| tally(line).is_some_and(|counts| !counts.contains_key("passed"));
        return Err(match lines.iter().rev().find(|line| tally(line).is_some()) {
            Some(last) if empty(last) => "no test ran".to_owned(),
            Some(_) => {
                "the tests' output has counts but no summary (run pytest with -rA)".to_owned()
            }
            None => "the tests' output has no pytest summary".to_owned(),
        });
    };
    let summary = &lines[header + 1..];
    let Some((end, tally)) =
        summary.iter().enumerate().rev().find_map(|(i, line)| Some((i, tally(line)?)))
    else {
        return Err("the pytest summary ends before its line of counts".to_owned());
    };
    let mut tests = BTreeMap::new();
    let mut passed = 0;
    for (id, status) in summary[..end].iter().filter_map(|line| result(line)) {
        passed += u64::from(status == TestStatus::Passed);
        let worst = tests.entry(id.to_owned()).or_insert(status);
        *worst = status.max(*worst);
    }
    let counted = tally.get("passed").copied().unwrap_or(0);
    if counted != passed {
        return Err(format!("the pytest summary names {passed} passed tests but counts {counted}"));
    }
    Ok(PytestReport { tests, tally })
}

/// A line without its colours (ECMA-48 control sequences) and the white space around it.
fn plain(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '\u{1b}' {
            out.push(c);
        } else if chars.next_if_eq(&'[').is_some() {
            // Parameters, then one final byte.
            while chars.next().is_some_and(|c| !('@'..='~').contains(&c)) {}
        }
    }
    out.trim().to_owned()
}

fn is_header(line: &str) -> bool {
    line.starts_with('=')
        && line.ends_with('=')
        && line.trim_matches('=').trim() == "short test summary info"
}

/// `=== 1 failed, 2 passed in 0.03s ===`, or the same without the bars (`-q`); `None` for any other
/// line.
fn tally(line: &str) -> Option<BTreeMap<String, u64>> {
    let (counts, time) = line.trim_matches('=').trim().rsplit_once(" in ")?;
    let seconds = time.split(' ').next()?.strip_suffix('s')?;
    seconds.parse::<f64>().ok()?;
    if counts == "no tests ran" {
        return Some(BTreeMap::new());
    }
    let count = |part: &str| {
        let (number, word) = part.split_once(' ')?;
        // `1 error`, `2 errors`; `1 warning`, `2 warnings`.
        Some((word.trim_end_matches('s').to_owned(), number.parse::<u64>().ok()?))
    };
    counts.split(", ").map(count).collect()
}

/// `STATUS id` or `STATUS id - message`; `None` for any other line, skipped tests among them.
fn result(line: &str) -> Option<(&str, TestStatus)> {
    let (word, rest) = line.split_once(' ')?;
    let status = match word.split('[').next()? {
        "PASSED" => return Some((rest.trim(), TestStatus::Passed)),
        "XFAIL" => TestStatus::ExpectedFailure,
        "XPASS" => TestStatus::UnexpectedPass,
        "FAILED" | "SUBFAILED" => TestStatus::Failed,
        "ERROR" => TestStatus::Error,
        _ => return None,
    };
    // Parameters may hold a ` - ` of their own.
    let id = match (rest.find("] - "), rest.split_once(" - ")) {
        (Some(bracket), Some((head, _))) if head.contains('[') => &rest[..=bracket],
        (_, Some((head, _))) => head,
        (_, None) => rest,
    };
    Some((id.trim(), status))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Printed by pytest 7.2 with `-rA --color=yes`; a test printed the first summary.
    const COLOURED: &str = "\
\u{1b}[32m\u{1b}[1m_______ test_ok _______\u{1b}[0m
--- Captured stdout call ---
=== short test summary info ===
PASSED test_a.py::test_never
=== 9 passed in 0.03s ===
\u{1b}[36m\u{1b}[1m====== short test summary info ======\u{1b}[0m
\u{1b}[32mPASSED\u{1b}[0m test_a.py::\u{1b}[1mtest_ok\u{1b}[0m
\u{1b}[32mPASSED\u{1b}[0m test_a.py::\u{1b}[1mtest_p[a b]\u{1b}[0m
\u{1b}[32mPASSED\u{1b}[0m test_a.py::\u{1b}[1mTestC::test_m\u{1b}[0m
\u{1b}[33mSKIPPED\u{1b}[0m [1] test_a.py:5: why - not
\u{1b}[33mXFAIL\u{1b}[0m test_a.py::\u{1b}[1mtest_xf\u{1b}[0m - bug
\u{1b}[33mXPASS\u{1b}[0m test_a.py::\u{1b}[1mtest_xp\u{1b}[0m 
\u{1b}[31mERROR\u{1b}[0m test_a.py::\u{1b}[1mtest_e\u{1b}[0m - ValueError: x
\u{1b}[31mFAILED\u{1b}[0m test_a.py::\u{1b}[1mtest_p[c - d]\u{1b}[0m - AssertionError: line1
\u{1b}[31m==== \u{1b}[31m\u{1b}[1m1 failed\u{1b}[0m, \u{1b}[32m3 passed\u{1b}[0m, 1 skipped, \
1 xfailed, 1 xpassed, \u{1b}[31m\u{1b}[1m1 error\u{1b}[0m\u{1b}[31m in 0.03s\u{1b}[0m =====";

    fn shortfall(output: &str) -> Option<String> {
        match parse(output) {
            Ok(report) => report.shortfall(),
            Err(fault) => Some(fault),
        }
    }

    #[test]
    fn every_kind_of_line_is_read_and_what_a_test_printed_is_not() {
        let report = parse(COLOURED).unwrap();
        let tests: Vec<_> =
            report.tests.iter().map(|(id, status)| (id.as_str(), *status)).collect();
        let want = [
            ("test_a.py::TestC::test_m", TestStatus::Passed),
            ("test_a.py::test_e", TestStatus::Error),
            ("test_a.py::test_ok", TestStatus::Passed),
            ("test_a.py::test_p[a b]", TestStatus::Passed),
            ("test_a.py::test_p[c - d]", TestStatus::Failed),
            ("test_a.py::test_xf", TestStatus::ExpectedFailure),
            ("test_a.py::test_xp", TestStatus::UnexpectedPass),
        ];
        assert_eq!(tests, want);
        assert!(report.shortfall().unwrap().starts_with("3 failed, 3 passed: test_a.py::test_e"));
    }

    #[test]
    fn a_name_stands_for_whole_parts_of_an_id() {
        let report = parse(COLOURED).unwrap();
        for name in
            ["test_ok", "test_a.py::test_ok", "TestC::test_m", "test_m", "test_p[a b]", "test_xf"]
        {
            assert!(report.passed(name), "{name}");
        }
        for name in
            ["ok", "test_p", "test_p[c - d]", "test_never", "test_s", "test_xp", "test_e", ""]
        {
            assert!(!report.passed(name), "{name}");
        }
    }

    #[test]
    fn all_passed_is_a_pass_with_bars_or_without_and_in_parallel() {
        let tail = "==== short test summary info ====\nPASSED t.py::a\nPASSED t.py::b\n";
        for (head, end) in [
            ("", "==== 2 passed in 0.01s ===="),
            ("", "2 passed, 1 warning in 61.20s (0:01:01)"),
            (
                "[gw0] [ 50%] PASSED t.py::a\n[gw1] [100%] FAILED t.py::z\n",
                "==== 2 passed in 1s ====",
            ),
        ] {
            assert_eq!(shortfall(&format!("{head}{tail}{end}\nbye\n")), None, "{end}");
        }
    }

    #[test]
    fn what_is_not_a_pass_says_why() {
        let header = "=== short test summary info ===\n";
        for (output, want) in [
            ("", "no pytest summary"),
            ("=== no tests ran in 0.00s ===\nERROR: file or directory not found: x", "no test ran"),
            ("=== 8 deselected in 0.01s ===", "no test ran"),
            ("=== 3 passed in 0.01s ===", "-rA"),
            (&format!("{header}PASSED t.py::a\nKilled"), "ends before its line of counts"),
            (
                &format!("{header}PASSED t.py::a\n=== 2 passed in 1s ==="),
                "names 1 passed tests but counts 2",
            ),
            (
                &format!("{header}SKIPPED [2] t.py:1: x\n=== 2 skipped in 1s ==="),
                "2 skipped, 0 passed",
            ),
            (&format!("{header}XFAIL t.py::a\n=== 1 xfailed in 1s ==="), "no test ran"),
            (
                &format!(
                    "{header}PASSED t.py::a\nERROR t.py::a - x\n=== 1 passed, 1 error in 1s ==="
                ),
                "1 failed",
            ),
            (&format!("{header}PASSED t.py::a\n=== 1 failed, 1 passed in 1s ==="), "1 failed"),
            (
                &format!(
                    "{header}PASSED t.py::a\nSUBFAILED[i=1] t.py::a - x\n=== 1 passed in 1s ==="
                ),
                "1 failed",
            ),
        ] {
            let found = shortfall(output).unwrap_or_default();
            assert!(found.contains(want), "{output:?} gave {found:?}");
        }
    }

    proptest! {
        #[test]
        fn no_output_panics(pieces in prop::collection::vec(prop::sample::select(vec![
            "=== short test summary info ===", "\n", "PASSED ", "FAILED ", "a::b", "[", "] - ",
            " - ", "é", "1 passed in 1s", "\u{1b}[", "\u{1b}", "=", " in ", ", ",
            "99999999999999999999 passed in 1s",
        ]), 0..40)) {
            let _ = shortfall(&pieces.concat());
        }
    }
}
