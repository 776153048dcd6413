//! The stores under one random history: they answer alike, and each makes the ledger that wrote it.
//!
//! A failing case is shrunk and printed; its seed is written next to this file. `PROPTEST_CASES` sets how many run.

use std::sync::Arc;

use bytes::Bytes;
use lakefall_metadata::memory::MemoryStore;
use lakefall_metadata::store::ExtentScan;
use lakefall_metadata::{Lease, Loaded, MetadataStore, StoreError, WriterToken, rebuild};
use lakefall_queue::id::JournalSeq;
use lakefall_queue::ledger::Checkpoint;
use lakefall_queue::{Offset, PartitionIndex, Timestamp, TopicId};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

use crate::bench::{TOKEN, sorted};
use crate::common::lab::{Lab, SHARD};
use crate::common::ops::{CheckpointOp, GroupOp, history};
use crate::suite::{Kind, PostgresPlace, Sqlite};

/// What is asked of the stores besides what the ledger writes.
#[derive(Clone, Debug)]
enum Ask {
    /// The last append again, by its writer.
    Repeat,
    /// An append at a place that is taken, by another writer.
    Intrude,
    /// Another owner takes the shard; the one before tries to go on.
    Take,
    Scan {
        topic: u64,
        partition: u32,
        from: u64,
        below: u64,
        max_bytes: u64,
        max_extents: usize,
    },
    Find {
        topic: u64,
        partition: u32,
        from: u64,
        at: i64,
    },
}

fn ask() -> impl Strategy<Value = Ask> {
    let place = || (1_u64..4, 0_u32..3, 0_u64..30);
    let below = prop_oneof![Just(u64::MAX), 0_u64..40];
    let scan = (place(), below, prop_oneof![Just(0_u64), 0..2_000_u64], 0_usize..6);
    prop_oneof![
        1 => Just(Ask::Repeat),
        1 => Just(Ask::Intrude),
        1 => Just(Ask::Take),
        4 => scan.prop_map(|((topic, partition, from), below, max_bytes, max_extents)| {
            Ask::Scan { topic, partition, from, below, max_bytes, max_extents }
        }),
        2 => (place(), -10_i64..100).prop_map(|((topic, partition, from), at)| Ask::Find { topic, partition, from, at }),
    ]
}

/// One store and its owner.
struct Side {
    store: Arc<dyn MetadataStore>,
    lease: Lease,
}

impl Side {
    async fn of(store: Arc<dyn MetadataStore>) -> Self {
        store.initialize(1).await.unwrap();
        let lease = store.take(SHARD).await.unwrap();
        Self { store, lease }
    }

    async fn append(&self, token: WriterToken, lab: &Lab) -> Result<(), StoreError> {
        let payload = lab.journal.last().cloned().unwrap_or_default();
        self.store.append(&self.lease, JournalSeq(lab.ledger.seq().0), token, Bytes::from(payload)).await
    }

    async fn load(&self) -> Loaded {
        let loaded = self.store.load(&self.lease).await.unwrap();
        Loaded { rows: sorted(loaded.rows), ..loaded }
    }

    /// What a question is answered, as text: errors differ in their words only.
    async fn ask(&mut self, ask: &Ask, lab: &Lab) -> String {
        match *ask {
            Ask::Repeat => format!("{:?}", self.append(TOKEN, lab).await),
            Ask::Intrude => format!("{:?}", self.append(WriterToken(9), lab).await),
            Ask::Take => {
                let old = std::mem::replace(&mut self.lease, self.store.take(SHARD).await.unwrap());
                let late = self.store.append(&old, JournalSeq(lab.ledger.seq().0 + 1), TOKEN, Bytes::from_static(b"late")).await;
                format!("{:?} {late:?} {:?}", self.lease.epoch, self.store.release(&old).await)
            }
            Ask::Scan { topic, partition, from, below, max_bytes, max_extents } => {
                let (topic, partition) = (TopicId(topic), PartitionIndex(partition));
                // Below what was let go of nothing is asked for.
                let retired = lab.extents.get(&(topic, partition)).and_then(|held| held.front()).map_or(0, |e| e.base_offset.0);
                let scan = ExtentScan { topic, partition, from: Offset(from.max(retired)), below: Offset(below), max_bytes, max_extents };
                format!("{:?}", self.store.scan_extents(SHARD, scan).await)
            }
            Ask::Find { topic, partition, from, at } => {
                let at = Timestamp::from_millis(at);
                let found = self.store.find_extent(SHARD, TopicId(topic), PartitionIndex(partition), Offset(from), at).await;
                format!("{found:?}")
            }
        }
    }
}

