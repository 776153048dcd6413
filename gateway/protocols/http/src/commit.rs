//! `POST /v1/commit`: appends to many topics and cursor moves, all or nothing.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::{BufMut, Bytes, BytesMut};
use lakefall_queue::verbs::{Commit, CursorMove, TopicAppend};
use lakefall_queue::{CursorName, PartitionIndex, TopicName};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::body::Incoming;
use crate::cursors::{OffsetsIn, offsets};
use crate::extract::{From, Query, media_type};
use crate::problem::{self, Problem, Result};
use crate::produce::acks::Acks;
use crate::produce::json::{ProducerIn, RecordList, check_offset, utf8};
use crate::produce::options::{AckStyle, idempotency, idempotency_key, shape};
use crate::produce::record::Shape;
use crate::router::App;
use crate::text::push_u64;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CommitIn<'a> {
    #[serde(borrow, default)]
    appends: Vec<AppendIn<'a>>,
    #[serde(default)]
    cursors: Vec<MoveIn>,
    #[serde(default)]
    acks: Option<IgnoredAny>,
    #[serde(default)]
    nacks: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AppendIn<'a> {
    topic: TopicName,
    #[serde(borrow)]
    records: RecordList<'a>,
    #[serde(default)]
    partition: Option<u32>,
    #[serde(default)]
    expect_offset: Option<u64>,
    #[serde(default)]
    fencing_token: Option<u64>,
    #[serde(default)]
    producer: Option<ProducerIn>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MoveIn {
    cursor: CursorName,
    topic: TopicName,
    offsets: OffsetsIn,
    #[serde(default)]
    if_version: Option<u64>,
}

impl AppendIn<'_> {
    fn check(self, body: &Bytes, shape: &Shape) -> Result<TopicAppend> {
        Ok(TopicAppend {
            topic: self.topic,
            records: self.records.into_records(body, shape)?,
            partition: self.partition.map(PartitionIndex),
            expect_offset: self.expect_offset.map(check_offset).transpose()?,
            fencing_token: self.fencing_token,
            producer: self.producer.map(ProducerIn::check).transpose()?,
        })
    }
}

fn check_commit(given: CommitIn<'_>, body: &Bytes, shape: &Shape) -> Result<(Vec<TopicAppend>, Vec<CursorMove>)> {
    for (name, there) in [("acks", given.acks.is_some()), ("nacks", given.nacks.is_some())] {
        if there {
            let reason = format!("{name} is not available: there are no queues yet");
            return Err(Problem::new(problem::NOT_SUPPORTED, reason.clone()).at(format!("/{name}"), reason));
        }
    }
    if given.appends.is_empty() && given.cursors.is_empty() {
        return Err(Problem::invalid("appends", "a commit has at least one append or cursor"));
    }
    let mut appends: Vec<TopicAppend> = Vec::with_capacity(given.appends.len());
    for (at, append) in given.appends.into_iter().enumerate() {
        let append = append.check(body, shape).map_err(|p| p.inside(&format!("/appends/{at}")))?;
        if appends.iter().any(|earlier| earlier.topic == append.topic) {
            return Err(Problem::invalid(format!("/appends/{at}/topic"), format!("topic {} occurs twice: join its records", append.topic)));
        }
        appends.push(append);
    }
    let moves = given.cursors.into_iter().enumerate().map(|(at, given)| {
        let offsets = offsets(given.offsets).map_err(|p| p.inside(&format!("/cursors/{at}")))?;
        Ok(CursorMove { cursor: given.cursor, topic: given.topic, offsets, if_version: given.if_version })
    });
    Ok((appends, moves.collect::<Result<_>>()?))
}

/// Appends and cursor moves, all or nothing.
#[utoipa::path(
    post, path = "/v1/commit", tag = "commit", operation_id = "commit",
    params(
        crate::schema::CommitQuery,
        ("Idempotency-Key" = Option<String>, Header, description = "Replays the first answer for 24 hours", min_length = 1, max_length = 255),
    ),
    request_body = crate::schema::CommitBody,
    responses((status = 200, description = "Committed; the answers stand in the order of the appends", body = crate::schema::CommitAnswer), crate::schema::Refusals)
)]
pub(crate) async fn commit(State(api): State<App>, From(caller): From, request: Request) -> Result<Response> {
    let (parts, body) = request.into_parts();
    let style = match Query::parse(&parts.uri, &["acks"])?.get("acks") {
        None | Some("records") => AckStyle::Records,
        Some("ranges") => AckStyle::Ranges,
        Some("none") => AckStyle::None,
        Some(_) => return Err(Problem::invalid("acks", "acks must be records, ranges or none")),
    };
    if media_type(&parts.headers)?.as_deref().is_some_and(|media| media != "application/json") {
        return Err(Problem::new(problem::UNSUPPORTED_MEDIA_TYPE, "the Content-Type must be application/json"));
    }
    let key = idempotency_key(&parts.headers)?;
    let incoming = Incoming::new(&parts.headers, body, api.settings.max_decompressed_ratio)?;
    let (body, admission) = incoming.collect(&*api.verbs, &caller, api.limits().batch_bytes).await?;
    let given: CommitIn<'_> = serde_json::from_str(utf8(&body)?).map_err(|e| problem::from_json(&e))?;
    let (appends, cursors) = check_commit(given, &body, &shape(&api, &parts.headers))?;
    let topics: Vec<TopicName> = appends.iter().map(|append| append.topic.clone()).collect();
    let moved = cursors.len();
    let idempotency = idempotency(key, &parts, &body);
    let answers = api.verbs.commit(&caller, Commit { appends, cursors, idempotency, admission }).await?;
    let mut out = BytesMut::with_capacity(256);
    out.put_slice(b"{\"appends\":[");
    for (at, (topic, appended)) in topics.iter().zip(answers).enumerate() {
        out.put_slice(format!("{}{{\"topic\":\"{topic}\",", if at > 0 { "," } else { "" }).as_bytes());
        Acks::of(appended).put_members(&mut out, style);
    }
    out.put_slice(b"],\"cursors\":");
    push_u64(&mut out, moved as u64);
    out.put_u8(b'}');
    let mut response = Response::new(Body::from(out.freeze()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}
