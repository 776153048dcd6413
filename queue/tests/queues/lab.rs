//! Runs a history on a ledger and the model side by side, and compares after every command and group.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lakefall_queue::id::Epoch;
use lakefall_queue::ledger::{
    Answer, Applied, Atom, AtomOutcome, Checkpoint, Classified, Command, Grant, JournalEntry, Ledger, Mark, ProposedExtent, PutQueue,
    Query, QueueNumbers, ReceiveMessages, Refusal, Reply, SeekQueue, SegmentCommit, SettleAction, SettleItem, SettleMessages,
    SettleOutcome, Slice, SliceOutcome, Want,
};
use lakefall_queue::queue::{Ordering, Overflow, QueueConfig, QueueStart};
use lakefall_queue::topic::TopicConfig;
use lakefall_queue::verbs::Precondition;
use lakefall_queue::{NamespaceName, Offset, PartitionIndex, QueueId, QueueName, SegmentId, ShardId, Timestamp, TopicId, TopicName};

use super::model::{Action, Found, Granted, Log, Logs, Message, Numbers, Outcome, Partition, Place, Queue};
use super::ops::{ActionOp, CheckpointOp, GroupOp, ItemOp, Op, WantOp};
use super::store::Store;

const SHARD: ShardId = ShardId(0);
const START_MS: i64 = 1_700_000_000_000;

pub(crate) struct Lab {
    pub(crate) ledger: Ledger,
    store: Store,
    journal: Vec<Vec<u8>>,
    under_way: Option<Checkpoint>,
    logs: Logs,
    topics: BTreeMap<u8, (u64, u32)>,
    queues: BTreeMap<u8, Queue>,
    /// All that was ever granted, of each queue.
    grants: BTreeMap<u8, Vec<Granted>>,
    pub(crate) reached: BTreeSet<&'static str>,
    clock_ms: i64,
    now: i64,
    ids: u128,
}

impl Lab {
    pub(crate) fn new() -> Self {
        Self {
            ledger: Ledger::new(SHARD, 1),
            store: Store::default(),
            journal: Vec::new(),
            under_way: None,
            logs: Logs::new(),
            topics: BTreeMap::new(),
            queues: BTreeMap::new(),
            grants: BTreeMap::new(),
            reached: BTreeSet::new(),
            clock_ms: START_MS,
            now: 0,
            ids: 0,
        }
    }

    pub(crate) fn run(history: &[GroupOp]) -> Self {
        let mut lab = Self::new();
        // So that not most histories are about queues that are not there.
        for number in 0..3 {
            let queue = Op::PutQueue { queue: number, topics: 6 + number % 2, bound: None, max_in_flight: None, priorities: 10 };
            let append = Op::Append { topic: number, partition: 0, records: 4_090 };
            let ops = [Op::PutTopic { topic: number, partitions: 1 + u32::from(number) }, append, queue];
            lab.group(&GroupOp { jump_ms: 0, ops: ops.to_vec(), checkpoint: CheckpointOp::Nothing });
        }
        let all = Op::PutQueue { queue: 0, topics: 7, bound: None, max_in_flight: None, priorities: 10 };
        let begin = Op::Seek { queue: 0, to: 0, share: 0 };
        lab.group(&GroupOp { jump_ms: 0, ops: vec![all, begin], checkpoint: CheckpointOp::Nothing });
        history.iter().for_each(|group| lab.group(group));
        lab
    }

