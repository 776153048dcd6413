//! Judges a history: nothing lost, nothing made up, one order for all readers, nobody disturbed while a lease lasts. It takes one
//! event after the other and keeps some 64 bytes of each record; what has to be sorted is n log n, all else linear.
//!
//! Must never pass a history that proves nothing: each check counts what it looked at. Nor may it accuse without proof: where
//! clients cannot know, the server is believed.

mod commits;
mod context;
mod dump;
mod findings;
mod log;
mod orders;
mod queue;
mod sparse;
#[cfg(test)]
mod tests;
mod vacuous;

use std::collections::BTreeMap;

pub use context::{Context, context};
pub use findings::{Check, Count, Report, Subject, Violation};

use crate::clock::Nanos;
use crate::history::{Answer, Append, Call, Event, Expect, Header, History, Name, OpId, Refusal, What};
use commits::Commits;
use dump::Dumps;
use log::Topic;
use orders::Small;
use queue::Queue;
use vacuous::Tally;

/// What a run must have had for its result to mean something: the usual of a load on one topic.
#[derive(Clone, Copy, Debug, Default)]
pub struct Demands {
    /// Faults injected.
    pub faults: usize,
    /// Acknowledged records.
    pub acked: usize,
}

impl From<Demands> for Expect {
    fn from(demands: Demands) -> Self {
        Self {
            checks: [Check::H1, Check::H2, Check::H3, Check::H5, Check::H7].into(),
            fault_count: demands.faults.max(1) as u64,
            acked: demands.acked.max(1) as u64,
            ..Self::default()
        }
    }
}

/// Judges a history by what its header expects.
pub fn judge(history: &History) -> Report {
    let mut checker = Checker::new(history.header.clone());
    for event in &history.events {
        if let Err(cause) = checker.take(event.clone()) {
            checker.report.violation(Check::Format, Subject::Run, cause);
        }
    }
    checker.finish()
}

/// Judges a history by what is demanded of it.
pub fn check(history: &History, demands: impl Into<Expect>) -> Report {
    let mut history = History { header: history.header.clone(), events: history.events.clone() };
    history.header.expect = demands.into();
    judge(&history)
}

/// An operation that has not ended.
struct Open {
    /// Its place among the events.
    order: u64,
    at: Nanos,
    call: Call,
    /// Of a read: the end that it must be told at least. Of a look at a cursor: how often it was moved.
    least: u64,
    calm: bool,
}

/// Judges a history as it is read.
pub struct Checker {
    header: Header,
    /// Events so far.
    order: u64,
    latest_op: Option<OpId>,
    open: BTreeMap<OpId, Open>,
    topics: BTreeMap<Name, Topic>,
    queues: BTreeMap<Name, Queue>,
    commits: Commits,
    dumps: Dumps,
    small: Small,
    tally: Tally,
    report: Report,
}

impl Checker {
    /// For a history with this header.
    pub fn new(header: Header) -> Self {
        let report = Report { run: header.run.clone(), ..Report::default() };
        let (open, topics, queues) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let (commits, dumps, small, tally) = (Commits::default(), Dumps::default(), Small::default(), Tally::default());
        Self { header, order: 0, latest_op: None, open, topics, queues, commits, dumps, small, tally, report }
    }

    /// Takes the next event. An error says that it does not fit the ones before: then the history is none.
    pub fn take(&mut self, event: Event) -> Result<(), String> {
        self.order += 1;
        self.small.take(&self.header, self.order, &event);
        match event.what {
            What::Invoke { op, call, .. } => self.invoke(op, event.at, call),
            What::Ok { op, answer } => {
                let open = self.close(op)?;
                self.tally.ended(&open, true);
                self.ok(op, open, answer, event.at)
            }
            What::Fail { op, refusal } => {
                let open = self.close(op)?;
                // Who is told of the state that forbids it is served.
                self.tally.ended(&open, refusal != Refusal::Refused);
                self.fail(&open, refusal);
                Ok(())
            }
            What::Info { op } => {
                let open = self.close(op)?;
                self.unknown(op, open);
                Ok(())
            }
            What::Fault { name, .. } => {
                self.report.faults += 1;
                *self.report.faults_by_kind.entry(name.to_string()).or_default() += 1;
                Ok(())
            }
            What::Calm(calm) => {
                self.tally.calm(calm);
                Ok(())
            }
            What::Dead { queue, dead } => {
                self.report.dead += 1;
                self.queue(&queue).died(dead);
                Ok(())
            }
            What::Dump(dump) => {
                self.dumps.take(dump, &mut self.report);
                Ok(())
            }
        }
    }

