//! What a workload costs in a month. Pure arithmetic; docs/cost.md states each formula and where its numbers come from.

use serde::Serialize;

use super::prices::Prices;

const GIB: f64 = (1_u64 << 30) as f64;
const MIB: f64 = (1_u64 << 20) as f64;
/// Of a month.
const HOURS: f64 = 730.0;
const DAY: f64 = 86_400.0;

// What compaction and the caches do by default (docs/configuration.md).
/// `compactor.merge_interval_seconds`.
const MERGE_SECONDS: f64 = 15.0;
/// Fewer segments than this are not merged.
const MERGE_FEWEST: f64 = 4.0;
/// Of a merged segment, at most; also of the files that are joined no further.
const LARGE: f64 = 64.0 * MIB;
/// A topic's `parquet.max_age`.
const ROLL_SECONDS: f64 = 300.0;
/// Compaction reads pieces of this size.
const PIECE: f64 = 8.0 * MIB;
/// `cache.block_bytes`.
const BLOCK: f64 = MIB;
/// `collector.grace_seconds`.
const GRACE_SECONDS: f64 = 600.0;
/// Searches for orphans in a month, by `collector.orphan_interval_seconds`, and the folders that each lists.
const SWEEPS: f64 = 4.0 * HOURS / 24.0;
const FOLDERS: f64 = 256.0;
/// Keys that one listing answers.
const LISTED: f64 = 1_000.0;
/// Reads and writes of the database's storage for one commit: the journal's page, and its share of checkpoints.
const IO_PER_COMMIT: f64 = 2.0;
/// What the database holds: journals, and tables of the state.
const DATABASE_GIB: f64 = 10.0;
/// Cores and GiB of one metadata replica, and of one compactor.
const METADATA_SIZE: (f64, f64) = (0.5, 1.0);
const COMPACTOR_SIZE: (f64, f64) = (0.5, 1.0);

/// What is to be carried.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Workload {
    pub(super) records_per_second: f64,
    pub(super) record_bytes: f64,
    /// Records in a request.
    pub(super) batch: f64,
    /// How much smaller records are when stored.
    pub(super) compression: f64,
    /// The share of the month in which records are sent.
    pub(super) active: f64,
    pub(super) retention_seconds: f64,
    /// For how long the bucket keeps what was deleted.
    pub(super) noncurrent_seconds: f64,
    /// Partitions that get records.
    pub(super) partitions: f64,
    /// How many times each record is read.
    pub(super) fan_out: f64,
    /// Processes that read, spread over the gateways.
    pub(super) consumers: f64,
    /// The share of reads that no cache holds.
    pub(super) cold: f64,
    /// The share of traffic between clients and gateways that crosses zones.
    pub(super) cross_zone: f64,
    pub(super) deployment: Deployment,
}

/// What carries it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Deployment {
    pub(super) gateways: f64,
    /// `segment.puts_per_second`, of each gateway.
    pub(super) puts_per_second: f64,
    /// `segment.target_bytes`.
    pub(super) segment_bytes: f64,
    pub(super) gateway_vcpus: f64,
    pub(super) gateway_gib: f64,
    pub(super) metadata_replicas: f64,
    pub(super) compactors: f64,
    pub(super) postgres_units: f64,
}

/// What happens each second while records are sent.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Rates {
    /// Segments that gateways store.
    pub(super) segments: f64,
    /// Objects that compaction stores.
    pub(super) compacted: f64,
    /// Reads of the store by compaction.
    pub(super) compaction_gets: f64,
    /// Reads of the store by gateways.
    pub(super) reader_gets: f64,
    /// How long a record waits for its segment to leave, on average and at most.
    pub(super) wait_ms: f64,
    pub(super) longest_wait_ms: f64,
    /// Of a segment, as stored.
    pub(super) segment_bytes: f64,
}

/// What is stored, in GiB, when as much is deleted as is sent.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Stored {
    pub(super) live_gib: f64,
    /// What compaction replaced or retention deleted, and the bucket still keeps.
    pub(super) deleted_gib: f64,
}

/// The bill, part by part.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Bill {
    pub(super) put: f64,
    pub(super) get: f64,
    pub(super) storage: f64,
    pub(super) postgres: f64,
    pub(super) compute: f64,
    pub(super) transfer: f64,
    pub(super) total: f64,
}

