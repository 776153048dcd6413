//! What is wrong, and where.

use std::fmt;

/// Longest reason: values may be quoted in it, and they may be large.
const REASON_MAX: usize = 400;

/// Something that is wrong with a schema or a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where, as a JSON pointer (RFC 6901); empty for the whole.
    pub pointer: String,
    /// What is wrong and, where it helps, what is taken.
    pub reason: String,
}

impl Fault {
    /// About the whole, so far.
    pub fn here(reason: impl Into<String>) -> Self {
        let mut reason: String = reason.into();
        if reason.len() > REASON_MAX {
            let end = (0..=REASON_MAX).rev().find(|at| reason.is_char_boundary(*at)).unwrap_or(0);
            reason.truncate(end);
            reason.push('…');
        }
        Self { pointer: String::new(), reason }
    }

    /// About this place.
    pub(crate) fn at(pointer: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), ..Self::here(reason) }
    }

    /// The same, seen from one level further out.
    pub(crate) fn inside(self, token: impl fmt::Display) -> Self {
        let token = token.to_string().replace('~', "~0").replace('/', "~1");
        Self { pointer: format!("/{token}{}", self.pointer), ..self }
    }

    /// The same, with what it means before it.
    pub(crate) fn because(self, meaning: &str) -> Self {
        Self { reason: format!("{meaning}: {}", self.reason), ..self }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.pointer.is_empty() { f.write_str(&self.reason) } else { write!(f, "{}: {}", self.pointer, self.reason) }
    }
}

impl std::error::Error for Fault {}
