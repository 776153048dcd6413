//! What a run came to, for people and for programs. Must never leave out a violation.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::deck::classes;
use super::figures::Recovery;
use super::finale::{by_name, strike_json};
use super::matrix::{ROWS, Row};
use super::world::Strike;
use super::{Rage, Settings};
use crate::checker::{self, Check};

/// The report of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// Everything, for programs.
    pub json: Value,
    /// The same for people.
    pub text: String,
    /// What was found; nothing if all promises held.
    pub violations: Vec<String>,
    /// Records and messages that were acknowledged.
    pub acked: u64,
    /// Faults that happened.
    pub faults: usize,
    /// Where it was written.
    pub folder: PathBuf,
}

impl Report {
    /// Writes `report.json` and `report.md`.
    pub fn write(&self, folder: &Path) {
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(folder.join("report.json"), format!("{:#}\n", self.json)).unwrap();
        std::fs::write(folder.join("report.md"), &self.text).unwrap();
    }
}

/// What is known at the end beside the verdicts.
pub(super) struct Outcome<'r> {
    pub(super) rage: &'r Rage,
    pub(super) strikes: &'r [Strike],
    pub(super) recovery: &'r Recovery,
    pub(super) gaps: Vec<(u32, u32)>,
    pub(super) tally: Value,
    pub(super) memory: Vec<u64>,
}

/// An invariant that was looked at.
struct Invariant {
    name: &'static str,
    what: &'static str,
    holds: bool,
    told: String,
}

/// Gathers verdicts.
pub(super) struct Session<'s> {
    settings: &'s Settings,
    commit: String,
    machine: (usize, u64),
    log: Option<checker::Report>,
    queues: BTreeMap<&'static str, checker::Report>,
    invariants: Vec<Invariant>,
    violations: Vec<String>,
}

impl<'s> Session<'s> {
    pub(super) fn new(settings: &'s Settings, commit: String, machine: (usize, u64)) -> Self {
        let (log, queues) = (None, BTreeMap::new());
        Self { settings, commit, machine, log, queues, invariants: Vec::new(), violations: Vec::new() }
    }

    pub(super) fn log(&mut self, report: checker::Report) {
        self.violations.extend(report.violations.iter().map(|violation| format!("log: {violation}")));
        self.log = Some(report);
    }

    pub(super) fn queue(&mut self, name: &'static str, report: checker::Report) {
        self.violations.extend(report.violations.iter().map(|violation| format!("queue {name}: {violation}")));
        self.queues.insert(name, report);
    }

    pub(super) fn invariant(&mut self, name: &'static str, what: &'static str, holds: bool, told: &str) {
        if !holds {
            self.violations.push(format!("{name}: it does not hold that {what}: {told}"));
        }
        self.invariants.push(Invariant { name, what, holds, told: told.to_owned() });
    }

    pub(super) fn found(&mut self, what: String) {
        self.violations.push(what);
    }

