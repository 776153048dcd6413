//! How typed columns read JSON where the library is more lenient than a table should be: it rounds fractions into columns of
//! whole numbers, takes strings for numbers, and refuses numbers for text.

use std::fmt::Write;
use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_array::builder::StringBuilder;
use arrow_json::reader::{ArrayDecoder, DecoderContext, DecoderFactory, Tape, TapeElement};
use arrow_schema::{ArrowError, DataType, FieldRef};

/// Beyond this, not every whole number is a 64-bit float: what was rounded cannot be told from what was not.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Makes the decoders.
#[derive(Debug)]
pub(super) struct Strict;

impl DecoderFactory for Strict {
    fn make_default_decoder(
        &self,
        context: &DecoderContext,
        field: &FieldRef,
        is_nullable: bool,
    ) -> Result<Option<Box<dyn ArrayDecoder>>, ArrowError> {
        let data_type = field.data_type();
        if *data_type == DataType::Utf8 {
            return Ok(Some(Box::new(Text)));
        }
        if data_type.is_integer() || data_type.is_floating() {
            let inner = context.make_builtin_decoder(field, is_nullable)?;
            return Ok(Some(Box::new(Number { whole: data_type.is_integer(), inner })));
        }
        Ok(None)
    }
}

/// Refuses what the library would change.
struct Number {
    whole: bool,
    inner: Box<dyn ArrayDecoder>,
}

impl ArrayDecoder for Number {
    fn decode(&mut self, tape: &Tape<'_>, pos: &[u32]) -> Result<ArrayRef, ArrowError> {
        let fits = |at: u32| match tape.get(at) {
            TapeElement::String(_) => false,
            TapeElement::Number(text) => !self.whole || is_whole(tape.get_string(text)),
            _ => true,
        };
        match pos.iter().find(|at| !fits(**at)) {
            Some(_) => Err(ArrowError::JsonError("another number than the column's type has".to_owned())),
            None => self.inner.decode(tape, pos),
        }
    }
}

fn is_whole(number: &str) -> bool {
    let is_plain = !number.bytes().any(|byte| matches!(byte, b'.' | b'e' | b'E'));
    is_plain || number.parse::<f64>().is_ok_and(|number| number.fract() == 0.0 && number.abs() <= EXACT)
}

/// Takes strings as they are, and everything else as its JSON text.
struct Text;

impl ArrayDecoder for Text {
    fn decode(&mut self, tape: &Tape<'_>, pos: &[u32]) -> Result<ArrayRef, ArrowError> {
        let mut column = StringBuilder::with_capacity(pos.len(), 0);
        let mut json = String::new();
        for at in pos {
            match tape.get(*at) {
                TapeElement::Null => column.append_null(),
                TapeElement::String(text) => column.append_value(tape.get_string(text)),
                _ => {
                    json.clear();
                    write_json(tape, *at, &mut json)?;
                    column.append_value(&json);
                }
            }
        }
        Ok(Arc::new(column.finish()))
    }
}

/// Writes a value as JSON; the nesting was bounded before.
fn write_json(tape: &Tape<'_>, at: u32, out: &mut String) -> Result<(), ArrowError> {
    match tape.get(at) {
        TapeElement::Null => out.push_str("null"),
        TapeElement::True => out.push_str("true"),
        TapeElement::False => out.push_str("false"),
        TapeElement::Number(number) => out.push_str(tape.get_string(number)),
        TapeElement::String(text) => write_string(tape.get_string(text), out),
        TapeElement::StartList(end) => write_items(tape, at, end, out, ('[', ']'))?,
        TapeElement::StartObject(end) => write_items(tape, at, end, out, ('{', '}'))?,
        // Numbers in binary come from serialized structs, never from text.
        _ => return Err(tape.error(at, "a JSON value")),
    }
    Ok(())
}

/// What is between brackets. On the tape, names and values of an object follow each other.
fn write_items(tape: &Tape<'_>, start: u32, end: u32, out: &mut String, (open, close): (char, char)) -> Result<(), ArrowError> {
    out.push(open);
    let (mut at, mut item) = (start + 1, 0);
    while at < end {
        match (item, open) {
            (0, _) => {}
            (odd, '{') if odd % 2 == 1 => out.push(':'),
            _ => out.push(','),
        }
        write_json(tape, at, out)?;
        at = tape.next(at, "a JSON value")?;
        item += 1;
    }
    out.push(close);
    Ok(())
}

fn write_string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c < ' ' => {
                // Writing into a string cannot fail.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}
