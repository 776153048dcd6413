//! A map from numbers that are mostly dense: offsets of a partition, counts of a producer. An entry costs little more than
//! itself, and a hostile number no more than an entry. Must keep the order of the numbers.

use std::collections::BTreeMap;

/// Low bits of a number, which stand beside its entry.
const LOW: u32 = 12;

/// A map from numbers to small things.
#[derive(Debug)]
pub(super) struct Sparse<T> {
    blocks: BTreeMap<u64, Vec<(u16, T)>>,
}

impl<T> Default for Sparse<T> {
    fn default() -> Self {
        Self { blocks: BTreeMap::new() }
    }
}

fn split(number: u64) -> (u64, u16) {
    (number >> LOW, (number & ((1 << LOW) - 1)) as u16)
}

/// Where an entry is, or would be. Blocks without holes need no search.
fn find<T>(block: &[(u16, T)], low: u16) -> Result<usize, usize> {
    let at = usize::from(low);
    match block.get(at) {
        Some((found, _)) if *found == low => Ok(at),
        // The common append.
        _ if block.last().is_none_or(|(last, _)| *last < low) => Err(block.len()),
        _ => block.binary_search_by_key(&low, |(found, _)| *found),
    }
}

impl<T> Sparse<T> {
    pub(super) fn get(&self, number: u64) -> Option<&T> {
        let (high, low) = split(number);
        let block = self.blocks.get(&high)?;
        find(block, low).ok().map(|at| &block[at].1)
    }

    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut T> {
        let (high, low) = split(number);
        let block = self.blocks.get_mut(&high)?;
        find(block, low).ok().map(|at| &mut block[at].1)
    }

    /// The entry, made by `new` where there is none; and whether it was there.
    pub(super) fn entry(&mut self, number: u64, new: impl FnOnce() -> T) -> (&mut T, bool) {
        let (high, low) = split(number);
        let block = self.blocks.entry(high).or_default();
        match find(block, low) {
            Ok(at) => (&mut block[at].1, true),
            Err(at) => {
                block.insert(at, (low, new()));
                (&mut block[at].1, false)
            }
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &T)> {
        self.blocks.iter().flat_map(|(high, block)| block.iter().map(move |(low, of)| ((high << LOW) | u64::from(*low), of)))
    }

    pub(super) fn last(&self) -> Option<u64> {
        let (high, block) = self.blocks.last_key_value()?;
        block.last().map(|(low, _)| (high << LOW) | u64::from(*low))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::Sparse;

    #[test]
    fn it_is_the_map_that_it_replaces() {
        let numbers = [5, 4, 0, 4_095, 4_096, u64::MAX, 1, 2, 3, 7, 6, 1 << 40, 4_097, 5];
        let (mut sparse, mut map) = (Sparse::default(), BTreeMap::new());
        for (nth, number) in numbers.into_iter().enumerate() {
            assert_eq!(sparse.entry(number, || nth).1, map.contains_key(&number));
            map.entry(number).or_insert(nth);
        }
        assert!(sparse.iter().eq(map.iter().map(|(number, of)| (*number, of))));
        for number in numbers.into_iter().chain([8, 4_094, 1 << 50]) {
            assert_eq!(sparse.get(number), map.get(&number));
            assert_eq!(sparse.get_mut(number), map.get_mut(&number));
        }
        assert_eq!(sparse.last(), Some(u64::MAX));
    }
}
