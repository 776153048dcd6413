//! The faults that a run may draw: which there are, what each one takes hold of, and in which order they come. Must never look at
//! the time: the same seed draws the same deck.

use std::collections::{BTreeMap, BTreeSet};

use crate::dice::Dice;

/// What a fault takes hold of, so that two of one place do not mend each other's harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// One of the gateways.
    Gateway,
    /// Replicas, what they are reached by, and Postgres.
    Order,
    /// Compactors and their way to the store.
    Compactor,
    /// The store, as gateways see it.
    Store,
    /// Clients alone.
    Clients,
}

/// Which process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The gateway that was drawn.
    Gateway,
    /// The replica that owns the shard.
    Owner,
    /// The other replica.
    Other,
    /// The compactor.
    Compactor,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// `kill -9`, and a start.
    Kill(Who),
    /// The process kills itself at a point.
    Point(Who, &'static str),
    /// SIGSTOP for so many milliseconds.
    Pause(Who, u64),
    /// A gateway stops between upload and commit until its segment was swept.
    Zombie,
    /// SIGTERM, and a start.
    Stop(Who),
    /// A start with a clock that is wrong by this much, and one with the right time later.
    Clock(Who, &'static str),
    /// Next to no file descriptors are left.
    Descriptors,
    /// Bits flip on the cache disk.
    CacheBits,
    /// The cache disk is full.
    CacheFull,
    /// Clients go away in the middle of requests.
    Disconnects,
    /// The same request comes several times through all gateways.
    Duplicates,
    /// Connections that say next to nothing.
    SlowClients,
    /// The connections to the owner: reset, silent one way, slow, or cut in an answer.
    Rpc(Network),
    /// The owner's connections to Postgres, likewise.
    Postgres(Network),
    /// A committed append's answer is withheld: the connection is reset, or silent.
    LostReply {
        /// Silent instead of reset.
        silent: bool,
    },
    /// Postgres is stopped so, and started.
    Restart(Stop),
    /// The synchronous standby becomes the primary.
    Failover,
    /// Postgres refuses.
    Refuse(Refusal),
    /// The store, for gateways or compactors.
    Store(Lie),
    /// The S3 server is killed and started, or stands still.
    StoreServer {
        /// Stands still instead.
        paused: bool,
    },
    /// The store, for compactors.
    CompactorStore(Lie),
    /// Listings are those of before.
    StaleList,
    /// A second compactor works beside the first.
    Rival,
    /// Two gateways, the owner and the compactor are killed at once.
    Zone,
}

/// What may happen to connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// All are reset.
    Reset,
    /// Requests go nowhere.
    SilentToServer,
    /// Answers go nowhere.
    SilentToClient,
    /// Answers are late.
    Slow,
    /// One is cut in the middle of an answer.
    Cut,
}

/// How Postgres is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// `pg_ctl stop -m immediate`.
    Immediate,
    /// `pg_ctl stop -m fast`.
    Fast,
    /// `kill -9` of all its processes.
    Kill,
    /// SIGSTOP of all its processes, and SIGCONT.
    Pause,
}

/// How Postgres refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Transactions may only read.
    ReadOnly,
    /// No connections are left.
    Connections,
    /// All sessions are ended.
    Terminated,
    /// Someone holds the rows of all shards.
    Locks,
}

/// How the store misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// 503 to everything.
    SlowDown,
    /// 500, before it did anything.
    InternalError,
    /// A reset connection, likewise.
    ResetBefore,
    /// An upload that is cut.
    CutUpload,
    /// 500, after it did what was asked.
    ErrorAfter,
    /// A reset connection, likewise.
    ResetAfter,
    /// 409.
    Conflict,
    /// 412.
    PreconditionFailed,
    /// A bit of the answer flips.
    FlipBit,
    /// The answer is shorter, and says so.
    Truncate,
    /// The answer breaks off.
    CutDownload,
    /// Other bytes than asked for.
    WrongBytes,
    /// The same, and it says so.
    WrongRange,
    /// 404 for what is there.
    NoSuchKey,
    /// 403.
    AccessDenied,
    /// 400 for expired credentials.
    ExpiredToken,
    /// Late requests.
    DelayBefore,
    /// Late answers.
    DelayAfter,
}

