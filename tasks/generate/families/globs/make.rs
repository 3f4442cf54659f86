//! What the templates make: files that are counted, moved, renamed and removed by pattern.

use crate::generate::families::globs::{EXTENSION, TRASH};
use crate::generate::families::trees::{
    Files, ROOMS, STEMS, commands, grow, lying, others, prose, rooms, tree,
};
use crate::generate::random::Random;
use crate::generate::template::{Made, holds, number, python, text};

/// A tree in which some names only look as if they had the ending, and the folder among them.
fn with_lures(random: &mut Random, folder: &str, ending: &str, extensions: &[&str]) -> Files {
    let folders = rooms(random, folder);
    let extensions = [&[ending], extensions].concat();
    let count = random.within(26..=34);
    let mut files = grow(random, &folders, &extensions, count);
    let names = [
        format!("{folder}/notes{ending}"),
        format!("{}/copy.{ending}.md", folders[1]),
        format!("{}/LOUD.{}", folders[2], ending.to_uppercase()),
        format!("{}/.hidden.{ending}", folders[3]),
        format!("{folder}/box.{ending}/inside.md"),
        format!("{}/lone.{ending}", folders[4]),
    ];
    files.extend(names.map(|path| (path, prose(random, 1..=2))));
    files
}

pub(super) fn count(values: &[&'static str], random: &mut Random) -> Made {
    let (folder, ending, out) = (values[0], values[1], values[2]);
    let some = random.some(&others(&EXTENSION, ending), 2);
    let files = with_lures(random, folder, ending, &some);
    let end = format!(".{ending}");
    let count = files.iter().filter(|(path, _)| path.ends_with(&end)).count();
    Made {
        start: lying(&files),
        end: vec![number(out, count), tree(".", folder, &files)],
        solution: vec![format!("find {folder} -type f -name '*.{ending}' | wc -l > {out}")],
        hard_coded: vec![format!("echo {} > {out}", count + 2)],
        near_miss: vec![format!("find {folder} -name '*.{ending}' | wc -l > {out}")],
        ..Made::default()
    }
}

pub(super) fn delete(values: &[&'static str], random: &mut Random) -> Made {
    let (folder, ending) = (values[0], values[1]);
    let some = random.some(&others(&TRASH, ending), 1);
    let kept = *random.pick(EXTENSION.values);
    let files = with_lures(random, folder, ending, &[some[0], kept]);
    let end = format!(".{ending}");
    let left: Files = files.iter().filter(|(path, _)| !path.ends_with(&end)).cloned().collect();
    Made {
        start: lying(&files),
        setup: vec![format!("mkdir {folder}/empty.{ending}")],
        end: vec![
            tree(".", folder, &left),
            holds("the folders are there", &format!("[ -d {folder}/empty.{ending} ]")),
        ],
        solution: vec![format!("find {folder} -type f -name '*.{ending}' -delete")],
        hard_coded: vec![format!("rm -f {folder}/*.{ending}")],
        near_miss: vec![format!("find {folder} -name '*.{ending}' -exec rm -rf {{}} +")],
        ..Made::default()
    }
}

/// A text of so many bytes, its line end among them.
fn sized(random: &mut Random, bytes: usize) -> String {
    let long = prose(random, 60..=60);
    let cut = &long[..(bytes - 1).min(long.len())];
    // A line end at the end would be lost in comparisons.
    format!("{}.", &cut[..cut.len() - 1])
}

pub(super) fn large(values: &[&'static str], random: &mut Random) -> Made {
    let (folder, out) = (values[0], values[3]);
    let (depth, size): (usize, usize) =
        (values[1].parse().unwrap_or(2), values[2].parse().unwrap_or(300));
    let folders = rooms(random, folder);
    let stems = random.some(&STEMS, 32);
    let mut files = Files::new();
    for (at, stem) in stems.into_iter().enumerate() {
        let level = &folders[at % folders.len()];
        // The first of each folder are just too small, then just large enough.
        let bytes = match at / folders.len() {
            0 => size,
            1 => size + 1,
            _ => random.within(size - 150..=size + 250),
        };
        files
            .push((format!("{level}/{stem}.{}", random.pick(EXTENSION.values)), bytes.to_string()));
    }
    for (_, text) in &mut files {
        *text = sized(random, text.parse().unwrap_or(2));
    }
    let meant = |(path, text): &&(String, String)| {
        path.matches('/').count() <= depth && text.len() + 1 > size
    };
    let mut paths: Vec<&str> = files.iter().filter(meant).map(|(path, _)| &**path).collect();
    paths.sort_unstable();
    let find = |depth: usize| {
        format!("find {folder} -maxdepth {depth} -type f -size +{size}c | LC_ALL=C sort > {out}")
    };
    Made {
        start: lying(&files),
        end: vec![text(out, &paths.join("\n"))],
        solution: vec![find(depth)],
        hard_coded: vec![format!("echo {} > {out}", paths[0])],
        near_miss: vec![find(depth + 1)],
        ..Made::default()
    }
}

pub(super) fn sort_into(values: &[&'static str], random: &mut Random) -> Made {
    let (folder, rest) = (values[0], values[1]);
    let extensions = random.some(EXTENSION.values, 4);
    let count = random.within(24..=34);
    let (mut start, mut sorted) = (Files::new(), Files::new());
    for (at, stem) in random.some(&STEMS, count).into_iter().enumerate() {
        let extension = extensions[at % extensions.len()];
        let name = match at / extensions.len() {
            0 => format!("{stem}.{}", extension.to_uppercase()),
            1 => format!("{stem}.{}.{extension}", random.pick(&extensions)),
            2 => stem.to_owned(),
            3 => format!("{stem} {}.{extension}", random.within(2..=9)),
            _ => format!("{stem}.{extension}"),
        };
        let text = prose(random, 1..=3);
        let group = if at / extensions.len() == 2 { rest } else { extension };
        start.push((format!("{folder}/{name}"), text.clone()));
        sorted.push((format!("{folder}/{group}/{name}"), text));
    }
    for stay in [extensions[1], "keep"] {
        let file = (format!("{folder}/{stay}/before.{}", extensions[0]), prose(random, 1..=3));
        start.push(file.clone());
        sorted.push(file);
    }
    let script = |group: &str| {
        commands(&format!(
            r#"cd {folder}
for f in *; do
  [ -f "$f" ] || continue
  case "$f" in *.*) e="${{f##*.}}";; *) e={rest};; esac
  {group}
  mkdir -p "$e"
  mv "$f" "$e/"
done"#
        ))
    };
    let one = extensions[0];
    Made {
        start: lying(&start),
        end: vec![tree(".", folder, &sorted)],
        solution: script("e=$(echo \"$e\" | tr A-Z a-z)"),
        hard_coded: vec![
            format!("mkdir -p {folder}/{one}"),
            format!("mv {folder}/*.{one} {folder}/{one}/"),
        ],
        near_miss: script(":"),
        ..Made::default()
    }
}

pub(super) fn padded(values: &[&'static str], random: &mut Random) -> Made {
    let (folder, prefix, extension) = (values[0], values[1], values[2]);
    let width: usize = values[3].parse().unwrap_or(3);
    let numbers: Vec<usize> = (1..=140).filter(|number| ![8, 9].contains(number)).collect();
    let count = random.within(22..=36);
    let mut numbers = random.some(&numbers, count);
    numbers.extend([8, 9]);
    let (mut start, mut renamed) = (Files::new(), Files::new());
    for number in numbers {
        let written = match number {
            8 | 9 => format!("0{number}"),
            1..=7 if random.below(2) == 0 => format!("0{number}"),
            _ => number.to_string(),
        };
        let text = prose(random, 1..=2);
        start.push((format!("{folder}/{prefix}-{written}.{extension}"), text.clone()));
        renamed.push((format!("{folder}/{prefix}-{number:0width$}.{extension}"), text));
    }
    let other = random.pick(&others(&EXTENSION, extension)).to_owned();
    for stay in [
        format!("{folder}/{prefix}-index.{extension}"),
        format!("{folder}/old-{prefix}-7.{extension}"),
        format!("{folder}/{prefix}-5.{other}"),
        format!("{folder}/more/{prefix}-6.{extension}"),
    ] {
        let file = (stay, prose(random, 1..=2));
        start.push(file.clone());
        renamed.push(file);
    }
    let script = |number: &str| {
        commands(&format!(
            r#"cd {folder}
for f in {prefix}-*.{extension}; do
  n=${{f#{prefix}-}}
  n=${{n%.{extension}}}
  [[ $n =~ ^[0-9]+$ ]] || continue
  new=$(printf '{prefix}-%0{width}d.{extension}' "{number}")
  [ "$f" = "$new" ] || mv "$f" "$new"
done"#
        ))
    };
    let zeros = "0".repeat(width - 1);
    Made {
        start: lying(&start),
        end: vec![tree(".", folder, &renamed)],
        solution: script("$((10#$n))"),
        hard_coded: vec![format!(
            "for n in 1 2 3 4 5 6 7 8 9; do mv {folder}/{prefix}-$n.{extension} \
             {folder}/{prefix}-{zeros}$n.{extension}; done"
        )],
        // What starts with a zero is octal to printf, and 08 is none.
        near_miss: script("$n"),
        ..Made::default()
    }
}

pub(super) fn word(values: &[&'static str], random: &mut Random) -> Made {
    let (folder, old, new) = (values[0], values[1], values[2]);
    let capital = format!("{}{}", old[..1].to_uppercase(), &old[1..]);
    let rooms = random.some(&ROOMS, 4);
    let folders = [
        format!("{folder}/{old}"),
        format!("{folder}/{}", rooms[0]),
        format!("{folder}/{}/{old}-{}", rooms[0], rooms[1]),
        format!("{folder}/{}/{old}-{}/{}-{old}", rooms[0], rooms[1], rooms[2]),
        format!("{folder}/{capital}-{}", rooms[3]),
    ];
    let mut start = Files::new();
    for (at, stem) in random.some(&STEMS, 30).into_iter().enumerate() {
        let level = &folders[at % folders.len()];
        let name = match at / folders.len() {
            0 => format!("{stem}-{old}.txt"),
            1 => format!("{old}-{stem}-{old}.md"),
            2 => format!("{capital}-{stem}.txt"),
            3 => format!("{stem} {old}{old}.csv"),
            _ => format!("{stem}.txt"),
        };
        start.push((format!("{level}/{name}"), format!("{old} {}", prose(random, 1..=3))));
    }
    let renamed: Files =
        start.iter().map(|(path, text)| (path.replace(old, new), text.clone())).collect();
    let rename = |which: &str| {
        let mv = format!(r#"bash -c 'mv "$1" "${{1//{old}/{new}}}"' _ {{}} \;"#);
        format!("find {folder} -mindepth 1 -depth {which} -name '*{old}*' -execdir {mv}")
    };
    Made {
        start: lying(&start),
        end: vec![tree(".", folder, &renamed)],
        solution: vec![rename("")],
        hard_coded: vec![format!("mv {folder}/{old} {folder}/{new}")],
        near_miss: vec![rename("-type f")],
        ..Made::default()
    }
}

pub(super) fn versions(values: &[&'static str], random: &mut Random) -> Made {
    let (folder, aside) = (values[0], values[2]);
    let keep: usize = values[1].parse().unwrap_or(2);
    let folders = rooms(random, folder);
    let stems = random.some(&STEMS, 5);
    let (mut start, mut left, mut moved) = (Files::new(), Files::new(), Files::new());
    for (at, level) in folders.iter().enumerate() {
        let stem = stems[at % 4];
        for extension in random.some(&["txt", "csv", "md"], 2) {
            // By letters 9 is above 10 and 11, and 2 is above them as well.
            let mut numbers = vec![2, 9, 10, 11];
            let more = random.within(0..=2);
            numbers.extend(random.some(&[1, 3, 5, 7, 14, 20, 100], more));
            numbers.sort_unstable();
            let lowest_kept = numbers.len() - keep;
            for (rank, number) in numbers.into_iter().enumerate() {
                let path = format!("{level}/{stem}-v{number}.{extension}");
                let text = prose(random, 1..=2);
                start.push((path.clone(), text.clone()));
                if rank < lowest_kept {
                    moved.push((format!("{aside}{}", &path[folder.len()..]), text));
                } else {
                    left.push((path, text));
                }
            }
        }
        for stay in [format!("{level}/{stem}.txt"), format!("{level}/{}-v1.txt", stems[4])] {
            let file = (stay, prose(random, 1..=2));
            start.push(file.clone());
            left.push(file);
        }
    }
    let program = |number: &str| {
        python(&format!(
            r"
import collections, os, re, shutil
series = collections.defaultdict(list)
for folder, _, names in os.walk('{folder}'):
    for name in names:
        found = re.fullmatch(r'(.+)-v(\d+)(\.\w+)', name)
        if found:
            series[folder, found[1], found[3]].append(({number}, name))
for (folder, _, _), versions in series.items():
    for _, name in sorted(versions)[:-{keep}]:
        to = os.path.join('{aside}', os.path.relpath(folder, '{folder}'))
        os.makedirs(to, exist_ok=True)
        shutil.move(os.path.join(folder, name), os.path.join(to, name))
"
        ))
    };
    Made {
        start: lying(&start),
        end: vec![tree(".", folder, &left), tree(".", aside, &moved)],
        solution: vec![program("int(found[2])")],
        hard_coded: vec![
            format!("mkdir {aside}"),
            format!("mv {folder}/*-v2.* {folder}/*-v9.* {aside}/"),
        ],
        near_miss: vec![program("found[2]")],
        ..Made::default()
    }
}
