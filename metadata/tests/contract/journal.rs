//! Ownership and the journal.

use bytes::Bytes;
use lakefall_metadata::{StoreError, WriterToken};
use lakefall_queue::ShardId;
use lakefall_queue::id::JournalSeq;

use crate::bench::{Bench, TOKEN};
use crate::fixtures::SHARD;
use crate::suite::Kind;

const OTHER: WriterToken = WriterToken(2);

async fn entries(bench: &Bench) -> Vec<Bytes> {
    bench.load().await.entries
}

pub(crate) async fn a_store_keeps_the_number_of_shards_of_its_first_use<K: Kind>() {
    let place = K::place().await;
    let store = place.open().await;
    store.initialize(4).await.unwrap();
    store.initialize(4).await.unwrap();
    let Err(StoreError::Misconfigured(message)) = store.initialize(8).await else { panic!("another number was taken") };
    assert_eq!(message, "metadata.shards is 8, but this store was created with 4: set it to 4");
    store.initialize(4).await.unwrap();
}

pub(crate) async fn a_shard_that_nobody_used_is_empty<K: Kind>() {
    let bench = Bench::of::<K>().await;
    let loaded = bench.load().await;
    assert!(loaded.shard.is_none() && loaded.rows.is_empty() && loaded.entries.is_empty(), "{loaded:?}");
}

pub(crate) async fn taking_a_shard_raises_its_epoch_and_fences_the_owner_before<K: Kind>() {
    let bench = Bench::of::<K>().await;
    let (store, old) = (&bench.store, &bench.lease);
    let new = store.take(SHARD).await.unwrap();
    assert!(new.epoch > old.epoch, "{new:?} after {old:?}");
    assert_eq!(store.release(old).await, Err(StoreError::Fenced));
    assert_eq!(store.load(old).await.unwrap_err(), StoreError::Fenced);
    store.load(&new).await.unwrap();
    store.release(&new).await.unwrap();
    assert!(store.take(SHARD).await.unwrap().epoch > new.epoch, "a shard given back keeps its epoch");
}

pub(crate) async fn a_shard_does_not_fence_another<K: Kind>() {
    let place = K::place().await;
    let store = place.open().await;
    store.initialize(2).await.unwrap();
    let first = store.take(ShardId(0)).await.unwrap();
    let second = store.take(ShardId(1)).await.unwrap();
    store.take(ShardId(1)).await.unwrap();
    store.append(&first, JournalSeq(1), TOKEN, Bytes::from_static(b"a")).await.unwrap();
    assert_eq!(store.append(&second, JournalSeq(1), TOKEN, Bytes::from_static(b"b")).await, Err(StoreError::Fenced));
    assert_eq!(store.load(&first).await.unwrap().entries, ["a"]);
}

pub(crate) async fn entries_are_loaded_in_the_order_of_their_sequence<K: Kind>() {
    let bench = Bench::of::<K>().await;
    let written: Vec<Vec<u8>> = (0..300_u32).map(|n| n.to_be_bytes().to_vec()).collect();
    for (seq, payload) in (1..).zip(&written) {
        bench.append(seq, TOKEN, payload.clone()).await.unwrap();
    }
    assert_eq!(entries(&bench).await, written);
    bench.append(301, TOKEN, Vec::new()).await.unwrap();
    assert_eq!(entries(&bench).await[300], Bytes::new(), "an entry may be empty");
}

pub(crate) async fn an_append_repeated_with_its_own_token_is_done_and_stored_once<K: Kind>() {
    let bench = Bench::of::<K>().await;
    for _ in 0..3 {
        bench.append(1, TOKEN, b"one".to_vec()).await.unwrap();
    }
    bench.append(2, TOKEN, b"two".to_vec()).await.unwrap();
    bench.append(1, TOKEN, b"one".to_vec()).await.unwrap();
    assert_eq!(entries(&bench).await, ["one", "two"]);
}

pub(crate) async fn an_append_at_a_place_that_another_token_took_is_fenced_and_leaves_the_first<K: Kind>() {
    let bench = Bench::of::<K>().await;
    bench.append(1, TOKEN, b"first".to_vec()).await.unwrap();
    for _ in 0..2 {
        assert_eq!(bench.append(1, OTHER, b"second".to_vec()).await, Err(StoreError::Fenced));
    }
    assert_eq!(entries(&bench).await, ["first"]);
}

pub(crate) async fn an_append_of_an_old_epoch_is_fenced_and_leaves_nothing<K: Kind>() {
    let mut bench = Bench::of::<K>().await;
    bench.append(1, TOKEN, b"one".to_vec()).await.unwrap();
    let new = bench.store.take(SHARD).await.unwrap();
    for _ in 0..2 {
        assert_eq!(bench.append(2, TOKEN, b"late".to_vec()).await, Err(StoreError::Fenced));
    }
    bench.lease = new;
    assert_eq!(entries(&bench).await, ["one"]);
    bench.append(2, OTHER, b"two".to_vec()).await.unwrap();
    assert_eq!(entries(&bench).await, ["one", "two"]);
}

pub(crate) async fn an_append_that_stands_is_told_so_even_after_its_reign<K: Kind>() {
    let mut bench = Bench::of::<K>().await;
    bench.append(1, TOKEN, b"one".to_vec()).await.unwrap();
    let new = bench.store.take(SHARD).await.unwrap();
    // L4: its first answer was lost, and it is written again.
    bench.append(1, TOKEN, b"one".to_vec()).await.unwrap();
    bench.lease = new;
    assert_eq!(entries(&bench).await, ["one"]);
}

pub(crate) async fn a_store_has_an_identity_of_its_own_that_stays<K: Kind>() {
    let (place, other) = (K::place().await, K::place().await);
    let store = place.open().await;
    store.initialize(1).await.unwrap();
    let identity = store.identity().await.unwrap();
    assert!(identity.cluster.len() >= 32, "{identity:?}");
    store.take(SHARD).await.unwrap();
    assert_eq!(store.identity().await.unwrap(), identity);
    let other = other.open().await;
    other.initialize(1).await.unwrap();
    assert_ne!(other.identity().await.unwrap().cluster, identity.cluster);
}
