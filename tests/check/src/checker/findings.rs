//! What a judge found: violations, how much each check looked at, and the figures that go with them. Must never judge.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::history::{MessageAt, Name, OpId, RecordId};

/// Most violations of one check that are kept: the first few show the cause. All are counted.
const KEPT: u64 = 25;

/// The checks, as `docs/history-format.md` numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Check {
    /// Each acknowledged record is in the last read.
    H1,
    /// What is read was sent, not only refused, and has the bytes that were sent.
    H2,
    /// One record at a place, for all readers and acknowledgements.
    H3,
    /// A record is stored once, unless somebody sent it again without a promise.
    H4,
    /// Offsets are dense from the log's start to its end.
    H5,
    /// Records of a producer, of a key and of a batch stand in their order.
    H6,
    /// Readers go up by one, and see what was acknowledged before they asked.
    H7,
    /// One order of all operations explains all answers.
    H8,
    /// A commit happened as a whole or not at all.
    H9,
    /// Each acknowledged message is received and finished, or dead.
    Q1,
    /// No second delivery while a lease lasts.
    Q2,
    /// What was acknowledged is not received by who asks later.
    Q3,
    /// A refused acknowledgement deletes nothing.
    Q4,
    /// One message of a key at a time, in order.
    Q5,
    /// What is sent twice under one name is there once.
    Q6,
    /// Attempts rise; dead exactly after the last one.
    Q7,
    /// Nothing comes before its time.
    Q8,
    /// Nothing is gone before its time.
    Q9,
    /// What nobody leases any more comes back soon.
    Q10,
    /// Each extent's bytes are there and good.
    W1,
    /// Each offset is in one extent.
    W2,
    /// No orphan grows older than the grace.
    W3,
    /// What rewrites records keeps them.
    W4,
    /// Nothing refers to an object that may be deleted.
    W6,
    /// The ledger's ends are what was committed.
    W7,
    /// No session stays idle in a transaction.
    W8,
    /// The history shows enough to mean something.
    Vacuous,
    /// The events make sense.
    Format,
}

/// What a violation is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A record of a topic.
    Record(Name, RecordId),
    /// A place of a topic.
    Place(Name, u32, u64),
    /// A message of a queue.
    Message(Name, MessageAt),
    /// A cursor.
    Cursor(Name),
    /// An operation.
    Op(OpId),
    /// The whole.
    Run,
}

/// What a history breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which check found it.
    pub check: Check,
    /// What it is about.
    pub subject: Subject,
    /// In words.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.check, self.what)
    }
}

/// How much a check looked at, and how often it was broken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    /// Records, pairs, leases, or what the check is about.
    pub examined: u64,
    /// Violations, of which only the first are kept.
    pub violations: u64,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// What the run was, as the header says.
    pub run: String,
    /// Faults injected, by kind.
    pub faults_by_kind: BTreeMap<String, u64>,
    /// Faults injected.
    pub faults: u64,
    /// Records and messages acknowledged.
    pub acked: u64,
    /// Places of topics that somebody read.
    pub stored: u64,
    /// Records stored twice for producers who were promised no better.
    pub honest_duplicates: u64,
    /// Sends whose outcome was unknown to the client, and that were found stored.
    pub unknown_stored: u64,
    /// The same, found not stored.
    pub unknown_absent: u64,
    /// Operations of any kind whose outcome nobody knows.
    pub unknown: u64,
    /// Acknowledged records that the log's start has passed.
    pub trimmed: u64,
    /// Deliveries.
    pub deliveries: u64,
    /// Deliveries beyond the first of a message.
    pub redeliveries: u64,
    /// Dead letters.
    pub dead: u64,
    /// Messages gone after their time.
    pub expired: u64,
    /// Operations invoked in calm windows (in the whole run, where none is marked: sends), and how many were done.
    pub calm: (u64, u64),
    /// The longest time after which a message came back, once faults had ended.
    pub slowest: Duration,
    /// What each check looked at.
    pub checks: BTreeMap<Check, Count>,
    /// The first violations of each check, in the order of the checks.
    pub violations: Vec<Violation>,
}

impl Report {
    pub(super) fn examined(&mut self, check: Check, count: u64) {
        if count > 0 {
            let examined = &mut self.checks.entry(check).or_default().examined;
            // Offsets are whatever a file says.
            *examined = examined.saturating_add(count);
        }
    }

    pub(super) fn violation(&mut self, check: Check, subject: Subject, what: String) {
        let count = self.checks.entry(check).or_default();
        count.violations += 1;
        if count.violations <= KEPT {
            self.violations.push(Violation { check, subject, what });
        }
    }

    /// Acknowledged records and messages that are nowhere.
    pub fn lost(&self) -> u64 {
        [Check::H1, Check::Q1].iter().filter_map(|check| self.checks.get(check)).map(|count| count.violations).sum()
    }

    /// How much a check looked at.
    pub fn examined_by(&self, check: Check) -> u64 {
        self.checks.get(&check).map_or(0, |count| count.examined)
    }

    /// With none lost of so many, the true rate is below this with 95 % confidence: the rule of three.
    pub fn bound(&self) -> Option<f64> {
        (self.acked > 0 && self.lost() == 0).then(|| 3.0 / self.acked as f64)
    }

    /// The checks that were broken.
    pub fn broken(&self) -> Vec<Check> {
        self.checks.iter().filter(|(_, count)| count.violations > 0).map(|(check, _)| *check).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} faults; {} acknowledged, {} lost", self.faults, self.acked, self.lost())?;
        if let Some(bound) = self.bound() {
            write!(f, " (95 %: fewer than {bound:.1e})")?;
        }
        write!(f, "; {} stored, {} honest duplicates", self.stored, self.honest_duplicates)?;
        write!(f, "; unknown sends: {} stored, {} not", self.unknown_stored, self.unknown_absent)?;
        if self.deliveries > 0 {
            write!(f, "; {} deliveries, {} of them again, {} dead letters", self.deliveries, self.redeliveries, self.dead)?;
            write!(f, "; slowest return {:?}", self.slowest)?;
        }
        write!(f, "; examined")?;
        for (check, count) in self.checks.iter().filter(|(_, count)| count.examined > 0) {
            write!(f, " {check:?} {}", count.examined)?;
        }
        write!(f, "; violations: {}", self.checks.values().map(|count| count.violations).sum::<u64>())
    }
}
