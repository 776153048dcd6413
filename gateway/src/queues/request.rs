//! Requests and their replies: a request is appended like any record, and its reply is the first record with the same
//! correlation id on the reply topic. However many wait on a topic, one reader of this gateway decodes it. Must never wait
//! from a place after the request: a reply could be missed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lakefall_queue::clock::Ambient;
use lakefall_queue::error::{Error, Result};
use lakefall_queue::topic::{Retention, Topic, TopicConfig};
use lakefall_queue::verbs::{Append, Caller, Precondition, Read, Request, Start, TopicAppend, Verbs};
use lakefall_queue::{Offset, PartitionIndex, Record, StoredRecord, TopicId, TopicName};
use lakefall_service::Tasks;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::topics::Topics;

/// Longest wait for a reply.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// How long the reader of a reply topic goes on when nobody waits any more: the next request need not start one.
const LINGER: Duration = Duration::from_secs(10);
/// Between two attempts to read while the stores are away.
const PAUSE: Duration = Duration::from_millis(500);
/// How long replies are kept on a topic that was made for them.
const REPLIES_KEPT: Duration = Duration::from_secs(24 * 3_600);
/// Bytes of replies read at once.
const PAGE_BYTES: usize = 4 << 20;

/// How often a reader is looked for, as the one that was found may have just ended.
const TRIES: usize = 3;

/// The replies that callers of this gateway wait for. Clones share everything.
#[derive(Clone)]
pub(crate) struct Requests {
    tails: Arc<Mutex<HashMap<TopicId, Arc<Tail>>>>,
    topics: Arc<Topics>,
    ambient: Ambient,
    tasks: Tasks,
    stop: CancellationToken,
}

/// A reply topic that somebody waits on.
struct Tail {
    topic: Arc<Topic>,
    waiting: Mutex<Waiting>,
    /// Whether the reader has its place: what is appended from then on is seen.
    placed: watch::Sender<bool>,
}

#[derive(Default)]
struct Waiting {
    next: u64,
    by_correlation: HashMap<Arc<str>, Vec<Waiter>>,
    /// The reader is gone: a new one is needed.
    ended: bool,
}

struct Waiter {
    number: u64,
    /// Records before this place in a partition are of earlier requests.
    from: Vec<(PartitionIndex, Offset)>,
    reply: oneshot::Sender<Result<StoredRecord>>,
}

/// Stops waiting when the caller goes away.
struct Registered<'a> {
    tail: &'a Tail,
    correlation: Arc<str>,
    number: u64,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        let mut waiting = self.tail.lock();
        if let Some(same) = waiting.by_correlation.get_mut(&self.correlation) {
            same.retain(|waiter| waiter.number != self.number);
            if same.is_empty() {
                waiting.by_correlation.remove(&self.correlation);
            }
        }
    }
}

impl Tail {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands replies to those who wait for them.
    fn take(&self, records: Vec<StoredRecord>) {
        let mut waiting = self.lock();
        for record in records {
            let Some(correlation) = record.properties.as_ref().and_then(|properties| properties.correlation_id.as_ref()) else { continue };
            let Some(same) = waiting.by_correlation.remove(correlation) else { continue };
            let is_earlier =
                |waiter: &Waiter| waiter.from.iter().any(|(partition, from)| *partition == record.partition && record.offset < *from);
            let (left, served): (Vec<Waiter>, Vec<Waiter>) = same.into_iter().partition(is_earlier);
            if !left.is_empty() {
                waiting.by_correlation.insert(Arc::clone(correlation), left);
            }
            for waiter in served {
                // Whoever went away needs nothing.
                let _ = waiter.reply.send(Ok(record.clone()));
            }
        }
    }

    /// Nobody is served any more.
    fn fail(&self, error: &Error) {
        let mut waiting = self.lock();
        waiting.ended = true;
        for waiter in waiting.by_correlation.drain().flat_map(|(_, same)| same) {
            let _ = waiter.reply.send(Err(error.clone()));
        }
    }

    /// Whether nobody waits: then nobody will, on this one.
    fn end_if_idle(&self) -> bool {
        let mut waiting = self.lock();
        waiting.ended = waiting.ended || waiting.by_correlation.is_empty();
        waiting.ended
    }
}

