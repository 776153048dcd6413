//! What is asked of a ledger and answered arrives as it was sent, whatever it is; and bytes that nobody sent are refused.

#![allow(clippy::unwrap_used, reason = "helpers of tests may fail a test")]

#[path = "wire/arbitrary.rs"]
mod arbitrary;

use bytes::Bytes;
use lakefall_queue::error::{Outcome, Result};
use lakefall_queue::ledger::wire::{
    decode_answer, decode_command, decode_query, decode_reply, encode_answer, encode_command, encode_query, encode_reply,
    notice_from_proto, notice_to_proto,
};
use lakefall_queue::ledger::{Answer, Notice, Reply, proto};
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
        topic in topic_id(), partition in partition(), extent in extent(), namespace in namespace_name(), name in topic_name()
    ) {
        for notice in [Notice::Appended { topic, partition, extent }, Notice::TopicChanged { namespace, name, topic }] {
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
fn an_answer_is_not_taken_for_a_reply() {
    assert!(decode_reply(encode_answer(&Ok(Answer::Partitions(Vec::new())))).is_err());
    assert!(decode_answer(encode_reply(&Ok(Reply::Done))).is_err());
    assert!(decode_reply(Bytes::new()).is_err() && decode_command(Bytes::new()).is_err() && decode_query(Bytes::new()).is_err());
}
