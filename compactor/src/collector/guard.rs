//! Whether anything may be deleted (R12): compares the ledgers with the mark in the bucket, raises the mark, and halts the
//! collector when the ledgers are behind it. While halted it writes nothing: only `lakefall recover` ends that.
//!
//! Several collectors write the mark, and the last writer wins: a store cannot be counted on to compare and swap. What one
//! wrote over another's is repaired, not avoided. Each remembers the highest mark that it saw and writes the higher of
//! both; and a mark whose writing took long, so that others may have gone past it meanwhile, is written again. So a mark
//! is too low at most by what was journaled during [`SLOW`], until the next collector looks.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use lakefall_metadata::Metadata;
use lakefall_queue::ledger::{Answer, JournalPosition, Query};
use lakefall_queue::{SegmentId, ShardId, Timestamp};
use lakefall_storage::store::Store;

use super::{CollectError, Collector, unexpected};
use crate::mark::{self, Halt, Mark, Span};
use crate::metrics as names;

/// A mark that took longer to write is written again, with what is journaled by then.
const SLOW: Duration = Duration::from_secs(5);
/// How often one look is repeated for that at most; then nothing is deleted in this round.
const ATTEMPTS: usize = 3;
/// Shards asked at once.
const PARALLEL: usize = 16;
/// Time between two errors in the log that say the same.
const REMIND: Duration = Duration::from_secs(3_600);

/// What is remembered between two looks.
#[derive(Default)]
pub(super) struct Guard {
    /// One look at a time: two of this process must not write over each other.
    looking: tokio::sync::Mutex<()>,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// The highest mark that this collector knows of.
    mark: Option<Mark>,
    halted: Option<Halt>,
    /// When the log was last told.
    told: Option<Duration>,
    /// A ledger's time, and when it was seen.
    time: Option<(Timestamp, Duration)>,
}

/// What a look found.
enum Looked {
    Clear,
    Halted(Halt),
    /// The mark was written, but others may have gone past it meanwhile.
    Slowly,
}

impl Collector {
    /// Compares the ledgers with the mark and raises it. `None`: what nobody needs may be deleted, as far as the ledgers go
    /// back to where they are now. Costs a GET, and a PUT if something was journaled since.
    pub async fn check(&self) -> Result<Option<Halt>, CollectError> {
        let _one = self.guard.looking.lock().await;
        for _ in 0..ATTEMPTS {
            match self.look().await? {
                Looked::Clear => {
                    self.go_on();
                    return Ok(None);
                }
                Looked::Halted(halt) => return Ok(Some(self.halt(halt))),
                Looked::Slowly => {}
            }
        }
        Err(CollectError::Defect(format!("the mark {} takes too long to be written: nothing is deleted for now", mark::KEY)))
    }

    async fn look(&self) -> Result<Looked, CollectError> {
        let stored = read_mark(&self.store).await?;
        let identity = self.metadata.identity().await?;
        let taken = self.ambient.clock.elapsed();
        let positions = positions(&*self.metadata).await?;
        self.guard.saw(&positions, taken);
        let stored = match stored.transpose() {
            Ok(stored) => stored,
            Err(halt) => return Ok(Looked::Halted(halt)),
        };
        let known = self.guard.seen().mark.clone();
        let mark = match (stored.clone(), known) {
            (Some(stored), Some(known)) => {
                // By itself first: merged with what is remembered, another cluster's would look like our own. But not one
                // from before `recover`, which a collector wrote that did not know of it.
                if stored.generation >= known.generation
                    && let Err(halt) = stored.judge(&identity, &positions)
                {
                    return Ok(Looked::Halted(halt));
                }
                stored.merged(known)
            }
            (Some(only), None) | (None, Some(only)) => only,
            (None, None) => self.first_mark(Mark::new(0, &identity, &positions, self.guard.now(taken), Vec::new())),
        };
        if let Err(halt) = mark.judge(&identity, &positions) {
            return Ok(Looked::Halted(halt));
        }
        let mark = mark.raised(&positions, self.guard.now(taken));
        // Remembered before it is written: should writing fail, it is still true.
        self.guard.seen().mark = Some(mark.clone());
        if stored.is_some_and(|stored| mark.says_no_more_than(&stored)) {
            return Ok(Looked::Clear);
        }
        write_mark(&self.store, &mark).await?;
        let took = self.ambient.clock.elapsed().saturating_sub(taken);
        Ok(if took < SLOW { Looked::Clear } else { Looked::Slowly })
    }

