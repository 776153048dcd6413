//! What can go wrong in a simulation: one name for each kind of fault.

use std::fmt;

/// A kind of fault. The order is that of reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// A process is killed and started again.
    Crash,
    /// A process is stopped for a while, and wakes to another time.
    Pause,
    /// The owner of shards is stopped for longer than its lease.
    Usurped,
    /// A role's processes are stopped in order and started again, one after the other.
    Rolling,
    /// Two hosts do not reach each other.
    Partition,
    /// One host does not reach another, which reaches it.
    OneWay,
    /// What two hosts send each other takes long.
    SlowLink,
    /// What two hosts send each other is held up, then all of it arrives.
    Held,
    /// Packets are lost, and connections with them.
    Loss,
    /// A gateway reaches no metadata replica until what it stored meanwhile is taken for orphans.
    Stranded,
    /// A host's wall clock jumps.
    ClockStep,
    /// The object store refuses, and nothing happened: 500, reset.
    StoreBefore,
    /// The object store did what it was asked, and its answer was lost.
    StoreAfter,
    /// The object store asks for fewer requests: 503.
    StoreThrottle,
    /// The object store denies access: 403.
    StoreDenied,
    /// The object store does not answer for long; what it was asked happened or did not.
    StoreTimeout,
    /// The object store is slow.
    StoreSlow,
    /// A create-only write is refused as if the object were there: 409, 412.
    StoreConflict,
    /// One bit of what is read is wrong.
    StoreFlip,
    /// What is read ends early.
    StoreCut,
    /// An object that is there is not found for a while.
    StoreHide,
    /// A listing lacks objects, and shows some that are gone.
    StoreStaleList,
    /// The database aborts a transaction.
    MetaAbort,
    /// A transaction was never received, and its sender does not know.
    MetaLostRequest,
    /// A transaction was committed, and its sender does not know.
    MetaLostReply,
    /// A transaction is committed long after its sender gave up.
    MetaLate,
    /// A connection to the database breaks, and what was asked on it is done all the same, a moment or seconds later.
    MetaBroken,
    /// The database is slow.
    MetaSlow,
    /// A replica does not reach the database.
    MetaAway,
    /// What the owner of shards sends the database is held up for longer than its lease, then all of it arrives.
    MetaHeld,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 30] = [
        Self::Crash,
        Self::Pause,
        Self::Usurped,
        Self::Rolling,
        Self::Partition,
        Self::OneWay,
        Self::SlowLink,
        Self::Held,
        Self::Loss,
        Self::Stranded,
        Self::ClockStep,
        Self::StoreBefore,
        Self::StoreAfter,
        Self::StoreThrottle,
        Self::StoreDenied,
        Self::StoreTimeout,
        Self::StoreSlow,
        Self::StoreConflict,
        Self::StoreFlip,
        Self::StoreCut,
        Self::StoreHide,
        Self::StoreStaleList,
        Self::MetaAbort,
        Self::MetaLostRequest,
        Self::MetaLostReply,
        Self::MetaLate,
        Self::MetaBroken,
        Self::MetaSlow,
        Self::MetaAway,
        Self::MetaHeld,
    ];

    /// Those that were added when seeds were known by what they do: each is planned by itself, so that a seed's other faults stay as
    /// they were.
    pub const ADDED: [Self; 3] = [Self::Stranded, Self::MetaBroken, Self::MetaHeld];

    /// Whether it happens at moments that the plan says, to hosts or links; else it happens to one request in so many.
    pub fn is_scheduled(self) -> bool {
        matches!(
            self,
            Self::Crash
                | Self::Pause
                | Self::Usurped
                | Self::Rolling
                | Self::Partition
                | Self::OneWay
                | Self::SlowLink
                | Self::Held
                | Self::Loss
                | Self::Stranded
                | Self::ClockStep
                | Self::MetaAway
                | Self::MetaHeld
        )
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