impl Requests {
    /// Nobody waits yet. Readers end with `stop`.
    pub(crate) fn new(topics: Arc<Topics>, ambient: Ambient, tasks: Tasks, stop: CancellationToken) -> Self {
        Self { tails: Arc::default(), topics, ambient, tasks, stop }
    }

    /// Appends a request and waits for its reply. Answers the reply topic and the reply.
    pub(crate) async fn ask(&self, verbs: Arc<dyn Verbs>, caller: &Caller, request: Request) -> Result<(TopicName, StoredRecord)> {
        let Request { topic, mut record, reply_to, wait, admission } = request;
        if wait > WAIT_MAX {
            return Err(Error::invalid("wait", "wait is longer than 60s"));
        }
        let replies = self.reply_topic(&*verbs, caller, &topic, &record, reply_to).await?;
        let properties = record.properties.get_or_insert_default();
        let own = properties.correlation_id.is_some();
        let correlation =
            Arc::clone(properties.correlation_id.get_or_insert_with(|| format!("{:032x}", self.ambient.entropy.draw()).into()));
        properties.reply_to = Some(replies.name.as_str().into());
        // Only the caller's own correlation id may have been used before.
        let from = if own { ends(&*verbs, caller, &replies.name).await? } else { Vec::new() };
        let (tail, number, mut answered) = self.register(&verbs, caller, &replies, &correlation, &from)?;
        let _registered = Registered { tail: &tail, correlation, number };
        let mut placed = tail.placed.subscribe();
        tokio::select! {
            // The sender lives in the tail.
            _ = placed.wait_for(|placed| *placed) => {}
            ended = &mut answered => {
                let ended = ended.unwrap_or_else(|_| Err(away()));
                return Err(ended.err().unwrap_or_else(away));
            }
        }
        let batch = TopicAppend::new(topic.clone(), vec![record]);
        let append = Append { batch, atomic: false, idempotency: None, order: None, admission };
        let appended = verbs.append(caller, append).await?;
        let (partition, offset) =
            appended.ranges.first().map_or((PartitionIndex(0), Offset(0)), |range| (range.partition, range.first_offset));
        match tokio::time::timeout(wait, answered).await {
            Ok(Ok(Ok(reply))) => Ok((replies.name.clone(), reply)),
            // It was sent: an error that says otherwise would be wrong.
            Ok(Ok(Err(error))) => Err(Error::unknown(format!("the reply cannot be read: {error}"))),
            Ok(Err(_)) => Err(Error::unknown("the gateway stopped while it waited for the reply")),
            Err(_) => Err(Error::NoReply { topic, partition, offset, waited: wait }),
        }
    }

    /// Waits on a reply topic from here on.
    fn register(
        &self,
        verbs: &Arc<dyn Verbs>,
        caller: &Caller,
        replies: &Arc<Topic>,
        correlation: &Arc<str>,
        from: &[(PartitionIndex, Offset)],
    ) -> Result<(Arc<Tail>, u64, oneshot::Receiver<Result<StoredRecord>>)> {
        for _ in 0..TRIES {
            let tail = self.tail(verbs, caller, replies);
            let mut waiting = tail.lock();
            if waiting.ended {
                continue;
            }
            waiting.next += 1;
            let number = waiting.next;
            let (reply, answered) = oneshot::channel();
            waiting.by_correlation.entry(Arc::clone(correlation)).or_default().push(Waiter { number, from: from.to_vec(), reply });
            drop(waiting);
            return Ok((tail, number, answered));
        }
        Err(away())
    }

    /// The tail of a reply topic; its reader is started if there is none, or the topic has become another one.
    fn tail(&self, verbs: &Arc<dyn Verbs>, caller: &Caller, replies: &Arc<Topic>) -> Arc<Tail> {
        let mut tails = self.tails.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |tail: &&Arc<Tail>| tail.topic.config.partitions == replies.config.partitions && !tail.lock().ended;
        if let Some(tail) = tails.get(&replies.id).filter(same) {
            return Arc::clone(tail);
        }
        let tail = Arc::new(Tail { topic: Arc::clone(replies), waiting: Mutex::default(), placed: watch::channel(false).0 });
        tails.insert(replies.id, Arc::clone(&tail));
        drop(tails);
        let caller = Caller { namespace: caller.namespace.clone(), request_id: "replies".into(), trace: None };
        let (requests, mine, verbs) = (self.clone(), Arc::clone(&tail), Arc::clone(verbs));
        self.tasks.spawn("reply-reader", async move {
            let ended = tokio::select! {
                ended = follow(&*verbs, &caller, &mine) => ended,
                () = requests.stop.cancelled() => Err(Error::unavailable("this gateway is shutting down: use another one")),
            };
            mine.fail(&ended.err().unwrap_or_else(away));
            let mut tails = requests.tails.lock().unwrap_or_else(PoisonError::into_inner);
            if tails.get(&mine.topic.id).is_some_and(|tail| Arc::ptr_eq(tail, &mine)) {
                tails.remove(&mine.topic.id);
            }
        });
        tail
    }

