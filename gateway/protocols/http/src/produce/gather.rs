//! Whole lines gathered from a body of any length, in chunks of bounded size with room in the ingest buffer.
//!
//! Must never hold more than a chunk and one unfinished line.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use lakefall_queue::Error;
use lakefall_queue::verbs::Admission;
use memchr::memrchr;

use super::options::Job;
use crate::body::Incoming;
use crate::problem::Result;

/// Bytes of a chunk: large enough that a chunk's costs do not count, small enough that several in flight fit the buffer.
pub(crate) const CHUNK: usize = 1 << 20;

/// Room asked for when a chunk turns out longer.
const STEP: usize = 256 << 10;

/// How often a stream asks again for room before it gives up, and how long it pauses: with the waiting that `admit`
/// does itself, several seconds, in which the sender is held up by TCP.
const PATIENCE: u32 = 50;
const PAUSE: Duration = Duration::from_millis(100);

/// The lines of one body.
pub(crate) struct Gather {
    incoming: Incoming,
    buffer: BytesMut,
    admission: Admission,
    room: usize,
    ended: bool,
}

impl Gather {
    /// Nothing read yet.
    pub(crate) fn new(incoming: Incoming) -> Self {
        Self { incoming, buffer: BytesMut::new(), admission: Admission::default(), room: 0, ended: false }
    }

    /// Reads until `target` bytes of whole lines are here or the body ends; `None` after its end. Cancel-safe.
    pub(crate) async fn chunk(&mut self, job: &Job, target: usize) -> Result<Option<(Bytes, Admission)>> {
        loop {
            if self.ended {
                return Ok(self.rest());
            }
            if self.buffer.len() >= target
                && let Some(cut) = memrchr(b'\n', &self.buffer)
            {
                return Ok(Some(self.split(cut + 1)));
            }
            self.make_room(job, target.min(CHUNK)).await?;
            match self.incoming.next().await? {
                Some(bytes) => self.keep(&bytes, job)?,
                None => self.ended = true,
            }
        }
    }

    /// Waits for at least one whole line and takes what is here at once; `None` after the end. Cancel-safe.
    ///
    /// Room is asked for once the bytes are here: a stream that is silent holds none.
    pub(crate) async fn available(&mut self, job: &Job) -> Result<Option<(Bytes, Admission)>> {
        loop {
            if self.ended {
                return Ok(self.rest());
            }
            if let Some(cut) = memrchr(b'\n', &self.buffer) {
                self.make_room(job, 0).await?;
                return Ok(Some(self.split(cut + 1)));
            }
            let mut piece = Some(self.incoming.next().await?);
            while let Some(bytes) = piece.take() {
                match bytes {
                    Some(bytes) => self.keep(&bytes, job)?,
                    None => self.ended = true,
                }
                if !self.ended && self.buffer.len() < CHUNK {
                    piece = self.incoming.next().now_or_never().transpose()?;
                }
            }
        }
    }

    fn keep(&mut self, bytes: &[u8], job: &Job) -> Result<()> {
        if self.buffer.capacity() == 0 {
            self.buffer.reserve(bytes.len());
        }
        self.buffer.extend_from_slice(bytes);
        let limit = job.shape.limits.batch_bytes;
        let unfinished = self.buffer.len() > limit && memrchr(b'\n', &self.buffer).is_none();
        if unfinished {
            return Err(Error::TooLarge { what: "a line", limit: limit as u64, actual: self.buffer.len() as u64 }.into());
        }
        Ok(())
    }

    async fn make_room(&mut self, job: &Job, least: usize) -> Result<()> {
        let wanted = least.max(self.buffer.len());
        if wanted <= self.room {
            return Ok(());
        }
        let step = (wanted - self.room).max(if self.room == 0 { 0 } else { STEP });
        let mut tries = 0;
        loop {
            match job.api.verbs.admit(&job.caller, step).await {
                Ok(more) => {
                    self.admission.join(more);
                    self.room += step;
                    return Ok(());
                }
                Err(Error::Unavailable { .. }) if tries < PATIENCE => {
                    tries += 1;
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn split(&mut self, cut: usize) -> (Bytes, Admission) {
        let chunk = self.buffer.split_to(cut).freeze();
        // A new allocation: the old one belongs to the chunk. The unfinished line is all that is copied.
        let mut fresh = BytesMut::with_capacity(self.buffer.len().max(chunk.len().min(CHUNK + STEP)));
        fresh.extend_from_slice(&self.buffer);
        self.buffer = fresh;
        self.room = 0;
        (chunk, std::mem::take(&mut self.admission))
    }

    fn rest(&mut self) -> Option<(Bytes, Admission)> {
        let rest = std::mem::take(&mut self.buffer);
        (!rest.is_empty()).then(|| (rest.freeze(), std::mem::take(&mut self.admission)))
    }

    /// Whether the body's length is known to be larger than `limit`.
    pub(crate) fn exceeds(&self, limit: usize) -> bool {
        self.incoming.exact_length().is_some_and(|length| length > limit as u64)
    }

    /// Whether the body was read to its end.
    pub(crate) fn ended(&self) -> bool {
        self.ended
    }
}
