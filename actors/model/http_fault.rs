//! From what an endpoint said instead of answering to what kind of failure that is. Pure.

use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::ModelErrorKind;

/// Of the endpoint's own words in an error: enough for a sentence or two, and a web page of a proxy
/// does not fill the log.
const WORDS_CHARS_MAX: usize = 500;

/// How endpoints say that a prompt does not fit, in lower case: codes first, then phrases.
const OVERFLOWS: [&str; 14] = [
    // OpenAI and those that follow it; llama.cpp.
    "context_length_exceeded",
    "exceed_context_size_error",
    "model_context_window_exceeded",
    // OpenAI, vLLM, SGLang ("exceeds the model's maximum context length").
    "maximum context length",
    // vLLM on token ids.
    "maximum model length",
    "max_model_len",
    // SGLang, Together.
    "longer than the model's context length",
    "exceeds the model's context length",
    // Anthropic, then with the answer's length counted in.
    "prompt is too long",
    "exceed context limit",
    // llama.cpp, xAI, Groq, Gemini.
    "available context size",
    "maximum prompt length",
    "reduce the length of the messages",
    "exceeds the maximum number of tokens allowed",
];

/// What the body of a refusal says.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Words {
    /// For the user: one line, bounded.
    pub said: String,
    /// Everything that is looked through for reasons, in lower case.
    searched: String,
    /// An HTTP status that stands within the body: some proxies answer 200 and mean another.
    pub status: Option<u16>,
}

impl Words {
    /// Reads the error shapes of OpenAI, Anthropic, vLLM, SGLang and FastAPI, or any text.
    pub fn read(body: &[u8], redact: impl Fn(&str) -> String) -> Self {
        let text = redact(&String::from_utf8_lossy(body));
        let Ok(json) = serde_json::from_str::<Value>(&text) else {
            return Self { said: one_line(&text), searched: text.to_lowercase(), status: None };
        };
        let error = json.get("error").filter(|error| !error.is_null()).unwrap_or(&json);
        let said = ["message", "detail", "msg", "error"].iter().find_map(|key| error.get(key));
        let said = match said.unwrap_or(error) {
            Value::String(said) => said.clone(),
            other => other.to_string(),
        };
        let status = error.get("code").and_then(Value::as_u64);
        Self {
            said: one_line(&redact(&said)),
            searched: error.to_string().to_lowercase(),
            status: status.and_then(|code| u16::try_from(code).ok()).filter(|c| *c >= 400),
        }
    }

    fn is_overflow(&self) -> bool {
        OVERFLOWS.iter().any(|words| self.searched.contains(words))
    }
}

/// What kind of failure an HTTP status is.
pub(super) fn kind_of(status: u16, words: &Words) -> ModelErrorKind {
    match status {
        400 | 413 | 422 if words.is_overflow() => ModelErrorKind::ContextOverflow,
        // Too many bytes, before anyone counted tokens.
        413 => ModelErrorKind::ContextOverflow,
        401 | 403 => ModelErrorKind::Unauthorized,
        408 => ModelErrorKind::TimedOut,
        429 => ModelErrorKind::RateLimited,
        // 409: endpoints answer so while they load a model or hold a lock.
        409 | 500..=599 => ModelErrorKind::Overloaded,
        _ => ModelErrorKind::Rejected,
    }
}

/// The endpoint's wish from `retry-after-ms` or `retry-after`, in seconds or as an HTTP date. What
/// cannot be read is no wish.
pub(super) fn retry_after(
    ms: Option<&str>,
    header: Option<&str>,
    now: SystemTime,
) -> Option<Duration> {
    let number = |text: &str, unit: f64| {
        let seconds = text.trim().parse::<f64>().ok()? / unit;
        Duration::try_from_secs_f64(seconds).ok()
    };
    if let Some(wish) = ms.and_then(|ms| number(ms, 1e3)) {
        return Some(wish);
    }
    let header = header?;
    number(header, 1.0).or_else(|| {
        let date = httpdate::parse_http_date(header.trim()).ok()?;
        Some(date.duration_since(now).unwrap_or(Duration::ZERO))
    })
}

