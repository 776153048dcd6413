//! Whether a history shows enough to mean something: a run in which nothing worked, no fault struck or a check saw nothing is no
//! proof. Must refuse it by name.

use super::{Check, Open, Report, Subject};
use crate::history::{Call, Expect};

/// Counts what was tried while nothing was broken.
#[derive(Debug, Default)]
pub(super) struct Tally {
    is_calm: bool,
    /// Whether the history says when it was calm.
    marked: bool,
    /// Tried and done in calm windows.
    calm: (u64, u64),
    /// Sends tried and done at any time.
    sends: (u64, u64),
}

impl Tally {
    pub(super) fn calm(&mut self, calm: bool) {
        (self.is_calm, self.marked) = (calm, true);
    }

    pub(super) fn is_calm(&self) -> bool {
        self.is_calm
    }

    pub(super) fn ended(&mut self, open: &Open, done: bool) {
        // A stream that is cut leaves a window of lines that nobody knows about: one try, not hundreds.
        if matches!(&open.call, Call::Send(append) if append.promise.pipelined) && !done {
            return;
        }
        let is_send = matches!(open.call, Call::Send(_) | Call::Commit { .. } | Call::Enqueue { .. });
        for (counts, of) in [(open.calm, &mut self.calm), (is_send, &mut self.sends)] {
            if counts {
                of.0 += 1;
                of.1 += u64::from(done);
            }
        }
    }

    pub(super) fn finish(&self, expect: &Expect, report: &mut Report) {
        let (tried, done) = if self.marked { self.calm } else { self.sends };
        report.calm = (tried, done);
        let mut refuse = |why: String| report.violation(Check::Vacuous, Subject::Run, why);
        if self.marked && tried == 0 {
            refuse("nothing was tried while nothing was broken".to_owned());
        }
        if done * 2 < tried {
            refuse(format!("only {done} of {tried} operations were done while nothing was broken"));
        }
        let missing: Vec<_> = expect.faults.iter().filter(|kind| !report.faults_by_kind.contains_key(*kind)).cloned().collect();
        let unseen: Vec<Check> = expect.checks.iter().filter(|check| report.examined_by(**check) == 0).copied().collect();
        let (acked, faults) = (report.acked, report.faults);
        let mut refuse = |why: String| report.violation(Check::Vacuous, Subject::Run, why);
        if acked < expect.acked {
            refuse(format!("too little was acknowledged: {acked} of {}", expect.acked));
        }
        if faults < expect.fault_count {
            refuse(format!("too few faults happened: {faults} of {}", expect.fault_count));
        }
        missing.iter().for_each(|kind| refuse(format!("the fault {kind:?} never fired")));
        unseen.iter().for_each(|check| refuse(format!("{check:?} looked at nothing")));
    }
}
