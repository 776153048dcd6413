//! HTTP/1.1 (RFC 9112) reduced to what a load of small requests needs: one request at a time, head and body in one write,
//! the answer read to its end. It costs half of what a general client does, and the client shares its cores with the
//! server. It must never send a second request before the first was answered.

use bytes::Bytes;
use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::target::Fault;

/// Bodies up to this size are copied behind their head, to leave in one packet; larger ones are written on their own.
const COPIED_BYTES: usize = 32 << 10;
/// Most headers of an answer.
const HEADERS_MAX: usize = 64;
/// Longest answer that is read.
const ANSWER_MAX: usize = 64 << 20;

/// A connection without anything around it.
pub(super) struct Wire {
    stream: TcpStream,
    out: Vec<u8>,
    answer: Vec<u8>,
}

/// How an answer's body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunked,
}

/// A whole answer within the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Answer {
    status: u16,
    body_at: usize,
    end: usize,
}

impl Wire {
    /// Over a connected socket.
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, out: Vec::new(), answer: Vec::with_capacity(4 << 10) }
    }

    /// Sends a request whose head lacks only its length; reads the whole answer. Returns status and body.
    pub(super) async fn exchange(&mut self, head: &[u8], body: &Bytes) -> Result<(StatusCode, &[u8]), Fault> {
        self.out.clear();
        self.out.extend_from_slice(head);
        self.out.extend_from_slice(b"content-length: ");
        self.out.extend_from_slice(body.len().to_string().as_bytes());
        self.out.extend_from_slice(b"\r\n\r\n");
        let copied = body.len() <= COPIED_BYTES;
        if copied {
            self.out.extend_from_slice(body);
        }
        self.stream.write_all(&self.out).await.map_err(lost)?;
        if !copied {
            self.stream.write_all(body).await.map_err(lost)?;
        }
        self.answer.clear();
        let answer = loop {
            if self.stream.read_buf(&mut self.answer).await.map_err(lost)? == 0 {
                return Err(Fault::Connection("closed before the answer was whole".to_owned()));
            }
            if let Some(answer) = parse(&self.answer)? {
                break answer;
            }
            if self.answer.len() > ANSWER_MAX {
                return Err(Fault::Connection(format!("an answer of more than {ANSWER_MAX} bytes")));
            }
        };
        let status = StatusCode::from_u16(answer.status).map_err(unreadable)?;
        Ok((status, &self.answer[answer.body_at..answer.end]))
    }
}

/// The answer in the buffer, if it is whole.
fn parse(bytes: &[u8]) -> Result<Option<Answer>, Fault> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(body_at) = head.parse(bytes).map_err(unreadable)? else { return Ok(None) };
    let status = head.code.unwrap_or_default();
    let end = match framing(head.headers)? {
        Framing::Length(length) => Some(body_at + length).filter(|end| *end <= bytes.len()),
        Framing::Chunked => chunked_end(&bytes[body_at..])?.map(|end| body_at + end),
    };
    Ok(end.map(|end| Answer { status, body_at, end }))
}

fn framing(headers: &[httparse::Header<'_>]) -> Result<Framing, Fault> {
    for header in headers {
        if header.name.eq_ignore_ascii_case("content-length") {
            let text = std::str::from_utf8(header.value).map_err(unreadable)?;
            return Ok(Framing::Length(text.trim().parse().map_err(unreadable)?));
        }
        if header.name.eq_ignore_ascii_case("transfer-encoding") {
            return Ok(Framing::Chunked);
        }
    }
    Err(Fault::Connection("the answer has neither length nor chunks".to_owned()))
}

/// Where the chunks end, if the last one is there. Trailers are not expected: nobody asked for them.
fn chunked_end(bytes: &[u8]) -> Result<Option<usize>, Fault> {
    let mut at = 0;
    while at < bytes.len() {
        let size = httparse::parse_chunk_size(&bytes[at..]).map_err(|_| Fault::Connection("a chunk without a size".to_owned()))?;
        let httparse::Status::Complete((digits, size)) = size else { return Ok(None) };
        at += digits + size as usize + 2;
        if size == 0 {
            return Ok(Some(at).filter(|end| *end <= bytes.len()));
        }
    }
    Ok(None)
}

fn lost(error: std::io::Error) -> Fault {
    Fault::Connection(error.to_string())
}

fn unreadable(error: impl std::fmt::Display) -> Fault {
    Fault::Connection(format!("unreadable answer: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answer is whole at its last byte and not before.
    fn whole_only_at_the_end(text: &str, status: u16) {
        let bytes = text.as_bytes();
        for cut in 0..bytes.len() {
            assert_eq!(parse(&bytes[..cut]).unwrap(), None, "cut at {cut}");
        }
        let answer = parse(bytes).unwrap().unwrap();
        assert_eq!((answer.status, answer.end), (status, bytes.len()));
    }

    #[test]
    fn an_answer_is_whole_at_its_last_byte_and_not_before() {
        whole_only_at_the_end("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nx: y\r\n\r\nhello", 200);
        whole_only_at_the_end(
            "HTTP/1.1 503 Service Unavailable\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n3\r\n0\r\n\r\n0\r\n\r\n",
            503,
        );
    }

    #[test]
    fn an_answer_without_an_end_is_refused() {
        assert!(parse(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(parse(b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n").is_err());
    }
}
