//! One seed from its beginning to its verdict: a storm, then calm in which all must be served again and all that was promised must
//! be found.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, UNIX_EPOCH};

use lakefall_check::checker::{self, Check};
use lakefall_check::history::{Expect, Header, QueueFacts, Tape, TopicFacts};
use turmoil::{Builder, Sim};

use crate::conductor::{Conductor, PACKET, fresh_gateway};
use crate::dice::Dice;
use crate::fault::Fault;
use crate::hosts::software;
use crate::http::Http;
use crate::length::Length;
use crate::plan::{Host, Plan, Role};
use crate::report::Outcome;
use crate::time::{self, STEP};
use crate::trace::Trace;
use crate::weather::Weather;
use crate::whitebox::{self, Inside, swept_after};
use crate::world::World;
use crate::{effects, guards, log, queue, small, stream, waking};

/// What two processes may differ by in their idea of a lease's end.
const CLOCK: Duration = Duration::from_millis(800);
/// How soon a message comes back that nobody has any more, when all is well.
const REDELIVERY: Duration = Duration::from_secs(10);
/// The calm is told of every so often.
const TICK: Duration = Duration::from_secs(1);

/// What the clients do, and what came of it.
#[derive(Clone)]
struct Loads {
    log: Arc<log::Run>,
    queue: Arc<queue::Run>,
    effects: Arc<effects::Run>,
    guards: Arc<guards::Run>,
    small: Arc<small::Run>,
    long: Arc<queue::Run>,
    waking: Arc<waking::Run>,
}

impl Loads {
    /// Clients finish what they have begun.
    fn stop(&self) {
        self.log.stop();
        self.queue.stop();
        self.effects.stop();
        self.guards.stop();
        self.long.stop();
    }
}

/// Runs a seed.
pub fn run(seed: u64, length: Length, trace: Arc<Trace>) -> Outcome {
    let plan = Plan::new(seed, length);
    trace.line("plan", format_args!("{plan:?}"));
    let tape = Tape::with_clock(Arc::new(time::order_nanos));
    tape.describe(|header| describe(header, &plan));
    let tell = {
        let tape = tape.clone();
        move |fault: &str| tape.fault(fault, None)
    };
    let weather = Arc::new(Weather::new(seed, plan.rates.clone(), Arc::clone(&trace), Box::new(tell)));
    let world = World::new(plan, weather, trace);
    note_panics(&world);
    let loads = Loads {
        log: log::Run::new(&world, &tape),
        queue: queue::Run::new(&world, &tape),
        effects: effects::Run::new(&world),
        guards: guards::Run::new(&world),
        small: small::Run::new(&world, &tape),
        long: queue::Run::long(&world, &tape),
        waking: waking::Run::new(&world),
    };
    let simulated = simulate(&world, &loads, &tape);
    let inside = futures::executor::block_on(whitebox::look(&world));
    judge(&world, &loads, &tape, inside, simulated)
}

/// Whatever panics, in whichever task, is a defect.
fn note_panics(world: &Arc<World>) {
    let world: Weak<World> = Arc::downgrade(world);
    std::panic::set_hook(Box::new(move |panic| {
        if let Some(world) = world.upgrade() {
            world.violation(format!("{panic}"));
        }
    }));
}

/// Everything that happens. Returns how long it took, in simulated time.
fn simulate(world: &Arc<World>, loads: &Loads, tape: &Tape) -> Duration {
    let mut sim = network(world);
    populate(&mut sim, world, loads);
    let mut conductor = Conductor::new(world);
    let audited = Arc::new(AtomicBool::new(false));
    let (mut calm, mut healed, mut stopped, mut auditing, mut told) = (false, false, false, false, Duration::ZERO);
    let length = world.plan.length;
    let enough = length.audit.max(length.heal + swept_after(&world.plan));
    loop {
        let now = sim.elapsed();
        time::begin_step(now);
        if now >= told {
            world.trace.traffic();
            told += TICK;
            if now == length.storm {
                world.weather.storm(true);
            }
            if calm != length.is_calm(now) {
                calm = !calm;
                tape.calm(calm);
            }
        }
        if now >= length.heal && !healed {
            healed = true;
            world.weather.storm(false);
            conductor.heal(&mut sim, now);
        }
        if now >= length.stop && !stopped {
            stopped = true;
            loads.stop();
        }
        if now >= length.audit && !auditing {
            auditing = true;
            conductor.renew(fresh_gateway(), &mut sim);
            sim.client("auditor", audit(Arc::clone(world), loads.clone(), Arc::clone(&audited)));
        }
        conductor.step(&mut sim, now);
        if let Err(error) = sim.step() {
            world.violation(format!("the simulation broke off: {error}"));
            return now;
        }
        if audited.load(Ordering::Relaxed) && now >= enough {
            return now;
        }
        if now >= length.end {
            let acked = loads.log.acked();
            let Length { heal, end, .. } = length;
            world.violation(format!("liveness: with all faults over since {heal:?}, what is left is not read by {end:?} ({acked} acked)"));
            return now;
        }
    }
}

