//! Routing-key patterns as AMQP 0-9-1's topic exchange knows them: words with dots between, `*` for one word, `#` for any
//! number of words. Takes time in the product of both lengths at most, whatever the pattern.

use lakefall_queue::error::{Error, Result};

/// Most words of a pattern.
const WORDS_MAX: usize = 256;

/// A pattern made ready.
#[derive(Clone, Debug)]
pub(crate) struct Wildcard(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Word(Box<str>),
    One,
    Any,
}

impl Wildcard {
    /// Reads a pattern. `field` is named where it is refused.
    pub(crate) fn parse(field: &str, pattern: &str) -> Result<Self> {
        let mut parts = Vec::new();
        for (place, word) in pattern.split('.').enumerate() {
            let part = match word {
                "*" => Part::One,
                "#" => Part::Any,
                _ if word.contains(['*', '#']) => {
                    let reason = format!("word {} of the pattern is {word:?}: * and # stand for whole words", place + 1);
                    return Err(Error::invalid(field, reason));
                }
                _ => Part::Word(word.into()),
            };
            // Two in a row say what one says.
            if part != Part::Any || parts.last() != Some(&Part::Any) {
                parts.push(part);
            }
        }
        if parts.len() > WORDS_MAX {
            return Err(Error::invalid(field, format!("the pattern has {} words: at most {WORDS_MAX} are allowed", parts.len())));
        }
        Ok(Self(parts))
    }

    /// How many words it has.
    pub(crate) fn words(&self) -> usize {
        self.0.len()
    }

    /// Whether a routing key has this form.
    pub(crate) fn matches(&self, key: &str) -> bool {
        // Which parts may come next, word by word: the sets of a non-deterministic automaton.
        let mut open = vec![false; self.0.len() + 1];
        open[0] = true;
        self.pass_over(&mut open);
        for word in key.split('.') {
            let mut next = vec![false; self.0.len() + 1];
            for (at, part) in self.0.iter().enumerate().filter(|(at, _)| open[*at]) {
                match part {
                    Part::Any => next[at] = true,
                    Part::One => next[at + 1] = true,
                    Part::Word(expected) if **expected == *word => next[at + 1] = true,
                    Part::Word(_) => {}
                }
            }
            open = next;
            self.pass_over(&mut open);
            if !open.contains(&true) {
                return false;
            }
        }
        open[self.0.len()]
    }

    /// `#` may stand for no word.
    fn pass_over(&self, open: &mut [bool]) {
        for (at, part) in self.0.iter().enumerate() {
            if open[at] && *part == Part::Any {
                open[at + 1] = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, key: &str) -> bool {
        Wildcard::parse("pattern", pattern).unwrap().matches(key)
    }

    #[test]
    fn a_star_is_one_word_and_a_hash_any_number() {
        for (pattern, key, expected) in [
            ("a.b", "a.b", true),
            ("a.b", "a.b.c", false),
            ("a.*", "a.b", true),
            ("a.*", "a", false),
            ("a.*", "a.b.c", false),
            ("a.#", "a", true),
            ("a.#", "a.b.c", true),
            ("#", "", true),
            ("#", "x.y", true),
            ("*", "", true),
            ("#.z", "z", true),
            ("#.z", "a.b.z", true),
            ("#.z", "a.b", false),
            ("a.#.z.*", "a.z.z.z", true),
            ("#.#.a", "a", true),
            ("*.#", "a", true),
        ] {
            assert_eq!(matches(pattern, key), expected, "{pattern} and {key}");
        }
    }

    #[test]
    fn a_pattern_of_many_hashes_takes_no_longer_than_the_product_of_both_lengths() {
        let pattern = "#.a.".repeat(100) + "b";
        let key = vec!["a"; 20_000].join(".");
        assert!(!matches(&pattern, &key));
    }

    #[test]
    fn a_word_with_a_star_in_it_is_refused_and_told() {
        assert!(matches!(Wildcard::parse("p", "a.b*.c"), Err(Error::Invalid { reason, .. }) if reason.contains("word 2")));
    }
}
