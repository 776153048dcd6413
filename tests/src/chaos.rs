//! Chaos on the real parts: a cluster of real processes under a steady load, a fault every few seconds drawn from a seed, and then
//! everything is made whole, drained, read through a gateway that saw nothing of it, and judged. Must never retry to green: one seed
//! is one run, and whatever is found in it is in its report.

pub mod deck;
mod figures;
mod finale;
mod inject;
pub mod matrix;
mod report;
mod world;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::Client;
use crate::dice::Dice;
use crate::load::{self, Load, Shape, Style, Tally};
use crate::queues::effects::Effects;
use crate::queues::load as queue;
use crate::queues::producer::Style as Sending;
use crate::queues::{Queue, calls};
use deck::{Deck, Harm, Kind, Place, classes};
use figures::Calm;
pub use report::Report;
use world::{GATEWAYS, World};

/// The topic, and its partitions.
const TOPIC: (&str, u32) = ("load", 12);
/// Leases of messages. Long beside what a failing database may make of its owner's idea of the time.
const LEASE: Duration = Duration::from_secs(3);
/// Attempts after which a message of the queue with dead letters is dead.
const ATTEMPTS: u32 = 4;
/// The longest time between two sends to a queue, in milliseconds.
const QUEUE_PACE_MS: u64 = 400;
/// Records sent in a second, unless told otherwise.
const RATE: f64 = 1_000.0;
/// Faults at once.
const AT_ONCE: usize = 3;
/// Without a fault: before the first, and after the last.
const CALM: Duration = Duration::from_secs(8);
/// How many times as long as asked a run may last until it has what is demanded of it.
const PATIENCE: u32 = 4;
/// From here on a run must have seen each fault, not only each class.
const LONG: Duration = Duration::from_secs(25 * 60);
/// From here on there are objects to delete.
const LATE: Duration = Duration::from_secs(12 * 60);

/// What a run is to be.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long faults happen, at least.
    pub lasts: Duration,
    /// A fault each so often.
    pub every: Duration,
    /// Records that are acknowledged while faults happen, at least.
    pub records: u64,
    /// Faults, at least.
    pub faults: usize,
    /// Records sent in a second.
    pub rate: f64,
    /// Bytes that a record is padded with: fewest and most.
    pub pad: (u64, u64),
    /// Draws everything.
    pub seed: u64,
    /// Only faults whose name or class contains this; then nothing else is demanded.
    pub only: Option<String>,
    /// Where reports go.
    pub out: PathBuf,
}

impl Settings {
    /// A run of some minutes.
    pub fn minutes(minutes: u64, seed: u64, out: PathBuf) -> Self {
        let lasts = Duration::from_secs(minutes * 60);
        let (every, pad) = (Duration::from_secs(4), (950, 1_050));
        Self { lasts, every, records: 1, faults: 1, rate: RATE, pad, seed, only: None, out }
    }
}

/// A fault under way, what it holds, and what came of it.
struct Ended {
    kind: Kind,
    gateways: Vec<usize>,
    told: Option<inject::Told>,
}

/// What a run went through.
struct Rage {
    kinds: Vec<Kind>,
    demanded: Vec<&'static str>,
    /// Faults that did not happen, and why.
    missed: Vec<(Kind, String)>,
    calm: Vec<Calm>,
    acked: u64,
    lasted: Duration,
}

