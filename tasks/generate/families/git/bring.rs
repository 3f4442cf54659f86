//! Changes that are brought somewhere: picked, undone, restored, merged; and rules of what to
//! ignore.

use std::collections::BTreeMap;

use crate::generate::families::git::history::{History, settle};
use crate::generate::families::trees::{Files, STEMS, commands, prose};
use crate::generate::random::Random;
use crate::generate::template::{Made, holds};

/// Some commits on what is checked out, newest subject first.
fn notes(history: &mut History, random: &mut Random, subjects: &mut Vec<String>, count: usize) {
    for _ in 0..count {
        let (stem, number) = (*random.pick(&STEMS), subjects.len());
        history.file(&format!("notes/{stem}-{number}.txt"), &prose(random, 3..=6));
        let subject = format!("Note {stem}, {number}");
        history.commit(&subject);
        subjects.insert(0, subject);
    }
}

pub(super) fn pick(values: &[&'static str], random: &mut Random) -> Made {
    let (repository, branch, word) = (values[0], values[1], values[2]);
    let mut history = History::new(repository);
    let listed = prose(random, 6..=10);
    history.file("supported.txt", &listed);
    history.commit("Begin");
    let mut subjects = vec!["Begin".to_owned()];
    let before = random.within(2..=4);
    notes(&mut history, random, &mut subjects, before);
    history.run(format!("git checkout -q -b {branch}"));
    let mut on_branch = subjects.clone();
    let ahead = random.within(2..=4);
    notes(&mut history, random, &mut on_branch, ahead);
    let code = prose(random, 8..=16);
    history.file(&format!("support/{word}.txt"), &code);
    history.file("supported.txt", &format!("{word}\n{listed}"));
    let subject = format!("Add {word} support");
    history.commit(&subject);
    on_branch.insert(0, subject.clone());
    history.file(&format!("support/{word}-guide.txt"), &prose(random, 8..=16));
    history.commit(&format!("Document what Add {word} support did"));
    on_branch.insert(0, format!("Document what Add {word} support did"));
    let after = random.within(1..=3);
    notes(&mut history, random, &mut on_branch, after);
    history.run("git checkout -q main");
    // The branches part here, so that to merge is never only to move forward.
    let more = random.within(1..=3);
    notes(&mut history, random, &mut subjects, more);
    let mut on_main = subjects.clone();
    on_main.insert(0, subject.clone());
    let enter = || format!("cd {repository}");
    Made {
        end: vec![
            history.subjects("main", &on_main),
            history.subjects(branch, &on_branch),
            history.says(
                "git diff --name-only main~1 main",
                &format!("support/{word}.txt\nsupported.txt"),
            ),
            history.says(&format!("git show main:support/{word}.txt"), &code),
            history.says("git show main:supported.txt", &format!("{word}\n{listed}")),
            history.clean(),
        ],
        setup: history.into_setup(),
        solution: vec![
            enter(),
            format!("git cherry-pick $(git log --format=%H --grep='^{subject}$' {branch})"),
        ],
        hard_coded: vec![enter(), format!("git cherry-pick {branch}")],
        near_miss: vec![
            enter(),
            format!("git merge -q --squash {branch}"),
            format!("git commit -q -m '{subject}'"),
        ],
        ..Made::default()
    }
}

pub(super) fn undo(values: &[&'static str], random: &mut Random) -> Made {
    let (repository, word) = (values[0], values[1]);
    let mut history = History::new(repository);
    let mut subjects = vec!["Begin".to_owned()];
    let mut lines: Vec<String> = prose(random, 44..=50).lines().map(ToOwned::to_owned).collect();
    history.file("layout.txt", &lines.join("\n"));
    history.file("theme.txt", &prose(random, 3..=6));
    history.commit("Begin");
    // Each changes one line, far from those of the others and from what is undone.
    let mut places = random.shuffled(&[2, 7, 12, 30, 35, 40]);
    let change =
        |history: &mut History, random: &mut Random, lines: &mut Vec<String>, at: usize| {
            lines[at] = format!("{} changed", prose(random, 1..=1));
            history.file("layout.txt", &lines.join("\n"));
            history.commit(&format!("Change line {at}"));
            format!("Change line {at}")
        };
    for place in places.split_off(3) {
        let subject = change(&mut history, random, &mut lines, place);
        subjects.insert(0, subject);
    }
    let kept: Vec<String> = lines[18..=22].to_vec();
    for line in &mut lines[18..=22] {
        *line = format!("{word} {}", prose(random, 1..=1));
    }
    history.file("layout.txt", &lines.join("\n"));
    history.file(&format!("{word}.txt"), &prose(random, 3..=9));
    let subject = format!("Switch to {word} layout");
    history.commit(&subject);
    subjects.insert(0, subject.clone());
    for place in places {
        let subject = change(&mut history, random, &mut lines, place);
        subjects.insert(0, subject);
    }
    notes(&mut history, random, &mut subjects, 1);
    lines.splice(18..=22, kept);
    let mut undone = [("layout.txt".to_owned(), "M"), (format!("{word}.txt"), "D")];
    undone.sort_unstable();
    let undone = undone.map(|(path, what)| format!("{what}\t{path}"));
    let enter = || format!("cd {repository}");
    let bad = format!("$(git log --format=%H --grep='^{subject}$')");
    Made {
        end: vec![
            history.subjects("main~1", &subjects),
            history.says("git show main:layout.txt", &lines.join("\n")),
            history.says("git diff --name-status main~1 main", &undone.join("\n")),
            history.clean(),
        ],
        setup: history.into_setup(),
        solution: vec![enter(), format!("git revert --no-edit {bad}")],
        hard_coded: vec![enter(), "git revert --no-edit HEAD".to_owned()],
        near_miss: vec![
            enter(),
            format!("git checkout -q {bad}~1 -- layout.txt"),
            format!("git rm -q {word}.txt"),
            "git commit -q -m Undo".to_owned(),
        ],
        ..Made::default()
    }
}

pub(super) fn restore(values: &[&'static str], random: &mut Random) -> Made {
    let (repository, file) = (values[0], values[1]);
    let path = format!("plans/{file}");
    let mut history = History::new(repository);
    let mut subjects = vec!["Begin".to_owned()];
    history.file(&path, &prose(random, 12..=20));
    history.file("plans/draft.txt", &prose(random, 5..=9));
    history.commit("Begin");
    let mut last = String::new();
    for version in 1..=random.within(2..=4) {
        last = prose(random, 12..=30);
        history.file(&path, &last);
        history.commit(&format!("Revise plans, {version}"));
        subjects.insert(0, format!("Revise plans, {version}"));
        notes(&mut history, random, &mut subjects, 1);
    }
    // With it another file goes and one changes, which is to stay so.
    history.run(format!("git rm -q {path} plans/draft.txt"));
    history.file("plans/index.txt", &prose(random, 2..=4));
    history.commit("Clean up plans");
    subjects.insert(0, "Clean up plans".to_owned());
    let after = random.within(2..=5);
    notes(&mut history, random, &mut subjects, after);
    let enter = || format!("cd {repository}");
    let deleting = format!("$(git log -1 --diff-filter=D --format=%H -- {path})");
    Made {
        end: vec![
            history.subjects("main~1", &subjects),
            history.says(&format!("git show main:{path}"), &last),
            history.says("git diff --name-status main~1 main", &format!("A\t{path}")),
            history.clean(),
        ],
        setup: history.into_setup(),
        solution: vec![
            enter(),
            format!("git checkout -q {deleting}~1 -- {path}"),
            "git commit -q -m Restore".to_owned(),
        ],
        hard_coded: vec![
            enter(),
            format!("mkdir -p plans; echo plan > {path}"),
            "git add -A; git commit -q -m Restore".to_owned(),
        ],
        near_miss: vec![enter(), format!("git revert --no-edit {deleting}")],
        ..Made::default()
    }
}

pub(super) fn ignore(values: &[&'static str], random: &mut Random) -> Made {
    let (repository, ending, kept, out) = (values[0], values[1], values[2], values[3]);
    let mut history = History::new(repository);
    let stems = random.some(&STEMS, 12);
    let mut tracked = vec![".gitignore".to_owned()];
    let mut untracked = Vec::new();
    let files = [
        (format!("{}.txt", stems[0]), true),
        (format!("src/{}.c", stems[1]), true),
        (format!("src/{}.{ending}", stems[2]), false),
        (format!("{}.{ending}", stems[3]), false),
        (format!("src/deep/{}.{ending}", stems[4]), false),
        (format!("{kept}/{}.{ending}", stems[5]), true),
        (format!("{kept}/deep/er/{}.{ending}", stems[6]), true),
        (format!("{kept}/{}.txt", stems[7]), true),
        (format!("{out}/{}.txt", stems[8]), false),
        (format!("{out}/deep/{}.txt", stems[9]), false),
        (format!("src/{out}/{}.txt", stems[10]), true),
        (format!("src/{ending}/{}.txt", stems[11]), true),
    ];
    history.file(".gitignore", "# of the editor\n*.swp\n/private/");
    for (path, is_kept) in files {
        history.file(&path, &prose(random, 1..=4));
        if is_kept { &mut tracked } else { &mut untracked }.push(path);
    }
    history.commit("Begin");
    tracked.sort_unstable();
    let probes = [
        (format!("new.{ending}"), true),
        (format!("a/b/c/new.{ending}"), true),
        (format!("src/{kept}/new.{ending}"), true),
        (format!("{kept}/new.{ending}"), false),
        (format!("{kept}/x/y/new.{ending}"), false),
        (format!("{out}/new.txt"), true),
        (format!("src/{out}/new.txt"), false),
        (format!("new.{ending}.txt"), false),
        (format!("src/my{ending}"), false),
        ("src/x.swp".to_owned(), true),
        ("private/x".to_owned(), true),
    ];
    let mut end = vec![
        history.says("git ls-tree -r --name-only main | LC_ALL=C sort", &tracked.join("\n")),
        history.says("git log --format=%s main | tail -n 1", "Begin"),
        history.clean(),
    ];
    for (path, is_ignored) in probes {
        let not = if is_ignored { "" } else { "! " };
        let command = format!("cd {repository} && {not}git check-ignore -q --no-index {path}");
        end.push(holds(&format!("{not}ignored: {path}"), &command));
    }
    for path in &untracked {
        end.push(holds(&format!("still there: {path}"), &format!("[ -s {repository}/{path} ]")));
    }
    let script = |rules: &str, untrack: &str| {
        commands(&format!(
            "cd {repository}\nprintf '%s\\n' {rules} >> .gitignore\n{untrack}\ngit add -A\ngit \
             commit -q -m 'Ignore products'"
        ))
    };
    let rules = format!("'*.{ending}' '!/{kept}/**/*.{ending}'");
    let untrack = "git rm -r -q --cached .";
    Made {
        end,
        setup: history.into_setup(),
        solution: script(&format!("{rules} '/{out}/'"), untrack),
        hard_coded: script(&format!("'*.{ending}'"), ":"),
        near_miss: script(&format!("{rules} '{out}/'"), untrack),
        ..Made::default()
    }
}

/// Who changes the setting of a line.
#[derive(Clone, Copy)]
enum Side {
    Main,
    Branch,
    Both,
    /// Both, and to the same.
    Alike,
}

/// By lines. To take one side of a conflict would lose what the other side alone has changed in
/// the line beside it.
const CHANGES: [(usize, Side); 9] = [
    (3, Side::Main),
    (5, Side::Both),
    (6, Side::Branch),
    (11, Side::Both),
    (12, Side::Main),
    (15, Side::Branch),
    (18, Side::Alike),
    (20, Side::Both),
    (21, Side::Branch),
];

fn settings(settings: &Files) -> String {
    let lines = settings.iter().map(|(key, value)| format!("{key} = {value}"));
    lines.collect::<Vec<_>>().join("\n")
}

pub(super) fn merge(values: &[&'static str], random: &mut Random) -> Made {
    let (repository, branch, main_wins) = (values[0], values[1], values[2] == "main");
    let keys = random.some(&STEMS, 26);
    let base: Files = keys[..24]
        .iter()
        .map(|key| ((*key).to_owned(), random.within(10..=99).to_string()))
        .collect();
    let (mut on_main, mut on_branch) = (base.clone(), base.clone());
    for (at, side) in CHANGES {
        let value = random.within(100..=499).to_string();
        match side {
            Side::Main => on_main[at].1 = value,
            Side::Branch => on_branch[at].1 = value,
            Side::Both => {
                on_main[at].1 = value;
                on_branch[at].1 = random.within(500..=999).to_string();
            }
            Side::Alike => {
                on_main[at].1.clone_from(&value);
                on_branch[at].1 = value;
            }
        }
    }
    let mut added = |key: &str| (key.to_owned(), random.within(10..=99).to_string());
    on_main.push(added(keys[24]));
    on_branch.push(added(keys[25]));
    // Key by key: a side's value that is not the old one, the winner's first.
    let mut merged: BTreeMap<String, String> = BTreeMap::new();
    let (first, second) = if main_wins { (&on_main, &on_branch) } else { (&on_branch, &on_main) };
    for side in [second, first] {
        for (key, value) in side {
            let old = base.iter().find(|(other, _)| other == key).map(|(_, value)| value);
            if old != Some(value) || !merged.contains_key(key) {
                merged.insert(key.clone(), value.clone());
            }
        }
    }
    let merged: Vec<String> =
        merged.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
    let mut history = History::new(repository);
    history.file("settings.conf", &settings(&base));
    history.commit("Begin");
    history.run(format!("git checkout -q -b {branch}"));
    history.file("settings.conf", &settings(&on_branch));
    history.file("branch.txt", &prose(random, 2..=6));
    history.commit("Set for the branch");
    history.run("git checkout -q main");
    history.file("settings.conf", &settings(&on_main));
    history.commit("Set for main");
    let enter = || format!("cd {repository}");
    let finish = || "git add -A; git commit -q --no-edit".to_owned();
    let by_hunks = if main_wins { "ours" } else { "theirs" };
    let (ours, theirs) = ("(ours, theirs)", "(theirs, ours)");
    Made {
        end: vec![
            history.says(
                "git show main:settings.conf | tr -d ' \\t' | grep . | LC_ALL=C sort",
                &merged.join("\n"),
            ),
            history.says("git log -1 --format=%s main^1", "Set for main"),
            history.says("git log -1 --format=%s main^2", "Set for the branch"),
            history.says(&format!("git rev-list --count main..{branch}"), "0"),
            history.says("git rev-list --count main", "4"),
            history.says("git diff --name-status main^1 main -- branch.txt", "A\tbranch.txt"),
            history.clean(),
        ],
        setup: history.into_setup(),
        solution: vec![
            enter(),
            format!("git merge -q {branch}"),
            settle("settings.conf", if main_wins { ours } else { theirs }),
            finish(),
        ],
        hard_coded: vec![
            enter(),
            format!("git merge -q {branch}"),
            settle("settings.conf", if main_wins { theirs } else { ours }),
            finish(),
        ],
        near_miss: vec![enter(), format!("git merge -q --no-edit -X {by_hunks} {branch}")],
        ..Made::default()
    }
}
