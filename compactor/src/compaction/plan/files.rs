//! Small Parquet files become large ones. Sizes fall into tiers, each four times the one before; four neighbours of a tier become
//! one file, with whatever is smaller between them. So the files of a period (a day, or less where records are kept for less than
//! four) number three in each tier, and a record is rewritten about once in each. When the period is over, what is left of it becomes
//! as few files as possible, and is settled.

use std::ops::Range;

use lakefall_queue::ledger::Extent;
use lakefall_queue::{Offset, Timestamp};

use super::{Period, bytes};

/// So many of a tier are merged.
const FEWEST: usize = 4;
/// Most that one merge reads: bounds the journal entry.
const MOST: usize = 1_000;
/// Files of the lowest tier are smaller.
const TIER_0: u64 = 64 << 10;
/// From here on a file is large: it is not merged again while its period lasts.
const LARGE: u64 = 64 << 20;
/// No file is merged to more.
pub const LARGEST: u64 = 128 << 20;

/// What to do with a partition's Parquet files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// Which of them to merge next; all of one period.
    pub merge: Option<Range<usize>>,
    /// Nothing below is merged any more, once `merge` is done.
    pub settled: Option<Offset>,
}

/// Plans the next merge of files that follow each other.
pub fn files(files: &[Extent], period: Period, now: Timestamp) -> Files {
    let of = |file: &Extent| period.at(file.appended_at);
    let sizes: Vec<(i64, u64, Offset)> = files.iter().map(|file| (of(file), u64::from(file.length), file.end())).collect();
    let merge = next(files, period, now);
    let after = match &merge {
        None => sizes,
        Some(range) => {
            let merged = &files[range.clone()];
            let one = merged.last().map(|last| (of(last), bytes(merged), last.end()));
            sizes[..range.start].iter().copied().chain(one).chain(sizes[range.end..].iter().copied()).collect()
        }
    };
    Files { merge, settled: settled(&after, period.at(now)) }
}

fn next(files: &[Extent], period: Period, now: Timestamp) -> Option<Range<usize>> {
    let mut start = 0;
    for run in files.chunk_by(|a, b| period.at(a.appended_at) == period.at(b.appended_at)) {
        let over = run.first().is_some_and(|first| period.at(first.appended_at) < period.at(now));
        let found = if over { neighbours(run, 2) } else { tiered(run) };
        if let Some(range) = found {
            return Some(start + range.start..start + range.end);
        }
        start += run.len();
    }
    None
}

/// The first `fewest` or more neighbours that make one file.
fn neighbours(run: &[Extent], fewest: usize) -> Option<Range<usize>> {
    (0..run.len()).find_map(|start| {
        let mut sum = 0;
        let fits = |file: &&Extent| {
            sum += u64::from(file.length);
            sum <= LARGEST
        };
        let count = run[start..].iter().take(MOST).take_while(fits).count();
        (count >= fewest).then(|| start..start + count)
    })
}

fn tiered(run: &[Extent]) -> Option<Range<usize>> {
    for highest in 0..=tier(LARGE - 1) {
        let mut start = 0;
        for part in run.chunk_by(|a, b| (tier(u64::from(a.length)) <= highest) == (tier(u64::from(b.length)) <= highest)) {
            let of_tier = |file: &Extent| tier(u64::from(file.length)) == highest;
            // Smaller ones that lie between them go along; those behind them wait until they are as many.
            if part.iter().filter(|file| of_tier(file)).count() >= FEWEST
                && let (Some(first), Some(last)) = (part.iter().position(of_tier), part.iter().rposition(of_tier))
                && let Some(range) = neighbours(&part[first..=last], 2)
            {
                return Some(start + first + range.start..start + first + range.end);
            }
            start += part.len();
        }
    }
    None
}

fn tier(bytes: u64) -> u32 {
    (bytes / TIER_0).checked_ilog(4).map_or(0, |log| log + 1)
}

/// Up to where every file is as large as it gets.
fn settled(files: &[(i64, u64, Offset)], present: i64) -> Option<Offset> {
    let mut settled = None;
    for (index, (period, size, end)) in files.iter().enumerate() {
        let next = files.get(index + 1).filter(|next| next.0 == *period);
        let merges = next.is_some_and(|next| size + next.1 <= LARGEST);
        let last = if *period < present { !merges } else { *size >= LARGE };
        if !last {
            break;
        }
        settled = Some(*end);
    }
    settled
}

#[cfg(test)]
mod tests {
    use lakefall_queue::ledger::ObjectLevel;

