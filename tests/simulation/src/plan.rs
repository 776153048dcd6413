//! What a seed decides before anything runs: how large the cluster is and how it is set, which faults there will be, how often,
//! and when. Each seed enables some of the faults, so that runs differ in what they try together.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::dice::Dice;
use crate::fault::Fault;
use crate::length::Length;

/// How old an orphan must be where gateways are stranded…
const HASTY_GRACE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(6));
/// …and the time between two sweeps there: both little more than the least that the settings take.
const HASTY_INTERVAL: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(12));
/// How much longer than both together a gateway is stranded: a sweep passes by all that it stored at first. It is less than a gateway
/// repeats a commit, and mostly less than a client waits for the answer.
const STRANDED: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(10));
/// Pause between two strandings, about: meanwhile that gateway's clients get nothing done.
const BETWEEN_STRANDED: (Duration, Duration) = (Duration::from_secs(45), Duration::from_secs(90));
/// Shares of requests that are struck, in 10,000.
const RATE: (u64, u64) = (30, 400);
/// Fewest kinds of faults of a run.
const KINDS: usize = 4;
/// Of all kinds, so many in 100 are enabled.
const ENABLED: u64 = 30;
/// One in so many seeds enables a kind that was added.
const ADDED: u64 = 2;
/// Past its lease, an owner is held up for so long: gateways still wait for what they asked it.
const HELD: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(6));
/// Journal entries between two checkpoints where owners are held up: so few that the next owner empties places meanwhile that something
/// is on its way to.
const HELD_ENTRIES: (u64, u64) = (5, 60);

/// A role, or the clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// A gateway.
    Gateway,
    /// A metadata replica.
    Metadata,
    /// A compactor with a collector.
    Compactor,
    /// Producers and readers of the log, senders and receivers of the queue.
    Clients,
}

/// A host of the simulated network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Host {
    /// What runs there.
    pub role: Role,
    /// Which one of that role.
    pub index: usize,
}

impl Host {
    /// Its name on the network.
    pub fn name(self) -> String {
        let role = match self.role {
            Role::Gateway => "gateway",
            Role::Metadata => "metadata",
            Role::Compactor => "compactor",
            Role::Clients => "clients",
        };
        format!("{role}-{}", self.index)
    }
}

/// What is done at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// The process is killed, and another is started after this time.
    Crash(Host, Duration),
    /// The process is stopped for this time.
    Pause(Host, Duration),
    /// The replica that owns most is stopped for so long.
    Usurp(Duration),
    /// Told to stop; started again when it has stopped. Then the next of its role.
    Roll(Role),
    /// No packets between two hosts for this time.
    Partition(Host, Host, Duration),
    /// None between a gateway and all metadata replicas.
    Strand(Host, Duration),
    /// None from the first to the second.
    OneWay(Host, Host, Duration),
    /// Packets between two hosts take up to the second time for the first.
    Slow(Host, Host, Duration, Duration),
    /// Packets between two hosts are held up for this time.
    Hold(Host, Host, Duration),
    /// One of so many packets between two hosts is lost, and what is on its way with it, for this time.
    Lose(Host, Host, u64, Duration),
    /// The wall clock of a host is so many milliseconds off from now on.
    Clock(Host, i64),
    /// The replica does not reach the database for this time.
    Away(Host, Duration),
    /// What the replica that owns most sends the database arrives only after this time.
    Withhold(Duration),
}

