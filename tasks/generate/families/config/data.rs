//! Files that are read as a whole and written again.

use serde_json::{Map, Value, json};

use crate::generate::families::config::SERVICE;
use crate::generate::families::trees::{STEMS, commands, others, prose};
use crate::generate::random::Random;
use crate::generate::template::{End, Made, has, output, python, text};

/// The JSON file has this data, whatever its layout.
fn holds_data(file: &str, data: &Value) -> End {
    let mut sorted = data.clone();
    sorted.sort_all_objects();
    output(&format!("jq -S -c . {file}"), &sorted.to_string())
}

fn without(data: &Value, key: &str) -> Value {
    match data {
        Value::Object(map) => {
            let left = map.iter().filter(|(name, _)| *name != key);
            left.map(|(name, value)| (name.clone(), without(value, key)))
                .collect::<Map<_, _>>()
                .into()
        }
        Value::Array(list) => list.iter().map(|value| without(value, key)).collect(),
        other => other.clone(),
    }
}

pub(super) fn json(values: &[&'static str], random: &mut Random) -> Made {
    let (file, name, port, flag) = (values[0], values[1], values[2], values[3]);
    let mut names = random.some(&others(&SERVICE, name), 4);
    names.insert(random.within(0..=4), name);
    let mut services = Map::new();
    for other in names {
        let mut stem = || *random.pick(&STEMS);
        let routes =
            json!([{ "path": format!("/{}", stem()), flag: true }, { "path": stem(), "port": 80 }]);
        let mut service = json!({ "host": stem(), "mode": stem(), "routes": routes, "note": flag });
        service["port"] = random.within(100..=999).into();
        if other == name || random.below(2) == 0 {
            service[flag] = json!({ "since": random.within(2000..=2020) });
        }
        services.insert(other.to_owned(), service);
    }
    let data = json!({
        "title": prose(random, 1..=1),
        flag: false,
        "port": random.within(100..=999),
        "services": services,
        "limits": { "files": random.within(10..=99), "deep": { flag: [1, 2], "kept": [3] } },
    });
    let mut edited = without(&data, flag);
    edited["services"][name]["port"] = port.parse::<u32>().unwrap_or(0).into();
    let jq = |port: &str, remove: &str| {
        vec![
            format!("jq {port} '.services.{name}.port = $port | {remove}' {file} > new.tmp"),
            format!("mv new.tmp {file}"),
        ]
    };
    let everywhere = format!("walk(if type == \"object\" then del(.{flag}) else . end)");
    Made {
        start: vec![has(file, &format!("{data:#}"))],
        end: vec![holds_data(file, &edited)],
        solution: jq(&format!("--argjson port {port}"), &everywhere),
        hard_coded: jq(&format!("--argjson port {port}"), &format!("del(.{flag})")),
        near_miss: jq(&format!("--arg port {port}"), &everywhere),
        ..Made::default()
    }
}

/// What the program reads: the last value of each key, in the order of their first.
fn read(lines: &[String]) -> Vec<(String, String)> {
    let mut read: Vec<(String, String)> = Vec::new();
    for (key, value) in lines.iter().filter_map(|line| line.split_once(" = ")) {
        if key.starts_with('#') {
            continue;
        }
        match read.iter_mut().find(|(other, _)| other == key) {
            Some((_, old)) => value.clone_into(old),
            None => read.push((key.to_owned(), value.to_owned())),
        }
    }
    read
}

pub(super) fn defaults(values: &[&'static str], random: &mut Random) -> Made {
    let (default, local, merged) = (values[0], values[1], values[2]);
    let keys = random.some(&STEMS, 34);
    let mut setting = |key: &str| match random.below(4) {
        0 => format!("{key} = {} = {}", random.pick(&STEMS), random.within(1..=99)),
        1 => format!("{key} = #{}", random.within(100..=999)),
        2 => format!("{key} = {} {}", random.pick(&STEMS), random.pick(&STEMS)),
        _ => format!("{key} = {}", random.within(1..=9999)),
    };
    let mut of_default: Vec<String> = keys[..26].iter().map(|key| setting(key)).collect();
    let mut of_local: Vec<String> = keys[16..].iter().map(|key| setting(key)).collect();
    // Twice in one file: in each, of keys that the other has not.
    of_default.push(format!("{} twice", setting(keys[2])));
    of_default.push(format!("# {}", setting(keys[3])));
    of_default.push(String::new());
    of_local.push(format!("{} twice", setting(keys[30])));
    of_local.push(format!("# {}", setting(keys[5])));
    // The first are where they first appear, before what is drawn among the rest.
    let mut spread = |lines: &[String]| {
        let mut spread = lines[..lines.len() - 3].to_vec();
        spread = random.shuffled(&spread);
        spread.extend(lines[lines.len() - 3..].iter().cloned());
        spread
    };
    let (of_default, of_local) = (spread(&of_default), spread(&of_local));
    let mut all = read(&of_default);
    for (key, value) in read(&of_local) {
        match all.iter_mut().find(|(other, _)| *other == key) {
            Some((_, old)) => *old = value,
            None => all.push((key, value)),
        }
    }
    let lines: Vec<String> = all.iter().map(|(key, value)| format!("{key} = {value}")).collect();
    let program = |set: &str| {
        vec![python(&format!(
            r"
def read(path):
    settings = {{}}
    for line in open(path):
        if line.strip() and not line.startswith('#'):
            key, value = line.rstrip('\n').split(' = ', 1)
            {set}
    return settings
with open('{merged}', 'w') as out:
    for key, value in {{**read('{default}'), **read('{local}')}}.items():
        print(key, '=', value, file=out)
"
        ))]
    };
    Made {
        start: vec![has(default, &of_default.join("\n")), has(local, &of_local.join("\n"))],
        end: vec![
            text(merged, &lines.join("\n")),
            text(default, &of_default.join("\n")),
            text(local, &of_local.join("\n")),
        ],
        solution: program("settings[key] = value"),
        hard_coded: vec![format!("cat {default} {local} > {merged}")],
        near_miss: program("settings.setdefault(key, value)"),
        ..Made::default()
    }
}

pub(super) fn hosts(values: &[&'static str], random: &mut Random) -> Made {
    let (file, name, address) = (values[0], values[1], values[2]);
    let stems = random.some(&STEMS, 40);
    let mut entries: Vec<(Vec<String>, bool)> = Vec::new();
    for (at, pair) in stems[..36].chunks(2).enumerate() {
        let mut names: Vec<String> = pair.iter().map(|stem| (*stem).to_owned()).collect();
        match at {
            0 => names.insert(0, name.to_owned()),
            1 => names.insert(1, name.to_owned()),
            2 => names.push(name.to_owned()),
            3 => names = vec![name.to_owned()],
            4 => names.push(format!("{name}2")),
            5 => names.push(format!("old-{name}")),
            6 => names.push(format!("{name}.lan")),
            7 => names = vec![format!("{name}-spare")],
            _ => {}
        }
        entries.push((names, at != 3 && random.below(2) == 0));
    }
    let mut before = vec![format!("# Names in the house; the {name} has moved.")];
    let mut after = before.clone();
    for (at, (names, has_comment)) in random.shuffled(&entries).into_iter().enumerate() {
        let left: Vec<&str> = names.iter().map(|it| &**it).filter(|it| *it != name).collect();
        let comment =
            if has_comment { format!(" # next to the {name} {at}") } else { String::new() };
        let at = format!("10.0.{}.{}", random.within(0..=9), at + 1);
        before.push(format!("{at:<12}{}{comment}", names.join(" ")));
        if !left.is_empty() {
            after.push(format!("{at} {}{comment}", left.join(" ")));
        }
    }
    let add = || format!("echo '{address} {name}' >> {file}");
    after.push(format!("{address} {name}"));
    let script = format!(
        r##"awk -v n={name} '/^#/ {{ print; next }}
{{
  comment = ""
  if (i = index($0, "#")) {{ comment = " " substr($0, i); $0 = substr($0, 1, i - 1) }}
  line = $1
  kept = 0
  for (j = 2; j <= NF; j++) if ($j != n) {{ line = line " " $j; kept++ }}
  if (kept) print line comment
}}' {file} > new.tmp
mv new.tmp {file}"##
    );
    let mut solution = commands(&script);
    solution.push(add());
    Made {
        start: vec![has(file, &before.join("\n"))],
        end: vec![output(
            &format!("sed -E 's/[[:space:]]+/ /g; s/ $//' {file}"),
            &after.join("\n"),
        )],
        solution,
        hard_coded: vec![format!("sed -i '/{name}/d' {file}"), add()],
        near_miss: vec![
            format!("sed -i -E 's/[[:space:]]+{name}\\b//; /^[0-9.]+[[:space:]]*$/d' {file}"),
            add(),
        ],
        ..Made::default()
    }
}

/// As somebody writes who takes JSON for a language of programs.
fn loosely(random: &mut Random, data: &Value, indent: usize) -> String {
    let pad = " ".repeat(2 * indent + 2);
    let (open, close, parts): (_, _, Vec<String>) = match data {
        Value::Object(map) => {
            let mut parts = Vec::new();
            for (key, value) in map {
                let is_plain = key.chars().all(char::is_alphanumeric);
                let value = loosely(random, value, indent + 1);
                let bare = is_plain && random.below(3) > 0;
                parts.push(if bare {
                    format!("{key}: {value}")
                } else {
                    format!("\"{key}\": {value}")
                });
            }
            ('{', '}', parts)
        }
        Value::Array(list) => {
            ('[', ']', list.iter().map(|value| loosely(random, value, indent + 1)).collect())
        }
        other => return other.to_string(),
    };
    let mut text = format!("{open}\n");
    let last = parts.len().saturating_sub(1);
    for (at, part) in parts.into_iter().enumerate() {
        let comma = if at < last || random.below(3) > 0 { "," } else { "" };
        let comment = match random.below(4) {
            0 => format!("  // {}, don't change", random.pick(&STEMS)),
            1 => format!("\n{pad}// \"{}\": see below", random.pick(&STEMS)),
            _ => String::new(),
        };
        text.push_str(&format!("{pad}{part}{comma}{comment}\n"));
    }
    format!("{text}{}{close}", &pad[2..])
}

pub(super) fn repair(values: &[&'static str], random: &mut Random) -> Made {
    let (file, new) = (values[0], values[1]);
    let stems = random.some(&STEMS, 14);
    let number = random.within(1000..=9999);
    let servers: Value = stems[..4]
        .iter()
        .map(|stem| {
            json!({
                "host": stem,
                "home": format!("https://{stem}.example/a//b"),
                "weight": random.within(1..=99),
                "tags": [random.pick(&STEMS), random.pick(&STEMS)],
            })
        })
        .collect();
    let data = json!({
        "title": format!("{} and {}", stems[4], stems[5]),
        "ports": [number, number + 1, number + 7],
        "servers": servers,
        "texts": {
            stems[6]: "one, two, ] and , } are text // so is this",
            stems[7]: format!("say \"{}: yes,\" // twice", stems[8]),
            stems[9]: format!("{{mode: {}, level: 3,}}", stems[10]),
            "two words": "\\\\server\\share,",
            "on": true,
            "off": null,
        },
        "paths": [format!("//srv/{}", stems[11]), format!("/{}/*.txt", stems[12])],
        stems[13]: -3,
    });
    let start = loosely(random, &data, 0);
    let program = python(&format!(
        r#"
import re
token = re.compile(r'''
    (?P<string>"(?:\\.|[^"\\])*")
    | (?P<nothing>//[^\n]*|,(?=(?:\s|//[^\n]*)*[}}\]]))
    | (?P<key>[A-Za-z_]\w*)(?=\s*:)
''', re.X)
def strict(found):
    if found['nothing']:
        return ''
    return found['string'] or '"' + found['key'] + '"'
open('{new}', 'w').write(token.sub(strict, open('{file}').read()))
"#
    ));
    let (of_lines, of_ends) =
        (r#"s://.*$::; s/([{,[:space:]])([a-z]+):/\1"\2":/g"#, r"s/,(\s*[]}])/\1/g");
    Made {
        start: vec![has(file, &start)],
        end: vec![holds_data(new, &data), text(file, &start)],
        solution: vec![program],
        hard_coded: vec![format!("cp {file} {new}")],
        near_miss: vec![format!("sed -E '{of_lines}' {file} | sed -z -E '{of_ends}' > {new}")],
        ..Made::default()
    }
}
