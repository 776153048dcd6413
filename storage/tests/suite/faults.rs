//! What a remote store does when its service fails, is slow, or lies. Each test names the promise; the script is the fault.

use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use futures::future::join_all;
use lakefall_storage::store::{AccessKey, Encryption, Store, StoreError, StoreOptions};
use tokio::time::Instant;
use url::Url;

use crate::stub::{Fault, Stub};

const KEY: &str = "seg/00/a.seg";

fn chunks() -> Vec<Bytes> {
    vec![Bytes::from_static(b"first "), Bytes::from_static(b"second")]
}

fn one_at_a_time(options: &mut StoreOptions) {
    options.hedge_percent = 0;
}

/// A script that does `fault` to the first request of `method`.
fn first(method: &'static str, fault: Fault) -> impl Fn(&crate::stub::Request, usize) -> Fault {
    move |request, earlier| if request.method == method && earlier == 0 { fault } else { Fault::None }
}

#[tokio::test]
async fn a_put_that_fails_before_it_is_applied_is_sent_again() {
    for fault in [Fault::Close, Fault::Refuse(500, "InternalError"), Fault::Refuse(400, "RequestTimeout")] {
        let stub = Stub::start(first("PUT", fault));
        stub.store(one_at_a_time).put_new(KEY, chunks()).await.unwrap();
        assert_eq!((stub.count("PUT"), stub.count("HEAD")), (2, 0), "{fault:?}");
        assert_eq!(stub.object(KEY).unwrap(), b"first second");
    }
}

#[tokio::test]
async fn a_put_that_fails_after_it_was_applied_is_settled_by_looking() {
    for fault in [Fault::ApplyAndClose, Fault::ApplyAndFail(500)] {
        let stub = Stub::start(first("PUT", fault));
        stub.store(one_at_a_time).put_new(KEY, chunks()).await.unwrap();
        assert_eq!((stub.count("PUT"), stub.count("HEAD"), stub.count("GET")), (2, 1, 1), "{fault:?}");
    }
}

#[tokio::test]
async fn a_409_or_412_is_believed_only_after_looking() {
    for status in [409, 412] {
        // The object is there, and is ours: it was an earlier attempt.
        let stub = Stub::start(first("PUT", Fault::ApplyAndFail(status)));
        stub.store(one_at_a_time).put_new(KEY, chunks()).await.unwrap();
        assert_eq!(stub.count("HEAD"), 1, "{status}");
        // It is not there: nobody knows yet, and the same call may be repeated.
        let stub = Stub::start(first("PUT", Fault::Refuse(status, "ConditionalRequestConflict")));
        let store = stub.store(one_at_a_time);
        assert!(matches!(store.put_new(KEY, chunks()).await, Err(StoreError::Unavailable { .. })), "{status}");
        store.put_new(KEY, chunks()).await.unwrap();
        // Something else is there.
        let stub = Stub::start(|_, _| Fault::None);
        stub.put(KEY, b"other bytes.");
        let collision = stub.store(one_at_a_time).put_new(KEY, chunks()).await;
        assert_eq!(collision, Err(StoreError::Collision { key: KEY.to_owned() }));
        assert_eq!(stub.object(KEY).unwrap(), b"other bytes.");
    }
}

#[tokio::test]
async fn a_head_that_is_forbidden_while_settling_leaves_the_outcome_open() {
    let stub = Stub::start(|request, _| match request.method.as_str() {
        "PUT" => Fault::ApplyAndFail(412),
        "HEAD" => Fault::Refuse(403, ""),
        _ => Fault::None,
    });
    let answer = stub.store(one_at_a_time).put_new(KEY, chunks()).await;
    assert!(matches!(answer, Err(StoreError::Unavailable { .. })), "{answer:?}");
}

#[tokio::test]
async fn a_throttled_put_is_told_at_once_so_that_uploads_slow_down() {
    let stub = Stub::start(|_, _| Fault::Refuse(503, "SlowDown"));
    let answer = stub.store(one_at_a_time).put_new(KEY, chunks()).await;
    assert!(matches!(answer, Err(StoreError::Throttled { .. })), "{answer:?}");
    assert_eq!(stub.count("PUT"), 1);
}

