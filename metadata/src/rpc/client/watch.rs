//! News of all shards in one channel: a stream from every replica, each going on where it was after it broke. A shard of
//! which something may have been missed, as it is followed for the first time, is told as [`News::Missed`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lakefall_queue::ShardId;
use lakefall_queue::id::JournalSeq;
use tokio::sync::broadcast;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Status;

use super::super::codec::{news_from_proto, positions_from_proto, positions_to_proto};
use super::super::proto::{NewsFrame, WatchRequest};
use super::Core;
use super::dial::describe;
use super::directory::Address;
use super::pace::Pace;
use crate::metrics as names;
use crate::node::News;

/// News that a subscriber may lag behind; beyond it it is told so by the channel.
const LIVE: usize = 4_096;
/// Pauses before a broken stream is opened again grow from the first to the second.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// Where this client's news come together.
pub(super) struct Newsstand {
    live: broadcast::Sender<Arc<News>>,
    /// The last entry of each shard that was told here.
    seen: Mutex<BTreeMap<ShardId, JournalSeq>>,
}

impl Newsstand {
    pub(super) fn new() -> Self {
        Self { live: broadcast::channel(LIVE).0, seen: Mutex::default() }
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<Arc<News>> {
        self.live.subscribe()
    }

    fn publish(&self, news: News) {
        // An error means that nobody listens.
        let _ = self.live.send(Arc::new(news));
    }

    fn seen(&self) -> BTreeMap<ShardId, JournalSeq> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn take(&self, wire: super::super::proto::News) {
        let news = news_from_proto(wire).unwrap_or_else(|malformed| {
            tracing::warn!(%malformed, "news of the metadata service cannot be read");
            News::Missed
        });
        if let News::Durable { shard, seq, .. } = &news {
            self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(*shard, *seq);
        }
        self.publish(news);
    }

    /// A stream begins, and these shards are that far.
    fn begin(&self, at: &BTreeMap<ShardId, JournalSeq>, asked: &BTreeMap<ShardId, JournalSeq>) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut missed = false;
        for (shard, at) in at.iter().filter(|(_, at)| **at > JournalSeq(0)) {
            // New to this client, or a journal that went back: what was asked for made no sense to the replica.
            missed |= asked.get(shard).is_none_or(|asked| asked > at);
            seen.insert(*shard, *at);
        }
        drop(seen);
        if missed {
            self.publish(News::Missed);
        }
    }
}

/// Keeps a stream open to every replica, until `stop`.
pub(super) async fn run(core: Arc<Core>) {
    let mut known = core.directory.known();
    let mut streams: HashMap<Address, DropGuard> = HashMap::new();
    loop {
        let wanted: BTreeSet<Address> = {
            let known = known.borrow_and_update();
            known.replicas.iter().chain(known.owners()).cloned().collect()
        };
        // Dropping the guard ends the stream.
        streams.retain(|address, _| wanted.contains(address));
        if !wanted.is_empty() {
            core.links.keep(&wanted);
        }
        for address in wanted {
            streams.entry(address).or_insert_with_key(|address| {
                let stop = core.links.stop.child_token();
                core.links.tasks.spawn("metadata-watch", follow(Arc::clone(&core), Arc::clone(address), stop.clone()));
                stop.drop_guard()
            });
        }
        tokio::select! {
            changed = known.changed() => if changed.is_err() { return },
            () = core.links.stop.cancelled() => return,
        }
    }
}

async fn follow(core: Arc<Core>, address: Address, stop: CancellationToken) {
    let mut pace = Pace::new(PAUSE.0, PAUSE.1);
    loop {
        let began = Instant::now();
        let ended = tokio::select! {
            ended = stream(&core, &address) => ended,
            () = stop.cancelled() => return,
        };
        tracing::debug!(%address, reason = ended, "the news of a metadata replica broke off");
        metrics::counter!(names::RPC_RECONNECTS, "stream" => "watch").increment(1);
        core.directory.want();
        if began.elapsed() > PAUSE.1 * 2 {
            pace = Pace::new(PAUSE.0, PAUSE.1);
        }
        tokio::select! {
            () = tokio::time::sleep(pace.pause(&core.ambient)) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// One stream, until it breaks; why it did.
async fn stream(core: &Core, address: &Address) -> String {
    let mut client = match core.links.client(address) {
        Ok(client) => client,
        Err(reason) => return reason,
    };
    let asked = core.news.seen();
    let request = WatchRequest { seen: positions_to_proto(&asked) };
    let cluster = core.directory.look(|known| known.cluster.clone());
    let broke = |status: &Status| describe(status);
    let mut frames = match client.watch(core.links.dialer.request(request, cluster.as_deref())).await {
        Ok(response) => response.into_inner(),
        Err(status) => return broke(&status),
    };
    let mut followed: Option<Followed> = None;
    loop {
        match frames.message().await {
            Ok(Some(frame)) => {
                take(core, address, frame, followed.is_none().then_some(&asked));
                followed.get_or_insert_with(Followed::begin);
            }
            Ok(None) => return "the metadata replica ended it".to_owned(),
            Err(status) => return broke(&status),
        }
    }
}

/// A stream that began. Counted until it is dropped.
struct Followed;

impl Followed {
    fn begin() -> Self {
        metrics::gauge!(names::RPC_WATCHES).increment(1.0);
        Self
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        metrics::gauge!(names::RPC_WATCHES).decrement(1.0);
    }
}

fn take(core: &Core, address: &Address, frame: NewsFrame, first: Option<&BTreeMap<ShardId, JournalSeq>>) {
    for news in frame.news {
        core.news.take(news);
    }
    if let Some(served) = frame.served {
        let at = positions_from_proto(&served.shards);
        if let Some(asked) = first {
            core.news.begin(&at, asked);
        }
        core.directory.serves(address, &at.keys().copied().collect());
    }
}
