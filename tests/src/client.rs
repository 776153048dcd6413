//! A small client of the API that hides nothing: an answer is a status, headers and bytes; no answer is an error.

use std::sync::{Arc, RwLock};
use std::time::Duration;

use arrow_array::{Array, BinaryArray, UInt32Array, UInt64Array};
use bytes::Bytes;
use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::manners::Manners;

/// Longest time for one request: beyond, the server hangs.
const REQUEST: Duration = Duration::from_secs(60);
/// Before a persistent client comes again.
const AGAIN: Duration = Duration::from_millis(100);
/// Longest time without a record for who reads a whole partition: beyond, the end that is told is never reached.
const PROGRESS: Duration = Duration::from_secs(30);
/// Records asked for in one page.
const PAGE: u64 = 5_000;

/// Where the server is: changes when it is started again.
#[derive(Clone, Debug, Default)]
pub struct Endpoint(Arc<RwLock<String>>);

impl Endpoint {
    /// One that stays.
    pub fn at(url: &str) -> Self {
        let endpoint = Self::default();
        endpoint.set(url);
        endpoint
    }

    pub(crate) fn set(&self, url: &str) {
        *self.0.write().unwrap() = url.to_owned();
    }

    /// `http://host:port`.
    pub fn url(&self) -> String {
        self.0.read().unwrap().clone()
    }
}

/// An answer, whatever its status.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The header fields.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("status {}: not JSON ({error}): {}", self.status, self.text()))
    }

    /// A problem's `code`, empty where there is none.
    pub fn code(&self) -> String {
        serde_json::from_slice::<Value>(&self.body).ok().and_then(|v| v["code"].as_str().map(str::to_owned)).unwrap_or_default()
    }

    /// Fails unless the status is 2xx.
    pub fn ok(self) -> Self {
        assert!((200..300).contains(&self.status), "refused with {}: {}", self.status, self.text());
        self
    }

    /// Places of the acks, in record order.
    pub fn offsets(&self) -> Vec<(u32, u64)> {
        let place = |ack: &Value| (ack["partition"].as_u64().unwrap() as u32, ack["offset"].as_u64().unwrap());
        self.json()["acks"].as_array().unwrap().iter().map(place).collect()
    }
}

/// A record as a reader saw it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    /// Its partition.
    pub partition: u32,
    /// Its offset.
    pub offset: u64,
    /// The value's bytes: JSON as it stands.
    pub value: Bytes,
}

impl Row {
    /// What a history keeps of it: its offset, and the value's bytes.
    pub fn seen(&self) -> (u64, &[u8]) {
        (self.offset, &self.value)
    }
}

/// A page of one partition.
#[derive(Clone, Debug)]
pub struct Page {
    /// The records.
    pub rows: Vec<Row>,
    /// Where to go on.
    pub next: u64,
    /// The end as told.
    pub end: u64,
    /// That is how it was told some time ago: there may be more.
    pub stale: bool,
}

impl Page {
    /// The end, where it is told as such.
    pub fn told(&self) -> Option<u64> {
        (!self.stale).then_some(self.end)
    }
}

/// Sends requests to one server.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    endpoint: Endpoint,
    patience: Duration,
    persistence: Duration,
    manners: Option<Arc<Manners>>,
    namespace: Option<String>,
}

impl Client {
    /// A client with connections of its own.
    pub fn new(endpoint: Endpoint) -> Self {
        let http = reqwest::Client::builder().no_proxy().tcp_nodelay(true).build().unwrap();
        Self { http, endpoint, patience: REQUEST, persistence: Duration::ZERO, manners: None, namespace: None }
    }

    /// Speaks HTTP/2 from the start, on connections of its own.
    pub fn over_http2(mut self) -> Self {
        self.http = reqwest::Client::builder().no_proxy().tcp_nodelay(true).http2_prior_knowledge().build().unwrap();
        self
    }

    /// Comes again as the manual says, for whatever it sends, and keeps what is not to be forgiven.
    pub fn with_manners(mut self, manners: &Arc<Manners>) -> Self {
        self.manners = Some(Arc::clone(manners));
        self
    }

    /// Gives up on a request after this time instead of a minute.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Comes again when it is told so (503, nothing applied), for this long.
    pub fn persistent(mut self, persistence: Duration) -> Self {
        self.persistence = persistence;
        self
    }

    /// Sends all its requests to another namespace.
    pub fn in_namespace(mut self, name: &str) -> Self {
        self.namespace = Some(name.to_owned());
        self
    }

