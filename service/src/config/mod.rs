//! The configuration of every role: one tree, read once at start. A setting is data with a reason; this module must never
//! read a setting anywhere else than from the layers in [`load`], and never show a secret.

mod bounds;
mod catalog;
mod load;
#[cfg(test)]
mod manual_tests;
mod metadata;
mod sections;
mod telemetry;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use lakefall_queue::limits::Limits;
use serde::{Deserialize, Serialize};
use url::Url;

pub use catalog::{CatalogConfig, catalog_url};
pub use load::{ConfigError, Sources};
pub use metadata::{MetadataConfig, MetadataTlsConfig, PostgresSettings, PostgresTls};
pub use sections::{
    CacheConfig, CollectorConfig, CompactorConfig, HttpConfig, IngestConfig, LogConfig, LogFormat, ReadConfig, ReceiptsConfig,
    SegmentConfig, SqlConfig, StoreConfig, UploadsConfig, UsageConfig,
};
pub use telemetry::{TelemetryConfig, TelemetryProtocol, endpoint_of, pairs_of};

/// Everything that can be set. Sizes are bytes, times milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the public HTTP API listens. Another address than loopback opens an unauthenticated API to the network.
    /// Default 127.0.0.1:8080; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where health, metrics and debug pages listen; never make it public. Default 127.0.0.1:8081.
    pub admin_listen: SocketAddr,
    /// The folder of everything kept on local disk. Losing it loses the data of the embedded default. Default ./lakefall-data.
    pub data_dir: PathBuf,
    /// Where objects are kept.
    pub store: StoreConfig,
    /// Where order is kept.
    pub metadata: MetadataConfig,
    /// How records become objects: the dial between latency and the bill.
    pub segment: SegmentConfig,
    /// How objects are uploaded.
    pub uploads: UploadsConfig,
    /// How much is accepted before it is stored.
    pub ingest: IngestConfig,
    /// How much readers hold at once.
    pub read: ReadConfig,
    /// What statements of SQL may use.
    pub sql: SqlConfig,
    /// What receipts are sealed with.
    pub receipts: ReceiptsConfig,
    /// What is kept near for readers.
    pub cache: CacheConfig,
    /// How what nobody needs any more is let go of.
    pub collector: CollectorConfig,
    /// How segments become Parquet files.
    pub compactor: CompactorConfig,
    /// Where tables are told beside the bucket.
    pub catalog: CatalogConfig,
    /// How what topics use is counted.
    pub usage: UsageConfig,
    /// Timeouts and caps of connections.
    pub http: HttpConfig,
    /// What one caller may send or ask for at once.
    pub limits: Limits,
    /// What is logged, and how.
    pub log: LogConfig,
    /// What an OpenTelemetry collector is sent.
    pub telemetry: TelemetryConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            admin_listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8081)),
            data_dir: PathBuf::from("./lakefall-data"),
            store: StoreConfig::default(),
            metadata: MetadataConfig::default(),
            segment: SegmentConfig::default(),
            uploads: UploadsConfig::default(),
            ingest: IngestConfig::default(),
            read: ReadConfig::default(),
            sql: SqlConfig::default(),
            receipts: ReceiptsConfig::default(),
            cache: CacheConfig::default(),
            collector: CollectorConfig::default(),
            compactor: CompactorConfig::default(),
            catalog: CatalogConfig::default(),
            usage: UsageConfig::default(),
            http: HttpConfig::default(),
            limits: Limits::default(),
            log: LogConfig::default(),
            telemetry: TelemetryConfig::default(),
        }
    }
}

impl Config {
    /// The defaults of `lakefall dev`: one shard, since one process owns them all; a stop that waits for nobody who is idle, since
    /// there is no other gateway to go to.
    pub fn dev() -> Self {
        let metadata = MetadataConfig { shards: 1, ..MetadataConfig::default() };
        let http = HttpConfig { idle_drain_ms: 0, ..HttpConfig::default() };
        Self { metadata, http, ..Self::default() }
    }

    /// Reads the layers over `base`: file, then environment, then flags. What is returned is within bounds.
    pub fn load(base: Self, sources: &Sources) -> Result<Self, ConfigError> {
        load::load(base, sources)
    }

