//! `kill -9` at every point of the write path (ARCHITECTURE.md, "One message in") under load: nothing acknowledged is lost,
//! nothing is made up or stored twice against a promise, and nothing is left behind.

use std::collections::HashSet;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use lakefall_tests::checker::Demands;
use lakefall_tests::cluster::{LEASE, Options, Role, eventually};
use lakefall_tests::dice::{Dice, rounds, seed};
use lakefall_tests::load::{Load, Run};
use lakefall_tests::process::Process;
use lakefall_tests::verdict;
use serde_json::json;
use tokio::time::Instant;

const PARTITIONS: u32 = 4;
const FAILPOINTS: &str = "LAKEFALL_FAILPOINTS";
/// A process under load passes each point within this time as often as is asked for.
const FIRES: Duration = Duration::from_secs(60);
/// Acknowledged between two kills, at least: as much as the verdict asks for.
const ACKED: u64 = 100;
/// What is served again within this time was not held up by a lease.
const AT_ONCE: Duration = Duration::from_secs(15);
/// An orphan's age, the search for it, and its deletion.
const SWEPT: Duration = Duration::from_secs(90);

/// Starts a process that kills itself at its `nth` pass of a point. Under load that may be before it says that it is ready.
async fn arm(process: &mut Process, point: &str, nth: u64) {
    process.kill_nine();
    process.set_env(FAILPOINTS, format!("{point}=kill:{nth}"));
    if let Err(told) = process.try_start().await {
        assert!(told.contains("a failpoint fires"), "{told}");
    }
    process.unset_env(FAILPOINTS);
}

async fn died(process: &mut Process, point: &str) {
    if process.has_started() {
        let status = process.wait_for_end_within(FIRES).await;
        assert_eq!(status.signal(), Some(9), "{} at {point} ended otherwise:\n{}", process.name(), process.log());
    }
    let fired = process.whole_log().lines().any(|line| line.contains("a failpoint fires") && line.contains(point));
    assert!(fired, "{} died, but not at {point}:\n{}", process.name(), process.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_killed_at_any_point_of_a_write_loses_nothing_and_leaves_nothing_behind() {
    const POINTS: [&str; 7] = ["k0", "k1", "k2", "k3", "k4", "k8", "k9"];
    let seed = seed("gateway_kill_points");
    let mut dice = Dice::new(seed);
    let options = Options::default()
        .compactor()
        .env(Role::Compactor, "LAKEFALL_COLLECTOR__GRACE_SECONDS", 1)
        .env(Role::Compactor, "LAKEFALL_COLLECTOR__INTERVAL_SECONDS", 1)
        .env(Role::Compactor, "LAKEFALL_COLLECTOR__ORPHAN_GRACE_SECONDS", 5)
        .env(Role::Compactor, "LAKEFALL_COLLECTOR__ORPHAN_INTERVAL_SECONDS", 10);
    let mut cluster = options.start().await;
    cluster.wait_for_mark().await;
    let client = cluster.client();
    client.create_topic("load", PARTITIONS).await;
    let (run, ways) = (Run::new("load", PARTITIONS), cluster.ways());
    let mut load = Load::new(&run, seed);
    load.everyone(&ways);
    let kills = rounds(1) * POINTS.len();
    for kill in 0..kills {
        let point = POINTS[kill % POINTS.len()];
        let victim = &mut cluster.gateways[kill % 2];
        arm(victim, point, dice.between(1, 30)).await;
        died(victim, point).await;
        run.recorder.fault(point);
        // The other one serves meanwhile.
        run.acked_more(1, AT_ONCE).await;
        run.acked_more(ACKED, FIRES).await;
        victim.start().await;
    }
    let last = Instant::now();
    load.finish().await;
    let report = verdict::judge("gateway_kill_points", run, ways, Demands { faults: kills, acked: ACKED as usize * kills }).await;
    assert!(report.unknown_stored + report.unknown_absent > 0, "no kill met a request under way: the load is too small");

    // Segments that were stored and not committed are swept; what was committed stays. A stop writes all of it to the tables.
    for replica in &mut cluster.replicas {
        replica.stop().await;
        replica.start().await;
    }
    // What a ledger refused is in the table too, so that it stays refused.
    let known = cluster.sql("select object from extents union select id from objects where not refused").await;
    let known: HashSet<&str> = known.lines().collect();
    let segments = cluster.segments();
    let mut orphans: Vec<String> = segments.iter().filter(|segment| !known.contains(id_of(segment))).cloned().collect();
    println!("gateway_kill_points: of {} segments, {} are orphans {:?} after the last kill", segments.len(), orphans.len(), last.elapsed());
    let (began, patient) = (Instant::now(), client.clone().persistent(AT_ONCE));
    while !orphans.is_empty() {
        assert!(began.elapsed() < SWEPT, "{} orphans are left after {SWEPT:?}: {:?}", orphans.len(), orphans[0]);
        // The collector looks when something happens.
        patient.put("load", 0, &json!("after")).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let left = cluster.segments();
        orphans.retain(|orphan| left.contains(orphan));
    }
    println!("gateway_kill_points: they are gone after {:?}", began.elapsed());
    let left = cluster.segments();
    assert!(
        segments.iter().filter(|segment| known.contains(id_of(segment))).all(|segment| left.contains(segment)),
        "a committed one is gone"
    );
    assert!(cluster.ended().is_none());
}

/// The id in a segment's key.
fn id_of(segment: &str) -> &str {
    segment.rsplit('/').next().unwrap().trim_end_matches(".seg")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_killed_at_any_point_of_an_append_or_checkpoint_is_replaced_and_loses_nothing() {
    const POINTS: [&str; 6] = ["k5", "k6", "k7", "p1", "p2", "p3"];
    let seed = seed("owner_kill_points");
    let mut dice = Dice::new(seed);
    let mut cluster = Options::default().env(Role::Metadata, "LAKEFALL_METADATA__CHECKPOINT_ENTRIES", 20).start().await;
    cluster.client().create_topic("load", PARTITIONS).await;
    let (run, ways) = (Run::new("load", PARTITIONS), cluster.ways());
    let mut load = Load::new(&run, seed);
    load.everyone(&ways);
    let kills = rounds(1) * POINTS.len();
    let mut slowest = Duration::ZERO;
    for kill in 0..kills {
        let point = POINTS[kill % POINTS.len()];
        let owner = cluster.wait_for_owner(0).await;
        let other = 1 - owner;
        arm(&mut cluster.replicas[other], point, dice.between(1, if point.starts_with('k') { 30 } else { 3 })).await;
        // The armed one gets the shard, and dies of it; the other gets it back when the lease is over.
        cluster.replicas[owner].stop().await;
        eventually("the armed one owns the shard", LEASE + AT_ONCE, async || {
            cluster.owner(0).await == Some(other) || cluster.replicas[other].ended().is_some()
        })
        .await;
        cluster.replicas[owner].start().await;
        died(&mut cluster.replicas[other], point).await;
        run.recorder.fault(point);
        slowest = slowest.max(run.acked_more(1, LEASE + AT_ONCE).await);
        run.acked_more(ACKED, FIRES).await;
        cluster.replicas[other].start().await;
    }
    println!("owner_kill_points: the slowest of {kills} takeovers took {slowest:?}, the lease is {LEASE:?}");
    load.finish().await;
    verdict::judge("owner_kill_points", run, ways, Demands { faults: kills, acked: ACKED as usize * kills }).await;
    assert!(cluster.ended().is_none());
}
