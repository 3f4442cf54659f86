//! "Did you mean": the known name that is nearest to one that was mistyped.

/// The candidate with the fewest typing errors against `name`, if a third of its letters are right
/// at all.
pub fn nearest<'c>(name: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let limit = (name.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Optimal string alignment: insertions, deletions, substitutions and swaps of neighbours, each
/// counting 1.
pub fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before_last = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let substituted = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = substituted.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before_last[j - 2] + 1);
            }
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_swap_and_a_missing_letter_are_one_error_each() {
        assert_eq!(distance("memroy_mb", "memory_mb"), 1);
        assert_eq!(distance("memory_m", "memory_mb"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(nearest("memroy_mb", ["cpus", "memory_mb", "memory"]), Some("memory_mb"));
    }

    #[test]
    fn a_name_unlike_all_others_has_no_nearest() {
        assert_eq!(nearest("colour", ["cpus", "memory_mb"]), None);
    }
}
