//! Schemas: registered when they may follow, and what records are held against.

use async_trait::async_trait;
use lakefall_queue::SubjectName;
use lakefall_queue::error::{Error, InvalidRecord, Result, Wrong};
use lakefall_queue::ledger::{Command, Reply, SchemaAnswer, SchemaCommand, SchemaQuery, SchemaReply};
use lakefall_queue::schema::{Compatibility, SchemaText, SchemaVerbs, SchemaVersion, Subject};
use lakefall_queue::topic::InvalidRecords;
use lakefall_queue::verbs::{Caller, Page, PageRequest, Precondition, TopicAppend};
use lakefall_schema::{Fault, incompatible};
use lakefall_service::blocking;

use super::Engine;
use super::append::ATTEMPTS;
use super::resources::unexpected;
use crate::metrics;
use crate::schemas::{self, parsed, understood};

/// Records named in a refusal; nobody reads more.
const NAMED: usize = 20;
/// Longest reason that is kept with a record, in bytes.
const MARK_MAX: usize = 300;

impl Engine {
    /// Refuses records that do not match their topic's schema, or marks them, as the topic has it.
    pub(super) async fn hold_against_schema(&self, caller: &Caller, append: &mut TopicAppend, at: Option<usize>) -> Result<()> {
        let topic = self.topic(caller, &append.topic).await?;
        let Some(schema) = &topic.config.schema else { return Ok(()) };
        let (mut records, found) = self.schemas.check(&topic, std::mem::take(&mut append.records)).await?;
        if found.is_empty() {
            append.records = records;
            return Ok(());
        }
        let count =
            |outcome: &'static str| ::metrics::counter!(metrics::RECORDS_INVALID, "outcome" => outcome).increment(found.len() as u64);
        match schema.invalid {
            InvalidRecords::Reject => {
                count("refused");
                let invalid = |(record, fault): (usize, Fault)| InvalidRecord { append: at, record, wrong: wrong(fault) };
                return Err(Error::RecordsInvalid(found.into_iter().take(NAMED).map(invalid).collect()));
            }
            InvalidRecords::Mark => {
                count("marked");
                for (at, fault) in found {
                    if let Some(record) = records.get_mut(at) {
                        record.properties.get_or_insert_default().schema_error = Some(cut(fault.to_string()).into());
                    }
                }
            }
        }
        append.records = records;
        Ok(())
    }

    /// Why `new` may not follow a version of the subject as it is.
    async fn judged(&self, caller: &Caller, subject: &Subject, version: u32, new: &SchemaText) -> Result<Vec<Wrong>> {
        let new = parsed(new.clone()).await?.map_err(|fault| Error::SchemaInvalid(wrong(fault)))?;
        if subject.compatibility == Compatibility::None {
            return Ok(Vec::new());
        }
        let old = understood(self.schemas.version(&caller.namespace, &subject.name, Some(version)).await?.schema).await?;
        let mode = subject.compatibility;
        let compared = blocking::run(move || incompatible(mode, &new, &old)).await;
        let faults = compared.map_err(|e| Error::Internal(format!("schemas were not compared to the end: {e}")))?;
        Ok(faults.into_iter().take(NAMED).map(wrong).collect())
    }

