//! The last guard around the library's decoders.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::ParquetError;

/// Runs a decoder of the library. Bytes whose checksums and lengths are right, and which make it panic all the same, were
/// forged by somebody who can write to the bucket: that is an error, and not the end of a thread that serves others.
pub(super) fn guarded<T>(decode: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, ParquetError> {
    // Nothing outlives a panic: what `decode` made is dropped.
    catch_unwind(AssertUnwindSafe(decode)).unwrap_or_else(|_| Err(ParquetError::Corrupt("it cannot be decoded".to_owned())))
}
