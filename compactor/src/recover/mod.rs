//! What to do when the metadata store went back in time (R12) or was lost: shows which stored records it does not know, takes topics
//! back over their Parquet files where an operator asks for it, and, when an operator accepts what it holds, lets the collector go on.
//! Deletes nothing. It writes the mark, and has a ledger create the topics that are taken back.

mod chain;
mod offline;
mod report;
mod tables;
mod take_back;

use std::collections::BTreeMap;

use futures::TryStreamExt;
use lakefall_metadata::Metadata;
use lakefall_queue::ledger::{Answer, COMMIT_WINDOW, JournalPosition, Query};
use lakefall_queue::verbs::PageRequest;
use lakefall_queue::{SegmentId, ShardId, Timestamp, TopicId};
use lakefall_storage::store::{ObjectInfo, Store};

use crate::CollectError;
use crate::collector::{positions, read_mark, unexpected, write_mark};
use crate::mark::{Halt, Mark, Span};
use crate::segments::{index_of, prefix, spread};
use tables::Survey;

pub use offline::Offline;
pub use report::{MarkSeen, RangeAtRisk, Report, ShardReport, State, UnknownObject};
pub use tables::{PassedOver, TablePartition, TableReport};
pub use take_back::{TakenBack, TakenRange, TakenTopic, Wanted, take_back};

/// Objects and names asked for at once.
const PAGE: usize = 1_000;

/// What an operator decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Objects that no ledger knows, and that were kept so far, may be swept.
    pub discard: bool,
}

/// An object of the listing and which shards know it.
struct Listed {
    id: SegmentId,
    info: ObjectInfo,
    /// In the order of the shards.
    known: Vec<bool>,
}

/// Compares the ledgers with the mark and with what is stored. Lists the whole bucket, and reads the index or the footer of each
/// object that no ledger knows; holds those, and 1/256 of the listing of segments. `now` is the time by this machine: the ledgers', if
/// they were restored, is that of their last entry.
pub async fn examine(metadata: &dyn Metadata, store: &Store, now: Timestamp) -> Result<Report, CollectError> {
    let identity = metadata.identity().await?;
    let positions = positions(metadata).await?;
    let (mark, state) = match read_mark(store).await? {
        None => (None, State::Unmarked),
        Some(Err(halt)) => (None, State::of(&halt)),
        Some(Ok(mark)) => {
            let state = mark.judge(&identity, &positions).err().map_or(State::Healthy, |halt| State::of(&halt));
            (Some(mark), state)
        }
    };
    let mut examination =
        Examination { metadata, store, mark: mark.as_ref(), now, topics: topics(metadata).await?, unknown: Vec::new(), objects: 0 };
    // First what no shard knows. Then, around that time, what only some do: a commit to each shard is an entry of its own.
    examination.visit(|object| object.known.iter().all(|known| !known)).await?;
    let minted = |object: &UnknownObject| object.minted_at;
    let first = examination.unknown.iter().filter(|object| !object.spared).map(minted).min();
    if let (Some(first), true) = (first, metadata.shards() > 1) {
        let from = first.minus(COMMIT_WINDOW);
        let partly = |known: &[bool]| known.iter().any(|known| *known) && known.iter().any(|known| !known);
        examination.visit(|object| partly(&object.known) && object.id.minted_at() >= from).await?;
    }
    let Examination { mut unknown, objects, .. } = examination;
    let survey = Survey::make(metadata, store).await?;
    let objects = objects + survey.listed;
    unknown.sort_by(|one, other| (one.minted_at, &one.key).cmp(&(other.minted_at, &other.key)));
    Ok(Report::new(state, identity, mark.as_ref(), &positions, objects, unknown, survey))
}

/// Writes a mark of the ledgers as they are, so that the collector goes on from there. What no ledger knows by `report` is
/// spared from then on, unless it is to be discarded. Answers the new mark.
///
/// Errors: [`CollectError::Defect`] if the ledgers moved back again since the report.
pub async fn accept(metadata: &dyn Metadata, store: &Store, report: &Report, decision: Decision) -> Result<Mark, CollectError> {
    let identity = metadata.identity().await?;
    let positions = positions(metadata).await?;
    let mut generation = report.mark.as_ref().map_or(0, |mark| mark.generation);
    let mut spared = Vec::new();
    // Read again: sparing less than another operator wanted would be for good.
    if let Some(Ok(mark)) = read_mark(store).await? {
        generation = generation.max(mark.generation);
        spared = mark.spared;
    }
    if decision.discard {
        spared.clear();
    } else if let Some(span) = at_risk(report, latest(&positions)) {
        spared.push(span);
    }
    let mark = Mark::new(generation + 1, &identity, &positions, latest(&positions), spared);
    let behind = |halt: Halt| CollectError::Defect(format!("the metadata store changes while it is looked at: {halt}"));
    report.as_seen().map_or(Ok(()), |seen| seen.judge(&identity, &positions)).map_err(behind)?;
    write_mark(store, &mark).await?;
    Ok(mark)
}

