//! Postgres fails over: to a synchronous standby, and nothing acknowledged is lost; to one that lags, and what it lacks is
//! lost, as the manual says, but nothing is deleted and everybody is told.

use std::sync::Arc;
use std::time::Duration;

use lakefall_tests::checker::Demands;
use lakefall_tests::cluster::{LEASE, Options, Role, eventually};
use lakefall_tests::dice::seed;
use lakefall_tests::load::{Load, Run};
use lakefall_tests::process::Process;
use lakefall_tests::verdict;
use serde_json::json;

const PROMPT: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_to_a_synchronous_standby_loses_nothing_though_the_old_primary_lives_on() {
    let seed = seed("failover");
    let mut cluster = Options::default().own_postgres().postgres_proxies().alone().start().await;
    let standby = cluster.postgres.standby().await;
    cluster.postgres.set("synchronous_standby_names", "*").await;
    cluster.client().create_topic("load", 2).await;
    let (run, ways) = (Run::new("load", 2), cluster.ways());
    let mut load = Load::new(&run, seed);
    load.everyone(&ways);
    run.acked_more(300, PROMPT).await;
    // One replica is sent to the new primary, the other stays with the old one for a while.
    standby.promote().await;
    run.recorder.fault("failover");
    let owner = cluster.wait_for_owner(0).await;
    cluster.postgres_proxies[1 - owner].retarget(standby.address());
    cluster.postgres_proxies[1 - owner].reset_all();
    let old = std::mem::replace(&mut cluster.postgres, Arc::new(standby));
    // The old primary waits for a standby that is gone: it acknowledges nothing more.
    let took = run.acked_more(1, LEASE + PROMPT).await;
    println!("failover: acknowledged again after {took:?}");
    cluster.postgres_proxies[owner].retarget(cluster.postgres.address());
    cluster.postgres_proxies[owner].reset_all();
    run.acked_more(300, PROMPT).await;
    old.stop_immediate().await;
    run.acked_more(100, PROMPT).await;
    load.finish().await;
    verdict::judge("failover", run, ways, Demands { faults: 1, acked: 600 }).await;
    assert!(cluster.ended().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_lagged_when_it_was_promoted_halts_the_collector_until_an_operator_accepts_the_loss() {
    const KEPT: u64 = 20;
    const LOST: u64 = 15;
    let options = Options::default()
        .own_postgres()
        .postgres_proxies()
        .compactor()
        .env(Role::Compactor, "LAKEFALL_COLLECTOR__GRACE_SECONDS", 1)
        .env(Role::Compactor, "LAKEFALL_COLLECTOR__INTERVAL_SECONDS", 1)
        .env(Role::Compactor, "LAKEFALL_COLLECTOR__ORPHAN_GRACE_SECONDS", 1)
        .env(Role::Compactor, "LAKEFALL_COLLECTOR__ORPHAN_INTERVAL_SECONDS", 10);
    let mut cluster = options.start().await;
    cluster.wait_for_mark().await;
    let told = "PostgreSQL has no synchronous standby: a failover may lose acknowledged records";
    assert!(cluster.replicas.iter().all(|replica| replica.log().contains(told)), "a start does not warn:\n{}", cluster.replicas[0].log());
    let standby = cluster.postgres.standby().await;
    let client = cluster.client();
    client.create_topic("t", 1).await;
    for n in 0..KEPT {
        client.put("t", 0, &json!(format!("kept {n}"))).await;
    }
    let here = cluster.sql("select pg_current_wal_lsn()").await;
    let has = format!("select pg_last_wal_replay_lsn() >= '{here}'::pg_lsn");
    eventually("the standby has them", PROMPT, async || standby.sql("postgres", &has).await == "t").await;
    // From here on it hears nothing.
    standby.set("primary_conninfo", "").await;
    eventually("the standby lags", PROMPT, async || cluster.sql("select count(*) from pg_stat_replication").await == "0").await;
    for n in 0..LOST {
        client.put("t", 0, &json!(format!("lost {n}"))).await;
    }
    let stored = cluster.segments();

    // The replicas go with the primary, and start anew over what is left.
    cluster.replicas.iter_mut().for_each(Process::kill_nine);
    cluster.postgres.stop_immediate().await;
    standby.promote().await;
    cluster.postgres = Arc::new(standby);
    cluster.postgres_proxies.iter().for_each(|proxy| proxy.retarget(cluster.postgres.address()));
    cluster.start().await;
    let goes_on = async || client.send(client.values("t", "partition=0", "\"after\"")).await.is_ok_and(|answer| answer.status == 200);
    let took = eventually("work goes on", PROMPT, goes_on).await;
    println!("lagging standby: work goes on after {took:?}");

    // What is there is what the standby had, and what came after; each gateway says the same.
    let values = async |gateway: usize| -> Vec<String> {
        let rows = cluster.client_of(gateway).read_pages("t", 0, 0).await;
        rows.into_iter().map(|row| String::from_utf8_lossy(&row.value).into_owned()).collect()
    };
    let found = values(0).await;
    let kept: Vec<String> = (0..KEPT).map(|n| format!("\"kept {n}\"")).collect();
    assert_eq!(found[..kept.len()], kept[..]);
    assert!(found[kept.len()..].iter().all(|value| value == "\"after\""), "what the standby never had came back: {found:?}");
    assert_eq!(values(1).await, found);

    let compactor = cluster.compactor.as_ref().unwrap();
    let halted = eventually("the collector is halted", PROMPT, async || {
        compactor.metric_of("lakefall_collector_halted", "other_incarnation").await == 1.0
    });
    println!("lagging standby: the collector is halted after {:?}", halted.await);
    assert!(compactor.log().contains("lakefall recover"), "the log does not say what to do:\n{}", compactor.log());
    // Long after their grace: a search for orphans was due, and did not take place.
    eventually("a search for orphans is refused", PROMPT, async || {
        goes_on().await && compactor.metric_of("lakefall_collector_sweeps_total", "halted").await >= 1.0
    })
    .await;
    let left = cluster.segments();
    assert!(stored.iter().all(|segment| left.contains(segment)), "objects of records that were acknowledged were deleted");

    let (accepted, told) = cluster.run(&["recover"]).await;
    println!("{told}");
    assert!(!accepted && told.contains(&format!("{LOST} records")), "the loss is not told of: {told}");
    let (accepted, told) = cluster.run(&["recover", "--accept"]).await;
    assert!(accepted, "{told}");
    eventually("the collector goes on", PROMPT, async || goes_on().await && compactor.metric("lakefall_collector_halted").await == 0.0)
        .await;
    let left = cluster.segments();
    assert!(stored.iter().all(|segment| left.contains(segment)), "what an operator was shown was deleted without being told to");
    assert!(cluster.ended().is_none());
}
