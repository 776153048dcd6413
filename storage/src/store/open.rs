//! Opens a store by URL. Credentials come from the environment or the platform, never from the options or the URL.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};
use serde::{Deserialize, Serialize};
use url::Url;

use super::local::LocalDirectories;
use super::{Store, StoreError};

/// How a store is reached. Everything has a default that fits its kind of store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreOptions {
    /// Sync file and directory before a write counts (local directories only; default true). Without it a power cut
    /// loses acknowledged records: for benchmarks and tests.
    pub fsync: bool,
    /// Longest single request to a remote store. Default 30 s. Shorter gives up sooner on a stalled connection;
    /// too short never finishes a large object on a slow line.
    #[serde(with = "lakefall_queue::time::duration")]
    pub request_timeout: Duration,
    /// Longest wait for a connection to a remote store. Default 5 s.
    #[serde(with = "lakefall_queue::time::duration")]
    pub connect_timeout: Duration,
    /// How often a failed request is repeated before the caller hears of it. Default 3. Fewer lets the upload rate
    /// adapt sooner when the store throttles; more hides short failures.
    pub retries: usize,
    /// No repetition begins later than this after the first attempt. Default 15 s.
    #[serde(with = "lakefall_queue::time::duration")]
    pub retry_for: Duration,
    /// For `s3://` URLs.
    pub s3: S3Options,
}

/// What an S3 URL cannot say. Credentials come from `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and the like, or from
/// the instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct S3Options {
    /// The service's URL, for anything but AWS. Default: `AWS_ENDPOINT_URL`, or AWS.
    pub endpoint: Option<String>,
    /// Default: `AWS_REGION`, or `us-east-1`.
    pub region: Option<String>,
    /// Bucket in the path rather than in the host name, as most other services want it. Default true with an
    /// endpoint, false without.
    pub path_style: Option<bool>,
    /// Allow an `http://` endpoint. Default false: requests and data would travel readable.
    pub allow_http: bool,
    /// Send requests without a signature, for services that ask for none. Default false.
    pub unsigned: bool,
    /// Goes before the environment's credentials.
    #[serde(skip)]
    pub access_key: Option<AccessKey>,
}

/// A key for S3. Its secret is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessKey {
    /// The key's id.
    pub id: String,
    /// Its secret.
    pub secret: String,
}

impl fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessKey").field("id", &self.id).field("secret", &"<redacted>").finish()
    }
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            fsync: true,
            request_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
            retries: 3,
            retry_for: Duration::from_secs(15),
            s3: S3Options::default(),
        }
    }
}

impl Store {
    /// Opens `file:///directory` (created if missing), `memory:///`, or `s3://bucket/prefix`. Sends no request to a
    /// remote store; a directory is created and synced, which blocks for some milliseconds.
    pub fn open(url: &Url, options: &StoreOptions) -> Result<Self, StoreError> {
        match url.scheme() {
            "file" => open_directory(url, options),
            "memory" => Ok(Self { inner: Arc::new(InMemory::new()), local: None }),
            "s3" => open_s3(url, options),
            other => Err(wrong(format!("{other}:// is not a store: use file:///directory, memory:/// or s3://bucket/prefix"))),
        }
    }
}

fn open_directory(url: &Url, options: &StoreOptions) -> Result<Store, StoreError> {
    let root = url.to_file_path().map_err(|()| wrong(format!("{url} does not name a local directory: use file:///directory")))?;
    let failed = |error: std::io::Error| match StoreError::from_io(&error) {
        StoreError::Unavailable { .. } => wrong(format!("{} cannot be opened: {error}", root.display())),
        other => other,
    };
    let local = LocalDirectories::open(root.clone()).map_err(failed)?;
    let inner = LocalFileSystem::new_with_prefix(&root)?.with_fsync(options.fsync);
    Ok(Store { inner: Arc::new(inner), local: Some(Arc::new(local)) })
}

fn open_s3(url: &Url, options: &StoreOptions) -> Result<Store, StoreError> {
    let bucket = url.host_str().ok_or_else(|| wrong(format!("{url} names no bucket: use s3://bucket/prefix")))?;
    let client = ClientOptions::new().with_timeout(options.request_timeout).with_connect_timeout(options.connect_timeout);
    let retry = RetryConfig { backoff: BackoffConfig::default(), max_retries: options.retries, retry_timeout: options.retry_for };
    let s3 = &options.s3;
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_client_options(client.with_allow_http(s3.allow_http))
        .with_retry(retry)
        .with_skip_signature(s3.unsigned)
        .with_virtual_hosted_style_request(!s3.path_style.unwrap_or(s3.endpoint.is_some()));
    if let Some(endpoint) = &s3.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    if let Some(region) = &s3.region {
        builder = builder.with_region(region);
    }
    if let Some(AccessKey { id, secret }) = &s3.access_key {
        builder = builder.with_access_key_id(id).with_secret_access_key(secret);
    }
    let bucket = builder.build()?;
    let prefix = Path::from_url_path(url.path()).map_err(|error| wrong(error.to_string()))?;
    let inner: Arc<dyn ObjectStore> =
        if prefix.as_ref().is_empty() { Arc::new(bucket) } else { Arc::new(PrefixStore::new(bucket, prefix)) };
    Ok(Store { inner, local: None })
}

fn wrong(reason: String) -> StoreError {
    StoreError::Other { reason }
}
