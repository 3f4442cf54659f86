//! `${VAR}` and `${VAR:-default}` in the values of a task's environment variables.

/// Where the values of `${VAR}` come from. Never the process environment by itself: the caller says
/// so.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The text with every `${VAR}` replaced. The error says what was found instead of a value.
pub fn resolve(template: &str, lookup: Lookup<'_>) -> Result<String, String> {
    let mut text = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("${") {
        text.push_str(before);
        let (inner, after) =
            after.split_once('}').ok_or_else(|| format!("`${{` without `}}` in {template:?}"))?;
        let (name, default) = match inner.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inner, None),
        };
        if !is_name(name) {
            return Err(format!("`${{{inner}}}`"));
        }
        // As in a shell, `:-` stands in for an empty value too.
        let value = lookup(name).filter(|value| default.is_none() || !value.is_empty());
        match value.as_deref().or(default) {
            Some(value) => text.push_str(value),
            None => return Err(format!("`${{{name}}}`, which is not set and has no default")),
        }
        rest = after;
    }
    text.push_str(rest);
    Ok(text)
}

fn is_name(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lookup(name: &str) -> Option<String> {
        match name {
            "HOME" => Some("/root".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn variables_and_defaults_are_put_in_and_the_rest_is_kept() {
        let cases = [
            ("plain $HOME {x}", "plain $HOME {x}"),
            ("${HOME}/a:${HOME}/b", "/root/a:/root/b"),
            ("${NOT_SET:-fall back}", "fall back"),
            ("${EMPTY:-fall back}", "fall back"),
            ("${EMPTY}", ""),
            ("${NOT_SET:-}", ""),
        ];
        for (template, expected) in cases {
            assert_eq!(resolve(template, &lookup).as_deref(), Ok(expected), "{template}");
        }
    }

    #[test]
    fn what_cannot_be_resolved_is_named() {
        let found = |template| resolve(template, &lookup).unwrap_err();
        assert_eq!(found("a ${NOT_SET} b"), "`${NOT_SET}`, which is not set and has no default");
        assert_eq!(found("${HOME"), "`${` without `}` in \"${HOME\"");
        assert_eq!(found("${a b}"), "`${a b}`");
    }

    proptest! {
        #[test]
        fn no_template_makes_it_panic(template in "[${}:a-z -]{0,30}|\\PC{0,30}") {
            let _ = resolve(&template, &lookup);
        }
    }
}
