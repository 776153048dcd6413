//! Simulated time: how far the simulation is, and the clocks that hosts are given. Must never read the machine's.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lakefall_queue::Timestamp;
use lakefall_queue::clock::{Ambient, Clock, Entropy};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::lock;

/// When every simulation begins, in milliseconds since 1970: 2025-01-01.
pub const EPOCH_MS: i64 = 1_735_689_600_000;

/// How long one step is: what is sent in one arrives in a later one. Each costs all hosts a little, whether anything happens or not.
pub const STEP: Duration = Duration::from_millis(20);

/// How far the simulation is, in nanoseconds, at the beginning of the step that is under way.
static STEP_BEGAN: AtomicU64 = AtomicU64::new(0);
/// The latest time that was told.
static TOLD: AtomicU64 = AtomicU64::new(0);

/// A step begins.
pub fn begin_step(elapsed: Duration) {
    STEP_BEGAN.store(elapsed.as_nanos() as u64, Ordering::Relaxed);
}

/// How far the simulation was when the step under way began, in nanoseconds.
pub fn step_nanos() -> u64 {
    STEP_BEGAN.load(Ordering::Relaxed)
}

/// How far the simulation is. Within a step each host goes through the step's time by itself, one host after the other.
pub fn elapsed() -> Duration {
    let began = Duration::from_nanos(step_nanos());
    // A host whose time was made to jump is ahead of everybody for the rest of the step.
    turmoil::sim_elapsed().map_or(began, |now| now.clamp(began, began + STEP))
}

/// The same, never going back from host to host: the order of what happens. Two readings differ.
pub fn order_nanos() -> u64 {
    let now = elapsed().as_nanos() as u64;
    let later = |told: u64| Some(now.max(told + 1));
    TOLD.fetch_update(Ordering::Relaxed, Ordering::Relaxed, later).map_or(now, |told| now.max(told + 1))
}

/// The wall clock of a database: right, and the same for everybody.
#[derive(Debug, Default)]
pub struct StoreClock;

impl Clock for StoreClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(EPOCH_MS + (order_nanos() / 1_000_000) as i64)
    }

    fn elapsed(&self) -> Duration {
        Duration::from_nanos(order_nanos())
    }
}

/// The clocks of a host, which outlive its processes.
#[derive(Debug, Default)]
pub struct HostClock {
    /// How far the wall clock is off, in milliseconds.
    off_ms: AtomicI64,
    /// When the process that is stopped wakes, in nanoseconds.
    wakes: AtomicU64,
}

impl HostClock {
    /// Steps the wall clock.
    pub fn step(&self, off_ms: i64) {
        self.off_ms.store(off_ms, Ordering::Relaxed);
    }

    /// The host's process is stopped and wakes then: until the simulation is so far, its clocks show that time.
    pub fn stop_until(&self, wakes: Duration) {
        self.wakes.fetch_max(wakes.as_nanos() as u64, Ordering::Relaxed);
    }
}

impl Clock for HostClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(EPOCH_MS + self.elapsed().as_millis() as i64 + self.off_ms.load(Ordering::Relaxed))
    }

    fn elapsed(&self) -> Duration {
        elapsed().max(Duration::from_nanos(self.wakes.load(Ordering::Relaxed)))
    }
}

/// Random bits that a seed decides.
struct Seeded(Mutex<ChaCha8Rng>);

impl Entropy for Seeded {
    fn draw(&self) -> u128 {
        let mut rng = lock(&self.0);
        u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64())
    }
}

/// What a process of a host is given.
pub fn ambient(clock: Arc<HostClock>, seed: u64) -> Ambient {
    Ambient { clock, entropy: Arc::new(Seeded(Mutex::new(ChaCha8Rng::seed_from_u64(seed)))) }
}
