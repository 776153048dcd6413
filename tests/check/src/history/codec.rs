//! One event as one line of JSON. `docs/history-format.md` tells the fields; what does not fit together is refused here, so that
//! nothing behind has to look again. Must never make more of a line than is in it: runs are checked before they are spread.

mod shapes;

use std::time::Duration;

use serde::Serialize;

use super::{Answer, Append, Call, CursorMove, Dead, Delivered, Event, LeaseId, Read, RecordId, Refusal, Run, Seen, Status, Verb, What};
use shapes::{AcksShape, AppendShape, ErrorShape, Function, IdRun, Kind, Line, MessageShape, MoveShape, Row};

/// Most that a time may be in a line: a century in nanoseconds, so that sums of a few never overflow.
const LONGEST_NS: u64 = 3_200_000_000_000_000_000;

/// The line, with its end.
pub(super) fn line(of: &impl Serialize) -> String {
    let mut line = serde_json::to_string(of).unwrap_or_else(|error| format!("{{\"error\":{:?}}}", error.to_string()));
    line.push('\n');
    line
}

/// An event as a line, with its end.
pub(crate) fn to_line(event: &Event) -> String {
    line(&Line::from(event))
}

/// The event of a line, or why there is none.
pub(crate) fn from_line(text: &[u8]) -> Result<Event, String> {
    // Serde would take an array as well, for an object without its names.
    if text.trim_ascii_start().first() != Some(&b'{') {
        return Err("not a JSON object".to_owned());
    }
    let line: Line = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    line.try_into()
}

impl From<&Event> for Line {
    fn from(event: &Event) -> Self {
        let mut line = Self { t_ns: event.at, ..Self::default() };
        match &event.what {
            What::Invoke { op, process, call } => {
                (line.kind, line.op_id, line.proc) = (Kind::Invoke, Some(*op), *process);
                line.call(call);
            }
            What::Ok { op, answer } => {
                (line.kind, line.op_id) = (Kind::Ok, Some(*op));
                line.answer(answer);
            }
            What::Fail { op, refusal } => {
                (line.kind, line.op_id) = (Kind::Fail, Some(*op));
                match refusal {
                    Refusal::Refused => {}
                    Refusal::Mismatch { end } => (line.error, line.end) = (Some(ErrorShape::Mismatch), Some(*end)),
                    Refusal::Fenced { current } => (line.error, line.fence) = (Some(ErrorShape::Fenced), Some(*current)),
                    Refusal::Trimmed { start } => (line.error, line.start) = (Some(ErrorShape::Trimmed), Some(*start)),
                }
            }
            What::Info { op } => (line.kind, line.op_id) = (Kind::Info, Some(*op)),
            What::Fault { name, target } => {
                (line.kind, line.fault, line.target) = (Kind::Fault, Some(name.clone()), target.clone());
            }
            What::Calm(calm) => (line.kind, line.calm) = (Kind::Calm, Some(*calm)),
            What::Dead { queue, dead } => {
                (line.kind, line.queue, line.partition, line.offset) = (Kind::Dead, Some(queue.clone()), Some(dead.at.0), Some(dead.at.1));
                (line.id, line.attempts, line.reason) = (dead.id.map(pair), Some(dead.attempts), Some(dead.reason.clone()));
            }
            What::Dump(dump) => (line.kind, line.dump) = (Kind::Dump, Some(dump.clone())),
        }
        line
    }
}

