//! The S3 client for what objects alone do not tell: buckets and their settings. Its errors become a few words.

use std::error::Error as StdError;

use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{RequestChecksumCalculation, ResponseChecksumValidation};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use url::Url;

use crate::store::{Chain, StoreError, StoreOptions, endpoint, path_style, region};

/// A client, its bucket, and where in the bucket the store lies.
pub(super) struct Admin {
    pub(super) client: Client,
    pub(super) bucket: String,
    /// Empty, or ends with a slash.
    pub(super) prefix: String,
    pub(super) region: String,
    /// Whether the service is AWS itself.
    pub(super) is_aws: bool,
}

impl Admin {
    pub(super) async fn open(url: &Url, options: &StoreOptions, chain: Option<Chain>) -> Result<Self, StoreError> {
        let Some(bucket) = url.host_str() else {
            return Err(StoreError::Other { reason: format!("{url} names no bucket: use s3://bucket/prefix") });
        };
        let s3 = &options.s3;
        let region = region(s3).await;
        let timeouts =
            TimeoutConfig::builder().operation_attempt_timeout(options.request_timeout).connect_timeout(options.connect_timeout).build();
        let mut config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(region.clone()))
            .force_path_style(path_style(s3))
            // Services that are not AWS know no checksums where none are due.
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .retry_config(RetryConfig::standard().with_max_attempts(2))
            .timeout_config(timeouts);
        if let Some(endpoint) = endpoint(s3) {
            config = config.endpoint_url(endpoint);
        }
        config = match (&s3.access_key, chain) {
            (Some(key), _) => config.credentials_provider(Credentials::new(&key.id, &key.secret, None, None, "settings")),
            (None, Some(chain)) => config.credentials_provider(chain),
            (None, None) => config.allow_no_auth(),
        };
        let prefix = url.path().trim_matches('/');
        Ok(Self {
            client: Client::from_conf(config.build()),
            bucket: bucket.to_owned(),
            prefix: if prefix.is_empty() { String::new() } else { format!("{prefix}/") },
            region,
            is_aws: endpoint(s3).is_none(),
        })
    }
}

/// Why the service did not do it.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) status: Option<u16>,
    pub(super) code: String,
    pub(super) text: String,
}

impl Refused {
    /// The service does not know the request at all.
    pub(super) fn is_unknown_request(&self) -> bool {
        self.status == Some(501) || self.code == "NotImplemented" || self.code == "MethodNotAllowed"
    }

    pub(super) fn is_denied(&self) -> bool {
        self.status == Some(403)
    }
}

impl<E> From<SdkError<E>> for Refused
where
    E: ProvideErrorMetadata + StdError + 'static,
{
    fn from(error: SdkError<E>) -> Self {
        let status = error.raw_response().map(|response| response.status().as_u16());
        let code = error.code().unwrap_or_default().to_owned();
        let text = match (status, error.message()) {
            (Some(status), Some(message)) => format!("{status} {code}: {message}"),
            (Some(status), None) => format!("{status} {code}").trim_end().to_owned(),
            (None, _) => chain(&error),
        };
        Self { status, code, text }
    }
}

/// What broke before there was an answer stands in the causes.
fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(at) = cause {
        text = format!("{text}: {at}");
        cause = at.source();
    }
    text
}
