//! Bodies that are passed on, cut, or damaged. Must never hold a body in memory that is only passed on.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderValue;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderMap};
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;

use super::rules::Fault;
use crate::dice::Dice;

pub(super) type Passed = BoxBody<Bytes, io::Error>;

/// A body as it came.
pub(super) fn passed(body: Incoming) -> Passed {
    body.map_err(io::Error::other).boxed()
}

/// A body that is at hand.
pub(super) fn whole(bytes: impl Into<Bytes>) -> Passed {
    Full::new(bytes.into()).map_err(|never: Infallible| match never {}).boxed()
}

/// A body that breaks after some bytes; hyper then closes the connection.
pub(super) fn cut(body: Passed, after: u64) -> Passed {
    BodyExt::boxed(Cut { body, left: after })
}

struct Cut {
    body: Passed,
    left: u64,
}

impl Body for Cut {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.left == 0 {
            return Poll::Ready(Some(Err(io::ErrorKind::ConnectionReset.into())));
        }
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context)?);
        Poll::Ready(frame.map(|frame| match frame.into_data() {
            Ok(mut data) => {
                data.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
                self.left -= data.len() as u64;
                Ok(Frame::data(data))
            }
            Err(other) => Ok(other),
        }))
    }

    /// As announced: the break comes as a surprise.
    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Damages an answer that was read in full.
pub(super) fn damage(fault: Fault, body: &mut Vec<u8>, headers: &mut HeaderMap, dice: &Dice) {
    match fault {
        Fault::FlipBit if !body.is_empty() => {
            let bit = dice.below(8 * body.len() as u64) as usize;
            body[bit / 8] ^= 1 << (bit % 8);
        }
        Fault::Truncate(keep) => {
            body.truncate(usize::try_from(keep).unwrap_or(usize::MAX));
            headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        }
        Fault::WrongBytes | Fault::WrongRange if !body.is_empty() => {
            body.remove(0);
            body.push(0);
            if fault == Fault::WrongRange {
                let told = headers.get(CONTENT_RANGE).and_then(|range| moved(range.to_str().ok()?));
                told.map(|range| headers.insert(CONTENT_RANGE, HeaderValue::try_from(range).unwrap()));
            }
        }
        _ => {}
    }
}

/// `bytes 3-5/10` one further.
fn moved(range: &str) -> Option<String> {
    let (first, rest) = range.strip_prefix("bytes ")?.split_once('-')?;
    let (last, size) = rest.split_once('/')?;
    Some(format!("bytes {}-{}/{size}", first.parse::<u64>().ok()? + 1, last.parse::<u64>().ok()? + 1))
}
