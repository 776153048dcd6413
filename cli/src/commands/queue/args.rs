//! The flags of `lakefall queue`.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::settings::{MatchArgs, SettingsArgs};

/// Queues.
#[derive(Debug, Args)]
pub(crate) struct QueueArgs {
    #[command(subcommand)]
    pub(super) command: QueueCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum QueueCommand {
    /// Create a queue; without --topic with a topic of its own.
    Create {
        /// The queue.
        name: String,
        #[command(flatten)]
        settings: Box<SettingsArgs>,
        /// It is well if the queue is there already.
        #[arg(long)]
        if_not_exists: bool,
    },
    /// Change settings of a queue; those not named stay.
    Alter {
        /// The queue.
        name: String,
        #[command(flatten)]
        settings: Box<SettingsArgs>,
    },
    /// List queues.
    List,
    /// Show a queue's settings and bindings.
    Describe {
        /// The queue.
        name: String,
    },
    /// Show what is ready, leased, delayed and dead.
    Stats {
        /// The queue.
        name: String,
    },
    /// Let messages of a topic come to a queue: all, or those that match.
    Bind {
        /// The queue.
        name: String,
        /// The binding's name.
        id: String,
        /// The topic.
        topic: String,
        #[command(flatten)]
        matches: MatchArgs,
    },
    /// Take a binding away.
    Unbind {
        /// The queue.
        name: String,
        /// The binding's name.
        id: String,
    },
    /// Look at the next messages without leasing them.
    Peek {
        /// The queue.
        name: String,
        /// How many.
        #[arg(long, short = 'n', default_value_t = 10)]
        count: u32,
    },
    /// Look at the dead letters.
    DeadLetters {
        /// The queue.
        name: String,
        /// How many.
        #[arg(long, short = 'n', default_value_t = 10)]
        count: u32,
    },
    /// Put dead letters back, and wait until it is done.
    Redrive(RedriveArgs),
    /// Go on elsewhere: what was leased or waiting is forgotten.
    Seek {
        /// The queue.
        name: String,
        /// earliest, latest, an offset, or an RFC 3339 time.
        to: String,
    },
    /// Finish all messages that are there.
    Purge {
        /// The queue.
        name: String,
        /// Do not ask.
        #[arg(long, short)]
        yes: bool,
    },
    /// Delete a queue; its topics stay.
    Delete {
        /// The queue.
        name: String,
        /// Do not ask.
        #[arg(long, short)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
pub(super) struct RedriveArgs {
    /// The queue whose dead letters they are.
    pub(super) name: String,
    /// Only those for which this CEL expression is true.
    #[arg(long)]
    filter: Option<String>,
    /// To this topic instead of the one that each came from.
    #[arg(long)]
    to: Option<String>,
    /// At most this many per second.
    #[arg(long)]
    max_per_second: Option<u32>,
    /// Only count.
    #[arg(long)]
    pub(super) dry_run: bool,
}

impl RedriveArgs {
    pub(super) fn body(&self) -> Value {
        let mut body = Map::new();
        let mut put = |name: &str, value: Option<Value>| value.map(|value| body.insert(name.to_owned(), value));
        put("filter", self.filter.as_ref().map(|filter| json!(filter)));
        put("to", self.to.as_ref().map(|to| json!(to)));
        put("max_per_second", self.max_per_second.map(|rate| json!(rate)));
        put("dry_run", self.dry_run.then_some(json!(true)));
        Value::Object(body)
    }
}
