//! A cluster's status on a terminal.

use std::collections::BTreeMap;
use std::time::Duration;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use jiff::{Timestamp, Zoned};
use orcapack_actors::phase::Phase;

use crate::cluster_status::{Answer, ClusterStatus, LinkState, NodeRow, NodeStatus, RunView};
use crate::output::{duration, plural};
use crate::table::{bytes, dash, printable};

/// What a terminal must be wide for a column of each phase.
const PHASES_WIDTH: u16 = 140;
/// Of the lines below the table; `--json` has all of them.
const LINES_MAX: usize = 24;

/// The phases that have a column, or a word in the column of all.
const SHOWN: [(Phase, &str); 6] = [
    (Phase::Image, "image"),
    (Phase::Create, "create"),
    (Phase::Exec, "agent"),
    (Phase::Model, "model"),
    (Phase::Grade, "grade"),
    (Phase::Cleanup, "clean-up"),
];

/// The cluster in one line, a row for each node, a line for each run, and whatever is amiss: nodes
/// and links that are down, what is waited for. The last line ends with a line feed.
pub fn table(status: &ClusterStatus, width: u16, now: &Zoned) -> String {
    let columns = Columns::of(status, width);
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_HORIZONTAL_ONLY)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(width)
        .set_header(columns.header());
    table.style_mut().row_separator = presets::NOTHING.row_separator;
    for row in &status.nodes {
        table.add_row(columns.row(row, now));
    }
    for (at, heading) in columns.header().iter().enumerate() {
        if let (false, Some(column)) = (TEXTS.contains(heading), table.column_mut(at)) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut lines = vec![head(status), table.trim_fmt()];
    lines.extend(runs(status));
    let amiss = amiss(status, now);
    lines.extend(amiss.iter().take(LINES_MAX).cloned());
    if amiss.len() > LINES_MAX {
        lines.push(format!("{} more such lines: see --json", amiss.len() - LINES_MAX));
    }
    lines.join("\n") + "\n"
}

/// `lab · 3 nodes: 2 up, 1 unreachable · 44 of 128 slots in use`.
fn head(status: &ClusterStatus) -> String {
    let states = ["up", "draining", "unreachable"].map(|state| {
        let count = status.nodes.iter().filter(|row| row.state() == state).count();
        (count > 0).then(|| format!("{count} {state}"))
    });
    let states: Vec<_> = states.into_iter().flatten().collect();
    let answered = || status.nodes.iter().filter_map(NodeRow::status);
    let used: u64 = answered().map(NodeStatus::slots_used).sum();
    let slots: u64 = answered().map(|status| u64::from(status.slots)).sum();
    format!(
        "{} · {}: {} · {used} of {slots} slots in use",
        printable(&status.cluster),
        plural(status.nodes.len(), "node"),
        states.join(", "),
    )
}

/// Which groups of columns there is room for.
struct Columns {
    /// One for each phase, instead of one for all; and how long a node is up, and its memory.
    phases: bool,
    /// The name of its run, which the line of the run tells too where there is only one.
    run: bool,
}

/// Headings of columns that are no numbers.
const TEXTS: [&str; 5] = ["node", "state", "at work", "run", "waiting"];

impl Columns {
    fn of(status: &ClusterStatus, width: u16) -> Self {
        let phases = width >= PHASES_WIDTH;
        Self { phases, run: phases || by_run(status).len() > 1 }
    }

    fn header(&self) -> Vec<&'static str> {
        let mut header = vec!["node", "state", "slots", "queue"];
        match self.phases {
            true => header.extend(SHOWN.map(|(_, name)| name)),
            false => header.push("at work"),
        }
        if self.run {
            header.push("run");
        }
        header.push("lease");
        if self.phases {
            header.extend(["up for", "memory"]);
        }
        header.push("waiting");
        header
    }

    fn row(&self, row: &NodeRow, now: &Zoned) -> Vec<String> {
        let mut cells = vec![row.node.to_string(), row.state().to_owned()];
        let Some(status) = row.status() else {
            cells.push(format!("–/{}", row.slots));
            cells.resize_with(self.header().len(), dash);
            return cells;
        };
        cells.push(format!("{}/{}", status.slots_used(), status.slots));
        cells.push(status.start_queue.to_string());
        match self.phases {
            true => cells.extend(SHOWN.map(|(phase, _)| status.in_phase(phase).to_string())),
            false => cells.push(at_work(status)),
        }
        if self.run {
            cells.push(status.run.as_ref().map_or_else(dash, |run| printable(&run.name)));
        }
        cells.push(status.run.as_ref().map_or_else(dash, |run| lease(run.lease_left_ms)));
        if self.phases {
            cells.push(short(elapsed(status.since_unix_ms, now)));
            cells.push(bytes(status.rss_bytes));
        }
        let oldest = status.waiting.iter().map(|row| row.since_unix_ms).min();
        cells.push(oldest.map_or_else(dash, |since| clock(since, now)));
        cells
    }
}

