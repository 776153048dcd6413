//! `make chaos`: a chaos run on real parts as long as one likes. Ends with 1 if anything was found. Must never be part of a release.
#![allow(clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used, reason = "a program of the tests tells what it does")]

use std::path::PathBuf;
use std::process::ExitCode;

use lakefall_tests::chaos::{Settings, run};
use lakefall_tests::dice::seed;

const USAGE: &str = "lakefall-chaos [--minutes N] [--seed N] [--rate RECORDS_PER_SECOND] [--only PART_OF_A_NAME] [--out FOLDER]

Starts a cluster over PostgreSQL and an S3 server, loads it, and injects a fault every 4 s for N minutes (10). Then everything
is made whole, read and judged; report.md and report.json are in FOLDER (target/chaos/SEED). `make chaos` finds what it needs.";

fn settings() -> Result<Settings, String> {
    let (mut minutes, mut given, mut rate, mut only, mut out) = (10, None, None, None, None);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value\n\n{USAGE}"))?;
        let wrong = || format!("{name} does not take {value:?}\n\n{USAGE}");
        match name.as_str() {
            "--minutes" => minutes = value.parse().map_err(|_| wrong())?,
            "--seed" => given = Some(value.parse().map_err(|_| wrong())?),
            "--rate" => rate = Some(value.parse().map_err(|_| wrong())?),
            "--only" => only = Some(value),
            "--out" => out = Some(PathBuf::from(value)),
            _ => return Err(format!("there is no {name}\n\n{USAGE}")),
        }
    }
    let seed = given.unwrap_or_else(|| seed("chaos"));
    let target = std::env::current_exe().ok().and_then(|this| Some(this.ancestors().nth(2)?.to_owned())).unwrap_or_default();
    let mut settings = Settings::minutes(minutes, seed, out.unwrap_or_else(|| target.join("chaos").join(seed.to_string())));
    settings.rate = rate.unwrap_or(settings.rate);
    settings.only = only;
    Ok(settings)
}

#[tokio::main]
async fn main() -> ExitCode {
    let settings = match settings() {
        Ok(settings) => settings,
        Err(told) => {
            eprintln!("{told}");
            return ExitCode::from(2);
        }
    };
    println!("chaos: seed {}, {} min", settings.seed, settings.lasts.as_secs() / 60);
    let report = run(&settings).await;
    println!("{}", report.text);
    println!("chaos: the report is in {}", report.folder.display());
    if report.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
