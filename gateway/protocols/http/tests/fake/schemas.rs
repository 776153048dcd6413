//! Subjects in memory. A text that holds `broken` is no schema, and one that holds `other` may not follow.

use async_trait::async_trait;
use lakefall_queue::error::Wrong;
use lakefall_queue::schema::*;
use lakefall_queue::verbs::*;
use lakefall_queue::*;

use super::Fake;

pub(super) struct Registered {
    subject: Subject,
    versions: Vec<SchemaVersion>,
}

fn not_found(subject: &SubjectName, version: Option<u32>) -> Error {
    Error::SchemaNotFound { subject: subject.clone(), version }
}

fn new(name: &SubjectName) -> Registered {
    let subject = Subject {
        namespace: NamespaceName::default_name(),
        name: name.clone(),
        revision: 1,
        created_at: Timestamp::default(),
        compatibility: Compatibility::default(),
        versions: Vec::new(),
    };
    Registered { subject, versions: Vec::new() }
}

impl Fake {
    fn on_subject<T>(&self, name: &SubjectName, act: impl FnOnce(&mut Registered) -> Result<T>) -> Result<T> {
        let mut all = self.subjects.lock().unwrap();
        act(all.iter_mut().find(|known| known.subject.name == *name).ok_or_else(|| not_found(name, None))?)
    }
}

fn wrong(text: &str) -> Wrong {
    Wrong { pointer: "/properties/a".into(), reason: text.into() }
}

#[async_trait]
impl SchemaVerbs for Fake {
    async fn register_schema(&self, _: &Caller, name: &SubjectName, schema: SchemaText) -> Result<(SchemaVersion, bool)> {
        if schema.text.contains("broken") {
            return Err(Error::SchemaInvalid(wrong("broken")));
        }
        let mut all = self.subjects.lock().unwrap();
        if !all.iter().any(|known| known.subject.name == *name) {
            all.push(new(name));
        }
        drop(all);
        self.on_subject(name, |known| {
            if let Some(found) = known.versions.iter().find(|version| version.schema == schema) {
                return Ok((found.clone(), false));
            }
            let version = known.versions.len() as u32 + 1;
            if schema.text.contains("other") && version > 1 {
                return Err(Error::SchemaIncompatible { subject: name.clone(), version: version - 1, reasons: vec![wrong("differs")] });
            }
            let created_at = Timestamp::default();
            known.subject.versions.push(VersionNumber { version, id: version + 10, kind: schema.kind, created_at });
            known.subject.revision += 1;
            let registered = SchemaVersion { subject: name.clone(), version, id: version + 10, created_at, schema };
            known.versions.push(registered.clone());
            Ok((registered, true))
        })
    }

    async fn get_schema(&self, _: &Caller, name: &SubjectName, version: Option<u32>) -> Result<SchemaVersion> {
        self.on_subject(name, |known| {
            let found = known.versions.iter().rfind(|known| version.is_none_or(|version| known.version == version));
            found.cloned().ok_or_else(|| not_found(name, version))
        })
    }

    async fn describe_subject(&self, _: &Caller, name: &SubjectName) -> Result<Subject> {
        self.on_subject(name, |known| Ok(known.subject.clone()))
    }

    async fn list_subjects(&self, _: &Caller, _: PageRequest) -> Result<Page<Subject>> {
        let all = self.subjects.lock().unwrap();
        Ok(Page { items: all.iter().map(|known| known.subject.clone()).collect(), next: None })
    }

    async fn check_schema(&self, _: &Caller, name: &SubjectName, _: Option<u32>, schema: SchemaText) -> Result<Vec<Wrong>> {
        self.on_subject(name, |_| Ok(if schema.text.contains("other") { vec![wrong("differs")] } else { Vec::new() }))
    }

    async fn put_compatibility(
        &self,
        _: &Caller,
        name: &SubjectName,
        compatibility: Compatibility,
        condition: Precondition,
    ) -> Result<(Subject, bool)> {
        let mut all = self.subjects.lock().unwrap();
        let created = !all.iter().any(|known| known.subject.name == *name);
        if created {
            all.push(new(name));
        }
        drop(all);
        self.on_subject(name, |known| {
            if let Precondition::Version(expected) = condition
                && expected != known.subject.revision
            {
                return Err(Error::VersionMismatch { expected, actual: known.subject.revision });
            }
            known.subject.compatibility = compatibility;
            known.subject.revision += 1;
            Ok((known.subject.clone(), created))
        })
    }

    async fn delete_schema(&self, _: &Caller, name: &SubjectName, version: Option<u32>, _: Precondition) -> Result<()> {
        self.get_schema(&Caller { namespace: NamespaceName::default_name(), request_id: "r".into(), trace: None }, name, version).await?;
        let mut all = self.subjects.lock().unwrap();
        match version {
            None => all.retain(|known| known.subject.name != *name),
            Some(version) => all.iter_mut().for_each(|known| {
                known.versions.retain(|known| known.version != version);
                known.subject.versions.retain(|known| known.version != version);
            }),
        }
        Ok(())
    }
}
