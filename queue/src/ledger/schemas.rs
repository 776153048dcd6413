//! Subjects and the versions of their schemas. What a text means, and whether one may follow another, is for the gateway to
//! judge; the ledger sees to it that it judged what is there.

use std::collections::BTreeMap;

use super::query::{first_name, paged};
use super::{Applied, Ledger, RowKey, check_condition};
use crate::error::{Error, Result};
use crate::id::{NamespaceName, SubjectName};
use crate::schema::{Compatibility, SchemaText, SchemaVersion, Subject, VERSIONS_MAX, VersionNumber};
use crate::time::Timestamp;
use crate::topic::{Topic, TopicConfig};
use crate::verbs::{Page, PageRequest, Precondition};

pub(super) type SubjectKey = (NamespaceName, SubjectName);

/// A change of a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "fields are named after what they hold")]
pub enum SchemaCommand {
    /// Registers a version. `expected` is the revision of the subject that was looked at; 0: there was none. The same text again
    /// is answered with the version that has it, whatever was expected.
    Put { namespace: NamespaceName, subject: SubjectName, schema: SchemaText, expected: u64 },
    /// Deletes a version, or all and the subject with them.
    Delete { namespace: NamespaceName, subject: SubjectName, version: Option<u32>, condition: Precondition },
    /// Says how new versions are judged; creates the subject if it is not there.
    Configure { namespace: NamespaceName, subject: SubjectName, compatibility: Compatibility, condition: Precondition },
}

/// What such a change answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SchemaReply {
    /// To `Put`: the flag tells whether it is new.
    Version(SchemaVersion, bool),
    /// To `Configure`: the flag tells whether it was created.
    Subject(Subject, bool),
}

/// A question about schemas.
#[derive(Clone, Debug)]
pub enum SchemaQuery {
    /// One subject.
    Subject(NamespaceName, SubjectName),
    /// A namespace's subjects by name.
    Subjects(NamespaceName, PageRequest),
    /// A version; without a number, the latest.
    Version(NamespaceName, SubjectName, Option<u32>),
    /// The version that has this text.
    Find(NamespaceName, SubjectName, SchemaText),
}

/// An answer, in the order of [`SchemaQuery`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SchemaAnswer {
    /// To `Subject`.
    Subject(Subject),
    /// To `Subjects`.
    Subjects(Page<Subject>),
    /// To `Version` and `Find`.
    Version(SchemaVersion),
}

/// All subjects of a shard.
#[derive(Clone, Debug, Default)]
pub(super) struct Schemas {
    pub(super) by_name: BTreeMap<SubjectKey, SubjectState>,
}

#[derive(Clone, Debug)]
pub(super) struct SubjectState {
    pub(super) revision: u64,
    pub(super) created_at: Timestamp,
    pub(super) compatibility: Compatibility,
    /// Of the next version.
    pub(super) next_version: u32,
    pub(super) versions: BTreeMap<u32, Registered>,
}

#[derive(Clone, Debug)]
pub(super) struct Registered {
    pub(super) id: u32,
    pub(super) created_at: Timestamp,
    pub(super) schema: SchemaText,
}

impl Schemas {
    pub(super) fn has_some(&self, namespace: &NamespaceName) -> bool {
        self.by_name.keys().any(|(of, _)| of == namespace)
    }

    pub(super) fn count_of(&self, namespace: &NamespaceName) -> u64 {
        let from = (namespace.clone(), SubjectName::first());
        self.by_name.range(from..).take_while(|((of, _), _)| of == namespace).count() as u64
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = RowKey> {
        let subjects = self.by_name.keys().cloned().map(RowKey::Subject);
        subjects.chain(self.by_name.iter().flat_map(|(key, state)| state.versions.keys().map(|v| RowKey::Schema(key.clone(), *v))))
    }
}

impl SubjectState {
    fn told(&self, (namespace, name): &SubjectKey) -> Subject {
        let number = |(version, r): (&u32, &Registered)| VersionNumber {
            version: *version,
            id: r.id,
            kind: r.schema.kind,
            created_at: r.created_at,
        };
        Subject {
            namespace: namespace.clone(),
            name: name.clone(),
            revision: self.revision,
            created_at: self.created_at,
            compatibility: self.compatibility,
            versions: self.versions.iter().map(number).collect(),
        }
    }

    fn version(&self, subject: &SubjectName, version: u32) -> Option<SchemaVersion> {
        let Registered { id, created_at, schema } = self.versions.get(&version)?.clone();
        Some(SchemaVersion { subject: subject.clone(), version, id, created_at, schema })
    }

