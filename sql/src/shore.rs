//! Calls to a [`Source`] from the threads that queries run on. What waits for stores runs where the gateway's own waiting
//! does: a connection that both use must not be left to a thread that is busy with rows.

use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use futures::StreamExt;
use lakefall_queue::ledger::Extent;
use lakefall_queue::topic::Topic;
use lakefall_queue::{Error, Offset, PartitionIndex, Result};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::engine::Counters;
use crate::source::{RecordPortions, Source, Stored};

/// Portions of records that are read ahead.
const AHEAD: usize = 2;

/// A source, and the gateway's own threads.
#[derive(Clone)]
pub(crate) struct Shore {
    source: Arc<dyn Source>,
    handle: Handle,
    counters: Arc<Counters>,
}

impl std::fmt::Debug for Shore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shore")
    }
}

impl Shore {
    pub(crate) fn new(source: Arc<dyn Source>, handle: Handle, counters: Arc<Counters>) -> Self {
        Self { source, handle, counters }
    }

    pub(crate) fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Asks the source. What is under way ends when nobody waits for it.
    pub(crate) async fn ask<T, F>(&self, ask: impl FnOnce(Arc<dyn Source>) -> F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        joined(AbortOnDropHandle::new(self.handle.spawn(ask(Arc::clone(&self.source))))).await
    }

    /// Begins to read ranges of a file.
    pub(crate) fn read(
        &self,
        topic: &Arc<Topic>,
        stored: &Stored,
        ranges: Vec<Range<u64>>,
        anew: bool,
    ) -> AbortOnDropHandle<Result<Vec<Bytes>>> {
        let bytes = ranges.iter().map(|range| range.end - range.start).sum();
        self.counters.bytes_read.fetch_add(bytes, Relaxed);
        let (source, topic, stored) = (Arc::clone(&self.source), Arc::clone(topic), stored.clone());
        AbortOnDropHandle::new(self.handle.spawn(async move { source.read(&topic, &stored, ranges, anew).await }))
    }

    /// Begins to read records.
    pub(crate) fn records(&self, topic: &Arc<Topic>, partition: PartitionIndex, extent: Extent, from: Offset) -> RecordPortions {
        self.counters.bytes_read.fetch_add(extent.length.into(), Relaxed);
        let (source, topic) = (Arc::clone(&self.source), Arc::clone(topic));
        let (send, receive) = mpsc::channel(AHEAD);
        let pump = AbortOnDropHandle::new(self.handle.spawn(async move {
            let mut portions = source.records(topic, partition, extent, from);
            while let Some(portion) = portions.next().await {
                if send.send(portion).await.is_err() {
                    return;
                }
            }
        }));
        let state = (receive, Some(pump));
        let portions = futures::stream::unfold(state, |(mut receive, pump)| async move {
            if let Some(portion) = receive.recv().await {
                return Some((portion, (receive, pump)));
            }
            // It ended; whether well is to be known before the rows count as all there are.
            match pump?.await {
                Ok(()) => None,
                Err(error) => Some((Err(Error::Internal(error.to_string())), (receive, None))),
            }
        });
        portions.boxed()
    }
}

/// What a task on the gateway's threads came to.
pub(crate) async fn joined<T>(task: AbortOnDropHandle<Result<T>>) -> Result<T> {
    task.await.unwrap_or_else(|error| Err(Error::Internal(error.to_string())))
}
