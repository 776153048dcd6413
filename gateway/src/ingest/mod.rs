//! From records to durable offsets: the open segment, when it leaves, its upload, its commit and the answers.
//!
//! Records of all topics and tenants gather in one open segment. It leaves when it is full, or as soon as a PUT token is
//! free and few uploads are under way: so a lone record leaves at once, and under load segments grow by themselves. An
//! idle gateway has no timer running.

mod admission;
mod bill;
mod build;
mod commit;
mod flush;
mod order;
mod pace;
mod route;
mod settle;
mod upload;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lakefall_metadata::{Account, Metadata};
use lakefall_queue::clock::Ambient;
use lakefall_queue::error::{Error, Result};
use lakefall_queue::ledger::{AtomOutcome, LayoutRun, Refusal, SettleMessages, SliceCondition};
use lakefall_queue::topic::{Compression, Urgency};
use lakefall_queue::verbs::{Admission, CursorMove, Idempotency, OrderToken};
use lakefall_queue::{NamespaceName, Offset, PartitionIndex, Record, TopicId, TraceContext};
use lakefall_service::{Tasks, failpoint};
use lakefall_storage::cache::Cache;
use lakefall_storage::store::Store;
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

pub(crate) use admission::Gate;
pub(crate) use order::{OrderKey, Orders};
pub(crate) use route::{Routed, Router};

/// Pauses between repetitions grow from the first to the second.
const PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(2));

/// How records become objects.
#[derive(Clone, Debug)]
pub struct IngestConfig {
    /// A segment that holds this many bytes of records leaves.
    pub target_bytes: usize,
    /// A record batch is closed at this many bytes before compression.
    pub batch_bytes: usize,
    /// PUT requests per second; `None` is no limit.
    pub puts_per_second: Option<f64>,
    /// PUT requests that may be saved up.
    pub put_burst: u32,
    /// Uploads at once, at most.
    pub uploads_max: usize,
    /// A segment that is not full waits while this many uploads are under way.
    pub uploads_eager: usize,
    /// Bytes admitted and not yet stored, at most.
    pub buffer_bytes: usize,
    /// How long a request waits for room before it is refused.
    pub admission_wait: Duration,
}

/// Records of one request for one partition.
pub(crate) struct Part {
    pub(crate) topic: TopicId,
    /// Where what the topic uses is counted.
    pub(crate) account: Arc<Account>,
    pub(crate) partition: PartitionIndex,
    pub(crate) compression: Compression,
    pub(crate) records: Vec<Record>,
    pub(crate) condition: Option<Box<SliceCondition>>,
}

/// What binds the parts of a request together.
pub(crate) struct Binding {
    pub(crate) namespace: NamespaceName,
    pub(crate) idempotency: Option<Idempotency>,
    pub(crate) layout: Vec<LayoutRun>,
    pub(crate) cursors: Vec<CursorMove>,
    /// At most one per queue.
    pub(crate) settles: Vec<SettleMessages>,
}

/// A request on its way into a segment.
pub(crate) struct Submission {
    pub(crate) parts: Vec<Part>,
    pub(crate) binding: Option<Binding>,
    pub(crate) order: Option<OrderKey>,
    pub(crate) urgency: Urgency,
    pub(crate) bytes: usize,
    pub(crate) submitted: Duration,
    pub(crate) reply: oneshot::Sender<Result<Settled>>,
    /// Given back when the request is answered.
    pub(crate) admission: Admission,
    /// What it is sent in, if that is traced.
    pub(crate) trace: Option<TraceContext>,
}

/// What became of a request.
#[derive(Debug)]
pub(crate) struct Settled {
    /// For each part.
    pub(crate) parts: Vec<PartOutcome>,
    /// For a bound request.
    pub(crate) binding: Option<AtomOutcome>,
}

/// What became of a part.
#[derive(Clone, Debug)]
pub(crate) enum PartOutcome {
    Stored(Offset),
    Duplicate(Offset),
    Refused(Refusal),
}

/// The way in. Clones share everything; its tasks hold the rest.
#[derive(Clone)]
pub(crate) struct Ingest {
    shared: Arc<Shared>,
}