    use super::super::tests::chain;
    use super::super::{DAY_MS, MINUTE_MS, begin};
    use super::*;

    const KIB: u32 = 1 << 10;
    const MIB: u32 = 1 << 20;

    fn of_day(sizes: &[u32], day: i64) -> Vec<Extent> {
        chain(ObjectLevel::Parquet, sizes.iter().map(|size| (*size, day * DAY_MS)))
    }

    fn planned(found: &[Extent], day: i64) -> Files {
        files(found, Period::DAY, begin(day))
    }

    #[test]
    fn four_small_neighbours_become_one_and_three_do_not() {
        assert_eq!(planned(&of_day(&[KIB; 3], 7), 7), Files { merge: None, settled: None });
        assert_eq!(planned(&of_day(&[KIB; 4], 7), 7).merge, Some(0..4));
        assert_eq!(planned(&of_day(&[MIB, MIB, MIB, KIB, KIB, KIB, KIB], 7), 7).merge, Some(3..7));
        // A small one between larger ones goes along.
        assert_eq!(planned(&of_day(&[MIB, MIB, KIB, MIB, MIB, KIB], 7), 7).merge, Some(0..5));
        assert_eq!(planned(&of_day(&[MIB, MIB, KIB, MIB], 7), 7).merge, None);
    }

    #[test]
    fn large_files_are_settled_and_stay() {
        let sizes = [70 * MIB, 70 * MIB, KIB, KIB, KIB];
        assert_eq!(planned(&of_day(&sizes, 7), 7), Files { merge: None, settled: Some(Offset(20)) });
        assert_eq!(planned(&of_day(&[70 * MIB, 40 * MIB, 40 * MIB, 40 * MIB, 40 * MIB], 7), 7).merge, Some(1..4));
    }

    #[test]
    fn when_the_day_is_over_its_files_become_as_few_as_may_be() {
        let found = planned(&of_day(&[KIB, MIB], 7), 8);
        assert_eq!(found, Files { merge: Some(0..2), settled: Some(Offset(20)) });
        let found = planned(&of_day(&[100 * MIB, 60 * MIB, MIB], 7), 8);
        assert_eq!(found, Files { merge: Some(1..3), settled: Some(Offset(30)) });
        assert_eq!(planned(&of_day(&[100 * MIB, 60 * MIB], 7), 8), Files { merge: None, settled: Some(Offset(20)) });
    }

    #[test]
    fn days_stay_apart() {
        let each = [(KIB, 0), (KIB, 0), (KIB, DAY_MS), (KIB, DAY_MS), (KIB, DAY_MS)];
        let all = chain(ObjectLevel::Parquet, each);
        assert_eq!(planned(&all, 1), Files { merge: Some(0..2), settled: Some(Offset(20)) });
        assert_eq!(planned(&all[2..], 1), Files { merge: None, settled: None });
    }

    #[test]
    fn a_short_period_is_over_while_the_day_lasts() {
        let hour = Period(60 * MINUTE_MS);
        let all = chain(ObjectLevel::Parquet, [5, 20, 61, 70].map(|minute| (KIB, minute * MINUTE_MS)));
        let at = |minute: i64| files(&all, hour, Timestamp::from_millis(minute * MINUTE_MS));
        assert_eq!(at(90), Files { merge: Some(0..2), settled: Some(Offset(20)) });
        assert_eq!(files(&all[2..], hour, Timestamp::from_millis(90 * MINUTE_MS)), Files { merge: None, settled: None });
        assert_eq!(files(&all[2..], hour, Timestamp::from_millis(120 * MINUTE_MS)).merge, Some(0..2));
    }

    #[test]
    fn the_files_of_a_day_grow_with_the_logarithm_of_their_number() {
        let (mut now, mut rewritten, each) = (Vec::new(), 0_u64, 20 * KIB);
        for n in 1..=4_000_u64 {
            now.push(each);
            while let Some(range) = planned(&of_day(&now, 7), 7).merge {
                let sum: u32 = now[range.clone()].iter().sum();
                rewritten += u64::from(sum);
                now.splice(range, [sum]);
            }
            let tiers = u64::from(tier(n * u64::from(each))) + 1;
            assert!(now.len() as u64 <= 3 * tiers, "{} files after {n}: {now:?}", now.len());
        }
        assert!(rewritten < 8 * 4_000 * u64::from(each), "each byte is written {} times", rewritten / (4_000 * u64::from(each)));
    }
}