    pub(crate) fn group(&mut self, group: &GroupOp) {
        self.clock_ms += group.jump_ms;
        self.now = self.ledger.group_time(Timestamp::from_millis(self.clock_ms)).as_millis();
        let mut journaled = Vec::new();
        for op in &group.ops {
            self.op(op, &mut journaled);
        }
        let entry = self.ledger.seal(Epoch(1), Timestamp::from_millis(self.now), journaled);
        self.journal.push(entry.encode());
        match group.checkpoint {
            CheckpointOp::Take if self.under_way.is_none() => self.under_way = Some(self.ledger.checkpoint()),
            CheckpointOp::Land => {
                if let Some(checkpoint) = self.under_way.take() {
                    self.store.write(&checkpoint);
                    self.ledger.checkpointed(&checkpoint, 1_000);
                }
            }
            CheckpointOp::Fail => {
                if let Some(checkpoint) = self.under_way.take() {
                    self.ledger.checkpoint_failed(checkpoint);
                }
            }
            CheckpointOp::Recover => {
                // A new owner's checkpoints begin anew.
                self.under_way = None;
                let mut successor = self.recovered();
                successor.take_notices();
                self.ledger = successor;
                self.reached.insert("recovered");
            }
            CheckpointOp::Nothing | CheckpointOp::Take => {}
        }
        self.check_numbers();
        self.check_free();
    }

    fn apply(&mut self, command: Command, journaled: &mut Vec<Command>) -> Applied {
        let before = self.ledger.snapshot();
        let applied = self.ledger.apply(&command, Timestamp::from_millis(self.now));
        if applied.changed {
            journaled.push(command);
        } else {
            assert!(before == self.ledger.snapshot(), "what says that it changed nothing changed something: {command:?}");
        }
        applied
    }

    fn op(&mut self, op: &Op, journaled: &mut Vec<Command>) {
        match op {
            Op::PutTopic { topic, partitions } => self.put_topic(*topic, *partitions, journaled),
            Op::DeleteTopic { topic } => self.delete_topic(*topic, journaled),
            Op::PutQueue { queue, topics, bound, max_in_flight, priorities } => {
                self.put_queue(*queue, *topics, *bound, *max_in_flight, *priorities, journaled);
            }
            Op::DeleteQueue { queue } => {
                let command = Command::DeleteQueue { namespace: ns(), name: queue_name(*queue), condition: Precondition::Always };
                let there = self.queues.remove(queue).is_some();
                self.grants.remove(queue);
                assert_eq!(self.apply(command, journaled).reply.is_ok(), there);
            }
            Op::Seek { queue, to, share } => self.seek(*queue, *to, *share, journaled),
            Op::Append { topic, partition, records } => self.append(*topic, *partition, *records, journaled),
            Op::Trim { topic, partition, share } => self.trim(*topic, *partition, *share, journaled),
            Op::Receive { queue, stale, look, overlap, seed, wants } => {
                self.receive(*queue, *stale, (*look, *overlap, *seed), wants, journaled);
            }
            Op::Settle { queue, items, atom: None } => self.settle(*queue, items, journaled),
            Op::Settle { queue, items, atom: Some(records) } => self.settle_in_atom(*queue, items, *records, journaled),
            Op::Wake { ahead_ms } => {
                let before = self.ledger.snapshot();
                self.ledger.wake(Timestamp::from_millis(self.now + ahead_ms));
                assert!(before == self.ledger.snapshot(), "a wake changed something");
            }
        }
    }

    fn put_topic(&mut self, topic: u8, partitions: u32, journaled: &mut Vec<Command>) {
        let partitions = partitions.max(self.topics.get(&topic).map_or(1, |(_, n)| *n));
        let config = TopicConfig { partitions, ..TopicConfig::default() };
        let name = topic_name(topic);
        let command = Command::PutTopic { namespace: ns(), name, config, condition: Precondition::Always, idempotency: None };
        let Ok(Reply::Topic(put, _)) = self.apply(command, journaled).reply else { panic!("no topic") };
        self.topics.insert(topic, (put.id.0, partitions));
        for place in (0..partitions).map(|index| (put.id.0, index)) {
            self.logs.entry(place).or_default();
            for queue in self.queues.values_mut() {
                if queue.partitions.keys().any(|(of, _)| *of == put.id.0) {
                    queue.partitions.entry(place).or_default();
                }
            }
        }
    }