    fn with_text(&self, subject: &SubjectName, schema: &SchemaText) -> Option<SchemaVersion> {
        let (version, _) = self.versions.iter().rev().find(|(_, registered)| registered.schema == *schema)?;
        self.version(subject, *version)
    }
}

impl Ledger {
    pub(super) fn change_schemas(&mut self, command: &SchemaCommand, now: Timestamp) -> Applied {
        match command {
            SchemaCommand::Put { namespace, subject, schema, expected } => self.put_schema(namespace, subject, schema, *expected, now),
            SchemaCommand::Delete { namespace, subject, version, condition } => {
                self.delete_schema(namespace, subject, *version, *condition).into()
            }
            SchemaCommand::Configure { namespace, subject, compatibility, condition } => {
                self.configure_subject(namespace, subject, *compatibility, *condition, now).into()
            }
        }
    }

    fn put_schema(
        &mut self,
        namespace: &NamespaceName,
        subject: &SubjectName,
        schema: &SchemaText,
        expected: u64,
        now: Timestamp,
    ) -> Applied {
        let key = (namespace.clone(), subject.clone());
        let current = self.schemas.by_name.get(&key);
        if let Err(error) = self.require_namespace(namespace) {
            return Applied::unchanged(Err(error));
        }
        if let Some(found) = current.and_then(|state| state.with_text(subject, schema)) {
            return Applied::unchanged(Ok(SchemaReply::Version(found, false).into()));
        }
        let revision = current.map_or(0, |state| state.revision);
        if revision != expected {
            return Applied::unchanged(Err(Error::VersionMismatch { expected, actual: revision }));
        }
        if current.is_some_and(|state| state.versions.len() >= VERSIONS_MAX) {
            let reason = format!("subject {subject} has {VERSIONS_MAX} versions, which is the most: delete some");
            return Applied::unchanged(Err(Error::invalid("schema", reason)));
        }
        // Billions of topics, queues and schemas.
        let Ok(id) = u32::try_from(self.next_topic) else {
            return Applied::unchanged(Err(Error::unavailable("this shard has no number left for another schema")));
        };
        let drawn = self.draw();
        self.has_later_rows = true;
        let state = self.schemas.by_name.entry(key.clone()).or_insert_with(|| SubjectState {
            revision: 0,
            created_at: now,
            compatibility: Compatibility::default(),
            next_version: 1,
            versions: BTreeMap::new(),
        });
        let version = state.next_version;
        state.next_version += 1;
        state.revision = drawn;
        state.versions.insert(version, Registered { id, created_at: now, schema: schema.clone() });
        self.dirty.insert(RowKey::Schema(key.clone(), version));
        self.subject_changed(&key);
        let registered = SchemaVersion { subject: subject.clone(), version, id, created_at: now, schema: schema.clone() };
        Applied::changed(SchemaReply::Version(registered, true).into())
    }

    fn delete_schema(
        &mut self,
        namespace: &NamespaceName,
        subject: &SubjectName,
        version: Option<u32>,
        condition: Precondition,
    ) -> Result<super::Reply> {
        let key = (namespace.clone(), subject.clone());
        let state = self.subject(&key)?;
        let not_found = || Error::SchemaNotFound { subject: subject.clone(), version };
        let exists = || Error::AlreadyExists { what: "subject", name: subject.to_string() };
        check_condition(condition, Some(state.revision), exists, not_found)?;
        if version.is_some_and(|version| !state.versions.contains_key(&version)) {
            return Err(not_found());
        }
        // What is held against the latest version would at once be held against another one.
        let counts = version.is_none() || version == state.versions.keys().next_back().copied();
        if counts && let Some(topic) = self.users(&key).next() {
            return Err(Error::SchemaInUse { subject: subject.clone(), topic: topic.name.clone() });
        }
        match version {
            Some(version) => {
                let drawn = self.draw();
                if let Some(state) = self.schemas.by_name.get_mut(&key) {
                    state.versions.remove(&version);
                    state.revision = drawn;
                }
                self.dirty.insert(RowKey::Schema(key.clone(), version));
                self.subject_changed(&key);
            }
            None => {
                let gone = self.schemas.by_name.remove(&key);
                let versions = gone.into_iter().flat_map(|state| state.versions.into_keys());
                self.dirty.extend(versions.map(|version| RowKey::Schema(key.clone(), version)));
                self.dirty.insert(RowKey::Subject(key));
            }
        }
        Ok(super::Reply::Done)
    }