/// What a seed decides.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// How long the run is.
    pub length: Length,
    /// Gateways.
    pub gateways: usize,
    /// Metadata replicas.
    pub replicas: usize,
    /// Compactors.
    pub compactors: usize,
    /// Shards of the cluster.
    pub shards: u32,
    /// Partitions of the topic.
    pub partitions: u32,
    /// Of shards.
    pub lease: Duration,
    /// Journal entries between two checkpoints.
    pub checkpoint_entries: u64,
    /// Extents of a partition that stay in an owner's memory.
    pub recent_extents: usize,
    /// Most bytes of a segment, and of a batch before compression.
    pub segment_bytes: (usize, usize),
    /// PUT requests of a gateway per second, if they are bounded.
    pub puts_per_second: Option<f64>,
    /// Uploads of a gateway at once.
    pub uploads: usize,
    /// Bytes of the gateways' block caches.
    pub cache_bytes: usize,
    /// How long an object outlives its last extent.
    pub grace: Duration,
    /// How old an orphan must be.
    pub orphan_grace: Duration,
    /// Between two sweeps.
    pub orphan_interval: Duration,
    /// Between two rounds of the collector.
    pub collect_interval: Duration,
    /// Between two merges.
    pub merge_interval: Duration,
    /// Of claims of compactors.
    pub claim: Duration,
    /// After which a topic's records go into Parquet files.
    pub parquet_age: Duration,
    /// Of messages of the queue.
    pub message_lease: Duration,
    /// After which a message is dead, if ever.
    pub max_attempts: Option<u32>,
    /// Pause of a producer between two batches, at most.
    pub pace: Duration,
    /// The faults that are enabled.
    pub faults: BTreeSet<Fault>,
    /// Those that strike requests: in 10,000.
    pub rates: BTreeMap<Fault, u32>,
    /// Those that happen at moments, in order.
    pub schedule: Vec<(Duration, Fault, Action)>,
}

/// Hosts of clients.
pub const CLIENT_HOSTS: usize = 2;

impl Plan {
    /// What this seed decides for a run of this length.
    pub fn new(seed: u64, length: Length) -> Self {
        let mut dice = Dice::new(seed, "plan");
        let seconds = |dice: &mut Dice, low, high| dice.time(Duration::from_secs(low), Duration::from_secs(high));
        let patience = |dice: &mut Dice, low, high| seconds(dice, low, high) / length.hurry;
        let mut plan = Self {
            seed,
            length,
            gateways: dice.between(2, 3) as usize,
            replicas: 2,
            compactors: dice.between(1, 2) as usize,
            shards: *dice.pick(&[1, 1, 2, 3]),
            partitions: dice.between(1, 3) as u32,
            lease: dice.time(Duration::from_millis(2_000), Duration::from_millis(5_000)),
            checkpoint_entries: dice.between(10, 300),
            recent_extents: dice.between(1, 40) as usize,
            segment_bytes: *dice.pick(&[(64 << 10, 4 << 10), (256 << 10, 16 << 10), (8 << 20, 1 << 20)]),
            puts_per_second: *dice.pick(&[None, Some(4.0), Some(10.0), Some(25.0)]),
            uploads: dice.between(1, 8) as usize,
            cache_bytes: *dice.pick(&[64 << 10, 1 << 20, 16 << 20]),
            grace: patience(&mut dice, 5, 70),
            orphan_grace: patience(&mut dice, 15, 60),
            orphan_interval: patience(&mut dice, 10, 40),
            collect_interval: seconds(&mut dice, 2, 10),
            merge_interval: seconds(&mut dice, 3, 20),
            claim: seconds(&mut dice, 10, 40),
            parquet_age: patience(&mut dice, 5, 60),
            message_lease: seconds(&mut dice, 3, 12),
            max_attempts: *dice.pick(&[None, Some(5), Some(12)]),
            pace: dice.time(Duration::from_millis(800), Duration::from_millis(2_000)),
            faults: BTreeSet::new(),
            rates: BTreeMap::new(),
            schedule: Vec::new(),
        };
        while plan.faults.len() < KINDS {
            let known = Fault::ALL.into_iter().filter(|fault| !Fault::ADDED.contains(fault));
            plan.faults.extend(known.filter(|_| dice.between(1, 100) <= ENABLED));
        }
        for fault in plan.faults.clone() {
            plan.enable(fault, &mut dice);
        }
        for fault in Fault::ADDED {
            plan.add(fault);
        }
        // In a short run some find no moment.
        plan.faults.retain(|fault| plan.rates.contains_key(fault) || plan.schedule.iter().any(|(_, of, _)| of == fault));
        plan.schedule.sort_by_key(|(at, fault, _)| (*at, *fault));
        plan
    }

