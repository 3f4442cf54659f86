//! Modes: set by name, by content, from a listing; and found.

use std::collections::BTreeSet;

use crate::generate::families::permissions::{KIND, MODE};
use crate::generate::families::trees::{Files, grow, lying, others, prose, rooms, tree};
use crate::generate::random::Random;
use crate::generate::template::{End, Made, output, python, text};

/// Paths with their modes.
type Modes = Vec<(String, String)>;

/// The files with modes drawn of these, and their folders with 755.
fn with_modes(random: &mut Random, files: &[(String, String)], of: &[&str]) -> Modes {
    let mut folders = BTreeSet::new();
    for (path, _) in files {
        let ends = path.match_indices('/').map(|(at, _)| path[..at].to_owned());
        folders.extend(ends);
    }
    let mut modes: Modes = folders.into_iter().map(|path| (path, "755".to_owned())).collect();
    modes.extend(files.iter().map(|(path, _)| (path.clone(), (*random.pick(of)).to_owned())));
    modes
}

fn setting(modes: &Modes) -> Vec<String> {
    modes.iter().map(|(path, mode)| format!("chmod {mode} '{path}'")).collect()
}

/// All below the folder, links aside: these, with these modes.
fn are(folder: &str, modes: &Modes) -> End {
    let mut lines: Vec<String> =
        modes.iter().map(|(path, mode)| format!("{path} {mode}")).collect();
    lines.sort_unstable();
    output(
        &format!("find {folder} ! -type l -printf '%p %m\\n' | LC_ALL=C sort"),
        &lines.join("\n"),
    )
}

