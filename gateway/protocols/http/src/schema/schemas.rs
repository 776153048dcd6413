//! Schemas as they look on the wire, for the OpenAPI document only.

use serde::Serialize;
use utoipa::ToSchema;

schemas! {
    /// A schema to be registered, or to be compared.
    NewSchema {
        #[schema(pattern = "^(json|avro|protobuf)$")]
        r#type: Option<String>,
        /// Its text; JSON Schema and Avro may stand as JSON
        schema: serde_json::Value,
        /// The message type of a Protobuf text that has several
        message: Option<String>,
    }
    /// A registered version.
    SchemaOut {
        subject: String, version: u32,
        /// Values may name it, as Confluent's clients write them
        id: u32,
        r#type: String, schema: serde_json::Value, message: Option<String>, created_at: String,
    }
    /// A version without its text.
    VersionNumber { version: u32, id: u32, r#type: String, created_at: String, }
    /// A subject's versions.
    VersionList { items: Vec<VersionNumber>, }
    /// A subject.
    SubjectOut { namespace: String, name: String, compatibility: String, versions: Vec<VersionNumber>, created_at: String, }
    /// A page of subjects.
    SubjectList { items: Vec<SubjectOut>, next_page_token: Option<String>, }
    /// How new versions are judged.
    SubjectConfig {
        #[schema(pattern = "^(none|backward|forward|full)$")]
        compatibility: String,
    }
    /// Whether a schema may follow.
    CompatibilityOut { compatible: bool, reasons: Vec<super::ProblemPlace>, }
}
