//! What namespaces and topics use: the figures, how they are counted, and how the cost of what serves several topics at once is
//! shared among them. What is counted here is a meter, not a bill: it may lack what a process that died had not reported yet.

mod tally;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use crate::error::{Error, Result};
use crate::id::{NamespaceName, TopicId, TopicName};
use crate::time::Timestamp;
use crate::verbs::Caller;

pub use tally::{Listener, Tally};

/// One request, commit or deletion, in the unit of figures that are shared: millionths, so that the shares of one are whole.
pub const ONE: u64 = 1_000_000;

macro_rules! figures {
    ($($(#[$doc:meta])* $figure:ident $name:literal $shared:literal)*) => {
        /// What is counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Figure {
            $($(#[$doc])* $figure,)*
        }

        impl Figure {
            /// All of them. Stored counts are in this order: new ones come last, and none ever goes.
            pub const ALL: &[Self] = &[$(Self::$figure,)*];

            /// Its name in answers and metrics.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$figure => $name,)*
                }
            }

            /// Whether it is counted in millionths ([`ONE`]), as one request may serve several topics.
            pub fn is_shared(self) -> bool {
                match self {
                    $(Self::$figure => $shared,)*
                }
            }
        }
    };
}

figures! {
    /// Records stored, each once however often it was sent.
    ProducedRecords "produced_records" false
    /// Bytes of their keys, values and headers, before compression.
    ProducedBytes "produced_bytes" false
    /// Bytes of their batches, compressed, as they lie in the segment.
    StoredBytes "stored_bytes" false
    /// Records answered to readers.
    ReadRecords "read_records" false
    /// Bytes of their keys, values and headers.
    ReadBytes "read_bytes" false
    /// Messages leased to receivers of queues.
    ReceivedMessages "received_messages" false
    /// Bytes of their keys, values and headers.
    ReceivedBytes "received_bytes" false
    /// Requests to queues: receiving, settling, peeking.
    QueueRequests "queue_requests" false
    /// Pieces of objects that the cache had.
    CacheHits "cache_hits" false
    /// Pieces of objects that the cache fetched from the store.
    CacheMisses "cache_misses" false
    /// Requests to the object store that write or list: what S3 bills as PUT, COPY, POST and LIST.
    StoreWrites "store_writes" true
    /// Requests to the object store that read: what S3 bills as GET and all others.
    StoreReads "store_reads" true
    /// Requests to the object store that delete, which are free on S3.
    StoreDeletes "store_deletes" true
    /// Bytes of objects sent to the store.
    StoreSentBytes "store_sent_bytes" false
    /// Bytes of objects got from the store.
    StoreGotBytes "store_got_bytes" false
    /// Commits of segments in the ledger.
    Commits "commits" true
}

/// How many figures there are.
const FIGURES: usize = Figure::ALL.len();

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A count of each figure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UsageCounts([u64; FIGURES]);

impl UsageCounts {
    /// From counts in the order of [`Figure::ALL`]; those that are missing are 0, and those of a later program are passed over.
    pub fn from_list(counts: &[u64]) -> Self {
        let mut all = Self::default();
        all.0.iter_mut().zip(counts).for_each(|(to, from)| *to = *from);
        all
    }

    /// In the order of [`Figure::ALL`], without the zeros at the end.
    pub fn to_list(&self) -> Vec<u64> {
        let used = self.0.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1);
        self.0[..used].to_vec()
    }

    /// The count of a figure: in millionths if it [is shared](Figure::is_shared).
    pub fn get(&self, figure: Figure) -> u64 {
        self.0[figure as usize]
    }

    /// Adds to a figure.
    pub fn add(&mut self, figure: Figure, count: u64) {
        let to = &mut self.0[figure as usize];
        *to = to.saturating_add(count);
    }

    /// Adds all of another's.
    pub fn merge(&mut self, other: &Self) {
        Figure::ALL.iter().for_each(|figure| self.add(*figure, other.get(*figure)));
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|count| *count == 0)
    }

    /// Each figure that was counted.
    pub fn counted(&self) -> impl Iterator<Item = (Figure, u64)> {
        Figure::ALL.iter().map(|figure| (*figure, self.get(*figure))).filter(|(_, count)| *count > 0)
    }

    /// Shares all of it among several, by their weights.
    pub fn shared(&self, weights: &[u64]) -> Vec<Self> {
        let mut shares = vec![Self::default(); weights.len()];
        for (figure, count) in self.counted() {
            shares.iter_mut().zip(share(count, weights)).for_each(|(to, part)| to.add(figure, part));
        }
        shares
    }
}