    /// The topic on which the reply is awaited. `<topic>.replies` is created if it is not there, as urgent as the request's topic.
    async fn reply_topic(
        &self,
        verbs: &dyn Verbs,
        caller: &Caller,
        topic: &TopicName,
        record: &Record,
        reply_to: Option<TopicName>,
    ) -> Result<Arc<Topic>> {
        let asked = self.topics.get(&caller.namespace, topic).await?;
        let named = match (reply_to, record.properties.as_ref().and_then(|properties| properties.reply_to.as_deref())) {
            (Some(named), _) => Some(named),
            (None, Some(named)) => Some(TopicName::new(named)?),
            (None, None) => None,
        };
        if let Some(named) = named {
            if named == *topic {
                return Err(Error::invalid("reply_to", "reply_to is the topic of the request itself: the request would be its own reply"));
            }
            return self.topics.get(&caller.namespace, &named).await;
        }
        let name = TopicName::new(&format!("{topic}.replies"))
            .map_err(|_| Error::invalid("reply_to", format!("{topic}.replies is too long for a name: name another topic in reply_to")))?;
        match self.topics.get(&caller.namespace, &name).await {
            Err(Error::TopicNotFound(_)) => {}
            known => return known,
        }
        let retention = Retention { age: Some(REPLIES_KEPT), bytes: None };
        let config = TopicConfig { urgency: asked.config.urgency, retention, ..TopicConfig::default() };
        match verbs.put_topic(caller, &name, config, Precondition::Absent, None).await {
            // Another request was first.
            Ok(_) | Err(Error::AlreadyExists { .. }) => self.topics.get(&caller.namespace, &name).await,
            Err(error) => Err(error),
        }
    }
}

fn away() -> Error {
    Error::unavailable("replies cannot be awaited right now")
}

async fn ends(verbs: &dyn Verbs, caller: &Caller, topic: &TopicName) -> Result<Vec<(PartitionIndex, Offset)>> {
    let positions = verbs.offsets(caller, topic, None, Start::Latest).await?;
    Ok(positions.into_iter().map(|position| (position.partition, position.next)).collect())
}

/// Reads a reply topic from its end on, until nobody waits any more.
async fn follow(verbs: &dyn Verbs, caller: &Caller, tail: &Tail) -> Result<()> {
    let topic = &tail.topic.name;
    let mut from: Vec<(PartitionIndex, Start)> = Vec::new();
    loop {
        if from.is_empty() {
            from = ends(verbs, caller, topic).await?.into_iter().map(|(partition, end)| (partition, Start::Offset(end))).collect();
            tail.placed.send_replace(true);
        }
        let read = Read {
            topic: topic.clone(),
            from: from.clone(),
            max_records: 1_000,
            max_bytes: PAGE_BYTES,
            until_offset: None,
            until_timestamp: None,
            wait: LINGER,
        };
        match verbs.read(caller, read).await {
            Ok(fetched) => {
                from = fetched.next.iter().map(|position| (position.partition, Start::Offset(position.next))).collect();
                let idle = fetched.records.is_empty();
                tail.take(fetched.records);
                if idle && tail.end_if_idle() {
                    return Ok(());
                }
            }
            Err(Error::Unavailable { .. } | Error::Unknown { .. }) if !tail.end_if_idle() => tokio::time::sleep(PAUSE).await,
            // Trimmed while it was read: what is gone is nobody's reply any more.
            Err(Error::BelowLogStart { partition, log_start, .. }) => {
                let at = from.iter_mut().find(|(of, _)| *of == partition);
                at.into_iter().for_each(|(_, start)| *start = Start::Offset(log_start));
            }
            Err(error) => return Err(error),
        }
    }
}
