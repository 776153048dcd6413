//! The plan by itself: whatever comes, leaves and dies, and however late anybody looks, shards end up spread evenly, each
//! with one owner, and no more of them move than must.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lakefall_metadata::placement::{Mine, Plan, plan};
use lakefall_metadata::{Holding, Replica, ReplicaId, Roll};
use lakefall_queue::{ShardId, Timestamp};
use proptest::prelude::*;

/// A store and its replicas, without time: a dead replica's leases end when the test says so.
#[derive(Debug, Default)]
struct World {
    shards: u32,
    owners: BTreeMap<ShardId, ReplicaId>,
    alive: BTreeSet<ReplicaId>,
    dead: BTreeSet<ReplicaId>,
    /// What each is handing over: still its own in the store.
    leaving: BTreeMap<ReplicaId, BTreeSet<ShardId>>,
    moves: usize,
    next: u128,
}

impl World {
    fn roll(&self) -> Roll {
        let replica = |id: &ReplicaId| Replica { id: *id, address: String::new() };
        let listed: BTreeSet<_> = self.alive.union(&self.dead).collect();
        let holding = |shard| Holding { shard, owner: self.owners.get(&shard).map(replica), remaining: Duration::from_secs(1) };
        Roll {
            now: Timestamp::default(),
            replicas: listed.into_iter().map(replica).collect(),
            holdings: (0..self.shards).map(ShardId).map(holding).collect(),
            renewed: Vec::new(),
        }
    }

    fn mine(&self, of: ReplicaId) -> Mine {
        let leaving = self.leaving.get(&of).cloned().unwrap_or_default();
        let owned = self.owners.iter().filter(|(_, owner)| **owner == of).map(|(shard, _)| *shard);
        Mine { held: owned.filter(|shard| !leaving.contains(shard)).collect(), leaving }
    }

    fn plan(&self, of: ReplicaId, roll: &Roll) -> Plan {
        plan(of, roll, &self.mine(of))
    }

    fn carry_out(&mut self, of: ReplicaId, plan: Plan) {
        for shard in plan.take {
            // The store refuses what is held.
            if let std::collections::btree_map::Entry::Vacant(free) = self.owners.entry(shard) {
                free.insert(of);
                self.moves += 1;
            }
        }
        self.leaving.entry(of).or_default().extend(plan.give);
    }

    /// What one is handing over is given back.
    fn release(&mut self, of: ReplicaId) {
        for shard in self.leaving.remove(&of).unwrap_or_default() {
            self.owners.remove(&shard);
        }
    }

    fn join(&mut self) {
        self.next += 1;
        // Not in the order of their age.
        self.alive.insert(ReplicaId(self.next.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 1_000_003));
    }

    fn nth(&self, n: usize) -> Option<ReplicaId> {
        self.alive.iter().nth(n % self.alive.len().max(1)).copied()
    }

    /// All leases of the dead end.
    fn bury(&mut self) {
        let dead = std::mem::take(&mut self.dead);
        self.owners.retain(|_, owner| !dead.contains(owner));
    }

    fn leave(&mut self, of: ReplicaId) {
        self.alive.remove(&of);
        self.leaving.remove(&of);
        self.owners.retain(|_, owner| *owner != of);
    }

    fn settle(&mut self) -> usize {
        for round in 0..4 * self.shards as usize + 4 {
            let before = (self.owners.clone(), self.leaving.values().map(BTreeSet::len).sum::<usize>());
            for replica in self.alive.clone() {
                let plan = self.plan(replica, &self.roll());
                self.carry_out(replica, plan);
                self.release(replica);
            }
            if before == (self.owners.clone(), 0) {
                return round;
            }
        }
        panic!("it does not settle: {self:?}");
    }

    fn check_even(&self) {
        assert_eq!(self.owners.len() as u32, self.shards, "every shard has an owner: {self:?}");
        let mut counts: BTreeMap<_, usize> = self.alive.iter().map(|id| (*id, 0)).collect();
        self.owners.values().for_each(|owner| *counts.get_mut(owner).expect("one that is alive") += 1);
        let (least, most) = (counts.values().min().unwrap(), counts.values().max().unwrap());
        assert!(most - least <= 1, "{counts:?}");
    }
}

