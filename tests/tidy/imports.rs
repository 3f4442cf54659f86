//! Who may know whom: the layers of the crates, and the parts that must stay pure or alone.

use std::collections::BTreeSet;

use crate::{none, of_crate, read, rust};

/// A pure core is told the time and answers with what is to be done, so that its tests need no
/// clock, no file and no actor system. The actor around it does the rest.
const PURE: [&str; 166] = [
    "actors/breaker.rs",
    "actors/docker_container.rs",
    "actors/model/backoff.rs",
    "actors/model/call_gate.rs",
    "actors/model/conversations.rs",
    "actors/model/http_fault.rs",
    "actors/model/in_flight.rs",
    "actors/model/literal.rs",
    "actors/model/price.rs",
    "actors/model/recorded.rs",
    "actors/model/sampling.rs",
    "actors/model/solution.rs",
    "actors/model/token_trace.rs",
    "actors/start_gate.rs",
    "actors/team/agent.rs",
    "actors/team/conductor.rs",
    "actors/team/contexts.rs",
    "actors/team/delegation.rs",
    "actors/team/diff.rs",
    "actors/team/edit.rs",
    "actors/team/figures.rs",
    "actors/team/grammar.rs",
    "actors/team/messages.rs",
    "actors/team/nearest.rs",
    "actors/team/notes.rs",
    "actors/team/opening.rs",
    "actors/team/pattern.rs",
    "actors/team/read_action.rs",
    "actors/team/sent.rs",
    "actors/team/text.rs",
    "actors/team/view.rs",
    "cluster/codec.rs",
    "cluster/lease.rs",
    "cluster/peer_rules.rs",
    "cluster/session_wire.rs",
    "cluster/token.rs",
    "runtime/batches.rs",
    "runtime/cluster_hostlist.rs",
    "runtime/compare/asked.rs",
    "runtime/compare/bootstrap.rs",
    "runtime/compare/conditions.rs",
    "runtime/compare/evaluations.rs",
    "runtime/compare/figures.rs",
    "runtime/fleet.rs",
    "runtime/fleet_node.rs",
    "runtime/generate/tally.rs",
    "runtime/ledger.rs",
    "runtime/serve/asked.rs",
    "runtime/serve/fields.rs",
    "runtime/serve/logprobs.rs",
    "runtime/summary.rs",
    "runtime/summary_rows.rs",
    "runtime/train/batch.rs",
    "runtime/train/curriculum.rs",
    "runtime/train/delivery/weights_wire.rs",
    "runtime/train/layout.rs",
    "runtime/train/pacer.rs",
    "runtime/wire.rs",
    "tasks/admission.rs",
    "tasks/authoring/blocks.rs",
    "tasks/authoring/draft.rs",
    "tasks/authoring/evidence.rs",
    "tasks/authoring/idea.rs",
    "tasks/authoring/life.rs",
    "tasks/authoring/line.rs",
    "tasks/authoring/messages.rs",
    "tasks/authoring/verdict.rs",
    "tasks/authoring/wish.rs",
    "tasks/curriculum.rs",
    "tasks/generate/families/archives/make.rs",
    "tasks/generate/families/archives/mod.rs",
    "tasks/generate/families/archives/restore.rs",
    "tasks/generate/families/builds/make.rs",
    "tasks/generate/families/builds/mod.rs",
    "tasks/generate/families/builds/sources.rs",
    "tasks/generate/families/checksums/folders.rs",
    "tasks/generate/families/checksums/lists.rs",
    "tasks/generate/families/checksums/mod.rs",
    "tasks/generate/families/config/data.rs",
    "tasks/generate/families/config/keys.rs",
    "tasks/generate/families/config/mod.rs",
    "tasks/generate/families/files.rs",
    "tasks/generate/families/git/bring.rs",
    "tasks/generate/families/git/history.rs",
    "tasks/generate/families/git/mod.rs",
    "tasks/generate/families/git/search.rs",
    "tasks/generate/families/globs/make.rs",
    "tasks/generate/families/globs/mod.rs",
    "tasks/generate/families/logs/applications.rs",
    "tasks/generate/families/logs/mod.rs",
    "tasks/generate/families/logs/requests.rs",
    "tasks/generate/families/mod.rs",
    "tasks/generate/families/permissions/links.rs",
    "tasks/generate/families/permissions/mod.rs",
    "tasks/generate/families/permissions/modes.rs",
    "tasks/generate/families/processes/mod.rs",
    "tasks/generate/families/processes/scripts.rs",
    "tasks/generate/families/processes/service.rs",
    "tasks/generate/families/processes/tables.rs",
    "tasks/generate/families/programs.rs",
    "tasks/generate/families/python_bugs/files.rs",
    "tasks/generate/families/python_bugs/mod.rs",
    "tasks/generate/families/python_bugs/sequences.rs",
    "tasks/generate/families/python_bugs/trees.rs",
    "tasks/generate/families/schedules/calendar.rs",
    "tasks/generate/families/schedules/crontabs.rs",
    "tasks/generate/families/schedules/days.rs",
    "tasks/generate/families/schedules/mod.rs",
    "tasks/generate/families/schedules/tables.rs",
    "tasks/generate/families/shell_bugs/folders.rs",
    "tasks/generate/families/shell_bugs/lines.rs",
    "tasks/generate/families/shell_bugs/mod.rs",
    "tasks/generate/families/shell_bugs/strict.rs",
    "tasks/generate/families/sqlite/changes.rs",
    "tasks/generate/families/sqlite/mod.rs",
    "tasks/generate/families/sqlite/reads.rs",
    "tasks/generate/families/tables/documents.rs",
    "tasks/generate/families/tables/mod.rs",
    "tasks/generate/families/tables/sheets.rs",
    "tasks/generate/families/text/lists.rs",
    "tasks/generate/families/text/mod.rs",
    "tasks/generate/families/text/scripts.rs",
    "tasks/generate/families/trees.rs",
    "tasks/generate/families/words.rs",
    "tasks/generate/random.rs",
    "tasks/generate/template.rs",
    "tasks/grading.rs",
    "tasks/outcome.rs",
    "tasks/pass_at_k.rs",
    "tasks/similarity.rs",
    "tasks/splitmix.rs",
    "trainer/collective/farewell.rs",
    "trainer/collective/frame.rs",
    "trainer/collective/schedule.rs",
    "trainer/engine/pages.rs",
    "trainer/engine/sampler.rs",
    "trainer/engine/scheduler.rs",
    "trainer/engine/stop.rs",
    "trainer/loss/advantage.rs",
    "trainer/loss/aggregate.rs",
    "trainer/loss/cispo.rs",
    "trainer/loss/clipped.rs",
    "trainer/loss/dapo.rs",
    "trainer/loss/dr_grpo.rs",
    "trainer/loss/grpo.rs",
    "trainer/loss/gspo.rs",
    "trainer/loss/inputs.rs",
    "trainer/loss/metrics.rs",
    "trainer/loss/mod.rs",
    "trainer/loss/sft.rs",
    "trainer/optimizer/schedule.rs",
    "trainer/random.rs",
    "trainer/ranks/buckets.rs",
    "trainer/ranks/bulk.rs",
    "trainer/ranks/digest.rs",
    "trainer/ranks/group.rs",
    "trainer/ranks/group_abort.rs",
    "trainer/ranks/group_events.rs",
    "trainer/ranks/restarts.rs",
    "trainer/ranks/shards.rs",
    "trainer/ranks/wire.rs",
    "trainer/samples/batch.rs",
    "trainer/samples/from_trajectory.rs",
    "trainer/samples/packing.rs",
    "trainer/tensors/header.rs",
    "trainer/text/conversation.rs",
];
const IMPURE: [&str; 9] = [
    "::now(",
    "std::env",
    "std::fs",
    "std::io",
    "std::net",
    "std::process",
    "ractor",
    "tokio",
    "rusqlite",
];

