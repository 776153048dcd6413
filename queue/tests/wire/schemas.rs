//! Anything that may be asked or answered of schemas.

use lakefall_queue::error::Error;
use lakefall_queue::ledger::{Answer, Command, Query, Reply, SchemaAnswer, SchemaCommand, SchemaQuery, SchemaReply};
use lakefall_queue::schema::{Compatibility, SchemaText, SchemaType, SchemaVersion, Subject, VersionNumber};
use lakefall_queue::topic::{InvalidRecords, TopicSchema};
use lakefall_queue::verbs::{Page, Precondition};
use lakefall_queue::{SubjectName, Timestamp};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

use super::{name, namespace_name, page, topic_name};

fn subject_name() -> impl Strategy<Value = SubjectName> {
    name().prop_map(|n| SubjectName::new(&n).unwrap())
}

pub(crate) fn of_topic() -> impl Strategy<Value = TopicSchema> {
    let invalid = prop_oneof![Just(InvalidRecords::Reject), Just(InvalidRecords::Mark)];
    (subject_name(), invalid).prop_map(|(subject, invalid)| TopicSchema { subject, invalid })
}

fn kind() -> impl Strategy<Value = SchemaType> {
    prop_oneof![Just(SchemaType::Json), Just(SchemaType::Avro), Just(SchemaType::Protobuf)]
}

fn compatibility() -> impl Strategy<Value = Compatibility> {
    prop_oneof![Just(Compatibility::None), Just(Compatibility::Backward), Just(Compatibility::Forward), Just(Compatibility::Full)]
}

fn text() -> impl Strategy<Value = SchemaText> {
    (kind(), ".{0,40}", of(".{0,9}")).prop_map(|(kind, text, message)| SchemaText {
        kind,
        text: text.into(),
        message: message.map(Into::into),
    })
}

fn time() -> impl Strategy<Value = Timestamp> {
    any::<i64>().prop_map(Timestamp::from_millis)
}

fn version() -> impl Strategy<Value = SchemaVersion> {
    (subject_name(), any::<u32>(), any::<u32>(), time(), text()).prop_map(|(subject, version, id, created_at, schema)| SchemaVersion {
        subject,
        version,
        id,
        created_at,
        schema,
    })
}

fn subject() -> impl Strategy<Value = Subject> {
    let number = (any::<u32>(), any::<u32>(), kind(), time()).prop_map(|(version, id, kind, created_at)| VersionNumber {
        version,
        id,
        kind,
        created_at,
    });
    (namespace_name(), subject_name(), any::<u64>(), time(), compatibility(), vec(number, 0..4)).prop_map(
        |(namespace, name, revision, created_at, compatibility, versions)| Subject {
            namespace,
            name,
            revision,
            created_at,
            compatibility,
            versions,
        },
    )
}

fn condition() -> impl Strategy<Value = Precondition> {
    prop_oneof![
        Just(Precondition::Always),
        Just(Precondition::Absent),
        Just(Precondition::Present),
        any::<u64>().prop_map(Precondition::Version)
    ]
}

pub(crate) fn command() -> impl Strategy<Value = Command> {
    let command =
        prop_oneof![
            (namespace_name(), subject_name(), text(), any::<u64>())
                .prop_map(|(namespace, subject, schema, expected)| SchemaCommand::Put { namespace, subject, schema, expected }),
            (namespace_name(), subject_name(), of(any::<u32>()), condition())
                .prop_map(|(namespace, subject, version, condition)| SchemaCommand::Delete { namespace, subject, version, condition }),
            (namespace_name(), subject_name(), compatibility(), condition()).prop_map(|(namespace, subject, compatibility, condition)| {
                SchemaCommand::Configure { namespace, subject, compatibility, condition }
            }),
        ];
    command.prop_map(|command| Command::Schema(Box::new(command)))
}

pub(crate) fn query() -> impl Strategy<Value = Query> {
    let query = prop_oneof![
        (namespace_name(), subject_name()).prop_map(|(namespace, subject)| SchemaQuery::Subject(namespace, subject)),
        (namespace_name(), page()).prop_map(|(namespace, page)| SchemaQuery::Subjects(namespace, page)),
        (namespace_name(), subject_name(), of(1_u32..)).prop_map(|(namespace, subject, v)| SchemaQuery::Version(namespace, subject, v)),
        (namespace_name(), subject_name(), text()).prop_map(|(namespace, subject, text)| SchemaQuery::Find(namespace, subject, text)),
    ];
    query.prop_map(|query| Query::Schema(Box::new(query)))
}

pub(crate) fn answer() -> impl Strategy<Value = Answer> {
    let answer = prop_oneof![
        subject().prop_map(SchemaAnswer::Subject),
        (vec(subject(), 0..3), of(".{0,9}")).prop_map(|(items, next)| SchemaAnswer::Subjects(Page { items, next })),
        version().prop_map(SchemaAnswer::Version),
    ];
    answer.prop_map(|answer| Answer::Schema(Box::new(answer)))
}

pub(crate) fn reply() -> impl Strategy<Value = Reply> {
    let reply = prop_oneof![
        (version(), any::<bool>()).prop_map(|(version, created)| SchemaReply::Version(version, created)),
        (subject(), any::<bool>()).prop_map(|(subject, created)| SchemaReply::Subject(subject, created)),
    ];
    reply.prop_map(|reply| Reply::Schema(Box::new(reply)))
}

pub(crate) fn error() -> impl Strategy<Value = Error> {
    prop_oneof![
        (subject_name(), of(1_u32..)).prop_map(|(subject, version)| Error::SchemaNotFound { subject, version }),
        (subject_name(), topic_name()).prop_map(|(subject, topic)| Error::SchemaInUse { subject, topic }),
    ]
}
