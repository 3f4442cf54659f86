//! What an agent could plant to make its tests pass, and how to find it before they run.
//!
//! A verifier in the agent's own container runs in a file system that the agent wrote. [`EMPTIED`]
//! folders are emptied first. Of [`PLANTED`], whatever was not there before the agent started is
//! removed; what the image came with is the task's own and stays. This holds off the cheap tricks.
//! An agent that replaces `bash` or `python3` is stopped by a separate verifier only.

/// Files that change how tests run without being part of them.
#[derive(Clone, Copy, Debug)]
pub struct Planted {
    /// Shell patterns of absolute paths.
    pub paths: &'static [&'static str],
    /// Only files with a line that matches this basic regular expression count.
    pub holding: Option<&'static str>,
    pub reason: &'static str,
}

/// Emptied before the tests are uploaded, whoever filled them, with the reason.
pub const EMPTIED: [(&str, &str); 2] = [
    ("/tests", "pytest would import what lies beside the tests, stale bytecode included"),
    ("/logs/verifier", "a reward file written by the agent would be read as the verifier's"),
];

pub const PLANTED: [Planted; 5] = [
    Planted {
        paths: &[
            "/conftest.py",
            "/pytest.ini",
            "/.pytest.ini",
            "/pytest.toml",
            "/.pytest.toml",
            "/tox.ini",
            "/setup.cfg",
            "/setup.py",
            "/pyproject.toml",
            "/.pytest_cache",
        ],
        holding: None,
        reason: "pytest looks for its configuration upwards from /tests",
    },
    Planted {
        paths: &[
            "/usr/lib/python3*/sitecustomize.py",
            "/usr/lib/python3*/usercustomize.py",
            "/usr/local/lib/python3*/sitecustomize.py",
            "/usr/local/lib/python3*/usercustomize.py",
            "/usr/lib/python3*/*-packages/[su]*customize.py",
            "/usr/local/lib/python3*/*-packages/[su]*customize.py",
            "/opt/*/lib/python3*/site-packages/[su]*customize.py",
            "/*/.venv/lib/python3*/site-packages/[su]*customize.py",
            "/root/.local/lib/python3*/site-packages/[su]*customize.py",
            "/home/*/.local/lib/python3*/site-packages/[su]*customize.py",
        ],
        holding: None,
        reason: "every Python process imports it at its start",
    },
    Planted {
        paths: &[
            "/usr/lib/python3*/*-packages/*.pth",
            "/usr/local/lib/python3*/*-packages/*.pth",
            "/opt/*/lib/python3*/site-packages/*.pth",
            "/*/.venv/lib/python3*/site-packages/*.pth",
            "/root/.local/lib/python3*/site-packages/*.pth",
            "/home/*/.local/lib/python3*/site-packages/*.pth",
        ],
        // A line of a path only adds to the end of the search path, as `pip install -e` does.
        holding: Some("^import[[:space:]]"),
        reason: "every Python process runs its import lines at its start",
    },
    Planted {
        paths: &[
            "/root/.config/uv/uv.toml",
            "/home/*/.config/uv/uv.toml",
            "/etc/uv/uv.toml",
            "/root/.config/pip/pip.conf",
            "/home/*/.config/pip/pip.conf",
            "/root/.pip/pip.conf",
            "/etc/pip.conf",
        ],
        holding: None,
        reason: "a test script that installs pytest would take it from the agent's index",
    },
    Planted {
        paths: &["/etc/ld.so.preload"],
        holding: None,
        reason: "every process of the verifier would load it",
    },
];

/// Of both scripts, about; they are made for every environment.
const SCRIPT_BYTES: usize = 4096;

/// A `sh` script that prints those of [`PLANTED`] that exist under `root`, each ended by a NUL.
///
/// `root` is empty inside of an environment. What it prints before any agent has started is the
/// image's own, and the same for every environment of that image.
pub fn listing_script(root: &str) -> String {
    let print = "printf '%s\\0' \"$p\"";
    let mut script = String::with_capacity(SCRIPT_BYTES);
    let root = quoted(root);
    PLANTED.iter().for_each(|planted| planted.each(&mut script, &root, print));
    script
}