    /// A request to a path of the server, or to a whole URL.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let url = if path.starts_with("http") { path.to_owned() } else { format!("{}{path}", self.endpoint.url()) };
        let request = self.http.request(method, url);
        match &self.namespace {
            Some(name) => request.header("lakefall-namespace", name),
            None => request,
        }
    }

    /// Sends a request and takes the whole answer.
    pub async fn send(&self, mut request: reqwest::RequestBuilder) -> Result<Answer, reqwest::Error> {
        let began = Instant::now();
        loop {
            let again = request.try_clone();
            let sent = self.send_once(request).await;
            let persists = began.elapsed() < self.persistence;
            let pause = match &self.manners {
                Some(manners) => manners.pause(&sent, began.elapsed()),
                None => {
                    let told = |answer: &Answer| answer.status == 503 && answer.code() == "not_committed" && persists;
                    sent.as_ref().is_ok_and(told).then_some(AGAIN)
                }
            };
            let (Some(again), Some(pause)) = (again, pause) else { return sent };
            tokio::time::sleep(pause).await;
            request = again;
        }
    }

    async fn send_once(&self, request: reqwest::RequestBuilder) -> Result<Answer, reqwest::Error> {
        let response = request.timeout(self.patience).send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Answer { status, headers, body: response.bytes().await? })
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Result<Answer, reqwest::Error> {
        self.send(self.request(Method::GET, path)).await
    }

    /// A request with a JSON body, which must be answered with 2xx.
    pub async fn call(&self, method: Method, path: &str, body: &Value) -> Answer {
        let request = self.request(method, path).header("content-type", "application/json").body(body.to_string());
        self.send(request).await.unwrap().ok()
    }

    /// Creates a topic.
    pub async fn create_topic(&self, name: &str, partitions: u32) {
        self.call(Method::POST, "/v1/topics", &json!({"name": name, "partitions": partitions})).await;
    }

    /// Sends lines, each a value, with more query parameters.
    pub fn values(&self, topic: &str, query: &str, lines: impl Into<reqwest::Body>) -> reqwest::RequestBuilder {
        let path = format!("/v1/topics/{topic}/records?format=values&{query}");
        self.request(Method::POST, &path).header("content-type", "application/x-ndjson").body(lines)
    }

    /// Stores one JSON value and returns its offset.
    pub async fn put(&self, topic: &str, partition: u32, value: &Value) -> u64 {
        let request = self.values(topic, &format!("partition={partition}"), value.to_string());
        self.send(request).await.unwrap().ok().offsets()[0].1
    }

    /// Log start and end of each partition.
    pub async fn ends(&self, topic: &str) -> Vec<(u64, u64)> {
        let topic = self.get(&format!("/v1/topics/{topic}")).await.unwrap().ok().json();
        let ends = |p: &Value| (p["log_start"].as_u64().unwrap(), p["end"].as_u64().unwrap());
        topic["partition_status"].as_array().unwrap().iter().map(ends).collect()
    }

    /// One page of a partition.
    pub async fn page(&self, topic: &str, partition: u32, offset: u64, more: &str) -> Result<Page, String> {
        self.page_of(topic, partition, offset, PAGE, more).await
    }

    /// The same with at most so many records.
    pub async fn page_of(&self, topic: &str, partition: u32, offset: u64, limit: u64, more: &str) -> Result<Page, String> {
        let path = format!("/v1/topics/{topic}/partitions/{partition}/records?offset={offset}&limit={limit}{more}");
        let answer = self.get(&path).await.map_err(|error| format!("{error:?}"))?;
        if answer.status != 200 {
            return Err(format!("{}: {}", answer.status, answer.text()));
        }
        let page: Value = answer.json();
        let number = |name: &str| page[name].as_u64().unwrap();
        // Values are read as raw slices: what is compared are the bytes that were answered.
        let body: std::collections::HashMap<&str, &RawValue> = serde_json::from_slice(&answer.body).unwrap();
        let records: Vec<&RawValue> = serde_json::from_str(body["records"].get()).unwrap();
        let rows = records.iter().map(|raw| row(raw.get())).collect();
        Ok(Page { rows, next: number("next_offset"), end: number("end"), stale: page["stale"] == true })
    }

    /// A whole partition, page by page.
    pub async fn read_pages(&self, topic: &str, partition: u32, from: u64) -> Vec<Row> {
        let (mut rows, mut at, mut since) = (Vec::new(), from, Instant::now());
        loop {
            let page = self.page(topic, partition, at, "").await.unwrap();
            if page.next > at {
                since = Instant::now();
            }
            at = page.next;
            let (told, end) = (page.told(), page.end);
            rows.extend(page.rows);
            if told.is_some_and(|end| at >= end) {
                return rows;
            }
            assert!(since.elapsed() < PROGRESS, "partition {partition} of {topic} ends at {end}, but nothing comes from {at} on");
        }
    }

    /// A whole partition as one NDJSON stream.
    pub async fn read_lines(&self, topic: &str, partition: u32, from: u64) -> Vec<Row> {
        let answer = self.read_as(topic, partition, from, "application/x-ndjson").await;
        answer
            .body
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| row(std::str::from_utf8(line).unwrap()))
            .collect()
    }

    /// A whole partition as one Arrow stream.
    pub async fn read_arrow(&self, topic: &str, partition: u32, from: u64) -> Vec<Row> {
        let answer = self.read_as(topic, partition, from, "application/vnd.apache.arrow.stream").await;
        let reader = arrow_ipc::reader::StreamReader::try_new(&answer.body[..], None).unwrap();
        let mut rows = Vec::new();
        for batch in reader.map(Result::unwrap) {
            let column = |name: &str| batch.column_by_name(name).unwrap().as_any();
            let partitions: &UInt32Array = column("partition").downcast_ref().unwrap();
            let offsets: &UInt64Array = column("offset").downcast_ref().unwrap();
            let values: &BinaryArray = column("value").downcast_ref().unwrap();
            rows.extend((0..batch.num_rows()).map(|at| {
                let value = if values.is_null(at) { Bytes::from_static(b"null") } else { Bytes::copy_from_slice(values.value(at)) };
                Row { partition: partitions.value(at), offset: offsets.value(at), value }
            }));
        }
        rows
    }

    async fn read_as(&self, topic: &str, partition: u32, from: u64, media: &str) -> Answer {
        let path = format!("/v1/topics/{topic}/partitions/{partition}/records?offset={from}");
        self.send(self.request(Method::GET, &path).header("accept", media)).await.unwrap().ok()
    }
}

/// A record as it stands in an answer.
pub fn row(line: &str) -> Row {
    let fields: std::collections::HashMap<&str, &RawValue> = serde_json::from_str(line).unwrap();
    let number = |name: &str| fields[name].get().parse::<u64>().unwrap();
    let value = Bytes::copy_from_slice(fields["value"].get().as_bytes());
    Row { partition: number("partition") as u32, offset: number("offset"), value }
}
