//! What must come of a queue, told message by message, without blocks, bounds or indexes. Never asks the ledger.

use std::collections::BTreeMap;

/// How long it is remembered that a lease was given back, and of how many.
const RETURNED_MS: i64 = 60_000;
const RETURNED: usize = 1_024;

/// A topic and one of its partitions.
pub(crate) type Place = (u64, u32);

/// What a queue knows of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    Unseen,
    Plain,
    Entry { at: i64, attempt: u32, undelivered: u32, leased: bool, priority: u8, group: Option<u64> },
    Done,
}

/// A log: only how far it goes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Log {
    pub(crate) log_start: u64,
    pub(crate) end: u64,
}

pub(crate) type Logs = BTreeMap<Place, Log>;

#[derive(Clone, Debug, Default)]
pub(crate) struct Partition {
    pub(crate) scanned: u64,
    pub(crate) messages: Vec<Message>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Queue {
    pub(crate) id: u64,
    pub(crate) generation: u32,
    pub(crate) ordered: bool,
    pub(crate) max_depth: Option<u64>,
    pub(crate) drops: bool,
    pub(crate) max_in_flight: Option<u64>,
    pub(crate) priorities: u8,
    pub(crate) partitions: BTreeMap<Place, Partition>,
    pub(crate) requests: BTreeMap<u128, Vec<Granted>>,
    /// Leases that were given back, and when their messages were leased again; the oldest first.
    pub(crate) returned: Vec<(Place, u64, u32, i64)>,
    pub(crate) acked: u64,
    pub(crate) dead: u64,
}

/// A message and its lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Granted {
    pub(crate) place: Place,
    pub(crate) offset: u64,
    pub(crate) attempt: u32,
    pub(crate) undelivered: u32,
    pub(crate) until: i64,
}

/// What classification says of a message.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Found {
    Plain,
    Skipped,
    Marked { at: Option<i64>, priority: u8, group: Option<u64> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Ack,
    Release(i64),
    Undelivered(i64),
    Extend(i64),
    Bury,
    Cancel,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    Until(i64),
    Expired,
    Unknown,
}

/// As the ledger's numbers.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Numbers {
    pub(crate) ready: u64,
    pub(crate) leased: u64,
    pub(crate) delayed: u64,
    pub(crate) blocked: u64,
    pub(crate) oldest: Vec<(Place, u64)>,
}

impl Partition {
    pub(crate) fn starting_at(start: u64) -> Self {
        Self { scanned: start, messages: vec![Message::Done; start as usize] }
    }

    pub(crate) fn message(&self, offset: u64) -> Message {
        self.messages.get(offset as usize).copied().unwrap_or(Message::Unseen)
    }

    fn set(&mut self, offset: u64, message: Message) {
        if self.messages.len() as u64 <= offset {
            self.messages.resize(offset as usize + 1, Message::Unseen);
        }
        self.messages[offset as usize] = message;
    }

    /// What is gone from the log is done.
    pub(crate) fn trim(&mut self, log_start: u64) {
        (0..log_start).for_each(|offset| self.set(offset, Message::Done));
        self.settle_scanned(log_start);
    }

    /// What is looked at: at least all of the beginning that is done.
    fn settle_scanned(&mut self, at_least: u64) {
        let floor = (0..).find(|offset| self.message(*offset) != Message::Done).unwrap_or(0);
        self.scanned = self.scanned.max(at_least).max(floor);
        for offset in 0..self.scanned {
            if self.message(offset) == Message::Unseen {
                self.set(offset, Message::Plain);
            }
        }
    }

    fn depth(&self, end: u64) -> u64 {
        (0..end).filter(|offset| self.message(*offset) != Message::Done).count() as u64
    }

    /// Whether no other message of its group comes before it.
    fn is_first(&self, offset: u64, group: u64) -> bool {
        !(0..offset).any(|o| matches!(self.message(o), Message::Entry { group: Some(g), .. } if g == group))
    }
}

impl Queue {
    pub(crate) fn depth(&self, logs: &Logs) -> u64 {
        self.partitions.iter().map(|(place, partition)| partition.depth(logs[place].end)).sum()
    }

    pub(crate) fn classify(&mut self, place: Place, from: u64, to: u64, now: i64, end: u64, found: impl Fn(u64) -> Found) -> bool {
        let top = self.priorities - 1;
        let Some(partition) = self.partitions.get_mut(&place) else { return false };
        let (before, to) = (partition.scanned, to.min(end));
        if from > before || to <= before {
            return false;
        }
        for offset in before..to {
            if partition.message(offset) == Message::Done {
                continue;
            }
            let message = match found(offset) {
                Found::Plain => Message::Plain,
                Found::Skipped => Message::Done,
                Found::Marked { at, priority, group } => {
                    let (at, priority) = (at.unwrap_or(0), priority.min(top));
                    match at <= now && priority == 0 && group.is_none() {
                        true => Message::Plain,
                        false => Message::Entry { at, attempt: 0, undelivered: 0, leased: false, priority, group },
                    }
                }
            };
            partition.set(offset, message);
        }
        partition.settle_scanned(to);
        true
    }

