//! The short form of `make chaos`: 150 s of faults from every class, on real parts.
#![allow(clippy::print_stdout, clippy::panic, reason = "a test fails where it stands, and tells what it saw")]

use std::path::PathBuf;
use std::time::Duration;

use lakefall_tests::chaos::{Settings, run};
use lakefall_tests::dice::seed_or;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_record_is_lost_while_faults_of_every_class_happen_to_a_loaded_cluster() {
    // `make chaos` draws a fresh one.
    let seed = seed_or("chaos", 7);
    let out = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("chaos-{seed}"));
    let settings =
        Settings { lasts: Duration::from_secs(150), records: 150_000, faults: 30, rate: 1_400.0, ..Settings::minutes(0, seed, out) };
    let report = run(&settings).await;
    println!("{}", report.text);
    assert!(report.acked >= 150_000 && report.faults >= 30, "{} records, {} faults", report.acked, report.faults);
    assert!(report.violations.is_empty(), "seed {seed}, {}: {:#?}", report.folder.display(), report.violations);
}
