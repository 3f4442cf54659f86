//! pass@k: the chance that one of k attempts solves a task.

/// The unbiased estimate from `n` attempts of which `c` passed: 1 - C(n-c, k) / C(n, k).
///
/// Chen et al. 2021, "Evaluating Large Language Models Trained on Code" (arXiv:2107.03374),
/// equation 1, in the product form of its figure 3, which needs no large number. `None` with fewer
/// than `k` attempts, for which there is no unbiased estimate, and for `k` = 0 or more passes than
/// attempts, which mean nothing.
pub fn pass_at_k(n: u64, c: u64, k: u64) -> Option<f64> {
    if k == 0 || n < k || c > n {
        return None;
    }
    if n - c < k {
        return Some(1.0);
    }
    // The chance that none of k attempts, drawn without return, is one of the c that passed. Over
    // the smaller of k and c, by the symmetry C(n-c, k) / C(n, k) = C(n-k, c) / C(n, c).
    let (draws, marked) = (k.min(c), k.max(c));
    let none: f64 = (0..draws).map(|i| 1.0 - marked as f64 / (n - i) as f64).product();
    Some(1.0 - none)
}

/// The mean over tasks of (attempts, passes). `None` without tasks, and where a task has fewer than
/// `k` attempts: a mean over the others would say something about them only.
pub fn mean_pass_at_k(tasks: &[(u64, u64)], k: u64) -> Option<f64> {
    let each: Vec<f64> = tasks.iter().map(|(n, c)| pass_at_k(*n, *c, k)).collect::<Option<_>>()?;
    (!each.is_empty()).then(|| each.iter().sum::<f64>() / each.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binomial(n: u64, k: u64) -> u128 {
        if k > n {
            return 0;
        }
        (0..k).fold(1, |product, i| product * u128::from(n - i) / u128::from(i + 1))
    }

    #[test]
    fn the_estimate_is_the_exact_ratio_of_binomials() {
        for n in 1..=40 {
            for c in 0..=n {
                for k in 1..=n {
                    let exact = 1.0 - binomial(n - c, k) as f64 / binomial(n, k) as f64;
                    let got = pass_at_k(n, c, k).unwrap();
                    assert!((got - exact).abs() < 1e-12, "n={n} c={c} k={k}: {got} != {exact}");
                }
            }
        }
    }

    #[test]
    fn pass_at_1_is_the_share_of_passes_and_k_only_helps() {
        assert_eq!(pass_at_k(5, 2, 1), Some(0.4));
        let rising: Vec<f64> = (1..=100).filter_map(|k| pass_at_k(100, 3, k)).collect();
        assert!(rising.windows(2).all(|pair| pair[0] <= pair[1]));
        assert_eq!(rising.last(), Some(&1.0));
    }

    #[test]
    fn large_counts_stay_finite() {
        let got = pass_at_k(1_000_000, 1, 500_000).unwrap();
        assert!((got - 0.5).abs() < 1e-9, "{got}");
    }

    #[test]
    fn without_k_attempts_there_is_no_estimate() {
        assert_eq!(pass_at_k(2, 1, 3), None);
        assert_eq!(pass_at_k(2, 3, 1), None);
        assert_eq!(pass_at_k(2, 1, 0), None);
        assert_eq!(mean_pass_at_k(&[(3, 1), (2, 1)], 3), None);
        assert_eq!(mean_pass_at_k(&[], 1), None);
        assert_eq!(mean_pass_at_k(&[(4, 1), (2, 1)], 1), Some(0.375));
    }
}