/// From the oldest object that no ledger knows until now, and as long as a gateway may still be at what it began.
fn at_risk(report: &Report, now: Timestamp) -> Option<Span> {
    let minted = || report.unknown.iter().map(|object| object.minted_at).chain(report.unreadable_minted.iter().copied());
    let from = minted().chain(report.tables.iter().map(|table| table.made_from)).min()?;
    let last = minted().chain(report.tables.iter().map(|table| table.made_until)).max()?;
    Some(Span { from, until: now.max(last) })
}

fn latest(positions: &[JournalPosition]) -> Timestamp {
    positions.iter().map(|at| at.time).max().unwrap_or_default()
}

struct Examination<'a> {
    metadata: &'a dyn Metadata,
    store: &'a Store,
    mark: Option<&'a Mark>,
    now: Timestamp,
    topics: BTreeMap<TopicId, String>,
    unknown: Vec<UnknownObject>,
    objects: u64,
}

impl Examination<'_> {
    async fn visit(&mut self, wanted: impl Fn(&Listed) -> bool) -> Result<(), CollectError> {
        self.objects = 0;
        for folder in spread() {
            let listed: Vec<ObjectInfo> = self.store.list(&prefix(folder)).try_collect().await?;
            for page in listed.chunks(PAGE) {
                for object in self.known(page).await?.iter().filter(|object| wanted(object)) {
                    self.unknown.extend(self.describe(object).await?);
                }
            }
        }
        Ok(())
    }

    async fn known(&mut self, page: &[ObjectInfo]) -> Result<Vec<Listed>, CollectError> {
        let mut listed: Vec<Listed> = page
            .iter()
            .filter_map(|info| SegmentId::from_key(&info.key).map(|id| Listed { id, info: info.clone(), known: Vec::new() }))
            .collect();
        self.objects += listed.len() as u64;
        for shard in (0..self.metadata.shards()).map(ShardId) {
            let ids = listed.iter().map(|object| object.id).collect();
            match self.metadata.query(shard, Query::Objects(ids)).await? {
                Answer::Objects(known) if known.len() == listed.len() => {
                    for (object, known) in listed.iter_mut().zip(known) {
                        object.known.push(known.is_some());
                    }
                }
                other => return Err(unexpected(&other)),
            }
        }
        Ok(listed)
    }

    /// What lies in an object for shards that do not know it; `None` if nothing does.
    async fn describe(&self, object: &Listed) -> Result<Option<UnknownObject>, CollectError> {
        let minted_at = object.id.minted_at();
        let mut found = UnknownObject {
            key: object.info.key.clone(),
            bytes: object.info.size,
            minted_at,
            modified: object.info.modified,
            spared: self.mark.is_some_and(|mark| mark.spares(object.id)),
            in_flight: minted_at.plus(COMMIT_WINDOW) >= self.now,
            unreadable: None,
            ranges: Vec::new(),
        };
        let index = match index_of(self.store, object.id).await {
            Ok(Some(index)) => index,
            // Deleted since it was listed.
            Ok(None) => return Ok(None),
            Err(CollectError::Defect(reason)) => return Ok(Some(UnknownObject { unreadable: Some(reason), ..found })),
            Err(error) => return Err(error),
        };
        let is_known = |shard: ShardId| object.known.get(shard.0 as usize).copied().unwrap_or(false);
        for extent in index.extents.iter().filter(|extent| !is_known(extent.topic.shard())) {
            found.ranges.push(RangeAtRisk {
                topic: self.topics.get(&extent.topic).cloned(),
                topic_id: extent.topic.to_string(),
                partition: extent.partition,
                records: extent.records,
                bytes: extent.length,
                first_timestamp: extent.first_timestamp,
                last_timestamp: extent.max_timestamp,
            });
        }
        Ok((!found.ranges.is_empty()).then_some(found))
    }
}

/// The names of all topics, as `namespace/name`.
async fn topics(metadata: &dyn Metadata) -> Result<BTreeMap<TopicId, String>, CollectError> {
    let mut names = BTreeMap::new();
    for shard in (0..metadata.shards()).map(ShardId) {
        let mut page = PageRequest { after: None, limit: PAGE };
        loop {
            let namespaces = match metadata.query(shard, Query::Namespaces(page.clone())).await? {
                Answer::Namespaces(found) => found,
                other => return Err(unexpected(&other)),
            };
            for namespace in namespaces.items {
                let mut page = PageRequest { after: None, limit: PAGE };
                loop {
                    let topics = match metadata.query(shard, Query::Topics(namespace.name.clone(), page.clone())).await? {
                        Answer::Topics(found) => found,
                        other => return Err(unexpected(&other)),
                    };
                    names.extend(topics.items.into_iter().map(|topic| (topic.id, format!("{}/{}", topic.namespace, topic.name))));
                    let Some(next) = topics.next else { break };
                    page.after = Some(next);
                }
            }
            let Some(next) = namespaces.next else { break };
            page.after = Some(next);
        }
    }
    Ok(names)
}
