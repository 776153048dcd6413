//! Real sockets: what a client may draw out, how many there may be, and how serving ends.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::{get, post};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use lakefall_gateway::listen::{ListenConfig, serve};
use lakefall_service::Tasks;
use lakefall_service::net::Listener;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// Longer than anything here takes; a test that reaches it fails.
const FOREVER: Duration = Duration::from_secs(20);
const LONG: Duration = Duration::from_secs(600);
const SHORT: Duration = Duration::from_millis(150);

fn patient() -> ListenConfig {
    ListenConfig {
        header_timeout: LONG,
        body_timeout: LONG,
        write_timeout: LONG,
        idle_timeout: LONG,
        max_connections: 8,
        idle_drain: Duration::ZERO,
        max_age: LONG,
    }
}

struct Listening {
    at: SocketAddr,
    stop: CancellationToken,
    serving: JoinHandle<Result<(), Infallible>>,
}

async fn listen(config: ListenConfig) -> Listening {
    let endless = || async { Body::from_stream(futures::stream::repeat_with(|| Ok::<_, Infallible>(Bytes::from(vec![0_u8; 64 << 10])))) };
    let echo = |body: Body| async move {
        match body.collect().await {
            Ok(body) => (http::StatusCode::OK, body.to_bytes()),
            Err(_) => (http::StatusCode::REQUEST_TIMEOUT, Bytes::from_static(b"too slow")),
        }
    };
    let router = Router::new().route("/", get(|| async { "hello" })).route("/endless", get(endless)).route("/echo", post(echo));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (at, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
    let serving = tokio::spawn(serve(listener, router, config, Tasks::new(), stop.clone()));
    Listening { at, stop, serving }
}

/// A client's socket.
struct Wire(TcpStream);

impl Wire {
    async fn open(listening: &Listening) -> Self {
        Self(TcpStream::connect(listening.at).await.unwrap())
    }

    async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    /// What comes until the text ends so.
    async fn until(&mut self, end: &str) -> String {
        let mut seen = Vec::new();
        while !seen.ends_with(end.as_bytes()) {
            let byte = timeout(FOREVER, self.0.read_u8()).await.expect("no answer");
            seen.push(byte.unwrap_or_else(|error| panic!("{error} after {}", String::from_utf8_lossy(&seen))));
        }
        String::from_utf8(seen).unwrap()
    }

    /// What comes until the server closes the connection.
    async fn rest(&mut self) -> String {
        let mut seen = Vec::new();
        // A reset ends it as well.
        let _ = timeout(FOREVER, self.0.read_to_end(&mut seen)).await.expect("the server does not close");
        String::from_utf8_lossy(&seen).into_owned()
    }

    async fn is_served(&mut self) {
        self.send("GET / HTTP/1.1\r\nhost: t\r\n\r\n").await;
        assert!(self.until("hello").await.starts_with("HTTP/1.1 200"));
    }
}

#[tokio::test]
async fn a_head_that_does_not_end_is_given_up() {
    let listening = listen(ListenConfig { header_timeout: SHORT, ..patient() }).await;
    for begun in ["GET / HTTP/1.1\r\nhost:", "PRI * HT"] {
        let mut wire = Wire::open(&listening).await;
        let started = Instant::now();
        wire.send(begun).await;
        wire.rest().await;
        assert!(started.elapsed() >= SHORT, "{begun}");
    }
    let mut wire = Wire::open(&listening).await;
    wire.is_served().await;
    wire.send("GET / HT").await;
    wire.rest().await;
}

#[tokio::test]
async fn a_connection_that_lies_idle_is_closed_before_and_after_a_request() {
    let listening = listen(ListenConfig { idle_timeout: SHORT, ..patient() }).await;
    let mut fresh = Wire::open(&listening).await;
    assert_eq!(fresh.rest().await, "");
    let mut used = Wire::open(&listening).await;
    used.is_served().await;
    used.is_served().await;
    assert_eq!(used.rest().await, "");
}

#[tokio::test]
async fn a_body_that_does_not_come_is_given_up_and_told() {
    let listening = listen(ListenConfig { body_timeout: SHORT, ..patient() }).await;
    let mut wire = Wire::open(&listening).await;
    wire.send("POST /echo HTTP/1.1\r\nhost: t\r\ncontent-length: 100000\r\n\r\nabc").await;
    assert!(wire.until("too slow").await.starts_with("HTTP/1.1 408"));
}

#[tokio::test]
async fn an_answer_that_is_not_taken_is_given_up() {
    let listening = listen(ListenConfig { write_timeout: SHORT, max_connections: 1, ..patient() }).await;
    let mut stuck = Wire::open(&listening).await;
    stuck.send("GET /endless HTTP/1.1\r\nhost: t\r\n\r\n").await;
    stuck.until("\r\n\r\n").await;
    // It holds the only place; whoever comes later is served once it is given up.
    let started = Instant::now();
    loop {
        assert!(started.elapsed() < FOREVER, "the place is never given back");
        let mut next = Wire::open(&listening).await;
        // Refused connections may be closed before this is written.
        let _ = next.0.write_all(b"GET / HTTP/1.1\r\nhost: t\r\nconnection: close\r\n\r\n").await;
        if next.rest().await.contains("hello") {
            break;
        }
    }
    drop(stuck);
}

#[tokio::test]
async fn one_connection_too_many_is_told_so_and_closed() {
    let listening = listen(ListenConfig { max_connections: 2, ..patient() }).await;
    let (mut first, mut second) = (Wire::open(&listening).await, Wire::open(&listening).await);
    first.is_served().await;
    second.is_served().await;
    for _ in 0..20 {
        let mut third = Wire::open(&listening).await;
        let told = third.rest().await;
        assert!(told.starts_with("HTTP/1.1 503"), "{told:?}");
        assert!(told.contains("\"too_many_connections\""), "{told:?}");
    }
    first.is_served().await;
}

#[tokio::test]
async fn http_2_with_prior_knowledge_is_served_on_the_same_port() {
    let listening = listen(patient()).await;
    let io = TokioIo::new(TcpStream::connect(listening.at).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let connection = tokio::spawn(connection);
    for _ in 0..3 {
        let request = http::Request::get(format!("http://{}/", listening.at)).body(Empty::<Bytes>::new()).unwrap();
        let answer = timeout(FOREVER, sender.send_request(request)).await.unwrap().unwrap();
        assert_eq!((answer.version(), answer.status()), (http::Version::HTTP_2, http::StatusCode::OK));
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "hello");
    }
    Wire::open(&listening).await.is_served().await;
    listening.stop.cancel();
    timeout(FOREVER, connection).await.expect("the connection is not ended").unwrap().unwrap();
    timeout(FOREVER, listening.serving).await.expect("serving does not end").unwrap().unwrap();
}

#[tokio::test]
async fn a_graceful_stop_ends_idle_connections_and_lets_a_request_finish() {
    let listening = listen(patient()).await;
    let mut fresh = Wire::open(&listening).await;
    let mut idle = Wire::open(&listening).await;
    idle.is_served().await;
    let mut busy = Wire::open(&listening).await;
    busy.send("POST /echo HTTP/1.1\r\nhost: t\r\nexpect: 100-continue\r\ncontent-length: 6\r\n\r\n").await;
    busy.until("100 Continue\r\n\r\n").await;
    busy.send("abc").await;
    listening.stop.cancel();
    assert_eq!(idle.rest().await, "");
    assert_eq!(fresh.rest().await, "");
    assert!(!listening.serving.is_finished(), "a request is under way");
    busy.send("def").await;
    assert!(busy.until("abcdef").await.starts_with("HTTP/1.1 200"));
    assert_eq!(busy.rest().await, "");
    timeout(FOREVER, listening.serving).await.expect("serving does not end").unwrap().unwrap();
    assert!(TcpStream::connect(listening.at).await.is_err());
}

#[tokio::test]
async fn what_is_sent_on_an_idle_connection_during_a_stop_is_answered_and_closes_it() {
    let listening = listen(ListenConfig { idle_drain: LONG, ..patient() }).await;
    let mut idle = Wire::open(&listening).await;
    idle.is_served().await;
    let mut fresh = Wire::open(&listening).await;
    listening.stop.cancel();
    for wire in [&mut idle, &mut fresh] {
        wire.send("GET / HTTP/1.1\r\nhost: t\r\n\r\n").await;
        let answer = wire.until("hello").await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("connection: close"), "{answer}");
        assert_eq!(wire.rest().await, "");
    }
    // Nobody is left to wait for.
    timeout(FOREVER, listening.serving).await.expect("serving does not end").unwrap().unwrap();
    assert!(TcpStream::connect(listening.at).await.is_err());
}

