//! The public side of a process: engine, HTTP room and listener over a metadata service, and the order in which they stop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use lakefall_gateway::engine::{Engine, EngineParts, ReceiptKeys};
use lakefall_gateway::listen;
use lakefall_http::HttpSettings;
use lakefall_metadata::Metadata;
use lakefall_queue::clock::Ambient;
use lakefall_queue::verbs::Verbs;
use lakefall_storage::cache::Cache;
use lakefall_storage::store::Store;
use tokio_util::sync::CancellationToken;

use super::{Frame, bind, local_address, parts};
use crate::failure::Failure;

/// What the public side works with.
pub(super) struct Backend {
    pub(super) metadata: Arc<dyn Metadata>,
    pub(super) store: Store,
    /// What receipts are sealed with.
    pub(super) receipt_keys: ReceiptKeys,
    /// Its clock is the metadata service's.
    pub(super) ambient: Ambient,
    /// Cancelled when nobody here asks the metadata service any more.
    pub(super) metadata_stop: CancellationToken,
    /// Cancelled when the compactor of this process, if there is one, asks it no more either.
    pub(super) compacted: Option<CancellationToken>,
}

/// Starts it and returns the address where the HTTP API listens, as soon as it takes requests.
pub(super) async fn start(frame: &Frame, backend: Backend) -> Result<SocketAddr, Failure> {
    let Frame { config, live, tasks, .. } = frame;
    let Backend { metadata, store, receipt_keys, ambient, metadata_stop, compacted } = backend;
    let store = store.for_role("gateway");
    let cache = Arc::new(Cache::new(store.clone(), parts::cache_config(config)).await);
    let engine_stop = CancellationToken::new();
    let engine_parts = EngineParts { store, cache: Arc::clone(&cache), metadata, ambient: ambient.clone() };
    let engine = Engine::start(parts::engine_config(config, receipt_keys)?, engine_parts, tasks, engine_stop.clone());
    let changing = Arc::clone(&engine);
    live.on_change(move |config| {
        let (engine, limits, burst) = (Arc::clone(&changing), config.limits.clone(), config.segment.put_burst);
        let puts = config.puts_per_second().map_err(|error| error.to_string())?;
        Ok(Box::new(move || {
            engine.set_limits(limits);
            engine.set_puts(puts, burst);
        }))
    });
    let settings = HttpSettings { shutdown: tasks.token(), sampling: parts::sampling(config), ..HttpSettings::default() };
    let router = lakefall_http::router(Arc::clone(&engine) as Arc<dyn Verbs>, ambient, settings);
    let listener = bind(config.listen).await?;
    let address = local_address(&listener)?;
    let serving = listen::serve(listener, router, parts::listen_config(config), tasks.clone(), tasks.token());
    let drain = Duration::from_millis(config.http.drain_ms);
    let token = tasks.token();
    tasks.spawn_critical::<_, std::convert::Infallible>("http", async move {
        // Order of the stop: no new request, requests under way, the open segment, then the ledger.
        tokio::select! {
            _ = serving => {}
            () = late(&token, drain) => tracing::warn!("connections were still open after the drain: they are cut"),
        }
        engine.drain().await;
        engine_stop.cancel();
        if let Some(compacted) = compacted {
            compacted.cancelled().await;
        }
        metadata_stop.cancel();
        cache.close().await;
        Ok(())
    });
    Ok(address)
}

async fn late(token: &CancellationToken, drain: Duration) {
    token.cancelled().await;
    tokio::time::sleep(drain).await;
}
