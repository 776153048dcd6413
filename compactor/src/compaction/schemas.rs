//! The columns of topics that have a schema: those of all its versions together, as older records are of older versions.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use lakefall_metadata::Metadata;
use lakefall_queue::error::{Error, Result};
use lakefall_queue::ledger::{Answer, Query, SchemaAnswer, SchemaQuery};
use lakefall_queue::schema::{SchemaVersion, Subject};
use lakefall_queue::topic::Topic;
use lakefall_queue::{NamespaceName, SubjectName};
use lakefall_schema::{Schema, Versions, union};
use lakefall_service::blocking;
use lakefall_storage::parquet::{ColumnSchema, TypedColumns, ValuesAsJson};

use super::columns::Columns;

/// Versions that have a say, from the latest back: reading a schema takes a while.
const VERSIONS: usize = 50;
/// Subjects whose columns are remembered. Others are looked up again.
const SUBJECTS: usize = 1_000;

type Key = (NamespaceName, SubjectName);

/// Asks the metadata service for schemas.
pub struct SchemaColumns {
    metadata: Arc<dyn Metadata>,
    /// With the revision of the subject that they are of.
    known: Mutex<HashMap<Key, (u64, Option<TypedColumns>)>>,
}

impl SchemaColumns {
    /// Nothing is known yet.
    pub fn new(metadata: Arc<dyn Metadata>) -> Self {
        Self { metadata, known: Mutex::default() }
    }

    async fn ask(&self, namespace: &NamespaceName, query: SchemaQuery) -> Result<SchemaAnswer> {
        let shard = namespace.shard(self.metadata.shards());
        match self.metadata.query(shard, Query::Schema(Box::new(query))).await? {
            Answer::Schema(answer) => Ok(*answer),
            other => Err(Error::Internal(format!("asked for schemas, got {other:?}"))),
        }
    }

    async fn version(&self, namespace: &NamespaceName, subject: &SubjectName, version: u32) -> Result<SchemaVersion> {
        match self.ask(namespace, SchemaQuery::Version(namespace.clone(), subject.clone(), Some(version))).await? {
            SchemaAnswer::Version(version) => Ok(version),
            other => Err(Error::Internal(format!("asked for a schema, got {other:?}"))),
        }
    }

    async fn look_up(&self, topic: &Topic, subject: &Subject) -> Result<Option<TypedColumns>> {
        let from = subject.versions.len().saturating_sub(VERSIONS);
        let mut versions = Vec::new();
        for number in &subject.versions[from..] {
            versions.push(self.version(&topic.namespace, &subject.name, number.version).await?);
        }
        let typed = blocking::run(move || typed(&versions)).await;
        let typed = typed.map_err(|error| Error::Internal(format!("schemas were not read to the end: {error}")))?;
        Ok(typed.unwrap_or_else(|reason| {
            tracing::warn!(topic = %topic.name, subject = %subject.name, reason, "the schema does not become columns");
            None
        }))
    }
}