    fn configure_subject(
        &mut self,
        namespace: &NamespaceName,
        subject: &SubjectName,
        compatibility: Compatibility,
        condition: Precondition,
        now: Timestamp,
    ) -> Result<super::Reply> {
        self.require_namespace(namespace)?;
        let key = (namespace.clone(), subject.clone());
        let current = self.schemas.by_name.get(&key);
        check_condition(
            condition,
            current.map(|state| state.revision),
            || Error::AlreadyExists { what: "subject", name: subject.to_string() },
            || Error::SchemaNotFound { subject: subject.clone(), version: None },
        )?;
        let created = current.is_none();
        let drawn = self.draw();
        self.has_later_rows = true;
        let state = self.schemas.by_name.entry(key.clone()).or_insert_with(|| SubjectState {
            revision: drawn,
            created_at: now,
            compatibility,
            next_version: 1,
            versions: BTreeMap::new(),
        });
        (state.revision, state.compatibility) = (drawn, compatibility);
        let told = state.told(&key);
        self.dirty.insert(RowKey::Subject(key));
        Ok(SchemaReply::Subject(told, created).into())
    }

    pub(super) fn query_schemas(&self, query: &SchemaQuery) -> Result<SchemaAnswer> {
        match query {
            SchemaQuery::Subject(namespace, subject) => {
                let key = (namespace.clone(), subject.clone());
                self.subject(&key).map(|state| SchemaAnswer::Subject(state.told(&key)))
            }
            SchemaQuery::Subjects(namespace, page) => {
                self.require_namespace(namespace)?;
                let first = SubjectName::new(first_name(page).as_str())?;
                let of = self.schemas.by_name.range((namespace.clone(), first)..).take_while(|((of, _), _)| of == namespace);
                Ok(SchemaAnswer::Subjects(paged(page, of.map(|(key, state)| state.told(key)), |subject| subject.name.to_string())))
            }
            SchemaQuery::Version(namespace, subject, version) => {
                let state = self.subject(&(namespace.clone(), subject.clone()))?;
                let number = version.or_else(|| state.versions.keys().next_back().copied());
                let found = number.and_then(|number| state.version(subject, number));
                found.map(SchemaAnswer::Version).ok_or_else(|| Error::SchemaNotFound { subject: subject.clone(), version: *version })
            }
            SchemaQuery::Find(namespace, subject, schema) => {
                let found = self.subject(&(namespace.clone(), subject.clone()))?.with_text(subject, schema);
                found.map(SchemaAnswer::Version).ok_or_else(|| Error::SchemaNotFound { subject: subject.clone(), version: None })
            }
        }
    }

    /// A topic's schema must be there when it is named.
    pub(super) fn check_topic_schema(&self, namespace: &NamespaceName, config: &TopicConfig) -> Result<()> {
        let Some(schema) = &config.schema else { return Ok(()) };
        let state = self.schemas.by_name.get(&(namespace.clone(), schema.subject.clone()));
        match state {
            Some(state) if !state.versions.is_empty() => Ok(()),
            _ => Err(Error::SchemaNotFound { subject: schema.subject.clone(), version: None }),
        }
    }

    fn subject(&self, key: &SubjectKey) -> Result<&SubjectState> {
        self.require_namespace(&key.0)?;
        self.schemas.by_name.get(key).ok_or_else(|| Error::SchemaNotFound { subject: key.1.clone(), version: None })
    }

    fn users(&self, (namespace, subject): &SubjectKey) -> impl Iterator<Item = &Topic> {
        let uses =
            move |topic: &&Topic| topic.namespace == *namespace && topic.config.schema.as_ref().is_some_and(|s| s.subject == *subject);
        self.topics.values().filter(uses)
    }

    /// Who remembers a topic also remembers what its records are held against.
    fn subject_changed(&mut self, key: &SubjectKey) {
        self.dirty.insert(RowKey::Subject(key.clone()));
        let users: Vec<Topic> = self.users(key).cloned().collect();
        users.iter().for_each(|topic| self.notify_topic(topic));
    }

    /// A number that nothing else of the shard has: revisions and ids come from where those of topics and queues do.
    fn draw(&mut self) -> u64 {
        self.next_topic += 1;
        self.next_topic - 1
    }
}

impl From<SchemaReply> for super::Reply {
    fn from(reply: SchemaReply) -> Self {
        Self::Schema(Box::new(reply))
    }
}
