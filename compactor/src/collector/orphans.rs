//! The orphan sweep: deletes objects that no ledger knows, as a gateway leaves them that died between storing a segment and
//! committing it, or a compactor before its swap (L5). A listing only names candidates and may be old or partial. What decides is the ledgers: every one must
//! have journaled that it refuses the segment for ever, and only then is the object deleted. A commit that comes later
//! fails, and its gateway tells nobody that the records are stored. What some ledger took is not touched here.
//!
//! The refusals are forgotten by the rounds, like objects that were let go of, when the segment is too old to be committed.

use std::collections::BTreeSet;
use std::path::PathBuf;

use futures::{StreamExt, TryStreamExt};
use lakefall_queue::ledger::key::{TABLES, parquet_id};
use lakefall_queue::ledger::{Answer, Command, Query, Reply};
use lakefall_queue::planted::{self, Bug};
use lakefall_queue::{SegmentId, ShardId, Timestamp};
use lakefall_service::blocking;
use lakefall_storage::store::ObjectInfo;

use super::{CollectError, Collector, staging, unexpected};
use crate::metrics as names;
use crate::segments::{prefix, spread};

/// Objects judged at once; also the largest journaled refusal.
const BATCH: usize = 1_000;
/// Deletions on their way at the same time.
const PARALLEL: usize = 8;

/// What a sweep found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Objects listed.
    pub listed: u64,
    /// Objects younger than the grace: not judged yet.
    pub young: u64,
    /// Orphans: no ledger knows them, or all that do have refused them.
    pub orphans: u64,
    /// Of those, deleted.
    pub deleted: u64,
    /// Bytes of the orphans that are still there.
    pub bytes_left: u64,
    /// When the oldest orphan that is still there was minted.
    pub oldest_left: Option<Timestamp>,
    /// Objects that no ledger knows and that an operator wants kept.
    pub spared: u64,
    /// Keys that are not segments. They are nobody's business here.
    pub foreign: u64,
    /// Half-written files that were removed from a local store.
    pub staging: u64,
    /// The sweep was broken off because nothing may be deleted.
    pub halted: bool,
}

impl Swept {
    /// Whether a next sweep has work although nothing is appended: something was too young or withstood.
    pub fn again(&self) -> bool {
        self.halted || self.young > 0 || self.orphans > self.deleted
    }
}

/// A sweep under way. One that failed is taken up where it was.
#[derive(Debug, Default)]
pub struct Sweep {
    /// Folders that are done.
    done: usize,
    swept: Swept,
}

struct Candidate {
    id: SegmentId,
    key: String,
    size: u64,
}

impl Collector {
    /// A whole sweep.
    pub async fn sweep(&self) -> Result<Swept, CollectError> {
        self.sweep_on(&mut Sweep::default()).await
    }

    /// Goes on with a sweep until it is done. After an error the same one may be handed in again.
    pub async fn sweep_on(&self, sweep: &mut Sweep) -> Result<Swept, CollectError> {
        let outcome = self.sweep_rest(sweep).await;
        let name = match &outcome {
            Err(_) => "failed",
            Ok(()) if sweep.swept.halted => "halted",
            Ok(()) if sweep.swept.orphans > sweep.swept.deleted => "failed",
            Ok(()) => "ok",
        };
        ::metrics::counter!(names::SWEEPS, "outcome" => name).increment(1);
        outcome?;
        let swept = std::mem::take(sweep).swept;
        self.show(&swept);
        if !swept.halted {
            ::metrics::gauge!(names::LAST_SWEEP_SECONDS).set(self.ledger_time().as_millis() as f64 / 1e3);
            let Swept { listed, orphans, deleted, spared, staging, .. } = swept;
            tracing::debug!(listed, orphans, deleted, spared, staging, "the store was searched for orphans");
        }
        Ok(swept)
    }

