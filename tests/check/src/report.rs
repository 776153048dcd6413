//! The report on a history, for people as Markdown and for programs as JSON. Must say the same in both.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::checker::Report;
use crate::file::Judged;

/// Longest line of the history that is shown.
const WIDTH: usize = 400;

/// As Markdown.
pub fn markdown(file: &str, Judged { report, around }: &Judged) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write_markdown(&mut text, file, report, around);
    text
}

fn write_markdown(to: &mut String, file: &str, report: &Report, around: &[(u64, String)]) -> std::fmt::Result {
    let verdict = if report.broken().is_empty() { "holds" } else { "**is broken**" };
    writeln!(to, "# {file}: the history {verdict}\n")?;
    if !report.run.is_empty() {
        writeln!(to, "Run: {}\n", report.run)?;
    }
    writeln!(to, "{report}\n")?;
    writeln!(to, "| check | examined | violations |\n|---|---|---|")?;
    for (check, count) in &report.checks {
        writeln!(to, "| {check:?} | {} | {} |", count.examined, count.violations)?;
    }
    let (tried, done) = report.calm;
    writeln!(to, "\nDone while nothing was broken: {done} of {tried} operations. Unknown outcomes: {}.", report.unknown)?;
    if !report.faults_by_kind.is_empty() {
        writeln!(to, "\n| fault | times |\n|---|---|")?;
        for (kind, count) in &report.faults_by_kind {
            writeln!(to, "| {kind} | {count} |")?;
        }
    }
    let Some(first) = report.violations.first() else { return Ok(()) };
    writeln!(to, "\n## The first violation\n\n{first}\n")?;
    if !around.is_empty() {
        writeln!(to, "```")?;
        for (line, event) in around {
            writeln!(to, "{line}: {}", shortened(event))?;
        }
        writeln!(to, "```")?;
    }
    if report.violations.len() > 1 {
        writeln!(to, "\n## All violations, the first of each check\n")?;
        for violation in &report.violations {
            writeln!(to, "- {violation}")?;
        }
    }
    Ok(())
}

fn shortened(text: &str) -> &str {
    match text.char_indices().nth(WIDTH) {
        Some((at, _)) => &text[..at],
        None => text,
    }
}

/// As JSON.
pub fn json(file: &str, Judged { report, around }: &Judged) -> Value {
    let violations: Vec<Value> = report.violations.iter().map(|v| json!({"check": v.check, "what": v.what})).collect();
    let around: Vec<Value> = around.iter().map(|(line, event)| json!({"line": line, "event": event})).collect();
    json!({
        "file": file,
        "run": report.run,
        "ok": report.broken().is_empty(),
        "broken": report.broken(),
        "faults": report.faults,
        "faults_by_kind": report.faults_by_kind,
        "acked": report.acked,
        "lost": report.lost(),
        "lost_bound_95": report.bound(),
        "stored": report.stored,
        "honest_duplicates": report.honest_duplicates,
        "unknown": report.unknown,
        "unknown_stored": report.unknown_stored,
        "unknown_absent": report.unknown_absent,
        "trimmed": report.trimmed,
        "deliveries": report.deliveries,
        "redeliveries": report.redeliveries,
        "dead": report.dead,
        "expired": report.expired,
        "calm": {"tried": report.calm.0, "done": report.calm.1},
        "slowest_return_ms": report.slowest.as_millis() as u64,
        "checks": report.checks,
        "violations": violations,
        "around_first": around,
    })
}
