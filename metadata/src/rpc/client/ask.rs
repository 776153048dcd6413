//! One ask from its caller to its answer: finds the owner, follows redirects, waits out a takeover, and asks again what may
//! be asked again, until the deadline.

use bytes::Bytes;
use lakefall_queue::error::{Error, Outcome, Result};
use lakefall_queue::{ShardId, TraceContext};
use tokio::time::Instant;

use super::Core;
use super::directory::{Address, Trouble};
use super::pace::Pace;
use super::session::{Lost, Said, What};
use super::{FIRST_PAUSE, LONGEST_PAUSE};
use crate::metrics as names;

/// Redirects that are followed at once; more than a few in a row are replicas that disagree, as during a takeover.
const REDIRECTS: u32 = 3;

/// What is asked, and how.
pub(super) struct Asking {
    pub(super) shard: ShardId,
    pub(super) what: What,
    /// May be asked again when it may have been applied.
    pub(super) repeatable: bool,
    /// The asker's span, if it is traced.
    pub(super) trace: Option<TraceContext>,
    pub(super) until: Instant,
}

/// What came of one attempt.
enum Attempt<T> {
    Done(Result<T>),
    /// Ask again; the reason is kept for who runs out of time. `moved`: at once.
    Again {
        reason: String,
        moved: bool,
    },
    /// It may have been applied.
    Doubtful(String),
    Late {
        sent: bool,
    },
}

/// Asks until there is an answer. `doubted`: what an answer to a repetition tells, where the first attempt may have been applied.
pub(super) async fn ask<T>(
    core: &Core,
    asking: Asking,
    decode: impl Fn(Bytes) -> Result<Result<T>, String>,
    doubted: impl FnOnce(T) -> T,
) -> Result<T> {
    let is_query = matches!(asking.what, What::Query(_));
    let kind = if is_query { "query" } else { "command" };
    let mut pace = Pace::new(FIRST_PAUSE, LONGEST_PAUSE);
    // Why an earlier attempt may have been applied.
    let mut doubt: Option<String> = None;
    let mut last = String::new();
    let mut redirects = 0;
    let done = loop {
        let owner = core.directory.look(|known| known.owner(asking.shard).cloned());
        let attempt = match &owner {
            Some(owner) => attempt(core, &asking, owner, &decode).await,
            None => match core.directory.look(|known| known.trouble().cloned()) {
                Some(Trouble::Refused(reason)) => Attempt::Done(Err(Error::unavailable(reason))),
                Some(Trouble::Unreachable(reason)) => Attempt::Again { reason, moved: false },
                None => Attempt::Again { reason: format!("shard {} has no owner at the moment", asking.shard), moved: false },
            },
        };
        let moved = match attempt {
            Attempt::Done(done) => break done,
            Attempt::Late { sent } => {
                let reason = if last.is_empty() { "the metadata service did not answer in time".to_owned() } else { last };
                break Err(if sent && !is_query { Error::unknown(reason) } else { Error::unavailable(reason) });
            }
            Attempt::Doubtful(reason) if is_query || asking.repeatable => {
                if !is_query {
                    doubt.get_or_insert_with(|| reason.clone());
                }
                last = reason;
                false
            }
            Attempt::Doubtful(reason) => break Err(Error::unknown(reason)),
            Attempt::Again { reason, moved } => {
                last = reason;
                moved
            }
        };
        redirects += u32::from(moved);
        if moved && redirects <= REDIRECTS {
            continue;
        }
        metrics::counter!(names::RPC_RETRIES, "kind" => kind).increment(1);
        let pause = pace.pause(&core.ambient);
        core.directory.want();
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = core.directory.moved(asking.shard, owner.as_ref()) => {}
            () = tokio::time::sleep_until(asking.until) => {}
        }
        if Instant::now() >= asking.until {
            break Err(Error::unavailable(last));
        }
    };
    let done = match (done, doubt) {
        // What the last attempt says of itself says nothing of the one before.
        (Err(error), Some(doubt)) => Err(Error::unknown(format!("{doubt}; then: {error}"))),
        (Ok(said), Some(_)) => Ok(doubted(said)),
        (done, _) => done,
    };
    let outcome = match &done {
        Ok(_) => "ok",
        Err(error) if error.outcome() == Outcome::Unknown => "unknown",
        Err(_) => "refused",
    };
    metrics::counter!(names::RPC_ASKS, "side" => "client", "kind" => kind, "outcome" => outcome).increment(1);
    done
}

async fn attempt<T>(core: &Core, asking: &Asking, owner: &Address, decode: &impl Fn(Bytes) -> Result<Result<T>, String>) -> Attempt<T> {
    let said = match core.links.session(owner) {
        Ok(session) => session.ask(asking.shard, asking.what.clone(), asking.trace, asking.until).await,
        Err(lost) => Err(lost),
    };
    match said {
        Ok(Said::Outcome(bytes)) => match decode(bytes) {
            Ok(Err(Error::Unknown { reason })) => Attempt::Doubtful(reason),
            Ok(done) => Attempt::Done(done),
            Err(malformed) => Attempt::Done(Err(Error::Internal(format!("the answer of the metadata replica {owner}: {malformed}")))),
        },
        Ok(Said::Elsewhere(to)) => {
            metrics::counter!(names::RPC_REDIRECTS).increment(1);
            core.directory.redirected(asking.shard, owner, to.as_ref());
            let moved = core.directory.look(|known| known.owner(asking.shard).is_some_and(|now| now != owner));
            Attempt::Again { reason: format!("shard {} is changing its owner", asking.shard), moved }
        }
        Err(Lost::NotSent(reason)) => Attempt::Again { reason, moved: false },
        Err(Lost::Broken(reason)) => Attempt::Doubtful(reason),
        Err(Lost::Refused(reason)) => Attempt::Done(Err(Error::unavailable(reason))),
        Err(Lost::Late { sent }) => Attempt::Late { sent },
    }
}
