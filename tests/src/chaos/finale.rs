//! The end of a run: everything is made whole, clients finish, a gateway that saw nothing of it reads everything, the queues are
//! drained, the histories are judged, and what is stored is looked at from behind. Must never stop at the first thing that it finds.

use std::collections::{BTreeMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::figures::{Calm, Recovery, commit, gaps, machine};
use super::report::{Outcome, Report, Session};
use super::world::{SWEEP, Strike, World};
use super::{ATTEMPTS, CALM, Rage, Settings, told};
use crate::checker::{self, check};
use crate::client::Endpoint;
use crate::cluster::Role;
use crate::load::{self, Load};
use crate::process::Process;
use crate::queues::checker::{Check, Demands};
use crate::queues::effects::Effects;
use crate::queues::{load as queue, verdict};
use crate::{Client, Row};

/// Clients that waited for something broken have given it up after this time.
const SETTLED: Duration = Duration::from_secs(10);
/// How long a gateway may still send the last readers away.
const READABLE: Duration = Duration::from_secs(30);
/// How long the last calls to the fresh gateway may take.
const PATIENT: Duration = Duration::from_secs(60);
/// Readers of the last read, numbered apart from all others.
const LAST: u32 = 1_000;
/// Partitions of more records are read as pages only: an answer of lines is held as a whole.
const LINES: u64 = 200_000;
/// The owner's idea of the database's clock, where answers come as late as the faults make them.
const CLOCK: Duration = Duration::from_millis(600);
/// The last inputs are done, and orphans are swept, within this time.
const DONE: Duration = Duration::from_secs(90);

/// All clients of a run.
pub(super) struct Clients {
    pub(super) log: Load,
    pub(super) queues: Vec<queue::Load>,
    pub(super) effects: Effects,
}

/// Does it, whatever happens. What panics is heard by whoever listens to panics.
async fn all_the_same<T>(step: impl Future<Output = T>) -> Option<T> {
    AssertUnwindSafe(step).catch_unwind().await.ok()
}

/// Judges.
pub(super) async fn judge(world: Arc<World>, mut rage: Rage, clients: Clients, settings: &Settings, panics: &Mutex<Vec<String>>) -> Report {
    let mut world = Arc::into_inner(world).expect("no fault is under way");
    println!("chaos: everything is made whole");
    all_the_same(world.heal()).await;
    tokio::time::sleep(SETTLED).await;
    let mut calm = Calm::begin(&world.run);
    tokio::time::sleep(CALM).await;
    calm.end(&world.run);
    rage.calm.push(calm);
    let idle = world.idle_transactions().await;
    let Clients { log, queues, effects } = clients;
    all_the_same(log.finish()).await;
    for queue in queues {
        all_the_same(queue.finish()).await;
    }

    let (strikes, beats) = (world.strikes(), world.run.pulse.beats());
    let (tally, memory) = (told(&world.run.tally), most_memory(&world).await);
    let mut session = Session::new(settings, commit(), machine());
    let mut fresh = fresh(&world).await;
    let client = Client::new(Endpoint::at(fresh.address("HTTP API"))).patience(PATIENT).persistent(READABLE);
    let others = world.client_of(0).patience(PATIENT).persistent(READABLE);
    let run = std::mem::replace(&mut world.run, load::Run::new("", 1));
    if let Some(report) = all_the_same(judge_log(run, &client, &others, strikes.len(), settings)).await {
        session.log(report);
    }
    for run in std::mem::take(&mut world.queues) {
        let ordered = run.queue == "lanes";
        let name = run.queue;
        let demands = demands(ordered, strikes.len());
        if let Some((report, history)) = all_the_same(verdict::examine("chaos", run, &client, demands)).await {
            if !report.violations.is_empty() {
                let _ = std::fs::create_dir_all(&settings.out);
                let _ = history.write(&settings.out.join(format!("history-{name}.jsonl")));
            }
            session.queue(name, report);
        }
    }
    let done = all_the_same(effects.judge("chaos", &client, DONE)).await;
    session.invariant("effects", "consume, transform, produce: each input had its effect once (H9)", done.is_some(), "");
    let told = idle.map_or_else(|| "the database did not answer".to_owned(), |count| format!("{count} sessions"));
    session.invariant("W8", "no session sits in an open transaction for more than a second", idle == Some(0), &told);
    if let Some((orphans, left, took)) = all_the_same(orphans(&world, &client)).await {
        let told = format!("{orphans} orphans after the last fault, {left} left after {:.0} s", took.as_secs_f64());
        session.invariant("W3", "what no ledger knows is gone within its grace", left == 0, &told);
    }
    all_the_same(stop(&world, &mut fresh)).await;
    if let Some((clean, told)) = all_the_same(world.cluster.run_over(&world.postgres(), &["fsck"])).await {
        let what = "`lakefall fsck`: live extents exist with their checksums (W1), follow each other without a gap (W2), add up to what \
            partitions tell (W7), and lie in no object that was let go of (W6)";
        session.invariant("fsck", what, clean && told.contains("clean"), told.trim().lines().last().unwrap_or_default());
        if !clean {
            let _ = std::fs::create_dir_all(&settings.out);
            let _ = std::fs::write(settings.out.join("fsck.txt"), told);
        }
    }
    keep_logs(&world, settings, session.is_clean() && world.findings().is_empty());
    guards(&mut session, &rage, &strikes);
    world.findings().into_iter().for_each(|found| session.found(found));
    let panics = panics.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    panics.iter().for_each(|panic| session.found(format!("panic of a client, a fault or the judge: {panic}")));
    let recovery = Recovery::of(&strikes, beats.clone());
    session.finish(Outcome { rage: &rage, strikes: &strikes, recovery: &recovery, gaps: gaps(&beats, 5), tally, memory })
}

fn demands(ordered: bool, faults: usize) -> Demands {
    let (plain, lanes): (&[Check], &[Check]) = (
        &[Check::Q1, Check::Q2, Check::Q3, Check::Q6, Check::Q7, Check::Q8, Check::Q10],
        &[Check::Q1, Check::Q2, Check::Q3, Check::Q5, Check::Q7, Check::Q10],
    );
    let attempts = (!ordered).then_some(ATTEMPTS);
    let examined = if ordered { lanes } else { plain };
    Demands { faults, acked: 100, examined, max_attempts: attempts, ordered, clock: CLOCK, ..Demands::default() }
}

/// Highest resident memory of each gateway since its last start, in MiB.
async fn most_memory(world: &World) -> Vec<u64> {
    let mut most = Vec::new();
    for gateway in &world.gateways {
        let pid = gateway.lock().await.pid();
        let status = std::fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse::<u64>().ok());
        most.push(peak.unwrap_or_default() >> 10);
    }
    most
}

