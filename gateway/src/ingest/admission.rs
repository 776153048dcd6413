//! Room in the buffer, in bytes, taken before a body is read. So memory is bounded whatever clients send.

use std::sync::Arc;
use std::time::Duration;

use lakefall_queue::error::{Error, Result};
use lakefall_queue::verbs::Admission;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes are counted in units, since a semaphore counts to 2^32 at most in one step.
const UNIT: usize = 1_024;

/// The buffer's room. Clones share it.
#[derive(Clone)]
pub(crate) struct Gate {
    room: Arc<Semaphore>,
    units: u32,
    wait: Duration,
}

/// Counts what is in the buffer for as long as it lives.
struct Counted {
    _permit: OwnedSemaphorePermit,
    bytes: f64,
}

impl Drop for Counted {
    fn drop(&mut self) {
        metrics::gauge!(crate::metrics::BUFFER_BYTES).decrement(self.bytes);
    }
}

impl Gate {
    pub(crate) fn new(buffer_bytes: usize, wait: Duration) -> Self {
        let units = units(buffer_bytes);
        Self { room: Arc::new(Semaphore::new(units as usize)), units, wait }
    }

    /// Room for `bytes`; a request larger than the whole buffer gets all of it.
    pub(crate) async fn admit(&self, bytes: usize) -> Result<Admission> {
        let wanted = units(bytes).min(self.units);
        let permit = match Arc::clone(&self.room).try_acquire_many_owned(wanted) {
            Ok(permit) => permit,
            Err(_) => self.admit_later(wanted).await?,
        };
        let bytes = f64::from(wanted) * UNIT as f64;
        metrics::gauge!(crate::metrics::BUFFER_BYTES).increment(bytes);
        Ok(Admission::new(Box::new(Counted { _permit: permit, bytes })))
    }

    async fn admit_later(&self, wanted: u32) -> Result<OwnedSemaphorePermit> {
        let waited = tokio::time::timeout(self.wait, Arc::clone(&self.room).acquire_many_owned(wanted)).await;
        if let Ok(Ok(permit)) = waited {
            return Ok(permit);
        }
        metrics::counter!(crate::metrics::BUFFER_REFUSALS).increment(1);
        Err(Error::unavailable("the ingest buffer is full: the stores are slower than the producers right now"))
    }
}

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT).max(1)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_does_not_fit_is_refused_after_the_wait_and_fits_when_room_is_given_back() {
        let gate = Gate::new(10 * UNIT, Duration::from_millis(100));
        let first = gate.admit(8 * UNIT).await.unwrap();
        assert!(matches!(gate.admit(8 * UNIT).await, Err(Error::Unavailable { .. })));
        drop(first);
        assert!(gate.admit(8 * UNIT).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_larger_than_the_buffer_gets_all_of_it() {
        let gate = Gate::new(10 * UNIT, Duration::ZERO);
        let whole = gate.admit(1 << 30).await.unwrap();
        assert!(gate.admit(1).await.is_err());
        drop(whole);
        assert!(gate.admit(1).await.is_ok());
    }
}
