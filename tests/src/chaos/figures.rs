//! Figures of a run: how soon somebody was served after each fault, for how long nobody was, how calm windows went. Must never judge.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::world::Strike;
use crate::load::Run;

/// A window without faults.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Calm {
    ok: u64,
    other: u64,
}

impl Calm {
    /// From now on.
    pub(super) fn begin(run: &Run) -> Self {
        run.recorder.tape().calm(true);
        let (ok, other) = counts(run);
        Self { ok, other }
    }

    /// Until now.
    pub(super) fn end(&mut self, run: &Run) {
        run.recorder.tape().calm(false);
        let (ok, other) = counts(run);
        (self.ok, self.other) = (ok - self.ok, other - self.other);
    }

    /// Sends that were acknowledged in these windows, and tries that were not.
    pub(super) fn sum(windows: &[Self]) -> (u64, u64) {
        windows.iter().fold((0, 0), |(ok, other), window| (ok + window.ok, other + window.other))
    }
}

fn counts(run: &Run) -> (u64, u64) {
    let tally = &run.tally;
    let others = [&tally.refused, &tally.unknown, &tally.cut, &tally.unreachable];
    (run.pulse.count(), others.into_iter().map(|count| count.load(Ordering::Relaxed)).sum())
}

/// Times of a class of faults, in milliseconds.
#[derive(Clone, Debug, Default)]
pub(super) struct Times(Vec<u32>);

impl Times {
    /// A quantile of them.
    pub(super) fn at(&self, quantile: f64) -> u32 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let at = (quantile * sorted.len() as f64).ceil() as usize;
        sorted.get(at.saturating_sub(1)).copied().unwrap_or_default()
    }

    pub(super) fn json(&self) -> Value {
        json!({"count": self.0.len(), "p50_ms": self.at(0.5), "p95_ms": self.at(0.95), "max_ms": self.at(1.0)})
    }
}

/// From each fault to the first acknowledgement of a send that was begun after it; by class, and of all.
#[derive(Debug, Default)]
pub(super) struct Recovery {
    pub(super) all: Times,
    pub(super) classes: BTreeMap<&'static str, Times>,
    /// Of each fault, in their order; nothing if nobody was served any more.
    pub(super) each: Vec<Option<u32>>,
}

impl Recovery {
    /// `beats`: first try and acknowledgement of each send.
    pub(super) fn of(strikes: &[Strike], mut beats: Vec<(u32, u32)>) -> Self {
        beats.sort_unstable();
        // The earliest acknowledgement among the sends from here on.
        let mut earliest = vec![u32::MAX; beats.len() + 1];
        for at in (0..beats.len()).rev() {
            earliest[at] = earliest[at + 1].min(beats[at].1);
        }
        let mut recovery = Self::default();
        for strike in strikes {
            let first = beats.partition_point(|(invoked, _)| *invoked < strike.at);
            let took = Some(earliest[first]).filter(|acked| *acked < u32::MAX).map(|acked| acked - strike.at);
            recovery.each.push(took);
            if let Some(took) = took {
                recovery.all.0.push(took);
                recovery.classes.entry(strike.kind.class).or_default().0.push(took);
            }
        }
        recovery
    }
}

/// The longest times in which nothing was acknowledged: from, length.
pub(super) fn gaps(beats: &[(u32, u32)], most: usize) -> Vec<(u32, u32)> {
    let mut acked: Vec<u32> = beats.iter().map(|(_, acked)| *acked).collect();
    acked.sort_unstable();
    let mut gaps: Vec<(u32, u32)> = acked.windows(2).map(|pair| (pair[0], pair[1] - pair[0])).collect();
    gaps.sort_unstable_by_key(|(_, length)| std::cmp::Reverse(*length));
    gaps.truncate(most);
    gaps
}

/// The machine: cores, and memory in MiB.
pub(super) fn machine() -> (usize, u64) {
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse::<u64>().ok());
    (std::thread::available_parallelism().map_or(1, usize::from), total.unwrap_or_default() >> 10)
}

/// The commit that this was built from, as git tells it.
pub(super) fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = std::process::Command::new("git").args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|changes| !changes.is_empty());
    let commit = git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(|| "unknown".to_owned());
    if changed { format!("{commit} with changes") } else { commit }
}

#[cfg(test)]
mod tests {
    use super::super::deck::KINDS;
    use super::*;

    #[test]
    fn a_fault_is_recovered_from_by_the_first_acknowledgement_of_what_was_sent_after_it() {
        let strike = |at| Strike { kind: KINDS[0], at, mended: None, note: String::new() };
        // Begun before the fault and acknowledged after it: says nothing. Begun later but served sooner: counts.
        let beats = vec![(90, 110), (120, 500), (130, 300), (600, 610)];
        let recovery = Recovery::of(&[strike(100), strike(400), strike(700)], beats.clone());
        assert_eq!(recovery.each, [Some(200), Some(210), None]);
        assert_eq!((recovery.all.at(0.5), recovery.all.at(1.0)), (200, 210));
        assert_eq!(gaps(&beats, 2), [(300, 200), (110, 190)]);
    }
}
