//! Reads a history line by line, holding one at a time. Must answer whatever bytes there are: an error with its line, never a
//! panic, and never more memory than a line has.

use std::io::{BufRead, Read};

use super::codec::from_line;
use super::{Event, Header};
use crate::clock::Nanos;

/// Longest line.
const LONGEST: u64 = 64 << 20;

/// Why a file is no history.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {cause}")]
pub struct Bad {
    /// The line, from 1.
    pub line: u64,
    /// What is wrong with it.
    pub cause: String,
}

/// Events of a history, one after the other, with their lines.
#[derive(Debug)]
pub struct Reader<R> {
    from: R,
    header: Header,
    line: u64,
    now: Nanos,
    buffer: Vec<u8>,
}

impl<R: BufRead> Reader<R> {
    /// Reads the header.
    pub fn new(from: R) -> Result<Self, Bad> {
        let mut reader = Self { from, header: Header::default(), line: 0, now: 0, buffer: Vec::new() };
        if !reader.fill()? {
            return Err(Bad { line: 1, cause: "the file is empty".to_owned() });
        }
        reader.header = Header::from_line(&reader.buffer).map_err(|cause| Bad { line: 1, cause })?;
        Ok(reader)
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The next line into the buffer, without its end. False at the end of the file.
    fn fill(&mut self) -> Result<bool, Bad> {
        self.buffer.clear();
        self.line += 1;
        let bad = |cause: String| Bad { line: self.line, cause };
        let read = self.from.by_ref().take(LONGEST + 1).read_until(b'\n', &mut self.buffer).map_err(|error| bad(error.to_string()))?;
        if read == 0 {
            return Ok(false);
        }
        match self.buffer.pop() {
            Some(b'\n') => Ok(true),
            _ if read as u64 > LONGEST => Err(bad(format!("longer than {LONGEST} bytes"))),
            // Of a writer that was killed: what was written of the line tells nothing for certain.
            _ => Err(bad("the file ends within the line".to_owned())),
        }
    }

    /// The next event with its line.
    pub fn next_event(&mut self) -> Result<Option<(u64, Event)>, Bad> {
        if !self.fill()? {
            return Ok(None);
        }
        let line = self.line;
        let event = from_line(&self.buffer).map_err(|cause| Bad { line, cause })?;
        if event.at < self.now {
            return Err(Bad { line, cause: format!("t_ns goes back from {} to {}", self.now, event.at) });
        }
        self.now = event.at;
        Ok(Some((line, event)))
    }
}

impl<R: BufRead> Iterator for Reader<R> {
    type Item = Result<(u64, Event), Bad>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_event().transpose()
    }
}
