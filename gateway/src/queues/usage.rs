//! What queues use, on their topics' accounts.

use std::collections::BTreeMap;

use lakefall_queue::TopicId;
use lakefall_queue::queue::Message;
use lakefall_queue::usage::Figure;

use super::Queues;
use super::known::Known;

impl Queues {
    /// Counts a request to a queue: for its own topic, or else the first that it reads, so that each counts once.
    pub(super) fn count_request(&self, known: &Known) {
        let sources = &known.queue.sources;
        let own = sources.iter().find(|source| source.name.as_str() == known.queue.name.as_str());
        if let Some(source) = own.or_else(|| sources.first()) {
            self.mover.usage.account(&known.queue.namespace, source.topic, &source.name).add(Figure::QueueRequests, 1);
        }
    }

    /// Counts messages that are handed out.
    pub(super) fn count_messages(&self, known: &Known, messages: &[Message]) {
        let mut of: BTreeMap<TopicId, (u64, u64)> = BTreeMap::new();
        for message in messages {
            let Some(source) = known.queue.sources.iter().find(|source| source.name == message.topic) else { continue };
            let (count, bytes) = of.entry(source.topic).or_default();
            *count += 1;
            *bytes += message.record.payload_bytes() as u64;
        }
        for (topic, (count, bytes)) in of {
            let Some(source) = known.source(topic) else { continue };
            let account = self.mover.usage.account(&known.queue.namespace, topic, &source.name);
            account.add(Figure::ReceivedMessages, count);
            account.add(Figure::ReceivedBytes, bytes);
        }
    }
}