/// Shares a whole among several by their weights: the shares are whole numbers, add up to the whole, and none is more than one
/// off from what is exact. Without any weight all get alike.
pub fn share(whole: u64, weights: &[u64]) -> Vec<u64> {
    let sum: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
    let all = if sum == 0 { weights.len() as u128 } else { sum };
    let (mut before, mut given) = (0_u128, 0_u64);
    let one = |weight: &u64| {
        before += if sum == 0 { 1 } else { u128::from(*weight) };
        // What those up to here have together, less what those before have: so nothing is lost by rounding.
        let until = u64::try_from(u128::from(whole).saturating_mul(before) / all).unwrap_or(whole);
        let part = until - given;
        given = until;
        part
    };
    weights.iter().map(one).collect()
}

/// What a process counted since its last report. Reports of one process come one after another; the ledger takes each once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageReport {
    /// Names the process; drawn at its start.
    pub reporter: u128,
    /// The report's number: higher than that of any before that was taken.
    pub sequence: u64,
    /// At most one for each topic.
    pub items: Vec<UsageItem>,
}

/// Items of one report, at most: its command is small beside others.
pub const REPORT_ITEMS: usize = 1_000;

/// What one topic used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageItem {
    /// Its namespace.
    pub namespace: NamespaceName,
    /// The topic.
    pub topic: TopicId,
    /// How much.
    pub counts: UsageCounts,
}

/// How long what is counted together lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Grain {
    /// An hour of UTC.
    Hour,
    /// A day of UTC.
    Day,
}

impl Grain {
    /// Its length.
    pub const fn length(self) -> Duration {
        match self {
            Self::Hour => Duration::from_secs(3_600),
            Self::Day => Duration::from_secs(86_400),
        }
    }

    /// For how long it is kept: two days by the hour, 90 by the day.
    pub const fn kept(self) -> Duration {
        match self {
            Self::Hour => Duration::from_secs(2 * 86_400),
            Self::Day => Duration::from_secs(90 * 86_400),
        }
    }

    /// The start of the one in which `at` is.
    pub fn start(self, at: Timestamp) -> Timestamp {
        // A day of milliseconds fits any integer.
        let length = self.length().as_millis() as i64;
        Timestamp::from_millis(at.as_millis().div_euclid(length).saturating_mul(length))
    }

    /// The first start of which something is kept at `now`.
    pub fn oldest(self, now: Timestamp) -> Timestamp {
        self.start(now.minus(self.kept()))
    }
}

/// Into which pieces usage is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Granularity {
    /// A piece for each hour.
    Hour,
    /// A piece for each day.
    Day,
    /// One sum.
    Total,
}

impl Granularity {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Total => "total",
        }
    }

    /// Reads it.
    pub fn parse(text: &str) -> Result<Self> {
        match text {
            "hour" => Ok(Self::Hour),
            "day" => Ok(Self::Day),
            "total" => Ok(Self::Total),
            _ => Err(Error::invalid("granularity", "granularity must be hour, day or total")),
        }
    }
}

/// A time of which usage is told: whole hours or days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsageRange {
    /// Into which pieces.
    pub granularity: Granularity,
    /// What it is made of.
    pub grain: Grain,
    /// Where it begins.
    pub from: Timestamp,
    /// Where it ends: not in it any more.
    pub to: Timestamp,
}

