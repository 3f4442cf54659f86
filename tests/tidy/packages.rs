//! What we depend on: all of it used, none of it banned, and every licence one that we may pass on.
//!
//! The rules are those of `.deny.toml`, which `cargo deny check` reads too, with the advisories
//! that it needs the network for.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

use crate::{none, of_crate, read};

fn rules() -> toml::Table {
    read(".deny.toml").text.parse().unwrap()
}

#[test]
fn every_dependency_is_used() {
    let manifest = |path: &str| read(path).text.parse::<toml::Table>().unwrap();
    let names = |table: &toml::Table, key: &str| -> BTreeSet<String> {
        let table = table.get(key).and_then(toml::Value::as_table);
        table.into_iter().flat_map(|table| table.keys().cloned()).collect()
    };
    let mut faults = Vec::new();
    let mut wanted = BTreeSet::new();
    for (path, folders) in [
        ("tasks/Cargo.toml", &["tasks"][..]),
        ("actors/Cargo.toml", &["actors"]),
        ("cluster/Cargo.toml", &["cluster"]),
        ("trainer/Cargo.toml", &["trainer"]),
        ("Cargo.toml", &["runtime", "tests", "benches"]),
    ] {
        let manifest = manifest(path);
        let text: String =
            folders.iter().flat_map(|folder| of_crate(folder)).map(|source| source.text).collect();
        for table in ["dependencies", "dev-dependencies"] {
            for name in names(&manifest, table) {
                if !text.contains(&name.replace('-', "_")) {
                    faults.push(format!("{path}: {table}.{name}"));
                }
                wanted.insert(name);
            }
        }
    }
    let workspace = manifest("Cargo.toml");
    let workspace = workspace["workspace"].as_table().unwrap();
    let offered = names(workspace, "dependencies");
    let unwanted = offered.difference(&wanted);
    faults.extend(unwanted.map(|name| format!("Cargo.toml: workspace.dependencies.{name}")));
    none(faults, "a dependency costs every build and every audit");
}

#[test]
fn nothing_banned_is_locked() {
    let rules = rules();
    let banned = rules["bans"]["deny"].as_array().unwrap();
    let lock: toml::Table = read("Cargo.lock").text.parse().unwrap();
    let locked: BTreeSet<&str> =
        lock["package"].as_array().unwrap().iter().filter_map(|p| p["name"].as_str()).collect();
    let faults = banned.iter().filter_map(|ban| {
        let (name, reason) = (ban["crate"].as_str()?, ban["reason"].as_str()?);
        locked.contains(name).then(|| format!("{name}: {reason}"))
    });
    none(faults, "banned in .deny.toml");
    assert!(banned.iter().all(|ban| ban.get("reason").is_some()), "a ban without a reason");
}

/// Of the packages for this platform. Of the others, the sources need not be here.
#[test]
fn every_licence_may_be_passed_on() {
    let rules = rules();
    let allowed = rules["licenses"]["allow"].as_array().unwrap();
    let allowed: BTreeSet<&str> = allowed.iter().filter_map(toml::Value::as_str).collect();
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--filter-platform", &platform])
        .current_dir(crate::root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let nodes = metadata["resolve"]["nodes"].as_array().unwrap();
    let used: BTreeSet<&str> = nodes.iter().filter_map(|node| node["id"].as_str()).collect();
    let packages = metadata["packages"].as_array().unwrap();
    let packages: Vec<&Value> =
        packages.iter().filter(|p| p["id"].as_str().is_some_and(|id| used.contains(id))).collect();
    assert!(packages.len() > 100, "only {} packages", packages.len());
    let faults = packages.iter().filter_map(|package| {
        let licence = package["license"].as_str().unwrap_or("none");
        let fault = format!("{} {}: {licence}", package["name"], package["version"]);
        (!is_allowed(licence, &allowed)).then_some(fault)
    });
    none(faults, "Orcapack is given on under Apache-2.0 or MIT, and so must all of its parts be");
}

/// Whether an SPDX expression can be met with allowed licences alone. `/` is an old way to say OR.
fn is_allowed(expression: &str, allowed: &BTreeSet<&str>) -> bool {
    let text = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words = text.split_whitespace().peekable();
    any(&mut words, allowed)
}

type Words<'w> = std::iter::Peekable<std::str::SplitWhitespace<'w>>;

fn any(words: &mut Words, allowed: &BTreeSet<&str>) -> bool {
    let mut is_met = all(words, allowed);
    while words.next_if_eq(&"OR").is_some() {
        is_met |= all(words, allowed);
    }
    is_met
}

fn all(words: &mut Words, allowed: &BTreeSet<&str>) -> bool {
    let mut is_met = one(words, allowed);
    while words.next_if_eq(&"AND").is_some() {
        is_met &= one(words, allowed);
    }
    is_met
}

fn one(words: &mut Words, allowed: &BTreeSet<&str>) -> bool {
    match words.next() {
        Some("(") => {
            let is_met = any(words, allowed);
            words.next_if_eq(&")").is_some() && is_met
        }
        Some(licence) => match words.next_if_eq(&"WITH").and_then(|_| words.next()) {
            Some(exception) => allowed.contains(format!("{licence} WITH {exception}").as_str()),
            None => allowed.contains(licence),
        },
        None => false,
    }
}

#[test]
fn licence_expressions_are_understood() {
    let allowed = BTreeSet::from(["MIT", "Apache-2.0", "Zlib"]);
    for (expression, expected) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("MIT/Apache-2.0", true),
        ("GPL-3.0 OR MIT", true),
        ("MIT AND GPL-3.0", false),
        ("(MIT OR GPL-3.0) AND Zlib", true),
        ("(GPL-3.0 OR LGPL-3.0) AND MIT", false),
        ("Apache-2.0 WITH LLVM-exception", false),
        ("Apache-2.0 WITH LLVM-exception OR MIT", true),
        ("none", false),
        ("", false),
    ] {
        assert_eq!(is_allowed(expression, &allowed), expected, "{expression}");
    }
}
