//! The `[verifier]` tables of a Harbor task: how and where its tests run.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::env_template::Lookup;
use crate::file_tree::FileTree;
use crate::harbor_environment::{self, TIMEOUT_SEC, env, phase_network};
use crate::task::{Collect, EnvironmentSpec, Grading, ImageSource, VerifierMode, VerifierSpec};
use crate::toml_section::Section;

/// Of several tables the first that gives a key counts; their environment variables are put
/// together.
pub(crate) fn verifier(
    sections: &[Section<'_>],
    environment: &EnvironmentSpec,
    tests: FileTree,
    lookup: Lookup<'_>,
) -> VerifierSpec {
    let mut merged = BTreeMap::new();
    for section in sections.iter().rev() {
        merged.extend(env(section, lookup));
        phase_network(section, environment.network);
    }
    let timeouts = all(sections, |section| section.opt_duration_sec("timeout_sec", TIMEOUT_SEC));
    let collect =
        all(sections, |section| Some(collect(section)).filter(|collect| !collect.is_empty()));
    VerifierSpec {
        timeout: timeouts.unwrap_or(Duration::from_secs(600)),
        user: all(sections, |section| section.opt_name_or_id("user")),
        env: merged,
        mode: verifier_mode(sections, environment, &tests, lookup),
        tests,
        script: "/tests/test.sh".to_owned(),
        grading: Grading::RewardFile,
        collect: collect.unwrap_or_default(),
    }
}

fn verifier_mode(
    sections: &[Section<'_>],
    environment: &EnvironmentSpec,
    tests: &FileTree,
    lookup: Lookup<'_>,
) -> VerifierMode {
    let names = [("shared", false), ("separate", true)];
    let mode = all(sections, |section| {
        let separate = section.opt_one_of("environment_mode", &names);
        if section.has("environment") && separate == Some(false) {
            section.refuse("environment", "no environment of its own for \"shared\"", "one");
        }
        separate.or(section.has("environment").then_some(true))
    });
    let own = all(sections, |section| {
        let section = section.opt_section("environment")?;
        Some(harbor_environment::environment(&section, tests.clone(), "tests", lookup))
    });
    if !mode.unwrap_or(false) {
        return VerifierMode::Shared;
    }
    // As in Harbor, a Dockerfile among the tests makes the verifier's image.
    let built = tests.get("Dockerfile").map(|_| EnvironmentSpec {
        image: ImageSource::Dockerfile(tests.clone()),
        ..environment.clone()
    });
    VerifierMode::Separate(own.or(built).map(Box::new))
}

fn collect(section: &Section<'_>) -> Vec<Collect> {
    let collect = |section: Section<'_>| {
        only_main_service(&section);
        Collect {
            command: section.string("command"),
            timeout: section.duration_sec_or("timeout_sec", Duration::from_secs(60), TIMEOUT_SEC),
            user: section.opt_name_or_id("user"),
        }
    };
    section.sections("collect").into_iter().map(collect).collect()
}

pub(crate) fn only_main_service(section: &Section<'_>) {
    if let Some(service) = section.opt_string("service").filter(|service| service != "main") {
        let expected = "\"main\", the only service that is run";
        section.refuse("service", expected, format!("{service:?}"));
    }
}

/// The first that a section gives, after asking them all, so that the key is known in each.
pub(crate) fn all<'d, T>(
    sections: &[Section<'d>],
    read: impl Fn(&Section<'d>) -> Option<T>,
) -> Option<T> {
    let given: Vec<Option<T>> = sections.iter().map(read).collect();
    given.into_iter().flatten().next()
}
