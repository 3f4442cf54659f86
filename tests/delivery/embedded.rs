//! To an engine of this process, running or not.

use orcapack::embedded::Engines;
use orcapack::shelf::PutError;
use orcapack::train::delivery::embedded::Embedded;
use orcapack::train::delivery::{Deliveries, Delivery, DeliveryError};
use orcapack_trainer::engine::weights::EngineWeights;
use orcapack_trainer::model::config::ModelConfig;

use super::*;

#[tokio::test]
async fn an_engine_that_runs_samples_with_what_is_delivered_from_the_next_token_on() {
    let (dir, engines) = (policy_dir(1), Engines::default());
    let delivery = Embedded::new(engines.of_run("").shelf(dir.path()));
    let sampler = sampler(&engines, dir.path());
    let before = sample(&sampler).await;
    assert_eq!((version(&before), tokens(&before)), (0, sampled_with(1).await));
    let delivered = delivery.deliver(&snapshot(dir.path(), 2, 3)).await.unwrap();
    assert_eq!((delivered.targets.len(), delivered.lost.len()), (1, 0));
    let after = sample(&sampler).await;
    assert_eq!((version(&after), tokens(&after)), (3, sampled_with(2).await));
}

#[tokio::test]
async fn wd_2_an_engine_that_starts_later_begins_with_what_was_delivered() {
    let (dir, engines) = (policy_dir(1), Engines::default());
    let delivery = Embedded::new(engines.of_run("").shelf(dir.path()));
    delivery.deliver(&snapshot(dir.path(), 2, 3)).await.unwrap();
    // Twice: the engine ends with the last model that uses it.
    for _ in 0..2 {
        let sampler = sampler(&engines, dir.path());
        let first = sample(&sampler).await;
        assert_eq!((version(&first), tokens(&first)), (3, sampled_with(2).await));
        drop(sampler);
        assert_eq!(engines.in_use(), 0);
    }
}

#[tokio::test]
async fn what_is_delivered_while_an_engine_starts_is_what_it_samples_with() {
    let (dir, engines) = (policy_dir(1), Engines::default());
    let delivery = Embedded::new(engines.of_run("").shelf(dir.path()));
    let sampler = sampler(&engines, dir.path());
    let weights = snapshot(dir.path(), 2, 3);
    let (first, delivered) = tokio::join!(sample(&sampler), delivery.deliver(&weights));
    delivered.unwrap();
    assert_eq!(first.ids.len(), first.versions.len());
    assert_eq!(version(&sample(&sampler).await), 3);
}

#[tokio::test]
async fn wd_1_no_version_goes_back() {
    let (dir, engines) = (policy_dir(1), Engines::default());
    let delivery = Embedded::new(engines.of_run("").shelf(dir.path()));
    let sampler = sampler(&engines, dir.path());
    sample(&sampler).await;
    let (five, four) = (snapshot(dir.path(), 2, 5), snapshot(dir.path(), 3, 4));
    delivery.deliver(&five).await.unwrap();
    let refused = delivery.deliver(&four).await.unwrap_err();
    assert!(matches!(refused, DeliveryError::Older { version: 4, newest: 5 }), "{refused}");
    delivery.deliver(&five).await.unwrap();
    assert_eq!(version(&sample(&sampler).await), 5);
    // In any order at once, the newest is what stays.
    let (six, seven) = (snapshot(dir.path(), 4, 6), snapshot(dir.path(), 5, 7));
    let (_, newest) = tokio::join!(delivery.deliver(&six), delivery.deliver(&seven));
    newest.unwrap();
    assert_eq!(version(&sample(&sampler).await), 7);
}

#[tokio::test]
async fn a_later_life_of_a_run_may_begin_at_an_earlier_version() {
    let (dir, engines) = (policy_dir(1), Engines::default());
    let shelf = engines.of_run("r").shelf(dir.path());
    let pack = |seed, version| {
        Arc::new(EngineWeights::of_snapshot(&snapshot(dir.path(), seed, version)).unwrap())
    };
    let sampler = sampler(&engines.of_run("r"), dir.path());
    shelf.put(1, pack(2, 9)).await.unwrap();
    assert_eq!(version(&sample(&sampler).await), 9);
    shelf.put(2, pack(3, 4)).await.unwrap();
    assert_eq!(version(&sample(&sampler).await), 4);
    let late = shelf.put(1, pack(4, 10)).await.unwrap_err();
    assert!(matches!(late, PutError::Older(..)), "{late}");
    assert_eq!(version(&sample(&sampler).await), 4);
}

#[tokio::test]
async fn runs_share_no_weights() {
    let (dir, engines) = (policy_dir(1), Engines::default());
    let delivery = Embedded::new(engines.of_run("trains").shelf(dir.path()));
    delivery.deliver(&snapshot(dir.path(), 2, 3)).await.unwrap();
    let trains = sampler(&engines.of_run("trains"), dir.path());
    let other = sampler(&engines.of_run("other"), dir.path());
    assert_eq!(version(&sample(&trains).await), 3);
    assert_eq!(version(&sample(&other).await), 0);
    assert_eq!(engines.in_use(), 2);
}

#[tokio::test]
async fn weights_of_another_model_change_nothing() {
    let (dir, engines) = (policy_dir(1), Engines::default());
    let delivery = Embedded::new(engines.of_run("").shelf(dir.path()));
    let sampler = sampler(&engines, dir.path());
    let other = ModelConfig { num_hidden_layers: 1, ..ModelConfig::small(320, 1) };
    let other = Parameters::random(&other, 1, &Device::Cpu).unwrap();
    let other = Snapshot::of(&other, 3).unwrap();
    let refused = delivery.deliver(&other).await.unwrap_err();
    assert!(matches!(refused, DeliveryError::Embedded(PutError::OtherModel)), "{refused}");
    assert_eq!(version(&sample(&sampler).await), 0);
}

#[tokio::test]
async fn several_ways_are_one_delivery() {
    let (dir, engines) = (policy_dir(1), Engines::default());
    let way = |run| -> Box<dyn Delivery> {
        Box::new(Embedded::new(engines.of_run(run).shelf(dir.path())))
    };
    let all = Deliveries(vec![way("a"), way("b")]);
    let delivered = all.deliver(&snapshot(dir.path(), 2, 1)).await.unwrap();
    assert_eq!(delivered.targets.len(), 2);
}
