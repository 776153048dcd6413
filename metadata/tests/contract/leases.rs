//! Replicas that share a store: who may own a shard, for how long, and what a stale owner can still do. Nothing.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lakefall_metadata::{Holding, Lease, MetadataStore, Roll, StoreError, WriterToken};
use lakefall_queue::ShardId;
use lakefall_queue::id::JournalSeq;
use tokio::time::{Instant, sleep};

use crate::fixtures::SHARD;
use crate::suite::{LONG, Shared, replica};

const OTHER_SHARD: ShardId = ShardId(1);
/// Long enough for a few calls, short enough to wait for its end.
const SHORT: Duration = Duration::from_millis(300);
/// Within which an ended lease must be free.
const PATIENCE: Duration = Duration::from_secs(20);

type Store = Arc<dyn MetadataStore>;

/// Two replicas of a cluster of two shards.
async fn pair<K: Shared>(first: Duration, second: Duration) -> (K, Store, Store) {
    let place = K::place().await;
    let (one, two) = (place.replica(1, first).await, place.replica(2, second).await);
    one.initialize(2).await.unwrap();
    two.initialize(2).await.unwrap();
    (place, one, two)
}

async fn take_when_free(store: &Store, shard: ShardId) -> Lease {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match store.take(shard).await {
            Ok(lease) => return lease,
            Err(error) => assert_eq!(error, StoreError::Held),
        }
        assert!(Instant::now() < deadline, "the shard is held for ever");
        sleep(Duration::from_millis(10)).await;
    }
}

async fn append(store: &Store, lease: &Lease, seq: u64, token: u128) -> Result<(), StoreError> {
    store.append(lease, JournalSeq(seq), WriterToken(token), Bytes::from(token.to_string())).await
}

fn owners(roll: &Roll) -> Vec<Option<u128>> {
    roll.holdings.iter().map(|h| h.owner.as_ref().map(|owner| owner.id.0)).collect()
}

fn living(roll: &Roll) -> Vec<u128> {
    roll.replicas.iter().map(|replica| replica.id.0).collect()
}

pub(crate) async fn a_live_lease_refuses_everybody_else<K: Shared>() {
    let (_place, one, two) = pair::<K>(LONG, LONG).await;
    let lease = one.take(SHARD).await.unwrap();
    assert_eq!((lease.renew_within, one.lease_time()), (Some(LONG), Some(LONG)));
    for _ in 0..3 {
        assert_eq!(two.take(SHARD).await, Err(StoreError::Held));
    }
    two.take(OTHER_SHARD).await.unwrap();
    append(&one, &lease, 1, 1).await.unwrap();
}

pub(crate) async fn an_ended_lease_is_taken_with_a_higher_epoch_and_the_old_owner_is_fenced<K: Shared>() {
    let (_place, one, two) = pair::<K>(SHORT, LONG).await;
    let old = one.take(SHARD).await.unwrap();
    append(&one, &old, 1, 1).await.unwrap();
    let new = take_when_free(&two, SHARD).await;
    assert!(new.epoch > old.epoch, "{new:?} after {old:?}");
    assert_eq!(append(&one, &old, 2, 1).await, Err(StoreError::Fenced));
    assert_eq!(one.load(&old).await.unwrap_err(), StoreError::Fenced);
    assert_eq!(one.take(SHARD).await, Err(StoreError::Held));
    assert_eq!(two.load(&new).await.unwrap().entries, ["1"]);
    append(&two, &new, 2, 2).await.unwrap();
}

pub(crate) async fn a_lease_that_is_renewed_does_not_end<K: Shared>() {
    // Long enough that a busy machine does not miss a renewal.
    let lease_time = Duration::from_secs(3);
    let (_place, one, two) = pair::<K>(lease_time, LONG).await;
    let lease = one.take(SHARD).await.unwrap();
    let until = Instant::now() + lease_time + lease_time / 2;
    while Instant::now() < until {
        let roll = one.renew(&[lease]).await.unwrap();
        assert_eq!(roll.renewed, [SHARD]);
        assert_eq!(two.take(SHARD).await, Err(StoreError::Held));
        sleep(Duration::from_millis(50)).await;
    }
    append(&one, &lease, 1, 1).await.unwrap();
}