fn network(world: &Arc<World>) -> Sim<'static> {
    let mut dice = Dice::new(world.plan.seed, "network");
    Builder::new()
        .epoch(UNIX_EPOCH + Duration::from_millis(time::EPOCH_MS as u64))
        .simulation_duration(world.plan.length.end * 2)
        .tick_duration(STEP)
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(PACKET)
        .fail_rate(0.0)
        .repair_rate(0.2)
        .ephemeral_ports(10_000..=65_535)
        .tcp_capacity(1_024)
        .enable_random_order()
        .rng_seed(dice.any())
        .build()
}

fn populate(sim: &mut Sim<'static>, world: &Arc<World>, loads: &Loads) {
    for host in world.plan.hosts() {
        if host.role == Role::Clients {
            sim.client(host.name(), clients(Arc::clone(world), loads.clone(), host));
        } else {
            let world = Arc::clone(world);
            sim.host(host.name(), move || software(Arc::clone(&world), host));
        }
    }
}

/// The clients of a host: two producers and one on a long request, readers, two senders and two receivers, workers, those who try what
/// is refused, those whose histories are searched for an order, and at last those who wait for a single record.
async fn clients(world: Arc<World>, loads: Loads, host: Host) -> turmoil::Result {
    let Loads { log, queue, effects, guards, small, long, waking } = loads;
    let (seed, name, index, gateways) = (world.plan.seed, host.name(), host.index as u32, world.gateways());
    let http = |what: &str, number: u32| Http::new(&format!("{name} {what}-{number}"), &gateways, number as usize, &world.trace);
    let dice = |what: &str, number: u32| Dice::new(seed, &format!("{name} {what} {number}"));
    log::create(&log, &mut http("setup", index)).await;
    queue::create(&queue, &mut http("setup", index)).await;
    effects::create(&mut http("setup", index)).await;
    guards::create(&mut http("setup", index)).await;
    small::create(&mut http("setup", index)).await;
    queue::create(&long, &mut http("setup", index)).await;
    tokio::spawn(effects::work(Arc::clone(&effects), http("worker", index), index, dice("worker", index)));
    tokio::spawn(guards::write(Arc::clone(&guards), http("writer", index), index, dice("writer", index)));
    if index == 0 {
        tokio::spawn(effects::send(Arc::clone(&effects), http("inputs", 0), dice("inputs", 0)));
        tokio::spawn(waking::read(waking, http("waking reader", 0), http("waking sender", 0), dice("waking reader", 0)));
    } else {
        tokio::spawn(guards::trim(Arc::clone(&guards), http("trimmer", 0), dice("trimmer", 0)));
        tokio::spawn(waking::receive(waking, http("waking receiver", 0), http("waking sender", 0), dice("waking receiver", 0)));
    }
    for nth in 0..2 {
        let producer = index * 2 + nth;
        let style = [log::Style::Plain, log::Style::Sequenced, log::Style::Keyed, log::Style::Sequenced][producer as usize % 4];
        tokio::spawn(log::produce(Arc::clone(&log), http("producer", producer), producer, style, dice("producer", producer)));
        let sender = index * 2 + nth;
        let style = [queue::Style::Plain, queue::Style::Keyed, queue::Style::Dedup, queue::Style::Delayed][sender as usize % 4];
        tokio::spawn(queue::produce(Arc::clone(&queue), http("sender", sender), sender, style, dice("sender", sender)));
        tokio::spawn(queue::consume(Arc::clone(&queue), http("receiver", sender), sender, dice("receiver", sender)));
        tokio::spawn(small::work(Arc::clone(&small), http("small", sender), sender, dice("small", sender)));
    }
    let style = if index == 0 { queue::Style::Keyed } else { queue::Style::Dedup };
    tokio::spawn(queue::produce(Arc::clone(&long), http("long sender", index), index, style, dice("long sender", index)));
    tokio::spawn(queue::consume(Arc::clone(&long), http("long receiver", index), index, dice("long receiver", index)));
    tokio::spawn(stream::produce(Arc::clone(&log), gateways.clone(), index, dice("stream", index)));
    for partition in (0..world.plan.partitions).filter(|partition| partition % 2 == index % 2 || world.plan.partitions == 1) {
        tokio::spawn(log::tail(Arc::clone(&log), http("reader", partition), partition, dice("reader", partition)));
    }
    tokio::spawn(log::replay(Arc::clone(&log), gateways.clone(), format!("{name} replayer"), dice("replayer", 0)));
    std::future::pending().await
}

