//! A store that throttles, fails before or after it did what was asked, cuts, lies about what it holds: nothing acknowledged
//! is lost, nothing damaged is served, and work goes on when the store does.

use std::collections::HashMap;
use std::time::Duration;

use lakefall_servers::http_faults::{Fault, HttpFaults, Rule};
use lakefall_tests::checker::Demands;
use lakefall_tests::cluster::{Options, Role, eventually};
use lakefall_tests::dice::{outage, rounds, seed};
use lakefall_tests::load::{Load, Run};
use lakefall_tests::rows::noise;
use lakefall_tests::{Client, Row, verdict};
use reqwest::Method;
use serde_json::json;
use tokio::time::Instant;

const PROMPT: Duration = Duration::from_secs(60);
/// What may pass between the end of an outage and the first acknowledgement.
const RECOVERY: Duration = Duration::from_secs(10);

fn injected(proxy: &HttpFaults, fault: Fault) -> usize {
    proxy.count_where(|request| request.faults.contains(&fault))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_the_store_is_survived_with_bounded_memory_and_recovered_from_within_ten_seconds() {
    let seed = seed("store_outage");
    let options = Options::default().store_proxy().alone().env(Role::Gateway, "LAKEFALL_INGEST__BUFFER_BYTES", 16 << 20);
    let mut cluster = options.start().await;
    cluster.client().create_topic("load", 2).await;
    let (run, ways) = (Run::new("load", 2), cluster.ways());
    let mut load = Load::new(&run, seed);
    load.everyone(&ways);
    run.acked_more(300, PROMPT).await;
    let before = cluster.resident_kib();
    let proxy = cluster.store_proxy();
    proxy.forget();
    proxy.add(Rule::new(Fault::SlowDown));
    run.recorder.fault("503 to every request");
    let lasts = outage(Duration::from_secs(8));
    let asked = Instant::now();
    tokio::time::sleep(lasts).await;
    let (refused, during) = (injected(proxy, Fault::SlowDown), asked.elapsed());
    let grown = cluster.resident_kib().saturating_sub(before);
    proxy.heal();
    let took = run.acked_more(1, RECOVERY * 3).await;
    println!("store_outage: {refused} requests in {during:?}, memory grew by {} MiB, acknowledged again after {took:?}", grown >> 10);
    run.acked_more(300, PROMPT).await;
    load.finish().await;
    verdict::judge("store_outage", run, ways, Demands { faults: 1, acked: 600 }).await;
    assert!(refused > 0, "no request met the outage");
    assert!(took <= RECOVERY, "the first acknowledgement came {took:?} after the outage");
    // Two gateways with 16 MiB of room each, and what an allocator keeps.
    assert!(grown < 128 << 10, "memory grew by {} MiB", grown >> 10);
    assert!(cluster.ended().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_that_fail_before_or_after_they_took_effect_lose_nothing_and_store_nothing_twice() {
    const FAULTS: [Fault; 9] = [
        Fault::InternalError,
        Fault::ResetBefore,
        Fault::CutUpload(500),
        Fault::ErrorAfter,
        Fault::ResetAfter,
        Fault::Conflict,
        Fault::PreconditionFailed,
        Fault::SlowDown,
        Fault::DelayAfter(Duration::from_millis(700)),
    ];
    let seed = seed("upload_faults");
    let mut cluster = Options::default().store_proxy().start().await;
    cluster.client().create_topic("load", 2).await;
    let (run, ways) = (Run::new("load", 2), cluster.ways());
    let mut load = Load::new(&run, seed);
    load.everyone(&ways);
    let proxy = cluster.store_proxy();
    for fault in FAULTS.into_iter().cycle().take(FAULTS.len() * rounds(1)) {
        proxy.forget();
        proxy.add(Rule::new(fault).method(Method::PUT).probability(0.25));
        run.recorder.fault(&format!("{fault:?}"));
        let took = run.acked_more(150, PROMPT).await;
        eventually("the fault happens", PROMPT, async || injected(proxy, fault) >= 3).await;
        proxy.heal();
        println!("upload_faults: {fault:?}: 150 records in {took:?}, it happened {} times", injected(proxy, fault));
    }
    load.finish().await;
    verdict::judge("upload_faults", run, ways, Demands { faults: FAULTS.len(), acked: 1_300 }).await;
    assert!(cluster.ended().is_none());
}

/// Reads everything, trying again after errors; what comes must be right. Returns how often an error was answered.
async fn read_all(client: &Client, expected: &[Row]) -> usize {
    let (mut at, mut errors) = (0, 0);
    let began = Instant::now();
    while at < expected.len() {
        match client.page("t", 0, at as u64, "").await {
            Ok(page) => {
                assert_eq!(page.rows, expected[at..at + page.rows.len()], "something else was served than what was stored");
                at += page.rows.len();
            }
            Err(told) => {
                assert!(told.starts_with('5'), "{told}");
                assert!(began.elapsed() < PROMPT, "it is still not read: {told}");
                errors += 1;
            }
        }
    }
    errors
}

async fn fill(client: &Client, records: u64) -> Vec<Row> {
    client.create_topic("t", 1).await;
    let mut rows = Vec::new();
    for n in 0..records {
        let value = noise(n);
        let answer = client.send(client.values("t", "partition=0", value.clone())).await.unwrap().ok();
        rows.push(Row { partition: 0, offset: answer.offsets()[0].1, value: value.into() });
    }
    rows
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_of_the_store_that_are_cut_shifted_or_flipped_are_never_served() {
    const FAULTS: [Fault; 9] = [
        Fault::FlipBit,
        Fault::Truncate(5_000),
        Fault::CutDownload(5_000),
        Fault::WrongBytes,
        Fault::WrongRange,
        Fault::InternalError,
        Fault::ResetBefore,
        Fault::SlowDown,
        Fault::NoSuchKey,
    ];
    let mut cluster = Options::default().store_proxy().start().await;
    let rows = fill(&cluster.client_of(0), 40).await;
    let reader = cluster.client_of(1);
    for fault in FAULTS {
        // It wrote nothing, and forgets what it read: each block is fetched anew.
        cluster.gateways[1].kill_nine();
        cluster.gateways[1].start().await;
        let proxy = cluster.store_proxy();
        proxy.forget();
        proxy.add(Rule::new(fault).method(Method::GET).probability(0.3));
        let errors = read_all(&reader, &rows).await;
        let happened = injected(proxy, fault);
        println!(
            "download_faults: {fault:?} happened {happened} times in {} requests, {errors} errors were answered",
            proxy.requests().len()
        );
        assert!(happened > 0, "{fault:?} did not happen");
        proxy.heal();
    }
    assert!(cluster.ended().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bit_that_flips_on_the_way_is_found_by_the_batch_s_checksum_and_what_is_fetched_again_is_right() {
    let mut cluster = Options::default().store_proxy().start().await;
    let rows = fill(&cluster.client_of(0), 10).await;
    let reader = cluster.client_of(1);
    let flips = 6 * rounds(1);
    for _ in 0..flips {
        // It forgets what it read.
        cluster.gateways[1].kill_nine();
        cluster.gateways[1].start().await;
        let proxy = cluster.store_proxy();
        proxy.forget();
        proxy.add(Rule::new(Fault::FlipBit).method(Method::GET).prefix("lake/seg").times(1));
        // Nobody but us can notice: the answer has the right length, and the proxy speaks no TLS.
        assert_eq!(read_all(&reader, &rows).await, 0, "what is fetched again was right, and an error was answered all the same");
        assert_eq!(injected(proxy, Fault::FlipBit), 1);
        proxy.heal();
    }
    let log = cluster.gateways[1].whole_log();
    let found = log.lines().filter(|line| line.contains("stored records are damaged")).count();
    let by_checksum = log.lines().filter(|line| line.contains("checksum does not match")).count();
    println!("flips: of {flips}, {found} were found, {by_checksum} by the checksum");
    // A few bytes of an object are no batch's, and nobody reads them here.
    assert!(found >= flips - 1 && by_checksum >= 1, "{found} of {flips} were found, {by_checksum} by the checksum:\n{log}");
    assert!(cluster.ended().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_object_is_an_error_at_its_place_and_nobody_reads_past_it() {
    let cluster = Options::default().store_proxy().start().await;
    let (writer, reader) = (cluster.client_of(0), cluster.client_of(1));
    writer.create_topic("t", 1).await;
    writer.put("t", 0, &json!("first")).await;
    let first = cluster.segments();
    writer.put("t", 0, &json!("second")).await;
    let second = cluster.segments().into_iter().find(|segment| !first.contains(segment)).unwrap();
    writer.put("t", 0, &json!("third")).await;
    let hidden = Rule::new(Fault::NoSuchKey).method(Method::GET).prefix(&format!("lake/{second}"));
    cluster.store_proxy().add(hidden);
    let mut before = 0;
    for _ in 0..3 {
        let answer = reader.get("/v1/topics/t/partitions/0/records?offset=0").await.unwrap();
        if answer.status == 200 {
            // What stands before it may come; it ends there.
            assert_eq!((answer.json()["records"].as_array().unwrap().len(), answer.json()["next_offset"].as_u64()), (1, Some(1)));
            before += 1;
        }
        let answer = reader.get("/v1/topics/t/partitions/0/records?offset=1").await.unwrap();
        assert_eq!((answer.status, answer.code().as_str()), (500, "data_unavailable"), "{}", answer.text());
    }
    println!("missing_object: {before} of 3 reads gave what stands before it");
    assert!(injected(cluster.store_proxy(), Fault::NoSuchKey) >= 2, "it was looked for once only");
    assert!(reader.page("t", 0, 2, "").await.is_ok(), "what stands behind it is there for those who ask for it");
    cluster.store_proxy().heal();
    let found = eventually("it is found again", PROMPT, async || reader.page("t", 0, 1, "").await.is_ok()).await;
    println!("missing_object: read {found:?} after it came back");
    assert_eq!(reader.read_pages("t", 0, 0).await.len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_is_denied_is_answered_at_once_and_names_the_bucket() {
    let cluster = Options::default().store_proxy().gateways(1).start().await;
    let client = cluster.client();
    client.create_topic("t", 1).await;
    cluster.store_proxy().add(Rule::new(Fault::AccessDenied).method(Method::PUT));
    let began = Instant::now();
    let answer = client.send(client.values("t", "partition=0", "1")).await.unwrap();
    let took = began.elapsed();
    println!("denied: {} after {took:?}: {}", answer.status, answer.text());
    assert_eq!((answer.status, answer.json()["outcome"].as_str()), (503, Some("not_applied")));
    assert!(answer.text().contains(&cluster.bucket) && answer.text().contains("denies access"), "{}", answer.text());
    assert!(took < PROMPT / 2, "it was answered after {took:?}: as late as what is tried again and again");
    assert!(cluster.gateways[0].log().contains("AccessDenied"), "the log does not say what the store said");
    cluster.store_proxy().heal();
    assert_eq!(client.put("t", 0, &json!(2)).await, 0, "nothing was stored, and work goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_is_fetched_once_by_each_gateway_whatever_the_number_of_readers() {
    const READERS: usize = 20;
    // A hedged read is a second GET of the same block, and is wanted where the first one is slow.
    let options = Options::default().store_proxy().env(Role::Gateway, "LAKEFALL_STORE__HEDGE_PERCENT", 0);
    let cluster = options.start().await;
    let (writer, reader) = (cluster.client_of(0), cluster.client_of(1));
    writer.create_topic("t", 1).await;
    let tails: Vec<_> = (0..READERS)
        .map(|_| {
            let reader = reader.clone();
            tokio::spawn(async move {
                let mut at = 0;
                while at < 30 {
                    at = reader.page("t", 0, at, "&wait=5s").await.unwrap().next;
                }
            })
        })
        .collect();
    for n in 0..30 {
        writer.put("t", 0, &json!(n)).await;
    }
    for tail in tails {
        tail.await.unwrap();
    }
    let mut fetched: HashMap<(String, Option<String>), usize> = HashMap::new();
    for request in cluster.store_proxy().requests().into_iter().filter(|request| request.method == Method::GET) {
        *fetched.entry((request.key, request.range)).or_default() += 1;
    }
    println!("tails: {READERS} readers of {} segments made {} GETs", cluster.segments().len(), fetched.values().sum::<usize>());
    assert!(!fetched.is_empty(), "nothing was fetched: the readers' gateway did not need the store");
    assert!(fetched.values().all(|times| *times == 1), "blocks were fetched more than once: {fetched:?}");
}
