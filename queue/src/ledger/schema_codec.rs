//! What is told of schemas to protobuf and back: commands, replies, questions, answers and rows.

use super::codec::{Decoded, condition_from_proto, condition_to_proto, required};
use super::rows::proto;
use super::schemas::{Registered, SubjectKey, SubjectState};
use super::{Ledger, Row, RowKey, SchemaAnswer, SchemaCommand, SchemaQuery, SchemaReply};
use crate::id::{NamespaceName, SubjectName};
use crate::schema::{Compatibility, SchemaText, SchemaType, SchemaVersion, Subject, VersionNumber};
use crate::time::Timestamp;
use crate::verbs::{Page, PageRequest};

fn kind_to_proto(kind: SchemaType) -> i32 {
    use proto::SchemaType as Wire;
    i32::from(match kind {
        SchemaType::Json => Wire::Json,
        SchemaType::Avro => Wire::Avro,
        SchemaType::Protobuf => Wire::Protobuf,
    })
}

fn kind_from_proto(kind: i32) -> Decoded<SchemaType> {
    use proto::SchemaType as Wire;
    Ok(match required(Wire::try_from(kind).ok(), "a schema's type")? {
        Wire::Json => SchemaType::Json,
        Wire::Avro => SchemaType::Avro,
        Wire::Protobuf => SchemaType::Protobuf,
    })
}

fn compatibility_to_proto(compatibility: Compatibility) -> i32 {
    use proto::Compatibility as Wire;
    i32::from(match compatibility {
        Compatibility::None => Wire::Nothing,
        Compatibility::Backward => Wire::Backward,
        Compatibility::Forward => Wire::Forward,
        Compatibility::Full => Wire::Full,
    })
}

fn compatibility_from_proto(compatibility: i32) -> Decoded<Compatibility> {
    use proto::Compatibility as Wire;
    Ok(match required(Wire::try_from(compatibility).ok(), "a compatibility")? {
        Wire::Nothing => Compatibility::None,
        Wire::Backward => Compatibility::Backward,
        Wire::Forward => Compatibility::Forward,
        Wire::Full => Compatibility::Full,
    })
}

fn text_to_proto(schema: &SchemaText) -> proto::SchemaText {
    proto::SchemaText {
        kind: kind_to_proto(schema.kind),
        text: schema.text.to_string(),
        message: schema.message.as_ref().map(ToString::to_string),
    }
}

fn text_from_proto(wire: Option<proto::SchemaText>) -> Decoded<SchemaText> {
    let wire = required(wire, "a schema's text")?;
    Ok(SchemaText { kind: kind_from_proto(wire.kind)?, text: wire.text.into(), message: wire.message.map(Into::into) })
}

pub(super) fn command_to_proto(command: &SchemaCommand) -> proto::SchemaCommand {
    use proto::schema_command::Kind;
    let (namespace, subject, kind) = match command {
        SchemaCommand::Put { namespace, subject, schema, expected } => {
            (namespace, subject, Kind::Put(proto::PutSchema { schema: Some(text_to_proto(schema)), expected: *expected }))
        }
        SchemaCommand::Delete { namespace, subject, version, condition } => {
            (namespace, subject, Kind::Delete(proto::DeleteSchema { version: *version, condition: condition_to_proto(*condition) }))
        }
        SchemaCommand::Configure { namespace, subject, compatibility, condition } => {
            let compatibility = compatibility_to_proto(*compatibility);
            (namespace, subject, Kind::Configure(proto::ConfigureSubject { compatibility, condition: condition_to_proto(*condition) }))
        }
    };
    proto::SchemaCommand { namespace: namespace.to_string(), subject: subject.to_string(), kind: Some(kind) }
}

pub(super) fn command_from_proto(wire: proto::SchemaCommand) -> Decoded<SchemaCommand> {
    use proto::schema_command::Kind;
    let (namespace, subject) = (NamespaceName::new(&wire.namespace)?, SubjectName::new(&wire.subject)?);
    Ok(match required(wire.kind, "a schema command's kind")? {
        Kind::Put(w) => SchemaCommand::Put { namespace, subject, schema: text_from_proto(w.schema)?, expected: w.expected },
        Kind::Delete(w) => SchemaCommand::Delete { namespace, subject, version: w.version, condition: condition_from_proto(w.condition)? },
        Kind::Configure(w) => SchemaCommand::Configure {
            namespace,
            subject,
            compatibility: compatibility_from_proto(w.compatibility)?,
            condition: condition_from_proto(w.condition)?,
        },
    })
}

