//! Clients that try what must be refused: writers that were shut out by a higher fencing token, and readers below the log start.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::Method;
use serde_json::json;
use tokio::time::Instant;

use crate::dice::Dice;
use crate::http::{Ask, Http, Outcome, class};
use crate::lock;
use crate::log::until_done;
use crate::world::World;

/// The topics.
const FENCED: &str = "fenced";
const TRIMMED: &str = "trimmed";
/// Between two tries, at most.
const PAUSE: Duration = Duration::from_secs(5);
/// So long a gateway that hears nothing may serve what was trimmed, if it knows of no later start: a minute, and a pause.
const HEARD: Duration = Duration::from_secs(90);

/// What all of them share.
pub struct Run {
    world: Arc<World>,
    stopped: AtomicBool,
    /// Tokens drawn so far.
    tokens: AtomicU64,
    /// The highest with which something was acknowledged.
    acked: AtomicU64,
    /// Where the trimmed topic begins, as far as an answer said so.
    start: AtomicU64,
    /// The same, each with when it was said.
    trims: Mutex<Vec<(Instant, u64)>>,
    /// What must be refused and was.
    refused: AtomicU64,
}

impl Run {
    /// Nothing was tried yet.
    pub fn new(world: &Arc<World>) -> Arc<Self> {
        let zero = AtomicU64::default;
        let stopped = AtomicBool::new(false);
        let trims = Mutex::default();
        Arc::new(Self { world: Arc::clone(world), stopped, tokens: zero(), acked: zero(), start: zero(), trims, refused: zero() })
    }

    /// All end.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// How much was refused that must be.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

/// Creates the topics.
pub async fn create(http: &mut Http) {
    for name in [FENCED, TRIMMED] {
        until_done(http, &Ask::json(Method::POST, "/v1/topics", &json!({ "name": name }))).await;
    }
}

/// Writes under a token until another writer has a higher one, and then goes on for a while all the same.
pub async fn write(run: Arc<Run>, mut http: Http, writer: u32, mut dice: Dice) {
    let mut token = run.tokens.fetch_add(1, Ordering::Relaxed) + 1;
    while !run.is_stopped() {
        let before = run.acked.load(Ordering::Relaxed);
        let path = format!("/v1/topics/{FENCED}/records?format=values&partition=0&fencing_token={token}");
        let ask = Ask::lines(path, format!("{{\"writer\":{writer},\"token\":{token}}}\n"));
        match class(http.send(ask).await, &["fenced"]) {
            Outcome::Ok(_) if token < before => {
                run.world.violation(format!("a writer with token {token} was served although {before} had been acknowledged"));
            }
            Outcome::Ok(_) => drop(run.acked.fetch_max(token, Ordering::Relaxed)),
            Outcome::Fail if token < before => drop(run.refused.fetch_add(1, Ordering::Relaxed)),
            Outcome::Fail | Outcome::Info => http.turn(),
            Outcome::Wrong(answer) => run.world.violation(format!("a writer was refused otherwise than by its token: {}", answer.text())),
        }
        if dice.one_in(4) {
            token = run.tokens.fetch_add(1, Ordering::Relaxed) + 1;
        }
        tokio::time::sleep(dice.time(Duration::ZERO, PAUSE)).await;
    }
}

/// Appends, trims, and reads from where nothing is any more.
pub async fn trim(run: Arc<Run>, mut http: Http, mut dice: Dice) {
    let mut end = 0;
    while !run.is_stopped() {
        let lines: String = (0..dice.between(1, 6)).map(|n| format!("{{\"n\":{n}}}\n")).collect();
        let path = format!("/v1/topics/{TRIMMED}/records?format=values&partition=0");
        if let Outcome::Ok(answer) = class(http.send(Ask::lines(path, lines)).await, &[]) {
            end = answer.places().last().map_or(end, |(_, offset)| offset + 1);
        } else {
            http.turn();
        }
        if dice.one_in(3) && end > 0 {
            let before = dice.between(run.start.load(Ordering::Relaxed), end);
            let ask = Ask::delete(format!("/v1/topics/{TRIMMED}/records?before_offset={before}"));
            if let Outcome::Ok(_) = class(http.send(ask).await, &[]) {
                run.start.fetch_max(before, Ordering::Relaxed);
                lock(&run.trims).push((Instant::now(), before));
            }
        }
        below(&run, &mut http, &mut dice).await;
        if dice.one_in(3) {
            http.turn();
        }
        tokio::time::sleep(dice.time(Duration::ZERO, PAUSE)).await;
    }
}

async fn below(run: &Run, http: &mut Http, dice: &mut Dice) {
    let start = run.start.load(Ordering::Relaxed);
    if start == 0 {
        return;
    }
    let from = dice.between(0, start - 1);
    let gone = lock(&run.trims).iter().filter(|(at, _)| at.elapsed() > HEARD).map(|(_, before)| *before).max().unwrap_or(0);
    let ask = Ask::get(format!("/v1/topics/{TRIMMED}/partitions/0/records?offset={from}&limit=100"));
    if let Ok(answer) = http.send(ask).await {
        match answer.status {
            410 => drop(run.refused.fetch_add(1, Ordering::Relaxed)),
            status if status < 300 => {
                let start = gone.max(answer.json()["log_start"].as_u64().unwrap_or(0));
                if from < start {
                    run.world
                        .violation(format!("a read from {from} on was answered although the log starts at {start}: {}", answer.text()));
                }
            }
            _ => {}
        }
    }
}