    fn delete_topic(&mut self, topic: u8, journaled: &mut Vec<Command>) {
        let command = Command::DeleteTopic { namespace: ns(), name: topic_name(topic), condition: Precondition::Always };
        let there = self.topics.remove(&topic);
        assert_eq!(self.apply(command, journaled).reply.is_ok(), there.is_some());
        if let Some((id, _)) = there {
            for queue in self.queues.values_mut() {
                queue.partitions.retain(|(of, _), _| *of != id);
                queue.requests.values_mut().for_each(|granted| granted.retain(|one| one.place.0 != id));
                queue.returned.retain(|(place, ..)| place.0 != id);
            }
        }
    }

    fn put_queue(
        &mut self,
        queue: u8,
        topics: u8,
        bound: Option<(u64, bool)>,
        max_in_flight: Option<u64>,
        priorities: u8,
        journaled: &mut Vec<Command>,
    ) {
        // The naive model is slow with groups: the ordered queue does not read the topic with many records.
        let ordered = queue == 2;
        let wanted = |topic: &u8| topics >> topic & 1 == 1 && !(ordered && *topic == 0);
        let mut names: Vec<u8> = (0..3).filter(wanted).filter(|topic| self.topics.contains_key(topic)).collect();
        if names.is_empty() {
            names.extend(self.topics.keys().copied().find(|topic| !ordered || *topic > 0));
        }
        if names.is_empty() {
            return;
        }
        let config = QueueConfig {
            topics: names.iter().map(|topic| topic_name(*topic)).collect(),
            start: if topics.is_multiple_of(2) { QueueStart::Earliest } else { QueueStart::Latest },
            ordering: if ordered { Ordering::Key } else { Ordering::None },
            max_depth: bound.map(|(most, _)| most),
            overflow: if bound.is_some_and(|(_, drops)| drops) { Overflow::DropOldest } else { Overflow::Reject },
            max_in_flight,
            priorities,
            ..QueueConfig::default()
        };
        let put = PutQueue {
            namespace: ns(),
            name: queue_name(queue),
            config,
            bindings: None,
            positions: Vec::new(),
            condition: Precondition::Always,
            idempotency: None,
        };
        let Ok(Reply::Queue(put, created)) = self.apply(Command::PutQueue(Box::new(put)), journaled).reply else { panic!("no queue") };
        assert_eq!(created, !self.queues.contains_key(&queue));
        let model = self.queues.entry(queue).or_default();
        (model.id, model.generation, model.ordered, model.priorities) = (put.id.0, put.generation, ordered, priorities);
        (model.max_depth, model.drops, model.max_in_flight) = (bound.map(|b| b.0), bound.is_some_and(|b| b.1), max_in_flight);
        let ids: Vec<u64> = names.iter().map(|topic| self.topics[topic].0).collect();
        model.partitions.retain(|(topic, _), _| ids.contains(topic));
        model.requests.values_mut().for_each(|granted| granted.retain(|one| ids.contains(&one.place.0)));
        model.returned.retain(|(place, ..)| ids.contains(&place.0));
        for (place, log) in self.logs.iter().filter(|(place, _)| ids.contains(&place.0)) {
            let start = if topics.is_multiple_of(2) { log.log_start } else { log.end };
            model.partitions.entry(*place).or_insert_with(|| Partition::starting_at(start));
        }
    }

