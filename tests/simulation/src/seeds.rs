//! Many seeds, each in a process of its own: what a process draws at its start is fresh, and what one run leaves behind changes
//! nothing for the next.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::fault::Fault;
use crate::length::Length;
use crate::lock;
use crate::report::Outcome;

/// So many seeds see every kind of fault.
const ENOUGH: usize = 200;
/// A seed that takes longer than this hangs.
const LONGEST: Duration = Duration::from_secs(180);

/// What to run.
#[derive(Clone, Debug)]
pub struct Seeds {
    /// The first one.
    pub from: u64,
    /// How many.
    pub count: u64,
    /// How long each is.
    pub length: Length,
    /// At the same time.
    pub jobs: usize,
    /// A bug to plant in each run.
    pub plant: Option<String>,
    /// Runs no other seed after the first that finds something.
    pub until_found: bool,
}

/// What came of them.
#[derive(Clone, Debug)]
pub struct Summary {
    /// How long each was.
    pub length: Length,
    /// By seed, in order.
    pub outcomes: Vec<Outcome>,
    /// How long it took.
    pub took: Duration,
}

impl Seeds {
    /// Runs them by this executable.
    #[expect(clippy::disallowed_methods, reason = "how long real processes take, told to people")]
    pub fn run(&self, executable: &Path) -> Summary {
        let (began, next, outcomes) = (Instant::now(), AtomicU64::new(0), Mutex::new(Vec::new()));
        let found = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..self.jobs.max(1) {
                scope.spawn(|| {
                    while !(self.until_found && found.load(Ordering::Relaxed)) {
                        let nth = next.fetch_add(1, Ordering::Relaxed);
                        if nth >= self.count {
                            return;
                        }
                        let outcome = self.one(executable, self.from + nth);
                        found.fetch_or(!outcome.violations.is_empty(), Ordering::Relaxed);
                        lock(&outcomes).push(outcome);
                    }
                });
            }
        });
        let mut outcomes = outcomes.into_inner().unwrap_or_default();
        outcomes.sort_by_key(|outcome| outcome.seed);
        Summary { length: self.length, outcomes, took: began.elapsed() }
    }

    fn one(&self, executable: &Path, seed: u64) -> Outcome {
        let mut command = Command::new(executable);
        command.args(["run", "--json", "--seed", &seed.to_string()]);
        if self.length == Length::SHORT {
            command.arg("--short");
        }
        if let Some(bug) = &self.plant {
            command.args(["--plant", bug]);
        }
        told(&mut command).unwrap_or_else(|reason| Outcome { seed, violations: vec![reason], ..Outcome::default() })
    }
}

/// Runs one seed and takes its outcome. The error says why there is none.
#[expect(clippy::disallowed_methods, reason = "a real process that hangs is ended after real time")]
fn told(command: &mut Command) -> Result<Outcome, String> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("the simulation could not be started: {error}"))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    // What it says is little, but a pipe that is full would stop it.
    let errors = std::thread::spawn(move || text(stderr));
    let output = std::thread::spawn(move || text(stdout));
    let began = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Ok(status),
            Ok(None) if began.elapsed() > LONGEST => {
                let _ = child.kill();
                let _ = child.wait();
                break Err(format!("it hangs: there is no end after {LONGEST:?}"));
            }
            Ok(None) => std::thread::sleep(Duration::from_millis(20)),
            Err(error) => break Err(format!("its end was not seen: {error}")),
        }
    };
    let (output, errors) = (output.join().unwrap_or_default(), errors.join().unwrap_or_default());
    let status = status?;
    let outcome = output.lines().last().and_then(|line| Outcome::from_json(&serde_json::from_str(line).ok()?));
    outcome.ok_or_else(|| format!("it ended with {status} and no outcome: {output}{errors}"))
}

fn text(from: Option<impl Read>) -> String {
    let mut text = String::new();
    if let Some(mut from) = from {
        // What could be read is told.
        let _ = from.read_to_string(&mut text);
    }
    text
}

impl Summary {
    /// Seeds that found something.
    pub fn failed(&self) -> impl Iterator<Item = &Outcome> {
        self.outcomes.iter().filter(|outcome| !outcome.violations.is_empty())
    }

    /// No seed found anything, and of so many that each kind of fault must have happened, each did.
    pub fn is_clean(&self) -> bool {
        self.failed().next().is_none() && self.missing().is_empty()
    }

    /// Kinds of faults that never happened, of enough seeds that they must have.
    fn missing(&self) -> Vec<String> {
        let (faults, enough) = (self.faults(), self.outcomes.len() >= ENOUGH);
        Fault::ALL.iter().map(ToString::to_string).filter(|fault| enough && !faults.contains_key(fault.as_str())).collect()
    }

    fn sum(&self, of: impl Fn(&Outcome) -> u64) -> u64 {
        self.outcomes.iter().map(of).sum()
    }

    /// How often each kind of fault happened, over all seeds.
    pub fn faults(&self) -> BTreeMap<&str, u64> {
        let mut faults = BTreeMap::new();
        for (name, count) in self.outcomes.iter().flat_map(|outcome| &outcome.faults) {
            *faults.entry(name.as_str()).or_default() += count;
        }
        faults
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mixes: BTreeSet<Vec<&String>> = self.outcomes.iter().map(|outcome| outcome.faults.keys().collect()).collect();
        let hours = self.sum(|o| o.simulated_ms) as f64 / 3.6e6;
        let (acked, messages) = (self.sum(|o| o.acked), self.sum(|o| o.messages));
        let lost = self.outcomes.iter().flat_map(|o| &o.violations).filter(|v| v.contains("Lost(")).count();
        writeln!(f, "{} seeds, {hours:.1} simulated hours in {:.0} s", self.outcomes.len(), self.took.as_secs_f64())?;
        write!(f, "{acked} records and {messages} messages acknowledged, {lost} lost")?;
        if lost == 0 && acked + messages > 0 {
            // The rule of three: with none seen in M, the true rate is below 3/M with 95 % confidence.
            write!(f, " (95 %: fewer than {:.1e})", 3.0 / (acked + messages) as f64)?;
        }
        writeln!(f, "; {} calls, {} unknown outcomes", self.sum(|o| o.calls), self.sum(|o| o.unknown))?;
        writeln!(
            f,
            "{} extents compacted, {} objects let go of, at the end of the runs",
            self.sum(|o| o.compacted),
            self.sum(|o| o.let_go)
        )?;
        let faults = self.faults();
        let told: Vec<String> = faults.iter().map(|(name, count)| format!("{name} {count}")).collect();
        writeln!(f, "{} faults in {} mixes: {}", faults.values().sum::<u64>(), mixes.len(), told.join(", "))?;
        let failed: Vec<&Outcome> = self.failed().collect();
        let missing = self.missing();
        if !missing.is_empty() {
            writeln!(f, "Vacuous: these faults never happened: {}", missing.join(", "))?;
        }
        write!(f, "{} seeds with violations", failed.len())?;
        for outcome in failed {
            write!(f, "\n\nseed {}:", outcome.seed)?;
            for violation in outcome.violations.iter().take(10) {
                write!(f, "\n  {violation}")?;
            }
            write!(
                f,
                "\n  replay: cargo run -p lakefall-simulation --bin lakefall-simulate -- run --seed {}{} --trace trace.txt",
                outcome.seed,
                if self.length == Length::SHORT { " --short" } else { "" }
            )?;
        }
        Ok(())
    }
}

/// This executable.
pub fn this() -> std::io::Result<PathBuf> {
    std::env::current_exe()
}
