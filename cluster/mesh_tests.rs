//! Meetings, restarts, clones, and the loss of peers. Time is paused: nothing here waits for real.

use super::*;
use crate::mesh_fixture_tests::*;

over_each_network! {
    three_nodes_meet_whichever_starts_first
    who_does_not_listen_dials_and_need_not_be_known
    a_node_that_the_other_does_not_know_of_is_met_all_the_same
    two_that_dial_each_other_end_up_with_one_session
    who_is_not_listed_is_refused_where_a_list_counts
    another_cluster_is_refused
    a_node_that_leaves_is_down_at_once_and_says_so
    a_restart_is_down_of_the_old_life_and_up_of_the_new
    of_a_node_and_its_clone_the_older_is_fenced
    an_older_life_is_fenced_when_it_comes_late
    an_older_life_is_fenced_by_who_dials_it
    a_lost_connection_comes_back_as_another_session_of_the_same_life
    a_process_that_stands_still_is_suspect_and_then_heard_or_lost
    a_slow_reader_of_events_gets_fewer_of_them_in_order
    a_peer_that_is_closed_is_down_and_the_end_of_a_supervisor_ends_the_mesh
}

async fn three_nodes_meet_whichever_starts_first(net: Net) {
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let net = net.another();
        let mut nodes = Vec::new();
        for index in order {
            let others = (0..3).filter(|other| *other != index).collect::<Vec<_>>();
            nodes.push(net.start(index, &others).await);
        }
        for node in &mut nodes {
            let mut met = [node.up().await.0, node.up().await.0];
            met.sort();
            assert!(!met.contains(&node.id) && met[0] != met[1], "{order:?}");
            assert!(node.mesh.peers().iter().all(|peer| peer.state == PeerState::Up));
        }
        for node in nodes {
            node.mesh.stop().await;
        }
    }
}

async fn who_does_not_listen_dials_and_need_not_be_known(net: Net) {
    let mut big = net.start(5, &[]).await;
    let mut small = net.start_with(Start { listens: false, ..Start::new(1, &[5]) }).await;
    assert_eq!(big.up().await, (id(1), Incarnation(1)));
    assert_eq!(small.up().await, (id(5), Incarnation(1)));
}

async fn a_node_that_the_other_does_not_know_of_is_met_all_the_same(net: Net) {
    let mut knows_nobody = net.start(5, &[]).await;
    let mut newcomer = net.start(1, &[5]).await;
    assert_eq!(knows_nobody.up().await.0, id(1));
    assert_eq!(newcomer.up().await.0, id(5));
    net.cut(1);
    knows_nobody.down().await;
    newcomer.down().await;
    net.heal(1);
    both_up(&mut knows_nobody, &mut newcomer).await;
}

/// Both dial, because each is told of the other late.
async fn two_that_dial_each_other_end_up_with_one_session(net: Net) {
    let mut one = net.start(0, &[]).await;
    let mut two = net.start_with(Start { listens: false, ..Start::new(1, &[]) }).await;
    let address =
        |node: &Node| PeerAddress { node: node.id.clone(), role: Role::Worker, at: at(node.place) };
    one.mesh.set_peers(vec![address(&two)]);
    two.mesh.set_peers(vec![address(&one)]);
    both_up(&mut one, &mut two).await;
    tokio::time::sleep(Duration::from_secs(60)).await; // on paused time
    assert!(one.events.try_recv().is_err() && two.events.try_recv().is_err());
}

async fn who_is_not_listed_is_refused_where_a_list_counts(net: Net) {
    let strict = Start { admits: Admits::Listed, ..Start::new(0, &[1]) };
    let mut strict = net.start_with(strict).await;
    let stranger = net.start(2, &[0]).await;
    let mut friend = net.start(1, &[0]).await;
    assert_eq!(strict.up().await.0, id(1));
    assert_eq!(friend.up().await.0, id(0));
    stranger.problem(0, "closed by the peer: refused").await;
    assert_eq!(strict.mesh.peers().len(), 1);
}

