//! JSON that another release may have written: fields that this program does not know are passed over, at every depth. The
//! types themselves refuse them, as the HTTP API must. Must never pass over a field that is known but wrong.

use std::collections::BTreeMap;

use serde::Deserialize as _;
use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{DeserializeOwned, Deserializer, Error as _, IntoDeserializer, Visitor};
use serde_json::{Error, Value};

/// The fields of each kind of a binding's match. They must be told here, as serde asks for the fields of a tagged enum only
/// after it has read them.
const MATCHES: [(&str, &[&str]); 5] =
    [("all", &[]), ("exact", &["key"]), ("wildcard", &["pattern"]), ("headers", &["headers", "any"]), ("expression", &["expression"])];

/// Reads JSON; unknown fields are passed over.
pub(super) fn from_json<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
    T::deserialize(Lenient(serde_json::from_str(text)?))
}

/// The same for a map of bindings.
pub(super) fn bindings_from_json<T: DeserializeOwned + Ord, B: DeserializeOwned>(text: &str) -> Result<BTreeMap<T, B>, Error> {
    let mut bindings: Value = serde_json::from_str(text)?;
    let found = bindings.as_object_mut().ok_or_else(|| Error::custom("bindings are not a map"))?;
    for matches in found.values_mut().filter_map(|binding| binding.get_mut("match")?.as_object_mut()) {
        let known = matches.get("type").and_then(Value::as_str).and_then(|kind| MATCHES.iter().find(|(name, _)| *name == kind));
        if let Some((_, fields)) = known {
            matches.retain(|field, _| field == "type" || fields.contains(&field.as_str()));
        }
    }
    BTreeMap::deserialize(Lenient(bindings))
}

/// A value whose structs take only the fields that they know.
struct Lenient(Value);

impl<'de> IntoDeserializer<'de, Error> for Lenient {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Lenient {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Object(fields) => visitor.visit_map(MapDeserializer::new(fields.into_iter().map(|(name, value)| (name, Self(value))))),
            Value::Array(items) => {
                let mut items = SeqDeserializer::new(items.into_iter().map(Self));
                let read = visitor.visit_seq(&mut items)?;
                items.end()?;
                Ok(read)
            }
            plain => plain.deserialize_any(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        mut self,
        _: &'static str,
        known: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let fields = self.0.as_object_mut().ok_or_else(|| Error::custom("settings are not an object"))?;
        fields.retain(|name, _| known.contains(&name.as_str()));
        self.deserialize_any(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.0.deserialize_enum(name, variants, visitor)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map
        identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::id::BindingName;
    use crate::queue::{Binding, Match, Ordering, QueueConfig, QueueStart};
    use crate::topic::TopicConfig;

    #[test]
    fn settings_of_a_newer_program_are_read_without_what_it_added() {
        let newer = r#"{"partitions": 3, "shine": {"a": [1]}, "retention": {"age": "7d", "moon": true}}"#;
        assert!(serde_json::from_str::<TopicConfig>(newer).is_err(), "the API refuses them");
        let config: TopicConfig = from_json(newer).unwrap();
        assert_eq!((config.partitions, config.retention.age), (3, Some(Duration::from_secs(7 * 86_400))));

        let newer = r#"{"topics": ["a"], "start": {"offset": 4}, "ordering": "key", "retry": {"min": "1s", "multiplier": 3, "curve": "s"},
            "dead_letter": {"topic": "dead", "colour": "grey"}, "ttl": "2h", "new": null}"#;
        assert!(serde_json::from_str::<QueueConfig>(newer).is_err());
        let config: QueueConfig = from_json(newer).unwrap();
        assert_eq!((config.start, config.ordering, config.retry.multiplier), (QueueStart::Offset(crate::Offset(4)), Ordering::Key, 3.0));
        assert_eq!((config.dead_letter.unwrap().topic.as_str(), config.ttl), ("dead", Some(Duration::from_secs(7_200))));
    }

    #[test]
    fn a_known_field_that_is_wrong_is_still_refused() {
        for wrong in [r#"{"partitions": "many"}"#, r#"{"retention": {"age": 7}}"#, r#"{"urgency": "soon"}"#, "[]", "{", "3"] {
            assert!(from_json::<TopicConfig>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn bindings_of_a_newer_program_are_read_and_headers_are_not_taken_for_fields() {
        let headers = BTreeMap::from([("colour".to_owned(), "red".to_owned()), ("type".to_owned(), "x".to_owned())]);
        let kinds = [
            Match::All {},
            Match::Exact { key: "k".to_owned() },
            Match::Wildcard { pattern: "a.*".to_owned() },
            Match::Headers { headers, any: true },
            Match::Expression { expression: "true".to_owned() },
        ];
        let topic = crate::TopicName::new("orders").unwrap();
        let name = |at: usize| BindingName::new(&format!("b{at}")).unwrap();
        let bindings: BTreeMap<BindingName, Binding> =
            kinds.into_iter().enumerate().map(|(at, matches)| (name(at), Binding { topic: topic.clone(), matches })).collect();
        let mut json = serde_json::to_value(&bindings).unwrap();
        assert_eq!(bindings_from_json::<BindingName, Binding>(&json.to_string()).unwrap(), bindings);
        for binding in json.as_object_mut().unwrap().values_mut() {
            binding["weight"] = 3.into();
            binding["match"]["shade"] = "dark".into();
        }
        assert!(serde_json::from_value::<BTreeMap<BindingName, Binding>>(json.clone()).is_err());
        assert_eq!(bindings_from_json::<BindingName, Binding>(&json.to_string()).unwrap(), bindings);
        assert!(bindings_from_json::<BindingName, Binding>(r#"{"b": {"topic": "t", "match": {"type": "magic"}}}"#).is_err());
    }
}
