//! Which rank computes which samples. Pure.

/// The samples of each of `world_size` ranks, ascending, by their numbers of tokens: the longest
/// goes first, each to the rank that has the fewest tokens so far, the lower where they are equal.
/// The fullest rank has at most 4/3 of the least possible (Graham 1969). `world_size`: 1 or more.
pub fn shards(tokens: &[usize], world_size: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..tokens.len()).collect();
    // A stable sort: samples of one length keep their order.
    order.sort_by_key(|index| std::cmp::Reverse(tokens[*index]));
    let mut loads = vec![0; world_size];
    let mut shards = vec![Vec::new(); world_size];
    for index in order {
        let least = loads.iter().enumerate().min_by_key(|(rank, load)| (**load, *rank));
        if let Some((rank, _)) = least {
            loads[rank] += tokens[index];
            shards[rank].push(index);
        }
    }
    shards.iter_mut().for_each(|shard| shard.sort_unstable());
    shards
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_longest_go_first_and_ties_to_the_lower_rank() {
        assert_eq!(shards(&[1, 5, 3, 3], 2), [vec![0, 1], vec![2, 3]]);
        assert_eq!(shards(&[2, 2, 2], 2), [vec![0, 2], vec![1]]);
        assert_eq!(shards(&[7], 3), [vec![0], vec![], vec![]]);
        assert_eq!(shards(&[], 1), [Vec::<usize>::new()]);
    }

    proptest! {
        #[test]
        fn every_sample_has_one_rank_and_no_rank_has_much_more_than_its_part(
            tokens in prop::collection::vec(1_usize..1000, 0..60),
            world_size in 1_usize..9,
        ) {
            let shards = shards(&tokens, world_size);
            prop_assert_eq!(shards.len(), world_size);
            prop_assert!(shards.iter().all(|shard| shard.is_sorted()));
            let mut all: Vec<usize> = shards.concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..tokens.len()).collect::<Vec<_>>());
            let load = |shard: &Vec<usize>| shard.iter().map(|at| tokens[*at]).sum::<usize>();
            let fullest = shards.iter().map(load).max().unwrap_or(0);
            let (sum, longest) = (tokens.iter().sum::<usize>(), tokens.iter().max());
            let bound = sum as f64 / world_size as f64 + longest.map_or(0.0, |it| *it as f64);
            prop_assert!(fullest as f64 <= bound);
        }
    }
}
