//! Instants and durations as the API writes them: RFC 3339 UTC with milliseconds, and `"250ms" "30s" "15m" "12h" "7d"`.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Milliseconds since 1970-01-01T00:00:00Z; negative before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// 9999-12-30T22:00:00.999Z: the last instant that can be written in every time zone, `jiff::Timestamp::MAX`.
const MAX_MILLIS: i64 = 253_402_207_200_999;

impl Timestamp {
    /// From milliseconds since the epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Reads RFC 3339, or a whole number of milliseconds since the epoch.
    pub fn parse(text: &str) -> Result<Self> {
        let millis = match text.parse::<i64>() {
            Ok(millis) => millis,
            Err(_) => text
                .parse::<jiff::Timestamp>()
                .map_err(|_| {
                    Error::invalid(
                        "timestamp",
                        format!("{text:?} is not a time: use RFC 3339, like 2026-01-31T08:00:00Z, or milliseconds since 1970"),
                    )
                })?
                .as_millisecond(),
        };
        if (0..=MAX_MILLIS).contains(&millis) {
            Ok(Self(millis))
        } else {
            Err(Error::invalid("timestamp", format!("{text:?} is outside 1970 to 9999")))
        }
    }

    /// The UTC day, as `2026-01-31`.
    pub fn date(self) -> String {
        // RFC 3339 begins with it.
        self.to_string().chars().take_while(|c| *c != 'T').collect()
    }

    /// This instant, `by` later.
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)))
    }

    /// This instant, `by` earlier.
    pub fn minus(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clamped = self.0.clamp(-62_135_596_800_000, MAX_MILLIS);
        match jiff::Timestamp::from_millisecond(clamped) {
            Ok(at) => write!(f, "{at:.3}"),
            Err(_) => write!(f, "{clamped}"),
        }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Timestamp;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an RFC 3339 time or milliseconds since 1970")
            }
            fn visit_str<E: serde::de::Error>(self, v: &str) -> std::result::Result<Timestamp, E> {
                Timestamp::parse(v).map_err(E::custom)
            }
            fn visit_i64<E: serde::de::Error>(self, v: i64) -> std::result::Result<Timestamp, E> {
                Timestamp::parse(&v.to_string()).map_err(E::custom)
            }
            fn visit_u64<E: serde::de::Error>(self, v: u64) -> std::result::Result<Timestamp, E> {
                Timestamp::parse(&v.to_string()).map_err(E::custom)
            }
        }
        d.deserialize_any(Visitor)
    }
}

/// Reads a duration: a whole number and one of `ms s m h d`.
pub fn parse_duration(text: &str) -> Result<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let unit_ms = match &text[digits..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => 0,
    };
    let millis = text[..digits].parse::<u64>().ok().and_then(|n| n.checked_mul(unit_ms));
    match millis {
        Some(millis) if unit_ms > 0 && millis <= i64::MAX as u64 / 2 => Ok(Duration::from_millis(millis)),
        _ => Err(Error::invalid(
            "duration",
            format!(
                "{:?} is not a duration: use a whole number and one of ms, s, m, h, d, like \"30s\"",
                text.chars().take(32).collect::<String>()
            ),
        )),
    }
}

/// Writes a duration in the largest unit that divides it.
pub fn format_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    for (unit, unit_ms) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
        if millis >= unit_ms && millis.is_multiple_of(unit_ms) {
            return format!("{}{unit}", millis / unit_ms);
        }
    }
    format!("{millis}ms")
}

/// `#[serde(with = "lakefall_queue::time::duration")]` for a `Duration` field.
pub mod duration {
    use super::{Duration, format_duration, parse_duration};
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes `"30s"`.
    pub fn serialize<S: Serializer>(value: &Duration, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&format_duration(*value))
    }

    /// Reads `"30s"`.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(d)?;
        parse_duration(&text).map_err(serde::de::Error::custom)
    }
}

/// `#[serde(with = "lakefall_queue::time::optional_duration")]` for an `Option<Duration>` field.
pub mod optional_duration {
    use super::{Duration, format_duration, parse_duration};
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes `"30s"` or null.
    pub fn serialize<S: Serializer>(value: &Option<Duration>, s: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => s.serialize_str(&format_duration(*value)),
            None => s.serialize_none(),
        }
    }

    /// Reads `"30s"` or null.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Duration>, D::Error> {
        <Option<std::borrow::Cow<'de, str>>>::deserialize(d)?
            .map(|text| parse_duration(&text).map_err(serde::de::Error::custom))
            .transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_they_are_read() {
        for text in ["0ms", "250ms", "30s", "15m", "12h", "7d"] {
            assert_eq!(format_duration(parse_duration(text).unwrap()), text);
        }
        for bad in ["", "s", "1", "1 s", "-1s", "1.5s", "99999999999999999999d", "1w"] {
            assert!(parse_duration(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn times_are_rfc_3339_with_milliseconds() {
        let at = Timestamp::parse("2026-01-31T08:00:00.5+01:00").unwrap();
        assert_eq!(at.to_string(), "2026-01-31T07:00:00.500Z");
        assert_eq!(Timestamp::parse(&at.as_millis().to_string()).unwrap(), at);
        assert!(Timestamp::parse("yesterday").is_err());
        assert!(Timestamp::parse("-1").is_err());
    }
}
