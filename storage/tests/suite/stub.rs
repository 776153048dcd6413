//! A bucket in memory behind a real socket, which does on each request what the test's script says: answer, fail before
//! or after applying it, cut the body, wait. It counts what it was asked. It checks no signature.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lakefall_storage::store::{Store, StoreOptions};
use tokio::time::Instant;
use url::Url;

/// What becomes of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// It is answered as it should be.
    None,
    /// It is not applied, and answered with this status and error code.
    Refuse(u16, &'static str),
    /// The same with a `Retry-After` of so many seconds.
    RefuseFor(u16, u64),
    /// It is applied, and answered with this status.
    ApplyAndFail(u16),
    /// It is not applied, and its connection is closed without an answer.
    Close,
    /// It is applied, and its connection is closed without an answer.
    ApplyAndClose,
    /// So many bytes are missing at the end of the body, though the head is right.
    Cut(usize),
    /// So many bytes are missing, and the head says that this is all.
    CutAndHide(usize),
    /// It is answered after this time.
    Late(Duration),
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Without the bucket's name; with the query.
    pub(crate) target: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) at: Instant,
}

/// The running stub.
#[derive(Clone)]
pub(crate) struct Stub {
    address: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Vec<u8>>,
    requests: Vec<Request>,
    forgets_conditions: bool,
    date: Option<&'static str>,
}

type Script = dyn Fn(&Request, usize) -> Fault + Send + Sync;

impl Stub {
    /// Starts it. `script` is given each request and how many of its method came before.
    pub(crate) fn start(script: impl Fn(&Request, usize) -> Fault + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (state, script) = (Arc::new(Mutex::new(State::default())), Arc::new(script));
        let stub = Self { address, state: state.clone() };
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let (state, script) = (state.clone(), script.clone());
                // A client that went away is none of ours.
                std::thread::spawn(move || connection.and_then(|connection| serve(&connection, &state, &*script)));
            }
        });
        stub
    }

    /// From now on a PUT writes over what is there, whatever it says.
    pub(crate) fn forgetting_conditions(self) -> Self {
        self.state.lock().unwrap().forgets_conditions = true;
        self
    }

    /// From now on every answer is dated so.
    pub(crate) fn telling(self, date: &'static str) -> Self {
        self.state.lock().unwrap().date = Some(date);
        self
    }

    /// A store over it. Its pauses are the real ones.
    pub(crate) fn store(&self, change: impl FnOnce(&mut StoreOptions)) -> Store {
        Store::open(&Url::parse("s3://bucket/lake").unwrap(), &self.options(change)).unwrap()
    }

    pub(crate) fn options(&self, change: impl FnOnce(&mut StoreOptions)) -> StoreOptions {
        let mut options = StoreOptions { request_timeout: Duration::from_secs(20), ..StoreOptions::default() };
        options.s3.endpoint = Some(self.address.clone());
        options.s3.region = Some("us-east-1".to_owned());
        options.s3.allow_http = true;
        options.s3.unsigned = true;
        change(&mut options);
        options
    }

    pub(crate) fn requests(&self, method: &str) -> Vec<Request> {
        self.state.lock().unwrap().requests.iter().filter(|request| request.method == method).cloned().collect()
    }

    pub(crate) fn count(&self, method: &str) -> usize {
        self.requests(method).len()
    }

    pub(crate) fn object(&self, key: &str) -> Option<Vec<u8>> {
        self.state.lock().unwrap().objects.get(&format!("lake/{key}")).cloned()
    }

    /// One of the bucket's settings, as it was written.
    pub(crate) fn setting(&self, name: &str) -> Option<String> {
        self.state.lock().unwrap().objects.get(name).map(|bytes| String::from_utf8(bytes.clone()).unwrap())
    }

    pub(crate) fn set(&self, name: &str, value: &str) {
        self.state.lock().unwrap().objects.insert(name.to_owned(), value.as_bytes().to_vec());
    }

    pub(crate) fn put(&self, key: &str, bytes: &[u8]) {
        self.state.lock().unwrap().objects.insert(format!("lake/{key}"), bytes.to_vec());
    }
}

struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Reply {
    fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    /// As S3 refuses: with what a log must never hold.
    fn refusal(status: u16, code: &str) -> Self {
        let body = format!(
            "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>it was refused</Message>\
             <StringToSign>LEAKED</StringToSign><SignatureProvided>LEAKED</SignatureProvided></Error>"
        );
        Self { body: body.into_bytes(), ..Self::new(status) }
    }
}

fn serve(connection: &TcpStream, state: &Mutex<State>, script: &Script) -> std::io::Result<()> {
    let mut reader = BufReader::new(connection);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let (Some(method), Some(target)) = (words.next(), words.next()) else { return Ok(()) };
    let mut request = Request {
        method: method.to_owned(),
        target: target.trim_start_matches("/bucket").trim_start_matches('/').to_owned(),
        headers: BTreeMap::new(),
        at: Instant::now(),
    };
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        let Some((name, value)) = header.split_once(':') else { break };
        request.headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let length = request.headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let earlier = {
        let mut state = state.lock().unwrap();
        let earlier = state.requests.iter().filter(|other| other.method == request.method).count();
        state.requests.push(request.clone());
        earlier
    };
    let date = {
        let state = state.lock().unwrap();
        if state.forgets_conditions {
            request.headers.remove("if-none-match");
        }
        state.date
    };
    let fault = script(&request, earlier);
    let applied = |body: Vec<u8>| apply(&mut state.lock().unwrap().objects, &request, body);
    let (reply, missing, hidden) = match fault {
        Fault::None => (applied(body), 0, false),
        Fault::Refuse(status, code) => (Reply::refusal(status, code), 0, false),
        Fault::RefuseFor(status, seconds) => {
            let mut reply = Reply::refusal(status, "SlowDown");
            reply.headers.push(("retry-after", seconds.to_string()));
            (reply, 0, false)
        }
        Fault::ApplyAndFail(status) => {
            applied(body);
            (Reply::refusal(status, "InternalError"), 0, false)
        }
        Fault::Close => return connection.shutdown(Shutdown::Both),
        Fault::ApplyAndClose => {
            applied(body);
            return connection.shutdown(Shutdown::Both);
        }
        Fault::Cut(missing) => (applied(body), missing, false),
        Fault::CutAndHide(missing) => (applied(body), missing, true),
        Fault::Late(time) => {
            std::thread::sleep(time);
            (applied(body), 0, false)
        }
    };
    let mut reply = reply;
    reply.headers.extend(date.map(|date| ("date", date.to_owned())));
    answer(connection, &request, &reply, missing, hidden)
}