#[derive(Clone, Debug)]
enum Step {
    Join,
    Leave(usize),
    Die(usize),
    Bury,
    /// One looks, and acts on it later or at once.
    Look(usize),
    Act(usize),
    Release(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => Just(Step::Join),
        1 => any::<usize>().prop_map(Step::Leave),
        1 => any::<usize>().prop_map(Step::Die),
        1 => Just(Step::Bury),
        6 => any::<usize>().prop_map(Step::Look),
        6 => any::<usize>().prop_map(Step::Act),
        4 => any::<usize>().prop_map(Step::Release),
    ];
    prop::collection::vec(step, 0..80)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happened_and_however_stale_the_looks_it_becomes_even(shards in 1_u32..40, steps in steps()) {
        let mut world = World { shards, ..World::default() };
        world.join();
        // Rolls that were read and not yet acted upon.
        let mut seen: BTreeMap<ReplicaId, Roll> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Join => world.join(),
                Step::Leave(n) => if world.alive.len() > 1 && let Some(id) = world.nth(n) { world.leave(id) },
                Step::Die(n) => if world.alive.len() > 1 && let Some(id) = world.nth(n) {
                    world.alive.remove(&id);
                    world.leaving.remove(&id);
                    world.dead.insert(id);
                },
                Step::Bury => world.bury(),
                Step::Look(n) => if let Some(id) = world.nth(n) { seen.insert(id, world.roll()); },
                Step::Act(n) => if let Some(id) = world.nth(n) && let Some(roll) = seen.remove(&id) {
                    let plan = world.plan(id, &roll);
                    world.carry_out(id, plan);
                },
                Step::Release(n) => if let Some(id) = world.nth(n) { world.release(id) },
            }
        }
        world.bury();
        world.settle();
        world.check_even();
        // And then nothing moves any more.
        let roll = world.roll();
        for replica in world.alive.clone() {
            prop_assert_eq!(world.plan(replica, &roll), Plan::default());
        }
    }

    #[test]
    fn one_who_joins_costs_its_share_and_one_who_goes_costs_what_it_had(shards in 1_u32..64, replicas in 1_usize..9, goes in any::<usize>()) {
        let mut world = World { shards, ..World::default() };
        (0..replicas).for_each(|_| world.join());
        world.settle();
        world.check_even();
        prop_assert_eq!(world.moves as u32, shards, "each was taken once");

        world.moves = 0;
        world.join();
        world.settle();
        world.check_even();
        prop_assert!(world.moves <= (shards as usize).div_ceil(replicas + 1), "{} moves", world.moves);

        world.moves = 0;
        let id = world.nth(goes).unwrap();
        let had = world.mine(id).held.len();
        world.leave(id);
        world.settle();
        world.check_even();
        prop_assert_eq!(world.moves, had);
    }

    /// Handovers take time, and everybody looks again while they are under way.
    #[test]
    fn looking_again_while_shards_are_on_their_way_moves_no_more(shards in 1_u32..64, replicas in 1_usize..6, order in prop::collection::vec(any::<usize>(), 200)) {
        let mut world = World { shards, ..World::default() };
        (0..replicas).for_each(|_| world.join());
        world.settle();
        world.moves = 0;
        world.join();
        for n in order {
            let id = world.nth(n / 2).unwrap();
            if n % 2 == 0 {
                let plan = world.plan(id, &world.roll());
                world.carry_out(id, plan);
            } else {
                world.release(id);
            }
        }
        world.settle();
        world.check_even();
        // One more than its share may pass through where the share does not divide.
        prop_assert!(world.moves <= (shards as usize).div_ceil(replicas + 1) + 1, "{} moves", world.moves);
    }
}

#[test]
fn a_shard_that_the_store_says_is_ours_and_that_nobody_serves_here_is_taken_again() {
    let mut world = World { shards: 2, ..World::default() };
    world.join();
    let me = world.nth(0).unwrap();
    world.owners.insert(ShardId(1), me);
    let mine = Mine::default();
    assert_eq!(plan(me, &world.roll(), &mine).take, [ShardId(0), ShardId(1)]);
    let mine = Mine { leaving: [ShardId(1)].into(), ..Mine::default() };
    assert_eq!(plan(me, &world.roll(), &mine), Plan { take: vec![ShardId(0)], give: Vec::new() }, "not what is being given back");
}
