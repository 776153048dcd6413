//! Random histories of a log and of a queue that are right: nothing is found in them; and with one thing made wrong, it is
//! found under its name.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::history::{Append, Delivered, LeaseId, Promise, QueueFacts, Read, Run, Seen, Sent, Status, Verb, What};
use crate::queues::history::{End, Recorder as Q};

/// One step of somebody: what, and two choices.
type Step = (u8, u8, u8);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec((any::<u8>(), any::<u8>(), any::<u8>()), 20..200)
}

/// A send that has not ended.
struct Sending {
    op: OpId,
    ids: Vec<RecordId>,
    partition: u32,
    once: bool,
}

/// A log of two partitions that is right, and its clients.
struct Log {
    plant: Plant,
    partitions: [Vec<RecordId>; 2],
    sending: Vec<Sending>,
    /// Sends of unknown outcome, to be repeated.
    unsure: Vec<Sending>,
    next: BTreeMap<u32, u64>,
    asked: Vec<(OpId, u32, u32, u64)>,
    at: BTreeMap<u32, u64>,
}

impl Log {
    fn run(steps: &[Step]) -> History {
        let (sending, unsure, asked) = (Vec::new(), Vec::new(), Vec::new());
        let plant = Plant::new();
        let mut log = Self { plant, partitions: Default::default(), sending, unsure, next: BTreeMap::new(), asked, at: BTreeMap::new() };
        // Something is acknowledged in each history.
        for producer in [0, 1] {
            log.send(producer, 3, u32::from(producer));
            log.end(0, 0);
        }
        for (what, one, other) in steps {
            match what % 6 {
                0 | 1 => log.send(one % 4, other % 5 + 1, u32::from(*one) % 2),
                2 | 3 if !log.sending.is_empty() => log.end(usize::from(*one) % log.sending.len(), *other),
                4 => log.ask(u32::from(*one) % 3, u32::from(*other) % 2),
                5 if !log.asked.is_empty() => log.answer(usize::from(*one) % log.asked.len(), usize::from(*other)),
                _ => log.again(),
            }
        }
        while !log.asked.is_empty() {
            log.answer(0, 200);
        }
        while !log.sending.is_empty() {
            log.end(0, 255);
        }
        for reader in [1_000, 1_001] {
            for partition in [0, 1] {
                log.read(reader, true, partition, 0, usize::MAX);
            }
        }
        log.plant.tape.take()
    }

    fn send(&mut self, producer: u8, count: u8, partition: u32) {
        let producer = u32::from(producer);
        let next = self.next.entry(producer).or_default();
        let ids = (*next..*next + u64::from(count)).map(|seq| RecordId { producer, seq }).collect();
        *next += u64::from(count);
        self.invoke(ids, partition, producer % 2 == 1);
    }

    fn invoke(&mut self, ids: Vec<RecordId>, partition: u32, once: bool) {
        let records = ids.iter().map(|id| (*id, sum(*id))).collect();
        let mut append = Append::new("load".into(), Promise { once, pipelined: false }, records);
        append.partition = Some(partition);
        let op = self.plant.log().append(append);
        self.sending.push(Sending { op, ids, partition, once });
    }

    /// A send happens or not, and its client is told or not.
    fn end(&mut self, which: usize, choice: u8) {
        let sending = self.sending.remove(which);
        let log = &mut self.partitions[sending.partition as usize];
        let stored = log.iter().position(|id| *id == sending.ids[0]).filter(|_| sending.once);
        if choice % 10 == 9 && stored.is_none() {
            return self.plant.log().fail(sending.op);
        }
        let happens = choice % 10 != 8;
        let first = stored.unwrap_or(log.len());
        if happens && stored.is_none() {
            log.extend(&sending.ids);
        }
        if happens && choice % 10 < 7 {
            let run = Run { partition: sending.partition, first: first as u64, count: sending.ids.len() as u32 };
            self.plant.tape.ok(sending.op, Answer::Stored(vec![run]));
        } else {
            self.plant.log().info(sending.op);
            self.unsure.push(sending);
        }
    }

    fn again(&mut self) {
        if let Some(Sending { ids, partition, once, .. }) = self.unsure.pop() {
            self.invoke(ids, partition, once);
        }
    }

    fn ask(&mut self, reader: u32, partition: u32) {
        // A reader waits for its answer before it asks again.
        if self.asked.iter().any(|(_, asking, ..)| *asking == reader * 2 + partition) {
            return;
        }
        let reader = reader * 2 + partition;
        let from = *self.at.entry(reader).or_default();
        let op = self.plant.log().ask(reader, false, partition, from);
        self.asked.push((op, reader, partition, from));
    }

    fn answer(&mut self, which: usize, most: usize) {
        let (op, reader, partition, from) = self.asked.remove(which);
        let seen = self.saw(op, partition, from, most);
        self.at.insert(reader, from + seen);
    }

