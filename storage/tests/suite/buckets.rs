//! The doctor and `bucket init`: over a real S3 server, a directory, and services that lie.

use lakefall_servers::S3;
use lakefall_storage::bucket::{InitOptions, Report, Verdict, doctor, init};
use lakefall_storage::store::{AccessKey, StoreOptions};
use url::Url;

use crate::real_s3::{options, url};
use crate::stub::{Fault, Stub};

/// What every store must do.
const OBJECTS: [&str; 13] = [
    "put",
    "read_after_write",
    "range",
    "head",
    "list",
    "list_after_write",
    "create_only",
    "create_race",
    "overwrite",
    "latency_put",
    "latency_get",
    "delete",
    "delete_visible",
];

fn verdict(report: &Report, name: &str) -> Verdict {
    report.check(name).unwrap_or_else(|| panic!("no check {name} in {report:#?}")).verdict
}

fn advice<'a>(report: &'a Report, name: &str) -> &'a str {
    report.check(name).and_then(|check| check.advice.as_deref()).unwrap_or_else(|| panic!("no advice for {name} in {report:#?}"))
}

fn all_ok(report: &Report, names: &[&str]) {
    for name in names {
        assert_eq!(verdict(report, name), Verdict::Ok, "{name}: {report:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_is_made_set_up_and_found_healthy() {
    let s3 = S3::shared().await;
    let url = url("made-by-init");
    let before = doctor(&url, &options(&s3)).await;
    assert_eq!(verdict(&before, "bucket"), Verdict::Fail);
    assert!(advice(&before, "bucket").contains("lakefall bucket init"));
    assert_eq!(verdict(&before, "put"), Verdict::Skipped);

    for _ in 0..2 {
        let made = init(&url, &options(&s3), &InitOptions::default()).await.unwrap();
        assert_eq!(verdict(&made, "create_bucket"), Verdict::Ok, "{made:#?}");
        assert!(made.worst() <= Verdict::Skipped, "what the server does not know is skipped: {made:#?}");
    }

    let after = doctor(&url, &options(&s3)).await;
    all_ok(&after, &["settings", "credentials", "endpoint", "clock", "bucket", "multipart"]);
    all_ok(&after, &OBJECTS);
    assert!(after.worst() <= Verdict::Warn, "{after:#?}");
    let left = s3.object_path("made-by-init", "some/prefix/probe");
    let left: Vec<_> = std::fs::read_dir(left).into_iter().flatten().collect();
    assert!(left.is_empty(), "the doctor cleans up: {left:?}");
    println!("{}", serde_json::to_string_pretty(&after).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_and_an_unknown_key_are_told_as_such() {
    let s3 = S3::shared().await;
    let bucket = s3.fresh_bucket().await;
    for (id, secret) in [(s3.access_key(), "not-the-secret"), ("NOBODY", "not-the-secret")] {
        let mut options = options(&s3);
        options.s3.access_key = Some(AccessKey { id: id.to_owned(), secret: secret.to_owned() });
        let report = doctor(&url(&bucket), &options).await;
        assert_eq!(verdict(&report, "endpoint"), Verdict::Ok, "{report:#?}");
        assert_eq!(verdict(&report, "bucket"), Verdict::Fail, "{report:#?}");
        assert!(advice(&report, "bucket").contains("secret is wrong"), "{report:#?}");
        assert!(!format!("{report:?}").contains("not-the-secret"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_without_rights_is_told_which_to_ask_for() {
    let s3 = S3::start().await;
    s3.create_bucket("forbidden").await;
    s3.create_user("STRANGER", "secret-of-a-stranger").await;
    let mut options = options(&s3);
    options.s3.access_key = Some(AccessKey { id: "STRANGER".to_owned(), secret: "secret-of-a-stranger".to_owned() });
    let report = doctor(&url("forbidden"), &options).await;
    assert_eq!(report.worst(), Verdict::Fail);
    assert!(advice(&report, "bucket").contains("s3:ListBucket on arn:aws:s3:::forbidden"), "{report:#?}");
    assert!(advice(&report, "put").contains("s3:PutObject on arn:aws:s3:::forbidden/some/prefix/*"), "{report:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_answers_only_that_is_told() {
    let s3 = S3::start().await;
    let options = options(&s3);
    s3.kill_nine().await;
    let report = doctor(&url("anywhere"), &options).await;
    let failed: Vec<_> = report.checks.iter().filter(|check| check.verdict == Verdict::Fail).map(|check| check.name).collect();
    assert_eq!(failed, ["endpoint"], "{report:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_and_memory_pass_what_concerns_them() {
    let folder = tempfile::tempdir().unwrap();
    let directory = Url::from_directory_path(folder.path()).unwrap();
    for url in [directory, Url::parse("memory:///").unwrap()] {
        let report = doctor(&url, &StoreOptions::default()).await;
        all_ok(&report, &OBJECTS);
        assert_eq!((verdict(&report, "multipart"), report.worst()), (Verdict::Skipped, Verdict::Skipped), "{report:#?}");
    }
    let refused = init(&Url::parse("memory:///").unwrap(), &StoreOptions::default(), &InitOptions::default()).await;
    assert!(refused.unwrap_err().to_string().contains("buckets of S3"));
    let unknown = doctor(&Url::parse("ftp://host/").unwrap(), &StoreOptions::default()).await;
    assert_eq!((verdict(&unknown, "settings"), verdict(&unknown, "put")), (Verdict::Fail, Verdict::Skipped));
}

/// Both ignore the condition on a PUT, so that several writers win.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_lets_several_writers_win_is_found_out() {
    let stub = Stub::start(|_, _| Fault::None).forgetting_conditions();
    let url = Url::parse("s3://bucket/lake").unwrap();
    let report = doctor(&url, &stub.options(|options| options.hedge_percent = 0)).await;
    assert_eq!(verdict(&report, "create_only"), Verdict::Fail, "{report:#?}");
    assert_eq!(verdict(&report, "create_race"), Verdict::Fail, "{report:#?}");
    assert_eq!(verdict(&report, "put"), Verdict::Ok);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_late_by_the_clock_is_told_as_skew() {
    let stub = Stub::start(|_, _| Fault::None);
    let report = doctor(&Url::parse("s3://bucket/lake").unwrap(), &stub.options(|_| {})).await;
    assert_eq!(verdict(&report, "clock"), Verdict::Skipped, "the stub tells no time");
    let stub = Stub::start(|_, _| Fault::None).telling("Sat, 21 Nov 2020 12:00:00 GMT");
    let report = doctor(&Url::parse("s3://bucket/lake").unwrap(), &stub.options(|_| {})).await;
    assert_eq!(verdict(&report, "clock"), Verdict::Fail);
    assert!(advice(&report, "clock").contains("NTP"));
}

const THEIRS: &str = "<LifecycleConfiguration><Rule><ID>theirs</ID><Status>Enabled</Status><Filter><Prefix>PREFIX</Prefix></Filter>\
                      <Expiration><Days>30</Days></Expiration></Rule></LifecycleConfiguration>";

#[tokio::test(flavor = "multi_thread")]
async fn settings_are_made_once_and_those_of_others_stay() {
    let stub = Stub::start(|_, _| Fault::None);
    let url = Url::parse("s3://bucket/lake").unwrap();
    let options = stub.options(|options| options.hedge_percent = 0);
    let before = doctor(&url, &options).await;
    for name in ["public_access_block", "lifecycle", "encryption"] {
        assert_eq!(verdict(&before, name), Verdict::Warn, "{before:#?}");
        assert!(advice(&before, name).contains("lakefall bucket init"));
    }
    stub.set("lifecycle", &THEIRS.replace("PREFIX", "logs/"));
    let mut told = Vec::new();
    for _ in 0..2 {
        let made = init(&url, &options, &InitOptions::default()).await.unwrap();
        all_ok(&made, &["create_bucket", "public_access_block", "lifecycle", "encryption"]);
        told.push(stub.setting("lifecycle").unwrap());
    }
    assert_eq!(told[0], told[1], "the second time there is nothing to add");
    for part in
        ["<ID>theirs</ID>", "<Days>30</Days>", "lakefall-abandoned-uploads", "<DaysAfterInitiation>1</DaysAfterInitiation>", "lake/"]
    {
        assert!(told[0].contains(part), "{part} is not in {}", told[0]);
    }
    assert_eq!(stub.setting("publicAccessBlock").unwrap().matches("true").count(), 4);
    assert!(stub.setting("encryption").unwrap().contains("AES256"));
    all_ok(&doctor(&url, &options).await, &["public_access_block", "lifecycle", "encryption"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_deletes_records_by_their_age_is_found() {
    let stub = Stub::start(|_, _| Fault::None);
    stub.set("lifecycle", &THEIRS.replace("PREFIX", "lake/seg/"));
    let report = doctor(&Url::parse("s3://bucket/lake").unwrap(), &stub.options(|_| {})).await;
    assert_eq!(verdict(&report, "lifecycle"), Verdict::Fail);
    assert!(advice(&report, "lifecycle").contains("take the rule away"));
}
