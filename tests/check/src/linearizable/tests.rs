//! Known histories, and random ones of an implementation that is right: those pass, and with one answer changed they do not.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::queue::{Message, Op as Told};
use super::stream::{Op, Outcome, Stream};
use super::*;
use crate::history::{Seen, Status, Verb};

fn append(sum: u64, expect: Option<u64>, fence: Option<u64>, outcome: Outcome) -> Op {
    Op::Append { sums: [sum].into(), expect, fence, outcome }
}

fn read(from: u64, sums: &[u64], end: u64) -> Op {
    Op::Read { from, rows: sums.iter().zip(from..).map(|(sum, offset)| Seen { offset, id: None, sum: *sum }).collect(), end }
}

/// Operations with the times of their calls and answers.
fn history<O>(ops: Vec<(u64, Option<u64>, O)>) -> Vec<Operation<O>> {
    ops.into_iter().zip(1..).map(|((invoked, returned, op), name)| Operation { name, invoked, returned, op }).collect()
}

fn has_order(ops: Vec<(u64, Option<u64>, Op)>) -> bool {
    matches!(search(&Stream, &history(ops), LIMIT), Verdict::Linearizable(_))
}

#[test]
fn a_read_sees_an_append_that_overlaps_it_or_not_but_all_that_ended_before() {
    let stored = || append(7, None, None, Outcome::Stored(0));
    for sums in [&[][..], &[7]] {
        let end = sums.len() as u64;
        assert!(has_order(vec![(0, Some(10), stored()), (5, Some(6), read(0, sums, end))]));
        assert_eq!(has_order(vec![(0, Some(4), stored()), (5, Some(6), read(0, sums, end))]), end == 1);
    }
    // Once somebody saw it, nobody who asks later may miss it.
    let both = |first: &[u64], then: &[u64]| {
        let seen = |sums: &[u64]| read(0, sums, sums.len() as u64);
        has_order(vec![(0, Some(10), stored()), (1, Some(2), seen(first)), (3, Some(4), seen(then))])
    };
    assert!(both(&[], &[7]) && both(&[7], &[7]) && both(&[], &[]) && !both(&[7], &[]));
}

#[test]
fn an_append_of_unknown_outcome_happened_at_any_later_time_or_never() {
    let unknown = || append(7, None, None, Outcome::Unknown);
    assert!(has_order(vec![(0, None, unknown()), (5, Some(6), read(0, &[], 0)), (7, Some(8), read(0, &[7], 1))]));
    assert!(has_order(vec![(0, None, unknown()), (5, Some(6), read(0, &[], 0)), (7, Some(8), read(0, &[], 0))]));
    assert!(!has_order(vec![(0, None, unknown()), (5, Some(6), read(0, &[7], 1)), (7, Some(8), read(0, &[], 0))]));
    assert!(!has_order(vec![(5, Some(6), read(0, &[7], 1)), (7, None, unknown())]));
}

#[test]
fn a_conditional_append_is_stored_where_it_says_or_told_the_end() {
    let expecting = |outcome| append(8, Some(0), None, outcome);
    let first = |end| (0, Some(end), append(7, None, None, Outcome::Stored(0)));
    assert!(has_order(vec![first(1), (2, Some(3), expecting(Outcome::Mismatch(1)))]));
    assert!(!has_order(vec![first(1), (2, Some(3), expecting(Outcome::Mismatch(2)))]));
    assert!(!has_order(vec![first(1), (2, Some(3), expecting(Outcome::Stored(1)))]));
    assert!(!has_order(vec![first(3), (1, Some(2), expecting(Outcome::Stored(0)))]));
    assert!(!has_order(vec![(2, Some(3), expecting(Outcome::Mismatch(0)))]));
    assert!(has_order(vec![first(1), (2, Some(3), expecting(Outcome::Refused))]));
    // Of unknown outcome, it did not happen.
    assert!(!has_order(vec![first(1), (2, None, expecting(Outcome::Unknown)), (3, Some(4), read(0, &[7, 8], 2))]));
}