/// Runs, writes the report, and returns it.
pub async fn run(settings: &Settings) -> Report {
    let panics = overhear();
    let producers = 16.0;
    let shape = Shape { batch: (10, 400), pad: settings.pad, per_second: Some(settings.rate / producers) };
    let log = load::Run::shaped(TOPIC.0, TOPIC.1, shape);
    let work = queue::Run::paced("work", LEASE, true, QUEUE_PACE_MS);
    let lanes = queue::Run::paced("lanes", LEASE, false, QUEUE_PACE_MS);
    let world = Arc::new(World::start(settings.seed, Arc::clone(&log), vec![Arc::clone(&work), Arc::clone(&lanes)]).await);
    let client = world.client_of(0).persistent(CALM);
    create(&client).await;
    let ways = world.ways();

    let mut of_log = Load::new(&log, settings.seed);
    for style in [Style::Plain; 4].into_iter().chain([Style::Sequenced; 6]).chain([Style::Keyed; 4]) {
        of_log.producer(&ways, style);
    }
    of_log.stream(&ways).stream(&ways).replay(&ways);
    for partition in 0..TOPIC.1 {
        of_log.tail(&ways, partition);
    }
    let mut of_work = queue::Load::new(&work, settings.seed + 100);
    for style in [Sending::Plain, Sending::Delayed, Sending::Dedup, Sending::Keyed] {
        of_work.producer(&ways, style);
    }
    of_work.consumer(&ways).consumer(&ways);
    let mut of_lanes = queue::Load::new(&lanes, settings.seed + 200);
    of_lanes.producer(&ways, Sending::Ordered).producer(&ways, Sending::Ordered).consumer(&ways).consumer(&ways);
    let mut effects = Effects::paced(&client, &ways, settings.seed + 300, ("inputs", "outputs"), QUEUE_PACE_MS).await;
    effects.worker(&ways, settings.seed + 400).worker(&ways, settings.seed + 500);

    let rage = rage(&world, settings).await;
    let clients = finale::Clients { log: of_log, queues: vec![of_work, of_lanes], effects };
    drop((log, work, lanes, ways));
    let report = finale::judge(world, rage, clients, settings, &panics).await;
    report.write(&settings.out);
    report
}

async fn create(client: &Client) {
    let topic = json!({"partitions": TOPIC.1, "parquet": {"max_age": "10s"}});
    client.call(reqwest::Method::PUT, &format!("/v1/topics/{}", TOPIC.0), &topic).await;
    let lease = calls::text(LEASE);
    let dead_letters = json!({"lease": lease, "max_attempts": ATTEMPTS, "dead_letter": {"topic": "work.dead"}});
    Queue::of(client, "work").create(dead_letters).await;
    Queue::of(client, "lanes").create(json!({"lease": lease, "ordering": "key"})).await;
}

