//! Limits on what a task may hold. A data set comes from strangers: nothing in it is read without a
//! bound.

/// One file, in bytes.
pub const FILE_BYTES_MAX: u64 = 64 << 20;
/// All the files of one task, in bytes.
pub const TASK_BYTES_MAX: u64 = 256 << 20;
/// All the files of one task.
pub const TASK_FILES_MAX: usize = 4096;
/// Folders inside folders, counted from the task's own.
pub const FOLDER_DEPTH_MAX: usize = 16;
/// Larger files are read again when they are needed, rather than kept in memory; in bytes.
pub const INLINE_BYTES_MAX: u64 = 64 << 10;

/// `instruction.md`, in bytes.
pub const INSTRUCTION_BYTES_MAX: u64 = 1 << 20;
/// `task.toml`, `task.yaml`, `docker-compose.yaml`, `solution.yaml`: each in bytes.
pub const TASK_CONFIG_BYTES_MAX: u64 = 256 << 10;
/// `dataset.toml`, in bytes: room for about 100,000 tasks.
pub const MANIFEST_BYTES_MAX: u64 = 16 << 20;
/// A data set in one CSV file, in bytes.
pub const CSV_BYTES_MAX: u64 = 512 << 20;
/// How deep under a data set's folder tasks are looked for.
pub const SEARCH_DEPTH_MAX: usize = 3;

/// The shortest and the longest time limit a task may ask for, in seconds: a week.
pub const TIMEOUT_SEC_MIN: f64 = 0.001;
pub const TIMEOUT_SEC_MAX: f64 = 7.0 * 24.0 * 3600.0;
pub const CPUS_MIN: f64 = 0.01;
pub const CPUS_MAX: f64 = 1024.0;
/// The least memory in which a container engine starts anything, in MiB.
pub const MEMORY_MB_MIN: u64 = 6;
pub const MEMORY_MB_MAX: u64 = 16 << 20;
pub const STORAGE_MB_MAX: u64 = 64 << 20;
/// Failed health checks in a row.
pub const RETRIES_MAX: u64 = 1000;
