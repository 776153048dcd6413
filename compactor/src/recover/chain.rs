//! Which of a partition's Parquet files are the log: of those that overlap, as smaller ones were merged into a larger or a crashed
//! compactor left one that was never swapped in, each offset is taken from one file. A pure function.

use std::collections::BTreeMap;

use lakefall_queue::{Offset, SegmentId};

/// What counts of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) base: Offset,
    pub(super) end: Offset,
    pub(super) object: SegmentId,
}

/// The best file that begins at an offset.
#[derive(Clone, Copy)]
struct Best {
    index: usize,
    /// Where the chain ends that begins with it.
    reach: Offset,
}

/// Indexes of files that follow each other without a gap, from the oldest offset on. Of all such chains the one that reaches furthest,
/// and of those the one that begins first; where files begin alike and reach as far, the one that was made last, as it may have been
/// cleaned of what the others still have.
///
/// Whatever it takes is right: every file is of one topic and was made of the log alone. Which of them a ledger held tells nobody.
pub(super) fn chain(files: &[Link]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..files.len()).filter(|index| files[*index].base < files[*index].end).collect();
    order.sort_by_key(|index| std::cmp::Reverse(files[*index].base));
    let mut best: BTreeMap<Offset, Best> = BTreeMap::new();
    for index in order {
        let Link { base, end, object } = files[index];
        let reach = best.get(&end).map_or(end, |next| next.reach);
        let better = best.get(&base).is_none_or(|other| (reach, object) > (other.reach, files[other.index].object));
        if better {
            best.insert(base, Best { index, reach });
        }
    }
    let Some(furthest) = best.values().map(|best| best.reach).max() else { return Vec::new() };
    let mut next = best.values().find(|best| best.reach == furthest).copied();
    let mut chain = Vec::new();
    while let Some(Best { index, .. }) = next {
        chain.push(index);
        next = best.get(&files[index].end).copied();
    }
    chain
}

#[cfg(test)]
mod tests {
    use lakefall_queue::Timestamp;

    use super::*;

    /// Files by their ranges, made one after another.
    fn chained(ranges: &[(u64, u64)]) -> Vec<(u64, u64)> {
        let link = |(at, (base, end)): (usize, &(u64, u64))| Link {
            base: Offset(*base),
            end: Offset(*end),
            object: SegmentId::mint(Timestamp::from_millis(at as i64), 0),
        };
        let links: Vec<Link> = ranges.iter().enumerate().map(link).collect();
        chain(&links).into_iter().map(|index| ranges[index]).collect()
    }

    #[test]
    fn files_that_follow_each_other_are_all_taken() {
        assert_eq!(chained(&[(5, 9), (0, 5), (9, 12)]), [(0, 5), (5, 9), (9, 12)]);
        assert_eq!(chained(&[(7, 9)]), [(7, 9)]);
        assert_eq!(chained(&[]), []);
        assert_eq!(chained(&[(3, 3)]), []);
    }

    #[test]
    fn a_merged_file_stands_for_those_that_it_was_made_of() {
        assert_eq!(chained(&[(0, 5), (5, 9), (9, 12), (0, 9)]), [(0, 9), (9, 12)]);
        assert_eq!(chained(&[(0, 5), (5, 9), (9, 12), (5, 12)]), [(0, 5), (5, 12)]);
    }

    #[test]
    fn an_orphan_that_leads_nowhere_is_passed_by_although_it_is_newer() {
        // (0, 7) was made by a second compactor and never swapped in.
        assert_eq!(chained(&[(0, 9), (0, 7), (9, 12)]), [(0, 9), (9, 12)]);
        assert_eq!(chained(&[(0, 5), (3, 8), (5, 9)]), [(0, 5), (5, 9)]);
    }

    #[test]
    fn of_two_files_of_the_same_offsets_the_newer_is_taken() {
        let file = |at| Link { base: Offset(0), end: Offset(5), object: SegmentId::mint(Timestamp::from_millis(at), 0) };
        assert_eq!(chain(&[file(2), file(1)]), [0]);
        assert_eq!(chain(&[file(1), file(2)]), [1]);
    }

    #[test]
    fn behind_a_hole_the_newest_offsets_are_taken() {
        assert_eq!(chained(&[(0, 5), (5, 9), (10, 12), (12, 13)]), [(10, 12), (12, 13)]);
    }
}
