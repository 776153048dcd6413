//! Which records of a topic a queue takes: its bindings, its filter, and a record's own word. Made ready once per version of
//! the queue.

use std::collections::HashMap;

use lakefall_queue::error::{Error, Result};
use lakefall_queue::queue::{Binding, FILTER_MAX_BYTES, Match, Queue, QueueConfig};
use lakefall_queue::{StoredRecord, TopicId, TopicName};

use super::expression::Expression;
use super::wildcard::Wildcard;

/// The header that routes a record; its key does where there is none.
const ROUTING_KEY: &str = "routing-key";

/// What a queue takes.
#[derive(Debug)]
pub(crate) struct Filters {
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
    pub(crate) fn new(queue: &Queue) -> Result<Self> {
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

    /// Whether nothing looks into records.
    pub(crate) fn are_simple(&self) -> bool {
        let simple = |rule: &Rule| !matches!(rule, Rule::Expression(_));
        self.filter.is_none() && self.bound.values().flatten().all(simple)
    }

    /// Whether the queue takes a record.
    pub(crate) fn take(&self, topic: TopicId, name: &TopicName, record: &StoredRecord) -> bool {
        if let Some(only) = record.properties.as_ref().and_then(|properties| properties.for_queue.as_deref()) {
            return only == self.queue;
        }
        let bound = self.bound.get(&topic).is_none_or(|rules| rules.iter().any(|rule| rule.matches(name, record)));
        bound && self.filter.as_ref().is_none_or(|filter| filter.matches(name, record))
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

    fn matches(&self, topic: &TopicName, record: &StoredRecord) -> bool {
        match self {
            Self::All => true,
            Self::Exact(key) => routing_key(record).is_some_and(|routing| routing == key.as_bytes()),
            Self::Wildcard(pattern) => {
                let key = routing_key(record).unwrap_or_default();
                std::str::from_utf8(key).is_ok_and(|key| pattern.matches(key))
            }
            Self::Headers { expected, any } => {
                let is_there = |(name, value): &(String, String)| {
                    let mut of_name = record.headers.iter().filter(|header| *header.name == **name);
                    of_name.any(|header| header.value.as_deref() == Some(value.as_bytes()))
                };
                if *any { expected.iter().any(is_there) } else { expected.iter().all(is_there) }
            }
            Self::Expression(expression) => expression.matches(topic, record),
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