    pub(crate) fn in_flight(&self, now: i64) -> u64 {
        let all = self.partitions.values().flat_map(|partition| &partition.messages);
        all.filter(|m| matches!(m, Message::Entry { leased: true, at, .. } if *at > now)).count() as u64
    }

    fn is_group_leased(&self, group: u64, but: (Place, u64), now: i64) -> bool {
        self.partitions.iter().any(|(place, partition)| {
            partition.messages.iter().enumerate().any(|(offset, message)| {
                (*place, offset as u64) != but
                    && matches!(message, Message::Entry { group: Some(g), leased: true, at, .. } if *g == group && *at > now)
            })
        })
    }

    /// Leases up to `max`: priority by priority, partitions in turns, in each what has an entry before what is plain.
    pub(crate) fn lease(&mut self, max: u64, until: i64, now: i64, turn: u64) -> Vec<Granted> {
        let room = self.max_in_flight.map_or(u64::MAX, |most| most.saturating_sub(self.in_flight(now)));
        let mut left = max.min(room);
        let places: Vec<Place> = self.partitions.keys().copied().collect();
        let begin = (turn % places.len() as u64) as usize;
        let turns: Vec<Place> = places[begin..].iter().chain(&places[..begin]).copied().collect();
        let mut granted = Vec::new();
        for priority in (0..10).rev() {
            let mut open = turns.clone();
            while left > 0 && !open.is_empty() {
                let share = (left / open.len() as u64).max(1);
                let mut still = Vec::new();
                for place in open {
                    let wanted = share.min(left);
                    let offsets = self.next(place, priority, wanted as usize, now);
                    for offset in &offsets {
                        granted.push(self.lease_one(place, *offset, until, now));
                    }
                    left -= offsets.len() as u64;
                    if offsets.len() as u64 == share {
                        still.push(place);
                    }
                }
                open = still;
            }
        }
        granted
    }

    fn next(&self, place: Place, priority: u8, limit: usize, now: i64) -> Vec<u64> {
        let partition = &self.partitions[&place];
        let mut offsets = Vec::new();
        for (offset, message) in (0..).zip(&partition.messages) {
            let Message::Entry { at, priority: p, group, .. } = *message else { continue };
            let free = |group: u64| partition.is_first(offset, group) && !self.is_group_leased(group, (place, offset), now);
            if at <= now && p == priority && group.is_none_or(free) {
                offsets.push(offset);
            }
        }
        if priority == 0 {
            offsets.extend((0..).zip(&partition.messages).filter(|(_, m)| **m == Message::Plain).map(|(offset, _)| offset));
        }
        offsets.truncate(limit);
        offsets
    }

    fn lease_one(&mut self, place: Place, offset: u64, until: i64, now: i64) -> Granted {
        let partition = self.partitions.get_mut(&place).unwrap();
        if let Message::Entry { attempt: attempt @ 1.., leased: false, .. } = partition.message(offset) {
            self.returned.retain(|(.., at)| at + RETURNED_MS > now);
            if self.returned.len() == RETURNED {
                self.returned.remove(0);
            }
            self.returned.push((place, offset, attempt, now));
        }
        let (attempt, undelivered, priority, group) = match partition.message(offset) {
            Message::Entry { attempt, undelivered, priority, group, .. } => (attempt + 1, undelivered, priority, group),
            _ => (1, 0, 0, None),
        };
        partition.set(offset, Message::Entry { at: until, attempt, undelivered, leased: true, priority, group });
        Granted { place, offset, attempt, undelivered, until }
    }

    /// What of these is leased as it was then, with the lease as it is now.
    pub(crate) fn still_leased(&self, granted: &[Granted], now: i64) -> Vec<Granted> {
        let of = |g: &Granted| match self.partitions.get(&g.place)?.message(g.offset) {
            Message::Entry { at, attempt, leased: true, .. } if attempt == g.attempt && at > now => Some(Granted { until: at, ..*g }),
            _ => None,
        };
        granted.iter().filter_map(of).collect()
    }

    /// Whether the lease goes on.
    pub(crate) fn is_held(&self, place: Place, offset: u64, attempt: u32, now: i64, log: Log) -> bool {
        let Some(partition) = self.partitions.get(&place) else { return false };
        let message = partition.message(offset);
        offset >= log.log_start && matches!(message, Message::Entry { at, attempt: a, leased: true, .. } if a == attempt && at > now)
    }