#[tokio::test]
async fn a_storm_of_503_is_multiplied_by_no_more_than_the_budget() {
    let stub = Stub::start(|_, _| Fault::Refuse(503, "SlowDown"));
    let store = stub.store(|options| options.retry_budget = 7);
    let answers = join_all((0..40).map(|_| store.get_range(KEY, 0..4))).await;
    assert!(answers.iter().all(|answer| matches!(answer, Err(StoreError::Throttled { .. }))));
    assert_eq!(stub.count("GET"), 40 + 7);
    assert!(store.head(KEY).await.is_err());
    assert_eq!(stub.count("HEAD"), 1, "the budget is the store's, not the request's");
}

#[tokio::test]
async fn successes_earn_the_budget_back() {
    let stub = Stub::start(|request, _| if request.method == "HEAD" { Fault::Refuse(503, "SlowDown") } else { Fault::None });
    stub.put(KEY, b"first second");
    let store = stub.store(|options| (options.retry_budget, options.hedge_percent) = (3, 0));
    store.head(KEY).await.unwrap_err();
    assert_eq!(stub.count("HEAD"), 4);
    for _ in 0..10 {
        store.get_range(KEY, 0..4).await.unwrap();
    }
    store.head(KEY).await.unwrap_err();
    assert_eq!(stub.count("HEAD"), 4 + 1 + 1, "ten successes are worth one repetition");
}

#[tokio::test]
async fn the_pause_that_a_service_asks_for_is_kept_by_everybody() {
    let stub = Stub::start(first("PUT", Fault::RefuseFor(503, 1)));
    let store = stub.store(one_at_a_time);
    store.put_new(KEY, chunks()).await.unwrap_err();
    store.get_range(KEY, 0..4).await.unwrap_err();
    store.put_new("seg/00/b.seg", chunks()).await.unwrap();
    let puts = stub.requests("PUT");
    assert!(puts[1].at - puts[0].at >= Duration::from_secs(1), "{:?}", puts[1].at - puts[0].at);
    let read = stub.requests("GET")[0].at - puts[0].at;
    assert!(read < Duration::from_secs(1), "reads were not asked to pause: {read:?}");
}

#[tokio::test]
async fn a_body_that_is_cut_is_read_again() {
    for fault in [Fault::Cut(3), Fault::CutAndHide(3), Fault::Close] {
        let stub = Stub::start(first("GET", fault));
        stub.put(KEY, b"first second");
        let store = stub.store(one_at_a_time);
        assert_eq!(store.get_range(KEY, 0..12).await.unwrap(), "first second", "{fault:?}");
        assert_eq!(stub.count("GET"), 2, "{fault:?}");
    }
    let stub = Stub::start(|_, _| Fault::CutAndHide(3));
    stub.put(KEY, b"first second");
    assert!(matches!(stub.store(one_at_a_time).get_range(KEY, 0..12).await, Err(StoreError::Unavailable { .. })));
}

#[tokio::test]
async fn a_late_read_is_asked_a_second_time_and_a_late_write_is_not() {
    let stub = Stub::start(|_, earlier| if earlier == 0 { Fault::Late(Duration::from_secs(5)) } else { Fault::None });
    stub.put(KEY, b"first second");
    let store = stub.store(|_| {});
    let started = Instant::now();
    assert_eq!(store.get_range(KEY, 0..12).await.unwrap(), "first second");
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    assert_eq!(stub.count("GET"), 2);
    store.put_new("seg/00/b.seg", chunks()).await.unwrap();
    assert_eq!(stub.count("PUT"), 1);
}

#[tokio::test]
async fn when_all_reads_are_slow_few_are_asked_twice() {
    let stub = Stub::start(|request, _| if request.method == "GET" { Fault::Late(Duration::from_millis(1_300)) } else { Fault::None });
    stub.put(KEY, b"first second");
    let store = stub.store(|_| {});
    join_all((0..60).map(|_| store.get_range(KEY, 0..12))).await.into_iter().for_each(|answer| drop(answer.unwrap()));
    let sent = stub.count("GET");
    assert!((61..=60 + 4 + 3).contains(&sent), "{sent} requests for 60 reads");
}

