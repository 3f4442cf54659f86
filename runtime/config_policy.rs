//! An embedded policy of a configuration: its directory, and how much of the machine its engine may
//! use.

use std::path::PathBuf;

use orcapack_actors::model::settings::{EngineBounds, PolicySettings};
use orcapack_tasks::toml_section::Section;
use serde::ser::SerializeMap;
use serde_json::Map;

/// Beyond some dozens a CPU gives no more tokens in the same time, and each answer takes longer.
pub const SLOTS: usize = 32;
pub const SLOTS_MAX: usize = 4096;
pub const THREADS_MAX: usize = 1024;
/// Of a context: [`orcapack_trainer::caps::CONTEXT_TOKENS_MAX`].
pub const CONTEXT_TOKENS_MAX: usize = orcapack_trainer::caps::CONTEXT_TOKENS_MAX;

/// Where nothing is said.
pub const BOUNDS: EngineBounds =
    EngineBounds { slots: SLOTS, context_tokens_max: None, kept_mb: None, threads: None };

/// What the document says of it, over `base`.
pub fn read(section: &Section<'_>, base: Option<PolicySettings>) -> PolicySettings {
    let (checkpoint, bounds, kwargs) = match base {
        Some(base) => (base.checkpoint, base.bounds, base.chat_template_kwargs),
        None => (PathBuf::new(), BOUNDS, Map::new()),
    };
    let count = |key: &str, least: u64, max: usize| {
        section.opt_u64(key, least..=max as u64).map(|n| n as usize)
    };
    let is_named = section.has("checkpoint") || checkpoint.as_os_str().is_empty();
    let named = is_named.then(|| PathBuf::from(section.string("checkpoint")));
    let given = section.json_map("chat_template_kwargs");
    PolicySettings {
        checkpoint: named.unwrap_or(checkpoint),
        bounds: EngineBounds {
            slots: count("slots", 1, SLOTS_MAX).unwrap_or(bounds.slots),
            context_tokens_max: count("context_tokens_max", 2, CONTEXT_TOKENS_MAX)
                .or(bounds.context_tokens_max),
            kept_mb: section.opt_u64("kept_mb", 1..=1 << 30).or(bounds.kept_mb),
            threads: count("threads", 1, THREADS_MAX).or(bounds.threads),
        },
        chat_template_kwargs: if section.has("chat_template_kwargs") { given } else { kwargs },
    }
}

/// The keys as they are read.
///
/// # Errors
/// Those of `map`.
pub fn write<M: SerializeMap>(policy: &PolicySettings, map: &mut M) -> Result<(), M::Error> {
    let PolicySettings { checkpoint, bounds, chat_template_kwargs } = policy;
    map.serialize_entry("checkpoint", checkpoint)?;
    map.serialize_entry("slots", &bounds.slots)?;
    let optional = [
        ("context_tokens_max", bounds.context_tokens_max.map(|n| n as u64)),
        ("kept_mb", bounds.kept_mb),
        ("threads", bounds.threads.map(|n| n as u64)),
    ];
    for (key, value) in optional {
        if let Some(value) = value {
            map.serialize_entry(key, &value)?;
        }
    }
    if !chat_template_kwargs.is_empty() {
        map.serialize_entry("chat_template_kwargs", chat_template_kwargs)?;
    }
    Ok(())
}