/// `agent 30, model 6`; a dash of nothing.
fn at_work(status: &NodeStatus) -> String {
    let busy = SHOWN.map(|(phase, name)| (status.in_phase(phase), name));
    let busy = busy.iter().filter(|(count, _)| *count > 0);
    let parts: Vec<_> = busy.map(|(count, name)| format!("{name} {count}")).collect();
    if parts.is_empty() { dash() } else { parts.join(", ") }
}

fn lease(left_ms: u64) -> String {
    match left_ms {
        0 => "over".to_owned(),
        left => format!("{:.1} s", Duration::from_millis(left).as_secs_f64()),
    }
}

/// Each run once, by the nodes that work for it: the latest word of its coordinator that any of
/// them has, and what they hold together.
fn runs(status: &ClusterStatus) -> Vec<String> {
    let line = |views: Vec<&RunView>| {
        let run = views.iter().max_by_key(|run| (run.epoch, run.done))?;
        let held: u64 = views.iter().map(|run| u64::from(run.held)).sum();
        let unheard: u64 = views.iter().map(|run| u64::from(run.reported_unacknowledged)).sum();
        let mut line = format!(
            "run {} ({}) of {}, epoch {}: {} of {} done, {} passed, {}",
            printable(&run.name),
            printable(&run.run),
            run.coordinator,
            run.epoch,
            run.done,
            run.total,
            run.passed,
            plural(run.infra_failures as usize, "infrastructure failure"),
        );
        if run.retries > 0 {
            line.push_str(&format!(", {} repeated", plural(run.retries as usize, "attempt")));
        }
        line.push_str(&format!("; {} held", plural(held as usize, "attempt")));
        if unheard > 0 {
            line.push_str(&format!(", {} not acknowledged", plural(unheard as usize, "result")));
        }
        Some(line)
    };
    by_run(status).into_values().filter_map(line).collect()
}

fn by_run(status: &ClusterStatus) -> BTreeMap<(&str, &str), Vec<&RunView>> {
    let mut runs: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for run in status.nodes.iter().filter_map(|row| row.status()?.run.as_ref()) {
        runs.entry((run.name.as_str(), run.run.as_str())).or_default().push(run);
    }
    runs
}

fn amiss(status: &ClusterStatus, now: &Zoned) -> Vec<String> {
    let mut lines = Vec::new();
    for row in &status.nodes {
        if let Answer::Unreachable(error) = &row.answer {
            let error = error.split_whitespace().collect::<Vec<_>>().join(" ");
            lines.push(format!(
                "{} at {}: {}",
                row.node,
                printable(&row.address),
                printable(&error)
            ));
        }
    }
    lines.extend(versions(status));
    for status in status.nodes.iter().filter_map(NodeRow::status) {
        for row in &status.waiting {
            let what = row.what.split_whitespace().collect::<Vec<_>>().join(" ");
            let what = printable(&what);
            let since = since(row.since_unix_ms, now);
            lines.push(format!("{}: waiting for {what} since {since}", status.node));
        }
        for link in status.peers.iter().filter(|link| link.state != LinkState::Up) {
            let since = since(link.since_unix_ms, now);
            let state = link.state.as_str();
            lines.push(format!("{}: link to {} {state} since {since}", status.node, link.node));
        }
    }
    lines
}

/// A cluster of two versions is in the middle of an update, or was forgotten there.
fn versions(status: &ClusterStatus) -> Option<String> {
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for status in status.nodes.iter().filter_map(NodeRow::status) {
        versions.entry(&status.version).or_default().push(status.node.as_str());
    }
    let parts = versions.iter().map(|(version, nodes)| {
        let others = match nodes.len() - 1 {
            0 => String::new(),
            others => format!(" and {}", plural(others, "other")),
        };
        format!("{} on {}{others}", printable(version), nodes[0])
    });
    let parts: Vec<_> = parts.collect();
    (parts.len() > 1).then(|| format!("versions differ: {}", parts.join(", ")))
}