impl Workload {
    fn raw(&self) -> f64 {
        self.records_per_second * self.record_bytes
    }

    /// Bytes stored each second.
    fn stored(&self) -> f64 {
        self.raw() / self.compression
    }

    pub(super) fn active_seconds(&self) -> f64 {
        self.active * HOURS * 3_600.0
    }

    /// The same with another dial.
    pub(super) fn with_puts(&self, puts_per_second: f64) -> Self {
        Self { deployment: Deployment { puts_per_second, ..self.deployment.clone() }, ..self.clone() }
    }

    /// Requests of a gateway, and how many segments it stores of them: as many as the dial allows, fewer where fewer requests
    /// come, more where segments fill up sooner.
    fn of_a_gateway(&self) -> (f64, f64) {
        let Deployment { gateways, puts_per_second, segment_bytes, .. } = &self.deployment;
        let requests = self.records_per_second / self.batch / gateways;
        let filled = self.raw() / gateways / segment_bytes;
        (requests, requests.min(*puts_per_second).max(filled))
    }

    /// Parquet files each second, and how often each byte is written into a larger one afterwards.
    fn rolled(&self) -> (f64, f64) {
        let requests = self.records_per_second / self.batch;
        let rolled = (self.partitions / ROLL_SECONDS).min(requests).max(self.stored() / LARGE);
        // Files that are large already are joined no more, however the division is rounded.
        let joins = if rolled > 0.0 { ((LARGE * rolled / self.stored()).log(4.0) - 1e-9).ceil().max(0.0) } else { 0.0 };
        (rolled, joins)
    }

    pub(super) fn rates(&self) -> Rates {
        let gateways = self.deployment.gateways;
        let (requests, puts) = self.of_a_gateway();
        let (segments, stored) = (puts * gateways, self.stored());
        let segment_bytes = if segments > 0.0 { stored / segments } else { 0.0 };
        let merged = (segments / MERGE_FEWEST).min((1.0 / MERGE_SECONDS).max(stored / LARGE));
        let (rolled, joins) = self.rolled();
        // Four files become one, four of those one: a quarter, a sixteenth and so on.
        let joined = if joins > 0.0 { rolled / 3.0 } else { 0.0 };
        let read_to_join = if joins > 0.0 { rolled } else { 0.0 };
        // A gateway has what it stored itself.
        let others = (gateways.min(self.consumers) - 1.0).max(0.0);
        let tail = segments * others * (segment_bytes / BLOCK).max(1.0);
        let cold = self.cold * self.fan_out * stored / BLOCK;
        // A record whose request finds a token waits for nothing.
        let interval_ms = if requests <= self.deployment.puts_per_second { 0.0 } else { 1_000.0 / puts };
        Rates {
            segments,
            compacted: merged + rolled + joined,
            // Each segment once, each input of a file in pieces, and everything that was written once more, to check it.
            compaction_gets: segments + rolled.max(stored / PIECE) + read_to_join + merged + rolled + joined,
            reader_gets: tail + cold,
            wait_ms: interval_ms / 2.0,
            longest_wait_ms: interval_ms,
            segment_bytes,
        }
    }

    pub(super) fn kept(&self) -> Stored {
        let written = self.stored() * self.active;
        // In a segment, a merged one, a file, and each larger file.
        let copies = 3.0 + self.rolled().1;
        Stored {
            live_gib: written * self.retention_seconds / GIB,
            deleted_gib: written * copies * (GRACE_SECONDS + self.noncurrent_seconds) / GIB,
        }
    }

