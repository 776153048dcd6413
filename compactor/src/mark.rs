//! The mark: how far the ledgers were, kept in the bucket beside what they order. A metadata store that was restored to an
//! earlier point is behind it, and the newest objects, whose records were acknowledged, look like orphans (R12). This file
//! owns the mark's format and what it says about a ledger; it reads and writes no store.
//!
//! Format, version 1: a JSON object under [`KEY`]. Unknown fields are ignored; another version is refused, so that an
//! older program never goes by half of what a newer one wrote.
//!
//! | field | holds |
//! |---|---|
//! | `version` | 1 |
//! | `generation` | raised by `lakefall recover`; a mark of a higher generation replaces one of a lower |
//! | `cluster`, `incarnation` | the identity of the metadata store |
//! | `shards` | of each shard, its last entry: `shard`, `seq`, `epoch`, and `time`, which no other entry at that place has |
//! | `written_at` | the ledger's time |
//! | `spared` | `from` and `until`: what was minted in between is never taken for an orphan |

use bytes::Bytes;
use lakefall_metadata::Identity;
use lakefall_queue::id::{Epoch, JournalSeq};
use lakefall_queue::ledger::JournalPosition;
use lakefall_queue::{SegmentId, ShardId, Timestamp};
use serde::{Deserialize, Serialize};

/// Where the mark is in the store.
pub const KEY: &str = "meta/mark.json";
/// The version that this program writes and reads.
const VERSION: u32 = 1;

/// How far the ledgers were.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    version: u32,
    /// How often an operator accepted what the metadata store had become.
    pub generation: u64,
    /// The metadata store's cluster.
    pub cluster: String,
    /// Its incarnation.
    pub incarnation: String,
    /// In the order of the shards.
    pub shards: Vec<MarkedShard>,
    /// The ledger's time when it was written.
    pub written_at: Timestamp,
    /// Objects minted in these times are never taken for orphans.
    #[serde(default)]
    pub spared: Vec<Span>,
}

/// How far a shard was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MarkedShard {
    /// Which one.
    pub shard: ShardId,
    /// Its last entry.
    pub seq: JournalSeq,
    /// The reign that wrote it.
    pub epoch: Epoch,
    /// The ledger's time at that entry.
    pub time: Timestamp,
}

impl MarkedShard {
    /// A shard as it is.
    fn of(shard: usize, at: &JournalPosition) -> Self {
        Self { shard: ShardId(shard as u32), seq: at.seq, epoch: at.epoch, time: at.time }
    }

    /// Whether a ledger whose last entry is `at` may have gone on from here. A restored one that was served since may have
    /// come to the same place: then the entry there is another.
    fn may_lead_to(&self, at: &JournalPosition) -> bool {
        let same = at.epoch == self.epoch && at.time == self.time;
        at.epoch >= self.epoch && at.time >= self.time && (at.seq > self.seq || (at.seq == self.seq && same))
    }
}

/// Two moments and what lies between, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// The first moment.
    pub from: Timestamp,
    /// The last moment.
    pub until: Timestamp,
}

/// Why nothing may be deleted until an operator has acted. The text says what happened and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Halt {
    /// A ledger is behind the mark.
    #[error(
        "shard {} was at entry {} of epoch {}, written at {}, and is at entry {} of epoch {}, written at {}: the metadata store was \
         restored to an earlier point, and records that were acknowledged since may be lost. Their objects are still there and \
         nothing is deleted: `lakefall recover` lists them",
        .marked.shard, .marked.seq, .marked.epoch, .marked.time, .found.seq, .found.epoch, .found.time
    )]
    Rewound {
        /// What the mark says.
        marked: MarkedShard,
        /// The shard's last entry.
        found: MarkedShard,
    },
    /// The bucket is another cluster's, or two clusters write into it.
    #[error(
        "the bucket belongs to the cluster {marked:?}, and the metadata service is of the cluster {found:?}: give each cluster a prefix \
         of its own. Nothing is deleted. If the metadata were lost and created anew, `lakefall recover` lists what is stored"
    )]
    OtherCluster {
        /// By the mark.
        marked: String,
        /// By the metadata service.
        found: String,
    },
    /// The metadata store was restored, copied or failed over.
    #[error(
        "the metadata store was {marked:?} and is {found:?}: it was restored, copied or failed over, and may have lost what was \
         acknowledged last. Nothing is deleted: `lakefall recover` lists objects that it does not know, and \
         `lakefall recover --accept` lets the collection go on"
    )]
    OtherIncarnation {
        /// By the mark.
        marked: String,
        /// By the metadata service.
        found: String,
    },
    /// The mark is damaged or a newer program's.
    #[error(
        "the mark {KEY} cannot be read: {0}. Nothing is deleted. If a newer lakefall wrote it, run that one; else `lakefall recover` \
         shows what is stored and writes a new mark"
    )]
    UnreadableMark(String),
}