    fn seek(&mut self, queue: u8, to: u8, share: u8, journaled: &mut Vec<Command>) {
        let start = [Some(QueueStart::Earliest), Some(QueueStart::Latest), None, Some(QueueStart::Offset(Offset(u64::from(share))))]
            [usize::from(to)];
        let mut positions = Vec::new();
        if let (Some(model), None) = (self.queues.get(&queue), start) {
            for place in model.partitions.keys().take(1) {
                let offset = self.logs[place].end * u64::from(share) / 255;
                positions.push((TopicId(place.0), PartitionIndex(place.1), Offset(offset)));
            }
        }
        let seek = SeekQueue { namespace: ns(), name: queue_name(queue), start, positions: positions.clone() };
        let applied = self.apply(Command::SeekQueue(seek), journaled);
        let Some(model) = self.queues.get_mut(&queue) else { return assert!(applied.reply.is_err()) };
        assert!(applied.changed, "{applied:?}");
        model.generation += 1;
        model.requests.clear();
        model.returned.clear();
        for (place, partition) in &mut model.partitions {
            let log = self.logs[place];
            let named = positions.iter().find(|(t, p, _)| (t.0, p.0) == *place).map(|(.., offset)| offset.0.max(log.log_start));
            let start = start.map(|start| match start {
                QueueStart::Earliest => log.log_start,
                QueueStart::Latest => log.end,
                QueueStart::Offset(offset) => offset.0.clamp(log.log_start, log.end),
                QueueStart::Time(_) => unreachable!(),
            });
            if let Some(start) = named.or(start) {
                *partition = Partition::starting_at(start);
            }
        }
    }

    fn place(&self, topic: u8, partition: u32) -> Option<Place> {
        let (id, partitions) = self.topics.get(&topic)?;
        Some((*id, partition % partitions))
    }

    fn slices(&self, place: Place, slices: Vec<Slice>) -> ProposedExtent {
        ProposedExtent { topic: TopicId(place.0), partition: PartitionIndex(place.1), position: 0, slices }
    }

    fn segment(&mut self, extents: Vec<ProposedExtent>, atoms: Vec<Atom>) -> Command {
        self.ids += 1;
        let segment = SegmentId::mint(Timestamp::from_millis(self.now), self.ids << 64);
        Command::Commit(SegmentCommit { segment, size: 1_000_000, extents, atoms })
    }

    fn append(&mut self, topic: u8, partition: u32, records: u32, journaled: &mut Vec<Command>) {
        let Some(place) = self.place(topic, partition) else { return };
        let records = if topic == 0 { records } else { records.min(30) };
        let extents = vec![self.slices(place, vec![Slice { length: 10, records, ..Slice::default() }])];
        let command = self.segment(extents, Vec::new());
        let Ok(Reply::Committed(reply)) = self.apply(command, journaled).reply else { panic!("no reply") };
        let full = self.is_full(place, records);
        match &reply.slices[0] {
            SliceOutcome::Stored(base) => {
                assert!(!full && base.0 == self.logs[&place].end);
                self.appended(place, records);
            }
            SliceOutcome::Refused(Refusal::QueueFull { .. }) => {
                assert!(full, "a queue that has room is told to be full");
                self.reached.insert("full");
            }
            other => panic!("{other:?}"),
        }
    }

    fn is_full(&self, place: Place, records: u32) -> bool {
        self.is_full_after(place, records, None)
    }

    /// Whether a queue is full once these leases of one queue, which go on, are settled.
    fn is_full_after(&self, place: Place, records: u32, settled: Option<(u8, &[SettleItem])>) -> bool {
        let finished = |number: u8| {
            let items = settled.into_iter().filter(|(of, _)| *of == number).flat_map(|(_, items)| items);
            items.filter(|i| matches!(i.action, SettleAction::Ack | SettleAction::Bury)).map(|i| u64::from(i.count)).sum::<u64>()
        };
        let of = self.queues.iter().filter(|(_, queue)| queue.partitions.contains_key(&place) && !queue.drops);
        of.into_iter().any(|(number, queue)| {
            queue.max_depth.is_some_and(|most| queue.depth(&self.logs) - finished(*number) + u64::from(records) > most)
        })
    }

    fn appended(&mut self, place: Place, records: u32) {
        self.logs.get_mut(&place).unwrap().end += u64::from(records);
        for queue in self.queues.values_mut().filter(|queue| queue.partitions.contains_key(&place)) {
            queue.overflow(place, self.now, &self.logs);
        }
    }

