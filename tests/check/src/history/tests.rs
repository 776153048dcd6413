//! The format: what is written is read, and whatever else there is, is refused with its line.

use std::io::Cursor;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::codec::from_line;
use super::*;
use crate::checker::Check;

fn name() -> impl Strategy<Value = Name> {
    "[a-z\"\\\\é \n]{0,6}".prop_map(|text| text.as_str().into())
}

fn id() -> impl Strategy<Value = RecordId> {
    // Small counts, so that some follow each other.
    (0..3_u32, prop_oneof![0..4_u64, any::<u64>()]).prop_map(|(producer, seq)| RecordId { producer, seq })
}

fn time() -> impl Strategy<Value = Duration> {
    (0..1_000_000_000_000_000_u64).prop_map(Duration::from_nanos)
}

/// A run of ids that has an end.
fn append() -> impl Strategy<Value = Append> {
    let records = vec((id().prop_filter("a run needs an end", |id| id.seq < u64::MAX - 100), any::<u64>()), 1..6);
    let condition = (option::of(any::<u32>()), any::<bool>(), any::<bool>(), option::of(any::<u64>()), option::of(any::<u64>()));
    (name(), records, condition, any::<bool>()).prop_map(|(topic, records, (partition, once, pipelined, expect, fence), keyed)| Append {
        topic,
        partition,
        promise: Promise { once, pipelined },
        expect,
        fence,
        keys: if keyed { records.iter().map(|(_, sum)| sum / 2).collect() } else { Vec::new() },
        records,
    })
}

fn lease() -> impl Strategy<Value = LeaseId> {
    (any::<u32>(), any::<u64>(), any::<u32>()).prop_map(|(partition, offset, attempt)| LeaseId { at: (partition, offset), attempt })
}

fn verb() -> impl Strategy<Value = Verb> {
    prop_oneof![Just(Verb::Ack), Just(Verb::Reject), time().prop_map(Verb::Nack), time().prop_map(Verb::Extend)]
}

fn call() -> impl Strategy<Value = Call> {
    let offsets = || vec((any::<u32>(), any::<u64>()), 0..3);
    let change = (name(), name(), offsets()).prop_map(|(cursor, topic, offsets)| CursorMove { cursor, topic, offsets });
    let read = (name(), any::<u32>(), any::<bool>(), any::<bool>(), any::<u32>(), any::<u64>());
    let sent = (id(), option::of(any::<u64>()), time(), any::<bool>()).prop_map(|(id, key, delay, once)| Sent { id, key, delay, once });
    prop_oneof![
        append().prop_map(Call::Send),
        (vec(append(), 0..3), vec(change, 0..3), vec((name(), vec(lease(), 0..3)), 0..2)).prop_map(|(appends, moves, acks)| Call::Commit {
            appends,
            moves,
            acks
        }),
        read.prop_map(|(topic, reader, last, seek, partition, from)| Call::Read(Read { topic, reader, last, seek, partition, from })),
        (name(), any::<u32>()).prop_map(|(topic, partition)| Call::Tail { topic, partition }),
        (name(), name(), any::<bool>()).prop_map(|(cursor, topic, last)| Call::Cursor { cursor, topic, last }),
        (name(), vec((sent, any::<u64>()), 0..4)).prop_map(|(queue, messages)| Call::Enqueue { queue, messages }),
        (name(), time(), any::<bool>()).prop_map(|(queue, lease, drain)| Call::Receive { queue, lease, drain }),
        (name(), verb(), vec(lease(), 0..4)).prop_map(|(queue, verb, leases)| Call::Settle { queue, verb, leases }),
    ]
}

