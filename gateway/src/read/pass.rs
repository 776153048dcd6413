//! One pass of a read over its partitions: what is remembered first, then what must be asked for, until the budget is spent
//! or everything up to the ends is read. Never tells an end as such that it was not told during the read, unless nobody
//! can be asked.

use std::time::Duration;

use lakefall_queue::StoredRecord;
use lakefall_queue::error::Error;
use lakefall_queue::planted::{self, Bug};
use lakefall_queue::topic::Topic;
use lakefall_queue::verbs::Read;
use tokio::time::Instant;

use super::locations::Bounds;
use super::room::{Held, weight};
use super::{At, EXTENTS_AT_ONCE, Failure, Reader};

/// So long after the first records what was gathered is answered, however little: many small extents of a slow store take longer than
/// callers wait, and each of their attempts would begin anew.
const LONGEST: Duration = Duration::from_secs(5);
/// How often the records of one read may turn out to lie elsewhere.
const MOVES: usize = 3;

/// How much more a read may answer.
pub(super) struct Budget {
    pub(super) records: usize,
    pub(super) bytes: usize,
}

impl Budget {
    pub(super) fn spent(&self) -> bool {
        self.records == 0 || self.bytes == 0
    }
}

/// What a pass gathers.
pub(super) struct Pass<'a> {
    pub(super) topic: &'a Topic,
    pub(super) read: &'a Read,
    pub(super) budget: Budget,
    pub(super) records: Vec<StoredRecord>,
    /// What the records take.
    pub(super) weight: usize,
    pub(super) held: Option<Held>,
    /// Some records come from extents that are old.
    pub(super) old: bool,
    /// Partitions with records, as indexes into the places.
    pub(super) served: Vec<usize>,
    /// The metadata service does not answer: it is not asked again in this pass.
    pub(super) away: Option<Error>,
    /// When the first records were gathered.
    since: Option<Instant>,
}

impl<'a> Pass<'a> {
    pub(super) fn new(topic: &'a Topic, read: &'a Read) -> Self {
        let budget = Budget { records: read.max_records, bytes: read.max_bytes };
        let (records, served) = (Vec::new(), Vec::new());
        Self { topic, read, budget, records, weight: 0, held: None, old: false, served, away: None, since: None }
    }

    /// Takes a record into the answer.
    pub(super) fn push(&mut self, record: StoredRecord) {
        self.budget.records -= 1;
        self.budget.bytes = self.budget.bytes.saturating_sub(record.payload_bytes().max(1));
        self.weight += weight(&record);
        self.records.push(record);
    }

    /// Ends the answer here where there is no room for more, or it took long enough.
    pub(super) fn weigh(&mut self) {
        if !self.records.is_empty() && self.since.get_or_insert_with(Instant::now).elapsed() >= LONGEST {
            self.budget.bytes = 0;
        }
        if self.held.as_mut().is_some_and(|held| !held.covers(self.weight)) && !self.budget.spent() {
            metrics::counter!(crate::metrics::READS_CUT_SHORT).increment(1);
            self.budget.bytes = 0;
        }
    }
}

impl Reader {
    /// Reads every partition from where it stands.
    pub(super) async fn gather<'a>(&self, topic: &'a Topic, read: &'a Read, at: &mut [At]) -> Result<Pass<'a>, Failure> {
        let mut pass = Pass::new(topic, read);
        if at.len() > 1 && at.iter().any(|at| !at.current) {
            match self.all_bounds(topic).await {
                Ok(all) => at.iter_mut().for_each(|at| at.told(all[at.partition.0 as usize], true)),
                Err(Failure::Away(error)) => pass.away = Some(error),
                Err(failure) => return Err(failure),
            }
        }
        for (index, place) in at.iter_mut().enumerate() {
            let before = pass.records.len();
            match self.read_partition(&mut pass, place).await {
                Ok(()) => {}
                Err(Failure::Away(error)) => pass.away = Some(error),
                Err(failure) => return Err(failure),
            }
            self.recall(&pass, place)?;
            if let Some(first) = pass.records.get(before) {
                // What was read from memory was trimmed, as the rest of the answer says.
                if first.offset < place.bounds.log_start {
                    let Bounds { log_start, .. } = place.bounds;
                    return Err(Error::BelowLogStart { partition: place.partition, offset: first.offset, log_start }.into());
                }
                pass.served.push(index);
            }
        }
        Ok(pass)
    }

