//! What was counted: requests, records, bytes, faults by class and latencies. Cheap to record into, one per worker thread,
//! merged at the end.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::target::Fault;
use crate::failure::Failure;

/// Latencies of more than this are counted as this: a minute.
const MAX_MICROS: u64 = 60_000_000;

/// Counters of one kind of work.
pub(super) struct Stats {
    pub(super) requests: u64,
    pub(super) records: u64,
    pub(super) bytes: u64,
    pub(super) errors: BTreeMap<String, u64>,
    /// The text of the first fault, for people.
    pub(super) first_error: Option<String>,
    latency: Histogram<u64>,
}

impl Stats {
    /// Nothing counted yet.
    pub(super) fn new() -> Result<Self, Failure> {
        let latency = Histogram::new_with_bounds(1, MAX_MICROS, 3).map_err(|error| Failure::Defect(error.to_string()))?;
        Ok(Self { requests: 0, records: 0, bytes: 0, errors: BTreeMap::new(), first_error: None, latency })
    }

    /// A request that was answered with 200.
    pub(super) fn answered(&mut self, records: u64, bytes: u64, latency: Duration) {
        self.counted(records, bytes);
        self.took(latency);
    }

    /// A request that was answered with 200, whose latencies are counted apart.
    pub(super) fn counted(&mut self, records: u64, bytes: u64) {
        self.requests += 1;
        self.records += records;
        self.bytes += bytes;
    }

    /// A latency alone.
    pub(super) fn took(&mut self, latency: Duration) {
        self.latency.saturating_record((latency.as_micros() as u64).clamp(1, MAX_MICROS));
    }

    /// A request that brought nothing.
    pub(super) fn failed(&mut self, fault: &Fault) {
        *self.errors.entry(fault.class()).or_default() += 1;
        if self.first_error.is_none() {
            self.first_error = Some(match fault {
                Fault::Connection(text) | Fault::Refused(text) => text.clone(),
            });
        }
    }

    /// Adds what another worker counted.
    pub(super) fn merge(&mut self, other: Self) -> Result<(), Failure> {
        self.requests += other.requests;
        self.records += other.records;
        self.bytes += other.bytes;
        for (class, count) in other.errors {
            *self.errors.entry(class).or_default() += count;
        }
        self.first_error = self.first_error.take().or(other.first_error);
        self.latency.add(other.latency).map_err(|error| Failure::Defect(error.to_string()))
    }

    /// The quantiles that reports show.
    pub(super) fn quantiles(&self) -> Quantiles {
        Quantiles {
            p50_us: self.latency.value_at_quantile(0.50),
            p90_us: self.latency.value_at_quantile(0.90),
            p99_us: self.latency.value_at_quantile(0.99),
            p999_us: self.latency.value_at_quantile(0.999),
            max_us: self.latency.max(),
            mean_us: self.latency.mean().round() as u64,
        }
    }
}

/// Latencies in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Quantiles {
    pub(super) p50_us: u64,
    pub(super) p90_us: u64,
    pub(super) p99_us: u64,
    pub(super) p999_us: u64,
    pub(super) max_us: u64,
    pub(super) mean_us: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_workers_counted_adds_up() {
        let (mut one, mut two) = (Stats::new().unwrap(), Stats::new().unwrap());
        one.answered(10, 100, Duration::from_micros(500));
        two.answered(5, 50, Duration::from_micros(1500));
        two.failed(&Fault::Refused("503 not_committed".into()));
        one.merge(two).unwrap();
        assert_eq!((one.requests, one.records, one.bytes), (2, 15, 150));
        assert_eq!(one.errors["503 not_committed"], 1);
        assert_eq!(one.quantiles().p50_us, 500);
        assert!((1499..=1501).contains(&one.quantiles().max_us));
    }
}
