//! From the submissions of a segment to its bytes and its proposal to the ledgers. Pure and heavy: runs on a blocking
//! thread.

use std::collections::BTreeMap;

use lakefall_queue::ledger::{Atom, ProposedExtent, SegmentCommit, Slice, SliceCondition};
use lakefall_queue::topic::Compression;
use lakefall_queue::{Offset, PartitionIndex, SegmentId, ShardId, Timestamp, TopicId};
use lakefall_storage::batch::{BatchEncoder, BatchError, EncodedBatch};
use lakefall_storage::segment::{Segment, SegmentBuilder, SegmentError};

use super::{OrderKey, Part, Submission};

/// A segment that is ready to be stored.
pub(super) struct Built {
    pub(super) segment: Segment,
    /// What each shard is asked to commit.
    pub(super) commits: BTreeMap<ShardId, SegmentCommit>,
    /// For each submission and part, in order.
    pub(super) placements: Vec<Vec<Placement>>,
    /// For each bound submission, the atom in its shard's commit.
    pub(super) atoms: Vec<Option<(ShardId, usize)>>,
}

/// Where a part went.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placement {
    pub(super) shard: ShardId,
    /// Index of the slice in its shard's commit, counted over all extents.
    pub(super) slice: usize,
    /// Records before the part's first in the slice.
    pub(super) skip: u64,
}

/// Why a segment cannot be built: a defect, or a record that no batch can hold.
#[derive(Debug, thiserror::Error)]
pub(super) enum BuildError {
    #[error(transparent)]
    Batch(#[from] BatchError),
    #[error(transparent)]
    Segment(#[from] SegmentError),
}

/// A run of parts that become one slice.
struct Run<'a> {
    members: Vec<(usize, usize)>,
    parts: Vec<&'a Part>,
    atom: Option<u32>,
    /// Asks for nothing: others may join.
    plain: bool,
}

type Key = (TopicId, PartitionIndex);

/// Encodes all submissions. `now` is the timestamp of records that carry none.
pub(super) fn build(id: SegmentId, submissions: &[Submission], batch_bytes: usize, now: Timestamp) -> Result<Built, BuildError> {
    let mut commits: BTreeMap<ShardId, SegmentCommit> = BTreeMap::new();
    let atoms = atoms(id, submissions, &mut commits);
    let mut builder = SegmentBuilder::new();
    let mut slices_of: BTreeMap<ShardId, usize> = BTreeMap::new();
    let nowhere = Placement { shard: ShardId(0), slice: 0, skip: 0 };
    let mut placements: Vec<Vec<Placement>> = submissions.iter().map(|s| vec![nowhere; s.parts.len()]).collect();
    for ((topic, partition), runs) in runs(submissions, &atoms) {
        let shard = topic.shard();
        let mut extent = ProposedExtent { topic, partition, position: builder.position(), slices: Vec::with_capacity(runs.len()) };
        for run in runs {
            let slice = slices_of.entry(shard).or_default();
            let mut skip = 0;
            for ((submission, part), records) in run.members.iter().zip(run.parts.iter().map(|p| p.records.len() as u64)) {
                placements[*submission][*part] = Placement { shard, slice: *slice, skip };
                skip += records;
            }
            *slice += 1;
            extent.slices.push(encode_run(&mut builder, (topic, partition), &run, batch_bytes, now)?);
        }
        commit_of(&mut commits, id, shard).extents.push(extent);
    }
    let segment = builder.finish();
    for commit in commits.values_mut() {
        commit.size = segment.len;
    }
    Ok(Built { segment, commits, placements, atoms })
}

impl Built {
    /// Asks for what cannot be, so that the ledger refuses the slice and its bytes are dead.
    pub(super) fn withhold(&mut self, place: Placement) {
        let slices = self.commits.get_mut(&place.shard).into_iter().flat_map(|c| &mut c.extents).flat_map(|e| &mut e.slices);
        if let Some(slice) = slices.into_iter().nth(place.slice) {
            slice.condition = Some(Box::new(SliceCondition { expect_offset: Some(Offset(u64::MAX)), ..SliceCondition::default() }));
        }
    }
}

fn commit_of(commits: &mut BTreeMap<ShardId, SegmentCommit>, id: SegmentId, shard: ShardId) -> &mut SegmentCommit {
    commits.entry(shard).or_insert_with(|| SegmentCommit { segment: id, size: 0, extents: Vec::new(), atoms: Vec::new() })
}

/// One atom for each bound submission, in the shard of its topics: a namespace lives in one shard.
fn atoms(id: SegmentId, submissions: &[Submission], commits: &mut BTreeMap<ShardId, SegmentCommit>) -> Vec<Option<(ShardId, usize)>> {
    let atom = |submission: &Submission| {
        let binding = submission.binding.as_ref()?;
        let shard = submission.parts.first()?.topic.shard();
        let atoms = &mut commit_of(commits, id, shard).atoms;
        atoms.push(Atom {
            namespace: binding.namespace.clone(),
            idempotency: binding.idempotency.clone(),
            layout: binding.layout.clone(),
            cursors: binding.cursors.clone(),
            settles: binding.settles.clone(),
        });
        Some((shard, atoms.len() - 1))
    };
    submissions.iter().map(atom).collect()
}

/// Parts by partition; neighbours that ask for nothing share a slice. A pipelined stream's are alone in theirs, so that they
/// can be withheld.
fn runs<'a>(submissions: &'a [Submission], atoms: &[Option<(ShardId, usize)>]) -> BTreeMap<Key, Vec<Run<'a>>> {
    let mut by_partition: BTreeMap<Key, Vec<Run<'a>>> = BTreeMap::new();
    for (index, submission) in submissions.iter().enumerate() {
        let atom = atoms[index].map(|(_, atom)| atom as u32);
        for (at, part) in submission.parts.iter().enumerate() {
            let runs = by_partition.entry((part.topic, part.partition)).or_default();
            let alone = atom.is_some() || matches!(submission.order, Some(OrderKey::Stream(_)));
            let plain = !alone && part.condition.is_none();
            match runs.last_mut().filter(|run| run.plain && plain) {
                Some(run) => {
                    run.members.push((index, at));
                    run.parts.push(part);
                }
                None => runs.push(Run { members: vec![(index, at)], parts: vec![part], atom, plain }),
            }
        }
    }
    by_partition
}

