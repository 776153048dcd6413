//! H8: histories that are small enough are searched for an order that explains all answers. Must collect nothing of others.

use std::collections::BTreeMap;

use super::{Check, Report, Subject};
use crate::history::{Call, Event, Header, Name, OpId, What};
use crate::linearizable::{LIMIT, Model, Operation, Verdict, queue, search, stream};

/// Most operations of one object: beyond, a search may take for ever.
const MOST: usize = 2_000;

/// Events of one object, with their places in the history.
type Events = Vec<(u64, Event)>;

#[derive(Debug, Default)]
pub(super) struct Small {
    topics: BTreeMap<Name, Events>,
    queues: BTreeMap<Name, Events>,
    /// Whose operations are under way: (whether of a topic, name).
    open: BTreeMap<OpId, (bool, Name)>,
}

impl Small {
    pub(super) fn take(&mut self, header: &Header, order: u64, event: &Event) {
        let (op, ends) = match &event.what {
            What::Invoke { op, call, .. } => {
                let of = match call {
                    Call::Send(append) => (true, &append.topic),
                    Call::Read(read) => (true, &read.topic),
                    Call::Tail { topic, .. } => (true, topic),
                    Call::Enqueue { queue, .. } | Call::Receive { queue, .. } | Call::Settle { queue, .. } => (false, queue),
                    Call::Commit { .. } | Call::Cursor { .. } => return,
                };
                let is_small = match of {
                    (true, topic) => header.topics.get(topic).is_some_and(|facts| facts.linearizable),
                    (false, queue) => header.queues.get(queue).is_some_and(|facts| facts.linearizable),
                };
                if !is_small {
                    return;
                }
                self.open.insert(*op, (of.0, of.1.clone()));
                (op, false)
            }
            What::Ok { op, .. } | What::Fail { op, .. } | What::Info { op } => (op, true),
            _ => return,
        };
        let Some((of_topic, name)) = self.open.get(op).cloned() else { return };
        if ends {
            self.open.remove(op);
        }
        let all = if of_topic { &mut self.topics } else { &mut self.queues };
        all.entry(name).or_default().push((order, event.clone()));
    }

    pub(super) fn finish(&self, report: &mut Report) {
        for (name, events) in &self.topics {
            match stream::operations(events.iter().map(|(order, event)| (*order, event))) {
                Err(cause) => report.violation(Check::Format, Subject::Run, format!("{name}: {cause}")),
                Ok(partitions) => {
                    for (partition, operations) in partitions {
                        explain(&stream::Stream, &format!("{name}/{partition}"), &operations, report);
                    }
                }
            }
        }
        for (name, events) in &self.queues {
            match queue::operations(events.iter().map(|(order, event)| (*order, event))) {
                Err(cause) => report.violation(Check::Format, Subject::Run, format!("{name}: {cause}")),
                Ok(messages) => {
                    for (id, operations) in messages {
                        explain(&queue::Message, &format!("{name}: message {}:{}", id.producer, id.seq), &operations, report);
                    }
                }
            }
        }
    }
}

fn explain<M: Model>(model: &M, of: &str, operations: &[Operation<M::Op>], report: &mut Report) {
    if operations.len() > MOST {
        return report.violation(Check::Vacuous, Subject::Run, format!("{of} has {} operations, too many to search", operations.len()));
    }
    report.examined(Check::H8, operations.len() as u64);
    match search(model, operations, LIMIT) {
        Verdict::Linearizable(_) => {}
        Verdict::Not { longest, stuck } => {
            let what = format!(
                "{of}: no order explains the answers; the best one takes {} of {} operations and has no place for operation {stuck}",
                longest.len(),
                operations.len()
            );
            report.violation(Check::H8, Subject::Op(stuck), what);
        }
        Verdict::TooLarge => report.violation(Check::Vacuous, Subject::Run, format!("{of}: too many orders to try")),
    }
}
