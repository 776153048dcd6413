//! Q1 to Q10.

use super::*;
use crate::history::{Dead, Delivered, LeaseId, OpId, QueueFacts, Sent, Status, Verb};
use crate::queues::history::{End, Recorder as Q};

const LEASE: Duration = Duration::from_millis(1_000);
const PLAIN: QueueFacts = QueueFacts {
    max_attempts: None,
    ordered: false,
    dedup_window_ms: None,
    keeps_ms: None,
    clock_ms: 0,
    redelivery_ms: 2_000,
    linearizable: false,
};

fn lease(offset: u64, attempt: u32) -> LeaseId {
    LeaseId { at: (0, offset), attempt }
}

/// A queue's history under construction, and what the queue promises.
struct Line {
    plant: Plant,
    facts: QueueFacts,
}

impl Line {
    fn new(facts: QueueFacts) -> Self {
        Self { plant: Plant::new(), facts }
    }

    fn q(&self) -> Q {
        Q::on(&self.plant.tape, "jobs")
    }

    fn pass(&self, ms: u64) {
        self.plant.pass(Duration::from_millis(ms));
    }

    fn invoke_send(&self, sent: Sent) -> OpId {
        self.q().send(&[(sent, sent.id.seq)])
    }

    /// Sends a message, which is stored.
    fn send_as(&self, sent: Sent, offset: u64) {
        let op = self.invoke_send(sent);
        self.q().end(op, End::Stored(vec![(0, offset)]));
    }

    fn send(&self, seq: u64, offset: u64) {
        self.send_as(plain(seq), offset);
    }

    fn ask(&self, drain: bool) -> OpId {
        self.q().receive(LEASE, drain)
    }

    fn come(&self, op: OpId, got: &[(u64, u32, u64)]) {
        let delivered =
            |(seq, attempt, offset): &(u64, u32, u64)| Delivered { lease: lease(*offset, *attempt), id: Some(id(*seq)), hash: *seq };
        self.q().end(op, End::Delivered(got.iter().map(delivered).collect()));
    }

    /// A message comes: its sender's count, its attempt, its offset.
    fn receive(&self, seq: u64, attempt: u32, offset: u64) {
        let op = self.ask(false);
        self.come(op, &[(seq, attempt, offset)]);
    }

    fn drain(&self, seq: u64, attempt: u32, offset: u64) {
        let op = self.ask(true);
        self.come(op, &[(seq, attempt, offset)]);
    }

    fn settle(&self, verb: Verb, lease: LeaseId, status: Status) {
        let op = self.q().settle(verb, vec![lease]);
        self.q().end(op, End::Settled(vec![status]));
    }

    fn ack(&self, offset: u64, attempt: u32) {
        self.settle(Verb::Ack, lease(offset, attempt), Status::Done);
    }

    fn dead(&self, seq: u64, offset: u64, attempts: u32, reason: &str) {
        self.q().dead(Dead { at: (0, offset), id: Some(id(seq)), attempts, reason: reason.into() });
    }

    /// The last receiver takes a message of its own, so that the history is not empty in other ways.
    fn close(&self) -> Report {
        self.send(900, 900);
        self.drain(900, 1, 900);
        self.ack(900, 1);
        let mut history = self.plant.tape.take();
        history.header.queues.insert("jobs".into(), self.facts);
        judge(&history)
    }

    /// Exactly these checks are broken, by as many violations.
    #[track_caller]
    fn breaks(&self, expected: &[Check]) -> Report {
        let report = self.close();
        let found: Vec<Check> = report.violations.iter().map(|violation| violation.check).collect();
        assert_eq!(found, expected, "{:#?}", report.violations);
        report
    }
}

fn plain(seq: u64) -> Sent {
    Sent { id: id(seq), key: None, delay: Duration::ZERO, once: false }
}

