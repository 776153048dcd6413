//! What the checker of queues says: violations, and how much each check looked at. Must never judge.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::queues::history::{LeaseId, MessageAt, RecordId};

/// The checks, as the list of what queues must do numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Check {
    /// Each acknowledged send is received and finished, or dead.
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
    /// What nobody leases any more comes back soon.
    Q10,
}

/// What a history breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// Q1: a message whose send was acknowledged never came, and is not dead.
    Lost(RecordId, MessageAt),
    /// Q1: a message that nobody may have acknowledged is neither dead nor in the drain.
    Vanished(MessageAt),
    /// A message that nobody sent, that was refused, or whose value is another.
    Phantom(MessageAt, &'static str),
    /// Q2: delivered again while this lease lasted.
    DeliveredTwice(LeaseId),
    /// Q2: its receiver was told that it is over, though it was not.
    CutShort(LeaseId),
    /// Q3: delivered to a receiver who asked after it was acknowledged.
    AckedCameBack(LeaseId),
    /// Q4: the only acknowledgements of this message were refused, and yet it is gone.
    RefusedAckDeleted(MessageAt),
    /// Q5: the second was delivered although the first, of the same key and before it, was not finished.
    Overtaken(MessageAt, MessageAt),
    /// Q6: stored at both places.
    Duplicate(RecordId, MessageAt, MessageAt),
    /// Q7: two deliveries whose attempts do not rise.
    AttemptDoesNotRise(LeaseId),
    /// Q7: delivered more often than allowed, dead after another number of attempts, or dead twice.
    WrongDeath(MessageAt, &'static str),
    /// Q8: delivered before its time.
    TooEarly(LeaseId),
    /// Q10: delivered this long after it could have been.
    TooLate(LeaseId, Duration),
    /// The history proves nothing of a check.
    Unexamined(Check),
    /// The history proves nothing.
    Vacuous(&'static str),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// What a run must have had for its result to mean something, and what its queue promises.
#[derive(Clone, Copy, Debug)]
pub struct Demands {
    /// Faults injected.
    pub faults: usize,
    /// Messages whose send was acknowledged.
    pub acked: usize,
    /// Checks that must have looked at something.
    pub examined: &'static [Check],
    /// Attempts after which a message is dead.
    pub max_attempts: Option<u32>,
    /// Whether messages of one key keep their order.
    pub ordered: bool,
    /// How far the server's clock may go apart from the test's within one lease.
    pub clock: Duration,
    /// How soon something must come after its lease is over or its delay has passed.
    pub redelivery: Duration,
}

impl Default for Demands {
    fn default() -> Self {
        let (clock, redelivery) = (Duration::from_millis(5), Duration::from_secs(10));
        Self { faults: 0, acked: 1, examined: &[], max_attempts: None, ordered: false, clock, redelivery }
    }
}

/// What was found besides violations.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Faults injected.
    pub faults: usize,
    /// Messages whose send was acknowledged.
    pub acked: usize,
    /// Deliveries.
    pub deliveries: usize,
    /// Deliveries beyond the first of a message.
    pub redeliveries: usize,
    /// Dead letters.
    pub dead: usize,
    /// Operations whose outcome nobody knows.
    pub unknown: usize,
    /// The longest time after which something came back, once faults had ended.
    pub slowest: Duration,
    /// How much each check looked at.
    pub examined: BTreeMap<Check, usize>,
    /// The first violations.
    pub violations: Vec<Violation>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lost = self.violations.iter().filter(|v| matches!(v, Violation::Lost(..) | Violation::Vanished(_))).count();
        write!(f, "{} faults; {} messages acknowledged, {lost} lost", self.faults, self.acked)?;
        if lost == 0 && self.acked > 0 {
            // The rule of three: with none seen in M, the true rate is below 3/M with 95 % confidence.
            write!(f, " (95 %: fewer than {:.1e})", 3.0 / self.acked as f64)?;
        }
        write!(f, "; {} deliveries, {} of them again, {} dead letters", self.deliveries, self.redeliveries, self.dead)?;
        write!(f, "; {} unknown outcomes; slowest return {:?}", self.unknown, self.slowest)?;
        write!(f, "; examined {:?}; violations: {}", self.examined, self.violations.len())
    }
}