/// Without line breaks, and not longer than is shown.
pub(super) fn one_line(text: &str) -> String {
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
        if let Some((end, _)) = line.char_indices().nth(WORDS_CHARS_MAX) {
            line.truncate(end);
            line.push_str("...");
            return line;
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(body: &str) -> Words {
        Words::read(body.as_bytes(), str::to_owned)
    }

    #[test]
    fn every_endpoint_s_words_for_a_prompt_that_does_not_fit_are_known() {
        let bodies = [
            r#"{"error": {"message": "Too long.", "type": "invalid_request_error",
                "param": "messages", "code": "context_length_exceeded"}}"#,
            r#"{"object": "error", "message": "This model's maximum context length is 4096 tokens.
                However, you requested 5000 tokens", "type": "BadRequestError", "code": 400}"#,
            r#"{"error": {"message": "The input (9 tokens) is longer than the model's context length"}}"#,
            r#"{"type": "error", "error": {"type": "invalid_request_error",
                "message": "prompt is too long: 210000 tokens > 200000 maximum"}}"#,
            r#"{"error": {"code": 400, "message": "the request exceeds the available context size",
                "type": "exceed_context_size_error"}}"#,
        ];
        for body in bodies {
            assert_eq!(kind_of(400, &words(body)), ModelErrorKind::ContextOverflow, "{body}");
        }
        let other = words(r#"{"error": {"message": "unknown model", "code": "model_not_found"}}"#);
        assert_eq!(kind_of(400, &other), ModelErrorKind::Rejected);
        assert_eq!(kind_of(404, &other), ModelErrorKind::Rejected);
        assert_eq!(other.said, "unknown model");
    }

    #[test]
    fn words_are_found_in_every_shape_of_error() {
        assert_eq!(words(r#"{"detail": "Not Found"}"#).said, "Not Found");
        assert_eq!(words(r#"{"error": "no such model"}"#).said, r#"no such model"#);
        assert_eq!(words("<html>\n  <b>502</b>").said, "<html> <b>502</b>");
        assert_eq!(words("").said, "");
        assert_eq!(words(r#"{"error": {"code": 429, "message": "slow down"}}"#).status, Some(429));
        let list = words(r#"{"detail": [{"loc": ["body"], "msg": "field required"}]}"#);
        assert!(list.said.contains("field required"), "{}", list.said);
    }

    #[test]
    fn waiting_is_asked_for_in_seconds_milliseconds_or_until_a_date() {
        let now = httpdate::parse_http_date("Mon, 23 Nov 2026 05:00:00 GMT").unwrap();
        let wish = |ms, header| retry_after(ms, header, now);
        assert_eq!(wish(None, Some("7")), Some(Duration::from_secs(7)));
        assert_eq!(wish(Some("250"), Some("7")), Some(Duration::from_millis(250)));
        let date = "Mon, 23 Nov 2026 05:00:09 GMT";
        assert_eq!(wish(None, Some(date)), Some(Duration::from_secs(9)));
        let past = "Mon, 23 Nov 2026 04:00:00 GMT";
        assert_eq!(wish(None, Some(past)), Some(Duration::ZERO));
        for nonsense in ["soon", "-3", "NaN", "1e300", ""] {
            assert_eq!(wish(None, Some(nonsense)), None, "{nonsense}");
        }
        assert_eq!(wish(None, None), None);
    }

    proptest! {
        #[test]
        fn words_are_bounded_and_one_line(body in "\\PC{0,2000}") {
            let said = words(&body).said;
            prop_assert!(said.chars().count() <= WORDS_CHARS_MAX + 3);
            prop_assert!(!said.contains('\n'));
        }
    }
}
