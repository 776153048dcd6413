//! Request bodies: admission before reading, decompression with bomb limits, sizes.
//!
//! Must never hold more than was admitted, and never read past a limit to find out by how much it is exceeded.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_compression::tokio::bufread::{GzipDecoder, ZstdDecoder};
use async_compression::zstd::DParameter;
use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;
use http_body_util::BodyExt;
use lakefall_queue::Error;
use lakefall_queue::verbs::{Admission, Caller, Verbs};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_util::io::StreamReader;

use crate::problem::{self, Problem, Result};

/// Decompressed bytes are asked for in pieces of this many.
const PIECE: usize = 64 << 10;

/// Room is asked for in steps of this many bytes where the length is not known beforehand.
const ADMIT_STEP: usize = 256 << 10;

/// Below this many decompressed bytes the ratio is not looked at: a page of zeros is no bomb.
const RATIO_FLOOR: u64 = 1 << 20;

/// log2 of the largest window that a zstd frame may ask for: 8 MiB, what RFC 8878 tells decoders to support.
const ZSTD_WINDOW_LOG: u32 = 23;

/// A body on its way in, decompressed as it comes.
pub(crate) struct Incoming {
    source: Source,
    /// `Content-Length`, of the bytes as sent.
    sent_length: Option<u64>,
}

enum Source {
    Plain(Body),
    Packed { reader: Pin<Box<dyn AsyncRead + Send>>, taken: Arc<AtomicU64>, given: u64, max_ratio: u64 },
}

impl Incoming {
    /// Looks at the headers only. An encoding that is unknown, or more than one, is 415.
    pub(crate) fn new(headers: &HeaderMap, body: Body, max_ratio: u64) -> Result<Self> {
        let sent_length = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
        let mut encodings = headers.get_all(header::CONTENT_ENCODING).iter();
        let encoding = encodings.next().map(|v| v.to_str().unwrap_or("").trim().to_ascii_lowercase());
        if encodings.next().is_some() {
            return Err(unsupported_encoding("nested"));
        }
        let gzip = match encoding.as_deref() {
            None | Some("identity" | "") => return Ok(Self { source: Source::Plain(body), sent_length }),
            Some("gzip" | "x-gzip") => true,
            Some("zstd") => false,
            Some(other) => return Err(unsupported_encoding(other)),
        };
        let taken = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&taken);
        let stream = TryStreamExt::map_err(body.into_data_stream(), io::Error::other).inspect_ok(move |chunk: &Bytes| {
            counter.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        });
        let packed = StreamReader::new(stream);
        let reader: Pin<Box<dyn AsyncRead + Send>> = if gzip {
            let mut decoder = GzipDecoder::new(packed);
            decoder.multiple_members(true);
            Box::pin(decoder)
        } else {
            let mut decoder = ZstdDecoder::with_params(packed, &[DParameter::window_log_max(ZSTD_WINDOW_LOG)]);
            decoder.multiple_members(true);
            Box::pin(decoder)
        };
        Ok(Self { source: Source::Packed { reader, taken, given: 0, max_ratio }, sent_length })
    }

    /// How many bytes will come, where that is known.
    pub(crate) fn exact_length(&self) -> Option<u64> {
        match self.source {
            Source::Plain(_) => self.sent_length,
            Source::Packed { .. } => None,
        }
    }

    /// The next bytes; `None` at the end. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>> {
        match &mut self.source {
            Source::Plain(body) => loop {
                match body.frame().await {
                    None => return Ok(None),
                    Some(Err(error)) => return Err(broken(&error)),
                    Some(Ok(frame)) => {
                        if let Ok(data) = frame.into_data()
                            && !data.is_empty()
                        {
                            return Ok(Some(data));
                        }
                    }
                }
            },
            Source::Packed { reader, taken, given, max_ratio } => {
                let mut piece = BytesMut::with_capacity(PIECE);
                let read = reader.read_buf(&mut piece).await.map_err(|error| broken(&error))?;
                *given += read as u64;
                let bound = taken.load(Ordering::Relaxed).saturating_mul(*max_ratio);
                if *given > RATIO_FLOOR && *given > bound {
                    let text = format!("the body grows more than {max_ratio}-fold when decompressed");
                    return Err(Problem::new(problem::TOO_LARGE, text));
                }
                Ok((read > 0).then(|| piece.freeze()))
            }
        }
    }

    /// The whole body, of at most `limit` bytes after decompression, and the room that it occupies.
    ///
    /// A body that came in one piece is not copied; any other is copied once.
    pub(crate) async fn collect(mut self, verbs: &dyn Verbs, caller: &Caller, limit: usize) -> Result<(Bytes, Admission)> {
        if let Some(sent) = self.sent_length.filter(|sent| *sent > limit as u64) {
            return Err(too_large(limit, sent));
        }
        let mut room = self.exact_length().unwrap_or(self.sent_length.unwrap_or(0)) as usize;
        if room == 0 && self.exact_length().is_none() {
            room = ADMIT_STEP.min(limit);
        }
        let mut admission = verbs.admit(caller, room).await?;
        let expected = self.exact_length();
        let Some(first) = self.next().await? else { return Ok((Bytes::new(), admission)) };
        if expected == Some(first.len() as u64) {
            return Ok((first, admission));
        }
        let mut whole = BytesMut::with_capacity(room.max(first.len()));
        let mut piece = Some(first);
        while let Some(bytes) = piece {
            let total = whole.len() + bytes.len();
            if total > limit {
                return Err(too_large(limit, total as u64));
            }
            if total > room {
                let step = ADMIT_STEP.max(total - room);
                admission.join(verbs.admit(caller, step).await?);
                room += step;
            }
            whole.extend_from_slice(&bytes);
            piece = self.next().await?;
        }
        Ok((whole.freeze(), admission))
    }
}

fn unsupported_encoding(encoding: &str) -> Problem {
    let shown: String = encoding.chars().take(64).collect();
    Problem::new(problem::UNSUPPORTED_ENCODING, format!("Content-Encoding {shown:?} is not known: send gzip, zstd or none, and only one"))
}

fn too_large(limit: usize, actual: u64) -> Problem {
    Error::TooLarge { what: "the body", limit: limit as u64, actual }.into()
}

/// What a body that cannot be read to its end is: too slow, or malformed.
fn broken(error: &(dyn std::error::Error + 'static)) -> Problem {
    let mut cause = Some(error);
    while let Some(at) = cause {
        if at.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::TimedOut) {
            return Problem::new(problem::REQUEST_TIMEOUT, "the body came too slowly");
        }
        cause = at.source();
    }
    Problem::new(problem::MALFORMED_BODY, format!("the body ends early or is damaged: {error}"))
}