fn version_to_proto(version: &SchemaVersion) -> proto::SchemaVersion {
    proto::SchemaVersion {
        subject: version.subject.to_string(),
        version: version.version,
        id: version.id,
        created_ms: version.created_at.as_millis(),
        schema: Some(text_to_proto(&version.schema)),
    }
}

fn version_from_proto(wire: proto::SchemaVersion) -> Decoded<SchemaVersion> {
    Ok(SchemaVersion {
        subject: SubjectName::new(&wire.subject)?,
        version: wire.version,
        id: wire.id,
        created_at: Timestamp::from_millis(wire.created_ms),
        schema: text_from_proto(wire.schema)?,
    })
}

fn subject_to_proto(subject: &Subject) -> proto::Subject {
    let number = |v: &VersionNumber| proto::VersionNumber {
        version: v.version,
        id: v.id,
        kind: kind_to_proto(v.kind),
        created_ms: v.created_at.as_millis(),
    };
    proto::Subject {
        namespace: subject.namespace.to_string(),
        name: subject.name.to_string(),
        revision: subject.revision,
        created_ms: subject.created_at.as_millis(),
        compatibility: compatibility_to_proto(subject.compatibility),
        versions: subject.versions.iter().map(number).collect(),
    }
}

fn subject_from_proto(wire: proto::Subject) -> Decoded<Subject> {
    let number = |v: proto::VersionNumber| {
        let created_at = Timestamp::from_millis(v.created_ms);
        Ok(VersionNumber { version: v.version, id: v.id, kind: kind_from_proto(v.kind)?, created_at })
    };
    Ok(Subject {
        namespace: NamespaceName::new(&wire.namespace)?,
        name: SubjectName::new(&wire.name)?,
        revision: wire.revision,
        created_at: Timestamp::from_millis(wire.created_ms),
        compatibility: compatibility_from_proto(wire.compatibility)?,
        versions: wire.versions.into_iter().map(number).collect::<Decoded<_>>()?,
    })
}

pub(super) fn reply_to_proto(reply: &SchemaReply) -> proto::SchemaReply {
    use proto::schema_reply::Kind;
    let (kind, created) = match reply {
        SchemaReply::Version(version, created) => (Kind::Version(version_to_proto(version)), *created),
        SchemaReply::Subject(subject, created) => (Kind::Subject(subject_to_proto(subject)), *created),
    };
    proto::SchemaReply { created, kind: Some(kind) }
}

pub(super) fn reply_from_proto(wire: proto::SchemaReply) -> Decoded<SchemaReply> {
    use proto::schema_reply::Kind;
    Ok(match required(wire.kind, "a schema reply's kind")? {
        Kind::Version(w) => SchemaReply::Version(version_from_proto(w)?, wire.created),
        Kind::Subject(w) => SchemaReply::Subject(subject_from_proto(w)?, wire.created),
    })
}

pub(super) fn query_to_proto(query: &SchemaQuery) -> proto::SchemaQuery {
    use proto::schema_query::Kind;
    let (namespace, subject, kind) = match query {
        SchemaQuery::Subject(namespace, subject) => (namespace, subject.as_str(), Kind::SubjectItself(true)),
        SchemaQuery::Subjects(namespace, page) => {
            let limit = u64::try_from(page.limit).unwrap_or(u64::MAX);
            (namespace, "", Kind::Subjects(proto::SubjectPage { after: page.after.clone(), limit }))
        }
        // No version is 0.
        SchemaQuery::Version(namespace, subject, version) => (namespace, subject.as_str(), Kind::Version(version.unwrap_or(0))),
        SchemaQuery::Find(namespace, subject, schema) => (namespace, subject.as_str(), Kind::Find(text_to_proto(schema))),
    };
    proto::SchemaQuery { namespace: namespace.to_string(), subject: subject.to_owned(), kind: Some(kind) }
}

pub(super) fn query_from_proto(wire: proto::SchemaQuery) -> Decoded<SchemaQuery> {
    use proto::schema_query::Kind;
    let namespace = NamespaceName::new(&wire.namespace)?;
    let subject = || SubjectName::new(&wire.subject);
    Ok(match required(wire.kind, "a schema question's kind")? {
        Kind::SubjectItself(_) => SchemaQuery::Subject(namespace, subject()?),
        Kind::Subjects(page) => {
            let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
            SchemaQuery::Subjects(namespace, PageRequest { after: page.after, limit })
        }
        Kind::Version(version) => SchemaQuery::Version(namespace, subject()?, (version > 0).then_some(version)),
        Kind::Find(schema) => SchemaQuery::Find(namespace, subject()?, text_from_proto(Some(schema))?),
    })
}

