//! When the mark is raised and when orphans are swept: after something was appended, and never more often than set.

use std::sync::Arc;
use std::time::Duration;

use lakefall_metadata::News;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::{Instant, sleep, sleep_until};

use super::{Collector, Sweep};

/// Pause while halted, at most: an operator who has acted wants to see it.
pub(super) const HALTED_PAUSE: Duration = Duration::from_secs(10);
/// What the mark at a stop may take.
pub(super) const LAST_MARK: Duration = Duration::from_secs(1);
/// Pause after a failure, at most.
const RETRY: Duration = Duration::from_secs(30);

type Feed = broadcast::Receiver<Arc<News>>;

impl Collector {
    /// Compares the ledgers with the mark and raises it: at once, and then when something was appended.
    pub(super) async fn keep_marking(&self, mut news: Feed) {
        loop {
            news = news.resubscribe();
            let begun = Instant::now();
            match self.check().await {
                Ok(None) => {
                    appended(&mut news).await;
                    sleep_until(begun + self.config.mark_interval).await;
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
