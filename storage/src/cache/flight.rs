//! One fetch per block, however many ask. The fetch runs in a task of its own: a reader that goes away neither stops
//! it nor leaves the others waiting. Such a task lives no longer than the store's own timeouts.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt, Shared};

use super::block::BlockKey;
use crate::store::StoreError;

type Landing = Shared<BoxFuture<'static, Result<Bytes, StoreError>>>;
/// Readers may believe an object to be of different length: a fetch for less does not serve one who needs more.
type Key = (BlockKey, u64);

/// The fetches under way.
#[derive(Clone, Debug, Default)]
pub(super) struct Flights(Arc<Mutex<HashMap<Key, Landing>>>);

impl Flights {
    /// Joins the fetch of `key` that reaches `reach` bytes into the block, or begins it with `start`. `landed` is asked first, under the lock: a fetch
    /// that ended since the caller looked has left its result there.
    pub(super) fn join<F>(
        &self,
        key: BlockKey,
        reach: u64,
        landed: impl FnOnce() -> Option<Bytes>,
        start: impl FnOnce() -> F,
    ) -> BoxFuture<'static, Result<Bytes, StoreError>>
    where
        F: Future<Output = Result<Bytes, StoreError>> + Send + 'static,
    {
        let key = (key, reach);
        let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flights.get(&key) {
            return flight.clone().boxed();
        }
        if let Some(bytes) = landed() {
            return std::future::ready(Ok(bytes)).boxed();
        }
        let (fetch, ended) = (start(), Ended { flights: self.0.clone(), key });
        let task = tokio::spawn(async move {
            let _ended = ended;
            fetch.await
        });
        let flight = async move {
            task.await.unwrap_or_else(|error| Err(StoreError::Unavailable { reason: format!("a cache fetch ended early: {error}") }))
        };
        let flight = flight.boxed().shared();
        flights.insert(key, flight.clone());
        flight.boxed()
    }
}

/// Strikes a fetch off the list however it ends, so that a later reader tries anew.
struct Ended {
    flights: Arc<Mutex<HashMap<Key, Landing>>>,
    key: Key,
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}
