//! The listener of the public API: its own accept loop with a cap on connections and a timeout on everything that a client
//! could draw out, for HTTP/1.1 and HTTP/2 (prior knowledge) on one port.
//!
//! `axum::serve` sets none of these. The protocol is told from the first bytes with a timer of our own, since hyper's
//! detection waits without one.

mod body;
mod io;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::HeaderValue;
use axum::http::header::CONNECTION;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use lakefall_service::Tasks;
use lakefall_service::net::{Accepted, Listener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower::Service as _;

use body::{TimedBody, Unread};
use io::{Phase, TimedIo};

/// What a client may draw out, and how many there may be.
#[derive(Clone, Debug)]
pub struct ListenConfig {
    /// From the first byte of a request to the end of its head.
    pub header_timeout: Duration,
    /// Between two pieces of a request's body; and after this long a body must have come at 1 KiB/s at least. Streams of
    /// records may be silent.
    pub body_timeout: Duration,
    /// Between two pieces of an answer that the client takes.
    pub write_timeout: Duration,
    /// Between two requests.
    pub idle_timeout: Duration,
    /// Connections at once; one more gets a 503 and is closed.
    pub max_connections: usize,
    /// How long a stop leaves connections open on which nothing is under way. A request that is on its way when its connection is
    /// closed gets no answer, and its client cannot know what became of it: so it is answered meanwhile, and told to go elsewhere.
    pub idle_drain: Duration,
    /// From this age on, or up to a tenth sooner, a connection is closed in order with its next answer, so that clients come to
    /// gateways that were added.
    pub max_age: Duration,
}

/// First bytes of an HTTP/2 connection (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Longest head: request line and header fields.
const HEAD_BYTES: usize = 16 << 10;
const HEADERS: usize = 100;
/// Requests at once on one HTTP/2 connection.
const STREAMS: u32 = 256;
/// Streams that a client may reset while we work on them, before the connection is closed (CVE-2023-44487).
const RESETS: usize = 64;
/// After a failed accept.
const PAUSE: Duration = Duration::from_millis(50);
/// Between two looks whether a stop still has a connection to wait for.
const LOOK: Duration = Duration::from_millis(20);

const TOO_MANY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 213\r\n\r\n{\"type\":\"https://lakefall.dev/problems/too_many_connections\",\"title\":\"Too many connections\",\"status\":503,\"code\":\"too_many_connections\",\"outcome\":\"not_applied\",\"detail\":\"this gateway has no free connection: retry\"}";

/// Serves until `stop`: then every answer closes its connection, and after [`ListenConfig::idle_drain`], or when none is open any
/// more, no connection is accepted, those that are open finish their request, and the future returns when the last is closed.
/// Dropped before that, it cuts those that are still open.
pub async fn serve(
    listener: impl Listener,
    router: Router,
    config: ListenConfig,
    tasks: Tasks,
    stop: CancellationToken,
) -> Result<(), Infallible> {
    let room = Arc::new(Semaphore::new(config.max_connections));
    let config = Arc::new(config);
    let ends = Ends { stop: stop.clone(), idle: CancellationToken::new() };
    let cut = CancellationToken::new();
    let _cut_when_dropped = cut.clone().drop_guard();
    let drained = drained(&stop, &config, &room);
    tokio::pin!(drained);
    for number in 0_u64.. {
        let accepted = tokio::select! {
            // Whoever waits in the kernel's queue would be reset with the listener.
            biased;
            accepted = listener.accept() => accepted,
            () = &mut drained => break,
        };
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) => {
                // Out of file descriptors, most likely: wait for some to be closed. A stop does not wait for that: as long as each
                // accept fails at once, it is never looked at above.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::select! {
                    () = tokio::time::sleep(PAUSE) => {}
                    () = &mut drained => break,
                }
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
            metrics::counter!(crate::metrics::CONNECTIONS_REFUSED).increment(1);
            // Fits into the socket's empty buffer; a client that does not read it is closed all the same.
            let _ = stream.try_write(TOO_MANY);
            continue;
        };
        // Boxed, or each combinator around it would hold the large future once more.
        let bounds = Bounds { config: Arc::clone(&config), age: aged(config.max_age, number) };
        let served = Box::pin(connection(stream, router.clone(), bounds, ends.of_a_connection(), permit));
        let cut = cut.clone();
        tasks.spawn("connection", async move {
            cut.run_until_cancelled_owned(served).await;
        });
    }
    drop(listener);
    ends.idle.cancel();
    let all = u32::try_from(config.max_connections).unwrap_or(u32::MAX);
    // Given back by each connection as it ends; the semaphore is never closed.
    let _ = room.acquire_many(all).await;
    Ok(())
}

/// How connections end in order.
struct Ends {
    /// The process stops: no request is expected any more, and those that come are the last of their connections.
    stop: CancellationToken,
    /// Those on which nothing is under way are closed.
    idle: CancellationToken,
}

impl Ends {
    /// Tokens of its own, as each request looks at them: those that all share are locked by all.
    fn of_a_connection(&self) -> Self {
        Self { stop: self.stop.child_token(), idle: self.idle.child_token() }
    }
}

/// What holds for one connection.
struct Bounds {
    config: Arc<ListenConfig>,
    age: Duration,
}

