//! From settings to parts: each function opens or configures one. Nothing here runs.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lakefall_compactor::compaction::SchemaColumns;
use lakefall_compactor::iceberg::{Access, Catalog, CatalogSettings};
use lakefall_compactor::{Collector, CollectorConfig, Compactor, CompactorConfig};
use lakefall_gateway::engine::{EngineConfig, IngestConfig, ReceiptKeys, SqlConfig};
use lakefall_gateway::listen::ListenConfig;
use lakefall_metadata::memory::MemoryStore;
use lakefall_metadata::postgres::{PostgresConfig, PostgresStore, TlsMode};
use lakefall_metadata::rpc::{Client, ClientConfig, ClientSecurity, ClientTls, ServerSecurity, ServerTls};
use lakefall_metadata::sqlite::SqliteStore;
use lakefall_metadata::{Metadata, MetadataStore, NodeConfig, Replica, ReplicaId, StoreError};
use lakefall_queue::clock::Ambient;
use lakefall_queue::trace::Sampling;
use lakefall_service::config::{PostgresTls, catalog_url};
use lakefall_service::{Config, Secret, Tasks, system_ambient, trace};
use lakefall_storage::cache::{CacheConfig, DiskConfig};
use lakefall_storage::store::{AccessKey, Encryption, S3Options, Store, StoreOptions};

use tokio_util::sync::CancellationToken;

use super::{Frame, certificates, until_ready};
use crate::failure::Failure;

/// How long the metadata service may take to answer before the start is given up.
pub(super) const START: Duration = Duration::from_secs(60);

pub(super) fn create_folder(folder: &Path) -> Result<(), Failure> {
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
    Store::open(&url, &store_options(config)).map_err(|error| Failure::Failed(format!("cannot open the object store {url}: {error}")))
}

/// How the object store is reached.
pub(crate) fn store_options(config: &Config) -> StoreOptions {
    let from = &config.store;
    let s3 = S3Options {
        endpoint: from.endpoint.clone(),
        region: from.region.clone(),
        path_style: from.path_style.then_some(true),
        allow_http: from.allow_http,
        sse: from.encryption.clone().map(Encryption::from).unwrap_or_default(),
        checksum: from.checksum,
        access_key: from
            .access_key_id
            .clone()
            .zip(from.secret_access_key.as_ref())
            .map(|(id, secret)| AccessKey { id, secret: secret.expose().clone() }),
        ..S3Options::default()
    };
    StoreOptions {
        request_timeout: Duration::from_millis(from.request_timeout_ms),
        connect_timeout: Duration::from_millis(from.connect_timeout_ms),
        retry_budget: from.retry_budget,
        hedge_percent: from.hedge_percent,
        s3,
        ..StoreOptions::default()
    }
}

/// Opens the metadata store that the settings name. On Postgres it acts for `replica`.
pub(crate) async fn open_metadata(config: &Config, replica: &Replica) -> Result<Arc<dyn MetadataStore>, Failure> {
    let url = config.metadata_url()?;
    if let Some(path) = url.strip_prefix("sqlite://") {
        return Ok(Arc::new(SqliteStore::open(Path::new(path)).await.map_err(metadata_failure)?));
    }
    if url == "memory:" {
        return Ok(Arc::new(MemoryStore::new()));
    }
    Ok(Arc::new(open_postgres(config, replica, true).await?))
}

/// Opens Postgres for `replica`, and brings its schema up to date if told to.
pub(crate) async fn open_postgres(config: &Config, replica: &Replica, migrate: bool) -> Result<PostgresStore, Failure> {
    let lease = Duration::from_millis(config.metadata.lease_ms);
    let postgres = PostgresConfig { migrate, ..postgres_config(config)? };
    PostgresStore::connect(&postgres, replica.clone(), lease).await.map_err(metadata_failure)
}

/// Whether a URL names a Postgres.
pub(crate) fn is_postgres(url: &str) -> bool {
    url.starts_with("postgres://") || url.starts_with("postgresql://")
}

/// A replica at `address`, under an identity of its own.
pub(crate) fn replica(ambient: &Ambient, address: String) -> Replica {
    Replica { id: ReplicaId(ambient.entropy.draw()), address }
}

