//! Lists from lists and folders.

use super::{content, inside, listed, spoiled, sum, tree};
use crate::generate::families::words::{GOODS, lines, untouched};
use crate::generate::random::Random;
use crate::generate::template::{Made, has, text, write};

pub(super) fn manifest(values: &[&'static str], random: &mut Random) -> Made {
    let (folder, to) = (values[0], values[1]);
    let count = random.within(14..=22);
    let files = tree(random, count);
    let start = inside(folder, &files);
    let mut end = vec![text(to, &listed(&files))];
    end.extend(untouched(&start));
    Made {
        start,
        end,
        solution: vec![
            format!("cd {folder}"),
            format!(
                "find . -type f -printf '%P\\0' | LC_ALL=C sort -z | xargs -0 sha256sum > ../{to}"
            ),
        ],
        hard_coded: vec![write(to, &listed(&files[..3]))],
        near_miss: vec![format!("cd {folder}; sha256sum * > ../{to} 2> /dev/null")],
        ..Made::default()
    }
}

pub(super) fn damaged(values: &[&'static str], random: &mut Random) -> Made {
    let (folder, changed, missing) = (values[0], values[1], values[2]);
    let files = tree(random, 20);
    let order: Vec<usize> = (0..20).collect();
    let order = random.shuffled(&order);
    let (bad, rest) = order.split_at(random.within(3..=5));
    let gone = &rest[..random.within(2..=4)];
    let mut now = Vec::new();
    for (at, (path, content)) in files.iter().enumerate() {
        if bad.contains(&at) {
            now.push((path.clone(), spoiled(content)));
        } else if !gone.contains(&at) {
            now.push((path.clone(), content.clone()));
        }
    }
    let paths = |of: &[usize]| {
        let mut paths: Vec<&str> = of.iter().map(|at| &*files[*at].0).collect();
        paths.sort_unstable();
        lines(paths)
    };
    let mut start = inside(folder, &now);
    start.push(has("SHA256SUMS", &listed(&random.shuffled(&files))));
    let mut end = vec![text(changed, &paths(bad)), text(missing, &paths(gone))];
    end.extend(untouched(&start));
    let check = format!("cd {folder}; sha256sum -c ../SHA256SUMS 2> /dev/null");
    let pick =
        |end: &str, to: &str| format!("({check}) | sed -n 's/: {end}$//p' | LC_ALL=C sort > {to}");
    let gone = pick("FAILED open or read", missing);
    Made {
        start,
        end,
        solution: vec![pick("FAILED", changed), gone.clone()],
        hard_coded: vec![write(changed, &files[bad[0]].0), gone.clone()],
        near_miss: vec![pick("FAILED.*", changed), gone],
        ..Made::default()
    }
}

pub(super) fn moved(values: &[&'static str], random: &mut Random) -> Made {
    let (old, new, to) = (values[0], values[1], values[2]);
    let names = random.shuffled(&GOODS);
    let folders = ["in", "work", "done"];
    let (mut before, mut after, mut wanted) = (Vec::new(), Vec::new(), Vec::new());
    for at in 0..60 {
        let place = |random: &mut Random| format!("{}/n{at}", random.pick(&folders));
        let name = format!("{}-{}.txt", place(random), names[at % 24]);
        let own = content(random, at);
        match at % 6 {
            // Moved; changed; removed; new; as before.
            0 | 3 => {
                let next = format!("old/n{at}-{}.txt", names[(at + 5) % 24]);
                wanted.push(format!("{name} -> {next}"));
                before.push((name, own.clone()));
                after.push((next, own));
            }
            1 => {
                before.push((name.clone(), own.clone()));
                after.push((name, spoiled(&own)));
            }
            2 if at % 4 == 0 => before.push((name, own)),
            2 => after.push((name, own)),
            _ => {
                before.push((name.clone(), own.clone()));
                after.push((name, own));
            }
        }
    }
    wanted.sort_unstable();
    let start = vec![
        has(old, &listed(&random.shuffled(&before))),
        has(new, &listed(&random.shuffled(&after))),
    ];
    let mut end = vec![text(to, &lines(&wanted))];
    end.extend(untouched(&start));
    let program = |condition: &str| {
        vec![format!(
            "join <(sort {old}) <(sort {new}) | awk '{condition}{{print $2, \"->\", $3}}' | \
             LC_ALL=C sort > {to}"
        )]
    };
    Made {
        start,
        end,
        solution: program("$2 != $3 "),
        hard_coded: vec![write(to, &format!("in/{} -> old/{}", sum("a"), sum("b")))],
        // Those that stayed as well.
        near_miss: program(""),
        ..Made::default()
    }
}
