//! Bytes that no HTTP library would send: smuggling, malformed heads, HTTP/2 floods. Refused or cut, and never two
//! answers to one request.

use std::time::Duration;

use lakefall_tests::{Client, Server, raw};
use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long a refused connection may stay open.
const PROMPT: Duration = Duration::from_secs(5);

async fn server() -> (Server, Client) {
    let server = Server::start_default().await;
    let client = server.client();
    client.create_topic("t", 1).await;
    (server, client)
}

/// Each of these gets the status and is closed, and nothing is stored.
async fn refused(server: &mut Server, cases: &[(&str, String, u16)]) {
    let client = server.client();
    let mut wrong = Vec::new();
    for (name, request, status) in cases {
        let heard = raw::say(&server.address(), request.as_bytes(), PROMPT).await;
        if heard.status() != Some(*status) || heard.answers() != 1 || !heard.closed {
            let text: String = String::from_utf8_lossy(&heard.bytes).chars().take(300).collect();
            wrong.push(format!("{name}: expected {status} and a close, got closed={} {text:?}", heard.closed));
        }
        if client.ends("t").await != [(0, 0)] {
            wrong.push(format!("{name}: something was stored"));
            break;
        }
    }
    assert!(server.ended().is_none() && !server.whole_log().contains("panicked"));
    println!("bad_wire: {} malformed requests, {} wrong", cases.len(), wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_smuggle_others_are_refused_and_closed() {
    let (mut server, _) = server().await;
    let post = |fields: &str, body: &str| {
        format!("POST /v1/topics/t/records HTTP/1.1\r\nhost: x\r\ncontent-type: text/plain\r\n{fields}\r\n{body}")
    };
    let hidden = "POST /v1/topics/t/records HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\nx";
    let cases = [
        ("negative length", post("content-length: -1\r\n", "x"), 400),
        ("length that is no number", post("content-length: abc\r\n", "x"), 400),
        ("length of 2^64", post("content-length: 18446744073709551616\r\n", "x"), 400),
        ("length with a sign", post("content-length: +1\r\n", "x"), 400),
        ("length as hex", post("content-length: 0x1\r\n", "x"), 400),
        ("two lengths", post("content-length: 1\r\ncontent-length: 2\r\n", "xy"), 400),
        ("a list of lengths", post("content-length: 1, 2\r\n", "xy"), 400),
        ("chunked is not last", post("transfer-encoding: chunked, identity\r\n", &format!("0\r\n\r\n{hidden}")), 400),
        ("unknown transfer encoding", post("transfer-encoding: xchunked\r\n", "x"), 400),
        ("space before the colon", post("content-length : 1\r\n", "x"), 400),
        ("a folded field", post("x: a\r\n b\r\ncontent-length: 1\r\n", "x"), 400),
        ("NUL in a field", post("x: a\0b\r\ncontent-length: 1\r\n", "x"), 400),
        ("a bare CR in a field", post("x: a\rb\r\ncontent-length: 1\r\n", "x"), 400),
        ("chunk size that is no number", post("transfer-encoding: chunked\r\n", "zz\r\nx\r\n0\r\n\r\n"), 400),
        ("chunk size that overflows", post("transfer-encoding: chunked\r\n", "fffffffffffffffff\r\nx"), 400),
        ("no request line", "\0\u{1}\u{2}garbage\r\n\r\n".to_owned(), 400),
        ("unknown version", "GET / HTTP/9.9\r\n\r\n".to_owned(), 400),
        ("a head of 101 fields", format!("GET /v1/topics HTTP/1.1\r\nhost: x\r\n{}\r\n", "a: b\r\n".repeat(100)), 431),
    ];
    refused(&mut server, &cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_length_beside_chunks_hides_no_second_request() {
    // RFC 9112 section 6.1: a server may take the chunks and ignore the length, but must close after that answer.
    let hidden = "POST /v1/topics/t/records HTTP/1.1\r\nhost: x\r\ncontent-length: 6\r\n\r\nhidden";
    for fields in ["content-length: 4\r\ntransfer-encoding: chunked", "transfer-encoding: chunked\r\ncontent-length: 4"] {
        let (server, client) = server().await;
        let request = format!("POST /v1/topics/t/records HTTP/1.1\r\nhost: x\r\n{fields}\r\n\r\n1\r\nx\r\n0\r\n\r\n{hidden}");
        let heard = raw::say(&server.address(), request.as_bytes(), PROMPT).await;
        assert!(matches!(heard.status(), Some(200 | 400)) && heard.answers() == 1 && heard.closed, "{heard:?}");
        let rows = client.read_arrow("t", 0, 0).await;
        assert!(rows.iter().all(|row| &row.value[..] == b"x") && rows.len() <= 1, "a hidden request was served: {rows:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_over_its_limit_gets_a_whole_problem() {
    let (server, _) = server().await;
    for kib in [17, 80] {
        let request = format!("GET /v1/topics HTTP/1.1\r\nhost: x\r\nconnection: close\r\na: {}\r\n\r\n", "b".repeat(kib << 10));
        let heard = raw::say(&server.address(), request.as_bytes(), PROMPT).await;
        assert_eq!((heard.status(), heard.problem()["code"].as_str()), (Some(431), Some("headers_too_large")));
    }
    // A head without end is cut.
    let endless = format!("GET /v1/topics HTTP/1.1\r\nhost: x\r\na: {}", "b".repeat(4 << 20));
    let heard = raw::say(&server.address(), endless.as_bytes(), PROMPT).await;
    assert!(heard.closed && matches!(heard.status(), None | Some(431)), "{:?}", heard.status());
}

#[tokio::test(flavor = "multi_thread")]
async fn bare_line_feeds_smuggle_nothing() {
    // RFC 9112 section 2.2 lets a server take LF alone as a line end: one request then, never two.
    let (server, client) = server().await;
    let request = "POST /v1/topics/t/records HTTP/1.1\nhost: x\ncontent-type: text/plain\ncontent-length: 1\nconnection: close\n\nx";
    let heard = raw::say(&server.address(), request.as_bytes(), PROMPT).await;
    assert!(matches!(heard.status(), Some(200 | 400)) && heard.answers() == 1 && heard.closed, "{heard:?}");
    assert_eq!(client.ends("t").await, [(0, u64::from(heard.status() == Some(200)))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_ends_early_is_not_stored() {
    let (server, client) = server().await;
    for head in ["content-length: 100", "transfer-encoding: chunked"] {
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        let request = format!(
            "POST /v1/topics/t/records HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-ndjson\r\n{head}\r\n\r\n16\r\n{{\"value\":\"0123456789\"}}\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let heard = raw::listen(&mut stream, PROMPT).await;
        assert!(heard.closed && !matches!(heard.status(), Some(200)), "{heard:?}");
    }
    assert_eq!(client.ends("t").await, [(0, 0)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_host_and_a_foreign_origin_gain_nothing() {
    let (_server, client) = server().await;
    let forged = client.request(Method::POST, "/v1/topics").header("host", "evil.example").header("content-type", "application/json");
    let answer = client.send(forged.body(json!({"name": "u"}).to_string())).await.unwrap();
    assert!(!format!("{:?} {}", answer.headers, answer.text()).contains("evil.example"), "the host is reflected");
    let preflight = client.request(Method::OPTIONS, "/v1/topics").header("origin", "https://evil.example");
    let answer = client.send(preflight.header("access-control-request-method", "POST")).await.unwrap();
    assert!(!answer.headers.contains_key("access-control-allow-origin"), "{:?}", answer.headers);
}

/// An HTTP/2 frame (RFC 9113 section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// `GET /v1/topics`, by HPACK: three indexed fields, a literal path and authority.
fn get_topics() -> Vec<u8> {
    let mut block = vec![0x82, 0x86, 0x04, 10];
    block.extend_from_slice(b"/v1/topics");
    block.extend_from_slice(&[0x01, 1, b'x']);
    block
}

/// Opens an HTTP/2 connection and floods it with `flood` until the server closes it or 5 s are over.
async fn flood(server: &Server, mut next: impl FnMut(u32) -> Vec<u8>) -> bool {
    let stream = TcpStream::connect(server.address()).await.unwrap();
    let (mut reading, mut writing) = stream.into_split();
    let hearing = tokio::spawn(async move {
        let mut sink = vec![0; 64 << 10];
        // GOAWAY and the close that follows it are what is waited for.
        while let Ok(1..) = reading.read(&mut sink).await {}
    });
    writing.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])[..]].concat()).await.unwrap();
    let flooding = async {
        let mut n = 0;
        loop {
            let piece: Vec<u8> = (0..100)
                .flat_map(|_| {
                    n += 1;
                    next(n)
                })
                .collect();
            if writing.write_all(&piece).await.is_err() {
                return;
            }
        }
    };
    let cut = tokio::time::timeout(PROMPT, flooding).await.is_ok();
    hearing.abort();
    cut
}

#[tokio::test(flavor = "multi_thread")]
async fn rapid_resets_end_the_connection() {
    let (server, client) = server().await;
    let block = get_topics();
    let cut = flood(&server, |n| {
        let stream = n * 2 - 1;
        [frame(HEADERS, END_HEADERS | END_STREAM, stream, &block), frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat()
    })
    .await;
    assert!(cut, "a flood of resets goes on and on");
    client.put("t", 0, &json!(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_continuations_end_the_connection() {
    let (server, client) = server().await;
    let before = server.resident_kib();
    let block = get_topics();
    let filler: Vec<u8> = [&[0x00, 1, b'a', 0x7f, 0x81, 0x07][..], &[b'b'; 1024]].concat();
    let cut = flood(&server, |n| if n == 1 { frame(HEADERS, END_STREAM, 1, &block) } else { frame(CONTINUATION, 0, 1, &filler) }).await;
    assert!(cut, "a flood of continuations goes on and on");
    let grown = server.resident_kib().saturating_sub(before);
    assert!(grown < 32 << 10, "the server grew by {grown} KiB");
    client.put("t", 0, &json!(1)).await;
}