    /// The judgement.
    pub fn finish(mut self) -> Report {
        for (op, open) in std::mem::take(&mut self.open) {
            self.unknown(op, open);
        }
        let report = &mut self.report;
        for (name, topic) in &mut self.topics {
            topic.finish(name, report);
        }
        let settled = self.commits.finish(&self.topics, report);
        for (queue, settling) in settled {
            let facts = self.header.queues.get(&queue).copied().unwrap_or_default();
            self.queues.entry(queue).or_insert_with(|| Queue::new(facts)).settle_late(settling);
        }
        for (name, queue) in std::mem::take(&mut self.queues) {
            queue.finish(&name, report);
        }
        self.dumps.finish(&self.topics, report);
        self.small.finish(report);
        self.tally.finish(&self.header.expect, report);
        report.violations.sort_by_key(|violation| violation.check);
        self.report
    }

    fn topic(&mut self, name: &Name) -> &mut Topic {
        if !self.topics.contains_key(name) {
            let facts = self.header.topics.get(name).copied().unwrap_or_default();
            self.topics.insert(name.clone(), Topic::new(facts));
        }
        self.topics.entry(name.clone()).or_default()
    }

    fn queue(&mut self, name: &Name) -> &mut Queue {
        let facts = self.header.queues.get(name).copied().unwrap_or_default();
        self.queues.entry(name.clone()).or_insert_with(|| Queue::new(facts))
    }

    fn close(&mut self, op: OpId) -> Result<Open, String> {
        self.open.remove(&op).ok_or_else(|| format!("operation {op} ends, but was not invoked or has ended"))
    }

    fn invoke(&mut self, op: OpId, at: Nanos, call: Call) -> Result<(), String> {
        if let Some(latest) = self.latest_op.replace(op).filter(|latest| op <= *latest) {
            return Err(format!("operation {op} is invoked after {latest}: ids must rise"));
        }
        let order = self.order;
        let mut least = 0;
        match &call {
            Call::Send(append) => self.topic(&append.topic).invoke(order, append)?,
            Call::Commit { appends, moves, .. } => {
                for append in appends {
                    self.topic(&append.topic).invoke(order, append)?;
                }
                self.commits.invoke(moves);
            }
            Call::Read(read) => least = self.topic(&read.topic).acked_end(read.partition),
            Call::Tail { topic, partition } => least = self.topic(topic).acked_end(*partition),
            Call::Cursor { cursor, .. } => least = self.commits.moved(cursor),
            Call::Enqueue { queue, messages } => self.queue(queue).invoke(at, messages)?,
            Call::Receive { queue, drain, .. } => self.queue(queue).asked(at, *drain),
            Call::Settle { .. } => {}
        }
        let calm = self.tally.is_calm();
        self.open.insert(op, Open { order, at, call, least, calm });
        Ok(())
    }

