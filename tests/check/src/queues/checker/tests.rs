//! Planted histories: the checker finds each violation, and only it.

use std::time::Duration;

use super::*;

const LEASE: Duration = Duration::from_millis(1_000);
const MS: Nanos = 1_000_000;
const PLAIN: Demands = Demands {
    faults: 0,
    acked: 1,
    examined: &[],
    max_attempts: None,
    ordered: false,
    clock: Duration::ZERO,
    redelivery: Duration::from_secs(2),
};

fn id(seq: u64) -> RecordId {
    RecordId { producer: 1, seq }
}

fn lease(offset: u64, attempt: u32) -> LeaseId {
    LeaseId { at: (0, offset), attempt }
}

/// A history under construction: its clock ticks a millisecond with every event, and more where it is told so.
struct Plant {
    history: History,
    now: Nanos,
    ops: OpId,
    demands: Demands,
}

impl Plant {
    fn new() -> Self {
        Self { history: History::default(), now: 0, ops: 0, demands: PLAIN }
    }

    fn op(&mut self) -> OpId {
        self.ops += 1;
        self.now += MS;
        self.ops
    }

    fn pass(&mut self, ms: u64) {
        self.now += ms * MS;
    }

    fn end(&mut self, op: OpId, end: End) {
        self.now += MS;
        self.history.events.push(Event::End { op, at: self.now, end });
    }

    fn invoke_send(&mut self, sent: Sent) -> OpId {
        let op = self.op();
        self.history.bodies.insert(sent.id, sent.id.seq);
        self.history.events.push(Event::Send { op, at: self.now, messages: vec![sent] });
        op
    }

    /// Sends a message, which is stored.
    fn send_as(&mut self, sent: Sent, offset: u64) {
        let op = self.invoke_send(sent);
        self.end(op, End::Stored(vec![(0, offset)]));
    }

    fn send(&mut self, seq: u64, offset: u64) {
        self.send_as(plain(seq), offset);
    }

    fn ask(&mut self, drain: bool) -> OpId {
        let op = self.op();
        self.history.events.push(Event::Receive { op, at: self.now, lease: LEASE, drain });
        op
    }

    fn come(&mut self, op: OpId, got: &[(u64, u32, u64)]) {
        let delivered =
            |(seq, attempt, offset): &(u64, u32, u64)| Delivered { lease: lease(*offset, *attempt), id: Some(id(*seq)), hash: *seq };
        self.end(op, End::Delivered(got.iter().map(delivered).collect()));
    }

    /// A message comes: its sender's count, its attempt, its offset.
    fn receive(&mut self, seq: u64, attempt: u32, offset: u64) {
        let op = self.ask(false);
        self.come(op, &[(seq, attempt, offset)]);
    }

    fn drain(&mut self, seq: u64, attempt: u32, offset: u64) {
        let op = self.ask(true);
        self.come(op, &[(seq, attempt, offset)]);
    }

    fn settle(&mut self, verb: Verb, lease: LeaseId, status: Status) {
        let op = self.op();
        self.history.events.push(Event::Settle { op, at: self.now, verb, leases: vec![lease] });
        self.end(op, End::Settled(vec![status]));
    }

    fn ack(&mut self, offset: u64, attempt: u32) {
        self.settle(Verb::Ack, lease(offset, attempt), Status::Done);
    }

    fn dead(&mut self, seq: u64, offset: u64, attempts: u32, reason: &str) {
        self.history.events.push(Event::Dead(Dead { at: (0, offset), id: Some(id(seq)), attempts, reason: reason.into() }));
    }

    /// The last receiver takes a message of its own, so that the history is not empty in other ways.
    fn close(&mut self) -> Report {
        self.send(900, 900);
        self.drain(900, 1, 900);
        self.ack(900, 1);
        check(&self.history, self.demands)
    }

    fn finds(&mut self, expected: &[Violation]) {
        assert_eq!(self.close().violations, expected);
    }
}

fn plain(seq: u64) -> Sent {
    Sent { id: id(seq), key: None, delay: Duration::ZERO, once: false }
}

