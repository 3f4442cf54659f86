//! One generated task, as the files of a Harbor directory.

use std::fmt::Write as _;
use std::path::Path;

use crate::defect::Defects;
use crate::file_tree::FileTree;
use crate::generate::random::Random;
use crate::generate::template::{End, Made, Template, quoted};
use crate::import;

#[derive(Debug)]
pub struct Instance {
    /// Of its folder, and after the organisation of its task: the same for the same instance.
    pub name: String,
    /// Whole, with `task.toml` at the root.
    pub files: FileTree,
}

/// Where agents and tests find the files.
const WORKDIR: &str = "/app";

impl Instance {
    pub(super) fn new(
        family: &str,
        template: &Template,
        parameters: usize,
        phrasing: usize,
    ) -> Self {
        let name = format!("{family}-{}-{parameters}-{phrasing}", template.name);
        let values = template.values(parameters);
        let mut random = Random::new(&[family, template.name, "content"], parameters as u64);
        let made = (template.make)(&values, &mut random);
        let mut files = FileTree::default();
        let mut put = |path: &str, text: &str| {
            files.insert(path, text.as_bytes(), path.ends_with(".sh"));
        };
        put("task.toml", &config(family, template, &name));
        put("instruction.md", &(template.instruction(phrasing, &values) + "\n"));
        put("environment/Dockerfile", &dockerfile(&made));
        for (path, text) in &made.start {
            put(&format!("environment/files/{path}"), text);
        }
        if !made.setup.is_empty() {
            put("environment/setup.sh", &script("", &made.setup));
        }
        put("tests/test.sh", &tests(&made.end));
        for (path, text) in &made.hidden {
            put(&format!("tests/{path}"), text);
        }
        put("solution/solve.sh", &script("", &made.solution));
        put("known-bad/nothing.sh", &script("does nothing", &["true".to_owned()]));
        put("known-bad/hard-coded.sh", &script("a fixed answer", &made.hard_coded));
        put("known-bad/near-miss.sh", &script("nearly right", &made.near_miss));
        Self { name, files }
    }

    /// Writes it as a folder of its name into `dir`.
    ///
    /// # Errors
    /// A folder of its name that is there already, or one that cannot be written.
    pub fn write(&self, dir: &Path) -> Result<(), Defects> {
        import::write_folder(&self.files, &dir.join(&self.name))
    }
}

fn config(family: &str, template: &Template, name: &str) -> String {
    let (difficulty, tag) = (template.difficulty.as_str(), template.name);
    format!(
        r#"schema_version = "1.4"

[task]
name = "generated/{name}"
description = "A generated task of family {family}, template {tag}"
keywords = ["{family}", "{tag}"]

[metadata]
difficulty = "{difficulty}"
category = "{family}"
tags = ["{family}", "{tag}"]

[environment]
network_mode = "no-network"
memory_mb = 256

[agent]
timeout_sec = 120.0

[verifier]
timeout_sec = 30.0
"#
    )
}

fn dockerfile(made: &Made) -> String {
    let mut text = format!("FROM orcapack/base:1\nWORKDIR {WORKDIR}\n");
    if !made.start.is_empty() {
        text.push_str("COPY files/ ./\n");
    }
    if !made.setup.is_empty() {
        text.push_str("COPY setup.sh /tmp/setup.sh\n");
        text.push_str("RUN bash -eu /tmp/setup.sh && rm /tmp/setup.sh\n");
    }
    text
}

fn script(wrong: &str, commands: &[String]) -> String {
    let note =
        if wrong.is_empty() { String::new() } else { format!("# Wrong on purpose: {wrong}.\n") };
    let commands: String = commands.iter().map(|command| format!("{command}\n")).collect();
    format!("#!/bin/bash\n{note}{commands}")
}

/// A test for each that must hold. For files no other program than `cat` is started, since hundreds
/// of these run at a time.
fn tests(end: &[End]) -> String {
    let mut script = format!(
        r#"#!/bin/bash
# The reward is 1 when every test passes, else 0.
reward=1
result() {{ # STATUS NAME
  if [ "$1" = 0 ]; then echo "ok: $2"; else echo "not ok: $2"; reward=0; fi
}}
cd {WORKDIR} || exit
"#
    );
    for end in end {
        // Writing into a string cannot fail.
        let _ = match end {
            End::Text(path, text) => {
                let text = quoted(text.trim_end_matches('\n'));
                writeln!(
                    script,
                    "[ -f {path} ] && [ \"$(cat {path})\" = {text} ]\nresult $? 'text of {path}'"
                )
            }
            End::Number(path, number) => writeln!(
                script,
                "[ -f {path} ] && text=$(cat {path}) && [ \"${{text//[[:space:]]}}\" = {number} \
                 ]\nresult $? 'number in {path}'"
            ),
            End::Gone(path) => writeln!(script, "[ ! -e {path} ]\nresult $? 'no {path}'"),
            End::Output(command, text) => {
                let (name, text) = (quoted(command), quoted(text.trim_end_matches('\n')));
                writeln!(script, "text=$({command}) && [ \"$text\" = {text} ]\nresult $? {name}")
            }
            End::Holds(what, command) => {
                writeln!(script, "({command})\nresult $? {}", quoted(what))
            }
        };
    }
    script.push_str("echo $reward > /logs/verifier/reward.txt\n");
    script
}