    async fn sweep_rest(&self, sweep: &mut Sweep) -> Result<(), CollectError> {
        if self.check().await?.is_some() {
            sweep.swept.halted = true;
            return Ok(());
        }
        let folders = spread().map(|folder| (prefix(folder), false)).chain([(TABLES.trim_end_matches('/').to_owned(), true)]);
        for (folder, tables) in folders.skip(sweep.done) {
            // What a failed attempt at a folder counted is counted again by the next.
            let mut swept = sweep.swept.clone();
            let done = self.sweep_folder(&folder, tables, &mut swept).await;
            if done.is_err() {
                // But what it deleted or left is to be seen.
                self.show(&swept);
            }
            done?;
            sweep.swept = swept;
            sweep.done += 1;
            if sweep.swept.halted {
                return Ok(());
            }
            tokio::time::sleep(self.config.list_pause).await;
        }
        Ok(())
    }

    /// Sweeps what is below a prefix; `tables`: Parquet files in folders of their own, else one folder of segments.
    async fn sweep_folder(&self, prefix: &str, tables: bool, swept: &mut Swept) -> Result<(), CollectError> {
        let horizon = self.ledger_time().minus(self.config.orphan_grace);
        let mut listed = self.store.list(prefix);
        let mut batch = Vec::new();
        while let Some(ObjectInfo { key, size, modified }) = listed.try_next().await? {
            let Some(id) = SegmentId::from_key(&key).or_else(|| parquet_id(&key)) else {
                // Beside the Parquet files are those of whoever manages them as tables.
                swept.foreign += u64::from(!tables);
                continue;
            };
            swept.listed += 1;
            if id.minted_at() >= horizon || modified >= horizon {
                swept.young += 1;
                continue;
            }
            batch.push(Candidate { id, key, size });
            if batch.len() == BATCH {
                self.sweep_batch(std::mem::take(&mut batch), swept).await?;
                if swept.halted {
                    return Ok(());
                }
            }
        }
        self.sweep_batch(batch, swept).await?;
        if let Some(root) = &self.local {
            swept.staging += self.sweep_staging(root.join(prefix), horizon).await?;
        }
        Ok(())
    }

    async fn sweep_batch(&self, listed: Vec<Candidate>, swept: &mut Swept) -> Result<(), CollectError> {
        let unknown = self.unknown(listed).await?;
        let (spared, orphans): (Vec<_>, Vec<_>) = unknown.into_iter().partition(|object| self.is_spared(object.id));
        swept.spared += spared.len() as u64;
        if orphans.is_empty() {
            return Ok(());
        }
        swept.orphans += orphans.len() as u64;
        swept.bytes_left += orphans.iter().map(|object| object.size).sum::<u64>();
        let minted_at = orphans.iter().map(|object| object.id.minted_at()).min();
        swept.oldest_left = swept.oldest_left.into_iter().chain(minted_at).min();
        self.show(swept);
        let oldest_before = swept.oldest_left;
        if self.check().await?.is_some() {
            swept.halted = true;
            return Ok(());
        }
        let ids = orphans.iter().map(|object| object.id);
        let refused = if planted::is(Bug::SweepWithoutRefusal) { ids.collect() } else { self.refuse(ids.collect()).await? };
        // Once more: a store that went back while it was asked may have forgotten what it took before.
        if self.check().await?.is_some() {
            swept.halted = true;
            return Ok(());
        }
        let (orphans, taken): (Vec<_>, Vec<_>) = orphans.into_iter().partition(|object| refused.contains(&object.id));
        // Committed at the last moment.
        swept.orphans -= taken.len() as u64;
        swept.bytes_left -= taken.iter().map(|object| object.size).sum::<u64>();
        self.delete_orphans(orphans, swept).await;
        swept.oldest_left = oldest_before.filter(|_| swept.orphans > swept.deleted);
        self.show(swept);
        Ok(())
    }

