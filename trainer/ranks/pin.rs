//! Threads and the cores that they may run on.

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// The cores that a thread could run on before it was pinned.
#[derive(Clone, Copy)]
pub struct Before(CpuSet);

impl Before {
    /// Lets this thread run on them.
    ///
    /// # Errors
    /// The kernel's.
    pub fn restore(&self) -> Result<(), Errno> {
        sched_setaffinity(Pid::from_raw(0), &self.0)
    }
}

/// Keeps this thread, and those that it starts, on `threads` cores of those that it may use: each
/// rank has others, as long as there are enough.
///
/// # Errors
/// The kernel's.
pub fn pin(rank: usize, threads: usize) -> Result<Before, Errno> {
    let this = Pid::from_raw(0);
    let before = sched_getaffinity(this)?;
    let may: Vec<usize> =
        (0..CpuSet::count()).filter(|core| before.is_set(*core).unwrap_or(false)).collect();
    let mut own = CpuSet::new();
    for core in cores(&may, rank, threads) {
        own.set(core)?;
    }
    sched_setaffinity(this, &own)?;
    Ok(Before(before))
}

fn cores(may: &[usize], rank: usize, threads: usize) -> Vec<usize> {
    let first = rank * threads;
    let threads = threads.min(may.len());
    (first..first + threads).map(|at| may[at % may.len()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_have_cores_of_their_own_as_long_as_there_are_some() {
        let may = [2, 3, 5, 7];
        assert_eq!(cores(&may, 0, 2), [2, 3]);
        assert_eq!(cores(&may, 1, 2), [5, 7]);
        assert_eq!(cores(&may, 2, 2), [2, 3]);
        assert_eq!(cores(&may, 1, 3), [7, 2, 3]);
        assert_eq!(cores(&may, 0, 9), [2, 3, 5, 7]);
    }

    #[test]
    fn a_pinned_thread_stays_where_it_is_put_until_it_is_let_go() {
        std::thread::spawn(|| {
            fn count() -> usize {
                let own = sched_getaffinity(Pid::from_raw(0)).unwrap();
                (0..CpuSet::count()).filter(|core| own.is_set(*core).unwrap()).count()
            }
            let all = count();
            let before = pin(1, 1).unwrap();
            assert_eq!((count(), std::thread::spawn(count).join().unwrap()), (1, 1));
            before.restore().unwrap();
            assert_eq!(count(), all);
        })
        .join()
        .unwrap();
    }
}