pub(crate) async fn a_renewal_tells_which_leases_were_lost<K: Shared>() {
    let (place, one, two) = pair::<K>(LONG, LONG).await;
    let lost = place.replica(1, SHORT).await.take(SHARD).await.unwrap();
    let kept = one.take(OTHER_SHARD).await.unwrap();
    take_when_free(&two, SHARD).await;
    let roll = one.renew(&[lost, kept]).await.unwrap();
    assert_eq!((roll.renewed.clone(), owners(&roll)), (vec![OTHER_SHARD], vec![Some(2), Some(1)]));
    // An older epoch of a shard that it does hold is as lost.
    let again = one.take(OTHER_SHARD).await.unwrap();
    assert!(one.renew(&[kept]).await.unwrap().renewed.is_empty());
    assert_eq!(one.renew(&[again]).await.unwrap().renewed, [OTHER_SHARD]);
}

pub(crate) async fn a_lease_that_ended_is_lost_although_nobody_took_the_shard<K: Shared>() {
    let (_place, one, two) = pair::<K>(SHORT, LONG).await;
    let lease = one.take(SHARD).await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    while owners(&two.renew(&[]).await.unwrap())[0].is_some() {
        assert!(Instant::now() < deadline, "it never ends");
        sleep(Duration::from_millis(10)).await;
    }
    let roll = one.renew(&[lease]).await.unwrap();
    assert_eq!((roll.renewed.clone(), owners(&roll)), (vec![], vec![None, None]));
    assert!(one.take(SHARD).await.unwrap().epoch > lease.epoch);
}

pub(crate) async fn a_replica_takes_its_own_shard_again_with_a_higher_epoch<K: Shared>() {
    let (_place, one, _two) = pair::<K>(LONG, LONG).await;
    let first = one.take(SHARD).await.unwrap();
    let second = one.take(SHARD).await.unwrap();
    assert!(second.epoch > first.epoch);
    assert_eq!(append(&one, &first, 1, 1).await, Err(StoreError::Fenced));
    append(&one, &second, 1, 1).await.unwrap();
}

pub(crate) async fn a_shard_given_back_is_free_at_once<K: Shared>() {
    let (_place, one, two) = pair::<K>(LONG, LONG).await;
    let old = one.take(SHARD).await.unwrap();
    one.release(&old).await.unwrap();
    assert_eq!(owners(&two.renew(&[]).await.unwrap()), [None, None]);
    let new = two.take(SHARD).await.unwrap();
    assert!(new.epoch > old.epoch);
    assert_eq!(append(&one, &old, 1, 1).await, Err(StoreError::Fenced));
    assert!(one.renew(&[old]).await.unwrap().renewed.is_empty());
}

pub(crate) async fn who_lost_a_shard_cannot_give_it_back<K: Shared>() {
    let (_place, one, two) = pair::<K>(SHORT, LONG).await;
    let old = one.take(SHARD).await.unwrap();
    let new = take_when_free(&two, SHARD).await;
    assert_eq!(one.release(&old).await, Err(StoreError::Fenced));
    assert_eq!(one.take(SHARD).await, Err(StoreError::Held));
    append(&two, &new, 1, 2).await.unwrap();
}

pub(crate) async fn the_roll_names_the_living_and_who_holds_what_for_how_long<K: Shared>() {
    let (_place, one, two) = pair::<K>(LONG, LONG).await;
    let lease = one.take(SHARD).await.unwrap();
    let roll = one.renew(&[lease]).await.unwrap();
    assert_eq!(roll.replicas, [replica(1)]);
    let free = Holding { shard: OTHER_SHARD, owner: None, remaining: Duration::ZERO };
    assert_eq!(roll.holdings, [Holding { shard: SHARD, owner: Some(replica(1)), remaining: LONG }, free.clone()]);
    let seen = two.renew(&[]).await.unwrap();
    assert_eq!((seen.replicas.clone(), seen.renewed.clone()), (vec![replica(1), replica(2)], vec![]));
    assert_eq!((seen.holdings[0].owner.clone(), &seen.holdings[1]), (Some(replica(1)), &free));
    let remaining = seen.holdings[0].remaining;
    assert!(remaining <= LONG && remaining > LONG - PATIENCE, "{remaining:?}");
    assert!(seen.now >= roll.now && seen.now < roll.now.plus(PATIENCE), "{:?} after {:?}", seen.now, roll.now);
    let again = two.renew(&[]).await.unwrap();
    assert!(again.now >= seen.now && again.holdings[0].remaining <= remaining, "{again:?} after {seen:?}");
}

