//! The HTTP room over verbs that take appends, keep them, and refuse everything else.

use std::cell::RefCell;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::http::Request as HttpRequest;
use bytes::Bytes;
use http_body_util::BodyExt;
use lakefall_http::{HttpSettings, router};
use lakefall_queue::clock::{Ambient, Clock, Entropy};
use lakefall_queue::error::Wrong;
use lakefall_queue::limits::Limits;
use lakefall_queue::queue::{
    Binding, Consumer, Delivery, Operation, Queue, QueueConfig, QueueStats, Receive, Redrive, SeekTo, Settled, Settlement,
};
use lakefall_queue::replay::Replay;
use lakefall_queue::schema::{Compatibility, SchemaText, SchemaVerbs, SchemaVersion, Subject};
use lakefall_queue::sql::{Rows, Statement};
use lakefall_queue::topic::{Topic, TopicConfig, TopicDescription};
use lakefall_queue::usage::{Usage, UsageOf, UsageRange, UsageVerbs};
use lakefall_queue::verbs::{
    AckRange, Admission, Append, Appended, Caller, Commit, Cursor, CursorMove, Fetched, Idempotency, Namespace, ObjectRange, OrderToken,
    Page, PageRequest, Position, Precondition, Read, Request, Start, TopicAppend, Verbs,
};
use lakefall_queue::{
    BindingName, CursorName, Error, NamespaceName, Offset, PartitionIndex, QueueName, Record, Result, StoredRecord, SubjectName, Timestamp,
    TopicName,
};
use serde_json::Value;
use tower::ServiceExt;

/// When it always is.
const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

struct Fixed;

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        NOW
    }

    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }
}

impl Entropy for Fixed {
    fn draw(&self) -> u128 {
        7
    }
}

/// Time that stands still, and draws that are all the same.
pub(crate) fn fixed() -> Ambient {
    Ambient { clock: Arc::new(Fixed), entropy: Arc::new(Fixed) }
}

/// An answer of the room.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Value,
    /// The appends that it called for, in order.
    pub(super) appends: Vec<TopicAppend>,
}

impl Answer {
    /// All records appended.
    pub(super) fn records(self) -> Vec<Record> {
        self.appends.into_iter().flat_map(|append| append.records).collect()
    }
}

/// Sends a body in pieces of `piece` bytes, or whole and with its length told. Nothing if that is no request of HTTP.
pub(super) fn post(path: &str, headers: &[(&str, &str)], body: &[u8], piece: Option<usize>) -> Option<Answer> {
    thread_local! {
        static ROOM: RefCell<Option<(Arc<Recorder>, Router, tokio::runtime::Runtime)>> = const { RefCell::new(None) };
    }
    ROOM.with_borrow_mut(|room| {
        let (recorder, router, runtime) = room.get_or_insert_with(|| {
            let recorder = Arc::new(Recorder::default());
            let router = router(Arc::clone(&recorder) as _, fixed(), HttpSettings::default());
            (recorder, router, tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap())
        });
        recorder.appends.lock().unwrap().clear();
        let mut request = HttpRequest::builder().method("POST").uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = match piece {
            None => request.header("content-length", body.len()).body(Body::from(body.to_vec())),
            Some(piece) => {
                let pieces: Vec<Result<Bytes, std::io::Error>> =
                    body.chunks(piece).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
                request.body(Body::from_stream(futures::stream::iter(pieces)))
            }
        };
        let request = request.ok()?;
        let (status, body) = runtime.block_on(async {
            let response = router.clone().oneshot(request).await.unwrap();
            let status = response.status().as_u16();
            (status, response.into_body().collect().await.unwrap().to_bytes())
        });
        let body = serde_json::from_slice(&body).unwrap_or_else(|error| panic!("status {status}, the answer is not JSON: {error}"));
        let appends = std::mem::take(&mut *recorder.appends.lock().unwrap());
        let answer = Answer { status, body, appends };
        assert!(status == 200 || (400..500).contains(&status), "status {status}: {}", answer.body);
        Some(answer)
    })
}

/// A topic of two partitions, which takes everything.
#[derive(Default)]
struct Recorder {
    limits: Arc<Limits>,
    appends: Mutex<Vec<TopicAppend>>,
}

fn refused<T>() -> Result<T> {
    Err(Error::unavailable("only appends are taken"))
}

#[async_trait]
impl Verbs for Recorder {
    fn limits(&self) -> Arc<Limits> {
        Arc::clone(&self.limits)
    }

    async fn admit(&self, _: &Caller, _: usize) -> Result<Admission> {
        Ok(Admission::default())
    }

    fn open_stream(&self) -> OrderToken {
        OrderToken(1)
    }

    async fn append(&self, _: &Caller, append: Append) -> Result<Appended> {
        let count = append.batch.records.len() as u32;
        let range = AckRange { partition: PartitionIndex(0), first_offset: Offset(0), count, duplicate: false };
        self.appends.lock().unwrap().push(append.batch);
        Ok(Appended { ranges: vec![range], end: Some(Offset(u64::from(count))) })
    }

    async fn commit(&self, _: &Caller, _: Commit) -> Result<Vec<Appended>> {
        refused()
    }

    async fn read(&self, _: &Caller, _: Read) -> Result<Fetched> {
        refused()
    }

    async fn offsets(&self, _: &Caller, _: &TopicName, _: Option<PartitionIndex>, _: Start) -> Result<Vec<Position>> {
        refused()
    }

    async fn trim(&self, _: &Caller, _: &TopicName, _: Option<PartitionIndex>, _: Offset) -> Result<Vec<Position>> {
        refused()
    }

    async fn put_topic(&self, _: &Caller, _: &TopicName, _: TopicConfig, _: Precondition, _: Option<Idempotency>) -> Result<(Topic, bool)> {
        refused()
    }

