use std::path::PathBuf;

use super::*;

fn nodes(names: &[&str]) -> Vec<NodeId> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

#[test]
fn ranks_are_dealt_to_nodes_in_turn_and_those_of_one_stand_beside_each_other() {
    let dealt = |count, names: &[&str]| {
        let dealt = deal(count, &nodes(names)).into_iter();
        dealt.map(|node| node.to_string()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(dealt(2, &["n1", "n2"]), "n1 n2");
    assert_eq!(dealt(3, &["n2", "n1"]), "n2 n2 n1");
    assert_eq!(dealt(4, &["b", "a", "b"]), "b b b a");
    assert_eq!(dealt(3, &["n1"]), "n1 n1 n1");
}

#[test]
fn what_a_rank_learns_with_is_the_same_on_its_node() {
    let defaults = || TrainConfig::defaults(4, PathBuf::from("/cache"));
    let mut config = defaults();
    config.eval.run.dataset = PathBuf::from("/tasks");
    config.policy.base = PathBuf::from("/policies/p");
    config.train.learning.lr = 3.3e-5;
    config.loss.0.kl_coef = 0.01;
    config.ranks.count = 2;
    config.ranks.nodes = vec!["n1".to_owned(), "n2".to_owned()];
    let there = read(&text(&config).unwrap(), defaults()).unwrap();
    assert_eq!((&there.policy, &there.train), (&config.policy, &config.train));
    assert_eq!((&there.loss, &there.ranks), (&config.loss, &config.ranks));
    assert!(read("[train]\nlr = -1", defaults()).is_err());
}
