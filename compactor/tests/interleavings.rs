//! Gateways, two collectors, retention and time, interleaved by chance over a store that lists what was, lists in part and
//! refuses to delete. Whatever the order: an object that a ledger refers to is there, what was acknowledged with it, and in
//! the end nothing is left that no ledger knows. Seeds are printed; `LAKEFALL_SEED` runs one alone.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail where it stands")]

mod support;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lakefall_compactor::{Collector, CollectorConfig};
use lakefall_metadata::{Identity, Metadata, News};
use lakefall_queue::error::Result;
use lakefall_queue::ledger::{Answer, COMMIT_WINDOW, Command, Query, Reply};
use lakefall_queue::{SegmentId, ShardId, TopicId};
use lakefall_storage::store::Store;
use support::{Bench, Bucket, Dice, MS, S0, S1, Stored, Tally, commit, was_stored};
use tokio::sync::broadcast;

const SEEDS: u64 = 60;
const GATEWAYS: usize = 4;
const SEGMENTS: usize = 25;
const ORPHAN_GRACE: Duration = Duration::from_secs(2);
const GRACE: Duration = Duration::from_secs(1);

/// A metadata service that answers when chance lets it.
struct Late {
    inner: Arc<dyn Metadata>,
    dice: Arc<Dice>,
}

#[async_trait::async_trait]
impl Metadata for Late {
    fn shards(&self) -> u32 {
        self.inner.shards()
    }

    async fn execute(&self, shard: ShardId, command: Command) -> Result<Reply> {
        self.dice.dawdle().await;
        let reply = self.inner.execute(shard, command).await;
        self.dice.dawdle().await;
        reply
    }

    async fn query(&self, shard: ShardId, query: Query) -> Result<Answer> {
        self.dice.dawdle().await;
        let answer = self.inner.query(shard, query).await;
        self.dice.dawdle().await;
        answer
    }

    fn subscribe(&self) -> broadcast::Receiver<Arc<News>> {
        self.inner.subscribe()
    }

    async fn identity(&self) -> Result<Identity> {
        self.inner.identity().await
    }
}

struct World {
    bench: Bench,
    metadata: Arc<dyn Metadata>,
    topics: [TopicId; 2],
    dice: Arc<Dice>,
    tally: Arc<Tally>,
    minted: Mutex<Vec<SegmentId>>,
    working: Mutex<usize>,
}

impl World {
    fn collector(&self) -> Collector {
        let config = CollectorConfig { grace: GRACE, orphan_grace: ORPHAN_GRACE, list_pause: Duration::ZERO, ..Bench::config() };
        Collector::new(config, self.metadata.clone(), self.bench.store.clone(), self.bench.ambient.clone())
    }

    fn busy(&self) -> bool {
        *self.working.lock().unwrap() > 0
    }

    /// Stores segments for one or both shards, and commits them soon, late, in part or never.
    async fn gateway(&self) {
        for _ in 0..SEGMENTS {
            let topics = match self.dice.below(4) {
                0 => &self.topics[..1],
                1 => &self.topics[1..],
                _ => &self.topics[..],
            };
            let stored = Stored::mint(&self.bench.ambient, topics);
            self.minted.lock().unwrap().push(stored.id);
            if self.dice.below(8) == 0 {
                self.stall(200).await;
            }
            self.bench.store.put_new(&stored.id.key(), stored.segment.chunks.clone()).await.unwrap();
            for topic in topics {
                match self.dice.below(12) {
                    // Killed here: the rest is never committed.
                    0 => break,
                    // Stopped for a while.
                    1..=3 => self.stall(400).await,
                    _ => {}
                }
                if was_stored(&commit(&*self.metadata, &stored, *topic).await) {
                    self.tally.add("acknowledged", 1);
                } else {
                    self.tally.add("refused", 1);
                }
            }
            self.dice.dawdle().await;
        }
        *self.working.lock().unwrap() -= 1;
    }

    async fn stall(&self, most: u64) {
        for _ in 0..self.dice.below(most) {
            tokio::task::yield_now().await;
        }
    }

    /// Sweeps and collects; now and then it is killed and another one takes its place.
    async fn collect(&self) {
        while self.busy() {
            let collector = self.collector();
            for _ in 0..self.dice.below(4) {
                match self.dice.below(3) {
                    0 => drop(collector.round().await),
                    _ => {
                        let swept = tokio::select! {
                            biased;
                            swept = collector.sweep() => swept.unwrap(),
                            () = self.stall(4_000) => break,
                        };
                        self.tally.add("swept", swept.deleted);
                        self.tally.add("withstood", swept.orphans - swept.deleted);
                    }
                }
            }
            self.dice.dawdle().await;
        }
    }

