//! Commits that are to be found.

use crate::generate::families::git::history::History;
use crate::generate::families::trees::{STEMS, commands, prose};
use crate::generate::random::Random;
use crate::generate::template::Made;

pub(super) fn find(values: &[&'static str], random: &mut Random) -> Made {
    let (repository, word, out) = (values[0], values[1], values[2]);
    let mut history = History::new(repository);
    let commits = random.within(20..=26);
    let added = random.within(3..=6);
    let removed = random.within(10..=14);
    let mut words = random.some(&STEMS, 12);
    let mut notes = vec![word.to_owned(), prose(random, 6..=9)];
    let mut wanted = String::new();
    for at in 1..=commits {
        if at == added {
            words.insert(random.within(1..=8), word);
        } else if at == removed {
            words.retain(|other| *other != word);
        } else {
            // Something else goes and something else comes.
            let others: Vec<usize> =
                (0..words.len()).filter(|other| words[*other] != word).collect();
            words.remove(*random.pick(&others));
        }
        let left: Vec<&str> = STEMS.iter().copied().filter(|stem| !words.contains(stem)).collect();
        words.push(*random.pick(&left));
        // From another file it goes later.
        if at == removed + 3 {
            notes.remove(0);
        } else if at % 3 == 0 {
            notes.push(prose(random, 1..=1));
        }
        history.file("words.txt", &words.join("\n"));
        history.file("notes.txt", &notes.join("\n"));
        let subject = format!("{}, part {at}", random.pick(&["Update", "Review", "Tidy up"]));
        history.commit(&subject);
        if at == removed {
            wanted = subject;
        }
    }
    let log = |which: &str| {
        vec![format!("git -C {repository} log --format=%H -S{word} {which} > /app/{out}")]
    };
    Made {
        end: vec![history.is_hash_of(out, &wanted)],
        setup: history.into_setup(),
        solution: log("-1 -- words.txt"),
        hard_coded: vec![format!("git -C {repository} rev-parse HEAD > {out}")],
        near_miss: log("-1"),
        ..Made::default()
    }
}

pub(super) fn bisect(values: &[&'static str], random: &mut Random) -> Made {
    let (repository, script, out) = (values[0], values[1], values[2]);
    let mut history = History::new(repository);
    let steps = random.some(&STEMS, 12);
    let numbers: Vec<usize> = steps.iter().map(|_| random.within(20..=90)).collect();
    let mut terms: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    let commits = random.within(34..=44);
    let broken = random.within(12..=26);
    let bad_step = random.within(0..=11);
    let total: usize = numbers.iter().sum();
    history.file("expected.txt", &total.to_string());
    let text = |terms: &[String]| {
        let lines = terms.iter().zip(&steps);
        let lines = lines.map(|(term, step)| format!("total=$((total + {term})) # {step}\n"));
        format!("total=0\n{}echo $total", lines.collect::<String>())
    };
    history.file(script, &text(&terms));
    history.commit("Begin");
    let mut wanted = String::new();
    for at in 1..=commits {
        // The same number in other words; once, not the same.
        let step = if at == broken { bad_step } else { at % 12 };
        let step = if at > broken && step == bad_step { (step + 1) % 12 } else { step };
        let off = usize::from(at == broken) * random.within(1..=3);
        let first = random.within(2..=18);
        let rest = numbers[step] - first;
        let term = match random.below(3) {
            0 => format!("{first} + {}", rest + off),
            1 => format!("{} + {first}", rest + off),
            _ => format!("{} - {first}", numbers[step] + first + off),
        };
        let is_other = terms[step] != term;
        terms[step] = if is_other { term } else { format!("{term} + 0") };
        history.file(script, &text(&terms));
        let subject = format!("Rework {}, change {at}", steps[step]);
        history.commit(&subject);
        if at == broken {
            wanted = subject;
        }
    }
    Made {
        end: vec![history.is_hash_of(out, &wanted)],
        setup: history.into_setup(),
        solution: commands(&format!(
            r#"cd {repository}
git bisect start HEAD $(git rev-list --max-parents=0 HEAD)
git bisect run sh -c '[ "$(sh {script})" = "$(cat expected.txt)" ]'
git rev-parse refs/bisect/bad > /app/{out}
git bisect reset"#
        )),
        hard_coded: vec![format!("git -C {repository} rev-parse HEAD~5 > {out}")],
        near_miss: vec![format!("git -C {repository} log -1 --format=%H -- {script} > {out}")],
        ..Made::default()
    }
}

pub(super) fn lost(values: &[&'static str], random: &mut Random) -> Made {
    let (repository, branch, word) = (values[0], values[1], values[2]);
    let mut history = History::new(repository);
    let mut subjects = vec!["Begin".to_owned()];
    history.file("readme.txt", &prose(random, 4..=8));
    history.commit("Begin");
    let change = |history: &mut History, random: &mut Random, subjects: &mut Vec<String>| {
        let stem = *random.pick(&STEMS);
        history.file(&format!("notes/{stem}-{}.txt", subjects.len()), &prose(random, 3..=6));
        let subject = format!("Note {stem}, {}", subjects.len());
        history.commit(&subject);
        subjects.insert(0, subject);
    };
    for _ in 0..random.within(3..=6) {
        change(&mut history, random, &mut subjects);
    }
    history.run("old=$(git rev-parse HEAD)");
    let mut lost = subjects.clone();
    change(&mut history, random, &mut lost);
    let subject = format!("Add {word} report");
    lost.insert(0, subject.clone());
    let mut report = String::new();
    let versions = random.within(3..=4);
    for version in 1..=versions {
        report = format!("{}\nversion {version}", prose(random, 6..=12));
        history.file("report.txt", &report);
        if version == 1 {
            history.commit(&subject);
        } else {
            history.amend();
        }
    }
    // Later, and nearly called the same.
    history.file("report.txt", &prose(random, 6..=12));
    history.commit(&format!("Add {word} report outline"));
    history.run("git reset -q --hard $old");
    for _ in 0..random.within(2..=5) {
        change(&mut history, random, &mut subjects);
    }
    history.run("rm -f .git/ORIG_HEAD");
    let at = |which: &str| {
        format!(
            "git branch {branch} $(git reflog --format='%H %s' | grep '{subject}$' | {which} -n 1 \
             | cut -d' ' -f1)"
        )
    };
    let enter = || format!("cd {repository}");
    Made {
        end: vec![
            history.subjects(branch, &lost),
            history.subjects("main", &subjects),
            history.says(&format!("git show {branch}:report.txt"), &report),
            // A copy would have another hash.
            history.says(
                &format!(
                    "git reflog main --format=%H | grep -q $(git rev-parse {branch}) && \
                     echo original"
                ),
                "original",
            ),
        ],
        setup: history.into_setup(),
        solution: vec![enter(), at("head")],
        hard_coded: vec![enter(), format!("git branch {branch} main")],
        near_miss: vec![enter(), at("tail")],
        ..Made::default()
    }
}