#[test]
fn a_history_without_fault_of_the_server_passes_and_every_check_has_looked_at_something() {
    let line = Line::new(QueueFacts { max_attempts: Some(3), ordered: true, keeps_ms: Some(60_000), ..PLAIN });
    let (keyed, later) = (Sent { key: Some(7), ..plain(1) }, Sent { delay: LEASE, once: true, ..plain(3) });
    line.send_as(keyed, 0);
    line.send_as(Sent { id: id(2), ..keyed }, 1);
    line.send_as(later, 2);
    line.send_as(later, 2);
    line.receive(1, 1, 0);
    line.settle(Verb::Nack(Duration::from_millis(100)), lease(0, 1), Status::Done);
    line.pass(100);
    line.receive(1, 2, 0);
    line.ack(0, 2);
    line.receive(2, 1, 1);
    line.settle(Verb::Extend(LEASE * 2), lease(1, 1), Status::Done);
    line.pass(1_900);
    line.ack(1, 1);
    line.receive(3, 1, 2);
    line.pass(1_000);
    line.settle(Verb::Ack, lease(2, 1), Status::Expired);
    line.send(4, 3);
    line.receive(4, 3, 3);
    line.settle(Verb::Nack(Duration::ZERO), lease(3, 3), Status::Done);
    line.dead(4, 3, 3, "max_attempts");
    line.drain(3, 2, 2);
    line.ack(2, 2);
    let report = line.breaks(&[]);
    assert_eq!((report.acked, report.deliveries, report.redeliveries, report.dead), (5, 7, 2, 1));
    let all = [Check::Q1, Check::Q2, Check::Q3, Check::Q4, Check::Q5, Check::Q6, Check::Q7, Check::Q8, Check::Q9, Check::Q10];
    all.iter().for_each(|check| assert!(report.examined_by(*check) > 0, "{check:?}"));
}

#[test]
fn q1_a_message_that_never_came_is_lost() {
    let line = Line::new(PLAIN);
    line.send(1, 0);
    line.breaks(&[Check::Q1]);
}

#[test]
fn q1_a_message_that_nobody_acknowledged_and_that_does_not_come_back_vanished() {
    let line = Line::new(PLAIN);
    line.send(1, 0);
    line.receive(1, 1, 0);
    line.breaks(&[Check::Q1]);
}

#[test]
fn h2_a_message_that_was_refused_never_sent_or_changed_is_a_phantom() {
    let line = Line::new(PLAIN);
    let op = line.invoke_send(plain(1));
    line.q().end(op, End::Fail);
    line.send(3, 2);
    for (seq, offset) in [(1, 0), (2, 1)] {
        line.receive(seq, 1, offset);
        line.ack(offset, 1);
    }
    let op = line.ask(false);
    line.q().end(op, End::Delivered(vec![Delivered { lease: lease(2, 1), id: Some(id(3)), hash: 0 }]));
    line.ack(2, 1);
    let report = line.breaks(&[Check::H2, Check::H2, Check::H2]);
    for why in ["which was refused", "which nobody sent", "with another value"] {
        assert!(report.violations.iter().any(|violation| violation.what.contains(why)), "{why}: {:?}", report.violations);
    }
}

#[test]
fn h2_a_message_that_is_acknowledged_where_another_lies_is_found() {
    let line = Line::new(PLAIN);
    line.send(1, 0);
    line.send(2, 0);
    line.receive(1, 1, 0);
    line.ack(0, 1);
    line.breaks(&[Check::H2]);
}

#[test]
fn q2_a_delivery_while_a_lease_lasts_is_found_and_one_after_it_was_let_go_of_is_not() {
    let line = Line::new(PLAIN);
    line.send(1, 0);
    line.receive(1, 1, 0);
    line.pass(900);
    line.receive(1, 2, 0);
    line.ack(0, 2);
    line.breaks(&[Check::Q2]);

    for verb in [Verb::Nack(Duration::ZERO), Verb::Extend(Duration::ZERO)] {
        let line = Line::new(PLAIN);
        line.send(1, 0);
        line.receive(1, 1, 0);
        line.settle(verb, lease(0, 1), Status::Info);
        line.receive(1, 2, 0);
        line.ack(0, 2);
        line.breaks(&[]);
    }
}

#[test]
fn q2_a_lease_that_was_extended_lasts_so_much_longer() {
    for (status, expected) in [(Status::Done, vec![Check::Q2]), (Status::Info, vec![])] {
        let line = Line::new(PLAIN);
        line.send(1, 0);
        line.receive(1, 1, 0);
        line.settle(Verb::Extend(LEASE * 3), lease(0, 1), status);
        line.pass(2_000);
        line.receive(1, 2, 0);
        line.ack(0, 2);
        line.breaks(&expected);
    }
}

#[test]
fn q2_a_receiver_who_is_told_too_soon_that_its_lease_is_over_was_cut_short() {
    let line = Line::new(PLAIN);
    line.send(1, 0);
    line.receive(1, 1, 0);
    line.settle(Verb::Ack, lease(0, 1), Status::Expired);
    line.pass(1_000);
    line.receive(1, 2, 0);
    line.ack(0, 2);
    assert!(line.breaks(&[Check::Q2]).violations[0].what.contains("cut short"));
}

