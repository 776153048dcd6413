//! Room in memory that somebody was given, handed on with what fills it. Knows neither who gave it nor how much it is.

use bytes::Bytes;

/// Room in the gateway's memory, given back when dropped.
#[derive(Default)]
pub struct Admission(Vec<Box<dyn Send + Sync>>);

impl Admission {
    /// Room that is given back by dropping `guard`.
    pub fn new(guard: Box<dyn Send + Sync>) -> Self {
        Self(vec![guard])
    }

    /// Both rooms in one.
    pub fn join(&mut self, other: Admission) {
        self.0.extend(other.0);
    }

    /// The same bytes, which keep this room until the last slice of them is dropped: for an answer, until it was sent.
    pub fn hold(self, bytes: Bytes) -> Bytes {
        if self.0.is_empty() {
            return bytes;
        }
        Bytes::from_owner(Held { bytes, _room: self })
    }
}

impl std::fmt::Debug for Admission {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Admission")
    }
}

struct Held {
    bytes: Bytes,
    _room: Admission,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn bytes_keep_the_room_until_the_last_slice_of_them_is_gone() {
        let room = Arc::new(());
        let bytes = Admission::new(Box::new(Arc::clone(&room))).hold(Bytes::from_static(b"an answer"));
        let slice = bytes.slice(3..);
        drop(bytes);
        assert_eq!((&slice[..], Arc::strong_count(&room)), (&b"answer"[..], 2));
        drop(slice);
        assert_eq!(Arc::strong_count(&room), 1);
    }
}
