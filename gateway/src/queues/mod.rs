//! Queues over the log: what a queue lets pass, who waits for its messages, and what became of them. Everything that must
//! outlive this process is the ledger's; must never decide on a lease itself.

mod atomic;
mod bell;
mod classify;
mod consume;
mod dead;
mod deliver;
mod desk;
mod dispatch;
mod expression;
mod filter;
mod kept;
mod known;
mod mover;
mod operations;
mod overflow;
mod receipts;
mod receive;
mod redrive;
mod request;
mod scan;
mod settle;
mod shares;
mod usage;
mod wildcard;

use std::sync::Arc;

use lakefall_queue::QueueName;
use lakefall_queue::error::Result;
use lakefall_queue::queue::Queue;
use lakefall_queue::verbs::Caller;
use lakefall_service::Tasks;
use tokio_util::sync::CancellationToken;

pub(crate) use atomic::{Settles, check as check_settlements};
pub(crate) use bell::Bell;
pub(crate) use dead::without_delivery;
pub(crate) use expression::{Expression, Spoken};
pub use filter::Filters;
pub(crate) use filter::{check_binding, check_filter};
pub(crate) use known::Known;
pub(crate) use mover::{Mover, refusal};
pub(crate) use operations::{Operations, Progress};
pub use receipts::{Forged, Receipt, ReceiptKeys, Receipts};
pub(crate) use redrive::start as redrive;
pub(crate) use request::Requests;

/// The queues as this gateway serves them.
pub(crate) struct Queues {
    pub(crate) mover: Mover,
    pub(crate) bell: Arc<Bell>,
    pub(crate) receipts: Receipts,
    tasks: Tasks,
    stop: CancellationToken,
}

impl Queues {
    pub(crate) fn new(mover: Mover, bell: Arc<Bell>, keys: &ReceiptKeys, tasks: Tasks, stop: CancellationToken) -> Arc<Self> {
        let receipts = Receipts::new(keys, &mover.ambient);
        let overflowing = overflow::run(mover.clone(), Arc::clone(&bell), stop.clone());
        tasks.spawn("queue overflow", overflowing);
        Arc::new(Self { mover, bell, receipts, tasks, stop })
    }

    /// A queue with its filters, from memory or from its ledger.
    pub(crate) async fn known(&self, caller: &Caller, name: &QueueName) -> Result<Arc<Known>> {
        self.bell.known.get(&caller.namespace, name).await
    }

    /// A queue at least as new as these receipts: what this gateway remembers may be older than what it is shown.
    pub(crate) async fn known_to(&self, caller: &Caller, name: &QueueName, receipts: &[Receipt]) -> Result<Arc<Known>> {
        let known = self.known(caller, name).await?;
        let newer = |receipt: &Receipt| (receipt.queue.0, receipt.generation) > (known.queue.id.0, known.queue.generation);
        if !receipts.iter().any(newer) {
            return Ok(known);
        }
        self.forget(&known.queue);
        self.known(caller, name).await
    }

    /// The queue changed, or what is remembered of it turned out to be stale.
    pub(crate) fn forget(&self, queue: &Queue) {
        self.bell.known.forget(&queue.namespace, &queue.name);
    }
}