/// Brings the schema of the database up to date.
///
/// The shards' journals are tables too, and belong to whoever makes them: so they are made here as well.
pub(super) async fn migrate(config: &Config) -> Result<(), Failure> {
    PostgresStore::migrate(&postgres_config(config)?).await.map_err(metadata_failure)?;
    let store = open_postgres(config, &replica(&system_ambient(), String::new()), false).await?;
    store.initialize(config.metadata.shards).await.map_err(metadata_failure)
}

fn postgres_config(config: &Config) -> Result<PostgresConfig, Failure> {
    let url = config.metadata_url()?;
    if !is_postgres(&url) {
        return Err(Failure::Usage(
            "metadata.url must be postgres://user@host/database here (--database); `lakefall dev` also takes sqlite:///file and memory:"
                .to_owned(),
        ));
    }
    let from = &config.metadata.postgres;
    let millis = Duration::from_millis;
    Ok(PostgresConfig {
        password: secret(from.password.as_ref(), from.password_file.as_deref(), "metadata.postgres.password_file")?,
        tls: from.tls.map(|mode| match mode {
            PostgresTls::Disable => TlsMode::Disable,
            PostgresTls::Prefer => TlsMode::Prefer,
            PostgresTls::Require => TlsMode::Require,
            PostgresTls::VerifyFull => TlsMode::VerifyFull,
        }),
        ca_file: from.ca_file.clone(),
        max_connections: from.max_connections,
        acquire_timeout: millis(from.connect_timeout_ms),
        connect_timeout: millis(from.connect_timeout_ms),
        statement_timeout: millis(from.statement_timeout_ms),
        lock_timeout: millis(from.lock_timeout_ms),
        idle_in_transaction_timeout: millis(from.idle_timeout_ms),
        allow_unsafe_durability: from.allow_unsafe_durability,
        ..PostgresConfig::new(url)
    })
}

/// A secret from its setting or its file, without the newline that editors leave.
pub(super) fn secret(text: Option<&Secret<String>>, file: Option<&Path>, key: &str) -> Result<Option<String>, Failure> {
    match (text, file) {
        (Some(text), _) => Ok(Some(text.expose().clone())),
        (None, Some(path)) => {
            let read = std::fs::read_to_string(path);
            let read = read.map_err(|error| Failure::Usage(format!("{key}: {} cannot be read: {error}", path.display())))?;
            Ok(Some(read.trim_end_matches(['\r', '\n']).to_owned()))
        }
        (None, None) => Ok(None),
    }
}

/// What roles of a cluster show each other.
pub(super) fn token(config: &Config) -> Result<Option<Secret<String>>, Failure> {
    let from = &config.metadata;
    Ok(secret(from.token.as_ref(), from.token_file.as_deref(), "metadata.token_file")?.map(Secret::new))
}

/// How this process knows who calls its RPC.
pub(super) fn server_security(config: &Config) -> Result<ServerSecurity, Failure> {
    let from = &config.metadata.tls;
    let tls = match (&from.cert, &from.key) {
        (Some(cert), Some(key)) => Some(ServerTls {
            cert: pem(cert, "metadata.tls.cert")?,
            key: Secret::new(pem(key, "metadata.tls.key")?),
            client_ca: from.ca.as_deref().map(|ca| pem(ca, "metadata.tls.ca")).transpose()?,
        }),
        _ => None,
    };
    Ok(ServerSecurity { token: token(config)?, tls })
}

/// How this process shows who it is, and knows whom it calls.
pub(super) fn client_security(config: &Config) -> Result<ClientSecurity, Failure> {
    let from = &config.metadata.tls;
    let tls = match &from.ca {
        Some(ca) => Some(ClientTls {
            ca: pem(ca, "metadata.tls.ca")?,
            identity: match (&from.cert, &from.key) {
                (Some(cert), Some(key)) => Some((pem(cert, "metadata.tls.cert")?, Secret::new(pem(key, "metadata.tls.key")?))),
                _ => None,
            },
            domain: from.server_name.clone(),
        }),
        None => None,
    };
    Ok(ClientSecurity { token: token(config)?, tls })
}