    /// Reads one partition until the budget is spent or its end or bound is reached.
    async fn read_partition(&self, pass: &mut Pass<'_>, at: &mut At) -> Result<(), Failure> {
        let mut moves = 0;
        loop {
            if at.located && at.next < at.bounds.log_start {
                let log_start = at.bounds.log_start;
                if planted::is(Bug::BelowLogStartSkipped) {
                    at.next = log_start;
                    continue;
                }
                return Err(Error::BelowLogStart { partition: at.partition, offset: at.next, log_start }.into());
            }
            if pass.read.until_offset.is_some_and(|until| at.located && at.next >= until) {
                at.finished = true;
            }
            let at_end = at.at_end();
            // At the end as it is: looking again would only find what was appended since. At the end as it was some time
            // ago: there may be more, and what is told to be the end must be.
            if at.finished || (at_end && at.current) || (pass.budget.spent() && !at_end && at.located) {
                return Ok(());
            }
            match self.read_some(pass, at).await {
                Err(Failure::Moved) if moves < MOVES => moves += 1,
                Err(failure) => return Err(failure),
                Ok(()) => {}
            }
        }
    }

    /// Finds out where the next records are, and reads them.
    async fn read_some(&self, pass: &mut Pass<'_>, at: &mut At) -> Result<(), Failure> {
        let (topic, max_bytes) = (pass.topic, pass.budget.bytes as u64);
        let known = (!pass.budget.spent()).then(|| self.locations.find(topic.id, at.partition, at.next, max_bytes, EXTENTS_AT_ONCE));
        let located = match known.flatten() {
            Some(located) => {
                metrics::counter!(crate::metrics::LOCATES, "from" => "memory").increment(1);
                at.told(Bounds { log_start: located.log_start, end: located.end }, at.current);
                located
            }
            None => {
                if let Some(away) = &pass.away {
                    return Err(Failure::Away(away.clone()));
                }
                if pass.budget.spent() {
                    at.told(self.bounds(topic, at.partition).await?, true);
                    return Ok(());
                }
                let located = self.locate(topic, at.partition, at.next, max_bytes).await?;
                at.told(Bounds { log_start: located.log_start, end: located.end }, true);
                located
            }
        };
        if at.next < at.bounds.log_start || pass.read.until_offset.is_some_and(|until| at.next >= until) {
            return Ok(());
        }
        if located.extents.is_empty() && !at.at_end() {
            return Err(Error::Internal(format!("nobody knows where {} of partition {} is", at.next, at.partition)).into());
        }
        if pass.held.is_none() && !located.extents.is_empty() {
            let compressed = located.extents.iter().map(|extent| u64::from(extent.length)).sum();
            pass.held = Some(self.room.enter(pass.budget.bytes, compressed).await?);
        }
        for extent in &located.extents {
            if pass.budget.spent() || at.finished {
                break;
            }
            self.read_extent(pass, at, extent).await?;
        }
        Ok(())
    }

    /// The bounds as they were told before, where nobody can be asked. Without them there is no answer.
    fn recall(&self, pass: &Pass<'_>, at: &mut At) -> Result<(), Failure> {
        let Some(away) = &pass.away else { return Ok(()) };
        match self.locations.bounds(pass.topic.id, at.partition) {
            Some(bounds) => at.told(bounds, at.current),
            None if at.located => {}
            None => return Err(Failure::Away(away.clone())),
        }
        Ok(())
    }
}