impl UsageRange {
    /// The hours or days in which the time between is, as far as it is not to come. Default: the last day by the hour, the last
    /// 30 days by the day and in all. A sum is made of hours if all of them are kept, else of days.
    ///
    /// Errors: [`Error::Invalid`] for a time that is over before it begins, has not begun, or of which nothing is kept any more.
    pub fn new(granularity: Granularity, from: Option<Timestamp>, to: Option<Timestamp>, now: Timestamp) -> Result<Self> {
        let back = match granularity {
            Granularity::Hour => Duration::from_secs(86_400),
            Granularity::Day | Granularity::Total => Duration::from_secs(30 * 86_400),
        };
        let grain = match (granularity, from) {
            (Granularity::Hour, _) => Grain::Hour,
            (Granularity::Total, Some(from)) if Grain::Hour.start(from) >= Grain::Hour.oldest(now) => Grain::Hour,
            (Granularity::Day | Granularity::Total, _) => Grain::Day,
        };
        let end_of = |at: Timestamp| {
            let start = grain.start(at);
            if start == at { start } else { start.plus(grain.length()) }
        };
        let latest = grain.start(now).plus(grain.length());
        let oldest = grain.oldest(now);
        if from.is_some_and(|from| from >= latest) {
            return Err(Error::invalid("from", format!("from is in the future: it is {now}")));
        }
        if let (Some(from), Some(to)) = (from, to)
            && from >= to
        {
            return Err(Error::invalid("to", "to must be after from"));
        }
        let to = to.map_or(latest, |to| end_of(to).min(latest));
        let begins = from.map_or_else(|| grain.start(to.minus(back)).max(oldest), |from| grain.start(from));
        if begins < oldest || to <= oldest {
            let field = if from.is_some() { "from" } else { "to" };
            let (unit, advice) = match grain {
                Grain::Hour => ("hours", "; days are kept for longer: granularity=day"),
                Grain::Day => ("days", ""),
            };
            return Err(Error::invalid(field, format!("{unit} are kept from {oldest} on{advice}")));
        }
        Ok(Self { granularity, grain, from: begins, to })
    }
}

/// Whose usage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UsageOf {
    /// A whole namespace's.
    Namespace(NamespaceName),
    /// A topic's, of the caller's namespace.
    Topic(TopicName),
}

/// What is kept of a namespace or topic just now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Topics: 1 for a topic.
    pub topics: u64,
    /// Their partitions.
    pub partitions: u64,
    /// Ranges of objects that hold their records: a row of the metadata store each.
    pub extents: u64,
    /// Positions of named cursors, one for each cursor and topic.
    pub cursors: u64,
    /// Queues; of a topic, those that read it.
    pub queues: u64,
    /// Subjects of schemas; 0 for a topic.
    pub subjects: u64,
    /// Bytes in segments, merged or not.
    pub segment_bytes: u64,
    /// Bytes in Parquet files.
    pub parquet_bytes: u64,
}

/// What was used in one piece of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsageBucket {
    /// When the piece begins.
    pub start: Timestamp,
    /// When it ends.
    pub end: Timestamp,
    /// What was used in it.
    pub counts: UsageCounts,
}

/// What was used, and what is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Of which time, and in which pieces.
    pub range: UsageRange,
    /// Those in which something was used, in order; one for a sum.
    pub buckets: Vec<UsageBucket>,
    /// All of them together.
    pub total: UsageCounts,
    /// What is kept at `as_of`.
    pub holdings: Holdings,
    /// The ledger's time.
    pub as_of: Timestamp,
}

