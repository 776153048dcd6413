//! Q5, the order of messages with one key. Must look only at queues that promise it.

use super::{Check, Message, MessageAt, Name, Nanos, Report, Settling, Subject, Verb};

/// What matters of a message with a key.
pub(super) struct Keyed {
    /// Partition and key.
    group: (u32, u64),
    at: MessageAt,
    first_came: Option<Nanos>,
    /// When it may have been finished at the earliest.
    finished: Nanos,
}

impl Keyed {
    pub(super) fn of(message: &Message<'_>) -> Option<Self> {
        let key = message.origin?.key?;
        let finishes = |settling: &&Settling| settling.counts() && matches!(settling.verb, Verb::Ack | Verb::Reject);
        let said = message.settlings().filter(finishes).map(|settling| settling.invoked);
        // One that died of its attempts did so when nobody looked.
        let died = (!message.dead.is_empty()).then_some(0);
        let finished = said.chain(died).min().unwrap_or(Nanos::MAX);
        let first_came = message.leases.iter().map(|lease| lease.row.came).min();
        Some(Self { group: (message.at.0, key), at: message.at, first_came, finished })
    }
}

/// Q5: a message with a key comes only when all before it, of the same key and partition, may be finished.
pub(super) fn keys_in_order(name: &Name, mut keyed: Vec<Keyed>, report: &mut Report) {
    keyed.sort_by_key(|message| (message.group, message.at));
    // Of those before: the one that was finished last, and when that may have been at the earliest.
    let mut before: Option<&Keyed> = None;
    for message in &keyed {
        let latest = before.filter(|before| before.group == message.group);
        if let (Some(latest), Some(came)) = (latest, message.first_came) {
            report.examined(Check::Q5, 1);
            if latest.finished > came {
                let what = format!("{name}: {:?} came before {:?} of the same key was finished", message.at, latest.at);
                report.violation(Check::Q5, Subject::Message(name.clone(), message.at), what);
            }
        }
        before = latest.filter(|latest| latest.finished >= message.finished).or(Some(message));
    }
}
