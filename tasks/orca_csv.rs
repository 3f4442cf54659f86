//! The Orca data set: one CSV file, a task in each row, file bodies in its cells, no solutions.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use csv::StringRecord;
use serde_json::Value;

use crate::caps::{CSV_BYTES_MAX, FILE_BYTES_MAX, INSTRUCTION_BYTES_MAX, TASK_FILES_MAX};
use crate::defect::{Defect, Defects};
use crate::file_tree::{Digest, FileTree};
use crate::harbor_environment::check_dockerfile;
use crate::near::nearest;
use crate::task::{
    AgentSpec, EnvironmentSpec, Format, Grading, ImageSource, NetworkPolicy, RewardStrategy, Step,
    Task, VerifierMode, VerifierSpec,
};
use crate::task_digest;

/// The format gives no time limits; these are Harbor's defaults.
const TIMEOUT: Duration = Duration::from_secs(600);
/// How far the weights' sum may be from 1, for rounded decimals.
const WEIGHTS_SUM_TOLERANCE: f64 = 0.001;
const SCRIPT: &str = "#!/bin/bash\nexec pytest -rA -p no:cacheprovider /tests/test_outputs.py\n";
const NEEDED: [&str; 5] = ["task_id", "prompt", "dockerfile", "test_functions", "test_weights"];
const OPTIONAL: [&str; 8] = [
    "difficulty",
    "title",
    "use_case_category",
    "category",
    "tags",
    "additional_files",
    "created_at",
    "updated_at",
];

/// The good rows as tasks, and the others by their label with what is wrong with them.
#[derive(Debug, Default)]
pub struct Rows {
    pub tasks: Vec<Task>,
    pub defects: Vec<(String, Defects)>,
}

/// An error is one of the file as a whole.
pub fn read(path: &Path) -> Result<Rows, Defects> {
    let fault = |expected: &str, found: String| Defects::from(Defect::new(path, expected, found));
    let metadata = path.metadata().map_err(|error| fault("a CSV file", error.to_string()))?;
    if metadata.len() > CSV_BYTES_MAX {
        let expected = format!("a file of at most {CSV_BYTES_MAX} bytes");
        return Err(fault(&expected, metadata.len().to_string()));
    }
    let mut reader =
        csv::Reader::from_path(path).map_err(|error| fault("a CSV file", error.to_string()))?;
    let headers = reader.headers().map_err(|error| fault("a row of columns", error.to_string()))?;
    let columns = columns(path, headers)?;
    let mut rows = Rows::default();
    let mut ids = BTreeMap::new();
    for record in reader.records() {
        match record {
            Ok(record) => {
                let row = Row { file: path, columns: &columns, record: &record };
                let first = *ids.entry(row.label()).or_insert(row.line());
                let task = row.task().and_then(|task| {
                    if first == row.line() {
                        return Ok(task);
                    }
                    let found = format!("that of line {first}");
                    Err(row.defect("task_id", "an id that no other row has", found).into())
                });
                match task {
                    Ok(task) => rows.tasks.push(task),
                    Err(defects) => rows.defects.push((row.label(), defects)),
                }
            }
            Err(error) => {
                let line = error.position().map_or(1, line_of);
                let defect = Defect::new(path, "a row of the file's columns", reason(&error));
                rows.defects.push((format!("line {line}"), defect.at_line(line).into()));
                if error.is_io_error() {
                    break;
                }
            }
        }
    }
    Ok(rows)
}

fn line_of(position: &csv::Position) -> usize {
    usize::try_from(position.line()).unwrap_or(usize::MAX)
}

fn reason(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("{len} cells where there are {expected_len} columns")
        }
        csv::ErrorKind::Utf8 { .. } => "text that is not UTF-8".to_owned(),
        _ => error.to_string(),
    }
}