#[test]
fn crates_stand_in_layers() {
    let layers = [
        ("tasks/Cargo.toml", &[][..]),
        ("actors/Cargo.toml", &["orcapack-tasks"]),
        ("cluster/Cargo.toml", &[]),
        ("trainer/Cargo.toml", &["orcapack-cluster", "orcapack-tasks"]),
        (
            "Cargo.toml",
            &["orcapack-actors", "orcapack-cluster", "orcapack-tasks", "orcapack-trainer"],
        ),
    ];
    let faults = layers.into_iter().filter_map(|(path, may)| {
        let manifest: toml::Table = read(path).text.parse().unwrap();
        let tables = ["dependencies", "dev-dependencies", "build-dependencies"];
        let names = tables.iter().filter_map(|table| manifest.get(*table)?.as_table());
        let names = names.flat_map(|table| table.keys());
        let ours = names.map(String::as_str).filter(|name| name.starts_with("orca"));
        let ours: Vec<&str> = ours.collect::<BTreeSet<_>>().into_iter().collect();
        (ours != may).then(|| format!("{path}: knows {ours:?}, may know {may:?}"))
    });
    none(
        faults,
        "imports point one way: tasks <- actors, trainer <- runtime; cluster <- trainer, runtime",
    );
}

#[test]
fn tasks_start_nothing() {
    let sources = of_crate("tasks");
    let faults = sources.iter().flat_map(|source| {
        let far = ["tokio", "ractor", "std::net", "std::process", "std::thread", "SystemTime"];
        let lines = source.program().filter(move |(_, line)| far.iter().any(|f| line.contains(f)));
        lines.map(|(number, line)| format!("{}:{number}: {line}", source.path))
    });
    none(faults, "what a task is can be asked anywhere: no process, no clock, no network");
}

