//! What `lakefall dev` is made of: every role, wired to the others in one process, and the order in which they stop.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lakefall_compactor::{Collector, CollectorConfig};
use lakefall_gateway::engine::{Engine, EngineConfig, EngineParts, IngestConfig};
use lakefall_gateway::listen::{self, ListenConfig};
use lakefall_http::HttpSettings;
use lakefall_metadata::memory::MemoryStore;
use lakefall_metadata::sqlite::SqliteStore;
use lakefall_metadata::{Metadata, MetadataStore, Node, NodeConfig, StoreError};
use lakefall_queue::clock::Ambient;
use lakefall_queue::verbs::Verbs;
use lakefall_service::{Config, Readiness, Tasks};
use lakefall_storage::cache::{Cache, CacheConfig, DiskConfig};
use lakefall_storage::store::{AccessKey, S3Options, Store, StoreOptions};
use tokio_util::sync::CancellationToken;

use crate::dev::bind;
use crate::failure::Failure;

/// How long the shards may take to be served before the start is given up.
const START: Duration = Duration::from_secs(60);

/// Starts all roles and returns the address where the HTTP API listens, as soon as it takes requests. Their tasks run in
/// `tasks` and end when its token is cancelled.
pub(crate) async fn start(config: Arc<Config>, tasks: Tasks, ambient: Ambient, _readiness: Readiness) -> Result<SocketAddr, Failure> {
    create_folder(&config.data_dir)?;
    let store = open_store(&config)?;
    let (engine_stop, node_stop) = (CancellationToken::new(), CancellationToken::new());
    let metadata = open_metadata(&config).await?;
    let node = Node::start(metadata, node_config(&config), ambient.clone(), &tasks, node_stop.clone()).await.map_err(metadata_failure)?;
    tokio::select! {
        () = node.ready() => {}
        () = tasks.stopping() => return Err(stopped(&tasks)),
        () = tokio::time::sleep(START) => return Err(Failure::Failed("the metadata store did not answer".to_owned())),
    }
    let cache = Arc::new(Cache::new(store.clone(), cache_config(&config)).await);
    let collector = Collector::new(collector_config(&config), Arc::clone(&node) as Arc<dyn Metadata>, store.clone(), ambient.clone());
    // Stops with the first word of the stop, long before the node that it asks: what it was at is taken up again.
    tasks.spawn_critical("collector", collector.run(tasks.token()));
    let parts =
        EngineParts { store, cache: Arc::clone(&cache), metadata: Arc::clone(&node) as Arc<dyn Metadata>, ambient: ambient.clone() };
    let engine = Engine::start(engine_config(&config)?, parts, &tasks, engine_stop.clone());
    let settings = HttpSettings { shutdown: tasks.token(), ..HttpSettings::default() };
    let router = lakefall_http::router(Arc::clone(&engine) as Arc<dyn Verbs>, ambient, settings);
    let listener = bind(config.listen).await?;
    let address = listener.local_addr().map_err(|error| Failure::Failed(error.to_string()))?;
    let serving = listen::serve(listener, router, listen_config(&config), tasks.clone(), tasks.token());
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
        node_stop.cancel();
        cache.close().await;
        Ok(())
    });
    Ok(address)
}

async fn late(token: &CancellationToken, drain: Duration) {
    token.cancelled().await;
    tokio::time::sleep(drain).await;
}

fn stopped(tasks: &Tasks) -> Failure {
    match tasks.failure() {
        Some(failure) => Failure::Failed(failure.to_string()),
        None => Failure::Failed("stopped before it was ready".to_owned()),
    }
}

fn create_folder(folder: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(folder).map_err(|error| Failure::Failed(format!("cannot create the data folder {}: {error}", folder.display())))
}

/// Opens the object store; a local one is created if it is not there.
pub(crate) fn open_store(config: &Config) -> Result<Store, Failure> {
    let url = config.store_url()?;
    if url.scheme() == "file"
        && let Ok(folder) = url.to_file_path()
    {
        create_folder(&folder)?;
    }
    let from = &config.store;
    let s3 = S3Options {
        endpoint: from.endpoint.clone(),
        region: from.region.clone(),
        path_style: from.path_style.then_some(true),
        allow_http: from.allow_http,
        access_key: from
            .access_key_id
            .clone()
            .zip(from.secret_access_key.as_ref())
            .map(|(id, secret)| AccessKey { id, secret: secret.expose().clone() }),
        ..S3Options::default()
    };
    let options = StoreOptions { s3, ..StoreOptions::default() };
    Store::open(&url, &options).map_err(|error| Failure::Failed(format!("cannot open the object store {url}: {error}")))
}

async fn open_metadata(config: &Config) -> Result<Arc<dyn MetadataStore>, Failure> {
    let url = config.metadata_url()?;
    match url.strip_prefix("sqlite://") {
        Some(path) => Ok(Arc::new(SqliteStore::open(Path::new(path)).await.map_err(metadata_failure)?)),
        None if url == "memory:" => Ok(Arc::new(MemoryStore::new())),
        None => Err(Failure::Usage("metadata.url must be sqlite:///file or memory:".to_owned())),
    }
}

fn metadata_failure(error: StoreError) -> Failure {
    Failure::Failed(error.to_string())
}

fn node_config(config: &Config) -> NodeConfig {
    let from = &config.metadata;
    NodeConfig {
        shards: from.shards,
        checkpoint_entries: from.checkpoint_entries,
        checkpoint_bytes: from.checkpoint_bytes,
        recent_extents: from.recent_extents,
    }
}

fn cache_config(config: &Config) -> CacheConfig {
    let from = &config.cache;
    let bytes = usize::try_from(from.disk_bytes).unwrap_or(usize::MAX);
    CacheConfig {
        memory_bytes: from.memory_bytes,
        cold_bytes: from.cold_bytes,
        block_bytes: from.block_bytes,
        disk: from.disk_path.clone().map(|path| DiskConfig { path, bytes }),
        ..CacheConfig::default()
    }
}

fn collector_config(config: &Config) -> CollectorConfig {
    let from = &config.collector;
    CollectorConfig { grace: Duration::from_secs(from.grace_seconds), interval: Duration::from_secs(from.interval_seconds) }
}

fn engine_config(config: &Config) -> Result<EngineConfig, Failure> {
    let ingest = IngestConfig {
        target_bytes: config.segment.target_bytes,
        batch_bytes: config.segment.batch_bytes,
        puts_per_second: config.puts_per_second()?,
        put_burst: config.segment.put_burst,
        uploads_max: config.uploads.max,
        uploads_eager: config.uploads.eager,
        buffer_bytes: config.ingest.buffer_bytes,
        admission_wait: Duration::from_millis(config.ingest.admission_wait_ms),
    };
    Ok(EngineConfig { ingest, limits: config.limits.clone() })
}

fn listen_config(config: &Config) -> ListenConfig {
    let http = &config.http;
    ListenConfig {
        header_timeout: Duration::from_millis(http.header_timeout_ms),
        body_timeout: Duration::from_millis(http.body_timeout_ms),
        write_timeout: Duration::from_millis(http.write_timeout_ms),
        idle_timeout: Duration::from_millis(http.idle_timeout_ms),
        max_connections: http.max_connections,
    }
}
