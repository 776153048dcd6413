//! What became durable, told to whoever listens; and remembered for a while, so that one who lost the connection goes on
//! where it was.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lakefall_queue::id::JournalSeq;
use lakefall_queue::ledger::Notice;
use lakefall_queue::{QueueId, ShardId};
use tokio::sync::broadcast;

/// News that a subscriber may lag behind; beyond it it is told so and has to look for itself.
const LIVE: usize = 4_096;
/// News remembered of a shard at most.
const REMEMBERED: usize = 4_096;
/// And so many bytes of them, about.
const REMEMBERED_BYTES: usize = 1 << 20;

/// What subscribers are told.
#[derive(Clone, Debug)]
pub enum News {
    /// One group of a shard became durable; or something is due there by itself ([`Notice::QueueReady`]), told at the last
    /// entry that became durable, and perhaps again.
    Durable {
        /// Where.
        shard: ShardId,
        /// The group's entry; never less than that of the news before it.
        seq: JournalSeq,
        /// In the order in which they were applied.
        notices: Vec<Notice>,
    },
    /// Something became durable that this subscriber was not told of: what it remembers of any topic may be stale.
    Missed,
}

/// What a subscriber that had seen something gets.
#[derive(Debug)]
pub struct Followed {
    /// How far each shard that is served here is, `missed` and `live` apart: from where to resume when nothing more comes.
    pub at: BTreeMap<ShardId, JournalSeq>,
    /// What came since, in order; [`News::Missed`] where that is no longer known.
    pub missed: Vec<Arc<News>>,
    /// What comes from here on: nothing is in both, and nothing in neither.
    pub live: broadcast::Receiver<Arc<News>>,
}

/// Where owners tell their news. Clones share everything.
#[derive(Clone)]
pub(crate) struct NewsDesk(Arc<Desk>);

struct Desk {
    live: broadcast::Sender<Arc<News>>,
    /// Of the shards that are served here. Held while something is sent, so that a follower misses nothing in between.
    reigns: Mutex<BTreeMap<ShardId, Remembered>>,
}

/// The last news of a reign.
struct Remembered {
    /// Everything after this entry is remembered.
    complete_after: JournalSeq,
    /// The last entry, also one without notices.
    at: JournalSeq,
    news: VecDeque<(JournalSeq, usize, Arc<News>)>,
    bytes: usize,
    /// Queues in which something became due by itself, and the last entry when that was told. One who was told of that entry
    /// may have gone before.
    reminded: BTreeMap<QueueId, JournalSeq>,
}

impl NewsDesk {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Desk { live: broadcast::channel(LIVE).0, reigns: Mutex::default() }))
    }

    /// A reign began with the entry `first`, which tells nothing. What became durable before it may not have been told, as
    /// the owner before died between the one and the other.
    pub(crate) fn begin(&self, shard: ShardId, first: JournalSeq) {
        let before = JournalSeq(first.0.saturating_sub(1));
        let remembered = Remembered { complete_after: before, at: first, news: VecDeque::new(), bytes: 0, reminded: BTreeMap::new() };
        self.lock().insert(shard, remembered);
        // An error means that nobody listens.
        let _ = self.0.live.send(Arc::new(News::Missed));
    }

    /// The reign is over: who follows the shard goes elsewhere.
    pub(crate) fn end(&self, shard: ShardId) {
        self.lock().remove(&shard);
    }

    pub(crate) fn publish(&self, shard: ShardId, seq: JournalSeq, notices: Vec<Notice>) {
        let mut reigns = self.lock();
        let Some(reign) = reigns.get_mut(&shard) else { return };
        reign.at = seq;
        if notices.is_empty() {
            return;
        }
        let weight = notices.iter().map(weight).sum();
        let news = Arc::new(News::Durable { shard, seq, notices });
        reign.remember(seq, weight, Arc::clone(&news));
        let _ = self.0.live.send(news);
    }

    /// Tells of queues in which something is due by itself: no entry goes with it.
    pub(crate) fn remind(&self, shard: ShardId, notices: Vec<Notice>) {
        let mut reigns = self.lock();
        let Some(reign) = reigns.get_mut(&shard).filter(|_| !notices.is_empty()) else { return };
        let seq = reign.at;
        for notice in &notices {
            if let Notice::QueueReady { queue } = notice {
                reign.reminded.insert(*queue, seq);
            }
        }
        let _ = self.0.live.send(Arc::new(News::Durable { shard, seq, notices }));
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Arc<News>> {
        self.0.live.subscribe()
    }

    pub(crate) fn follow(&self, seen: &BTreeMap<ShardId, JournalSeq>) -> Followed {
        let reigns = self.lock();
        let live = self.0.live.subscribe();
        let mut missed = Vec::new();
        let mut all_known = true;
        for (shard, reign) in reigns.iter() {
            // One who saw nothing of a shard remembers nothing of it.
            let Some(seen) = seen.get(shard) else { continue };
            all_known &= *seen >= reign.complete_after;
            missed.extend(reign.news.iter().filter(|(seq, ..)| seq > seen).map(|(.., news)| Arc::clone(news)));
            missed.extend(reign.reminders(*shard, *seen).map(Arc::new));
        }
        if !all_known {
            missed.insert(0, Arc::new(News::Missed));
        }
        Followed { at: reigns.iter().map(|(shard, reign)| (*shard, reign.at)).collect(), missed, live }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ShardId, Remembered>> {
        self.0.reigns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Remembered {
    fn remember(&mut self, seq: JournalSeq, weight: usize, news: Arc<News>) {
        self.bytes += weight;
        self.news.push_back((seq, weight, news));
        while self.news.len() > REMEMBERED || self.bytes > REMEMBERED_BYTES {
            let Some((seq, weight, _)) = self.news.pop_front() else { break };
            self.bytes -= weight;
            self.complete_after = seq;
            // Who saw less than this is told that it missed something anyway.
            self.reminded.retain(|_, at| *at >= seq);
        }
    }

    /// What one who saw that much may not have been reminded of. Twice does no harm.
    fn reminders(&self, shard: ShardId, seen: JournalSeq) -> Option<News> {
        let due = self.reminded.iter().filter(|(_, at)| **at >= seen);
        let notices: Vec<Notice> = due.map(|(queue, _)| Notice::QueueReady { queue: *queue }).collect();
        (!notices.is_empty()).then_some(News::Durable { shard, seq: self.at, notices })
    }
}

/// Bytes that a notice takes, about.
fn weight(notice: &Notice) -> usize {
    size_of::<Notice>()
        + match notice {
            Notice::Appended { .. } => 0,
            Notice::TopicChanged { namespace, name, .. } => namespace.as_str().len() + name.as_str().len(),
            Notice::QueueChanged { namespace, name, .. } | Notice::QueueOver { namespace, name, .. } => {
                namespace.as_str().len() + name.as_str().len()
            }
            Notice::QueueReady { .. } => 0,
        }
}
