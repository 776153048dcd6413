//! Queues as consumers use them.

use std::sync::Arc;
use std::time::Duration;

use lakefall_gateway::Engine;
use lakefall_queue::error::Result;
use lakefall_queue::queue::{DeadLetter, Message, Queue, QueueConfig, QueueSettlements, QueueStart, Receive, Settled, Settlement, Verdict};
use lakefall_queue::verbs::{Admission, Commit, Precondition, TopicAppend, Verbs};
use lakefall_queue::{QueueName, Record};

use super::{World, caller, topic};

pub(crate) fn queue(name: &str) -> QueueName {
    QueueName::new(name).unwrap()
}

/// A queue on a topic of the same name, from its beginning on.
pub(crate) fn reading(topics: &[&str]) -> QueueConfig {
    let topics = topics.iter().map(|name| topic(name)).collect();
    QueueConfig { topics, start: QueueStart::Earliest, ..QueueConfig::default() }
}

/// The same with dead letters after so many attempts.
pub(crate) fn dying_after(attempts: u32, topics: &[&str], letters: &str) -> QueueConfig {
    QueueConfig { max_attempts: Some(attempts), dead_letter: Some(DeadLetter { topic: topic(letters) }), ..reading(topics) }
}

impl World {
    pub(crate) async fn work_queue(&self, name: &str, config: QueueConfig) -> Queue {
        self.engine.put_queue(&caller(), &queue(name), config, Precondition::Always, None).await.unwrap().0
    }

    /// The messages that are ready.
    pub(crate) async fn ready(&self, name: &str) -> Vec<Message> {
        receive_from(&self.engine, name, Duration::ZERO).await.unwrap()
    }

    pub(crate) async fn verdict(&self, name: &str, messages: &[Message], verdict: Verdict) -> Vec<Settled> {
        if messages.is_empty() {
            return Vec::new();
        }
        self.engine.settle(&caller(), &queue(name), settlements(messages, verdict)).await.unwrap()
    }

    /// The values of the messages that are ready; they are acknowledged.
    pub(crate) async fn taken(&self, name: &str) -> Vec<String> {
        let messages = self.ready(name).await;
        self.verdict(name, &messages, Verdict::Ack).await;
        texts(&messages)
    }
}

pub(crate) async fn receive_from(engine: &Arc<Engine>, name: &str, wait: Duration) -> Result<Vec<Message>> {
    let receive = Receive { max: 100, max_bytes: 1 << 20, lease: None, wait, request_id: None };
    Ok(engine.receive(&caller(), &queue(name), receive).await?.messages)
}

pub(crate) fn settlements(messages: &[Message], verdict: Verdict) -> Vec<Settlement> {
    messages.iter().map(|message| Settlement { receipt: message.receipt.clone().unwrap(), verdict: verdict.clone() }).collect()
}

pub(crate) fn texts(messages: &[Message]) -> Vec<String> {
    messages.iter().map(|message| String::from_utf8(message.record.value.clone().unwrap().to_vec()).unwrap()).collect()
}

/// What a message's header of this name says.
pub(crate) fn header(message: &Message, name: &str) -> Option<String> {
    let found = message.record.headers.iter().find(|header| &*header.name == name)?;
    Some(String::from_utf8(found.value.clone().unwrap().to_vec()).unwrap())
}

pub(crate) fn nack(reason: &str) -> Verdict {
    Verdict::Nack { delay: Some(Duration::ZERO), reason: Some(reason.to_owned()) }
}

/// Appends records to a topic and settles messages of a queue, all or nothing.
pub(crate) fn commit_of(to: Option<(&str, Vec<Record>)>, name: &str, messages: &[Message], verdict: Verdict) -> Commit {
    Commit {
        appends: to.into_iter().map(|(to, records)| TopicAppend::new(topic(to), records)).collect(),
        cursors: Vec::new(),
        settlements: vec![QueueSettlements { queue: queue(name), settlements: settlements(messages, verdict) }],
        idempotency: None,
        admission: Admission::default(),
    }
}
