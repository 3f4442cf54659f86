//! Folders for tests: files by their paths, in a temporary folder that goes away with the fixture.

use std::fs;
use std::path::PathBuf;

pub(crate) struct Fixture(tempfile::TempDir);

impl Fixture {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// A Harbor task without fault in the folder `name`.
    pub(crate) fn harbor(name: &str) -> Self {
        Self::new().with_harbor(name)
    }

    pub(crate) fn with_harbor(self, name: &str) -> Self {
        self.file(&format!("{name}/task.toml"), "schema_version = \"1.4\"\n")
            .file(&format!("{name}/instruction.md"), "Make it work.\n")
            .file(&format!("{name}/environment/Dockerfile"), "FROM scratch\n")
            .file(&format!("{name}/tests/test.sh"), "echo 1 > /logs/verifier/reward.txt\n")
            .file(&format!("{name}/solution/solve.sh"), "true\n")
    }

    /// A Terminal-Bench 1 task without fault in the folder `name`.
    pub(crate) fn terminal_bench(name: &str) -> Self {
        Self::new()
            .file(&format!("{name}/task.yaml"), "instruction: |-\n  Make it work.\n")
            .file(&format!("{name}/Dockerfile"), "FROM scratch\n")
            .file(&format!("{name}/run-tests.sh"), "pytest $TEST_DIR/test_outputs.py -rA\n")
            .file(&format!("{name}/tests/test_outputs.py"), "def test_it(): pass\n")
            .file(&format!("{name}/solution.sh"), "true\n")
    }

    pub(crate) fn file(self, path: &str, content: impl AsRef<[u8]>) -> Self {
        let at = self.at(path);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        fs::write(at, content).unwrap();
        self
    }

    pub(crate) fn link(self, path: &str, target: &str) -> Self {
        std::os::unix::fs::symlink(target, self.at(path)).unwrap();
        self
    }

    pub(crate) fn without(self, path: &str) -> Self {
        let at = self.at(path);
        if at.is_dir() { fs::remove_dir_all(at) } else { fs::remove_file(at) }.unwrap();
        self
    }

    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    /// A message with the fixture's paths made relative.
    pub(crate) fn relative(&self, message: impl ToString) -> String {
        let root = self.0.path().display().to_string();
        message.to_string().replace(&format!("{root}/"), "").replace(&root, ".")
    }
}

/// A data set's row without fault.
pub(crate) const ORCA_CSV: &str = r#"task_id,prompt,dockerfile,test_functions,test_weights
row_1,Make it work.,FROM scratch,def test_it(): pass,"{""test_it"": 1}"
"#;

/// A CSV file with the columns of the first row.
pub(crate) fn orca_csv(rows: &[Vec<(String, String)>]) -> Vec<u8> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(rows[0].iter().map(|(column, _)| column)).unwrap();
    for row in rows {
        writer.write_record(row.iter().map(|(_, value)| value)).unwrap();
    }
    writer.into_inner().unwrap()
}
