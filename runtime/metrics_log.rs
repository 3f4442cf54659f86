//! All metrics of a process, as one JSON line each few seconds in the run's `metrics.jsonl`.
//!
//! A line has `time`, `elapsed_sec`, and the values since the start of the process: `counters`,
//! `gauges`, and `histograms` with count, sum, extremes and quantiles (1% relative error). Names
//! carry their labels as in Prometheus: `orcapack_attempts{phase="create"}`.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use metrics_util::registry::{AtomicStorage, Registry};
use metrics_util::storage::Summary;
use serde::Serialize;
use tokio::fs::File;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval_at};

/// Between two lines.
pub const METRICS_EVERY: Duration = Duration::from_secs(5);

/// The recorder behind the `metrics` facade. Updates are atomic operations; clones share it.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry<Key, AtomicStorage>,
    /// What histograms have drained so far; the registry holds only what came since.
    summaries: Mutex<BTreeMap<String, Summary>>,
    began: Instant,
}

/// The values of all metrics at one moment: one line of the file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Snapshot {
    pub time: jiff::Timestamp,
    pub elapsed_sec: f64,
    pub counters: BTreeMap<String, u64>,
    pub gauges: BTreeMap<String, f64>,
    pub histograms: BTreeMap<String, Quantiles>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Quantiles {
    pub count: usize,
    pub sum: f64,
    pub min: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub max: f64,
}

impl Metrics {
    #[expect(clippy::new_without_default, reason = "its clock starts, which no default should")]
    pub fn new() -> Self {
        Self(Arc::new(Inner {
            registry: Registry::atomic(),
            summaries: Mutex::default(),
            began: Instant::now(),
        }))
    }

    /// Makes this the recorder of the process.
    ///
    /// # Errors
    /// The process has one already.
    pub fn install(&self) -> io::Result<()> {
        metrics::set_global_recorder(self.clone())
            .map_err(|error| io::Error::other(error.to_string()))
    }

    pub fn snapshot(&self) -> Snapshot {
        let registry = &self.0.registry;
        let (mut counters, mut gauges) = (BTreeMap::new(), BTreeMap::new());
        registry.visit_counters(|key, value| {
            counters.insert(name(key), value.load(Ordering::Relaxed));
        });
        registry.visit_gauges(|key, value| {
            gauges.insert(name(key), f64::from_bits(value.load(Ordering::Relaxed)));
        });
        let mut summaries = self.0.summaries.lock().unwrap_or_else(PoisonError::into_inner);
        registry.visit_histograms(|key, bucket| {
            let summary = summaries.entry(name(key)).or_insert_with(new_summary);
            bucket.clear_with(|values| {
                values.iter().filter(|value| value.is_finite()).for_each(|v| summary.add(*v));
            });
        });
        Snapshot {
            time: jiff::Timestamp::now(),
            elapsed_sec: self.0.began.elapsed().as_secs_f64(),
            counters,
            gauges,
            histograms: summaries
                .iter()
                .filter_map(|(name, summary)| Some((name.clone(), quantiles(summary)?)))
                .collect(),
        }
    }
}

/// 1% relative error; 2048 bins span 18 powers of ten.
fn new_summary() -> Summary {
    Summary::new(0.01, 2048, 1e-9)
}

fn quantiles(summary: &Summary) -> Option<Quantiles> {
    Some(Quantiles {
        count: summary.count(),
        sum: summary.sum()?,
        min: summary.min(),
        p50: summary.quantile(0.5)?,
        p90: summary.quantile(0.9)?,
        p99: summary.quantile(0.99)?,
        max: summary.max(),
    })
}

fn name(key: &Key) -> String {
    let labels: Vec<String> =
        key.labels().map(|label| format!("{}={:?}", label.key(), label.value())).collect();
    if labels.is_empty() {
        key.name().to_owned()
    } else {
        format!("{}{{{}}}", key.name(), labels.join(","))
    }
}

