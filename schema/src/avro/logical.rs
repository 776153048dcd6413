//! Logical types: what the plain ones mean, and how that is written in JSON.

use lakefall_queue::Timestamp;
use serde_json::{Map, Value};

use super::nodes::Shape;

/// Digits that a column of decimals holds.
pub(super) const DECIMAL_DIGITS: u64 = 38;

/// What a plain type means. One that does not go with its plain type means nothing, as the specification says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Logical {
    None,
    Date,
    TimeMillis,
    TimeMicros,
    /// Units of a second, and whether it is an instant or local time.
    Timestamp {
        per_second: i64,
        local: bool,
    },
    Decimal {
        precision: u8,
        scale: i8,
    },
    /// In 16 bytes; as text it is text.
    Uuid,
}

impl Logical {
    pub(super) fn of(members: &Map<String, Value>, shape: &Shape) -> Self {
        let number = |name: &str| members.get(name).and_then(Value::as_u64);
        let at = |per_second, local| Self::Timestamp { per_second, local };
        match (members.get("logicalType").and_then(Value::as_str).unwrap_or_default(), shape) {
            ("date", Shape::Int) => Self::Date,
            ("time-millis", Shape::Int) => Self::TimeMillis,
            ("time-micros", Shape::Long) => Self::TimeMicros,
            ("timestamp-millis", Shape::Long) => at(1_000, false),
            ("timestamp-micros", Shape::Long) => at(1_000_000, false),
            ("timestamp-nanos", Shape::Long) => at(1_000_000_000, false),
            ("local-timestamp-millis", Shape::Long) => at(1_000, true),
            ("local-timestamp-micros", Shape::Long) => at(1_000_000, true),
            ("local-timestamp-nanos", Shape::Long) => at(1_000_000_000, true),
            ("decimal", Shape::Bytes | Shape::Fixed { .. }) => match (number("precision"), number("scale").unwrap_or(0)) {
                (Some(precision), scale) if (1..=DECIMAL_DIGITS).contains(&precision) && scale <= precision => {
                    Self::Decimal { precision: precision as u8, scale: scale as i8 }
                }
                _ => Self::None,
            },
            ("uuid", Shape::Fixed { size: 16, .. }) => Self::Uuid,
            _ => Self::None,
        }
    }
}

/// A date of so many days since 1970; `None` beyond year 9999.
pub(super) fn date(days: i64) -> Option<String> {
    let (text, _) = instant(days.checked_mul(86_400)?, 0)?;
    Some(text.split('T').next().unwrap_or_default().to_owned())
}

/// A time of day.
pub(super) fn time(count: i64, per_second: i64) -> Option<String> {
    let seconds = count.checked_div(per_second).filter(|seconds| (0..86_400).contains(seconds) && count >= 0)?;
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let micros = count % per_second * (1_000_000 / per_second);
    Some(format!("{hour:02}:{minute:02}:{second:02}.{micros:06}"))
}

/// An instant as RFC 3339 with microseconds; a local one without the zone.
pub(super) fn timestamp(count: i64, per_second: i64, local: bool) -> Option<String> {
    let (seconds, rest) = (count.div_euclid(per_second), count.rem_euclid(per_second));
    let micros = if per_second > 1_000_000 { rest / (per_second / 1_000_000) } else { rest * (1_000_000 / per_second) };
    let (text, fraction) = instant(seconds, micros)?;
    Some(format!("{text}.{fraction:06}{}", if local { "" } else { "Z" }))
}

fn instant(seconds: i64, micros: i64) -> Option<(String, i64)> {
    // Years 0001 to 9999, which is what RFC 3339 writes.
    let whole = Some(seconds).filter(|seconds| (-62_135_596_800..253_402_300_800).contains(seconds))?;
    let text = Timestamp::from_millis(whole * 1_000).to_string();
    Some((text.split(['.', 'Z']).next().unwrap_or_default().to_owned(), micros))
}

/// A big-endian two's complement number with so many digits behind the point; `None` if it has more digits than the column.
pub(super) fn decimal(bytes: &[u8], precision: u8, scale: i8) -> Option<String> {
    let negative = bytes.first().is_some_and(|first| first & 0x80 != 0);
    let fill = if negative { 0xff } else { 0 };
    let extra = bytes.len().saturating_sub(16);
    let (head, tail) = bytes.split_at(extra);
    let mut whole = [fill; 16];
    whole[16 - tail.len()..].copy_from_slice(tail);
    let number = i128::from_be_bytes(whole);
    let lost = head.iter().any(|byte| *byte != fill) || (number < 0) != negative;
    if lost || number.unsigned_abs() >= 10_u128.checked_pow(u32::from(precision))? {
        return None;
    }
    let scale = usize::try_from(scale).ok()?;
    let digits = format!("{:0>width$}", number.unsigned_abs(), width = scale + 1);
    let (units, fraction) = digits.split_at(digits.len() - scale);
    let sign = if negative { "-" } else { "" };
    Some(if scale == 0 { format!("{sign}{units}") } else { format!("{sign}{units}.{fraction}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_people_and_tables_read_them() {
        assert_eq!(date(19_723).as_deref(), Some("2024-01-01"));
        assert_eq!(date(-1).as_deref(), Some("1969-12-31"));
        assert_eq!(date(i64::MAX), None);
        assert_eq!(time(3_723_004, 1_000).as_deref(), Some("01:02:03.004000"));
        assert_eq!((time(-1, 1_000), time(86_400_000, 1_000)), (None, None));
        assert_eq!(timestamp(-1, 1_000_000, false).as_deref(), Some("1969-12-31T23:59:59.999999Z"));
        assert_eq!(timestamp(1_500, 1_000, true).as_deref(), Some("1970-01-01T00:00:01.500000"));
        assert_eq!(timestamp(1_999, 1_000_000_000, false).as_deref(), Some("1970-01-01T00:00:00.000001Z"));
        assert_eq!(timestamp(i64::MAX, 1_000, false), None);
    }

    #[test]
    fn decimals_keep_every_digit() {
        assert_eq!(decimal(&[0x30, 0x39], 9, 2).as_deref(), Some("123.45"));
        assert_eq!(decimal(&[0xff], 9, 3).as_deref(), Some("-0.001"));
        assert_eq!(decimal(&[], 9, 0).as_deref(), Some("0"));
        assert_eq!(decimal(&[0xff; 20], 38, 0).as_deref(), Some("-1"));
        assert_eq!(decimal(&[0x7f; 17], 38, 0), None);
        assert_eq!(decimal(&[0x03, 0xe8], 3, 0), None);
    }
}
