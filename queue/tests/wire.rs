//! What is asked of a ledger and answered arrives as it was sent, whatever it is; and bytes that nobody sent are refused.

#![allow(clippy::unwrap_used, reason = "helpers of tests may fail a test")]

#[path = "wire/arbitrary.rs"]
mod arbitrary;

use std::time::Duration;

use bytes::Bytes;
use lakefall_queue::error::{Outcome, Result};
use lakefall_queue::ledger::wire::{
    decode_answer, decode_command, decode_query, decode_reply, encode_answer, encode_command, encode_query, encode_reply,
    notice_from_proto, notice_to_proto,
};
use lakefall_queue::ledger::{
    Answer, Classified, Command, Notice, ReceiveMessages, Reply, SettleAction, SettleItem, SettleMessages, Want, proto,
};
use lakefall_queue::{Offset, PartitionIndex, QueueId, TopicId};
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;

use arbitrary::{answer, command, error, extent, namespace_name, partition, query, reply, topic_id, topic_name};

/// `Debug` shows every field of what has no `Eq`.
fn shown(value: &impl std::fmt::Debug) -> String {
    format!("{value:?}")
}

proptest! {
    #[test]
    fn commands_arrive_as_they_were_sent(command in command()) {
        prop_assert_eq!(decode_command(encode_command(&command)).unwrap(), command);
    }

    #[test]
    fn questions_arrive_as_they_were_sent_and_equal_ones_are_equal_bytes(query in query()) {
        let bytes = encode_query(&query);
        let arrived = decode_query(bytes.clone()).unwrap();
        prop_assert_eq!(shown(&arrived), shown(&query));
        prop_assert_eq!(encode_query(&arrived), bytes);
    }

    #[test]
    fn replies_arrive_as_they_were_sent(reply in prop_oneof![reply().prop_map(Ok), error().prop_map(Err)]) {
        let reply: Result<Reply> = reply;
        prop_assert_eq!(decode_reply(encode_reply(&reply)).unwrap(), reply);
    }

    #[test]
    fn answers_arrive_as_they_were_sent(answer in prop_oneof![answer().prop_map(Ok), error().prop_map(Err)]) {
        let answer: Result<Answer> = answer;
        prop_assert_eq!(shown(&decode_answer(encode_answer(&answer)).unwrap()), shown(&answer));
    }

    #[test]
    fn notices_arrive_as_they_were_sent(
        topic in topic_id(), partition in partition(), extent in extent(), namespace in namespace_name(), name in topic_name(),
        of_queues in arbitrary::queues::notice()
    ) {
        for notice in [Notice::Appended { topic, partition, extent }, Notice::TopicChanged { namespace, name, topic }, of_queues] {
            let bytes = notice_to_proto(&notice).encode_to_vec();
            prop_assert_eq!(notice_from_proto(proto::Notice::decode(&bytes[..]).unwrap()).unwrap(), Some(notice));
        }
    }

    #[test]
    fn bytes_that_nobody_sent_are_refused_or_read_but_never_a_panic(bytes in vec(any::<u8>(), 0..200)) {
        let bytes = Bytes::from(bytes);
        let _ = (decode_command(bytes.clone()), decode_query(bytes.clone()), decode_reply(bytes.clone()), decode_answer(bytes.clone()));
        let _ = proto::Notice::decode(bytes).map(notice_from_proto);
    }

    #[test]
    fn bytes_that_were_damaged_on_the_way_are_refused_or_read_but_never_a_panic(
        command in command(), answer in answer(), reply in reply(), at in any::<prop::sample::Index>(), flip in 1..=255_u8, cut in any::<bool>()
    ) {
        let sent = [encode_command(&command), encode_answer(&Ok(answer)), encode_reply(&Ok(reply))];
        for bytes in sent.into_iter().filter(|bytes| !bytes.is_empty()) {
            let mut bytes = bytes.to_vec();
            let at = at.index(bytes.len());
            if cut { bytes.truncate(at) } else { bytes[at] ^= flip }
            let bytes = Bytes::from(bytes);
            let _ = (decode_command(bytes.clone()), decode_query(bytes.clone()), decode_reply(bytes.clone()), decode_answer(bytes));
        }
    }
}

