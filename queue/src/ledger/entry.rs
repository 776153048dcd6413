//! The journal entry: one group of commands, as bytes. Format: [`proto::JournalEntry`] (`proto/ledger.proto`), version 1.
//!
//! Reports of usage stand apart from the other commands, each with its place among them: a program that does not know usage passes
//! over them and serves the shard without these counts, where a command that it does not know would stop it.

use prost::Message;
use thiserror::Error as ThisError;

use super::codec::{Decoded, Malformed, command_from_proto, command_to_proto, required};
use super::rows::proto;
use super::{Command, usage_codec};
use crate::id::{Epoch, JournalSeq, ShardId};
use crate::time::Timestamp;

/// The version that this program writes. It reads 1 to this.
const VERSION: u32 = 1;

/// A durable step of a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalEntry {
    /// Whose step.
    pub shard: ShardId,
    /// Its place, from 1, without gaps.
    pub seq: JournalSeq,
    /// Whose reign.
    pub epoch: Epoch,
    /// The group's time.
    pub time: Timestamp,
    /// What changed the state, in order. Empty: a new owner's first entry.
    pub commands: Vec<Command>,
}

/// Why an entry cannot be read or replayed. Always a reason to stop: the journal is damaged or from a newer program.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
pub enum EntryError {
    /// Written by a newer program.
    #[error("journal entry has version {0}: this program reads up to {VERSION}; upgrade it")]
    UnknownVersion(u32),
    /// Not an entry.
    #[error("journal entry cannot be read: {0}")]
    Corrupt(String),
    /// A gap or a repetition.
    #[error("journal entry {found} stands where {expected} is expected")]
    OutOfTurn {
        /// The next sequence.
        expected: u64,
        /// What was found.
        found: u64,
    },
    /// Its epoch or time is older than that of the one before.
    #[error("journal entry {seq} goes back in epoch or time")]
    WentBack {
        /// Which entry.
        seq: u64,
    },
    /// A command that changed the state when it was written does not change it now (L6).
    #[error("journal entry {seq} does not apply to the state before it")]
    NotReproduced {
        /// Which entry.
        seq: u64,
    },
}

impl JournalEntry {
    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        let (mut commands, mut usage) = (Vec::with_capacity(self.commands.len()), Vec::new());
        for command in &self.commands {
            match command {
                Command::ReportUsage(report) => {
                    let report = Some(usage_codec::report_to_proto(report));
                    usage.push(proto::UsageAt { before: commands.len() as u64, report });
                }
                command => commands.push(command_to_proto(command)),
            }
        }
        proto::JournalEntry {
            version: VERSION,
            shard: self.shard.0,
            seq: self.seq.0,
            epoch: self.epoch.0,
            time_ms: self.time.as_millis(),
            commands,
            usage,
        }
        .encode_to_vec()
    }

    /// From bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, EntryError> {
        let wire = proto::JournalEntry::decode(bytes).map_err(|e| EntryError::Corrupt(e.to_string()))?;
        if wire.version == 0 || wire.version > VERSION {
            return Err(EntryError::UnknownVersion(wire.version));
        }
        let commands = in_order(wire.commands, wire.usage);
        Ok(Self {
            shard: ShardId(wire.shard),
            seq: JournalSeq(wire.seq),
            epoch: Epoch(wire.epoch),
            time: Timestamp::from_millis(wire.time_ms),
            commands: commands.map_err(|e| EntryError::Corrupt(e.0))?,
        })
    }
}

/// All commands, each report of usage in its place. Those of entries that have it among the other commands are where they are.
fn in_order(commands: Vec<proto::Command>, usage: Vec<proto::UsageAt>) -> Decoded<Vec<Command>> {
    let mut all = Vec::with_capacity(commands.len() + usage.len());
    let (mut commands, mut passed) = (commands.into_iter(), 0);
    for proto::UsageAt { before, report } in usage {
        if before < passed {
            return Err(Malformed("reports of usage are not in order".to_owned()));
        }
        while passed < before {
            all.push(command_from_proto(required(commands.next(), "a command before a report of usage")?)?);
            passed += 1;
        }
        let report = required(report, "a report of usage")?;
        all.push(Command::ReportUsage(Box::new(usage_codec::report_from_proto(report)?)));
    }
    for command in commands {
        all.push(command_from_proto(command)?);
    }
    Ok(all)
}
