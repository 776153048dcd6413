//! Writes down what clients see. Must never judge, and never write two events in another order than they were told in: who is
//! told of an answer before another asks is before it in the history.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::codec::to_line;
use super::{
    Answer, Append, Call, Dump, Event, Header, History, Name, OpId, Process, Promise, Read, RecordId, Refusal, Seen, What, hash, parse_id,
    runs,
};
use crate::clock::{Clock, Nanos, monotonic};

/// What all recorders of a run write to: one clock, one order. Clones are the same tape.
#[derive(Clone)]
pub struct Tape(Arc<Shared>);

struct Shared {
    clock: Clock,
    written: Mutex<Written>,
}

struct Written {
    header: Header,
    ops: OpId,
    latest: Nanos,
    to: To,
}

enum To {
    Memory(Vec<Event>),
    /// Lines leave the process one by one, so that a killed recorder leaves all but the last.
    File(BufWriter<File>, std::io::Result<()>),
}

impl Default for Tape {
    fn default() -> Self {
        Self::with_clock(monotonic())
    }
}

impl Tape {
    /// A tape in memory, with times from a clock.
    pub fn with_clock(clock: Clock) -> Self {
        Self::new(clock, Header::default(), To::Memory(Vec::new()))
    }

    /// A tape that is written to a file at once: what a large run holds need not be kept in memory.
    pub fn to_file(clock: Clock, header: Header, path: &Path) -> std::io::Result<Self> {
        let mut file = BufWriter::new(File::create(path)?);
        file.write_all(header.to_line().as_bytes())?;
        file.flush()?;
        Ok(Self::new(clock, header, To::File(file, Ok(()))))
    }

    fn new(clock: Clock, header: Header, to: To) -> Self {
        Self(Arc::new(Shared { clock, written: Mutex::new(Written { header, ops: 0, latest: 0, to }) }))
    }

    /// The time.
    pub fn now(&self) -> Nanos {
        (self.0.clock)()
    }

    /// What is pushed is whole, whoever panicked while he held the lock.
    fn written(&self) -> MutexGuard<'_, Written> {
        self.0.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down what happened now.
    pub fn push(&self, what: What) {
        let mut written = self.written();
        let at = self.now();
        written.push(at, what);
    }

    /// Writes down that something is about to be asked for.
    pub fn invoke(&self, process: Option<Process>, call: Call) -> OpId {
        let mut written = self.written();
        let at = self.now();
        written.ops += 1;
        let op = written.ops;
        written.push(at, What::Invoke { op, process, call });
        op
    }

    /// It was done.
    pub fn ok(&self, op: OpId, answer: Answer) {
        self.push(What::Ok { op, answer });
    }

    /// It was certainly not done.
    pub fn fail(&self, op: OpId, refusal: Refusal) {
        self.push(What::Fail { op, refusal });
    }

    /// Nobody knows.
    pub fn info(&self, op: OpId) {
        self.push(What::Info { op });
    }

    /// A fault was injected.
    pub fn fault(&self, name: &str, target: Option<&str>) {
        self.push(What::Fault { name: name.into(), target: target.map(Into::into) });
    }

    /// From here on no fault is at work, or may be again.
    pub fn calm(&self, calm: bool) {
        self.push(What::Calm(calm));
    }

    /// Something was seen behind the API.
    pub fn dump(&self, dump: Dump) {
        self.push(What::Dump(dump));
    }

    /// Says more of the run. For a tape in memory: that of a file was written when it was opened.
    pub fn describe(&self, describe: impl FnOnce(&mut Header)) {
        describe(&mut self.written().header);
    }

    /// Everything recorded since the last time; of a tape in a file, only the header.
    pub fn take(&self) -> History {
        let mut written = self.written();
        let events = match &mut written.to {
            To::Memory(events) => std::mem::take(events),
            To::File(..) => Vec::new(),
        };
        History { header: written.header.clone(), events }
    }

    /// The first error of writing, which ends the writing. Nothing is left in a buffer afterwards.
    pub fn close(&self) -> std::io::Result<()> {
        match &mut self.written().to {
            To::Memory(_) => Ok(()),
            To::File(file, outcome) => std::mem::replace(outcome, Ok(())).and_then(|()| file.flush()),
        }
    }
}

