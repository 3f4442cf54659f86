//! From what a verifier left behind to a reward.
//!
//! The reward is the unit tests and nothing else. A report that is missing, malformed, late, or
//! empty of tests is reward 0 with a note that says which; it never is a pass.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::pytest_report::{self, PytestReport};
use crate::task::RewardStrategy;

/// The largest reward file that is read, bytes.
pub const REWARD_BYTES_MAX: u64 = 1 << 20;

/// What a verifier's run is worth.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Verdict {
    /// Finite; 0 to 1 for the built-in rules, anything finite from a task's own reward file.
    pub reward: f64,
    /// Everything that the verifier gave a number to, by its names; the one number of a plain
    /// verifier is `reward`.
    pub rewards: BTreeMap<String, f64>,
    /// Why it is not a full pass, where there is something to say.
    pub note: Option<String>,
}

/// How pytest's results become one number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scheme {
    /// 1 when every test passed, else 0.
    #[default]
    Binary,
    /// The sum of the weights of the tests that passed; as `Binary` for a task without weights.
    Weighted,
}

/// Whether a reward is a full pass, which is what pass@k counts. The margin is for sums of weights
/// and means.
pub fn is_pass(reward: f64) -> bool {
    reward >= 1.0 - 1e-9
}

/// The verifier ran into its time limit.
pub fn timed_out(limit: Duration) -> Verdict {
    Verdict::nothing(format!("the verifier did not end within {} s", limit.as_secs_f64()))
}

/// Harbor's rule: `reward.json` (a number, or an object of numbers), else `reward.txt` (a number).
///
/// Of an object, the reward is the member `reward`, else the mean of all members.
pub fn reward_file(json: Option<&[u8]>, text: Option<&[u8]>) -> Verdict {
    let (name, bytes) = match (json, text) {
        (Some(bytes), _) => ("reward.json", bytes),
        (None, Some(bytes)) => ("reward.txt", bytes),
        (None, None) => return Verdict::nothing("the verifier left no reward.json or reward.txt"),
    };
    if bytes.len() as u64 > REWARD_BYTES_MAX {
        return Verdict::nothing(format!(
            "{name}: expected at most 1 MiB, found {} bytes",
            bytes.len()
        ));
    }
    let read = if json.is_some() { read_json(bytes) } else { read_text(bytes) };
    match read {
        Ok(rewards) => {
            let count = rewards.len() as f64;
            let mean = || rewards.values().map(|value| value / count).sum();
            let reward = rewards.get("reward").copied().unwrap_or_else(mean);
            Verdict { reward, rewards, note: None }
        }
        Err(fault) => Verdict::nothing(format!("{name}: {fault}")),
    }
}

/// The rule for pytest: `output` is the verifier's standard output, with the summary that `-rA`
/// prints.
///
/// A key of `weights` names a test function (`test_a`, `TestB::test_a`, all its parameters), or one
/// set of parameters of it (`test_a[x]`). A weighted test that is absent has failed, under both
/// schemes.
pub fn pytest(output: &str, weights: &BTreeMap<String, f64>, scheme: Scheme) -> Verdict {
    let report = match pytest_report::parse(output) {
        Ok(report) => report,
        Err(fault) => return Verdict::nothing(fault),
    };
    let lost: Vec<&str> =
        weights.keys().map(String::as_str).filter(|name| !report.passed(name)).collect();
    let note = report.shortfall().or_else(|| {
        let names = lost.iter().take(3).copied().collect::<Vec<_>>().join(", ");
        (!lost.is_empty()).then(|| format!("{} weighted tests did not run: {names}", lost.len()))
    });
    let reward = match scheme {
        _ if note.is_none() => 1.0,
        Scheme::Binary => 0.0,
        Scheme::Weighted => weighted(&report, weights),
    };
    Verdict { reward, rewards: BTreeMap::from([("reward".to_owned(), reward)]), note }
}

/// One number for a task of several steps, from the rewards of those that were reached, in order.
/// A step that was not reached counts 0.
pub fn over_steps(strategy: RewardStrategy, reached: &[f64], steps: usize) -> f64 {
    match strategy {
        RewardStrategy::Mean if steps == 0 => 0.0,
        RewardStrategy::Mean => reached.iter().take(steps).map(|r| r / steps as f64).sum(),
        RewardStrategy::Final => {
            steps.checked_sub(1).and_then(|last| reached.get(last)).copied().unwrap_or(0.0)
        }
    }
}

