//! From the ledger's rows to the rollouts of a summary.

use std::collections::BTreeMap;

use orcapack_cluster::address::NodeId;
use orcapack_tasks::outcome::{FailureClass, Outcome};

use crate::ledger::Ended;
use crate::store::PlannedRollout;
use crate::store_agents::AgentRow;
use crate::store_rows::AttemptRow;
use crate::summary::{NodeSummary, PhaseSeconds, RolloutSummary};
use crate::summary_team::AgentSummary;

/// One row for every rollout that ended, in the order of `results`.
///
/// `plan` is in the order of rollout ids. `trajectory` says where the record of (rollout, attempt)
/// lies, relative to the run's directory; it is not asked for rollouts that were cancelled before
/// their first attempt.
pub fn rollouts(
    plan: &[PlannedRollout],
    attempts: &[AttemptRow],
    results: &[Ended],
    agents: Vec<AgentRow>,
    trajectory: impl Fn(u32, u32) -> Option<String>,
) -> Vec<RolloutSummary> {
    let mut by_rollout: BTreeMap<u32, Vec<&AttemptRow>> = BTreeMap::new();
    for row in attempts {
        by_rollout.entry(row.rollout).or_default().push(row);
    }
    let mut teams: BTreeMap<u32, Vec<AgentSummary>> = BTreeMap::new();
    for AgentRow { rollout, agent } in agents {
        teams.entry(rollout).or_default().push(agent);
    }
    let summarise = |result: &Ended| {
        let planned = plan.get(result.rollout as usize)?;
        let rows = by_rollout.get(&result.rollout).map_or(&[][..], Vec::as_slice);
        let last = rows.iter().find(|row| row.attempt == result.attempt);
        let mut retries: BTreeMap<FailureClass, u64> = BTreeMap::new();
        for row in rows.iter().filter(|row| row.attempt < result.attempt) {
            if let Some(Outcome::InfrastructureFailure { class, .. }) = row.outcome {
                *retries.entry(class).or_default() += 1;
            }
        }
        Some(RolloutSummary {
            rollout: result.rollout.into(),
            task: planned.task.clone(),
            attempts: result.attempt.into(),
            outcome: result.outcome.clone(),
            phases: last.map_or_else(PhaseSeconds::default, |row| row.phases.into()),
            retries,
            note: last.and_then(|row| row.note.clone()),
            trajectory: last.and_then(|row| trajectory(row.rollout, row.attempt)),
            agents: teams.remove(&result.rollout).unwrap_or_default(),
        })
    };
    results.iter().filter_map(summarise).collect()
}

/// What each node did, by its name; nothing where there was no cluster.
pub fn nodes(attempts: &[AttemptRow]) -> Vec<NodeSummary> {
    let mut nodes: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for AttemptRow { node, outcome, .. } in attempts {
        let Some(outcome) = outcome else { continue };
        let (ended, lost) = nodes.entry(node).or_default();
        *ended += 1;
        *lost += u64::from(outcome.reward().is_none());
    }
    if nodes.keys().all(|node| *node == NodeId::local().as_str()) {
        return Vec::new();
    }
    let summary =
        |(node, (attempts, lost)): (&str, _)| NodeSummary { node: node.to_owned(), attempts, lost };
    nodes.into_iter().map(summary).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use orcapack_actors::phase::PhaseTimes;

    use super::*;
    use crate::summary_team;

    fn lost(class: FailureClass) -> Outcome {
        Outcome::InfrastructureFailure { class, message: "gone".to_owned() }
    }

    fn attempt(attempt: u32, outcome: Option<Outcome>) -> AttemptRow {
        let phases = PhaseTimes([Duration::from_secs(u64::from(attempt)); 7]);
        let (wall, note) = (phases.total(), Some(format!("note {attempt}")));
        AttemptRow { rollout: 0, attempt, node: "n1".to_owned(), outcome, note, wall, phases }
    }

    #[test]
    fn nodes_are_told_apart_on_a_cluster_and_not_without_one() {
        let on = |node: &str, row: AttemptRow| AttemptRow { node: node.to_owned(), ..row };
        let rows = [
            attempt(1, Some(lost(FailureClass::NodeLost))),
            on("n2", attempt(2, None)),
            attempt(3, Some(Outcome::Graded { reward: 0.0 })),
        ];
        let expected = NodeSummary { node: "n1".to_owned(), attempts: 2, lost: 1 };
        assert_eq!(nodes(&rows), [expected]);
        assert_eq!(nodes(&[on("local", attempt(1, Some(lost(FailureClass::Oom))))]), []);
    }

    #[test]
    fn a_rollout_shows_its_last_attempt_and_counts_what_was_lost_before() {
        let task = |task: &str| PlannedRollout {
            task: task.to_owned(),
            task_digest: String::new(),
            group: 0,
            agent: "oracle".into(),
        };
        let graded = Outcome::Graded { reward: 1.0 };
        let attempts = [
            attempt(1, Some(lost(FailureClass::Oom))),
            attempt(2, None),
            attempt(3, Some(lost(FailureClass::Oom))),
            attempt(4, Some(graded.clone())),
        ];
        let results = [
            Ended { rollout: 0, attempt: 4, outcome: graded.clone() },
            Ended { rollout: 1, attempt: 0, outcome: lost(FailureClass::Image) },
        ];
        let agent = summary_team::tests::agents(3).remove(0);
        let agents = vec![AgentRow { rollout: 0, agent: agent.clone() }];
        let rows =
            rollouts(&[task("a"), task("b")], &attempts, &results, agents, |rollout, attempt| {
                Some(format!("{rollout}.{attempt}"))
            });
        let seconds = PhaseTimes([Duration::from_secs(4); 7]).into();
        let want = [
            RolloutSummary {
                rollout: 0,
                task: "a".to_owned(),
                attempts: 4,
                outcome: graded,
                phases: seconds,
                retries: BTreeMap::from([(FailureClass::Oom, 2)]),
                note: Some("note 4".to_owned()),
                trajectory: Some("0.4".to_owned()),
                agents: vec![agent],
            },
            RolloutSummary {
                rollout: 1,
                task: "b".to_owned(),
                attempts: 0,
                outcome: lost(FailureClass::Image),
                phases: PhaseSeconds::default(),
                retries: BTreeMap::new(),
                note: None,
                trajectory: None,
                agents: Vec::new(),
            },
        ];
        assert_eq!(rows, want);
    }

    #[test]
    fn times_keep_their_phase() {
        let times = PhaseTimes([1, 2, 3, 4, 5, 6, 7].map(Duration::from_secs));
        let named = PhaseSeconds::from(times).named();
        let want = ["queue", "image", "create", "exec", "model", "grade", "cleanup"];
        assert_eq!(named.map(|(name, _)| name), want);
        assert_eq!(named.map(|(_, seconds)| seconds), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
    }
}
