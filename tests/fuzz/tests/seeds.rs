//! The seeds that code makes. `LAKEFALL_FUZZ_WRITE_SEEDS=1 cargo test --test seeds` writes them anew, for a target that is new or
//! a format that changed; mutants of other seeds are other mutants.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails where it stands")]

use lakefall_fuzz::files::{corpus, read_all, write};
use lakefall_fuzz::seeds::seeds;
use lakefall_fuzz::{TARGETS, targets};

/// A seed that is larger costs every mutant of it time.
const LARGEST: usize = 12 << 10;

#[test]
fn what_the_code_writes_is_taken_by_what_reads_it() {
    for seed in seeds() {
        let target = targets::named(seed.target).expect("a target");
        assert!((target.run)(&seed.bytes), "{} refuses {}", seed.target, seed.name);
        if std::env::var_os("LAKEFALL_FUZZ_WRITE_SEEDS").is_some() {
            write(&corpus(seed.target).join(&seed.name), &seed.bytes).unwrap();
        }
    }
}

#[test]
fn every_target_has_small_seeds_and_most_of_them_are_taken() {
    for target in TARGETS {
        let seeds = read_all(&corpus(target.name));
        for (name, seed) in &seeds {
            assert!(seed.len() <= LARGEST, "{}/{name} is {} bytes", target.name, seed.len());
        }
        let taken = seeds.iter().filter(|(_, seed)| (target.run)(seed)).count();
        assert!(taken >= 2 && 2 * taken >= seeds.len(), "{} takes {taken} of {} seeds", target.name, seeds.len());
    }
}
