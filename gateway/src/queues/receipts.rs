//! Receipts: a lease's name, sealed, so that nobody settles what was not given to them by guessing. Must never tell why a
//! seal does not fit.
//!
//! A receipt is 54 bytes in base64url without padding, 72 characters: version (1), hint at the key (1), queue (8), generation
//! (4), topic (8), partition (4), offset (8), undelivered (12 bits) and attempt (20 bits), all big-endian, and the first 16 bytes of HMAC-SHA256 over these 38.
//! That of a message which was sent in a recorded trace is of version 2: trace (16) and span (8) stand before the seal, and it is 78
//! bytes, 104 characters.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use lakefall_queue::clock::Ambient;
use lakefall_queue::{Offset, PartitionIndex, QueueId, TopicId, TraceContext};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// What a derived key is for; another purpose has another label.
const LABEL: &[u8] = b"lakefall receipts 1";
/// The layout below, without a trace and with one.
const VERSION: u8 = 1;
const VERSION_TRACED: u8 = 2;
/// Bytes of the fields.
const FIELDS: usize = 38;
/// Bytes of a trace and a span.
const TRACE: usize = 24;
/// Attempts that the ledger tells apart have so many bits.
const ATTEMPT_BITS: u32 = 20;
const ATTEMPT_MAX: u32 = (1 << ATTEMPT_BITS) - 1;
/// Bytes of the seal.
const SEAL: usize = 16;
/// Characters of a receipt, without a trace and with one.
const TEXT: usize = (FIELDS + SEAL) / 3 * 4;
const TEXT_TRACED: usize = (FIELDS + TRACE + SEAL) / 3 * 4;

/// What receipts are sealed and opened with.
#[derive(Clone, Default)]
pub struct ReceiptKeys {
    keys: Vec<Arc<[u8]>>,
}

impl ReceiptKeys {
    /// `current` seals; it and each of the `previous` opens. Keys should have 32 random bytes or more.
    pub fn new(current: Vec<u8>, previous: Vec<Vec<u8>>) -> Self {
        Self { keys: std::iter::once(current).chain(previous).map(Arc::from).collect() }
    }

    /// A key that all who share `secret` have, and that tells nothing of it; each of the `previous` opens, too.
    pub fn derived(secret: &[u8], previous: Vec<Vec<u8>>) -> Self {
        let mut mac = keyed(&Sha256::digest(secret));
        mac.update(LABEL);
        Self::new(mac.finalize().into_bytes().to_vec(), previous)
    }
}

impl fmt::Debug for ReceiptKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReceiptKeys({})", self.keys.len())
    }
}

/// What a receipt names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Receipt {
    /// The queue.
    pub queue: QueueId,
    /// The queue's: another one makes it stale.
    pub generation: u32,
    /// Where the message lies.
    pub topic: TopicId,
    /// Where the message lies.
    pub partition: PartitionIndex,
    /// Where the message lies.
    pub offset: Offset,
    /// How often the message was leased, this time included; below 2^20.
    pub attempt: u32,
    /// Leases before this one that were delivered to nobody; below 2^12.
    pub undelivered: u32,
    /// What the message was sent in, if that is recorded: settling it is linked with it, whichever gateway is told.
    pub trace: Option<TraceContext>,
}

impl Receipt {
    /// How often the message was delivered, this time included.
    pub(crate) fn deliveries(&self) -> u32 {
        self.attempt.saturating_sub(self.undelivered)
    }
}

/// Not a receipt of this service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forged;

/// Seals and opens receipts: pure, so that it can be held against any bytes without a queue.
pub struct Receipts {
    /// The current one first; never empty.
    keys: Vec<Key>,
}

/// A key made ready, so that a receipt costs two blocks of SHA-256.
struct Key {
    /// Which key a receipt may be of. Tells nothing of it: its hash's first byte.
    hint: u8,
    mac: Hmac<Sha256>,
}

impl Key {
    fn new(key: &[u8]) -> Self {
        let hash = Sha256::digest(key);
        Self { hint: Sha256::digest(hash)[0], mac: keyed(&hash) }
    }

    fn seal(&self, fields: &[u8]) -> [u8; SEAL] {
        let mut mac = self.mac.clone();
        mac.update(fields);
        let whole = mac.finalize().into_bytes();
        let mut seal = [0; SEAL];
        seal.copy_from_slice(&whole[..SEAL]);
        seal
    }
}

impl Receipts {
    /// With these keys; without any, one is drawn.
    pub fn new(keys: &ReceiptKeys, ambient: &Ambient) -> Self {
        let mut ready: Vec<Key> = keys.keys.iter().map(|key| Key::new(key)).collect();
        if ready.is_empty() {
            let drawn = [ambient.entropy.draw().to_be_bytes(), ambient.entropy.draw().to_be_bytes()].concat();
            ready.push(Key::new(&drawn));
        }
        Self { keys: ready }
    }