    fn trim(&mut self, topic: u8, partition: u32, share: u8, journaled: &mut Vec<Command>) {
        let Some(place) = self.place(topic, partition) else { return };
        let log = self.logs.get_mut(&place).unwrap();
        let before = log.end * u64::from(share) / 255;
        log.log_start = log.log_start.max(before);
        let raised = log.log_start;
        let command = Command::Trim { topic: TopicId(place.0), partition: Some(PartitionIndex(place.1)), before: Offset(before) };
        let changed = self.apply(command, journaled).changed;
        for queue in self.queues.values_mut().filter(|queue| changed && queue.max_depth.is_some()) {
            let logs = &self.logs;
            queue
                .partitions
                .iter_mut()
                .filter(|(of, _)| of.0 == place.0)
                .for_each(|(of, p)| p.trim(logs[of].log_start.max(if *of == place { raised } else { 0 })));
        }
    }

    fn receive(&mut self, number: u8, stale: bool, (look, overlap, seed): (u8, u8, u8), wants: &[WantOp], journaled: &mut Vec<Command>) {
        let Some(queue) = self.queues.get(&number) else { return };
        let ordered = queue.ordered;
        let find = move |now: i64, offset: u64| found(seed, ordered, now, offset);
        let mut classified = Vec::new();
        for (place, partition) in queue.partitions.iter().filter(|_| look > 40) {
            let (log, scanned) = (self.logs[place], partition.scanned.max(self.logs[place].log_start));
            let from = scanned.saturating_sub(u64::from(overlap)) + u64::from(overlap == 5) * 8;
            let to = from.max((scanned + u64::from(look) * if look > 200 { 20 } else { 1 }).min(log.end + u64::from(look % 2)));
            classified.push(classify(*place, from, to, |offset| find(self.now, offset)));
        }
        let asked = wants.iter().map(|want| Want {
            max: want.max,
            lease: Duration::from_millis(want.lease_ms),
            request: want.request.map(u128::from),
        });
        let command = ReceiveMessages {
            queue: QueueId(queue.id),
            generation: queue.generation + u32::from(stale),
            classified: classified.clone(),
            wants: asked.collect(),
        };
        let turn = self.ledger.seq().0;
        let applied = self.apply(Command::Receive(command), journaled);
        let (now, logs) = (self.now, &self.logs);
        let queue = self.queues.get_mut(&number).unwrap();
        if stale || queue.partitions.is_empty() {
            return assert!(applied.reply.is_err());
        }
        let Ok(Reply::Received(received)) = applied.reply else { panic!("{:?}", applied.reply) };
        queue.partitions.iter_mut().for_each(|(place, partition)| partition.trim(logs[place].log_start));
        for c in &classified {
            let place = (c.topic.0, c.partition.0);
            queue.classify(place, c.from.0, c.to.0, now, logs[&place].end, |offset| find(now, offset));
        }
        for (want, grants) in wants.iter().zip(&received.grants) {
            let known = want.request.and_then(|request| queue.requests.get(&u128::from(request)));
            let still = known.map(|granted| queue.still_leased(granted, now)).unwrap_or_default();
            let told: Vec<Granted> = grants.iter().flat_map(expand).collect();
            if !still.is_empty() {
                assert_eq!(told, still, "a repeated receive gets its leases again");
                self.reached.insert("repeated");
                continue;
            }
            let until = now + want.lease_ms.max(1) as i64;
            // No lease is given twice: checked of its own, as it is what queues are for.
            for granted in &told {
                assert!(
                    !queue.is_held(granted.place, granted.offset, granted.attempt - 1, now, Log::default()),
                    "{granted:?} was leased already"
                );
            }
            let expected = queue.lease(u64::from(want.max), until, now, turn);
            assert_eq!(told, expected, "grants of {want:?}");
            if told.iter().any(|granted| granted.attempt > 1) {
                self.reached.insert("redelivered");
            }
            if told.iter().any(|granted| granted.offset > 4_096) {
                self.reached.insert("second block");
            }
            if let Some(request) = want.request.filter(|_| !told.is_empty()) {
                queue.requests.insert(u128::from(request), told.clone());
            }
            self.grants.entry(number).or_default().extend(told);
        }
        let scanned: Vec<(Place, u64)> = received.partitions.iter().map(|s| ((s.topic.0, s.partition.0), s.scanned.0)).collect();
        assert_eq!(scanned, queue.partitions.iter().map(|(place, p)| (*place, p.scanned)).collect::<Vec<_>>());
        let full = queue.max_in_flight.is_some_and(|most| queue.in_flight(now) >= most);
        assert_eq!(received.held_back, full);
        if full {
            self.reached.insert("held back");
        }
    }

