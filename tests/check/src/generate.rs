//! A history without a violation, of any length: what the checker's time and memory are measured with. Must be the same for the
//! same numbers.

use std::io::Write;
use std::time::Duration;

use crate::checker::Check;
use crate::history::{
    Answer, Append, Call, Delivered, Event, Expect, Header, LeaseId, Name, OpId, Promise, Read, RecordId, Run, Seen, Sent, Status, Verb,
    What, hash, to_line,
};

/// Messages of a batch.
const MESSAGES: u64 = 20;
/// Producers, of which each second one was promised that repetitions are stored once.
const PRODUCERS: u64 = 8;
/// Partitions of the topic.
const PARTITIONS: u64 = 12;
/// Records of a page.
const PAGE: u64 = 1_000;
/// Between two events.
const TICK_NS: u64 = 1_000;
/// A batch of so many has an unknown outcome, and half of these are stored.
const UNKNOWN_EVERY: u64 = 100;
/// How messages are leased.
const LEASE: Duration = Duration::from_secs(30);

/// How much to generate.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Records of a topic: each sent, acknowledged, read by a reader that follows and by one at the end.
    pub records: u64,
    /// Records of a batch.
    pub batch: u32,
    /// Messages of a queue: each sent, received and acknowledged.
    pub messages: u64,
}

struct Writer<'w, W> {
    to: &'w mut W,
    at: u64,
    op: OpId,
}

impl<W: Write> Writer<'_, W> {
    fn push(&mut self, what: What) -> std::io::Result<()> {
        self.at += TICK_NS;
        self.to.write_all(to_line(&Event { at: self.at, what }).as_bytes())
    }

    fn invoke(&mut self, process: u32, call: Call) -> std::io::Result<OpId> {
        self.op += 1;
        self.push(What::Invoke { op: self.op, process: Some(process), call })?;
        Ok(self.op)
    }

    fn call(&mut self, process: u32, call: Call, answer: Answer) -> std::io::Result<()> {
        let op = self.invoke(process, call)?;
        self.push(What::Ok { op, answer })
    }
}

/// The sum of a record: its value is its name.
fn sum(id: RecordId) -> u64 {
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&id.producer.to_le_bytes());
    bytes[4..].copy_from_slice(&id.seq.to_le_bytes());
    hash(&bytes)
}

/// Writes a history.
pub fn generate(size: Size, to: &mut impl Write) -> std::io::Result<()> {
    let mut checks = Vec::new();
    if size.records > 0 {
        checks.extend([Check::H1, Check::H2, Check::H3, Check::H4, Check::H5, Check::H6, Check::H7]);
    }
    if size.messages > 0 {
        checks.extend([Check::Q1, Check::Q3]);
    }
    let expect = Expect { checks: checks.into_iter().collect(), faults: ["kill -9".to_owned()].into(), fault_count: 1, acked: 1 };
    let run = format!("generated: {} records, {} messages", size.records, size.messages);
    to.write_all(Header { run, expect, ..Header::default() }.to_line().as_bytes())?;
    let mut writer = Writer { to, at: 0, op: 0 };
    writer.push(What::Fault { name: "kill -9".into(), target: Some("gateway 1".into()) })?;
    topic(&mut writer, size.records, u64::from(size.batch.max(1)))?;
    queue(&mut writer, size.messages)
}

