//! The process trees under the guest agent, as `/proc` shows them, and how to end one for certain.

use std::collections::{HashMap, HashSet};
use std::fs;

use super::guest_sys::{self as sys, Pid};

/// A pass sees what the processes that were not stopped yet have forked meanwhile; each pass stops
/// nearly all of them.
const STOP_PASSES_MAX: usize = 50;

/// Kills every process under `root`, and `root` itself. False when they fork faster than they can
/// be stopped: again.
#[must_use]
pub fn kill_tree(root: Pid) -> bool {
    let whole = kill_all(|| descendants(root));
    if whole {
        let _ = sys::kill(root, sys::SIGKILL);
    }
    whole
}

/// Kills what was left to PID 1 by supervisors that did not see their tree's end.
#[must_use]
pub fn kill_strays(supervisors: &[Pid]) -> bool {
    kill_all(|| {
        let mut parents = parents();
        parents.retain(|pid, _| !supervisors.contains(pid));
        under(&parents, std::process::id() as Pid)
    })
}

/// How many processes there are, and how many bytes they hold in memory.
pub fn usage() -> (u32, u64) {
    const PAGE_BYTES: u64 = 4096;
    let mut usage = (0, 0);
    for pid in parents().keys() {
        let pages = fs::read_to_string(format!("/proc/{pid}/statm")).ok();
        let pages = pages.as_deref().and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
        usage.0 += 1;
        usage.1 += pages.unwrap_or(0) * PAGE_BYTES;
    }
    usage
}

/// Stopped first and killed only when no new one appears: a process that forks on the death of
/// another gets no turn.
fn kill_all(find: impl Fn() -> Vec<Pid>) -> bool {
    let mut stopped = HashSet::new();
    let mut settled = false;
    for _ in 0..STOP_PASSES_MAX {
        let fresh: Vec<Pid> = find().into_iter().filter(|pid| stopped.insert(*pid)).collect();
        if fresh.is_empty() {
            settled = true;
            break;
        }
        for pid in fresh {
            let _ = sys::kill(pid, sys::SIGSTOP);
        }
    }
    for pid in stopped {
        let _ = sys::kill(pid, sys::SIGKILL);
    }
    settled
}

fn descendants(root: Pid) -> Vec<Pid> {
    under(&parents(), root)
}

fn under(parents: &HashMap<Pid, Pid>, root: Pid) -> Vec<Pid> {
    let mut children: HashMap<Pid, Vec<Pid>> = HashMap::new();
    for (pid, parent) in parents {
        children.entry(*parent).or_default().push(*pid);
    }
    let mut found = Vec::new();
    let mut open = vec![root];
    while let Some(pid) = open.pop() {
        // Taken out, so that even a picture of /proc with a circle in it, torn by reused numbers,
        // comes to an end.
        for child in children.remove(&pid).unwrap_or_default() {
            found.push(child);
            open.push(child);
        }
    }
    found
}

/// Every process of this PID namespace with its parent.
fn parents() -> HashMap<Pid, Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<Pid>().ok());
    pids.filter_map(|pid| {
        let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
        Some((pid, parent_in(&stat)?))
    })
    .collect()
}

/// The name in the second field may hold anything, parentheses and blanks too; the last `)` ends
/// it.
fn parent_in(stat: &[u8]) -> Option<Pid> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(stat.get(end + 1..)?).ok()?;
    rest.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{parent_in, under};

    #[test]
    fn a_process_cannot_hide_its_parent_behind_its_name() {
        assert_eq!(parent_in(b"7 (sh) S 3 7 7 0"), Some(3));
        assert_eq!(parent_in(b"7 (a) S 1 (b) S 3 7"), Some(3));
        assert_eq!(parent_in(b"7 (sh S 3"), None);
        assert_eq!(parent_in(b""), None);
    }

    #[test]
    fn a_tree_holds_grandchildren_and_nothing_else() {
        let parents = [(2, 1), (3, 2), (4, 3), (5, 1), (6, 5), (8, 9), (9, 8)].into();
        let mut tree = under(&parents, 2);
        tree.sort_unstable();
        assert_eq!(tree, [3, 4]);
        assert_eq!(under(&parents, 8), [9, 8]);
    }
}
