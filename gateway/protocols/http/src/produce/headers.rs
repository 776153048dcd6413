//! The `headers` of a JSON record: `{"name": "text" | null | {"base64": "…"} | [several of these]}`.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use lakefall_queue::Header;
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::record::header;
use super::value::{Encoding, decode_with};
use crate::problem::{self, Problem, Result};

/// Headers before their values are decoded.
pub(crate) struct HeadersIn<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for HeadersIn<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = HeadersIn<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of headers")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut headers: Vec<(Cow<'de, str>, &'de RawValue)> = Vec::new();
                while let Some(Name(name)) = map.next_key::<Name<'de>>()? {
                    if headers.len() >= 1_000 {
                        return Err(de::Error::custom("a record has at most 1000 headers"));
                    }
                    if headers.iter().any(|(n, _)| *n == name) {
                        return Err(de::Error::custom(format!("duplicate field `headers/{name}`")));
                    }
                    headers.push((name, map.next_value()?));
                }
                Ok(HeadersIn(headers))
            }
        }
        deserializer.deserialize_map(Names)
    }
}

#[derive(Deserialize, PartialEq)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Binary<'a> {
    #[serde(borrow)]
    base64: &'a RawValue,
}

impl HeadersIn<'_> {
    /// The headers, values being slices of `body` where they can.
    pub(crate) fn into_headers(self, body: &Bytes) -> Result<Vec<Header>> {
        let mut headers = Vec::with_capacity(self.0.len());
        for (name, raw) in self.0 {
            let place = |p: Problem| p.inside(&format!("/headers/{name}"));
            if raw.get().starts_with('[') {
                let several: Vec<&RawValue> = serde_json::from_str(raw.get()).map_err(|e| place(problem::from_json(&e)))?;
                for one in several {
                    headers.push(header(&name, decode(one.get(), body).map_err(place)?));
                }
            } else {
                headers.push(header(&name, decode(raw.get(), body).map_err(place)?));
            }
        }
        Ok(headers)
    }
}

fn decode(raw: &str, body: &Bytes) -> Result<Option<Bytes>> {
    if raw.starts_with('{') {
        let binary: Binary<'_> = serde_json::from_str(raw).map_err(|e| problem::from_json(&e))?;
        return decode_with(binary.base64.get(), Encoding::Base64, body);
    }
    decode_with(raw, Encoding::Utf8, body)
}