    /// Writes a receipt.
    pub fn seal(&self, receipt: &Receipt) -> Arc<str> {
        let key = &self.keys[0];
        let mut bytes = [0; FIELDS + TRACE + SEAL];
        let fields = if receipt.trace.is_some() { FIELDS + TRACE } else { FIELDS };
        bytes[0] = if receipt.trace.is_some() { VERSION_TRACED } else { VERSION };
        bytes[1] = key.hint;
        bytes[2..10].copy_from_slice(&receipt.queue.0.to_be_bytes());
        bytes[10..14].copy_from_slice(&receipt.generation.to_be_bytes());
        bytes[14..22].copy_from_slice(&receipt.topic.0.to_be_bytes());
        bytes[22..26].copy_from_slice(&receipt.partition.0.to_be_bytes());
        bytes[26..34].copy_from_slice(&receipt.offset.0.to_be_bytes());
        let attempts = receipt.undelivered << ATTEMPT_BITS | receipt.attempt & ATTEMPT_MAX;
        bytes[34..38].copy_from_slice(&attempts.to_be_bytes());
        if let Some(trace) = &receipt.trace {
            bytes[FIELDS..FIELDS + 16].copy_from_slice(&trace.trace.to_be_bytes());
            bytes[FIELDS + 16..FIELDS + TRACE].copy_from_slice(&trace.span.to_be_bytes());
        }
        let seal = key.seal(&bytes[..fields]);
        bytes[fields..fields + SEAL].copy_from_slice(&seal);
        let mut text = [0; TEXT_TRACED];
        let written = URL_SAFE_NO_PAD.encode_slice(&bytes[..fields + SEAL], &mut text).unwrap_or_default();
        std::str::from_utf8(&text[..written]).unwrap_or_default().into()
    }

    /// Reads a receipt that this service, with this key or one before, has written.
    ///
    /// Errors: [`Forged`] for any other text, whatever is wrong with it.
    pub fn open(&self, text: &str) -> Result<Receipt, Forged> {
        let mut all = [0; FIELDS + TRACE + SEAL];
        let (fields, version) = match text.len() {
            TEXT => (FIELDS, VERSION),
            TEXT_TRACED => (FIELDS + TRACE, VERSION_TRACED),
            _ => return Err(Forged),
        };
        let bytes = &mut all[..fields + SEAL];
        match URL_SAFE_NO_PAD.decode_slice(text, bytes) {
            Ok(length) if length == bytes.len() && bytes[0] == version => {}
            _ => return Err(Forged),
        }
        let (fields, seal) = bytes.split_at(fields);
        let fits = |key: &Key| key.hint == bytes[1] && bool::from(key.seal(fields).ct_eq(seal));
        if !self.keys.iter().any(fits) {
            return Err(Forged);
        }
        Ok(Receipt {
            queue: QueueId(long(&bytes[2..10])),
            generation: short(&bytes[10..14]),
            topic: TopicId(long(&bytes[14..22])),
            partition: PartitionIndex(short(&bytes[22..26])),
            offset: Offset(long(&bytes[26..34])),
            attempt: short(&bytes[34..38]) & ATTEMPT_MAX,
            undelivered: short(&bytes[34..38]) >> ATTEMPT_BITS,
            trace: (version == VERSION_TRACED).then(|| TraceContext {
                trace: u128::from(long(&bytes[38..46])) << 64 | u128::from(long(&bytes[46..54])),
                span: long(&bytes[54..62]),
                sampled: true,
            }),
        })
    }
}

/// HMAC with a key that was hashed, whatever its length was. It is padded with zeroes, as HMAC does itself.
fn keyed(hash: &[u8]) -> Hmac<Sha256> {
    let mut block = hmac::digest::Key::<Hmac<Sha256>>::default();
    block[..hash.len()].copy_from_slice(hash);
    <Hmac<Sha256> as KeyInit>::new(&block)
}

fn long(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn short(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipts(current: &str, previous: &[&str]) -> Receipts {
        let previous = previous.iter().map(|key| key.as_bytes().to_vec()).collect();
        let keys = ReceiptKeys::new(current.as_bytes().to_vec(), previous);
        Receipts { keys: keys.keys.iter().map(|key| Key::new(key)).collect() }
    }

    const RECEIPT: Receipt = Receipt {
        queue: QueueId(0x0102_0304_0506_0708),
        generation: u32::MAX,
        topic: TopicId(77),
        partition: PartitionIndex(3),
        offset: Offset(1 << 52),
        attempt: 12,
        undelivered: 1_023,
        trace: None,
    };

    const TRACED: Receipt = Receipt { trace: Some(TraceContext { trace: u128::MAX - 5, span: u64::MAX - 7, sampled: true }), ..RECEIPT };

    #[test]
    fn a_receipt_is_read_as_it_was_written_and_any_other_character_makes_it_forged() {
        let receipts = receipts("one", &[]);
        for (receipt, characters) in [(RECEIPT, TEXT), (TRACED, TEXT_TRACED)] {
            let text = receipts.seal(&receipt);
            assert_eq!((receipts.open(&text), text.len()), (Ok(receipt), characters));
            for place in 0..text.len() {
                let mut changed = text.to_string().into_bytes();
                changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
                assert_eq!(receipts.open(std::str::from_utf8(&changed).unwrap()), Err(Forged), "character {place}");
            }
            for other in ["", "a", &text[1..], &format!("{text}A"), &"=".repeat(characters), &"é".repeat(characters / 2)] {
                assert_eq!(receipts.open(other), Err(Forged), "{other}");
            }
        }
    }

    #[test]
    fn what_an_earlier_key_sealed_is_opened_until_that_key_goes() {
        let text = receipts("one", &[]).seal(&RECEIPT);
        assert_eq!(receipts("two", &["one"]).open(&text), Ok(RECEIPT));
        assert_eq!(receipts("two", &[]).open(&text), Err(Forged));
        let newer = receipts("two", &["one"]).seal(&RECEIPT);
        assert_eq!(receipts("two", &[]).open(&newer), Ok(RECEIPT));
    }
}
