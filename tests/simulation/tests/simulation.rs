//! Seeds of the simulation, run by its executable: the storm of each must leave nothing broken, and each must run the same way
//! twice.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails where it stands, and tells what it saw")]

use std::path::{Path, PathBuf};
use std::process::Command;

use lakefall_simulation::length::Length;
use lakefall_simulation::seeds::Seeds;

/// Seeds that are run each time, unless `LAKEFALL_TEST_SEEDS` says how many; `make simulate` runs more.
const SEEDS: u64 = 200;
/// The first of them, unless `LAKEFALL_TEST_SEED` says which.
const FIRST: u64 = 1;
/// Seeds that are run twice.
const TWICE: [u64; 3] = [1, 3, 77];

fn executable() -> PathBuf {
    env!("CARGO_BIN_EXE_lakefall-simulate").into()
}

fn given(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).ok().map_or(usual, |text| text.parse().unwrap_or_else(|_| panic!("{variable} is a number, not {text}")))
}

#[test]
fn what_was_acknowledged_outlives_the_storm_of_every_seed() {
    let (from, count) = (given("LAKEFALL_TEST_SEED", FIRST), given("LAKEFALL_TEST_SEEDS", SEEDS));
    println!("LAKEFALL_TEST_SEED={from} LAKEFALL_TEST_SEEDS={count}");
    let summary = Seeds { from, count, length: Length::LONG, jobs: 2, plant: None, until_found: false }.run(&executable());
    println!("{summary}");
    assert!(summary.is_clean(), "{summary}");
}

/// Seeds within which each planted bug must be found.
const WITHIN: u64 = 50;

#[test]
#[ignore = "takes five minutes: make planted-bugs"]
fn every_planted_bug_is_found() {
    let from = given("LAKEFALL_TEST_SEED", FIRST);
    let mut missed = Vec::new();
    for (bug, _) in lakefall_queue::planted::ALL {
        let seeds = Seeds { from, count: WITHIN, length: Length::LONG, jobs: 2, plant: Some((*bug).to_owned()), until_found: true };
        let summary = seeds.run(&executable());
        let (tried, made) = (summary.outcomes.len(), summary.outcomes.iter().filter(|outcome| outcome.planted > 0).count());
        match summary.failed().next() {
            Some(found) => println!("{bug}: found by seed {} ({} of {tried} made it): {}", found.seed, made, found.violations[0]),
            None => missed.push(format!("{bug}: not found by {tried} seeds, {made} of which made it")),
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

#[test]
fn the_same_seed_runs_the_same_way_twice_to_the_byte() {
    let folder = std::env::temp_dir().join(format!("lakefall-simulation-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    for seed in TWICE {
        let (one, other) = (traced(seed, &folder.join("one")), traced(seed, &folder.join("other")));
        assert!(one.len() > 10_000, "seed {seed}: a trace of {} bytes tells nothing", one.len());
        if one != other {
            let at = one.lines().zip(other.lines()).position(|(one, other)| one != other).unwrap_or_default();
            let around = |text: &str| text.lines().skip(at.saturating_sub(3)).take(6).collect::<Vec<_>>().join("\n");
            panic!("seed {seed} ran another way the second time, from line {at} on:\n{}\n\n{}", around(&one), around(&other));
        }
    }
    std::fs::remove_dir_all(folder).unwrap();
}

/// The trace of a run.
fn traced(seed: u64, path: &Path) -> String {
    let output = Command::new(executable()).args(["run", "--seed", &seed.to_string(), "--trace"]).arg(path).output().unwrap();
    let text = std::fs::read_to_string(path).unwrap();
    assert!(!text.is_empty(), "seed {seed}: {output:?}");
    text
}
