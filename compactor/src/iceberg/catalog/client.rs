//! The requests that bring a table into a REST catalog: each of bounded time, with an answer of bounded size. Must never show a token
//! or a client's secret.

use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, RequestBuilder, StatusCode, redirect};
use serde_json::{Value, json};
use url::Url;
use url::form_urlencoded::Serializer;

use super::{Access, CatalogError, CatalogSettings, CatalogTable};
use crate::iceberg::table::Table;

/// The largest answer: a table's metadata with all its snapshots.
const ANSWER_MAX: usize = 64 << 20;
/// Of what an answer says of an error, so much is told.
const MESSAGE_CHARS: usize = 300;
/// What stands in a path as it is.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_');
/// Between the levels of a namespace in a path.
const LEVELS: &str = "%1F";

/// Whether a change was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    Yes,
    /// The table, or that there was none, is not what was required: look again.
    Changed,
}

/// The way to a catalog.
pub(super) struct Client {
    http: reqwest::Client,
    settings: CatalogSettings,
    /// Begun with the first request, and anew after trouble.
    session: Mutex<Option<Arc<Session>>>,
}

/// What a catalog was asked once.
struct Session {
    /// What stands before the paths of namespaces.
    base: String,
    token: Option<HeaderValue>,
}

struct Answer {
    status: StatusCode,
    /// `null` if it is no JSON.
    body: Value,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Client {
    pub(super) fn new(settings: CatalogSettings) -> Result<Self, String> {
        // A redirect would take the token to a place that nobody named.
        let mut http =
            reqwest::Client::builder().redirect(redirect::Policy::none()).connect_timeout(settings.timeout).timeout(settings.timeout);
        if let Some(pem) = &settings.ca {
            let certificates = reqwest::Certificate::from_pem_bundle(pem).map_err(|_| "catalog.ca_file holds no certificate".to_owned())?;
            http = http.tls_certs_only(certificates);
        }
        let http = http.build().map_err(|error| format!("catalog.uri: {}", whole(&error)))?;
        Ok(Self { http, settings, session: Mutex::default() })
    }

    /// The table as the catalog has it, if it has one.
    pub(super) async fn load(&self, table: &CatalogTable) -> Result<Option<Table>, CatalogError> {
        let answer = self.call(&Method::GET, &format!("{}/tables/{}", self.namespace_path(table), encoded(&table.name)), None).await?;
        match answer.status {
            StatusCode::OK => {
                let document = answer.body["metadata"].clone();
                Table::of(document).map(Some).map_err(CatalogError::Other)
            }
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(answer.refusal()),
        }
    }

    /// Makes the bucket's document at `location` the catalog's table.
    pub(super) async fn register(&self, table: &CatalogTable, location: &str) -> Result<Taken, CatalogError> {
        let body = json!({"name": table.name, "metadata-location": location});
        let answer = self.call(&Method::POST, &format!("{}/register", self.namespace_path(table)), Some(&body)).await?;
        match answer.status {
            StatusCode::OK => Ok(Taken::Yes),
            StatusCode::CONFLICT => Ok(Taken::Changed),
            StatusCode::NOT_FOUND => {
                self.create_namespace(table).await?;
                Ok(Taken::Changed)
            }
            _ => Err(answer.refusal()),
        }
    }

    /// Commits requirements and updates.
    pub(super) async fn commit(&self, table: &CatalogTable, mut commit: Value) -> Result<Taken, CatalogError> {
        commit["identifier"] = json!({"namespace": self.namespace(table), "name": table.name});
        let path = format!("{}/tables/{}", self.namespace_path(table), encoded(&table.name));
        let answer = self.call(&Method::POST, &path, Some(&commit)).await?;
        match answer.status {
            StatusCode::OK => Ok(Taken::Yes),
            // Not found: it was dropped meanwhile.
            StatusCode::CONFLICT | StatusCode::NOT_FOUND => Ok(Taken::Changed),
            _ => Err(answer.refusal()),
        }
    }

    /// The table's namespace and those above it, as far as they are not there.
    async fn create_namespace(&self, table: &CatalogTable) -> Result<(), CatalogError> {
        let levels = self.namespace(table);
        for upto in 1..=levels.len() {
            let body = json!({"namespace": levels[..upto], "properties": {}});
            let answer = self.call(&Method::POST, "namespaces", Some(&body)).await?;
            // Those above may be there and nobody else's business: only of the last one it matters.
            let made = answer.status.is_success() || answer.status == StatusCode::CONFLICT;
            if !made && upto == levels.len() {
                return Err(answer.refusal());
            }
        }
        Ok(())
    }

    fn namespace<'a>(&'a self, table: &'a CatalogTable) -> Vec<&'a str> {
        self.settings.parent.iter().map(String::as_str).chain([table.namespace.as_str()]).collect()
    }

    fn namespace_path(&self, table: &CatalogTable) -> String {
        let levels: Vec<String> = self.namespace(table).into_iter().map(encoded).collect();
        format!("namespaces/{}", levels.join(LEVELS))
    }

    /// A request within a session. A token that is over is exchanged for another one, once.
    async fn call(&self, method: &Method, path: &str, body: Option<&Value>) -> Result<Answer, CatalogError> {
        let mut renewed = false;
        loop {
            let session = self.session().await?;
            let mut request = self.http.request(method.clone(), url(&format!("{}/{path}", session.base))?);
            if let Some(body) = body {
                request = request.header(CONTENT_TYPE, "application/json").body(body.to_string());
            }
            let answered = answered(authorized(request, session.token.as_ref())).await;
            match answered {
                Ok(answer) if answer.is_unauthorized() => {
                    self.forget();
                    if renewed {
                        return Err(answer.unauthorized());
                    }
                    renewed = true;
                }
                Ok(answer) => return Ok(answer),
                Err(error) => {
                    self.forget();
                    return Err(error);
                }
            }
        }
    }

    async fn session(&self) -> Result<Arc<Session>, CatalogError> {
        let known = self.known().clone();
        if let Some(session) = known {
            return Ok(session);
        }
        let session = Arc::new(self.begin().await?);
        *self.known() = Some(Arc::clone(&session));
        Ok(session)
    }

    fn forget(&self) {
        *self.known() = None;
    }

    fn known(&self) -> MutexGuard<'_, Option<Arc<Session>>> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a token, if it is to be asked for, and for what the catalog says of itself.
    async fn begin(&self) -> Result<Session, CatalogError> {
        let token = self.token().await?;
        let mut asked = url(&format!("{}/v1/config", self.root()))?;
        if let Some(warehouse) = &self.settings.warehouse {
            asked.query_pairs_mut().append_pair("warehouse", warehouse);
        }
        let answer = answered(authorized(self.http.get(asked), token.as_ref())).await?;
        if answer.is_unauthorized() {
            return Err(answer.unauthorized());
        }
        if !answer.status.is_success() {
            // Of all tables: it is asked again.
            return Err(CatalogError::Away(format!("v1/config: {}", answer.said())));
        }
        let prefix = ["overrides", "defaults"].iter().find_map(|layer| answer.body[*layer]["prefix"].as_str());
        let root = answer.body["overrides"]["uri"].as_str().unwrap_or(self.root()).trim_end_matches('/');
        let base = match prefix.map(|prefix| prefix.trim_matches('/')).filter(|prefix| !prefix.is_empty()) {
            // It is a path as it stands, encoded where it must be.
            Some(prefix) => format!("{root}/v1/{prefix}"),
            None => format!("{root}/v1"),
        };
        Ok(Session { base, token })
    }

    async fn token(&self) -> Result<Option<HeaderValue>, CatalogError> {
        let token = match &self.settings.access {
            Access::Open => return Ok(None),
            Access::Token(token) => token.expose().clone(),
            Access::TokenFile(path) => {
                let read = tokio::fs::read_to_string(path).await;
                read.map_err(|error| CatalogError::Away(format!("catalog.token_file: {} cannot be read: {error}", path.display())))?
            }
            Access::Client { id, secret, uri, scope } => self.exchange(id, secret.expose(), uri.as_ref(), scope).await?,
        };
        let mut header = HeaderValue::from_str(&format!("Bearer {}", token.trim()))
            .map_err(|_| CatalogError::Away("the token is none of a header".to_owned()))?;
        header.set_sensitive(true);
        Ok(Some(header))
    }

    /// A token for a client's credentials.
    async fn exchange(&self, id: &str, secret: &str, uri: Option<&Url>, scope: &str) -> Result<String, CatalogError> {
        let at = match uri {
            Some(uri) => uri.clone(),
            None => url(&format!("{}/v1/oauth/tokens", self.root()))?,
        };
        let fields = [("grant_type", "client_credentials"), ("client_id", id), ("client_secret", secret), ("scope", scope)];
        let form = Serializer::new(String::new()).extend_pairs(fields.iter().filter(|(_, text)| !text.is_empty())).finish();
        let request = self.http.post(at).header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form);
        let answer = answered(request).await?;
        match answer.body["access_token"].as_str() {
            Some(token) if answer.status.is_success() => Ok(token.to_owned()),
            _ => Err(CatalogError::Away(format!("no token is given to the client: {}", answer.said()))),
        }
    }

