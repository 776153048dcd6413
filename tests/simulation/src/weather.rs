//! How bad things are at the moment: which faults strike which part of the requests, and which hosts are stopped or cut off.
//! What strikes is drawn here, counted and told, so that a run can prove that it happened.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;

use crate::dice::Dice;
use crate::fault::Fault;
use crate::lock;
use crate::trace::Trace;

/// The weather of a run.
pub struct Weather {
    state: Mutex<State>,
    trace: Arc<Trace>,
    /// Hears of each fault.
    told: Box<dyn Fn(&str) + Send + Sync>,
}

struct State {
    dice: Dice,
    /// In 10,000 requests.
    rates: BTreeMap<Fault, u32>,
    /// Requests are struck at all.
    stormy: bool,
    fired: BTreeMap<Fault, u64>,
    last_append: Option<String>,
}

impl Weather {
    /// Fair weather, with what will strike when it storms.
    pub fn new(seed: u64, rates: BTreeMap<Fault, u32>, trace: Arc<Trace>, told: Box<dyn Fn(&str) + Send + Sync>) -> Self {
        let state = State { dice: Dice::new(seed, "weather"), rates, stormy: false, fired: BTreeMap::new(), last_append: None };
        Self { state: Mutex::new(state), trace, told }
    }

    /// A storm begins or ends.
    pub fn storm(&self, stormy: bool) {
        lock(&self.state).stormy = stormy;
        self.trace.line("weather", format_args!("{}", if stormy { "storm" } else { "calm" }));
    }

    /// Which of these strikes a request, if any. The caller makes it happen.
    pub fn strike(&self, place: &str, what: &str, of: &[Fault]) -> Option<Fault> {
        let mut state = lock(&self.state);
        if !state.stormy {
            return None;
        }
        let struck = of.iter().copied().find(|fault| {
            let rate = state.rates.get(fault).copied().unwrap_or_default();
            rate > 0 && state.dice.in_ten_thousand(rate)
        })?;
        *state.fired.entry(struck).or_default() += 1;
        drop(state);
        self.trace.line(place, format_args!("fault {struck} {what}"));
        (self.told)(&struck.to_string());
        Some(struck)
    }

    /// A fault that the plan ordered happens.
    pub fn fired(&self, fault: Fault, what: std::fmt::Arguments<'_>) {
        *lock(&self.state).fired.entry(fault).or_default() += 1;
        self.trace.line("plan", format_args!("fault {fault} {what}"));
        (self.told)(&fault.to_string());
    }

    /// How often each kind of fault happened.
    pub fn counts(&self) -> BTreeMap<Fault, u64> {
        lock(&self.state).fired.clone()
    }

    /// A replica of this host writes an entry: it owns something.
    pub fn appends(&self, host: &str) {
        let mut state = lock(&self.state);
        if state.last_append.as_deref() != Some(host) {
            state.last_append = Some(host.to_owned());
        }
    }

    /// Whose replica wrote last.
    pub fn last_append(&self) -> Option<String> {
        lock(&self.state).last_append.clone()
    }

    /// A number from `low` to `high`.
    pub fn between(&self, low: u64, high: u64) -> u64 {
        lock(&self.state).dice.between(low, high)
    }

    /// A time from `low` to `high`.
    pub fn time(&self, low: Duration, high: Duration) -> Duration {
        lock(&self.state).dice.time(low, high)
    }

    /// A time up to `high`, short ones as often as long ones.
    pub fn time_of_any_size(&self, high: Duration) -> Duration {
        lock(&self.state).dice.time_of_any_size(high)
    }
}

/// Lets a host's requests to what is not on the network through, or holds them up: stores are not hosts.
#[derive(Clone, Debug)]
pub struct Gate(Arc<watch::Sender<bool>>);

impl Default for Gate {
    fn default() -> Self {
        Self(Arc::new(watch::channel(true).0))
    }
}

impl Gate {
    /// Opens or closes it.
    pub fn set(&self, open: bool) {
        self.0.send_replace(open);
    }

    /// Returns when it is open; whether it was within this time.
    pub async fn passed(&self, within: Duration) -> bool {
        let mut open = self.0.subscribe();
        if *open.borrow_and_update() {
            return true;
        }
        // The sender is a part of this.
        tokio::time::timeout(within, open.wait_for(|open| *open)).await.is_ok()
    }
}