fn answer() -> impl Strategy<Value = Answer> {
    let run = (any::<u32>(), 0..u64::MAX - u64::from(u32::MAX), any::<u32>()).prop_map(|(partition, first, count)| Run {
        partition,
        first,
        count,
    });
    let place =
        (prop_oneof![0..4_u64, 0..u64::MAX - 100], option::of(id().prop_filter("a run needs an end", |id| id.seq < u64::MAX - 100)));
    let seen = (place, any::<u64>()).prop_map(|((offset, id), sum)| Seen { offset, id, sum }).boxed();
    let delivered = (lease(), option::of(id()), any::<u64>()).prop_map(|(lease, id, hash)| Delivered { lease, id, hash });
    let status = prop_oneof![Just(Status::Done), Just(Status::Expired), Just(Status::Unknown), Just(Status::Info)];
    prop_oneof![
        vec(run.clone(), 0..4).prop_map(Answer::Stored),
        vec(vec(run, 0..3), 0..3).prop_map(Answer::Committed),
        (vec(seen.clone(), 0..8), any::<u64>()).prop_map(|(rows, end)| Answer::Rows { rows, end }),
        vec(seen, 0..8).prop_map(Answer::Part),
        any::<u64>().prop_map(Answer::End),
        vec((any::<u32>(), any::<u64>()), 0..3).prop_map(Answer::Positions),
        vec(delivered, 0..4).prop_map(Answer::Delivered),
        vec(status, 0..4).prop_map(Answer::Settled),
    ]
}

fn dump() -> impl Strategy<Value = Dump> {
    prop_oneof![
        (name(), any::<u32>(), any::<u64>(), option::of(any::<u64>())).prop_map(|(topic, partition, end, committed)| Dump::Partition {
            topic,
            partition,
            log_start: 0,
            end,
            committed
        }),
        (name(), any::<u32>(), any::<bool>(), name()).prop_map(|(topic, partition, intact, object)| Dump::Extent {
            topic,
            partition,
            first: 1,
            count: 2,
            object,
            intact
        }),
        name().prop_map(|object| Dump::Tombstone { object }),
        (name(), any::<u64>()).prop_map(|(object, age_ms)| Dump::Orphan { object, age_ms, allowed_ms: 5 }),
        (name(), name()).prop_map(|(before, after)| Dump::Chain { topic: "t".into(), partition: 0, first: 0, count: 9, before, after }),
        any::<u64>().prop_map(|idle_ms| Dump::IdleSession { idle_ms }),
    ]
}

fn what() -> impl Strategy<Value = What> {
    let refusal = prop_oneof![
        Just(Refusal::Refused),
        any::<u64>().prop_map(|end| Refusal::Mismatch { end }),
        any::<u64>().prop_map(|current| Refusal::Fenced { current }),
        any::<u64>().prop_map(|start| Refusal::Trimmed { start }),
    ];
    let dead = (any::<u32>(), any::<u64>(), option::of(id()), any::<u32>(), ".{0,5}")
        .prop_map(|(partition, offset, id, attempts, reason)| Dead { at: (partition, offset), id, attempts, reason });
    prop_oneof![
        (any::<u64>(), option::of(any::<u32>()), call()).prop_map(|(op, process, call)| What::Invoke { op, process, call }),
        (any::<u64>(), answer()).prop_map(|(op, answer)| What::Ok { op, answer }),
        (any::<u64>(), refusal).prop_map(|(op, refusal)| What::Fail { op, refusal }),
        any::<u64>().prop_map(|op| What::Info { op }),
        (name(), option::of(name())).prop_map(|(name, target)| What::Fault { name, target }),
        any::<bool>().prop_map(What::Calm),
        (name(), dead).prop_map(|(queue, dead)| What::Dead { queue, dead }),
        dump().prop_map(What::Dump),
    ]
}

fn read_back(bytes: &[u8]) -> Result<History, Bad> {
    let mut reader = Reader::new(Cursor::new(bytes))?;
    let header = reader.header().clone();
    let events = reader.by_ref().map(|read| read.map(|(_, event)| event)).collect::<Result<_, _>>()?;
    Ok(History { header, events })
}

