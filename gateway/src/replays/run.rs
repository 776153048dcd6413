//! A replay under way: reads in offset order, partition by partition, and appends what matches. An answer that was lost is
//! settled by looking at the progress again.

use std::sync::Arc;
use std::time::Duration;

use lakefall_queue::error::{Error, Result};
use lakefall_queue::topic::Topic;
use lakefall_queue::verbs::{Caller, Commit, Fetched, Read, Start, TopicAppend, Verbs};
use lakefall_queue::{Offset, PartitionIndex, Record};

use super::chosen::Predicate;
use super::copied::Selection;
use super::place::Place;
use crate::metrics::REPLAYED_RECORDS;
use crate::queues::Progress;

/// Records of one read and of one batch, at most.
const BATCH: usize = 5_000;
/// Bytes of one read.
const BATCH_BYTES: usize = 4 << 20;
/// Fewest records of one read, however slow the replay is to be.
const READ_MIN: usize = 100;
/// Records looked at without one to be copied before the progress is kept.
const UNSAVED_MAX: u64 = 100_000;
/// Between two attempts while the stores are away or a queue is full, and how many while the stores are away.
const PAUSE: (Duration, usize) = (Duration::from_secs(1), 30);

/// How fast it may go, and whether it does anything.
pub(super) struct Pace {
    pub(super) max_per_second: Option<u32>,
    pub(super) dry_run: bool,
}

/// What a replay works with.
pub(super) struct Run {
    pub(super) verbs: Arc<dyn Verbs>,
    pub(super) caller: Caller,
    pub(super) selection: Selection,
    pub(super) predicate: Option<Predicate>,
    pub(super) target: Topic,
    pub(super) place: Place,
    pub(super) pace: Pace,
    pub(super) progress: Progress,
    /// Offsets passed since the progress was kept.
    pub(super) unsaved: u64,
}

impl Run {
    /// Copies until all that is covered was looked at, or the operation is to stop.
    pub(super) async fn go(&mut self) -> Result<()> {
        for (partition, end) in self.place.ends.clone() {
            let mut at = self.place.next.get(&partition).copied().unwrap_or(end);
            while at < end && !self.progress.is_cancelled() {
                let (chosen, until) = self.choose(partition, at, end).await?;
                at = self.window(partition, at, until, chosen.as_deref()).await?;
            }
            self.save(partition, at).await?;
        }
        Ok(())
    }

    /// What the predicate chooses of the next offsets, and up to where. Without a predicate, there is no choice.
    async fn choose(&mut self, partition: PartitionIndex, from: Offset, end: Offset) -> Result<(Option<Vec<Offset>>, Offset)> {
        let mut tries = 0;
        while let Some(predicate) = &mut self.predicate {
            match predicate.next(&*self.verbs, &self.caller, partition, from, end).await {
                Ok(chosen) => return Ok((Some(chosen.offsets), chosen.until)),
                Err(error) => self.pause(error, &mut tries).await?,
            }
        }
        Ok((None, end))
    }

    /// Copies what matches from an offset to another one. Answers how far it came.
    async fn window(&mut self, partition: PartitionIndex, from: Offset, until: Offset, chosen: Option<&[Offset]>) -> Result<Offset> {
        let mut at = from;
        while at < until && !self.progress.is_cancelled() {
            let wanted = match chosen {
                Some(chosen) => near(chosen, at, self.read_records()),
                None => Some((at, until)),
            };
            let Some((first, last)) = wanted else {
                self.passed(at, until, 0);
                return Ok(until);
            };
            self.passed(at, first, 0);
            at = match self.page(partition, first, last).await {
                Ok((fetched, next)) => {
                    let Fetched { records, admission, .. } = fetched;
                    let copies = self.selection.copies(records, chosen, self.target.config.partitions).await;
                    let came = self.copy_all(partition, first, next, copies).await?;
                    drop(admission);
                    came
                }
                Err(Error::BelowLogStart { log_start, .. }) => {
                    let next = log_start.min(until).max(first.plus(1));
                    tracing::warn!(topic = %self.selection.source, %partition, %first, %next, "records expired before a replay came to them");
                    self.passed(first, next, 0);
                    next
                }
                Err(error) => return Err(error),
            };
            if self.unsaved >= UNSAVED_MAX {
                self.save(partition, at).await?;
            }
        }
        Ok(at)
    }

    /// Reads the first records of a range, and says where to go on.
    async fn page(&mut self, partition: PartitionIndex, from: Offset, until: Offset) -> Result<(Fetched, Offset)> {
        let mut tries = 0;
        loop {
            let read = Read {
                topic: self.selection.source.clone(),
                from: vec![(partition, Start::Offset(from))],
                max_records: self.read_records(),
                max_bytes: BATCH_BYTES,
                until_offset: Some(until),
                until_timestamp: None,
                wait: Duration::ZERO,
            };
            let error = match self.verbs.read(&self.caller, read).await {
                Ok(fetched) => {
                    let position = fetched.next.first().copied();
                    let next = position.map_or(from, |at| if at.finished { until } else { at.next.min(until) });
                    if next > from {
                        return Ok((fetched, next));
                    }
                    Error::unavailable(format!("the record at offset {from} of partition {partition} cannot be read yet"))
                }
                Err(error) => error,
            };
            self.pause(error, &mut tries).await?;
        }
    }

