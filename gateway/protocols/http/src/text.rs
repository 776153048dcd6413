//! JSON written by hand where every record passes: numbers, strings, times.
//!
//! Must never write what is not valid JSON.

use bytes::{BufMut, BytesMut};
use lakefall_queue::Timestamp;

/// Appends a number in decimal.
pub(crate) fn push_u64(out: &mut BytesMut, mut number: u64) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.put_slice(&digits[at..]);
}

/// Appends a JSON string, quotes included.
pub(crate) fn push_str(out: &mut BytesMut, text: &str) {
    // One pass that the compiler turns into vector code decides for almost every string.
    let special = text.bytes().fold(false, |found, b| found | (b < 0x20) | (b == b'"') | (b == b'\\'));
    out.reserve(text.len() + 2);
    out.put_u8(b'"');
    if special {
        for c in text.chars() {
            push_escaped(out, c);
        }
    } else {
        out.put_slice(text.as_bytes());
    }
    out.put_u8(b'"');
}

fn push_escaped(out: &mut BytesMut, c: char) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    match c {
        '"' => out.put_slice(b"\\\""),
        '\\' => out.put_slice(b"\\\\"),
        '\n' => out.put_slice(b"\\n"),
        '\r' => out.put_slice(b"\\r"),
        '\t' => out.put_slice(b"\\t"),
        c if (c as u32) < 0x20 => {
            let code = c as usize;
            out.put_slice(&[b'\\', b'u', b'0', b'0', HEX[code >> 4], HEX[code & 15]]);
        }
        c => out.put_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

/// Writes times, remembering the last: neighbours in a batch mostly share it.
#[derive(Default)]
pub(crate) struct TimeText {
    millis: i64,
    text: Option<[u8; 26]>,
}

impl TimeText {
    /// Appends `"2026-01-31T08:00:00.000Z"`, quotes included.
    pub(crate) fn push(&mut self, out: &mut BytesMut, at: Timestamp) {
        let millis = at.as_millis();
        match self.text {
            Some(text) if self.millis == millis => out.put_slice(&text),
            _ => match rfc3339(millis) {
                Some(text) => {
                    *self = Self { millis, text: Some(text) };
                    out.put_slice(&text);
                }
                None => push_str(out, &at.to_string()),
            },
        }
    }
}

/// Years 1970 to 9999. The date is Howard Hinnant's `civil_from_days`.
fn rfc3339(millis: i64) -> Option<[u8; 26]> {
    if !(0..=253_402_300_799_999).contains(&millis) {
        return None;
    }
    let (days, ms) = ((millis / 86_400_000) as u64, (millis % 86_400_000) as u64);
    let z = days + 719_468;
    let (era, doe) = (z / 146_097, z % 146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + u64::from(month <= 2);
    let mut text = *b"\"0000-00-00T00:00:00.000Z\"";
    let fields = [
        (1, 4, year),
        (6, 2, month),
        (9, 2, day),
        (12, 2, ms / 3_600_000),
        (15, 2, ms / 60_000 % 60),
        (18, 2, ms / 1_000 % 60),
        (21, 3, ms % 1_000),
    ];
    for (start, width, mut number) in fields {
        for slot in text[start..start + width].iter_mut().rev() {
            *slot = b'0' + (number % 10) as u8;
            number /= 10;
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_the_core_writes_them() {
        for millis in [0, 1, 951_782_399_999, 951_782_400_000, 1_709_164_800_123, 4_107_542_400_000, 253_402_000_000_000] {
            let at = Timestamp::from_millis(millis);
            let mut out = BytesMut::new();
            TimeText::default().push(&mut out, at);
            assert_eq!(out, format!("\"{at}\""));
        }
    }

    #[test]
    fn strings_are_escaped_as_serde_json_escapes_them() {
        for text in ["", "plain", "quote\" slash\\ tab\t line\n bell\u{7} é 😀", "\u{0}\u{1f}"] {
            let mut out = BytesMut::new();
            push_str(&mut out, text);
            let back: String = serde_json::from_slice(&out).unwrap();
            assert_eq!(back, text);
        }
    }

    #[test]
    fn numbers_are_written_in_decimal() {
        for number in [0, 9, 10, 1_234_567, u64::MAX] {
            let mut out = BytesMut::new();
            push_u64(&mut out, number);
            assert_eq!(out, number.to_string());
        }
    }
}