#[test]
fn a_token_shuts_out_lower_ones_from_the_append_that_brought_it_on() {
    let with = |sum, token, outcome| append(sum, None, Some(token), outcome);
    let new = |end| (0, Some(end), with(1, 5, Outcome::Stored(0)));
    assert!(has_order(vec![new(1), (2, Some(3), with(2, 4, Outcome::Fenced(5))), (4, Some(5), with(3, 5, Outcome::Stored(1)))]));
    assert!(!has_order(vec![new(1), (2, Some(3), with(2, 4, Outcome::Stored(1)))]));
    assert!(!has_order(vec![new(1), (2, Some(3), with(2, 4, Outcome::Fenced(6)))]));
    assert!(!has_order(vec![new(1), (2, Some(3), with(2, 6, Outcome::Fenced(5)))]));
    // Whoever names no token is not asked for one.
    assert!(has_order(vec![new(1), (2, Some(3), append(2, None, None, Outcome::Stored(1)))]));
    assert!(!has_order(vec![new(1), (2, None, with(2, 4, Outcome::Unknown)), (3, Some(4), read(0, &[1, 2], 2))]));
}

#[test]
fn what_fits_nowhere_is_named_with_the_longest_order() {
    let ops = vec![(0, Some(1), append(7, None, None, Outcome::Stored(0))), (2, Some(3), read(0, &[], 0))];
    assert_eq!(search(&Stream, &history(ops), LIMIT), Verdict::Not { longest: vec![1], stuck: 2 });
    assert_eq!(search(&Stream, &[], LIMIT), Verdict::Linearizable(vec![]));
}

#[test]
fn a_read_is_right_record_by_record_whatever_appends_brought_them() {
    let sums: [u64; 3] = [1, 2, 3];
    let both = |seen: Op| {
        let first = Op::Append { sums: sums.into(), expect: None, fence: None, outcome: Outcome::Stored(0) };
        has_order(vec![(0, Some(1), first), (2, Some(3), append(4, None, None, Outcome::Stored(3))), (4, Some(5), seen)])
    };
    assert!(both(read(0, &[1, 2, 3, 4], 4)) && both(read(1, &[2, 3], 4)) && both(read(3, &[4], 4)) && both(read(4, &[], 4)));
    assert!(!both(read(0, &[1, 2, 4], 4)) && !both(read(2, &[3, 3], 4)) && !both(read(3, &[4, 5], 4)) && !both(read(0, &[1], 3)));
    let gap = Op::Read { from: 0, rows: vec![Seen { offset: 1, id: None, sum: 2 }], end: 4 };
    assert!(!both(gap));
}

#[test]
fn too_many_orders_are_an_answer_of_their_own() {
    let unknown = |at| (at, None, append(at, None, None, Outcome::Unknown));
    let ops = (0..30).map(unknown).chain([(40, Some(41), read(0, &[99], 1))]).collect();
    assert_eq!(search(&Stream, &history(ops), 1_000), Verdict::TooLarge);
}

fn message_has_order(ops: Vec<(u64, Option<u64>, Told)>) -> bool {
    matches!(search(&Message, &history(ops), LIMIT), Verdict::Linearizable(_))
}

