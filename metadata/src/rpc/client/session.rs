//! A client's session with one replica: many callers' asks in few frames. It knows of each ask whether it was handed to the
//! connection: one that was not, was certainly not applied.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use lakefall_queue::{ShardId, Timestamp, TraceContext};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

use super::super::codec::replica_from_proto;
use super::super::outbox::Outbox;
use super::super::proto::metadata_client::MetadataClient;
use super::super::proto::{Answers, Ask, Asks, answered, ask};
use super::super::{SESSION_ASKS, SESSION_BYTES};
use super::dial::{CallError, call_error, describe};
use super::time::Told;
use crate::metrics as names;
use crate::store::Replica;

/// What is asked, encoded.
#[derive(Clone, Debug)]
pub(super) enum What {
    Command(Bytes),
    Query(Bytes),
}

/// What a replica said.
#[derive(Debug)]
pub(super) enum Said {
    /// An encoded outcome.
    Outcome(Bytes),
    /// It does not serve the shard; nothing was done.
    Elsewhere(Option<Replica>),
}

/// Why nothing was said.
#[derive(Clone, Debug)]
pub(super) enum Lost {
    /// It never left: certainly not applied.
    NotSent(String),
    /// It left, and the answer did not come: it may have been applied.
    Broken(String),
    /// The replica does not take this caller; certainly not applied.
    Refused(String),
    /// The caller's time is over; the flag tells whether the ask had left.
    Late { sent: bool },
}

/// A handle; the session itself is a task.
pub(super) struct Session {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    asks: Outbox<(u64, Ask)>,
    /// Callers beyond wait; so does memory.
    places: Semaphore,
    bytes: Semaphore,
    /// Of the task: nobody needs it any more.
    stop: CancellationToken,
    time: Arc<Told>,
}

#[derive(Default)]
struct State {
    last_id: u64,
    waiting: HashMap<u64, Waiting>,
    /// The replica is there.
    answered: bool,
    /// Takes no more asks, and why.
    over: Option<Lost>,
}

struct Waiting {
    to: oneshot::Sender<Result<Said, Lost>>,
    /// When it was handed to the connection.
    sent: Option<Instant>,
}

impl Session {
    /// A session that is about to be opened, and the task that opens and carries it. Asks may be put in at once.
    pub(super) fn open(
        client: MetadataClient<Channel>,
        dress: impl FnOnce(AskFrames) -> Request<AskFrames>,
        stop: CancellationToken,
        time: Arc<Told>,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            asks: Outbox::new(),
            places: Semaphore::new(SESSION_ASKS),
            bytes: Semaphore::new(SESSION_BYTES),
            stop,
            time,
        });
        let request = dress(AskFrames { shared: Arc::clone(&shared) });
        (Self { shared: Arc::clone(&shared) }, run(Ending(shared), client, request))
    }

    /// Whether it takes asks.
    pub(super) fn is_open(&self) -> bool {
        self.shared.lock().over.is_none()
    }

    /// Whether the replica ever answered its call: if not, it is not there, or takes no one.
    pub(super) fn was_answered(&self) -> bool {
        self.shared.lock().answered
    }

    /// Asks, and waits for the answer until `until`. Dropped before its ask was written, it is never written.
    pub(super) async fn ask(&self, shard: ShardId, what: What, trace: Option<TraceContext>, until: Instant) -> Result<Said, Lost> {
        let late = tokio::time::sleep_until(until);
        tokio::pin!(late);
        let size = what.len();
        let room = async {
            let place = self.shared.places.acquire().await;
            let bytes = self.shared.bytes.acquire_many(u32::try_from(size.min(SESSION_BYTES)).unwrap_or(u32::MAX)).await;
            (place, bytes)
        };
        let _room = tokio::select! {
            room = room => room,
            () = &mut late => return Err(Lost::Late { sent: false }),
        };
        let (to, said) = oneshot::channel();
        let id = self.shared.enter(to)?;
        let caller = Waits { shared: &self.shared, id };
        let within = until.saturating_duration_since(Instant::now()).as_millis();
        let traceparent = trace.map(|trace| trace.to_string()).unwrap_or_default();
        let ask = Ask { id, shard: shard.0, within_ms: u32::try_from(within).unwrap_or(u32::MAX), what: Some(what.into()), traceparent };
        if self.shared.asks.put((id, ask), size).is_err() {
            return Err(self.shared.why_over());
        }
        tokio::select! {
            // Dropped only with the session itself, whose end answers everyone.
            said = said => said.unwrap_or_else(|_| Err(Lost::Broken("the session ended".to_owned()))),
            () = &mut late => Err(Lost::Late { sent: caller.leave() }),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

impl What {
    /// Bytes on the wire, about.
    fn len(&self) -> usize {
        let (Self::Command(bytes) | Self::Query(bytes)) = self;
        bytes.len() + 24
    }
}

impl From<What> for ask::What {
    fn from(what: What) -> Self {
        match what {
            What::Command(bytes) => Self::Command(bytes),
            What::Query(bytes) => Self::Query(bytes),
        }
    }
}

/// A caller's entry, removed when it stops waiting.
struct Waits<'a> {
    shared: &'a Shared,
    id: u64,
}

impl Waits<'_> {
    /// Whether the ask had left.
    fn leave(&self) -> bool {
        // Answered or ended in this very moment: that it had left is the safe thing to say.
        self.shared.lock().waiting.remove(&self.id).is_none_or(|waiting| waiting.sent.is_some())
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.shared.lock().waiting.remove(&self.id);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, to: oneshot::Sender<Result<Said, Lost>>) -> Result<u64, Lost> {
        let mut state = self.lock();
        if let Some(over) = &state.over {
            return Err(unsent(over));
        }
        state.last_id += 1;
        let id = state.last_id;
        state.waiting.insert(id, Waiting { to, sent: None });
        Ok(id)
    }

    fn why_over(&self) -> Lost {
        self.lock().over.as_ref().map_or_else(|| Lost::NotSent("the session is over".to_owned()), unsent)
    }

    /// Takes no more asks. Those that were not written go back; those that were are waited for, unless `all` are given up.
    fn over(&self, why: &Lost, all: bool) {
        let mut state = self.lock();
        state.over.get_or_insert_with(|| why.clone());
        let leaves = |waiting: &Waiting| all || waiting.sent.is_none();
        let leaving: Vec<Waiting> = state.waiting.extract_if(|_, waiting| leaves(waiting)).map(|(_, waiting)| waiting).collect();
        drop(state);
        self.asks.close();
        for waiting in leaving {
            let lost = if waiting.sent.is_none() { unsent(why) } else { why.clone() };
            // A caller that is gone has stopped waiting.
            let _ = waiting.to.send(Err(lost));
        }
    }

    fn answered(&self, frame: Answers) {
        let now = Instant::now();
        let mut quickest = Duration::MAX;
        let mut state = self.lock();
        for answered in frame.answers {
            // `None`: the caller is gone, or the replica says it twice.
            let Some(waiting) = state.waiting.remove(&answered.id) else { continue };
            if let Some(sent) = waiting.sent {
                quickest = quickest.min(now.saturating_duration_since(sent));
            }
            let said = match answered.what {
                Some(answered::What::Outcome(bytes)) => Ok(Said::Outcome(bytes)),
                Some(answered::What::Elsewhere(elsewhere)) => Ok(Said::Elsewhere(elsewhere.owner.as_ref().and_then(replica_from_proto))),
                None => Err(Lost::Broken("the metadata replica answered in a way that this program does not know".to_owned())),
            };
            let _ = waiting.to.send(said);
        }
        drop(state);
        self.time.told(Timestamp::from_millis(frame.now_ms), quickest);
    }
}

