//! Replicas, rosters and news to protobuf and back. Hostile bytes are an error, never a panic.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use lakefall_queue::ShardId;
use lakefall_queue::id::JournalSeq;
use lakefall_queue::ledger::wire::{Malformed, notice_from_proto, notice_to_proto};

use super::proto;
use crate::news::News;
use crate::store::{Replica, ReplicaId};

pub(super) fn replica_to_proto(replica: &Replica) -> proto::Replica {
    proto::Replica { id: Bytes::copy_from_slice(&replica.id.0.to_be_bytes()), address: replica.address.clone() }
}

/// `None`: not a replica.
pub(super) fn replica_from_proto(wire: &proto::Replica) -> Option<Replica> {
    let id = <[u8; 16]>::try_from(&wire.id[..]).ok()?;
    Some(Replica { id: ReplicaId(u128::from_be_bytes(id)), address: wire.address.clone() })
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn positions_to_proto(at: &BTreeMap<ShardId, JournalSeq>) -> Vec<proto::ShardAt> {
    at.iter().map(|(shard, seq)| proto::ShardAt { shard: shard.0, seq: seq.0 }).collect()
}

pub(super) fn positions_from_proto(wire: &[proto::ShardAt]) -> BTreeMap<ShardId, JournalSeq> {
    wire.iter().map(|at| (ShardId(at.shard), JournalSeq(at.seq))).collect()
}

pub(super) fn news_to_proto(news: &News) -> proto::News {
    use proto::news::What;
    let what = match news {
        News::Durable { shard, seq, notices } => {
            What::Durable(proto::Durable { shard: shard.0, seq: seq.0, notices: notices.iter().map(notice_to_proto).collect() })
        }
        News::Missed => What::Missed(true),
    };
    proto::News { what: Some(what) }
}

/// What only a newer program can tell is something that this one misses.
pub(super) fn news_from_proto(wire: proto::News) -> Result<News, Malformed> {
    use proto::news::What;
    Ok(match wire.what {
        Some(What::Durable(durable)) => {
            let notices = durable.notices.into_iter().filter_map(|notice| notice_from_proto(notice).transpose());
            News::Durable { shard: ShardId(durable.shard), seq: JournalSeq(durable.seq), notices: notices.collect::<Result<_, _>>()? }
        }
        Some(What::Missed(_)) | None => News::Missed,
    })
}