/// The place of each column, whatever their order.
fn columns(path: &Path, headers: &StringRecord) -> Result<BTreeMap<String, usize>, Defects> {
    let known = || NEEDED.into_iter().chain(OPTIONAL);
    let mut defects = Defects::default();
    let mut columns = BTreeMap::new();
    for (i, name) in headers.iter().enumerate() {
        let name = name.trim_start_matches('\u{feff}').trim();
        let defect = |expected: String, found: String| {
            Defect::new(path, expected, found).at_line(1).at_key(name)
        };
        if !known().any(|known| known == name) {
            let hint = nearest(name, known()).map(|name| format!(" (did you mean `{name}`?)"));
            let one_of = format!("one of: {}", known().collect::<Vec<_>>().join(", "));
            let found = format!("unknown column `{name}`{}", hint.unwrap_or_default());
            defects.0.push(defect(one_of, found));
        } else if columns.insert(name.to_owned(), i).is_some() {
            defects.0.push(defect("one column of that name".to_owned(), "two".to_owned()));
        }
    }
    for name in NEEDED.into_iter().filter(|name| !columns.contains_key(*name)) {
        defects.0.push(Defect::new(path, "a column of that name", "none").at_line(1).at_key(name));
    }
    defects.into_result(columns)
}

struct Row<'a> {
    file: &'a Path,
    columns: &'a BTreeMap<String, usize>,
    record: &'a StringRecord,
}