    fn root(&self) -> &str {
        self.settings.uri.as_str().trim_end_matches('/')
    }
}

impl Answer {
    /// 419 is Iceberg's own: a token that is over.
    fn is_unauthorized(&self) -> bool {
        self.status == StatusCode::UNAUTHORIZED || self.status.as_u16() == 419
    }

    fn unauthorized(&self) -> CatalogError {
        CatalogError::Away(format!("it does not take the credentials: {}", self.said()))
    }

    /// What an answer that is no success means.
    fn refusal(&self) -> CatalogError {
        match self.status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => CatalogError::Away(self.said()),
            status if status.is_server_error() => CatalogError::Away(self.said()),
            _ => CatalogError::Refused(self.said()),
        }
    }

    /// The status, and what it says of the error.
    fn said(&self) -> String {
        let told = [&self.body["error"]["message"], &self.body["error_description"], &self.body["error"]];
        match told.into_iter().find_map(Value::as_str) {
            Some(message) => format!("{}: {}", self.status, message.chars().take(MESSAGE_CHARS).collect::<String>()),
            None => self.status.to_string(),
        }
    }
}

fn authorized(request: RequestBuilder, token: Option<&HeaderValue>) -> RequestBuilder {
    match token {
        Some(token) => request.header(AUTHORIZATION, token.clone()),
        None => request,
    }
}