    fn read(&self, reader: u32, last: bool, partition: u32, from: u64, most: usize) {
        let read = Read { topic: "load".into(), reader, last, seek: false, partition, from };
        let op = self.plant.tape.invoke(Some(reader), Call::Read(read));
        self.saw(op, partition, from, most);
    }

    fn saw(&self, op: OpId, partition: u32, from: u64, most: usize) -> u64 {
        let log = &self.partitions[partition as usize];
        let rows: Vec<Seen> =
            log.iter().zip(0..).skip(from as usize).take(most).map(|(id, offset)| Seen { offset, id: Some(*id), sum: sum(*id) }).collect();
        let seen = rows.len() as u64;
        self.plant.tape.ok(op, Answer::Rows { rows, end: log.len() as u64 });
        seen
    }
}

fn sum(id: RecordId) -> u64 {
    u64::from(id.producer) * 1_000 + id.seq
}

/// The rows of the last readers, who all see the same wrong thing.
fn last_rows(history: &mut History, partition: u32, mut change: impl FnMut(&mut Vec<Seen>, &mut u64)) {
    let mut last = std::collections::BTreeSet::new();
    for event in &mut history.events {
        match &mut event.what {
            What::Invoke { op, call: Call::Read(read), .. } if read.last && read.partition == partition => drop(last.insert(*op)),
            What::Ok { op, answer: Answer::Rows { rows, end } } if last.contains(op) => change(rows, end),
            _ => {}
        }
    }
}

/// Numbers rows anew, as if they had always stood so.
fn number(rows: &mut [Seen]) {
    rows.iter_mut().zip(0..).for_each(|(row, offset)| row.offset = offset);
}

proptest! {
    #[test]
    fn nothing_is_found_in_the_history_of_a_log_that_is_right(steps in steps()) {
        let report = judge(&Log::run(&steps));
        prop_assert_eq!(&report.violations, &[]);
        prop_assert!(report.examined_by(Check::H1) >= 6);
    }

    #[test]
    fn what_is_made_wrong_in_a_log_is_found_under_its_name(steps in steps(), bug in 0..8_usize) {
        let mut history = Log::run(&steps);
        let ghost = Seen { offset: 0, id: Some(RecordId { producer: 77, seq: 0 }), sum: 0 };
        let expected = match bug {
            // The first records of a producer are gone, and what is after them moved up.
            0 => {
                last_rows(&mut history, 0, |rows, end| { rows.drain(..3); *end -= 3; number(rows); });
                Check::H1
            }
            1 => {
                last_rows(&mut history, 0, |rows, _| rows[0] = ghost);
                Check::H2
            }
            2 => {
                last_rows(&mut history, 0, |rows, _| rows[1].sum += 1);
                Check::H2
            }
            3 => {
                last_rows(&mut history, 0, |rows, _| { rows.swap(0, 1); number(rows); });
                Check::H3
            }
            4 => {
                last_rows(&mut history, 0, |rows, end| { let again = Seen { offset: *end, ..rows[0] }; rows.push(again); *end += 1; });
                Check::H4
            }
            5 => {
                last_rows(&mut history, 0, |_, end| *end += 1);
                Check::H5
            }
            6 => {
                last_rows(&mut history, 0, |rows, _| { rows.remove(1); });
                Check::H7
            }
            _ => {
                last_rows(&mut history, 0, |rows, end| { rows.clear(); *end = 0; });
                Check::H7
            }
        };
        let broken = judge(&history).broken();
        prop_assert!(broken.contains(&expected), "bug {}: {:?} is not in {:?}", bug, expected, broken);
    }
}

const LEASE: Duration = Duration::from_secs(1);

/// What a queue knows of a message.
#[derive(Clone, Copy, PartialEq)]
enum State {
    Ready,
    Leased(u32, Nanos),
    Done,
}