impl Line {
    fn call(&mut self, call: &Call) {
        match call {
            Call::Send(append) => {
                (self.f, self.append) = (Some(Function::Send), Some(append.into()));
            }
            Call::Commit { appends, moves, acks } => {
                self.f = Some(Function::Commit);
                self.appends = Some(appends.iter().map(Into::into).collect());
                let shape = |of: &CursorMove| MoveShape { cursor: of.cursor.clone(), topic: of.topic.clone(), offsets: of.offsets.clone() };
                self.moves = Some(moves.iter().map(shape).collect());
                let shape = |(queue, leases): &(super::Name, Vec<LeaseId>)| AcksShape {
                    queue: queue.clone(),
                    leases: leases.iter().map(triple).collect(),
                };
                self.acks = Some(acks.iter().map(shape).collect());
            }
            Call::Read(Read { topic, reader, last, seek, partition, from }) => {
                (self.f, self.topic, self.reader) = (Some(Function::Read), Some(topic.clone()), Some(*reader));
                (self.last, self.seek, self.partition, self.from) = (*last, *seek, Some(*partition), Some(*from));
            }
            Call::Tail { topic, partition } => {
                (self.f, self.topic, self.partition) = (Some(Function::Tail), Some(topic.clone()), Some(*partition));
            }
            Call::Cursor { cursor, topic, last } => {
                (self.f, self.cursor, self.topic, self.last) = (Some(Function::Cursor), Some(cursor.clone()), Some(topic.clone()), *last);
            }
            Call::Enqueue { queue, messages } => {
                (self.f, self.queue) = (Some(Function::QSend), Some(queue.clone()));
                self.messages = Some(messages.iter().map(Into::into).collect());
            }
            Call::Receive { queue, lease, drain } => {
                (self.f, self.queue, self.lease_ns, self.drain) =
                    (Some(Function::Receive), Some(queue.clone()), Some(nanos(*lease)), *drain);
            }
            Call::Settle { queue, verb, leases } => {
                (self.queue, self.leases) = (Some(queue.clone()), Some(leases.iter().map(triple).collect()));
                self.f = Some(match verb {
                    Verb::Ack => Function::Ack,
                    Verb::Nack(delay) => {
                        self.delay_ns = Some(nanos(*delay));
                        Function::Nack
                    }
                    Verb::Extend(lease) => {
                        self.lease_ns = Some(nanos(*lease));
                        Function::Extend
                    }
                    Verb::Reject => Function::Reject,
                });
            }
        }
    }

    fn answer(&mut self, answer: &Answer) {
        match answer {
            Answer::Stored(places) => self.at = Some(places.iter().map(place).collect()),
            Answer::Committed(each) => self.ats = Some(each.iter().map(|places| places.iter().map(place).collect()).collect()),
            Answer::Rows { rows, end } => {
                (self.rows, self.sums, self.end) = (Some(to_runs(rows)), Some(rows.iter().map(|row| row.sum).collect()), Some(*end));
            }
            Answer::Part(rows) => (self.rows, self.sums) = (Some(to_runs(rows)), Some(rows.iter().map(|row| row.sum).collect())),
            Answer::End(end) => self.end = Some(*end),
            Answer::Positions(offsets) => self.offsets = Some(offsets.clone()),
            Answer::Delivered(got) => {
                let shape = |d: &Delivered| (d.lease.at.0, d.lease.at.1, d.lease.attempt, d.id.map(pair), d.hash);
                self.got = Some(got.iter().map(shape).collect());
            }
            Answer::Settled(statuses) => self.statuses = Some(statuses.clone()),
        }
    }
}

impl TryFrom<Line> for Event {
    type Error = String;

