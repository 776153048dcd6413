//! When the mark is raised and when orphans are swept: after something was appended, and never more often than set.

use std::sync::Arc;
use std::time::Duration;

use lakefall_metadata::News;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::{Instant, sleep, sleep_until};

use super::{Collector, Sweep};

/// Pause while halted, at most: an operator who has acted wants to see it.
pub(super) const HALTED_PAUSE: Duration = Duration::from_secs(10);
/// From the first append to the mark that covers it: those that come with it are covered too.
const SETTLE: Duration = Duration::from_secs(1);
/// Pause after a failure, at most.
const RETRY: Duration = Duration::from_secs(30);

type Feed = broadcast::Receiver<Arc<News>>;

impl Collector {
    /// Compares the ledgers with the mark and raises it: at once, soon after the first append, and then when something was
    /// appended and the last mark is old enough.
    pub(super) async fn keep_marking(&self, mut news: Feed) {
        let mut earliest = Instant::now();
        loop {
            news = news.resubscribe();
            match self.check().await {
                Ok(None) => {
                    appended(&mut news).await;
                    sleep_until(earliest.max(Instant::now() + SETTLE)).await;
                    earliest = Instant::now() + self.config.mark_interval;
                }
                Ok(Some(_)) => sleep(HALTED_PAUSE).await,
                Err(error) => {
                    tracing::warn!(%error, "the collector could not compare the ledgers with their mark: it tries again later");
                    sleep(RETRY).await;
                }
            }
        }
    }

    /// Sweeps orphans: once a grace after the start, and then when something was appended since.
    pub(super) async fn keep_sweeping(&self, mut news: Feed) {
        sleep(self.config.orphan_grace).await;
        let mut sweep = Sweep::default();
        loop {
            news = news.resubscribe();
            let begun = Instant::now();
            match self.sweep_on(&mut sweep).await {
                Ok(swept) if swept.halted => sleep(HALTED_PAUSE).await,
                Ok(swept) => {
                    if !swept.again() {
                        appended(&mut news).await;
                    }
                    sleep_until(begun + self.config.orphan_interval).await;
                }
                Err(error) => {
                    tracing::warn!(%error, "a sweep for orphans was broken off: it is taken up again");
                    sleep(RETRY).await;
                }
            }
        }
    }
}

/// Returns when something was appended, or may have been.
async fn appended(news: &mut Feed) {
    match news.recv().await {
        Ok(_) | Err(RecvError::Lagged(_)) => {}
        // The metadata service is gone: whoever runs the collector is stopping it.
        Err(RecvError::Closed) => std::future::pending().await,
    }
}
