use super::*;
use crate::collective::RankId;
use crate::collective::fixture_tests::TIMEOUT;

fn place(epoch: u64, rank: usize, world_size: u32) -> Place {
    let member = |id| Member { id: RankId(id), node: String::new() };
    Place { epoch, rank, members: (0..world_size).map(member).collect() }
}

#[tokio::test(start_paused = true)]
async fn members_of_an_epoch_find_each_other_and_nobody_else() {
    let exchange = Exchange::new(TIMEOUT);
    let form = |epoch, rank| {
        let exchange = exchange.clone();
        tokio::spawn(async move {
            let (collective, _abort) = exchange.form(&place(epoch, rank, 2)).await.unwrap();
            tokio::task::spawn_blocking(move || {
                let mut collective = collective;
                let mut values = [epoch as f32, collective.rank() as f32];
                collective.all_reduce(&mut values).unwrap();
                values
            })
            .await
            .unwrap()
        })
    };
    let members = [form(1, 0), form(2, 1), form(1, 1), form(2, 0)];
    let sums = futures_util::future::join_all(members).await;
    let sums: Vec<[f32; 2]> = sums.into_iter().map(Result::unwrap).collect();
    assert_eq!(sums, [[2.0, 1.0], [4.0, 1.0], [2.0, 1.0], [4.0, 1.0]]);
    assert!(exchange.meetings().is_empty());
}

#[tokio::test]
async fn one_alone_waits_for_nobody() {
    let (mut collective, abort) = Exchange::new(TIMEOUT).form(&place(1, 0, 1)).await.unwrap();
    assert_eq!(collective.all_reduce(&mut [1.0]), Ok(()));
    abort.abort("enough");
    assert!(collective.all_reduce(&mut [1.0]).is_err());
}

#[tokio::test(start_paused = true)]
async fn who_does_not_come_is_named_by_all_who_wait() {
    let exchange = Exchange::new(TIMEOUT);
    let late = async {
        tokio::time::sleep(TIMEOUT / 2).await; // Of paused time.
        exchange.form(&place(1, 2, 3)).await
    };
    let (first, (second, third)) = (place(1, 0, 3), (place(1, 1, 3), late));
    let ended = tokio::join!(exchange.form(&first), third);
    for ended in [ended.0, ended.1] {
        let error = ended.map(|_| ()).unwrap_err();
        assert_eq!(error, CollectiveError::TimedOut { rank: 1, after: TIMEOUT });
    }
    assert!(exchange.meetings().is_empty());
    // It comes to an empty room.
    let error = exchange.form(&second).await.map(|_| ()).unwrap_err();
    assert_eq!(error, CollectiveError::TimedOut { rank: 0, after: TIMEOUT });
}

#[tokio::test(start_paused = true)]
async fn who_no_longer_waits_is_not_counted() {
    let exchange = Exchange::new(TIMEOUT);
    let place = |rank| place(3, rank, 2);
    let (first, second) = (place(0), place(1));
    let impatient = timeout(TIMEOUT / 2, exchange.form(&first)).await;
    assert!(impatient.is_err());
    assert!(exchange.meetings().is_empty());
    // It comes again, and is let in.
    let (one, other) = tokio::join!(exchange.form(&second), exchange.form(&first));
    assert!(one.is_ok() && other.is_ok());
}

#[tokio::test(start_paused = true)]
async fn who_has_another_idea_of_the_epoch_is_refused() {
    let exchange = Exchange::new(TIMEOUT);
    let (first, second) = (place(1, 0, 2), place(1, 1, 2));
    let others = async {
        for other in [place(1, 1, 3), place(1, 0, 2), place(1, 2, 2)] {
            let refused = exchange.form(&other).await.map(|_| ());
            assert!(matches!(refused, Err(CollectiveError::Mismatch { .. })), "{refused:?}");
        }
        exchange.form(&second).await
    };
    let (one, other) = tokio::join!(exchange.form(&first), others);
    assert!(one.is_ok() && other.is_ok());
}
