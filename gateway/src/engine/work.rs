//! What goes on by itself after its call was answered, or for many callers at once: redrives, replays and readers of replies.
//! All call the engine's own verbs, as any room does.

use std::sync::{Arc, Weak};

use lakefall_queue::error::{Error, Result};
use lakefall_queue::queue::{Operation, Redrive};
use lakefall_queue::replay::Replay;
use lakefall_queue::verbs::{Caller, Request, Verbs};
use lakefall_queue::{QueueName, StoredRecord, TopicName};

use super::Engine;
use crate::queues::{Operations, Requests, redrive};
use crate::replays::Replays;

/// What goes on.
pub(super) struct Work {
    /// The engine itself: what is started here holds it while it runs.
    pub(super) engine: Weak<Engine>,
    pub(super) operations: Operations,
    pub(super) replays: Replays,
    pub(super) requests: Requests,
}

impl Work {
    /// The engine, for what goes on beside the call.
    pub(super) fn engine(&self) -> Result<Arc<Engine>> {
        self.engine.upgrade().ok_or_else(|| Error::unavailable("this gateway is shutting down: use another one"))
    }

    fn verbs(&self) -> Result<Arc<dyn Verbs>> {
        Ok(self.engine()?)
    }
}

impl Engine {
    pub(super) async fn redrive_started(&self, caller: &Caller, queue: &QueueName, asked: Redrive) -> Result<Operation> {
        redrive(self.work.verbs()?, &self.queues.mover, &self.work.operations, caller, queue, asked).await
    }

    pub(super) async fn replay_started(&self, caller: &Caller, asked: Replay) -> Result<Operation> {
        self.work.replays.start(self.work.verbs()?, &self.work.operations, caller, asked).await
    }

    pub(super) fn operation_now(&self, caller: &Caller, id: &str) -> Result<Operation> {
        self.work.operations.get(&caller.namespace, id)
    }

    pub(super) async fn operation_cancelled(&self, caller: &Caller, id: &str) -> Result<Operation> {
        self.work.operations.cancel(&caller.namespace, id).await
    }

    pub(super) async fn replied(&self, caller: &Caller, request: Request) -> Result<(TopicName, StoredRecord)> {
        self.work.requests.ask(self.work.verbs()?, caller, request).await
    }
}