/// A `sh` script that makes the way free for the tests: empties [`EMPTIED`] and removes those of
/// [`PLANTED`] that are not in `own`, the output of [`listing_script`]. It prints what it removed
/// of the latter, each ended by a NUL.
///
/// To be run by root, after the agent's processes have been stopped.
pub fn cleaning_script(root: &str, own: &[u8]) -> String {
    let emptied = EMPTIED.map(|(folder, _)| quoted(&format!("{root}{folder}"))).join(" ");
    let mut script = String::with_capacity(SCRIPT_BYTES);
    script.extend(["rm -rf -- ", &emptied, " && mkdir -p -- ", &emptied, " || exit 1\n"]);
    let own: Vec<String> = own
        .split(|byte| *byte == 0)
        .filter(|path| !path.is_empty())
        .map(|path| quoted(&String::from_utf8_lossy(path)))
        .collect();
    let keep = if own.is_empty() { String::new() } else { format!("{}) ;; ", own.join("|")) };
    let remove = format!(
        "case \"$p\" in {keep}*) rm -rf -- \"$p\" && printf '%s\\0' \"$p\" || exit 1;; esac"
    );
    let root = quoted(root);
    PLANTED.iter().for_each(|planted| planted.each(&mut script, &root, &remove));
    script
}

impl Planted {
    /// Adds one `for` loop of `sh` that does `action` on every file `$p` that is there under
    /// `root`, which is quoted.
    fn each(&self, script: &mut String, root: &str, action: &str) {
        script.push_str("for p in");
        for path in self.paths {
            script.extend([" ", root, path]);
        }
        match self.holding {
            None => script.push_str("; do if [ -e \"$p\" ] || [ -L \"$p\" ]"),
            Some(pattern) => {
                script.extend(["; do if [ -f \"$p\" ] && grep -q '", pattern, "' \"$p\""]);
            }
        }
        script.extend(["; then ", action, "; fi; done\n"]);
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::process::Command;

    use super::*;

    /// What the script prints, as paths under the root.
    fn sh(root: &Path, script: &str) -> Vec<String> {
        let output = Command::new("sh").args(["-c", script]).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        let printed = String::from_utf8(output.stdout).unwrap();
        let root = root.to_str().unwrap();
        printed.split_terminator('\0').map(|path| path.replace(root, "")).collect()
    }

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    const SITE: &str = "usr/local/lib/python3.13/site-packages";

    #[test]
    fn what_the_agent_planted_goes_and_what_the_image_came_with_stays() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("it's a root");
        let at = root.to_str().unwrap();
        write(&root, &format!("{SITE}/distutils-precedence.pth"), "import os; x\n");
        write(&root, "pyproject.toml", "");
        let own = sh(&root, &listing_script(at));
        assert_eq!(
            own,
            ["/pyproject.toml".to_owned(), format!("/{SITE}/distutils-precedence.pth")]
        );
        let own: String = own.iter().map(|path| format!("{at}{path}\0")).collect();

        let user = "home/u/.local/lib/python3.13/site-packages/usercustomize.py";
        write(&root, &format!("{SITE}/evil 'name'.pth"), "# x\nimport\tevil\n");
        write(&root, &format!("{SITE}/editable.pth"), "/app/src\n");
        write(&root, user, "");
        write(&root, "app/conftest.py", "");
        write(&root, "tests/conftest.py", "");
        write(&root, "logs/verifier/reward.txt", "1");
        std::os::unix::fs::symlink("/nowhere", root.join("conftest.py")).unwrap();

        let cleaning = cleaning_script(at, own.as_bytes());
        let want =
            ["/conftest.py".to_owned(), format!("/{user}"), format!("/{SITE}/evil 'name'.pth")];
        assert_eq!(sh(&root, &cleaning), want);
        assert!(sh(&root, &cleaning).is_empty(), "they are gone");
        for kept in ["pyproject.toml", "app/conftest.py", &format!("{SITE}/editable.pth")] {
            assert!(root.join(kept).exists(), "{kept}");
        }
        for emptied in ["tests", "logs/verifier"] {
            assert_eq!(fs::read_dir(root.join(emptied)).unwrap().count(), 0, "{emptied}");
        }
    }

    #[test]
    fn a_link_in_the_place_of_an_emptied_folder_is_replaced_and_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        write(root, "app/work", "mine");
        std::os::unix::fs::symlink(root.join("app"), root.join("tests")).unwrap();
        sh(root, &cleaning_script(root.to_str().unwrap(), b""));
        assert!(root.join("app/work").exists());
        assert!(root.join("tests").symlink_metadata().unwrap().is_dir());
    }
}
