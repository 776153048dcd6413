//! Which records of a topic a queue takes: its bindings, its filter, and a record's own word. Made ready once per version of
//! the queue.

use std::collections::HashMap;

use lakefall_queue::error::{Error, Result};
use lakefall_queue::queue::{Binding, FILTER_MAX_BYTES, Match, Queue, QueueConfig};
use lakefall_queue::{StoredRecord, TopicId, TopicName};

use super::expression::{Expression, Spoken};
use super::wildcard::Wildcard;

/// The header that routes a record; its key does where there is none.
const ROUTING_KEY: &str = "routing-key";
/// Longest routing key that a wildcard can match, in bytes (AMQP 0-9-1: a short string).
const ROUTED_MAX_BYTES: usize = 255;
/// Words of patterns, headers and keys that a record of one topic is compared with, at most, to be looked at where others wait.
const SIMPLE_MAX: usize = 64;

/// What a queue takes: pure, so that it can be held against any record without a queue.
#[derive(Debug)]
pub struct Filters {
    queue: String,
    /// Of the topics that it does not take whole.
    bound: HashMap<TopicId, Vec<Rule>>,
    filter: Option<Expression>,
}

/// A binding's match made ready.
#[derive(Debug)]
enum Rule {
    All,
    Exact(String),
    Wildcard(Wildcard),
    Headers { expected: Vec<(String, String)>, any: bool },
    Expression(Expression),
}

impl Filters {
    /// Of a queue with these settings, bindings and sources.
    ///
    /// Errors: [`Error::Invalid`] for a pattern or an expression that cannot be read, or that would cost too much.
    pub fn new(queue: &Queue) -> Result<Self> {
        let filter = queue.config.filter.as_deref().map(|text| Expression::compile("filter", text)).transpose()?;
        let mut bound = HashMap::new();
        for source in &queue.sources {
            let bindings = queue.bindings.values().filter(|binding| binding.topic == source.name);
            let rules: Vec<Rule> = bindings.map(|binding| Rule::new(&binding.matches)).collect::<Result<_>>()?;
            // A source that no binding names is the queue's own topic.
            let whole =
                rules.is_empty() || queue.config.topics.contains(&source.name) || rules.iter().any(|rule| matches!(rule, Rule::All));
            if !whole {
                bound.insert(source.topic, rules);
            }
        }
        Ok(Self { queue: queue.name.to_string(), bound, filter })
    }

    /// Whether a look at a record takes next to no time.
    pub(crate) fn are_simple(&self) -> bool {
        let simple = |rules: &Vec<Rule>| {
            let costs = rules.iter().map(Rule::cost);
            costs.sum::<Option<usize>>().is_some_and(|cost| cost <= SIMPLE_MAX)
        };
        self.filter.is_none() && self.bound.values().all(simple)
    }

    /// Whether the queue takes a record.
    pub fn take(&self, topic: TopicId, name: &TopicName, record: &StoredRecord) -> bool {
        if let Some(only) = record.properties.as_ref().and_then(|properties| properties.for_queue.as_deref()) {
            return only == self.queue;
        }
        let spoken = Spoken::new(name, record);
        let bound = self.bound.get(&topic).is_none_or(|rules| rules.iter().any(|rule| rule.matches(record, &spoken)));
        bound && self.filter.as_ref().is_none_or(|filter| filter.matches(&spoken))
    }
}

impl Rule {
    fn new(matches: &Match) -> Result<Self> {
        let within = |field: &str, text: &str| {
            let reason = || format!("it has {} bytes: at most {FILTER_MAX_BYTES} are allowed", text.len());
            if text.len() > FILTER_MAX_BYTES { Err(Error::invalid(field, reason())) } else { Ok(()) }
        };
        match matches {
            Match::All {} => Ok(Self::All),
            Match::Exact { key } => within("match.key", key).map(|()| Self::Exact(key.clone())),
            Match::Wildcard { pattern } => {
                within("match.pattern", pattern)?;
                Wildcard::parse("match.pattern", pattern).map(Self::Wildcard)
            }
            Match::Headers { headers, any } => {
                if headers.is_empty() {
                    return Err(Error::invalid("match.headers", "name at least one header and its value"));
                }
                let bytes = headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
                if bytes > FILTER_MAX_BYTES {
                    let reason = format!("they have {bytes} bytes: at most {FILTER_MAX_BYTES} are allowed");
                    return Err(Error::invalid("match.headers", reason));
                }
                let expected = headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
                Ok(Self::Headers { expected, any: *any })
            }
            Match::Expression { expression } => Expression::compile("match.expression", expression).map(Self::Expression),
        }
    }

    /// What a record is compared with at most; nothing where that says little of the time it takes.
    fn cost(&self) -> Option<usize> {
        match self {
            Self::All => Some(0),
            Self::Exact(_) => Some(1),
            Self::Wildcard(pattern) => Some(pattern.words()),
            Self::Headers { expected, .. } => Some(expected.len()),
            Self::Expression(_) => None,
        }
    }