/// Returns when a stop has left idle connections their time, or no connection is open any more.
async fn drained(stop: &CancellationToken, config: &ListenConfig, room: &Semaphore) {
    stop.cancelled().await;
    let until = Instant::now() + config.idle_drain;
    while room.available_permits() < config.max_connections && Instant::now() < until {
        tokio::time::sleep(LOOK.min(config.idle_drain)).await;
    }
}

/// How old a connection may become: those that were opened together are not closed together.
fn aged(most: Duration, number: u64) -> Duration {
    // Multiples of the golden ratio are spread evenly.
    let spread = (number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u32;
    most - most / 10 * spread / 256
}

async fn connection(mut stream: impl Accepted, router: Router, bounds: Bounds, ends: Ends, permit: OwnedSemaphorePermit) {
    metrics::gauge!(crate::metrics::CONNECTIONS).increment(1.0);
    let config = &bounds.config;
    let http2 = tokio::select! {
        told = tokio::time::timeout(config.idle_timeout, is_http2(&mut stream, config.header_timeout)) => told.ok().flatten(),
        () = ends.idle.cancelled() => None,
    };
    match http2 {
        Some(true) => serve_http2(stream, router, &bounds, &ends.stop).await,
        Some(false) => serve_http1(stream, router, &bounds, ends).await,
        None => {}
    }
    metrics::gauge!(crate::metrics::CONNECTIONS).decrement(1.0);
    drop(permit);
}

/// Tells the protocol from the first bytes; `None` if the client closes or takes too long over them.
async fn is_http2(stream: &mut impl Accepted, header_timeout: Duration) -> Option<bool> {
    let mut first = [0_u8; 24];
    // The first byte may take as long as an idle connection may.
    let mut seen = stream.peek(&mut first).await.ok().filter(|n| *n > 0)?;
    let deadline = Instant::now() + header_timeout;
    while seen < PREFACE.len() && PREFACE.starts_with(&first[..seen]) {
        // More bytes do not make the socket readable anew: look again shortly.
        tokio::time::sleep(Duration::from_millis(5)).await;
        let now = stream.peek(&mut first).await.ok()?;
        if Instant::now() > deadline || now == 0 {
            return None;
        }
        seen = now;
    }
    Some(first[..seen] == PREFACE[..seen.min(PREFACE.len())])
}

async fn serve_http1(stream: impl Accepted, router: Router, bounds: &Bounds, ends: Ends) {
    let phase = Phase::default();
    let io = TimedIo::new(stream, &bounds.config, Some(phase.clone()));
    let (body_timeout, until) = (bounds.config.body_timeout, Instant::now() + bounds.age);
    let stop = Arc::new(ends.stop);
    let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
        phase.busy();
        let phase = phase.clone();
        let stop = Arc::clone(&stop);
        let mut router = router.clone();
        async move {
            let unread = Unread::default();
            let request = timed(request, body_timeout, unread.clone());
            let mut response = router.call(request).await?;
            if unread.get() {
                phase.linger();
            }
            if unread.get() || stop.is_cancelled() || Instant::now() >= until {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response.map(|body| phase.until_sent(body)))
        }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(None).max_headers(HEADERS).max_buf_size(HEAD_BYTES.max(64 << 10));
    let serving = builder.serve_connection(io, service);
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = ends.idle.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    log_end(ended);
}

async fn serve_http2(stream: impl Accepted, router: Router, bounds: &Bounds, stop: &CancellationToken) {
    let config = &*bounds.config;
    let io = TimedIo::new(stream, config, None);
    let body_timeout = config.body_timeout;
    let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
        let mut router = router.clone();
        async move { router.call(timed(request, body_timeout, Unread::default())).await }
    });
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEAD_BYTES as u32)
        .max_pending_accept_reset_streams(RESETS)
        .max_local_error_reset_streams(RESETS)
        .adaptive_window(true)
        .keep_alive_interval(config.idle_timeout)
        .keep_alive_timeout(config.header_timeout);
    let serving = builder.serve_connection(io, service);
    tokio::pin!(serving);
    let old = async {
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(bounds.age) => {}
        }
    };
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = old => {
            // GOAWAY tells which requests are still answered: the client sends others on another connection (RFC 9113, section 6.8).
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    log_end(ended);
}

fn timed(request: Request<hyper::body::Incoming>, timeout: Duration, unread: Unread) -> Request {
    let (parts, body) = request.into_parts();
    let body = TimedBody::new(body, parts.uri.path(), timeout, unread);
    Request::from_parts(parts, Body::new(body))
}

/// Clients come and go: how is only of interest to who looks for it.
fn log_end(ended: Result<(), hyper::Error>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_that_were_opened_together_grow_old_one_after_the_other() {
        let most = Duration::from_secs(100);
        let ages: Vec<Duration> = (0..100).map(|number| aged(most, number)).collect();
        assert!(ages.iter().all(|age| (most * 9 / 10..=most).contains(age)));
        let late = ages.iter().filter(|age| **age > most * 95 / 100).count();
        assert!((30..=70).contains(&late), "{late} of 100 are in the second half");
    }

    #[test]
    fn the_answer_to_one_connection_too_many_is_as_long_as_it_says() {
        let text = std::str::from_utf8(TOO_MANY).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let length: usize = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap().parse().unwrap();
        assert_eq!(length, body.len());
    }
}