fn answer(mut connection: &TcpStream, request: &Request, reply: &Reply, missing: usize, hidden: bool) -> std::io::Result<()> {
    let sent = &reply.body[..reply.body.len() - missing];
    let claimed = if hidden { sent.len() } else { reply.body.len() };
    let mut head = format!("HTTP/1.1 {} Whatever\r\nconnection: close\r\n", reply.status);
    if reply.headers.iter().all(|(name, _)| *name != "content-length") {
        head.push_str(&format!("content-length: {claimed}\r\n"));
    }
    reply.headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
    connection.write_all(format!("{head}\r\n").as_bytes())?;
    if request.method != "HEAD" {
        connection.write_all(sent)?;
    }
    connection.shutdown(Shutdown::Write)
}

const STAMPED: [(&str, &str); 2] = [("etag", "\"tag\""), ("last-modified", "Sat, 21 Nov 2026 12:00:00 GMT")];

/// A bucket's settings, kept as they are written, and how S3 says that there is none.
const SETTINGS: [(&str, &str); 3] = [
    ("publicAccessBlock", "NoSuchPublicAccessBlockConfiguration"),
    ("lifecycle", "NoSuchLifecycleConfiguration"),
    ("encryption", "ServerSideEncryptionConfigurationNotFoundError"),
];

fn apply(objects: &mut BTreeMap<String, Vec<u8>>, request: &Request, body: Vec<u8>) -> Reply {
    let key = request.target.clone();
    if let Some(setting) = key.strip_prefix('?').and_then(|query| query.split(['=', '&']).next())
        && let Some((_, absent)) = SETTINGS.iter().find(|(name, _)| *name == setting)
    {
        return match (request.method.as_str(), objects.get(setting)) {
            ("GET", Some(found)) => Reply { body: found.clone(), ..Reply::new(200) },
            ("GET", None) => Reply::refusal(404, absent),
            _ => {
                objects.insert(setting.to_owned(), body);
                Reply::new(200)
            }
        };
    }
    if request.method == "GET" && key.starts_with('?') {
        return list(objects, &key);
    }
    let stamped = |status| Reply { headers: STAMPED.map(|(name, value)| (name, value.to_owned())).to_vec(), ..Reply::new(status) };
    match request.method.as_str() {
        "PUT" if request.headers.contains_key("if-none-match") && objects.contains_key(&key) => Reply::refusal(412, "PreconditionFailed"),
        "PUT" => {
            objects.insert(key, body);
            stamped(200)
        }
        "DELETE" => {
            objects.remove(&key);
            Reply::new(204)
        }
        _ => match (objects.get(&key), request.headers.get("range")) {
            (None, _) => Reply::refusal(404, "NoSuchKey"),
            (Some(found), None) => {
                let mut reply = stamped(200);
                reply.headers.push(("content-length", found.len().to_string()));
                Reply { body: found.clone(), ..reply }
            }
            (Some(found), Some(range)) => {
                let (start, end) = range.trim_start_matches("bytes=").split_once('-').unwrap();
                let (start, end): (usize, usize) = (start.parse().unwrap(), end.parse().unwrap());
                let end = (end + 1).min(found.len());
                let mut reply = stamped(206);
                reply.headers.push(("content-range", format!("bytes {start}-{}/{}", end - 1, found.len())));
                Reply { body: found[start..end].to_vec(), ..reply }
            }
        },
    }
}

/// Two keys a page.
fn list(objects: &BTreeMap<String, Vec<u8>>, target: &str) -> Reply {
    let url = Url::parse(&format!("http://stub/{target}")).unwrap();
    let query = |name: &str| url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
    let after = query("continuation-token").or_else(|| query("start-after")).unwrap_or_default();
    let prefix = query("prefix").unwrap_or_default();
    let mut keys = objects.iter().filter(|(key, _)| key.starts_with(&prefix) && **key > after);
    let page: Vec<_> = keys.by_ref().take(2).collect();
    let more = keys.next().is_some();
    let mut body = String::from("<?xml version=\"1.0\"?><ListBucketResult>");
    body.push_str(&format!("<IsTruncated>{more}</IsTruncated>"));
    if let Some((last, _)) = page.last().filter(|_| more) {
        body.push_str(&format!("<NextContinuationToken>{last}</NextContinuationToken>"));
    }
    for (key, bytes) in page {
        body.push_str(&format!(
            "<Contents><Key>{key}</Key><LastModified>2026-11-21T12:00:00.000Z</LastModified><ETag>tag</ETag><Size>{}</Size></Contents>",
            bytes.len()
        ));
    }
    body.push_str("</ListBucketResult>");
    Reply { body: body.into_bytes(), ..Reply::new(200) }
}
