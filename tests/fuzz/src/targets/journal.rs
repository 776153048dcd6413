//! What outlives a process: journal entries, applied as commands and replayed, and the rows of checkpoints.

use lakefall_queue::NamespaceName;
use lakefall_queue::id::{Epoch, JournalSeq};
use lakefall_queue::ledger::{Command, JournalEntry, Ledger, Query, Row, ShardRow, proto};
use lakefall_queue::verbs::PageRequest;
use prost::Message;

use super::ledger::{AT, Known, SHARD, groups, ledger};

/// An entry is read as it was written. Whatever its commands are, a ledger takes or refuses them; what it took is replayed to the
/// same state, byte for byte (L6), and restored from its rows.
pub fn journal_entry(input: &[u8]) -> bool {
    let Ok(entry) = JournalEntry::decode(input) else { return false };
    assert_eq!(JournalEntry::decode(&entry.encode()).as_ref(), Ok(&entry), "another entry when it is read again");
    let (mut live, known) = ledger();
    let now = live.group_time(entry.time);
    let taken: Vec<Command> = entry.commands.into_iter().filter(|command| live.apply(command, now).changed).collect();
    let any = !taken.is_empty();
    let sealed = live.seal(Epoch(1), now, taken);
    let (mut replayed, _) = ledger();
    let read = JournalEntry::decode(&sealed.encode()).expect("an entry that a ledger wrote");
    assert_eq!(read, sealed, "another entry when it is read");
    replayed.replay(&read).expect("L6: what was taken is taken again");
    assert!(live.snapshot() == replayed.snapshot(), "L6: another state after {read:?}");
    ask(&live, known);
    let checkpoint = live.checkpoint();
    let restored = Ledger::restore(SHARD, &checkpoint.shard, checkpoint.puts).expect("rows that a ledger wrote can be read");
    assert_eq!(restored.seq(), live.seq());
    ask(&restored, known);
    any
}

/// Rows are refused or restored; what was restored answers, and takes or refuses commands.
pub fn ledger_rows(input: &[u8]) -> bool {
    let Some(rows) = rows(input) else { return false };
    let shard = ShardRow { version: 1, seq: 1, epoch: 1, time_ms: AT.as_millis(), next_topic: 3 };
    let Ok(mut restored) = Ledger::restore(SHARD, &shard, rows) else { return false };
    assert_eq!(restored.seq(), JournalSeq(1));
    let _ = restored.snapshot();
    let (_, known) = ledger();
    ask(&restored, known);
    let now = restored.group_time(AT);
    for command in groups(known).iter().flatten() {
        let _ = restored.apply(command, now);
    }
    restored.seal(Epoch(1), now, Vec::new());
    let _ = restored.checkpoint();
    true
}

/// Questions whose answers are counted from the whole state.
fn ask(ledger: &Ledger, known: Known) {
    let page = || PageRequest { after: None, limit: 10 };
    let namespace = NamespaceName::default_name();
    for query in [
        Query::Topics(namespace.clone(), page()),
        Query::Cursors(namespace.clone(), page()),
        Query::Queues(namespace, page()),
        Query::Position,
    ] {
        let _ = ledger.query(&query);
    }
    for (topic, partition, _) in ledger.partitions() {
        let _ = ledger.query(&Query::Partitions(topic));
        let from = lakefall_queue::Offset(1);
        let _ = ledger.query(&Query::Locate { topic, partition, from, max_bytes: 1 << 20, max_extents: 100 });
    }
    let _ = ledger.query(&Query::Compactable { limit: 10, after: None });
    let _ = (ledger.query(&Query::QueueNumbers(known.queue)), ledger.query(&Query::QueuePeek(known.queue, 10)));
}

/// Rows one after the other: a byte for the kind, the length, the message.
fn rows(mut input: &[u8]) -> Option<Vec<Row>> {
    fn next<M: Message + Default>(input: &mut &[u8]) -> Option<M> {
        M::decode_length_delimited(input).ok()
    }
    let mut rows = Vec::new();
    while let Some((kind, mut rest)) = input.split_first() {
        let rest = &mut rest;
        rows.push(match kind % 15 {
            0 => Row::Namespace(next(rest)?),
            1 => Row::Topic(next(rest)?),
            2 => Row::Partition(next(rest)?),
            3 => Row::Object(next(rest)?),
            4 => Row::Cursor(next(rest)?),
            5 => Row::Producer(next(rest)?),
            6 => Row::Dedup(next(rest)?),
            7 => Row::Idempotency(next::<proto::IdempotencyRow>(rest)?),
            8 => Row::Queue(next(rest)?),
            9 => Row::QueuePartition(next(rest)?),
            10 => Row::QueueBlock(next(rest)?),
            11 => Row::Subject(next(rest)?),
            12 => Row::Schema(next(rest)?),
            13 => Row::Usage(next(rest)?),
            _ => Row::UsageReporter(next(rest)?),
        });
        input = rest;
    }
    Some(rows)
}

/// Rows as [`ledger_rows`] reads them.
pub(crate) fn rows_as_input(rows: &[Row]) -> Vec<u8> {
    let kind = |row: &Row| match row {
        Row::Namespace(_) => 0,
        Row::Topic(_) => 1,
        Row::Partition(_) => 2,
        Row::Object(_) => 3,
        Row::Cursor(_) => 4,
        Row::Producer(_) => 5,
        Row::Dedup(_) => 6,
        Row::Idempotency(_) => 7,
        Row::Queue(_) => 8,
        Row::QueuePartition(_) => 9,
        Row::QueueBlock(_) => 10,
        Row::Subject(_) => 11,
        Row::Schema(_) => 12,
        Row::Usage(_) => 13,
        Row::UsageReporter(_) => 14,
    };
    rows.iter().flat_map(|row| std::iter::once(kind(row)).chain(row.encode())).collect()
}
