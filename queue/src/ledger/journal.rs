//! The rules of the journal that the ledger lies in, as pure functions: which append the store takes, and what an owner does after
//! an attempt (L4). The store in memory and the owner go by them, and so does the model of the protocol; the SQL of the other
//! stores says the same, which the contract suite of the stores holds them to.

use crate::id::Epoch;

/// What the store does with an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placed {
    /// It is written now.
    New,
    /// This writer's entry stands there: written by an earlier attempt.
    Before,
    /// Another writer's entry stands there.
    Taken,
    /// Nothing stands there, and the reign of the writer is over.
    Over,
}

/// Where an append of `writer` under `epoch` goes, if `standing` is whose entry is there and `reign` the store's epoch of the
/// shard. What stands is told even after the reign: that is how an append in doubt is settled.
pub fn place<W: PartialEq>(standing: Option<&W>, writer: &W, epoch: Epoch, reign: Epoch) -> Placed {
    match standing {
        Some(standing) if standing == writer => Placed::Before,
        Some(_) => Placed::Taken,
        None if epoch == reign => Placed::New,
        None => Placed::Over,
    }
}

/// How an attempt to append ended, as far as the owner can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Attempt {
    /// The entry stands.
    Done,
    /// This attempt did nothing.
    NotApplied,
    /// This attempt did nothing and no other will: the place is another's, or the reign is over.
    Fenced,
    /// It may have been written, or may be yet.
    Unknown,
}

/// What an owner does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Answers: the entry is durable.
    Answer,
    /// Writes it again, under the same token.
    Again,
    /// Drops its state and tells its callers that nothing was applied.
    NotApplied,
    /// Drops its state and tells its callers that it is not known. Even though the writer is fenced: the next owner may have
    /// replayed the entry and dropped it with a checkpoint, so that the store no longer knows of it.
    Unknown,
}

/// What an owner does after an attempt, if an earlier one of the same entry was in doubt or none was. Never settled by looking:
/// what is not there may be on its way.
pub fn after(attempt: Attempt, doubtful: bool) -> Next {
    match (attempt, doubtful) {
        (Attempt::Done, _) => Next::Answer,
        (Attempt::Unknown, _) | (Attempt::NotApplied, true) => Next::Again,
        (Attempt::NotApplied | Attempt::Fenced, false) => Next::NotApplied,
        (Attempt::Fenced, true) => Next::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_taken_once_and_only_by_the_reign_that_lasts() {
        let (mine, other) = (7, 8);
        assert_eq!(place(None, &mine, Epoch(3), Epoch(3)), Placed::New);
        assert_eq!(place(None, &mine, Epoch(3), Epoch(4)), Placed::Over);
        for reign in [3, 4] {
            assert_eq!(place(Some(&mine), &mine, Epoch(3), Epoch(reign)), Placed::Before);
            assert_eq!(place(Some(&other), &mine, Epoch(3), Epoch(reign)), Placed::Taken);
        }
    }

    #[test]
    fn what_was_in_doubt_once_is_never_told_as_not_applied() {
        for attempt in [Attempt::Done, Attempt::NotApplied, Attempt::Fenced, Attempt::Unknown] {
            assert_ne!(after(attempt, true), Next::NotApplied, "{attempt:?}");
        }
        assert_eq!(after(Attempt::Unknown, false), Next::Again);
        assert_eq!((after(Attempt::NotApplied, false), after(Attempt::Fenced, false)), (Next::NotApplied, Next::NotApplied));
    }
}
