//! Several appends of one request in flight, in order.
//!
//! Must never have more in flight than allowed, nor give up a place in the order: each append is handed over in turn.

use std::pin::Pin;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use lakefall_queue::Record;
use lakefall_queue::error::Error;
use lakefall_queue::verbs::{Admission, Append, Appended, OrderToken};

use super::options::Job;
use crate::problem::{Problem, Result};

/// The appends of one request.
pub(crate) struct Pipeline {
    job: Job,
    order: OrderToken,
    in_flight: FuturesOrdered<BoxFuture<'static, lakefall_queue::Result<Appended>>>,
    sent: u64,
}

impl Pipeline {
    /// Nothing in flight.
    pub(crate) fn new(job: Job) -> Self {
        let order = job.api.verbs.open_stream();
        Self { job, order, in_flight: FuturesOrdered::new(), sent: 0 }
    }

    /// Hands records over. The place in the order is taken when [`Self::next`] is polled first: `FuturesOrdered`
    /// polls new futures in the order in which they were pushed.
    pub(crate) fn push(&mut self, records: Vec<Record>, admission: Admission) {
        let (count, before) = (records.len() as u64, self.sent);
        let append = Append {
            batch: self.job.options.append(records, self.sent),
            atomic: self.job.options.atomic,
            idempotency: None,
            order: Some(self.order),
            admission,
        };
        self.sent += count;
        let (verbs, caller) = (self.job.api.verbs.clone(), self.job.caller.clone());
        let handed_over: Pin<Box<_>> = Box::pin(async move { verbs.append(&caller, append).await.map_err(|error| counted(error, before)) });
        self.in_flight.push_back(handed_over);
    }

    /// Hands over records in batches of the size allowed; the room is given back with the last.
    pub(crate) fn push_split(&mut self, mut records: Vec<Record>, admission: Admission) {
        let most = self.job.shape.limits.batch_records.max(1);
        while records.len() > most {
            let rest = records.split_off(most);
            self.push(std::mem::replace(&mut records, rest), Admission::default());
        }
        self.push(records, admission);
    }

    /// The answer to the oldest append in flight; `None` when there is none.
    pub(crate) async fn next(&mut self) -> Option<Result<Appended>> {
        self.in_flight.next().await.map(|answer| answer.map_err(Problem::from))
    }

    /// Whether nothing is in flight.
    pub(crate) fn is_empty(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// Whether no more may be pushed now.
    pub(crate) fn is_full(&self) -> bool {
        self.in_flight.len() >= self.job.api.settings.stream_appends.max(1)
    }
}

/// The records that a refusal names, as they stand in the whole request: so many came before.
fn counted(mut error: Error, before: u64) -> Error {
    if let Error::RecordsInvalid(records) = &mut error {
        records.iter_mut().for_each(|invalid| invalid.record += before as usize);
    }
    error
}