#[test]
fn a_history_without_fault_of_the_server_passes_and_every_check_has_looked_at_something() {
    let mut plant = Plant::new();
    let all = &[Check::Q1, Check::Q2, Check::Q3, Check::Q4, Check::Q5, Check::Q6, Check::Q7, Check::Q8, Check::Q10];
    plant.demands = Demands { examined: all, max_attempts: Some(3), ordered: true, ..PLAIN };
    let (keyed, later) = (Sent { key: Some(7), ..plain(1) }, Sent { delay: LEASE, once: true, ..plain(3) });
    plant.send_as(keyed, 0);
    plant.send_as(Sent { id: id(2), ..keyed }, 1);
    plant.send_as(later, 2);
    plant.send_as(later, 2);
    plant.receive(1, 1, 0);
    plant.settle(Verb::Nack(Duration::from_millis(100)), lease(0, 1), Status::Done);
    plant.pass(100);
    plant.receive(1, 2, 0);
    plant.ack(0, 2);
    plant.receive(2, 1, 1);
    plant.settle(Verb::Extend(LEASE * 2), lease(1, 1), Status::Done);
    plant.pass(1_900);
    plant.ack(1, 1);
    plant.receive(3, 1, 2);
    plant.pass(1_000);
    plant.settle(Verb::Ack, lease(2, 1), Status::Expired);
    plant.send(4, 3);
    plant.receive(4, 3, 3);
    plant.settle(Verb::Nack(Duration::ZERO), lease(3, 3), Status::Done);
    plant.dead(4, 3, 3, "max_attempts");
    plant.drain(3, 2, 2);
    plant.ack(2, 2);
    let report = plant.close();
    assert_eq!(report.violations, []);
    assert_eq!((report.acked, report.deliveries, report.redeliveries, report.dead), (6, 7, 2, 1));
}

#[test]
fn q1_a_message_that_never_came_is_lost() {
    let mut plant = Plant::new();
    plant.send(1, 0);
    plant.finds(&[Violation::Lost(id(1), (0, 0))]);
}

#[test]
fn q1_a_message_that_nobody_acknowledged_and_that_does_not_come_back_vanished() {
    let mut plant = Plant::new();
    plant.send(1, 0);
    plant.receive(1, 1, 0);
    plant.finds(&[Violation::Vanished((0, 0))]);
}

#[test]
fn a_message_that_was_refused_never_sent_or_changed_is_a_phantom() {
    let mut plant = Plant::new();
    let op = plant.invoke_send(plain(1));
    plant.end(op, End::Fail);
    plant.send(3, 2);
    for (seq, offset) in [(1, 0), (2, 1)] {
        plant.receive(seq, 1, offset);
        plant.ack(offset, 1);
    }
    plant.history.bodies.insert(id(3), 0);
    plant.receive(3, 1, 2);
    plant.ack(2, 1);
    let found = plant.close().violations;
    let expected = [(0, "it was refused"), (1, "nobody sent it"), (2, "its value is another")];
    for (offset, why) in expected {
        assert!(found.contains(&Violation::Phantom((0, offset), why)), "{found:?}");
    }
}

#[test]
fn q2_a_delivery_while_a_lease_lasts_is_found_and_one_after_it_was_let_go_of_is_not() {
    let mut plant = Plant::new();
    plant.send(1, 0);
    plant.receive(1, 1, 0);
    plant.pass(900);
    plant.receive(1, 2, 0);
    plant.ack(0, 2);
    plant.finds(&[Violation::DeliveredTwice(lease(0, 1))]);

    for verb in [Verb::Nack(Duration::ZERO), Verb::Extend(Duration::ZERO)] {
        let mut plant = Plant::new();
        plant.send(1, 0);
        plant.receive(1, 1, 0);
        plant.settle(verb, lease(0, 1), Status::Info);
        plant.receive(1, 2, 0);
        plant.ack(0, 2);
        plant.finds(&[]);
    }
}

