//! JSON texts as bytes to store: strings without their quotes, everything else as it stands.
//!
//! Must never copy what can be a slice of the body.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_PAD_INDIFFERENT;
use bytes::Bytes;
use lakefall_queue::ValueKind;
use memchr::memchr;
use serde::Deserialize;

use crate::problem::{self, Problem, Result};

/// Deepest nesting of a JSON value: what common parsers take.
const VALUE_DEPTH: usize = 128;

/// How a value is written in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Encoding {
    /// As JSON.
    Json,
    /// As a string that is the bytes.
    Utf8,
    /// As a string of standard base64 (RFC 4648 section 4; padding may be left out).
    Base64,
}

/// A value to store. `raw` is valid JSON that stands in `body`; `null` is a tombstone.
pub(crate) fn decode_value(raw: &str, encoding: Option<Encoding>, body: &Bytes) -> Result<(Option<Bytes>, ValueKind)> {
    match encoding {
        None if raw.starts_with('"') => Ok((Some(unquote(raw, body)?), ValueKind::Opaque)),
        None | Some(Encoding::Json) if raw != "null" => {
            check_json(raw)?;
            Ok((Some(body.slice_ref(raw.as_bytes())), ValueKind::Json))
        }
        None => Ok((None, ValueKind::Opaque)),
        Some(encoding) => Ok((decode_with(raw, encoding, body)?, ValueKind::Opaque)),
    }
}

/// A string as the bytes that it stands for under `encoding`; `null` is none.
pub(crate) fn decode_with(raw: &str, encoding: Encoding, body: &Bytes) -> Result<Option<Bytes>> {
    if raw == "null" {
        return Ok(None);
    }
    if !raw.starts_with('"') {
        return Err(Problem::invalid("", "this must be a string or null"));
    }
    let text = unquote(raw, body)?;
    match encoding {
        Encoding::Utf8 | Encoding::Json => Ok(Some(text)),
        Encoding::Base64 => match STANDARD_PAD_INDIFFERENT.decode(&text) {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(error) => Err(Problem::invalid("", format!("this is not base64 (RFC 4648 section 4): {error}"))),
        },
    }
}

/// What a valid JSON string says; a slice of `body` unless it has escapes.
pub(crate) fn unquote(raw: &str, body: &Bytes) -> Result<Bytes> {
    let inner = raw.get(1..raw.len().saturating_sub(1)).unwrap_or("");
    if memchr(b'\\', inner.as_bytes()).is_none() {
        return Ok(body.slice_ref(inner.as_bytes()));
    }
    match serde_json::from_str::<String>(raw) {
        Ok(text) => Ok(text.into()),
        Err(error) => Err(Problem::new(problem::MALFORMED_RECORD, format!("this string is malformed: {error}"))),
    }
}

/// Refuses what serde_json lets pass where it skips a value: deep nesting, and escapes of half a surrogate pair.
pub(crate) fn check_json(raw: &str) -> Result<()> {
    let bytes = raw.as_bytes();
    // Fewer openings than the bound cannot nest deeper than it: true of almost every value.
    if memchr::memchr2_iter(b'{', b'[', bytes).nth(VALUE_DEPTH).is_some() && depth(bytes) > VALUE_DEPTH {
        return Err(Problem::new(problem::MALFORMED_RECORD, format!("this value is nested deeper than {VALUE_DEPTH}")));
    }
    let surrogates = memchr::memmem::find(bytes, b"\\ud").is_some() || memchr::memmem::find(bytes, b"\\uD").is_some();
    if surrogates && let Err(error) = serde_json::from_str::<serde_json::Value>(raw) {
        return Err(Problem::new(problem::MALFORMED_RECORD, format!("this value has a malformed string: {error}")));
    }
    Ok(())
}

fn depth(json: &[u8]) -> usize {
    let (mut now, mut most, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_string,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                now += 1;
                most = most.max(now);
            }
            b'}' | b']' if !in_string => now = now.saturating_sub(1),
            _ => {}
        }
    }
    most
}

/// The value in a line that is exactly `{"value":"…"}` without escapes, checked in one pass of vector code; `None`
/// sends the line through the full parser.
pub(crate) fn plain_text_line(line: &str) -> Option<&str> {
    let inner = line.strip_prefix("{\"value\":\"")?.strip_suffix("\"}")?;
    let special = inner.bytes().fold(false, |found, b| found | (b < 0x20) | (b == b'"') | (b == b'\\'));
    (!special).then_some(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(json: &'static str, encoding: Option<Encoding>) -> Result<(Option<Bytes>, ValueKind)> {
        decode_value(json, encoding, &Bytes::from_static(json.as_bytes()))
    }

    #[test]
    fn strings_become_text_and_other_json_stays_as_it_stands() {
        let text = |s: &'static str| Some(Bytes::from_static(s.as_bytes()));
        assert_eq!(decoded(r#""a b""#, None).unwrap(), (text("a b"), ValueKind::Opaque));
        assert_eq!(decoded(r#""a\nb""#, None).unwrap(), (text("a\nb"), ValueKind::Opaque));
        assert_eq!(decoded(r#"{"a": 1.50}"#, None).unwrap(), (text(r#"{"a": 1.50}"#), ValueKind::Json));
        assert_eq!(decoded(r#""x""#, Some(Encoding::Json)).unwrap(), (text(r#""x""#), ValueKind::Json));
        assert_eq!(decoded(r#""AAEC""#, Some(Encoding::Base64)).unwrap(), (text("\0\u{1}\u{2}"), ValueKind::Opaque));
        assert_eq!(decoded("null", None).unwrap(), (None, ValueKind::Opaque));
        assert!(decoded(r#""?""#, Some(Encoding::Base64)).is_err());
        assert!(decoded("1", Some(Encoding::Utf8)).is_err());
    }

    #[test]
    fn an_unescaped_string_is_a_slice_of_the_body() {
        let body = Bytes::from_static(b"\"abc\"");
        let raw = std::str::from_utf8(&body).unwrap();
        assert_eq!(unquote(raw, &body).unwrap().as_ptr(), body[1..].as_ptr());
    }

    #[test]
    fn nesting_and_half_surrogates_are_refused() {
        let deep = |n: usize| format!("{}1{}", "[".repeat(n), "]".repeat(n));
        assert!(check_json(&deep(128)).is_ok());
        assert!(check_json(&deep(129)).is_err());
        assert!(check_json(&format!("[{}]", "{\"a\":[]},".repeat(500) + "1")).is_ok());
        assert!(check_json(r#"["\ud800"]"#).is_err());
        assert!(check_json(r#"["\ud83d\ude00"]"#).is_ok());
    }
}
