//! Names and numbers as types, so that a topic's name is never taken for a cursor's and an offset never for a count.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{Error, Result};

/// Longest name, in bytes: the first character plus 248 more.
pub const NAME_MAX_BYTES: usize = 249;

fn check_name(kind: &'static str, name: &str) -> Result<()> {
    let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
    let ok = name.len() <= NAME_MAX_BYTES && name.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric) && name.bytes().all(allowed);
    if ok {
        return Ok(());
    }
    let shown: String = name.chars().take(64).collect();
    Err(Error::invalid(
        kind,
        format!("{shown:?} is not a {kind} name: use 1 to {NAME_MAX_BYTES} of A-Z a-z 0-9 . _ -, starting with a letter or digit"),
    ))
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        pub struct $type(Arc<str>);

        impl $type {
            /// Takes `[A-Za-z0-9][A-Za-z0-9._-]{0,248}`; anything else is [`Error::Invalid`].
            pub fn new(name: &str) -> Result<Self> {
                check_name($kind, name)?;
                Ok(Self(name.into()))
            }

            /// The smallest of all names.
            pub fn first() -> Self {
                Self("0".into())
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl std::str::FromStr for $type {
            type Err = Error;
            fn from_str(name: &str) -> Result<Self> {
                Self::new(name)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
                Self::new(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

name!(
    /// A namespace: one tenant's topics, cursors and quotas. Lives in exactly one shard.
    NamespaceName, "namespace"
);
name!(
    /// A topic's name, unique in its namespace.
    TopicName, "topic"
);
name!(
    /// A named consumer position, unique in its namespace.
    CursorName, "cursor"
);

name!(
    /// A queue's name, unique in its namespace.
    QueueName, "queue"
);
name!(
    /// A binding's name, unique in its queue.
    BindingName, "binding"
);

name!(
    /// A schema's name, under which its versions are registered; unique in its namespace.
    SubjectName, "subject"
);

name!(
    /// A replay's name; told apart in its namespace and source topic.
    ReplayName, "replay"
);

impl From<&QueueName> for TopicName {
    /// The name of a queue's own topic.
    fn from(queue: &QueueName) -> Self {
        Self(queue.0.clone())
    }
}

impl From<&TopicName> for QueueName {
    /// The queue of dead letters on a topic is named after it.
    fn from(topic: &TopicName) -> Self {
        Self(topic.0.clone())
    }
}

impl NamespaceName {
    /// The namespace of callers who name none.
    pub fn default_name() -> Self {
        Self("default".into())
    }

    /// The shard that owns this namespace in a cluster of `shards` shards. Fixed for the life of the cluster:
    /// FNV-1a (64 bit) of the name, modulo `shards`.
    pub fn shard(&self, shards: u32) -> ShardId {
        let hash = self.0.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        ShardId((hash % u64::from(shards.max(1))) as u32)
    }
}

/// A topic's number, never used twice: the shard in the upper 24 bits, a counter of that shard below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TopicId(pub u64);

impl TopicId {
    const COUNTER_BITS: u32 = 40;

    /// The `counter`th topic that `shard` created.
    pub fn new(shard: ShardId, counter: u64) -> Self {
        Self((u64::from(shard.0) << Self::COUNTER_BITS) | counter)
    }

    /// The shard that owns the topic.
    pub fn shard(self) -> ShardId {
        ShardId((self.0 >> Self::COUNTER_BITS) as u32)
    }

    /// As which of its shard's topics it was created.
    pub fn counter(self) -> u64 {
        self.0 & ((1 << Self::COUNTER_BITS) - 1)
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A queue's number, never used twice: made like a [`TopicId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct QueueId(pub u64);

impl QueueId {
    /// The `counter`th queue that `shard` created.
    pub fn new(shard: ShardId, counter: u64) -> Self {
        Self(TopicId::new(shard, counter).0)
    }

    /// The shard that owns the queue.
    pub fn shard(self) -> ShardId {
        TopicId(self.0).shard()
    }
}

impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

macro_rules! number {
    ($(#[$doc:meta])* $type:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $type(pub $inner);

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

number!(
    /// A record's place in its partition, from 0, without gaps.
    Offset(u64)
);
number!(
    /// A partition of a topic, from 0.
    PartitionIndex(u32)
);
number!(
    /// One ledger, from 0.
    ShardId(u32)
);
number!(
    /// The reign of one owner of a shard; each takeover raises it.
    Epoch(u64)
);
number!(
    /// The place of an entry in a shard's journal, from 1, without gaps.
    JournalSeq(u64)
);

impl Offset {
    /// Largest offset that JSON numbers carry exactly (2^53).
    pub const MAX: Offset = Offset(1 << 53);

    /// The offset `records` further on.
    pub fn plus(self, records: u64) -> Self {
        Self(self.0 + records)
    }
}

/// A segment's id and, as every object is written once under a fresh key, the object's: a version 7 UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SegmentId(pub Uuid);

impl SegmentId {
    /// A fresh id, minted at `now` with 74 bits of `entropy`.
    pub fn mint(now: crate::Timestamp, entropy: u128) -> Self {
        let millis = now.as_millis().max(0) as u64;
        let bytes = entropy.to_be_bytes();
        let mut tail = [0_u8; 10];
        tail.copy_from_slice(&bytes[..10]);
        Self(uuid::Builder::from_unix_timestamp_millis(millis, &tail).into_uuid())
    }

    /// When the id was minted, by its minter's clock.
    pub fn minted_at(self) -> crate::Timestamp {
        let bytes = self.0.as_bytes();
        let millis = bytes[..6].iter().fold(0_u64, |acc, b| (acc << 8) | u64::from(*b));
        crate::Timestamp::from_millis(millis as i64)
    }

    /// The object's key: `seg/<2 hex of hash>/<uuid>.seg`. The hash spreads keys over the bucket's request partitions.
    pub fn key(self) -> String {
        let bytes = self.0.as_bytes();
        let spread = bytes[8..].iter().fold(0_u8, |h, b| h.rotate_left(3) ^ b);
        format!("seg/{spread:02x}/{}.seg", self.0)
    }

    /// The segment that a key is of; `None` for what is not where a segment would be stored.
    pub fn from_key(key: &str) -> Option<Self> {
        let (_, name) = key.rsplit_once('/')?;
        let id = Self(name.strip_suffix(".seg")?.parse().ok()?);
        // Other spellings of the same id are other keys.
        (id.key() == key).then_some(id)
    }
}

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_letters_digits_dot_underscore_dash_and_start_with_a_letter_or_digit() {
        for good in ["a", "0", "orders.eu-west_1", &"x".repeat(249)] {
            assert!(TopicName::new(good).is_ok(), "{good:?}");
        }
        for bad in ["", ".", "..", "-a", "_a", "a/b", "a b", "a\0", "é", &"x".repeat(250)] {
            assert!(TopicName::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_segment_id_tells_when_it_was_minted_and_its_key_is_spread() {
        let now = crate::Timestamp::from_millis(1_700_000_000_123);
        let id = SegmentId::mint(now, 0x1234_5678_9abc_def0_1122_3344_5566_7788);
        assert_eq!(id.minted_at(), now);
        assert!(id.key().starts_with("seg/") && id.key().ends_with(".seg"));
        assert_eq!(id.0.get_version_num(), 7);
    }

    #[test]
    fn a_key_is_a_segments_only_where_that_segment_would_be_stored() {
        let id = SegmentId::mint(crate::Timestamp::from_millis(1), 0xabcd_ef00 << 96);
        assert_eq!(SegmentId::from_key(&id.key()), Some(id));
        for other in [id.key().replace("seg/", "seg/x"), id.key().to_uppercase().replace("SEG", "seg"), "seg/00/readme.txt".to_owned()] {
            assert_eq!(SegmentId::from_key(&other), None, "{other}");
        }
    }

    #[test]
    fn a_topic_id_names_its_shard() {
        assert_eq!(TopicId::new(ShardId(3), 77).shard(), ShardId(3));
    }
}
