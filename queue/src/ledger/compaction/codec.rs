//! Swaps, claims and what compactors ask, to protobuf and back.

use std::time::Duration;

use super::super::codec::{Decoded, Malformed, hash, hash_bytes, required, retired_from_proto, retired_to_proto, segment_id, uuid_bytes};
use super::super::rows::proto;
use super::super::{ObjectLevel, RetiredExtent};
use super::{Claim, ClaimWork, Compactable, CompactablePartition, Compaction, NewExtent, Swap, SwapPart, Work};
use crate::id::{Offset, PartitionIndex, TopicId};
use crate::time::Timestamp;

pub(crate) fn swap_to_proto(swap: &Swap) -> proto::Swap {
    proto::Swap {
        object: uuid_bytes(swap.object),
        size: swap.size,
        level: swap.level.number().into(),
        key: swap.key.as_deref().map(ToOwned::to_owned),
        parts: swap.parts.iter().map(part_to_proto).collect(),
    }
}

pub(crate) fn swap_from_proto(wire: proto::Swap) -> Decoded<Swap> {
    Ok(Swap {
        object: segment_id(&wire.object)?,
        size: wire.size,
        level: ObjectLevel::from_number(wire.level).ok_or_else(|| Malformed(format!("an object's level is {}", wire.level)))?,
        key: wire.key.map(Into::into),
        parts: wire.parts.into_iter().map(part_from_proto).collect::<Decoded<_>>()?,
    })
}

fn part_to_proto(part: &SwapPart) -> proto::SwapPart {
    proto::SwapPart {
        topic: part.topic.0,
        partition: part.partition.0,
        generation: part.generation,
        old: part.old.iter().map(retired_to_proto).collect(),
        position: part.new.position,
        length: part.new.length,
        first_timestamp_ms: part.new.first_timestamp.as_millis(),
        max_timestamp_ms: part.new.max_timestamp.as_millis(),
        appended_ms: part.new.appended_at.as_millis(),
        settled: part.settled.map(|offset| offset.0),
        rest_since_ms: part.rest_since.map(Timestamp::as_millis),
    }
}

fn part_from_proto(wire: proto::SwapPart) -> Decoded<SwapPart> {
    let old: Vec<RetiredExtent> = wire.old.iter().map(retired_from_proto).collect::<Decoded<_>>()?;
    let new = NewExtent {
        position: wire.position,
        length: wire.length,
        first_timestamp: Timestamp::from_millis(wire.first_timestamp_ms),
        max_timestamp: Timestamp::from_millis(wire.max_timestamp_ms),
        appended_at: Timestamp::from_millis(wire.appended_ms),
    };
    Ok(SwapPart {
        topic: TopicId(wire.topic),
        partition: PartitionIndex(wire.partition),
        generation: wire.generation,
        old,
        new,
        settled: wire.settled.map(Offset),
        rest_since: wire.rest_since_ms.map(Timestamp::from_millis),
    })
}

pub(crate) fn work_to_proto(work: &Work) -> proto::Work {
    match work {
        Work::Merge => proto::Work { topic: None, partition: 0 },
        Work::Partition(topic, partition) => proto::Work { topic: Some(topic.0), partition: partition.0 },
    }
}

pub(crate) fn work_from_proto(wire: &proto::Work) -> Work {
    wire.topic.map_or(Work::Merge, |topic| Work::Partition(TopicId(topic), PartitionIndex(wire.partition)))
}

pub(crate) fn claim_to_proto(claim: &ClaimWork) -> proto::ClaimWork {
    proto::ClaimWork {
        worker: hash_bytes(claim.worker),
        lease_ms: u64::try_from(claim.lease.as_millis()).unwrap_or(u64::MAX),
        works: claim.works.iter().map(work_to_proto).collect(),
    }
}

