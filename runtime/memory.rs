//! The memory of this process, as the kernel counts it; 0 where it does not say.

/// Resident now.
pub fn resident_bytes() -> u64 {
    line("VmRSS:")
}

/// The most that was ever resident.
pub fn resident_bytes_peak() -> u64 {
    line("VmHWM:")
}

fn line(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
