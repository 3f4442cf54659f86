//! The memory of this process and of the machine, as the kernel counts it; 0 where it does not say.

const STATUS: &str = "/proc/self/status";

/// Resident now.
pub fn resident_bytes() -> u64 {
    line(STATUS, "VmRSS:")
}

/// The most that was ever resident.
pub fn resident_bytes_peak() -> u64 {
    line(STATUS, "VmHWM:")
}

/// What the machine could still give without swapping.
pub fn free_bytes() -> u64 {
    line("/proc/meminfo", "MemAvailable:")
}

fn line(file: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
