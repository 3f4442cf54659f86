//! The `[environment]` table of a Harbor task, for the agent's container and for a verifier's own.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::caps::{
    CPUS_MAX, CPUS_MIN, MEMORY_MB_MAX, MEMORY_MB_MIN, RETRIES_MAX, STORAGE_MB_MAX, TIMEOUT_SEC_MAX,
    TIMEOUT_SEC_MIN,
};
use crate::env_template::{Lookup, resolve};
use crate::file_tree::FileTree;
use crate::task::{EnvironmentSpec, Healthcheck, ImageSource, NetworkPolicy};
use crate::toml_section::Section;

pub(crate) const TIMEOUT_SEC: RangeInclusive<f64> = TIMEOUT_SEC_MIN..=TIMEOUT_SEC_MAX;
const WAIT_SEC: RangeInclusive<f64> = 0.0..=TIMEOUT_SEC_MAX;

/// `context` is the folder that may hold a `Dockerfile`, called `context_name` in messages.
pub(crate) fn environment(
    section: &Section<'_>,
    context: FileTree,
    context_name: &str,
    lookup: Lookup<'_>,
) -> EnvironmentSpec {
    refuse_unsupported(section);
    EnvironmentSpec {
        image: image(section, context, context_name),
        build_timeout: section.duration_sec_or(
            "build_timeout_sec",
            Duration::from_secs(600),
            TIMEOUT_SEC,
        ),
        cpus: section.opt_f64("cpus", CPUS_MIN..=CPUS_MAX),
        memory_mb: size_mb(section, "memory_mb", "memory", MEMORY_MB_MIN..=MEMORY_MB_MAX),
        storage_mb: size_mb(section, "storage_mb", "storage", 1..=STORAGE_MB_MAX),
        env: env(section, lookup),
        workdir: workdir(section),
        network: network(section),
        healthcheck: section.opt_section("healthcheck").map(|section| healthcheck(&section)),
    }
}

pub(crate) fn healthcheck(section: &Section<'_>) -> Healthcheck {
    let seconds =
        |key, default| section.duration_sec_or(key, Duration::from_secs(default), TIMEOUT_SEC);
    let retries = section.u64_or("retries", 3, 1..=RETRIES_MAX);
    Healthcheck {
        command: section.string("command"),
        interval: section.duration_sec_or("interval_sec", Duration::from_secs(5), WAIT_SEC),
        timeout: seconds("timeout_sec", 30),
        start_period: section.duration_sec_or("start_period_sec", Duration::ZERO, WAIT_SEC),
        start_interval: section.duration_sec_or(
            "start_interval_sec",
            Duration::from_secs(5),
            WAIT_SEC,
        ),
        retries: u32::try_from(retries).unwrap_or(u32::MAX),
    }
}

/// The `env` table with its `${VAR}`s resolved.
pub(crate) fn env(section: &Section<'_>, lookup: Lookup<'_>) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    for (name, template) in section.string_map("env") {
        if name.is_empty() || name.contains(['=', '\0']) {
            section.refuse("env", "names of environment variables", format!("{name:?}"));
            continue;
        }
        match resolve(&template, lookup) {
            Ok(value) => {
                env.insert(name, value);
            }
            Err(found) => {
                let expected = "a text with ${VAR}s that are set, or ${VAR:-default}";
                section.section("env").refuse(&name, expected, found);
            }
        }
    }
    env
}

/// A network of its own for a phase is refused: a container has one network for its whole life.
pub(crate) fn phase_network(section: &Section<'_>, environment: NetworkPolicy) {
    if network_mode(section).is_some_and(|mode| mode != environment) {
        section.refuse(
            "network_mode",
            "the network_mode of [environment], as it is not changed between phases",
            "another",
        );
    }
}

fn image(section: &Section<'_>, context: FileTree, context_name: &str) -> ImageSource {
    for compose in ["docker-compose.yaml", "docker-compose.yml"] {
        if context.get(compose).is_some() {
            section.refuse(
                "docker_image",
                "an environment of one container, by Dockerfile or docker_image",
                format!("{context_name}/{compose}"),
            );
        }
    }
    match section.opt_string("docker_image") {
        // With both, the image is a prebuilt one of that Dockerfile, and Harbor takes the image.
        Some(image) if is_image_reference(&image) => ImageSource::Prebuilt(image),
        Some(image) => {
            section.refuse("docker_image", "the reference of an image", format!("{image:?}"));
            ImageSource::Prebuilt(image)
        }
        None => {
            if let Err(found) = check_dockerfile(&context) {
                let expected =
                    format!("a docker_image, or {context_name}/Dockerfile with a FROM instruction");
                section.refuse("docker_image", &expected, found);
            }
            ImageSource::Dockerfile(context)
        }
    }
}

/// Whether the context has a Dockerfile that builds on something; the error says what was found
/// instead.
pub(crate) fn check_dockerfile(context: &FileTree) -> Result<(), String> {
    let dockerfile = context.get("Dockerfile").ok_or("no Dockerfile")?;
    let text = dockerfile.read().map_err(|error| error.to_string())?;
    if has_from(&text) { Ok(()) } else { Err("a Dockerfile without FROM".to_owned()) }
}

