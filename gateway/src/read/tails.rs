//! Who waits for records, and what was appended lately. Fed by the ledger's notices; nobody polls.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lakefall_metadata::{Metadata, News};
use lakefall_queue::ledger::Notice;
use lakefall_queue::planted::{self, Bug};
use lakefall_queue::{Offset, PartitionIndex, TopicId};
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;

use super::At;
use super::locations::{Bounds, Locations};
use crate::queues::Bell;
use crate::topics::Topics;

/// Who else is told of notices.
pub(crate) struct Listeners {
    pub(crate) topics: Arc<Topics>,
    pub(crate) queues: Arc<Bell>,
}

/// The topics that somebody waits on.
pub(crate) struct Tails {
    watched: Mutex<HashMap<TopicId, Arc<TopicTail>>>,
    locations: Arc<Locations>,
}

/// A topic that somebody waits on.
struct TopicTail {
    /// Where partitions end, as notices told since somebody waits.
    ends: Mutex<HashMap<PartitionIndex, Offset>>,
    /// Raised when notices may have been missed, or the topic changed.
    doubts: AtomicU64,
    version: watch::Sender<u64>,
}

/// One waiting reader.
pub(super) struct Watcher {
    topic: Arc<TopicTail>,
    version: watch::Receiver<u64>,
    doubts: u64,
}

impl Tails {
    pub(super) fn new(locations: Arc<Locations>) -> Self {
        Self { watched: Mutex::default(), locations }
    }

    /// Waits on a topic from here on.
    pub(super) fn watch(&self, topic: TopicId) -> Watcher {
        let fresh = || Arc::new(TopicTail { ends: Mutex::default(), doubts: AtomicU64::new(0), version: watch::channel(0).0 });
        let topic = Arc::clone(self.lock().entry(topic).or_insert_with(fresh));
        let version = topic.version.subscribe();
        let doubts = topic.doubts.load(Ordering::SeqCst);
        Watcher { topic, version, doubts }
    }

    /// Takes in what became durable. What is remembered comes before those who are woken look there.
    fn take(&self, news: &News, listeners: &Listeners) {
        let notices = match news {
            News::Durable { notices, .. } => notices,
            News::Missed => return self.missed(listeners),
        };
        self.locations.notice(notices);
        let mut watched = self.lock();
        for notice in notices {
            match notice {
                Notice::Appended { topic, partition, extent } => {
                    if let Some(tail) = watched.get(topic) {
                        tail.append(*partition, extent.end());
                    }
                    listeners.queues.appended(*topic, *partition, extent.end());
                }
                Notice::TopicChanged { namespace, name, topic } => {
                    listeners.topics.forget(namespace, name);
                    if let Some(tail) = watched.get(topic) {
                        tail.doubt();
                    }
                }
                Notice::QueueChanged { namespace, name, queue } => listeners.queues.changed(namespace, name, *queue),
                Notice::QueueReady { queue } => listeners.queues.ready(*queue),
                Notice::QueueOver { namespace, name, .. } => listeners.queues.over(namespace, name),
            }
        }
        // Nobody but the map holds it: nobody waits.
        watched.retain(|_, tail| Arc::strong_count(tail) > 1);
    }

    /// Notices were missed: nothing that is remembered can be trusted to be the newest.
    fn missed(&self, listeners: &Listeners) {
        metrics::counter!(crate::metrics::NEWS_MISSED).increment(1);
        listeners.topics.forget_all();
        listeners.queues.missed();
        self.locations.forget_all();
        for tail in self.lock().values() {
            tail.doubt();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TopicId, Arc<TopicTail>>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TopicTail {
    fn append(&self, partition: PartitionIndex, end: Offset) {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        let told = ends.entry(partition).or_insert(end);
        *told = end.max(*told);
        drop(ends);
        self.version.send_modify(|version| *version += 1);
    }

    fn doubt(&self) {
        self.doubts.fetch_add(1, Ordering::SeqCst);
        self.version.send_modify(|version| *version += 1);
    }
}

impl Watcher {
    /// Returns when something was appended or changed since the last call.
    pub(super) async fn changed(&mut self) {
        if planted::is(Bug::WakeUpLost) {
            self.version.mark_unchanged();
        }
        // The sender lives in `topic`, which this watcher holds.
        let _ = self.version.changed().await;
    }

    /// Tells a reader what it need not ask for: how far its partitions reach by now. After a doubt it must ask.
    pub(super) fn tell(&mut self, places: &mut [At]) {
        let doubts = self.topic.doubts.load(Ordering::SeqCst);
        if doubts != self.doubts {
            self.doubts = doubts;
            places.iter_mut().for_each(|at| at.current = false);
        }
        let ends = self.topic.ends.lock().unwrap_or_else(PoisonError::into_inner);
        for at in places.iter_mut().filter(|at| at.located) {
            if let Some(end) = ends.get(&at.partition) {
                at.told(Bounds { end: *end, ..at.bounds }, at.current);
            }
        }
    }
}

/// The task that takes in notices.
pub(crate) async fn run(
    tails: Arc<Tails>,
    listeners: Listeners,
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
            Ok(news) => tails.take(&news, &listeners),
            Err(broadcast::error::RecvError::Lagged(_)) => tails.missed(&listeners),
            // The metadata service is gone: the process is stopping.
            Err(broadcast::error::RecvError::Closed) => {
                stop.cancelled().await;
                return Ok(());
            }
        }
    }
}