pub(crate) fn claim_from_proto(wire: &proto::ClaimWork) -> Decoded<ClaimWork> {
    let works = wire.works.iter().map(work_from_proto).collect();
    Ok(ClaimWork { worker: hash(&wire.worker)?, lease: Duration::from_millis(wire.lease_ms), works })
}

pub(crate) fn state_to_proto(state: &Compaction) -> proto::CompactionState {
    proto::CompactionState {
        generation: state.generation,
        settled: state.settled.0,
        rolled: state.rolled.0,
        merged: state.merged.0,
        unmerged_bytes: state.unmerged_bytes,
        unmerged_extents: state.unmerged_extents,
        unrolled_bytes: state.unrolled_bytes,
        unrolled_since_ms: state.unrolled_since.map(Timestamp::as_millis),
        small: state.small,
    }
}

pub(crate) fn state_from_proto(wire: &proto::CompactionState) -> Compaction {
    Compaction {
        generation: wire.generation,
        settled: Offset(wire.settled),
        rolled: Offset(wire.rolled),
        merged: Offset(wire.merged),
        unmerged_bytes: wire.unmerged_bytes,
        unmerged_extents: wire.unmerged_extents,
        unrolled_bytes: wire.unrolled_bytes,
        unrolled_since: wire.unrolled_since_ms.map(Timestamp::from_millis),
        small: wire.small,
        ..Compaction::default()
    }
}

pub(crate) fn compactable_to_proto(found: &Compactable) -> proto::Compactable {
    let claim = |claim: &Claim| proto::Claim {
        work: Some(work_to_proto(&claim.work)),
        worker: hash_bytes(claim.worker),
        until_ms: claim.until.as_millis(),
    };
    proto::Compactable {
        partitions: found.partitions.iter().map(partition_to_proto).collect(),
        more: found.more,
        claims: found.claims.iter().map(claim).collect(),
        now_ms: found.now.as_millis(),
    }
}

pub(crate) fn compactable_from_proto(wire: proto::Compactable) -> Decoded<Compactable> {
    let claim = |claim: proto::Claim| {
        let work = work_from_proto(&required(claim.work, "a claim's work")?);
        Ok(Claim { work, worker: hash(&claim.worker)?, until: Timestamp::from_millis(claim.until_ms) })
    };
    Ok(Compactable {
        partitions: wire.partitions.into_iter().map(partition_from_proto).collect::<Decoded<_>>()?,
        more: wire.more,
        claims: wire.claims.into_iter().map(claim).collect::<Decoded<_>>()?,
        now: Timestamp::from_millis(wire.now_ms),
    })
}

fn partition_to_proto(found: &CompactablePartition) -> proto::CompactablePartition {
    let state = Compaction {
        generation: found.generation,
        settled: found.settled,
        rolled: found.rolled,
        merged: found.merged,
        unmerged_bytes: found.unmerged_bytes,
        unmerged_extents: found.unmerged_extents,
        unrolled_bytes: found.unrolled_bytes,
        unrolled_since: found.unrolled_since,
        small: found.small,
        ..Compaction::default()
    };
    proto::CompactablePartition {
        topic: found.topic.0,
        partition: found.partition.0,
        retired: found.retired.0,
        log_start: found.log_start.0,
        end: found.end.0,
        state: Some(state_to_proto(&state)),
    }
}

fn partition_from_proto(wire: proto::CompactablePartition) -> Decoded<CompactablePartition> {
    let state = state_from_proto(&required(wire.state, "a partition's compaction")?);
    Ok(CompactablePartition {
        topic: TopicId(wire.topic),
        partition: PartitionIndex(wire.partition),
        generation: state.generation,
        retired: Offset(wire.retired),
        log_start: Offset(wire.log_start),
        settled: state.settled,
        rolled: state.rolled,
        merged: state.merged,
        end: Offset(wire.end),
        unmerged_bytes: state.unmerged_bytes,
        unmerged_extents: state.unmerged_extents,
        unrolled_bytes: state.unrolled_bytes,
        unrolled_since: state.unrolled_since,
        small: state.small,
    })
}