    pub(super) fn bill(&self, prices: &Prices) -> Bill {
        let (rates, kept, active) = (self.rates(), self.kept(), self.active_seconds());
        let objects = kept.live_gib * GIB / LARGE;
        let lists = SWEEPS * FOLDERS.max(objects / LISTED);
        let put = ((rates.segments + rates.compacted) * active + lists) / 1_000.0 * prices.store.put_per_1000;
        let get = (rates.compaction_gets + rates.reader_gets) * active / 1_000.0 * prices.store.get_per_1000;
        let storage = (kept.live_gib + kept.deleted_gib) * prices.store.gib_month;
        // Each object is told to the ledger once.
        let io = (rates.segments + rates.compacted) * active * IO_PER_COMMIT / 1e6 * prices.postgres.io_per_million;
        let postgres = self.deployment.postgres_units * HOURS * prices.postgres.unit_hour + DATABASE_GIB * prices.postgres.gib_month + io;
        let Deployment { gateways, gateway_vcpus, gateway_gib, metadata_replicas, compactors, .. } = &self.deployment;
        let vcpus = gateways * gateway_vcpus + metadata_replicas * METADATA_SIZE.0 + compactors * COMPACTOR_SIZE.0;
        let gib = gateways * gateway_gib + metadata_replicas * METADATA_SIZE.1 + compactors * COMPACTOR_SIZE.1;
        let compute = (vcpus * prices.compute.vcpu_hour + gib * prices.compute.gib_hour) * HOURS;
        let carried = self.raw() * (1.0 + self.fan_out) * active / GIB;
        let transfer = carried * self.cross_zone * prices.transfer.cross_zone_gib;
        Bill { put, get, storage, postgres, compute, transfer, total: put + get + storage + postgres + compute + transfer }
    }
}

