//! W3C Trace Context (https://www.w3.org/TR/trace-context/): where a request or a record stands in somebody's trace, and which
//! requests are traced at all. Nothing here records anything.

use std::fmt;

/// A span, as a `traceparent` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceContext {
    /// The trace; never 0.
    pub trace: u128,
    /// The span in it; never 0.
    pub span: u64,
    /// Whether it is recorded.
    pub sampled: bool,
}

impl TraceContext {
    /// Reads a `traceparent`. `None`: it is none.
    pub fn parse(traceparent: &str) -> Option<Self> {
        let mut parts = traceparent.split('-');
        let version = hex(parts.next()?, 2)?;
        let (trace, span) = (hex(parts.next()?, 32)?, hex(parts.next()?, 16)?);
        let flags = hex(parts.next()?, 2)?;
        // Later versions may say more; version 255 is none, and nothing follows in version 0.
        let is_whole = match version {
            0 => parts.next().is_none(),
            255 => false,
            _ => true,
        };
        (is_whole && trace != 0 && span != 0).then_some(Self { trace, span: span as u64, sampled: flags & 1 == 1 })
    }
}

/// Lower-case hexadecimal digits of exactly this length.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let is_hex = text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if is_hex { u128::from_str_radix(text, 16).ok() } else { None }
}

/// The `traceparent`.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }
}

/// Which requests are traced: decided once, where a request comes in, for all that it brings about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// The part of those that begin a trace; 0 to 1.
    pub ratio: f64,
    /// Those that do not begin one are traced if it is.
    pub parent_based: bool,
}

impl Sampling {
    /// Whether a request with this parent is traced. Draws only where it is left to chance.
    pub fn takes(&self, parent: Option<&TraceContext>, draw: impl FnOnce() -> u128) -> bool {
        match parent {
            Some(parent) if self.parent_based => parent.sampled,
            _ if self.ratio <= 0.0 => false,
            _ if self.ratio >= 1.0 => true,
            // 53 bits are as fine as a float is.
            _ => ((draw() >> 75) as f64) < self.ratio * (1_u64 << 53) as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_traceparent_is_written_as_it_was_read() {
        let context = TraceContext::parse(PARENT).unwrap();
        assert_eq!((context.to_string().as_str(), context.sampled), (PARENT, true));
        let later = TraceContext::parse("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-02-more").unwrap();
        assert!(!later.sampled);
    }

    #[test]
    fn what_is_no_traceparent_is_none() {
        let zeroes = "0".repeat(32);
        for text in [
            "",
            "00-1-2-01",
            &PARENT[1..],
            &format!("{PARENT}-more"),
            &PARENT.to_uppercase(),
            &PARENT.replacen("00-", "ff-", 1),
            &PARENT.replace("0af7651916cd43dd8448eb211c80319c", &zeroes),
            &PARENT.replace("b7ad6b7169203331", &zeroes[..16]),
            &PARENT.replace('b', "+"),
        ] {
            assert_eq!(TraceContext::parse(text), None, "{text}");
        }
    }

    #[test]
    fn who_begins_a_trace_is_taken_by_the_ratio_and_who_continues_one_by_its_parent() {
        let parent = |sampled| TraceContext { trace: 1, span: 1, sampled };
        let sampling = Sampling { ratio: 0.25, parent_based: true };
        let never = || -> u128 { panic!("nothing is left to chance") };
        assert!(sampling.takes(Some(&parent(true)), never));
        assert!(!sampling.takes(Some(&parent(false)), never));
        assert!(!Sampling { ratio: 0.0, ..sampling }.takes(None, never));
        assert!(Sampling { ratio: 1.0, parent_based: false }.takes(Some(&parent(false)), never));
        let draws = (0..1_000_u128).map(|step| (u128::MAX / 1_000) * step);
        assert_eq!(draws.filter(|draw| sampling.takes(None, || *draw)).count(), 251);
    }
}
