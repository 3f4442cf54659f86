//! The models of a configuration, `[models.NAME]`: which server answers, and on what terms.
//!
//! A key of an account is never part of a configuration, only where it comes from: the name of an
//! environment variable, or a file. So nothing that shows a configuration can show a key.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use orcapack_actors::model::settings::{EndpointKind, Mistakes, PolicySettings, Price, Sampling};
use orcapack_tasks::near::nearest;
use orcapack_tasks::toml_section::Section;
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use crate::config_policy;

/// Models that a configuration may have: each has a gateway of its own.
pub const MODELS_MAX: usize = 64;
const TRY_TIMEOUT: Duration = Duration::from_secs(300);
const TRIES_MAX: u32 = 8;
const IN_FLIGHT_MAX: usize = 256;
const HOUR_SEC: f64 = 3600.0;
/// Dollars for a million tokens: above it, the unit was mistaken.
const PRICE_MAX: f64 = 100_000.0;

/// One model, as it is configured.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    pub kind: EndpointKind,
    /// As the endpoint knows it; empty for kinds without one.
    pub model: String,
    pub url: String,
    pub key: Option<KeySource>,
    pub sampling: Sampling,
    pub extra: Map<String, Value>,
    pub try_timeout: Duration,
    pub tries_max: u32,
    pub in_flight_max: usize,
    pub price: Option<Price>,
    /// Of `replay`: a run directory. Absolute once loaded.
    pub run: Option<PathBuf>,
    /// Of `embedded`. Its path is absolute once loaded.
    pub policy: Option<PolicySettings>,
    /// Of `solution`, whose seed is in `sampling`.
    pub mistakes: Mistakes,
}

/// Where the key of an account is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// `${NAME}`.
    Variable(String),
    /// The file's only line. Absolute once loaded.
    File(PathBuf),
}

/// What is known of a kind before anything is said.
struct KindFacts {
    url: &'static str,
    /// Holds the key for that URL, and for no other: it is nobody else's to see.
    key_variable: Option<&'static str>,
}

fn facts(kind: EndpointKind) -> KindFacts {
    let (url, key_variable) = match kind {
        EndpointKind::OpenAi => ("https://api.openai.com/v1", Some("OPENAI_API_KEY")),
        EndpointKind::Anthropic => ("https://api.anthropic.com/v1", Some("ANTHROPIC_API_KEY")),
        EndpointKind::Vllm => ("http://127.0.0.1:8000/v1", None),
        EndpointKind::Sglang => ("http://127.0.0.1:30000/v1", None),
        EndpointKind::Replay
        | EndpointKind::Literal
        | EndpointKind::Solution
        | EndpointKind::Embedded => ("", None),
    };
    KindFacts { url, key_variable }
}

/// Whether the kind speaks HTTP to a server.
pub fn is_served(kind: EndpointKind) -> bool {
    !matches!(kind, EndpointKind::Replay | EndpointKind::Embedded) && is_model(kind)
}

/// Whether there is, or was, a model behind it.
fn is_model(kind: EndpointKind) -> bool {
    !matches!(kind, EndpointKind::Literal | EndpointKind::Solution)
}

impl ModelConfig {
    /// Where only the kind is said.
    pub fn defaults(kind: EndpointKind) -> Self {
        Self {
            kind,
            model: String::new(),
            url: facts(kind).url.to_owned(),
            key: None,
            sampling: Sampling::default(),
            extra: Map::new(),
            try_timeout: TRY_TIMEOUT,
            tries_max: TRIES_MAX,
            in_flight_max: IN_FLIGHT_MAX,
            price: None,
            run: None,
            policy: None,
            mistakes: Mistakes::default(),
        }
    }

