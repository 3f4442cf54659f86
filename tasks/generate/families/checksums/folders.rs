//! What is done to folders, or by scripts that look at them.

use std::collections::BTreeMap;

use super::{content, inside, listed, spoiled, sum, tree};
use crate::generate::families::words::{GOODS, lines, prints, python, untouched};
use crate::generate::random::Random;
use crate::generate::template::{End, Made, gone, has, output, text, write};

/// A folder has these files and no others.
fn only(folder: &str, files: &[(String, String)]) -> Vec<End> {
    let mut paths: Vec<&str> = files.iter().map(|(path, _)| &**path).collect();
    paths.sort_unstable();
    let command = format!("find {folder} -type f | LC_ALL=C sort");
    std::iter::once(output(&command, &lines(paths))).chain(untouched(files)).collect()
}

pub(super) fn dedup(values: &[&'static str], random: &mut Random) -> Made {
    let (kept, folder, to) = (values[0], values[1], values[2]);
    let mut files = tree(random, 22);
    // Four sets of equal files, of two or three, and pairs that only have the same size.
    let order: Vec<usize> = (0..files.len()).collect();
    let order = random.shuffled(&order);
    for (set, size) in order.chunks(4).zip([2, 3, 2, 3]) {
        for at in &set[1..size] {
            files[*at].1 = files[set[0]].1.clone();
        }
        files[set[3]].1 = spoiled(&files[set[0]].1);
    }
    let start = inside(folder, &files);
    let mut sets: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (path, content) in &start {
        sets.entry(content).or_default().push(path);
    }
    let keep: Vec<&str> = sets
        .values()
        .filter_map(|paths| if kept == "first" { paths.first() } else { paths.last() })
        .copied()
        .collect();
    let is_kept = |(path, _): &&(String, String)| keep.contains(&&**path);
    let left: Vec<(String, String)> = start.iter().filter(is_kept).cloned().collect();
    let deleted: Vec<&str> =
        start.iter().filter(|it| !is_kept(it)).map(|(path, _)| &**path).collect();
    let mut end = vec![text(to, &lines(&deleted))];
    end.extend(only(folder, &left));
    let reverse = if kept == "first" { "False" } else { "True" };
    let program = |key: &str| {
        python(&format!(
            r#"import hashlib, os
paths = sorted(os.path.join(dir, name) for dir, _, names in os.walk("{folder}") for name in names)
seen, deleted = set(), []
for path in sorted(paths, reverse={reverse}):
    content = open(path, "rb").read()
    key = {key}
    if key in seen:
        os.remove(path)
        deleted.append(path)
    seen.add(key)
with open("{to}", "w") as file:
    print(*sorted(deleted), sep="\n", file=file)"#
        ))
    };
    Made {
        end,
        solution: program("hashlib.sha256(content).digest()"),
        hard_coded: vec![format!("rm {}", deleted[0]), write(to, deleted[0])],
        near_miss: program("len(content)"),
        start,
        ..Made::default()
    }
}

pub(super) fn rename(values: &[&'static str], random: &mut Random) -> Made {
    let (length, folder) = (values[0], values[1]);
    let digits: usize = length.parse().unwrap_or(8);
    let count = random.within(14..=22);
    let (mut start, mut renamed) = (Vec::new(), Vec::new());
    for (at, name) in random.some(&GOODS, count).into_iter().enumerate() {
        let content = content(random, at);
        let extension = *random.pick(&["txt", "md", "csv", "log"]);
        let middle =
            if at % 3 == 1 { format!(".v{}", random.within(1..=9)) } else { String::new() };
        start.push((format!("{folder}/{name}{middle}.{extension}"), content.clone()));
        renamed.push((format!("{folder}/{}.{extension}", &sum(&content)[..digits]), content));
    }
    let program = |extension: &str| {
        vec![
            format!("cd {folder}"),
            format!(
                "for f in *; do mv \"$f\" \"$(sha256sum < \"$f\" | cut -c 1-{length}).{extension}\"\
                 ; done"
            ),
        ]
    };
    Made {
        end: only(folder, &renamed),
        solution: program("${f##*.}"),
        hard_coded: vec![format!("mv {} {}", start[0].0, renamed[0].0)],
        near_miss: program("${f#*.}"),
        start,
        ..Made::default()
    }
}

pub(super) fn verify(values: &[&'static str], random: &mut Random) -> Made {
    let (changed, missing, extra, script) = (values[0], values[1], values[2], values[3]);
    let words = [changed, missing, extra];
    let shown = some_checked(random, words, 9);
    let mut start = inside("sample", &shown.files);
    start.push(has("sample.sums", &shown.list));
    let mut end = vec![prints(&format!("bash {script} sample sample.sums"), &shown.wanted)];
    let mut hidden = Vec::new();
    for (at, count) in [16, 20].into_iter().enumerate() {
        let case = some_checked(random, words, count);
        let (folder, list) = (format!("folder{at}"), format!("list{at}.sums"));
        hidden.extend(inside(&folder, &case.files));
        hidden.push(has(&list, &case.list));
        let run = format!("bash {script} /tests/{folder} /tests/{list}");
        end.push(prints(&run, &case.wanted));
    }
    // Some names have a space, which `untouched` does not quote.
    end.extend(start.iter().map(|(path, content)| output(&format!("cat '{path}'"), content)));
    let program = |split: &str| {
        format!(
            r#"python3 - "$1" "$2" <<'PROGRAM'
import hashlib, os, sys
folder, wanted = sys.argv[1], {{}}
for line in open(sys.argv[2]):
    sum, path = {split}
    wanted[path] = sum
there = {{}}
for dir, _, names in os.walk(folder):
    for name in names:
        path = os.path.join(dir, name)
        sum = hashlib.sha256(open(path, "rb").read()).hexdigest()
        there[os.path.relpath(path, folder)] = sum
for path in sorted(wanted.keys() | there.keys()):
    if path not in there: print("{missing}", path)
    elif path not in wanted: print("{extra}", path)
    elif there[path] != wanted[path]: print("{changed}", path)
PROGRAM"#
        )
    };
    Made {
        start,
        hidden,
        end,
        solution: vec![write(script, &program(r#"line.rstrip("\n").split("  ", 1)"#))],
        hard_coded: vec![write(script, &format!("cat <<'SAID'\n{}\nSAID", shown.wanted))],
        near_miss: vec![write(script, &program("line.split()[:2]"))],
        ..Made::default()
    }
}

struct Checked {
    files: Vec<(String, String)>,
    list: String,
    wanted: String,
}

/// A folder that is not as its list says, in every way at least once.
fn some_checked(random: &mut Random, words: [&str; 3], count: usize) -> Checked {
    let mut all = tree(random, count);
    for at in [1, 4, 6] {
        all[at].0 = all[at].0.replace('.', " copy.");
    }
    let (mut files, mut list, mut wanted) = (Vec::new(), Vec::new(), Vec::new());
    for (at, (path, content)) in all.into_iter().enumerate() {
        let kind = match at {
            0 | 6 => 0,
            2 => 1,
            3 => 2,
            1 | 4 | 5 => 3,
            _ => random.within(0..=5),
        };
        if kind != 2 {
            list.push((path.clone(), content.clone()));
        }
        if let Some(word) = words.get(kind) {
            wanted.push(format!("{word} {path}"));
        }
        match kind {
            0 => files.push((path, spoiled(&content))),
            1 => {}
            _ => files.push((path, content)),
        }
    }
    Checked { files, list: listed(&random.shuffled(&list)), wanted: lines(wanted) }
}

pub(super) fn restore(values: &[&'static str], random: &mut Random) -> Made {
    let (folder, backup, to) = (values[0], values[1], values[2]);
    let files = tree(random, 18);
    let order: Vec<usize> = (0..18).collect();
    let order = random.shuffled(&order);
    let (mut now, mut copies, mut after) = (Vec::new(), Vec::new(), Vec::new());
    let (mut lost, mut absent) = (Vec::new(), Vec::new());
    for (at, (path, content)) in files.iter().enumerate() {
        let place = order[at];
        // Six are damaged, four are missing, the rest is good.
        let current = match place {
            0..6 => Some(spoiled(content)),
            6..10 => None,
            _ => Some(content.clone()),
        };
        now.extend(current.clone().map(|current| (path.clone(), current)));
        // Of each kind, some have a good copy only in the last backup, some have none.
        let good = match place {
            0 | 1 | 6 => [false, false, true],
            2 | 7 => [false, false, false],
            3 | 8 => [false, true, false],
            _ => [0; 3].map(|_| random.below(2) == 0),
        };
        for (number, good) in good.iter().enumerate() {
            let copy = if *good { content.clone() } else { content.replacen("No.", "Old", 1) };
            // Bad copies are sometimes not there at all.
            if *good || random.below(4) > 0 || (number == 0 && place < 2) {
                copies.push((format!("{backup}/{}/{path}", number + 1), copy));
            }
        }
        let own = format!("{folder}/{path}");
        if place >= 10 || good.contains(&true) {
            after.push((own, content.clone()));
        } else {
            lost.push(path.clone());
            match current {
                Some(current) => after.push((own, current)),
                None => absent.push(gone(&own)),
            }
        }
    }
    let mut start = inside(folder, &now);
    let list = has("SHA256SUMS", &listed(&files));
    start.extend(copies.clone());
    start.push(list.clone());
    let mut end = vec![text(to, &lines(&lost))];
    end.extend(only(folder, &after));
    end.extend(absent);
    end.extend(only(backup, &copies));
    end.extend(untouched(&[list]));
    let program = |right: &str| {
        python(&format!(
            r#"import hashlib, os, shutil
def sum(path):
    return os.path.exists(path) and hashlib.sha256(open(path, "rb").read()).hexdigest()
lost = []
for line in open("SHA256SUMS"):
    want, path = line.split()
    own = os.path.join("{folder}", path)
    if sum(own) == want: continue
    for number in "123":
        copy = os.path.join("{backup}", number, path)
        if {right}:
            os.makedirs(os.path.dirname(own), exist_ok=True)
            shutil.copy(copy, own)
            break
    else:
        lost.append(path)
with open("{to}", "w") as file:
    print(*sorted(lost), sep="\n", file=file)"#
        ))
    };
    Made {
        start,
        end,
        solution: program("sum(copy) == want"),
        hard_coded: vec![format!("cp -r {backup}/1/. {folder}"), write(to, &lines(&lost))],
        // Takes the first copy, good or not.
        near_miss: program("os.path.exists(copy)"),
        ..Made::default()
    }
}