impl Written {
    fn push(&mut self, at: Nanos, what: What) {
        // A clock that is not monotonic would make the history unreadable.
        self.latest = self.latest.max(at);
        let event = Event { at: self.latest, what };
        match &mut self.to {
            To::Memory(events) => events.push(event),
            To::File(file, outcome) if outcome.is_ok() => {
                *outcome = file.write_all(to_line(&event).as_bytes()).and_then(|()| file.flush());
            }
            To::File(..) => {}
        }
    }
}

/// Writes down what happens to one topic. Clones write to the same tape.
#[derive(Clone)]
pub struct Recorder {
    tape: Tape,
    topic: Name,
}

impl Default for Recorder {
    fn default() -> Self {
        Self::with_clock(monotonic())
    }
}

impl Recorder {
    /// One with a tape of its own, that takes its times from a clock.
    pub fn with_clock(clock: Clock) -> Self {
        Self::on(&Tape::with_clock(clock), "topic")
    }

    /// One for a topic, on a tape that others write to as well.
    pub fn on(tape: &Tape, topic: &str) -> Self {
        Self { tape: tape.clone(), topic: topic.into() }
    }

    /// What it writes to.
    pub fn tape(&self) -> &Tape {
        &self.tape
    }

    /// The topic.
    pub fn topic(&self) -> &Name {
        &self.topic
    }

    /// The time.
    pub fn now(&self) -> Nanos {
        self.tape.now()
    }

    /// These bodies are about to be sent.
    pub fn invoke(&self, promise: Promise, records: &[(RecordId, String)]) -> OpId {
        let records = records.iter().map(|(id, body)| (*id, hash(body.as_bytes()))).collect();
        self.append(Append::new(self.topic.clone(), promise, records))
    }

    /// Records are about to be sent, with all that there is to say of them.
    pub fn append(&self, append: Append) -> OpId {
        let process = append.records.first().map(|(id, _)| id.producer);
        self.tape.invoke(process, Call::Send(append))
    }

    /// Records were acknowledged, at these places (partition, offset), in their order.
    pub fn ok(&self, op: OpId, places: Vec<(u32, u64)>) {
        self.tape.ok(op, Answer::Stored(runs(places)));
    }

    /// It certainly did not happen.
    pub fn fail(&self, op: OpId) {
        self.tape.fail(op, Refusal::Refused);
    }

    /// Nobody knows whether it happened.
    pub fn info(&self, op: OpId) {
        self.tape.info(op);
    }

    /// A fault was injected.
    pub fn fault(&self, what: &str) {
        self.tape.fault(what, None);
    }

    /// A reader is about to ask for a partition from an offset on. `last`: everything else has ended, and it reads to the end.
    pub fn ask(&self, reader: Process, last: bool, partition: u32, from: u64) -> OpId {
        self.read(Read { topic: self.topic.clone(), reader, last, seek: false, partition, from })
    }

    /// The same of a reader who goes elsewhere than where it was.
    pub fn seek(&self, reader: Process, last: bool, partition: u32, from: u64) -> OpId {
        self.read(Read { topic: self.topic.clone(), reader, last, seek: true, partition, from })
    }

    fn read(&self, read: Read) -> OpId {
        self.tape.invoke(Some(read.reader), Call::Read(read))
    }

    /// What a reader saw: offsets with the bytes of their values, and the partition's end if it was told.
    pub fn saw<'v>(&self, op: OpId, rows: impl IntoIterator<Item = (u64, &'v [u8])>, end: impl Into<Option<u64>>) {
        let seen = |(offset, value): (u64, &[u8])| Seen { offset, id: parse_id(value), sum: hash(value) };
        let rows = rows.into_iter().map(seen).collect();
        self.tape.ok(
            op,
            match end.into() {
                Some(end) => Answer::Rows { rows, end },
                None => Answer::Part(rows),
            },
        );
    }

    /// Everything recorded on the tape.
    pub fn finish(self) -> History {
        self.tape.take()
    }
}