fn unsent(why: &Lost) -> Lost {
    match why {
        Lost::Broken(reason) | Lost::NotSent(reason) => Lost::NotSent(reason.clone()),
        Lost::Refused(reason) => Lost::Refused(reason.clone()),
        Lost::Late { .. } => Lost::Late { sent: false },
    }
}

/// Answers everyone who still waits, also when the task is dropped or panics.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.over(&Lost::Broken("the session ended".to_owned()), true);
    }
}

async fn run(ending: Ending, mut client: MetadataClient<Channel>, request: Request<AskFrames>) {
    let shared = &ending.0;
    let why = tokio::select! {
        why = converse(shared, &mut client, request) => why,
        () = shared.stop.cancelled() => Lost::Broken("this process stops".to_owned()),
    };
    shared.over(&why, true);
}

/// Returns why it ended.
async fn converse(shared: &Shared, client: &mut MetadataClient<Channel>, request: Request<AskFrames>) -> Lost {
    let mut answers: Streaming<Answers> = match client.session(request).await {
        Ok(response) => {
            shared.lock().answered = true;
            response.into_inner()
        }
        Err(status) => {
            return match call_error(&status) {
                CallError::Refused(reason) => Lost::Refused(reason),
                CallError::Broken(reason) => Lost::Broken(reason),
            };
        }
    };
    loop {
        match answers.message().await {
            Ok(Some(frame)) => {
                if frame.stopping {
                    shared.over(&Lost::NotSent("the metadata replica is stopping".to_owned()), false);
                }
                shared.answered(frame);
            }
            Ok(None) => return Lost::Broken("the metadata replica ended the session".to_owned()),
            Err(status) => return Lost::Broken(broke(&status)),
        }
    }
}

fn broke(status: &Status) -> String {
    format!("the connection to the metadata replica broke ({})", describe(status))
}

/// The frames of asks, made when the connection is free to write one.
pub(super) struct AskFrames {
    shared: Arc<Shared>,
}

impl Stream for AskFrames {
    type Item = Asks;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Asks>> {
        let mut state = self.shared.lock();
        let now = Instant::now();
        let frame = self.shared.asks.poll_frame(context, |(id, ask)| {
            // Gone from there: its caller was told that it was not sent, or stopped waiting.
            let waiting = state.waiting.get_mut(&id)?;
            waiting.sent = Some(now);
            Some(ask)
        });
        frame.map(|asks| {
            asks.map(|asks| {
                metrics::histogram!(names::RPC_FRAME_ASKS, "side" => "client").record(asks.len() as f64);
                Asks { asks }
            })
        })
    }
}
