//! Mistakes that are planted on purpose, one at a time, to show that the simulation would find them if they were made. Compiled
//! to nothing without the cargo feature `planted`, which no released executable has; nothing but the simulation turns it on.
//!
//! A mistake stands where it would really be made, as an `if planted::is(Bug::…)`. With the feature, `plant` chooses one
//! for the whole process by its name; it is to be chosen before anything is started, as some are looked at once only.

#[cfg(feature = "planted")]
pub use armed::{ALL, is, plant, reached, remove};

/// What can be planted, and what a user would see of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// A gateway answers when the object is stored, with the offsets that come next as things stand; the commit is on its way. If
    /// another gateway's comes first, the records are at other offsets than was said; if the gateway dies, nowhere.
    AckBeforeCommit,
    /// A gateway commits while the object is still on its way to the store. If it dies, or the store refuses, the log refers to
    /// records that nobody has: reads of these offsets fail for ever.
    CommitBeforePut,
    /// An owner settles an append in doubt by looking whether the entry is there, instead of by writing it again; if it is not,
    /// the owner forgets the group and goes on. When the entry arrives after all, what is written next at its place is not:
    /// records that were acknowledged are gone with the next owner.
    LookInsteadOfWrite,
    /// The sweep deletes what no ledger knows without having it refused first. A gateway that was held up commits after that and
    /// acknowledges: the records are gone. Needs an orphan grace below the commit window.
    SweepWithoutRefusal,
    /// Offsets are drawn from a counter, like a SEQUENCE, that a refused batch moves too. The offsets of the refused records stay
    /// empty: readers get stuck before them, or jump.
    OffsetsFromCounter,
    /// An owner answers when it has applied a group, before the journal has it. If the append fails, or the owner dies, records,
    /// acknowledgements and leases that were told are gone.
    AnswerBeforeAppend,
    /// A checkpoint leaves out the last of the rows that changed. After the next start that row is as old as the checkpoint before:
    /// finished messages come again, objects that hold records look like orphans.
    CheckpointSkipsRow,
    /// A compactor's swap is taken without a look whether the partition still holds what it read. The second of two swaps of the
    /// same records lets go of the old objects twice: objects that are still read are deleted.
    SwapWithoutGeneration,
    /// Dedup ids and idempotency keys are forgotten after a second instead of at the end of their window. A request that is
    /// repeated after a lost answer is stored twice.
    DedupForgottenEarly,
    /// A receipt settles whatever lease its message has, also another receiver's later one: a message that is being worked on
    /// disappears although the one who holds it fails.
    ReceiptWithoutAttempt,
    /// An owner goes by its own machine's clock instead of the store's. After a takeover by a machine whose clock is ahead, leases
    /// end early: a message is given to a second receiver while the first one holds it.
    LeaseByOwnClock,
    /// A reader passes over a batch whose bytes are damaged. Records are missing from an answer that looks complete.
    CorruptBatchSkipped,
    /// A read below the log start goes on at the log start instead of being refused. A consumer that fell behind retention loses
    /// records and is not told.
    BelowLogStartSkipped,
    /// The read cache names blocks by a part of the object's id, which objects of about the same minute share. Readers get another
    /// object's records, or an error.
    CacheKeyTooShort,
    /// A refused atom moves its cursors and settles its leases all the same, without its appends: a consumer goes past records whose
    /// results were never stored, a dead letter is neither in the queue nor in its topic.
    AtomInPart,
    /// An owner whose append was refused goes on with a state that the journal does not have. What was never stored is read, the
    /// next offsets lie behind it, and the next start finds a hole in the journal.
    OwnerGoesOn,
    /// What is told to a waiting reader or receiver while it asks is dropped. It sleeps to its deadline with records before it.
    WakeUpLost,
    /// Fencing tokens are not held against the highest that was seen. A writer that was shut out goes on writing.
    FencingTokenIgnored,
    /// The store takes entries of former reigns, and owners count on it not to: one whose lease ends while an append is under way lets
    /// the store say what becomes of it. An entry that comes to a place which a checkpoint emptied is written there and acknowledged,
    /// and never read again.
    FormerOwnerAppends,
    /// An owner answers without being certain of its lease. One that was paused tells of a state that others have gone past: what
    /// was acknowledged elsewhere is not there.
    AnswerWithoutLease,
    /// A commit that is repeated after a lost answer is applied again: the records are in the log twice.
    RepeatedCommitApplied,
}

/// Whether this mistake is planted.
#[cfg(not(feature = "planted"))]
#[inline(always)]
pub const fn is(_bug: Bug) -> bool {
    false
}

#[cfg(feature = "planted")]
mod armed {
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

    use super::Bug;

    /// Every mistake by its name, in the order of [`Bug`].
    pub const ALL: &[(&str, Bug)] = &[
        ("ack-before-commit", Bug::AckBeforeCommit),
        ("commit-before-put", Bug::CommitBeforePut),
        ("look-instead-of-write", Bug::LookInsteadOfWrite),
        ("sweep-without-refusal", Bug::SweepWithoutRefusal),
        ("offsets-from-counter", Bug::OffsetsFromCounter),
        ("answer-before-append", Bug::AnswerBeforeAppend),
        ("checkpoint-skips-row", Bug::CheckpointSkipsRow),
        ("swap-without-generation", Bug::SwapWithoutGeneration),
        ("dedup-forgotten-early", Bug::DedupForgottenEarly),
        ("receipt-without-attempt", Bug::ReceiptWithoutAttempt),
        ("lease-by-own-clock", Bug::LeaseByOwnClock),
        ("corrupt-batch-skipped", Bug::CorruptBatchSkipped),
        ("below-log-start-skipped", Bug::BelowLogStartSkipped),
        ("cache-key-too-short", Bug::CacheKeyTooShort),
        ("atom-in-part", Bug::AtomInPart),
        ("owner-goes-on", Bug::OwnerGoesOn),
        ("wake-up-lost", Bug::WakeUpLost),
        ("fencing-token-ignored", Bug::FencingTokenIgnored),
        ("former-owner-appends", Bug::FormerOwnerAppends),
        ("answer-without-lease", Bug::AnswerWithoutLease),
        ("repeated-commit-applied", Bug::RepeatedCommitApplied),
    ];

    const NONE: usize = usize::MAX;

    static PLANTED: AtomicUsize = AtomicUsize::new(NONE);
    static REACHED: AtomicU64 = AtomicU64::new(0);

    /// Plants the mistake of this name in the place of another. Answers whether there is one.
    pub fn plant(name: &str) -> bool {
        let found = ALL.iter().find(|(known, _)| *known == name);
        if let Some((_, bug)) = found {
            REACHED.store(0, Ordering::SeqCst);
            PLANTED.store(*bug as usize, Ordering::SeqCst);
        }
        found.is_some()
    }

    /// From here on nothing is planted.
    pub fn remove() {
        PLANTED.store(NONE, Ordering::SeqCst);
    }

    /// How often the planted mistake was made since it was planted: one that is never made cannot be found.
    pub fn reached() -> u64 {
        REACHED.load(Ordering::SeqCst)
    }

    /// Whether this mistake is planted. Counts that it is made: to be asked last, where the answer changes something.
    #[inline]
    pub fn is(bug: Bug) -> bool {
        let planted = PLANTED.load(Ordering::Relaxed) == bug as usize;
        if planted {
            REACHED.fetch_add(1, Ordering::Relaxed);
        }
        planted
    }
}
