//! What must hold when a run is over: of the ledger, and of the machines.

use std::collections::BTreeMap;

use rusqlite::Connection;

use crate::random::mix;
use crate::world::World;

/// Breaks whatever does not hold.
pub fn at_the_end(world: &World) {
    let truth = &world.truth;
    let rollouts = world.setting.rollouts as i64;
    let counts = [
        ("AC-2: terminal records", "SELECT count(*) FROM results", rollouts),
        (
            "AC-1: attempts without an end",
            "SELECT count(*) FROM attempts WHERE state = 'assigned'",
            0,
        ),
        (
            "AC-2: terminal records that are not of their rollout's last attempt",
            "SELECT count(*) FROM results WHERE attempt <> coalesce(
             (SELECT max(attempt) FROM attempts WHERE attempts.rollout = results.rollout), 0)",
            0,
        ),
        (
            "AC-2: rollouts with two graded attempts",
            "SELECT count(*) FROM (SELECT 1 FROM attempts WHERE reward IS NOT NULL
             GROUP BY rollout HAVING count(*) > 1)",
            0,
        ),
        (
            // But for those of a group that was cancelled as a whole (AC-4).
            "AC-2: terminal records that say something else than their attempts",
            "SELECT count(*) FROM results LEFT JOIN attempts USING (rollout, attempt)
             WHERE (results.outcome IS NOT attempts.outcome
             OR results.reward IS NOT attempts.reward) AND results.class IS NOT 'image'",
            0,
        ),
        (
            "AC-4: members of a cancelled group that were begun after it",
            "SELECT count(*) FROM attempts JOIN results USING (rollout)
             WHERE attempts.attempt > results.attempt",
            0,
        ),
        (
            "AC-2: rewards that are not what the agent earned",
            "SELECT count(*) FROM results JOIN rollouts USING (rollout)
             WHERE reward IS NOT NULL AND reward <> (agent = 'oracle')",
            0,
        ),
        (
            "AC-5: rollouts in batches",
            "SELECT count(*) FROM batches",
            if world.setting.visits { rollouts } else { 0 },
        ),
        (
            "AC-5: batches of two visits",
            "SELECT count(*) FROM batches JOIN rollouts USING (rollout) WHERE step <> group_id",
            0,
        ),
        (
            "AC-3: fences that do not grow with the attempts",
            "SELECT count(*) FROM attempts AS a JOIN attempts AS b USING (rollout)
             WHERE a.attempt < b.attempt AND a.fence >= b.fence",
            0,
        ),
    ];
    for (what, sql, expected) in counts {
        let found: i64 = truth.ask(|ledger| ledger.query_row(sql, [], |row| row.get(0)));
        if found != expected {
            truth.breaks(format!("{what}: {found}, not {expected}"));
        }
    }
    for site in &world.workers {
        let Some(worker) = &site.worker else { continue };
        let live = worker.machine.live();
        if live > 0 {
            truth.breaks(format!("AC-6: {live} sandboxes are left on {}", site.place.id));
        }
    }
    if truth.at_work() > 0 {
        truth.breaks(format!("AC-6: {} attempts are at work", truth.at_work()));
    }
}

/// Of the hosts, when nothing of the run is left.
pub async fn of_hosts(world: &World) {
    for site in &world.workers {
        let Some(worker) = &site.worker else { continue };
        let Some(view) = worker.host.view().await else {
            world.truth.breaks(format!("the host of {} has ended", site.place.id));
            continue;
        };
        if let Some(run) = view.run {
            world.truth.breaks(format!("AC-6: {} has not left the run: {run:?}", site.place.id));
        }
        if view.load.slots != site.slots || view.load.environments > 0 {
            let load = view.load;
            world.truth.breaks(format!("FL-1: {} is not all free: {load:?}", site.place.id));
        }
    }
}

/// Of everything in the ledger but the time of day.
pub fn ledger_hash(ledger: &Connection) -> rusqlite::Result<u64> {
    let sql = [
        "SELECT rollout, attempt, fence, incarnation, node, state, outcome, reward, class, message,
         note, wall_sec, queue_sec, image_sec, create_sec, exec_sec, grade_sec, cleanup_sec
         FROM attempts ORDER BY fence",
        "SELECT rollout, attempt, outcome, reward, class, message FROM results ORDER BY rollout",
        "SELECT step, place, rollout FROM batches ORDER BY step, place",
        "SELECT incarnation FROM incarnations ORDER BY incarnation",
    ];
    let mut hash = 0;
    for sql in sql {
        let mut statement = ledger.prepare(sql)?;
        let columns = statement.column_count();
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            for column in 0..columns {
                let value = format!("{:?}", row.get_ref(column)?);
                hash = value.bytes().fold(hash, |hash, byte| mix(hash ^ u64::from(byte)));
            }
        }
    }
    Ok(hash)
}

/// How often each class of failures ended an attempt, for whoever wants to know what a seed did.
pub fn failures(ledger: &Connection) -> rusqlite::Result<BTreeMap<String, u64>> {
    let sql = "SELECT coalesce(class, state), count(*) FROM attempts GROUP BY 1";
    let mut statement = ledger.prepare(sql)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as u64)))?;
    rows.collect()
}
