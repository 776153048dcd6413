//! A ledger as a part of a model's state: shared by all states that have the same, told apart by its snapshot (L6).

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use lakefall_queue::error::Result;
use lakefall_queue::id::Epoch;
use lakefall_queue::ledger::{Answer, Command, Extent, JournalEntry, Ledger, ObjectStatus, Query, Reply};
use lakefall_queue::{PartitionIndex, SegmentId, ShardId, Timestamp, TopicId};

/// The shard of every model.
pub const SHARD: ShardId = ShardId(0);
/// When every model begins.
pub const START: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// A ledger that does not change any more.
#[derive(Clone)]
pub struct Kept(Arc<Inner>);

struct Inner {
    ledger: Ledger,
    fingerprint: u64,
    contents: u64,
}

/// An entry that was sealed, told apart by its bytes.
#[derive(Clone)]
pub struct Sealed(Arc<(JournalEntry, u64)>);

impl Kept {
    /// A ledger as it is from here on.
    pub fn new(ledger: Ledger) -> Self {
        let snapshot = ledger.snapshot();
        // The row of the shard comes first, after its length, which is below 128.
        let contents = fingerprint(&snapshot[1 + usize::from(snapshot[0])..]);
        Self(Arc::new(Inner { fingerprint: fingerprint(&snapshot), contents, ledger }))
    }

    /// An empty shard.
    pub fn empty() -> Self {
        Self::new(Ledger::new(SHARD, 1))
    }

    /// To look at.
    pub fn ledger(&self) -> &Ledger {
        &self.0.ledger
    }

    /// Tells ledgers apart that hold something else, not those that came to it in more steps.
    pub fn contents(&self) -> u64 {
        self.0.contents
    }

    /// Applies one command as a group of its own. `None` for the group where nothing changed: it has no entry.
    pub fn execute(&self, command: Command, epoch: u64, now: Timestamp) -> (Result<Reply>, Option<(Self, Sealed)>) {
        let mut ledger = self.0.ledger.clone();
        let now = ledger.group_time(now);
        let applied = ledger.apply(&command, now);
        let group = applied.changed.then(|| {
            let entry = ledger.seal(Epoch(epoch), now, vec![command]);
            ledger.take_notices();
            (Self::new(ledger), Sealed::new(entry))
        });
        (applied.reply, group)
    }

    /// A new owner's first entry.
    pub fn begin(&self, epoch: u64, now: Timestamp) -> (Self, Sealed) {
        let mut ledger = self.0.ledger.clone();
        let now = ledger.group_time(now);
        let entry = ledger.seal(Epoch(epoch), now, Vec::new());
        (Self::new(ledger), Sealed::new(entry))
    }

    /// With one more entry of the journal; `None` if it does not apply.
    pub fn replayed(&self, entry: &Sealed) -> Option<Self> {
        let mut ledger = self.0.ledger.clone();
        ledger.replay(&entry.0.0).ok()?;
        Some(Self::new(ledger))
    }

    /// The extents of a partition, all of which are in memory in a model.
    pub fn extents(&self, topic: TopicId, partition: PartitionIndex) -> Vec<Extent> {
        let query = Query::Locate { topic, partition, from: Default::default(), max_bytes: u64::MAX, max_extents: usize::MAX };
        match self.0.ledger.query(&query) {
            Ok(Answer::Located(located)) => located.overlay.into_iter().chain(located.extents).collect(),
            _ => Vec::new(),
        }
    }

    /// What the ledger knows of an object.
    pub fn object(&self, id: SegmentId) -> Option<ObjectStatus> {
        match self.0.ledger.query(&Query::Objects(vec![id])) {
            Ok(Answer::Objects(mut known)) => known.pop().flatten(),
            _ => None,
        }
    }
}

impl Sealed {
    fn new(entry: JournalEntry) -> Self {
        let fingerprint = fingerprint(&entry.encode());
        Self(Arc::new((entry, fingerprint)))
    }

    /// Its place in the journal.
    pub fn seq(&self) -> u64 {
        self.0.0.seq.0
    }

    /// The reign that sealed it.
    pub fn epoch(&self) -> u64 {
        self.0.0.epoch.0
    }
}

/// A part of a state that others of its parts tell apart well enough.
#[derive(Clone, Debug)]
pub struct Aside<T>(pub T);

impl<T> PartialEq for Aside<T> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl<T> Hash for Aside<T> {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

/// A ledger told apart by what it holds: for models in which no place in a journal matters.
#[derive(Clone, Debug)]
pub struct Holding(pub Kept);

impl PartialEq for Holding {
    fn eq(&self, other: &Self) -> bool {
        self.0.contents() == other.0.contents()
    }
}

impl Hash for Holding {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.contents().hash(state);
    }
}

fn fingerprint(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

impl PartialEq for Kept {
    fn eq(&self, other: &Self) -> bool {
        self.0.fingerprint == other.0.fingerprint
    }
}

impl Hash for Kept {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.fingerprint.hash(state);
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ends: Vec<u64> = self.0.ledger.partitions().map(|(.., partition)| partition.end().0).collect();
        write!(f, "Ledger(seq {}, epoch {}, ends {ends:?})", self.0.ledger.seq(), self.0.ledger.epoch())
    }
}

impl PartialEq for Sealed {
    fn eq(&self, other: &Self) -> bool {
        self.0.1 == other.0.1
    }
}

impl Hash for Sealed {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.1.hash(state);
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entry(seq {}, epoch {}, {} commands)", self.0.0.seq, self.0.0.epoch, self.0.0.commands.len())
    }
}