#[tokio::test]
async fn a_connection_that_comes_during_a_stop_is_served_while_others_are_open() {
    let listening = listen(ListenConfig { idle_drain: SHORT * 4, ..patient() }).await;
    let mut idle = Wire::open(&listening).await;
    idle.is_served().await;
    listening.stop.cancel();
    let mut late = Wire::open(&listening).await;
    late.send("GET / HTTP/1.1\r\nhost: t\r\n\r\n").await;
    assert!(late.until("hello").await.contains("connection: close"));
    // The idle one is closed when its time is over.
    assert_eq!(idle.rest().await, "");
    timeout(FOREVER, listening.serving).await.expect("serving does not end").unwrap().unwrap();
}

/// As when there are no file descriptors left.
struct Exhausted;

impl Listener for Exhausted {
    type Stream = TcpStream;

    async fn accept(&self) -> std::io::Result<TcpStream> {
        Err(std::io::Error::other("too many open files"))
    }
}

#[tokio::test]
async fn a_stop_ends_although_no_connection_can_be_accepted() {
    let stop = CancellationToken::new();
    let config = ListenConfig { idle_drain: SHORT, ..patient() };
    let serving = tokio::spawn(serve(Exhausted, Router::new(), config, Tasks::new(), stop.clone()));
    tokio::task::yield_now().await;
    stop.cancel();
    timeout(FOREVER, serving).await.expect("serving does not end").unwrap().unwrap();
}

#[tokio::test]
async fn an_old_connection_is_closed_with_its_next_answer_and_never_before() {
    let listening = listen(ListenConfig { max_age: SHORT, ..patient() }).await;
    let mut old = Wire::open(&listening).await;
    old.is_served().await;
    tokio::time::sleep(SHORT).await;
    old.send("GET / HTTP/1.1\r\nhost: t\r\n\r\n").await;
    assert!(old.until("hello").await.contains("connection: close"));
    assert_eq!(old.rest().await, "");
    let mut young = Wire::open(&listening).await;
    young.is_served().await;
    // HTTP/2 is told before: what is sent afterwards goes elsewhere.
    let io = TokioIo::new(TcpStream::connect(listening.at).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = http::Request::get(format!("http://{}/", listening.at)).body(Empty::<Bytes>::new()).unwrap();
    assert_eq!(timeout(FOREVER, sender.send_request(request)).await.unwrap().unwrap().status(), http::StatusCode::OK);
    timeout(FOREVER, connection).await.expect("the connection is not ended").unwrap().unwrap();
}
