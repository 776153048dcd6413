//! What happened, as clients saw it: sends, reads, commits, queues, faults and looks behind the API, on one clock. Must never
//! judge: the checker does.

mod codec;
mod event;
mod header;
mod reader;
mod recorder;
#[cfg(test)]
mod tests;
mod value;

use std::io::Write;
use std::path::Path;

pub use crate::clock::Nanos;
pub use event::{
    Answer, Append, Call, CursorMove, Dead, Delivered, Dump, Event, LeaseId, MessageAt, Name, OpId, Process, Promise, Read, RecordId,
    Refusal, Run, Seen, Sent, Status, Verb, What,
};
pub use header::{Expect, Header, QueueFacts, TopicFacts};
pub use reader::{Bad, Reader};
pub use recorder::{Recorder, Tape};
pub use value::{body, hash, parse_id, runs};

pub(crate) use codec::to_line;

/// A whole history.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// What is known of the run.
    pub header: Header,
    /// The events, in the order in which they were recorded.
    pub events: Vec<Event>,
}

impl History {
    /// Writes it as JSON lines: the format of `docs/history-format.md`.
    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
        self.write_to(&mut file)?;
        file.flush()
    }

    /// The same, to anything.
    pub fn write_to(&self, out: &mut impl Write) -> std::io::Result<()> {
        out.write_all(self.header.to_line().as_bytes())?;
        for event in &self.events {
            out.write_all(to_line(event).as_bytes())?;
        }
        Ok(())
    }
}
