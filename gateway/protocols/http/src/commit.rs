//! `POST /v1/commit`: appends to many topics, cursor moves, and leases of many queues settled, all or nothing.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::{BufMut, Bytes, BytesMut};
use lakefall_queue::queue::{QueueSettlements, SETTLE_MAX, Settlement, Verdict};
use lakefall_queue::verbs::{Commit, CursorMove, TopicAppend};
use lakefall_queue::{CursorName, PartitionIndex, QueueName, TopicName};
use serde::Deserialize;

use crate::body::Incoming;
use crate::cursors::{OffsetsIn, offsets};
use crate::extract::{From, Query, media_type};
use crate::problem::{self, Problem, Result};
use crate::produce::acks::Acks;
use crate::produce::json::{ProducerIn, RecordList, check_offset, utf8};
use crate::produce::options::{AckStyle, idempotency, idempotency_key, shape};
use crate::produce::record::Shape;
use crate::queues::settle::{Items, NackIn, Receipts};
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
    acks: Vec<AcksIn>,
    #[serde(default)]
    nacks: Vec<NacksIn>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AcksIn {
    queue: QueueName,
    receipts: Receipts,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NacksIn {
    queue: QueueName,
    items: Items<NackIn>,
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

/// What a commit settles: queue by queue, with how many acks and nacks that are in all.
#[derive(Default)]
struct Settling {
    queues: Vec<QueueSettlements>,
    acks: usize,
    nacks: usize,
}

impl Settling {
    fn read(acks: Vec<AcksIn>, nacks: Vec<NacksIn>) -> Result<Self> {
        let mut settling = Self::default();
        let mut acked: Vec<QueueName> = Vec::with_capacity(acks.len());
        for (at, AcksIn { queue, receipts }) in acks.into_iter().enumerate() {
            once(&mut acked, &queue, &format!("/acks/{at}"))?;
            settling.acks += receipts.0.len();
            let verdicts = receipts.0.into_iter().map(|receipt| Settlement { receipt, verdict: Verdict::Ack });
            settling.add(queue, verdicts.collect(), &format!("/acks/{at}/receipts"))?;
        }
        let mut nacked: Vec<QueueName> = Vec::with_capacity(nacks.len());
        for (at, NacksIn { queue, items }) in nacks.into_iter().enumerate() {
            once(&mut nacked, &queue, &format!("/nacks/{at}"))?;
            settling.nacks += items.0.len();
            let checked = items.checked(NackIn::check).into_iter().map(|(receipt, verdict)| {
                let verdict = verdict.map_err(|p| p.inside(&format!("/nacks/{at}")))?;
                Ok(Settlement { receipt, verdict })
            });
            settling.add(queue, checked.collect::<Result<_>>()?, &format!("/nacks/{at}/items"))?;
        }
        Ok(settling)
    }

    /// A queue's acks and nacks stand together.
    fn add(&mut self, queue: QueueName, settlements: Vec<Settlement>, pointer: &str) -> Result<()> {
        if settlements.is_empty() {
            return Err(Problem::invalid(pointer, "there must be at least one receipt"));
        }
        if self.acks + self.nacks > SETTLE_MAX {
            return Err(Problem::invalid(pointer, format!("at most {SETTLE_MAX} receipts are settled at once")));
        }
        match self.queues.iter_mut().find(|known| known.queue == queue) {
            Some(known) => known.settlements.extend(settlements),
            None => self.queues.push(QueueSettlements { queue, settlements }),
        }
        Ok(())
    }
}

fn once(seen: &mut Vec<QueueName>, queue: &QueueName, pointer: &str) -> Result<()> {
    if seen.contains(queue) {
        return Err(Problem::invalid(format!("{pointer}/queue"), format!("queue {queue} occurs twice: join its receipts")));
    }
    seen.push(queue.clone());
    Ok(())
}

fn check_commit(given: CommitIn<'_>, body: &Bytes, shape: &Shape) -> Result<(Vec<TopicAppend>, Vec<CursorMove>, Settling)> {
    let settling = Settling::read(given.acks, given.nacks)?;
    if given.appends.is_empty() && given.cursors.is_empty() && settling.queues.is_empty() {
        return Err(Problem::invalid("appends", "a commit has at least one append, cursor, ack or nack"));
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
    Ok((appends, moves.collect::<Result<_>>()?, settling))
}

/// Appends, cursor moves, acks and nacks, all or nothing.
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
    let (appends, cursors, settling) = check_commit(given, &body, &shape(&api, &parts.headers))?;
    let topics: Vec<TopicName> = appends.iter().map(|append| append.topic.clone()).collect();
    let moved = cursors.len();
    let idempotency = idempotency(key, &parts, &body);
    let answers = api.verbs.commit(&caller, Commit { appends, cursors, settlements: settling.queues, idempotency, admission }).await?;
    let mut out = BytesMut::with_capacity(256);
    out.put_slice(b"{\"appends\":[");
    for (at, (topic, appended)) in topics.iter().zip(answers).enumerate() {
        out.put_slice(format!("{}{{\"topic\":\"{topic}\",", if at > 0 { "," } else { "" }).as_bytes());
        Acks::of(appended).put_members(&mut out, style);
    }
    out.put_slice(b"],\"cursors\":");
    push_u64(&mut out, moved as u64);
    out.put_slice(b",\"acks\":");
    push_u64(&mut out, settling.acks as u64);
    out.put_slice(b",\"nacks\":");
    push_u64(&mut out, settling.nacks as u64);
    out.put_u8(b'}');
    let mut response = Response::new(Body::from(out.freeze()));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}