impl Verdict {
    fn nothing(note: impl Into<String>) -> Self {
        Self { reward: 0.0, rewards: BTreeMap::new(), note: Some(note.into()) }
    }
}

/// Over the sum of the weights, which an author may have rounded.
fn weighted(report: &PytestReport, weights: &BTreeMap<String, f64>) -> f64 {
    let total: f64 = weights.values().sum();
    let earned: f64 =
        weights.iter().filter(|(name, _)| report.passed(name)).map(|(_, weight)| weight).sum();
    if total > 0.0 { earned / total } else { 0.0 }
}

fn read_json(bytes: &[u8]) -> Result<BTreeMap<String, f64>, String> {
    let value: Value =
        serde_json::from_slice(bytes).map_err(|error| format!("expected JSON, found {error}"))?;
    match value {
        Value::Object(members) if members.is_empty() => {
            Err("expected a number or an object of numbers, found an empty object".to_owned())
        }
        Value::Object(members) => members
            .into_iter()
            .map(|(name, value)| match finite(&value) {
                Some(number) => Ok((name, number)),
                None => Err(format!("{name}: expected a finite number, found {}", kind(&value))),
            })
            .collect(),
        value => match finite(&value) {
            Some(number) => Ok(BTreeMap::from([("reward".to_owned(), number)])),
            None => {
                Err(format!("expected a number or an object of numbers, found {}", kind(&value)))
            }
        },
    }
}

fn read_text(bytes: &[u8]) -> Result<BTreeMap<String, f64>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "expected text, found other bytes")?.trim();
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(BTreeMap::from([("reward".to_owned(), number)])),
        _ => {
            let short: String = text.chars().take(40).collect();
            Err(format!("expected one finite number, found {short:?}"))
        }
    }
}

