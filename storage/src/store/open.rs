//! Opens a store by URL. Nothing is sent: what a service thinks of the credentials shows with the first request.

use std::sync::Arc;

use lakefall_queue::clock::Ambient;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};
use url::Url;

use super::ambient::system;
use super::answer::Listening;
use super::credentials::Chain;
use super::effort::Effort;
use super::local::LocalDirectories;
use super::options::StoreOptions;
use super::s3::Bucket;
use super::{NO_ROLE, Store, StoreError};

/// What a store's URL may be.
const KNOWN: &str = "use file:///directory, memory:///, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix";

impl Store {
    /// Opens `file:///directory` (created if missing), `memory:///`, `s3://bucket/prefix`, `gs://bucket/prefix`, or
    /// `az://container/prefix` (also `abfs://` and `abfss://`). Sends no request to a remote store; a directory is created
    /// and synced, which blocks for some milliseconds.
    ///
    /// Credentials of GCS come from `GOOGLE_APPLICATION_CREDENTIALS` and the like, or the instance; those of Azure from
    /// `AZURE_STORAGE_ACCOUNT_NAME`, `AZURE_STORAGE_ACCOUNT_KEY` and the like, or the managed identity.
    pub fn open(url: &Url, options: &StoreOptions) -> Result<Self, StoreError> {
        Self::open_with(url, options, system())
    }

    /// The same with a clock and randomness of one's own.
    pub fn open_with(url: &Url, options: &StoreOptions, ambient: Ambient) -> Result<Self, StoreError> {
        match url.scheme() {
            "file" => open_directory(url, options),
            "memory" => Ok(Self::over(Arc::new(InMemory::new()))),
            "s3" => {
                let chain = own_chain(options, &ambient);
                open_s3(url, options, ambient, chain)
            }
            "gs" => open_gcs(url, options, ambient),
            "az" | "abfs" | "abfss" => open_azure(url, options, ambient),
            other => Err(wrong(format!("{other}:// is not a store: {KNOWN}"))),
        }
    }
}

/// The chain that a store needs: none where its settings say who asks.
pub(crate) fn own_chain(options: &StoreOptions, ambient: &Ambient) -> Option<Chain> {
    (options.s3.access_key.is_none() && !options.s3.unsigned).then(|| Chain::new(ambient.clone()))
}

fn open_directory(url: &Url, options: &StoreOptions) -> Result<Store, StoreError> {
    let root = url.to_file_path().map_err(|()| wrong(format!("{url} does not name a local directory: use file:///directory")))?;
    let failed = |error: std::io::Error| match StoreError::from_io(&error) {
        StoreError::Unavailable { .. } => wrong(format!("{} cannot be opened: {error}", root.display())),
        other => other,
    };
    let local = LocalDirectories::open(root.clone()).map_err(failed)?;
    let inner = LocalFileSystem::new_with_prefix(&root)?.with_fsync(options.fsync);
    Ok(Store { inner: Arc::new(inner), local: Some(Arc::new(local)), effort: None, role: NO_ROLE })
}

/// Over the credentials of `chain`, which may be shared with other clients.
pub(crate) fn open_s3(url: &Url, options: &StoreOptions, ambient: Ambient, chain: Option<Chain>) -> Result<Store, StoreError> {
    let name = url.host_str().ok_or_else(|| wrong(format!("{url} names no bucket: use s3://bucket/prefix")))?;
    let builder = AmazonS3Builder::new()
        .with_bucket_name(name)
        .with_client_options(client(options).with_allow_http(options.s3.allow_http))
        .with_retry(once(options));
    let bucket = Bucket::new(builder, &options.s3, chain.as_ref())?;
    remote(url, bucket, options, ambient, chain)
}

fn open_gcs(url: &Url, options: &StoreOptions, ambient: Ambient) -> Result<Store, StoreError> {
    let name = url.host_str().ok_or_else(|| wrong(format!("{url} names no bucket: use gs://bucket/prefix")))?;
    let bucket = GoogleCloudStorageBuilder::from_env()
        .with_bucket_name(name)
        .with_client_options(client(options))
        .with_retry(once(options))
        .with_http_connector(Listening)
        .build()?;
    remote(url, bucket, options, ambient, None)
}

fn open_azure(url: &Url, options: &StoreOptions, ambient: Ambient) -> Result<Store, StoreError> {
    url.host_str().ok_or_else(|| wrong(format!("{url} names no container: use az://container/prefix")))?;
    let container = MicrosoftAzureBuilder::from_env()
        .with_url(url.as_str())
        .with_client_options(client(options))
        .with_retry(once(options))
        .with_http_connector(Listening)
        .build()
        .map_err(|error| wrong(format!("{error} (Azure needs AZURE_STORAGE_ACCOUNT_NAME)")))?;
    remote(url, container, options, ambient, None)
}

fn client(options: &StoreOptions) -> ClientOptions {
    ClientOptions::new().with_timeout(options.request_timeout).with_connect_timeout(options.connect_timeout)
}

/// Below us nothing is repeated: only here is it known what may be, and how much of it.
fn once(options: &StoreOptions) -> RetryConfig {
    RetryConfig { backoff: BackoffConfig::default(), max_retries: 0, retry_timeout: options.retry_for }
}

fn remote(
    url: &Url,
    service: impl ObjectStore,
    options: &StoreOptions,
    ambient: Ambient,
    chain: Option<Chain>,
) -> Result<Store, StoreError> {
    let prefix = Path::from_url_path(url.path()).map_err(|error| wrong(error.to_string()))?;
    let inner: Arc<dyn ObjectStore> =
        if prefix.as_ref().is_empty() { Arc::new(service) } else { Arc::new(PrefixStore::new(service, prefix)) };
    let kind = if matches!(url.scheme(), "s3" | "gs") { "bucket" } else { "container" };
    let place = format!("{kind} {}", url.host_str().unwrap_or_default());
    Ok(Store { inner, local: None, effort: Some(Arc::new(Effort::new(place, options, ambient, chain))), role: NO_ROLE })
}

fn wrong(reason: String) -> StoreError {
    StoreError::Other { reason }
}