    fn items(&self, queue: u8, items: &[ItemOp]) -> Vec<SettleItem> {
        let given = self.grants.get(&queue).map(Vec::as_slice).unwrap_or_default();
        let of = |item: &ItemOp| {
            let granted = given.iter().rev().nth(usize::from(item.back))?;
            let action = match item.action {
                ActionOp::Ack => SettleAction::Ack,
                ActionOp::Release(ms) => SettleAction::Release { delay: Duration::from_millis(u64::from(ms)) },
                ActionOp::Undelivered(ms) => SettleAction::Undelivered { delay: Duration::from_millis(u64::from(ms)) },
                ActionOp::Extend(ms) => SettleAction::Extend { lease: Duration::from_millis(u64::from(ms)) },
                ActionOp::Bury => SettleAction::Bury,
                ActionOp::Cancel => SettleAction::Cancel,
            };
            Some(SettleItem {
                topic: TopicId(granted.place.0),
                partition: PartitionIndex(granted.place.1),
                first: Offset(granted.offset.saturating_add_signed(i64::from(item.shift))),
                count: u32::from(item.count),
                attempt: granted.attempt,
                action,
            })
        };
        items.iter().filter_map(of).collect()
    }

    fn model_settle(&mut self, queue: u8, items: &[SettleItem]) -> Vec<Outcome> {
        let (now, logs) = (self.now, &self.logs);
        let queue = self.queues.get_mut(&queue).unwrap();
        let mut outcomes = Vec::new();
        for item in items {
            let action = match item.action {
                SettleAction::Ack => Action::Ack,
                SettleAction::Release { delay } => Action::Release(delay.as_millis() as i64),
                SettleAction::Undelivered { delay } => Action::Undelivered(delay.as_millis() as i64),
                SettleAction::Extend { lease } => Action::Extend(lease.as_millis() as i64),
                SettleAction::Bury => Action::Bury,
                SettleAction::Cancel => Action::Cancel,
            };
            let place = (item.topic.0, item.partition.0);
            for offset in item.first.0..item.first.0 + u64::from(item.count) {
                outcomes.push(queue.settle(place, offset, item.attempt, action, now, logs[&place]));
            }
        }
        outcomes
    }

    fn settle(&mut self, number: u8, items: &[ItemOp], journaled: &mut Vec<Command>) {
        let Some(queue) = self.queues.get(&number) else { return };
        let items = self.items(number, items);
        let command = SettleMessages { queue: QueueId(queue.id), generation: queue.generation, version: None, items: items.clone() };
        let Ok(Reply::Settled(runs)) = self.apply(Command::Settle(command), journaled).reply else { panic!("no reply") };
        let told: Vec<Outcome> = runs.iter().flat_map(|run| std::iter::repeat_n(outcome(run.outcome), run.count as usize)).collect();
        for outcome in &told {
            self.reached.insert(match outcome {
                Outcome::Done => "done",
                Outcome::Until(_) => "extended",
                Outcome::Expired => "expired",
                Outcome::Unknown => "unknown",
            });
        }
        assert_eq!(told, self.model_settle(number, &items), "{items:?}");
    }

