//! Who gets how much: where several receivers wait and there is not enough for all, each gets a share.

use lakefall_queue::ledger::Want;
use lakefall_queue::queue::QueueConfig;

use super::desk::Waiting;

/// What each receiver asks for, of about `available` messages whose largest has `largest` bytes: what does not fit into its
/// answer would be given back at once.
pub(super) fn wants(config: &QueueConfig, waiting: &[Waiting], available: u64, largest: usize) -> Vec<Want> {
    let share = match waiting.len() as u64 {
        0 | 1 => u64::MAX,
        count if config.fair => available.div_ceil(count).max(1),
        _ => u64::MAX,
    };
    let want = |waiting: &Waiting| {
        let fits = u32::try_from(waiting.max_bytes / largest.max(1)).unwrap_or(u32::MAX).max(1);
        let max = waiting.max.min(fits).min(u32::try_from(share).unwrap_or(u32::MAX));
        Want { max, lease: waiting.lease.unwrap_or(config.lease), request: waiting.request }
    };
    waiting.iter().map(want).collect()
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    fn asked(fair: bool, receivers: &[(u32, usize)], available: u64, largest: usize) -> Vec<u32> {
        let one = |(max, max_bytes): &(u32, usize)| Waiting {
            max: *max,
            max_bytes: *max_bytes,
            lease: None,
            request: None,
            patient: true,
            fresh: true,
            until: tokio::time::Instant::now(),
            number: 0,
            reply: oneshot::channel().0,
        };
        let waiting: Vec<Waiting> = receivers.iter().map(one).collect();
        wants(&QueueConfig { fair, ..QueueConfig::default() }, &waiting, available, largest).iter().map(|want| want.max).collect()
    }

    #[test]
    fn several_receivers_share_and_one_alone_gets_all() {
        assert_eq!(asked(true, &[(100, 1 << 20); 4], 10, 1), [3; 4]);
        assert_eq!(asked(true, &[(2, 1 << 20), (100, 1 << 20)], 100, 1), [2, 50]);
        assert_eq!(asked(true, &[(100, 1 << 20)], 10, 1), [100]);
        assert_eq!(asked(true, &[(100, 1 << 20); 2], 0, 1), [1; 2], "at least one each");
        assert_eq!(asked(false, &[(100, 1 << 20); 2], 10, 1), [100; 2]);
    }

    #[test]
    fn nobody_leases_more_than_fits_into_the_answer() {
        assert_eq!(asked(true, &[(100, 1_000)], 100, 300), [3]);
        assert_eq!(asked(true, &[(100, 1_000)], 100, 5_000), [1]);
    }
}
