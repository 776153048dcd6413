//! Planted histories: each check finds what it is for, under its name, and nothing where nothing is wrong.

mod commits;
mod dump;
mod log;
mod orders;
mod queue;
mod random;
mod vacuous;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::*;
use crate::history::{RecordId, Recorder, Tape, body};

/// A history under construction: its clock ticks a millisecond with every event, and more where it is told so.
struct Plant {
    now: Arc<AtomicU64>,
    tape: Tape,
}

const MS: Nanos = 1_000_000;

fn id(seq: u64) -> RecordId {
    RecordId { producer: 1, seq }
}

impl Plant {
    /// One that was calm for a moment, in which something was done: what fails after it fails by a fault.
    fn new() -> Self {
        let plant = Self::bare();
        plant.tape.calm(true);
        let op = plant.tape.invoke(None, Call::Tail { topic: "other".into(), partition: 0 });
        plant.tape.ok(op, Answer::End(0));
        plant.tape.calm(false);
        plant
    }

    fn bare() -> Self {
        let now = Arc::new(AtomicU64::new(0));
        let clock = Arc::clone(&now);
        Self { now, tape: Tape::with_clock(Arc::new(move || clock.fetch_add(MS, Ordering::Relaxed) + MS)) }
    }

    fn log(&self) -> Recorder {
        Recorder::on(&self.tape, "load")
    }

    fn pass(&self, time: Duration) {
        self.now.fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
    }

    /// The judgement of what was recorded so far, without demands of its own.
    fn report(&self) -> Report {
        judge(&self.tape.take())
    }

    /// Exactly these checks are broken.
    #[track_caller]
    fn breaks(&self, expected: &[Check]) -> Report {
        let report = self.report();
        assert_eq!(report.broken(), expected, "{:#?}", report.violations);
        report
    }
}

fn bodies(seqs: &[u64]) -> Vec<(RecordId, String)> {
    seqs.iter().map(|seq| (id(*seq), body(id(*seq), 3))).collect()
}