    /// The variable that holds the key of an account with the kind's own service, where the model
    /// is asked there.
    pub fn account_variable(&self) -> Option<&'static str> {
        let KindFacts { url, key_variable } = facts(self.kind);
        key_variable.filter(|_| self.url == url)
    }

    /// `None` where nothing says what it is. A document that names the kind begins anew; one that
    /// does not changes `base`.
    pub fn read(section: &Section<'_>, base: Option<Self>) -> Option<Self> {
        let kind = section.opt_one_of("kind", &EndpointKind::NAMES);
        let base = match (kind, base) {
            (Some(kind), Some(base)) if base.kind == kind => base,
            (Some(kind), _) => Self::defaults(kind),
            (None, Some(base)) => base,
            (None, None) => {
                if !section.has("kind") {
                    // Reports that it lacks, and what it may be.
                    let _: Option<EndpointKind> = section.one_of("kind", &EndpointKind::NAMES);
                }
                // Which of the other keys are of use, nobody can say.
                section.allow_any_but(&[]);
                return None;
            }
        };
        Some(match base.kind {
            EndpointKind::Literal => base,
            EndpointKind::Solution => Self::read_solution(section, base),
            EndpointKind::Replay => Self::read_replay(section, base),
            EndpointKind::Embedded => Self::read_embedded(section, base),
            kind => Self::read_served(section, base, kind),
        })
    }

    fn read_served(section: &Section<'_>, base: Self, kind: EndpointKind) -> Self {
        let model = if base.model.is_empty() || section.has("model") {
            section.string("model")
        } else {
            base.model
        };
        Self {
            kind,
            model,
            url: url(section).unwrap_or(base.url),
            key: key(section).or(base.key),
            sampling: sampling(section, base.sampling, kind),
            extra: extra(section, base.extra),
            try_timeout: try_timeout(section, base.try_timeout),
            tries_max: tries(section, base.tries_max),
            in_flight_max: in_flight(section, base.in_flight_max),
            price: price(section, base.price),
            run: None,
            policy: None,
            mistakes: base.mistakes,
        }
    }

    /// Calls beyond the engine's slots would only wait there, where they are timed, instead of in
    /// the gateway's queue.
    fn read_embedded(section: &Section<'_>, base: Self) -> Self {
        let is_new = base.policy.is_none();
        let policy = config_policy::read(section, base.policy);
        let in_flight_max = if is_new { policy.bounds.slots } else { base.in_flight_max };
        let name = policy.checkpoint.file_name().unwrap_or_default();
        Self {
            model: name.to_string_lossy().into_owned(),
            sampling: sampling(section, base.sampling, base.kind),
            try_timeout: try_timeout(section, base.try_timeout),
            tries_max: tries(section, base.tries_max),
            in_flight_max: in_flight(section, in_flight_max),
            price: price(section, base.price),
            policy: Some(policy),
            ..base
        }
    }

    fn read_solution(section: &Section<'_>, base: Self) -> Self {
        let Mistakes { share, known_bad } = base.mistakes;
        let mistakes = Mistakes {
            share: section.f64_or("mistakes", share, 0.0..=1.0),
            known_bad: section.opt_string("known_bad").or(known_bad),
        };
        let seed = section.opt_u64("seed", 0..=i64::MAX as u64).or(base.sampling.seed);
        Self { sampling: Sampling { seed, ..base.sampling }, mistakes, ..base }
    }

    fn read_replay(section: &Section<'_>, base: Self) -> Self {
        let run = match base.run {
            Some(run) if !section.has("run") => run,
            _ => PathBuf::from(section.string("run")),
        };
        Self {
            run: Some(run),
            in_flight_max: in_flight(section, base.in_flight_max),
            price: price(section, base.price),
            ..base
        }
    }
}

/// `KIND/MODEL`, `replay/RUN` or `embedded/DIR`, as `--model` takes it: the kind, the key of the
/// rest, the rest.
///
/// # Errors
/// What was found instead.
pub fn parse_short(text: &str) -> Result<(EndpointKind, &'static str, &str), String> {
    let names = EndpointKind::NAMES;
    let (kind, rest) = text.split_once('/').unwrap_or((text, ""));
    let known = names.iter().find(|(name, _)| *name == kind).map(|(_, kind)| *kind);
    match known {
        Some(EndpointKind::Literal) => Err(format!("`{text}`, which cannot plan")),
        Some(EndpointKind::Solution) => Err(format!("`{text}`, which cannot run commands")),
        Some(_) if rest.is_empty() => Err(format!("`{text}`")),
        Some(EndpointKind::Replay) => Ok((EndpointKind::Replay, "run", rest)),
        Some(EndpointKind::Embedded) => Ok((EndpointKind::Embedded, "checkpoint", rest)),
        Some(kind) => Ok((kind, "model", rest)),
        None => {
            let hint = nearest(kind, names.iter().map(|(name, _)| *name))
                .map(|name| format!(" (did you mean `{name}/{rest}`?)"))
                .unwrap_or_default();
            Err(format!("`{text}`{hint}"))
        }
    }
}

/// What is printed or logged with the URL must be no secret, and a path is put after it.
fn url(section: &Section<'_>) -> Option<String> {
    const EXPECTED: &str = "http:// or https://, a host, and a path up to the version, no more";
    let url = section.opt_string("url")?;
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let fault = match rest {
        _ if url.contains('@') => Some("a name or a password before the host".to_owned()),
        None => Some(format!("{url:?}")),
        Some(rest) if rest.starts_with('/') || rest.is_empty() => Some(format!("{url:?}")),
        Some(rest) if rest.contains(['?', '#']) => Some("a query or a fragment".to_owned()),
        Some(rest) if !rest.chars().all(|c| c.is_ascii_graphic()) => Some(format!("{url:?}")),
        Some(_) => None,
    };
    if let Some(found) = fault {
        section.refuse("url", EXPECTED, found);
        return None;
    }
    Some(url.trim_end_matches('/').to_owned())
}