    /// Registers a schema if it may follow; `None` if the subject changed meanwhile.
    async fn register_once(&self, caller: &Caller, subject: &SubjectName, schema: &SchemaText) -> Result<Option<(SchemaVersion, bool)>> {
        let namespace = &caller.namespace;
        match self.schemas.ask(namespace, SchemaQuery::Find(namespace.clone(), subject.clone(), schema.clone())).await {
            Ok(SchemaAnswer::Version(version)) => return Ok(Some((version, false))),
            Ok(other) => return Err(schemas::unexpected(&other)),
            Err(Error::SchemaNotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        let current = match self.schemas.subject(namespace, subject).await {
            Ok(subject) => Some(subject),
            Err(Error::SchemaNotFound { .. }) => None,
            Err(error) => return Err(error),
        };
        let latest = current.as_ref().and_then(|current| Some((current, current.latest()?.version)));
        if let Some((current, version)) = latest {
            match self.judged(caller, current, version, schema).await {
                Ok(reasons) if reasons.is_empty() => {}
                Ok(reasons) => return Err(Error::SchemaIncompatible { subject: subject.clone(), version, reasons }),
                // It was deleted meanwhile.
                Err(Error::SchemaNotFound { .. }) => return Ok(None),
                Err(error) => return Err(error),
            }
        } else {
            parsed(schema.clone()).await?.map_err(|fault| Error::SchemaInvalid(wrong(fault)))?;
        }
        let command = SchemaCommand::Put {
            namespace: namespace.clone(),
            subject: subject.clone(),
            schema: schema.clone(),
            expected: current.map_or(0, |current| current.revision),
        };
        match self.execute(namespace, Command::Schema(Box::new(command))).await {
            Ok(Reply::Schema(reply)) => match *reply {
                SchemaReply::Version(version, created) => Ok(Some((version, created))),
                other => Err(unexpected(&other)),
            },
            Ok(other) => Err(unexpected(&other)),
            Err(Error::VersionMismatch { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[async_trait]
impl SchemaVerbs for Engine {
    async fn register_schema(&self, caller: &Caller, subject: &SubjectName, schema: SchemaText) -> Result<(SchemaVersion, bool)> {
        for _ in 0..ATTEMPTS {
            if let Some(registered) = self.register_once(caller, subject, &schema).await? {
                self.schemas.forget(&caller.namespace, subject);
                return Ok(registered);
            }
        }
        Err(Error::unavailable("the subject keeps changing"))
    }

    async fn get_schema(&self, caller: &Caller, subject: &SubjectName, version: Option<u32>) -> Result<SchemaVersion> {
        self.schemas.version(&caller.namespace, subject, version).await
    }

    async fn describe_subject(&self, caller: &Caller, subject: &SubjectName) -> Result<Subject> {
        self.schemas.subject(&caller.namespace, subject).await
    }

    async fn list_subjects(&self, caller: &Caller, page: PageRequest) -> Result<Page<Subject>> {
        match self.schemas.ask(&caller.namespace, SchemaQuery::Subjects(caller.namespace.clone(), page)).await? {
            SchemaAnswer::Subjects(page) => Ok(page),
            other => Err(schemas::unexpected(&other)),
        }
    }

    async fn check_schema(&self, caller: &Caller, subject: &SubjectName, version: Option<u32>, schema: SchemaText) -> Result<Vec<Wrong>> {
        let current = self.schemas.subject(&caller.namespace, subject).await?;
        let number = version.or_else(|| Some(current.latest()?.version));
        match number {
            Some(number) if current.versions.iter().any(|known| known.version == number) => {
                self.judged(caller, &current, number, &schema).await
            }
            number => Err(Error::SchemaNotFound { subject: subject.clone(), version: number }),
        }
    }

    async fn put_compatibility(
        &self,
        caller: &Caller,
        subject: &SubjectName,
        compatibility: Compatibility,
        condition: Precondition,
    ) -> Result<(Subject, bool)> {
        let namespace = caller.namespace.clone();
        let command = SchemaCommand::Configure { namespace, subject: subject.clone(), compatibility, condition };
        match self.execute(&caller.namespace, Command::Schema(Box::new(command))).await? {
            Reply::Schema(reply) => match *reply {
                SchemaReply::Subject(subject, created) => Ok((subject, created)),
                other => Err(unexpected(&other)),
            },
            other => Err(unexpected(&other)),
        }
    }

    async fn delete_schema(&self, caller: &Caller, subject: &SubjectName, version: Option<u32>, condition: Precondition) -> Result<()> {
        let namespace = caller.namespace.clone();
        let command = SchemaCommand::Delete { namespace, subject: subject.clone(), version, condition };
        self.execute(&caller.namespace, Command::Schema(Box::new(command))).await?;
        self.schemas.forget(&caller.namespace, subject);
        Ok(())
    }
}

fn wrong(Fault { pointer, reason }: Fault) -> Wrong {
    Wrong { pointer, reason }
}

fn cut(mut text: String) -> String {
    if text.len() > MARK_MAX {
        let end = (0..=MARK_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
    }
    text
}