#[async_trait]
impl Columns for SchemaColumns {
    async fn columns(&self, topic: &Topic) -> Result<Option<TypedColumns>> {
        let Some(schema) = &topic.config.schema else { return Ok(None) };
        let key = (topic.namespace.clone(), schema.subject.clone());
        let subject = match self.ask(&topic.namespace, SchemaQuery::Subject(key.0.clone(), key.1.clone())).await {
            Ok(SchemaAnswer::Subject(subject)) => subject,
            Ok(other) => return Err(Error::Internal(format!("asked for a subject, got {other:?}"))),
            // The topic was given another one meanwhile, and this one deleted.
            Err(Error::SchemaNotFound { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some((revision, typed)) = known
            && revision == subject.revision
        {
            return Ok(typed);
        }
        let typed = self.look_up(topic, &subject).await?;
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= SUBJECTS {
            all.clear();
        }
        all.insert(key, (subject.revision, typed.clone()));
        Ok(typed)
    }
}

/// The columns of versions, from the oldest to the latest; none where values are no objects.
fn typed(versions: &[SchemaVersion]) -> std::result::Result<Option<TypedColumns>, String> {
    let mut by_id = BTreeMap::new();
    let mut columns: Option<arrow_schema::Fields> = None;
    let mut latest = None;
    for version in versions {
        let text = &version.schema;
        let schema = Schema::parse(text.kind, &text.text, text.message.as_deref()).map_err(|fault| fault.to_string())?;
        let schema = Arc::new(schema);
        let fields = schema.columns();
        columns = Some(columns.map_or_else(|| fields.clone(), |earlier| union(&earlier, &fields)));
        by_id.insert(version.id, Arc::clone(&schema));
        latest = Some(schema);
    }
    let (Some(latest), Some(columns)) = (latest, columns.filter(|columns| !columns.is_empty())) else { return Ok(None) };
    let typed = TypedColumns::new(&ColumnSchema::new(columns)).map_err(|error| error.to_string())?;
    Ok(Some(typed.read_by(Arc::new(Values(Versions::new(latest, by_id))))))
}

#[derive(Debug)]
struct Values(Versions);

impl ValuesAsJson for Values {
    fn json<'v>(&self, value: &'v [u8]) -> Option<Cow<'v, [u8]>> {
        self.0.to_json(value).ok()
    }
}

#[cfg(test)]
mod tests {
    use lakefall_queue::schema::{SchemaText, SchemaType};
    use lakefall_queue::{Offset, PartitionIndex, StoredRecord, Timestamp, TopicId, ValueKind};
    use lakefall_storage::parquet::{Options, ParquetWriter};

    use super::*;

    fn version(number: u32, kind: SchemaType, text: &str) -> SchemaVersion {
        let schema = SchemaText { kind, text: text.into(), message: None };
        SchemaVersion {
            subject: SubjectName::new("s").unwrap(),
            version: number,
            id: 10 + number,
            created_at: Timestamp::default(),
            schema,
        }
    }

    /// How many of the values have no typed columns.
    fn untyped(versions: &[SchemaVersion], values: &[&[u8]]) -> u64 {
        let typed = typed(versions).unwrap();
        let mut writer = ParquetWriter::new(TopicId(1), PartitionIndex(0), Options { typed, ..Options::default() }).unwrap();
        for (offset, value) in values.iter().enumerate() {
            let record = StoredRecord {
                partition: PartitionIndex(0),
                offset: Offset(offset as u64),
                timestamp: Timestamp::default(),
                appended_at: Timestamp::default(),
                key: None,
                value: Some(value.to_vec().into()),
                kind: ValueKind::Opaque,
                headers: Vec::new(),
                properties: None,
            };
            writer.push(&[record]).unwrap();
        }
        writer.finish().unwrap().untyped
    }

    #[test]
    fn avro_values_of_any_version_and_json_sent_as_bytes_become_columns() {
        let one = version(1, SchemaType::Avro, r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"}]}"#);
        let two = version(
            2,
            SchemaType::Avro,
            r#"{"type":"record","name":"R","fields":[{"name":"a","type":"long"},{"name":"b","type":"string"}]}"#,
        );
        let values: [&[u8]; 4] = [&[0, 0, 0, 0, 11, 2], &[0, 0, 0, 0, 12, 2, 2, b'x'], &[2, 2, b'x'], &[2]];
        assert_eq!(untyped(&[one, two], &values), 1, "the last is cut off");
        let json = version(1, SchemaType::Json, r#"{"properties":{"a":{"type":"integer"}}}"#);
        assert_eq!(untyped(&[json], &[br#"{"a":1}"#, br#"{"a":"x"}"#, b"no"]), 2);
    }

    #[test]
    fn a_schema_of_no_objects_has_no_columns() {
        assert!(typed(&[version(1, SchemaType::Json, r#"{"type":"string"}"#)]).unwrap().is_none());
        assert!(typed(&[]).unwrap().is_none());
    }
}
