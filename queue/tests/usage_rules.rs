//! The rules of usage, by example: each test is the sentence it proves.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail a test")]

use std::time::Duration;

use lakefall_queue::id::Epoch;
use lakefall_queue::ledger::{Answer, Applied, Command, JournalEntry, Ledger, Query, Reply, Row, UsageAnswer, UsageQuery};
use lakefall_queue::topic::TopicConfig;
use lakefall_queue::usage::{Figure, Grain, UsageCounts, UsageItem, UsageReport};
use lakefall_queue::verbs::Precondition;
use lakefall_queue::{Error, NamespaceName, ShardId, Timestamp, TopicId, TopicName};

/// 2023-11-14T22:13:20Z.
const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const HOUR: Duration = Duration::from_secs(3_600);

struct Bench {
    ledger: Ledger,
    now: Timestamp,
    entries: Vec<JournalEntry>,
}

fn namespace() -> NamespaceName {
    NamespaceName::default_name()
}

fn name(name: &str) -> TopicName {
    TopicName::new(name).unwrap()
}

fn counts(records: u64) -> UsageCounts {
    let mut counts = UsageCounts::default();
    counts.add(Figure::ProducedRecords, records);
    counts
}

impl Bench {
    fn new() -> Self {
        Self { ledger: Ledger::new(ShardId(0), 1), now: NOW, entries: Vec::new() }
    }

    fn apply(&mut self, command: Command) -> Applied {
        let applied = self.ledger.apply(&command, self.now);
        let journaled = applied.changed.then_some(command).into_iter().collect();
        self.entries.push(self.ledger.seal(Epoch(1), self.now, journaled));
        applied
    }

    fn topic(&mut self, topic: &str) -> TopicId {
        let put = Command::PutTopic {
            namespace: namespace(),
            name: name(topic),
            config: TopicConfig::default(),
            condition: Precondition::Always,
            idempotency: None,
        };
        match self.apply(put).reply.unwrap() {
            Reply::Topic(topic, _) => topic.id,
            other => panic!("{other:?}"),
        }
    }

    /// Reports what topics produced. Answers whether it was counted.
    fn report(&mut self, reporter: u128, sequence: u64, of: &[(TopicId, u64)]) -> bool {
        let item = |(topic, records): &(TopicId, u64)| UsageItem { namespace: namespace(), topic: *topic, counts: counts(*records) };
        let report = UsageReport { reporter, sequence, items: of.iter().map(item).collect() };
        let applied = self.apply(Command::ReportUsage(Box::new(report)));
        assert_eq!(applied.reply, Ok(Reply::Done));
        applied.changed
    }

    fn ask(&self, topic: Option<&str>, grain: Grain) -> UsageAnswer {
        let (from, to) = (Timestamp::from_millis(0), Timestamp::from_millis(i64::MAX));
        let query = UsageQuery { namespace: namespace(), topic: topic.map(name), grain, from, to };
        match self.ledger.query(&Query::Usage(Box::new(query))).unwrap() {
            Answer::Usage(answer) => *answer,
            other => panic!("{other:?}"),
        }
    }

    fn produced(&self, topic: Option<&str>, grain: Grain) -> Vec<u64> {
        self.ask(topic, grain).buckets.iter().map(|(_, counts)| counts.get(Figure::ProducedRecords)).collect()
    }
}

#[test]
fn what_is_reported_counts_for_the_topic_and_its_namespace_by_hour_and_day() {
    let mut bench = Bench::new();
    let (a, b) = (bench.topic("a"), bench.topic("b"));
    assert!(bench.report(1, 1, &[(a, 3), (b, 4)]));
    bench.now = NOW.plus(HOUR);
    assert!(bench.report(1, 2, &[(a, 5)]));
    assert_eq!(bench.produced(Some("a"), Grain::Hour), [3, 5]);
    assert_eq!(bench.produced(Some("b"), Grain::Hour), [4]);
    assert_eq!(bench.produced(None, Grain::Hour), [7, 5]);
    assert_eq!(bench.produced(None, Grain::Day), [12]);
    assert_eq!(bench.ask(None, Grain::Day).buckets[0].0.to_string(), "2023-11-14T00:00:00.000Z");
}

