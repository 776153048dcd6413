//! What may be asked again when it is not known whether it was done: after a connection broke, or an owner died, between
//! the ask and its answer. What certainly was not done may always be asked again.

use lakefall_queue::ledger::{Command, SchemaCommand, SettleAction};

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
        // that another receiver has, as the attempt is another by then. Extended twice is extended a little later.
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