fn topic<W: Write>(writer: &mut Writer<'_, W>, records: u64, of_batch: u64) -> std::io::Result<()> {
    let topic: Name = "load".into();
    // What lies where: the records of each partition, in order.
    let mut stored: Vec<Vec<RecordId>> = vec![Vec::new(); PARTITIONS as usize];
    let mut followed = vec![0_usize; PARTITIONS as usize];
    let mut next = vec![0_u64; PRODUCERS as usize];
    let (mut sent, mut batch) = (0, 0);
    while sent < records {
        let (producer, partition) = ((batch % PRODUCERS) as u32, (batch * 7 % PARTITIONS) as u32);
        let count = of_batch.min(records - sent);
        let first = next[producer as usize];
        next[producer as usize] += count;
        let ids = (first..first + count).map(|seq| RecordId { producer, seq });
        let promise = Promise { once: producer % 2 == 1, pipelined: false };
        let mut append = Append::new(topic.clone(), promise, ids.clone().map(|id| (id, sum(id))).collect());
        append.partition = Some(partition);
        let op = writer.invoke(producer, Call::Send(append))?;
        let log = &mut stored[partition as usize];
        let run = Run { partition, first: log.len() as u64, count: count as u32 };
        let is_unknown = batch % UNKNOWN_EVERY == UNKNOWN_EVERY - 1;
        if !is_unknown || batch % (UNKNOWN_EVERY * 2) == UNKNOWN_EVERY - 1 {
            log.extend(ids);
        }
        writer.push(if is_unknown { What::Info { op } } else { What::Ok { op, answer: Answer::Stored(vec![run]) } })?;
        let from = followed[partition as usize];
        if log.len() - from >= PAGE as usize {
            read(writer, &topic, (partition, false), log, from)?;
            followed[partition as usize] = log.len();
        }
        (sent, batch) = (sent + count, batch + 1);
    }
    for (partition, log) in stored.iter().enumerate() {
        for from in (0..log.len().max(1)).step_by(PAGE as usize) {
            read(writer, &topic, (partition as u32, true), log, from)?;
        }
    }
    Ok(())
}

fn read<W: Write>(
    writer: &mut Writer<'_, W>,
    topic: &Name,
    (partition, last): (u32, bool),
    log: &[RecordId],
    from: usize,
) -> std::io::Result<()> {
    let reader = if last { 1_000 } else { 100 + partition };
    let until = if last { log.len().min(from + PAGE as usize) } else { log.len() };
    let seen = |(offset, id): (usize, &RecordId)| Seen { offset: (from + offset) as u64, id: Some(*id), sum: sum(*id) };
    let rows = log[from..until].iter().enumerate().map(seen).collect();
    let call = Read { topic: topic.clone(), reader, last, seek: false, partition, from: from as u64 };
    writer.call(reader, Call::Read(call), Answer::Rows { rows, end: log.len() as u64 })
}

fn queue<W: Write>(writer: &mut Writer<'_, W>, messages: u64) -> std::io::Result<()> {
    let queue: Name = "jobs".into();
    let mut sent = 0;
    while sent < messages {
        let until = messages.min(sent + MESSAGES);
        let ids = (sent..until).map(|seq| RecordId { producer: 500, seq });
        let message = |id| (Sent { id, key: None, delay: Duration::ZERO, once: false }, sum(id));
        let enqueue = Call::Enqueue { queue: queue.clone(), messages: ids.clone().map(message).collect() };
        writer.call(500, enqueue, Answer::Stored(vec![Run { partition: 0, first: sent, count: (until - sent) as u32 }]))?;
        let lease = |offset| LeaseId { at: (0, offset), attempt: 1 };
        let delivered = |id: RecordId| Delivered { lease: lease(id.seq), id: Some(id), hash: sum(id) };
        let receive = Call::Receive { queue: queue.clone(), lease: LEASE, drain: until == messages };
        writer.call(501, receive, Answer::Delivered(ids.map(delivered).collect()))?;
        let settle = Call::Settle { queue: queue.clone(), verb: Verb::Ack, leases: (sent..until).map(lease).collect() };
        writer.call(501, settle, Answer::Settled(vec![Status::Done; (until - sent) as usize]))?;
        sent = until;
    }
    if messages > 0 {
        let receive = Call::Receive { queue, lease: LEASE, drain: true };
        writer.call(501, receive, Answer::Delivered(Vec::new()))?;
    }
    Ok(())
}
