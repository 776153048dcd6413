//! What is answered of queues to protobuf and back.

use super::super::codec::{Decoded, Malformed, required};
use super::super::queue_codec::{grant_from_proto, grant_to_proto, positions_from_proto, positions_to_proto};
use super::super::rows::proto;
use super::super::{Peeked, QueueNumbers, Received, ScanState, SettleOutcome, SettledRun};
use crate::id::{Offset, PartitionIndex, TopicId};
use crate::time::Timestamp;

pub(super) fn received_to_proto(received: &Received) -> proto::Received {
    let scan = |s: &ScanState| proto::ScanState {
        topic: s.topic.0,
        partition: s.partition.0,
        scanned: s.scanned.0,
        end: s.end.0,
        log_start: s.log_start.0,
    };
    proto::Received {
        now_ms: received.now.as_millis(),
        grants: received.grants.iter().map(|grants| proto::Granted { grants: grants.iter().map(grant_to_proto).collect() }).collect(),
        partitions: received.partitions.iter().map(scan).collect(),
        ready: received.ready,
        held_back: received.held_back,
    }
}

pub(super) fn received_from_proto(wire: proto::Received) -> Received {
    let scan = |s: proto::ScanState| ScanState {
        topic: TopicId(s.topic),
        partition: PartitionIndex(s.partition),
        scanned: Offset(s.scanned),
        end: Offset(s.end),
        log_start: Offset(s.log_start),
    };
    Received {
        now: Timestamp::from_millis(wire.now_ms),
        grants: wire.grants.iter().map(|granted| granted.grants.iter().map(grant_from_proto).collect()).collect(),
        partitions: wire.partitions.into_iter().map(scan).collect(),
        ready: wire.ready,
        held_back: wire.held_back,
    }
}

pub(super) fn settled_to_proto(runs: &[SettledRun]) -> proto::SettledRuns {
    use proto::settled_runs::Kind;
    let mut wire = proto::SettledRuns { counts: runs.iter().map(|run| run.count).collect(), ..Default::default() };
    for run in runs {
        let kind = match run.outcome {
            SettleOutcome::Done => Kind::Done,
            SettleOutcome::Until(until) => {
                wire.until_ms.push(until.as_millis());
                Kind::Until
            }
            SettleOutcome::Expired => Kind::Expired,
            SettleOutcome::Unknown => Kind::Unknown,
            SettleOutcome::Doubtful => Kind::Doubtful,
        };
        wire.kinds.push(kind.into());
    }
    wire
}

pub(super) fn settled_from_proto(wire: proto::SettledRuns) -> Decoded<Vec<SettledRun>> {
    use proto::settled_runs::Kind;
    if wire.counts.len() != wire.kinds.len() {
        return Err(Malformed("what became of messages does not fit their number".to_owned()));
    }
    let mut until = wire.until_ms.into_iter();
    let run = |(count, kind): (u32, i32)| -> Decoded<SettledRun> {
        let outcome = match Kind::try_from(kind).map_err(|e| Malformed(format!("what became of a message: {e}")))? {
            Kind::Done => SettleOutcome::Done,
            Kind::Until => SettleOutcome::Until(Timestamp::from_millis(required(until.next(), "the end of a lease")?)),
            Kind::Expired => SettleOutcome::Expired,
            Kind::Unknown => SettleOutcome::Unknown,
            Kind::Doubtful => SettleOutcome::Doubtful,
        };
        Ok(SettledRun { count, outcome })
    };
    wire.counts.into_iter().zip(wire.kinds).map(run).collect()
}

pub(super) fn numbers_to_proto(numbers: &QueueNumbers) -> proto::QueueNumbers {
    proto::QueueNumbers {
        now_ms: numbers.now.as_millis(),
        ready: numbers.ready,
        leased: numbers.leased,
        delayed: numbers.delayed,
        blocked: numbers.blocked,
        dead: numbers.dead,
        came: numbers.came,
        finished: numbers.finished,
        acked_total: numbers.acked_total,
        dead_total: numbers.dead_total,
        oldest: positions_to_proto(&numbers.oldest),
        state_bytes: numbers.state_bytes,
    }
}

pub(super) fn numbers_from_proto(wire: proto::QueueNumbers) -> QueueNumbers {
    QueueNumbers {
        now: Timestamp::from_millis(wire.now_ms),
        ready: wire.ready,
        leased: wire.leased,
        delayed: wire.delayed,
        blocked: wire.blocked,
        dead: wire.dead,
        came: wire.came,
        finished: wire.finished,
        acked_total: wire.acked_total,
        dead_total: wire.dead_total,
        oldest: positions_from_proto(wire.oldest),
        state_bytes: wire.state_bytes,
    }
}

pub(super) fn peeked_to_proto(peeked: &Peeked) -> proto::Peeked {
    proto::Peeked { topic: peeked.topic.0, partition: peeked.partition.0, offset: peeked.offset.0, attempt: peeked.attempt }
}

pub(super) fn peeked_from_proto(wire: proto::Peeked) -> Peeked {
    Peeked { topic: TopicId(wire.topic), partition: PartitionIndex(wire.partition), offset: Offset(wire.offset), attempt: wire.attempt }
}
