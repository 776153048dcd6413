//! Statements of SQL, over one topic with a few records.

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use lakefall_queue::ledger::{Extent, ObjectLevel};
use lakefall_queue::queue::Queue;
use lakefall_queue::sql::{Parameter, Parameters, RowsForm, Statement};
use lakefall_queue::topic::{Topic, TopicConfig, TopicDescription};
use lakefall_queue::verbs::{Cursor, ObjectRange};
use lakefall_queue::{Error, NamespaceName, Offset, PartitionIndex, Result, SegmentId, StoredRecord, Timestamp, TopicName};
use lakefall_sql::{PartitionSnapshot, RecordPortions, Source, Sql, SqlConfig, Stored, TopicSnapshot};

use super::records::{TOPIC, record};

/// A statement that takes longer is ended by itself; one that is not ended by then never is.
const TIMEOUT: Duration = Duration::from_millis(500);
const NEVER: Duration = Duration::from_secs(60);
/// What a statement that is taken may begin with.
const READS: [&str; 9] = ["SELECT", "WITH", "EXPLAIN", "SHOW", "DESCRIBE", "DESC", "VALUES", "FROM", "TABLE"];

/// Answered or refused for a reason that the caller can do something about, in bounded time; only what reads is answered; and
/// whatever is a predicate can stand in a statement.
pub fn sql_statement(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    let answer = ask(text);
    if answer.is_ok() {
        let first = first_word(text);
        assert!(READS.contains(&&*first), "{first:?} was answered: {text}");
    }
    match &answer {
        Err(Error::Internal(reason)) => panic!("{reason}: {text}"),
        Err(Error::DataUnavailable { .. } | Error::Unknown { .. }) => panic!("{answer:?}: {text}"),
        _ => {}
    }
    let _ = lakefall_sql::check_predicate(text);
    answer.is_ok()
}

/// The first word outside of comments and brackets.
fn first_word(text: &str) -> String {
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '(' || c == ';' || c == '\u{feff}');
        if let Some(line) = rest.strip_prefix("--").or_else(|| rest.strip_prefix('#')) {
            rest = line.split_once('\n').map_or("", |(_, after)| after);
        } else if let Some(comment) = rest.strip_prefix("/*") {
            rest = after_comment(comment);
        } else {
            return rest.chars().take_while(char::is_ascii_alphabetic).collect::<String>().to_ascii_uppercase();
        }
    }
}

/// Comments nest.
fn after_comment(mut rest: &str) -> &str {
    let mut depth = 1;
    while depth > 0 {
        match (rest.find("/*"), rest.find("*/")) {
            (Some(open), Some(close)) if open < close => (depth, rest) = (depth + 1, &rest[open + 2..]),
            (_, Some(close)) => (depth, rest) = (depth - 1, &rest[close + 2..]),
            (_, None) => return "",
        }
    }
    rest
}

fn ask(text: &str) -> Result<()> {
    thread_local! {
        static ENGINE: RefCell<Option<(Sql, tokio::runtime::Runtime)>> = const { RefCell::new(None) };
    }
    ENGINE.with_borrow_mut(|engine| {
        let (sql, runtime) = engine.get_or_insert_with(|| {
            let config = SqlConfig { memory_bytes: 32 << 20, timeout: TIMEOUT, max_rows: 1_000, threads: 1, ..SqlConfig::default() };
            (Sql::new(config), tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap())
        });
        runtime.block_on(async {
            let forms = [RowsForm::JsonRows, RowsForm::Lines, RowsForm::Csv, RowsForm::Arrow];
            let parameters = Parameters::Listed(vec![Parameter::Integer(1), Parameter::Text("a".to_owned())]);
            let form = forms[text.len() % forms.len()];
            let statement = Statement { text: text.into(), parameters, form, max_rows: None, timeout: None };
            let answer = async {
                let mut rows = sql.run(Arc::new(Flights), statement).await?;
                while rows.next().await?.is_some() {}
                Ok(())
            };
            tokio::time::timeout(NEVER, answer).await.unwrap_or_else(|_| panic!("not ended after {NEVER:?}: {text}"))
        })
    })
}

/// A topic `flights` of three records.
struct Flights;

fn flights() -> Vec<StoredRecord> {
    let values =
        ["{\"carrier\":\"AA\",\"n\":1,\"f\":1.5}", "{\"carrier\":null,\"n\":-7,\"l\":[1,2],\"s\":{\"a\":true}}", "{\"carrier\":\"ä\"}"];
    let each = values.iter().zip(0..).map(|(value, offset)| StoredRecord {
        partition: PartitionIndex(0),
        offset: Offset(offset),
        ..record(Some(b"key"), value.as_bytes())
    });
    each.collect()
}

fn topic() -> Topic {
    Topic {
        namespace: NamespaceName::default_name(),
        name: TopicName::new("flights").unwrap(),
        id: TOPIC,
        version: 1,
        created_at: Timestamp::from_millis(0),
        config: TopicConfig { partitions: 1, ..TopicConfig::default() },
    }
}

#[async_trait]
impl Source for Flights {
    async fn snapshot(&self, name: &TopicName) -> Result<TopicSnapshot> {
        let topic = topic();
        if topic.name != *name {
            return Err(Error::TopicNotFound(name.clone()));
        }
        let at = Timestamp::from_millis(1_000);
        let extent = Extent {
            base_offset: Offset(0),
            records: 3,
            length: 100,
            object: SegmentId::mint(at, 1),
            object_size: 100,
            position: 0,
            first_timestamp: at,
            max_timestamp: at,
            appended_at: at,
            level: ObjectLevel::Segment,
        };
        let extents = vec![Stored { extent, parquet: false }];
        let partition = PartitionSnapshot { partition: PartitionIndex(0), log_start: Offset(0), end: Offset(3), extents };
        Ok(TopicSnapshot { topic: Arc::new(topic), partitions: vec![partition], infer_json: true })
    }

    async fn read(&self, _: &Topic, _: &Stored, _: Vec<Range<u64>>, _: bool) -> Result<Vec<Bytes>> {
        Err(Error::Internal("there are no files".to_owned()))
    }

    fn records(&self, _: Arc<Topic>, _: PartitionIndex, _: Extent, from: Offset) -> RecordPortions {
        let records = flights().into_iter().filter(|record| record.offset >= from).collect();
        futures::stream::iter([Ok(records)]).boxed()
    }

    async fn topics(&self, _: usize) -> Result<Vec<TopicDescription>> {
        Ok(vec![TopicDescription { topic: topic(), status: Vec::new() }])
    }

    async fn queues(&self, _: usize) -> Result<Vec<Queue>> {
        Ok(Vec::new())
    }

    async fn cursors(&self, _: usize) -> Result<Vec<Cursor>> {
        Ok(Vec::new())
    }

    async fn objects(&self, _: Option<TopicName>, _: usize) -> Result<Vec<(TopicName, ObjectRange)>> {
        Ok(Vec::new())
    }
}
