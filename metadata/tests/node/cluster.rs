//! Several replicas: how shards spread, and how long nobody serves one when replicas come, go and die.

use std::time::Duration;

use lakefall_metadata::{NotDone, Roster};
use lakefall_queue::ShardId;
use lakefall_queue::ledger::{Answer, Query};
use tokio::time::Instant;

use crate::support::cluster::{Cluster, LEASE, Member, within};
use crate::support::fixtures::{P0, commit};
use crate::support::link::Weather;
use crate::support::{located, stored_at};

/// What a graceful handover may cost.
const HANDOVER: Duration = Duration::from_millis(500);

#[tokio::test(start_paused = true)]
async fn shards_spread_evenly_and_each_is_served_by_one() {
    for replicas in 1..=5 {
        let (cluster, members) = Cluster::of(16, replicas).await;
        for shard in cluster.shards() {
            let mut owners = Vec::new();
            for member in &members {
                match member.position(shard).await {
                    Ok(_) => owners.push(member.node.me().clone()),
                    Err(NotDone::Elsewhere(_)) => {}
                    Err(NotDone::Failed(error)) => panic!("{error}"),
                }
            }
            assert_eq!(owners.len(), 1, "shard {shard} is served by {owners:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_replica_comes_to_know_who_serves_what() {
    let (cluster, members) = Cluster::of(16, 3).await;
    tokio::time::sleep(LEASE / 4).await;
    for shard in cluster.shards() {
        let owner = cluster.owner(&members, shard).await.node.me().clone();
        for member in &members {
            let roster = member.node.roster();
            assert_eq!(roster.holdings[shard.0 as usize].owner, Some(owner.clone()));
            assert!(roster.holdings[shard.0 as usize].remaining > LEASE / 3, "{roster:?}");
            match member.position(shard).await {
                Ok(_) => assert_eq!(member.node.me(), &owner),
                Err(NotDone::Elsewhere(told)) => assert_eq!(told, Some(owner.clone())),
                Err(NotDone::Failed(error)) => panic!("{error}"),
            }
        }
    }
    let Roster { shards, replicas, age, .. } = members[0].node.roster();
    assert_eq!((shards, replicas.len()), (16, 3));
    assert!(age.unwrap() <= LEASE / 5);
}

#[tokio::test(start_paused = true)]
async fn one_who_joins_takes_its_share_and_nothing_else_moves() {
    let (mut cluster, mut members) = Cluster::of(16, 2).await;
    let mut before = Vec::new();
    for member in &members {
        before.push(cluster.serves(member).await);
    }
    let taken = takes(&members);
    members.push(cluster.join().await);
    cluster.settled(&members).await;
    let joined = cluster.serves(&members[2]).await;
    assert_eq!(joined.len(), 5);
    for (member, before) in members.iter().zip(before) {
        let now = cluster.serves(member).await;
        assert!(now.iter().all(|shard| before.contains(shard)), "what stayed did not move: {before:?}, {now:?}");
    }
    assert_eq!(takes(&members) - taken, 5);
}

fn takes(members: &[Member]) -> u64 {
    members.iter().map(|member| member.link.calls("take")).sum()
}

/// The longest time in which nobody answered for a shard, from now until `until` says so.
async fn longest_gap(cluster: &Cluster, members: &[Member], done: impl Fn() -> bool) -> Duration {
    let mut last: Vec<Instant> = cluster.shards().map(|_| Instant::now()).collect();
    let mut longest = Duration::ZERO;
    loop {
        let finished = done();
        for shard in cluster.shards() {
            for member in members {
                if member.position(shard).await.is_ok() {
                    let seen = &mut last[shard.0 as usize];
                    longest = longest.max(seen.elapsed());
                    *seen = Instant::now();
                }
            }
        }
        if finished && last.iter().all(|seen| seen.elapsed() < Duration::from_millis(1)) {
            return longest;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_who_leaves_hands_over_at_once_and_nobody_waits_for_a_lease() {
    for weather in [Weather::Fair, Weather::Rough { delay_ms: 20, lost: 0 }] {
        leave_in(weather).await;
    }
}

async fn leave_in(weather: Weather) {
    let (cluster, mut members) = Cluster::of(16, 3).await;
    members.iter().for_each(|member| member.link.set(weather));
    let leaver = members.remove(0);
    let (held, taken) = (cluster.serves(&leaver).await.len() as u64, takes(&members));
    let took = Instant::now();
    let leaving = tokio::spawn(async move {
        leaver.leave().await;
        leaver
    });
    let gap = longest_gap(&cluster, &members, || leaving.is_finished()).await;
    assert!(gap <= HANDOVER, "nobody served a shard for {gap:?}");
    assert!(took.elapsed() < Duration::from_secs(2));
    cluster.settled(&members).await;
    let leaver = leaving.await.unwrap();
    for shard in cluster.shards() {
        assert!(matches!(leaver.position(shard).await, Err(NotDone::Elsewhere(_))));
    }
    assert_eq!(takes(&members) - taken, held, "what stays does not move");
}

#[tokio::test(start_paused = true)]
async fn moving_a_shard_to_one_who_joins_costs_no_more_than_a_handover() {
    let (mut cluster, mut members) = Cluster::of(8, 1).await;
    members.push(cluster.join().await);
    let until = Instant::now() + 2 * LEASE;
    let gap = longest_gap(&cluster, &members, || Instant::now() > until).await;
    assert!(gap <= HANDOVER, "nobody served a shard for {gap:?}");
    cluster.settled(&members).await;
}

#[tokio::test(start_paused = true)]
async fn one_who_dies_is_replaced_within_its_lease_and_two_seconds() {
    for step in 0..10 {
        let (cluster, mut members) = Cluster::of(16, 3).await;
        // Anywhere between two renewals.
        tokio::time::sleep(LEASE / 50 * step).await;
        members.remove(0).die();
        let died = Instant::now();
        cluster.settled(&members).await;
        assert!(died.elapsed() <= LEASE + Duration::from_secs(2), "{:?}", died.elapsed());
        assert!(died.elapsed() > LEASE / 2, "it was still in its lease");
    }
}

#[tokio::test(start_paused = true)]
async fn a_whole_cluster_that_stops_leaves_nothing_to_wait_for() {
    let (mut cluster, members) = Cluster::of(4, 2).await;
    let owner = cluster.owner(&members, ShardId(0)).await;
    let topic = owner.topic(ShardId(0), cluster.namespace(ShardId(0))).await;
    for number in 0..10 {
        assert_eq!(stored_at(owner.node.execute_here(ShardId(0), commit(number, topic, 1)).await.map_err(Into::into)), number);
    }
    for member in &members {
        member.leave().await;
    }
    let began = Instant::now();
    let next = cluster.join().await;
    cluster.settled(std::slice::from_ref(&next)).await;
    assert!(began.elapsed() < Duration::from_millis(200), "{:?}", began.elapsed());
    let found = located(next.node.query_here(ShardId(0), crate::support::locate(topic, 0)).await.map_err(Into::into)).unwrap();
    assert_eq!(found.end.0, 10);
}

#[tokio::test(start_paused = true)]
async fn requests_for_a_shard_that_is_being_loaded_wait_for_it() {
    let (cluster, mut members) = Cluster::of(1, 2).await;
    let first = cluster.owner(&members, ShardId(0)).await.node.me().clone();
    let at = members.iter().position(|member| *member.node.me() == first).unwrap();
    let old = members.remove(at);
    let heir = members.remove(0);
    heir.link.set(Weather::Rough { delay_ms: 300, lost: 0 });
    tokio::spawn(async move { old.leave().await });
    within(Duration::from_secs(20), || async { heir.node.roster().holdings[0].owner.as_ref() == Some(heir.node.me()) }).await;
    assert!(heir.link.calls("append") == 0, "it is not loaded yet");
    heir.position(ShardId(0)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stop_under_load_loses_nothing_that_was_acknowledged() {
    let (cluster, mut members) = Cluster::of(2, 2).await;
    let shard = ShardId(0);
    let owner = cluster.owner(&members, shard).await;
    let topic = owner.topic(shard, cluster.namespace(shard)).await;
    let first = owner.node.me().clone();
    let at = members.iter().position(|member| *member.node.me() == first).unwrap();
    let leaver = members.remove(at);
    let mut asked = Vec::new();
    for number in 0..2_000 {
        let node = std::sync::Arc::clone(&leaver.node);
        asked.push(tokio::spawn(async move {
            tokio::time::sleep(Duration::from_micros(number * 100)).await;
            (number, node.execute_here(shard, commit(number, topic, 1)).await)
        }));
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    leaver.leave().await;
    assert!(leaver.link.calls("checkpoint") >= 1 && leaver.link.calls("append") > 3, "a checkpoint was written while it served");
    let heir = cluster.owner(&members, shard).await;
    let (mut stored, mut refused) = (0, 0);
    for asked in asked {
        match asked.await.unwrap() {
            (number, Ok(reply)) => {
                let base = stored_at(Ok(reply));
                let again = heir.node.execute_here(shard, commit(number, topic, 1)).await.map_err(Into::into);
                assert_eq!(stored_at(again), base, "L3: it is where it was said to be");
                stored += 1;
            }
            (_, Err(NotDone::Elsewhere(_))) => refused += 1,
            (number, Err(NotDone::Failed(error))) => panic!("{number}: {error}"),
        }
    }
    let query = Query::Locate { topic, partition: P0, from: lakefall_queue::Offset(0), max_bytes: 0, max_extents: 1 };
    let Answer::Located(found) = heir.node.query_here(shard, query).await.unwrap() else { panic!() };
    assert_eq!(found.end.0, stored, "and what was handed back is not there");
    assert!(stored > 100 && refused > 100, "{stored} stored, {refused} handed back");
}