/// What is found in the place of a variable's name may be a key: it is never repeated.
fn key(section: &Section<'_>) -> Option<KeySource> {
    const EXPECTED: &str = "`${NAME}` of an environment variable, or api_key_file = \"PATH\"";
    let given = section.opt_secret_string("api_key", EXPECTED);
    let file = section.opt_string("api_key_file");
    if section.has("api_key") && section.has("api_key_file") {
        section.refuse("api_key_file", "one of api_key and api_key_file", "both");
    }
    if let Some(text) = given {
        let name = text.strip_prefix("${").and_then(|text| text.strip_suffix('}'));
        let name = name.filter(|name| is_variable(name)).map(str::to_owned);
        if name.is_none() {
            section.refuse("api_key", EXPECTED, "a literal text, which a key must never be");
        }
        return name.map(KeySource::Variable);
    }
    let file = file?;
    if file.is_empty() {
        section.refuse("api_key_file", "a path", "an empty string");
        return None;
    }
    Some(KeySource::File(PathBuf::from(file)))
}

fn is_variable(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn sampling(section: &Section<'_>, base: Sampling, kind: EndpointKind) -> Sampling {
    let seed = match kind {
        // Its protocol has no seed.
        EndpointKind::Anthropic => None,
        _ => section.opt_u64("seed", 0..=i64::MAX as u64).or(base.seed),
    };
    Sampling {
        temperature: section.opt_f64("temperature", 0.0..=2.0).or(base.temperature),
        top_p: section.opt_f64("top_p", 0.0..=1.0).or(base.top_p),
        seed,
    }
}

fn try_timeout(section: &Section<'_>, base: Duration) -> Duration {
    section.duration_sec_or("try_timeout_sec", base, 0.1..=HOUR_SEC)
}

fn tries(section: &Section<'_>, base: u32) -> u32 {
    section.u64_or("tries_max", base.into(), 1..=1000) as u32
}

fn extra(section: &Section<'_>, base: Map<String, Value>) -> Map<String, Value> {
    let given = section.json_map("extra");
    if section.has("extra") { given } else { base }
}

fn in_flight(section: &Section<'_>, base: usize) -> usize {
    section.opt_u64("in_flight_max", 1..=100_000).map_or(base, |n| n as usize)
}

fn price(section: &Section<'_>, base: Option<Price>) -> Option<Price> {
    let Some(price) = section.opt_section("price") else { return base };
    let range = || 0.0..=PRICE_MAX;
    let demanded = |key, base: Option<f64>| {
        if !price.has(key) && base.is_none() {
            price.refuse(key, "US dollars for a million tokens", "nothing");
        }
        price.f64_or(key, base.unwrap_or(0.0), range())
    };
    let input = demanded("input", base.map(|base| base.input));
    // Who is told of no discount pays the full price.
    let cached_input = base.map_or(input, |base| base.cached_input);
    let cached_input = price.f64_or("cached_input", cached_input, range());
    let output = demanded("output", base.map(|base| base.output));
    Some(Price { input, cached_input, output })
}

impl fmt::Display for KeySource {
    /// Where the key is, never the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Variable(name) => write!(f, "${{{name}}}"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

impl Serialize for ModelConfig {
    /// The keys that its kind has a use for, as they are read.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("kind", self.kind.as_str())?;
        if is_served(self.kind) {
            map.serialize_entry("model", &self.model)?;
            map.serialize_entry("url", &self.url)?;
            match &self.key {
                Some(variable @ KeySource::Variable(_)) => {
                    map.serialize_entry("api_key", &variable.to_string())?;
                }
                Some(KeySource::File(path)) => map.serialize_entry("api_key_file", path)?,
                None => {}
            }
        }
        if let Some(policy) = &self.policy {
            config_policy::write(policy, &mut map)?;
        }
        if is_served(self.kind) || self.policy.is_some() {
            let Sampling { temperature, top_p, seed } = &self.sampling;
            entry(&mut map, "temperature", temperature.as_ref())?;
            entry(&mut map, "top_p", top_p.as_ref())?;
            entry(&mut map, "seed", seed.as_ref())?;
            map.serialize_entry("try_timeout_sec", &Seconds(self.try_timeout))?;
            map.serialize_entry("tries_max", &self.tries_max)?;
        }
        entry(&mut map, "run", self.run.as_ref())?;
        if self.kind == EndpointKind::Solution {
            map.serialize_entry("mistakes", &self.mistakes.share)?;
            entry(&mut map, "known_bad", self.mistakes.known_bad.as_ref())?;
            entry(&mut map, "seed", self.sampling.seed.as_ref())?;
        }
        if is_model(self.kind) {
            map.serialize_entry("in_flight_max", &self.in_flight_max)?;
        }
        entry(&mut map, "extra", Some(&self.extra).filter(|extra| !extra.is_empty()))?;
        let price = self.price.map(|Price { input, cached_input, output }| {
            [("input", input), ("cached_input", cached_input), ("output", output)]
                .into_iter()
                .collect::<std::collections::BTreeMap<_, _>>()
        });
        entry(&mut map, "price", price.as_ref())?;
        map.end()
    }
}

fn entry<M: serde::ser::SerializeMap, T: Serialize>(
    map: &mut M,
    key: &str,
    value: Option<&T>,
) -> Result<(), M::Error> {
    value.map_or(Ok(()), |value| map.serialize_entry(key, value))
}

/// Whole seconds as an integer, others as a number.
struct Seconds(Duration);

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        crate::config::seconds(&self.0, serializer)
    }
}
