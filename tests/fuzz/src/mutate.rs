//! Changes inputs: bits, numbers of all widths, pieces doubled, cut, moved and taken from other inputs, words of the format.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::LONGEST_INPUT;

/// Numbers at which code turns.
const NUMBERS: [u64; 20] = [
    0,
    1,
    2,
    7,
    16,
    63,
    64,
    100,
    127,
    128,
    255,
    256,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    1 << 53,
    i64::MAX as u64,
    i64::MIN as u64,
    u64::MAX,
];

/// Changes of one input, at most.
const MOST_CHANGES: usize = 6;

/// Choices from a seed.
pub(crate) struct Mutator(ChaCha8Rng);

impl Mutator {
    pub(crate) fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// A number from 0 to before `end`; 0 where there is none.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { (self.0.next_u64() % end as u64) as usize }
    }

    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// An input like `parent`, with a piece of `other` in it perhaps.
    pub(crate) fn mutant(&mut self, parent: &[u8], other: &[u8], words: &[Vec<u8>]) -> Vec<u8> {
        let mut input = parent.to_vec();
        // Few changes more often than many: an input that keeps most of its sense gets furthest.
        let most = 1 + self.below(MOST_CHANGES);
        for _ in 0..=self.below(most) {
            self.change(&mut input, other, words);
            input.truncate(LONGEST_INPUT);
        }
        input
    }

    fn change(&mut self, input: &mut Vec<u8>, other: &[u8], words: &[Vec<u8>]) {
        let at = self.below(input.len());
        match self.below(14) {
            0 => self.flip(input, at),
            1 => self.number(input, at),
            2 => self.nudge(input, at),
            3 => self.decimal(input, at),
            4 => drop(input.drain(self.range(at, input.len()))),
            5 => {
                let piece = input[self.range(at, input.len())].to_vec();
                let times = 1 + if self.one_in(4) { self.below(200) } else { self.below(3) };
                insert(input, at, &piece.repeat(times.min(LONGEST_INPUT / piece.len().max(1))));
            }
            6 => {
                let piece = input[self.range(at, input.len())].to_vec();
                let to = self.below(input.len() + 1);
                insert(input, to, &piece);
            }
            7 => {
                let from = self.below(other.len());
                let piece = &other[self.range(from, other.len())];
                insert(input, at, piece);
            }
            8 => {
                input.truncate(at);
                input.extend_from_slice(&other[self.below(other.len())..]);
            }
            9 | 10 if !words.is_empty() => self.word(input, at, words),
            11 => {
                let bytes: Vec<u8> = (0..1 + self.below(8)).map(|_| self.0.next_u32() as u8).collect();
                insert(input, at, &bytes);
            }
            12 => input.truncate(at),
            _ => self.flip(input, at),
        }
    }

    /// From `at` on, mostly short.
    fn range(&mut self, at: usize, end: usize) -> std::ops::Range<usize> {
        let most = if self.one_in(3) { end - at } else { 16 };
        at..(at + 1 + self.below(most)).min(end)
    }

    fn flip(&mut self, input: &mut [u8], at: usize) {
        let change = if self.one_in(2) { 1 << self.below(8) } else { self.0.next_u32() as u8 };
        if let Some(byte) = input.get_mut(at) {
            *byte ^= change;
        }
    }

    /// Overwrites a number of any width with another one, in either order of bytes or as a varint.
    fn number(&mut self, input: &mut Vec<u8>, at: usize) {
        let number = NUMBERS[self.below(NUMBERS.len())];
        let width = 1 << self.below(4);
        let bytes = match self.below(3) {
            0 => number.to_be_bytes()[8 - width..].to_vec(),
            1 => number.to_le_bytes()[..width].to_vec(),
            _ => varint(number),
        };
        let end = (at + bytes.len()).min(input.len());
        input.splice(at..end, bytes);
    }

    /// A little more or less, of a byte or of a number of two or four.
    fn nudge(&mut self, input: &mut [u8], at: usize) {
        let width = 1 << self.below(3);
        let by = (1 + self.below(16)) as u32;
        let by = if self.one_in(2) { by } else { by.wrapping_neg() };
        let Some(place) = input.get_mut(at..at + width) else { return };
        let big = place.iter().fold(0_u32, |number, byte| number << 8 | u32::from(*byte)).wrapping_add(by);
        place.copy_from_slice(&big.to_be_bytes()[4 - width..]);
    }

    /// Puts another number in the place of one that is written in digits.
    fn decimal(&mut self, input: &mut Vec<u8>, at: usize) {
        let Some(start) = (at..input.len()).find(|at| input[*at].is_ascii_digit()) else { return };
        let end = (start..input.len()).find(|at| !input[*at].is_ascii_digit()).unwrap_or(input.len());
        let number = NUMBERS[self.below(NUMBERS.len())];
        let text = match self.below(6) {
            0 => format!("-{number}"),
            1 => format!("{number}.5"),
            2 => format!("{number}e{}", self.below(400)),
            3 => (number as i64).to_string(),
            _ => number.to_string(),
        };
        input.splice(start..end, text.into_bytes());
    }

    /// Adds a word of the format, or puts it in the place of another word.
    fn word(&mut self, input: &mut Vec<u8>, at: usize, words: &[Vec<u8>]) {
        let word = &words[self.below(words.len())];
        let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        let mut end = at;
        if self.one_in(2) {
            while input.get(end).is_some_and(is_word) {
                end += 1;
            }
        }
        input.splice(at.min(input.len())..end, word.iter().copied());
    }
}

fn insert(input: &mut Vec<u8>, at: usize, piece: &[u8]) {
    let at = at.min(input.len());
    input.splice(at..at, piece.iter().copied());
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_mutants_and_another_seed_makes_others() {
        let made = |seed| {
            let mut mutator = Mutator::new(seed);
            (0..200)
                .map(|_| mutator.mutant(b"{\"a\": 17, \"b\": [1, 2]}", b"other bytes", &[b"null".to_vec(), b"true".to_vec()]))
                .collect::<Vec<_>>()
        };
        assert_eq!(made(1), made(1));
        assert_ne!(made(1), made(2));
        assert!(made(1).iter().all(|input| input.len() <= LONGEST_INPUT));
    }

    #[test]
    fn an_input_without_bytes_can_grow() {
        let mut mutator = Mutator::new(3);
        assert!((0..100).any(|_| !mutator.mutant(b"", b"", &[b"word".to_vec()]).is_empty()));
    }
}
