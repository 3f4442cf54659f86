//! Keys that are set where they stand.

use crate::generate::families::config::{KEY, SECTION, SERVICE, VARIABLE};
use crate::generate::families::trees::{STEMS, others, prose};
use crate::generate::random::Random;
use crate::generate::template::{Made, has, output, quoted, text, write};

/// A section with the key, and with what looks like it.
fn section(random: &mut Random, name: &str, key: &str) -> Vec<String> {
    let mut settings = vec![
        format!("{key} = {}", random.within(10..=999)),
        format!("{key}_max = {}", random.within(10..=999)),
        format!("min_{key} = {}", random.within(10..=999)),
        format!("; {key} = {}", random.within(10..=999)),
        format!("# {key} = {} was too much", random.within(10..=999)),
    ];
    for other in random.some(&others(&KEY, key), 3) {
        settings.push(format!("{other} = {}", random.within(10..=999)));
    }
    let mut lines = vec![format!("[{name}]")];
    lines.extend(random.shuffled(&settings));
    lines
}

pub(super) fn ini(values: &[&'static str], random: &mut Random) -> Made {
    let (file, name, key, value) = (values[0], values[1], values[2], values[3]);
    let mut lines = vec!["# What this program reads at the start.".to_owned()];
    let mut edited = lines.clone();
    for other in random.shuffled(SECTION.values) {
        let section = section(random, other, key);
        let start = format!("{key} = ");
        for line in section {
            let is_meant = other == name && line.starts_with(&start);
            edited.push(if is_meant { format!("{key} = {value}") } else { line.clone() });
            lines.push(line);
        }
        for lines in [&mut lines, &mut edited] {
            lines.push(String::new());
        }
    }
    let replace = format!("s/^{key} = .*/{key} = {value}/");
    Made {
        start: vec![has(file, lines.join("\n").trim_end())],
        end: vec![output(
            &format!("sed -E 's/[[:space:]]*=[[:space:]]*/ = /' {file}"),
            &edited.join("\n"),
        )],
        solution: vec![format!("sed -i '/^\\[{name}\\]/,/^\\[/{replace}' {file}")],
        hard_coded: vec![format!("echo '{key} = {value}' >> {file}")],
        near_miss: vec![format!("sed -i '{replace}' {file}")],
        ..Made::default()
    }
}

pub(super) fn env(values: &[&'static str], random: &mut Random) -> Made {
    let (file, variable, value, removed) = (values[0], values[1], values[2], values[3]);
    let mut lines: Vec<String> = Vec::new();
    for name in VARIABLE.values {
        lines.push(format!("{name}={}", random.pick(&STEMS)));
        lines.push(format!("APP_{name}={}", random.pick(&STEMS)));
        lines.push(format!("{name}_OLD={}", random.pick(&STEMS)));
        lines.push(format!("#{name}={}", random.pick(&STEMS)));
        lines.push(format!("# {name} is read at the start: {}", random.pick(&STEMS)));
    }
    let lines = random.shuffled(&lines);
    let (set, unset) = (format!("{variable}="), format!("{removed}="));
    let mut edited = Vec::new();
    for line in &lines {
        if line.starts_with(&set) {
            edited.push(format!("{variable}={value}"));
        } else if !line.starts_with(&unset) {
            edited.push(line.clone());
        }
    }
    let sed = |start: &str| {
        vec![format!(
            "sed -i 's/{start}{variable}=.*/{variable}={value}/; /{start}{removed}=/d' {file}"
        )]
    };
    Made {
        start: vec![has(file, &lines.join("\n"))],
        end: vec![text(file, &edited.join("\n"))],
        solution: sed("^"),
        hard_coded: vec![format!("echo {variable}={value} >> {file}")],
        near_miss: sed(""),
        ..Made::default()
    }
}

/// A service with its sidecar, its own values given.
fn service(name: &str, tag: &str, copies: &str, rest: &[String; 3]) -> String {
    let [mode, side, note] = rest;
    format!(
        "  {name}:
    # {note}
    image: registry.local/{name}:{tag}  # {note}
    replicas: {copies}
    environment:
      - MODE={mode}
    sidecar:
      image: registry.local/{side}:1.2
      replicas: 3
    # end of {name}
"
    )
}

pub(super) fn yaml(values: &[&'static str], random: &mut Random) -> Made {
    let (file, name, tag, copies) = (values[0], values[1], values[2], values[3]);
    let mut names = vec![name.to_owned(), format!("{name}-admin"), format!("old-{name}")];
    names.extend(random.some(&others(&SERVICE, name), 3).into_iter().map(ToOwned::to_owned));
    let head = format!("# {}\nversion: 3\nservices:\n", prose(random, 1..=1));
    let (mut before, mut after) = (head.clone(), head);
    for other in random.shuffled(&names) {
        let rest = [(); 3].map(|()| (*random.pick(&STEMS)).to_owned());
        let (old_tag, old_copies) =
            (format!("1.{}", random.within(1..=30)), random.within(1..=9).to_string());
        let old = service(&other, &old_tag, &old_copies, &rest);
        before.push_str(&old);
        after.push_str(&if other == name { service(name, tag, copies, &rest) } else { old });
    }
    let sed = |start: &str| {
        vec![format!(
            "sed -i -E '/^  {name}:$/,/^  [a-z]/{{s/({start}image: [^:]+:)[^ ]+/\\1{tag}/; \
             s/({start}replicas: )[0-9]+/\\1{copies}/}}' {file}"
        )]
    };
    Made {
        start: vec![has(file, before.trim_end())],
        end: vec![text(file, &after)],
        solution: sed("^    "),
        hard_coded: vec![format!("sed -i 's/replicas: .*/replicas: {copies}/' {file}")],
        near_miss: sed(" "),
        ..Made::default()
    }
}

/// What the program should do, with lines and without blank ones.
fn set(lines: &[String], section: &str, key: &str, value: &str) -> Vec<String> {
    let mut lines = lines.to_vec();
    let new = format!("{key} = {value}");
    let header = format!("[{section}]");
    let Some(start) = lines.iter().position(|line| *line == header) else {
        lines.extend([header, new]);
        return lines;
    };
    let rest = &lines[start + 1..];
    let length = rest.iter().position(|line| line.starts_with('[')).unwrap_or(rest.len());
    let is_comment = |line: &str| line.starts_with(['#', ';']);
    let old = rest[..length].iter().position(|line| {
        !is_comment(line) && line.split_once('=').is_some_and(|(name, _)| name.trim() == key)
    });
    if let Some(at) = old {
        lines[start + 1 + at] = new;
    } else {
        let last = rest[..length].iter().rposition(|line| !is_comment(line));
        lines.insert(start + 2 + last.unwrap_or(0), new);
    }
    lines
}

const PROGRAM: &str = r"#!/usr/bin/env python3
import sys
path, section, key, value = sys.argv[1:]
lines = open(path).read().splitlines()
new = f'{key} = {value}'
current = last = None
is_set = False
for at, line in enumerate(lines):
    line = line.strip()
    if line.startswith('[') and line.endswith(']'):
        current = line[1:-1]
        if current == section:
            last = at
    elif current == section and line and line[0] not in '#;':
        last = at
        if line.split('=')[0].strip() == key:
            lines[at] = new
            is_set = True
if last is None:
    lines += [f'[{section}]', new]
elif not is_set:
    lines.insert(last + 1, new)
open(path, 'w').write('\n'.join(lines) + '\n')";

/// What is in the value means something to sed, and what is in the key to grep.
const BY_PATTERN: &str = r#"#!/bin/bash
if ! grep -q "^\[$2\]" "$1"; then
  printf '[%s]\n%s = %s\n' "$2" "$3" "$4" >> "$1"
elif sed -n "/^\[$2\]/,/^\[/p" "$1" | grep -q "^$3 *="; then
  sed -i "/^\[$2\]/,/^\[/s/^$3 *=.*/$3 = $4/" "$1"
else
  sed -i "/^\[$2\]/a $3 = $4" "$1"
fi"#;

/// What the program is called with, and what is in the file before and after.
struct Case {
    before: String,
    section: String,
    key: String,
    value: &'static str,
    after: String,
}

pub(super) fn tool(values: &[&'static str], random: &mut Random) -> Made {
    let (script, example) = (values[0], values[1]);
    let keys = random.some(KEY.values, 3);
    let file = |random: &mut Random, key: &str| -> Vec<String> {
        let names = random.some(SECTION.values, 3);
        let mut lines = vec!["# An example.".to_owned()];
        let old = format!("{}-old", names[1]);
        for name in [&*old, names[0], names[1], names[2]] {
            lines.extend(section(random, name, key));
            // Where a key is added, no comment is in the way.
            lines.push(format!("last={}", random.within(10..=999)));
        }
        lines
    };
    let mut cases = Vec::new();
    for (at, value) in
        ["/srv/data & more", r"C:\new\table", "x=y", "50%", "3", "a|b,c"].into_iter().enumerate()
    {
        let key = keys[at % keys.len()];
        let mut lines = file(random, key);
        let headers: Vec<String> =
            lines.iter().filter(|line| line.starts_with('[')).cloned().collect();
        let inner = |at: usize| headers[at].trim_matches(['[', ']']).to_owned();
        let (section, key) = match at {
            0 => (inner(2), key.to_owned()),
            1 => (inner(1), "fresh.key".to_owned()),
            2 => ("unheard".to_owned(), key.to_owned()),
            3 => {
                let start = lines.iter().position(|line| *line == headers[2]).unwrap_or(0);
                lines.insert(start + 1, "max-size=5".to_owned());
                lines.insert(start + 2, "max.size=7".to_owned());
                (inner(2), "max.size".to_owned())
            }
            4 => (inner(3), "added".to_owned()),
            _ => (inner(3), "last".to_owned()),
        };
        let after = set(&lines, &section, &key, value);
        cases.push(Case { before: lines.join("\n"), section, key, value, after: after.join("\n") });
    }
    let hidden = cases.iter().enumerate();
    let hidden = hidden.map(|(at, case)| has(&format!("case{at}.ini"), &case.before)).collect();
    let check = |(at, case): (usize, &Case)| {
        let Case { section, key, value, after, .. } = case;
        output(
            &format!(
                "cp /tests/case{at}.ini /tmp/case{at}.ini && timeout 5 ./{script} \
                 /tmp/case{at}.ini {section} {key} {} > /dev/null && grep -v '^[[:space:]]*$' \
                 /tmp/case{at}.ini",
                quoted(value)
            ),
            after,
        )
    };
    let program = |text: &str| vec![write(script, text), format!("chmod +x {script}")];
    Made {
        start: vec![has(example, &file(random, keys[0]).join("\n"))],
        end: cases.iter().enumerate().map(check).collect(),
        hidden,
        solution: program(PROGRAM),
        hard_coded: program("#!/bin/bash\nsed -i \"s|^$3 = .*|$3 = $4|\" \"$1\""),
        near_miss: program(BY_PATTERN),
        ..Made::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::families::trees::commands;

    #[test]
    fn keys_are_set_in_their_section_and_added_after_its_last() {
        let lines = commands("[a]\nx=1\n# x = 2\n[b]\nx = 3");
        let after = |section, key| set(&lines, section, key, "9").join(",");
        assert_eq!(after("b", "x"), "[a],x=1,# x = 2,[b],x = 9");
        assert_eq!(after("a", "x"), "[a],x = 9,# x = 2,[b],x = 3");
        assert_eq!(after("a", "y"), "[a],x=1,y = 9,# x = 2,[b],x = 3");
        assert_eq!(after("c", "x"), "[a],x=1,# x = 2,[b],x = 3,[c],x = 9");
    }
}
