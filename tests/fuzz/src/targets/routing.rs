//! Routing-key patterns: an input is a pattern, and keys on the lines below it.

use lakefall_gateway::Filters;
use lakefall_queue::queue::{FILTER_MAX_BYTES, Match};

use super::records::{TOPIC, queue, record, topic};

/// The naive matcher takes exponential time.
const MOST_HASHES: usize = 6;
/// Longest key that a wildcard matches, in bytes.
const LONGEST_KEY: usize = 255;

/// Taken and refused by the rules of AMQP 0-9-1, as a naive matcher has them.
pub fn routing_pattern(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    let mut lines = text.lines();
    let pattern = lines.next().unwrap_or_default();
    let words: Vec<&str> = pattern.split('.').collect();
    let filters = Filters::new(&queue(None, Some(Match::Wildcard { pattern: pattern.to_owned() })));
    let is_whole = |word: &&&str| !word.contains(['*', '#']) || **word == "*" || **word == "#";
    let mut folded = words.clone();
    folded.dedup_by(|word, before| *word == "#" && *before == "#");
    let is_good = words.iter().filter(is_whole).count() == words.len() && folded.len() <= 256 && pattern.len() <= FILTER_MAX_BYTES;
    assert_eq!(filters.is_ok(), is_good, "{pattern:?}");
    let Ok(filters) = filters else { return false };
    for key in lines.chain([pattern, ""]) {
        let taken = filters.take(TOPIC, &topic(), &record(Some(key.as_bytes()), b"1"));
        let key_words: Vec<&str> = key.split('.').collect();
        if key.len() > LONGEST_KEY {
            assert!(!taken, "a key of {} bytes", key.len());
        } else if folded.iter().filter(|word| **word == "#").count() <= MOST_HASHES {
            assert_eq!(taken, naive(&folded, &key_words), "pattern {pattern:?}, key {key:?}");
        }
    }
    true
}

fn naive(pattern: &[&str], key: &[&str]) -> bool {
    match (pattern, key) {
        ([], key) => key.is_empty(),
        (["#", rest @ ..], key) => (0..=key.len()).any(|skipped| naive(rest, &key[skipped..])),
        (["*", rest @ ..], [_, more @ ..]) => naive(rest, more),
        ([word, rest @ ..], [first, more @ ..]) => word == first && naive(rest, more),
        (_, []) => false,
    }
}