#[tokio::test]
async fn a_listing_goes_on_where_a_page_broke_off() {
    let stub = Stub::start(first("GET", Fault::None));
    let keys: Vec<String> = (0..7).map(|number| format!("seg/00/{number}.seg")).collect();
    keys.iter().for_each(|key| stub.put(key, b"x"));
    let broken = Stub::start(|request, earlier| match (request.method.as_str(), earlier) {
        ("GET", 0 | 2) => Fault::Refuse(503, "SlowDown"),
        ("GET", 3) => Fault::Close,
        _ => Fault::None,
    });
    keys.iter().for_each(|key| broken.put(key, b"x"));
    for stub in [stub, broken] {
        let listed: Vec<String> = stub.store(one_at_a_time).list("seg").map_ok(|info| info.key).try_collect().await.unwrap();
        assert_eq!(listed, keys);
    }
}

#[tokio::test]
async fn an_upload_carries_its_checksum_and_the_encryption_asked_for() {
    let stub = Stub::start(|_, _| Fault::None);
    stub.store(|options| options.s3.sse = Encryption::Aes256).put_new("a", chunks()).await.unwrap();
    stub.store(|options| options.s3.sse = Encryption::Kms("some-key".to_owned())).put_new("b", chunks()).await.unwrap();
    stub.store(|options| options.s3.checksum = false).put_new("c", chunks()).await.unwrap();
    let puts = stub.requests("PUT");
    let header = |put: usize, name: &str| puts[put].headers.get(name).map(String::as_str);
    // printf 'first second' | openssl dgst -sha256 -binary | base64
    assert_eq!(header(0, "x-amz-checksum-sha256"), Some(SHA256));
    assert_eq!(header(0, "x-amz-server-side-encryption"), Some("AES256"));
    assert_eq!(header(1, "x-amz-server-side-encryption"), Some("aws:kms"));
    assert_eq!(header(1, "x-amz-server-side-encryption-aws-kms-key-id"), Some("some-key"));
    assert_eq!((header(2, "x-amz-checksum-sha256"), header(2, "x-amz-server-side-encryption")), (None, None));
    assert!(puts.iter().all(|put| put.headers.get("if-none-match").map(String::as_str) == Some("*")));
}
const SHA256: &str = "kgiOwUD8VT5LHt4gLtzLZagHu/ijjXZaOtOAE8DxNog=";

#[tokio::test]
async fn what_a_service_says_of_a_refusal_is_told_and_nothing_secret_with_it() {
    for (status, code, kind, told) in [
        (403, "RequestTimeTooSkewed", "denied", "clock"),
        (403, "SignatureDoesNotMatch", "denied", "secret is wrong"),
        (403, "AccessDenied", "denied", "lakefall doctor"),
        (400, "ExpiredToken", "denied", "expired"),
        (404, "NoSuchBucket", "other", "lakefall bucket init"),
        (301, "PermanentRedirect", "other", "set store.region"),
        (501, "NotImplemented", "other", "501"),
        (429, "TooManyRequests", "throttled", "429"),
    ] {
        let stub = Stub::start(move |_, _| Fault::Refuse(status, code));
        let store = stub.store(|options| {
            options.retries = 0;
            options.s3.unsigned = false;
            options.s3.access_key = Some(AccessKey { id: "id".to_owned(), secret: "hidden-secret".to_owned() });
        });
        let error = store.put_new(KEY, chunks()).await.unwrap_err();
        let text = format!("{error} {error:?} {store:?}");
        assert_eq!(error.kind(), kind, "{code}: {text}");
        assert!(kind == "throttled" || error.to_string().contains("bucket bucket"), "{code} does not name the bucket: {error}");
        assert!(text.contains(told) && !text.contains("LEAKED") && !text.contains("hidden-secret"), "{code}: {text}");
    }
}

#[tokio::test]
async fn what_a_service_refuses_for_good_is_told_after_one_request() {
    for (status, code) in [(401, "InvalidAccessKeyId"), (403, "AccessDenied"), (403, "SignatureDoesNotMatch"), (404, "NoSuchBucket")] {
        let stub = Stub::start(move |_, _| Fault::Refuse(status, code));
        let store = stub.store(one_at_a_time);
        let error = store.put_new(KEY, chunks()).await.unwrap_err();
        assert!(matches!(error, StoreError::Denied { .. } | StoreError::Other { .. }), "{code}: {error}");
        assert_eq!(stub.count("PUT"), 1, "{code} was asked for again");
    }
}

