//! When a statement is run again. Must never repeat one that may have been applied, unless a second time does no harm.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::connections::Lent;
use super::error::{Class, Failure};

/// How often a statement that met another transaction is run again.
const CONFLICTS: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(5);

/// The attempts at one statement.
pub(super) struct Attempts {
    /// No new attempt after this.
    deadline: Instant,
    conflicts: u32,
    /// Lost with a connection that lay idle: once, on a fresh one.
    stale: bool,
}

impl Attempts {
    /// For a statement that may be run twice.
    pub(super) fn repeatable(within: Duration) -> Self {
        Self { deadline: Instant::now() + within, conflicts: 0, stale: true }
    }

    /// For an append, which the owner itself repeats.
    pub(super) fn append(within: Duration) -> Self {
        Self { stale: false, ..Self::repeatable(within) }
    }

    /// For what is not to be run again at once, whatever happens.
    pub(super) fn once(within: Duration) -> Self {
        Self { conflicts: CONFLICTS, ..Self::append(within) }
    }

    /// Returns when it is to be run again; gives the failure back when it is not.
    pub(super) async fn again(&mut self, connection: Lent<'_>, failure: Failure) -> Result<(), Failure> {
        let stale = connection.failed(&failure);
        if Instant::now() >= self.deadline {
            return Err(failure);
        }
        if stale && std::mem::take(&mut self.stale) {
            return Ok(());
        }
        if failure.class() == Class::Conflict && self.conflicts < CONFLICTS {
            self.conflicts += 1;
            sleep(pause(self.conflicts)).await;
            return Ok(());
        }
        Err(failure)
    }
}

/// Runs one statement, or a few. The server ends each by itself; past `limit` it is out of reach.
pub(super) async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, Failure> {
    match timeout(limit, work).await {
        Ok(done) => done.map_err(Failure::Sql),
        Err(_) => Err(Failure::Silent),
    }
}

/// Between the half and the whole of 5 ms, 10 ms, 20 ms, …, so that two that met do not meet again.
fn pause(attempt: u32) -> Duration {
    static DRAWN: AtomicU64 = AtomicU64::new(0);
    let whole = FIRST_PAUSE * 2_u32.saturating_pow(attempt - 1);
    // Not worth the injected entropy: two processes differ by their ids and by how often they met. SplitMix64's mixing.
    let mut mixed = DRAWN.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed) ^ u64::from(std::process::id()) << 32;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    whole / 2 + whole / 2 * ((mixed >> 40) as u32 & 0xff) / 0xff
}