    fn ok(&mut self, op: OpId, open: Open, answer: Answer, at: Nanos) -> Result<(), String> {
        let (order, report) = (self.order, &mut self.report);
        match (open.call, answer) {
            (Call::Send(append), Answer::Stored(runs)) => {
                let name = append.topic.clone();
                let topic = self.topics.entry(name).or_default();
                topic.ok(open.order, order, op, append, &runs, report)
            }
            (Call::Commit { appends, moves, acks }, Answer::Committed(each)) => {
                if appends.len() != each.len() {
                    return Err(format!("{} appends of a commit, but {} answers", appends.len(), each.len()));
                }
                self.commits.ended(op, open.at, Some(at), &appends, moves, acks);
                for (append, runs) in appends.into_iter().zip(&each) {
                    let topic = self.topics.entry(append.topic.clone()).or_default();
                    topic.ok(open.order, order, op, append, runs, report)?;
                }
                Ok(())
            }
            (Call::Read(read), Answer::Rows { rows, end }) => {
                let topic = self.topics.entry(read.topic.clone()).or_default();
                topic.rows(&read, &rows, Some(end), open.least, report);
                Ok(())
            }
            (Call::Read(read), Answer::Part(rows)) => {
                let topic = self.topics.entry(read.topic.clone()).or_default();
                topic.rows(&read, &rows, None, open.least, report);
                Ok(())
            }
            (Call::Tail { topic: name, partition }, Answer::End(end)) => {
                let topic = self.topics.entry(name.clone()).or_default();
                topic.told(&name, partition, end, open.least, report);
                Ok(())
            }
            (Call::Cursor { cursor, topic, last }, Answer::Positions(offsets)) => {
                self.commits.looked(&cursor, &topic, &offsets, last, open.least, report);
                Ok(())
            }
            (Call::Enqueue { queue, messages }, Answer::Stored(runs)) => self.queue(&queue.clone()).stored(at, &messages, &runs),
            (Call::Receive { queue, lease, drain }, Answer::Delivered(got)) => {
                let facts = self.header.queues.get(&queue).copied().unwrap_or_default();
                let of = self.queues.entry(queue.clone()).or_insert_with(|| Queue::new(facts));
                of.delivered(&queue, (open.at, at), lease, drain, &got, report);
                Ok(())
            }
            (Call::Settle { queue, verb, leases }, Answer::Settled(statuses)) => {
                if leases.len() != statuses.len() {
                    return Err(format!("{} leases are settled, but {} answered", leases.len(), statuses.len()));
                }
                let of = self.queue(&queue);
                leases.iter().zip(statuses).for_each(|(lease, status)| of.settle(*lease, verb, open.at, Some(at), status));
                Ok(())
            }
            (call, _) => Err(format!("operation {op} is answered as if it had been another: {}", function(&call))),
        }
    }

    fn fail(&mut self, open: &Open, refusal: Refusal) {
        match &open.call {
            Call::Send(append) => self.topic(&append.topic).closed(open.order),
            Call::Commit { appends, .. } => appends.iter().for_each(|append| self.topic(&append.topic).closed(open.order)),
            Call::Read(read) => {
                if let Refusal::Trimmed { start } = refusal {
                    self.topic(&read.topic).turned_away(read, start);
                }
            }
            _ => {}
        }
    }

    /// It ended with an unknown outcome, or never.
    fn unknown(&mut self, op: OpId, open: Open) {
        self.report.unknown += 1;
        self.tally.ended(&open, false);
        match open.call {
            Call::Send(append) => self.maybe(&append, open.order),
            Call::Commit { appends, moves, acks } => {
                self.commits.ended(op, open.at, None, &appends, moves, acks);
                appends.iter().for_each(|append| self.maybe(append, open.order));
            }
            Call::Enqueue { queue, messages } => self.queue(&queue).maybe(&messages),
            Call::Settle { queue, verb, leases } => {
                let of = self.queue(&queue);
                leases.iter().for_each(|lease| of.settle(*lease, verb, open.at, None, crate::history::Status::Info));
            }
            Call::Read(_) | Call::Tail { .. } | Call::Cursor { .. } | Call::Receive { .. } => {}
        }
    }

    fn maybe(&mut self, append: &Append, order: u64) {
        self.topic(&append.topic).maybe(order, append);
    }
}

fn function(call: &Call) -> &'static str {
    match call {
        Call::Send(_) => "send",
        Call::Commit { .. } => "commit",
        Call::Read(_) => "read",
        Call::Tail { .. } => "tail",
        Call::Cursor { .. } => "cursor",
        Call::Enqueue { .. } => "q_send",
        Call::Receive { .. } => "receive",
        Call::Settle { .. } => "settle",
    }
}