/// A duration as days, for people.
pub(super) fn days(seconds: f64) -> f64 {
    seconds / DAY
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload() -> Workload {
        Workload {
            records_per_second: 1_000.0,
            record_bytes: 1_024.0,
            batch: 1.0,
            compression: 4.0,
            active: 1.0,
            retention_seconds: 7.0 * DAY,
            noncurrent_seconds: 0.0,
            partitions: 1.0,
            fan_out: 2.0,
            consumers: 2.0,
            cold: 0.0,
            cross_zone: 0.5,
            deployment: Deployment {
                gateways: 2.0,
                puts_per_second: 10.0,
                segment_bytes: 8.0 * MIB,
                gateway_vcpus: 1.0,
                gateway_gib: 2.0,
                metadata_replicas: 2.0,
                compactors: 1.0,
                postgres_units: 1.0,
            },
        }
    }

    #[track_caller]
    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() <= 1e-6 * expected.abs().max(1e-9), "{found} instead of {expected}");
    }

    #[test]
    fn a_steady_load_stores_as_many_segments_as_the_dial_allows() {
        let rates = workload().rates();
        // Two gateways, ten each; a record waits half of the tenth of a second on average.
        close(rates.segments, 20.0);
        close(rates.wait_ms, 50.0);
        close(rates.longest_wait_ms, 100.0);
        // 1,024,000 bytes a second, a quarter of it stored, in 20 pieces.
        close(rates.segment_bytes, 12_800.0);
    }

    #[test]
    fn fewer_requests_than_the_dial_allows_each_leave_at_once() {
        let rates = Workload { records_per_second: 6.0, ..workload() }.rates();
        close(rates.segments, 6.0);
        close(rates.wait_ms, 0.0);
        // 60 records a second in batches of ten are six requests a second.
        close(Workload { records_per_second: 60.0, batch: 10.0, ..workload() }.rates().segments, 6.0);
    }

    #[test]
    fn full_segments_leave_sooner_than_the_dial_says() {
        // 200 MiB a second in each gateway fill 25 segments of 8 MiB.
        let rates = Workload { records_per_second: 400.0 * 1_024.0, ..workload() }.rates();
        close(rates.segments, 50.0);
        close(rates.wait_ms, 20.0);
    }

    #[test]
    fn compaction_merges_rolls_and_joins() {
        // 256,000 bytes a second are stored: a merged segment each 15 s, and a file of 64 MiB each 262 s, before its 300 s are over.
        let rates = workload().rates();
        close(rates.compacted, 1.0 / 15.0 + 256_000.0 / (64.0 * MIB));
        // Read: 20 segments, a file's input in pieces of 8 MiB, and what was written.
        close(rates.compaction_gets, 20.0 + 256_000.0 / (8.0 * MIB) + 1.0 / 15.0 + 256_000.0 / (64.0 * MIB));
        close(workload().rolled().1, 0.0);
        // Ten partitions make ten files of 7.68 MB each 300 s: four become one, and four of those.
        let many = Workload { partitions: 10.0, ..workload() };
        close(many.rates().compacted, 1.0 / 15.0 + 10.0 / 300.0 * 4.0 / 3.0);
        close(many.rolled().1, 2.0);
    }

    #[test]
    fn other_gateways_fetch_each_segment_once_whoever_reads_how_often() {
        close(workload().rates().reader_gets, 20.0);
        close(Workload { fan_out: 50.0, consumers: 50.0, ..workload() }.rates().reader_gets, 20.0);
        close(Workload { consumers: 1.0, ..workload() }.rates().reader_gets, 0.0);
        // Half of what two readers read comes from no cache: 256,000 bytes a second in blocks of a MiB.
        close(Workload { consumers: 1.0, cold: 0.5, ..workload() }.rates().reader_gets, 256_000.0 / MIB);
    }

    #[test]
    fn deleted_objects_are_paid_for_as_long_as_the_bucket_keeps_them() {
        let kept = workload().kept();
        close(kept.live_gib, 256_000.0 * 604_800.0 / GIB);
        // Three copies, each for the ten minutes of the collector's grace.
        close(kept.deleted_gib, 256_000.0 * 3.0 * 600.0 / GIB);
        let week = Workload { noncurrent_seconds: 7.0 * DAY, ..workload() }.kept();
        close(week.deleted_gib, 256_000.0 * 3.0 * (600.0 + 604_800.0) / GIB);
    }

    #[test]
    fn the_bill_of_a_month_is_what_one_gets_by_hand() {
        let bill = workload().bill(&Prices::load(None).unwrap());
        // 2,628,000 s; 20.07 objects a second; 121.67 sweeps of 256 listings.
        let objects = (20.0 + 1.0 / 15.0 + 256_000.0 / (64.0 * MIB)) * 2_628_000.0;
        close(bill.put, (objects + 4.0 * 730.0 / 24.0 * 256.0) / 1_000.0 * 0.005);
        assert_eq!(format!("{:.2}", bill.put), "263.88");
        // 20 + 0.030518 + 0.07 by compaction, 20 by the other gateway.
        assert_eq!(format!("{:.2}", bill.get), "42.15");
        // 144.196 GiB live, 0.429 GiB in their last ten minutes.
        assert_eq!(format!("{:.2}", bill.storage), "3.33");
        // 730 h of an ACU, 10 GiB, 105.49 million I/Os.
        assert_eq!(format!("{:.2}", bill.postgres), "109.70");
        // 3.5 cores and 7 GiB: 2 × (1, 2) + 2 × (0.5, 1) + (0.5, 1).
        assert_eq!(format!("{:.2}", bill.compute), "126.14");
        // 1,024,000 bytes a second, sent once and read twice, half of it between zones.
        close(bill.transfer, 1_024_000.0 * 3.0 * 2_628_000.0 / GIB * 0.5 * 0.02);
        close(bill.total, bill.put + bill.get + bill.storage + bill.postgres + bill.compute + bill.transfer);
    }

    #[test]
    fn a_tenth_of_the_puts_costs_a_tenth_and_waits_ten_times_as_long() {
        let prices = Prices::load(None).unwrap();
        let (dear, cheap) = (workload(), workload().with_puts(1.0));
        close(cheap.rates().segments * 10.0, dear.rates().segments);
        close(cheap.rates().wait_ms, 10.0 * dear.rates().wait_ms);
        assert!(cheap.bill(&prices).put < dear.bill(&prices).put / 9.0);
    }

    #[test]
    fn nothing_sent_costs_no_more_than_what_stands_ready() {
        let idle = Workload { records_per_second: 0.0, ..workload() };
        let bill = idle.bill(&Prices::load(None).unwrap());
        assert_eq!((bill.get, bill.storage, bill.transfer), (0.0, 0.0, 0.0));
        assert!(bill.put < 0.2 && bill.total.is_finite(), "{bill:?}");
        assert!(idle.rates().segment_bytes == 0.0 && idle.rates().wait_ms == 0.0);
    }

    #[test]
    fn a_third_of_the_month_costs_a_third_of_the_requests() {
        let prices = Prices::load(None).unwrap();
        let (all, third) = (workload().bill(&prices), Workload { active: 1.0 / 3.0, ..workload() }.bill(&prices));
        close(third.get * 3.0, all.get);
        close(third.compute, all.compute);
    }
}
