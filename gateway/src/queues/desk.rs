//! Where receivers of one queue wait, and what was told of the queue since somebody looked. Must never lose a word: what is
//! told while the dispatcher works is there when it looks next.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lakefall_queue::error::Result;
use lakefall_queue::planted::{self, Bug};
use lakefall_queue::queue::Queue;
use lakefall_queue::{NamespaceName, Offset, PartitionIndex, QueueId, QueueName, TopicId};
use std::sync::Arc;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::consume::Credits;
use super::deliver::Handout;

/// One queue's desk.
pub(crate) struct Desk {
    pub(super) queue: QueueId,
    pub(super) namespace: NamespaceName,
    pub(super) name: QueueName,
    /// Whether receivers wait because too many messages are leased.
    pub(super) held_back: AtomicBool,
    pub(super) credits: Credits,
    state: Mutex<State>,
    woken: Notify,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Waiting>,
    came: u64,
    working: bool,
    told: Told,
}

/// What was told since it was looked at.
#[derive(Default)]
pub(super) struct Told {
    /// Where partitions end.
    pub(super) ends: HashMap<(TopicId, PartitionIndex), Offset>,
    /// A message became ready.
    pub(super) poked: bool,
    /// The queue changed, or something was missed.
    pub(super) doubt: bool,
}

/// A receiver.
pub(super) struct Waiting {
    pub(super) max: u32,
    pub(super) max_bytes: usize,
    /// The queue's when absent.
    pub(super) lease: Option<Duration>,
    pub(super) request: Option<u128>,
    /// Whether it waits for messages to come; else it only wants what is there.
    pub(super) patient: bool,
    /// Nobody asked the ledger on its behalf.
    pub(super) fresh: bool,
    /// When it goes, unless the ledger is being asked just then.
    pub(super) until: Instant,
    /// Tells it from others at the desk, which gives it.
    pub(super) number: u64,
    /// `None`: there is nothing.
    pub(super) reply: oneshot::Sender<Result<Option<Handout>>>,
}

impl Desk {
    pub(super) fn new(queue: &Queue) -> Arc<Self> {
        Arc::new(Self {
            queue: queue.id,
            namespace: queue.namespace.clone(),
            name: queue.name.clone(),
            held_back: AtomicBool::new(false),
            credits: Credits::default(),
            state: Mutex::default(),
            woken: Notify::new(),
        })
    }

    /// A receiver comes. Answers its number, and whether a dispatcher is to be started.
    pub(super) fn wait(&self, waiting: Waiting) -> (u64, bool) {
        let mut state = self.lock();
        state.came += 1;
        let number = state.came;
        state.waiting.push_back(Waiting { number, ..waiting });
        let start = !state.working;
        state.working = true;
        drop(state);
        self.woken.notify_one();
        (number, start)
    }

    /// Receivers who got nothing go on waiting, before those who came later. Whose time is up is told that there is nothing.
    pub(super) fn wait_on(&self, waiting: Vec<Waiting>) {
        let now = Instant::now();
        let (over, mut waiting): (Vec<Waiting>, Vec<Waiting>) = waiting.into_iter().partition(|one| one.until <= now);
        let mut state = self.lock();
        if planted::is(Bug::WakeUpLost) {
            state.told = Told::default();
        }
        while let Some(one) = waiting.pop() {
            state.waiting.push_front(one);
        }
        drop(state);
        for one in over {
            let _ = one.reply.send(Ok(None));
        }
    }

    /// A receiver goes away. Answers whether it may: the ledger may be asked on its behalf just now.
    pub(super) fn withdraw(&self, number: u64) -> bool {
        let mut state = self.lock();
        let before = state.waiting.len();
        state.waiting.retain(|one| one.number != number);
        state.waiting.len() < before
    }

    /// Everything that was told since the last look.
    pub(super) fn look(&self) -> Told {
        std::mem::take(&mut self.lock().told)
    }

    /// Looks at those who wait and did not go away.
    pub(super) fn each_waiting(&self, mut look: impl FnMut(&Waiting)) {
        let mut state = self.lock();
        state.waiting.retain(|waiting| !waiting.reply.is_closed());
        state.waiting.iter().for_each(&mut look);
    }

    /// Takes everybody who waits and did not go away.
    pub(super) fn take(&self) -> Vec<Waiting> {
        let waiting = std::mem::take(&mut self.lock().waiting);
        waiting.into_iter().filter(|waiting| !waiting.reply.is_closed()).collect()
    }

    /// The dispatcher goes home. Answers whether it may: somebody may have come just now.
    pub(super) fn leave(&self) -> bool {
        let mut state = self.lock();
        state.working = !state.waiting.is_empty();
        !state.working
    }

    pub(super) fn is_empty(&self) -> bool {
        let state = self.lock();
        state.waiting.is_empty() && !state.working
    }

    /// Returns when a receiver came or something was told since the last call.
    pub(super) async fn woken(&self) {
        self.woken.notified().await;
    }

    pub(super) fn appended(&self, topic: TopicId, partition: PartitionIndex, end: Offset) {
        let mut state = self.lock();
        let told = state.told.ends.entry((topic, partition)).or_insert(end);
        *told = end.max(*told);
        drop(state);
        self.woken.notify_one();
    }

    /// A message became ready.
    pub(super) fn poke(&self) {
        self.lock().told.poked = true;
        self.woken.notify_one();
    }

    /// A lease was settled: who is held back may go on.
    pub(super) fn settled(&self) {
        if self.held_back.load(Ordering::Relaxed) {
            self.poke();
        }
    }

    pub(super) fn doubt(&self) {
        self.lock().told.doubt = true;
        self.woken.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
