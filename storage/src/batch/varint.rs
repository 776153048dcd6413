//! Zigzag varints as Kafka records use them (Protocol Buffers encoding). Reading never passes the end of its input.

use super::BatchError;

/// Appends `value`.
pub(super) fn put(out: &mut Vec<u8>, value: i64) {
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// How many bytes [`put`] appends.
pub(super) fn len(value: i64) -> usize {
    // One byte per 7 significant bits; `| 1` makes zero take one.
    ((70 - (zigzag(value) | 1).leading_zeros()) / 7) as usize
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// Reads forward through a slice.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bytes read so far.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// Bytes not read yet.
    pub(super) fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub(super) fn byte(&mut self) -> Result<u8, BatchError> {
        let byte = *self.bytes.get(self.at).ok_or(BatchError::Truncated)?;
        self.at += 1;
        Ok(byte)
    }

    /// A varint of up to 64 bits.
    pub(super) fn long(&mut self) -> Result<i64, BatchError> {
        let first = self.byte()?;
        if first < 0x80 {
            return Ok(unzigzag(u64::from(first)));
        }
        let mut value = u64::from(first & 0x7f);
        for shift in (7..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(unzigzag(value));
            }
        }
        Err(BatchError::Corrupt("a number is longer than 64 bits"))
    }

    /// A length: `None` for -1, never more than what remains.
    pub(super) fn length(&mut self) -> Result<Option<usize>, BatchError> {
        match self.long()? {
            -1 => Ok(None),
            length => match usize::try_from(length) {
                Ok(length) if length <= self.remaining() => Ok(Some(length)),
                Ok(_) => Err(BatchError::Truncated),
                Err(_) => Err(BatchError::Corrupt("a length is negative")),
            },
        }
    }

    /// The place of the next `length` bytes, which [`Self::length`] found to be there.
    pub(super) fn take(&mut self, length: usize) -> std::ops::Range<usize> {
        let start = self.at;
        self.at = (start + length).min(self.bytes.len());
        start..self.at
    }
}

fn unzigzag(value: u64) -> i64 {
    ((value >> 1) as i64) ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_width_is_read_as_it_was_written_and_its_length_is_foretold() {
        for bit in 0..64 {
            for value in [1_i64 << bit, (1_i64 << bit).wrapping_sub(1), (1_i64 << bit).wrapping_neg(), !(1_i64 << bit)] {
                let mut out = Vec::new();
                put(&mut out, value);
                assert_eq!(out.len(), len(value), "{value}");
                assert_eq!(Cursor::new(&out).long(), Ok(value));
            }
        }
    }

    #[test]
    fn an_endless_number_is_refused() {
        assert!(matches!(Cursor::new(&[0xff; 20]).long(), Err(BatchError::Corrupt(_))));
        assert_eq!(Cursor::new(&[0xff; 3]).long(), Err(BatchError::Truncated));
    }
}
