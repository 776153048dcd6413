//! What the bench talks to, and one connection to it: hyper's connections without a pool, since the pool would cost more
//! than some of the requests. Knows nothing of what is measured.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use super::wire::Wire;
use crate::commands::Client;
use crate::failure::Failure;

/// Most bytes of a refusal's body that are looked at.
const REFUSAL_BYTES: usize = 64 << 10;
/// HTTP/2 windows: large enough that a page of records never waits for an update.
const WINDOW_BYTES: u32 = 8 << 20;

/// Where requests go.
#[derive(Debug)]
pub(super) struct Target {
    authority: String,
    address: (String, u16),
    namespace: Option<HeaderValue>,
    http2: bool,
}

impl Target {
    /// The server that client commands were pointed at.
    pub(super) fn new(client: &Client, http2: bool) -> Result<Arc<Self>, Failure> {
        let url = client.base();
        if url.scheme() != "http" {
            return Err(Failure::Usage(format!("bench speaks plain HTTP; {url} is not http://")));
        }
        let host = url.host_str().ok_or_else(|| Failure::Usage(format!("{url} has no host")))?;
        let port = url.port_or_known_default().unwrap_or(80);
        let namespace = match client.namespace() {
            Some(name) => Some(HeaderValue::from_str(name).map_err(|error| Failure::Usage(error.to_string()))?),
            None => None,
        };
        let address = (host.trim_matches(['[', ']']).to_owned(), port);
        Ok(Arc::new(Self { authority: format!("{host}:{port}"), address, namespace, http2 }))
    }