pub(super) fn answer_to_proto(answer: &SchemaAnswer) -> proto::SchemaAnswer {
    use proto::schema_answer::Kind;
    let kind = match answer {
        SchemaAnswer::Subject(subject) => Kind::Subject(subject_to_proto(subject)),
        SchemaAnswer::Subjects(page) => {
            Kind::Subjects(proto::Subjects { items: page.items.iter().map(subject_to_proto).collect(), next: page.next.clone() })
        }
        SchemaAnswer::Version(version) => Kind::Version(version_to_proto(version)),
    };
    proto::SchemaAnswer { kind: Some(kind) }
}

pub(super) fn answer_from_proto(wire: proto::SchemaAnswer) -> Decoded<SchemaAnswer> {
    use proto::schema_answer::Kind;
    Ok(match required(wire.kind, "a schema answer's kind")? {
        Kind::Subject(w) => SchemaAnswer::Subject(subject_from_proto(w)?),
        Kind::Subjects(w) => {
            SchemaAnswer::Subjects(Page { items: w.items.into_iter().map(subject_from_proto).collect::<Decoded<_>>()?, next: w.next })
        }
        Kind::Version(w) => SchemaAnswer::Version(version_from_proto(w)?),
    })
}

impl Ledger {
    pub(super) fn subject_row(&self, key: &SubjectKey) -> Option<Row> {
        let state = self.schemas.by_name.get(key)?;
        Some(Row::Subject(proto::SubjectRow {
            namespace: key.0.to_string(),
            name: key.1.to_string(),
            revision: state.revision,
            created_ms: state.created_at.as_millis(),
            compatibility: compatibility_to_proto(state.compatibility),
            next_version: state.next_version,
        }))
    }

    pub(super) fn schema_row(&self, key: &SubjectKey, version: u32) -> Option<Row> {
        let registered = self.schemas.by_name.get(key)?.versions.get(&version)?;
        Some(Row::Schema(proto::SchemaRow {
            namespace: key.0.to_string(),
            subject: key.1.to_string(),
            version,
            id: registered.id,
            created_ms: registered.created_at.as_millis(),
            schema: Some(text_to_proto(&registered.schema)),
        }))
    }

    /// Rows come in any order: a version may come before its subject.
    pub(super) fn restore_subject(&mut self, w: &proto::SubjectRow) -> Decoded<()> {
        let key = (NamespaceName::new(&w.namespace)?, SubjectName::new(&w.name)?);
        let state = self.schemas.by_name.entry(key).or_insert_with(SubjectState::unknown);
        state.revision = w.revision;
        state.created_at = Timestamp::from_millis(w.created_ms);
        state.compatibility = compatibility_from_proto(w.compatibility)?;
        state.next_version = w.next_version;
        Ok(())
    }

    pub(super) fn restore_schema(&mut self, w: proto::SchemaRow) -> Decoded<()> {
        let key = (NamespaceName::new(&w.namespace)?, SubjectName::new(&w.subject)?);
        let registered = Registered { id: w.id, created_at: Timestamp::from_millis(w.created_ms), schema: text_from_proto(w.schema)? };
        self.schemas.by_name.entry(key).or_insert_with(SubjectState::unknown).versions.insert(w.version, registered);
        Ok(())
    }
}

impl SubjectState {
    fn unknown() -> Self {
        Self {
            revision: 0,
            created_at: Timestamp::default(),
            compatibility: Compatibility::default(),
            next_version: 1,
            versions: std::collections::BTreeMap::new(),
        }
    }
}

pub(super) fn subject_key(w: &proto::SubjectRow) -> Option<RowKey> {
    Some(RowKey::Subject((NamespaceName::new(&w.namespace).ok()?, SubjectName::new(&w.name).ok()?)))
}

pub(super) fn schema_key(w: &proto::SchemaRow) -> Option<RowKey> {
    Some(RowKey::Schema((NamespaceName::new(&w.namespace).ok()?, SubjectName::new(&w.subject).ok()?), w.version))
}