    fn try_from(mut line: Line) -> Result<Self, String> {
        let at = line.t_ns;
        if at > LONGEST_NS {
            return Err(format!("t_ns is {at}, more than a century"));
        }
        let op = |line: &mut Line| line.op_id.take().ok_or_else(|| missing("op_id"));
        let what = match line.kind {
            Kind::Invoke => What::Invoke { op: op(&mut line)?, process: line.proc.take(), call: line.take_call()? },
            Kind::Ok => What::Ok { op: op(&mut line)?, answer: line.take_answer()? },
            Kind::Fail => What::Fail { op: op(&mut line)?, refusal: line.take_refusal()? },
            Kind::Info => What::Info { op: op(&mut line)? },
            Kind::Fault => What::Fault { name: line.fault.take().ok_or_else(|| missing("fault"))?, target: line.target.take() },
            Kind::Calm => What::Calm(line.calm.take().ok_or_else(|| missing("calm"))?),
            Kind::Dead => What::Dead {
                queue: line.queue.take().ok_or_else(|| missing("queue"))?,
                dead: Dead {
                    at: (line.partition.take().ok_or_else(|| missing("partition"))?, line.offset.take().ok_or_else(|| missing("offset"))?),
                    id: line.id.take().map(record),
                    attempts: line.attempts.take().ok_or_else(|| missing("attempts"))?,
                    reason: line.reason.take().ok_or_else(|| missing("reason"))?,
                },
            },
            Kind::Dump => What::Dump(line.dump.take().ok_or_else(|| missing("dump"))?),
        };
        // What was not taken does not belong to this type.
        let rest = Self { at: line.t_ns, what };
        line.spent()?;
        Ok(rest)
    }
}

impl Line {
    fn take_call(&mut self) -> Result<Call, String> {
        let f = self.f.take().ok_or_else(|| missing("f"))?;
        let topic = |line: &mut Self| line.topic.take().ok_or_else(|| missing("topic"));
        let queue = |line: &mut Self| line.queue.take().ok_or_else(|| missing("queue"));
        let partition = |line: &mut Self| line.partition.take().ok_or_else(|| missing("partition"));
        Ok(match f {
            Function::Send => Call::Send(self.append.take().ok_or_else(|| missing("append"))?.try_into()?),
            Function::Commit => Call::Commit {
                appends: self.appends.take().unwrap_or_default().into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
                moves: self
                    .moves
                    .take()
                    .unwrap_or_default()
                    .into_iter()
                    .map(|MoveShape { cursor, topic, offsets }| CursorMove { cursor, topic, offsets })
                    .collect(),
                acks: self
                    .acks
                    .take()
                    .unwrap_or_default()
                    .into_iter()
                    .map(|of| (of.queue, of.leases.into_iter().map(lease).collect()))
                    .collect(),
            },
            Function::Read => Call::Read(Read {
                topic: topic(self)?,
                reader: self.reader.take().ok_or_else(|| missing("reader"))?,
                last: std::mem::take(&mut self.last),
                seek: std::mem::take(&mut self.seek),
                partition: partition(self)?,
                from: self.from.take().ok_or_else(|| missing("from"))?,
            }),
            Function::Tail => Call::Tail { topic: topic(self)?, partition: partition(self)? },
            Function::Cursor => Call::Cursor {
                cursor: self.cursor.take().ok_or_else(|| missing("cursor"))?,
                topic: topic(self)?,
                last: std::mem::take(&mut self.last),
            },
            Function::QSend => Call::Enqueue {
                queue: queue(self)?,
                messages: self
                    .messages
                    .take()
                    .ok_or_else(|| missing("messages"))?
                    .into_iter()
                    .map(TryInto::try_into)
                    .collect::<Result<_, _>>()?,
            },
            Function::Receive => {
                Call::Receive { queue: queue(self)?, lease: self.time_of_lease()?, drain: std::mem::take(&mut self.drain) }
            }
            Function::Ack | Function::Nack | Function::Extend | Function::Reject => {
                let verb = match f {
                    Function::Nack => Verb::Nack(time("delay_ns", self.delay_ns.take())?),
                    Function::Extend => Verb::Extend(self.time_of_lease()?),
                    Function::Reject => Verb::Reject,
                    _ => Verb::Ack,
                };
                let leases = self.leases.take().ok_or_else(|| missing("leases"))?.into_iter().map(lease).collect();
                Call::Settle { queue: queue(self)?, verb, leases }
            }
        })
    }

    fn time_of_lease(&mut self) -> Result<Duration, String> {
        time("lease_ns", self.lease_ns.take())
    }

