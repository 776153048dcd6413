//! One caller's news: first what it missed since it was here last, then what becomes durable, and which shards are served
//! here whenever that changes. A caller that reads too slowly is told that it missed something; nobody waits for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::Stream;
use lakefall_queue::ShardId;
use lakefall_queue::id::JournalSeq;
use tokio::sync::broadcast::error::TryRecvError;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::super::codec::{news_to_proto, positions_to_proto};
use super::super::proto::{NewsFrame, Served};
use super::Host;
use crate::node::{Followed, News};

/// Notices in a frame, about: it is closed with the news that reach it. At some 100 bytes each, far below the limit.
const FRAME_NOTICES: usize = 8_192;
/// News with more notices than this are too large to be told: its callers look for themselves.
const MOST_NOTICES: usize = 400_000;

struct Watch {
    host: Arc<dyn Host>,
    stop: CancellationToken,
    changes: watch::Receiver<u64>,
    live: broadcast::Receiver<Arc<News>>,
    served: BTreeMap<ShardId, JournalSeq>,
    first: Option<NewsFrame>,
}

/// The frames, made when the connection is free to write one. Ends when the replica stops.
pub(super) fn news(
    host: Arc<dyn Host>,
    seen: BTreeMap<ShardId, JournalSeq>,
    stop: CancellationToken,
) -> impl Stream<Item = Result<NewsFrame, Status>> + Send + 'static {
    // Before the first look, so that no change falls between the two.
    let changes = host.changes();
    let Followed { at, missed, live } = host.follow(&seen);
    let served = served(&*host, &at);
    let first = NewsFrame {
        news: missed.iter().map(|news| news_to_proto(&told(news))).collect(),
        served: Some(Served { shards: positions_to_proto(&served) }),
    };
    let watch = Watch { host, stop, changes, live, served, first: Some(first) };
    futures::stream::unfold(watch, |mut watch| async move { watch.frame().await.map(|frame| (Ok(frame), watch)) })
}

/// What is served here, and how far each is known to be; 0 where that is not known.
fn served(host: &dyn Host, at: &BTreeMap<ShardId, JournalSeq>) -> BTreeMap<ShardId, JournalSeq> {
    let me = host.me();
    let here = host.roster().holdings.into_iter().filter(|holding| holding.owner.as_ref().is_some_and(|owner| owner.id == me.id));
    here.map(|holding| (holding.shard, at.get(&holding.shard).copied().unwrap_or_default())).collect()
}

fn told(news: &Arc<News>) -> Arc<News> {
    match &**news {
        News::Durable { notices, .. } if notices.len() > MOST_NOTICES => Arc::new(News::Missed),
        News::Durable { .. } | News::Missed => Arc::clone(news),
    }
}

impl Watch {
    async fn frame(&mut self) -> Option<NewsFrame> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        loop {
            tokio::select! {
                news = self.live.recv() => {
                    let first = news.map_err(|error| match error {
                        broadcast::error::RecvError::Lagged(behind) => TryRecvError::Lagged(behind),
                        broadcast::error::RecvError::Closed => TryRecvError::Closed,
                    });
                    return self.gather(first);
                }
                changed = self.changes.changed() => {
                    changed.ok()?;
                    let served = served(&*self.host, &BTreeMap::new());
                    if !served.keys().eq(self.served.keys()) {
                        let frame = NewsFrame { news: Vec::new(), served: Some(Served { shards: positions_to_proto(&served) }) };
                        self.served = served;
                        return Some(frame);
                    }
                }
                () = self.stop.cancelled() => return None,
            }
        }
    }

    /// A frame of these news and all that wait.
    fn gather(&mut self, first: Result<Arc<News>, TryRecvError>) -> Option<NewsFrame> {
        let (mut frame, mut notices, mut next) = (NewsFrame::default(), 0, first);
        loop {
            let news = match next {
                Ok(news) => told(&news),
                Err(TryRecvError::Lagged(_)) => Arc::new(News::Missed),
                Err(TryRecvError::Empty) => return Some(frame),
                // The replica is gone; what was gathered before is told first.
                Err(TryRecvError::Closed) => return Some(frame).filter(|frame| !frame.news.is_empty()),
            };
            frame.news.push(news_to_proto(&news));
            notices += match &*news {
                News::Durable { notices, .. } => notices.len(),
                News::Missed => 1,
            };
            if notices >= FRAME_NOTICES {
                return Some(frame);
            }
            next = self.live.try_recv();
        }
    }
}
