//! What servers tell of tokens, made into a [`TokenTrace`] or refused. Pure.

use serde::Deserialize;

use super::TokenTrace;

/// Which policy sampled the completion tokens from `start` up to, and without, `end`.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct VersionSpan {
    pub version: String,
    pub start: usize,
    pub end: usize,
}

/// Checks that each token has its log-probability. A trainer trusts this without looking.
///
/// # Errors
/// What does not fit together.
pub(super) fn trace(
    prompt_ids: Vec<u32>,
    completion_ids: Vec<u32>,
    logprobs: Vec<Option<f64>>,
    versions: Vec<u64>,
) -> Result<TokenTrace, String> {
    if logprobs.len() != completion_ids.len() {
        let (ids, found) = (completion_ids.len(), logprobs.len());
        return Err(format!(
            "log-probabilities: expected one for each of {ids} ids, found {found}"
        ));
    }
    // Sums of rounded numbers may lie a little above 0.
    let is_logprob = |p: &f64| p.is_finite() && *p <= 1e-3;
    let checked = logprobs.iter().map(|p| p.filter(is_logprob)).collect::<Option<Vec<f64>>>();
    let logprobs =
        checked.ok_or("log-probabilities: expected numbers not above 0, found another")?;
    Ok(TokenTrace { prompt_ids, completion_ids, logprobs, versions })
}

/// The version of each token; none at all where spans leave one out, overlap, or have names that
/// are not versions of ours.
pub(super) fn versions(spans: &[VersionSpan], tokens: usize) -> Vec<u64> {
    let mut versions = Vec::with_capacity(tokens);
    for span in spans {
        let Ok(version) = span.version.parse::<u64>() else { return Vec::new() };
        if span.start != versions.len() || span.end < span.start || span.end > tokens {
            return Vec::new();
        }
        versions.resize(span.end, version);
    }
    if versions.len() == tokens { versions } else { Vec::new() }
}

/// Parts a text into what was thought and what was said, as reasoning models mark it: the thought
/// ends with `</think>`, and begins with `<think>` or, where the template has written that already,
/// with the text. A thought that was cut leaves nothing said.
pub(super) fn split_thought(text: &str) -> (Option<String>, String) {
    let opened = text.trim_start().strip_prefix("<think>");
    let (thought, said) = match (opened.unwrap_or(text).split_once("</think>"), opened) {
        (Some((thought, said)), _) => (thought, said),
        (None, Some(thought)) => (thought, ""),
        (None, None) => return (None, text.to_owned()),
    };
    let thought = thought.trim();
    let thought = (!thought.is_empty()).then(|| thought.to_owned());
    (thought, said.trim_start().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_has_a_log_probability_or_the_answer_is_refused() {
        let logprobs = vec![Some(-0.5), Some(0.0)];
        let traced = trace(vec![1], vec![2, 3], logprobs, vec![]).unwrap();
        assert_eq!((traced.completion_ids.len(), traced.logprobs), (2, vec![-0.5, 0.0]));
        for wrong in [vec![], vec![Some(-1.0); 3], vec![None, Some(-1.0)], vec![Some(0.5); 2]] {
            assert!(trace(vec![1], vec![2, 3], wrong.clone(), vec![]).is_err(), "{wrong:?}");
        }
        assert!(trace(vec![1], vec![2], vec![Some(f64::NEG_INFINITY)], vec![]).is_err());
    }

    #[test]
    fn versions_are_told_for_all_tokens_or_for_none() {
        let span = |version: &str, start, end| VersionSpan { version: version.into(), start, end };
        assert_eq!(versions(&[span("3", 0, 2), span("4", 2, 3)], 3), [3, 3, 4]);
        for spans in [
            vec![],
            vec![span("default", 0, 3)],
            vec![span("3", 0, 2)],
            vec![span("3", 1, 3)],
            vec![span("3", 0, 9)],
            vec![span("3", 0, 2), span("4", 1, 3)],
        ] {
            assert!(versions(&spans, 3).is_empty(), "{spans:?}");
        }
    }

    #[test]
    fn a_thought_is_no_part_of_the_text() {
        let parted = |text| split_thought(text);
        let thought = Some("hm".to_owned());
        assert_eq!(parted("<think>\nhm\n</think>\n\nyes"), (thought.clone(), "yes".into()));
        assert_eq!(parted("hm\n</think>\nyes"), (thought.clone(), "yes".into()));
        assert_eq!(parted("<think>hm"), (thought, String::new()));
        assert_eq!(parted("<think>\n\n</think>\n\nyes"), (None, "yes".into()));
        assert_eq!(parted(" yes "), (None, " yes ".into()));
    }
}
