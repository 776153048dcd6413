//! Which shards a replica should hold: a pure function of what the store said last. No replica decides for another; that each
//! computes the same from the same roll is what makes them agree, and the store settles it where they saw different ones.
//!
//! The rule: free shards go, one by one, to the replica that holds the fewest; then, while one replica holds at least two
//! more than another, it gives one to it. So counts differ by at most one in the end, nothing moves that need not, and a
//! cluster that is even is left alone whatever the order of its replicas.

use std::collections::{BTreeMap, BTreeSet};

use lakefall_queue::ShardId;

use crate::store::{ReplicaId, Roll};

/// What a replica knows of itself better than the store's roll, which may be older.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mine {
    /// Shards that it holds or is taking.
    pub held: BTreeSet<ShardId>,
    /// Shards that it is giving back.
    pub leaving: BTreeSet<ShardId>,
}

/// What a replica does next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Free shards that fall to it, in order.
    pub take: Vec<ShardId>,
    /// Shards to hand over, so that another can take them, in order.
    pub give: Vec<ShardId>,
}

/// What replica `me` does after `roll`.
pub fn plan(me: ReplicaId, roll: &Roll, mine: &Mine) -> Plan {
    let mut counts: BTreeMap<ReplicaId, usize> = roll.replicas.iter().map(|replica| (replica.id, 0)).collect();
    *counts.entry(me).or_default() = mine.held.len();
    let mut free = Vec::new();
    let mut take = Vec::new();
    for holding in &roll.holdings {
        let owner = holding.owner.as_ref().map(|owner| owner.id);
        match owner {
            _ if mine.held.contains(&holding.shard) => {}
            // The store says that it is this replica's, and it knows nothing of it: a take whose answer was lost.
            Some(owner) if owner == me && !mine.leaving.contains(&holding.shard) => {
                take.push(holding.shard);
                *counts.entry(me).or_default() += 1;
            }
            // On its way to whoever takes it.
            Some(owner) if owner == me => free.push(holding.shard),
            None => free.push(holding.shard),
            // One that is not alive counts for nothing, and its shard is not free before its lease ends.
            Some(owner) => {
                if let Some(count) = counts.get_mut(&owner) {
                    *count += 1;
                }
            }
        }
    }
    for shard in free {
        let fewest = counts.iter().min_by_key(|(id, count)| (**count, **id)).map_or(me, |(id, _)| *id);
        *counts.entry(fewest).or_default() += 1;
        if fewest == me && !mine.leaving.contains(&shard) {
            take.push(shard);
        }
    }
    take.sort_unstable();
    // The highest numbers go: which ones makes no difference, as long as every look says the same.
    let give = mine.held.iter().rev().take(surplus(me, counts)).copied().collect::<BTreeSet<_>>();
    Plan { take, give: give.into_iter().collect() }
}

/// How many of its shards `me` gives until no two replicas' counts differ by two.
fn surplus(me: ReplicaId, mut counts: BTreeMap<ReplicaId, usize>) -> usize {
    let mut given = 0;
    loop {
        let most = counts.iter().max_by_key(|(id, count)| (**count, **id)).map(|(id, count)| (*id, *count));
        let fewest = counts.iter().min_by_key(|(id, count)| (**count, **id)).map(|(id, count)| (*id, *count));
        let (Some((from, most)), Some((to, fewest))) = (most, fewest) else { return given };
        if most < fewest + 2 {
            return given;
        }
        given += usize::from(from == me);
        counts.insert(from, most - 1);
        counts.insert(to, fewest + 1);
    }
}
