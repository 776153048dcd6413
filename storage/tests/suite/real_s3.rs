//! The same promises over a real S3 server: it checks signatures, conditions and checksums itself.

use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use lakefall_servers::S3;
use lakefall_storage::store::{AccessKey, Store, StoreError, StoreOptions};
use url::Url;

pub(crate) fn options(s3: &S3) -> StoreOptions {
    let mut options = StoreOptions { request_timeout: Duration::from_secs(20), ..StoreOptions::default() };
    options.s3.endpoint = Some(s3.endpoint());
    options.s3.region = Some(s3.region().to_owned());
    options.s3.allow_http = true;
    options.s3.access_key = Some(AccessKey { id: s3.access_key().to_owned(), secret: s3.secret().to_owned() });
    options
}

pub(crate) fn url(bucket: &str) -> Url {
    Url::parse(&format!("s3://{bucket}/some/prefix")).unwrap()
}

pub(crate) async fn store() -> (Store, std::sync::Arc<S3>) {
    let s3 = S3::shared().await;
    let bucket = s3.fresh_bucket().await;
    (Store::open(&url(&bucket), &options(&s3)).unwrap(), s3)
}

fn content(number: usize) -> Bytes {
    Bytes::from(vec![number as u8; 100_000])
}

#[tokio::test(flavor = "multi_thread")]
async fn of_twenty_writers_of_a_key_one_wins_and_its_object_stays() {
    let (store, _s3) = store().await;
    for round in 0..5 {
        let key = format!("seg/00/{round}.seg");
        let answers = join_all((0..20).map(|number| store.put_new(&key, vec![content(number)]))).await;
        let winners: Vec<usize> = (0..20).filter(|number| answers[*number].is_ok()).collect();
        let [winner] = winners.as_slice() else { panic!("{winners:?} won") };
        let others = answers.iter().filter(|answer| matches!(answer, Err(StoreError::Collision { .. }))).count();
        assert_eq!(others, 19, "{answers:?}");
        assert!(store.get_range(&key, 0..100_000).await.unwrap() == content(*winner));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_writers_of_the_same_content_all_succeed() {
    let (store, _s3) = store().await;
    let answers = join_all((0..20).map(|_| store.put_new("seg/00/same.seg", vec![content(7)]))).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_was_changed_is_denied_and_a_store_with_the_new_one_goes_on() {
    let s3 = S3::start().await;
    s3.create_user("ROTATED", "first-secret-of-it").await;
    s3.create_bucket_of("rotated", "ROTATED").await;
    let open = |secret: &str| {
        let mut options = options(&s3);
        options.s3.access_key = Some(AccessKey { id: "ROTATED".to_owned(), secret: secret.to_owned() });
        Store::open(&url("rotated"), &options).unwrap()
    };
    let old = open("first-secret-of-it");
    old.put_new("seg/00/1.seg", vec![content(1)]).await.unwrap();
    s3.set_secret("ROTATED", "second-secret-of-it").await;
    let error = old.put_new("seg/00/2.seg", vec![content(2)]).await.unwrap_err();
    assert!(matches!(error, StoreError::Denied { .. }), "{error}");
    assert!(!error.to_string().contains("secret-of-it"), "{error}");
    open("second-secret-of-it").put_new("seg/00/2.seg", vec![content(2)]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_bucket_is_told_apart_from_a_missing_object() {
    let (store, s3) = store().await;
    assert!(matches!(store.get_range("seg/00/none.seg", 0..1).await, Err(StoreError::NotFound { .. })));
    let nowhere = Store::open(&url("no-such-bucket"), &options(&s3)).unwrap();
    for error in [nowhere.get_range("seg/00/none.seg", 0..1).await.unwrap_err(), nowhere.put_new("a", vec![]).await.unwrap_err()] {
        assert!(matches!(&error, StoreError::Other { reason } if reason.contains("lakefall bucket init")), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_for_a_moment_costs_nobody_an_object() {
    let s3 = S3::start().await;
    s3.create_bucket("away").await;
    let store = Store::open(&url("away"), &options(&s3)).unwrap();
    store.put_new("seg/00/1.seg", vec![content(1)]).await.unwrap();
    s3.kill_nine().await;
    let (put, (), got) =
        tokio::join!(store.put_new("seg/00/2.seg", vec![content(2)]), s3.start_again(), store.get_range("seg/00/1.seg", 0..100_000));
    // Either may have given up before the server was back; what counts is that asking again is right.
    if put.is_err() {
        store.put_new("seg/00/2.seg", vec![content(2)]).await.unwrap();
    }
    assert!(got.is_err() || got.unwrap() == content(1));
    assert!(store.get_range("seg/00/2.seg", 0..100_000).await.unwrap() == content(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_goes_between_a_store_and_its_service() {
    let (store, s3) = store().await;
    let bucket = s3.fresh_bucket().await;
    let below = Store::open(&url(&bucket), &options(&s3)).unwrap();
    let layered = below.through(|inner| std::sync::Arc::new(object_store::prefix::PrefixStore::new(inner, "below")));
    layered.put_new("a", vec![content(1)]).await.unwrap();
    assert!(s3.object_path(&bucket, "some/prefix/below/a").exists());
    assert!(matches!(store.head("below/a").await, Err(StoreError::NotFound { .. })));
}
