//! What records are held against: the versions of topics' schemas, understood once. They are looked up anew with the topic: a
//! change of a subject is told as a change of the topics that use it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use lakefall_metadata::Metadata;
use lakefall_queue::error::{Error, Result};
use lakefall_queue::ledger::{Answer, Query, SchemaAnswer, SchemaQuery};
use lakefall_queue::schema::{SchemaText, SchemaVersion, Subject};
use lakefall_queue::topic::Topic;
use lakefall_queue::{NamespaceName, Record, SubjectName, TopicId};
use lakefall_schema::{Fault, Schema, Versions, wire_id};
use lakefall_service::blocking;

use crate::read::ASK_FOR;

/// Topics remembered; beyond it all are forgotten and looked up again.
const CAPACITY: usize = 10_000;
/// Values of a request that are checked where they came in; more are for a thread that may be blocked.
const AT_ONCE_BYTES: usize = 64 << 10;

/// A record that does not match, by its place, and why.
pub(crate) type Mismatch = (usize, Fault);

/// The schemas that this gateway knows.
pub(crate) struct Schemas {
    metadata: Arc<dyn Metadata>,
    known: Mutex<HashMap<TopicId, Known>>,
}

/// As it was looked up with a topic: with another look at the topic it is looked up anew.
#[derive(Clone)]
struct Known {
    topic: Arc<Topic>,
    /// Versions by their ids.
    numbers: Arc<BTreeMap<u32, u32>>,
    /// Those that were needed yet.
    versions: Arc<Versions>,
    understood: BTreeMap<u32, Arc<Schema>>,
}

impl Schemas {
    pub(crate) fn new(metadata: Arc<dyn Metadata>) -> Self {
        Self { metadata, known: Mutex::default() }
    }

    /// Holds records against their topic's schema. Gives them back, and tells of those that do not match. A tombstone matches.
    pub(crate) async fn check(&self, topic: &Arc<Topic>, records: Vec<Record>) -> Result<(Vec<Record>, Vec<Mismatch>)> {
        let Some(schema) = &topic.config.schema else { return Ok((records, Vec::new())) };
        let versions = self.versions(topic, &schema.subject, &records).await?;
        let bytes: usize = records.iter().filter_map(|record| record.value.as_ref()).map(|value| value.len()).sum();
        let work = move || {
            let checked = records.iter().enumerate().filter_map(|(at, record)| Some((at, versions.check(record.value.as_deref()?).err()?)));
            let found: Vec<Mismatch> = checked.collect();
            (records, found)
        };
        if bytes <= AT_ONCE_BYTES {
            return Ok(work());
        }
        blocking::run(work).await.map_err(|e| Error::Internal(format!("records were not checked to the end: {e}")))
    }

    /// The versions that these records may be encoded with.
    async fn versions(&self, topic: &Arc<Topic>, subject: &SubjectName, records: &[Record]) -> Result<Arc<Versions>> {
        let earlier = self.lock().get(&topic.id).cloned();
        let mut known = match earlier {
            Some(known) if Arc::ptr_eq(&known.topic, topic) => known,
            earlier => self.look_up(topic, subject, earlier).await?,
        };
        let named = records.iter().filter_map(|record| wire_id(record.value.as_deref()?));
        let mut missing: Vec<u32> = named.filter(|id| known.numbers.contains_key(id) && !known.understood.contains_key(id)).collect();
        missing.sort_unstable();
        missing.dedup();
        if missing.is_empty() {
            return Ok(known.versions);
        }
        for id in missing {
            let version = self.version(&topic.namespace, subject, known.numbers.get(&id).copied()).await?;
            known.understood.insert(id, understood(version.schema).await?);
        }
        known.versions = Arc::new(Versions::new(Arc::clone(known.versions.latest()), known.understood.clone()));
        let versions = Arc::clone(&known.versions);
        self.lock().insert(topic.id, known);
        Ok(versions)
    }

    async fn look_up(&self, topic: &Arc<Topic>, subject: &SubjectName, earlier: Option<Known>) -> Result<Known> {
        let described = self.subject(&topic.namespace, subject).await?;
        let latest = described.latest().ok_or_else(|| Error::SchemaNotFound { subject: subject.clone(), version: None })?;
        let numbers: BTreeMap<u32, u32> = described.versions.iter().map(|number| (number.id, number.version)).collect();
        // Ids are never used again: what was understood once stays so.
        let mut known: BTreeMap<u32, Arc<Schema>> = earlier.map(|known| known.understood).unwrap_or_default();
        known.retain(|id, _| numbers.contains_key(id));
        let schema = match known.get(&latest.id) {
            Some(schema) => Arc::clone(schema),
            None => understood(self.version(&topic.namespace, subject, Some(latest.version)).await?.schema).await?,
        };
        known.insert(latest.id, Arc::clone(&schema));
        let versions = Arc::new(Versions::new(schema, known.clone()));
        let known = Known { topic: Arc::clone(topic), numbers: Arc::new(numbers), versions, understood: known };
        let mut all = self.lock();
        if all.len() >= CAPACITY {
            all.clear();
        }
        all.insert(topic.id, known.clone());
        Ok(known)
    }

    /// The subject was changed by this gateway: what it told to others may still be on its way.
    pub(crate) fn forget(&self, namespace: &NamespaceName, subject: &SubjectName) {
        let uses = |topic: &Topic| topic.namespace == *namespace && topic.config.schema.as_ref().is_some_and(|s| s.subject == *subject);
        self.lock().retain(|_, known| !uses(&known.topic));
    }

    pub(crate) async fn subject(&self, namespace: &NamespaceName, subject: &SubjectName) -> Result<Subject> {
        match self.ask(namespace, SchemaQuery::Subject(namespace.clone(), subject.clone())).await? {
            SchemaAnswer::Subject(subject) => Ok(subject),
            other => Err(unexpected(&other)),
        }
    }

    pub(crate) async fn version(&self, namespace: &NamespaceName, subject: &SubjectName, version: Option<u32>) -> Result<SchemaVersion> {
        match self.ask(namespace, SchemaQuery::Version(namespace.clone(), subject.clone(), version)).await? {
            SchemaAnswer::Version(version) => Ok(version),
            other => Err(unexpected(&other)),
        }
    }

    pub(crate) async fn ask(&self, namespace: &NamespaceName, query: SchemaQuery) -> Result<SchemaAnswer> {
        let asked = self.metadata.query(namespace.shard(self.metadata.shards()), Query::Schema(Box::new(query)));
        let away = || Error::unavailable("schemas cannot be looked up right now: the metadata service does not answer");
        match tokio::time::timeout(ASK_FOR, asked).await.map_err(|_| away())?? {
            Answer::Schema(answer) => Ok(*answer),
            other => Err(Error::Internal(format!("asked for schemas, got {other:?}"))),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<TopicId, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A registered schema; it was understood when it was registered.
pub(crate) async fn understood(schema: SchemaText) -> Result<Arc<Schema>> {
    parsed(schema).await?.map(Arc::new).map_err(|fault| Error::Internal(format!("a registered schema cannot be used: {fault}")))
}

/// Understands a schema, on a thread that may be blocked: it may take a while, and some stack.
pub(crate) async fn parsed(schema: SchemaText) -> Result<std::result::Result<Schema, Fault>> {
    let parse = move || Schema::parse(schema.kind, &schema.text, schema.message.as_deref());
    blocking::run(parse).await.map_err(|e| Error::Internal(format!("a schema was not read to the end: {e}")))
}

pub(crate) fn unexpected(answer: &SchemaAnswer) -> Error {
    Error::Internal(format!("the ledger answered another question: {answer:?}"))
}
