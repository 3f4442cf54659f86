//! The commands by which a repository gets its history.

use crate::generate::template::{End, holds, output, python, write};

/// Commands that make a repository in the working folder, and commits in it. Author and dates are
/// fixed, so that the hashes are.
pub(super) struct History {
    name: &'static str,
    commands: Vec<String>,
    commits: usize,
}

impl History {
    pub(super) fn new(name: &'static str) -> Self {
        let commands = [
            "export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1".to_owned(),
            format!("git init -q -b main {name}"),
            format!("cd {name}"),
            "git config user.name 'Robin Vale'".to_owned(),
            "git config user.email robin@example.com".to_owned(),
            "git config gc.auto 0".to_owned(),
        ];
        Self { name, commands: commands.into(), commits: 0 }
    }

    pub(super) fn run(&mut self, command: impl Into<String>) {
        self.commands.push(command.into());
    }

    pub(super) fn file(&mut self, path: &str, text: &str) {
        if let Some((folder, _)) = path.rsplit_once('/') {
            self.run(format!("mkdir -p {folder}"));
        }
        self.run(write(path, text));
    }

    /// An hour after the one before.
    pub(super) fn commit(&mut self, subject: &str) {
        self.commit_by(&format!("-m '{subject}'"));
    }

    pub(super) fn amend(&mut self) {
        self.commit_by("--amend --no-edit");
    }

    fn commit_by(&mut self, options: &str) {
        self.commits += 1;
        let date = 1_700_000_000 + 3600 * self.commits;
        self.run(format!(
            "export GIT_AUTHOR_DATE='{date} +0000' GIT_COMMITTER_DATE='{date} +0000'"
        ));
        self.run(format!("git add -A; git commit -q {options}"));
    }

    pub(super) fn into_setup(self) -> Vec<String> {
        self.commands
    }

    /// A command in the repository writes this.
    pub(super) fn says(&self, command: &str, text: &str) -> End {
        output(&format!("cd {} && {command}", self.name), text)
    }

    /// The subjects from the newest on.
    pub(super) fn subjects(&self, of: &str, subjects: &[String]) -> End {
        self.says(&format!("git log --format=%s {of}"), &subjects.join("\n"))
    }

    pub(super) fn clean(&self) -> End {
        holds(
            "main is checked out and clean",
            &format!(
                "cd {} && [ \"$(git branch --show-current)\" = main ] && git diff --quiet HEAD",
                self.name
            ),
        )
    }

    /// The file holds the hash of the commit with this subject, of which there is one.
    pub(super) fn is_hash_of(&self, file: &str, subject: &str) -> End {
        let shown = format!(
            "h=$(tr -d '[:space:]' < {file}) && [ ${{#h}} = 40 ] && \
             git -C {} log -1 --format=%s $h",
            self.name
        );
        output(&shown, subject)
    }
}

/// A command that settles a conflict of the file key by key.
pub(super) fn settle(file: &str, winner: &str) -> String {
    python(&format!(
        r"
import subprocess
def side(stage):
    text = subprocess.check_output(['git', 'show', f':{{stage}}:{file}'], text=True)
    return dict(line.split(' = ', 1) for line in text.splitlines())
base, ours, theirs = side(1), side(2), side(3)
with open('{file}', 'w') as out:
    for key in {{**ours, **theirs}}:
        first, second = {winner}
        value = first.get(key) if first.get(key) != base.get(key) else second.get(key)
        print(key, '=', value, file=out)
"
    ))
}
