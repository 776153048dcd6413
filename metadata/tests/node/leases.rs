//! An owner and its lease: renewed beside the work, and no answer without it.

use std::sync::Arc;
use std::time::Duration;

use lakefall_metadata::NotDone;
use lakefall_queue::ShardId;
use lakefall_queue::clock::Clock;
use lakefall_queue::error::{Error, Outcome};
use tokio::time::{Instant, timeout};

use crate::support::cluster::{Cluster, LEASE, within};
use crate::support::fixtures::{START, commit};
use crate::support::link::Weather;
use crate::support::stored_at;

const SHARD: ShardId = ShardId(0);

#[tokio::test(start_paused = true)]
async fn a_lease_is_renewed_however_busy_its_owner_is_and_however_slow_its_appends() {
    let (cluster, members) = Cluster::of(1, 1).await;
    let member = &members[0];
    let topic = member.topic(SHARD, cluster.namespace(SHARD)).await;
    let before = member.link.calls("renew");
    let appends = member.link.calls("append");
    // Each way as long as a renewal may take: appends of up to 4 s, one after the other.
    for number in 0..60 {
        member.link.set(Weather::Rough { delay_ms: if number % 2 == 0 { 0 } else { 1_100 }, lost: 0 });
        assert_eq!(stored_at(member.node.execute_here(SHARD, commit(number, topic, 1)).await.map_err(Into::into)), number);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(member.link.calls("append"), appends + 60, "it never stepped down");
    assert!(member.link.calls("renew") > before + 15);
    assert_eq!(member.link.calls("take"), 1);
}

#[tokio::test(start_paused = true)]
async fn an_idle_replica_only_renews() {
    let (_, members) = Cluster::of(4, 1).await;
    tokio::time::sleep(LEASE).await;
    let calls = |what| members[0].link.calls(what);
    let before = ["take", "release", "load", "append", "checkpoint"].map(calls);
    let renewals = calls("renew");
    tokio::time::sleep(LEASE * 10).await;
    assert_eq!(["take", "release", "load", "append", "checkpoint"].map(calls), before);
    assert!((49..=51).contains(&(calls("renew") - renewals)), "five in a lease: {}", calls("renew") - renewals);
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_is_cut_off_stops_answering_before_its_lease_ends() {
    let (cluster, members) = Cluster::of(1, 1).await;
    let member = &members[0];
    let topic = member.topic(SHARD, cluster.namespace(SHARD)).await;
    member.die();
    let cut = Instant::now();
    // An append that hangs is told as unknown as soon as the lease is no longer certain.
    let node = Arc::clone(&member.node);
    let hangs = tokio::spawn(async move { (node.execute_here(SHARD, commit(1, topic, 1)).await, Instant::now()) });
    let (told, at) = hangs.await.unwrap();
    let Err(NotDone::Failed(error)) = told else { panic!("{told:?}") };
    assert_eq!(error.outcome(), Outcome::Unknown, "{error}");
    assert!(at - cut <= LEASE * 9 / 10 && at - cut >= LEASE / 2, "{:?}", at - cut);
    assert!(matches!(member.position(SHARD).await, Err(NotDone::Elsewhere(None) | NotDone::Failed(Error::Unavailable { .. }))));
}

#[tokio::test(start_paused = true)]
async fn queries_are_refused_as_soon_as_the_lease_is_not_certain() {
    let (_, members) = Cluster::of(1, 1).await;
    let member = &members[0];
    member.die();
    let cut = Instant::now();
    let mut answered = Duration::ZERO;
    while cut.elapsed() < 2 * LEASE {
        match timeout(Duration::from_millis(1), member.position(SHARD)).await {
            Ok(Ok(_)) => answered = cut.elapsed(),
            Ok(Err(NotDone::Elsewhere(_))) => {}
            Ok(Err(NotDone::Failed(error))) => assert!(matches!(error, Error::Unavailable { .. } | Error::Unknown { .. }), "{error}"),
            Err(_) => {}
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(answered <= LEASE * 9 / 10, "still answered after {answered:?}");
    assert!(answered >= LEASE / 2, "it had a lease for longer than {answered:?}");
}

/// As after SIGSTOP and SIGCONT: time has passed, and no timer has run yet.
#[tokio::test(start_paused = true)]
async fn a_process_that_was_stopped_and_wakes_answers_nothing_from_its_old_state() {
    let (mut cluster, mut members) = Cluster::of(1, 1).await;
    let topic = members[0].topic(SHARD, cluster.namespace(SHARD)).await;
    members.push(cluster.join().await);
    let stopped = &members[0];
    stopped.position(SHARD).await.unwrap();
    stopped.clock.jump(LEASE);
    let told = stopped.position(SHARD).await;
    assert!(matches!(told, Err(NotDone::Failed(Error::Unavailable { .. }) | NotDone::Elsewhere(None))), "{told:?}");
    // It takes the shard again, which nobody else did, and serves.
    let owner = cluster.owner(&members, SHARD).await;
    owner.position(SHARD).await.unwrap();
    owner.clock.jump(LEASE);
    // Also a command that would change nothing is answered from state, and therefore not at all.
    let told = owner.node.execute_here(SHARD, commit(1, topic, 1)).await;
    assert!(matches!(told, Err(NotDone::Failed(ref error)) if error.outcome() == Outcome::Unknown), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_lost_its_lease_to_another_serves_no_more_and_says_who_does() {
    let (mut cluster, mut members) = Cluster::of(1, 1).await;
    members.push(cluster.join().await);
    let first = cluster.owner(&members, SHARD).await.node.me().clone();
    let (old, heir) = match *members[0].node.me() == first {
        true => (&members[0], &members[1]),
        false => (&members[1], &members[0]),
    };
    old.die();
    within(2 * LEASE, || async { heir.position(SHARD).await.is_ok() }).await;
    old.link.set(Weather::Fair);
    within(LEASE, || async { matches!(old.position(SHARD).await, Err(NotDone::Elsewhere(Some(ref owner))) if owner == heir.node.me()) })
        .await;
    assert_eq!(old.link.calls("take"), 1);
}

#[tokio::test(start_paused = true)]
async fn groups_go_by_the_stores_clock_and_never_back() {
    let (mut cluster, mut members) = Cluster::of(1, 1).await;
    members[0].clock.wrong_by(Duration::from_secs(3_600));
    members.push(cluster.join().await);
    members[1].clock.wrong_by(Duration::from_secs(7_200));
    tokio::time::sleep(LEASE).await;
    let topic = cluster.owner(&members, SHARD).await.topic(SHARD, cluster.namespace(SHARD)).await;
    let first = cluster.owner(&members, SHARD).await;
    let before = first.position(SHARD).await.unwrap().time;
    let store_time = |member: &crate::support::cluster::Member| START.plus(member.clock.elapsed());
    assert!((before.as_millis() - store_time(first).as_millis()).abs() < 1_000, "{before:?}");
    first.leave().await;
    let next = cluster.owner(&members, SHARD).await;
    next.node.execute_here(SHARD, commit(1, topic, 1)).await.unwrap();
    let after = next.position(SHARD).await.unwrap().time;
    assert!(after >= before && (after.as_millis() - store_time(next).as_millis()).abs() < 1_000, "{after:?}");
}
