//! `lakefall-simulate`: runs one seed, or many, each in a process of its own.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it tells people and other processes what came of a run")]

mod determinism;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use lakefall_queue::planted;
use lakefall_simulation::length::Length;
use lakefall_simulation::report::Outcome;
use lakefall_simulation::run::run;
use lakefall_simulation::seeds::{Seeds, this};
use lakefall_simulation::trace::{self, Trace};

const USAGE: &str = "usage:
  lakefall-simulate run --seed N [--short] [--trace FILE] [--plant BUG] [--json]
      runs one seed; the trace tells what happened, with the simulated time
  lakefall-simulate seeds --from A --count N [--short] [--jobs 2] [--plant BUG] [--until-found]
      runs many, and tells what came of them
  --short: half a minute of faults instead of five minutes";

/// Flags and their values, as they were given.
struct Args(Vec<String>);

impl Args {
    fn flag(&mut self, name: &str) -> bool {
        let at = self.0.iter().position(|arg| arg == name);
        at.map(|at| self.0.remove(at)).is_some()
    }

    fn value(&mut self, name: &str) -> Result<Option<String>, String> {
        let Some(at) = self.0.iter().position(|arg| arg == name) else { return Ok(None) };
        self.0.remove(at);
        if at < self.0.len() { Ok(Some(self.0.remove(at))) } else { Err(format!("{name} needs a value")) }
    }

    fn number(&mut self, name: &str) -> Result<Option<u64>, String> {
        let parsed = |text: String| text.parse().map_err(|_| format!("{name}: {text} is not a number"));
        self.value(name)?.map(parsed).transpose()
    }

    fn length(&mut self) -> Length {
        if self.flag("--short") { Length::SHORT } else { Length::LONG }
    }

    fn end(self) -> Result<(), String> {
        if self.0.is_empty() { Ok(()) } else { Err(format!("what is {}?", self.0.join(" "))) }
    }
}

fn main() -> ExitCode {
    let mut args = Args(std::env::args().skip(1).collect());
    let command = if args.0.is_empty() { String::new() } else { args.0.remove(0) };
    let done = match command.as_str() {
        "run" => one(args),
        "seeds" => many(args),
        _ => Err("say what to do".to_owned()),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(reason) => {
            eprintln!("{reason}\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

/// Runs one seed here. True: all is well.
fn one(mut args: Args) -> Result<bool, String> {
    let seed = args.number("--seed")?.ok_or("which seed?")?;
    let (trace, plant, json) = (args.value("--trace")?.map(PathBuf::from), args.value("--plant")?, args.flag("--json"));
    let length = args.length();
    args.end()?;
    let trace = Trace::new(trace.as_deref()).map_err(|error| format!("the trace cannot be written: {error}"))?;
    let trace = Arc::new(trace);
    trace::listen(&trace);
    determinism::begin(seed);
    lakefall_service::blocking::do_on_the_spot();
    if let Some(bug) = plant.filter(|bug| !planted::plant(bug)) {
        let known: Vec<&str> = planted::ALL.iter().map(|(name, _)| *name).collect();
        return Err(format!("no bug is called {bug}: there are {}", known.join(", ")));
    }
    let outcome = run(seed, length, trace);
    if json {
        println!("{}", outcome.to_json());
    } else {
        tell(&outcome);
    }
    Ok(outcome.violations.is_empty())
}

fn tell(outcome: &Outcome) {
    let Outcome { seed, simulated_ms, acked, messages, calls, unknown, digest, .. } = outcome;
    println!("seed {seed}: {:.0} simulated seconds, {calls} calls, {unknown} unknown outcomes", *simulated_ms as f64 / 1e3);
    println!("{acked} records and {messages} messages acknowledged");
    println!("{} extents compacted, {} objects let go of", outcome.compacted, outcome.let_go);
    println!("faults: {:?}", outcome.faults);
    println!("digest of the trace: {digest}");
    println!("{} violations", outcome.violations.len());
    for violation in outcome.violations.iter().take(20) {
        println!("  {violation}");
    }
}

/// Runs many, each in a process of its own. True: all is well.
fn many(mut args: Args) -> Result<bool, String> {
    let seeds = Seeds {
        from: args.number("--from")?.unwrap_or(1),
        count: args.number("--count")?.unwrap_or(100),
        length: args.length(),
        jobs: args.number("--jobs")?.unwrap_or(2) as usize,
        plant: args.value("--plant")?,
        until_found: args.flag("--until-found"),
    };
    args.end()?;
    let executable = this().map_err(|error| format!("this executable is not found: {error}"))?;
    let summary = seeds.run(&executable);
    println!("{summary}");
    Ok(summary.is_clean())
}
