//! The HTTP proxy before the real S3 server: signatures still hold, each fault is done and recorded, and what is counted
//! is what was sent.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::Client;
use http::Method;
use lakefall_servers::http_faults::{Fault, Outcome, Rule};
use lakefall_servers::{HttpFaults, S3};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::common::{client, get, put, root, until};

/// What a test keeps to its end: the shared server stops with its last handle.
struct Setup {
    s3: Arc<S3>,
    proxy: HttpFaults,
    bucket: String,
    client: Client,
    direct: Client,
}

async fn setup() -> Setup {
    let s3 = S3::shared().await;
    let bucket = s3.fresh_bucket().await;
    let proxy = HttpFaults::start(s3.address(), 7).await;
    let client = client(&proxy.endpoint(), s3.access_key(), s3.secret());
    let direct = root(&s3);
    Setup { s3, proxy, bucket, client, direct }
}

fn body() -> Vec<u8> {
    (0..100_000_u32).map(|n| (n % 251) as u8).collect()
}

#[tokio::test]
async fn without_rules_all_passes_is_checked_and_is_counted() {
    let Setup { s3, proxy, bucket, client: through, .. } = setup().await;
    assert_eq!(put(&through, &bucket, "seg/a", body()).await.0, 200);
    assert_eq!(put(&through, &bucket, "seg/big", vec![1; 9 << 20]).await.0, 200);
    assert_eq!(get(&through, &bucket, "seg/a").await, Ok(body()));
    let part = through.get_object().bucket(&bucket).key("seg/a").range("bytes=5-9").send().await.unwrap();
    assert_eq!(part.body.collect().await.unwrap().to_vec(), body()[5..10]);
    through.list_objects_v2().bucket(&bucket).prefix("seg/").send().await.unwrap();
    let wrong = client(&proxy.endpoint(), s3.access_key(), "wrong");
    assert_eq!(put(&wrong, &bucket, "seg/a", vec![1]).await.0, 403, "the signature is not checked through the proxy");
    assert_eq!((proxy.count(&Method::PUT, "seg/"), proxy.count(&Method::GET, "seg/a"), proxy.count(&Method::GET, "")), (3, 2, 3));
    let requests = proxy.requests();
    assert_eq!(requests[3].range.as_deref(), Some("bytes=5-9"));
    assert!(requests[4].key.is_empty() && requests[4].query.contains("prefix=seg"), "{:?}", requests[4]);
    assert_eq!(requests[5].outcome, Outcome::Answered(403));
    assert!(proxy.injections().is_empty());
    proxy.forget();
    put(&through, &bucket, "other", vec![1]).await;
    assert_eq!(proxy.requests().iter().map(|request| request.sequence).collect::<Vec<_>>(), [6]);
}

#[tokio::test]
async fn an_answer_that_is_invented_leaves_the_server_alone() {
    let Setup { s3: _s3, proxy, bucket, client, direct } = setup().await;
    let faults = [
        (Fault::SlowDown, 503, "SlowDown"),
        (Fault::InternalError, 500, "InternalError"),
        (Fault::AccessDenied, 403, "AccessDenied"),
        (Fault::ExpiredToken, 400, "ExpiredToken"),
        (Fault::NoSuchKey, 404, "NoSuchKey"),
        (Fault::Conflict, 409, "ConditionalRequestConflict"),
        (Fault::PreconditionFailed, 412, "PreconditionFailed"),
        (Fault::ResetBefore, 0, ""),
    ];
    for (fault, status, code) in faults {
        let rule = proxy.add(Rule::new(fault).method(Method::PUT).prefix("seg/"));
        assert_eq!(put(&client, &bucket, "seg/a", body()).await, (status, code.to_owned()), "{fault:?}");
        assert_eq!(get(&direct, &bucket, "seg/a").await.unwrap_err().0, 404, "{fault:?} reached the server");
        assert_eq!(put(&client, &bucket, "other", body()).await.0, 200, "{fault:?} met another prefix");
        let last = proxy.injections().pop().unwrap();
        let outcome = if status == 0 { Outcome::Broken } else { Outcome::Invented(status) };
        assert_eq!((last.faults.as_slice(), last.outcome, last.server), (&[fault][..], outcome, None));
        proxy.remove(rule);
    }
    assert_eq!(proxy.injections().len(), faults.len());
}