    /// All settings that are out of bounds, each as a sentence.
    pub fn check(&self) -> Result<(), ConfigError> {
        bounds::check(self)
    }

    /// The effective configuration as TOML, secrets redacted. Settings without a value are left out.
    pub fn render(&self) -> Result<String, ConfigError> {
        toml::to_string_pretty(self).map_err(|error| ConfigError::Invalid(error.to_string()))
    }

    /// Where objects are kept: `store.url`, or the folder `objects` of the data directory.
    pub fn store_url(&self) -> Result<Url, ConfigError> {
        match &self.store.url {
            Some(url) => Url::parse(url).map_err(|error| ConfigError::Invalid(format!("store.url is no URL: {error}"))),
            None => {
                let folder = absolute(&self.data_dir)?.join("objects");
                Url::from_directory_path(&folder)
                    .map_err(|()| ConfigError::Invalid(format!("{} cannot be written as a URL", folder.display())))
            }
        }
    }

    /// Where order is kept: `metadata.url`, or an SQLite file in the data directory.
    pub fn metadata_url(&self) -> Result<String, ConfigError> {
        match &self.metadata.url {
            Some(url) => Ok(url.clone()),
            None => Ok(format!("sqlite://{}", absolute(&self.data_dir)?.join("metadata.sqlite").display())),
        }
    }

    /// PUT requests per second that this process may spend; `None` is no limit. Without a setting, stores that bill for
    /// requests get 10 and local ones no limit.
    pub fn puts_per_second(&self) -> Result<Option<f64>, ConfigError> {
        if let Some(rate) = self.segment.puts_per_second {
            return Ok(Some(rate));
        }
        let local = matches!(self.store_url()?.scheme(), "file" | "memory");
        Ok(if local { None } else { Some(sections::PUTS_PER_SECOND_BILLED) })
    }
}

fn absolute(path: &Path) -> Result<PathBuf, ConfigError> {
    std::path::absolute(path).map_err(|error| ConfigError::Invalid(format!("data_dir {}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Secret;

    #[test]
    fn the_defaults_are_within_their_own_bounds() {
        Config::default().check().unwrap();
        Config::dev().check().unwrap();
    }

    #[test]
    fn a_rendered_configuration_reads_back_as_itself() {
        let config = Config::dev();
        let text = config.render().unwrap();
        assert_eq!(toml::from_str::<Config>(&text).unwrap(), config);
    }

    #[test]
    fn a_rendered_configuration_shows_no_secret() {
        let mut config = Config::default();
        config.store.secret_access_key = Some(Secret::new("hunter2".into()));
        config.metadata.url = Some("postgres://me:hunter2@db/lakefall".into());
        config.receipts.key = Some(Secret::new("hunter2".into()));
        config.receipts.previous = vec![Secret::new("hunter2".into())];
        config.telemetry.headers = Some(Secret::new("api-key=hunter2".into()));
        config.telemetry.endpoint = Some("https://me:hunter2@collector".into());
        config.catalog.uri = Some("https://me:hunter2@catalog".into());
        config.catalog.token = Some(Secret::new("hunter2".into()));
        config.catalog.client_secret = Some(Secret::new("hunter2".into()));
        let text = config.render().unwrap();
        assert!(!text.contains("hunter2") && text.contains("postgres://me:redacted@db"), "{text}");
        assert!(!format!("{:?}", config.store).contains("hunter2"));
    }

    #[test]
    fn puts_are_unlimited_where_they_are_free_and_ten_where_they_are_billed() {
        let mut config = Config::default();
        assert_eq!(config.puts_per_second().unwrap(), None);
        config.store.url = Some("s3://bucket/prefix".into());
        assert_eq!(config.puts_per_second().unwrap(), Some(10.0));
        config.segment.puts_per_second = Some(2.5);
        assert_eq!(config.puts_per_second().unwrap(), Some(2.5));
    }

    #[test]
    fn the_default_places_lie_in_the_data_directory() {
        let config = Config { data_dir: "/var/lib/lakefall".into(), ..Config::default() };
        assert_eq!(config.store_url().unwrap().as_str(), "file:///var/lib/lakefall/objects/");
        assert_eq!(config.metadata_url().unwrap(), "sqlite:///var/lib/lakefall/metadata.sqlite");
    }
}
