//! Opening stores and what they promise.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use lakefall_queue::{SegmentId, Timestamp};
use lakefall_storage::store::{Encryption, Store, StoreError, StoreOptions};
use url::Url;

const KEY: &str = "seg/00/a.seg";

fn chunks() -> Vec<Bytes> {
    vec![Bytes::from_static(b"first "), Bytes::new(), Bytes::from_static(b"second")]
}

fn open(url: &str) -> Result<Store, StoreError> {
    Store::open(&Url::parse(url).unwrap(), &StoreOptions::default())
}

/// Keeps a store there.
type Kept = Box<dyn std::any::Any>;

/// Every kind of store that can be had here: all must pass the same tests.
async fn stores() -> Vec<(Store, Kept)> {
    let directory = tempfile::tempdir().unwrap();
    let url = Url::from_directory_path(directory.path().join("not/there/yet")).unwrap();
    let (bucket, server) = crate::real_s3::store().await;
    let (memory, local) = (open("memory:///").unwrap(), open(url.as_str()).unwrap());
    vec![(memory, Box::new(())), (local, Box::new(directory)), (bucket, Box::new(server))]
}

#[tokio::test]
async fn an_object_is_written_once_read_in_parts_listed_and_deleted() {
    for (store, _keep) in stores().await {
        store.put_new(KEY, chunks()).await.unwrap();
        assert_eq!(store.get_range(KEY, 4..8).await.unwrap(), "t se");
        assert_eq!(store.get_range(KEY, 4..4).await.unwrap(), "");
        assert_eq!(store.get_range(KEY, 6..1_000).await.unwrap(), "second");
        let info = store.head(KEY).await.unwrap();
        assert_eq!((info.key.as_str(), info.size), (KEY, 12));
        store.put_new("tables/n/t/x.parquet", chunks()).await.unwrap();
        assert_eq!(store.list("seg").try_collect::<Vec<_>>().await.unwrap(), [info]);
        assert_eq!(store.list("").try_collect::<Vec<_>>().await.unwrap().len(), 2);
        store.delete(KEY).await.unwrap();
        store.delete(KEY).await.unwrap();
        assert!(matches!(store.head(KEY).await, Err(StoreError::NotFound { .. })));
        assert!(matches!(store.get_range(KEY, 0..1).await, Err(StoreError::NotFound { .. })));
    }
}

#[tokio::test]
async fn a_repeated_put_of_the_same_content_succeeds_and_other_content_collides() {
    for (store, _keep) in stores().await {
        store.put_new(KEY, chunks()).await.unwrap();
        store.put_new(KEY, vec![Bytes::from_static(b"first second")]).await.unwrap();
        for other in [&b"first Second"[..], b"shorter"] {
            let answer = store.put_new(KEY, vec![Bytes::from_static(other)]).await;
            assert_eq!(answer, Err(StoreError::Collision { key: KEY.to_owned() }));
        }
        assert_eq!(store.get_range(KEY, 0..12).await.unwrap(), "first second");
    }
}

#[tokio::test]
async fn control_objects_are_written_over_and_live_apart() {
    for (store, _keep) in stores().await {
        assert_eq!(store.get_control("meta/marks/0").await.unwrap(), None);
        for text in ["one", "two, which is longer", ""] {
            store.put_control("meta/marks/0", Bytes::from(text)).await.unwrap();
            assert_eq!(store.get_control("meta/marks/0").await.unwrap().unwrap(), text);
        }
        assert!(matches!(store.put_control(KEY, Bytes::new()).await, Err(StoreError::Other { .. })));
    }
}

#[tokio::test]
async fn a_directory_keeps_its_objects_when_it_is_opened_again() {
    let directory = tempfile::tempdir().unwrap();
    let url = Url::from_directory_path(directory.path()).unwrap();
    let key = SegmentId::mint(Timestamp::from_millis(1_700_000_000_000), 7).key();
    open(url.as_str()).unwrap().put_new(&key, chunks()).await.unwrap();
    assert_eq!(open(url.as_str()).unwrap().head(&key).await.unwrap().size, 12);
}

