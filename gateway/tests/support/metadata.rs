//! The metadata service as one gateway sees it, with its questions counted: it can go away, and its notices can be withheld.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use lakefall_metadata::{Identity, Metadata, News};
use lakefall_queue::error::{Error, Result};
use lakefall_queue::ledger::{Answer, Command, Query, Reply};
use lakefall_queue::{SegmentId, ShardId};
use tokio::sync::{broadcast, watch};

/// How the service answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Serving,
    /// It says at once that it is away.
    Refusing,
    /// It says nothing until its mood changes.
    Silent,
    /// It answers questions as things stand, but the answers arrive only when its mood changes.
    Late,
    /// So it is with leases, and with nothing else.
    LateLeases,
}

pub(crate) struct Watched {
    pub(crate) node: Arc<dyn Metadata>,
    mood: watch::Sender<Mood>,
    queries: AtomicUsize,
    silence: Option<broadcast::Sender<Arc<News>>>,
    commits: Mutex<Vec<SegmentId>>,
    moved: Mutex<BTreeMap<SegmentId, SegmentId>>,
}

impl Watched {
    pub(crate) fn new(node: Arc<dyn Metadata>, deaf: bool) -> Arc<Self> {
        Arc::new(Self {
            node,
            mood: watch::channel(Mood::Serving).0,
            queries: AtomicUsize::new(0),
            silence: deaf.then(|| broadcast::channel(16).0),
            commits: Mutex::default(),
            moved: Mutex::default(),
        })
    }

    /// Questions asked so far.
    pub(crate) fn queries(&self) -> usize {
        self.queries.load(Ordering::SeqCst)
    }

    pub(crate) fn be(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }

    /// Segments whose commit was asked for, as often as it was.
    pub(crate) fn commits(&self) -> Vec<SegmentId> {
        self.commits.lock().unwrap().clone()
    }

    /// Tells a deaf gateway something.
    pub(crate) fn tell(&self, news: News) {
        self.silence.as_ref().unwrap().send(Arc::new(news)).unwrap();
    }

    /// From here on, records of one object are said to lie in another.
    pub(crate) fn say_moved(&self, from: SegmentId, to: SegmentId) {
        self.moved.lock().unwrap().insert(from, to);
    }

    async fn serve(&self) -> Result<()> {
        let mut mood = self.mood.subscribe();
        let mood = *mood.wait_for(|mood| *mood != Mood::Silent).await.unwrap();
        if mood == Mood::Refusing { Err(Error::unavailable("the metadata service is away")) } else { Ok(()) }
    }
}

#[async_trait]
impl Metadata for Watched {
    fn shards(&self) -> u32 {
        self.node.shards()
    }

    async fn execute(&self, shard: ShardId, command: Command) -> Result<Reply> {
        if let Command::Commit(commit) = &command {
            self.commits.lock().unwrap().push(commit.segment);
        }
        self.serve().await?;
        let leases = matches!(command, Command::Receive(_));
        let reply = self.node.execute(shard, command).await;
        if leases {
            self.mood.subscribe().wait_for(|mood| *mood != Mood::LateLeases).await.unwrap();
        }
        reply
    }

    async fn query(&self, shard: ShardId, query: Query) -> Result<Answer> {
        self.queries.fetch_add(1, Ordering::SeqCst);
        self.serve().await?;
        let mut answer = self.node.query(shard, query).await?;
        if let Answer::Located(located) = &mut answer {
            let moved = self.moved.lock().unwrap();
            for extent in &mut located.extents {
                extent.object = moved.get(&extent.object).copied().unwrap_or(extent.object);
            }
        }
        self.mood.subscribe().wait_for(|mood| *mood != Mood::Late).await.unwrap();
        Ok(answer)
    }

    fn subscribe(&self) -> broadcast::Receiver<Arc<News>> {
        self.silence.as_ref().map_or_else(|| self.node.subscribe(), broadcast::Sender::subscribe)
    }

    async fn identity(&self) -> Result<Identity> {
        self.node.identity().await
    }
}
