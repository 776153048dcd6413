//! A short run of every target: what broke it once, its seeds, and mutants of them. `LAKEFALL_FUZZ_SEED` makes other mutants,
//! `LAKEFALL_FUZZ_EXECUTIONS` says how many, `LAKEFALL_FUZZ_SECONDS` how long instead.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "a test fails where it stands")]

use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use lakefall_fuzz::{Campaign, TARGETS, targets};

/// Of the mutants, where no other is given: the same in every run, so that a run never fails for what it did not change.
const SEED: u64 = 20_261_129;

fn given<T: FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}: a whole number is expected")))
}

fn measure(run: &mut dyn FnMut()) -> u64 {
    allocation_counter::measure(run).bytes_max
}

fn holds(name: &str) {
    let target = targets::named(name).expect("a target");
    let campaign = Campaign {
        seed: given("LAKEFALL_FUZZ_SEED").unwrap_or(SEED),
        executions: given("LAKEFALL_FUZZ_EXECUTIONS").unwrap_or(target.executions),
        time: given("LAKEFALL_FUZZ_SECONDS").map(Duration::from_secs),
        measure,
        scratch: Path::new(env!("CARGO_TARGET_TMPDIR")).join("fuzz"),
    };
    println!("{name}: LAKEFALL_FUZZ_SEED={}", campaign.seed);
    let report = campaign.run(target);
    println!(
        "{name}: {} inputs, {} taken ({} of the mutants); at most {:?} and {} KiB for one",
        report.executions,
        report.taken,
        report.mutants_taken,
        report.slowest,
        report.largest >> 10
    );
}

macro_rules! each {
    ($($name:ident),* $(,)?) => {
        mod no_input_breaks {
            $(#[test] fn $name() { super::holds(stringify!($name)); })*
        }

        #[test]
        fn every_target_is_run() {
            assert_eq!([$(stringify!($name)),*].as_slice(), TARGETS.iter().map(|target| target.name).collect::<Vec<_>>());
        }
    };
}

each!(
    batch_decode,
    segment_decode,
    parquet_read,
    http_produce,
    http_arrow,
    http_decompress,
    receipt,
    routing_pattern,
    filter_expression,
    json_schema,
    avro_schema,
    protobuf_schema,
    sql_statement,
    journal_entry,
    ledger_rows,
    rpc_message,
    json_columns,
    history,
);

/// Each target has a libFuzzer executable that does nothing but call it.
#[test]
fn every_target_can_be_run_by_libfuzzer() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap();
    for target in TARGETS {
        let source = std::fs::read_to_string(folder.join(format!("fuzz_targets/{}.rs", target.name))).unwrap();
        assert!(source.contains(&format!("lakefall_fuzz::targets::{}(input)", target.name)), "{} is not called", target.name);
        assert!(manifest.contains(&format!("name = \"{}\"", target.name)), "{} is not built", target.name);
    }
}
