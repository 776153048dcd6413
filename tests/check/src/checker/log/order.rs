//! H6: what was acknowledged to a producer before it sent more stands before that.

use super::{Check, Name, ONCE, RecordId, Report, Subject, Topic};

/// The highest acknowledged place of a producer in a partition, as it rose: where in the history, offset, count.
#[derive(Debug, Default)]
pub(super) struct Highest(Vec<(u64, u64, u64)>);

/// So many steps are kept before those are dropped that nobody can ask for any more.
const KEPT: usize = 64;

impl Highest {
    /// The highest that was acknowledged before a point in the history.
    fn before(&self, order: u64) -> Option<(u64, u64)> {
        let after = self.0.partition_point(|(at, ..)| *at < order);
        self.0[..after].last().map(|(_, offset, seq)| (*offset, *seq))
    }

    /// One was acknowledged now. `oldest`: where the oldest send began that is under way.
    fn push(&mut self, order: u64, offset: u64, seq: u64, oldest: u64) {
        if self.0.last().is_none_or(|(_, highest, _)| *highest < offset) {
            self.0.push((order, offset, seq));
        }
        if self.0.len() >= KEPT {
            // The last one before the oldest send is still its bound.
            let unused = self.0.partition_point(|(at, ..)| *at < oldest).saturating_sub(1);
            // Drained in large pieces, so that it costs little for each.
            if unused >= KEPT / 2 {
                self.0.drain(..unused);
            }
        }
    }
}

impl Topic {
    /// Records were acknowledged for the first time, at these places.
    pub(super) fn producers_order(&mut self, invoked: u64, order: u64, name: &Name, fresh: &[(RecordId, (u32, u64))], report: &mut Report) {
        let oldest = self.under_way.first().copied().unwrap_or(order);
        for (id, (partition, offset)) in fresh {
            let Some(producer) = self.producers.get(&id.producer) else { continue };
            // The place of a repetition that is stored once may be that of an earlier send, of which nobody knew.
            let is_first = producer.sent.get(id.seq).is_none_or(|sent| !sent.is(ONCE) || sent.tries == 1);
            let Some(highest) = producer.highest.get(partition).filter(|_| is_first) else { continue };
            if let Some((before, seq)) = highest.before(invoked).filter(|(before, _)| offset < before) {
                let producer = id.producer;
                let what = format!(
                    "{name}/{partition}: {producer}:{} was sent after {producer}:{seq} was acknowledged, but stands at {offset}, before {before}",
                    id.seq
                );
                report.violation(Check::H6, Subject::Record(name.clone(), *id), what);
            }
        }
        for (id, (partition, offset)) in fresh {
            let producer = self.producers.entry(id.producer).or_default();
            producer.highest.entry(*partition).or_default().push(order, *offset, id.seq, oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Highest;

    #[test]
    fn what_is_dropped_is_asked_for_by_nobody_under_way() {
        let mut highest = Highest::default();
        for step in 1..10_000 {
            // Something is always under way for a hundred steps.
            highest.push(step, step * 10, step, step.saturating_sub(100));
            let began = step.saturating_sub(99);
            assert_eq!(highest.before(began), (began > 1).then(|| ((began - 1) * 10, began - 1)), "step {step}");
        }
        assert!(highest.0.len() < 300, "{}", highest.0.len());
    }
}
