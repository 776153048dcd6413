//! The packed parts of a block: an entry of 12 bytes, a group of 10, the bits of what is finished. Nothing but layout.

/// A message that is neither finished nor plain: 12 bytes, as three little-endian words in rows, too.
///
/// Word 0: place in the block (upper 12 bits), attempt (20). Word 1: lower half of when it is available again, in
/// milliseconds since 1970. Word 2: leases that were delivered to nobody (upper 10 bits), flags (bit 21 grouped, bit 20 leased),
/// priority (4 bits), upper 16 bits of that time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry([u32; 3]);

/// Priorities that an entry can tell apart.
pub(super) const PRIORITIES: usize = 16;

const ATTEMPT_MAX: u32 = (1 << 20) - 1;
const AT_MAX_MS: i64 = (1 << 48) - 1;
const LEASED: u32 = 1 << 20;
const GROUPED: u32 = 1 << 21;
const UNDELIVERED_ONE: u32 = 1 << 22;
const UNDELIVERED_MAX: u32 = (1 << 10) - 1;

impl Entry {
    pub(super) const BYTES: usize = 12;

    /// A message that was never leased.
    pub(super) fn set_apart(place: u16, at_ms: i64, priority: u8, grouped: bool) -> Self {
        let flags = if grouped { GROUPED } else { 0 };
        Self([u32::from(place) << 20, 0, (u32::from(priority) & 0xf) << 16 | flags]).with(0, at_ms, false)
    }

    /// The same message with another attempt, time and lease.
    pub(super) fn with(self, attempt: u32, at_ms: i64, leased: bool) -> Self {
        let at = at_ms.clamp(0, AT_MAX_MS) as u64;
        let kept = self.0[2] & !(LEASED | 0xffff);
        Self([self.0[0] & !ATTEMPT_MAX | attempt.min(ATTEMPT_MAX), at as u32, kept | (at >> 32) as u32 | if leased { LEASED } else { 0 }])
    }

    pub(super) fn place(self) -> u16 {
        (self.0[0] >> 20) as u16
    }

    /// How often it was leased; 0 if never.
    pub(super) fn attempt(self) -> u32 {
        self.0[0] & ATTEMPT_MAX
    }

    /// How many of these leases were delivered to nobody; beyond a thousand no more are counted.
    pub(super) fn undelivered(self) -> u32 {
        self.0[2] >> 22
    }

    /// The same message after a lease that was delivered to nobody.
    pub(super) fn with_undelivered(mut self) -> Self {
        if self.undelivered() < UNDELIVERED_MAX {
            self.0[2] += UNDELIVERED_ONE;
        }
        self
    }

    /// When it is available again: the end of its lease or delay.
    pub(super) fn at_ms(self) -> i64 {
        i64::from(self.0[1]) | i64::from(self.0[2] & 0xffff) << 32
    }

    pub(super) fn priority(self) -> u8 {
        ((self.0[2] >> 16) & 0xf) as u8
    }

    /// Whether a receiver got it and did not give it back; its lease may be over.
    pub(super) fn is_leased(self) -> bool {
        self.0[2] & LEASED != 0
    }

    pub(super) fn is_grouped(self) -> bool {
        self.0[2] & GROUPED != 0
    }

    pub(super) fn to_bytes(self) -> impl Iterator<Item = u8> {
        self.0.into_iter().flat_map(u32::to_le_bytes)
    }

    pub(super) fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        Self([word(0), word(4), word(8)])
    }
}

/// The group of an entry: its place and the hash of its ordering key, 10 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GroupOf([u8; 10]);

impl GroupOf {
    pub(super) const BYTES: usize = 10;

    pub(super) fn new(place: u16, hash: u64) -> Self {
        let mut bytes = [0; 10];
        bytes[..2].copy_from_slice(&place.to_le_bytes());
        bytes[2..].copy_from_slice(&hash.to_le_bytes());
        Self(bytes)
    }

    pub(super) fn place(self) -> u16 {
        u16::from_le_bytes([self.0[0], self.0[1]])
    }

    pub(super) fn hash(self) -> u64 {
        let mut hash = [0; 8];
        hash.copy_from_slice(&self.0[2..]);
        u64::from_le_bytes(hash)
    }

    pub(super) fn to_bytes(self) -> [u8; 10] {
        self.0
    }

    pub(super) fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        Self(*bytes)
    }
}

const WORDS: usize = 64;

/// Which messages of a block are finished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Finished {
    None,
    Some(Box<[u64; WORDS]>),
    All,
}

