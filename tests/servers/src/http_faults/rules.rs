//! Which requests meet which harm. Must never decide by anything but the rule, the request, the time and the dice.

use std::time::Duration;

use http::Method;
use tokio::time::Instant;

use crate::dice::Dice;

/// What can be done to a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// 503 `SlowDown`, and the server is not asked.
    SlowDown,
    /// 500 `InternalError`, and the server is not asked.
    InternalError,
    /// 403 `AccessDenied`, and the server is not asked.
    AccessDenied,
    /// 400 `ExpiredToken`, and the server is not asked.
    ExpiredToken,
    /// 404 `NoSuchKey`, and the server is not asked.
    NoSuchKey,
    /// 409 `ConditionalRequestConflict`, and the server is not asked.
    Conflict,
    /// 412 `PreconditionFailed`, and the server is not asked.
    PreconditionFailed,
    /// The connection is reset before anything is passed on.
    ResetBefore,
    /// The server does it and answers; the client gets 500 `InternalError`.
    ErrorAfter,
    /// The server does it and answers; the client's connection is reset.
    ResetAfter,
    /// The server gets the first bytes of the body and then a broken connection, and so does the client. A shorter body
    /// arrives whole, and then it is as [`Fault::ResetAfter`].
    CutUpload(u64),
    /// The request waits before it is passed on.
    DelayBefore(Duration),
    /// The answer waits before it is given.
    DelayAfter(Duration),
    /// One bit of the answer's body is another, at a random place.
    FlipBit,
    /// The answer's body ends early, with a `Content-Length` that says so: nothing but the content tells.
    Truncate(u64),
    /// The connection is broken after these first bytes of the answer's body, which was announced in full.
    CutDownload(u64),
    /// The answer holds other bytes than were asked for: one byte further, with a 0 at the end, and a `Content-Range` that
    /// is as it should be.
    WrongBytes,
    /// The same, and the `Content-Range`, if there is one, admits it.
    WrongRange,
    /// A listing is answered as the same listing was answered last, whatever was stored or deleted since. Only for listings that
    /// were asked for before.
    StaleList,
}

impl Fault {
    /// Whether further rules may still meet the request.
    pub(super) fn is_delay(self) -> bool {
        matches!(self, Self::DelayBefore(_) | Self::DelayAfter(_))
    }
}

/// When a fault happens: always and to all requests, unless it is told otherwise.
#[derive(Clone, Debug)]
pub struct Rule {
    fault: Fault,
    method: Option<Method>,
    prefix: String,
    probability: f64,
    skip: u64,
    times: u64,
    window: Option<(Duration, Duration)>,
}

impl Rule {
    /// The fault, for every request.
    pub fn new(fault: Fault) -> Self {
        Self { fault, method: None, prefix: String::new(), probability: 1.0, skip: 0, times: u64::MAX, window: None }
    }

    /// Only for this method.
    pub fn method(mut self, method: Method) -> Self {
        self.method = Some(method);
        self
    }

    /// Only for keys that begin so, as they stand in the path after the bucket.
    pub fn prefix(mut self, prefix: &str) -> Self {
        prefix.clone_into(&mut self.prefix);
        self
    }

    /// Only with this probability, from 0 to 1.
    pub fn probability(mut self, probability: f64) -> Self {
        self.probability = probability;
        self
    }

    /// Not for the first so many requests that it would meet.
    pub fn skip(mut self, requests: u64) -> Self {
        self.skip = requests;
        self
    }

    /// At most so often.
    pub fn times(mut self, times: u64) -> Self {
        self.times = times;
        self
    }

    /// Only from and until these times after the rule was added.
    pub fn during(mut self, from: Duration, until: Duration) -> Self {
        self.window = Some((from, until));
        self
    }
}

/// A rule that was added.
#[derive(Debug)]
pub(super) struct Active {
    id: u64,
    rule: Rule,
    since: Instant,
}

impl Active {
    pub(super) fn new(id: u64, rule: Rule) -> Self {
        Self { id, rule, since: Instant::now() }
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn is_delay(&self) -> bool {
        self.rule.fault.is_delay()
    }

    /// What happens to a request, by this rule. `again`: it is a listing that was answered before.
    pub(super) fn meets(&mut self, method: &Method, key: &str, again: bool, dice: &Dice) -> Option<Fault> {
        let rule = &mut self.rule;
        let age = self.since.elapsed();
        let is_meant = rule.method.as_ref().is_none_or(|only| only == method)
            && key.starts_with(&rule.prefix)
            && (again || rule.fault != Fault::StaleList)
            && rule.window.is_none_or(|(from, until)| (from..until).contains(&age));
        if !is_meant || rule.times == 0 || !dice.chance(rule.probability) {
            return None;
        }
        if rule.skip > 0 {
            rule.skip -= 1;
            return None;
        }
        rule.times -= 1;
        Some(rule.fault)
    }
}
