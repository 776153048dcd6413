//! What a read asks for: the start, the bounds, the wait.

use std::time::Duration;

use axum::extract::Request;
use axum::http::HeaderName;
use lakefall_queue::verbs::{Read, Start};
use lakefall_queue::{Offset, PartitionIndex, Timestamp, TopicName};

use super::cursor::{open_cursor, seal_cursor};
use super::{Form, Place, Session};
use crate::extract::{Query, preferred_wait, single_header};
use crate::problem::{Problem, Result};
use crate::router::App;

const PARAMETERS: &[&str] =
    &["offset", "timestamp", "from", "last", "cursor", "limit", "max_bytes", "until_offset", "until_timestamp", "wait", "encoding"];

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Records of a page where the caller names no number.
const PAGE_DEFAULT: usize = 1_000;

/// What is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// One partition.
    Partition(PartitionIndex),
    /// All of them.
    Topic,
}

/// How values are written in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// As JSON where they are JSON.
    Json,
    /// As strings.
    Utf8,
    /// As base64.
    Base64,
}

impl Encoding {
    /// `?encoding=`, if it is given.
    pub(crate) fn read(query: &Query<'_>) -> Result<Option<Self>> {
        match query.get("encoding") {
            None => Ok(None),
            Some("json") => Ok(Some(Self::Json)),
            Some("utf8") => Ok(Some(Self::Utf8)),
            Some("base64") => Ok(Some(Self::Base64)),
            Some(_) => Err(Problem::invalid("encoding", "encoding must be json, utf8 or base64")),
        }
    }
}

enum From {
    Start(Start),
    Places(Vec<Place>),
}

/// One read request.
pub(super) struct Plan {
    pub(super) topic: TopicName,
    pub(super) scope: Scope,
    from: From,
    /// At most this many records in all.
    pub(super) limit: Option<usize>,
    pub(super) max_bytes: usize,
    pub(super) until_offset: Option<Offset>,
    pub(super) until_timestamp: Option<Timestamp>,
    pub(super) wait: Duration,
    pub(super) encoding: Option<Encoding>,
    page_max: usize,
}

impl Plan {
    /// Reads query and headers.
    pub(super) fn read(api: &App, topic: TopicName, scope: Scope, form: Form, request: &Request) -> Result<Self> {
        let limits = api.limits();
        let query = Query::parse(request.uri(), PARAMETERS)?;
        let page_max = limits.read_records;
        let streams = matches!(form, Form::Lines | Form::Arrow | Form::Events);
        let most = if streams { Offset::MAX.0 as usize } else { page_max };
        let longest = Duration::from_secs(limits.wait_seconds);
        let resumed = single_header(request.headers(), &LAST_EVENT_ID)?.filter(|_| form == Form::Events);
        Ok(Self {
            from: start(&query, resumed, form, scope, &topic)?,
            topic,
            scope,
            limit: query.number("limit", 1, most)?,
            max_bytes: query.number("max_bytes", 1, limits.read_bytes)?.unwrap_or(limits.read_bytes),
            until_offset: query.offset("until_offset")?,
            until_timestamp: query.timestamp("until_timestamp")?,
            wait: query.duration("wait", longest)?.or_else(|| preferred_wait(request.headers(), longest)).unwrap_or_default(),
            encoding: Encoding::read(&query)?,
            page_max,
        })
    }

    /// Records of a page.
    pub(super) fn limit_or_page(&self) -> usize {
        self.limit.unwrap_or(PAGE_DEFAULT.min(self.page_max))
    }

    /// Where reading begins. For all partitions this asks which there are: a cursor may be older than a partition.
    pub(super) async fn positions(&self, session: &Session) -> Result<Vec<(PartitionIndex, Start)>> {
        let one = match self.scope {
            Scope::Partition(partition) => Some(partition),
            Scope::Topic => None,
        };
        match (&self.from, one) {
            (From::Start(start), Some(partition)) => Ok(vec![(partition, *start)]),
            (From::Places(places), Some(_)) => Ok(starts(places)),
            (From::Start(Start::Offset(offset)), None) => {
                let all = session.api.verbs.offsets(&session.caller, &self.topic, None, Start::Earliest).await?;
                Ok(all.into_iter().map(|p| (p.partition, Start::Offset(*offset))).collect())
            }
            (From::Start(start), None) => {
                let all = session.api.verbs.offsets(&session.caller, &self.topic, None, *start).await?;
                Ok(all.into_iter().map(|p| (p.partition, Start::Offset(p.next))).collect())
            }
            (From::Places(places), None) => {
                let mut places = places.clone();
                self.add_new_partitions(session, &mut places).await?;
                Ok(starts(&places))
            }
        }
    }

    /// Adds partitions that came since: they are read from their beginning.
    pub(super) async fn add_new_partitions(&self, session: &Session, places: &mut Vec<Place>) -> Result<()> {
        if self.scope == Scope::Topic {
            let all = session.api.verbs.offsets(&session.caller, &self.topic, None, Start::Earliest).await?;
            for position in all {
                if !places.iter().any(|(partition, _)| *partition == position.partition) {
                    places.push((position.partition, position.next));
                }
            }
        }
        Ok(())
    }

    /// The next read of this plan.
    pub(super) fn next_read(&self, from: &[(PartitionIndex, Start)], max_records: usize, max_bytes: usize, wait: Duration) -> Read {
        Read {
            topic: self.topic.clone(),
            from: from.to_vec(),
            max_records: max_records.min(self.page_max).max(1),
            max_bytes,
            until_offset: self.until_offset,
            until_timestamp: self.until_timestamp,
            wait,
        }
    }

    /// The cursor that goes on at `places`.
    pub(super) fn cursor(&self, places: &[Place]) -> String {
        seal_cursor(&self.topic, places)
    }
}

/// Places as starts.
pub(super) fn starts(places: &[Place]) -> Vec<(PartitionIndex, Start)> {
    places.iter().map(|(partition, offset)| (*partition, Start::Offset(*offset))).collect()
}

fn start(query: &Query<'_>, resumed: Option<&str>, form: Form, scope: Scope, topic: &TopicName) -> Result<From> {
    let places = |token: &str, field: &str| {
        let places = open_cursor(topic, token).filter(|places| match scope {
            Scope::Partition(partition) => places.len() == 1 && places[0].0 == partition,
            Scope::Topic => true,
        });
        places.map(From::Places).ok_or_else(|| Problem::invalid(field, format!("this {field} was not given by this server for this path")))
    };
    // A browser that reconnects repeats the original query: where it stopped counts more.
    if let Some(id) = resumed {
        return places(id, "last-event-id");
    }
    let from = match query.get("from") {
        None => None,
        Some("earliest") => Some(Start::Earliest),
        Some("latest") => Some(Start::Latest),
        Some(_) => return Err(Problem::invalid("from", "from must be earliest or latest")),
    };
    let starts = [
        query.offset("offset")?.map(Start::Offset),
        query.timestamp("timestamp")?.map(Start::Timestamp),
        from,
        query.number("last", 0, Offset::MAX.0)?.map(Start::Last),
    ];
    let mut given = starts.into_iter().flatten();
    match (given.next(), given.next(), query.get("cursor")) {
        (Some(start), None, None) => Ok(From::Start(start)),
        (None, None, Some(token)) => places(token, "cursor"),
        (None, None, None) if form == Form::Events => Ok(From::Start(Start::Latest)),
        _ => Err(Problem::invalid("offset", "name exactly one of offset, timestamp, from, last or cursor")),
    }
}
