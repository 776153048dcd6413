//! How a store is reached: settings as data, each with what it trades and its default. Nothing here opens or sends.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

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
    /// How often a failed request is repeated before the caller hears of it. Default 3. More hides longer failures. A PUT
    /// that the store throttles is never repeated here, so that the upload rate adapts at once.
    pub retries: u32,
    /// No repetition begins later than this after the first attempt. Default 15 s.
    #[serde(with = "lakefall_queue::time::duration")]
    pub retry_for: Duration,
    /// Repetitions that a quiet time saves up, over all callers of the store. Each costs one, each success earns a tenth:
    /// so a store that answers nothing but errors gets at most this many requests more than were asked for, and a tenth
    /// more under steady failures. Default 20; 0 repeats nothing.
    pub retry_budget: u32,
    /// Reads that may be asked a second time because the first answer is late, in percent of all reads; the first of the
    /// two answers wins. It cuts the slowest reads for that many more requests. Default 5, at most 50; 0 turns it off. A
    /// local store never hedges.
    pub hedge_percent: u8,
    /// For `s3://` URLs.
    pub s3: S3Options,
}

/// What an S3 URL cannot say. Without [`S3Options::access_key`], credentials come from AWS's usual places, in AWS's order:
/// environment, shared configuration and profile, web identity (IRSA), container (ECS, EKS pod identity), instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct S3Options {
    /// The service's URL, for anything but AWS. Default: `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL`, or AWS.
    pub endpoint: Option<String>,
    /// Default: `AWS_REGION`, `AWS_DEFAULT_REGION`, the profile's, on AWS the instance's; else `us-east-1`.
    pub region: Option<String>,
    /// Bucket in the path rather than in the host name, as most other services want it. Default true with an
    /// endpoint, false without.
    pub path_style: Option<bool>,
    /// Allow an `http://` endpoint. Default false: requests and data would travel readable.
    pub allow_http: bool,
    /// Send requests without a signature, for services that ask for none. Default false.
    pub unsigned: bool,
    /// How the service encrypts what is stored. Default none: what the bucket says.
    pub sse: Encryption,
    /// Send a SHA-256 with each object, by which the service refuses an upload that was damaged on the way. Default true;
    /// for services that refuse the header, false: the signature still covers the content.
    pub checksum: bool,
    /// Goes before all other credentials.
    #[serde(skip)]
    pub access_key: Option<AccessKey>,
}

/// Encryption by the service, asked for with each PUT.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Encryption {
    /// Ask for nothing: the bucket's own setting holds. Written `none`.
    #[default]
    None,
    /// With keys of the service. Written `AES256`.
    Aes256,
    /// With this key of the key management service. Written as the key's id or ARN.
    Kms(String),
}

impl From<String> for Encryption {
    fn from(text: String) -> Self {
        match text.as_str() {
            "" | "none" => Self::None,
            "AES256" => Self::Aes256,
            _ => Self::Kms(text),
        }
    }
}

impl From<Encryption> for String {
    fn from(encryption: Encryption) -> Self {
        encryption.to_string()
    }
}

impl fmt::Display for Encryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Aes256 => "AES256",
            Self::Kms(key) => key,
        })
    }
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
            retry_budget: 20,
            hedge_percent: 5,
            s3: S3Options::default(),
        }
    }
}

impl Default for S3Options {
    fn default() -> Self {
        Self {
            endpoint: None,
            region: None,
            path_style: None,
            allow_http: false,
            unsigned: false,
            sse: Encryption::None,
            checksum: true,
            access_key: None,
        }
    }
}