async fn another_cluster_is_refused(net: Net) {
    let _one = net.start(0, &[1]).await;
    let other = Start { cluster: "other", ..Start::new(1, &[0]) };
    let other = net.start_with(other).await;
    other.problem(0, "closed by the peer: refused").await;
}

async fn a_node_that_leaves_is_down_at_once_and_says_so(net: Net) {
    let mut one = net.start(0, &[1]).await;
    let mut two = net.start(1, &[0]).await;
    both_up(&mut one, &mut two).await;
    let began = Instant::now();
    let stop = tokio::spawn(two.mesh.stop());
    assert_eq!(one.down().await, (id(1), Incarnation(1), DownReason::Left));
    assert!(began.elapsed() < Duration::from_millis(50), "{:?}", began.elapsed());
    stop.await.unwrap();
}

async fn a_restart_is_down_of_the_old_life_and_up_of_the_new(net: Net) {
    for (index, other) in [(0, 1), (1, 0)] {
        let net = net.another();
        let mut stays = net.start(other, &[index]).await;
        let old = net.start(index, &[other]).await;
        assert_eq!(stays.up().await, (id(index), Incarnation(1)));
        net.crash(&old);
        let again = Start { incarnation: 2, seed: 99, ..Start::new(index, &[other]) };
        let mut again = net.start_with(again).await;
        let began = Instant::now();
        // By the loss of its connections, or by its next life, whichever is noticed first.
        let (node, incarnation, reason) = stays.down().await;
        assert_eq!((node, incarnation), (id(index), Incarnation(1)));
        assert!(matches!(reason, DownReason::NodeLost | DownReason::Fenced), "{reason:?}");
        assert_eq!(stays.up().await, (id(index), Incarnation(2)));
        again.up().await;
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    }
}

/// The clone has the key and the disk of the node: it claims the same life.
async fn of_a_node_and_its_clone_the_older_is_fenced(net: Net) {
    for incarnation in [1, 2] {
        let net = net.another();
        let mut hub = net.start(0, &[]).await;
        let mut node = net.start_with(Start { listens: false, ..Start::new(1, &[0]) }).await;
        assert_eq!(hub.up().await, (id(1), Incarnation(1)));
        node.up().await;
        let clone = Start { listens: false, incarnation, seed: 7, place: 9, ..Start::new(1, &[0]) };
        let mut clone = net.start_with(clone).await;
        assert_eq!(hub.down().await, (id(1), Incarnation(1), DownReason::Fenced));
        assert_eq!(hub.up().await, (id(1), Incarnation(incarnation)));
        clone.up().await;
        assert_eq!(node.event().await, MeshEvent::Fenced);
        assert_eq!(node.down().await, (id(0), Incarnation(1), DownReason::NodeLost));
        // It does not come back, whatever time passes.
        tokio::time::sleep(Duration::from_secs(60)).await; // on paused time
        assert!(hub.events.try_recv().is_err());
        assert!(clone.events.try_recv().is_err());
    }
}

async fn an_older_life_is_fenced_when_it_comes_late(net: Net) {
    let mut hub = net.start(0, &[]).await;
    let newer = Start { listens: false, incarnation: 5, ..Start::new(1, &[0]) };
    let newer = net.start_with(newer).await;
    assert_eq!(hub.up().await, (id(1), Incarnation(5)));
    newer.mesh.stop().await;
    hub.down().await;
    let older = Start { listens: false, incarnation: 4, place: 9, ..Start::new(1, &[0]) };
    let mut older = net.start_with(older).await;
    assert_eq!(older.event().await, MeshEvent::Fenced);
    assert!(hub.events.try_recv().is_err());
}

