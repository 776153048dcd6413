//! The rules of subjects and their versions, by example: each test is the sentence it proves.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail a test")]

use lakefall_queue::error::Error;
use lakefall_queue::id::Epoch;
use lakefall_queue::ledger::{
    Answer, Applied, Command, JournalEntry, Ledger, Notice, Query, Reply, Row, SchemaAnswer, SchemaCommand, SchemaQuery, SchemaReply,
};
use lakefall_queue::schema::{Compatibility, SchemaText, SchemaType, SchemaVersion, Subject};
use lakefall_queue::topic::{InvalidRecords, TopicConfig, TopicSchema};
use lakefall_queue::verbs::{PageRequest, Precondition};
use lakefall_queue::{NamespaceName, ShardId, SubjectName, Timestamp, TopicName};

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

struct Bench {
    ledger: Ledger,
    entries: Vec<JournalEntry>,
}

fn namespace() -> NamespaceName {
    NamespaceName::default_name()
}

fn subject(name: &str) -> SubjectName {
    SubjectName::new(name).unwrap()
}

fn text(text: &str) -> SchemaText {
    SchemaText { kind: SchemaType::Json, text: text.into(), message: None }
}

fn put(name: &str, schema: &str, expected: u64) -> SchemaCommand {
    SchemaCommand::Put { namespace: namespace(), subject: subject(name), schema: text(schema), expected }
}

fn delete(name: &str, version: Option<u32>) -> SchemaCommand {
    SchemaCommand::Delete { namespace: namespace(), subject: subject(name), version, condition: Precondition::Always }
}

fn configure(name: &str, compatibility: Compatibility, condition: Precondition) -> SchemaCommand {
    SchemaCommand::Configure { namespace: namespace(), subject: subject(name), compatibility, condition }
}

impl Bench {
    fn new() -> Self {
        Self { ledger: Ledger::new(ShardId(0), 1), entries: Vec::new() }
    }

    fn apply(&mut self, command: Command) -> Applied {
        let applied = self.ledger.apply(&command, NOW);
        let journaled = applied.changed.then_some(command).into_iter().collect();
        self.entries.push(self.ledger.seal(Epoch(1), NOW, journaled));
        applied
    }

    fn change(&mut self, command: SchemaCommand) -> Applied {
        self.apply(Command::Schema(Box::new(command)))
    }

