//! `POST /v1/topics/{topic}/records/stream`: lines in, acknowledgements out, as long as both sides wish.
//!
//! Must never acknowledge out of order, nor accept anything after a refusal.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use lakefall_queue::verbs::Start;

use super::acks::ack_lines;
use super::gather::Gather;
use super::ndjson::{Count, parse_lines};
use super::options::{AckStyle, Job, Options, idempotency_key, shape};
use super::pipeline::Pipeline;
use crate::body::Incoming;
use crate::edge::Immediate;
use crate::extract::{From, PathNames, media_type};
use crate::metrics;
use crate::problem::{self, Problem, Result};
use crate::router::App;

/// Opens a stream of records.
#[utoipa::path(
    post, path = "/v1/topics/{topic}/records/stream", tag = "records", operation_id = "produce_stream",
    description = "Long-lived: NDJSON records in, one acknowledgement line per record out, in the same order, many in flight. Lines that arrive together are one batch. After a refusal, which is the last line and a problem, nothing more is stored.",
    params(crate::schema::TopicPath, crate::schema::ProduceQuery),
    request_body(content((String = "application/x-ndjson"))),
    responses(
        (status = 200, description = "Acknowledgements as they come", body = String, content_type = "application/x-ndjson"),
        crate::schema::Refusals,
    )
)]
pub(crate) async fn produce_stream(State(api): State<App>, From(caller): From, names: PathNames, request: Request) -> Result<Response> {
    let (parts, body) = request.into_parts();
    let options = Options::read(names.topic()?, &parts)?;
    if idempotency_key(&parts.headers)?.is_some() {
        return Err(Problem::new(
            problem::NOT_SUPPORTED,
            "a stream takes no Idempotency-Key: use producer_id, producer_epoch and producer_sequence",
        ));
    }
    if media_type(&parts.headers)?.as_deref() != Some("application/x-ndjson") {
        return Err(Problem::new(problem::UNSUPPORTED_MEDIA_TYPE, "a stream's Content-Type is application/x-ndjson"));
    }
    let incoming = Incoming::new(&parts.headers, body, api.settings.max_decompressed_ratio)?;
    // Once the answer has begun there is no status left to say that the topic is not there.
    api.verbs.offsets(&caller, &options.topic, options.partition, Start::Latest).await?;
    let shape = shape(&api, &parts.headers);
    let job = Job { api, caller, options, shape };
    let open = OpenStream {
        pipeline: Pipeline::new(job.clone()),
        gather: Gather::new(incoming),
        count: Count::default(),
        refusal: None,
        reading: true,
        job,
    };
    let lines = futures::stream::unfold(Some(open), |open| async move {
        let mut open = open?;
        let line = open.next().await?;
        Some((Ok::<_, std::io::Error>(line), (!open.finished()).then_some(open)))
    });
    let mut response = Response::new(Body::from_stream(lines));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    response.extensions_mut().insert(Immediate);
    Ok(response)
}

struct OpenStream {
    job: Job,
    pipeline: Pipeline,
    gather: Gather,
    count: Count,
    refusal: Option<Problem>,
    reading: bool,
}

impl OpenStream {
    /// The next lines out; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        let shutdown = self.job.api.settings.shutdown.clone();
        loop {
            tokio::select! {
                biased;
                Some(answer) = self.pipeline.next(), if !self.pipeline.is_empty() => return Some(match answer {
                    Ok(appended) if self.job.options.acks == AckStyle::None => {
                        drop(appended);
                        continue;
                    }
                    Ok(appended) => ack_lines(&appended, self.job.options.acks),
                    Err(problem) => {
                        self.reading = false;
                        self.pipeline = Pipeline::new(self.job.clone());
                        self.refusal = None;
                        self.line(&problem)
                    }
                }),
                () = shutdown.cancelled(), if self.reading => self.reading = false,
                lines = self.gather.available(&self.job), if self.reading && !self.pipeline.is_full() => match lines {
                    Ok(Some((lines, admission))) => {
                        let parsed = parse_lines(&lines, &self.job.options.format, &self.job.shape, &mut self.count);
                        if !parsed.records.is_empty() {
                            ::metrics::counter!(metrics::PRODUCED).increment(parsed.records.len() as u64);
                            self.pipeline.push_split(parsed.records, admission);
                        }
                        self.reading = parsed.bad.is_none();
                        self.refusal = parsed.bad;
                    }
                    Ok(None) => self.reading = false,
                    Err(problem) => {
                        self.reading = false;
                        self.refusal = Some(problem);
                    }
                },
                else => break,
            }
        }
        let problem = self.refusal.take()?;
        Some(self.line(&problem))
    }

    fn line(&self, problem: &Problem) -> Bytes {
        format!("{}\n", problem.to_json(&self.job.caller.request_id)).into()
    }

    fn finished(&self) -> bool {
        !self.reading && self.pipeline.is_empty() && self.refusal.is_none()
    }
}