/// A queue that is right, and its clients, who do one thing at a time.
fn queue(steps: &[Step]) -> History {
    let plant = Plant::new();
    let (q, now) = (Q::on(&plant.tape, "jobs"), || plant.now.load(Ordering::Relaxed));
    let mut messages: Vec<(State, u32)> = Vec::new();
    let send = |messages: &mut Vec<(State, u32)>, lost: bool| {
        let seq = messages.len() as u64;
        let op = q.send(&[(Sent { id: id(seq), key: None, delay: Duration::ZERO, once: false }, seq)]);
        messages.push((State::Ready, 0));
        q.end(op, if lost { End::Info } else { End::Stored(vec![(0, seq)]) });
    };
    let receive = |messages: &mut Vec<(State, u32)>, most: usize, drain: bool, lost: bool| {
        let op = q.receive(LEASE, drain);
        let at = now();
        let free = messages.iter().enumerate().filter(|(_, (state, _))| match state {
            State::Ready => true,
            State::Leased(_, until) => *until <= at,
            State::Done => false,
        });
        let taken: Vec<usize> = free.map(|(offset, _)| offset).take(most).collect();
        let mut got = Vec::new();
        for offset in taken {
            let (state, attempts) = &mut messages[offset];
            *attempts += 1;
            *state = State::Leased(*attempts, at + LEASE.as_nanos() as Nanos);
            let lease = LeaseId { at: (0, offset as u64), attempt: *attempts };
            got.push(Delivered { lease, id: Some(id(offset as u64)), hash: offset as u64 });
        }
        let leases: Vec<LeaseId> = got.iter().map(|delivered| delivered.lease).collect();
        q.end(op, if lost { End::Info } else { End::Delivered(got) });
        if lost { Vec::new() } else { leases }
    };
    let settle = |messages: &mut Vec<(State, u32)>, verb: Verb, lease: LeaseId, lost: bool| {
        let op = q.settle(verb, vec![lease]);
        let at = now();
        let state = &mut messages[lease.at.1 as usize].0;
        let holds = matches!(*state, State::Leased(attempt, until) if attempt == lease.attempt && until > at);
        if holds {
            *state = if verb == Verb::Ack { State::Done } else { State::Ready };
        }
        q.end(op, if lost { End::Info } else { End::Settled(vec![if holds { Status::Done } else { Status::Expired }]) });
    };
    let mut held: Vec<LeaseId> = Vec::new();
    send(&mut messages, false);
    for (what, one, other) in steps {
        match what % 6 {
            0 | 1 => send(&mut messages, one % 8 == 0),
            2 | 3 => held.extend(receive(&mut messages, usize::from(*other) % 4, false, one % 8 == 0)),
            4 if !held.is_empty() => {
                let lease = held.swap_remove(usize::from(*other) % held.len());
                settle(&mut messages, if one % 3 == 0 { Verb::Nack(Duration::ZERO) } else { Verb::Ack }, lease, one % 8 == 1);
            }
            _ => plant.pass(Duration::from_millis(u64::from(*one) * 4)),
        }
    }
    plant.pass(LEASE * 2);
    send(&mut messages, false);
    for _ in 0..2 {
        for lease in receive(&mut messages, usize::MAX, true, false) {
            settle(&mut messages, Verb::Ack, lease, false);
        }
    }
    let mut history = plant.tape.take();
    // The server's clock is the history's, a few ticks apart.
    history.header.queues.insert("jobs".into(), QueueFacts { clock_ms: 5, redelivery_ms: 4_000, ..QueueFacts::default() });
    history
}

fn leases(history: &mut History, mut change: impl FnMut(&mut Vec<Delivered>)) {
    for event in &mut history.events {
        if let What::Ok { answer: Answer::Delivered(got), .. } = &mut event.what {
            change(got);
        }
    }
}

proptest! {
    #[test]
    fn nothing_is_found_in_the_history_of_a_queue_that_is_right(steps in steps()) {
        let report = judge(&queue(&steps));
        prop_assert_eq!(&report.violations, &[]);
        prop_assert!(report.examined_by(Check::Q1) >= 2);
    }

    #[test]
    fn what_is_made_wrong_in_a_queue_is_found_under_its_name(steps in steps(), bug in 0..4_usize) {
        let mut history = queue(&steps);
        let expected = match bug {
            // The first message never comes.
            0 => {
                leases(&mut history, |got| got.retain(|delivered| delivered.lease.at.1 != 0));
                Check::Q1
            }
            1 => {
                leases(&mut history, |got| got.iter_mut().for_each(|delivered| delivered.hash += 1));
                Check::H2
            }
            // The last delivery comes a second time, after it was acknowledged.
            2 => {
                let mut last = None;
                leases(&mut history, |got| last = got.last().copied().or(last));
                let again = last.map(|of| Delivered { lease: LeaseId { attempt: of.lease.attempt + 1, ..of.lease }, ..of }).unwrap();
                let (at, op) = (history.events.last().unwrap().at + 1, 1_000_000);
                let call = Call::Receive { queue: "jobs".into(), lease: LEASE, drain: true };
                history.events.push(Event { at, what: What::Invoke { op, process: None, call } });
                history.events.push(Event { at, what: What::Ok { op, answer: Answer::Delivered(vec![again]) } });
                Check::Q3
            }
            _ => {
                let mut first = None;
                leases(&mut history, |got| first = first.or(got.first().copied()));
                let (at, op) = (history.events.last().unwrap().at + 1, 1_000_000);
                let call = Call::Receive { queue: "jobs".into(), lease: LEASE, drain: true };
                history.events.push(Event { at, what: What::Invoke { op, process: None, call } });
                history.events.push(Event { at, what: What::Ok { op, answer: Answer::Delivered(first.into_iter().collect()) } });
                Check::Q7
            }
        };
        let broken = judge(&history).broken();
        prop_assert!(broken.contains(&expected), "bug {}: {:?} is not in {:?}", bug, expected, broken);
    }
}