/// What rooms may ask about usage.
#[async_trait]
pub trait UsageVerbs {
    /// What a namespace or topic used in a time, and keeps now.
    ///
    /// Errors: [`Error::NamespaceNotFound`], [`Error::TopicNotFound`].
    async fn usage(&self, caller: &Caller, of: UsageOf, range: UsageRange) -> Result<Usage>;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).unwrap()
    }

    proptest! {
        #[test]
        fn shares_add_up_to_the_whole_and_are_at_most_one_off(
            whole in any::<u64>(),
            weights in prop::collection::vec(0..=u64::from(u32::MAX), 1..50),
        ) {
            let shares = share(whole, &weights);
            prop_assert_eq!(shares.iter().map(|part| u128::from(*part)).sum::<u128>(), u128::from(whole));
            let all: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
            for (part, weight) in shares.iter().zip(&weights) {
                let Some(exact) = (u128::from(whole) * u128::from(*weight)).checked_div(all) else { break };
                prop_assert!(u128::from(*part).abs_diff(exact) <= 1, "{part} of {whole} for {weight} of {all}");
            }
        }

        #[test]
        fn what_is_shared_adds_up_figure_by_figure(
            counts in prop::collection::vec(0..1_u64 << 40, FIGURES),
            weights in prop::collection::vec(0..1_u64 << 32, 1..20),
        ) {
            let whole = UsageCounts::from_list(&counts);
            let mut sum = UsageCounts::default();
            whole.shared(&weights).iter().for_each(|part| sum.merge(part));
            prop_assert_eq!(sum, whole);
        }
    }

    #[test]
    fn who_has_all_the_weight_gets_all_and_without_weights_all_get_alike() {
        assert_eq!(share(ONE, &[0, 7, 0]), [0, ONE, 0]);
        assert_eq!(share(ONE, &[0, 0]), [ONE / 2, ONE / 2]);
        assert_eq!(share(ONE, &[1, 1, 1]).iter().sum::<u64>(), ONE);
        assert_eq!(share(9, &[]), Vec::<u64>::new());
    }

    #[test]
    fn counts_survive_as_a_list_and_lists_of_other_programs_are_read() {
        let mut counts = UsageCounts::default();
        assert_eq!(counts.to_list(), Vec::<u64>::new());
        counts.add(Figure::ReadBytes, 7);
        assert_eq!(counts.to_list(), [0, 0, 0, 0, 7]);
        assert_eq!(UsageCounts::from_list(&counts.to_list()), counts);
        assert_eq!(UsageCounts::from_list(&[0; 100]), UsageCounts::default());
    }

    #[test]
    fn each_count_is_taken_once() {
        let tally = Tally::default();
        tally.add(Figure::CacheHits, 2);
        tally.add(Figure::CacheHits, 3);
        assert_eq!(tally.take().get(Figure::CacheHits), 5);
        assert!(tally.take().is_empty());
    }

    #[test]
    fn a_range_is_of_whole_hours_or_days_up_to_now() {
        let now = at("2026-03-10T12:34:56Z");
        let range = |granularity, from: Option<&str>, to: Option<&str>| UsageRange::new(granularity, from.map(at), to.map(at), now);
        let hours = range(Granularity::Hour, None, None).unwrap();
        assert_eq!((hours.from, hours.to), (at("2026-03-09T13:00:00Z"), at("2026-03-10T13:00:00Z")));
        let days = range(Granularity::Day, Some("2026-03-01T05:00:00Z"), Some("2026-03-03T00:00:00Z")).unwrap();
        assert_eq!((days.from, days.to), (at("2026-03-01T00:00:00Z"), at("2026-03-03T00:00:00Z")));
        let fresh = range(Granularity::Total, Some("2026-03-10T00:10:00Z"), Some("2030-01-01T00:00:00Z")).unwrap();
        assert_eq!((fresh.grain, fresh.to), (Grain::Hour, at("2026-03-10T13:00:00Z")));
        let old = range(Granularity::Total, Some("2026-02-01T00:10:00Z"), None).unwrap();
        assert_eq!((old.grain, old.from), (Grain::Day, at("2026-02-01T00:00:00Z")));
    }

    #[test]
    fn a_range_that_cannot_be_told_is_refused_with_the_reason() {
        let now = at("2026-03-10T12:34:56Z");
        let refused = |granularity, from: Option<&str>, to: Option<&str>| {
            UsageRange::new(granularity, from.map(at), to.map(at), now).unwrap_err().to_string()
        };
        assert!(refused(Granularity::Hour, Some("2026-03-01T00:00:00Z"), None).contains("granularity=day"));
        assert!(refused(Granularity::Day, Some("2025-03-01T00:00:00Z"), None).contains("days are kept from 2025-12-10"));
        assert!(refused(Granularity::Day, None, Some("2025-03-01T00:00:00Z")).contains("days are kept from"));
        assert!(refused(Granularity::Total, Some("2026-03-11T00:00:00Z"), None).contains("future"));
        assert!(refused(Granularity::Day, Some("2026-03-02T00:00:00Z"), Some("2026-03-02T00:00:00Z")).contains("after from"));
    }
}