impl Row<'_> {
    fn cell(&self, column: &str) -> &str {
        self.columns.get(column).and_then(|at| self.record.get(*at)).unwrap_or_default()
    }

    fn opt_cell(&self, column: &str) -> Option<String> {
        Some(self.cell(column).trim()).filter(|cell| !cell.is_empty()).map(str::to_owned)
    }

    fn line(&self) -> usize {
        self.record.position().map_or(1, line_of)
    }

    fn label(&self) -> String {
        self.opt_cell("task_id").unwrap_or_else(|| format!("line {}", self.line()))
    }

    fn defect(&self, column: &str, expected: &str, found: impl Into<String>) -> Defect {
        Defect::new(self.file, expected, found).at_line(self.line()).at_key(column)
    }

    fn task(&self) -> Result<Task, Defects> {
        let mut defects = Vec::new();
        self.texts(&mut defects);
        let mut task = Task {
            name: self.cell("task_id").trim().to_owned(),
            source: self.file.to_owned(),
            format: Format::Orca,
            digest: Digest([0; 32]),
            description: self.cell("title").to_owned(),
            difficulty: self.opt_cell("difficulty"),
            category: self.opt_cell("category").or_else(|| self.opt_cell("use_case_category")),
            tags: self.tags(),
            environment: EnvironmentSpec {
                image: ImageSource::Dockerfile(self.context(&mut defects)),
                build_timeout: TIMEOUT,
                cpus: None,
                memory_mb: None,
                storage_mb: None,
                env: BTreeMap::new(),
                workdir: None,
                network: NetworkPolicy::Public,
                healthcheck: None,
            },
            steps: vec![self.step(&mut defects)],
            reward_strategy: RewardStrategy::Mean,
            known_bad: Vec::new(),
            keep_processes: false,
        };
        task.digest = task_digest::of(&task);
        Defects(defects).into_result(task)
    }

    fn texts(&self, defects: &mut Vec<Defect>) {
        let id = self.cell("task_id").trim();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if id.is_empty() || id.starts_with('.') || !id.chars().all(plain) {
            let expected = "a name of letters, digits, `-`, `_`, `.`";
            defects.push(self.defect("task_id", expected, format!("{id:?}")));
        }
        for column in ["prompt", "test_functions"] {
            if self.cell(column).trim().is_empty() {
                defects.push(self.defect(column, "a text", "an empty cell"));
            }
        }
        for (column, bytes_max) in [
            ("prompt", INSTRUCTION_BYTES_MAX),
            ("test_functions", FILE_BYTES_MAX),
            ("dockerfile", FILE_BYTES_MAX),
        ] {
            let len = self.cell(column).len() as u64;
            if len > bytes_max {
                let expected = format!("at most {bytes_max} bytes");
                defects.push(self.defect(column, &expected, len.to_string()));
            }
        }
    }

    /// A JSON array of strings, or words with commas between them.
    fn tags(&self) -> Vec<String> {
        let cell = self.cell("tags").trim();
        let tags = serde_json::from_str(cell)
            .unwrap_or_else(|_| cell.split(',').map(str::to_owned).collect::<Vec<_>>());
        tags.iter().map(|tag| tag.trim().to_owned()).filter(|tag| !tag.is_empty()).collect()
    }

    fn context(&self, defects: &mut Vec<Defect>) -> FileTree {
        let mut context = FileTree::default();
        for (path, body) in self.object("additional_files", defects) {
            let Value::String(body) = body else {
                defects.push(self.defect(
                    "additional_files",
                    "bodies as strings",
                    body.to_string(),
                ));
                continue;
            };
            if !FileTree::is_plain_path(&path) || path == "Dockerfile" {
                let expected = "paths inside the build context, other than Dockerfile";
                defects.push(self.defect("additional_files", expected, format!("{path:?}")));
                continue;
            }
            // Scripts come without a mode; a shebang says that the file is to be run.
            context.insert(path, body.as_bytes(), body.starts_with("#!"));
        }
        if context.iter().count() > TASK_FILES_MAX {
            let expected = format!("at most {TASK_FILES_MAX} files");
            defects.push(self.defect("additional_files", &expected, "more"));
        }
        context.insert("Dockerfile", self.cell("dockerfile").as_bytes(), false);
        if let Err(found) = check_dockerfile(&context) {
            defects.push(self.defect("dockerfile", "a Dockerfile with a FROM instruction", found));
        }
        context
    }

    fn step(&self, defects: &mut Vec<Defect>) -> Step {
        let mut tests = FileTree::default();
        tests.insert("test_outputs.py", self.cell("test_functions").as_bytes(), false);
        tests.insert("run-tests.sh", SCRIPT.as_bytes(), true);
        Step {
            name: String::new(),
            instruction: self.cell("prompt").to_owned(),
            agent: AgentSpec { timeout: TIMEOUT, user: None },
            verifier: VerifierSpec {
                timeout: TIMEOUT,
                user: None,
                env: BTreeMap::from([("TEST_DIR".to_owned(), "/tests".to_owned())]),
                mode: VerifierMode::Shared,
                tests,
                script: "/tests/run-tests.sh".to_owned(),
                grading: Grading::Pytest { weights: self.weights(defects) },
                collect: Vec::new(),
            },
            solution: None,
            workdir_files: FileTree::default(),
            healthcheck: None,
            min_reward: None,
            artifacts: Vec::new(),
        }
    }

    fn weights(&self, defects: &mut Vec<Defect>) -> BTreeMap<String, f64> {
        const COLUMN: &str = "test_weights";
        let mut weights = BTreeMap::new();
        for (name, weight) in self.object(COLUMN, defects) {
            let Some(number) = weight.as_f64().filter(|number| (0.0..=1.001).contains(number))
            else {
                let found = format!("{weight} for {name}");
                defects.push(self.defect(COLUMN, "weights from 0 to 1", found));
                continue;
            };
            if !self.has_test(&name) {
                let expected = "names of functions in test_functions";
                defects.push(self.defect(COLUMN, expected, format!("{name:?}")));
            }
            weights.insert(name, number);
        }
        let sum: f64 = weights.values().sum();
        let complete = !defects.iter().any(|defect| defect.key.as_deref() == Some(COLUMN));
        if complete && (sum - 1.0).abs() > WEIGHTS_SUM_TOLERANCE + f64::EPSILON {
            defects.push(self.defect(COLUMN, "weights whose sum is 1", format!("a sum of {sum}")));
        }
        weights
    }

    fn has_test(&self, name: &str) -> bool {
        let function = name.rsplit("::").next().unwrap_or(name);
        let function = function.split('[').next().unwrap_or(function);
        self.cell("test_functions").contains(&format!("def {function}("))
    }

    /// A cell with a JSON object; an empty one is an object without members.
    fn object(&self, column: &str, defects: &mut Vec<Defect>) -> serde_json::Map<String, Value> {
        let cell = self.cell(column).trim();
        if cell.is_empty() {
            return serde_json::Map::new();
        }
        match serde_json::from_str(cell) {
            Ok(Value::Object(object)) => object,
            Ok(Value::Null) => serde_json::Map::new(),
            Ok(_) => {
                defects.push(self.defect(column, "a JSON object", "another JSON value"));
                serde_json::Map::new()
            }
            Err(error) => {
                defects.push(self.defect(column, "a JSON object", error.to_string()));
                serde_json::Map::new()
            }
        }
    }
}

#[cfg(test)]
#[path = "orca_csv_tests.rs"]
mod tests;