/// A client that was never there before takes and reads all that is left, through a gateway that was just started, then reads it
/// again through another.
async fn audit(world: Arc<World>, loads: Loads, audited: Arc<AtomicBool>) -> turmoil::Result {
    let gateways = world.gateways();
    let mut http = Http::new("auditor", &gateways, 0, &world.trace);
    queue::drain(&loads.queue, &mut http).await;
    effects::judge(&loads.effects, &mut http).await;
    log::read_all(&loads.log, &gateways, "auditor").await;
    small::read_all(&loads.small, &mut http).await;
    let turned: Vec<String> = gateways.iter().cycle().skip(1).take(gateways.len()).cloned().collect();
    log::read_all(&loads.log, &turned, "auditor").await;
    audited.store(true, Ordering::Relaxed);
    std::future::pending().await
}

/// What the history must show, and what the queue promises.
fn describe(header: &mut Header, plan: &Plan) {
    header.run = format!("seed {}", plan.seed);
    let queue = QueueFacts {
        max_attempts: plan.max_attempts,
        clock_ms: CLOCK.as_millis() as u64,
        redelivery_ms: REDELIVERY.as_millis() as u64,
        ..QueueFacts::default()
    };
    // Its leases outlast the run.
    header.queues.insert(queue::LONG.into(), QueueFacts { linearizable: true, max_attempts: None, ..queue });
    header.queues.insert(queue::QUEUE.into(), queue);
    header.topics.insert(small::TOPIC.into(), TopicFacts { linearizable: true, ..TopicFacts::default() });
    header.expect = Expect {
        checks: [Check::H1, Check::H2, Check::H3, Check::H5, Check::H6, Check::H7, Check::H8, Check::Q1, Check::Q2, Check::Q3].into(),
        faults: plan.faults.iter().filter(|_| plan.length.every_fault).map(ToString::to_string).collect(),
        fault_count: 1,
        acked: plan.length.acked,
    };
}

/// Judges what clients saw and what is inside.
fn judge(world: &Arc<World>, loads: &Loads, tape: &Tape, inside: Inside, simulated: Duration) -> Outcome {
    let mut violations = world.violations();
    violations.extend(inside.wrong);
    if loads.guards.refused() == 0 {
        violations.push("Vacuous: nothing was tried that must be refused".to_owned());
    }
    let [readers, receivers] = loads.waking.met();
    if readers.min(receivers) < world.plan.length.woken {
        violations.push(format!("Vacuous: only {readers} readers and {receivers} receivers waited for something that came"));
    }
    if inside.extents == 0 {
        violations.push("Vacuous: no extent was looked at".to_owned());
    }
    let history = tape.take();
    let report = checker::judge(&history);
    violations.extend(report.violations.iter().map(ToString::to_string));
    let of_topic = inside.records.iter().filter(|((topic, _), _)| topic == log::TOPIC || topic == queue::QUEUE);
    world.trace.line("verdict", format_args!("{report}"));
    for ((topic, partition), (start, end)) in of_topic {
        world.trace.line("verdict", format_args!("{topic} partition {partition}: {start} to {end}"));
    }
    for violation in &violations {
        world.trace.line("verdict", format_args!("{violation}"));
    }
    if let Some(path) = world.trace.path().filter(|_| !violations.is_empty()) {
        for violation in report.violations.iter().take(3) {
            for (place, line) in checker::context(&violation.subject, &history.events) {
                world.trace.line("context", format_args!("{place}: {line}"));
            }
        }
        // The history beside the trace, for who looks for the cause.
        if let Err(error) = history.write(&path.with_extension("history.jsonl")) {
            world.trace.line("verdict", format_args!("the history could not be written: {error}"));
        }
    }
    let (_, digest) = world.trace.finish();
    Outcome {
        seed: world.plan.seed,
        violations,
        simulated_ms: simulated.as_millis() as u64,
        acked: loads.log.acked(),
        messages: loads.queue.sent(),
        calls: loads.log.tally.calls() + loads.queue.tally.calls() + loads.waking.tally.calls(),
        unknown: report.unknown,
        compacted: inside.compacted as u64,
        let_go: inside.let_go as u64,
        faults: world.weather.counts().into_iter().map(|(fault, count): (Fault, u64)| (fault.to_string(), count)).collect(),
        planted: lakefall_queue::planted::reached(),
        digest: format!("{digest:016x}"),
    }
}