impl Finished {
    pub(super) fn get(&self, place: u16) -> bool {
        match self {
            Self::None => false,
            Self::Some(words) => words[usize::from(place) / 64 % WORDS] >> (place % 64) & 1 == 1,
            Self::All => true,
        }
    }

    /// Sets a range. Returns how many were not set before.
    pub(super) fn set(&mut self, from: u16, to: u16) -> u16 {
        if from >= to {
            return 0;
        }
        if *self == Self::None {
            *self = Self::Some(Box::new([0; WORDS]));
        }
        let Self::Some(words) = self else { return 0 };
        let mut fresh = 0;
        for (word, mask) in masks(from, to) {
            fresh += (mask & !words[word]).count_ones();
            words[word] |= mask;
        }
        fresh as u16
    }

    /// How many are set in a range.
    pub(super) fn count(&self, from: u16, to: u16) -> u16 {
        match self {
            Self::None => 0,
            Self::Some(words) => masks(from, to).map(|(word, mask)| (words[word] & mask).count_ones() as u16).sum(),
            Self::All => to.saturating_sub(from),
        }
    }

    /// The first from `from` on that is not set; 4,096 if there is none.
    pub(super) fn first_unset(&self, from: u16) -> u16 {
        match self {
            Self::None => from,
            Self::All => (WORDS * 64) as u16,
            Self::Some(words) => {
                let open = masks(from, (WORDS * 64) as u16).map(|(word, mask)| (word, mask & !words[word])).find(|(_, open)| *open != 0);
                open.map_or((WORDS * 64) as u16, |(word, open)| (word * 64) as u16 + open.trailing_zeros() as u16)
            }
        }
    }

    /// 512 bytes, little endian; none if none or all are set.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::None | Self::All => Vec::new(),
            Self::Some(words) => words.iter().flat_map(|word| word.to_le_bytes()).collect(),
        }
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() {
            return Some(Self::None);
        }
        let (chunks, rest) = bytes.as_chunks::<8>();
        let mut words = Box::new([0; WORDS]);
        if chunks.len() != WORDS || !rest.is_empty() {
            return None;
        }
        for (word, chunk) in words.iter_mut().zip(chunks) {
            *word = u64::from_le_bytes(*chunk);
        }
        Some(Self::Some(words))
    }

    pub(super) fn heap_bytes(&self) -> usize {
        if matches!(self, Self::Some(_)) { WORDS * 8 } else { 0 }
    }
}

/// The words of a range, each with the bits that lie in it.
fn masks(from: u16, to: u16) -> impl Iterator<Item = (usize, u64)> {
    let (from, to) = (usize::from(from), usize::from(to).min(WORDS * 64));
    (from / 64..to.div_ceil(64)).map(move |word| {
        let low = from.saturating_sub(word * 64).min(63);
        let high = (to - word * 64).min(64);
        (word, (u64::MAX << low) & (u64::MAX >> (64 - high)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_keeps_what_it_was_given() {
        let entry = Entry::set_apart(4_095, 1_700_000_000_123, 9, true);
        assert_eq!((entry.place(), entry.attempt(), entry.at_ms(), entry.priority()), (4_095, 0, 1_700_000_000_123, 9));
        let leased = entry.with(1_000_001, AT_MAX_MS + 5, true);
        assert_eq!((leased.place(), leased.attempt(), leased.at_ms(), leased.priority()), (4_095, 1_000_001, AT_MAX_MS, 9));
        assert!(leased.is_leased() && leased.is_grouped() && !entry.is_leased());
        let leased = leased.with_undelivered().with(7, 1, true).with_undelivered();
        assert_eq!((leased.undelivered(), leased.attempt(), leased.at_ms(), leased.priority(), leased.is_grouped()), (2, 7, 1, 9, true));
        let often = (0..2_000).fold(leased, |entry, _| entry.with_undelivered());
        assert_eq!((often.undelivered(), often.attempt(), often.priority()), (UNDELIVERED_MAX, 7, 9));
        let bytes: Vec<u8> = leased.to_bytes().collect();
        assert_eq!(Entry::from_bytes(bytes.as_slice().try_into().unwrap()), leased);
    }

    #[test]
    fn ranges_of_finished_messages_are_counted_once() {
        let mut finished = Finished::None;
        assert_eq!(finished.set(10, 200), 190);
        assert_eq!(finished.set(0, 64), 10);
        assert_eq!((finished.first_unset(0), finished.first_unset(300), finished.count(5, 70)), (200, 300, 65));
        assert_eq!(finished.set(200, 4_096), 3_896);
        assert_eq!(finished.first_unset(0), 4_096);
        assert_eq!(Finished::from_bytes(&finished.to_bytes()), Some(finished));
    }
}