#[test]
fn q3_an_acknowledged_message_may_come_only_to_who_asked_before() {
    let line = Line::new(PLAIN);
    line.send(1, 0);
    line.receive(1, 1, 0);
    let before = line.ask(false);
    line.ack(0, 1);
    line.come(before, &[(1, 2, 0)]);
    line.pass(2_000);
    line.breaks(&[]);
    let line = Line::new(PLAIN);
    line.send(1, 0);
    line.receive(1, 1, 0);
    line.ack(0, 1);
    line.receive(1, 2, 0);
    line.breaks(&[Check::Q3]);
}

#[test]
fn q4_a_message_whose_only_acknowledgement_was_refused_must_come_back() {
    let line = Line::new(PLAIN);
    line.send(1, 0);
    line.receive(1, 1, 0);
    line.pass(1_000);
    line.settle(Verb::Ack, lease(0, 1), Status::Expired);
    line.breaks(&[Check::Q4]);
}

#[test]
fn q5_a_message_that_comes_before_the_one_before_it_is_finished_overtook_it() {
    for (ordered, expected) in [(true, vec![Check::Q5]), (false, vec![])] {
        let line = Line::new(QueueFacts { ordered, ..PLAIN });
        for seq in 0..2 {
            line.send_as(Sent { key: Some(1), ..plain(seq) }, seq);
        }
        // Of another key: nobody minds.
        line.send_as(Sent { key: Some(2), ..plain(2) }, 2);
        line.receive(0, 1, 0);
        line.receive(2, 1, 2);
        line.receive(1, 1, 1);
        for offset in 0..3 {
            line.ack(offset, 1);
        }
        line.breaks(&expected);
    }
}

#[test]
fn q6_what_is_sent_twice_under_one_name_lies_in_one_place() {
    for (once, expected) in [(true, vec![Check::Q6]), (false, vec![])] {
        let line = Line::new(PLAIN);
        for offset in 0..2 {
            line.send_as(Sent { once, ..plain(1) }, offset);
            line.receive(1, 1, offset);
            line.ack(offset, 1);
        }
        line.breaks(&expected);
    }
}

#[test]
fn q6_a_name_is_forgotten_when_its_window_is_over() {
    for (wait, expected) in [(299_000, vec![Check::Q6]), (300_000, vec![])] {
        let line = Line::new(QueueFacts { dedup_window_ms: Some(300_000), ..PLAIN });
        for offset in 0..2 {
            line.send_as(Sent { once: true, ..plain(1) }, offset);
            line.receive(1, 1, offset);
            line.ack(offset, 1);
            line.pass(if offset == 0 { wait } else { 0 });
        }
        line.breaks(&expected);
    }
}

#[test]
fn q6_a_message_sent_once_that_lies_in_two_places_is_a_duplicate_without_any_promise() {
    let line = Line::new(PLAIN);
    line.send(1, 0);
    for offset in 0..2 {
        line.receive(1, 1, offset);
        line.ack(offset, 1);
    }
    line.breaks(&[Check::Q6]);
}

#[test]
fn q7_the_same_attempt_twice_or_a_lower_one_later_is_found() {
    let line = Line::new(PLAIN);
    line.send(1, 0);
    line.receive(1, 1, 0);
    line.pass(1_000);
    line.receive(1, 1, 0);
    line.ack(0, 1);
    line.breaks(&[Check::Q7]);

    let line = Line::new(PLAIN);
    line.send(1, 0);
    line.receive(1, 2, 0);
    line.pass(1_000);
    line.receive(1, 1, 0);
    line.ack(0, 1);
    assert!(line.close().broken().contains(&Check::Q7));
}

#[test]
fn q7_who_is_dead_had_all_attempts_or_was_rejected_and_died_once() {
    let planted = [
        (2, "max_attempts", 1, Some("is dead after 2 attempts")),
        (3, "max_attempts", 1, None),
        (3, "max_attempts", 2, Some("is dead twice")),
        (1, "rejected", 1, Some("nobody rejected it")),
        (1, "boredom", 1, Some("for a reason that nobody knows")),
    ];
    for (attempts, reason, times, expected) in planted {
        let line = Line::new(QueueFacts { max_attempts: Some(3), ..PLAIN });
        line.send(1, 0);
        (0..times).for_each(|_| line.dead(1, 0, attempts, reason));
        let report = line.breaks(if expected.is_some() { &[Check::Q7] } else { &[] });
        assert!(expected.is_none_or(|why| report.violations[0].what.contains(why)), "{:?}", report.violations);
    }
    // The attempt of a delivery may be beyond the bound, where leases before it reached nobody; the deliveries may not.
    for (attempts, expected) in [(vec![4], vec![]), (vec![1, 2, 3, 4], vec![Check::Q7])] {
        let line = Line::new(QueueFacts { max_attempts: Some(3), ..PLAIN });
        line.send(1, 0);
        let last = attempts[attempts.len() - 1];
        for attempt in attempts {
            line.receive(1, attempt, 0);
            if attempt < last {
                line.settle(Verb::Nack(Duration::ZERO), lease(0, attempt), Status::Done);
            }
        }
        line.ack(0, last);
        line.breaks(&expected);
    }
}