    /// Those that no ledger knows, or that were refused unseen: these are asked for again, as deleting may have failed, and the
    /// ledger's answer decides.
    async fn unknown(&self, mut objects: Vec<Candidate>) -> Result<Vec<Candidate>, CollectError> {
        for shard in (0..self.metadata.shards()).map(ShardId) {
            if objects.is_empty() {
                break;
            }
            let asked = objects.iter().map(|object| object.id).collect();
            let known = match self.ask(shard, Query::Objects(asked)).await? {
                Answer::Objects(known) if known.len() == objects.len() => known,
                other => return Err(unexpected(&other)),
            };
            let mut known = known.into_iter();
            objects.retain(|_| known.next().flatten().is_none_or(|status| status.was_refused_unseen()));
        }
        Ok(objects)
    }

    /// Has every ledger refuse segments. Answers those that all of them refuse: these can never be committed.
    async fn refuse(&self, segments: Vec<SegmentId>) -> Result<BTreeSet<SegmentId>, CollectError> {
        let mut refused: BTreeSet<SegmentId> = segments.iter().copied().collect();
        for shard in (0..self.metadata.shards()).map(ShardId) {
            // A segment that one of them has taken is not asked of the others: it may be on its way to them.
            let segments: Vec<SegmentId> = refused.iter().copied().collect();
            if segments.is_empty() {
                break;
            }
            match self.metadata.execute(shard, Command::RefuseSegments { segments }).await? {
                Reply::Refused(by_this) => {
                    let by_this: BTreeSet<SegmentId> = by_this.into_iter().collect();
                    refused.retain(|id| by_this.contains(id));
                }
                other => return Err(CollectError::Defect(format!("the metadata service answered a refusal with {other:?}"))),
            }
        }
        Ok(refused)
    }

    /// What withstands is left to the next sweep.
    async fn delete_orphans(&self, orphans: Vec<Candidate>, swept: &mut Swept) {
        let mut deletions = futures::stream::iter(orphans)
            .map(|object| async move { (self.store.delete(&object.key).await, object) })
            .buffer_unordered(PARALLEL);
        while let Some((deleted, object)) = deletions.next().await {
            match deleted {
                Ok(()) => {
                    swept.deleted += 1;
                    swept.bytes_left -= object.size;
                    self.shared.swept(object.id);
                    ::metrics::counter!(names::SWEPT_OBJECTS).increment(1);
                    ::metrics::counter!(names::SWEPT_BYTES).increment(object.size);
                    tracing::info!(object = %object.id, bytes = object.size, "an orphan was deleted: it was never committed");
                }
                Err(error) => tracing::warn!(object = %object.id, %error, "an orphan could not be deleted: it is tried again later"),
            }
        }
    }

    async fn sweep_staging(&self, folder: PathBuf, horizon: Timestamp) -> Result<u64, CollectError> {
        let removed = blocking::run(move || staging::remove(&folder, horizon)).await;
        let removed = removed.map_err(|error| CollectError::Defect(error.to_string()))?;
        let removed = removed.map_err(|error| CollectError::Folder(error.to_string()))?;
        ::metrics::counter!(names::STAGING_FILES).increment(removed);
        Ok(removed)
    }

    fn show(&self, swept: &Swept) {
        let age = |minted_at: Timestamp| self.ledger_time().as_millis().saturating_sub(minted_at.as_millis()).max(0) as f64 / 1e3;
        ::metrics::gauge!(names::ORPHANS).set((swept.orphans - swept.deleted) as f64);
        ::metrics::gauge!(names::ORPHAN_BYTES).set(swept.bytes_left as f64);
        ::metrics::gauge!(names::ORPHAN_OLDEST_SECONDS).set(swept.oldest_left.map_or(0.0, age));
        ::metrics::gauge!(names::SPARED_OBJECTS).set(swept.spared as f64);
        ::metrics::gauge!(names::FOREIGN_KEYS).set(swept.foreign as f64);
    }
}
