//! Who works on what. In the owner's memory only: it saves work, and keeps nothing right.

use std::collections::BTreeMap;

use super::{Claim, ClaimWork, Work};
use crate::ledger::{Applied, Ledger, Reply};
use crate::time::Timestamp;

/// The claims of a shard.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claims(BTreeMap<Work, (u128, Timestamp)>);

impl Claims {
    /// Those that last.
    pub(crate) fn lasting(&self, now: Timestamp) -> impl Iterator<Item = Claim> {
        let lasting = self.0.iter().filter(move |(_, (_, until))| *until > now);
        lasting.map(|(work, (worker, until))| Claim { work: *work, worker: *worker, until: *until })
    }
}

impl Ledger {
    /// Takes what nobody else has; says again what the worker has.
    pub(crate) fn claim(&mut self, claim: &ClaimWork, now: Timestamp) -> Applied {
        let claims = &mut self.claims.0;
        claims.retain(|_, (_, until)| *until > now);
        let until = now.plus(claim.lease);
        let taken = claim.works.iter().map(|work| {
            let held = claims.entry(*work).or_insert((claim.worker, until));
            let own = held.0 == claim.worker;
            if own {
                held.1 = until;
            }
            own
        });
        Applied::unchanged(Ok(Reply::Claimed(taken.collect())))
    }

    /// Gives back what the worker has.
    pub(crate) fn unclaim(&mut self, worker: u128, works: &[Work]) -> Applied {
        self.claims.0.retain(|work, (holder, _)| *holder != worker || !works.contains(work));
        Applied::unchanged(Ok(Reply::Done))
    }
}
