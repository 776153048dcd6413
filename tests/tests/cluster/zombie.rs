//! A gateway that is stopped between the upload and the commit of a segment, and wakes after the segment was swept as an
//! orphan: the commit is refused, nobody gets an acknowledgement, nothing is lost.

use std::time::Duration;

use lakefall_tests::cluster::{Options, Role, eventually};
use lakefall_tests::process::Process;
use serde_json::json;

/// An orphan's age (2 s), the next search for it (10 s), and its deletion.
const SWEPT: Duration = Duration::from_secs(60);
const PROMPT: Duration = Duration::from_secs(20);

/// Whether the kernel says that a process is stopped.
fn is_stopped(process: &Process) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid().as_raw_nonzero())).unwrap();
    status.lines().any(|line| line.starts_with("State:") && line.contains("T (stopped)"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_wakes_after_its_segment_was_swept_acknowledges_nothing() {
    let options = Options::default()
        .compactor()
        .env(Role::Compactor, "LAKEFALL_COLLECTOR__GRACE_SECONDS", 1)
        .env(Role::Compactor, "LAKEFALL_COLLECTOR__INTERVAL_SECONDS", 1)
        .env(Role::Compactor, "LAKEFALL_COLLECTOR__ORPHAN_GRACE_SECONDS", 2)
        .env(Role::Compactor, "LAKEFALL_COLLECTOR__ORPHAN_INTERVAL_SECONDS", 10);
    let mut cluster = options.start().await;
    cluster.wait_for_mark().await;
    let (sleeper, other) = (cluster.client_of(0).patience(SWEPT * 2), cluster.client_of(1));
    other.create_topic("t", 1).await;
    cluster.gateways[0].kill_nine();
    cluster.gateways[0].set_env("LAKEFALL_FAILPOINTS", "k4=stop:3");
    cluster.gateways[0].start().await;
    for n in 0..2 {
        assert_eq!(sleeper.put("t", 0, &json!(n)).await, n);
    }
    let known = cluster.segments();
    let cut = tokio::spawn({
        let sleeper = sleeper.clone();
        async move { sleeper.send(sleeper.values("t", "partition=0", "\"swept\"")).await }
    });
    eventually("the gateway stopped itself", PROMPT, async || is_stopped(&cluster.gateways[0])).await;
    let orphans: Vec<String> = cluster.segments().into_iter().filter(|segment| !known.contains(segment)).collect();
    assert_eq!(orphans.len(), 1, "what it stored before it stopped");
    // Life goes on, and gives the collector a reason to look.
    let mut n = 2;
    let took = eventually("the orphan is deleted", SWEPT, async || {
        assert_eq!(other.put("t", 0, &json!(n)).await, n);
        n += 1;
        !cluster.segments().contains(&orphans[0])
    });
    println!("zombie: swept after {:?}", took.await);
    cluster.gateways[0].resume();
    match cut.await.unwrap() {
        Ok(answer) => {
            println!("zombie: the sleeper's client is told {}: {}", answer.status, answer.text());
            assert!(matches!(answer.status, 503 | 504), "{}: {}", answer.status, answer.text());
            assert!(answer.json()["outcome"] != "applied");
        }
        Err(error) => println!("zombie: the sleeper's client is told nothing: {error}"),
    }
    // It goes on as before, and both read the same without what was swept.
    eventually("the sleeper serves again", PROMPT, async || {
        sleeper.send(sleeper.values("t", "partition=0", "\"awake\"")).await.is_ok_and(|answer| answer.status == 200)
    })
    .await;
    let (rows, same) = (other.read_pages("t", 0, 0).await, sleeper.read_pages("t", 0, 0).await);
    assert_eq!(rows, same);
    assert!(rows.iter().all(|row| row.value != b"\"swept\""[..]), "a record that was never acknowledged came back with its segment gone");
    assert_eq!(rows.len() as u64, n + 1);
    assert!(cluster.ended().is_none());
}