#[test]
fn q2_a_lease_that_was_extended_lasts_so_much_longer() {
    for (status, expected) in [(Status::Done, vec![Violation::DeliveredTwice(lease(0, 1))]), (Status::Info, vec![])] {
        let mut plant = Plant::new();
        plant.send(1, 0);
        plant.receive(1, 1, 0);
        plant.settle(Verb::Extend(LEASE * 3), lease(0, 1), status);
        plant.pass(2_000);
        plant.receive(1, 2, 0);
        plant.ack(0, 2);
        plant.finds(&expected);
    }
}

#[test]
fn q2_a_receiver_who_is_told_too_soon_that_its_lease_is_over_was_cut_short() {
    let mut plant = Plant::new();
    plant.send(1, 0);
    plant.receive(1, 1, 0);
    plant.settle(Verb::Ack, lease(0, 1), Status::Expired);
    plant.pass(1_000);
    plant.receive(1, 2, 0);
    plant.ack(0, 2);
    plant.finds(&[Violation::CutShort(lease(0, 1))]);
}

#[test]
fn q3_an_acknowledged_message_may_come_only_to_who_asked_before() {
    let mut plant = Plant::new();
    plant.send(1, 0);
    plant.receive(1, 1, 0);
    let before = plant.ask(false);
    plant.ack(0, 1);
    plant.come(before, &[(1, 2, 0)]);
    plant.receive(1, 3, 0);
    plant.pass(2_000);
    plant.finds(&[Violation::AckedCameBack(lease(0, 3)), Violation::DeliveredTwice(lease(0, 2))]);
}

#[test]
fn q4_a_message_whose_only_acknowledgement_was_refused_must_come_back() {
    let mut plant = Plant::new();
    plant.send(1, 0);
    plant.receive(1, 1, 0);
    plant.pass(1_000);
    plant.settle(Verb::Ack, lease(0, 1), Status::Expired);
    plant.finds(&[Violation::RefusedAckDeleted((0, 0))]);
}

#[test]
fn q5_a_message_that_comes_before_the_one_before_it_is_finished_overtook_it() {
    for (ordered, expected) in [(true, vec![Violation::Overtaken((0, 0), (0, 1))]), (false, vec![])] {
        let mut plant = Plant::new();
        plant.demands.ordered = ordered;
        for seq in 0..2 {
            plant.send_as(Sent { key: Some(1), ..plain(seq) }, seq);
        }
        // Of another key: nobody minds.
        plant.send_as(Sent { key: Some(2), ..plain(2) }, 2);
        plant.receive(0, 1, 0);
        plant.receive(2, 1, 2);
        plant.receive(1, 1, 1);
        for offset in 0..3 {
            plant.ack(offset, 1);
        }
        plant.finds(&expected);
    }
}

#[test]
fn q6_what_is_sent_twice_under_one_name_lies_in_one_place() {
    for (once, expected) in [(true, vec![Violation::Duplicate(id(1), (0, 0), (0, 1))]), (false, vec![])] {
        let mut plant = Plant::new();
        for offset in 0..2 {
            plant.send_as(Sent { once, ..plain(1) }, offset);
            plant.receive(1, 1, offset);
            plant.ack(offset, 1);
        }
        plant.finds(&expected);
    }
}

#[test]
fn a_message_sent_once_that_lies_in_two_places_is_a_duplicate_without_any_promise() {
    let mut plant = Plant::new();
    plant.send(1, 0);
    for offset in 0..2 {
        plant.receive(1, 1, offset);
        plant.ack(offset, 1);
    }
    plant.finds(&[Violation::Duplicate(id(1), (0, 0), (0, 1))]);
}

#[test]
fn q7_the_same_attempt_twice_or_a_lower_one_later_is_found() {
    let mut plant = Plant::new();
    plant.send(1, 0);
    plant.receive(1, 1, 0);
    plant.pass(1_000);
    plant.receive(1, 1, 0);
    plant.ack(0, 1);
    plant.finds(&[Violation::AttemptDoesNotRise(lease(0, 1))]);

    let mut plant = Plant::new();
    plant.send(1, 0);
    plant.receive(1, 2, 0);
    plant.pass(1_000);
    plant.receive(1, 1, 0);
    plant.ack(0, 1);
    let found = plant.close().violations;
    assert!(found.contains(&Violation::AttemptDoesNotRise(lease(0, 2))), "{found:?}");
}

