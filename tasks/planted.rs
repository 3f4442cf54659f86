//! What an agent could plant to make its tests pass, and how to find it before they run.
//!
//! A verifier in the agent's own container runs in a file system that the agent wrote. [`EMPTIED`]
//! folders are emptied first. Of [`PLANTED`], whatever was not there before the agent started is
//! removed; what the image came with is the task's own and stays. This holds off the cheap tricks.
//! An agent that replaces `bash` or `python3` is stopped by a separate verifier only.

use std::collections::BTreeSet;

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

/// A `sh` script that prints those of [`PLANTED`] that exist under `root`, each ended by a NUL.
///
/// `root` is empty inside of an environment. Run it by root before the agent starts, and again
/// after it has stopped; [`newly_planted`] says what is to be removed.
pub fn listing_script(root: &str) -> String {
    let root = format!("'{}'", root.replace('\'', r"'\''"));
    let mut script = String::new();
    for planted in &PLANTED {
        let paths: Vec<_> = planted.paths.iter().map(|path| format!("{root}{path}")).collect();
        let test = match planted.holding {
            None => "[ -e \"$p\" ] || [ -L \"$p\" ]".to_owned(),
            Some(pattern) => format!("[ -e \"$p\" ] && grep -q '{pattern}' \"$p\""),
        };
        script.push_str(&format!(
            "for p in {}; do if {test}; then printf '%s\\0' \"$p\"; fi; done\n",
            paths.join(" ")
        ));
    }
    script
}

/// The paths of the second listing that the first has not.
pub fn newly_planted(before: &[u8], after: &[u8]) -> Vec<String> {
    let split = |listing: &[u8]| -> BTreeSet<String> {
        let paths = listing.split(|byte| *byte == 0).filter(|path| !path.is_empty());
        paths.map(|path| String::from_utf8_lossy(path).into_owned()).collect()
    };
    split(after).difference(&split(before)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::process::Command;

    use super::*;

    fn list(root: &Path) -> Vec<u8> {
        let script = listing_script(root.to_str().unwrap());
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        output.stdout
    }

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn what_the_agent_planted_is_found_and_what_the_image_came_with_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("it's a root");
        let site = "usr/local/lib/python3.13/site-packages";
        write(&root, &format!("{site}/distutils-precedence.pth"), "import os; x\n");
        write(&root, "pyproject.toml", "");
        let before = list(&root);
        assert_eq!(before.iter().filter(|byte| **byte == 0).count(), 2);

        write(&root, &format!("{site}/evil name.pth"), "# x\nimport\tevil\n");
        write(&root, &format!("{site}/editable.pth"), "/app/src\n");
        write(&root, "home/u/.local/lib/python3.13/site-packages/usercustomize.py", "");
        write(&root, "app/conftest.py", "");
        std::os::unix::fs::symlink("/nowhere", root.join("conftest.py")).unwrap();

        let root = root.to_str().unwrap();
        let want = [
            format!("{root}/conftest.py"),
            format!("{root}/home/u/.local/lib/python3.13/site-packages/usercustomize.py"),
            format!("{root}/{site}/evil name.pth"),
        ];
        assert_eq!(newly_planted(&before, &list(Path::new(root))), want);
    }
}
