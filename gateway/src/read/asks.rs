//! Questions to the metadata service on behalf of readers: however many ask the same at once, it is asked once; and nobody
//! waits for an answer for long. Must never let a reader join a question that was on its way before: the answer could be
//! older than what the reader's caller already knows.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt, Shared};
use lakefall_metadata::Metadata;
use lakefall_queue::error::{Error, Result};
use lakefall_queue::ledger::{Answer, Located, Query, Refusal};
use lakefall_queue::topic::PartitionStatus;
use lakefall_queue::{Offset, PartitionIndex, ShardId, Timestamp, TopicId};

use super::Failure;
use super::locations::{Bounds, Locations};

/// How long a question is waited for: a little longer than a shard without its owner is without one (a lease of 5 s, and 2 s
/// until another has it), so that readers do not notice. Past it they are told to come again.
pub(crate) const ASK_FOR: Duration = Duration::from_secs(8);
/// After a question that was not answered in time, how long nobody else waits for the same shard in vain.
const AWAY_FOR: Duration = Duration::from_secs(1);
/// Questions remembered before those are swept whose askers went away.
const SWEEP_AT: usize = 1_024;

/// A question about a topic. Equal ones have equal answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Question {
    /// [`Query::Locate`].
    Locate { topic: TopicId, partition: PartitionIndex, from: Offset, max_bytes: u64, max_extents: usize },
    /// [`Query::LocateTime`].
    Time { topic: TopicId, partition: PartitionIndex, at: Timestamp },
    /// [`Query::Partitions`].
    Partitions(TopicId),
}

type Asked = Shared<BoxFuture<'static, Result<Arc<Answer>, Failure>>>;

/// One question, as often as it is asked at the moment.
#[derive(Default)]
struct Asking {
    under_way: Option<Asked>,
    /// Leaves when the one under way is answered. Whoever asks until then joins.
    next: Option<Asked>,
}

impl Asking {
    /// Whether those who asked went away.
    fn abandoned(&self) -> bool {
        // The next one holds the one that it waits for.
        let alone = |asked: &Option<Asked>, others: usize| asked.as_ref().and_then(Shared::strong_count).unwrap_or(0) <= 1 + others;
        alone(&self.next, 0) && alone(&self.under_way, usize::from(self.next.is_some()))
    }
}

/// The questions under way.
pub(crate) struct Asks(Arc<Shelf>);

struct Shelf {
    metadata: Arc<dyn Metadata>,
    locations: Arc<Locations>,
    asking: Mutex<HashMap<Question, Asking>>,
    /// Shards that did not answer in time, and until when nobody asks them.
    away: Mutex<HashMap<ShardId, tokio::time::Instant>>,
}

impl Asks {
    pub(crate) fn new(metadata: Arc<dyn Metadata>, locations: Arc<Locations>) -> Self {
        Self(Arc::new(Shelf { metadata, locations, asking: Mutex::default(), away: Mutex::default() }))
    }

    /// Where records are. What is answered is remembered.
    pub(super) async fn located(&self, question: Question) -> Result<Located, Failure> {
        match &*self.ask(question).await? {
            Answer::Located(located) if located.deleted => Err(Failure::TopicGone),
            Answer::Located(located) => Ok(located.clone()),
            other => Err(Failure::Refused(Error::Internal(format!("asked where records are, got {other:?}")))),
        }
    }

    /// How a topic's partitions stand, in order.
    pub(super) async fn partitions(&self, topic: TopicId) -> Result<Vec<PartitionStatus>, Failure> {
        match &*self.ask(Question::Partitions(topic)).await? {
            Answer::Partitions(status) => Ok(status.clone()),
            other => Err(Failure::Refused(Error::Internal(format!("asked for partitions, got {other:?}")))),
        }
    }