    pub(super) fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }

    pub(super) fn finish(mut self, outcome: Outcome<'_>) -> Report {
        if self.log.is_none() || self.queues.len() < 2 {
            self.violations.push("a history was not judged".to_owned());
        }
        let log = self.log.clone().unwrap_or_default();
        let acked = log.acked + self.queues.values().map(|queue| queue.acked).sum::<u64>();
        let (json, text) = (self.json(&log, acked, &outcome), self.text(&log, acked, &outcome));
        let (violations, folder) = (self.violations, self.settings.out.clone());
        Report { json, text, violations, acked, faults: outcome.strikes.len(), folder }
    }

    fn command(&self) -> String {
        let settings = self.settings;
        let mut command = format!("make chaos MINUTES={} SEED={}", settings.lasts.as_secs().div_ceil(60), settings.seed);
        if let Some(only) = &settings.only {
            let _ = write!(command, " ONLY='{only}'");
        }
        if settings.rate != super::RATE {
            let _ = write!(command, " RATE={}", settings.rate);
        }
        command
    }

    /// The log's report and the queues'.
    fn reports(&self) -> impl Iterator<Item = &checker::Report> {
        self.log.iter().chain(self.queues.values())
    }

    fn lost(&self) -> u64 {
        self.reports().map(checker::Report::lost).sum()
    }

    /// Violations of some checks.
    fn count(&self, checks: &[Check]) -> u64 {
        let of = |report: &checker::Report| {
            checks.iter().filter_map(|check| report.checks.get(check)).map(|count| count.violations).sum::<u64>()
        };
        self.reports().map(of).sum()
    }

    fn json(&self, log: &checker::Report, acked: u64, outcome: &Outcome<'_>) -> Value {
        let Outcome { rage, strikes, recovery, gaps, tally, memory } = outcome;
        let queue = |report: &checker::Report| {
            json!({
                "acked": report.acked, "deliveries": report.deliveries, "redeliveries": report.redeliveries, "dead": report.dead,
                "unknown": report.unknown, "slowest_return_ms": report.slowest.as_millis() as u64,
                "checks": report.checks.iter().map(|(check, count)| (format!("{check:?}"), json!(count.examined))).collect::<serde_json::Map<_, _>>(),
            })
        };
        let invariants = self.invariants.iter().map(|i| json!({"name": i.name, "what": i.what, "holds": i.holds, "told": i.told}));
        let (ok, other) = super::figures::Calm::sum(&rage.calm);
        json!({
            "commit": self.commit, "seed": self.settings.seed, "command": self.command(),
            "machine": {"cores": self.machine.0, "memory_mib": self.machine.1},
            "lasted_s": rage.lasted.as_secs_f64(), "rate": self.settings.rate,
            "acked": acked, "acked_during_faults": rage.acked, "lost": self.lost(), "lost_bound_95": bound(acked),
            "log": {
                "acked": log.acked, "stored": log.stored, "honest_duplicates": log.honest_duplicates,
                "forbidden_duplicates": self.count(&[Check::H4, Check::Q6]),
                "order": self.count(&[Check::H6, Check::Q5]), "gaps": self.count(&[Check::H5, Check::H7]),
                "phantoms": self.count(&[Check::H2]), "disagreements": self.count(&[Check::H3]),
                "checks": log.checks.iter().map(|(check, count)| (format!("{check:?}"), json!(count.examined))).collect::<serde_json::Map<_, _>>(),
                "unknown_stored": log.unknown_stored, "unknown_absent": log.unknown_absent,
            },
            "queues": self.queues.iter().map(|(name, report)| ((*name).to_owned(), queue(report))).collect::<serde_json::Map<_, _>>(),
            "double_deliveries": self.count(&[Check::Q2]),
            "faults": strikes.len(), "faults_by_name": by_name(strikes),
            "missed": rage.missed.iter().map(|(kind, why)| json!({"fault": kind.name, "why": why})).collect::<Vec<_>>(),
            "recovery": {
                "all": recovery.all.json(),
                "classes": recovery.classes.iter().map(|(class, times)| ((*class).to_owned(), times.json())).collect::<serde_json::Map<_, _>>(),
            },
            "longest_unavailable": gaps.iter().map(|(from, length)| json!({"from_ms": from, "length_ms": length})).collect::<Vec<_>>(),
            "calm": {"ok": ok, "other": other}, "tries": tally, "gateway_memory_mib": memory,
            "invariants": invariants.collect::<Vec<_>>(),
            "rows": ROWS.iter().map(|row| json!({
                "row": row.number, "fault": row.fault, "tests": row.tests, "note": row.note,
                "in_this_run": strikes.iter().filter(|strike| strike.kind.rows.contains(&row.number)).count(),
            })).collect::<Vec<_>>(),
            "strikes": strikes.iter().zip(&recovery.each).map(|(strike, took)| strike_json(strike, *took)).collect::<Vec<_>>(),
            "violations": self.violations,
        })
    }

    fn text(&self, log: &checker::Report, acked: u64, outcome: &Outcome<'_>) -> String {
        let mut text = String::new();
        self.head(&mut text, log, acked, outcome).expect("a text takes everything");
        self.tables(&mut text, outcome).expect("a text takes everything");
        text
    }

    fn head(&self, text: &mut String, log: &checker::Report, acked: u64, outcome: &Outcome<'_>) -> std::fmt::Result {
        let Outcome { rage, strikes, recovery, gaps, tally, memory } = outcome;
        let verdict =
            if self.violations.is_empty() { "all promises held".to_owned() } else { format!("{} violations", self.violations.len()) };
        writeln!(text, "# Chaos on real parts: {verdict}\n")?;
        writeln!(text, "Commit {}, seed {}, {} cores, {} MiB of memory.", self.commit, self.settings.seed, self.machine.0, self.machine.1)?;
        writeln!(text, "Again: `{}`\n", self.command())?;
        writeln!(text, "| | |\n|---|---|")?;
        let (lost, bound) = (self.lost(), bound(acked));
        writeln!(text, "| acknowledged | {acked} ({} records, {} messages) |", log.acked, acked - log.acked)?;
        writeln!(text, "| **lost** | **{lost}** (95 % bound: {bound:.1e}) |")?;
        writeln!(
            text,
            "| faults | {} in {:.0} s, {} of them missed their mark |",
            strikes.len(),
            rage.lasted.as_secs_f64(),
            rage.missed.len()
        )?;
        let forbidden = self.count(&[Check::H4, Check::Q6]);
        writeln!(text, "| duplicates | {forbidden} forbidden, {} honest |", log.honest_duplicates)?;
        writeln!(text, "| out of order | {} |", self.count(&[Check::H6, Check::Q5]))?;
        writeln!(text, "| gaps, skips, invisible acknowledgements | {} |", self.count(&[Check::H5, Check::H7]))?;
        writeln!(text, "| phantoms, disagreements | {} |", self.count(&[Check::H2, Check::H3]))?;
        let (double, leases) = (self.count(&[Check::Q2]), self.queues.values().map(|queue| queue.deliveries).sum::<u64>());
        writeln!(text, "| double deliveries while leased | {double} of {leases} leases |")?;
        writeln!(text, "| unknown outcomes of sends | {} were stored, {} were not |", log.unknown_stored, log.unknown_absent)?;
        let all = &recovery.all;
        writeln!(text, "| fault to next acknowledgement | p50 {} ms, p95 {} ms, max {} ms |", all.at(0.5), all.at(0.95), all.at(1.0))?;
        let (from, longest) = gaps.first().copied().unwrap_or_default();
        let during: Vec<&str> = strikes
            .iter()
            .filter(|strike| strike.at <= from + longest && strike.mended.is_none_or(|mended| mended >= from))
            .map(|strike| strike.kind.name)
            .collect();
        writeln!(text, "| longest time without an acknowledgement | {longest} ms ({}) |", during.join("; "))?;
        writeln!(text, "| most memory of the gateways | {memory:?} MiB |")?;
        writeln!(text, "| tries that were no success | `{tally}` |\n")?;
        if !self.violations.is_empty() {
            writeln!(text, "## Violations\n")?;
            for violation in &self.violations {
                writeln!(text, "- {}", violation.replace('\n', "\n  "))?;
            }
            writeln!(text)?;
        }
        Ok(())
    }

    fn tables(&self, text: &mut String, outcome: &Outcome<'_>) -> std::fmt::Result {
        let Outcome { rage, strikes, recovery, .. } = outcome;
        writeln!(text, "## Invariants\n\n| | holds | |\n|---|---|---|")?;
        for Invariant { name, what, holds, told } in &self.invariants {
            let (holds, told) = (if *holds { "yes" } else { "**no**" }, told.replace('|', "/"));
            writeln!(text, "| {name}: {what} | {holds} | {told} |")?;
        }
        for (name, report) in &self.queues {
            writeln!(text, "| queue {name} | | {report} |")?;
        }
        writeln!(
            text,
            "\n## Faults by class\n\n| class | fired | survived | p50 ms | p95 ms | max ms | faults |\n|---|---|---|---|---|---|---|"
        )?;
        let names = by_name(strikes);
        for class in classes(&rage.kinds) {
            let of_class: Vec<&Strike> = strikes.iter().filter(|strike| strike.kind.class == class).collect();
            let times = recovery.classes.get(class).cloned().unwrap_or_default();
            let survived = strikes.iter().zip(&recovery.each).filter(|(strike, took)| strike.kind.class == class && took.is_some()).count();
            let faults: Vec<String> = rage
                .kinds
                .iter()
                .filter(|kind| kind.class == class)
                .map(|kind| format!("{} {}", kind.name, names.get(kind.name).copied().unwrap_or_default()))
                .collect();
            let [p50, p95, max] = [0.5, 0.95, 1.0].map(|quantile| times.at(quantile));
            writeln!(text, "| {class} | {} | {survived} | {p50} | {p95} | {max} | {} |", of_class.len(), faults.join("; "))?;
        }
        writeln!(
            text,
            "\nSurvived: after it, somebody was served again. Times: from the fault to the first acknowledgement of a send that was begun after it."
        )?;
        writeln!(text, "\n## Faults in their order\n\n| s | fault | rows | served after ms | |\n|---|---|---|---|---|")?;
        for (strike, took) in strikes.iter().zip(&recovery.each) {
            let took = took.map_or_else(|| "never".to_owned(), |took| took.to_string());
            let rows: Vec<String> = strike.kind.rows.iter().map(ToString::to_string).collect();
            writeln!(
                text,
                "| {:.1} | {} | {} | {took} | {} |",
                f64::from(strike.at) / 1e3,
                strike.kind.name,
                rows.join(", "),
                strike.note
            )?;
        }
        writeln!(text, "\n## Where each row of the fault matrix is proved\n\n| | fault | in this run | tests | |\n|---|---|---|---|---|")?;
        for Row { number, fault, tests, note } in ROWS {
            let here = strikes.iter().filter(|strike| strike.kind.rows.contains(number)).count();
            let tests: Vec<String> = tests.iter().map(|test| format!("`{test}`")).collect();
            writeln!(text, "| {number} | {fault} | {here} | {} | {note} |", tests.join(", "))?;
        }
        if !rage.missed.is_empty() {
            writeln!(text, "\n## Faults that did not happen when they were tried\n")?;
            for (kind, why) in &rage.missed {
                writeln!(text, "- {}: {why}", kind.name)?;
            }
        }
        Ok(())
    }
}

/// The rule of three: with none lost of so many, the true rate is below this with 95 % confidence.
fn bound(acked: u64) -> f64 {
    3.0 / acked.max(1) as f64
}