    /// All hosts.
    pub fn hosts(&self) -> Vec<Host> {
        let of = |role, count| (0..count).map(move |index| Host { role, index });
        of(Role::Metadata, self.replicas)
            .chain(of(Role::Gateway, self.gateways))
            .chain(of(Role::Compactor, self.compactors))
            .chain(of(Role::Clients, CLIENT_HOSTS))
            .collect()
    }

    /// Faults of this kind happen: at moments, or to a share of requests.
    fn enable(&mut self, fault: Fault, dice: &mut Dice) {
        if fault.is_scheduled() {
            self.order(fault, dice);
        } else {
            self.rates.insert(fault, dice.between(RATE.0, RATE.1) as u32);
        }
    }

    /// Enables a kind that was added, with the settings that it needs, or does not. Its dice are its own.
    fn add(&mut self, fault: Fault) {
        let mut dice = Dice::new(self.seed, &format!("plan {fault}"));
        if !dice.one_in(ADDED) {
            return;
        }
        match fault {
            // Only the ledgers' refusal keeps what was deleted from being committed.
            Fault::Stranded => {
                self.orphan_grace = dice.time(HASTY_GRACE.0, HASTY_GRACE.1);
                self.orphan_interval = dice.time(HASTY_INTERVAL.0, HASTY_INTERVAL.1);
            }
            Fault::MetaHeld => self.checkpoint_entries = dice.between(HELD_ENTRIES.0, HELD_ENTRIES.1),
            _ => {}
        }
        self.faults.insert(fault);
        self.enable(fault, &mut dice);
    }

    /// Writes faults of this kind into the schedule.
    fn order(&mut self, fault: Fault, dice: &mut Dice) {
        let between = if fault == Fault::Stranded { BETWEEN_STRANDED } else { self.length.between };
        let pause = dice.time(between.0, between.1);
        let mut at = self.length.storm + dice.time(Duration::from_secs(1), pause);
        loop {
            let Some((action, lasts)) = self.action(fault, dice) else { return };
            if at + lasts >= self.length.heal {
                return;
            }
            self.schedule.push((at, fault, action));
            at += lasts + dice.time(pause / 2, pause * 3 / 2);
        }
    }

    /// One fault, and how long until it is over.
    fn action(&self, fault: Fault, dice: &mut Dice) -> Option<(Action, Duration)> {
        let hosts = self.hosts();
        let servers: Vec<Host> = hosts.iter().copied().filter(|host| host.role != Role::Clients).collect();
        let replicas: Vec<Host> = hosts.iter().copied().filter(|host| host.role == Role::Metadata).collect();
        let (one, other) = self.link(&hosts, dice);
        let lasts = dice.time(Duration::from_millis(300), Duration::from_secs(25));
        let server = *dice.pick(&servers);
        let action = match fault {
            Fault::Crash => Action::Crash(server, dice.time(Duration::from_millis(50), Duration::from_secs(12))),
            Fault::Pause => Action::Pause(server, lasts),
            Fault::Usurped => {
                let stopped = self.lease + dice.time(Duration::from_millis(200), Duration::from_secs(10));
                return Some((Action::Usurp(stopped), stopped));
            }
            Fault::Rolling => {
                let role = *dice.pick(&[Role::Gateway, Role::Metadata, Role::Compactor]);
                return Some((Action::Roll(role), self.length.rolling));
            }
            Fault::Stranded => {
                let gateways: Vec<Host> = servers.into_iter().filter(|host| host.role == Role::Gateway).collect();
                let stranded = self.orphan_grace + self.orphan_interval + dice.time(STRANDED.0, STRANDED.1);
                return Some((Action::Strand(*dice.pick(&gateways), stranded), stranded));
            }
            Fault::Partition => Action::Partition(one, other, lasts),
            Fault::OneWay => Action::OneWay(one, other, lasts),
            Fault::SlowLink => Action::Slow(one, other, lasts, dice.time(Duration::from_millis(200), Duration::from_secs(3))),
            Fault::Held => Action::Hold(one, other, lasts),
            Fault::Loss => Action::Lose(one, other, dice.between(20, 200), lasts),
            Fault::ClockStep => {
                let off = dice.between(1_000, 3_600_000) as i64;
                return Some((Action::Clock(server, if dice.one_in(2) { off } else { -off }), Duration::ZERO));
            }
            Fault::MetaAway => Action::Away(*dice.pick(&replicas), lasts),
            Fault::MetaHeld => {
                let held = self.lease + dice.time(HELD.0, HELD.1);
                return Some((Action::Withhold(held), held));
            }
            _ => return None,
        };
        let lasts = match &action {
            Action::Crash(_, down) => *down,
            _ => lasts,
        };
        Some((action, lasts))
    }

