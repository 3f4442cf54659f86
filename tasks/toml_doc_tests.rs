use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> TomlDoc {
    TomlDoc::parse(Path::new("run.toml"), text).unwrap()
}

/// Reads a little configuration of its own and gives what is wrong with it.
fn read(mut doc: TomlDoc, set: &[(&str, &str)]) -> String {
    for (key, value) in set {
        if let Err(defect) = doc.set("--set", key, value) {
            return defect.to_string();
        }
    }
    let root = doc.root();
    root.string("name");
    let limits = root.section("limits");
    limits.opt_u64("memory_mb", 16..=1024);
    limits.opt_u64("seed", 0..=u64::MAX);
    limits.f64_or("rate", 0.5, 0.0..=1.0);
    limits.duration_sec_or("timeout_sec", Duration::from_secs(1), 0.0..=3600.0);
    root.one_of_or("mode", 1, &[("fast", 1), ("slow", 2)]);
    root.string_map("env");
    root.strings("tags");
    for model in root.sections("models") {
        model.string("url");
    }
    doc.finish(()).map_or_else(|defects| defects.to_string(), |()| "fine".to_owned())
}

#[test]
fn every_defect_comes_at_once_in_the_order_of_the_file() {
    let text = r#"
nmae = "x"
mode = "quick"
tags = ["a", 1]

[limits]
memroy_mb = 12
memory_mb = 4096
seed = -1
rate = nan
timeout_sec = "soon"

[env]
A = 1

[[models]]
url = "u"
[[models]]
url = " "
extra = { a = 1 }
"#;
    insta::assert_snapshot!(read(parse(text), &[]), @r#"
    run.toml: name: expected a string that is not empty, found nothing
    run.toml:2: nmae: expected one of: name, limits, mode, env, tags, models, found unknown key `nmae` (did you mean `name`?)
    run.toml:3: mode: expected "fast" or "slow", found the string "quick"
    run.toml:4: tags[1]: expected a string, found 1
    run.toml:7: limits.memroy_mb: expected one of: memory_mb, seed, rate, timeout_sec, found unknown key `memroy_mb` (did you mean `memory_mb`?)
    run.toml:8: limits.memory_mb: expected an integer from 16 to 1024, found 4096
    run.toml:9: limits.seed: expected an integer of at least 0, found -1
    run.toml:10: limits.rate: expected a number from 0 to 1, found NaN
    run.toml:11: limits.timeout_sec: expected a number of seconds from 0 to 3600, found the string "soon"
    run.toml:14: env.A: expected a string, found 1
    run.toml:19: models[1].url: expected a string that is not empty, found the string " "
    run.toml:20: models[1].extra: expected one of: url, found unknown key `extra`
    "#);
}

#[test]
fn good_values_come_typed_and_defaults_stand_in_for_absent_ones() {
    let text = "n = 7\nx = 2\nwait = 1.5\nbig = 18446744073709551615\nhex = 0x1F\n[a.b]\nc = 'd'";
    let doc = parse(text);
    let root = doc.root();
    assert_eq!(root.u64("n", 0..=7), 7);
    assert_eq!(root.f64_or("x", 0.0, 0.0..=2.0), 2.0);
    assert_eq!(root.opt_duration_sec("wait", 0.0..=9.0), Some(Duration::from_millis(1500)));
    assert_eq!(root.opt_u64("big", 0..=u64::MAX), Some(u64::MAX));
    assert_eq!(root.opt_u64("hex", 0..=64), Some(31));
    assert_eq!(root.section("a").section("b").string("c"), "d");
    assert!(root.section("nowhere").bool_or("on", true));
    assert_eq!(doc.finish(()), Ok(()));
}

#[test]
fn a_value_set_from_outside_goes_over_the_files_and_is_named_as_such() {
    let doc = || parse("name = 'a'\n[limits]\nmemory_mb = 1");
    assert_eq!(read(doc(), &[("limits.memory_mb", "64")]), "fine");
    assert_eq!(read(doc(), &[("limits.memory_mb", "64"), ("mode", "slow")]), "fine");
    assert_eq!(
        read(doc(), &[("limits.memory_mb", "lots")]),
        "--set: limits.memory_mb: expected an integer from 16 to 1024, found the string \"lots\""
    );
    assert_eq!(
        read(doc(), &[("name.first", "b")]),
        "--set: name.first: expected a path of tables, found `name`, which is the string \"a\""
    );
    assert_eq!(
        read(doc(), &[("a = 1 #", "b")]),
        "--set: a = 1 #: expected a dotted key, such as `trainer.steps`, found `a = 1 #`"
    );
}

#[test]
fn all_syntax_errors_are_reported_with_their_lines() {
    let defects = TomlDoc::parse(Path::new("run.toml"), "a = \nb = 1\nc = [1,\nd = 2\na = 3\n");
    insta::assert_snapshot!(defects.unwrap_err(), @r"
    run.toml:1: expected valid TOML, found string values must be quoted, expected literal string
    run.toml:4: expected valid TOML, found unexpected `=` in array, expected value, `]`
    run.toml:5: expected valid TOML, found missing comma between array elements, expected `,`
    ");
}

#[test]
fn a_section_that_is_no_table_is_one_defect_and_not_also_missing_keys() {
    let doc = parse("limits = 3");
    doc.root().section("limits").string("a");
    doc.root().section("limits").section("b").u64("c", 0..=1);
    assert_eq!(
        doc.finish(()).unwrap_err().to_string(),
        "run.toml:1: limits: expected a table, found 3"
    );
}

#[test]
fn a_free_table_may_hold_anything_but_not_where_it_is_ours() {
    let doc = parse("[metadata]\na = 1\nb = { c = [{ d = 1 }] }\nours = { d = 1 }");
    let metadata = doc.root().section("metadata");
    metadata.allow_any_but(&["ours"]);
    metadata.section("ours").bool_or("c", false);
    assert_eq!(
        doc.finish(()).unwrap_err().to_string(),
        "run.toml:4: metadata.ours.d: expected one of: c, found unknown key `d` (did you mean `c`?)"
    );
}

proptest! {
    #[test]
    fn no_text_makes_reading_panic(text in "[\\[\\]{}a-c0-9=.,'\"#\\\\ \n\r\t-]{0,80}|\\PC{0,60}") {
        if let Ok(doc) = TomlDoc::parse(Path::new("run.toml"), &text) {
            read(doc, &[]);
        }
    }

    #[test]
    fn no_override_makes_reading_panic(key in "\\PC{0,12}|[a-c.\"' ]{0,8}", value in "\\PC{0,20}") {
        read(parse("a = { b = 1 }\nname = 'n'"), &[(&key, &value)]);
    }
}
