//! Postgres fails over to a synchronous standby, and the old primary lives on: nothing acknowledged is lost.

use std::sync::Arc;
use std::time::Duration;

use lakefall_tests::checker::Demands;
use lakefall_tests::cluster::{LEASE, Options};
use lakefall_tests::dice::seed;
use lakefall_tests::load::{Load, Run};
use lakefall_tests::verdict;

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
