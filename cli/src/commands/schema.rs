//! `lakefall schema`: register, list, show, check, configure, delete.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use reqwest::Method;
use serde_json::{Value, json};

use super::topic::{cell, confirmed};
use super::{Client, Output, segment};
use crate::failure::Failure;

/// Schemas.
#[derive(Debug, Args)]
pub(crate) struct SchemaArgs {
    #[command(subcommand)]
    command: SchemaCommand,
}

#[derive(Debug, Subcommand)]
enum SchemaCommand {
    /// Register a schema as a new version of a subject.
    Register(FileArgs),
    /// Tell whether a schema could be registered.
    Check {
        #[command(flatten)]
        file: FileArgs,
        /// Compare it with this version. Default: the latest.
        #[arg(long)]
        version: Option<u32>,
    },
    /// List subjects, or the versions of one.
    List {
        /// The subject.
        subject: Option<String>,
    },
    /// Print a schema as it was registered.
    Show {
        /// The subject.
        subject: String,
        /// Its version. Default: the latest.
        #[arg(long)]
        version: Option<u32>,
    },
    /// Say what a new version must have in common with the latest.
    Config {
        /// The subject, which is created if it is not there.
        subject: String,
        /// none, backward, forward or full.
        #[arg(long, value_parser = ["none", "backward", "forward", "full"])]
        compatibility: String,
    },
    /// Delete a version, or a subject with all its versions.
    Delete {
        /// The subject.
        subject: String,
        /// Only this version.
        #[arg(long)]
        version: Option<u32>,
        /// Do not ask.
        #[arg(long, short)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
struct FileArgs {
    /// The subject.
    subject: String,
    /// The file with the schema; - reads standard input.
    file: PathBuf,
    /// The language. Default: by the file's ending, .avsc, .proto or .json.
    #[arg(long = "type", value_enum)]
    kind: Option<Kind>,
    /// The message type of a Protobuf file that has several.
    #[arg(long)]
    message: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    Json,
    Avro,
    Protobuf,
}

impl Kind {
    fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "json" => Some(Self::Json),
            "avsc" => Some(Self::Avro),
            "proto" => Some(Self::Protobuf),
            _ => None,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Avro => "avro",
            Self::Protobuf => "protobuf",
        }
    }
}

impl FileArgs {
    fn body(&self) -> Result<Value, Failure> {
        let kind = self.kind.or_else(|| Kind::of(&self.file));
        let kind = kind.ok_or_else(|| Failure::Usage("say what the schema is: --type json, avro or protobuf".to_owned()))?;
        let read =
            if self.file.as_os_str() == "-" { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(&self.file) };
        let text = read.map_err(|error| Failure::Usage(format!("{}: {error}", self.file.display())))?;
        let mut body = json!({"type": kind.as_str(), "schema": text});
        if let Some(message) = &self.message {
            body["message"] = message.as_str().into();
        }
        Ok(body)
    }
}

/// Runs `lakefall schema`.
pub(crate) fn schema(args: &SchemaArgs, client: &Client, output: &mut Output) -> Result<(), Failure> {
    match &args.command {
        SchemaCommand::Register(args) => {
            let body = args.body()?;
            let version = client.blocking(client.send_unkeyed(Method::POST, &path(&args.subject, "/versions"), &body))?;
            let text =
                format!("{} is version {} of subject {}, id {}", args.file.display(), version["version"], args.subject, version["id"]);
            output.value_or_lines(&version, || vec![text])
        }
        SchemaCommand::Check { file, version } => check(file, *version, client, output),
        SchemaCommand::List { subject: None } => {
            let subjects = client.blocking(client.list("/v1/schemas"))?;
            let row = |subject: &Value| {
                let versions = subject["versions"].as_array().map_or(0, Vec::len);
                vec![cell(&subject["name"]), versions.to_string(), cell(&subject["compatibility"]), cell(&subject["created_at"])]
            };
            let rows: Vec<_> = subjects.iter().map(row).collect();
            output.table(&subjects, &["SUBJECT", "VERSIONS", "COMPATIBILITY", "CREATED"], &rows)
        }
        SchemaCommand::List { subject: Some(subject) } => {
            let versions = client.blocking(client.list(&path(subject, "/versions")))?;
            let rows: Vec<_> =
                versions.iter().map(|v| ["version", "id", "type", "created_at"].map(|field| cell(&v[field])).to_vec()).collect();
            output.table(&versions, &["VERSION", "ID", "TYPE", "CREATED"], &rows)
        }
        SchemaCommand::Show { subject, version } => {
            let version = version.map_or_else(|| "latest".to_owned(), |version| version.to_string());
            let found = client.blocking(client.get(&path(subject, &format!("/versions/{version}"))))?;
            let text = match &found["schema"] {
                Value::String(text) => text.trim_end().to_owned(),
                json => serde_json::to_string_pretty(json).map_err(|error| Failure::Defect(error.to_string()))?,
            };
            output.value_or_lines(&found, || vec![text])
        }
        SchemaCommand::Config { subject, compatibility } => {
            let body = json!({"compatibility": compatibility});
            let set = client.blocking(client.send(Method::PUT, &path(subject, "/config"), &body))?;
            output.value_or_lines(&set, || vec![format!("new versions of subject {subject} are judged by: {compatibility}")])
        }
        SchemaCommand::Delete { subject, version, yes } => delete(subject, *version, *yes, client, output),
    }
}

fn check(file: &FileArgs, version: Option<u32>, client: &Client, output: &mut Output) -> Result<(), Failure> {
    let query = version.map_or_else(String::new, |version| format!("?version={version}"));
    let place = path(&file.subject, &format!("/compatibility{query}"));
    let verdict = client.blocking(client.send_unkeyed(Method::POST, &place, &file.body()?))?;
    let compatible = verdict["compatible"] == true;
    output.value_or_lines(&verdict, || {
        let reason = |reason: &Value| format!("{}: {}", cell(&reason["pointer"]), cell(&reason["reason"]));
        let reasons = verdict["reasons"].as_array().into_iter().flatten().map(reason);
        if compatible { vec!["compatible".to_owned()] } else { reasons.collect() }
    })?;
    if compatible {
        Ok(())
    } else {
        Err(Failure::Failed(format!("{} is not compatible with subject {}", file.file.display(), file.subject)))
    }
}

fn delete(subject: &str, version: Option<u32>, yes: bool, client: &Client, output: &mut Output) -> Result<(), Failure> {
    let what = if version.is_some() { "delete a version of subject" } else { "delete subject" };
    if !yes && !confirmed(what, subject)? {
        return Err(Failure::Usage(format!("nothing of subject {subject} was deleted: --yes deletes without asking")));
    }
    let rest = version.map_or_else(String::new, |version| format!("/versions/{version}"));
    client.blocking(client.delete(&path(subject, &rest)))?;
    let text = version.map_or_else(|| format!("deleted subject {subject}"), |v| format!("deleted version {v} of subject {subject}"));
    output.value_or_lines(&json!({"deleted": subject, "version": version}), || vec![text])
}

fn path(subject: &str, rest: &str) -> String {
    format!("/v1/schemas/{}{rest}", segment(subject))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_is_told_by_the_ending() {
        let kind = |name: &str| Kind::of(Path::new(name));
        assert_eq!((kind("a.avsc"), kind("b/c.proto"), kind("d.json")), (Some(Kind::Avro), Some(Kind::Protobuf), Some(Kind::Json)));
        assert_eq!((kind("a"), kind("-"), kind("a.txt")), (None, None, None));
    }
}
