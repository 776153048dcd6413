//! Swaps in random histories: what a compactor would send, what must become of it, and what readers find afterwards.

use std::collections::BTreeMap;
use std::sync::Arc;

use lakefall_queue::Offset;
use lakefall_queue::ledger::{
    Answer, Applied, Command, CommitReply, Extent, NewExtent, ObjectLevel, Query, Refusal, Reply, RetiredExtent, SliceOutcome, Swap,
    SwapPart,
};

use super::lab::{Lab, Place};
use super::model::Fate;
use super::ops::{SwapFlaw, SwapKind, SwapOp};

/// How far compaction is in a partition.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Levels {
    pub(super) generation: u64,
    rolled: u64,
    merged: u64,
}

impl Lab {
    pub(super) fn swap(&mut self, op: SwapOp) -> Command {
        let held: Vec<Place> = self.extents.iter().filter(|(_, held)| !held.is_empty()).map(|(place, _)| *place).collect();
        let nothing = Command::ForgetObjects { objects: Vec::new() };
        if op.kind == SwapKind::Repeat {
            return self.last_swap.clone().map_or(nothing, |swap| Command::Swap(Box::new(swap)));
        }
        if held.is_empty() {
            return nothing;
        }
        let place = held[op.pick as usize % held.len()];
        let levels = self.levels.get(&place).copied().unwrap_or_default();
        let from = match op.kind {
            SwapKind::Merge => levels.merged,
            SwapKind::Roll => levels.rolled,
            SwapKind::Rewrite | SwapKind::Repeat => 0,
        };
        let ahead = self.extents[&place].iter().filter(|extent| extent.base_offset.0 >= from);
        let mut old: Vec<RetiredExtent> = ahead.take(op.count as usize).map(RetiredExtent::from).collect();
        if old.is_empty() {
            return nothing;
        }
        if op.flaw == SwapFlaw::Gap && old.len() > 2 {
            old.remove(1);
        }
        let object = self.mint(if op.flaw == SwapFlaw::Late { 400_000 } else { 0 });
        let (level, key) = match op.kind {
            SwapKind::Merge => (ObjectLevel::Merged, None),
            SwapKind::Roll | SwapKind::Rewrite | SwapKind::Repeat => (ObjectLevel::Parquet, Some(Arc::from(format!("tables/{object}")))),
        };
        let goes = |extent: &&Extent| old.iter().any(|old| old.base_offset == extent.base_offset);
        let gone: Vec<Extent> = self.extents[&place].iter().filter(goes).copied().collect();
        let new = NewExtent {
            position: 0,
            length: old.iter().map(|extent| extent.length).sum::<u32>() / 2 + 1,
            first_timestamp: gone.iter().map(|extent| extent.first_timestamp).min().unwrap_or_default(),
            max_timestamp: gone.iter().map(|extent| extent.max_timestamp).max().unwrap_or_default(),
            appended_at: gone[0].appended_at,
        };
        let generation = levels.generation + u64::from(op.flaw == SwapFlaw::Generation);
        let part = SwapPart { topic: place.0, partition: place.1, generation, old, new, settled: None, rest_since: None };
        let swap = Swap { object, size: u64::from(new.length), level, key, parts: vec![part] };
        self.last_swap = Some(swap.clone());
        Command::Swap(Box::new(swap))
    }

    pub(super) fn compare_swap(&mut self, swap: &Swap, applied: &Applied) {
        let Ok(Reply::Committed(reply)) = &applied.reply else {
            // Only a repetition whose answer is no longer kept.
            assert!(self.model.fates.contains_key(&swap.object) && !applied.changed, "{swap:?} was answered {applied:?}");
            return;
        };
        if let Some(fate) = self.model.fates.get(&swap.object) {
            let as_before = match fate {
                Fate::Committed { reply: first, .. } => **reply == *first,
                Fate::Refused { .. } => reply.slices.iter().all(|slice| matches!(slice, SliceOutcome::Refused(_))),
            };
            assert!(as_before && !applied.changed, "L3: {swap:?} was answered {reply:?} after {fate:?}");
            return self.reach(true, "swap repeated");
        }
        let part = &swap.parts[0];
        let (place, now) = ((part.topic, part.partition), self.now);
        let outcome = self.expected(swap, part);
        self.reach(outcome == SliceOutcome::Refused(Refusal::ExtentsChanged), "ExtentsChanged");
        let expected = CommitReply { appended_at: now, slices: vec![outcome.clone()], atoms: Vec::new() };
        assert_eq!((&**reply, applied.changed), (&expected, true), "{swap:?} with {:?}", self.levels.get(&place));
        let (at, stored) = (now.as_millis(), matches!(outcome, SliceOutcome::Stored(_)));
        self.model.fates.insert(swap.object, if stored { Fate::Committed { at, reply: expected } } else { Fate::Refused { at } });
        if stored {
            self.put_in_place(place, swap, part);
        }
    }