fn elapsed(since_unix_ms: u64, now: &Zoned) -> Duration {
    let now = u64::try_from(now.timestamp().as_millisecond()).unwrap_or(0);
    Duration::from_millis(now.saturating_sub(since_unix_ms))
}

/// `45s`, `12m`, `2h05m`, `3d04h`: for a column.
fn short(duration: Duration) -> String {
    let minutes = duration.as_secs() / 60;
    match minutes {
        0 => format!("{}s", duration.as_secs()),
        1..60 => format!("{minutes}m"),
        60..1440 => format!("{}h{:02}m", minutes / 60, minutes % 60),
        _ => format!("{}d{:02}h", minutes / 1440, minutes / 60 % 24),
    }
}

/// `14:03:34 (1 min 35 s)`.
fn since(since_unix_ms: u64, now: &Zoned) -> String {
    format!("{} ({})", clock(since_unix_ms, now), duration(elapsed(since_unix_ms, now)))
}

/// The time of day, and the day where it is another.
fn clock(unix_ms: u64, now: &Zoned) -> String {
    let time = i64::try_from(unix_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    let Some(time) = time.map(|time| time.to_zoned(now.time_zone().clone())) else { return dash() };
    let format = if time.date() == now.date() { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" };
    time.strftime(format).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster_status::WaitingRow;
    use crate::cluster_status::tests::{NOW_MS, node, sample};

    fn now() -> Zoned {
        let now = Timestamp::from_millisecond(NOW_MS as i64).unwrap();
        now.to_zoned(jiff::tz::TimeZone::UTC)
    }

    #[test]
    fn the_table_of_a_cluster() {
        insta::assert_snapshot!("wide", table(&sample(), 140, &now()));
        insta::assert_snapshot!("narrow", table(&sample(), 80, &now()));
        let mut two_runs = sample();
        let mut other = node("n3");
        if let Some(run) = &mut other.run {
            (run.run, run.name, run.done) = ("c9f0f895".to_owned(), "smoke".to_owned(), 7);
        }
        two_runs.nodes[2].answer = Answer::Status(Box::new(other));
        insta::assert_snapshot!("two_runs", table(&two_runs, 80, &now()));
    }

    #[test]
    fn a_cluster_that_is_well_has_nothing_below_its_runs() {
        let mut status = sample();
        status.nodes.truncate(1);
        let text = table(&status, 80, &now());
        let below = text.lines().skip_while(|line| !line.starts_with("run ")).count();
        assert_eq!(below, 1, "{text}");
        status.nodes.clear();
        let head = "lab · 0 nodes:  · 0 of 0 slots in use";
        assert!(table(&status, 80, &now()).starts_with(head));
    }

    #[test]
    fn a_peer_cannot_command_the_terminal_or_flood_it() {
        let mut status = sample();
        let mut hostile = node("n1");
        hostile.version = "\u{1b}[2J".to_owned();
        hostile.waiting = (0..100)
            .map(|n| WaitingRow { what: format!("a\n\u{1b}]0;{n}\u{7}"), since_unix_ms: u64::MAX })
            .collect();
        status.nodes[0].answer = Answer::Status(Box::new(hostile));
        let text = table(&status, 80, &now());
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text}");
        assert!(text.ends_with("more such lines: see --json\n"), "{text}");
        assert!(text.lines().count() < 45, "{text}");
    }

    #[test]
    fn a_narrow_terminal_is_not_overrun() {
        for width in [60, 80, 120, 140] {
            let text = table(&sample(), width, &now());
            let table = text.lines().skip(1).take_while(|line| !line.starts_with("run "));
            let longest = table.map(|line| line.chars().count()).max();
            assert!(longest <= Some(usize::from(width)), "{width}: {text}");
        }
    }

    #[test]
    fn a_time_of_another_day_says_so() {
        assert_eq!(clock(NOW_MS - 86_400_000, &now()), "2026-02-28 14:05:09");
        assert_eq!(since(NOW_MS - 95_000, &now()), "14:03:34 (1 min 35 s)");
        assert_eq!(clock(u64::MAX, &now()), "–");
        let times = [45, 750, 7_500, 273_600].map(|sec| short(Duration::from_secs(sec)));
        assert_eq!(times, ["45s", "12m", "2h05m", "3d04h"]);
    }
}
