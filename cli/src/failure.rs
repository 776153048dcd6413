//! Why a command failed, as the caller of the executable sees it: one text on standard error and an exit code.

use std::fmt;

use serde::Deserialize;

use crate::bench::BenchFault;

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The server refused. Exit code 1.
    Refused(Box<Problem>),
    /// What was asked for makes no sense, or its input cannot be read. Exit code 2.
    Usage(String),
    /// No connection to the server, or it broke for good. Exit code 3.
    Unreachable(String),
    /// A check found something wrong, or the process could not go on. Exit code 1.
    Failed(String),
    /// A defect of this executable, or an answer it does not understand. Exit code 1.
    Defect(String),
    /// Whoever read our output went away (`| head`): nobody is left to be told. Exit code 0.
    OutputClosed,
}

/// What the server said, by RFC 9457.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Problem {
    /// HTTP status.
    pub(crate) status: u16,
    /// The stable word for the kind of problem.
    pub(crate) code: String,
    /// The kind of problem, for people.
    pub(crate) title: String,
    /// What exactly is wrong.
    pub(crate) detail: String,
    /// `not_applied` or `unknown`.
    pub(crate) outcome: String,
    /// Names the request in the server's log.
    pub(crate) request_id: String,
    /// Places that are wrong.
    pub(crate) errors: Vec<ProblemPlace>,
}

/// One place that is wrong.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ProblemPlace {
    /// Parameter or JSON pointer.
    pub(crate) pointer: String,
    /// What is wrong there.
    pub(crate) reason: String,
}

impl Failure {
    /// The process's exit code.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::OutputClosed => 0,
            Self::Refused(_) | Self::Failed(_) | Self::Defect(_) => 1,
            Self::Usage(_) => 2,
            Self::Unreachable(_) => 3,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(problem) => problem.fmt(f),
            Self::Usage(text) | Self::Failed(text) => f.write_str(text),
            Self::Unreachable(text) => write!(
                f,
                "cannot reach the server: {text}\nhint: is it running? `lakefall dev` starts one; --url or LAKEFALL_URL names another"
            ),
            Self::Defect(text) => write!(f, "unexpected: {text}"),
            Self::OutputClosed => Ok(()),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} {})", self.title, self.status, self.code)?;
        if !self.detail.is_empty() && self.detail != self.title {
            write!(f, "\n{}", self.detail)?;
        }
        for place in self.errors.iter().filter(|place| place.reason != self.detail || !place.pointer.is_empty()) {
            write!(f, "\n  {}: {}", place.pointer, place.reason)?;
        }
        if self.outcome == "unknown" {
            f.write_str("\nit may or may not have been applied")?;
        }
        if let Some(hint) = hint(&self.code) {
            write!(f, "\nhint: {hint}")?;
        }
        if !self.request_id.is_empty() {
            write!(f, "\nrequest: {}", self.request_id)?;
        }
        Ok(())
    }
}

/// What to do about a problem, where it is not plain.
fn hint(code: &str) -> Option<&'static str> {
    Some(match code {
        "topic_not_found" => "`lakefall topic list` shows what there is; `lakefall topic create` makes one",
        "cursor_not_found" => "`lakefall cursor list` shows what there is",
        "namespace_not_found" => "check --namespace or LAKEFALL_NAMESPACE",
        "offset_trimmed" => "read --from earliest, or from the log start named above",
        "too_large" => "send smaller batches (--batch, --batch-bytes), or raise the server's limits",
        "not_committed" => "the server has no room at the moment: try again",
        "outcome_unknown" => "read back before sending again",
        _ => return None,
    })
}

impl From<reqwest::Error> for Failure {
    fn from(error: reqwest::Error) -> Self {
        if error.is_builder() { Self::Usage(chain(&error)) } else { Self::Unreachable(chain(&error)) }
    }
}

impl From<BenchFault> for Failure {
    fn from(fault: BenchFault) -> Self {
        match fault {
            BenchFault::Connection(text) => Self::Unreachable(text),
            BenchFault::Refused(text) => Self::Failed(format!("the server refused: {text}")),
        }
    }
}

/// An error with its causes, since the outermost seldom says anything.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_with_title_detail_code_and_hint() {
        let problem: Problem = serde_json::from_str(
            r#"{"status":404,"code":"topic_not_found","title":"There is no such topic","detail":"no topic x","outcome":"not_applied","request_id":"r1"}"#,
        )
        .unwrap();
        let failure = Failure::Refused(Box::new(problem));
        assert_eq!(
            failure.to_string(),
            "There is no such topic (404 topic_not_found)\nno topic x\nhint: `lakefall topic list` shows what there is; `lakefall topic create` makes one\nrequest: r1"
        );
        assert_eq!(failure.exit_code(), 1);
        assert_eq!(Failure::Unreachable(String::new()).exit_code(), 3);
        assert_eq!(Failure::Usage(String::new()).exit_code(), 2);
    }
}