fn pem(path: &Path, key: &str) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| Failure::Usage(format!("{key}: {} cannot be read: {error}", path.display())))
}

/// Finds the metadata replicas. What comes back with the client is the ambient whose clock is theirs.
pub(crate) async fn connect_metadata(frame: &Frame, stop: CancellationToken) -> Result<(Arc<Client>, Ambient), Failure> {
    let Frame { config, live, tasks, ambient } = frame;
    let client = ClientConfig {
        endpoints: config.metadata.endpoints.clone(),
        security: client_security(config)?,
        deadline: Duration::from_millis(config.metadata.deadline_ms),
        ..ClientConfig::default()
    };
    let client = Client::connect(client, ambient.clone(), tasks, stop).map_err(|error| Failure::Usage(error.to_string()))?;
    let late = || {
        format!(
            "no metadata replica answers at {}: start one with `lakefall metadata`, or name others in metadata.endpoints",
            config.metadata.endpoints.join(", ")
        )
    };
    until_ready(client.ready(), tasks, START, late).await?.map_err(|error| Failure::Failed(error.to_string()))?;
    certificates::of_a_client(live, Arc::clone(&client));
    let ambient = Ambient { clock: client.clock(), ..ambient.clone() };
    Ok((client, ambient))
}

/// What a gateway and a compactor need to be told. Several processes share the store: a folder must be named, since each
/// one's own would be another.
pub(super) fn require_cluster(config: &Config) -> Result<(), Failure> {
    let missing = |what: &str| Err(Failure::Usage(format!("{what} (`lakefall dev` runs all roles in one process and needs neither)")));
    if config.metadata.endpoints.is_empty() {
        return missing("metadata.endpoints is empty: name the metadata replicas with --metadata http://host:8082");
    }
    if config.store.url.is_none() {
        return missing("store.url is not set: name the store that all processes share with --store s3://bucket/prefix");
    }
    if config.store_url()?.scheme() == "memory" {
        return missing("memory:/// is one process's own: name a store that all processes reach with --store s3://bucket/prefix");
    }
    Ok(())
}

pub(crate) fn metadata_failure(error: StoreError) -> Failure {
    Failure::Failed(error.to_string())
}

pub(crate) fn node_config(config: &Config) -> NodeConfig {
    let from = &config.metadata;
    NodeConfig {
        shards: from.shards,
        checkpoint_entries: from.checkpoint_entries,
        checkpoint_bytes: from.checkpoint_bytes,
        recent_extents: from.recent_extents,
    }
}