#[test]
fn a_message_is_leased_by_one_until_he_lets_go_and_never_after_it_is_finished() {
    let sent = || (0, Some(1), Told::Send { certain: true });
    let got = |at, attempt| (at, Some(at + 1), Told::Receive { attempt });
    let said = |at, attempt, verb, status| (at, Some(at + 1), Told::Settle { attempt, verb, status });
    let nack = Verb::Nack(std::time::Duration::ZERO);
    assert!(message_has_order(vec![sent(), got(2, 1), said(4, 1, nack, Status::Done), got(6, 2), said(8, 2, Verb::Ack, Status::Done)]));
    assert!(!message_has_order(vec![sent(), got(2, 1), got(4, 2)]));
    assert!(!message_has_order(vec![sent(), got(2, 1), said(4, 1, Verb::Ack, Status::Done), got(6, 2)]));
    assert!(!message_has_order(vec![sent(), got(2, 1), said(4, 1, nack, Status::Done), said(6, 1, Verb::Ack, Status::Done)]));
    assert!(message_has_order(vec![sent(), got(2, 1), said(4, 1, nack, Status::Done), said(6, 1, Verb::Ack, Status::Expired)]));
    assert!(!message_has_order(vec![sent(), got(2, 1), said(4, 1, Verb::Ack, Status::Expired)]));
    assert!(!message_has_order(vec![got(0, 1), (2, Some(3), Told::Send { certain: true })]));
    // A repetition is answered as the first one was.
    let acked = |status| vec![sent(), got(2, 1), said(4, 1, Verb::Ack, Status::Done), said(6, 1, Verb::Ack, status)];
    assert!(message_has_order(acked(Status::Done)) && !message_has_order(acked(Status::Expired)));
    assert!(message_has_order(vec![sent(), got(2, 1), said(4, 1, nack, Status::Done), said(6, 1, nack, Status::Done), got(8, 2)]));
    // Also when somebody else has it since, or had; for how long that is known, nobody promises.
    for status in [Status::Done, Status::Expired] {
        assert!(message_has_order(vec![sent(), got(2, 1), said(4, 1, nack, Status::Done), got(6, 2), said(8, 1, nack, status)]));
        let acked = said(8, 2, Verb::Ack, Status::Done);
        assert!(message_has_order(vec![sent(), got(2, 1), said(4, 1, nack, Status::Done), got(6, 2), acked, said(10, 1, nack, status)]));
    }
    assert!(!message_has_order(vec![sent(), got(2, 1), said(4, 1, Verb::Ack, Status::Done), said(6, 1, nack, Status::Done)]));
    assert!(!message_has_order(vec![sent(), got(2, 1), said(4, 1, nack, Status::Done), got(6, 2), said(8, 1, Verb::Ack, Status::Done)]));
    let more = Verb::Extend(std::time::Duration::from_secs(1));
    assert!(message_has_order(vec![sent(), got(2, 1), said(4, 1, more, Status::Done), said(6, 1, Verb::Ack, Status::Done)]));
    assert!(!message_has_order(vec![sent(), got(2, 1), said(4, 1, Verb::Ack, Status::Done), said(6, 1, more, Status::Done)]));
    // It comes while its acknowledgement is under way: somebody else must have let go of it.
    assert!(!message_has_order(vec![
        sent(),
        got(2, 1),
        (4, Some(9), Told::Settle { attempt: 1, verb: Verb::Ack, status: Status::Done }),
        got(5, 2)
    ]));
    // An acknowledgement of unknown outcome leaves it leased, or finishes it.
    let unknown = (4, None, Told::Settle { attempt: 1, verb: Verb::Ack, status: Status::Info });
    assert!(!message_has_order(vec![sent(), got(2, 1), unknown, got(6, 2)]));
    for (verb, status, expected) in
        [(nack, Status::Expired, true), (nack, Status::Done, true), (Verb::Ack, Status::Done, true), (Verb::Ack, Status::Expired, false)]
    {
        assert_eq!(message_has_order(vec![sent(), got(2, 1), unknown, said(6, 1, verb, status)]), expected, "{verb:?} {status:?}");
    }
}

/// What a client does next.
#[derive(Clone, Debug)]
enum Step {
    Append { records: u64, expect: u8, fence: Option<u64> },
    Read { from: u8 },
    Tail,
}

fn steps() -> impl Strategy<Value = Vec<(u8, Step, u8)>> {
    let step = prop_oneof![
        3 => (1..4_u64, 0..4_u8, prop::option::of(0..4_u64)).prop_map(|(records, expect, fence)| Step::Append { records, expect, fence }),
        2 => any::<u8>().prop_map(|from| Step::Read { from }),
        1 => Just(Step::Tail),
    ];
    // Who, what, and how long it takes.
    prop::collection::vec((0..5_u8, step, 0..6_u8), 1..120)
}