proptest! {
    #[test]
    fn what_is_written_is_read(times in vec(0..1_000_u64, 0..20), each in vec(what(), 20), run in ".{0,8}") {
        let mut at = 0;
        let events = times.iter().zip(each).map(|(later, what)| { at += later; Event { at, what } }).collect();
        let mut history = History { events, ..History::default() };
        history.header.run = run;
        history.header.expect = Expect { checks: [Check::H1, Check::Q10].into(), faults: ["kill".to_owned()].into(), fault_count: 2, acked: 7 };
        history.header.topics.insert("t".into(), TopicFacts { trimmed: true, ..Default::default() });
        history.header.queues.insert("q".into(), QueueFacts { max_attempts: Some(3), ..Default::default() });
        let mut bytes = Vec::new();
        history.write_to(&mut bytes).unwrap();
        prop_assert_eq!(read_back(&bytes).unwrap(), history);
    }

    #[test]
    fn damaged_bytes_are_refused_or_read_and_judged_but_nothing_panics(each in vec(what(), 1..6), at in any::<prop::sample::Index>(), with in any::<u8>()) {
        let history = History { events: each.into_iter().map(|what| Event { at: 1, what }).collect(), ..History::default() };
        let mut bytes = Vec::new();
        history.write_to(&mut bytes).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = with;
        if let Ok(history) = read_back(&bytes) {
            crate::checker::judge(&history);
        }
    }

    #[test]
    fn any_events_are_judged_without_a_panic(each in vec(what(), 0..40), ops in vec(0..12_u64, 40)) {
        let mut next = 0;
        let events = each.into_iter().zip(ops).map(|(mut what, ended)| {
            match &mut what {
                What::Invoke { op, .. } => { next += 1; *op = next; }
                What::Ok { op, .. } | What::Fail { op, .. } | What::Info { op } => *op = next.saturating_sub(ended % 3),
                _ => {}
            }
            Event { at: 5, what }
        });
        let mut history = History { events: events.collect(), ..History::default() };
        history.header.topics.insert("a".into(), TopicFacts { linearizable: true, ..Default::default() });
        crate::checker::judge(&history);
    }
}