#[test]
fn q8_nothing_comes_before_its_delay_has_passed() {
    let delay = Duration::from_millis(500);
    for (wait, expected) in [(400, vec![Check::Q8]), (500, vec![])] {
        let line = Line::new(PLAIN);
        line.send_as(Sent { delay, ..plain(1) }, 0);
        line.pass(wait);
        line.receive(1, 1, 0);
        line.ack(0, 1);
        line.breaks(&expected);
    }
    let line = Line::new(PLAIN);
    line.send(1, 0);
    line.receive(1, 1, 0);
    line.settle(Verb::Nack(delay), lease(0, 1), Status::Done);
    line.pass(400);
    line.receive(1, 2, 0);
    line.ack(0, 2);
    line.breaks(&[Check::Q8]);
}

#[test]
fn q9_a_message_may_be_gone_after_its_time_and_not_before() {
    for (wait, expected) in [(9_000, vec![Check::Q9]), (10_000, vec![])] {
        let line = Line::new(QueueFacts { keeps_ms: Some(10_000), ..PLAIN });
        line.send(1, 0);
        line.pass(wait);
        let report = line.breaks(&expected);
        assert_eq!(report.expired, u64::from(expected.is_empty()));
    }
}

#[test]
fn q10_what_nobody_leases_any_more_comes_back_within_two_seconds() {
    for (late, expected) in [(2_500, vec![Check::Q10]), (1_500, vec![])] {
        let line = Line::new(PLAIN);
        line.send(1, 0);
        line.send(2, 1);
        line.receive(1, 1, 0);
        // The drain has begun, but the lease goes on.
        line.drain(2, 1, 1);
        line.ack(1, 1);
        line.pass(1_000 + late);
        line.drain(1, 2, 0);
        line.ack(0, 2);
        assert_eq!(line.breaks(&expected).examined_by(Check::Q10), 1);
    }
}

#[test]
fn h9_what_a_commit_acknowledges_comes_back_if_and_only_if_it_did_not_happen() {
    use crate::history::{Answer, Append, Call, Promise, Read, Run, Seen};
    for (happened, back, expected) in [(true, false, vec![]), (false, true, vec![]), (false, false, vec![Check::Q1]), (true, true, vec![])]
    {
        let line = Line::new(PLAIN);
        line.send(1, 0);
        line.receive(1, 1, 0);
        let append = Append::new("out".into(), Promise { once: true, pipelined: false }, vec![(id(50), 50)]);
        let acks = vec![("jobs".into(), vec![lease(0, 1)])];
        let op = line.plant.tape.invoke(None, Call::Commit { appends: vec![append], moves: Vec::new(), acks });
        line.plant.tape.info(op);
        line.pass(1_000);
        if back {
            line.drain(1, 2, 0);
            line.ack(0, 2);
        }
        let read = Read { topic: "out".into(), reader: 9, last: true, seek: false, partition: 0, from: 0 };
        let op = line.plant.tape.invoke(None, Call::Read(read));
        let rows: Vec<Seen> = happened.then_some(Seen { offset: 0, id: Some(id(50)), sum: 50 }).into_iter().collect();
        line.plant.tape.ok(op, Answer::Rows { end: rows.len() as u64, rows });
        line.breaks(&expected);
    }
    let line = Line::new(PLAIN);
    line.send(1, 0);
    line.receive(1, 1, 0);
    let op = line.plant.tape.invoke(None, Call::Commit { appends: vec![], moves: vec![], acks: vec![("jobs".into(), vec![lease(0, 1)])] });
    line.plant.tape.ok(op, Answer::Committed(Vec::<Vec<Run>>::new()));
    line.receive(1, 2, 0);
    assert!(line.close().broken().contains(&Check::Q3));
}