/// A gateway that was not there when faults happened.
async fn fresh(world: &World) -> Process {
    let listen = ["--listen", "127.0.0.1:0"].map(Into::into).to_vec();
    let mut fresh = world.cluster.process(Role::Gateway, "the fresh gateway", listen, &["HTTP API", "Admin"]);
    world.revive(&mut fresh).await;
    fresh
}

/// Reads all of the log through the fresh gateway, and once more through another where there is not too much of it.
async fn judge_log(run: Arc<load::Run>, fresh: &Client, others: &Client, faults: usize, settings: &Settings) -> checker::Report {
    let ends = fresh.ends(run.topic).await;
    for (partition, (start, end)) in ends.into_iter().enumerate() {
        let partition = partition as u32;
        assert_eq!(start, 0, "nothing was trimmed");
        let (mut at, began) = (start, Instant::now());
        while at < end {
            let op = run.recorder.ask(LAST, true, partition, at);
            match fresh.page(run.topic, partition, at, "").await {
                Ok(page) => {
                    run.recorder.saw(op, page.rows.iter().map(Row::seen), end);
                    at = page.next;
                }
                Err(told) => {
                    run.recorder.fail(op);
                    assert!(began.elapsed() < DONE, "partition {partition} cannot be read from {at} on: {told}");
                }
            }
        }
        if end <= LINES {
            let op = run.recorder.ask(LAST + 1, true, partition, start);
            let rows = others.read_lines(run.topic, partition, start).await;
            run.recorder.saw(op, rows.iter().map(Row::seen), end);
        }
    }
    println!("chaos: {:?}", run.tally);
    let run = Arc::into_inner(run).expect("all clients have ended");
    let history = run.recorder.finish();
    let report = check(&history, checker::Demands { faults, acked: settings.records as usize });
    println!("chaos: {report}");
    if !report.violations.is_empty() {
        let _ = std::fs::create_dir_all(&settings.out);
        let _ = history.write(&settings.out.join("history-log.jsonl"));
    }
    report
}