pub(crate) async fn who_leaves_is_off_the_roll_at_once<K: Shared>() {
    let (_place, one, two) = pair::<K>(LONG, LONG).await;
    one.renew(&[]).await.unwrap();
    assert_eq!(living(&two.renew(&[]).await.unwrap()), [1, 2]);
    one.leave().await.unwrap();
    assert_eq!(living(&two.renew(&[]).await.unwrap()), [2]);
    one.leave().await.unwrap();
    one.renew(&[]).await.unwrap();
    assert_eq!(living(&two.renew(&[]).await.unwrap()), [1, 2], "it may come back");
}

pub(crate) async fn who_falls_silent_is_off_the_roll_when_its_lease_has_ended<K: Shared>() {
    let (_place, one, two) = pair::<K>(SHORT, LONG).await;
    let lease = one.take(SHARD).await.unwrap();
    one.renew(&[lease]).await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let roll = two.renew(&[]).await.unwrap();
        if living(&roll) == [2] && owners(&roll) == [None, None] {
            break;
        }
        assert_eq!(owners(&roll)[1], None);
        assert!(Instant::now() < deadline, "it is never missed: {roll:?}");
        sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) async fn of_many_who_take_a_free_shard_one_gets_it<K: Shared>() {
    let place = K::place().await;
    let mut stores = Vec::new();
    for number in 1..=4 {
        stores.push(place.replica(number, LONG).await);
    }
    stores[0].initialize(1).await.unwrap();
    for round in 0..10 {
        let takes = stores.iter().map(|store| {
            let store = Arc::clone(store);
            tokio::spawn(async move { (store.take(SHARD).await, store) })
        });
        let mut taken = Vec::new();
        for take in takes.collect::<Vec<_>>() {
            match take.await.unwrap() {
                (Ok(lease), store) => taken.push((lease, store)),
                (Err(error), _) => assert_eq!(error, StoreError::Held),
            }
        }
        let [(lease, store)] = &taken[..] else { panic!("round {round}: {} got it", taken.len()) };
        store.release(lease).await.unwrap();
    }
}

/// What the new owner loads right after its take is all that the old one ever wrote, whatever the old one was doing.
pub(crate) async fn an_append_that_races_a_take_stands_before_it_or_never<K: Shared>() {
    let (_place, one, two) = pair::<K>(LONG, LONG).await;
    let mut last = 0;
    for round in 0..40_u128 {
        let old = one.take(SHARD).await.unwrap();
        let writer = {
            let one = Arc::clone(&one);
            tokio::spawn(async move {
                let mut seq = last;
                while append(&one, &old, seq + 1, round).await.is_ok() {
                    seq += 1;
                    tokio::task::yield_now().await;
                }
                seq
            })
        };
        if round % 4 != 0 {
            sleep(Duration::from_micros(300 * (round % 7) as u64)).await;
        }
        // It gives the lease away under its own feet: the epoch alone must hold it off.
        one.release(&old).await.unwrap();
        let new = two.take(SHARD).await.unwrap();
        let seen = two.load(&new).await.unwrap().entries.len() as u64;
        last = writer.await.unwrap();
        assert_eq!(last, seen, "round {round}: an append was acknowledged that the new owner did not see, or the other way round");
        assert_eq!(two.load(&new).await.unwrap().entries.len() as u64, seen);
        two.release(&new).await.unwrap();
    }
}

pub(crate) async fn of_two_writers_of_one_place_exactly_one_wins<K: Shared>() {
    let (_place, one, _two) = pair::<K>(LONG, LONG).await;
    let lease = one.take(SHARD).await.unwrap();
    for seq in 1..=50 {
        let writers = [1, 2].map(|token| {
            let one = Arc::clone(&one);
            tokio::spawn(async move { append(&one, &lease, seq, token).await })
        });
        let mut told = Vec::new();
        for writer in writers {
            told.push(writer.await.unwrap());
        }
        let winner = match &told[..] {
            [Ok(()), Err(StoreError::Fenced)] => "1",
            [Err(StoreError::Fenced), Ok(())] => "2",
            other => panic!("at {seq}: {other:?}"),
        };
        let entries = one.load(&lease).await.unwrap().entries;
        assert_eq!((entries.len() as u64, &entries[entries.len() - 1][..]), (seq, winner.as_bytes()));
    }
}