#[test]
fn q7_who_is_dead_had_all_attempts_or_was_rejected_and_died_once() {
    let planted = [
        (2, "max_attempts", 1, Some("dead after another number of attempts")),
        (3, "max_attempts", 1, None),
        (3, "max_attempts", 2, Some("dead twice")),
        (1, "rejected", 1, Some("nobody rejected it")),
        (1, "boredom", 1, Some("dead for a reason that nobody knows")),
    ];
    for (attempts, reason, times, expected) in planted {
        let mut plant = Plant::new();
        plant.demands.max_attempts = Some(3);
        plant.send(1, 0);
        (0..times).for_each(|_| plant.dead(1, 0, attempts, reason));
        let expected: Vec<Violation> = expected.into_iter().map(|why| Violation::WrongDeath((0, 0), why)).collect();
        plant.finds(&expected);
    }
    // The attempt of a delivery may be beyond the bound, where leases before it reached nobody; the deliveries may not.
    for (attempts, expected) in
        [(vec![4], vec![]), (vec![1, 2, 3, 4], vec![Violation::WrongDeath((0, 0), "delivered more often than allowed")])]
    {
        let mut plant = Plant::new();
        plant.demands.max_attempts = Some(3);
        plant.send(1, 0);
        let last = attempts[attempts.len() - 1];
        for attempt in attempts {
            plant.receive(1, attempt, 0);
            if attempt < last {
                plant.settle(Verb::Nack(Duration::ZERO), lease(0, attempt), Status::Done);
            }
        }
        plant.ack(0, last);
        plant.finds(&expected);
    }
}

#[test]
fn q8_nothing_comes_before_its_delay_has_passed() {
    let delay = Duration::from_millis(500);
    for (wait, expected) in [(400, vec![Violation::TooEarly(lease(0, 1))]), (500, vec![])] {
        let mut plant = Plant::new();
        plant.send_as(Sent { delay, ..plain(1) }, 0);
        plant.pass(wait);
        plant.receive(1, 1, 0);
        plant.ack(0, 1);
        plant.finds(&expected);
    }
    let mut plant = Plant::new();
    plant.send(1, 0);
    plant.receive(1, 1, 0);
    plant.settle(Verb::Nack(delay), lease(0, 1), Status::Done);
    plant.pass(400);
    plant.receive(1, 2, 0);
    plant.ack(0, 2);
    plant.finds(&[Violation::TooEarly(lease(0, 2))]);
}

#[test]
fn q10_what_nobody_leases_any_more_comes_back_within_two_seconds() {
    for (late, expected) in [(2_500, 1), (1_500, 0)] {
        let mut plant = Plant::new();
        plant.send(1, 0);
        plant.send(2, 1);
        plant.receive(1, 1, 0);
        // The drain has begun, but the lease goes on.
        plant.drain(2, 1, 1);
        plant.ack(1, 1);
        plant.pass(1_000 + late);
        plant.drain(1, 2, 0);
        plant.ack(0, 2);
        let report = plant.close();
        let too_late = report.violations.iter().filter(|v| matches!(v, Violation::TooLate(..))).count();
        assert_eq!((report.violations.len(), too_late), (expected, expected), "{:?}", report.violations);
        assert_eq!(report.examined[&Check::Q10], 1);
    }
}

#[test]
fn a_history_that_proves_nothing_is_refused() {
    let mut plant = Plant::new();
    plant.demands = Demands { faults: 1, acked: 2, examined: &[Check::Q2], ..PLAIN };
    let found = plant.close().violations;
    for expected in
        [Violation::Vacuous("too little was acknowledged"), Violation::Vacuous("too few faults happened"), Violation::Unexamined(Check::Q2)]
    {
        assert!(found.contains(&expected), "{found:?}");
    }
    let empty = check(&History::default(), PLAIN).violations;
    assert!(empty.contains(&Violation::Vacuous("nothing was left for the last receiver")), "{empty:?}");
}
