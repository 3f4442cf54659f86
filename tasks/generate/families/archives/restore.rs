//! Archives that are put together again: from pieces, from days, from within each other.

use std::collections::BTreeMap;

use crate::generate::families::archives::KIND;
use crate::generate::families::archives::make::packing;
use crate::generate::families::trees::{
    Files, STEMS, commands, grow, lying, others, prose, rooms, tree,
};
use crate::generate::random::Random;
use crate::generate::template::{Made, output, text};

pub(super) fn joined(values: &[&'static str], random: &mut Random) -> Made {
    let (folder, archive, to) = (values[0], values[1], values[2]);
    let pieces = random.within(11..=15);
    let inside = rooms(random, "packed");
    let files = grow(random, &inside, &["txt", "md"], 30);
    let start = lying(&files);
    let restored: Files =
        files.into_iter().map(|(path, text)| (path.replacen("packed", to, 1), text)).collect();
    let setup = commands(&format!(
        "{}\nrm -r packed\nmkdir {folder}\nsplit -n {pieces} --numeric-suffixes=1 {archive} \
         {folder}/{archive}.part0\nrm {archive}\ncd {folder}\nfor f in *.part0*; do \
         n=${{f##*.part}}; mv \"$f\" {archive}.part$((10#$n)); done",
        packing("packed", ".", archive),
    ));
    let join = |pieces: &str| {
        commands(&format!(
            "t=$(mktemp -d)\nfor n in {pieces}; do cat {folder}/{archive}.part$n; done > \
             $t/{archive}\nmkdir {to}\ntar -xf $t/{archive} -C {to}"
        ))
    };
    // As a pattern would list them: 1, 10, 11, then 2.
    let mut by_letters: Vec<String> = (1..=pieces).map(|piece| piece.to_string()).collect();
    by_letters.sort_unstable();
    Made {
        start,
        setup,
        end: vec![
            tree(".", to, &restored),
            output(&format!("ls {folder}/{archive}.part* | wc -l"), &pieces.to_string()),
        ],
        solution: join(&format!("$(seq {pieces})")),
        hard_coded: vec![format!("mkdir {to}"), format!("cp {folder}/{archive}.part1 {to}/")],
        near_miss: join(&by_letters.join(" ")),
        ..Made::default()
    }
}

pub(super) fn damaged(values: &[&'static str], random: &mut Random) -> Made {
    let (folder, aside, out) = (values[0], values[1], values[2]);
    let stems = random.some(&STEMS, 24);
    let (mut start, mut setup) = (Files::new(), Vec::new());
    let (mut good, mut bad) = (Files::new(), Vec::new());
    for (at, stem) in stems.into_iter().enumerate() {
        let path = format!("{folder}/{stem}.gz");
        let text = prose(random, 3..=8);
        let size = "$(stat -c %s f.tmp)";
        let broken = match at {
            // Twice the checksum, so that all the text comes out before gzip notices.
            0 | 1 => format!("printf 0000 | dd of=f.tmp bs=1 seek=$(({size}-8)) conv=notrunc"),
            2 | 3 => format!("truncate -s $(({size}-{})) f.tmp", random.within(3..=20)),
            4 => format!("printf 0000 | dd of=f.tmp bs=1 seek=$(({size}/2)) conv=notrunc"),
            5 => "truncate -s 1 f.tmp".to_owned(),
            6 => format!("gzip -dc {path} > f.tmp"),
            _ => String::new(),
        };
        setup.push(format!("gzip -n < {path} > f.tmp && mv f.tmp {path}"));
        if broken.is_empty() {
            good.push((path.clone(), text.clone()));
        } else {
            setup.push(format!("cp {path} f.tmp; {broken} 2> /dev/null; mv f.tmp {path}"));
            bad.push(format!("{stem}.gz"));
        }
        start.push((path, text));
    }
    good.sort_unstable();
    bad.sort_unstable();
    let names: String =
        good.iter().map(|(path, _)| path[folder.len() + 1..].to_owned() + "\n").collect();
    let texts: Vec<&str> = good.iter().map(|(_, text)| &**text).collect();
    let script = |body: &str| {
        commands(&format!("mkdir {aside}\nfor f in {folder}/*.gz; do\n  {body}\ndone"))
    };
    Made {
        start: lying(&start),
        setup,
        end: vec![
            text(out, &texts.join("\n")),
            output(&format!("LC_ALL=C ls -A {folder}"), &names),
            output(&format!("LC_ALL=C ls -A {aside}"), &bad.join("\n")),
            output(&format!("gzip -dc {folder}/*.gz"), &texts.join("\n")),
        ],
        solution: script(&format!(
            "if gzip -t $f 2> /dev/null; then zcat $f >> {out}; else mv $f {aside}/; fi"
        )),
        hard_coded: vec![format!("mkdir {aside}"), format!("zcat {folder}/*.gz > {out}")],
        near_miss: script(&format!("zcat $f >> {out} || mv $f {aside}/")),
        ..Made::default()
    }
}

/// How many days there are.
const DAYS: usize = 12;

pub(super) fn daily(values: &[&'static str], random: &mut Random) -> Made {
    let (folder, to) = (values[0], values[2]);
    let day_wanted: usize = values[1].parse().unwrap_or(6);
    let inside = rooms(random, "x");
    let paths: Vec<String> = grow(random, &inside, &["txt", "md", "csv"], 26)
        .into_iter()
        .map(|(path, _)| path["x/".len()..].to_owned())
        .collect();
    let (mut start, mut setup) = (Files::new(), vec!["mkdir -p days".to_owned()]);
    let mut state: BTreeMap<String, String> = BTreeMap::new();
    let mut wanted = Files::new();
    for day in 0..=DAYS {
        let name = if day == 0 { "full".to_owned() } else { format!("day-{day}") };
        // The first two paths are deleted on the first day and never come back; the third changes
        // on days 2, 5 and 12.
        let (changed, deleted) = match day {
            0 => (paths[..16].to_vec(), Vec::new()),
            _ => {
                let changes = random.within(1..=4);
                let mut changed = random.some(&paths[3..], changes);
                let mut deleted: Vec<String> = Vec::new();
                if day % 4 != 3 {
                    let there: Vec<String> =
                        state.keys().filter(|path| paths[3..].contains(path)).cloned().collect();
                    let count = random.within(1..=2).min(there.len());
                    deleted.extend(random.some(&there, count));
                }
                if day == 1 {
                    deleted.extend(paths[..2].to_vec());
                }
                if [2, 5, DAYS].contains(&day) {
                    changed.push(paths[2].clone());
                }
                (changed, deleted)
            }
        };
        if !deleted.is_empty() {
            start.push((format!("{folder}/{name}.deleted"), deleted.join("\n")));
        }
        for path in &deleted {
            state.remove(path);
        }
        for path in changed {
            let text = format!("{name} {}", prose(random, 1..=3));
            start.push((format!("days/{name}/{path}"), text.clone()));
            state.insert(path, text);
        }
        setup.push(packing(&format!("days/{name}"), ".", &format!("{folder}/{name}.tar.gz")));
        if day == day_wanted {
            wanted = state.clone().into_iter().collect();
        }
    }
    setup.push("rm -r days".to_owned());
    let wanted: Files =
        wanted.into_iter().map(|(path, text)| (format!("{to}/{path}"), text)).collect();
    let script = |delete: &str| {
        commands(&format!(
            r#"mkdir {to}
tar -xf {folder}/full.tar.gz -C {to}
for n in $(seq {day_wanted}); do
  {delete}
  tar -xf {folder}/day-$n.tar.gz -C {to}
done"#
        ))
    };
    Made {
        start: lying(&start),
        setup,
        end: vec![tree(".", to, &wanted)],
        solution: script(&format!(
            "if [ -f {folder}/day-$n.deleted ]; then while read -r f; do rm -f \"{to}/$f\"; done < \
             {folder}/day-$n.deleted; fi"
        )),
        hard_coded: vec![format!("mkdir {to}"), format!("tar -xf {folder}/full.tar.gz -C {to}")],
        near_miss: script(":"),
        ..Made::default()
    }
}

pub(super) fn nested(values: &[&'static str], random: &mut Random) -> Made {
    let (archive, kind, to) = (values[0], values[1], values[2]);
    let other = *random.pick(&others(&KIND, kind));
    let stems = random.shuffled(&STEMS);
    // Of each level: its folder, and where in which other level its archive lies.
    let levels = [
        ("level0", String::new()),
        ("level1", format!("level0/{}.tar.gz", stems[0])),
        ("level2", format!("level1/{}/{}.zip", stems[1], stems[2])),
        ("level3", format!("level2/{}/{}.tar.xz", stems[3], stems[4])),
        ("level4", format!("level0/{}/{}.zip", stems[5], stems[6])),
        ("level5", format!("level4/{}.tar.gz", stems[7])),
    ];
    let (mut start, mut collected) = (Files::new(), Files::new());
    for (at, stem) in stems[8..].iter().enumerate() {
        let level = levels[at % levels.len()].0;
        let extension = [kind, other, kind][(at / levels.len()) % 3];
        let room = if at % 2 == 0 { "" } else { "deep/" };
        let text = prose(random, 1..=3);
        start.push((format!("{level}/{room}{stem}.{extension}"), text.clone()));
        if extension == kind {
            collected.push((format!("{to}/{stem}.{kind}"), text));
        }
    }
    let mut setup = vec!["top=$PWD".to_owned()];
    for (level, archive) in levels.iter().skip(1).rev() {
        setup.push(format!("mkdir -p $(dirname {archive})"));
        setup.push(if archive.ends_with(".zip") {
            let touch = "find . -exec touch -d @1700000000 {} +";
            format!("(cd {level} && {touch} && zip -qrX $top/{archive} .)")
        } else {
            packing(level, ".", archive)
        });
    }
    setup.push(packing("level0", ".", archive));
    setup.push("rm -r level?".to_owned());
    let collect = format!("find $t -type f -name '*.{kind}' -exec cp {{}} {to}/ \\;");
    let unpack = r#"archives() { find $t -name '*.tar.?z' -o -name '*.zip'; }
while a=$(archives | head -n 1); [ -n "$a" ]; do
  mkdir "$a.d"
  case "$a" in
    *.zip) unzip -q "$a" -d "$a.d";;
    *) tar -xf "$a" -C "$a.d";;
  esac
  rm "$a"
done"#;
    let first = format!("mkdir {to}\nt=$(mktemp -d)\ntar -xf {archive} -C $t");
    let one_level = "for a in $(find $t -name '*.tar.?z'); do tar -xf $a -C $(dirname $a); done\n\
                     for a in $(find $t -name '*.zip'); do unzip -q $a -d $(dirname $a); done";
    Made {
        start: lying(&start),
        setup,
        end: vec![tree(".", to, &collected)],
        solution: commands(&format!("{first}\n{unpack}\n{collect}")),
        hard_coded: commands(&format!("{first}\n{collect}")),
        near_miss: commands(&format!("{first}\n{one_level}\n{collect}")),
        ..Made::default()
    }
}