impl Recorder for Metrics {
    /// Descriptions are for exporters that show them; the file's reader has the metric's name.
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        self.0.registry.get_or_create_counter(key, |value| value.clone().into())
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        self.0.registry.get_or_create_gauge(key, |value| value.clone().into())
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        self.0.registry.get_or_create_histogram(key, |value| value.clone().into())
    }
}

/// Writes lines until it is finished.
#[derive(Debug)]
pub struct MetricsWriter {
    stop: oneshot::Sender<()>,
    task: JoinHandle<io::Result<()>>,
}

impl MetricsWriter {
    /// Appends to `path`, a line after each `every`.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub async fn start(metrics: Metrics, path: &Path, every: Duration) -> io::Result<Self> {
        let mut file = File::options().create(true).append(true).open(path).await?;
        let (stop, mut stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let mut ticks = interval_at(Instant::now() + every, every);
            loop {
                tokio::select! {
                    _ = ticks.tick() => write_line(&mut file, &metrics).await?,
                    _ = &mut stopped => return write_line(&mut file, &metrics).await,
                }
            }
        });
        Ok(Self { stop, task })
    }

    /// Writes the last line.
    ///
    /// # Errors
    /// A line could not be written, this one or an earlier one.
    pub async fn finish(self) -> io::Result<()> {
        // A writer that failed is gone already, and says why below.
        let _ = self.stop.send(());
        self.task.await?
    }
}

async fn write_line(file: &mut File, metrics: &Metrics) -> io::Result<()> {
    let mut line = serde_json::to_vec(&metrics.snapshot())?;
    line.push(b'\n');
    file.write_all(&line).await?;
    file.flush().await
}

#[cfg(test)]
mod tests {
    use metrics::{counter, gauge, histogram, with_local_recorder};

    use super::*;

    #[test]
    fn a_snapshot_has_every_metric_under_its_name_and_labels() {
        let metrics = Metrics::new();
        with_local_recorder(&metrics, || {
            counter!("starts_total").increment(2);
            counter!("starts_total").increment(3);
            gauge!("attempts", "phase" => "create").set(7.0);
            gauge!("attempts", "phase" => "exec").set(1.5);
            for value in 1..=1000 {
                histogram!("seconds").record(f64::from(value));
            }
            histogram!("seconds").record(f64::NAN);
        });
        let snapshot = metrics.snapshot();
        assert_eq!(snapshot.counters["starts_total"], 5);
        assert_eq!(snapshot.gauges[r#"attempts{phase="create"}"#], 7.0);
        assert_eq!(snapshot.gauges[r#"attempts{phase="exec"}"#], 1.5);
        let seconds = snapshot.histograms["seconds"];
        assert_eq!((seconds.count, seconds.min, seconds.max), (1000, 1.0, 1000.0));
        assert_eq!(seconds.sum, 500_500.0);
        for (estimate, exact) in [(seconds.p50, 500.0), (seconds.p90, 900.0), (seconds.p99, 990.0)]
        {
            assert!((estimate / exact - 1.0).abs() < 0.02, "{estimate} for {exact}");
        }
    }

    #[test]
    fn histograms_keep_what_earlier_snapshots_have_seen() {
        let metrics = Metrics::new();
        for round in 1..=3 {
            with_local_recorder(&metrics, || histogram!("h").record(f64::from(round)));
            assert_eq!(metrics.snapshot().histograms["h"].count, round as usize);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_comes_each_interval_and_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let metrics = Metrics::new();
        let writer = MetricsWriter::start(metrics.clone(), &path, METRICS_EVERY).await.unwrap();
        // On the paused clock: two whole intervals and a part of the third.
        tokio::time::sleep(Duration::from_millis(12_500)).await;
        with_local_recorder(&metrics, || counter!("late").increment(1));
        writer.finish().await.unwrap();

        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let elapsed: Vec<f64> =
            lines.iter().map(|line| line["elapsed_sec"].as_f64().unwrap().round()).collect();
        assert_eq!(elapsed[..2], [5.0, 10.0]);
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[2]["counters"]["late"], 1);
    }
}
