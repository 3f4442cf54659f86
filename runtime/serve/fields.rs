//! The parameters of a request, read one by one: each in its range, and none passed over that would
//! change the answer. Pure.

use std::fmt::Display;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::errors::ApiError;

/// How a parameter that is not read is to be taken.
#[derive(Clone, Copy)]
pub(super) enum Rule {
    /// It does not change the answer, whatever it says.
    Ignored,
    /// Only with the value that changes nothing.
    Neutral(fn(&Value) -> bool),
}

/// An object of a request. `null` is as good as nothing.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a>(pub &'a Map<String, Value>);

impl<'a> Fields<'a> {
    pub fn get(&self, key: &str) -> Option<&'a Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    /// # Errors
    /// A parameter that is neither read nor harmless.
    pub fn allow(&self, read: &[&[&str]], rules: &[(&str, Rule)]) -> Result<(), ApiError> {
        for (key, value) in self.0 {
            if value.is_null() || read.iter().any(|keys| keys.contains(&key.as_str())) {
                continue;
            }
            match rules.iter().find(|(name, _)| name == key) {
                Some((_, Rule::Ignored)) => {}
                Some((_, Rule::Neutral(is_neutral))) if is_neutral(value) => {}
                Some(_) => return Err(ApiError::unsupported(key, "is not supported")),
                None => return Err(ApiError::unsupported(key, "is no parameter of this route")),
            }
        }
        Ok(())
    }

    pub fn boolean(&self, key: &str) -> Result<Option<bool>, ApiError> {
        let read = |value: &Value| value.as_bool().ok_or("true or false".to_owned());
        self.read(key, read)
    }

    pub fn string(&self, key: &str) -> Result<Option<&'a str>, ApiError> {
        self.read(key, |value| value.as_str().ok_or("a string".to_owned()))
    }

    pub fn integer(&self, key: &str, range: RangeInclusive<i64>) -> Result<Option<i64>, ApiError> {
        self.read(key, |value| {
            let whole = value.as_i64().filter(|number| range.contains(number));
            whole.ok_or_else(|| within("an integer", &range))
        })
    }

    pub fn number(&self, key: &str, range: RangeInclusive<f64>) -> Result<Option<f64>, ApiError> {
        self.read(key, |value| {
            let number = value.as_f64().filter(|number| range.contains(number));
            number.ok_or_else(|| within("a number", &range))
        })
    }

    pub fn object(&self, key: &str) -> Result<Option<&'a Map<String, Value>>, ApiError> {
        self.read(key, |value| value.as_object().ok_or("an object".to_owned()))
    }

    fn read<T>(
        &self,
        key: &str,
        read: impl FnOnce(&'a Value) -> Result<T, String>,
    ) -> Result<Option<T>, ApiError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let read = read(value);
        read.map(Some).map_err(|expected| ApiError::param(key, &expected, shown(value)))
    }
}

fn within<T: Display>(what: &str, range: &RangeInclusive<T>) -> String {
    format!("{what} from {} to {}", range.start(), range.end())
}

/// A value in an error: its kind where it is long.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("a list of {}", items.len()),
        Value::Object(_) => "an object".to_owned(),
        Value::String(text) if text.chars().count() > 60 => "a long string".to_owned(),
        plain => plain.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn a_parameter_out_of_its_range_is_named_with_what_was_expected() {
        let map = map(json!({"a": 3, "b": 0.5, "c": "x", "d": [1, 2], "e": null}));
        let fields = Fields(&map);
        assert_eq!(fields.integer("a", 1..=3).unwrap(), Some(3));
        assert_eq!(fields.number("a", 0.0..=9.0).unwrap(), Some(3.0), "an integer is a number");
        assert_eq!(fields.integer("e", 1..=3).unwrap(), None);
        assert_eq!(fields.integer("f", 1..=3).unwrap(), None);
        for (error, message) in [
            (
                fields.integer("a", 4..=9).unwrap_err(),
                "a: expected an integer from 4 to 9, found 3",
            ),
            (
                fields.integer("b", 0..=9).unwrap_err(),
                "b: expected an integer from 0 to 9, found 0.5",
            ),
            (fields.boolean("c").unwrap_err(), "c: expected true or false, found \"x\""),
            (fields.string("d").unwrap_err(), "d: expected a string, found a list of 2"),
        ] {
            assert_eq!(error.message, message);
            assert_eq!(error.param.as_deref(), message.split(':').next());
        }
    }

    #[test]
    fn nothing_that_would_change_the_answer_is_passed_over() {
        const RULES: [(&str, Rule); 2] =
            [("user", Rule::Ignored), ("penalty", Rule::Neutral(|value| *value == json!(0)))];
        let allow = |value| Fields(&map(value)).allow(&[&["n"]], &RULES);
        assert_eq!(allow(json!({"n": 1, "user": "me", "penalty": 0, "other": null})), Ok(()));
        let refused = allow(json!({"penalty": 0.5})).unwrap_err();
        assert_eq!(refused.message, "penalty: is not supported");
        let unknown = allow(json!({"penalti": 0})).unwrap_err();
        assert_eq!(
            (unknown.param.as_deref(), unknown.code),
            (Some("penalti"), "unsupported_parameter")
        );
    }
}