#[tokio::test]
async fn control_objects_are_written_over_but_never_a_second_time_on_a_guess() {
    let stub = Stub::start(|request, earlier| if request.method == "PUT" && earlier == 2 { Fault::ApplyAndClose } else { Fault::None });
    let store = stub.store(one_at_a_time);
    assert_eq!(store.get_control("meta/mark").await.unwrap(), None);
    for text in ["one", "two"] {
        store.put_control("meta/mark", Bytes::from(text)).await.unwrap();
        assert_eq!(store.get_control("meta/mark").await.unwrap().unwrap(), text);
    }
    assert!(matches!(store.put_control("meta/mark", Bytes::from("three")).await, Err(StoreError::Unavailable { .. })));
    assert_eq!(stub.count("PUT"), 3);
    assert!(matches!(store.put_control("seg/00/a.seg", Bytes::new()).await, Err(StoreError::Other { .. })));
    assert!(matches!(store.get_control("seg/00/a.seg").await, Err(StoreError::Other { .. })));
}

const CHILD: &str = "LAKEFALL_TEST_ROTATION_CHILD";

/// The environment cannot be changed in a process with threads, so the test runs itself in one that has it.
#[test]
fn credentials_rotated_in_the_profile_are_found_after_the_old_ones_were_refused() {
    if std::env::var_os(CHILD).is_some() {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        return runtime.block_on(rotate());
    }
    let folder = tempfile::tempdir().unwrap();
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "faults::credentials_rotated_in_the_profile_are_found_after_the_old_ones_were_refused", "--nocapture"])
        .env(CHILD, folder.path())
        .env("AWS_SHARED_CREDENTIALS_FILE", folder.path().join("credentials"))
        .env("AWS_CONFIG_FILE", folder.path().join("config"))
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env_remove("AWS_ACCESS_KEY_ID")
        .env_remove("AWS_SECRET_ACCESS_KEY")
        .env_remove("AWS_PROFILE")
        .env_remove("AWS_REGION")
        .env_remove("AWS_DEFAULT_REGION")
        .output()
        .unwrap();
    let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && told.contains("rotated"), "{told}");
}

async fn rotate() {
    let folder = std::path::PathBuf::from(std::env::var_os(CHILD).unwrap());
    let key = |id: &str| {
        let text = format!("[default]\naws_access_key_id = {id}\naws_secret_access_key = hidden-{id}\n");
        std::fs::write(folder.join("credentials"), text).unwrap();
    };
    std::fs::write(folder.join("config"), "[default]\nregion = eu-central-7\n").unwrap();
    let valid = folder.join("valid");
    std::fs::write(&valid, "KEYONE").unwrap();
    let stub = Stub::start(move |request, _| {
        let signed = request.headers.get("authorization").cloned().unwrap_or_default();
        let valid = format!("Credential={}/", std::fs::read_to_string(&valid).unwrap());
        if signed.contains(&valid) { Fault::None } else { Fault::Refuse(403, "InvalidAccessKeyId") }
    });
    let store = stub.store(|options| {
        options.s3.unsigned = false;
        options.s3.region = None;
    });
    assert_eq!(stub.count("PUT"), 0, "opening sends nothing");

    let without = store.put_new("seg/00/0.seg", chunks()).await.unwrap_err();
    assert!(matches!(without, StoreError::Denied { .. }), "no credentials: {without}");
    key("KEYONE");
    let fresh = Store::open(
        &Url::parse("s3://bucket/lake").unwrap(),
        &stub.options(|options| {
            options.s3.unsigned = false;
            options.s3.region = None;
        }),
    )
    .unwrap();
    fresh.put_new("seg/00/1.seg", chunks()).await.unwrap();
    let signed = stub.requests("PUT")[0].headers["authorization"].clone();
    assert!(signed.contains("/eu-central-7/s3/"), "the profile's region: {signed}");

    std::fs::write(folder.join("valid"), "KEYTWO").unwrap();
    let refused = fresh.put_new("seg/00/2.seg", chunks()).await.unwrap_err();
    assert!(matches!(refused, StoreError::Denied { .. }) && !refused.to_string().contains("hidden"), "{refused}");
    key("KEYTWO");
    let deadline = Instant::now() + Duration::from_secs(60);
    while let Err(error) = fresh.put_new("seg/00/2.seg", chunks()).await {
        assert!(Instant::now() < deadline, "{error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("rotated");
}