    fn matches(&self, record: &StoredRecord, spoken: &Spoken<'_>) -> bool {
        match self {
            Self::All => true,
            Self::Exact(key) => routing_key(record).is_some_and(|routing| routing == key.as_bytes()),
            Self::Wildcard(pattern) => {
                let key = routing_key(record).unwrap_or_default();
                key.len() <= ROUTED_MAX_BYTES && std::str::from_utf8(key).is_ok_and(|key| pattern.matches(key))
            }
            Self::Headers { expected, any } => {
                let is_there = |(name, value): &(String, String)| {
                    let mut of_name = record.headers.iter().filter(|header| *header.name == **name);
                    of_name.any(|header| header.value.as_deref() == Some(value.as_bytes()))
                };
                if *any { expected.iter().any(is_there) } else { expected.iter().all(is_there) }
            }
            Self::Expression(expression) => expression.matches(spoken),
        }
    }
}

fn routing_key(record: &StoredRecord) -> Option<&[u8]> {
    let header = record.headers.iter().find(|header| &*header.name == ROUTING_KEY).and_then(|header| header.value.as_deref());
    header.or(record.key.as_deref())
}

/// Refuses a queue's filter that cannot be read.
pub(crate) fn check_filter(config: &QueueConfig) -> Result<()> {
    config.filter.as_deref().map_or(Ok(()), |text| Expression::compile("filter", text).map(drop))
}

/// Refuses a binding that cannot be read.
pub(crate) fn check_binding(binding: &Binding) -> Result<()> {
    Rule::new(&binding.matches).map(drop)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use lakefall_queue::queue::Source;
    use lakefall_queue::{BindingName, NamespaceName, Offset, PartitionIndex, QueueId, QueueName, ShardId, Timestamp, ValueKind};

    use super::super::expression::BODIES;
    use super::*;

    const TOPIC: TopicId = TopicId(7);

    fn bound(matches: Vec<Match>) -> Filters {
        let topic = TopicName::new("t").unwrap();
        let binding = |(number, matches)| (BindingName::new(&format!("b{number}")).unwrap(), Binding { topic: topic.clone(), matches });
        let queue = Queue {
            namespace: NamespaceName::default_name(),
            name: QueueName::new("q").unwrap(),
            id: QueueId::new(ShardId(0), 9),
            version: 1,
            generation: 1,
            created_at: Timestamp::from_millis(0),
            config: QueueConfig::default(),
            bindings: matches.into_iter().enumerate().map(binding).collect::<BTreeMap<_, _>>(),
            sources: vec![Source { topic: TOPIC, name: topic.clone(), partitions: 1 }],
        };
        Filters::new(&queue).unwrap()
    }

    fn record(key: &str, value: &str) -> StoredRecord {
        StoredRecord {
            partition: PartitionIndex(0),
            offset: Offset(0),
            timestamp: Timestamp::from_millis(0),
            appended_at: Timestamp::from_millis(0),
            key: Some(Bytes::copy_from_slice(key.as_bytes())),
            value: Some(Bytes::copy_from_slice(value.as_bytes())),
            kind: ValueKind::Json,
            headers: Vec::new(),
            properties: None,
        }
    }

    fn wildcard(pattern: &str) -> Match {
        Match::Wildcard { pattern: pattern.to_owned() }
    }

    #[test]
    fn a_body_is_read_once_however_many_expressions_look_at_it() {
        let expression = |number| Match::Expression { expression: format!("value.number == {number}") };
        let filters = bound((0..1_000).map(expression).collect());
        let before = BODIES.get();
        assert!(filters.take(TOPIC, &TopicName::new("t").unwrap(), &record("k", r#"{"number":999}"#)));
        assert_eq!(BODIES.get() - before, 1);
    }

    #[test]
    fn many_wildcards_are_not_compared_where_others_wait() {
        assert!(bound(vec![wildcard("a.*.c"), wildcard("a.#")]).are_simple());
        assert!(!bound(vec![wildcard(&["a"; 256].join("."))]).are_simple());
        assert!(!bound((0..100).map(|number| wildcard(&format!("a.{number}"))).collect()).are_simple());
        assert!(!bound(vec![Match::Expression { expression: "true".to_owned() }]).are_simple());
    }

    #[test]
    fn a_routing_key_of_more_than_255_bytes_matches_no_wildcard() {
        let (filters, topic) = (bound(vec![wildcard("#")]), TopicName::new("t").unwrap());
        assert!(filters.take(TOPIC, &topic, &record(&"a".repeat(255), "1")));
        assert!(!filters.take(TOPIC, &topic, &record(&"a".repeat(256), "1")));
        let exact = bound(vec![Match::Exact { key: "a".repeat(256) }]);
        assert!(exact.take(TOPIC, &topic, &record(&"a".repeat(256), "1")), "it can still be named");
    }
}
