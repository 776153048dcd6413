//! The read path: where to begin, which extents, which batches, and waiting for more without polling.

mod asks;
mod columns;
mod fetch;
mod kept;
mod locations;
mod pass;
mod position;
mod room;
mod scan;
mod tails;
mod wait;

use std::sync::Arc;

use lakefall_metadata::{Metadata, Meter};
use lakefall_queue::clock::Ambient;
use lakefall_queue::error::Error;
use lakefall_queue::ledger::{Extent, Located, Refusal};
use lakefall_queue::topic::Topic;
use lakefall_queue::verbs::{Position, Start};
use lakefall_queue::{Offset, PartitionIndex, TopicId};
use lakefall_service::Background;
use lakefall_storage::cache::Cache;
use lakefall_storage::meter::within;
use lakefall_storage::store::Store;

pub(crate) use asks::ASK_FOR;
use asks::{Asks, Question};
use kept::Kept;
use locations::{Bounds, Locations};
use room::Room;
use tails::Tails;
pub(crate) use tails::{Listeners, run as follow};

/// Extents asked for at once.
const EXTENTS_AT_ONCE: usize = 64;

/// Reads for everyone.
pub(crate) struct Reader {
    asks: Asks,
    cache: Arc<Cache>,
    /// Read without the cache only where that answered damaged bytes.
    store: Store,
    pub(crate) tails: Arc<Tails>,
    locations: Arc<Locations>,
    room: Arc<Room>,
    /// Of Parquet files.
    kept: Kept,
    /// Decodes what is old and writes answers of it, so that replays take no time from the tail.
    replays: Background,
    /// Whose topics are read pay for it.
    usage: Arc<Meter>,
    ambient: Ambient,
}

/// Why a read came to nothing.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// The topic was deleted, or is not what this gateway remembers: resolve its name again.
    TopicGone,
    /// The records lie elsewhere by now: locate them again.
    Moved,
    /// The metadata service does not answer. What is remembered may be read; who waits may go on waiting.
    Away(Error),
    /// Anything else.
    Refused(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl Failure {
    pub(crate) fn into_error(self) -> Error {
        match self {
            Self::TopicGone => Refusal::TopicGone.into_error(),
            Self::Moved => Error::unavailable("the records keep being moved while they are read: read again"),
            Self::Away(error) | Self::Refused(error) => error,
        }
    }
}

/// One partition of a read under way.
#[derive(Clone, Copy, Debug)]
struct At {
    partition: PartitionIndex,
    next: Offset,
    bounds: Bounds,
    finished: bool,
    /// The bounds are known, if only from earlier.
    located: bool,
    /// The bounds were told since this read began and since anything was in doubt: what is not below the end is not there yet.
    current: bool,
    /// The bounds were told since this read began: what was acknowledged before it is below the end.
    told: bool,
}

impl At {
    fn told(&mut self, bounds: Bounds, current: bool) {
        self.bounds = if self.located { self.bounds.raised_to(bounds) } else { bounds };
        (self.located, self.current, self.told) = (true, current, self.told || current);
    }

    fn at_end(&self) -> bool {
        self.located && self.next >= self.bounds.end
    }
}

impl From<At> for Position {
    fn from(at: At) -> Self {
        let (log_start, end) = (at.bounds.log_start, at.bounds.end);
        Self { partition: at.partition, next: at.next, log_start, end, current: at.told, finished: at.finished }
    }
}

impl Reader {
    /// `room_bytes`: what all answers together may occupy.
    pub(crate) fn new(
        metadata: Arc<dyn Metadata>,
        (cache, store): (Arc<Cache>, Store),
        usage: Arc<Meter>,
        ambient: Ambient,
        room_bytes: usize,
    ) -> Self {
        let locations = Locations::new(ambient.clone());
        let asks = Asks::new(metadata, Arc::clone(&locations));
        let tails = Arc::new(Tails::new(Arc::clone(&locations)));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let replays = Background::start("replay", cores);
        Self { asks, cache, store, tails, locations, room: Room::new(room_bytes), kept: Kept::default(), replays, usage, ambient }
    }

    /// The topic changed: nothing that was remembered of its records is believed.
    pub(crate) fn forget(&self, topic: TopicId) {
        self.locations.forget(topic);
    }

    /// Asks where a partition begins and ends.
    async fn bounds(&self, topic: &Topic, partition: PartitionIndex) -> Result<Bounds, Failure> {
        let question = Question::Locate { topic: topic.id, partition, from: Offset(u64::MAX), max_bytes: 0, max_extents: 0 };
        let located = self.asks.located(question).await?;
        Ok(Bounds { log_start: located.log_start, end: located.end })
    }

    /// Asks where all partitions begin and end, in one question.
    async fn all_bounds(&self, topic: &Topic) -> Result<Vec<Bounds>, Failure> {
        let status = self.asks.partitions(topic.id).await?;
        let bounds: Vec<Bounds> = status.iter().map(Bounds::from).collect();
        if bounds.len() < topic.config.partitions as usize {
            return Err(Failure::TopicGone);
        }
        if bounds.iter().all(|bounds| bounds.log_start == bounds.end) {
            // Deleted topics look like this, too; only this question tells them apart.
            self.bounds(topic, PartitionIndex(0)).await?;
        }
        Ok(bounds)
    }

    /// Asks where the records from `from` on are.
    async fn locate(&self, topic: &Topic, partition: PartitionIndex, from: Offset, max_bytes: u64) -> Result<Located, Failure> {
        let question = Question::Locate { topic: topic.id, partition, from, max_bytes, max_extents: EXTENTS_AT_ONCE };
        let located = self.asks.located(question).await?;
        // Extents can be let go of between the look into memory and the one into the store: then look again.
        if let Some(first) = located.extents.first()
            && first.base_offset > from
            && from >= located.log_start
        {
            return self.asks.located(question).await;
        }
        Ok(located)
    }

    fn check_partition(&self, topic: &Topic, partition: PartitionIndex) -> Result<(), Error> {
        if partition.0 < topic.config.partitions {
            return Ok(());
        }
        Err(Error::PartitionNotFound { topic: topic.name.clone(), partition, partitions: topic.config.partitions })
    }

    /// Which objects hold a partition's records.
    pub(crate) async fn extents(
        &self,
        topic: &Topic,
        partition: PartitionIndex,
        from: Offset,
        limit: usize,
    ) -> Result<Vec<Extent>, Failure> {
        self.check_partition(topic, partition)?;
        let mut found: Vec<Extent> = Vec::new();
        let mut next = from;
        while found.len() < limit {
            let max_extents = limit - found.len();
            let question = Question::Locate { topic: topic.id, partition, from: next, max_bytes: u64::MAX, max_extents };
            let located = self.asks.located(question).await?;
            let Some(last) = located.extents.last() else { break };
            next = last.end();
            found.extend(located.extents);
        }
        Ok(found)
    }

    /// Resolves a start to an offset, in each of the partitions.
    pub(crate) async fn positions(&self, topic: &Topic, partitions: &[PartitionIndex], start: Start) -> Result<Vec<Position>, Failure> {
        let resolved = if matches!(start, Start::Offset(_)) { Start::Latest } else { start };
        let from: Vec<(PartitionIndex, Start)> = partitions.iter().map(|partition| (*partition, resolved)).collect();
        let mut places = within(self.usage.of(topic).tally(), self.places(topic, &from)).await?;
        if let Start::Offset(next) = start {
            places.iter_mut().for_each(|at| at.next = next);
        }
        Ok(places.into_iter().map(Position::from).collect())
    }
}
