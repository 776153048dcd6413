//! Schemas as they are registered: a subject has versions, each a text in one of three languages. What a text means is not
//! known here.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error::{Result, Wrong};
use crate::id::{NamespaceName, SubjectName};
use crate::time::Timestamp;
use crate::verbs::{Caller, Page, PageRequest, Precondition};

/// Most versions of a subject.
pub const VERSIONS_MAX: usize = 1_000;

/// A schema's language.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SchemaType {
    /// JSON Schema: values are JSON texts.
    Json,
    /// Avro: values are in its binary encoding.
    Avro,
    /// Protobuf: values are messages.
    Protobuf,
}

impl SchemaType {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Avro => "avro",
            Self::Protobuf => "protobuf",
        }
    }
}

impl fmt::Display for SchemaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a new version must have in common with the latest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compatibility {
    /// Nothing.
    None,
    /// It reads what the latest wrote: readers are changed before writers.
    #[default]
    Backward,
    /// The latest reads what it writes: writers are changed before readers.
    Forward,
    /// Both.
    Full,
}

/// What a version is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaText {
    /// Its language.
    pub kind: SchemaType,
    /// The schema.
    pub text: Arc<str>,
    /// The message type of a Protobuf text, where it was named.
    pub message: Option<Arc<str>>,
}

/// A registered version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaVersion {
    /// Whose version it is.
    pub subject: SubjectName,
    /// From 1; never used again, not even of one that was deleted.
    pub version: u32,
    /// Its number among all schemas of the namespace; values may name it.
    pub id: u32,
    /// When it was registered.
    pub created_at: Timestamp,
    /// The schema.
    pub schema: SchemaText,
}

/// A version without its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct VersionNumber {
    /// See [`SchemaVersion::version`].
    pub version: u32,
    /// See [`SchemaVersion::id`].
    pub id: u32,
    /// Its language.
    #[serde(rename = "type")]
    pub kind: SchemaType,
    /// When it was registered.
    pub created_at: Timestamp,
}

/// A subject and its versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Its namespace.
    pub namespace: NamespaceName,
    /// Its name.
    pub name: SubjectName,
    /// Another number after each change, and after it was deleted and made anew: the ETag.
    pub revision: u64,
    /// When it was created.
    pub created_at: Timestamp,
    /// What a new version must have in common with the latest.
    pub compatibility: Compatibility,
    /// In order; there may be none yet.
    pub versions: Vec<VersionNumber>,
}

impl Subject {
    /// The version that counts.
    pub fn latest(&self) -> Option<&VersionNumber> {
        self.versions.last()
    }
}

/// What a room may ask about schemas: a part of [`crate::verbs::Verbs`].
#[async_trait]
pub trait SchemaVerbs {
    /// Registers a version. The same text again is answered with the version that has it; the flag tells whether it is new.
    async fn register_schema(&self, caller: &Caller, subject: &SubjectName, schema: SchemaText) -> Result<(SchemaVersion, bool)>;

    /// A version; without a number, the latest.
    async fn get_schema(&self, caller: &Caller, subject: &SubjectName, version: Option<u32>) -> Result<SchemaVersion>;

    /// A subject and the numbers of its versions.
    async fn describe_subject(&self, caller: &Caller, subject: &SubjectName) -> Result<Subject>;

    /// The caller's subjects by name.
    async fn list_subjects(&self, caller: &Caller, page: PageRequest) -> Result<Page<Subject>>;

    /// Why a schema may not follow a version (the latest, without a number) as the subject has it; nothing if it may.
    async fn check_schema(&self, caller: &Caller, subject: &SubjectName, version: Option<u32>, schema: SchemaText) -> Result<Vec<Wrong>>;

    /// Says how new versions are judged. The flag tells whether the subject was created by it.
    async fn put_compatibility(
        &self,
        caller: &Caller,
        subject: &SubjectName,
        compatibility: Compatibility,
        condition: Precondition,
    ) -> Result<(Subject, bool)>;

    /// Deletes a version, or all and the subject. Refused while a topic's records are held against it.
    async fn delete_schema(&self, caller: &Caller, subject: &SubjectName, version: Option<u32>, condition: Precondition) -> Result<()>;
}
