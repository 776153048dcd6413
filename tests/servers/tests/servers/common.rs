//! An S3 client, and waiting. Must never retry: a test wants to see each answer.

use std::time::Duration;

use aws_credential_types::Credentials;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{BehaviorVersion, Region};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use lakefall_servers::S3;
use tokio::time::Instant;

/// A client of an endpoint as some account.
pub(crate) fn client(endpoint: &str, access_key: &str, secret: &str) -> Client {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(endpoint)
        .region(Region::new(lakefall_servers::s3::REGION))
        .credentials_provider(Credentials::new(access_key, secret, None, None, "tests"))
        .force_path_style(true)
        .retry_config(RetryConfig::disabled())
        .build();
    Client::from_conf(config)
}

/// A client of a server as root.
pub(crate) fn root(s3: &S3) -> Client {
    client(&s3.endpoint(), s3.access_key(), s3.secret())
}

/// The status and code of an answer: `200` and nothing, or the error's; `0` if none came.
pub(crate) fn status<T, E: ProvideErrorMetadata>(answer: &Result<T, SdkError<E>>) -> (u16, String) {
    match answer {
        Ok(_) => (200, String::new()),
        Err(error) => {
            let status = error.raw_response().map_or(0, |response| response.status().as_u16());
            (status, error.code().unwrap_or_default().to_owned())
        }
    }
}

/// Puts an object; status and code.
pub(crate) async fn put(client: &Client, bucket: &str, key: &str, body: Vec<u8>) -> (u16, String) {
    status(&client.put_object().bucket(bucket).key(key).body(ByteStream::from(body)).send().await)
}

/// The whole of an object, or the status and code.
pub(crate) async fn get(client: &Client, bucket: &str, key: &str) -> Result<Vec<u8>, (u16, String)> {
    let answer = client.get_object().bucket(bucket).key(key).send().await;
    let status = status(&answer);
    let Ok(object) = answer else { return Err(status) };
    object.body.collect().await.map(|body| body.to_vec()).map_err(|error| (0, error.to_string()))
}

/// Waits until something is so; fails the test after 20 s.
pub(crate) async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !so().await {
        assert!(Instant::now() < deadline, "after 20 s not yet so: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
