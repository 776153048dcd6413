//! Who waits for records, and what was appended lately. Fed by the ledger's notices; nobody polls.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lakefall_metadata::{Metadata, NoticeBatch};
use lakefall_queue::ledger::{Extent, Notice};
use lakefall_queue::{Offset, PartitionIndex, TopicId};
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use crate::topics::Topics;

/// Extents of a partition that are remembered for those who wait.
const RING: usize = 64;

/// The topics that somebody waits on.
#[derive(Default)]
pub(crate) struct Tails {
    watched: Mutex<HashMap<TopicId, Arc<TopicTail>>>,
}

/// A topic that somebody waits on.
pub(crate) struct TopicTail {
    recent: Mutex<HashMap<PartitionIndex, VecDeque<Extent>>>,
    version: watch::Sender<u64>,
}

/// One waiting reader.
pub(crate) struct Watcher {
    pub(crate) topic: Arc<TopicTail>,
    version: watch::Receiver<u64>,
}

impl Tails {
    /// Waits on a topic from here on.
    pub(crate) fn watch(&self, topic: TopicId) -> Watcher {
        let fresh = || Arc::new(TopicTail { recent: Mutex::default(), version: watch::channel(0).0 });
        let topic = Arc::clone(self.lock().entry(topic).or_insert_with(fresh));
        let version = topic.version.subscribe();
        Watcher { topic, version }
    }

    /// Takes in what became durable.
    fn take(&self, batch: &NoticeBatch, topics: &Topics) {
        let mut watched = self.lock();
        for notice in &batch.notices {
            match notice {
                Notice::Appended { topic, partition, extent } => {
                    if let Some(tail) = watched.get(topic) {
                        tail.append(*partition, *extent);
                    }
                }
                Notice::TopicChanged { namespace, name, topic } => {
                    topics.forget(namespace, name);
                    if let Some(tail) = watched.get(topic) {
                        tail.forget();
                    }
                }
            }
        }
        // Nobody but the map holds it: nobody waits.
        watched.retain(|_, tail| Arc::strong_count(tail) > 1);
    }

    /// Notices were missed: nothing that is remembered can be trusted to be the newest.
    fn missed(&self, topics: &Topics) {
        topics.forget_all();
        for tail in self.lock().values() {
            tail.forget();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TopicId, Arc<TopicTail>>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TopicTail {
    fn append(&self, partition: PartitionIndex, extent: Extent) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let ring = recent.entry(partition).or_default();
        if ring.back().is_some_and(|last| last.end() != extent.base_offset) {
            ring.clear();
        }
        if ring.len() == RING {
            ring.pop_front();
        }
        ring.push_back(extent);
        drop(recent);
        self.version.send_modify(|version| *version += 1);
    }

    fn forget(&self) {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.version.send_modify(|version| *version += 1);
    }

    /// The extents from the one that holds `from` on, and the end after them; `None` if they are not all remembered.
    pub(crate) fn extents(&self, partition: PartitionIndex, from: Offset) -> Option<(Vec<Extent>, Offset)> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let ring = recent.get(&partition)?;
        let (first, last) = (ring.front()?, ring.back()?);
        if from < first.base_offset || from >= last.end() {
            return None;
        }
        Some((ring.iter().filter(|extent| extent.end() > from).copied().collect(), last.end()))
    }
}

impl Watcher {
    /// Returns when something was appended or changed since the last call.
    pub(crate) async fn changed(&mut self) {
        // The sender lives in `topic`, which this watcher holds.
        let _ = self.version.changed().await;
    }
}

/// The task that takes in notices.
pub(crate) async fn run(
    tails: Arc<Tails>,
    topics: Arc<Topics>,
    metadata: Arc<dyn Metadata>,
    stop: CancellationToken,
) -> Result<(), Infallible> {
    let mut notices = metadata.subscribe();
    loop {
        let received = tokio::select! {
            received = notices.recv() => received,
            () = stop.cancelled() => return Ok(()),
        };
        match received {
            Ok(batch) => tails.take(&batch, &topics),
            Err(broadcast::error::RecvError::Lagged(_)) => tails.missed(&topics),
            // The metadata service is gone: the process is stopping.
            Err(broadcast::error::RecvError::Closed) => {
                stop.cancelled().await;
                return Ok(());
            }
        }
    }
}