    /// A request with its headers, ready to be sent any number of times with any body.
    pub(super) fn prepare(&self, method: Method, path: &str, headers: &[(HeaderName, &'static str)]) -> Result<Prepared, Failure> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(name, HeaderValue::from_static(value));
        }
        if let Some(namespace) = &self.namespace {
            map.insert("lakefall-namespace", namespace.clone());
        }
        // HTTP/2 wants the whole URI and no Host; HTTP/1.1 wants the path and Host.
        let text = if self.http2 { format!("http://{}{path}", self.authority) } else { path.to_owned() };
        if !self.http2 {
            let host = HeaderValue::from_str(&self.authority).map_err(|error| Failure::Usage(error.to_string()))?;
            map.insert(header::HOST, host);
        }
        let uri = text.parse().map_err(|error| Failure::Usage(format!("{text}: {error}")))?;
        Ok(Prepared { head: head(&method, path, &map).into(), method, uri, headers: map })
    }
}

/// A request without its body.
#[derive(Clone, Debug)]
pub(super) struct Prepared {
    method: Method,
    uri: http::Uri,
    headers: HeaderMap,
    /// The same as HTTP/1.1 text, but for its length.
    head: Arc<[u8]>,
}

fn head(method: &Method, path: &str, headers: &HeaderMap) -> Vec<u8> {
    let mut head = format!("{method} {path} HTTP/1.1\r\n").into_bytes();
    for (name, value) in headers {
        head.extend_from_slice(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    head
}

/// Why a request brought nothing: the class it is counted under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The connection could not be made, or broke.
    Connection(String),
    /// The server refused: status and problem code.
    Refused(String),
}

impl Fault {
    /// The name under which reports count it.
    pub(super) fn class(&self) -> String {
        match self {
            Self::Connection(_) => "connection".to_owned(),
            Self::Refused(class) => class.clone(),
        }
    }
}

/// One connection, or one of many users of an HTTP/2 connection. Reconnects when it broke.
pub(super) struct Connection {
    target: Arc<Target>,
    sender: Sender,
}

enum Sender {
    Wire(Wire),
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

impl Connection {
    /// Connects, for answers that are read as they come.
    pub(super) async fn open(target: Arc<Target>) -> Result<Self, Fault> {
        let sender = connect(&target).await?;
        Ok(Self { target, sender })
    }

    /// Connects, for [`Connection::exchange`] alone, which is then as cheap as it can be.
    pub(super) async fn open_light(target: Arc<Target>) -> Result<Self, Fault> {
        let sender = if target.http2 { connect(&target).await? } else { Sender::Wire(Wire::new(dial(&target).await?)) };
        Ok(Self { target, sender })
    }

    /// Another user of the same HTTP/2 connection; `None` on HTTP/1.1, which serves one request at a time.
    pub(super) fn share(&self) -> Option<Self> {
        match &self.sender {
            Sender::Wire(_) | Sender::Http1(_) => None,
            Sender::Http2(sender) => Some(Self { target: Arc::clone(&self.target), sender: Sender::Http2(sender.clone()) }),
        }
    }

    /// Connects anew after a fault of the connection.
    pub(super) async fn reopen(&mut self) -> Result<(), Fault> {
        self.sender = match self.sender {
            Sender::Wire(_) => Sender::Wire(Wire::new(dial(&self.target).await?)),
            Sender::Http1(_) | Sender::Http2(_) => connect(&self.target).await?,
        };
        Ok(())
    }

    /// Sends a request; the answer is status 200 with its body still to be read. A refusal is read to its end.
    pub(super) async fn send(&mut self, prepared: &Prepared, body: Bytes) -> Result<Incoming, Fault> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = prepared.method.clone();
        *request.uri_mut() = prepared.uri.clone();
        *request.headers_mut() = prepared.headers.clone();
        let answer = match &mut self.sender {
            Sender::Wire(_) => return Err(Fault::Connection("a light connection only exchanges".to_owned())),
            Sender::Http1(sender) => {
                sender.ready().await.map_err(broken)?;
                sender.send_request(request).await
            }
            Sender::Http2(sender) => {
                sender.ready().await.map_err(broken)?;
                sender.send_request(request).await
            }
        };
        let (head, body) = answer.map_err(broken)?.into_parts();
        if head.status == StatusCode::OK {
            return Ok(body);
        }
        let body = Limited::new(body, REFUSAL_BYTES).collect().await;
        Err(refusal(head.status, &body.map(|body| body.to_bytes()).unwrap_or_default()))
    }

    /// Sends a request and reads the whole answer, which must be 200.
    pub(super) async fn exchange_answer(&mut self, prepared: &Prepared, body: Bytes) -> Result<Bytes, Fault> {
        if let Sender::Wire(wire) = &mut self.sender {
            return match wire.exchange(&prepared.head, &body).await? {
                (StatusCode::OK, answer) => Ok(Bytes::copy_from_slice(answer)),
                (status, answer) => Err(refusal(status, answer)),
            };
        }
        Ok(self.send(prepared, body).await?.collect().await.map_err(broken)?.to_bytes())
    }

    /// Sends a request and reads the whole answer, which must be 200. Returns its length.
    pub(super) async fn exchange(&mut self, prepared: &Prepared, body: Bytes) -> Result<u64, Fault> {
        if let Sender::Wire(wire) = &mut self.sender {
            return match wire.exchange(&prepared.head, &body).await? {
                (StatusCode::OK, answer) => Ok(answer.len() as u64),
                (status, answer) => Err(refusal(status, answer)),
            };
        }
        let mut answer = self.send(prepared, body).await?;
        let mut length = 0;
        while let Some(frame) = answer.frame().await {
            if let Some(data) = frame.map_err(broken)?.data_ref() {
                length += data.len() as u64;
            }
        }
        Ok(length)
    }
}

/// A fault of the connection.
pub(super) fn broken(error: hyper::Error) -> Fault {
    Fault::Connection(error.to_string())
}

async fn dial(target: &Target) -> Result<TcpStream, Fault> {
    let (host, port) = &target.address;
    let lost = |error: std::io::Error| Fault::Connection(format!("{host}:{port}: {error}"));
    let stream = TcpStream::connect((host.as_str(), *port)).await.map_err(lost)?;
    stream.set_nodelay(true).map_err(lost)?;
    Ok(stream)
}

async fn connect(target: &Target) -> Result<Sender, Fault> {
    let io = TokioIo::new(dial(target).await?);
    // A connection's task ends with its last sender; what breaks it is told to the requests that wait on it.
    if target.http2 {
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(4 * WINDOW_BYTES)
            .handshake(io)
            .await
            .map_err(broken)?;
        tokio::spawn(connection);
        return Ok(Sender::Http2(sender));
    }
    let (sender, connection) = http1::Builder::new().handshake(io).await.map_err(broken)?;
    tokio::spawn(connection);
    Ok(Sender::Http1(sender))
}

/// `503 not_committed`, or the bare status when the body is no problem document.
fn refusal(status: StatusCode, body: &[u8]) -> Fault {
    #[derive(serde::Deserialize)]
    struct Problem {
        code: String,
    }
    Fault::Refused(match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => format!("{} {}", status.as_u16(), problem.code),
        Err(_) => status.as_u16().to_string(),
    })
}