#[test]
fn an_error_that_only_a_newer_program_knows_still_tells_whether_it_may_have_happened() {
    for (not_applied, outcome) in [(true, Outcome::NotApplied), (false, Outcome::Unknown)] {
        let failure = proto::Failure { kind: 99, not_applied, text: "too purple".to_owned(), ..Default::default() };
        let bytes = proto::Outcome { kind: Some(proto::outcome::Kind::Failure(failure)) }.encode_to_vec();
        let told = decode_reply(bytes.into()).unwrap().unwrap_err();
        assert_eq!(told.outcome(), outcome);
        assert!(told.to_string().contains("too purple"), "{told}");
    }
}

#[test]
fn an_acknowledgement_of_a_hundred_messages_one_after_another_is_a_few_bytes() {
    let item = |first: u64, count| SettleItem {
        topic: TopicId(7),
        partition: PartitionIndex(1),
        first: Offset(first),
        count,
        attempt: 1,
        action: SettleAction::Ack,
    };
    let settle = |items| encode_command(&Command::Settle(SettleMessages { queue: QueueId(3), generation: 1, version: None, items })).len();
    assert!(settle(vec![item(1 << 40, 100)]) <= 32, "{}", settle(vec![item(1 << 40, 100)]));
    let scattered: Vec<SettleItem> = (0..100).map(|n| item((1 << 40) + 3 * n, 1)).collect();
    assert!(settle(scattered.clone()) <= 32 + 2 * 100, "{}", settle(scattered));
}

#[test]
fn what_was_found_in_plain_records_takes_no_bytes_for_each() {
    let classified = vec![Classified {
        topic: TopicId(7),
        partition: PartitionIndex(1),
        from: Offset(1 << 40),
        to: Offset((1 << 40) + 4_000),
        skipped: Vec::new(),
        marks: Vec::new(),
    }];
    let receive = ReceiveMessages {
        queue: QueueId(3),
        generation: 1,
        classified,
        wants: vec![Want { max: 100, lease: Duration::from_secs(30), request: None }],
    };
    assert!(encode_command(&Command::Receive(receive.clone())).len() <= 40, "{}", encode_command(&Command::Receive(receive)).len());
}

#[test]
fn lists_that_do_not_fit_each_other_are_refused() {
    let receive = |classified| proto::Command {
        kind: Some(proto::command::Kind::Receive(proto::ReceiveMessages { classified: vec![classified], ..Default::default() })),
    };
    let group = |group| proto::Command {
        kind: Some(proto::command::Kind::Settle(proto::SettleMessages { groups: vec![group], ..Default::default() })),
    };
    let odd = [
        receive(proto::Classified { skipped: vec![1, 2, 3], ..Default::default() }),
        receive(proto::Classified { mark_gaps: vec![1], mark_flags: vec![0, 0].into(), ..Default::default() }),
        receive(proto::Classified { mark_gaps: vec![1], mark_flags: vec![1].into(), ..Default::default() }),
        receive(proto::Classified { mark_gaps: vec![1], mark_groups: vec![9], ..Default::default() }),
        receive(proto::Classified { mark_gaps: vec![1, 2], mark_priorities: vec![9].into(), ..Default::default() }),
        group(proto::SettleGroup { runs: vec![1], ..Default::default() }),
        group(proto::SettleGroup { runs: vec![1, -1], ..Default::default() }),
        group(proto::SettleGroup { action: 99, runs: vec![1, 1], ..Default::default() }),
    ];
    for command in odd {
        assert!(decode_command(command.encode_to_vec().into()).is_err(), "{command:?}");
    }
    let settled = proto::SettledRuns { counts: vec![1], kinds: vec![1], until_ms: Vec::new() };
    let reply = proto::Reply { kind: Some(proto::reply::Kind::Settled(settled)) };
    let outcome = proto::Outcome { kind: Some(proto::outcome::Kind::Reply(reply)) };
    assert!(decode_reply(outcome.encode_to_vec().into()).is_err());
}

#[test]
fn an_answer_is_not_taken_for_a_reply() {
    assert!(decode_reply(encode_answer(&Ok(Answer::Partitions(Vec::new())))).is_err());
    assert!(decode_answer(encode_reply(&Ok(Reply::Done))).is_err());
    assert!(decode_reply(Bytes::new()).is_err() && decode_command(Bytes::new()).is_err() && decode_query(Bytes::new()).is_err());
}
