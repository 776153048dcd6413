//! The journal entry: one group of commands, as bytes. Format: [`proto::JournalEntry`] (`proto/ledger.proto`), version 1.

use prost::Message;
use thiserror::Error as ThisError;

use super::Command;
use super::codec::{command_from_proto, command_to_proto};
use super::rows::proto;
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
        proto::JournalEntry {
            version: VERSION,
            shard: self.shard.0,
            seq: self.seq.0,
            epoch: self.epoch.0,
            time_ms: self.time.as_millis(),
            commands: self.commands.iter().map(command_to_proto).collect(),
        }
        .encode_to_vec()
    }

    /// From bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, EntryError> {
        let wire = proto::JournalEntry::decode(bytes).map_err(|e| EntryError::Corrupt(e.to_string()))?;
        if wire.version == 0 || wire.version > VERSION {
            return Err(EntryError::UnknownVersion(wire.version));
        }
        let commands = wire.commands.into_iter().map(command_from_proto).collect::<Result<_, _>>();
        Ok(Self {
            shard: ShardId(wire.shard),
            seq: JournalSeq(wire.seq),
            epoch: Epoch(wire.epoch),
            time: Timestamp::from_millis(wire.time_ms),
            commands: commands.map_err(|e| EntryError::Corrupt(e.0))?,
        })
    }
}