    /// Appends to the second topic in the same atom.
    fn settle_in_atom(&mut self, number: u8, items: &[ItemOp], records: u32, journaled: &mut Vec<Command>) {
        let Some(queue) = self.queues.get(&number) else { return };
        let items = self.items(number, items);
        let settles = vec![SettleMessages { queue: QueueId(queue.id), generation: queue.generation, version: None, items: items.clone() }];
        let mut held = true;
        let mut seen = BTreeSet::new();
        for item in &items {
            let place = (item.topic.0, item.partition.0);
            for offset in item.first.0..item.first.0 + u64::from(item.count) {
                held &= match item.action {
                    SettleAction::Cancel => queue.is_free(place, offset, self.now, self.logs[&place]),
                    _ => queue.is_held(place, offset, item.attempt, self.now, self.logs[&place]),
                } && seen.insert((place, offset));
            }
        }
        let place = self.place(1, 0).filter(|_| records > 0);
        let extents = place.map(|place| self.slices(place, vec![Slice { length: 10, records, atom: Some(0), ..Slice::default() }]));
        let atom = Atom { namespace: ns(), idempotency: None, layout: Vec::new(), cursors: Vec::new(), settles };
        let command = self.segment(extents.into_iter().collect(), vec![atom]);
        // As many as are acknowledged make room in this queue.
        let full = held && place.is_some_and(|place| self.is_full_after(place, records, Some((number, &items))));
        let Ok(Reply::Committed(reply)) = self.apply(command, journaled).reply else { panic!("no reply") };
        match &reply.atoms[0] {
            AtomOutcome::Applied => {
                assert!(held && !full, "an atom was applied whose leases do not all go on: {items:?}");
                self.reached.insert("atom applied");
                self.model_settle(number, &items);
                if let Some(place) = place {
                    self.appended(place, records);
                }
            }
            AtomOutcome::Refused(Refusal::Lease { .. }) => {
                assert!(!held, "an atom was refused whose leases go on: {items:?}");
                self.reached.insert("atom refused");
            }
            AtomOutcome::Refused(Refusal::QueueFull { .. }) => assert!(full),
            other => panic!("{other:?}"),
        }
    }

    /// The ledger counts as the model does, at the time of the last group.
    fn check_numbers(&mut self) {
        for (number, queue) in &self.queues {
            let Ok(Answer::QueueNumbers(told)) = self.ledger.query(&Query::QueueNumbers(QueueId(queue.id))) else { panic!("no answer") };
            let QueueNumbers { now, ready, leased, delayed, blocked, oldest, acked_total, dead_total, .. } = *told;
            let oldest = oldest.into_iter().map(|(topic, index, offset)| ((topic.0, index.0), offset.0)).collect();
            let told = Numbers { ready, leased, delayed, blocked, oldest };
            assert_eq!(told, queue.numbers(now.as_millis(), &self.logs), "numbers of queue {number}");
            assert_eq!((acked_total, dead_total), (queue.acked, queue.dead));
            if blocked > 0 {
                self.reached.insert("blocked");
            }
            if delayed > 0 {
                self.reached.insert("delayed");
            }
        }
    }

    /// What is told to be free is, of each partition, page by page.
    fn check_free(&self) {
        for queue in self.queues.values() {
            let now = self.asked_at(queue.id);
            for place in queue.partitions.keys() {
                let (log, mut from, mut told) = (self.logs[place], Offset(0), Vec::new());
                while from.0 < log.end {
                    let (topic, partition) = (TopicId(place.0), PartitionIndex(place.1));
                    let query = Query::QueueFree { queue: QueueId(queue.id), topic, partition, from, most: 1_000 };
                    let Ok(Answer::QueueFree(free)) = self.ledger.query(&query) else { panic!("no answer") };
                    assert!(free.next > from);
                    from = free.next;
                    told.extend(free.offsets.into_iter().map(|offset| offset.0));
                }
                let waits = |offset: u64| matches!(queue.partitions[place].message(offset), Message::Entry { at, .. } if at > now);
                let expected: Vec<u64> = (0..log.end).filter(|o| queue.is_free(*place, *o, now, log) && !waits(*o)).collect();
                assert_eq!(told, expected, "free messages of {place:?}");
            }
        }
    }