#[test]
fn a_repeated_report_and_one_before_the_last_are_not_counted_again() {
    let mut bench = Bench::new();
    let a = bench.topic("a");
    assert!(bench.report(1, 7, &[(a, 3)]));
    assert!(!bench.report(1, 7, &[(a, 3)]) && !bench.report(1, 6, &[(a, 3)]));
    // Another process counts on its own.
    assert!(bench.report(2, 1, &[(a, 1)]));
    assert!(bench.report(1, 8, &[(a, 1)]));
    assert_eq!(bench.produced(Some("a"), Grain::Day), [5]);
}

#[test]
fn what_a_deleted_topic_used_stays_in_its_namespace_and_a_new_one_of_its_name_begins_at_nothing() {
    let mut bench = Bench::new();
    let a = bench.topic("a");
    bench.report(1, 1, &[(a, 3)]);
    let delete = Command::DeleteTopic { namespace: namespace(), name: name("a"), condition: Precondition::Always };
    bench.apply(delete).reply.unwrap();
    bench.report(1, 2, &[(a, 4)]);
    bench.topic("a");
    assert_eq!(bench.produced(Some("a"), Grain::Day), Vec::<u64>::new());
    assert_eq!(bench.produced(None, Grain::Day), [7]);
}

#[test]
fn a_namespace_or_topic_that_is_not_there_is_told_as_such() {
    let mut bench = Bench::new();
    let a = bench.topic("a");
    let ask = |bench: &Bench, namespace: NamespaceName, topic| {
        let query = UsageQuery { namespace, topic, grain: Grain::Day, from: NOW, to: NOW };
        bench.ledger.query(&Query::Usage(Box::new(query))).map(|_| ())
    };
    let other = NamespaceName::new("acme").unwrap();
    assert_eq!(ask(&bench, other.clone(), None), Err(Error::NamespaceNotFound(other.clone())));
    assert_eq!(ask(&bench, namespace(), Some(name("b"))), Err(Error::TopicNotFound(name("b"))));
    assert_eq!(ask(&bench, namespace(), Some(name("a"))), Ok(()));
    // Nobody is told what is reported for a namespace that is not there.
    let item = UsageItem { namespace: other, topic: a, counts: counts(1) };
    bench.apply(Command::ReportUsage(Box::new(UsageReport { reporter: 1, sequence: 1, items: vec![item] }))).reply.unwrap();
    assert_eq!(bench.produced(None, Grain::Day), Vec::<u64>::new());
}

#[test]
fn hours_go_after_two_days_and_days_after_ninety() {
    let mut bench = Bench::new();
    let a = bench.topic("a");
    bench.report(1, 1, &[(a, 3)]);
    bench.now = NOW.plus(47 * HOUR);
    bench.report(1, 2, &[(a, 4)]);
    assert_eq!(bench.produced(Some("a"), Grain::Hour), [3, 4]);
    bench.now = NOW.plus(49 * HOUR);
    bench.report(1, 3, &[(a, 5)]);
    assert_eq!(bench.produced(Some("a"), Grain::Hour), [4, 5]);
    assert_eq!(bench.produced(None, Grain::Day), [3, 9]);
    bench.now = NOW.plus(92 * 24 * HOUR);
    bench.report(1, 4, &[]);
    assert_eq!(bench.produced(None, Grain::Day), [9]);
}

#[test]
fn a_reporter_that_was_silent_for_a_week_is_forgotten() {
    let mut bench = Bench::new();
    bench.report(1, 9, &[]);
    bench.now = NOW.plus(8 * 24 * HOUR);
    bench.report(2, 1, &[]);
    let reporters = bench.ledger.checkpoint().puts.iter().filter(|row| matches!(row, Row::UsageReporter(_))).count();
    assert_eq!(reporters, 1);
}

#[test]
fn what_is_kept_is_counted_as_it_is() {
    let mut bench = Bench::new();
    bench.topic("a");
    bench.topic("b");
    let held = bench.ask(None, Grain::Day).holdings;
    assert_eq!((held.topics, held.partitions, held.queues, held.segment_bytes), (2, 2, 0, 0));
    let held = bench.ask(Some("a"), Grain::Day).holdings;
    assert_eq!((held.topics, held.partitions, held.extents), (1, 1, 0));
}

