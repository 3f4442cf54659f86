//! `orcapack compare` over the ledgers of real runs.

use std::fs;

use serde_json::Value;

use crate::curriculum::measured;

#[test]
fn runs_are_compared_task_by_task_and_other_conditions_are_marked() {
    let world = measured();
    let solved = world.eval(&["-a", "oracle", "-k", "3", "-n", "2", "-q"]);
    assert_eq!(solved.code, Some(0), "{solved:?}");
    let line = ["compare", "runs/base", "runs/r", "--html", "page.html"];
    let told = world.orcapack(&[&line[..], &["--json"]].concat());
    assert_eq!((told.code, told.stderr.as_str()), (Some(0), ""), "{told:?}");
    let report: Value = serde_json::from_str(&told.stdout).unwrap();
    let mean = |arm: usize, key: &str| report["arms"][arm][key]["mean"].as_f64().unwrap();
    assert!((mean(0, "pass_at_1") - 0.5).abs() < 1e-9 && mean(1, "pass_at_1") == 1.0);
    assert!((mean(0, "pass_at_k") - 0.75).abs() < 1e-9, "{report}");
    let pair = &report["differences"][0];
    assert!((pair["difference"]["mean"].as_f64().unwrap() - 0.5).abs() < 1e-9);
    assert_eq!((&pair["wins"], &pair["ties"], &pair["losses"]), (&3.into(), &1.into(), &0.into()));
    let families: Vec<&str> = report["families"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["family"].as_str().unwrap())
        .collect();
    assert_eq!(families, ["easy", "easy", "hard", "hard"]);
    assert_eq!(report["notes"][0]["what"], "rollouts.n_concurrent = 2, not 4");
    assert_eq!(report["notes"].as_array().unwrap().len(), 1);
    let page = fs::read_to_string(world.path("page.html")).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.contains("<svg"), "{page}");

    // The same ledgers print the same figures, and several runs are one arm.
    let text = world.orcapack(&line);
    assert_eq!(text.stdout, world.orcapack(&line).stdout);
    assert!(text.stdout.contains("r !  "), "{text:?}");
    let both = world.orcapack(&["compare", "runs/base", "both=runs/base,runs/r", "-k", "2"]);
    assert_eq!(both.code, Some(0), "{both:?}");
    for part in [
        "known-bad; oracle",
        "2 x 3",
        "mean, standard deviation",
        "75.0%",
        "over the runs of an arm",
    ] {
        assert!(both.stdout.contains(part), "{part}: {both:?}");
    }
}

#[test]
fn what_cannot_be_compared_is_refused_with_what_was_expected() {
    let world = measured();
    for (args, said) in [
        (&["runs/absent"][..], "expected the directory of a run"),
        (&["runs/base@first"], "expected no @STEP, of a run of eval"),
        (&["runs/base@newest"], "found `@newest`"),
        (&["a=runs/base,"], "found an empty path"),
        (&["runs/base", "runs/base"], "found two `base`"),
        (&["runs/base", "-k", "0"], "0 is not in"),
        (&["runs/base", "--html", "absent/page.html"], "absent/page.html"),
        (&[], "required"),
    ] {
        let ended = world.orcapack(&[&["compare"], args].concat());
        assert_eq!(ended.code, Some(2), "{args:?}: {ended:?}");
        assert!(ended.stderr.contains(said), "{said}: {ended:?}");
    }
    let named = world.orcapack(&["compare", "runs/base", "again=runs/base"]);
    assert_eq!(named.code, Some(0), "{named:?}");
    assert!(named.stdout.contains("+0.0 [+0.0 to +0.0]  0/4/0"), "{named:?}");
    // Tasks that are gone have no families, and their figures all the same.
    fs::rename(world.path("tasks"), world.path("gone")).unwrap();
    let gone = world.orcapack(&["compare", "runs/base"]);
    assert_eq!(gone.code, Some(0), "{gone:?}");
    assert!(gone.stderr.contains("the families of tasks are not known"), "{gone:?}");
    assert!(gone.stdout.contains("50.0%"), "{gone:?}");
}