fn finite(value: &Value) -> Option<f64> {
    value.as_f64().filter(|number| number.is_finite())
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number out of range",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn json(text: &str) -> Verdict {
        reward_file(Some(text.as_bytes()), None)
    }

    fn note(verdict: Verdict) -> String {
        assert_eq!((verdict.reward, verdict.rewards.len()), (0.0, 0), "{verdict:?}");
        verdict.note.unwrap_or_default()
    }

    #[test]
    fn a_reward_file_gives_its_number_or_its_reward_member_or_the_mean() {
        assert_eq!(json("0.25").reward, 0.25);
        assert_eq!(json(" -3 ").reward, -3.0);
        assert_eq!(json(r#"{"reward": 0.5, "speed": 2}"#).reward, 0.5);
        assert_eq!(json(r#"{"a": 1, "b": 0}"#).reward, 0.5);
        assert_eq!(json(r#"{"a": 1.7e308, "b": 1.7e308}"#).reward, 1.7e308);
        assert_eq!(reward_file(None, Some(b" 1.0\n")).reward, 1.0);
        assert_eq!(reward_file(Some(b"0"), Some(b"1")).reward, 0.0, "reward.json goes first");
    }

    #[test]
    fn what_is_not_a_finite_number_is_refused_with_its_kind() {
        for (text, found) in [
            ("true", "a boolean"),
            ("\"1\"", "a string"),
            ("[1]", "a list"),
            ("null", "null"),
            ("{}", "an empty object"),
            (r#"{"a": {"b": 1}}"#, "a: expected a finite number, found an object"),
            (r#"{"reward": true}"#, "a boolean"),
            ("NaN", "expected JSON"),
            (r#"{"reward": Infinity}"#, "expected JSON"),
            ("1e999", "expected JSON"),
            ("1 1", "expected JSON"),
            ("", "expected JSON"),
        ] {
            let note = note(json(text));
            assert!(note.starts_with("reward.json: ") && note.contains(found), "{text}: {note}");
        }
        for text in ["", "nan", "inf", "-Infinity", "1 2", "one", "0x1", "True"] {
            let note = note(reward_file(None, Some(text.as_bytes())));
            assert!(note.contains("expected one finite number"), "{text}: {note}");
        }
        assert!(note(reward_file(None, Some(&[0xff]))).contains("other bytes"));
        assert!(note(reward_file(Some(&vec![b' '; (1 << 20) + 1]), None)).contains("1 MiB"));
        assert!(note(json(&"[".repeat(100_000))).contains("expected JSON"));
    }

    #[test]
    fn no_report_and_a_late_one_are_not_a_pass_and_say_so() {
        assert!(note(reward_file(None, None)).contains("left no reward.json"));
        assert_eq!(
            note(timed_out(Duration::from_secs(60))),
            "the verifier did not end within 60 s"
        );
    }

    #[test]
    fn weights_are_given_for_tests_that_passed_and_only_for_those() {
        let output = "== short test summary info ==\nPASSED t.py::test_a\nPASSED t.py::test_p[1]\n\
                      FAILED t.py::test_p[2] - no\nFAILED t.py::test_c\n\
                      == 2 failed, 2 passed in 1s ==";
        let weights = [("test_a", 0.5), ("test_p", 0.2), ("test_c", 0.2), ("test_gone", 0.1)];
        let weights = weights.map(|(name, weight)| (name.to_owned(), weight)).into();
        assert_eq!(pytest(output, &weights, Scheme::Weighted).reward, 0.5);
        assert_eq!(pytest(output, &weights, Scheme::Binary).reward, 0.0);
    }

    #[test]
    fn a_weighted_test_that_did_not_run_is_no_pass_and_rounded_weights_are() {
        let output = "== short test summary info ==\nPASSED t.py::test_a\n== 1 passed in 1s ==";
        let weights = |names: &[&str]| names.iter().map(|n| ((*n).to_owned(), 0.4997)).collect();
        let absent = pytest(output, &weights(&["test_a", "test_gone"]), Scheme::Binary);
        assert_eq!(absent.reward, 0.0);
        assert_eq!(absent.note.as_deref(), Some("1 weighted tests did not run: test_gone"));
        let whole = pytest(output, &weights(&["test_a"]), Scheme::Weighted);
        assert_eq!((whole.reward, whole.note), (1.0, None));
    }

    #[test]
    fn steps_that_were_not_reached_count_nothing() {
        assert_eq!(over_steps(RewardStrategy::Mean, &[1.0, 0.5], 3), 0.5);
        assert_eq!(over_steps(RewardStrategy::Final, &[1.0, 1.0], 3), 0.0);
        assert_eq!(over_steps(RewardStrategy::Final, &[0.0, 1.0], 2), 1.0);
    }

    proptest! {
        #[test]
        fn any_reward_file_gives_a_finite_reward(
            bytes in prop::collection::vec(any::<u8>(), 0..64),
            values in prop::collection::btree_map("[a-z]{1,3}", any::<f64>(), 0..4),
        ) {
            prop_assert!(reward_file(Some(&bytes), None).reward.is_finite());
            prop_assert!(reward_file(None, Some(&bytes)).reward.is_finite());
            let text = serde_json::to_string(&values).unwrap_or_default();
            let verdict = json(&text);
            prop_assert!(verdict.reward.is_finite());
            if verdict.note.is_none() {
                prop_assert_eq!(verdict.rewards, values);
            }
        }

        #[test]
        fn the_binary_reward_is_one_exactly_when_all_passed(
            passed in 0_usize..5, failed in 0_usize..3, skipped in 0_usize..3,
        ) {
            let mut output = "=== short test summary info ===\n".to_owned();
            (0..passed).for_each(|i| output.push_str(&format!("PASSED t.py::test_p{i}\n")));
            (0..failed).for_each(|i| output.push_str(&format!("FAILED t.py::test_f{i} - x\n")));
            (0..skipped).for_each(|i| output.push_str(&format!("SKIPPED [1] t.py:{i}: x\n")));
            let tally = [(passed, "passed"), (failed, "failed"), (skipped, "skipped")];
            let tally = tally.iter().filter(|(n, _)| *n > 0);
            let tally: Vec<_> = tally.map(|(n, what)| format!("{n} {what}")).collect();
            output.push_str(&format!("=== {} in 0.01s ===\n", tally.join(", ")));
            let verdict = pytest(&output, &BTreeMap::new(), Scheme::Binary);
            prop_assert_eq!(is_pass(verdict.reward), passed > 0 && failed == 0 && skipped == 0);
            prop_assert_eq!(verdict.note.is_none(), is_pass(verdict.reward));
        }
    }
}