#[test]
fn a_line_that_says_too_much_too_little_or_the_wrong_thing_is_refused_with_its_cause() {
    let cases = [
        (r#"{"type":"info","op_id":1}"#, "missing field `t_ns`"),
        (r#"{"t_ns":1,"type":"info"}"#, "missing field `op_id`"),
        (r#"{"t_ns":1,"type":"info","op_id":1,"end":2}"#, "field `end` does not belong to this line"),
        (r#"{"t_ns":1,"type":"invoke","op_id":1,"f":"tail","topic":"t","partition":0,"drain":true}"#, "field `drain` does not belong"),
        (r#"{"t_ns":1,"type":"info","op_id":1,"surprise":2}"#, "unknown field `surprise`"),
        (r#"{"t_ns":1,"type":"boom"}"#, "unknown variant `boom`"),
        (r#"{"t_ns":1,"t_ns":1,"type":"info","op_id":1}"#, "duplicate field `t_ns`"),
        (r#"{"t_ns":-1,"type":"info","op_id":1}"#, "invalid value"),
        (r#"{"t_ns":18446744073709551615,"type":"info","op_id":1}"#, "more than a century"),
        (r#"{"t_ns":1,"type":"ok","op_id":1}"#, "an ok that says nothing"),
        (r#"{"t_ns":1,"type":"ok","op_id":1,"rows":[[0,4000000000,null]],"sums":[1],"end":9}"#, "4000000000 rows, but 1 sums"),
        (r#"{"t_ns":1,"type":"ok","op_id":1,"at":[[0,18446744073709551615,1]]}"#, "has no end"),
        (
            r#"{"t_ns":1,"type":"invoke","op_id":1,"f":"send","append":{"topic":"t","ids":[[1,0,4294967295]],"sums":[1]}}"#,
            "4294967295 ids, but 1 sums",
        ),
        (
            r#"{"t_ns":1,"type":"invoke","op_id":1,"f":"send","append":{"topic":"t","ids":[[1,18446744073709551615,1]],"sums":[1]}}"#,
            "has no end",
        ),
        (r#"{"t_ns":1,"type":"invoke","op_id":1,"f":"receive","queue":"q","lease_ns":18446744073709551615}"#, "more than a century"),
        ("[1,\"info\"]", "not a JSON object"),
        ("", "not a JSON object"),
        ("{", "EOF"),
    ];
    for (text, cause) in cases {
        let found = from_line(text.as_bytes()).unwrap_err();
        assert!(found.contains(cause), "{text}: {found}");
    }
    let last = r#"{"t_ns":1,"type":"invoke","op_id":1,"f":"send","append":{"topic":"t","ids":[[1,18446744073709551614,1]],"sums":[1]}}"#;
    assert!(from_line(last.as_bytes()).is_ok());
    let deep = r#"{"t_ns":"#.to_owned() + &"[".repeat(100_000);
    assert!(from_line(deep.as_bytes()).is_err());
}

#[test]
fn a_file_that_is_no_history_is_refused_with_the_line() {
    let header = Header::default().to_line();
    let event = |at| format!("{{\"t_ns\":{at},\"type\":\"calm\",\"calm\":true}}\n");
    let cases = [
        (String::new(), 1, "empty"),
        (event(1), 1, "no header"),
        (header.replace("lakefall-history", "other"), 1, "the format is \"other\""),
        (header.replace("\"version\":1", "\"version\":2"), 1, "version 2"),
        (format!("{header}{}{}", event(2), event(1)), 3, "goes back from 2 to 1"),
        (format!("{header}{}{}", event(2), event(3).trim_end()), 3, "ends within the line"),
        (format!("{header}\n"), 2, "not a JSON object"),
        (format!("{header}{{\"t_ns\":1,\"type\":\"\u{fffd}\"}}\n"), 2, "unknown variant"),
    ];
    for (text, line, cause) in cases {
        let bad = read_back(text.as_bytes()).unwrap_err();
        assert!(bad.line == line && bad.cause.contains(cause), "{text}: {bad}");
    }
}

#[test]
fn a_tape_in_a_file_holds_each_event_as_soon_as_it_is_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.jsonl");
    let clock = Arc::new(AtomicU64::new(5));
    let tape = {
        let clock = Arc::clone(&clock);
        Tape::to_file(Arc::new(move || clock.fetch_sub(1, Ordering::Relaxed)), Header::default(), &path).unwrap()
    };
    let recorder = Recorder::on(&tape, "load");
    let op = recorder.invoke(Promise::default(), &[(RecordId { producer: 1, seq: 0 }, body(RecordId { producer: 1, seq: 0 }, 2))]);
    recorder.ok(op, vec![(0, 0)]);
    let read = read_back(&std::fs::read(&path).unwrap()).unwrap();
    // A clock that goes back does not make a history that does.
    assert_eq!(read.events.iter().map(|event| event.at).collect::<Vec<_>>(), [5, 5]);
    tape.close().unwrap();
}

#[test]
fn values_say_who_sent_them() {
    let id = RecordId { producer: 3, seq: 9 };
    assert_eq!(parse_id(body(id, 20).as_bytes()), Some(id));
    assert_eq!(parse_id(b"null"), None);
    assert!(hash(body(id, 20).as_bytes()) < 1 << 53);
    assert_ne!(hash(b"a"), hash(b"b"));
    assert_eq!(runs([(0, 1), (0, 2), (1, 3), (0, 3)]).len(), 3);
}

#[test]
fn the_example_of_the_documentation_is_a_history_that_holds() {
    let text = include_str!("../../../../docs/history-format.md");
    let example = text.split("```jsonl\n").nth(1).unwrap().split("```").next().unwrap();
    let history = read_back(example.as_bytes()).unwrap();
    let report = crate::checker::judge(&history);
    assert_eq!(report.violations, []);
    assert_eq!((report.acked, history.events.len()), (3, 11));
    // What is written is what is documented, field by field.
    let mut written = Vec::new();
    history.write_to(&mut written).unwrap();
    let values = |text: &str| text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<serde_json::Value>>();
    assert_eq!(values(&String::from_utf8(written).unwrap()), values(example));
}
