//! `lakefall queue`: create, list, describe, alter, watch and empty queues. Messages are sent and received by
//! `lakefall send`, `receive` and `work`.

mod args;
mod settings;

pub(crate) use args::QueueArgs;
use args::{QueueCommand, RedriveArgs};
use reqwest::Method;
use serde_json::{Value, json};
pub(super) use settings::pair;

use super::operation::carried_out;
use super::topic::{cell, confirmed};
use super::{Client, Output, segment};
use crate::failure::Failure;

/// Runs `lakefall queue`.
pub(crate) fn queue(args: &QueueArgs, client: &Client, output: &mut Output) -> Result<(), Failure> {
    match &args.command {
        QueueCommand::Create { name, settings, if_not_exists } => {
            let mut body = settings.body();
            body.insert("name".to_owned(), json!(name));
            let body = Value::Object(body);
            let created = if *if_not_exists {
                client.blocking(client.create_if_absent("/v1/queues", &body))?
            } else {
                client.blocking(client.send(Method::POST, "/v1/queues", &body))?
            };
            let text = if created.is_null() { format!("queue {name} was there already") } else { format!("created queue {name}") };
            output.value_or_lines(&created, || vec![text])
        }
        QueueCommand::Alter { name, settings } => {
            let changed = client.blocking(client.send(Method::PATCH, &path(name, ""), &Value::Object(settings.body())))?;
            output.value_or_lines(&changed, || vec![format!("changed queue {name}")])
        }
        QueueCommand::List => {
            let queues = client.blocking(client.list("/v1/queues"))?;
            let rows: Vec<_> =
                queues.iter().map(|queue| ["name", "topics", "lease", "created_at"].map(|field| cell(&queue[field])).to_vec()).collect();
            output.table(&queues, &["QUEUE", "TOPICS", "LEASE", "CREATED"], &rows)
        }
        QueueCommand::Describe { name } => fields(&client.blocking(client.get(&path(name, "")))?, output),
        QueueCommand::Stats { name } => fields(&client.blocking(client.get(&path(name, "/stats")))?, output),
        QueueCommand::Bind { name, id, topic, matches } => {
            let body = json!({"topic": topic, "match": matches.body()});
            let bound = client.blocking(client.send(Method::PUT, &path(name, &format!("/bindings/{}", segment(id))), &body))?;
            output.value_or_lines(&bound, || vec![format!("bound queue {name} to topic {topic} as {id}")])
        }
        QueueCommand::Unbind { name, id } => {
            client.blocking(client.delete(&path(name, &format!("/bindings/{}", segment(id)))))?;
            output.value_or_lines(&json!({"unbound": id}), || vec![format!("took binding {id} away from queue {name}")])
        }
        QueueCommand::Peek { name, count } => {
            let answer = client.blocking(client.send_unkeyed(Method::POST, &path(name, "/peek"), &json!({"max": count})))?;
            messages(&answer, output)
        }
        QueueCommand::DeadLetters { name, count } => {
            messages(&client.blocking(client.get(&path(name, &format!("/dead-letters?limit={count}"))))?, output)
        }
        QueueCommand::Redrive(args) => redrive(args, client, output),
        QueueCommand::Seek { name, to } => {
            let moved = client.blocking(client.send_unkeyed(Method::POST, &path(name, "/seek"), &json!({"to": settings::start(to)})))?;
            output.value_or_lines(&moved, || vec![format!("queue {name} goes on at {to}")])
        }
        QueueCommand::Purge { name, yes } => {
            if !yes && !confirmed("finish all messages of queue", name)? {
                return Err(Failure::Usage(format!("queue {name} was not purged: --yes purges without asking")));
            }
            let purged = client.blocking(client.send_unkeyed(Method::POST, &path(name, "/purge"), &json!({})))?;
            output.value_or_lines(&purged, || vec![format!("purged queue {name}")])
        }
        QueueCommand::Delete { name, yes } => {
            if !yes && !confirmed("delete queue", name)? {
                return Err(Failure::Usage(format!("queue {name} was not deleted: --yes deletes without asking")));
            }
            client.blocking(client.delete(&path(name, "")))?;
            output.value_or_lines(&json!({"deleted": name}), || vec![format!("deleted queue {name}; its topics are still there")])
        }
    }
}

pub(super) fn path(queue: &str, rest: &str) -> String {
    format!("/v1/queues/{}{rest}", segment(queue))
}

/// A resource, one field per line.
fn fields(resource: &Value, output: &mut Output) -> Result<(), Failure> {
    output.value_or_lines(resource, || {
        resource.as_object().into_iter().flatten().map(|(field, value)| format!("{field:<22} {}", cell(value))).collect()
    })
}

/// Messages, one per line, as they were answered.
fn messages(answer: &Value, output: &mut Output) -> Result<(), Failure> {
    output.value_or_lines(answer, || answer["messages"].as_array().into_iter().flatten().map(ToString::to_string).collect())
}

/// Starts putting dead letters back, and stays until it is done.
fn redrive(args: &RedriveArgs, client: &Client, output: &mut Output) -> Result<(), Failure> {
    let ended = client.blocking(carried_out(client, &path(&args.name, "/redrive"), &args.body()))?;
    let word = if args.dry_run { "would put back" } else { "put back" };
    output.value_or_lines(&ended, || {
        vec![format!("{word} {} dead letters, passed over {}", cell(&ended["done"]), cell(&ended["skipped"]))]
    })?;
    match ended["status"].as_str() {
        Some("succeeded") => Ok(()),
        _ => Err(Failure::Failed(format!("the redrive did not end well: {}", cell(&ended["error"])))),
    }
}
