//! Work that takes long enough to stand in the way of others: it goes to threads that may be blocked. In a simulation, which has
//! one thread and must run the same way twice, it is done on the spot.

use std::any::Any;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};

/// Set once, before anything runs.
static ON_THE_SPOT: AtomicBool = AtomicBool::new(false);

/// From here on this process does all such work where it is asked for, and starts no thread. For simulations: an executable
/// says so first of all.
pub fn do_on_the_spot() {
    ON_THE_SPOT.store(true, Ordering::Relaxed);
}

/// Whether it does.
pub(crate) fn on_the_spot() -> bool {
    ON_THE_SPOT.load(Ordering::Relaxed)
}

/// The work panicked, or the process ends: it came to nothing.
pub struct Unfinished(Box<dyn Any + Send>);

impl Unfinished {
    /// Goes on with the panic here.
    pub fn resume(self) -> ! {
        std::panic::resume_unwind(self.0)
    }
}

impl fmt::Display for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it panicked: {}", crate::tasks::panic_text(&*self.0))
    }
}

impl fmt::Debug for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Does `work` on a thread that may be blocked. Dropped, it is done all the same, for nobody.
pub async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Unfinished> {
    if on_the_spot() {
        return here(work);
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Ok(done),
        Err(error) => Err(Unfinished(match error.try_into_panic() {
            Ok(panic) => panic,
            Err(cancelled) => Box::new(cancelled.to_string()),
        })),
    }
}

/// Does `work` now, and survives its panic like a thread would.
pub(crate) fn here<T>(work: impl FnOnce() -> T) -> Result<T, Unfinished> {
    std::panic::catch_unwind(AssertUnwindSafe(work)).map_err(Unfinished)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_is_done_elsewhere_and_its_panic_is_told() {
        let here = std::thread::current().id();
        assert_ne!(run(|| std::thread::current().id()).await.unwrap(), here);
        let failed = run(|| {
            if true {
                panic!("boom")
            }
        })
        .await
        .unwrap_err();
        assert_eq!(failed.to_string(), "it panicked: boom");
    }

    #[test]
    fn work_done_on_the_spot_survives_its_panic() {
        assert_eq!(here(|| 7).unwrap(), 7);
        assert_eq!(
            here(|| if true {
                panic!("boom")
            })
            .unwrap_err()
            .to_string(),
            "it panicked: boom"
        );
    }
}