/// The id in a segment's key.
fn id_of(segment: &str) -> &str {
    segment.rsplit('/').next().unwrap_or_default().trim_end_matches(".seg")
}

/// Segments that no ledger knows. A stop of the replicas writes to the tables what is known; what a ledger refused is there too, so
/// that it stays refused. What is committed meanwhile is in a journal only: it is known at the next look.
async fn unknown(world: &World) -> HashSet<String> {
    for replica in &world.replicas {
        let mut replica = replica.lock().await;
        replica.stop().await;
        replica.start().await;
    }
    // What a ledger saw and refused is known to it, and goes when its commit can be repeated no more.
    let known = "select object from extents union select id from objects where not refused or size > 0";
    let known = world.try_sql(known).await.expect("the database answers");
    let known: HashSet<&str> = known.lines().collect();
    world.cluster.segments().into_iter().filter(|segment| !known.contains(id_of(segment))).collect()
}

/// How many orphans there were, how many of them are left when it was waited for long enough, and how long that was.
async fn orphans(world: &World, client: &Client) -> (usize, usize, Duration) {
    let mut orphans = unknown(world).await;
    let (count, began) = (orphans.len(), Instant::now());
    client.create_topic("after", 1).await;
    let mut looked = Instant::now();
    while !orphans.is_empty() && began.elapsed() < DONE + SWEEP.1 * 2 {
        // The collector looks when something happens.
        let _ = client.send(client.values("after", "partition=0", "1")).await;
        tokio::time::sleep(Duration::from_millis(250)).await;
        let left: HashSet<String> = world.cluster.segments().into_iter().collect();
        orphans.retain(|orphan| left.contains(orphan));
        if looked.elapsed() > SWEEP.1 * 2 && !orphans.is_empty() {
            let still = unknown(world).await;
            orphans.retain(|orphan| still.contains(orphan));
            looked = Instant::now();
        }
    }
    if !orphans.is_empty() {
        println!("chaos: orphans that are left: {orphans:?}; the collector spares what was there at {:?}", world.spared());
    }
    (count, orphans.len(), began.elapsed())
}

async fn stop(world: &World, fresh: &mut Process) {
    fresh.stop().await;
    for process in world.gateways.iter().chain([&world.compactor]).chain(&world.replicas) {
        process.lock().await.stop().await;
    }
}

/// What processes logged is kept where something was found.
fn keep_logs(world: &World, settings: &Settings, clean: bool) {
    if clean {
        return;
    }
    let logs = settings.out.join("logs");
    let _ = std::fs::create_dir_all(&logs);
    let own = world.cluster.file("");
    for entry in std::fs::read_dir(own).into_iter().flatten().filter_map(Result::ok) {
        if entry.path().extension().is_some_and(|extension| extension == "log") {
            let _ = std::fs::copy(entry.path(), logs.join(entry.file_name()));
        }
    }
    println!("chaos: logs are in {}", show(&logs));
}

fn show(path: &Path) -> String {
    path.display().to_string()
}

/// A run that could not have found anything is no run.
fn guards(session: &mut Session<'_>, rage: &Rage, strikes: &[Strike]) {
    let had: HashSet<&str> = strikes.iter().flat_map(|strike| [strike.kind.name, strike.kind.class]).collect();
    let never: Vec<&str> = rage.demanded.iter().filter(|name| !had.contains(*name)).copied().collect();
    session.invariant("guard", "each fault that was configured happened", never.is_empty(), &never.join(", "));
    let (ok, other) = Calm::sum(&rage.calm);
    let told = format!("{ok} sends acknowledged, {other} tries that were not, in {} windows", rage.calm.len());
    session.invariant("guard", "at least half of the tries in windows without faults are acknowledged", ok > 0 && ok >= other, &told);
}

/// How often each fault happened.
pub(super) fn by_name(strikes: &[Strike]) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    strikes.iter().for_each(|strike| *counts.entry(strike.kind.name).or_default() += 1);
    counts
}

/// A fault as JSON.
pub(super) fn strike_json(strike: &Strike, recovered: Option<u32>) -> Value {
    json!({
        "fault": strike.kind.name, "class": strike.kind.class, "rows": strike.kind.rows, "at_ms": strike.at,
        "mended_ms": strike.mended, "recovered_ms": recovered, "note": strike.note,
    })
}
