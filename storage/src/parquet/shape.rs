//! What JSON values look like, and how two that differ become one.

use std::fmt;
use std::sync::Arc;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

/// Deeper ones are taken as text.
const DEEPEST: usize = 8;

/// A column's type while values are still looked at. Ordered by how much it takes in, except that what does not agree is
/// [`Shape::Text`], which takes in everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Only null was seen.
    Unknown,
    Boolean,
    Int,
    Float,
    Text,
    List(Box<Shape>),
    /// In the order in which the names were seen first.
    Struct(Vec<(Arc<str>, Shape)>),
}

/// How many more columns there may be.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    left: usize,
}

impl Budget {
    pub(super) fn new(columns: usize) -> Self {
        Self { left: columns }
    }

    pub(super) fn unlimited() -> Self {
        Self::new(usize::MAX)
    }

    /// Takes one; false if none was left.
    pub(super) fn spend(&mut self) -> bool {
        let had = self.left > 0;
        self.left = self.left.saturating_sub(1);
        had
    }
}

impl Shape {
    /// Takes `other` in.
    pub(super) fn merge(&mut self, other: Shape, budget: &mut Budget) {
        match (&mut *self, other) {
            (_, Shape::Unknown) | (Shape::Text, _) => {}
            (Shape::Int, Shape::Float) => *self = Shape::Float,
            (Shape::Float, Shape::Int) => {}
            (Shape::List(element), Shape::List(other)) => element.merge(*other, budget),
            (Shape::Struct(fields), Shape::Struct(others)) => {
                for (name, shape) in others {
                    merge_field(fields, name, shape, budget);
                }
            }
            (Shape::Unknown, other) => *self = other.within(budget),
            (same, other) if *same == other => {}
            _ => *self = Shape::Text,
        }
    }

    /// Without the columns that there is no room for.
    fn within(self, budget: &mut Budget) -> Shape {
        match self {
            // In Parquet, a list is two nodes around its element.
            Shape::List(element) if budget.spend() && budget.spend() => Shape::List(Box::new(element.within(budget))),
            Shape::List(_) => Shape::Text,
            Shape::Struct(others) => {
                let mut fields = Vec::new();
                for (name, shape) in others {
                    merge_field(&mut fields, name, shape, budget);
                }
                Shape::Struct(fields)
            }
            simple => simple,
        }
    }
}

fn merge_field(fields: &mut Vec<(Arc<str>, Shape)>, name: Arc<str>, shape: Shape, budget: &mut Budget) {
    match fields.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(&name)) {
        Some((known, into)) if *known == name => into.merge(shape, budget),
        // Most query engines do not tell case apart: the file would not open.
        Some(_) => {}
        None if name.is_empty() || !budget.spend() => {}
        None => fields.push((name, shape.within(budget))),
    }
}

/// Reads a JSON value's shape, keeping none of it but names.
pub(super) struct Shaped<'a> {
    pub(super) budget: &'a mut Budget,
    pub(super) level: usize,
}

impl<'de> DeserializeSeed<'de> for Shaped<'_> {
    type Value = Shape;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Shape, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Shaped<'_> {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Shape, E> {
        Ok(Shape::Unknown)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Shape, E> {
        Ok(Shape::Boolean)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Shape, E> {
        Ok(Shape::Int)
    }

    fn visit_u64<E>(self, number: u64) -> Result<Shape, E> {
        Ok(if i64::try_from(number).is_ok() { Shape::Int } else { Shape::Float })
    }

    fn visit_f64<E>(self, _: f64) -> Result<Shape, E> {
        Ok(Shape::Float)
    }

    fn visit_str<E>(self, _: &str) -> Result<Shape, E> {
        Ok(Shape::Text)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Shape, A::Error> {
        let mut element = Shape::Unknown;
        while let Some(item) = items.next_element_seed(Shaped { budget: self.budget, level: self.level + 1 })? {
            element.merge(item, self.budget);
        }
        Ok(if self.level < DEEPEST { Shape::List(Box::new(element)) } else { Shape::Text })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Shape, A::Error> {
        let mut fields = Vec::new();
        while let Some(name) = entries.next_key::<String>()? {
            let shape = entries.next_value_seed(Shaped { budget: self.budget, level: self.level + 1 })?;
            merge_field(&mut fields, name.into(), shape, self.budget);
        }
        Ok(if self.level < DEEPEST { Shape::Struct(fields) } else { Shape::Text })
    }
}
