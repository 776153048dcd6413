//! The operations around a violation, for the person who looks for its cause. Must show little: of a read of thousands of rows,
//! only those near the place.

use std::collections::BTreeSet;

use super::Subject;
use crate::history::{Answer, Append, Call, Event, Name, OpId, RecordId, What, to_line};

/// Events shown at most.
const SHOWN: usize = 40;
/// Places and counts that are near enough to be shown.
const NEAR: u64 = 2;

/// Looks for what is around a subject: take all events once with [`Context::note`] and then, again from the first, with
/// [`Context::show`].
#[derive(Debug)]
pub struct Context {
    subject: Subject,
    ops: BTreeSet<OpId>,
    shown: Vec<(u64, String)>,
    /// The last fault before what is shown.
    fault: Option<(u64, String)>,
}

/// The context in a history in memory, by the events' places from 1.
pub fn context(subject: &Subject, events: &[Event]) -> Vec<(u64, String)> {
    let mut context = Context::new(subject.clone());
    events.iter().for_each(|event| context.note(event));
    events.iter().zip(1..).for_each(|(event, order)| context.show(order, event));
    context.finish()
}

impl Context {
    /// For this subject.
    pub fn new(subject: Subject) -> Self {
        let ops = if let Subject::Op(op) = subject { [op].into() } else { BTreeSet::new() };
        Self { subject, ops, shown: Vec::new(), fault: None }
    }

    /// Notes which operations have to do with the subject. What never is near is not kept.
    pub fn note(&mut self, event: &Event) {
        let (op, touches) = match &event.what {
            What::Invoke { op, call, .. } => (op, self.called(call)),
            What::Ok { op, answer } => (op, self.answered(answer)),
            _ => return,
        };
        if touches && self.ops.len() < SHOWN {
            self.ops.insert(*op);
        }
    }

    /// Shows an event, if it belongs to such an operation, or is a fault between them.
    pub fn show(&mut self, line: u64, event: &Event) {
        if self.shown.len() >= SHOWN {
            return;
        }
        match &event.what {
            What::Invoke { op, .. } | What::Ok { op, .. } | What::Fail { op, .. } | What::Info { op } if self.ops.contains(op) => {
                self.shown.extend(self.fault.take());
                self.shown.push((line, self.brief(event)));
            }
            What::Fault { .. } => self.fault = Some((line, self.brief(event))),
            What::Dead { queue, dead } if matches!(&self.subject, Subject::Message(name, at) if name == queue && *at == dead.at) => {
                self.shown.push((line, self.brief(event)));
            }
            _ => {}
        }
    }

    /// What was shown: lines with their numbers.
    pub fn finish(self) -> Vec<(u64, String)> {
        self.shown
    }

    fn has_record(&self, topic: &Name, id: RecordId) -> bool {
        matches!(&self.subject, Subject::Record(name, of) if name == topic && *of == id)
    }

    fn called(&self, call: &Call) -> bool {
        let append = |append: &Append| append.records.iter().any(|(id, _)| self.has_record(&append.topic, *id));
        match (call, &self.subject) {
            (Call::Send(of), _) => append(of),
            (Call::Commit { appends, moves, .. }, subject) => {
                appends.iter().any(append) || moves.iter().any(|of| matches!(subject, Subject::Cursor(cursor) if *cursor == of.cursor))
            }
            (Call::Cursor { cursor, .. }, Subject::Cursor(of)) => cursor == of,
            (Call::Settle { queue, leases, .. }, Subject::Message(name, at)) => queue == name && leases.iter().any(|lease| lease.at == *at),
            _ => false,
        }
    }

    fn answered(&self, answer: &Answer) -> bool {
        match (answer, &self.subject) {
            (Answer::Rows { rows, .. } | Answer::Part(rows), Subject::Record(_, id)) => rows.iter().any(|row| row.id == Some(*id)),
            (Answer::Rows { rows, .. } | Answer::Part(rows), Subject::Place(_, _, offset)) => rows.iter().any(|row| row.offset == *offset),
            (Answer::Stored(runs), Subject::Place(_, partition, offset)) => {
                runs.iter().any(|run| run.partition == *partition && run.first <= *offset && *offset - run.first < u64::from(run.count))
            }
            (Answer::Stored(runs), Subject::Message(_, (partition, offset))) => {
                runs.iter().any(|run| run.partition == *partition && run.first <= *offset && *offset - run.first < u64::from(run.count))
            }
            (Answer::Delivered(got), Subject::Message(_, at)) => got.iter().any(|delivered| delivered.lease.at == *at),
            _ => false,
        }
    }

    /// The line of an event, without what is far from the subject.
    fn brief(&self, event: &Event) -> String {
        let mut event = event.clone();
        match &mut event.what {
            What::Invoke { call: Call::Send(append), .. } => self.trim(append),
            What::Invoke { call: Call::Commit { appends, .. }, .. } => appends.iter_mut().for_each(|append| self.trim(append)),
            What::Ok { answer: Answer::Rows { rows, .. } | Answer::Part(rows), .. } => match &self.subject {
                Subject::Place(_, _, offset) => rows.retain(|row| row.offset.abs_diff(*offset) <= NEAR),
                Subject::Record(_, id) => rows.retain(|row| row.id.is_some_and(|of| near(of, *id))),
                _ => rows.truncate(8),
            },
            What::Ok { answer: Answer::Delivered(got), .. } => {
                if let Subject::Message(_, at) = &self.subject {
                    got.retain(|delivered| delivered.lease.at == *at);
                }
            }
            _ => {}
        }
        to_line(&event).trim_end().to_owned()
    }

    fn trim(&self, append: &mut Append) {
        if let Subject::Record(_, id) = &self.subject {
            append.records.retain(|(of, _)| near(*of, *id));
        } else {
            append.records.truncate(8);
        }
        append.keys.clear();
    }
}

fn near(one: RecordId, other: RecordId) -> bool {
    one.producer == other.producer && one.seq.abs_diff(other.seq) <= NEAR
}