/// Runs the steps on a log that does one after the other, and spreads each over time around the moment at which it happened: a
/// client does its next when its last has ended. Every tenth append has an unknown outcome.
fn run(steps: &[(u8, Step, u8)]) -> Vec<Operation<Op>> {
    let (mut log, mut fence): (Vec<u64>, Option<u64>) = (Vec::new(), None);
    let mut free: BTreeMap<u8, u64> = BTreeMap::new();
    let mut operations = Vec::new();
    for (name, (client, step, long)) in steps.iter().enumerate() {
        let now = (name as u64 + 1) * 4;
        // No client begins before its last ended, nor after it happens.
        let begun = free.get(client).copied().unwrap_or(0);
        if begun >= now {
            continue;
        }
        let (invoked, returned) = (begun.max(now.saturating_sub(u64::from(*long) * 3)), now + 1 + u64::from(*long) * 3);
        free.insert(*client, returned + 1);
        let end = log.len() as u64;
        let mut returned = Some(returned);
        let op = match step {
            Step::Append { records, expect, fence: token } => {
                let expect = match expect {
                    0 => Some(end),
                    1 => Some(end + 1),
                    _ => None,
                };
                let sums: Vec<u64> = (0..*records).map(|nth| now * 100 + nth).collect();
                let mut outcome = match (token.zip(fence).filter(|(token, current)| token < current), expect) {
                    (Some((_, current)), _) => Outcome::Fenced(current),
                    (None, Some(expect)) if expect != end => Outcome::Mismatch(end),
                    _ => Outcome::Stored(end),
                };
                if outcome == Outcome::Stored(end) {
                    log.extend(&sums);
                    fence = fence.max(*token);
                }
                if name % 10 == 9 {
                    (outcome, returned) = (Outcome::Unknown, None);
                }
                Op::Append { sums: sums.into(), expect, fence: *token, outcome }
            }
            Step::Read { from } => {
                let from = u64::from(*from) % (end + 1);
                read(from, &log[from as usize..], end)
            }
            Step::Tail => Op::Tail { end },
        };
        operations.push(Operation { name: name as u64, invoked, returned, op });
    }
    operations
}

/// Changes an answer so that no order explains it: what it tells is nowhere in the log.
fn spoil(op: &mut Op) -> bool {
    match op {
        Op::Append { outcome: Outcome::Stored(first), .. } => *first += 1_000,
        Op::Append { outcome: Outcome::Mismatch(end), .. } => *end += 1_000,
        Op::Append { outcome: Outcome::Fenced(current), .. } => *current += 1_000,
        Op::Append { .. } => return false,
        Op::Read { rows, end, .. } => match rows.first_mut() {
            Some(row) => row.sum += 1,
            None => *end += 1_000,
        },
        Op::Tail { end } => *end += 1_000,
    }
    true
}

proptest! {
    #[test]
    fn histories_of_a_log_that_is_right_have_an_order_and_spoilt_ones_have_none(steps in steps(), which in any::<prop::sample::Index>()) {
        let mut operations = run(&steps);
        prop_assert!(matches!(search(&Stream, &operations, LIMIT), Verdict::Linearizable(_)), "{operations:#?}");
        let at = which.index(operations.len());
        if spoil(&mut operations[at].op) {
            prop_assert!(matches!(search(&Stream, &operations, LIMIT), Verdict::Not { .. }), "{at}: {operations:#?}");
        }
    }

    #[test]
    fn a_read_that_misses_what_ended_before_it_is_found(steps in steps(), which in any::<prop::sample::Index>()) {
        let mut operations = run(&steps);
        let last = operations.iter().filter_map(|operation| operation.returned).max().unwrap_or_default();
        let stored = |operation: &&Operation<Op>| matches!(&operation.op, Op::Append { outcome: Outcome::Stored(_), .. });
        let ends: Vec<u64> = operations.iter().filter(stored).filter_map(|operation| match &operation.op {
            Op::Append { outcome: Outcome::Stored(first), .. } => Some(*first),
            _ => None,
        }).collect();
        prop_assume!(!ends.is_empty());
        // The end before some acknowledged append, told after all had ended.
        let op = Op::Tail { end: ends[which.index(ends.len())] };
        operations.push(Operation { name: 10_000, invoked: last + 1, returned: Some(last + 2), op });
        prop_assert!(matches!(search(&Stream, &operations, LIMIT), Verdict::Not { .. }), "{operations:#?}");
    }
}
