//! Lists of receipts in JSON: bounded, and a refusal says at which of them reading failed.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use lakefall_queue::queue::SETTLE_MAX;
use serde::de::{self, Deserialize, DeserializeOwned, Deserializer, SeqAccess, Visitor};

use super::Wanted;

/// `receipts`.
pub(crate) struct Receipts(pub(crate) Vec<Arc<str>>);

/// `items`.
pub(crate) struct Items<T>(pub(crate) Vec<T>);

impl<T> Items<T> {
    /// Each item checked, with its place.
    pub(crate) fn checked(self, check: impl Fn(T, &str) -> Wanted) -> Vec<Wanted> {
        self.0.into_iter().enumerate().map(|(at, item)| check(item, &format!("/items/{at}"))).collect()
    }
}

impl<'de> Deserialize<'de> for Receipts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        numbered("receipts", deserializer).map(Self)
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Items<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        numbered("items", deserializer).map(Self)
    }
}

fn numbered<'de, T: Deserialize<'de>, D: Deserializer<'de>>(name: &'static str, deserializer: D) -> Result<Vec<T>, D::Error> {
    struct List<T>(&'static str, PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for List<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "an array of {}", self.0)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut items = Vec::new();
            loop {
                match seq.next_element() {
                    Ok(Some(_)) if items.len() >= SETTLE_MAX => {
                        return Err(de::Error::custom(format!("/{}: at most {SETTLE_MAX} receipts are settled at once", self.0)));
                    }
                    Ok(Some(item)) => items.push(item),
                    Ok(None) => return Ok(items),
                    Err(error) => return Err(de::Error::custom(format!("/{}/{}: {error}", self.0, items.len()))),
                }
            }
        }
    }
    deserializer.deserialize_seq(List(name, PhantomData))
}
