//! What a server counts, as Prometheus reads it. Names are those of vLLM's, with our prefix.
//!
//! Everything is a handful of atomic numbers, bounded whatever comes: no label has a value that a
//! request could make up.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use orcapack_trainer::engine::handle::EngineStats;

/// Upper bounds of the classes, in seconds.
const SECONDS: [f64; 16] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
];

/// See the module.
#[derive(Debug, Default)]
pub(super) struct ServeMetrics {
    requests: Mutex<BTreeMap<(&'static str, u16), u64>>,
    stopped: AtomicU64,
    cut: AtomicU64,
    first_token: Histogram,
    between_tokens: Histogram,
    whole: Histogram,
}

/// How often a time fell into each class.
#[derive(Debug, Default)]
struct Histogram {
    /// The last class has no upper bound.
    classes: [AtomicU64; SECONDS.len() + 1],
    sum_us: AtomicU64,
}

impl Histogram {
    fn record(&self, time: Duration) {
        let class = SECONDS.partition_point(|bound| *bound < time.as_secs_f64());
        self.classes[class].fetch_add(1, Ordering::Relaxed);
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    fn write(&self, text: &mut Text, name: &str, help: &str) {
        text.head(name, "histogram", help);
        let mut count = 0;
        let bounds = SECONDS.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        for (class, bound) in self.classes.iter().zip(bounds) {
            count += class.load(Ordering::Relaxed);
            text.line(&format!("{name}_bucket{{le=\"{bound}\"}}"), count);
        }
        text.line(&format!("{name}_sum"), self.sum_us.load(Ordering::Relaxed) as f64 / 1e6);
        text.line(&format!("{name}_count"), count);
    }
}

impl ServeMetrics {
    /// `route` is one of the server's own.
    pub fn answered(&self, route: &'static str, status: u16) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry((route, status)).or_default() += 1;
    }

    /// A token has come, `last` being when the one before it did.
    pub fn token(&self, began: Instant, last: Option<Instant>, now: Instant) {
        match last {
            None => self.first_token.record(now.saturating_duration_since(began)),
            Some(last) => self.between_tokens.record(now.saturating_duration_since(last)),
        }
    }

    pub fn ended(&self, reason: Option<&str>, took: Duration) {
        let count = if reason == Some("length") { &self.cut } else { &self.stopped };
        count.fetch_add(1, Ordering::Relaxed);
        self.whole.record(took);
    }

    /// `kept_tokens_max` is the engine's room.
    pub fn text(&self, engine: &EngineStats, kept_tokens_max: usize) -> String {
        let mut text = Text::default();
        let name = "orcapack_http_requests_total";
        text.head(name, "counter", "Requests by route and status.");
        for ((route, status), count) in
            &*self.requests.lock().unwrap_or_else(PoisonError::into_inner)
        {
            text.line(&format!("{name}{{route=\"{route}\",status=\"{status}\"}}"), count);
        }
        let name = "orcapack_request_success_total";
        text.head(name, "counter", "Answers that came to their end, by the reason.");
        for (reason, count) in [("stop", &self.stopped), ("length", &self.cut)] {
            let count = count.load(Ordering::Relaxed);
            text.line(&format!("{name}{{finished_reason=\"{reason}\"}}"), count);
        }
        let usage = engine.kept_tokens as f64 / kept_tokens_max as f64;
        for (name, help, value) in [
            ("num_requests_running", "Answers that are being sampled.", engine.running as f64),
            ("num_requests_waiting", "Requests that wait for a slot.", engine.waiting as f64),
            ("kv_cache_usage_perc", "Share of the room for keys and values in use.", usage),
            ("policy_version", "Version of the weights in use.", engine.version as f64),
        ] {
            text.plain(name, "gauge", help, value);
        }
        for (name, help, value) in [
            ("prompt_tokens_total", "Tokens of prompts.", engine.prompt_tokens),
            ("prompt_tokens_cached_total", "Of those, not computed again.", engine.cached_tokens),
            ("generation_tokens_total", "Tokens sampled.", engine.generated_tokens),
            ("engine_steps_total", "Passes over the weights.", engine.steps),
        ] {
            text.plain(name, "counter", help, value);
        }
        for (name, help, histogram) in [
            (
                "orcapack_time_to_first_token_seconds",
                "From the request to its first token.",
                &self.first_token,
            ),
            (
                "orcapack_time_per_output_token_seconds",
                "From one token to the next.",
                &self.between_tokens,
            ),
            (
                "orcapack_e2e_request_latency_seconds",
                "From the request to its answer's end.",
                &self.whole,
            ),
        ] {
            histogram.write(&mut text, name, help);
        }
        text.0
    }
}

/// The text format of Prometheus, version 0.0.4.
#[derive(Default)]
struct Text(String);

impl Text {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn line(&mut self, name: &str, value: impl Display) {
        let _ = writeln!(self.0, "{name} {value}");
    }

    fn plain(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        let name = format!("orcapack_{name}");
        self.head(&name, kind, help);
        self.line(&name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_stands_in_the_text() {
        let metrics = ServeMetrics::default();
        metrics.answered("/v1/completions", 200);
        metrics.answered("/v1/completions", 200);
        metrics.answered("/v1/completions", 429);
        let began = Instant::now();
        let at = |ms| began + Duration::from_millis(ms);
        metrics.token(began, None, at(20));
        metrics.token(began, Some(at(20)), at(23));
        metrics.token(began, Some(at(23)), at(1_000_000));
        metrics.ended(Some("length"), Duration::from_millis(2500));
        let stats = EngineStats {
            running: 2,
            kept_tokens: 50,
            generated_tokens: 3,
            ..EngineStats::default()
        };
        let text = metrics.text(&stats, 200);
        for line in [
            "orcapack_http_requests_total{route=\"/v1/completions\",status=\"200\"} 2",
            "orcapack_http_requests_total{route=\"/v1/completions\",status=\"429\"} 1",
            "orcapack_request_success_total{finished_reason=\"length\"} 1",
            "orcapack_request_success_total{finished_reason=\"stop\"} 0",
            "# TYPE orcapack_num_requests_running gauge",
            "orcapack_num_requests_running 2",
            "orcapack_kv_cache_usage_perc 0.25",
            "orcapack_generation_tokens_total 3",
            "orcapack_time_to_first_token_seconds_bucket{le=\"0.01\"} 0",
            "orcapack_time_to_first_token_seconds_bucket{le=\"0.025\"} 1",
            "orcapack_time_per_output_token_seconds_bucket{le=\"300\"} 1",
            "orcapack_time_per_output_token_seconds_bucket{le=\"+Inf\"} 2",
            "orcapack_time_per_output_token_seconds_count 2",
            // A bound belongs to its class.
            "orcapack_e2e_request_latency_seconds_bucket{le=\"2.5\"} 1",
            "orcapack_e2e_request_latency_seconds_sum 2.5",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
        assert!(text.lines().all(|line| line.starts_with("# ") || line.split(' ').count() == 2));
    }
}
