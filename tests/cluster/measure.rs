//! How soon the loss of a node is noticed, and what it had is begun elsewhere.

use crate::lab::{COORDINATOR, Lab};
use crate::process::read;
use crate::schedule::{Done, Kill};

/// Prints what can be said of the kills. Sorted, in milliseconds from a kill: until the coordinator
/// knew, and until what was lost was begun again.
pub fn kills(lab: &Lab, done: &Done) -> (Vec<i64>, Vec<i64>) {
    let log = read(&lab.run_log());
    let attempts = lab.ledger().attempts();
    let (mut noticed, mut placed) = (Vec::new(), Vec::new());
    for Kill { host, at_ms } in done.kills.iter().filter(|kill| kill.host != COORDINATOR) {
        let told = told_down(&log, host, *at_ms);
        let lost = attempts.iter().filter(|attempt| {
            let lived = attempt.ended_ms.is_none_or(|ended| ended > *at_ms);
            attempt.node == *host && attempt.assigned_ms <= *at_ms && lived
        });
        let again: Vec<i64> = lost
            .filter_map(|lost| {
                attempts
                    .iter()
                    .find(|next| (next.rollout, next.attempt) == (lost.rollout, lost.attempt + 1))
            })
            .map(|next| next.assigned_ms - at_ms)
            .collect();
        // A coordinator that was dead or away could not notice.
        let was_there = !done.was_out(COORDINATOR, at_ms - 500, at_ms + 15_000)
            && !done
                .kills
                .iter()
                .any(|kill| kill.host == COORDINATOR && (kill.at_ms - at_ms).abs() < 15_000);
        eprintln!(
            "{host}: noticed after {told:?} ms, {} attempts begun again after {:?} to {:?} ms{}",
            again.len(),
            again.iter().min(),
            again.iter().max(),
            if was_there { "" } else { " (the coordinator was away meanwhile)" },
        );
        if was_there {
            noticed.extend(told);
            placed.extend(again);
        }
    }
    noticed.sort_unstable();
    placed.sort_unstable();
    eprintln!(
        "noticed after p50 {:?}, p99 {:?} ms; begun again after p50 {:?}, p99 {:?} ms",
        percentile(&noticed, 50),
        percentile(&noticed, 99),
        percentile(&placed, 50),
        percentile(&placed, 99)
    );
    (noticed, placed)
}

/// From a kill to the coordinator's next line that says that the node is gone.
fn told_down(log: &str, node: &str, at_ms: i64) -> Option<i64> {
    let told = format!("the link to the node is gone node={node}");
    let lines = log.lines().filter(|line| line.ends_with(&told));
    let times = lines.filter_map(|line| {
        let time: jiff::Timestamp = line.split_whitespace().next()?.parse().ok()?;
        Some(time.as_millisecond())
    });
    times.map(|time| time - at_ms).find(|after| *after >= 0)
}

/// Of sorted values.
pub fn percentile(sorted: &[i64], percent: usize) -> Option<i64> {
    sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1)).copied()
}