    fn put(&mut self, name: &str, schema: &str) -> (SchemaVersion, bool) {
        let expected = self.subject(name).map_or(0, |subject| subject.revision);
        match self.change(put(name, schema, expected)).reply.unwrap() {
            Reply::Schema(reply) => match *reply {
                SchemaReply::Version(version, created) => (version, created),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    fn refusal(&mut self, command: SchemaCommand) -> Error {
        let applied = self.change(command);
        assert!(!applied.changed);
        applied.reply.unwrap_err()
    }

    fn ask(&self, query: SchemaQuery) -> Result<SchemaAnswer, Error> {
        match self.ledger.query(&Query::Schema(Box::new(query)))? {
            Answer::Schema(answer) => Ok(*answer),
            other => panic!("{other:?}"),
        }
    }

    fn subject(&self, name: &str) -> Result<Subject, Error> {
        match self.ask(SchemaQuery::Subject(namespace(), subject(name)))? {
            SchemaAnswer::Subject(subject) => Ok(subject),
            other => panic!("{other:?}"),
        }
    }

    fn version(&self, name: &str, version: Option<u32>) -> Result<SchemaVersion, Error> {
        match self.ask(SchemaQuery::Version(namespace(), subject(name), version))? {
            SchemaAnswer::Version(version) => Ok(version),
            other => panic!("{other:?}"),
        }
    }

    fn put_topic(&mut self, name: &str, schema: Option<&str>) -> Result<Reply, Error> {
        let schema = schema.map(|name| TopicSchema { subject: subject(name), invalid: InvalidRecords::default() });
        let config = TopicConfig { schema, ..TopicConfig::default() };
        let (namespace, name) = (namespace(), TopicName::new(name).unwrap());
        self.apply(Command::PutTopic { namespace, name, config, condition: Precondition::Always, idempotency: None }).reply
    }
}

fn not_found(name: &str, version: Option<u32>) -> Error {
    Error::SchemaNotFound { subject: subject(name), version }
}

#[test]
fn versions_are_numbered_and_the_same_text_has_one() {
    let mut bench = Bench::new();
    let (first, created) = bench.put("orders", "one");
    assert_eq!((first.version, created, &*first.schema.text), (1, true, "one"));
    let (second, _) = bench.put("orders", "two");
    assert_eq!(second.version, 2);
    assert_ne!(first.id, second.id);
    let entries = bench.entries.len();
    assert_eq!(bench.put("orders", "one"), (first.clone(), false));
    assert_eq!(bench.entries[entries].commands, [], "what was there is not journaled");
    assert_eq!(bench.version("orders", None).unwrap(), second);
    assert_eq!(bench.version("orders", Some(1)).unwrap(), first);
    assert_eq!(bench.version("orders", Some(3)).unwrap_err(), not_found("orders", Some(3)));
    assert_eq!(bench.version("other", None).unwrap_err(), not_found("other", None));
    assert_eq!(bench.put("other", "one").0.version, 1);
}

#[test]
fn a_schema_that_was_judged_against_another_latest_one_is_refused() {
    let mut bench = Bench::new();
    bench.put("orders", "one");
    let revision = bench.subject("orders").unwrap().revision;
    assert_eq!(bench.refusal(put("orders", "two", 0)), Error::VersionMismatch { expected: 0, actual: revision });
    bench.put("orders", "two");
    assert!(matches!(bench.refusal(put("orders", "three", revision)), Error::VersionMismatch { .. }));
    let revision = bench.subject("orders").unwrap().revision;
    bench.change(configure("orders", Compatibility::Full, Precondition::Always)).reply.unwrap();
    assert!(matches!(bench.refusal(put("orders", "three", revision)), Error::VersionMismatch { .. }), "it is judged otherwise now");
    bench.change(delete("orders", None)).reply.unwrap();
    bench.put("orders", "one");
    assert_ne!(bench.subject("orders").unwrap().revision, revision, "made anew, it is another one");
}

#[test]
fn a_version_is_deleted_for_good_and_its_number_never_used_again() {
    let mut bench = Bench::new();
    bench.put("orders", "one");
    bench.put("orders", "two");
    bench.change(delete("orders", Some(2))).reply.unwrap();
    assert_eq!(bench.refusal(delete("orders", Some(2))), not_found("orders", Some(2)));
    assert_eq!(bench.put("orders", "two").0.version, 3);
    bench.change(delete("orders", None)).reply.unwrap();
    assert_eq!(bench.refusal(delete("orders", None)), not_found("orders", None));
    assert_eq!(bench.put("orders", "two").0.version, 1);
}

#[test]
fn a_topic_names_a_schema_that_is_there_and_keeps_it() {
    let mut bench = Bench::new();
    assert_eq!(bench.put_topic("t", Some("orders")).unwrap_err(), not_found("orders", None));
    bench.change(configure("orders", Compatibility::None, Precondition::Absent)).reply.unwrap();
    assert_eq!(bench.put_topic("t", Some("orders")).unwrap_err(), not_found("orders", None));
    bench.put("orders", "one");
    bench.put("orders", "two");
    bench.put_topic("t", Some("orders")).unwrap();
    let in_use = Error::SchemaInUse { subject: subject("orders"), topic: TopicName::new("t").unwrap() };
    assert_eq!(bench.refusal(delete("orders", None)), in_use);
    assert_eq!(bench.refusal(delete("orders", Some(2))), in_use);
    bench.change(delete("orders", Some(1))).reply.unwrap();
    bench.put_topic("t", None).unwrap();
    bench.change(delete("orders", None)).reply.unwrap();
}

#[test]
fn who_remembers_a_topic_is_told_when_its_schema_changes() {
    let mut bench = Bench::new();
    bench.put("orders", "one");
    bench.put_topic("t", Some("orders")).unwrap();
    bench.put_topic("other", None).unwrap();
    bench.ledger.take_notices();
    bench.put("orders", "two");
    let told = bench.ledger.take_notices();
    assert!(matches!(&told[..], [Notice::TopicChanged { name, .. }] if name.as_str() == "t"), "{told:?}");
}

#[test]
fn conditions_hold_and_a_namespace_with_schemas_is_not_empty() {
    let mut bench = Bench::new();
    bench.put("orders", "one");
    assert!(matches!(bench.refusal(configure("orders", Compatibility::Full, Precondition::Absent)), Error::AlreadyExists { .. }));
    assert!(matches!(bench.refusal(configure("orders", Compatibility::Full, Precondition::Version(77))), Error::VersionMismatch { .. }));
    assert_eq!(bench.refusal(configure("other", Compatibility::Full, Precondition::Present)), not_found("other", None));
    let name = NamespaceName::new("acme").unwrap();
    let condition = Precondition::Always;
    bench.apply(Command::PutNamespace { name: name.clone(), description: String::new(), condition }).reply.unwrap();
    let elsewhere = SchemaCommand::Put { namespace: name.clone(), subject: subject("orders"), schema: text("one"), expected: 0 };
    bench.change(elsewhere).reply.unwrap();
    let refused = bench.apply(Command::DeleteNamespace { name: name.clone(), condition }).reply;
    assert_eq!(refused.unwrap_err(), Error::NamespaceNotEmpty(name));
}

#[test]
fn subjects_are_listed_by_name_in_pages() {
    let mut bench = Bench::new();
    for name in ["b", "a", "c"] {
        bench.put(name, "one");
    }
    let page = |after: Option<&str>| {
        let page = PageRequest { after: after.map(str::to_owned), limit: 2 };
        match bench.ask(SchemaQuery::Subjects(namespace(), page)).unwrap() {
            SchemaAnswer::Subjects(page) => (page.items.iter().map(|s| s.name.to_string()).collect::<String>(), page.next),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(page(None), ("ab".to_owned(), Some("b".to_owned())));
    assert_eq!(page(Some("b")), ("c".to_owned(), None));
}

#[test]
fn l6_schemas_come_back_from_the_journal_and_from_rows_in_any_order() {
    let mut bench = Bench::new();
    bench.put("orders", "one");
    bench.put("orders", "two");
    bench.put("other", "x");
    bench.change(configure("orders", Compatibility::Forward, Precondition::Always)).reply.unwrap();
    bench.change(delete("orders", Some(1))).reply.unwrap();
    bench.change(delete("other", None)).reply.unwrap();
    let mut replayed = Ledger::new(ShardId(0), 1);
    for entry in &bench.entries {
        replayed.replay(&JournalEntry::decode(&entry.encode()).unwrap()).unwrap();
    }
    assert_eq!(replayed.snapshot(), bench.ledger.snapshot());
    let checkpoint = bench.ledger.checkpoint();
    let rows: Vec<Row> = checkpoint.puts.iter().rev().cloned().collect();
    assert!(rows.iter().filter(|row| matches!(row, Row::Subject(_) | Row::Schema(_))).count() == 2, "{rows:?}");
    let restored = Ledger::restore(ShardId(0), &checkpoint.shard, rows).unwrap();
    assert_eq!(restored.snapshot(), bench.ledger.snapshot());
}