    fn take_answer(&mut self) -> Result<Answer, String> {
        if let Some(places) = self.at.take() {
            return Ok(Answer::Stored(places.into_iter().map(run).collect::<Result<_, _>>()?));
        }
        if let Some(each) = self.ats.take() {
            let runs = |places: Vec<(u32, u64, u32)>| places.into_iter().map(run).collect::<Result<_, _>>();
            return Ok(Answer::Committed(each.into_iter().map(runs).collect::<Result<_, _>>()?));
        }
        if let Some(runs) = self.rows.take() {
            let sums = self.sums.take().ok_or_else(|| missing("sums"))?;
            let rows = from_runs(&runs, &sums)?;
            return Ok(match self.end.take() {
                Some(end) => Answer::Rows { rows, end },
                None => Answer::Part(rows),
            });
        }
        if let Some(end) = self.end.take() {
            return Ok(Answer::End(end));
        }
        if let Some(offsets) = self.offsets.take() {
            return Ok(Answer::Positions(offsets));
        }
        if let Some(got) = self.got.take() {
            let delivered = |(partition, offset, attempt, id, hash): shapes::Got| Delivered {
                lease: LeaseId { at: (partition, offset), attempt },
                id: id.map(record),
                hash,
            };
            return Ok(Answer::Delivered(got.into_iter().map(delivered).collect()));
        }
        let statuses: Vec<Status> = self.statuses.take().ok_or("an ok that says nothing")?;
        Ok(Answer::Settled(statuses))
    }

    fn take_refusal(&mut self) -> Result<Refusal, String> {
        Ok(match self.error.take() {
            None => Refusal::Refused,
            Some(ErrorShape::Mismatch) => Refusal::Mismatch { end: self.end.take().ok_or_else(|| missing("end"))? },
            Some(ErrorShape::Fenced) => Refusal::Fenced { current: self.fence.take().ok_or_else(|| missing("fence"))? },
            Some(ErrorShape::Trimmed) => Refusal::Trimmed { start: self.start.take().ok_or_else(|| missing("start"))? },
        })
    }
}

impl From<&Append> for AppendShape {
    fn from(append: &Append) -> Self {
        let mut ids: Vec<IdRun> = Vec::new();
        for (id, _) in &append.records {
            match ids.last_mut() {
                Some((producer, first, count))
                    if *producer == id.producer && first.checked_add(u64::from(*count)) == Some(id.seq) && *count < u32::MAX =>
                {
                    *count += 1
                }
                _ => ids.push((id.producer, id.seq, 1)),
            }
        }
        Self {
            topic: append.topic.clone(),
            partition: append.partition,
            once: append.promise.once,
            pipelined: append.promise.pipelined,
            expect: append.expect,
            fence: append.fence,
            ids,
            sums: append.records.iter().map(|(_, sum)| *sum).collect(),
            keys: append.keys.clone(),
        }
    }
}

impl TryFrom<AppendShape> for Append {
    type Error = String;

    fn try_from(shape: AppendShape) -> Result<Self, String> {
        let total: u64 = shape.ids.iter().map(|(_, _, count)| u64::from(*count)).sum();
        if total != shape.sums.len() as u64 || total == 0 {
            return Err(format!("{total} ids, but {} sums", shape.sums.len()));
        }
        if !shape.keys.is_empty() && shape.keys.len() != shape.sums.len() {
            return Err(format!("{} keys, but {} sums", shape.keys.len(), shape.sums.len()));
        }
        let mut records = Vec::with_capacity(shape.sums.len());
        let mut sums = shape.sums.into_iter();
        for (producer, first, count) in shape.ids {
            last_of(first, count)?;
            // The sums first: whoever asks a range for one more than there is asks for too much at its end.
            records.extend(sums.by_ref().take(count as usize).zip(first..).map(|(sum, seq)| (RecordId { producer, seq }, sum)));
        }
        let promise = super::Promise { once: shape.once, pipelined: shape.pipelined };
        Ok(Self {
            topic: shape.topic,
            partition: shape.partition,
            promise,
            expect: shape.expect,
            fence: shape.fence,
            records,
            keys: shape.keys,
        })
    }
}

