//! Swaps: each part is judged against the partition as it is, and taken whole or not at all.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{NewExtent, Swap, SwapPart};
use crate::error::{Error, Result};
use crate::id::{JournalSeq, Offset, SegmentId};
use crate::ledger::objects::{COMMIT_WINDOW, Object};
use crate::ledger::{Applied, CommitReply, Extent, Ledger, ObjectLevel, Partition, Refusal, Reply, RetiredExtent, RowKey, SliceOutcome};
use crate::planted::{self, Bug};
use crate::time::Timestamp;

impl Ledger {
    pub(crate) fn swap(&mut self, swap: &Swap, now: Timestamp) -> Applied {
        if let Some(object) = self.objects.by_id.get(&swap.object) {
            return Applied::unchanged(repeated(object, swap, now));
        }
        if let Err(error) = check(swap) {
            return Applied::unchanged(Err(error));
        }
        let late = swap.object.minted_at().plus(COMMIT_WINDOW) < now;
        let outcome = |part| if late { Err(Refusal::SegmentRefused) } else { self.swap_part(swap, part, now) };
        let outcomes: Vec<Result<Offset, Refusal>> = swap.parts.iter().map(outcome).collect();
        let live_extents = outcomes.iter().filter(|outcome| outcome.is_ok()).count() as u32;
        let slices = outcomes.into_iter().map(|outcome| outcome.map_or_else(SliceOutcome::Refused, SliceOutcome::Stored)).collect();
        let reply = Arc::new(CommitReply { appended_at: now, slices, atoms: Vec::new() });
        let object = Object {
            size: swap.size,
            live_extents,
            committed_at: now,
            released_at: (live_extents == 0).then_some(now),
            // For ever: its bytes are nobody's, and may be deleted.
            refused: live_extents == 0,
            answer: Some(reply.clone()),
            key: swap.key.clone(),
        };
        self.objects.insert(swap.object, object, &mut self.dirty);
        self.has_later_rows = true;
        Applied::changed(Reply::Committed(reply))
    }

    fn swap_part(&mut self, swap: &Swap, part: &SwapPart, now: Timestamp) -> Result<Offset, Refusal> {
        let key = (part.topic, part.partition);
        let seq = JournalSeq(self.seq.0 + 1);
        let partition = self.partitions.get_mut(&key).filter(|p| !p.deleted).ok_or(Refusal::TopicGone)?;
        let (base, end) = span(&part.old).ok_or(Refusal::ExtentsChanged)?;
        let records = u32::try_from(end.0 - base.0).map_err(|_| Refusal::ExtentsChanged)?;
        let as_read = self.objects.hold(&part.old) && partition.may_swap(swap.level, part, base, end);
        if !as_read && !planted::is(Bug::SwapWithoutGeneration) {
            return Err(Refusal::ExtentsChanged);
        }
        let NewExtent { position, length, first_timestamp, max_timestamp, appended_at } = part.new;
        let extent = Extent {
            base_offset: base,
            records,
            length,
            object: swap.object,
            level: swap.level,
            object_size: swap.size,
            position,
            first_timestamp,
            max_timestamp,
            appended_at,
        };
        let (in_memory, stored_by) = (partition.recent_count(), partition.stored_by());
        partition.swap(part, extent, seq, now);
        self.recents.count = self.recents.count + partition.recent_count() - in_memory;
        if partition.recent_count() == 0 {
            self.recents.evictable.remove(&(stored_by, key));
        }
        self.release(&part.old, now);
        self.note_compactable(key);
        self.dirty.insert(RowKey::Partition(key.0, key.1));
        Ok(base)
    }
}

impl Partition {
    /// Whether the extents are those that the partition holds, and the swap one of the kinds that keep its levels in order.
    ///
    /// That the partition's generation is the one at which they were located proves that they are. They are not compared with
    /// those in memory: which are, differs from owner to owner, and the answer must not (L6).
    fn may_swap(&self, level: ObjectLevel, part: &SwapPart, base: Offset, end: Offset) -> bool {
        let Some(state) = self.compaction.as_deref() else { return false };
        let in_order = match level {
            ObjectLevel::Segment => false,
            ObjectLevel::Merged => base == state.merged.max(self.retired),
            ObjectLevel::Parquet => base == state.rolled.max(self.retired) || end <= state.rolled,
        };
        in_order && part.generation == state.generation && base >= self.retired && end <= self.next
    }