async fn run<K: Kind>(history: &[(GroupOp, Vec<Ask>)]) {
    let place = K::place().await;
    let mut sides = [Side::of(Arc::new(MemoryStore::new())).await, Side::of(place.open().await).await];
    let mut lab = Lab::new();
    let mut under_way: Option<Checkpoint> = None;
    for (group, asks) in history {
        lab.group(&GroupOp { checkpoint: CheckpointOp::Nothing, ..group.clone() });
        for side in &sides {
            side.append(TOKEN, &lab).await.unwrap();
        }
        match group.checkpoint {
            CheckpointOp::Nothing => {}
            CheckpointOp::Take if under_way.is_some() => {}
            CheckpointOp::Take => under_way = Some(lab.ledger.checkpoint()),
            CheckpointOp::Land(keep) => {
                // Mostly there is one, else one is taken and lands at once.
                let checkpoint = under_way.take().unwrap_or_else(|| lab.ledger.checkpoint());
                for side in &sides {
                    side.store.checkpoint(&side.lease, &checkpoint).await.unwrap();
                }
                lab.store.write(&checkpoint);
                lab.ledger.checkpointed(&checkpoint, keep);
            }
            CheckpointOp::Fail => under_way.take().into_iter().for_each(|lost| lab.ledger.checkpoint_failed(lost)),
        }
        for ask in asks {
            let told = [sides[0].ask(ask, &lab).await, sides[1].ask(ask, &lab).await];
            assert_eq!(told[0], told[1], "{ask:?}");
        }
    }
    let full = lab.replayed();
    for side in &sides {
        let rebuilt = rebuild(SHARD, 1, side.load().await).unwrap();
        assert!(settled(rebuilt) == settled(lab.replayed()), "what is stored does not make the ledger that wrote it");
    }
    let [memory, other] = [sides[0].load().await, sides[1].load().await];
    assert_eq!((memory.shard, memory.rows, memory.entries), (other.shard, other.rows, other.entries));
    assert_eq!(full.seq(), lab.ledger.seq());
}

/// The state without the extents that happen to be in memory.
fn settled(mut ledger: lakefall_queue::ledger::Ledger) -> Vec<u8> {
    let checkpoint = ledger.checkpoint();
    ledger.checkpointed(&checkpoint, 0);
    ledger.snapshot()
}

/// At most 9 groups of 6 commands.
fn histories() -> impl Strategy<Value = Vec<(GroupOp, Vec<Ask>)>> {
    let asks = prop::collection::vec(prop::collection::vec(ask(), 0..4), 9);
    (history(10), asks).prop_map(|(groups, asks)| groups.into_iter().zip(asks).collect())
}

/// Each case makes its own database, and every append waits for the disk.
fn cases(usually: u32) -> ProptestConfig {
    ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        cases: std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(usually),
        max_shrink_iters: 500,
        ..ProptestConfig::default()
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

proptest! {
    #![proptest_config(cases(48))]

    #[test]
    fn memory_and_sqlite_answer_alike_and_make_the_ledger_that_wrote_them(history in histories()) {
        runtime().block_on(run::<Sqlite>(&history));
    }
}

#[test]
fn memory_and_postgres_answer_alike_and_make_the_ledger_that_wrote_them() {
    let runtime = runtime();
    // For all cases.
    let server = runtime.block_on(lakefall_servers::Postgres::shared());
    proptest!(cases(24), |(history in histories())| {
        runtime.block_on(run::<PostgresPlace>(&history));
    });
    drop(server);
}