impl Halt {
    /// The reason as a metric label.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Rewound { .. } => "rewound",
            Self::OtherCluster { .. } => "other_cluster",
            Self::OtherIncarnation { .. } => "other_incarnation",
            Self::UnreadableMark(_) => "unreadable_mark",
        }
    }
}

/// What of a mark every version has.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

impl Mark {
    /// A mark of how far the ledgers are; `positions` in the order of the shards.
    pub fn new(generation: u64, identity: &Identity, positions: &[JournalPosition], written_at: Timestamp, spared: Vec<Span>) -> Self {
        Self {
            version: VERSION,
            generation,
            cluster: identity.cluster.clone(),
            incarnation: identity.incarnation.clone(),
            shards: positions.iter().enumerate().map(|(shard, at)| MarkedShard::of(shard, at)).collect(),
            written_at,
            spared,
        }
    }

    /// As it is stored.
    ///
    /// Errors: never for a mark; serde cannot say so.
    pub fn encode(&self) -> Result<Bytes, serde_json::Error> {
        Ok(serde_json::to_vec_pretty(self)?.into())
    }

    /// Reads a stored one. What cannot be read is a [`Halt::UnreadableMark`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Halt> {
        let unreadable = |error: serde_json::Error| Halt::UnreadableMark(error.to_string());
        let Version { version } = serde_json::from_slice(bytes).map_err(unreadable)?;
        if version != VERSION {
            return Err(Halt::UnreadableMark(format!("it is of version {version}, and this program knows version {VERSION}")));
        }
        serde_json::from_slice(bytes).map_err(unreadable)
    }

    /// What speaks against going on with ledgers that are there; `positions` in the order of the shards.
    pub fn judge(&self, identity: &Identity, positions: &[JournalPosition]) -> Result<(), Halt> {
        if self.cluster != identity.cluster {
            return Err(Halt::OtherCluster { marked: self.cluster.clone(), found: identity.cluster.clone() });
        }
        if self.incarnation != identity.incarnation {
            return Err(Halt::OtherIncarnation { marked: self.incarnation.clone(), found: identity.incarnation.clone() });
        }
        for marked in &self.shards {
            let shard = marked.shard.0 as usize;
            let nothing = JournalPosition { seq: JournalSeq(0), epoch: Epoch(0), time: Timestamp::default() };
            let found = positions.get(shard).unwrap_or(&nothing);
            if !marked.may_lead_to(found) {
                return Err(Halt::Rewound { marked: *marked, found: MarkedShard::of(shard, found) });
            }
        }
        Ok(())
    }

    /// Of two marks of the same ledgers, what holds: several collectors write without waiting for each other, and one that
    /// was slow may have put an older mark over a newer one.
    #[must_use]
    pub fn merged(self, other: Self) -> Self {
        if self.generation != other.generation {
            return if self.generation > other.generation { self } else { other };
        }
        let (mut newer, older) = if self.written_at >= other.written_at { (self, other) } else { (other, self) };
        for marked in older.shards {
            newer.raise(marked);
        }
        newer.spared.extend(older.spared.iter().filter(|span| !newer.spared.contains(span)).copied().collect::<Vec<_>>());
        newer
    }

    /// The same mark, not lower than `positions`.
    #[must_use]
    pub fn raised(mut self, positions: &[JournalPosition], now: Timestamp) -> Self {
        for (shard, at) in positions.iter().enumerate() {
            self.raise(MarkedShard::of(shard, at));
        }
        self.written_at = self.written_at.max(now);
        self
    }

    /// Whether an object is never taken for an orphan.
    pub fn spares(&self, id: SegmentId) -> bool {
        let minted_at = id.minted_at();
        self.spared.iter().any(|span| span.from <= minted_at && minted_at <= span.until)
    }

    /// Whether it says nothing that `other` does not.
    pub(crate) fn says_no_more_than(&self, other: &Self) -> bool {
        Self { written_at: other.written_at, ..self.clone() } == *other
    }

    fn raise(&mut self, marked: MarkedShard) {
        match self.shards.binary_search_by_key(&marked.shard, |known| known.shard) {
            Ok(at) if self.shards[at].seq < marked.seq => self.shards[at] = marked,
            Ok(_) => {}
            Err(at) => self.shards.insert(at, marked),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(cluster: &str, incarnation: &str) -> Identity {
        Identity { cluster: cluster.to_owned(), incarnation: incarnation.to_owned() }
    }

    fn at(seq: u64, epoch: u64) -> JournalPosition {
        JournalPosition { seq: JournalSeq(seq), epoch: Epoch(epoch), time: Timestamp::from_millis(1_000) }
    }

    fn mark(generation: u64, positions: &[JournalPosition]) -> Mark {
        Mark::new(generation, &identity("c", "i"), positions, Timestamp::from_millis(1_000), Vec::new())
    }

    /// As written by the first release that had it.
    const FROZEN: &str = r#"{
  "version": 1,
  "generation": 2,
  "cluster": "c",
  "incarnation": "i",
  "shards": [
    {
      "shard": 0,
      "seq": 7,
      "epoch": 3,
      "time": "1970-01-01T00:00:01.000Z"
    }
  ],
  "written_at": "2026-01-31T08:00:00.000Z",
  "spared": [
    {
      "from": "1970-01-01T00:00:00.000Z",
      "until": "2026-01-31T07:00:00.000Z"
    }
  ]
}"#;

    #[test]
    fn a_mark_is_written_as_it_was_and_read_back() {
        let until = Timestamp::parse("2026-01-31T07:00:00Z").unwrap();
        let span = Span { from: Timestamp::default(), until };
        let mark = Mark::new(2, &identity("c", "i"), &[at(7, 3)], Timestamp::parse("2026-01-31T08:00:00Z").unwrap(), vec![span]);
        assert_eq!(mark.encode().unwrap(), FROZEN);
        assert_eq!(Mark::decode(FROZEN.as_bytes()), Ok(mark));
    }

    #[test]
    fn a_newer_or_damaged_mark_halts() {
        for bad in ["", "{}", r#"{"version":2}"#, r#"{"version":1}"#, &FROZEN[..50]] {
            assert!(matches!(Mark::decode(bad.as_bytes()), Err(Halt::UnreadableMark(_))), "{bad:?}");
        }
    }

    #[test]
    fn a_ledger_at_the_mark_or_beyond_is_no_reason_to_halt() {
        let mark = mark(0, &[at(7, 3), at(9, 1)]);
        for positions in
            [[at(7, 3), at(9, 1)], [at(8, 3), at(10, 4)], [JournalPosition { time: Timestamp::from_millis(1_001), ..at(8, 3) }, at(9, 1)]]
        {
            assert_eq!(mark.judge(&identity("c", "i"), &positions), Ok(()));
        }
    }

    #[test]
    fn a_ledger_behind_the_mark_and_another_store_halt() {
        let mark = mark(0, &[at(7, 3), at(9, 1)]);
        let reason = |identity: &Identity, positions: &[JournalPosition]| mark.judge(identity, positions).unwrap_err().reason();
        let same = identity("c", "i");
        assert_eq!(reason(&same, &[at(7, 3), at(8, 1)]), "rewound");
        assert_eq!(reason(&same, &[at(9, 2), at(9, 1)]), "rewound", "an epoch never goes back");
        assert_eq!(reason(&same, &[at(7, 3)]), "rewound", "a shard is missing");
        let another = JournalPosition { time: Timestamp::from_millis(1_001), ..at(7, 3) };
        assert_eq!(reason(&same, &[another, at(9, 1)]), "rewound", "restored and started: another entry at the same place");
        assert_eq!(reason(&same, &[at(7, 4), at(9, 1)]), "rewound", "of another reign");
        assert_eq!(reason(&identity("c", "j"), &[at(9, 9), at(9, 9)]), "other_incarnation");
        assert_eq!(reason(&identity("d", "i"), &[at(9, 9), at(9, 9)]), "other_cluster");
    }

    #[test]
    fn an_older_mark_written_over_a_newer_one_takes_nothing_back() {
        let (low, high) = (mark(0, &[at(7, 3), at(9, 1)]), mark(0, &[at(6, 3), at(12, 2)]));
        let both = mark(0, &[at(7, 3), at(12, 2)]);
        assert_eq!(low.clone().merged(high.clone()), both);
        assert_eq!(high.merged(low), both);
    }

    #[test]
    fn what_an_operator_accepted_replaces_what_was_marked_before() {
        let (before, accepted) = (mark(0, &[at(70, 3)]), mark(1, &[at(7, 4)]));
        assert_eq!(before.clone().merged(accepted.clone()), accepted);
        assert_eq!(accepted.clone().merged(before), accepted);
    }

    #[test]
    fn objects_minted_in_a_spared_time_are_spared() {
        let span = Span { from: Timestamp::from_millis(10), until: Timestamp::from_millis(20) };
        let mark = Mark { spared: vec![span], ..mark(0, &[]) };
        let spared = |ms| mark.spares(SegmentId::mint(Timestamp::from_millis(ms), 1));
        assert_eq!([9, 10, 20, 21].map(spared), [false, true, true, false]);
    }
}