#[test]
fn l6_usage_comes_back_from_the_journal_and_from_rows_in_any_order() {
    let mut bench = Bench::new();
    let (a, b) = (bench.topic("a"), bench.topic("b"));
    for hour in 0..60 {
        bench.now = NOW.plus(hour * HOUR);
        bench.report(u128::from(hour % 3), u64::from(hour) + 1, &[(a, 1), (b, 2)]);
    }
    let mut replayed = Ledger::new(ShardId(0), 1);
    for entry in &bench.entries {
        replayed.replay(&JournalEntry::decode(&entry.encode()).unwrap()).unwrap();
    }
    assert_eq!(replayed.snapshot(), bench.ledger.snapshot());
    let checkpoint = bench.ledger.checkpoint();
    let rows: Vec<Row> = checkpoint.puts.iter().rev().cloned().collect();
    let mut restored = Ledger::restore(ShardId(0), &checkpoint.shard, rows).unwrap();
    assert_eq!(restored.snapshot(), bench.ledger.snapshot());
    // And both go on alike.
    bench.now = NOW.plus(75 * HOUR);
    bench.report(7, 1, &[(a, 1)]);
    let last = bench.entries.last().unwrap();
    restored.replay(last).unwrap();
    assert_eq!(restored.snapshot(), bench.ledger.snapshot());
}

#[test]
fn a_program_that_does_not_know_usage_serves_the_shard_and_loses_only_counts() {
    let mut bench = Bench::new();
    let a = bench.topic("a");
    bench.report(1, 1, &[(a, 3)]);
    let before = bench.ledger.checkpoint();
    bench.report(1, 2, &[(a, 4)]);
    bench.topic("b");
    // As it reads the journal, and as it leaves the shard: the rows of usage stand as they were.
    let passed_over = |entry: &JournalEntry| {
        let mut entry = JournalEntry::decode(&entry.encode()).unwrap();
        entry.commands.retain(|command| !matches!(command, Command::ReportUsage(_)));
        entry
    };
    let mut older = Ledger::new(ShardId(0), 1);
    bench.entries.iter().for_each(|entry| older.replay(&passed_over(entry)).unwrap());
    let left = older.checkpoint();
    let of_usage = |row: &&Row| matches!(row, Row::Usage(_) | Row::UsageReporter(_));
    assert_eq!(left.puts.iter().filter(of_usage).count(), 0);
    let rows = left.puts.iter().chain(before.puts.iter().filter(of_usage)).cloned();
    let mut bench = Bench { ledger: Ledger::restore(ShardId(0), &left.shard, rows).unwrap(), ..bench };
    assert_eq!(bench.produced(Some("a"), Grain::Day), [3]);
    // A report that was taken and passed over is taken again, should it be sent again.
    assert!(bench.report(1, 2, &[(a, 4)]) && !bench.report(1, 2, &[(a, 4)]));
    assert_eq!(bench.produced(Some("a"), Grain::Day), [7]);
    let mut replayed =
        Ledger::restore(ShardId(0), &left.shard, left.puts.iter().chain(before.puts.iter().filter(of_usage)).cloned()).unwrap();
    let since = bench.entries.iter().filter(|entry| entry.seq.0 > left.shard.seq);
    since.for_each(|entry| replayed.replay(&JournalEntry::decode(&entry.encode()).unwrap()).unwrap());
    assert_eq!(replayed.snapshot(), bench.ledger.snapshot());
}

#[test]
fn l6_a_report_is_replayed_between_the_commands_between_which_it_was_taken() {
    let mut bench = Bench::new();
    let a = bench.topic("a");
    let report = |sequence| {
        let items = vec![UsageItem { namespace: namespace(), topic: a, counts: counts(sequence) }];
        Command::ReportUsage(Box::new(UsageReport { reporter: 1, sequence, items }))
    };
    let delete = Command::DeleteTopic { namespace: namespace(), name: name("a"), condition: Precondition::Always };
    // One group: what is reported before the topic goes, goes with it.
    let group = vec![report(1), delete, report(2)];
    for command in &group {
        assert!(bench.ledger.apply(command, NOW).changed);
    }
    let entry = bench.ledger.seal(Epoch(1), NOW, group);
    let read = JournalEntry::decode(&entry.encode()).unwrap();
    assert_eq!(read, entry);
    bench.entries.push(read);
    let mut replayed = Ledger::new(ShardId(0), 1);
    bench.entries.iter().for_each(|entry| replayed.replay(entry).unwrap());
    assert_eq!(replayed.snapshot(), bench.ledger.snapshot());
}