    /// Appends copies, each second as many as it may. Answers how far it came: to `next`, unless it was to stop.
    async fn copy_all(&mut self, partition: PartitionIndex, from: Offset, next: Offset, copies: Vec<(Offset, Record)>) -> Result<Offset> {
        let (most, mut at, mut copies) = (self.at_once(), from, copies);
        while !copies.is_empty() {
            if self.progress.is_cancelled() {
                return Ok(at);
            }
            let rest = copies.split_off(copies.len().min(most));
            let batch = std::mem::replace(&mut copies, rest);
            let to = batch.last().filter(|_| !copies.is_empty()).map_or(next, |(offset, _)| offset.plus(1));
            let count = batch.len();
            if !self.append(partition, to, batch).await? {
                return Ok(at);
            }
            self.passed(at, to, count);
            self.unsaved = 0;
            at = to;
            if let Some(rate) = self.pace.max_per_second {
                self.progress.sleep(Duration::from_secs_f64(count as f64 / f64::from(rate))).await;
            }
        }
        self.passed(at, next, 0);
        Ok(next)
    }

    /// Keeps the progress where nothing was to be copied.
    async fn save(&mut self, partition: PartitionIndex, at: Offset) -> Result<()> {
        if self.unsaved > 0 {
            self.append(partition, at, Vec::new()).await?;
            self.unsaved = 0;
        }
        Ok(())
    }

    /// Appends a batch and moves the progress, in one atom. False: it was to stop before it could.
    async fn append(&mut self, partition: PartitionIndex, to: Offset, batch: Vec<(Offset, Record)>) -> Result<bool> {
        let mut tries = 0;
        while !self.pace.dry_run {
            let error = match self.commit(partition, to, &batch).await {
                Ok(()) => {
                    self.place.is_at(partition, to);
                    break;
                }
                // Refused as an earlier attempt went through after all, or moved by somebody else.
                Err(Error::Unknown { .. } | Error::VersionMismatch { .. }) => {
                    match self.place.settle(&*self.verbs, &self.caller, partition, to).await {
                        Ok(true) => break,
                        Ok(false) => Error::unknown("the batch is not there"),
                        Err(error) => error,
                    }
                }
                Err(Error::QueueFull { .. }) if self.progress.is_cancelled() => return Ok(false),
                // Its receivers take as long as they take.
                Err(Error::QueueFull { .. }) => {
                    self.progress.sleep(PAUSE.0).await;
                    continue;
                }
                Err(error) => error,
            };
            let error = of_record(error, partition, &batch);
            self.pause(error, &mut tries).await?;
        }
        self.progress.done(batch.len());
        if !self.pace.dry_run {
            metrics::counter!(REPLAYED_RECORDS).increment(batch.len() as u64);
        }
        Ok(true)
    }

    async fn commit(&self, partition: PartitionIndex, to: Offset, batch: &[(Offset, Record)]) -> Result<()> {
        let admission = self.verbs.admit(&self.caller, batch.iter().map(|(_, record)| record.payload_bytes()).sum()).await?;
        let records: Vec<Record> = batch.iter().map(|(_, record)| record.clone()).collect();
        let appends = if records.is_empty() { Vec::new() } else { vec![TopicAppend::new(self.target.name.clone(), records)] };
        let cursors = self.place.moved_to(partition, to);
        let commit = Commit { appends, cursors, settlements: Vec::new(), idempotency: None, admission };
        self.verbs.commit(&self.caller, commit).await.map(drop)
    }

    /// From an offset to another one all was looked at, and so many were copied.
    fn passed(&mut self, from: Offset, to: Offset, copied: usize) {
        let offsets = to.0.saturating_sub(from.0);
        self.unsaved += offsets;
        self.progress.skipped(offsets.saturating_sub(copied as u64) as usize);
    }

    /// Copies of a batch. At a rate, each second has its batch.
    fn at_once(&self) -> usize {
        self.pace.max_per_second.map_or(BATCH, |rate| (rate as usize).min(BATCH))
    }

    /// Records of a read: what is read occupies room until it is copied.
    fn read_records(&self) -> usize {
        self.at_once().max(READ_MIN)
    }

    /// Waits a little while the stores are away, for so long.
    async fn pause(&self, error: Error, tries: &mut usize) -> Result<()> {
        if !matches!(error, Error::Unavailable { .. } | Error::Unknown { .. }) || *tries >= PAUSE.1 || self.progress.is_cancelled() {
            return Err(error);
        }
        *tries += 1;
        self.progress.sleep(PAUSE.0).await;
        Ok(())
    }
}

/// The first of the chosen offsets from `at` on, and the end of those that one read may answer along with it.
fn near(chosen: &[Offset], at: Offset, most: usize) -> Option<(Offset, Offset)> {
    let left = &chosen[chosen.partition_point(|offset| *offset < at)..];
    let first = *left.first()?;
    let within = left.partition_point(|offset| *offset < first.plus(most as u64));
    left[..within].last().map(|last| (first, last.plus(1)))
}

/// Says which record it is that the target's schema refuses.
fn of_record(error: Error, partition: PartitionIndex, batch: &[(Offset, Record)]) -> Error {
    let Error::RecordsInvalid(invalid) = &error else { return error };
    let Some((first, (offset, _))) = invalid.first().and_then(|first| Some((first, batch.get(first.record)?))) else { return error };
    Error::invalid(
        "to",
        format!("the record at offset {offset} of partition {partition} does not match the target's schema: {}", first.wrong),
    )
}