impl From<&(super::Sent, u64)> for MessageShape {
    fn from((sent, sum): &(super::Sent, u64)) -> Self {
        Self { id: pair(sent.id), sum: *sum, key: sent.key, delay_ns: nanos(sent.delay), once: sent.once }
    }
}

impl TryFrom<MessageShape> for (super::Sent, u64) {
    type Error = String;

    fn try_from(shape: MessageShape) -> Result<Self, String> {
        let delay = time("delay_ns", Some(shape.delay_ns))?;
        Ok((super::Sent { id: record(shape.id), key: shape.key, delay, once: shape.once }, shape.sum))
    }
}

fn to_runs(rows: &[Seen]) -> Vec<Row> {
    let mut runs: Vec<Row> = Vec::new();
    for row in rows {
        let follows = |(offset, count, first): &Row| {
            let count = u64::from(*count);
            let same = match (first, row.id) {
                (None, None) => true,
                (Some((producer, seq)), Some(id)) => *producer == id.producer && seq.checked_add(count) == Some(id.seq),
                _ => false,
            };
            same && offset.checked_add(count) == Some(row.offset)
        };
        match runs.last_mut() {
            Some(last) if follows(last) && last.1 < u32::MAX => last.1 += 1,
            _ => runs.push((row.offset, 1, row.id.map(pair))),
        }
    }
    runs
}

fn from_runs(runs: &[Row], sums: &[u64]) -> Result<Vec<Seen>, String> {
    let total: u64 = runs.iter().map(|(_, count, _)| u64::from(*count)).sum();
    if total != sums.len() as u64 {
        return Err(format!("{total} rows, but {} sums", sums.len()));
    }
    let mut rows = Vec::with_capacity(sums.len());
    let mut sums = sums.iter();
    for (offset, count, first) in runs {
        last_of(*offset, *count)?;
        if let Some((_, seq)) = first {
            last_of(*seq, *count)?;
        }
        for (nth, sum) in (0..u64::from(*count)).zip(sums.by_ref()) {
            let id = first.map(|(producer, seq)| RecordId { producer, seq: seq + nth });
            rows.push(Seen { offset: offset + nth, id, sum: *sum });
        }
    }
    Ok(rows)
}

/// The number after a run's last: refused where there is none.
fn last_of(first: u64, count: u32) -> Result<u64, String> {
    first.checked_add(u64::from(count)).ok_or_else(|| format!("a run of {count} that begins at {first} has no end"))
}

fn missing(field: &str) -> String {
    format!("missing field `{field}`")
}

fn time(field: &str, ns: Option<u64>) -> Result<Duration, String> {
    let ns = ns.ok_or_else(|| missing(field))?;
    if ns > LONGEST_NS { Err(format!("{field} is {ns}, more than a century")) } else { Ok(Duration::from_nanos(ns)) }
}

fn nanos(of: Duration) -> u64 {
    u64::try_from(of.as_nanos()).map_or(LONGEST_NS, |ns| ns.min(LONGEST_NS))
}

fn pair(id: RecordId) -> (u32, u64) {
    (id.producer, id.seq)
}

fn record((producer, seq): (u32, u64)) -> RecordId {
    RecordId { producer, seq }
}

fn triple(of: &LeaseId) -> (u32, u64, u32) {
    (of.at.0, of.at.1, of.attempt)
}

fn lease((partition, offset, attempt): (u32, u64, u32)) -> LeaseId {
    LeaseId { at: (partition, offset), attempt }
}

fn place(of: &Run) -> (u32, u64, u32) {
    (of.partition, of.first, of.count)
}

fn run((partition, first, count): (u32, u64, u32)) -> Result<Run, String> {
    last_of(first, count)?;
    Ok(Run { partition, first, count })
}