/// Faults, one after the other and some at once, until there were enough.
async fn rage(world: &Arc<World>, settings: &Settings) -> Rage {
    let chosen = |kind: &Kind| settings.only.as_ref().is_none_or(|only| kind.name.contains(only) || kind.class.contains(only));
    let kinds: Vec<Kind> = world.kinds(settings.lasts >= LATE).into_iter().filter(chosen).collect();
    assert!(!kinds.is_empty(), "no fault is called so");
    let demanded = if settings.lasts >= LONG { kinds.iter().map(|kind| kind.name).collect() } else { classes(&kinds) };
    let (mut deck, mut dice) = (Deck::new(settings.seed, &kinds), Dice::new(settings.seed ^ 0xfa17));
    let mut under_way: JoinSet<Ended> = JoinSet::new();
    let mut held: Vec<Kind> = Vec::new();
    let mut busy = [false; GATEWAYS];
    let mut rage = Rage { kinds, demanded, missed: Vec::new(), calm: vec![Calm::begin(&world.run)], acked: 0, lasted: Duration::ZERO };
    tokio::time::sleep(CALM).await;
    rage.calm[0].end(&world.run);
    let (began, acked) = (Instant::now(), world.run.acked());
    let mut next = Instant::now();
    loop {
        while let Some(ended) = under_way.try_join_next() {
            take_in(ended, world, &mut rage, &mut deck, &mut held, &mut busy);
        }
        world.look_after().await;
        (rage.acked, rage.lasted) = (world.run.acked() - acked, began.elapsed());
        if is_enough(world, &rage, settings) {
            break;
        }
        if rage.lasted > settings.lasts * PATIENCE {
            world.found(format!("not within {:?}: {}", rage.lasted, wanting(world, &rage, settings)));
            break;
        }
        if Instant::now() >= next && under_way.len() < AT_ONCE {
            let is_free = |kind: &Kind| is_free(kind, &held, &busy);
            if let Some(kind) = deck.deal(is_free) {
                let gateways = victims(&kind, &busy, &mut dice);
                gateways.iter().for_each(|gateway| busy[*gateway] = true);
                held.push(kind);
                let (world, dice) = (Arc::clone(world), Dice::new(dice.between(0, u64::MAX - 1)));
                under_way.spawn(async move {
                    let task = tokio::spawn({
                        let gateways = gateways.clone();
                        async move { inject::inject(&world, &kind, &gateways, dice).await }
                    });
                    // A panic is heard by who listens to all of them.
                    Ended { kind, gateways, told: task.await.ok() }
                });
                next = Instant::now() + settings.every;
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    while let Some(ended) = under_way.join_next().await {
        take_in(ended, world, &mut rage, &mut deck, &mut held, &mut busy);
    }
    rage
}

/// Whether what a fault takes hold of is in nobody's hands. One gateway is always left alone.
fn is_free(kind: &Kind, held: &[Kind], busy: &[bool]) -> bool {
    let taken: BTreeSet<Place> = held.iter().map(|kind| kind.place).collect();
    let free = busy.iter().filter(|busy| !**busy).count();
    if kind.harm == Harm::Zone {
        return free == GATEWAYS && !taken.contains(&Place::Order) && !taken.contains(&Place::Compactor);
    }
    let zone = held.iter().any(|kind| kind.harm == Harm::Zone);
    match kind.place {
        Place::Gateway => free > 1 && !zone,
        Place::Compactor => !taken.contains(&Place::Compactor) && !zone,
        place => !taken.contains(&place),
    }
}

/// Which gateways a fault takes hold of.
fn victims(kind: &Kind, busy: &[bool], dice: &mut Dice) -> Vec<usize> {
    let mut free: Vec<usize> = (0..busy.len()).filter(|gateway| !busy[*gateway]).collect();
    let wanted = match (kind.harm, kind.place) {
        (Harm::Zone, _) => 2,
        (_, Place::Gateway) => 1,
        _ => 0,
    };
    (0..wanted).map(|_| free.remove(dice.between(0, free.len() as u64 - 1) as usize)).collect()
}

fn take_in(
    ended: Result<Ended, tokio::task::JoinError>,
    world: &World,
    rage: &mut Rage,
    deck: &mut Deck,
    held: &mut Vec<Kind>,
    busy: &mut [bool],
) {
    let Ended { kind, gateways, told } = ended.expect("a task that only waits does not fail");
    gateways.into_iter().for_each(|gateway| busy[gateway] = false);
    let at = held.iter().position(|held| held.name == kind.name).expect("what ended was held");
    held.remove(at);
    match told {
        Some(told) if told.fired => {}
        Some(told) => {
            println!("chaos: {:>7.1} s  did not happen: {}: {}", f64::from(world.run.pulse.now()) / 1e3, kind.name, told.note);
            deck.put_back(&kind);
            rage.missed.push((kind, told.note));
        }
        None => rage.missed.push((kind, "its injection failed".to_owned())),
    }
}

fn is_enough(world: &World, rage: &Rage, settings: &Settings) -> bool {
    rage.lasted >= settings.lasts && wanting(world, rage, settings).is_empty()
}

/// What is still demanded.
fn wanting(world: &World, rage: &Rage, settings: &Settings) -> String {
    let strikes = world.strikes();
    let mut wanting = Vec::new();
    if rage.acked < settings.records {
        wanting.push(format!("{} of {} records are acknowledged", rage.acked, settings.records));
    }
    if strikes.len() < settings.faults {
        wanting.push(format!("{} of {} faults happened", strikes.len(), settings.faults));
    }
    let had: BTreeSet<&str> = strikes.iter().flat_map(|strike| [strike.kind.name, strike.kind.class]).collect();
    wanting.extend(rage.demanded.iter().filter(|name| !had.contains(*name)).map(|name| format!("never happened: {name}")));
    wanting.join("; ")
}

/// Whoever panics from now on, be it a client, a fault or the judge, is written down as well as told of.
fn overhear() -> Arc<Mutex<Vec<String>>> {
    let panics = Arc::<Mutex<Vec<String>>>::default();
    let (before, heard) = (std::panic::take_hook(), Arc::clone(&panics));
    std::panic::set_hook(Box::new(move |panic| {
        heard.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(panic.to_string());
        before(panic);
    }));
    panics
}

/// How tries went, for reports.
fn told(tally: &Tally) -> serde_json::Value {
    let count = |of: &std::sync::atomic::AtomicU64| of.load(std::sync::atomic::Ordering::Relaxed);
    json!({
        "refused": count(&tally.refused), "unknown": count(&tally.unknown), "cut": count(&tally.cut),
        "unreachable": count(&tally.unreachable), "slowest_send_ms": count(&tally.slowest_ms),
    })
}