fn has_from(dockerfile: &[u8]) -> bool {
    String::from_utf8_lossy(dockerfile).lines().any(|line| {
        let mut words = line.split_ascii_whitespace();
        words.next().is_some_and(|word| word.eq_ignore_ascii_case("from")) && words.next().is_some()
    })
}

fn is_image_reference(image: &str) -> bool {
    !image.is_empty()
        && !image.starts_with('-')
        && image.chars().all(|c| c.is_ascii_alphanumeric() || "._-/:@".contains(c))
}

fn refuse_unsupported(section: &Section<'_>) {
    if let Some(os) = section.opt_string("os").filter(|os| !os.eq_ignore_ascii_case("linux")) {
        section.refuse("os", "\"linux\", the only system that is run", format!("{os:?}"));
    }
    let gpus = section.opt_u64("gpus", 0..=u64::MAX).unwrap_or(0);
    if gpus > 0 {
        section.refuse("gpus", "0, as environments have no GPU", gpus.to_string());
    }
    section.strings("gpu_types");
    let servers = section.sections("mcp_servers");
    if !servers.is_empty() {
        let found = format!("{}", servers.len());
        section.refuse("mcp_servers", "none, as MCP servers are not run", found);
        servers.iter().for_each(|server| server.allow_any_but(&[]));
    }
    for (key, expected) in [
        ("tpu", "no TPU, as environments have none"),
        ("skills_dir", "no skills folder, as agents here take none"),
    ] {
        if section.has(key) {
            section.refuse(key, expected, "one");
            section.allow_any_of(key);
        }
    }
}

/// The policy, from `network_mode` or from the older `allow_internet`. Harbor's default is
/// `public`.
fn network(section: &Section<'_>) -> NetworkPolicy {
    let mode = network_mode(section);
    let allowed = section.opt_bool("allow_internet");
    let legacy =
        allowed.map(|allowed| if allowed { NetworkPolicy::Public } else { NetworkPolicy::None });
    if mode.is_some() && legacy.is_some() && mode != legacy {
        section.refuse("allow_internet", "no contradiction to network_mode", "one");
    }
    mode.or(legacy).unwrap_or(NetworkPolicy::Public)
}

fn network_mode(section: &Section<'_>) -> Option<NetworkPolicy> {
    let names = [
        ("public", Some(NetworkPolicy::Public)),
        ("no-network", Some(NetworkPolicy::None)),
        ("allowlist", None),
    ];
    let mode = section.opt_one_of("network_mode", &names);
    let hosts = section.strings("allowed_hosts");
    if mode == Some(None) {
        let expected = "\"public\" or \"no-network\", as hosts are not filtered";
        section.refuse("network_mode", expected, "\"allowlist\"");
    } else if !hosts.is_empty() {
        let found = format!("{}", hosts.len());
        section.refuse("allowed_hosts", "no hosts, as they are not filtered", found);
    }
    mode.flatten()
}

/// A size in MiB by `key`, or as text like "2G" by the older `legacy_key`.
fn size_mb(
    section: &Section<'_>,
    key: &str,
    legacy_key: &str,
    range: RangeInclusive<u64>,
) -> Option<u64> {
    let size = section.opt_u64(key, range.clone());
    let Some(text) = section.opt_string(legacy_key) else { return size };
    let legacy = parse_size_mb(&text).filter(|size| range.contains(size));
    if legacy.is_none() {
        let expected =
            format!("a size such as \"2G\", from {} to {} MiB", range.start(), range.end());
        section.refuse(legacy_key, &expected, format!("{text:?}"));
    } else if size.is_some() && size != legacy {
        section.refuse(legacy_key, &format!("no contradiction to {key}"), format!("{text:?}"));
    }
    size.or(legacy)
}

fn parse_size_mb(text: &str) -> Option<u64> {
    let text = text.trim();
    let number_of = |end: [char; 2]| text.strip_suffix(end)?.parse::<f64>().ok();
    let mb = number_of(['G', 'g'])
        .map(|number| number * 1024.0)
        .or_else(|| number_of(['M', 'm']))
        .or_else(|| number_of(['K', 'k']).map(|number| number / 1024.0))?;
    // Larger than any range that it is held against; the cast saturates.
    (mb.is_finite() && mb >= 0.0).then_some(mb as u64)
}

fn workdir(section: &Section<'_>) -> Option<String> {
    let workdir = section.opt_string("workdir")?;
    if !workdir.starts_with('/') || workdir.contains('\0') {
        section.refuse("workdir", "an absolute path", format!("{workdir:?}"));
    }
    Some(workdir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_sizes_are_read_in_their_units() {
        for (text, expected) in [
            ("2G", Some(2048)),
            ("1.5g", Some(1536)),
            ("512M", Some(512)),
            (" 2048K ", Some(2)),
            ("2", None),
            ("2GB", None),
            ("-1G", None),
            ("nanG", None),
            ("", None),
        ] {
            assert_eq!(parse_size_mb(text), expected, "{text}");
        }
    }

    #[test]
    fn a_from_must_name_an_image() {
        assert!(has_from(b"# syntax\n  from ubuntu:24.04 AS base\n"));
        assert!(!has_from(b"FROM\nRUN echo FROM x\n"));
    }
}