fn encode_run(builder: &mut SegmentBuilder, key: Key, run: &Run<'_>, batch_bytes: usize, now: Timestamp) -> Result<Slice, BuildError> {
    let compression = run.parts.first().map_or(Compression::Zstd, |part| part.compression);
    let bytes: usize = run.parts.iter().flat_map(|p| &p.records).map(|r| r.payload_bytes() + 16).sum();
    let mut slice = Slice { atom: run.atom, ..Slice::default() };
    if let [only] = run.parts.as_slice() {
        slice.condition.clone_from(&only.condition);
    }
    let fresh = |left: usize| BatchEncoder::with_capacity(compression, left.min(batch_bytes + batch_bytes / 4));
    let mut left = bytes;
    let mut encoder = fresh(left);
    for record in run.parts.iter().flat_map(|p| &p.records) {
        encoder.push(record, record.timestamp.unwrap_or(now));
        left = left.saturating_sub(record.payload_bytes() + 16);
        if encoder.uncompressed_len() >= batch_bytes {
            let full = std::mem::replace(&mut encoder, fresh(left));
            add(builder, key, full.finish()?, &mut slice)?;
        }
    }
    if !encoder.is_empty() {
        add(builder, key, encoder.finish()?, &mut slice)?;
    }
    Ok(slice)
}

fn add(builder: &mut SegmentBuilder, key: Key, batch: EncodedBatch, slice: &mut Slice) -> Result<(), BuildError> {
    let empty = slice.records == 0;
    slice.length += batch.bytes.len() as u32;
    slice.records += batch.records;
    slice.first_timestamp = if empty { batch.first_timestamp } else { slice.first_timestamp.min(batch.first_timestamp) };
    slice.max_timestamp = if empty { batch.max_timestamp } else { slice.max_timestamp.max(batch.max_timestamp) };
    builder.add(key.0, key.1, batch)?;
    Ok(())
}
