//! Queues: the recorder of what their clients saw, and what may be demanded of them.

pub mod history;

/// What may be demanded of the history of a queue, and its judgement.
pub mod checker {
    use std::time::Duration;

    pub use crate::checker::{Check, Report, Violation};
    use crate::history::{Call, Expect, History, QueueFacts, What};

    /// What a run must have had for its result to mean something, and what its queue promises.
    #[derive(Clone, Copy, Debug)]
    pub struct Demands {
        /// Faults injected.
        pub faults: usize,
        /// Messages whose send was acknowledged.
        pub acked: usize,
        /// Checks that must have looked at something.
        pub examined: &'static [Check],
        /// Attempts after which a message is dead.
        pub max_attempts: Option<u32>,
        /// Whether messages of one key keep their order.
        pub ordered: bool,
        /// How far the server's clock may go apart from the test's within one lease.
        pub clock: Duration,
        /// How soon something must come after its lease is over or its delay has passed.
        pub redelivery: Duration,
    }

    impl Default for Demands {
        fn default() -> Self {
            let (clock, redelivery) = (Duration::from_millis(5), Duration::from_secs(10));
            Self { faults: 0, acked: 1, examined: &[], max_attempts: None, ordered: false, clock, redelivery }
        }
    }

    impl From<Demands> for Expect {
        fn from(demands: Demands) -> Self {
            // Without a last receiver, nobody knows what was left.
            let checks = demands.examined.iter().copied().chain([Check::Q1]).collect();
            Self { checks, fault_count: demands.faults as u64, acked: demands.acked.max(1) as u64, ..Self::default() }
        }
    }

    impl From<Demands> for QueueFacts {
        fn from(demands: Demands) -> Self {
            Self {
                max_attempts: demands.max_attempts,
                ordered: demands.ordered,
                clock_ms: demands.clock.as_millis() as u64,
                redelivery_ms: demands.redelivery.as_millis() as u64,
                ..Self::default()
            }
        }
    }

    /// Judges a history: all queues in it promise the same.
    pub fn check(history: &History, demands: Demands) -> Report {
        let mut history = history.clone();
        for event in &history.events {
            if let What::Invoke { call: Call::Enqueue { queue, .. } | Call::Receive { queue, .. }, .. } = &event.what {
                history.header.queues.insert(queue.clone(), demands.into());
            }
        }
        crate::checker::check(&history, demands)
    }
}