/// A fault of the deck.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Faults of one class are alike: a short run has each class, a long one each fault.
    pub class: &'static str,
    /// Its name, the same in all reports.
    pub name: &'static str,
    /// Rows of the fault matrix in `docs/reliability.md`.
    pub rows: &'static [u8],
    /// Where.
    pub place: Place,
    /// What.
    pub harm: Harm,
    /// Needs objects that were let go of minutes ago: long runs only.
    pub late: bool,
}

const fn kind(class: &'static str, name: &'static str, rows: &'static [u8], place: Place, harm: Harm) -> Kind {
    Kind { class, name, rows, place, harm, late: false }
}

const fn late(class: &'static str, name: &'static str, rows: &'static [u8], place: Place, harm: Harm) -> Kind {
    Kind { class, name, rows, place, harm, late: true }
}

/// All faults.
pub const KINDS: &[Kind] = {
    use Harm::{CompactorStore, Point, Store};
    use Place::{Clients, Compactor, Gateway, Order};
    use Who::Owner;
    &[
        kind("kill -9", "kill: a gateway", &[1, 5, 50], Gateway, Harm::Kill(Who::Gateway)),
        kind("kill -9", "kill: the owner", &[3], Order, Harm::Kill(Owner)),
        kind("kill -9", "kill: the other replica", &[3], Order, Harm::Kill(Who::Other)),
        kind("kill -9", "kill: the compactor", &[30], Compactor, Harm::Kill(Who::Compactor)),
        kind("kill points of a write, gateway", "k0", &[1], Gateway, Point(Who::Gateway, "k0")),
        kind("kill points of a write, gateway", "k1", &[1], Gateway, Point(Who::Gateway, "k1")),
        kind("kill points of a write, gateway", "k2", &[2, 25], Gateway, Point(Who::Gateway, "k2")),
        kind("kill points of a write, gateway", "k3", &[2], Gateway, Point(Who::Gateway, "k3")),
        kind("kill points of a write, gateway", "k4", &[2], Gateway, Point(Who::Gateway, "k4")),
        kind("kill points of a write, gateway", "k8", &[5], Gateway, Point(Who::Gateway, "k8")),
        kind("kill points of a write, gateway", "k9", &[5], Gateway, Point(Who::Gateway, "k9")),
        kind("kill points of a write, owner", "k5", &[3], Order, Point(Owner, "k5")),
        kind("kill points of a write, owner", "k6", &[4], Order, Point(Owner, "k6")),
        kind("kill points of a write, owner", "k7", &[4], Order, Point(Owner, "k7")),
        kind("kill points of a checkpoint", "p1", &[3], Order, Point(Owner, "p1")),
        kind("kill points of a checkpoint", "p2", &[3], Order, Point(Owner, "p2")),
        kind("kill points of a checkpoint", "p3", &[3], Order, Point(Owner, "p3")),
        kind("kill points of a lease", "l1", &[45], Gateway, Point(Who::Gateway, "l1")),
        kind("kill points of a lease", "l2", &[45], Gateway, Point(Who::Gateway, "l2")),
        kind("kill points of a lease", "l3", &[44], Gateway, Point(Who::Gateway, "l3")),
        kind("kill points of compaction", "c1", &[30], Compactor, Point(Who::Compactor, "c1")),
        kind("kill points of compaction", "c2", &[30], Compactor, Point(Who::Compactor, "c2")),
        kind("kill points of compaction", "c3", &[30], Compactor, Point(Who::Compactor, "c3")),
        kind("kill points of compaction", "c4", &[30], Compactor, Point(Who::Compactor, "c4")),
        kind("kill points of compaction", "c5", &[30], Compactor, Point(Who::Compactor, "c5")),
        late("kill points of deletion", "c6", &[30], Compactor, Point(Who::Compactor, "c6")),
        late("kill points of deletion", "c7", &[30], Compactor, Point(Who::Compactor, "c7")),
        kind("processes that stand still", "pause: the owner, past its lease", &[33], Order, Harm::Pause(Owner, 3_500)),
        kind("processes that stand still", "pause: a gateway", &[33], Gateway, Harm::Pause(Who::Gateway, 3_000)),
        kind("processes that stand still", "pause: the compactor", &[31], Compactor, Harm::Pause(Who::Compactor, 3_000)),
        kind("a zombie gateway", "zombie: stopped before the commit until the segment was swept", &[33], Gateway, Harm::Zombie),
        kind("rolling restart", "SIGTERM: a gateway", &[46, 47], Gateway, Harm::Stop(Who::Gateway)),
        kind("rolling restart", "SIGTERM: the owner", &[47], Order, Harm::Stop(Owner)),
        kind("rolling restart", "SIGTERM: the compactor", &[47], Compactor, Harm::Stop(Who::Compactor)),
        kind("clock steps", "clock: a gateway, +1 h", &[29], Gateway, Harm::Clock(Who::Gateway, "+1h")),
        kind("clock steps", "clock: a gateway, -1 h", &[29], Gateway, Harm::Clock(Who::Gateway, "-1h")),
        kind("clock steps", "clock: a gateway, +8 min", &[29], Gateway, Harm::Clock(Who::Gateway, "+8m")),
        kind("clock steps", "clock: a gateway, -8 min", &[29], Gateway, Harm::Clock(Who::Gateway, "-8m")),
        kind("clock steps", "clock: the owner, -1 h", &[29], Order, Harm::Clock(Owner, "-1h")),
        kind("file descriptors", "no file descriptors for a gateway", &[51], Gateway, Harm::Descriptors),
        kind("cache disk", "cache: bits flip", &[27], Gateway, Harm::CacheBits),
        kind("cache disk", "cache: the disk is full", &[26], Gateway, Harm::CacheFull),
        kind("clients that go away", "clients: disconnect", &[13], Clients, Harm::Disconnects),
        kind("requests that come twice", "clients: repeat", &[39], Clients, Harm::Duplicates),
        kind("clients that are slow", "clients: slow headers", &[35], Clients, Harm::SlowClients),
        kind("RPC to the owner", "RPC: reset", &[45, 48], Order, Harm::Rpc(Network::Reset)),
        kind("RPC to the owner", "RPC: requests go nowhere", &[10], Order, Harm::Rpc(Network::SilentToServer)),
        kind("RPC to the owner", "RPC: answers go nowhere", &[10, 45], Order, Harm::Rpc(Network::SilentToClient)),
        kind("RPC to the owner", "RPC: slow", &[9], Order, Harm::Rpc(Network::Slow)),
        kind("RPC to the owner", "RPC: cut in an answer", &[45], Order, Harm::Rpc(Network::Cut)),
        kind("lost replies of a commit", "COMMIT: reply cut at CommandComplete", &[4, 12], Order, Harm::LostReply { silent: false }),
        kind("lost replies of a commit", "COMMIT: no reply, no end", &[4, 12], Order, Harm::LostReply { silent: true }),
        kind("Postgres cut off", "Postgres: requests go nowhere", &[10], Order, Harm::Postgres(Network::SilentToServer)),
        kind("Postgres cut off", "Postgres: answers go nowhere", &[10], Order, Harm::Postgres(Network::SilentToClient)),
        kind("Postgres cut off", "Postgres: connections reset", &[10, 48], Order, Harm::Postgres(Network::Reset)),
        kind("a slow Postgres", "Postgres: slow", &[9], Order, Harm::Postgres(Network::Slow)),
        kind("Postgres restarts", "Postgres: immediate restart", &[6], Order, Harm::Restart(Stop::Immediate)),
        kind("Postgres restarts", "Postgres: fast restart", &[6], Order, Harm::Restart(Stop::Fast)),
        kind("Postgres restarts", "Postgres: kill -9", &[6], Order, Harm::Restart(Stop::Kill)),
        kind("Postgres restarts", "Postgres: stands still", &[10], Order, Harm::Restart(Stop::Pause)),
        kind("Postgres fails over", "Postgres: failover to the synchronous standby", &[7], Order, Harm::Failover),
        kind("Postgres refuses", "Postgres: read-only", &[15], Order, Harm::Refuse(Refusal::ReadOnly)),
        kind("Postgres refuses", "Postgres: no connections left", &[14], Order, Harm::Refuse(Refusal::Connections)),
        kind("Postgres refuses", "Postgres: sessions ended", &[10], Order, Harm::Refuse(Refusal::Terminated)),
        kind("Postgres refuses", "Postgres: rows locked", &[11], Order, Harm::Refuse(Refusal::Locks)),
        kind("the store throttles", "store: 503 to everything", &[16], Place::Store, Store(Lie::SlowDown)),
        kind("the store fails before", "store: 500 before", &[17], Place::Store, Store(Lie::InternalError)),
        kind("the store fails before", "store: reset before", &[17], Place::Store, Store(Lie::ResetBefore)),
        kind("the store fails before", "store: uploads cut", &[17], Place::Store, Store(Lie::CutUpload)),
        kind("the store fails after", "store: 500 after", &[18], Place::Store, Store(Lie::ErrorAfter)),
        kind("the store fails after", "store: reset after", &[18], Place::Store, Store(Lie::ResetAfter)),
        kind("the store fails after", "store: 409", &[19], Place::Store, Store(Lie::Conflict)),
        kind("the store fails after", "store: 412", &[19], Place::Store, Store(Lie::PreconditionFailed)),
        kind("the store lies", "store: flipped bits", &[20], Place::Store, Store(Lie::FlipBit)),
        kind("the store lies", "store: truncated", &[20], Place::Store, Store(Lie::Truncate)),
        kind("the store lies", "store: downloads cut", &[20], Place::Store, Store(Lie::CutDownload)),
        kind("the store lies", "store: wrong bytes", &[20], Place::Store, Store(Lie::WrongBytes)),
        kind("the store lies", "store: wrong range", &[20], Place::Store, Store(Lie::WrongRange)),
        kind("the store hides", "store: 404 for what is there", &[21], Place::Store, Store(Lie::NoSuchKey)),
        kind("the store denies", "store: 403", &[22], Place::Store, Store(Lie::AccessDenied)),
        kind("the store denies", "store: expired credentials", &[22], Place::Store, Store(Lie::ExpiredToken)),
        kind("the store is slow", "store: late requests", &[24], Place::Store, Store(Lie::DelayBefore)),
        kind("the store is slow", "store: late answers", &[24], Place::Store, Store(Lie::DelayAfter)),
        kind("the store restarts", "store: kill -9", &[17, 48], Place::Store, Harm::StoreServer { paused: false }),
        kind("the store restarts", "store: stands still", &[24], Place::Store, Harm::StoreServer { paused: true }),
        kind("the compactor's store", "compactor: 503", &[16, 30], Compactor, CompactorStore(Lie::SlowDown)),
        kind("the compactor's store", "compactor: 500 after", &[18, 30], Compactor, CompactorStore(Lie::ErrorAfter)),
        kind("the compactor's store", "compactor: reset before", &[17, 30], Compactor, CompactorStore(Lie::ResetBefore)),
        kind("the compactor's store", "compactor: uploads cut", &[17, 25, 30], Compactor, CompactorStore(Lie::CutUpload)),
        kind("the compactor's store", "compactor: flipped bits", &[20, 30], Compactor, CompactorStore(Lie::FlipBit)),
        kind("stale listings", "store: stale listings", &[23], Compactor, Harm::StaleList),
        kind("two compactors", "compactor: a rival", &[31], Compactor, Harm::Rival),
        kind("a zone is lost", "zone: two gateways, the owner, the compactor", &[50], Order, Harm::Zone),
    ]
};

