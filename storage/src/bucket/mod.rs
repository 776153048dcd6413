//! Behind `lakefall doctor` and `lakefall bucket init`: what a store must do for Lakefall is tried out and told check by
//! check; a bucket is made and set up. It writes under `probe/` and `meta/probe-…` only, takes away what it wrote, and
//! must never touch anything else. Nothing here runs while records flow.

mod admin;
mod doctor;
mod init;
mod probes;
mod settings;

use serde::Serialize;

pub use doctor::doctor;
pub use init::{InitOptions, init};

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Not tried: it makes no sense for this store, the service does not know it, or something before it failed.
    Skipped,
    /// It works, but an operator should look at it.
    Warn,
    /// Lakefall does not work, or not safely, until this is cured.
    Fail,
}

/// One thing that was tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// A stable name, like `create_only`.
    pub name: &'static str,
    /// How it ended.
    pub verdict: Verdict,
    /// What was seen.
    pub seen: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Check {
    fn ok(name: &'static str, seen: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Ok, seen: seen.into(), advice: None }
    }

    fn skipped(name: &'static str, seen: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Skipped, seen: seen.into(), advice: None }
    }

    fn warn(name: &'static str, seen: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Warn, seen: seen.into(), advice: Some(advice.into()) }
    }

    fn fail(name: &'static str, seen: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Fail, seen: seen.into(), advice: Some(advice.into()) }
    }
}

/// What was tried, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The checks.
    pub checks: Vec<Check>,
}

impl Report {
    /// The worst of all: whether Lakefall may run over this store.
    pub fn worst(&self) -> Verdict {
        self.checks.iter().map(|check| check.verdict).max().unwrap_or(Verdict::Ok)
    }

    /// The check of that name.
    pub fn check(&self, name: &str) -> Option<&Check> {
        self.checks.iter().find(|check| check.name == name)
    }

    fn add(&mut self, check: Check) -> Verdict {
        let verdict = check.verdict;
        self.checks.push(check);
        verdict
    }

    fn skip_all(&mut self, names: &[&'static str], why: &str) {
        self.checks.extend(names.iter().map(|name| Check::skipped(name, why)));
    }
}