#[tokio::test]
async fn a_directory_that_may_not_be_written_is_denied_or_refused_at_once() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let below = Url::from_file_path(file.path().join("below")).unwrap();
    assert!(matches!(open(below.as_str()), Err(StoreError::Other { .. } | StoreError::Denied { .. })));
}

#[test]
fn a_url_that_is_no_store_says_what_is() {
    for url in ["http://host/", "ftp://host/x", "s3:///prefix", "gs:///prefix", "az:///prefix", "file://host/x"] {
        let Err(StoreError::Other { reason }) = open(url) else { panic!("{url}") };
        assert!(["file:///", "s3://bucket", "gs://bucket", "az://container"].iter().any(|known| reason.contains(known)), "{reason}");
    }
    assert!(serde_json::from_str::<StoreOptions>(r#"{"fsync": true, "fsink": true}"#).is_err());
    let mut options = StoreOptions::default();
    for sse in [Encryption::None, Encryption::Aes256, Encryption::Kms("key/1".to_owned())] {
        options.s3.sse = sse;
        let shown = serde_json::to_value(&options).unwrap();
        assert_eq!(serde_json::from_value::<StoreOptions>(shown).unwrap(), options);
    }
}

#[test]
fn buckets_of_other_clouds_are_opened_without_asking_them() {
    open("gs://bucket/some/prefix").unwrap();
    open("abfss://container@account.dfs.core.windows.net/some/prefix").unwrap();
    // Without an account there is nothing to ask; unless the machine has one set.
    if std::env::var_os("AZURE_STORAGE_ACCOUNT_NAME").is_none() {
        let Err(StoreError::Other { reason }) = open("az://container/some/prefix") else { panic!("it needs an account") };
        assert!(reason.contains("AZURE_STORAGE_ACCOUNT_NAME"), "{reason}");
    }
}

/// Answers every connection with `status` and counts them.
fn answering(status: &'static str) -> (String, Arc<AtomicUsize>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let mut request = [0; 16 << 10];
            let _ = connection.read(&mut request).unwrap();
            counted.fetch_add(1, Ordering::SeqCst);
            let _ = write!(connection, "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        }
    });
    (address, count)
}

#[tokio::test]
async fn an_s3_status_becomes_what_the_caller_should_do() {
    for (status, kind) in [
        ("503 Slow Down", "throttled"),
        ("429 Too Many Requests", "throttled"),
        ("500 Internal Server Error", "unavailable"),
        ("403 Forbidden", "denied"),
        ("404 Not Found", "not_found"),
        ("400 Bad Request", "other"),
    ] {
        let (endpoint, count) = answering(status);
        let mut options = StoreOptions { retries: 0, request_timeout: Duration::from_secs(5), ..StoreOptions::default() };
        options.s3.endpoint = Some(endpoint);
        options.s3.allow_http = true;
        options.s3.unsigned = true;
        let store = Store::open(&Url::parse("s3://bucket/some/prefix").unwrap(), &options).unwrap();
        let error = store.head(KEY).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{status}: {error}");
        assert_eq!(count.load(Ordering::SeqCst), 1, "{status}");
    }
}

/// A store that somebody else opened tells the status in its text only: this fails when an upgrade rewords it.
#[tokio::test]
async fn the_status_is_found_in_the_text_where_nobody_listens() {
    for (status, kind) in [("503 Slow Down", "throttled"), ("500 Internal Server Error", "unavailable"), ("400 Bad Request", "other")] {
        let (endpoint, _) = answering(status);
        let retry = object_store::RetryConfig { max_retries: 0, ..object_store::RetryConfig::default() };
        let service = object_store::aws::AmazonS3Builder::new()
            .with_bucket_name("bucket")
            .with_endpoint(endpoint)
            .with_allow_http(true)
            .with_skip_signature(true)
            .with_retry(retry);
        let store = Store::over(Arc::new(service.build().unwrap()));
        let error = store.head(KEY).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{status}: {error}");
    }
}
