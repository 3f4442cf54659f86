//! The environment snapshot: what every agent is told of its environment before it looks itself.
//!
//! Without secrets: no environment variables, of processes only the names of their programs, of
//! files only names, but for the heads of manifests, in which what looks like a password is masked.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::sandbox::{ExecRequest, Limits, SandboxError};
use crate::team::shell::AgentShell;
use crate::team::text;

/// Of the whole snapshot.
pub const SNAPSHOT_CHARS_MAX: usize = 6000;
/// For all of it; what was not said by then is left out.
const TIME_LIMIT: Duration = Duration::from_secs(5);
/// Beside what is in a section: its heading.
const HEADING_CHARS_MAX: usize = 20;
/// Of processes, whose names repeat.
const PROCESSES: &str = "Processes";
const MANIFESTS: &str = "Manifests";
const MASK: &str = "***";

/// Looks around in an environment.
///
/// # Errors
/// When the environment failed.
pub async fn take(shell: &AgentShell, limits: &Limits) -> Result<String, SandboxError> {
    let argv = ["sh", "-c", include_str!("snapshot.sh")].map(str::to_owned).to_vec();
    let request = ExecRequest { output_bytes_max: 256 << 10, ..shell.request(argv, TIME_LIMIT) };
    let output = shell.shell.exec(request).await?;
    let limits = of_limits(limits);
    let room = SNAPSHOT_CHARS_MAX.saturating_sub(limits.chars().count());
    Ok(shown(&output.stdout.head, room) + &limits)
}

/// From inside, the machine's own processors and memory may show.
fn of_limits(limits: &Limits) -> String {
    let Limits { cpus, memory_bytes, pids, storage_bytes } = limits;
    let processors = if *cpus == 1.0 { "processor" } else { "processors" };
    let (memory, storage) = (memory_bytes >> 20, storage_bytes >> 20);
    format!(
        "## Limits\n{cpus} {processors}, {memory} MiB of memory, {pids} processes, {storage} MiB \
         of disk\n"
    )
}

fn shown(said: &[u8], chars_max: usize) -> String {
    let sections: Vec<(String, String)> = sections(said)
        .filter_map(|(name, body)| {
            let body = text::clean(body);
            let body = match name.as_str() {
                PROCESSES => counted(&body),
                MANIFESTS => masked(&body),
                _ => body,
            };
            let body = body.trim_end().to_owned();
            (!body.is_empty()).then_some((name, body))
        })
        .collect();
    let needs: Vec<usize> = sections.iter().map(|(_, body)| body.chars().count()).collect();
    let headings = sections.len() * HEADING_CHARS_MAX;
    let shares = text::shares(&needs, chars_max.saturating_sub(headings));
    let parts = sections
        .iter()
        .zip(shares)
        .map(|((name, body), share)| format!("## {name}\n{}\n", text::cut_end(body, share)));
    text::cut_end(&parts.collect::<String>(), chars_max)
}

/// Sections of what a script says: a record separator and a heading line before each.
pub(crate) fn sections(said: &[u8]) -> impl Iterator<Item = (String, &[u8])> {
    said.split(|byte| *byte == b'\x1e').skip(1).map(|section| {
        let end = section.iter().position(|byte| *byte == b'\n').unwrap_or(section.len());
        let heading = section.get(..end).unwrap_or_default();
        (text::clean(heading), section.get(end + 1..).unwrap_or_default())
    })
}

/// Each name once, with how often it occurs.
fn counted(names: &str) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for name in names.lines() {
        *counts.entry(name).or_default() += 1;
    }
    let shown = counts.into_iter().map(|(name, count)| match count {
        1 => name.to_owned(),
        count => format!("{name} ({count})"),
    });
    shown.collect::<Vec<_>>().join(", ")
}

/// Without the names and passwords in addresses, and the values of keys that name a secret.
fn masked(manifests: &str) -> String {
    manifests.lines().map(|line| masked_line(line) + "\n").collect()
}

fn masked_line(line: &str) -> String {
    const SECRET: [&str; 6] = ["password", "passwd", "secret", "token", "api_key", "apikey"];
    if let Some(at) = line.find(['=', ':']) {
        let (key, _) = line.split_at(at);
        let key = key.trim_matches([' ', '\t', '"', '\'']).to_ascii_lowercase().replace('-', "_");
        if SECRET.iter().any(|secret| key.ends_with(secret)) {
            return format!("{} {MASK}", line.get(..=at).unwrap_or_default());
        }
    }
    let mut masked = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        masked.push_str(before);
        let host = after.find(['/', ' ', '"', '\'']).unwrap_or(after.len());
        rest = match after.get(..host).and_then(|host| host.rfind('@')) {
            Some(user_end) => {
                masked.push_str(MASK);
                after.get(user_end..).unwrap_or_default()
            }
            None => after,
        };
    }
    masked + rest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_looks_like_a_secret_is_masked() {
        for (line, seen) in [
            (
                "--extra-index-url https://me:s3cret@host/simple",
                "--extra-index-url https://***@host/simple",
            ),
            ("  \"npm_token\": \"abc\",", "  \"npm_token\": ***"),
            ("API-KEY = 'x'", "API-KEY = ***"),
            ("tokenizers = \"0.15\"", "tokenizers = \"0.15\""),
            ("repository = \"https://host/a@b\"", "repository = \"https://host/a@b\""),
        ] {
            assert_eq!(masked_line(line), seen);
        }
    }

    #[test]
    fn sections_share_the_room_and_empty_ones_are_left_out() {
        let long = "x".repeat(20_000);
        let said =
            format!("\x1eSystem\nuser\n\x1eFiles\n{long}\x1eGit\n\x1eProcesses\nsh\nsh\nb\n");
        let seen = shown(said.as_bytes(), SNAPSHOT_CHARS_MAX);
        assert!(seen.starts_with("## System\nuser\n## Files\nxx") && seen.contains("cut ...]"));
        assert!(seen.ends_with("## Processes\nb, sh (2)\n") && !seen.contains("Git"));
    }

    proptest! {
        #[test]
        fn a_snapshot_is_bounded_whatever_is_said(
            sections in prop::collection::vec(("\\PC{0,30}", "\\PC{1,3}", 0..5000_usize), 0..9),
        ) {
            let said = sections.iter().map(|(name, part, times)| {
                format!("\x1e{name}\n{}", part.repeat(*times))
            });
            let said: Vec<u8> = said.collect::<String>().into_bytes();
            prop_assert!(shown(&said, SNAPSHOT_CHARS_MAX).chars().count() <= SNAPSHOT_CHARS_MAX);
        }
    }
}