    async fn ask(&self, question: Question) -> Result<Arc<Answer>, Failure> {
        metrics::counter!(crate::metrics::LOCATES, "from" => "question").increment(1);
        let shard = question.topic().shard();
        let now = tokio::time::Instant::now();
        if self.0.away().get(&shard).is_some_and(|until| *until > now) {
            return Err(Failure::Away(silent()));
        }
        let Ok(answered) = tokio::time::timeout(ASK_FOR, self.0.join(question)).await else {
            return Err(self.0.silent(shard));
        };
        answered
    }
}

impl Shelf {
    /// The next question of this kind to leave.
    fn join(self: &Arc<Self>, question: Question) -> Asked {
        let mut all = self.asking();
        if all.len() >= SWEEP_AT {
            all.retain(|_, asking| !asking.abandoned());
        }
        let asking = all.entry(question).or_default();
        if let Some(next) = &asking.next {
            return next.clone();
        }
        let (shelf, before) = (Arc::clone(self), asking.under_way.clone());
        let next = async move {
            if let Some(before) = before {
                // Its own askers take its answer.
                let _ = before.await;
            }
            shelf.leaves(question);
            let answered = shelf.send(question).await;
            shelf.answered(question);
            answered
        };
        asking.next.insert(next.boxed().shared()).clone()
    }

    fn leaves(&self, question: Question) {
        if let Some(asking) = self.asking().get_mut(&question) {
            asking.under_way = asking.next.take();
        }
    }

    fn answered(&self, question: Question) {
        let mut all = self.asking();
        if let Some(asking) = all.get_mut(&question) {
            asking.under_way = None;
            if asking.next.is_none() {
                all.remove(&question);
            }
        }
    }

    async fn send(&self, question: Question) -> Result<Arc<Answer>, Failure> {
        let asked = self.locations.asked();
        metrics::counter!(crate::metrics::QUESTIONS).increment(1);
        let sent = self.metadata.query(question.topic().shard(), question.query());
        let answer = match tokio::time::timeout(ASK_FOR, sent).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(failure(error)),
            Err(_) => return Err(self.silent(question.topic().shard())),
        };
        match (question, &answer) {
            (Question::Locate { topic, partition, .. }, Answer::Located(located)) if !located.deleted => {
                self.locations.learn(topic, partition, located, asked);
            }
            (Question::Partitions(topic), Answer::Partitions(status)) => {
                self.locations.learn_all(topic, status.iter().map(|s| (s.partition, Bounds::from(s))), &[], asked);
            }
            _ => {}
        }
        Ok(Arc::new(answer))
    }

    fn silent(&self, shard: ShardId) -> Failure {
        self.away().insert(shard, tokio::time::Instant::now() + AWAY_FOR);
        Failure::Away(silent())
    }

    fn asking(&self) -> MutexGuard<'_, HashMap<Question, Asking>> {
        self.asking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn away(&self) -> MutexGuard<'_, HashMap<ShardId, tokio::time::Instant>> {
        self.away.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Question {
    fn topic(&self) -> TopicId {
        match self {
            Self::Locate { topic, .. } | Self::Time { topic, .. } | Self::Partitions(topic) => *topic,
        }
    }

    fn query(self) -> Query {
        match self {
            Self::Locate { topic, partition, from, max_bytes, max_extents } => {
                Query::Locate { topic, partition, from, max_bytes, max_extents }
            }
            Self::Time { topic, partition, at } => Query::LocateTime { topic, partition, at },
            Self::Partitions(topic) => Query::Partitions(topic),
        }
    }
}

/// What a refused question means to a reader. Nothing was to be applied, so nothing is in doubt.
fn failure(error: Error) -> Failure {
    if error == Refusal::TopicGone.into_error() {
        return Failure::TopicGone;
    }
    match error {
        Error::Unavailable { reason, retry_after } => {
            Failure::Away(Error::Unavailable { reason: format!("where these records are cannot be told right now: {reason}"), retry_after })
        }
        Error::Unknown { reason } => {
            Failure::Away(Error::unavailable(format!("where these records are cannot be told right now: {reason}")))
        }
        other => Failure::Refused(other),
    }
}

fn silent() -> Error {
    Error::unavailable("where these records are cannot be told right now: the metadata service does not answer")
}