    /// The time by which the ledger answers.
    fn asked_at(&self, queue: u64) -> i64 {
        let Ok(Answer::QueueNumbers(told)) = self.ledger.query(&Query::QueueNumbers(QueueId(queue))) else { panic!("no answer") };
        told.now.as_millis()
    }

    pub(crate) fn replayed(&self) -> Ledger {
        let mut ledger = Ledger::new(SHARD, 1);
        self.replay_tail(&mut ledger);
        ledger
    }

    pub(crate) fn recovered(&self) -> Ledger {
        let mut ledger = self.store.load(SHARD).unwrap_or_else(|| Ledger::new(SHARD, 1));
        self.replay_tail(&mut ledger);
        ledger
    }

    fn replay_tail(&self, ledger: &mut Ledger) {
        for bytes in &self.journal[ledger.seq().0 as usize..] {
            ledger.replay(&JournalEntry::decode(bytes).unwrap()).unwrap();
        }
    }
}

/// What a gateway would find in a record: always the same for the same seed.
fn found(seed: u8, ordered: bool, now: i64, offset: u64) -> Found {
    let draw = (offset + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(u64::from(seed).wrapping_mul(0xbf58_476d_1ce4_e5b9));
    let draw = (draw ^ draw >> 29).wrapping_mul(0x94d0_49bb_1331_11eb) >> 20;
    let group = (ordered && draw % 10 != 0).then_some(draw >> 30 & 3);
    match draw % 16 {
        0 | 1 => Found::Skipped,
        2 => Found::Marked { at: Some(now + (draw >> 12 & 0xfff) as i64 - 200), priority: 0, group },
        3 | 4 => Found::Marked { at: None, priority: (draw >> 8 & 0xf) as u8, group },
        _ if group.is_some() => Found::Marked { at: None, priority: 0, group },
        _ => Found::Plain,
    }
}

fn classify(place: Place, from: u64, to: u64, found: impl Fn(u64) -> Found) -> Classified {
    let mut classified = Classified {
        topic: TopicId(place.0),
        partition: PartitionIndex(place.1),
        from: Offset(from),
        to: Offset(to),
        skipped: Vec::new(),
        marks: Vec::new(),
    };
    for offset in from..to {
        let index = (offset - from) as u32;
        match found(offset) {
            Found::Plain => {}
            Found::Skipped => match classified.skipped.last_mut() {
                Some((first, count)) if *first + *count == index => *count += 1,
                _ => classified.skipped.push((index, 1)),
            },
            Found::Marked { at, priority, group } => {
                classified.marks.push(Mark { index, not_before: at.map(Timestamp::from_millis), priority, group });
            }
        }
    }
    classified
}

fn expand(grant: &Grant) -> Vec<Granted> {
    let one = |offset: u64| Granted {
        place: (grant.topic.0, grant.partition.0),
        offset,
        attempt: grant.attempt,
        undelivered: grant.undelivered,
        until: grant.lease_until.as_millis(),
    };
    (grant.first.0..grant.first.0 + u64::from(grant.count)).map(one).collect()
}

fn outcome(outcome: SettleOutcome) -> Outcome {
    match outcome {
        SettleOutcome::Done => Outcome::Done,
        SettleOutcome::Until(at) => Outcome::Until(at.as_millis()),
        SettleOutcome::Expired => Outcome::Expired,
        SettleOutcome::Unknown => Outcome::Unknown,
        SettleOutcome::Doubtful => panic!("a ledger has no doubt"),
    }
}

fn ns() -> NamespaceName {
    NamespaceName::default_name()
}

fn topic_name(topic: u8) -> TopicName {
    TopicName::new(&format!("topic-{topic}")).unwrap()
}

fn queue_name(queue: u8) -> QueueName {
    QueueName::new(&format!("queue-{queue}")).unwrap()
}
