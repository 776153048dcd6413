//! PostgreSQL's answers, taken apart just as far as to find a statement's completion (chapter "Frontend/Backend Protocol",
//! "Message Formats"): `CommandComplete` is `C`, a length that counts itself, and the tag as a C string. Must never pass on
//! a byte of a reply that is to be lost, nor hold one that is not.

use bytes::{Buf, Bytes, BytesMut};

/// What happens instead of a lost reply.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Loss {
    /// The connection is reset.
    Reset,
    /// The connection stays, and nothing comes any more.
    Silence,
}

/// Replies that are to be lost.
#[derive(Debug, Default)]
pub(super) struct Losses {
    armed: Vec<Armed>,
    seen: u64,
    lost: u64,
}

#[derive(Debug)]
struct Armed {
    tag: String,
    nth: u64,
    left: u64,
    repeats: bool,
    loss: Loss,
}

impl Losses {
    pub(super) fn arm(&mut self, tag: &str, nth: u64, repeats: bool, loss: Loss) {
        assert!(nth > 0, "the first is number 1");
        self.armed.push(Armed { tag: tag.to_owned(), nth, left: nth, repeats, loss });
    }

    pub(super) fn disarm(&mut self) {
        self.armed.clear();
    }

    /// Seen (of the tags that were armed at the time) and lost.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.seen, self.lost)
    }

    /// What happens to a reply with this tag.
    pub(super) fn meets(&mut self, tag: &str) -> Option<Loss> {
        let mut loss = None;
        let mut is_seen = false;
        for armed in self.armed.iter_mut().filter(|armed| tag.starts_with(&armed.tag)) {
            is_seen = true;
            armed.left -= 1;
            if armed.left == 0 {
                loss = loss.or(Some(armed.loss));
                armed.left = if armed.repeats { armed.nth } else { 0 };
            }
        }
        self.armed.retain(|armed| armed.left > 0);
        self.seen += u64::from(is_seen);
        self.lost += u64::from(loss.is_some());
        loss
    }
}

/// The server's side of one connection.
#[derive(Debug, Default)]
pub(super) struct Replies {
    /// What came and is not yet a whole header, or not a whole reply of which the tag decides.
    pending: BytesMut,
    /// How much of the present message is still to be passed on.
    rest: usize,
    /// Whether a message has come; before, the server answers `N` to a request for encryption.
    has_begun: bool,
    /// What happens when the server is ready for the next query.
    losing: Option<Loss>,
}

impl Replies {
    /// Takes what came, gives what may be passed on, and what happens then.
    pub(super) fn pass(&mut self, came: &[u8], mut meets: impl FnMut(&str) -> Option<Loss>) -> (Bytes, Option<Loss>) {
        self.pending.extend_from_slice(came);
        let mut passed = BytesMut::new();
        loop {
            let now = self.rest.min(self.pending.len());
            self.rest -= now;
            if self.losing.is_none() {
                passed.extend_from_slice(&self.pending[..now]);
            }
            self.pending.advance(now);
            if self.rest > 0 || self.pending.is_empty() {
                return (passed.freeze(), None);
            }
            if !self.has_begun && self.pending[0] == b'N' {
                self.rest = 1;
                continue;
            }
            assert!(self.has_begun || self.pending[0] != b'S', "replies cannot be found under TLS: connect with sslmode=disable");
            let Some(length) = self.pending.get(1..5) else { return (passed.freeze(), None) };
            let message = 1 + u32::from_be_bytes(length.try_into().unwrap()) as usize;
            self.has_begun = true;
            match self.pending[0] {
                b'C' if self.pending.len() < message => return (passed.freeze(), None),
                b'C' if self.losing.is_none() => {
                    let tag = String::from_utf8_lossy(&self.pending[5..message - 1]).into_owned();
                    self.losing = meets(&tag);
                }
                b'Z' if self.losing.is_some() => return (passed.freeze(), self.losing),
                _ => {}
            }
            self.rest = message;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(4 + body.len()).unwrap().to_be_bytes();
        [&[kind], &length[..], body].concat()
    }

    #[test]
    fn a_reply_is_lost_wherever_the_stream_is_torn() {
        let before =
            [b"N".to_vec(), message(b'R', &[0; 8]), message(b'Z', b"I"), message(b'C', b"SELECT 1\0"), message(b'Z', b"I")].concat();
        let lost = [message(b'C', b"INSERT 0 7\0"), message(b'Z', b"I")].concat();
        let stream = [&before[..], &lost, &message(b'C', b"INSERT 0 8\0")].concat();
        for piece in 1..stream.len() {
            let (mut losses, mut replies, mut passed) = (Losses::default(), Replies::default(), Vec::new());
            losses.arm("INSERT", 1, false, Loss::Reset);
            let mut loss = None;
            for came in stream.chunks(piece) {
                let (bytes, now) = replies.pass(came, |tag| losses.meets(tag));
                passed.extend_from_slice(&bytes);
                loss = now;
                if loss.is_some() {
                    break;
                }
            }
            assert_eq!((loss, losses.counts()), (Some(Loss::Reset), (1, 1)), "pieces of {piece}");
            assert_eq!(passed, before, "pieces of {piece}");
        }
    }

    #[test]
    fn only_the_nth_of_a_tag_is_lost_and_every_nth_again_and_again() {
        let mut losses = Losses::default();
        losses.arm("INSERT", 2, false, Loss::Reset);
        let met: Vec<bool> = (0..4).map(|_| losses.meets("INSERT 0 1").is_some()).collect();
        assert_eq!(met, [false, true, false, false]);
        losses.arm("COMMIT", 2, true, Loss::Silence);
        let met: Vec<bool> = (0..4).map(|_| losses.meets("COMMIT").is_some()).collect();
        assert_eq!(met, [false, true, false, true]);
        assert!(losses.meets("SELECT 1").is_none());
        assert_eq!(losses.counts(), (6, 3));
    }
}
