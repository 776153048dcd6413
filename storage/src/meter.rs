//! For whom requests to the store are sent: work that is done [within] a tally counts its requests, bytes and cache hits there.
//! What is done within none is counted as nobody's. It must never count a request twice, nor know whose a tally is.

use std::sync::Arc;

use lakefall_queue::usage::{Figure, ONE, Tally};
use metrics::counter;

use crate::metrics::STORE_UNATTRIBUTED;

tokio::task_local! {
    static TALLY: Arc<Tally>;
}

/// Does work whose requests count in `tally`. Tasks that it spawns are not in it, but for the fetches of the cache.
pub async fn within<T>(tally: Arc<Tally>, work: impl Future<Output = T>) -> T {
    // Boxed: whoever awaits it need not make room for all of it.
    TALLY.scope(tally, Box::pin(work)).await
}

/// The tally of the work under way, to go on within it in another task.
pub(crate) fn current() -> Option<Arc<Tally>> {
    TALLY.try_with(Arc::clone).ok()
}

/// Goes on within a tally, if there is one.
pub(crate) async fn continued<T>(tally: Option<Arc<Tally>>, work: impl Future<Output = T>) -> T {
    match tally {
        Some(tally) => within(tally, work).await,
        None => work.await,
    }
}

/// Counts something of the work under way.
pub(crate) fn note(figure: Figure, count: u64) {
    // Who counts for nobody has nowhere to note it.
    let _ = TALLY.try_with(|tally| tally.add(figure, count));
}

/// Counts a request.
pub(crate) fn note_request(figure: Figure) {
    if TALLY.try_with(|tally| tally.add(figure, ONE)).is_err() {
        counter!(STORE_UNATTRIBUTED, "class" => class(figure)).increment(1);
    }
}

/// How a request is billed: `a` writes and lists, `b` reads, `free` deletes.
pub(crate) fn class(figure: Figure) -> &'static str {
    match figure {
        Figure::StoreWrites => "a",
        Figure::StoreDeletes => "free",
        _ => "b",
    }
}

/// What an object is for, by its key.
pub(crate) fn purpose(key: &str) -> &'static str {
    match key.split('/').next() {
        Some("seg") => "segment",
        Some("tables") if key.contains("/_iceberg/") || key.ends_with("/version-hint.text") => "iceberg",
        Some("tables") => "parquet",
        Some("meta") => "mark",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_done_within_a_tally_counts_there_and_nowhere_else() {
        let (one, other) = (Arc::new(Tally::default()), Arc::new(Tally::default()));
        note(Figure::CacheHits, 9);
        within(Arc::clone(&one), async {
            note(Figure::CacheHits, 1);
            within(Arc::clone(&other), async { note_request(Figure::StoreReads) }).await;
            let tally = current();
            tokio::spawn(continued(tally, async { note(Figure::CacheMisses, 2) })).await.unwrap();
        })
        .await;
        let counts = one.take();
        assert_eq!((counts.get(Figure::CacheHits), counts.get(Figure::CacheMisses)), (1, 2));
        assert_eq!(counts.get(Figure::StoreReads), 0);
        assert_eq!(other.take().get(Figure::StoreReads), ONE);
    }

    #[test]
    fn an_objects_key_tells_what_it_is_for() {
        for (key, meant) in [
            ("seg/0a/0190.seg", "segment"),
            ("tables/default/t/0001-0002-x.parquet", "parquet"),
            ("tables/default/t/_iceberg/metadata/v1.metadata.json", "iceberg"),
            ("tables/default/t/_iceberg/metadata/version-hint.text", "iceberg"),
            ("meta/mark", "mark"),
            ("probe/1", "other"),
        ] {
            assert_eq!(purpose(key), meant, "{key}");
        }
    }
}
