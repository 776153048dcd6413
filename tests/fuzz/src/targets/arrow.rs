//! Streams of Arrow IPC as the HTTP room takes them.

use super::produce::within_limits;
use super::room::post;

/// An answer of 200 or 400 to 499, records within the limits, and memory in proportion to the body.
pub fn http_arrow(input: &[u8]) -> bool {
    let headers = [("content-type", "application/vnd.apache.arrow.stream")];
    let Some(answer) = post("/v1/topics/t/records?acks=ranges", &headers, input, None) else { panic!("a request is none") };
    let taken = answer.status == 200;
    let records = answer.records();
    assert_eq!(taken, !records.is_empty(), "stored, but refused, or the other way round");
    records.iter().for_each(within_limits);
    taken
}