/// Where we dial, and who answers is an older life than the one that was met.
async fn an_older_life_is_fenced_by_who_dials_it(net: Net) {
    let mut dials = net.start(5, &[1]).await;
    let newer = net.start_with(Start { incarnation: 5, ..Start::new(1, &[5]) }).await;
    assert_eq!(dials.up().await, (id(1), Incarnation(5)));
    net.crash(&newer);
    let mut older = net.start_with(Start { incarnation: 4, ..Start::new(1, &[5]) }).await;
    assert_eq!(older.event().await, MeshEvent::Fenced);
    assert_eq!(dials.down().await.0, id(1));
    assert!(dials.events.try_recv().is_err());
}

async fn a_lost_connection_comes_back_as_another_session_of_the_same_life(net: Net) {
    let mut one = net.start(0, &[1]).await;
    let mut two = net.start(1, &[0]).await;
    both_up(&mut one, &mut two).await;
    net.cut(0);
    let (one_down, two_down) = (one.down().await, two.down().await);
    assert_eq!(one_down, (id(1), Incarnation(1), DownReason::NodeLost));
    assert_eq!(two_down, (id(0), Incarnation(1), DownReason::NodeLost));
    tokio::time::sleep(Duration::from_secs(60)).await; // on paused time
    assert!(one.events.try_recv().is_err());
    net.heal(0);
    let began = Instant::now();
    assert_eq!(one.up().await, (id(1), Incarnation(1)));
    assert_eq!(two.up().await, (id(0), Incarnation(1)));
    assert!(began.elapsed() <= crate::caps::REDIAL_AFTER_MAX, "{:?}", began.elapsed());
}

async fn a_process_that_stands_still_is_suspect_and_then_heard_or_lost(net: Net) {
    let mut one = net.start(0, &[1]).await;
    let mut two = net.start(1, &[0]).await;
    both_up(&mut one, &mut two).await;
    let began = Instant::now();
    net.stall(0, true);
    assert_eq!(one.event().await, MeshEvent::Suspect { node: id(1) });
    assert!(began.elapsed() <= Duration::from_millis(2100), "{:?}", began.elapsed());
    net.stall(0, false);
    assert_eq!(one.event().await, MeshEvent::Heard { node: id(1) });
    net.stall(0, true);
    assert_eq!(one.event().await, MeshEvent::Suspect { node: id(1) });
    assert_eq!(one.down().await.2, DownReason::NodeLost);
    assert!(began.elapsed() <= Duration::from_secs(6), "{:?}", began.elapsed());
}

async fn a_slow_reader_of_events_gets_fewer_of_them_in_order(net: Net) {
    let mut one = net.start(0, &[1]).await;
    let mut two = net.start(1, &[0]).await;
    two.up().await;
    for _ in 0..100 {
        net.cut(0);
        two.down().await;
        net.heal(0);
        two.up().await;
    }
    let mut is_up = false;
    let mut count = 0;
    while let Ok(event) = one.events.try_recv() {
        if let MeshEvent::Suspect { .. } = event {
            continue;
        }
        let now_up = matches!(event, MeshEvent::Up { .. });
        assert_ne!(now_up, is_up);
        (is_up, count) = (now_up, count + 1);
    }
    // Suspicions have taken some of the room.
    assert!((EVENTS_MAX / 2..100).contains(&count), "{count}");
}

async fn a_peer_that_is_closed_is_down_and_the_end_of_a_supervisor_ends_the_mesh(net: Net) {
    let mut one = net.start(0, &[]).await;
    let mut two = net.start(1, &[0]).await;
    both_up(&mut one, &mut two).await;
    one.mesh.close_peer(&id(1), CloseReason::Revoked);
    let revoked = DownReason::Refused(CloseReason::Revoked.to_string());
    assert_eq!(one.down().await.2, revoked);
    assert_eq!(two.down().await.2, DownReason::NodeLost);
    both_up(&mut one, &mut two).await;
    one.mesh.kill();
    assert_eq!(two.down().await.2, DownReason::Left);
    assert_eq!(one.events.recv().await, None);
}