async fn answered(request: RequestBuilder) -> Result<Answer, CatalogError> {
    let away = |error: reqwest::Error| CatalogError::Away(whole(&error.without_url()));
    let mut response = request.send().await.map_err(away)?;
    let (status, mut bytes) = (response.status(), Vec::new());
    while let Some(chunk) = response.chunk().await.map_err(away)? {
        if bytes.len() + chunk.len() > ANSWER_MAX {
            return Err(CatalogError::Refused(format!("its answer is larger than {ANSWER_MAX} bytes")));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(Answer { status, body: serde_json::from_slice(&bytes).unwrap_or_default() })
}

fn url(text: &str) -> Result<Url, CatalogError> {
    Url::parse(text).map_err(|error| CatalogError::Away(format!("its address is no URL: {error}")))
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, PATH).to_string()
}

/// An error with what caused it.
fn whole(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(&format!(": {next}"));
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lakefall_service::Secret;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::task::JoinHandle;

    use super::*;

    fn settings(uri: Url, access: Access) -> CatalogSettings {
        let parent = vec!["lake 1".to_owned()];
        CatalogSettings { uri, warehouse: Some("w/1".to_owned()), parent, access, ca: None, timeout: Duration::from_secs(30) }
    }

    fn table() -> CatalogTable {
        CatalogTable {
            namespace: "default".to_owned(),
            name: "t".to_owned(),
            folder: "tables/default/t/".to_owned(),
            root: "s3://b".to_owned(),
        }
    }

    /// Answers one request after the other, and tells what each asked for and showed.
    async fn scripted(answers: Vec<(u16, Value)>) -> (Url, JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = Url::parse(&format!("http://{}/api/", listener.local_addr().unwrap())).unwrap();
        let served = tokio::spawn(async move {
            let mut asked = Vec::new();
            for (status, body) in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                let head = String::from_utf8(head).unwrap();
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |text| text.parse().unwrap());
                let mut sent = vec![0; length];
                stream.read_exact(&mut sent).await.unwrap();
                let path = head.split(' ').nth(1).unwrap();
                let token = head.lines().find_map(|line| line.strip_prefix("authorization: Bearer ")).unwrap_or("nothing");
                asked.push(format!("{path} {token}"));
                let body = body.to_string();
                let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
            asked
        });
        (uri, served)
    }

    #[tokio::test]
    async fn a_token_that_is_over_is_read_again_and_the_catalog_says_what_its_paths_begin_with() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "one\n").unwrap();
        let config = || (200, json!({"defaults": {"prefix": "x"}, "overrides": {"prefix": "a%2Fb"}}));
        let none = || (404, json!({"error": {"message": "no such table"}}));
        let (uri, served) = scripted(vec![config(), none(), (401, Value::Null), config(), none()]).await;
        let client = Client::new(settings(uri, Access::TokenFile(file.path().to_owned()))).unwrap();
        assert!(client.load(&table()).await.unwrap().is_none());
        std::fs::write(file.path(), "two\n").unwrap();
        assert!(client.load(&table()).await.unwrap().is_none());
        let (config, table) = ("/api/v1/config?warehouse=w%2F1", "/api/v1/a%2Fb/namespaces/lake%201%1Fdefault/tables/t");
        let expected = [(config, "one"), (table, "one"), (table, "one"), (config, "two"), (table, "two")];
        assert_eq!(served.await.unwrap(), expected.map(|(path, token)| format!("{path} {token}")));
    }

    #[tokio::test]
    async fn a_namespace_that_is_not_there_is_made_with_those_above_it_and_a_conflict_is_looked_at_again() {
        let answers = [200, 404, 409, 200, 409, 409, 404, 403].map(|status| (status, json!({})));
        let (uri, served) = scripted(answers.to_vec()).await;
        let client = Client::new(settings(uri, Access::Open)).unwrap();
        assert_eq!(client.register(&table(), "s3://b/v1.metadata.json").await.unwrap(), Taken::Changed);
        assert_eq!(client.register(&table(), "s3://b/v1.metadata.json").await.unwrap(), Taken::Changed);
        for _ in 0..2 {
            assert_eq!(client.commit(&table(), json!({"updates": []})).await.unwrap(), Taken::Changed);
        }
        assert!(matches!(client.commit(&table(), json!({"updates": []})).await, Err(CatalogError::Refused(_))));
        let within = "/api/v1/namespaces/lake%201%1Fdefault";
        let (register, namespaces, commit) = (format!("{within}/register"), "/api/v1/namespaces".to_owned(), format!("{within}/tables/t"));
        let asked = served.await.unwrap();
        let expected = [&register, &namespaces, &namespaces, &register, &commit, &commit, &commit];
        assert_eq!(asked[1..], expected.map(|path| format!("{path} nothing")));
    }

    #[tokio::test]
    async fn what_it_answers_says_whether_to_come_again() {
        let token = || Access::Token(Secret::new("hunter2".to_owned()));
        for (status, away) in [(503, true), (500, true), (429, true), (400, false), (403, false)] {
            let (uri, served) = scripted(vec![(200, json!({})), (status, json!({"error": {"message": "why"}}))]).await;
            let client = Client::new(settings(uri, token())).unwrap();
            let error = client.load(&table()).await.unwrap_err();
            assert_eq!(matches!(error, CatalogError::Away(_)), away, "{status}");
            assert!(error.to_string().contains("why") && !format!("{client:?}").contains("hunter2"), "{error}");
            assert_eq!(served.await.unwrap()[1], "/api/v1/namespaces/lake%201%1Fdefault/tables/t hunter2");
        }
        let (uri, served) = scripted(vec![(401, Value::Null)]).await;
        let error = Client::new(settings(uri, token())).unwrap().load(&table()).await.unwrap_err();
        assert!(matches!(error, CatalogError::Away(ref why) if why.contains("credentials")), "{error}");
        served.await.unwrap();
    }
}
