//! A ledger with queues whose every command is a group of its own, and short ways to say what tests say often.

use std::time::Duration;

use lakefall_queue::error::Error;
use lakefall_queue::id::Epoch;
use lakefall_queue::ledger::{
    Answer, Applied, Atom, Classified, Command, CommitReply, Grant, JournalEntry, Ledger, Mark, Notice, ProposedExtent, PutQueue, Query,
    QueueNumbers, ReceiveMessages, Received, Reply, SeekQueue, SegmentCommit, SettleAction, SettleItem, SettleMessages, SettleOutcome,
    Slice, Want,
};
use lakefall_queue::queue::{Queue, QueueConfig, QueueStart};
use lakefall_queue::topic::TopicConfig;
use lakefall_queue::verbs::Precondition;
use lakefall_queue::{NamespaceName, Offset, PartitionIndex, QueueName, SegmentId, ShardId, Timestamp, TopicId, TopicName};

pub(crate) const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);
pub(crate) const P0: PartitionIndex = PartitionIndex(0);
pub(crate) const LEASE: Duration = Duration::from_secs(30);

pub(crate) struct Bench {
    pub(crate) ledger: Ledger,
    pub(crate) now: Timestamp,
    pub(crate) entries: Vec<JournalEntry>,
    pub(crate) notices: Vec<Notice>,
    ids: u128,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self { ledger: Ledger::new(ShardId(0), 1), now: START, entries: Vec::new(), notices: Vec::new(), ids: 0 }
    }

    /// With the queue `work`, its own topic, and so many messages there.
    pub(crate) fn with_messages(config: QueueConfig, messages: u32) -> (Self, Queue) {
        let mut bench = Self::new();
        let queue = bench.put("work", config);
        if messages > 0 {
            bench.append(queue.sources[0].topic, messages);
        }
        (bench, queue)
    }

    pub(crate) fn apply(&mut self, command: Command) -> Applied {
        let applied = self.ledger.apply(&command, self.now);
        let journaled = applied.changed.then_some(command).into_iter().collect();
        self.entries.push(self.ledger.seal(Epoch(1), self.now, journaled));
        self.notices = self.ledger.take_notices();
        applied
    }

    /// What is refused changes nothing.
    pub(crate) fn refusal(&mut self, command: Command) -> Error {
        let before = self.ledger.snapshot();
        let applied = self.ledger.apply(&command, self.now);
        assert!(!applied.changed && before == self.ledger.snapshot(), "a refused command changed something");
        applied.reply.unwrap_err()
    }

    pub(crate) fn pass(&mut self, by: Duration) {
        self.now = self.now.plus(by);
    }

    pub(crate) fn put(&mut self, name: &str, config: QueueConfig) -> Queue {
        let Ok(Reply::Queue(queue, _)) = self.apply(put_queue(name, config)).reply else { panic!("no queue") };
        *queue
    }

    pub(crate) fn put_topic(&mut self, name: &str, partitions: u32) -> TopicId {
        let config = TopicConfig { partitions, ..TopicConfig::default() };
        let command =
            Command::PutTopic { namespace: ns(), name: topic_name(name), config, condition: Precondition::Always, idempotency: None };
        let Ok(Reply::Topic(topic, _)) = self.apply(command).reply else { panic!("no topic") };
        topic.id
    }

    pub(crate) fn commit(&mut self, slices: Vec<(TopicId, PartitionIndex, Slice)>, atoms: Vec<Atom>) -> CommitReply {
        self.ids += 1;
        let segment = SegmentId::mint(self.now, self.ids << 64);
        let extent = |(topic, partition, slice)| ProposedExtent { topic, partition, position: 0, slices: vec![slice] };
        let commit = SegmentCommit { segment, size: 1_000_000, extents: slices.into_iter().map(extent).collect(), atoms };
        let Ok(Reply::Committed(reply)) = self.apply(Command::Commit(commit)).reply else { panic!("no reply") };
        CommitReply::clone(&reply)
    }

    pub(crate) fn append_to(&mut self, topic: TopicId, partition: PartitionIndex, records: u32) -> CommitReply {
        self.commit(vec![(topic, partition, Slice { length: 10, records, ..Slice::default() })], Vec::new())
    }

    pub(crate) fn append(&mut self, topic: TopicId, records: u32) -> CommitReply {
        self.append_to(topic, P0, records)
    }

    /// Classifies all there is as plain, and leases.
    pub(crate) fn receive(&mut self, queue: &Queue, max: u32) -> Vec<Grant> {
        self.receive_marked(queue, Vec::new(), max)
    }

    /// Classifies all there is of the first partition with these marks, and leases.
    pub(crate) fn receive_marked(&mut self, queue: &Queue, marks: Vec<Mark>, max: u32) -> Vec<Grant> {
        let wants = vec![Want { max, lease: LEASE, request: None }];
        let classified = self.classified(queue, marks);
        self.receive_with(queue, classified, wants).grants.remove(0)
    }

    pub(crate) fn receive_with(&mut self, queue: &Queue, classified: Vec<Classified>, wants: Vec<Want>) -> Received {
        let command = ReceiveMessages { queue: queue.id, generation: queue.generation, classified, wants };
        let Ok(Reply::Received(received)) = self.apply(Command::Receive(command)).reply else { panic!("no reply") };
        *received
    }

    /// Everything of every partition that is not classified; marks count from there, in the first partition.
    pub(crate) fn classified(&self, queue: &Queue, marks: Vec<Mark>) -> Vec<Classified> {
        let asked = ReceiveMessages { queue: queue.id, generation: queue.generation, classified: Vec::new(), wants: Vec::new() };
        let mut probe = self.replayed();
        let Ok(Reply::Received(state)) = probe.apply(&Command::Receive(asked), self.now).reply else { panic!("no reply") };
        let all = |s: &lakefall_queue::ledger::ScanState| Classified {
            topic: s.topic,
            partition: s.partition,
            from: s.scanned,
            to: s.end,
            skipped: Vec::new(),
            marks: Vec::new(),
        };
        let mut classified: Vec<Classified> = state.partitions.iter().map(all).collect();
        classified[0].marks = marks;
        classified
    }

    pub(crate) fn settle(&mut self, queue: &Queue, grant: &Grant, action: SettleAction) -> Vec<SettleOutcome> {
        let items = vec![item(grant, action)];
        let command = SettleMessages { queue: queue.id, generation: queue.generation, version: None, items };
        let Ok(Reply::Settled(runs)) = self.apply(Command::Settle(command)).reply else { panic!("no reply") };
        runs.into_iter().flat_map(|run| std::iter::repeat_n(run.outcome, run.count as usize)).collect()
    }

    pub(crate) fn seek(&mut self, name: &str, start: QueueStart) -> Queue {
        let seek = SeekQueue { namespace: ns(), name: queue_name(name), start: Some(start), positions: Vec::new() };
        let Ok(Reply::Queue(queue, false)) = self.apply(Command::SeekQueue(seek)).reply else { panic!("no queue") };
        *queue
    }

    pub(crate) fn numbers(&self, queue: &Queue) -> QueueNumbers {
        let Ok(Answer::QueueNumbers(numbers)) = self.ledger.query(&Query::QueueNumbers(queue.id)) else { panic!("no answer") };
        *numbers
    }

    pub(crate) fn peek(&self, queue: &Queue, most: u32) -> Vec<u64> {
        let Ok(Answer::QueuePeek(peeked)) = self.ledger.query(&Query::QueuePeek(queue.id, most)) else { panic!("no answer") };
        peeked.into_iter().map(|peeked| peeked.offset.0).collect()
    }

    /// Another owner, after the entries so far.
    pub(crate) fn replayed(&self) -> Ledger {
        let mut ledger = Ledger::new(ShardId(0), 1);
        for entry in &self.entries {
            ledger.replay(&JournalEntry::decode(&entry.encode()).unwrap()).unwrap();
        }
        ledger
    }

    /// Whether those who wait were told that something is ready.
    pub(crate) fn told_ready(&self) -> bool {
        self.notices.iter().any(|notice| matches!(notice, Notice::QueueReady { .. }))
    }
}

pub(crate) fn offsets(grants: &[Grant]) -> Vec<u64> {
    grants.iter().flat_map(|grant| grant.first.0..grant.first.0 + u64::from(grant.count)).collect()
}

pub(crate) fn item(grant: &Grant, action: SettleAction) -> SettleItem {
    let Grant { topic, partition, first, count, attempt, .. } = *grant;
    SettleItem { topic, partition, first, count, attempt, action }
}

/// One message of a grant.
pub(crate) fn single(grant: &Grant, index: u64) -> Grant {
    Grant { first: Offset(grant.first.0 + index), count: 1, ..*grant }
}

pub(crate) fn ns() -> NamespaceName {
    NamespaceName::default_name()
}

pub(crate) fn topic_name(name: &str) -> TopicName {
    TopicName::new(name).unwrap()
}

pub(crate) fn queue_name(name: &str) -> QueueName {
    QueueName::new(name).unwrap()
}

pub(crate) fn put_queue(name: &str, config: QueueConfig) -> Command {
    Command::PutQueue(Box::new(PutQueue {
        namespace: ns(),
        name: queue_name(name),
        config,
        bindings: None,
        positions: Vec::new(),
        condition: Precondition::Always,
        idempotency: None,
    }))
}
