//! The connections: each request gets its faults, its server and its record. Must never use a connection to the server
//! twice: one that was closed meanwhile would be a fault that nobody ordered.

use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::{Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::body::{Passed, cut, damage, passed, whole};
use super::rules::Fault;
use super::{Outcome, Request, State};

/// Takes connections. Ends with its task, and its connections with it.
pub(super) async fn accept(state: Arc<State>, listener: TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((client, _)) = accepted {
                    connections.spawn(connection(state.clone(), client));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Serves a connection to its end, which is a reset if a request asks for it.
async fn connection(state: Arc<State>, client: TcpStream) -> io::Result<()> {
    client.set_nodelay(true)?;
    // A second handle of the socket: hyper closes the first without asking how.
    let client = client.into_std()?;
    let handle = TcpStream::from_std(client.try_clone()?)?;
    let client = TokioIo::new(TcpStream::from_std(client)?);
    let service = service_fn(|request| {
        let state = state.clone();
        async move { state.answer(request).await }
    });
    let served = hyper::server::conn::http1::Builder::new().serve_connection(client, service).await;
    if served.is_err() {
        handle.set_zero_linger()?;
    }
    Ok(())
}

/// The record of a request while it is under way.
struct Record<'a> {
    state: &'a State,
    sequence: u64,
}

impl Record<'_> {
    fn note(&self, note: impl FnOnce(&mut Request)) {
        let mut requests = self.state.requests.lock().unwrap();
        // It may have been forgotten.
        if let Ok(at) = requests.binary_search_by_key(&self.sequence, |request| request.sequence) {
            note(&mut requests[at]);
        }
    }

    fn invent(&self, status: u16, code: &str) -> io::Result<Response<Passed>> {
        self.note(|request| request.outcome = Outcome::Invented(status));
        let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        write!(text, "<Error><Code>{code}</Code><Message>injected</Message><RequestId>injected-{}</RequestId></Error>", self.sequence)
            .unwrap();
        let status = StatusCode::from_u16(status).unwrap();
        Ok(Response::builder().status(status).header("content-type", "application/xml").body(whole(text)).unwrap())
    }

    /// Ends the connection instead of an answer.
    fn broken(&self) -> io::Result<Response<Passed>> {
        self.note(|request| request.outcome = Outcome::Broken);
        Err(io::ErrorKind::ConnectionReset.into())
    }
}

/// Path and query of a listing; nothing if the request asks for something else.
fn is_listing<B>(request: &http::Request<B>) -> Option<String> {
    let (path, query) = (request.uri().path(), request.uri().query()?);
    let of_bucket = !path.trim_matches('/').contains('/');
    (of_bucket && query.contains("list-type=2")).then(|| format!("{path}?{query}"))
}

impl State {
    pub(super) fn forget(&self) {
        let mut requests = self.requests.lock().unwrap();
        *self.forgotten.lock().unwrap() += requests.len() as u64;
        requests.clear();
    }

    /// Draws what happens to a request, and records it.
    fn record(&self, request: &http::Request<Incoming>) -> (Record<'_>, Vec<Fault>) {
        let path = request.uri().path().trim_start_matches('/');
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        let mut faults: Vec<Fault> = Vec::new();
        let again = is_listing(request).is_some_and(|listing| self.listings.lock().unwrap().contains_key(&listing));
        let mut requests = self.requests.lock().unwrap();
        for rule in self.rules.lock().unwrap().iter_mut() {
            // A rule that comes too late is not used up.
            let is_settled = faults.iter().any(|fault| !fault.is_delay());
            if !is_settled || rule.is_delay() {
                faults.extend(rule.meets(request.method(), key, again, &self.dice));
            }
        }
        let sequence = *self.forgotten.lock().unwrap() + requests.len() as u64;
        requests.push(Request {
            sequence,
            at: Instant::now(),
            method: request.method().clone(),
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            query: request.uri().query().unwrap_or_default().to_owned(),
            range: request.headers().get("range").and_then(|range| Some(range.to_str().ok()?.to_owned())),
            outcome: Outcome::Open,
            server: None,
            faults: faults.clone(),
        });
        (Record { state: self, sequence }, faults)
    }

    async fn answer(&self, request: http::Request<Incoming>) -> io::Result<Response<Passed>> {
        let (record, faults) = self.record(&request);
        let total = |pick: fn(&Fault) -> Option<Duration>| faults.iter().filter_map(pick).sum::<Duration>();
        let before = total(|fault| if let Fault::DelayBefore(delay) = fault { Some(*delay) } else { None });
        let after = total(|fault| if let Fault::DelayAfter(delay) = fault { Some(*delay) } else { None });
        let fault = faults.iter().copied().find(|fault| !fault.is_delay());
        tokio::time::sleep(before).await;
        let invented = match fault {
            Some(Fault::SlowDown) => Some((503, "SlowDown")),
            Some(Fault::InternalError) => Some((500, "InternalError")),
            Some(Fault::AccessDenied) => Some((403, "AccessDenied")),
            Some(Fault::ExpiredToken) => Some((400, "ExpiredToken")),
            Some(Fault::NoSuchKey) => Some((404, "NoSuchKey")),
            Some(Fault::Conflict) => Some((409, "ConditionalRequestConflict")),
            Some(Fault::PreconditionFailed) => Some((412, "PreconditionFailed")),
            _ => None,
        };
        if let Some((status, code)) = invented {
            // A server reads what it refuses, or the client would see a broken connection.
            let _ = request.into_body().collect().await;
            tokio::time::sleep(after).await;
            return record.invent(status, code);
        }
        if fault == Some(Fault::ResetBefore) {
            return record.broken();
        }
        let listing = is_listing(&request);
        if fault == Some(Fault::StaleList)
            && let Some(body) = listing.as_ref().and_then(|listing| self.listings.lock().unwrap().get(listing).cloned())
        {
            record.note(|request| request.outcome = Outcome::Invented(200));
            return Ok(Response::builder().header("content-type", "application/xml").body(whole(body)).unwrap());
        }
        let request = request.map(|body| match fault {
            Some(Fault::CutUpload(bytes)) => cut(passed(body), bytes),
            _ => passed(body),
        });
        let Ok(answer) = self.ask(request).await else { return record.broken() };
        let status = answer.status().as_u16();
        record.note(|request| request.server = Some(status));
        tokio::time::sleep(after).await;
        match fault {
            Some(Fault::ErrorAfter) => {
                // Read in full: until then, the server may not have done all of it.
                let _ = answer.into_body().collect().await;
                record.invent(500, "InternalError")
            }
            Some(Fault::ResetAfter | Fault::CutUpload(_)) => {
                let _ = answer.into_body().collect().await;
                record.broken()
            }
            Some(Fault::CutDownload(bytes)) => {
                record.note(|request| request.outcome = Outcome::Broken);
                Ok(answer.map(|body| cut(passed(body), bytes)))
            }
            Some(fault @ (Fault::FlipBit | Fault::Truncate(_) | Fault::WrongBytes | Fault::WrongRange)) => {
                let (mut head, body) = answer.into_parts();
                let Ok(body) = body.collect().await else { return record.broken() };
                let mut body = body.to_bytes().to_vec();
                damage(fault, &mut body, &mut head.headers, &self.dice);
                record.note(|request| request.outcome = Outcome::Answered(status));
                Ok(Response::from_parts(head, whole(body)))
            }
            _ => {
                record.note(|request| request.outcome = Outcome::Answered(status));
                let Some(listing) = listing.filter(|_| status == 200) else { return Ok(answer.map(passed)) };
                // Kept for who is to be told what was true once.
                let (head, body) = answer.into_parts();
                let Ok(body) = body.collect().await else { return record.broken() };
                let body = body.to_bytes();
                self.listings.lock().unwrap().insert(listing, body.clone());
                Ok(Response::from_parts(head, whole(body)))
            }
        }
    }

    /// Passes a request on over a connection of its own. Its line and headers stay as they are.
    async fn ask(&self, mut request: http::Request<Passed>) -> Result<Response<Incoming>, Box<dyn std::error::Error + Send + Sync>> {
        let target = *self.target.lock().unwrap();
        let server = TcpStream::connect(target).await?;
        server.set_nodelay(true)?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(server)).await?;
        // It ends with its one answer, or when the client goes away and the sender with it.
        tokio::spawn(connection);
        *request.version_mut() = http::Version::HTTP_11;
        Ok(sender.send_request(request).await?)
    }
}