    fn expected(&self, swap: &Swap, part: &SwapPart) -> SliceOutcome {
        let place = (part.topic, part.partition);
        if swap.object.minted_at().as_millis() < self.now.as_millis() - 300_000 {
            return SliceOutcome::Refused(Refusal::SegmentRefused);
        }
        let topic = &self.model.topics[place.0.0 as usize - 1];
        if topic.deleted {
            return SliceOutcome::Refused(Refusal::TopicGone);
        }
        let levels = self.levels.get(&place).copied().unwrap_or_default();
        let held = self.extents.get(&place);
        let retired = held.and_then(|held| held.front()).map_or(0, |extent| extent.base_offset.0);
        let base = part.old[0].base_offset;
        let end = part.old.last().map_or(0, |last| last.base_offset.0 + u64::from(last.records));
        let ahead = held.into_iter().flatten().filter(|extent| extent.base_offset >= base);
        let as_held = ahead.take(part.old.len()).map(RetiredExtent::from).eq(part.old.iter().copied());
        let in_order = match swap.level {
            ObjectLevel::Merged => base.0 == levels.merged.max(retired),
            _ => base.0 == levels.rolled.max(retired) || end <= levels.rolled,
        };
        if as_held && in_order && part.generation == levels.generation {
            SliceOutcome::Stored(base)
        } else {
            SliceOutcome::Refused(Refusal::ExtentsChanged)
        }
    }

    fn put_in_place(&mut self, place: Place, swap: &Swap, part: &SwapPart) {
        let base = part.old[0].base_offset;
        let records: u32 = part.old.iter().map(|extent| extent.records).sum();
        let NewExtent { position, length, first_timestamp, max_timestamp, appended_at } = part.new;
        let (object, level, object_size) = (swap.object, swap.level, swap.size);
        let new = Extent {
            base_offset: base,
            records,
            length,
            object,
            level,
            object_size,
            position,
            first_timestamp,
            max_timestamp,
            appended_at,
        };
        let held = self.extents.get_mut(&place).expect("they were taken from there");
        let generation = self.levels.get(&place).map_or(0, |levels| levels.generation);
        self.before_swap = Some((place, generation, held.iter().map(RetiredExtent::from).collect()));
        let at = held.partition_point(|extent| extent.base_offset < base);
        held.drain(at..at + part.old.len());
        held.insert(at, new);
        let levels = self.levels.entry(place).or_default();
        levels.generation += 1;
        levels.merged = levels.merged.max(new.end().0);
        let rolls = level == ObjectLevel::Parquet && new.end().0 > levels.rolled;
        if rolls {
            levels.rolled = new.end().0;
        }
        self.reach(level == ObjectLevel::Merged, "merged");
        self.reach(rolls, "rolled");
        self.reach(level == ObjectLevel::Parquet && !rolls, "rewritten");
    }

    /// What a reader is told, from the owner's memory and the store, is every extent that there is, in the order of offsets.
    pub(super) fn check_located(&mut self, place: Place) {
        let told: Vec<Extent> = self.extents.get(&place).into_iter().flatten().copied().collect();
        let from = told.first().map_or(Offset(0), |extent| extent.base_offset);
        let query = Query::Locate { topic: place.0, partition: place.1, from, max_bytes: u64::MAX, max_extents: usize::MAX };
        let Ok(Answer::Located(located)) = self.ledger.query(&query) else { panic!("{place:?} cannot be located") };
        let mut found = Vec::new();
        let mut at = from;
        while at < located.first_recent && !told.is_empty() {
            let over = located.overlay.iter().find(|extent| extent.base_offset == at).copied();
            let stored = || self.store.extents.get(&place)?.get(&at.0)?.to_extent();
            let Some(extent) = over.or_else(stored) else { panic!("nobody knows where {at} of {place:?} is: {located:?}") };
            at = extent.end();
            found.push(extent);
        }
        self.reach(!located.overlay.is_empty(), "overlaid");
        found.extend(&located.extents);
        assert_eq!(found, told, "what a reader of {place:?} is told");
        self.check_inspected(place, &told);
    }

    /// What an inspection finds, as `lakefall fsck` makes one of the store's extents below what is in memory, is the same: also where
    /// others took their place since the last checkpoint.
    fn check_inspected(&mut self, place: Place, told: &[Extent]) {
        let Some(partition) = self.ledger.partition(place.0, place.1) else { return };
        let (from, below) = (partition.retired(), partition.first_recent());
        let stored = self.store.extents.get(&place).into_iter().flat_map(BTreeMap::values).filter_map(|row| row.to_extent());
        let stored: Vec<Extent> = stored.filter(|extent| extent.end() > from && extent.base_offset < below).collect();
        let found = partition.extents_with(stored.clone());
        assert_eq!(found, told, "what an inspection of {place:?} finds");
        let old = stored.iter().any(|extent| !told.contains(extent));
        self.reach(old, "inspected before the checkpoint of a swap");
    }
}