pub(super) fn ending(values: &[&'static str], random: &mut Random) -> Made {
    let (folder, kind, mode) = (values[0], values[1], values[2]);
    let folders = rooms(random, folder);
    let some = random.some(&others(&KIND, kind), 2);
    let mut files = grow(random, &folders, &[kind, some[0], some[1]], 32);
    for path in [
        format!("{}/box.{kind}/inside.md", folders[2]),
        format!("{}/copy.{kind}.md", folders[1]),
        format!("{folder}/my{kind}"),
    ] {
        files.push((path, prose(random, 1..=2)));
    }
    let before = with_modes(random, &files, &["644", "755", "666", "604"]);
    let end = format!(".{kind}");
    let after: Modes = before
        .iter()
        .map(|(path, old)| {
            let is_meant = path.ends_with(&end) && files.iter().any(|(file, _)| file == path);
            (path.clone(), if is_meant { mode.to_owned() } else { old.clone() })
        })
        .collect();
    let find =
        |what: &str| format!("find {folder} {what} -name '*.{kind}' -exec chmod {mode} {{}} +");
    Made {
        start: lying(&files),
        setup: setting(&before),
        end: vec![are(folder, &after)],
        solution: vec![find("-type f")],
        hard_coded: vec![format!("chmod {mode} {folder}/*.{kind}")],
        near_miss: vec![find("")],
        ..Made::default()
    }
}

pub(super) fn allowed(values: &[&'static str], random: &mut Random) -> Made {
    let (folder, allowed, out) = (values[0], values[1], values[2]);
    let bit = match allowed {
        "others may write" => 0o002,
        "others may read" => 0o004,
        "others may execute" => 0o001,
        "the group may write" => 0o020,
        "the group may execute" => 0o010,
        _ => 0o100,
    };
    let folders = rooms(random, folder);
    let files = grow(random, &folders, &["txt", "run"], 34);
    let of = ["600", "644", "640", "664", "666", "700", "755", "750", "711", "602", "646", "757"];
    let mut modes = with_modes(random, &files, &of);
    // One of each, so that no list is empty and none is all.
    let first = modes.len() - files.len();
    "600".clone_into(&mut modes[first].1);
    "777".clone_into(&mut modes[first + 1].1);
    let mut setup = setting(&modes);
    setup.push(format!("chmod 777 {}", folders[3]));
    setup.push(format!("ln -s nowhere {folder}/link"));
    let is_meant = |mode: &str| u32::from_str_radix(mode, 8).unwrap_or(0) & bit != 0;
    let found = modes[first..].iter().filter(|(_, mode)| is_meant(mode));
    let mut paths: Vec<&str> = found.map(|(path, _)| &**path).collect();
    paths.sort_unstable();
    let find =
        |what: &str| vec![format!("find {folder} {what} -perm -{bit:03o} | LC_ALL=C sort > {out}")];
    Made {
        start: lying(&files),
        setup,
        end: vec![text(out, &paths.join("\n"))],
        solution: find("-type f"),
        hard_coded: vec![format!("ls {folder} > {out}")],
        near_miss: find(""),
        ..Made::default()
    }
}

pub(super) fn policy(values: &[&'static str], random: &mut Random) -> Made {
    let folder = values[0];
    let (of_folder, of_script, of_file) = (values[1], values[2], values[3]);
    let folders = rooms(random, folder);
    let mut files = grow(random, &folders, &["sh", "txt", "py", "conf"], 34);
    files.push((format!("{}/.profile", folders[1]), prose(random, 1..=3)));
    files.push((format!("{}/.hook", folders[4]), String::new()));
    let scripts: Vec<usize> = {
        let all: Vec<usize> = (0..files.len() - 2).collect();
        let mut some = random.some(&all, 14);
        some.push(files.len() - 1);
        some
    };
    for (at, (_, text)) in files.iter_mut().enumerate() {
        if scripts.contains(&at) {
            let program = random.pick(&["/bin/sh", "/bin/bash", "/usr/bin/env python3"]);
            *text = format!("#!{program}\n{}", prose(random, 1..=3));
        } else if at % 4 == 1 {
            *text = format!("{text}\n#!/bin/sh\n{}", prose(random, 1..=2));
        }
    }
    let before = with_modes(random, &files, &["664", "775", "666", "777"]);
    let first = before.len() - files.len();
    let after: Modes = before
        .iter()
        .enumerate()
        .map(|(at, (path, _))| {
            let mode = match at.checked_sub(first) {
                None => of_folder,
                Some(file) if scripts.contains(&file) => of_script,
                Some(_) => of_file,
            };
            (path.clone(), mode.to_owned())
        })
        .collect();
    let of_folders = || format!("find {folder} -type d -exec chmod {of_folder} {{}} +");
    let mut by_name = vec![of_folders()];
    by_name.push(format!("find {folder} -type f -exec chmod {of_file} {{}} +"));
    by_name.push(format!("find {folder} -name '*.sh' -exec chmod {of_script} {{}} +"));
    Made {
        start: lying(&files),
        setup: setting(&before),
        end: vec![are(folder, &after), tree(".", folder, &files)],
        solution: vec![
            of_folders(),
            format!(
                "find {folder} -type f | while IFS= read -r f; do if [ \"$(head -c 2 \"$f\")\" = \
                 '#!' ]; then chmod {of_script} \"$f\"; else chmod {of_file} \"$f\"; fi; done"
            ),
        ],
        hard_coded: vec![of_folders(), format!("chmod {of_file} {folder}/*.*")],
        near_miss: by_name,
        ..Made::default()
    }
}

/// As `ls -l` shows it.
fn shown(is_folder: bool, mode: u32) -> String {
    let mut shown = String::from(if is_folder { "d" } else { "-" });
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift;
        shown.push(if bits & 4 == 0 { '-' } else { 'r' });
        shown.push(if bits & 2 == 0 { '-' } else { 'w' });
        shown.push(match (mode & special != 0, bits & 1 != 0) {
            (false, false) => '-',
            (false, true) => 'x',
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
        });
    }
    shown
}

pub(super) fn listing(values: &[&'static str], random: &mut Random) -> Made {
    let (folder, listing) = (values[0], values[1]);
    let folders = rooms(random, folder);
    let mut files: Files = grow(random, &folders, &["txt", "run", "csv"], 32);
    files.push((format!("{}/two words.txt", folders[2]), prose(random, 1..=2)));
    let before = with_modes(random, &files, &["644"]);
    let first = before.len() - files.len();
    let plain = [0o640, 0o600, 0o755, 0o750, 0o444, 0o604, 0o4755, 0o2755, 0o6711, 0o4644, 0o2640];
    let of_folders = [0o750, 0o700, 0o2775, 0o1777, 0o3770, 0o1750];
    let mut lines = Vec::new();
    let mut after = Modes::new();
    for (at, (path, old)) in before.into_iter().enumerate() {
        // The top has no path inside of itself.
        if at == 0 || at % 7 == 6 {
            after.push((path, old));
            continue;
        }
        let mode = if at < first { *random.pick(&of_folders) } else { plain[at % plain.len()] };
        lines.push(format!("{}  {}", shown(at < first, mode), &path[folder.len() + 1..]));
        after.push((path, format!("{mode:o}")));
    }
    lines.extend(["-rw-r-----  lost.txt".to_owned(), "drwxr-x---  lost folder".to_owned()]);
    let lines = random.shuffled(&lines);
    let mut start = lying(&files);
    start.push((listing.to_owned(), format!("{}\n", lines.join("\n"))));
    let mut setup = vec![format!("chmod -R u=rwX,go=rX {folder}")];
    setup.push(format!("find {folder} -type f -exec chmod 644 {{}} +"));
    let program = |special: &str| {
        python(&format!(
            r"
import os
for line in open('{listing}'):
    shown, path = line.rstrip('\n').split('  ', 1)
    path = os.path.join('{folder}', path)
    if not os.path.exists(path):
        continue
    mode = 0
    for at, letter in enumerate(shown[1:]):
        if letter in 'rwxst':
            mode |= 0o400 >> at
        {special}
    os.chmod(path, mode)
"
        ))
    };
    Made {
        start,
        setup,
        end: vec![are(folder, &after)],
        solution: vec![program("if letter in 'sStT':\n            mode |= 0o4000 >> at // 3")],
        hard_coded: vec![format!("chmod {} {folder}/*", random.pick(MODE.values))],
        near_miss: vec![program("")],
        ..Made::default()
    }
}