    /// Puts an extent in the place of old ones.
    fn swap(&mut self, part: &SwapPart, new: Extent, seq: JournalSeq, now: Timestamp) {
        let SwapPart { old, settled, rest_since, .. } = part;
        let rest_since = rest_since.unwrap_or(now);
        let gone: u64 = old.iter().map(|extent| u64::from(extent.length)).sum();
        self.bytes = (self.bytes + u64::from(new.length)).saturating_sub(gone);
        self.extents = (self.extents + 1).saturating_sub(old.len() as u64);
        let (end, next) = (new.end(), self.next);
        let state = self.compaction.get_or_insert_default();
        let rolls = new.level == ObjectLevel::Parquet && end > state.rolled;
        old.iter().for_each(|extent| state.forget(extent));
        state.generation += 1;
        state.merged = state.merged.max(end);
        match new.level {
            ObjectLevel::Parquet if rolls => {
                state.rolled = end;
                state.small += 1;
            }
            ObjectLevel::Parquet => state.small = state.small.saturating_sub(old.len() as u32 - 1),
            // Its bytes wait to be rolled in the place of the old ones'.
            ObjectLevel::Segment | ObjectLevel::Merged => state.unrolled_bytes += u64::from(new.length),
        }
        if let Some(settled) = settled.map(|settled| settled.min(state.rolled)).filter(|settled| *settled > state.settled) {
            state.settled = settled;
            state.small = 0;
        }
        if rolls {
            state.unrolled_since = Some(rest_since);
        }
        state.note_end(next);
        self.put_in_place(new, seq);
    }

    /// In memory alone if no checkpoint took any of the old extents; else over what is stored, until the next one.
    fn put_in_place(&mut self, new: Extent, seq: JournalSeq) {
        let (base, end) = (new.base_offset, new.end());
        let recent = match &mut self.busy {
            Some(busy) if base >= self.handed && busy.recent.front().is_some_and(|first| first.base_offset <= base) => {
                let from = busy.recent.partition_point(|extent| extent.base_offset < base);
                let to = busy.recent.partition_point(|extent| extent.base_offset < end);
                busy.recent.drain(from..to);
                busy.recent.insert(from, new);
                return;
            }
            Some(busy) => &mut busy.recent,
            None => &mut Default::default(),
        };
        let state = self.compaction.get_or_insert_default();
        while let Some(extent) = recent.front().filter(|extent| extent.base_offset < end).copied() {
            recent.pop_front();
            state.overlay.insert(extent.base_offset, (seq, extent));
        }
        let inside: Vec<Offset> = state.overlay.range(base..end).map(|(base, _)| *base).collect();
        for first in inside {
            state.overlay.remove(&first);
        }
        state.overlay.insert(base, (seq, new));
        state.replaced.push((seq, base, end));
        self.settle();
    }
}

/// First offset and end of extents that follow each other.
fn span(old: &[RetiredExtent]) -> Option<(Offset, Offset)> {
    let base = old.first()?.base_offset;
    let mut at = base;
    for extent in old {
        if extent.base_offset != at || extent.records == 0 {
            return None;
        }
        at = at.plus(u64::from(extent.records));
    }
    Some((base, at))
}

/// What no compactor sends.
fn check(swap: &Swap) -> Result<()> {
    let malformed = |what: &str| Err(Error::Internal(format!("swap of object {} is malformed: {what}", swap.object)));
    if swap.parts.is_empty() || swap.level == ObjectLevel::Segment {
        return malformed("it has no parts, or is a gateway's segment");
    }
    if (swap.level == ObjectLevel::Parquet) != swap.key.is_some() || (swap.key.is_some() && swap.parts.len() != 1) {
        return malformed("a Parquet file has a key and one part, nothing else has a key");
    }
    let mut partitions: Vec<_> = swap.parts.iter().map(|part| (part.topic, part.partition)).collect();
    partitions.sort_unstable();
    partitions.dedup();
    if partitions.len() != swap.parts.len() {
        return malformed("two parts are of one partition");
    }
    let reach = |part: &SwapPart| part.new.position.checked_add(u64::from(part.new.length));
    if swap.parts.iter().any(|part| part.new.length == 0 || reach(part).is_none_or(|end| end > swap.size)) {
        return malformed("an extent is empty, or reaches beyond the object");
    }
    Ok(())
}

/// As for a commit (L3): a repeated swap gets the first answer.
fn repeated(object: &Object, swap: &Swap, now: Timestamp) -> Result<Reply> {
    match &object.answer {
        Some(answer) => Ok(Reply::Committed(answer.clone())),
        None if object.refused => {
            let slices = swap.parts.iter().map(|_| SliceOutcome::Refused(Refusal::SegmentRefused)).collect();
            Ok(Reply::Committed(Arc::new(CommitReply { appended_at: now, slices, atoms: Vec::new() })))
        }
        None => Err(Error::unknown("the answer to this swap is no longer kept")),
    }
}

impl super::super::objects::Objects {
    /// Whether the objects hold as many extents as are to go.
    fn hold(&self, old: &[RetiredExtent]) -> bool {
        let mut wanted: BTreeMap<SegmentId, u32> = BTreeMap::new();
        old.iter().for_each(|extent| *wanted.entry(extent.object).or_default() += 1);
        wanted.iter().all(|(id, count)| self.by_id.get(id).is_some_and(|object| object.live_extents >= *count))
    }
}
