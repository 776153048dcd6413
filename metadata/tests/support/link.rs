//! The way from one replica to the store: as good or as bad as a test wants it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use lakefall_metadata::store::ExtentScan;
use lakefall_metadata::{Identity, Lease, Loaded, MetadataStore, Roll, StoreError, WriterToken};
use lakefall_queue::id::JournalSeq;
use lakefall_queue::ledger::{Checkpoint, Extent};
use lakefall_queue::{Offset, PartitionIndex, ShardId, Timestamp, TopicId};
use tokio::sync::watch;

/// Random numbers that a seed repeats (xorshift64*).
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}

/// What happens to calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weather {
    Fair,
    /// Nothing comes through in either direction, and nobody says so.
    Cut,
    /// Every call takes up to so many milliseconds each way, and so many in a hundred are lost each way.
    Rough {
        delay_ms: u64,
        lost: u64,
    },
}

pub(crate) struct Link {
    inner: Arc<dyn MetadataStore>,
    weather: watch::Sender<Weather>,
    dice: Mutex<Dice>,
    calls: Mutex<std::collections::BTreeMap<&'static str, u64>>,
}

impl Link {
    pub(crate) fn new(inner: Arc<dyn MetadataStore>, seed: u64) -> Arc<Self> {
        Arc::new(Self { inner, weather: watch::channel(Weather::Fair).0, dice: Mutex::new(Dice::new(seed)), calls: Mutex::default() })
    }

    pub(crate) fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }

    /// How often something was asked for.
    pub(crate) fn calls(&self, what: &str) -> u64 {
        self.calls.lock().unwrap().get(what).copied().unwrap_or_default()
    }

    async fn go(&self) -> Result<(), ()> {
        self.weather.subscribe().wait_for(|weather| *weather != Weather::Cut).await.unwrap();
        let Weather::Rough { delay_ms, lost } = *self.weather.borrow() else { return Ok(()) };
        let (delay, lost) = {
            let mut dice = self.dice.lock().unwrap();
            (dice.below(delay_ms + 1), dice.below(100) < lost)
        };
        tokio::time::sleep(Duration::from_millis(delay)).await;
        if lost { Err(()) } else { Ok(()) }
    }

    async fn pass<T>(&self, what: &'static str, call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        *self.calls.lock().unwrap().entry(what).or_default() += 1;
        if self.go().await.is_err() {
            return Err(match self.dice.lock().unwrap().below(2) {
                0 => StoreError::NotApplied(format!("{what}: refused on the way")),
                _ => StoreError::Unknown(format!("{what}: lost on the way")),
            });
        }
        let answer = call.await;
        self.go().await.map_err(|()| StoreError::Unknown(format!("{what}: the answer was lost")))?;
        answer
    }
}

#[async_trait]
impl MetadataStore for Link {
    async fn initialize(&self, shards: u32) -> Result<(), StoreError> {
        self.inner.initialize(shards).await
    }

    fn lease_time(&self) -> Option<Duration> {
        self.inner.lease_time()
    }

    async fn take(&self, shard: ShardId) -> Result<Lease, StoreError> {
        self.pass("take", self.inner.take(shard)).await
    }

    async fn renew(&self, leases: &[Lease]) -> Result<Roll, StoreError> {
        self.pass("renew", self.inner.renew(leases)).await
    }

    async fn release(&self, lease: &Lease) -> Result<(), StoreError> {
        self.pass("release", self.inner.release(lease)).await
    }

    async fn leave(&self) -> Result<(), StoreError> {
        self.pass("leave", self.inner.leave()).await
    }

    async fn identity(&self) -> Result<Identity, StoreError> {
        self.inner.identity().await
    }

    async fn load(&self, lease: &Lease) -> Result<Loaded, StoreError> {
        self.pass("load", self.inner.load(lease)).await
    }

    async fn append(&self, lease: &Lease, seq: JournalSeq, token: WriterToken, payload: Bytes) -> Result<(), StoreError> {
        self.pass("append", self.inner.append(lease, seq, token, payload)).await
    }

    async fn checkpoint(&self, lease: &Lease, checkpoint: &Checkpoint) -> Result<(), StoreError> {
        self.pass("checkpoint", self.inner.checkpoint(lease, checkpoint)).await
    }

    async fn scan_extents(&self, shard: ShardId, scan: ExtentScan) -> Result<Vec<Extent>, StoreError> {
        self.pass("scan", self.inner.scan_extents(shard, scan)).await
    }

    async fn find_extent(
        &self,
        shard: ShardId,
        topic: TopicId,
        partition: PartitionIndex,
        from: Offset,
        at: Timestamp,
    ) -> Result<Option<Extent>, StoreError> {
        self.pass("find", self.inner.find_extent(shard, topic, partition, from, at)).await
    }
}
