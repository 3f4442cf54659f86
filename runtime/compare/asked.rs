//! What `compare` is asked to put beside each other: `RUN`, `RUN@STEP`, `NAME=RUN,RUN`.

use std::path::PathBuf;

use crate::config_read::is_run_name;

/// One row: a run, or several seeds of one arm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// As it was given; else that of its run.
    pub name: Option<String>,
    /// At least one.
    pub runs: Vec<AskedRun>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskedRun {
    pub dir: PathBuf,
    pub at: Option<At>,
}

/// Which evaluation of a run of train.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    First,
    /// The last that has ended.
    Last,
    /// The one after so many steps.
    Step(u64),
}

impl Asked {
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        // A path with `=` in it is told from a name by its `/`, such as that of `./a=b`.
        let (name, runs) = match text.split_once('=') {
            Some((name, runs)) if is_run_name(name) => (Some(name.to_owned()), runs),
            _ => (None, text),
        };
        let runs: Vec<&str> = match name {
            Some(_) => runs.split(',').collect(),
            None => vec![runs],
        };
        let runs = runs.into_iter().map(AskedRun::parse).collect::<Result<Vec<_>, _>>()?;
        // It would look like a seed that makes no difference.
        let is_twice = |run: &&AskedRun| runs.iter().filter(|other| other == run).count() > 1;
        match runs.iter().find(is_twice) {
            Some(run) => Err(format!("{} twice", run.dir.display())),
            None => Ok(Self { name, runs }),
        }
    }
}

impl AskedRun {
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("an empty path".to_owned());
        }
        // The folders above it may have an @ in their names, a run's has none.
        let (dir, at) = match text.rsplit_once('@') {
            Some((dir, at)) if !at.contains('/') => (dir, Some(at)),
            _ => (text, None),
        };
        let at = at.map(|at| match at {
            "first" => Ok(At::First),
            "last" => Ok(At::Last),
            step => step.parse().map(At::Step).map_err(|_| format!("`@{step}`")),
        });
        Ok(Self { dir: PathBuf::from(dir), at: at.transpose()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(dir: &str, at: Option<At>) -> AskedRun {
        AskedRun { dir: PathBuf::from(dir), at }
    }

    #[test]
    fn a_row_is_a_run_an_evaluation_or_several_under_a_name() {
        for (text, name, runs) in [
            ("runs/a", None, vec![run("runs/a", None)]),
            ("runs/a@20", None, vec![run("runs/a", Some(At::Step(20)))]),
            ("/home/me@work/a", None, vec![run("/home/me@work/a", None)]),
            ("runs/x=1,y", None, vec![run("runs/x=1,y", None)]),
            (
                "warm=runs/a@first,runs/b@last",
                Some("warm"),
                vec![run("runs/a", Some(At::First)), run("runs/b", Some(At::Last))],
            ),
        ] {
            let asked = Asked { name: name.map(str::to_owned), runs };
            assert_eq!(Asked::parse(text), Ok(asked), "{text}");
        }
    }

    #[test]
    fn what_is_no_row_says_what_is_wrong() {
        for (text, wrong) in [
            ("", "an empty path"),
            ("a=", "an empty path"),
            ("a=runs/b,", "an empty path"),
            ("a=runs/b,runs/c,runs/b", "runs/b twice"),
            ("runs/a@newest", "`@newest`"),
            ("runs/a@-1", "`@-1`"),
        ] {
            assert_eq!(Asked::parse(text), Err(wrong.to_owned()), "{text}");
        }
    }
}
