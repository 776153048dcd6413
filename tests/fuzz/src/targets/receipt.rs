//! Receipts: forged ones, and those that are made of the input.

use std::sync::LazyLock;

use lakefall_gateway::engine::ReceiptKeys;
use lakefall_gateway::{Receipt, Receipts};
use lakefall_queue::{Offset, PartitionIndex, QueueId, TopicId, TraceContext};

use super::room::fixed;

/// What an earlier key sealed.
static EARLIER: LazyLock<Receipts> = LazyLock::new(|| Receipts::new(&ReceiptKeys::new(vec![8; 32], Vec::new()), &fixed()));
static RECEIPTS: LazyLock<Receipts> = LazyLock::new(|| Receipts::new(&ReceiptKeys::new(vec![7; 32], vec![vec![8; 32]]), &fixed()));

/// No panic; a text that is opened is the one that would be written; what is sealed is opened; and a sealed receipt with anything
/// changed is forged.
pub fn receipt(input: &[u8]) -> bool {
    let opened = std::str::from_utf8(input).ok().and_then(|text| Some((text, RECEIPTS.open(text).ok()?)));
    if let Some((text, receipt)) = opened {
        let is_sealed = [&RECEIPTS, &EARLIER].iter().any(|receipts| &*receipts.seal(&receipt) == text);
        assert!(is_sealed, "no key seals {receipt:?} as {text}");
    }
    let made = made(input);
    let sealed = RECEIPTS.seal(&made);
    assert_eq!(RECEIPTS.open(&sealed), Ok(made));
    if let [at, to, ..] = input {
        let mut changed = sealed.as_bytes().to_vec();
        let at = usize::from(*at) % changed.len();
        changed[at] = *to;
        let changed = String::from_utf8_lossy(&changed);
        assert_eq!(RECEIPTS.open(&changed).is_ok(), *changed == *sealed, "{changed}");
    }
    opened.is_some()
}

/// A receipt with the input's bytes in it.
fn made(input: &[u8]) -> Receipt {
    let mut bytes = [0; 40];
    input.iter().take(40).zip(&mut bytes).for_each(|(from, to)| *to = *from);
    let long = |at: usize| bytes[at..at + 8].iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    let short = |at: usize| (long(at) >> 32) as u32;
    Receipt {
        queue: QueueId(long(0)),
        generation: short(8),
        topic: TopicId(long(12)),
        partition: PartitionIndex(short(20)),
        offset: Offset(long(24)),
        attempt: short(28) & 0xf_ffff,
        undelivered: short(32) & 0xfff,
        trace: (bytes[39] & 1 == 1).then(|| TraceContext {
            trace: u128::from(long(8)) << 64 | u128::from(long(16)),
            span: long(24),
            sampled: true,
        }),
    }
}
