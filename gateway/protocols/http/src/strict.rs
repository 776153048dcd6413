//! JSON bodies of settings: small, read strictly. Duplicate keys, deep nesting and unknown fields are refused.

use std::fmt;

use axum::extract::Request;
use axum::http::request::Parts;
use bytes::Bytes;
use lakefall_queue::verbs::Caller;
use serde::de::{self, DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::body::Incoming;
use crate::extract::media_type;
use crate::problem::{self, Problem, Result};
use crate::router::App;

/// Largest body of settings.
const SETTINGS_MAX: usize = 1 << 20;

/// Deepest nesting.
const DEPTH: usize = 32;

/// A request's JSON body and the rest of the request; an absent body reads as `{}`.
pub(crate) async fn json_body(api: &App, caller: &Caller, request: Request, media: &[&str]) -> Result<(Parts, Bytes, Value)> {
    let (parts, body) = request.into_parts();
    let given = media_type(&parts.headers)?;
    if given.as_deref().is_some_and(|given| !media.contains(&given)) {
        return Err(Problem::new(problem::UNSUPPORTED_MEDIA_TYPE, format!("the Content-Type must be {}", media.join(" or "))));
    }
    let incoming = Incoming::new(&parts.headers, body, api.settings.max_decompressed_ratio)?;
    let (body, _room) = incoming.collect(&*api.verbs, caller, SETTINGS_MAX).await?;
    let value = if body.is_empty() { Value::Object(Map::new()) } else { parse(&body)? };
    if !value.is_object() {
        return Err(Problem::new(problem::MALFORMED_BODY, "the body must be a JSON object"));
    }
    Ok((parts, body, value))
}

/// JSON as a value, strictly.
pub(crate) fn parse(body: &[u8]) -> Result<Value> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let value = Strict(DEPTH).deserialize(&mut reader).map_err(|e| problem::from_json(&e))?;
    reader.end().map_err(|e| problem::from_json(&e))?;
    Ok(value)
}

/// A value as a type that refuses unknown fields.
pub(crate) fn typed<T: DeserializeOwned>(value: Value) -> Result<T> {
    serde_json::from_value(value).map_err(|e| problem::from_json(&e))
}

struct Strict(usize);

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        if self.0 == 0 {
            return Err(de::Error::custom(format!("the body is nested deeper than {DEPTH}")));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let value = map.next_value_seed(Strict(self.0 - 1))?;
            if object.contains_key(&key) {
                return Err(de::Error::custom(format!("duplicate field `{key}`")));
            }
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(value) = seq.next_element_seed(Strict(self.0 - 1))? {
            array.push(value);
        }
        Ok(Value::Array(array))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }
}
