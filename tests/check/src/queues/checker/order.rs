//! Q5, the order of messages with one key. Must look only at queues that promise it.

use std::collections::BTreeMap;

use super::{Check, Judge, MessageAt, Nanos, Verb, Violation};

impl Judge<'_> {
    /// Q5: a message with a key comes only when all before it, of the same key and partition, may be finished.
    pub(super) fn keys_in_order(&mut self) {
        if !self.demands.ordered {
            return;
        }
        let mut keys: BTreeMap<(u32, u64), Vec<MessageAt>> = BTreeMap::new();
        for (at, id) in &self.places {
            if let Some(key) = self.origins.get(id).and_then(|origin| origin.sent.key) {
                keys.entry((at.0, key)).or_default().push(*at);
            }
        }
        let mut first_came: BTreeMap<MessageAt, Nanos> = BTreeMap::new();
        for lease in self.leases.values() {
            let came = first_came.entry(lease.id.at).or_insert(lease.came);
            *came = lease.came.min(*came);
        }
        let mut violations = Vec::new();
        let mut examined = 0;
        for messages in keys.values() {
            // The one before that was finished last, and when that may have been at the earliest.
            let mut before: Option<(MessageAt, Nanos)> = None;
            for at in messages {
                if let (Some((earlier, finished)), Some(came)) = (before, first_came.get(at)) {
                    examined += 1;
                    if finished > *came {
                        violations.push(Violation::Overtaken(earlier, *at));
                    }
                }
                let finished = self.finished_at_earliest(*at);
                before = before.filter(|(_, latest)| *latest >= finished).or(Some((*at, finished)));
            }
        }
        self.examined(Check::Q5, examined);
        self.report.violations.extend(violations);
    }

    fn finished_at_earliest(&self, at: MessageAt) -> Nanos {
        let finishes = self.settlements(at).filter(|s| s.counts() && matches!(s.verb, Verb::Ack | Verb::Reject)).map(|s| s.invoked);
        // One that died of its attempts did so when nobody looked.
        let died = self.dead.get(&at).map(|_| 0);
        finishes.chain(died).min().unwrap_or(Nanos::MAX)
    }
}
