//! How long a run is, and when what happens in it. A long one is one of the few hundred that every test run has; short ones are for
//! tens of thousands of them.

use std::time::Duration;

/// How long after the last fault things may still go wrong.
const SETTLED: Duration = Duration::from_secs(12);
/// Before, the cluster starts.
const STARTED: Duration = Duration::from_secs(5);

/// The moments of a run, since its beginning, and what it must have seen by its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Length {
    /// When faults may begin.
    pub storm: Duration,
    /// When the last fault is over, and everything is whole.
    pub heal: Duration,
    /// When clients stop to send: so long they must be served again.
    pub stop: Duration,
    /// None begins later to wait for a single record: a gateway is started anew for the auditor.
    pub last_wait: Duration,
    /// When what is left is read: objects of the beginning may be deleted by then.
    pub audit: Duration,
    /// When what is left must be read, drained and cleared away.
    pub end: Duration,
    /// Pause between two scheduled faults of a kind, about.
    pub between: (Duration, Duration),
    /// What a role's rolling restart takes.
    pub rolling: Duration,
    /// Times that only a long run can wait for are divided by this: how old data must be before it is merged away or swept.
    pub hurry: u32,
    /// Records that must have been acknowledged at least.
    pub acked: u64,
    /// So many who waited must have been told something.
    pub woken: u64,
    /// Each kind of fault that the plan enables must have happened. In a short run a rare one may not.
    pub every_fault: bool,
}

impl Length {
    /// Five minutes of faults.
    pub const LONG: Self = Self {
        storm: Duration::from_secs(20),
        heal: Duration::from_secs(320),
        stop: Duration::from_secs(345),
        last_wait: Duration::from_secs(380),
        audit: Duration::from_secs(400),
        end: Duration::from_secs(600),
        between: (Duration::from_secs(12), Duration::from_secs(90)),
        rolling: Duration::from_secs(45),
        hurry: 1,
        acked: 1_000,
        woken: 10,
        every_fault: true,
    };
    /// Half a minute of faults.
    pub const SHORT: Self = Self {
        storm: Duration::from_secs(8),
        heal: Duration::from_secs(38),
        stop: Duration::from_secs(48),
        last_wait: Duration::from_secs(55),
        audit: Duration::from_secs(66),
        end: Duration::from_secs(300),
        between: (Duration::from_secs(4), Duration::from_secs(20)),
        rolling: Duration::from_secs(18),
        hurry: 4,
        acked: 100,
        woken: 3,
        every_fault: false,
    };

    /// Whether all is well at this time.
    pub fn is_calm(&self, at: Duration) -> bool {
        (STARTED..self.storm).contains(&at) || at > self.heal + SETTLED
    }
}
