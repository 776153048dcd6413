//! Messages between roles. The first byte says which: a frame of the RPC, or what travels in one.

use bytes::Bytes;
use lakefall_metadata::rpc::proto::{Answers, Asks, DescribeReply, NewsFrame, WatchRequest, answered, ask, news};
use lakefall_queue::ledger::wire::{
    decode_answer, decode_command, decode_query, decode_reply, encode_answer, encode_command, encode_query, encode_reply,
    notice_from_proto, notice_to_proto,
};
use prost::Message;

use super::ledger::{AT, ledger};

/// No panic, memory in proportion to the message, and what is understood is understood the same when it is sent on.
pub fn rpc_message(input: &[u8]) -> bool {
    let Some((kind, message)) = input.split_first() else { return false };
    let bytes = Bytes::copy_from_slice(message);
    match kind % 9 {
        0 => frame::<Asks>(bytes, |frame| frame.asks.into_iter().all(|ask| asked(ask.what))),
        1 => frame::<Answers>(bytes, |frame| {
            frame.answers.into_iter().all(|answer| match answer.what {
                Some(answered::What::Outcome(outcome)) => replied(outcome.clone()) || answered(outcome),
                Some(answered::What::Elsewhere(_)) | None => true,
            })
        }),
        2 => frame::<NewsFrame>(bytes, |frame| frame.news.into_iter().all(|news| told(news.what))),
        3 => frame::<DescribeReply>(bytes, |_| true),
        4 => frame::<WatchRequest>(bytes, |_| true),
        5 => command(bytes),
        6 => query(bytes),
        7 => replied(bytes),
        _ => answered(bytes),
    }
}

fn frame<M: Message + Default + PartialEq + std::fmt::Debug>(bytes: Bytes, inner: impl FnOnce(M) -> bool) -> bool {
    let Ok(frame) = M::decode(bytes) else { return false };
    assert_eq!(M::decode(&frame.encode_to_vec()[..]).as_ref(), Ok(&frame), "a frame changed when it was sent on");
    inner(frame)
}

fn asked(what: Option<ask::What>) -> bool {
    match what {
        Some(ask::What::Command(bytes)) => command(bytes),
        Some(ask::What::Query(bytes)) => query(bytes),
        None => false,
    }
}

fn command(bytes: Bytes) -> bool {
    let Ok(command) = decode_command(bytes) else { return false };
    assert_eq!(decode_command(encode_command(&command)).as_ref(), Ok(&command), "a command changed when it was sent on");
    let (mut ledger, _) = ledger();
    // Taken or refused; what becomes of it is for the journal's target.
    let _ = ledger.apply(&command, AT);
    true
}

fn query(bytes: Bytes) -> bool {
    let Ok(query) = decode_query(bytes) else { return false };
    let sent = encode_query(&query);
    let again = decode_query(sent.clone()).expect("a question that was encoded");
    assert_eq!(encode_query(&again), sent, "a question changed when it was sent on");
    let (ledger, _) = ledger();
    if let Ok(answer) = ledger.query(&query) {
        let sent = encode_answer(&Ok(answer));
        let again = decode_answer(sent.clone()).expect("an answer that was encoded");
        assert_eq!(encode_answer(&again), sent, "an answer changed on its way");
    }
    true
}

fn replied(bytes: Bytes) -> bool {
    let Ok(reply) = decode_reply(bytes) else { return false };
    assert_eq!(decode_reply(encode_reply(&reply)).as_ref(), Ok(&reply), "a reply changed when it was sent on");
    true
}

fn answered(bytes: Bytes) -> bool {
    let Ok(answer) = decode_answer(bytes) else { return false };
    let sent = encode_answer(&answer);
    let again = decode_answer(sent.clone()).expect("an answer that was encoded");
    assert_eq!(encode_answer(&again), sent, "an answer changed when it was sent on");
    true
}

fn told(what: Option<news::What>) -> bool {
    let Some(news::What::Durable(durable)) = what else { return true };
    durable.notices.into_iter().all(|notice| match notice_from_proto(notice) {
        Ok(Some(notice)) => {
            assert_eq!(notice_from_proto(notice_to_proto(&notice)).as_ref(), Ok(&Some(notice)), "a notice changed when it was sent on");
            true
        }
        Ok(None) => true,
        Err(_) => false,
    })
}
