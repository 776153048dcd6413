//! What may be asked again when it is not known whether it was done: after a connection broke, or an owner died, between
//! the ask and its answer. What certainly was not done may always be asked again.

use lakefall_queue::ledger::{Command, Reply, SchemaCommand, SettleAction, SettleOutcome, SettledRun};

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
        // second one cannot know is for `doubted`.
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
        | Command::DeleteCursor { .. }
        | Command::TakeBack(_) => false,
    }
}

/// What the answer to a repetition tells of the command: a lease that is over may have been given back by the first attempt, and the
/// ledger remembers that for a while only. What is done, or goes on, is told for certain.
pub(super) fn doubted(command: &Command, reply: Reply) -> Reply {
    let (Command::Settle(settle), Reply::Settled(runs)) = (command, &reply) else { return reply };
    let mut told: Vec<SettledRun> = Vec::with_capacity(runs.len());
    let mut runs = runs.iter().copied();
    let mut run = SettledRun { count: 0, outcome: SettleOutcome::Done };
    for item in &settle.items {
        let mut rest = item.count;
        while rest > 0 {
            if run.count == 0 {
                let Some(next) = runs.next() else { return Reply::Settled(told) };
                run = next;
            }
            let count = rest.min(run.count);
            let open = run.outcome == SettleOutcome::Expired && item.action.gives_back();
            told.push(SettledRun { count, outcome: if open { SettleOutcome::Doubtful } else { run.outcome } });
            rest -= count;
            run.count -= count;
        }
    }
    Reply::Settled(told)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lakefall_queue::ledger::{SettleItem, SettleMessages};
    use lakefall_queue::{Offset, PartitionIndex, QueueId, ShardId, TopicId};

    use super::*;

    const RELEASE: SettleAction = SettleAction::Release { delay: Duration::ZERO };

    fn told(items: &[(SettleAction, u32)], runs: &[(SettleOutcome, u32)]) -> Vec<(SettleOutcome, u32)> {
        let item = |(action, count): &(SettleAction, u32)| {
            let topic = TopicId::new(ShardId(0), 1);
            SettleItem { topic, partition: PartitionIndex(0), first: Offset(0), count: *count, attempt: 1, action: *action }
        };
        let items = items.iter().map(item).collect();
        let command = Command::Settle(SettleMessages { queue: QueueId::new(ShardId(0), 1), generation: 1, version: None, items });
        let runs = runs.iter().map(|(outcome, count)| SettledRun { count: *count, outcome: *outcome }).collect();
        let Reply::Settled(told) = doubted(&command, Reply::Settled(runs)) else { panic!("another reply") };
        told.iter().map(|run| (run.outcome, run.count)).collect()
    }

    #[test]
    fn a_repetition_that_finds_a_lease_over_does_not_tell_whether_the_first_attempt_gave_it_back() {
        use SettleOutcome::{Doubtful, Expired, Unknown};
        assert_eq!(told(&[(RELEASE, 1)], &[(Expired, 1)]), [(Doubtful, 1)]);
        assert_eq!(told(&[(SettleAction::Extend { lease: Duration::ZERO }, 1)], &[(Expired, 1)]), [(Doubtful, 1)]);
        assert_eq!(told(&[(RELEASE, 1)], &[(Unknown, 1)]), [(Unknown, 1)], "what is not there has no lease to give back");
    }

    #[test]
    fn what_is_certain_of_a_repetition_is_told_although_its_neighbour_is_in_doubt() {
        use SettleOutcome::{Done, Doubtful, Expired};
        let of_two = told(&[(SettleAction::Ack, 2), (RELEASE, 3)], &[(Done, 4), (Expired, 1)]);
        assert_eq!(of_two, [(Done, 2), (Done, 2), (Doubtful, 1)]);
        // What was acknowledged is done the second time, too: where it is not, it was not.
        let of_two = told(&[(SettleAction::Ack, 2), (RELEASE, 1)], &[(Expired, 3)]);
        assert_eq!(of_two, [(Expired, 2), (Doubtful, 1)]);
    }
}
