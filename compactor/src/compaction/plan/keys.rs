//! Key compaction: of each key only the last record stays. Parquet files up to `settled` were cleaned together; when as much
//! lies behind them, all is cleaned anew, so that a record is rewritten about twice in its life.

use std::ops::Range;

use lakefall_queue::Offset;
use lakefall_queue::ledger::Extent;

use super::bytes;

/// Files behind the cleaned ones, below which nothing is done.
const FEWEST: usize = 4;

/// What to clean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cleaning {
    /// Files whose keys count: what they have takes the place of older records.
    pub dirty: Range<usize>,
}

/// Whether a partition's Parquet files, which follow each other, are to be cleaned; up to `settled` they were.
pub fn cleaning(files: &[Extent], settled: Offset) -> Option<Cleaning> {
    let clean = files.partition_point(|file| file.end() <= settled);
    let due = files.len() - clean >= FEWEST && bytes(&files[clean..]) >= bytes(&files[..clean]);
    due.then_some(Cleaning { dirty: clean..files.len() })
}

#[cfg(test)]
mod tests {
    use lakefall_queue::ledger::ObjectLevel;

    use super::super::tests::chain;
    use super::*;

    #[test]
    fn cleaning_waits_until_as_much_is_new_as_is_clean() {
        let files = chain(ObjectLevel::Parquet, [(100, 0), (100, 0), (60, 0), (60, 0), (60, 0), (60, 0)]);
        assert_eq!(cleaning(&files, Offset(20)), Some(Cleaning { dirty: 2..6 }));
        assert_eq!(cleaning(&files[..5], Offset(20)), None);
        assert_eq!(cleaning(&files[..4], Offset(0)), Some(Cleaning { dirty: 0..4 }));
        assert_eq!(cleaning(&files[..3], Offset(0)), None);
        assert_eq!(cleaning(&files, Offset(60)), None);
    }
}
