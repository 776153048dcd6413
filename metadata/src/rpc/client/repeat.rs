//! What may be asked again when it is not known whether it was done: after a connection broke, or an owner died, between
//! the ask and its answer. What certainly was not done may always be asked again.

use lakefall_queue::ledger::{Command, Reply, SchemaCommand, SettleAction, SettleOutcome};

/// Whether asking twice is as good as asking once, whatever others did in between.
///
/// An error after a first attempt in doubt tells nothing of that attempt; the client then answers that the outcome is
/// unknown.
pub(super) fn is_repeatable(command: &Command) -> bool {
    match command {
        // L3: it gets the first answer, for as long as gateways repeat it.
        Command::Commit(_) => true,
        // Refused is refused: the answer lists all of them that are, whenever they were.
        Command::RefuseSegments { .. } => true,
        // A log start only rises.
        Command::Trim { .. } => true,
        // Extents are named by offset and object, from the oldest on: those that are gone are refused, not taken twice.
        Command::Retire { .. } => true,
        // Forgotten is forgotten, and ids are never used again.
        Command::ForgetObjects { .. } => true,
        // By its object a second one gets the first answer, as a commit does.
        Command::Swap(_) => true,
        // Said twice, it is said.
        Command::Claim(_) | Command::Unclaim { .. } => true,
        // The key replays the first answer for a day.
        Command::PutTopic { idempotency, .. } => idempotency.is_some(),
        Command::PutQueue(put) => put.idempotency.is_some(),
        // A second one would say that there is no such message: it does not tell who finished it.
        Command::Settle(settle) if settle.items.iter().any(|item| item.action == SettleAction::Cancel) => false,
        // What is finished stays finished, and a lease that is given back or buried is over: a second one changes nothing
        // that another receiver has, as the attempt is another by then. Extended twice is extended a little later. What the
        // second one cannot know is for `leaves_open`.
        Command::Settle(_) => true,
        // A second one would lease other messages, and those of the first wait until their leases are over.
        Command::Receive(_) => false,
        // Of reports with the same number one is counted.
        Command::ReportUsage(_) => true,
        // The text is there already, and its version is the answer.
        Command::Schema(command) => matches!(**command, SchemaCommand::Put { .. }),
        // A second one would raise the version again, trip over the first one's condition, undo what another wrote in
        // between, or delete what was created anew.
        Command::PutNamespace { .. }
        | Command::DeleteNamespace { .. }
        | Command::DeleteTopic { .. }
        | Command::DeleteQueue { .. }
        | Command::SeekQueue(_)
        | Command::PutCursor { .. }
        | Command::DeleteCursor { .. } => false,
    }
}

/// Whether the answer to a repetition does not tell what became of the first attempt: a lease that is over may have been given
/// back by that, and the ledger remembers it for the next receivers of so many messages only. What was finished is told as such.
pub(super) fn leaves_open(command: &Command, reply: &Reply) -> bool {
    let (Command::Settle(settle), Reply::Settled(runs)) = (command, reply) else { return false };
    let mut outcomes = runs.iter().map(|run| (run.outcome, run.count));
    let (mut outcome, mut left) = (SettleOutcome::Done, 0);
    settle.items.iter().any(|item| {
        let (mut rest, mut open) = (item.count, false);
        while rest > 0 {
            if left == 0 {
                let Some(next) = outcomes.next() else { return open };
                (outcome, left) = next;
            }
            let both = rest.min(left);
            (rest, left) = (rest - both, left - both);
            open |= both > 0 && outcome == SettleOutcome::Expired && item.action.gives_back();
        }
        open
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lakefall_queue::ledger::{SettleItem, SettleMessages, SettledRun};
    use lakefall_queue::{Offset, PartitionIndex, QueueId, ShardId, TopicId};

    use super::*;

    const RELEASE: SettleAction = SettleAction::Release { delay: Duration::ZERO };

    fn open(items: &[(SettleAction, u32)], runs: &[(SettleOutcome, u32)]) -> bool {
        let item = |(action, count): &(SettleAction, u32)| {
            let topic = TopicId::new(ShardId(0), 1);
            SettleItem { topic, partition: PartitionIndex(0), first: Offset(0), count: *count, attempt: 1, action: *action }
        };
        let items = items.iter().map(item).collect();
        let command = Command::Settle(SettleMessages { queue: QueueId::new(ShardId(0), 1), generation: 1, version: None, items });
        let runs = runs.iter().map(|(outcome, count)| SettledRun { count: *count, outcome: *outcome }).collect();
        leaves_open(&command, &Reply::Settled(runs))
    }

    #[test]
    fn a_repetition_that_finds_a_lease_over_does_not_tell_whether_the_first_attempt_gave_it_back() {
        use SettleOutcome::{Done, Expired};
        assert!(open(&[(RELEASE, 1)], &[(Expired, 1)]));
        assert!(open(&[(SettleAction::Extend { lease: Duration::ZERO }, 1)], &[(Expired, 1)]));
        assert!(open(&[(SettleAction::Ack, 2), (RELEASE, 3)], &[(Done, 4), (Expired, 1)]), "the last of them");
        assert!(!open(&[(RELEASE, 3)], &[(Done, 3)]));
        // What was acknowledged is done the second time, too: where it is not, it was not.
        assert!(!open(&[(SettleAction::Ack, 2), (RELEASE, 1)], &[(Expired, 2), (Done, 1)]));
        assert!(!open(&[(RELEASE, 1)], &[(SettleOutcome::Unknown, 1)]), "what is not there has no lease to give back");
    }
}