pub(super) fn cache_config(config: &Config) -> CacheConfig {
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

/// Starts the collector. It stops with the first word of the stop, long before the metadata service that it asks: what it was
/// at is taken up again.
pub(super) fn start_collector(config: &Config, metadata: Arc<dyn Metadata>, store: Store, ambient: Ambient, tasks: &Tasks) {
    let folder = config.store_url().ok().filter(|url| url.scheme() == "file").and_then(|url| url.to_file_path().ok());
    let collector = Collector::new(collector_config(config), metadata, store, ambient).with_local_folder(folder);
    tasks.spawn_critical("collector", collector.run(tasks.token()));
}

/// Starts the compactor, if this process is to have one. It stops like the collector, but for a last report of usage: what is
/// returned is cancelled when it asks the metadata service no more.
pub(super) fn start_compactor(
    frame: &Frame,
    metadata: Arc<dyn Metadata>,
    store: Store,
    ambient: Ambient,
) -> Result<CancellationToken, Failure> {
    let Frame { config, live, tasks, .. } = frame;
    let ended = CancellationToken::new();
    let from = &config.compactor;
    if !from.enabled {
        ended.cancel();
        return Ok(ended);
    }
    let settings = CompactorConfig {
        threads: from.threads,
        max_bytes_per_second: from.max_bytes_per_second,
        merge_interval: Duration::from_secs(from.merge_interval_seconds),
        roll_bytes: from.roll_bytes,
        delete_retention: Duration::from_secs(from.delete_retention_seconds),
        tables_root: config.store_url().ok().map(|url| url.to_string()),
        usage_interval: Duration::from_millis(config.usage.report_interval_ms),
        ..CompactorConfig::default()
    };
    let columns = Arc::new(SchemaColumns::new(Arc::clone(&metadata)));
    let catalog = catalog_settings(config)?.map(Catalog::new).transpose().map_err(Failure::Usage)?;
    let compactor = Compactor::new(settings, metadata, store, ambient, columns).with_catalog(catalog);
    let bound = compactor.bound();
    live.on_change(move |config| {
        let (bound, most) = (bound.clone(), config.compactor.max_bytes_per_second);
        Ok(Box::new(move || bound.set(most)))
    });
    let (stop, over) = (tasks.token(), ended.clone().drop_guard());
    tasks.spawn_critical("compactor", async move {
        let done = compactor.run(stop).await;
        drop(over);
        done
    });
    Ok(ended)
}

/// The catalog that tables are committed to, if there is one.
fn catalog_settings(config: &Config) -> Result<Option<CatalogSettings>, Failure> {
    let from = &config.catalog;
    let Some(uri) = &from.uri else { return Ok(None) };
    let url = |key, text: &str| catalog_url(key, text).map_err(Failure::Usage);
    let secret = secret(from.client_secret.as_ref(), from.client_secret_file.as_deref(), "catalog.client_secret_file")?;
    let access = match (&from.client_id, secret, &from.token, &from.token_file) {
        (Some(id), Some(secret), ..) => Access::Client {
            id: id.clone(),
            secret: Secret::new(secret),
            uri: from.oauth_uri.as_deref().map(|text| url("catalog.oauth_uri", text)).transpose()?,
            scope: from.scope.clone(),
        },
        (_, _, Some(token), _) => Access::Token(token.clone()),
        (_, _, None, Some(file)) => Access::TokenFile(file.clone()),
        (_, _, None, None) => Access::Open,
    };
    Ok(Some(CatalogSettings {
        uri: url("catalog.uri", uri)?,
        warehouse: from.warehouse.clone(),
        parent: from.parent_levels(),
        access,
        ca: from.ca_file.as_deref().map(|ca| pem(ca, "catalog.ca_file")).transpose()?,
        timeout: Duration::from_millis(from.timeout_ms),
    }))
}

fn collector_config(config: &Config) -> CollectorConfig {
    let from = &config.collector;
    CollectorConfig {
        grace: Duration::from_secs(from.grace_seconds),
        interval: Duration::from_secs(from.interval_seconds),
        orphan_grace: Duration::from_secs(from.orphan_grace_seconds),
        orphan_interval: Duration::from_secs(from.orphan_interval_seconds),
        ..CollectorConfig::default()
    }
}

pub(super) fn engine_config(config: &Config, receipt_keys: ReceiptKeys) -> Result<EngineConfig, Failure> {
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
    let sql = SqlConfig {
        max_concurrent: config.sql.max_concurrent,
        memory_bytes: config.sql.memory_bytes,
        timeout: Duration::from_millis(config.sql.timeout_ms),
        max_rows: config.sql.max_rows,
        threads: config.sql.threads,
    };
    Ok(EngineConfig {
        ingest,
        limits: config.limits.clone(),
        read_buffer_bytes: config.read.buffer_bytes,
        receipt_keys,
        sql,
        usage_interval: Duration::from_millis(config.usage.report_interval_ms),
    })
}

/// Which requests are traced: none where nobody records.
pub(super) fn sampling(config: &Config) -> Option<Sampling> {
    let from = &config.telemetry;
    trace::is_enabled().then_some(Sampling { ratio: from.sample_ratio, parent_based: from.parent_based })
}

pub(super) fn listen_config(config: &Config) -> ListenConfig {
    let http = &config.http;
    ListenConfig {
        header_timeout: Duration::from_millis(http.header_timeout_ms),
        body_timeout: Duration::from_millis(http.body_timeout_ms),
        write_timeout: Duration::from_millis(http.write_timeout_ms),
        idle_timeout: Duration::from_millis(http.idle_timeout_ms),
        max_connections: http.max_connections,
        idle_drain: Duration::from_millis(http.idle_drain_ms.min(http.drain_ms / 2)),
        max_age: Duration::from_millis(http.connection_age_ms),
    }
}