    /// Time goes on, sometimes by far; retention lets go of some records.
    async fn time(&self) {
        while self.busy() {
            self.stall(60).await;
            let by = if self.dice.below(40) == 0 { COMMIT_WINDOW } else { Duration::from_millis(self.dice.below(1_500)) };
            self.bench.clock.pass(by);
            if self.dice.below(10) == 0 {
                let topic = self.topics[self.dice.below(2) as usize];
                self.bench.trim(topic, self.dice.below(60)).await;
            }
        }
    }

    /// Objects that some ledger refers to.
    async fn needed(&self) -> BTreeSet<String> {
        let minted = self.minted.lock().unwrap().clone();
        let mut needed = BTreeSet::new();
        for shard in [S0, S1] {
            let Answer::Objects(known) = self.bench.metadata.query(shard, Query::Objects(minted.clone())).await.unwrap() else {
                panic!("another answer")
            };
            needed.extend(known.iter().flatten().filter(|status| status.live_extents > 0).map(|status| status.id.key()));
        }
        needed
    }

    async fn there(&self) -> BTreeSet<String> {
        self.bench.keys().await.into_iter().collect()
    }

    /// At any moment, while others are at work.
    async fn audit(&self) {
        while self.busy() {
            self.stall(30).await;
            // First what is needed: it can only become less while we look.
            let needed = self.needed().await;
            let there = self.there().await;
            let missing: Vec<&String> = needed.difference(&there).collect();
            // Unless it was let go of meanwhile.
            if !missing.is_empty() {
                let still = self.needed().await;
                assert!(missing.iter().all(|key| !still.contains(*key)), "deleted although a ledger refers to it: {missing:?}");
            }
            self.tally.add("audited", needed.len() as u64);
        }
    }
}

async fn run(seed: u64, tally: &Arc<Tally>) {
    let dice = Dice::new(seed);
    let mut bench = Bench::start(2).await;
    let topics = [bench.topic(S0).await, bench.topic(S1).await];
    bench.marked().await;
    let bucket = Bucket::by_chance(Arc::clone(&dice));
    bench.store = Store::over(bucket.clone());
    bench.bucket = bucket;
    let metadata = Arc::new(Late { inner: Arc::clone(&bench.metadata), dice: Arc::clone(&dice) });
    let world = World { bench, metadata, topics, dice, tally: Arc::clone(tally), minted: Mutex::default(), working: Mutex::new(GATEWAYS) };
    // The other bucket had the mark.
    assert_eq!(world.collector().check().await.unwrap(), None);
    world.bench.clock.pass(MS);
    let gateways = futures::future::join_all((0..GATEWAYS).map(|_| world.gateway()));
    tokio::join!(gateways, world.collect(), world.collect(), world.time(), world.audit());

    // Nobody is at work any more, and listings are true.
    let honest = Store::over(world.bench.bucket.honest());
    let config = CollectorConfig { grace: GRACE, orphan_grace: ORPHAN_GRACE, list_pause: Duration::ZERO, ..Bench::config() };
    let last = Collector::new(config, world.bench.metadata.clone(), honest, world.bench.ambient.clone());
    // It sees the ledgers' time, and that time passes.
    assert_eq!(last.check().await.unwrap(), None);
    world.bench.clock.pass(COMMIT_WINDOW + ORPHAN_GRACE + MS);
    let swept = last.sweep().await.unwrap();
    world.tally.add("swept", swept.deleted);
    for _ in 0..4 {
        assert!(!last.round().await.failed);
        world.bench.clock.pass(COMMIT_WINDOW + GRACE + MS);
    }
    assert_eq!(world.there().await, world.needed().await, "exactly what is needed is there");
    world.bench.finish().await;
}

#[tokio::test(start_paused = true)]
async fn what_a_ledger_refers_to_is_never_deleted_and_what_none_does_is_in_every_interleaving() {
    let tally = Arc::new(Tally::default());
    let seeds = match std::env::var("LAKEFALL_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (0..SEEDS).collect(),
    };
    let alone = seeds.len() == 1;
    for seed in seeds {
        println!("seed {seed}");
        Box::pin(run(seed, &tally)).await;
    }
    let tally = tally.all();
    println!("{tally:?}");
    if !alone {
        for what in ["acknowledged", "refused", "swept", "withstood", "audited"] {
            assert!(tally.get(what).is_some_and(|count| *count > 50), "too few were {what}: {tally:?}");
        }
    }
}