    /// The ledgers' time, told by them at the last look and carried on by this machine's monotonic clock: never later than
    /// it is, whatever this machine's wall clock says.
    pub(super) fn ledger_time(&self) -> Timestamp {
        self.guard.now(self.ambient.clock.elapsed())
    }

    /// Whether an operator wants an object kept that no ledger knows.
    pub(super) fn is_spared(&self, id: SegmentId) -> bool {
        self.guard.seen().mark.as_ref().is_some_and(|mark| mark.spares(id))
    }

    /// Nothing tells what became of what is stored already: it may be another ledger's, or this one's before it was
    /// restored. It is kept until an operator says otherwise.
    fn first_mark(&self, mut mark: Mark) -> Mark {
        // The ledgers may be idle, or restored: by the machine's clock as well. Too much kept harms nobody.
        let until = mark.written_at.max(self.ambient.now());
        tracing::info!(
            key = mark::KEY,
            %until,
            "the store has no mark yet: what is in it already and what no ledger knows is kept until `lakefall recover --discard`"
        );
        mark.spared.push(Span { from: Timestamp::default(), until });
        mark
    }

    fn halt(&self, halt: Halt) -> Halt {
        let elapsed = self.ambient.clock.elapsed();
        let mut seen = self.guard.seen();
        let before = seen.halted.replace(halt.clone());
        if let Some(before) = before.as_ref().filter(|before| before.reason() != halt.reason()) {
            ::metrics::gauge!(names::HALTED, "reason" => before.reason()).set(0.0);
        }
        ::metrics::gauge!(names::HALTED, "reason" => halt.reason()).set(1.0);
        let remind = seen.told.is_none_or(|told| elapsed.saturating_sub(told) >= REMIND);
        if remind || before.is_none_or(|before| before.reason() != halt.reason()) {
            seen.told = Some(elapsed);
            tracing::error!(reason = halt.reason(), "the collector is halted: {halt}");
        }
        halt
    }

    fn go_on(&self) {
        if let Some(halt) = self.guard.seen().halted.take() {
            ::metrics::gauge!(names::HALTED, "reason" => halt.reason()).set(0.0);
            tracing::info!(reason = halt.reason(), "the collector goes on: an operator accepted what the ledgers hold");
        }
    }
}

impl Guard {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All ledgers go by one clock, the metadata store's, but an idle one tells when it was last busy: the latest is right.
    fn saw(&self, positions: &[JournalPosition], elapsed: Duration) {
        let Some(latest) = positions.iter().map(|at| at.time).max() else { return };
        if latest > self.now(elapsed) {
            self.seen().time = Some((latest, elapsed));
        }
    }

    fn now(&self, elapsed: Duration) -> Timestamp {
        self.seen().time.map_or_else(Timestamp::default, |(time, seen)| time.plus(elapsed.saturating_sub(seen)))
    }
}

/// How far every shard is, in their order.
pub(crate) async fn positions(metadata: &dyn Metadata) -> Result<Vec<JournalPosition>, CollectError> {
    let asked = futures::stream::iter((0..metadata.shards()).map(ShardId)).map(|shard| async move {
        match metadata.query(shard, Query::Position).await? {
            Answer::Position(position) => Ok(position),
            other => Err(unexpected(&other)),
        }
    });
    asked.buffered(PARALLEL).try_collect().await
}

/// The mark in the store, if there is one; inside, what is wrong with it.
pub(crate) async fn read_mark(store: &Store) -> Result<Option<Result<Mark, Halt>>, CollectError> {
    Ok(store.get_control(mark::KEY).await?.map(|bytes| Mark::decode(&bytes)))
}

pub(crate) async fn write_mark(store: &Store, mark: &Mark) -> Result<(), CollectError> {
    let bytes = mark.encode().map_err(|error| CollectError::Defect(error.to_string()))?;
    Ok(store.put_control(mark::KEY, bytes).await?)
}