    /// Two hosts that talk to each other.
    fn link(&self, hosts: &[Host], dice: &mut Dice) -> (Host, Host) {
        loop {
            let (one, other) = (*dice.pick(hosts), *dice.pick(hosts));
            let talk = match (one.role, other.role) {
                (Role::Clients, role) | (role, Role::Clients) => role == Role::Gateway,
                (one, other) => one == Role::Metadata || other == Role::Metadata,
            };
            if talk && one != other {
                return (one, other);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_decides_the_same_twice_and_another_seed_something_else() {
        let told = |seed| format!("{:?}", Plan::new(seed, Length::LONG));
        assert_eq!(told(7), told(7));
        assert_ne!(told(7), told(8));
    }

    #[test]
    fn every_kind_of_fault_is_planned_by_some_of_a_hundred_seeds_and_every_scheduled_one_has_a_moment() {
        for length in [Length::LONG, Length::SHORT] {
            let mut planned = BTreeSet::new();
            for seed in 0..100 {
                let plan = Plan::new(seed, length);
                assert!(plan.faults.len() >= KINDS || length == Length::SHORT, "seed {seed}: {:?}", plan.faults);
                for fault in &plan.faults {
                    let strikes = plan.rates.contains_key(fault) || plan.schedule.iter().any(|(_, of, _)| of == fault);
                    assert!(strikes, "seed {seed}: {fault} is enabled and never happens");
                }
                assert!(plan.schedule.iter().all(|(at, ..)| (length.storm..length.heal).contains(at)), "seed {seed}");
                planned.extend(plan.faults);
            }
            assert_eq!(planned.len(), Fault::ALL.len(), "{length:?}");
        }
    }

    #[test]
    fn a_stranded_gateway_is_away_for_longer_than_orphans_are_left_and_less_than_it_repeats_a_commit() {
        let repeated = Duration::from_secs(60);
        for seed in 0..100 {
            let plan = Plan::new(seed, Length::LONG);
            for (_, _, action) in &plan.schedule {
                let Action::Strand(host, lasts) = action else { continue };
                assert_eq!(host.role, Role::Gateway);
                assert!(*lasts > plan.orphan_grace + plan.orphan_interval && *lasts < repeated, "seed {seed}: {lasts:?}");
            }
        }
    }

    #[test]
    fn an_owner_is_held_up_past_the_end_of_its_lease() {
        let held = |seed| {
            let plan = Plan::new(seed, Length::LONG);
            let past = |(_, _, action): &(Duration, Fault, Action)| match action {
                Action::Withhold(time) => Some(time.saturating_sub(plan.lease)),
                _ => None,
            };
            plan.schedule.iter().filter_map(past).collect::<Vec<_>>()
        };
        let past: Vec<Duration> = (0..100).flat_map(held).collect();
        assert!(past.len() > 100 && past.iter().all(|past| (HELD.0..=HELD.1).contains(past)), "{past:?}");
    }
}