    async fn describe_topic(&self, _: &Caller, _: &TopicName) -> Result<TopicDescription> {
        refused()
    }

    async fn list_topics(&self, _: &Caller, _: PageRequest) -> Result<Page<Topic>> {
        refused()
    }

    async fn delete_topic(&self, _: &Caller, _: &TopicName, _: Precondition) -> Result<()> {
        refused()
    }

    async fn objects(&self, _: &Caller, _: &TopicName, _: PartitionIndex, _: Offset, _: usize) -> Result<Vec<ObjectRange>> {
        refused()
    }

    async fn put_cursor(&self, _: &Caller, _: CursorMove) -> Result<Cursor> {
        refused()
    }

    async fn get_cursor(&self, _: &Caller, _: &CursorName) -> Result<Vec<Cursor>> {
        refused()
    }

    async fn list_cursors(&self, _: &Caller, _: PageRequest) -> Result<Page<Cursor>> {
        refused()
    }

    async fn delete_cursor(&self, _: &Caller, _: &CursorName, _: Option<&TopicName>) -> Result<()> {
        refused()
    }

    async fn put_namespace(&self, _: &Caller, _: &NamespaceName, _: String, _: Precondition) -> Result<(Namespace, bool)> {
        refused()
    }

    async fn get_namespace(&self, _: &Caller, _: &NamespaceName) -> Result<Namespace> {
        refused()
    }

    async fn list_namespaces(&self, _: &Caller, _: PageRequest) -> Result<Page<Namespace>> {
        refused()
    }

    async fn delete_namespace(&self, _: &Caller, _: &NamespaceName, _: Precondition) -> Result<()> {
        refused()
    }

    async fn put_queue(&self, _: &Caller, _: &QueueName, _: QueueConfig, _: Precondition, _: Option<Idempotency>) -> Result<(Queue, bool)> {
        refused()
    }

    async fn describe_queue(&self, _: &Caller, _: &QueueName) -> Result<Queue> {
        refused()
    }

    async fn list_queues(&self, _: &Caller, _: PageRequest) -> Result<Page<Queue>> {
        refused()
    }

    async fn delete_queue(&self, _: &Caller, _: &QueueName, _: Precondition) -> Result<()> {
        refused()
    }

    async fn put_binding(&self, _: &Caller, _: &QueueName, _: &BindingName, _: Binding) -> Result<(Queue, bool)> {
        refused()
    }

    async fn delete_binding(&self, _: &Caller, _: &QueueName, _: &BindingName) -> Result<Queue> {
        refused()
    }

    async fn seek_queue(&self, _: &Caller, _: &QueueName, _: SeekTo) -> Result<Queue> {
        refused()
    }

    async fn queue_stats(&self, _: &Caller, _: &QueueName) -> Result<QueueStats> {
        refused()
    }

    async fn queue_topic(&self, _: &Caller, _: &QueueName) -> Result<TopicName> {
        refused()
    }

    async fn receive(&self, _: &Caller, _: &QueueName, _: Receive) -> Result<Delivery> {
        refused()
    }

    async fn consume(&self, _: &Caller, _: &QueueName, _: u32, _: Option<Duration>) -> Result<Box<dyn Consumer>> {
        refused()
    }

    async fn settle(&self, _: &Caller, _: &QueueName, _: Vec<Settlement>) -> Result<Vec<Settled>> {
        refused()
    }

    async fn peek(&self, _: &Caller, _: &QueueName, _: u32) -> Result<Delivery> {
        refused()
    }

    async fn cancel_message(&self, _: &Caller, _: &QueueName, _: &TopicName, _: PartitionIndex, _: Offset) -> Result<()> {
        refused()
    }

    async fn redrive(&self, _: &Caller, _: &QueueName, _: Redrive) -> Result<Operation> {
        refused()
    }

    async fn replay(&self, _: &Caller, _: Replay) -> Result<Operation> {
        refused()
    }

    async fn operation(&self, _: &Caller, _: &str) -> Result<Operation> {
        refused()
    }

    async fn cancel_operation(&self, _: &Caller, _: &str) -> Result<Operation> {
        refused()
    }

    async fn request(&self, _: &Caller, _: Request) -> Result<(TopicName, StoredRecord)> {
        refused()
    }

    async fn sql(&self, _: &Caller, _: Statement) -> Result<Box<dyn Rows>> {
        refused()
    }
}

#[async_trait]
impl UsageVerbs for Recorder {
    async fn usage(&self, _: &Caller, _: UsageOf, _: UsageRange) -> Result<Usage> {
        refused()
    }
}

#[async_trait]
impl SchemaVerbs for Recorder {
    async fn register_schema(&self, _: &Caller, _: &SubjectName, _: SchemaText) -> Result<(SchemaVersion, bool)> {
        refused()
    }

    async fn get_schema(&self, _: &Caller, _: &SubjectName, _: Option<u32>) -> Result<SchemaVersion> {
        refused()
    }

    async fn describe_subject(&self, _: &Caller, _: &SubjectName) -> Result<Subject> {
        refused()
    }

    async fn list_subjects(&self, _: &Caller, _: PageRequest) -> Result<Page<Subject>> {
        refused()
    }

    async fn check_schema(&self, _: &Caller, _: &SubjectName, _: Option<u32>, _: SchemaText) -> Result<Vec<Wrong>> {
        refused()
    }

    async fn put_compatibility(&self, _: &Caller, _: &SubjectName, _: Compatibility, _: Precondition) -> Result<(Subject, bool)> {
        refused()
    }

    async fn delete_schema(&self, _: &Caller, _: &SubjectName, _: Option<u32>, _: Precondition) -> Result<()> {
        refused()
    }
}