#[test]
fn pure_cores_have_no_clock_and_no_io() {
    let faults = PURE.iter().flat_map(|path| {
        let source = read(*path);
        let impure = |line: &str| {
            !line.trim_start().starts_with("//") && IMPURE.iter().any(|word| line.contains(word))
        };
        let lines = source.program().filter(|(_, line)| impure(line));
        lines.map(|(number, line)| format!("{path}:{number}: {line}")).collect::<Vec<_>>()
    });
    none(faults, "a decision that reads no clock and does no I/O can be tested whole");
}

/// Each crate that reaches the outside world, and the only files that may use it.
#[test]
fn the_outside_world_has_one_door_each() {
    // The composition roots hand the driver over. They and the reaper only sweep.
    let drivers = [
        "actors/pool.rs",
        "actors/reaper.rs",
        "runtime/engine.rs",
        "runtime/node.rs",
        "runtime/run.rs",
        "runtime/run_host.rs",
        "runtime/sandboxes.rs",
    ];
    let actors = [
        "actors/",
        "cluster/mesh",
        "cluster/peer.rs",
        "runtime/coordinator",
        "runtime/node.rs",
        "runtime/node_command.rs",
        "runtime/recorder.rs",
        "runtime/run.rs",
        "runtime/run_host.rs",
        "trainer/ranks/",
    ];
    let issuers =
        ["cluster/authority", "cluster/identity_names.rs", "cluster/join", "cluster/renewal.rs"];
    let templates = [
        "runtime/report",
        "runtime/train/report",
        "runtime/compare/page",
        "runtime/cluster_",
        "trainer/text/",
    ];
    let doors = [
        ("bollard::", &["actors/docker"][..], "another engine, or client, is one file's matter"),
        (
            "reqwest::",
            &["actors/model/http.rs"],
            "one place hides the keys, follows no redirect, tries once",
        ),
        ("rusqlite", &["runtime/store"], "who writes the ledger decides when it is on disk (AC-1)"),
        ("dyn Driver", &drivers, "whoever makes a sandbox must see it gone (AC-6)"),
        ("ractor::", &actors, "an actor is a shell; what it decides lies elsewhere"),
        ("quinn", &["cluster/quic"], "whoever uses a link cannot tell what carries it"),
        ("tokio_rustls", &["cluster/tcp"], "whoever uses a link cannot tell what carries it"),
        ("TcpStream", &["cluster/tcp"], "whoever uses a link cannot tell what carries it"),
        ("axum", &["runtime/serve"], "what is asked over HTTP is judged before anything is done"),
        ("gemm::", &["trainer/ops/fused/matrix.rs"], "a product has one order of its sums"),
        ("minijinja", &templates, "a template that others wrote is bounded"),
        ("tokenizers::", &["trainer/text/"], "text becomes tokens in one place"),
        ("rcgen", &issuers, "a certificate is made in one form, and by an authority"),
        ("bincode::config", &["cluster/codec.rs"], "what comes from peers has one reader"),
    ];
    let sources = rust();
    for (what, may, reason) in doors {
        let outside = sources.iter().filter(|s| !may.iter().any(|door| s.path.starts_with(door)));
        let faults = outside.flat_map(|source| {
            let program = source.program().filter(|(_, line)| !line.trim_start().starts_with("//"));
            let lines = program.filter(|(_, line)| line.contains(what));
            lines.map(|(number, line)| format!("{}:{number}: {line}", source.path))
        });
        none(faults, reason);
    }
}

#[test]
fn no_command_goes_through_the_engine() {
    let sources = of_crate("actors");
    let faults = sources.iter().flat_map(|source| {
        let calls = ["create_exec", "start_exec", "resize_exec"];
        let lines =
            source.program().filter(move |(_, line)| calls.iter().any(|c| line.contains(c)));
        lines.map(|(number, _)| format!("{}:{number}", source.path))
    });
    none(faults, "an engine's exec costs it a quarter of a second of CPU; the guest agent's none");
}