#[tokio::test]
async fn an_error_after_leaves_the_object_stored() {
    let Setup { s3: _s3, proxy, bucket, client, direct } = setup().await;
    for (fault, status) in [(Fault::ErrorAfter, 500), (Fault::ResetAfter, 0)] {
        let key = format!("{fault:?}");
        proxy.add(Rule::new(fault).times(1));
        assert_eq!(put(&client, &bucket, &key, body()).await.0, status);
        assert_eq!(get(&direct, &bucket, &key).await, Ok(body()), "{fault:?}");
        let last = proxy.injections().pop().unwrap();
        assert_eq!((last.faults, last.server), (vec![fault], Some(200)));
        assert_eq!(put(&client, &bucket, &key, body()).await.0, 200, "{fault:?} came more than once");
    }
}

#[tokio::test]
async fn an_upload_that_is_cut_stores_nothing() {
    let Setup { s3, proxy, bucket, client, direct, .. } = setup().await;
    proxy.add(Rule::new(Fault::CutUpload(70_000)).times(1));
    assert_eq!(put(&client, &bucket, "cut", body()).await.0, 0);
    assert_eq!(proxy.injections()[0].outcome, Outcome::Broken);
    assert_eq!(get(&direct, &bucket, "cut").await.unwrap_err().0, 404);
    assert!(!s3.object_path(&bucket, "cut").exists());
}

#[tokio::test]
async fn a_damaged_download_is_damaged_as_ordered() {
    let Setup { s3: _s3, proxy, bucket, client, direct } = setup().await;
    put(&direct, &bucket, "a", body()).await;
    // Without asking for checksums: a client that checks them would hide what is shown here.
    let raw = client.config().to_builder();
    let raw = raw.response_checksum_validation(aws_sdk_s3::config::ResponseChecksumValidation::WhenRequired);
    let raw = Client::from_conf(raw.build());
    let read = async |fault| {
        let rule = proxy.add(Rule::new(fault).method(Method::GET));
        let answer = get(&raw, &bucket, "a").await;
        proxy.remove(rule);
        answer
    };
    let flipped = read(Fault::FlipBit).await.unwrap();
    let bits: u32 = flipped.iter().zip(body()).map(|(a, b)| (a ^ b).count_ones()).sum();
    assert_eq!((flipped.len(), bits), (body().len(), 1));
    assert_eq!(read(Fault::Truncate(1000)).await.unwrap(), body()[..1000]);
    assert_eq!(read(Fault::CutDownload(1000)).await.unwrap_err().0, 0);
    assert_eq!(read(Fault::WrongBytes).await.unwrap(), [&body()[1..], &[0]].concat());
    proxy.add(Rule::new(Fault::WrongRange));
    let part = raw.get_object().bucket(&bucket).key("a").range("bytes=5-9").send().await.unwrap();
    assert_eq!(part.content_range(), Some("bytes 6-10/100000"));
    assert_eq!(part.body.collect().await.unwrap().to_vec(), [&body()[6..10], &[0]].concat());
    assert_eq!(proxy.injections().len(), 5);
}

#[tokio::test]
async fn delays_add_up_and_happen_on_both_sides_of_the_server() {
    let Setup { s3: _s3, proxy, bucket, client, direct } = setup().await;
    let delay = Duration::from_millis(60);
    proxy.add(Rule::new(Fault::DelayBefore(delay)));
    proxy.add(Rule::new(Fault::DelayAfter(delay)));
    proxy.add(Rule::new(Fault::SlowDown).method(Method::GET));
    for expected in [200, 503] {
        let start = Instant::now();
        let status =
            if expected == 200 { put(&client, &bucket, "a", body()).await.0 } else { get(&client, &bucket, "a").await.unwrap_err().0 };
        assert_eq!(status, expected);
        assert!(start.elapsed() >= 2 * delay, "{:?}", start.elapsed());
    }
    proxy.heal();
    proxy.add(Rule::new(Fault::DelayAfter(Duration::from_secs(3600))));
    let late = tokio::spawn(async move { put(&client, &bucket, "late", vec![1]).await });
    until("the server has done it", async || proxy.requests().last().unwrap().server == Some(200)).await;
    assert!(!late.is_finished(), "the answer did not wait");
    let last = proxy.requests().pop().unwrap();
    assert_eq!(last.outcome, Outcome::Open);
    assert_eq!(get(&direct, &last.bucket, "late").await, Ok(vec![1]));
    late.abort();
}

