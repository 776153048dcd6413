//! Puts a JSON value into a column while it is parsed.

use std::borrow::Cow;
use std::fmt;

use arrow_array::types::{Date32Type, TimestampMicrosecondType};
use arrow_cast::parse::Parser;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor};
use serde_json::value::RawValue;

use super::column::{Column, Values};

/// Beyond this, not every whole number is a 64-bit float: what was rounded cannot be told from what was not.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// A value for a column; on an error the column holds more than it should, and is to be cut back.
pub(super) struct Row<'a> {
    pub(super) column: &'a mut Column,
    /// Text columns take any value, by its JSON text. Without it they take strings alone, which saves looking at each twice.
    pub(super) any_as_text: bool,
}

impl<'de> DeserializeSeed<'de> for Row<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        match &mut self.column.values {
            Values::Text { bytes, ends } if self.any_as_text => {
                let present = text(<&RawValue as serde::Deserialize>::deserialize(from)?.get(), bytes).map_err(D::Error::custom)?;
                ends.push(bytes.len());
                self.column.present.push(present);
                Ok(())
            }
            _ => from.deserialize_any(self),
        }
    }
}

/// Adds a string as it is, and any other value as its JSON text, without spaces in between. False for null.
fn text(json: &str, out: &mut String) -> Result<bool, serde_json::Error> {
    match json.as_bytes().first() {
        Some(b'n') => return Ok(false),
        Some(b'"') => match json.get(1..json.len() - 1).filter(|inner| !inner.contains('\\')) {
            Some(plain) => out.push_str(plain),
            None => out.push_str(&serde_json::from_str::<String>(json)?),
        },
        Some(b'{' | b'[') => compact(json, out),
        _ => out.push_str(json),
    }
    Ok(true)
}

/// Leaves out the spaces outside of strings.
fn compact(json: &str, out: &mut String) {
    let (mut in_string, mut escaped) = (false, false);
    out.extend(json.chars().filter(|c| {
        let kept = in_string || !c.is_ascii_whitespace();
        match c {
            _ if escaped => escaped = false,
            '\\' if in_string => escaped = true,
            '"' => in_string = !in_string,
            _ => {}
        }
        kept
    }));
}

impl Row<'_> {
    fn other<E: Error>(&self, found: Unexpected<'_>) -> Result<(), E> {
        Err(E::invalid_type(found, self))
    }

    fn whole<E: Error>(self, value: i64) -> Result<(), E> {
        match &mut self.column.values {
            Values::Whole { values, least, most } if (*least..=*most).contains(&value) => values.push(value),
            Values::Float(values) => values.push(value as f64),
            _ => return self.other(Unexpected::Signed(value)),
        }
        self.column.present.push(true);
        Ok(())
    }
}

/// Takes what the parser found.
impl<'de> Visitor<'de> for Row<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of the column's type")
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.column.push_null();
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        let Values::Boolean(values) = &mut self.column.values else { return self.other(Unexpected::Bool(value)) };
        values.push(value);
        self.column.present.push(true);
        Ok(())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.whole(value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        match (i64::try_from(value), &mut self.column.values) {
            (Ok(value), _) => return self.whole(value),
            (Err(_), Values::Float(values)) => values.push(value as f64),
            (Err(_), _) => return self.other(Unexpected::Unsigned(value)),
        }
        self.column.present.push(true);
        Ok(())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        match &mut self.column.values {
            Values::Float(values) => values.push(value),
            Values::Whole { .. } if value.fract() == 0.0 && value.abs() <= EXACT => return self.whole(value as i64),
            _ => return self.other(Unexpected::Float(value)),
        }
        self.column.present.push(true);
        Ok(())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        let parsed = match &mut self.column.values {
            Values::Text { bytes, ends } => {
                bytes.push_str(value);
                ends.push(bytes.len());
                Some(())
            }
            Values::Time(values) => TimestampMicrosecondType::parse(value).map(|micros| values.push(micros)),
            Values::Date(values) => Date32Type::parse(value).map(|days| values.push(days)),
            _ => None,
        };
        if parsed.is_none() {
            return self.other(Unexpected::Str(value));
        }
        self.column.present.push(true);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let any_as_text = self.any_as_text;
        let Values::List { ends, element } = &mut self.column.values else { return self.other(Unexpected::Seq) };
        while items.next_element_seed(Row { column: element, any_as_text })?.is_some() {}
        ends.push(element.len());
        self.column.present.push(true);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        let any_as_text = self.any_as_text;
        let Values::Struct { names, columns } = &mut self.column.values else { return self.other(Unexpected::Map) };
        let rows = self.column.present.len();
        // Values of one kind have their fields in one order: the next is mostly the one after the last.
        let mut at = 0;
        while let Some(name) = fields.next_key::<Name<'de>>()? {
            let is_it = |index: &usize| names.get(*index).is_some_and(|known| **known == *name.0);
            let Some(index) = Some(at).filter(is_it).or_else(|| (0..names.len()).find(is_it)) else {
                fields.next_value::<IgnoredAny>()?;
                continue;
            };
            let column = &mut columns[index];
            // Of a name that stands there twice, the last counts, as in most readers.
            column.truncate(rows);
            fields.next_value_seed(Row { column, any_as_text })?;
            at = index + 1;
        }
        for column in columns.iter_mut().filter(|column| column.len() == rows) {
            column.push_null();
        }
        self.column.present.push(true);
        Ok(())
    }
}

/// A field's name, borrowed where it has no escapes.
#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);