/// All classes in the order of the list.
pub fn classes(kinds: &[Kind]) -> Vec<&'static str> {
    let mut seen = BTreeSet::new();
    kinds.iter().map(|kind| kind.class).filter(|class| seen.insert(*class)).collect()
}

/// Deals faults: every class once in an order that the seed decides, then again; each class deals its faults in turn.
#[derive(Debug)]
pub struct Deck {
    dice: Dice,
    kinds: BTreeMap<&'static str, Vec<Kind>>,
    left: Vec<&'static str>,
    classes: Vec<&'static str>,
}

impl Deck {
    /// A deck of these faults.
    pub fn new(seed: u64, kinds: &[Kind]) -> Self {
        let classes = classes(kinds);
        let mut deck = Self { dice: Dice::new(seed), kinds: BTreeMap::new(), left: Vec::new(), classes };
        for class in deck.classes.clone() {
            let mut of_class: Vec<Kind> = kinds.iter().filter(|kind| kind.class == class).copied().collect();
            deck.shuffle(&mut of_class);
            deck.kinds.insert(class, of_class);
        }
        deck
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.dice.between(0, last as u64) as usize);
        }
    }

    /// The next fault whose place is free. A class that is left over while others come again would never come in a short run: so all
    /// are dealt before any comes twice.
    pub fn deal(&mut self, mut is_free: impl FnMut(&Kind) -> bool) -> Option<Kind> {
        if self.left.is_empty() {
            let mut classes = self.classes.clone();
            self.shuffle(&mut classes);
            self.left = classes;
        }
        let at = self.left.iter().position(|class| self.kinds[class].first().is_some_and(&mut is_free))?;
        let class = self.left.remove(at);
        let of_class = self.kinds.get_mut(class).expect("each class has its faults");
        let kind = of_class[0];
        of_class.rotate_left(1);
        Some(kind)
    }

    /// A fault that did not happen comes again in this round.
    pub fn put_back(&mut self, kind: &Kind) {
        self.left.push(kind.class);
        // Another of its class may have better luck.
        if let Some(of_class) = self.kinds.get_mut(kind.class)
            && of_class.len() > 1
            && of_class[0].name == kind.name
        {
            of_class.rotate_left(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_is_dealt_once_before_any_comes_twice_and_a_seed_deals_the_same() {
        let deal = |seed| {
            let mut deck = Deck::new(seed, KINDS);
            (0..classes(KINDS).len() * 3).map(|_| deck.deal(|_| true).unwrap()).collect::<Vec<_>>()
        };
        let (first, again, other) = (deal(7), deal(7), deal(8));
        let names = |dealt: &[Kind]| dealt.iter().map(|kind| kind.name).collect::<Vec<_>>();
        assert_eq!(names(&first), names(&again));
        assert_ne!(names(&first), names(&other));
        for round in first.chunks(classes(KINDS).len()) {
            let dealt: BTreeSet<&str> = round.iter().map(|kind| kind.class).collect();
            assert_eq!(dealt.len(), round.len());
        }
    }

    #[test]
    fn a_fault_whose_place_is_taken_waits_and_names_are_unique() {
        let mut deck = Deck::new(1, KINDS);
        let dealt: Vec<Kind> = std::iter::from_fn(|| deck.deal(|kind| kind.place != Place::Order)).take(200).collect();
        assert!(dealt.iter().all(|kind| kind.place != Place::Order));
        assert!(dealt.len() < 200, "classes of a place that is taken were passed over for ever");
        let names: BTreeSet<&str> = KINDS.iter().map(|kind| kind.name).collect();
        assert_eq!(names.len(), KINDS.len());
    }
}