/// What the tasks of the ingest share.
pub(crate) struct Shared {
    pub(crate) config: IngestConfig,
    pub(crate) store: Store,
    pub(crate) cache: Arc<Cache>,
    pub(crate) metadata: Arc<dyn Metadata>,
    pub(crate) ambient: Ambient,
    pub(crate) tasks: Tasks,
    pub(crate) open: Mutex<Open>,
    pub(crate) wake: Notify,
    pub(crate) uploads: Mutex<pace::Uploads>,
    pub(crate) orders: Orders,
    /// Uploads denied.
    pub(crate) denied: Alarm,
    /// Segments that were given up.
    pub(crate) refused: Alarm,
    streams: AtomicU64,
}

impl Shared {
    /// Half of the pause, and up to as much again: gateways that failed together do not come back together.
    fn jittered(&self, pause: Duration) -> Duration {
        let random = (self.ambient.entropy.draw() as u32) as f64 / f64::from(u32::MAX);
        pause.mul_f64(0.5 + random / 2.0)
    }
}

/// Something to be reported that happens far more often than anybody wants to read of it.
#[derive(Default)]
pub(crate) struct Alarm {
    last: Mutex<Option<Duration>>,
}

impl Alarm {
    /// Whether it was not reported for this long.
    fn due(&self, now: Duration, every: Duration) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|last| now.saturating_sub(last) >= every);
        if due {
            *last = Some(now);
        }
        due
    }
}

/// The open segment.
#[derive(Default)]
pub(crate) struct Open {
    pub(crate) submissions: Vec<Submission>,
    pub(crate) bytes: usize,
    pub(crate) closed: bool,
}

impl Ingest {
    /// Starts the task that closes segments. `stop` ends it, after the drain.
    pub(crate) fn start(
        config: IngestConfig,
        store: Store,
        cache: Arc<Cache>,
        metadata: Arc<dyn Metadata>,
        ambient: Ambient,
        tasks: &Tasks,
        stop: CancellationToken,
    ) -> Self {
        let uploads = pace::Uploads::new(&config, ambient.clock.elapsed());
        let shared = Arc::new(Shared {
            store,
            cache,
            metadata,
            ambient,
            tasks: tasks.clone(),
            open: Mutex::default(),
            wake: Notify::new(),
            uploads: Mutex::new(uploads),
            orders: Orders::default(),
            denied: Alarm::default(),
            refused: Alarm::default(),
            streams: AtomicU64::new(1),
            config,
        });
        tasks.spawn_critical("segment-flusher", flush::run(Arc::clone(&shared), stop));
        Self { shared }
    }

    pub(crate) fn now(&self) -> Duration {
        self.shared.ambient.clock.elapsed()
    }

    /// A name for a new pipelined stream.
    pub(crate) fn open_stream(&self) -> OrderToken {
        OrderToken(self.shared.streams.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
    }

    /// Nothing more of this stream may be stored.
    pub(crate) fn poison(&self, stream: OrderToken) {
        self.shared.orders.poison(stream);
    }

    /// Puts a request into the open segment. Its place among the others is taken here, before anything is awaited.
    pub(crate) fn submit(&self, submission: Submission) -> Result<()> {
        if let Some(OrderKey::Stream(token)) = submission.order
            && self.shared.orders.is_poisoned(token)
        {
            return Err(Error::StreamPoisoned);
        }
        let mut open = self.shared.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.closed {
            return Err(Error::unavailable("this gateway is shutting down: use another one"));
        }
        open.bytes += submission.bytes;
        open.submissions.push(submission);
        drop(open);
        failpoint::hit("k1");
        self.shared.wake.notify_one();
        Ok(())
    }

    /// From now on so many PUT requests may be spent in a second.
    pub(crate) fn set_puts(&self, per_second: Option<f64>, burst: u32) {
        let now = self.now();
        self.shared.uploads.lock().unwrap_or_else(PoisonError::into_inner).set_rate(per_second, burst, now);
        // What waits for a token of the old rate looks again.
        self.shared.wake.notify_one();
    }

    /// Takes no more requests and returns when all that were taken are answered.
    pub(crate) async fn drain(&self) {
        self.shared.open.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.shared.wake.notify_one();
        loop {
            let changed = self.shared.orders.idle.notified();
            let empty = self.shared.open.lock().unwrap_or_else(PoisonError::into_inner).submissions.is_empty();
            if empty && self.shared.uploads.lock().unwrap_or_else(PoisonError::into_inner).unsettled() == 0 {
                return;
            }
            changed.await;
        }
    }
}