    /// Whether an atom may take it from the queue: it is not finished, and nobody has it.
    pub(crate) fn is_free(&self, place: Place, offset: u64, now: i64, log: Log) -> bool {
        let Some(partition) = self.partitions.get(&place).filter(|_| (log.log_start..log.end).contains(&offset)) else { return false };
        match partition.message(offset) {
            Message::Done => false,
            Message::Entry { leased: true, at, .. } => at <= now,
            Message::Unseen | Message::Plain | Message::Entry { .. } => true,
        }
    }

    pub(crate) fn settle(&mut self, place: Place, offset: u64, attempt: u32, action: Action, now: i64, log: Log) -> Outcome {
        let held = self.is_held(place, offset, attempt, now, log);
        let gives_back = matches!(action, Action::Release(_) | Action::Undelivered(_) | Action::Extend(0));
        let returned =
            |(of, at, lease, when): &(Place, u64, u32, i64)| (*of, *at, *lease) == (place, offset, attempt) && when + RETURNED_MS > now;
        let again = gives_back && self.returned.iter().any(returned);
        let Some(partition) = self.partitions.get_mut(&place).filter(|_| offset < log.end) else { return Outcome::Unknown };
        let message = partition.message(offset);
        let done = offset < log.log_start || message == Message::Done;
        let finish = |partition: &mut Partition| {
            partition.set(offset, Message::Done);
            partition.settle_scanned(0);
            Outcome::Done
        };
        match action {
            Action::Cancel if done => return Outcome::Expired,
            Action::Cancel if matches!(message, Message::Entry { at, leased: true, .. } if at > now) => return Outcome::Expired,
            Action::Cancel => return finish(partition),
            Action::Ack | Action::Bury if done => return Outcome::Done,
            _ if done && again => return Outcome::Done,
            _ if done => return Outcome::Expired,
            _ => {}
        }
        let Message::Entry { attempt: leases @ 1.., undelivered, priority, group, .. } = message else { return Outcome::Unknown };
        if !held {
            let given_back = leases == attempt && matches!(message, Message::Entry { leased: false, .. });
            return if (given_back && gives_back) || again { Outcome::Done } else { Outcome::Expired };
        }
        let entry = |at: i64, leased: bool| Message::Entry { at, attempt: leases, undelivered, leased, priority, group };
        match action {
            Action::Ack => self.acked += 1,
            Action::Bury => self.dead += 1,
            Action::Release(delay) => partition.set(offset, entry(now + delay, false)),
            Action::Undelivered(delay) => {
                let undelivered = undelivered + 1;
                partition.set(offset, Message::Entry { at: now + delay, attempt: leases, undelivered, leased: false, priority, group });
            }
            Action::Extend(0) => partition.set(offset, entry(now, false)),
            Action::Extend(lease) => partition.set(offset, entry(now + lease, true)),
            Action::Cancel => {}
        }
        match action {
            Action::Ack | Action::Bury => finish(partition),
            Action::Extend(lease @ 1..) => Outcome::Until(now + lease),
            _ => Outcome::Done,
        }
    }

    /// Records came: the oldest go.
    pub(crate) fn overflow(&mut self, appended: Place, now: i64, logs: &Logs) {
        let Some(most) = self.max_depth.filter(|_| self.drops) else { return };
        let mut over = self.depth(logs).saturating_sub(most);
        let places: Vec<Place> = self.partitions.keys().copied().collect();
        let others = places.iter().filter(|place| **place != appended);
        for place in std::iter::once(&appended).chain(others) {
            let partition = self.partitions.get_mut(place).unwrap();
            for offset in 0..logs[place].end {
                let message = partition.message(offset);
                let leased = matches!(message, Message::Entry { at, leased: true, .. } if at > now);
                if over > 0 && message != Message::Done && !leased {
                    partition.set(offset, Message::Done);
                    over -= 1;
                }
            }
            partition.settle_scanned(0);
        }
    }

    pub(crate) fn numbers(&self, now: i64, logs: &Logs) -> Numbers {
        let mut numbers = Numbers::default();
        for (place, partition) in &self.partitions {
            let log = logs[place];
            for offset in 0..log.end {
                match partition.message(offset) {
                    Message::Done => {}
                    Message::Plain | Message::Unseen => numbers.ready += u64::from(offset >= log.log_start),
                    Message::Entry { group: Some(group), .. } if !partition.is_first(offset, group) => numbers.blocked += 1,
                    Message::Entry { at, .. } if at <= now => numbers.ready += 1,
                    Message::Entry { leased: true, .. } => numbers.leased += 1,
                    Message::Entry { .. } => numbers.delayed += 1,
                }
            }
            let oldest = (log.log_start..log.end).find(|offset| partition.message(*offset) != Message::Done);
            numbers.oldest.extend(oldest.map(|offset| (*place, offset)));
        }
        numbers
    }
}