#[tokio::test]
async fn rules_are_met_by_lot_by_number_and_by_time() {
    let Setup { s3, proxy, bucket, client: through, .. } = setup().await;
    put(&through, &bucket, "a", vec![1]).await;
    proxy.add(Rule::new(Fault::InternalError).skip(2).times(2));
    let mut met = Vec::new();
    for _ in 0..6 {
        met.push(get(&through, &bucket, "a").await.is_err());
    }
    assert_eq!(met, [false, false, true, true, false, false]);
    proxy.add(Rule::new(Fault::InternalError).during(Duration::from_secs(3600), Duration::from_secs(7200)));
    assert!(get(&through, &bucket, "a").await.is_ok(), "the time has not come");
    proxy.add(Rule::new(Fault::SlowDown).during(Duration::ZERO, Duration::from_secs(1)));
    assert!(get(&through, &bucket, "a").await.is_err());
    until("the time has passed", async || get(&through, &bucket, "a").await.is_ok()).await;
    let draw = async |seed| {
        let proxy = HttpFaults::start(s3.address(), seed).await;
        proxy.add(Rule::new(Fault::SlowDown).probability(0.5));
        let through = client(&proxy.endpoint(), s3.access_key(), s3.secret());
        let mut met = Vec::new();
        for _ in 0..40 {
            met.push(get(&through, &bucket, "a").await.is_err());
        }
        met
    };
    let first = draw(1).await;
    let refused = first.iter().filter(|met| **met).count();
    assert!((8..=32).contains(&refused), "{refused} of 40 at one half");
    assert_eq!(draw(1).await, first, "the same seed gave other lots");
    assert_ne!(draw(2).await, first);
}

#[tokio::test]
async fn a_dead_server_is_a_broken_connection() {
    let s3 = S3::start().await;
    s3.create_bucket("gone").await;
    let proxy = HttpFaults::start(s3.address(), 7).await;
    let through = client(&proxy.endpoint(), s3.access_key(), s3.secret());
    s3.kill_nine().await;
    assert_eq!(put(&through, "gone", "a", vec![1]).await.0, 0);
    assert_eq!(proxy.requests()[0].outcome, Outcome::Broken);
    s3.start_again().await;
    assert_eq!(put(&through, "gone", "a", vec![1]).await.0, 200, "the proxy kept a connection to the dead server");
    let mut raw = TcpStream::connect(proxy.address()).await.unwrap();
    proxy.add(Rule::new(Fault::ResetBefore));
    raw.write_all(b"GET /gone/a HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let error = raw.read(&mut [0]).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_stale_listing_is_what_the_same_listing_was_last_and_only_that() {
    let Setup { s3: _s3, proxy, bucket, client, .. } = setup().await;
    let listed = async |prefix: &str| {
        let listing = client.list_objects_v2().bucket(&bucket).prefix(prefix).send().await.unwrap();
        listing.contents().iter().map(|object| object.key().unwrap().to_owned()).collect::<Vec<_>>()
    };
    put(&client, &bucket, "seg/a", vec![1]).await;
    assert_eq!(listed("seg/").await, ["seg/a"]);
    put(&client, &bucket, "seg/b", vec![1]).await;
    proxy.add(Rule::new(Fault::StaleList));
    assert_eq!(listed("seg/").await, ["seg/a"]);
    assert_eq!(listed("").await, ["seg/a", "seg/b"], "nobody asked for this one before");
    assert_eq!(get(&client, &bucket, "seg/b").await, Ok(vec![1]));
    assert_eq!(proxy.injections().len(), 1);
    proxy.heal();
    assert_eq!(listed("seg/").await, ["seg/a", "seg/b"]);
}
