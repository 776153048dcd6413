//! Compressed bodies: gzip where the first byte is even, zstd where it is odd.

use std::io::Write;

use lakefall_queue::limits::Limits;

use super::room::{Answer, post};

/// No panic; never more than the limit, nor more than 100 times what was sent; and what was compressed well comes out as it was.
pub fn http_decompress(input: &[u8]) -> bool {
    let Some((choice, body)) = input.split_first() else { return false };
    let encoding = if choice % 2 == 0 { "gzip" } else { "zstd" };
    let answer = send(encoding, body);
    let taken = answer.status == 200;
    let stored: usize = answer.records().iter().map(|record| record.payload_bytes()).sum();
    // Below a mebibyte, the ratio is not looked at.
    assert!(
        stored <= Limits::default().value_bytes && (stored <= 1 << 20 || stored <= 100 * body.len()),
        "{stored} bytes of {}",
        body.len()
    );
    let packed = match encoding {
        "gzip" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(body).unwrap();
            encoder.finish().unwrap()
        }
        _ => zstd::encode_all(body, 1).unwrap(),
    };
    let mut back = send(encoding, &packed).records();
    assert_eq!(back.pop().and_then(|record| record.value).as_deref(), Some(body), "what comes out is not what went in");
    taken
}

fn send(encoding: &str, body: &[u8]) -> Answer {
    let headers = [("content-type", "application/octet-stream"), ("content-encoding", encoding)];
    post("/v1/topics/t/records", &headers, body, Some(1_000)).expect("a request")
}
