//! Opens channels to replicas and dresses calls: token, versions, cluster.

use std::io;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures::future::BoxFuture;
use hyper_util::rt::TokioIo;
use lakefall_service::net::{Dial, Dialing, Wire};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, ClientTlsConfig, Endpoint, Uri};
use tonic::{Code, Request, Status};

use super::super::proto::metadata_client::MetadataClient;
use super::super::protocol::{self, CLUSTER_HEADER, PROTOCOL_HEADER};
use super::super::server::reason;
use super::super::{CONNECTION_WINDOW, ClientSecurity, ClientTls, MAX_MESSAGE, Renewal, STREAM_WINDOW, security};
use super::ClientError;

/// A replica that shows no sign of life for so long, while a stream is open, is asked for one.
const KEEPALIVE: Duration = Duration::from_secs(2);
/// And is gone when it gives none within this time: a stopped process, or a network that lets through one way only.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(2);

/// A TLS handshake that takes longer is given up.
const HANDSHAKE: Duration = Duration::from_secs(3);

/// What all connections of a client have in common.
#[derive(Clone)]
pub(super) struct Dialer {
    bearer: Option<MetadataValue<Ascii>>,
    versions: MetadataValue<Ascii>,
    trust: Arc<RwLock<Trust>>,
    connect_timeout: Duration,
    dialing: Dialing,
}

/// The certificates in use. All clones of a dialer share them.
struct Trust {
    tls: Option<ClientTlsConfig>,
    /// How often they were renewed.
    renewals: u64,
}

/// Why a call came to nothing.
#[derive(Clone, Debug)]
pub(super) enum CallError {
    /// The replica does not take this caller: wrong token, wrong version, another cluster. A person must act.
    Refused(String),
    /// It is not there, or broke down on the way.
    Broken(String),
}

impl Dialer {
    pub(super) fn new(security: &ClientSecurity, connect_timeout: Duration, dialing: Dialing) -> Result<Self, ClientError> {
        let bearer = security.token.as_ref().map(security::bearer).transpose().map_err(|reason| ClientError(reason.to_owned()))?;
        let versions = protocol::header().parse().map_err(|_| ClientError("the protocol's versions are no header".to_owned()))?;
        let trust = Trust { tls: security.tls.as_ref().map(|tls| tls.config().timeout(HANDSHAKE)), renewals: 0 };
        Ok(Self { bearer, versions, trust: Arc::new(RwLock::new(trust)), connect_timeout, dialing })
    }

    /// Looks at renewed certificates; what comes back puts them into use for connections to come, and leaves those that are open.
    pub(super) fn renewal(&self, tls: &ClientTls) -> Result<Renewal, ClientError> {
        if !tls.trusts_somebody() {
            return Err(ClientError("metadata.tls.ca: there is no certificate in it that can be read".to_owned()));
        }
        let renewed = tls.config().timeout(HANDSHAKE);
        let tried = Endpoint::from_static("https://localhost").tls_config(renewed.clone());
        tried.map_err(|error| ClientError(format!("metadata.tls: {}", reason(&error))))?;
        let trust = Arc::clone(&self.trust);
        Ok(Box::new(move || {
            let mut trust = trust.write().unwrap_or_else(PoisonError::into_inner);
            trust.tls = Some(renewed);
            trust.renewals += 1;
        }))
    }

    /// How often certificates were renewed: a client that was made before goes on with those of its time.
    pub(super) fn renewals(&self) -> u64 {
        self.trust.read().unwrap_or_else(PoisonError::into_inner).renewals
    }

    /// A client for the replica at this URL. Connects when it is first used, and again whenever the connection is lost.
    pub(super) fn client(&self, address: &str) -> Result<MetadataClient<Channel>, String> {
        let endpoint = self.endpoint(address)?;
        Ok(limited(match &self.dialing {
            Dialing::Tcp => endpoint.connect_lazy(),
            Dialing::Through(dial) => endpoint.connect_with_connector_lazy(tower::service_fn(through(dial))),
        }))
    }

    /// The same, connected already: what is asked now is answered as soon as the network and the replica can.
    pub(super) async fn connected(&self, address: &str) -> Result<MetadataClient<Channel>, CallError> {
        let endpoint = self.endpoint(address).map_err(CallError::Refused)?;
        let connected = match &self.dialing {
            Dialing::Tcp => endpoint.connect().await,
            Dialing::Through(dial) => endpoint.connect_with_connector(tower::service_fn(through(dial))).await,
        };
        connected.map(limited).map_err(|error| CallError::Broken(reason(&error)))
    }

    fn endpoint(&self, address: &str) -> Result<Endpoint, String> {
        let wrong = |what: &str| format!("{address} is not the URL of a metadata replica, like http://10.0.0.7:8082: {what}");
        let url = url::Url::parse(address).map_err(|error| wrong(&error.to_string()))?;
        if url.host().is_none() {
            return Err(wrong("it names no host"));
        }
        let endpoint = Endpoint::from_shared(address.to_owned())
            .map_err(|error| wrong(&reason(&error)))?
            .connect_timeout(self.connect_timeout)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        let tls = self.trust.read().unwrap_or_else(PoisonError::into_inner).tls.clone();
        match (url.scheme(), tls) {
            ("http", None) => Ok(endpoint),
            ("https", Some(tls)) => endpoint.tls_config(tls).map_err(|error| format!("metadata.tls: {}", reason(&error))),
            ("http", Some(_)) => Err(wrong("it is in clear, but metadata.tls is set: use https")),
            ("https", None) => Err(wrong("it is encrypted: set metadata.tls.ca to the authority of its certificate")),
            _ => Err(wrong("use http or https")),
        }
    }

    /// A call with its headers.
    pub(super) fn request<T>(&self, message: T, cluster: Option<&str>) -> Request<T> {
        let mut request = Request::new(message);
        let headers = request.metadata_mut();
        headers.insert(PROTOCOL_HEADER, self.versions.clone());
        if let Some(bearer) = &self.bearer {
            security::show(headers, bearer);
        }
        if let Some(cluster) = cluster.and_then(|cluster| cluster.parse().ok()) {
            headers.insert(CLUSTER_HEADER, cluster);
        }
        request
    }
}

/// Opens a connection to the host that a URL names.
fn through(dial: &Arc<dyn Dial>) -> impl FnMut(Uri) -> BoxFuture<'static, io::Result<TokioIo<Box<dyn Wire>>>> + Send + 'static {
    let dial = Arc::clone(dial);
    move |to| {
        let dial = Arc::clone(&dial);
        Box::pin(async move {
            let (Some(host), Some(port)) = (to.host(), to.port_u16()) else {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{to} names no host and port")));
            };
            dial.dial(host, port).await.map(TokioIo::new)
        })
    }
}

fn limited(channel: Channel) -> MetadataClient<Channel> {
    MetadataClient::new(channel).max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE)
}

/// What a failed call means. Only for calls that were answered by nothing but this status.
pub(super) fn call_error(status: &Status) -> CallError {
    match status.code() {
        Code::Unauthenticated | Code::PermissionDenied | Code::FailedPrecondition | Code::Unimplemented => {
            CallError::Refused(status.message().to_owned())
        }
        _ => CallError::Broken(describe(status)),
    }
}

/// A status in words, with what caused it: a transport's own message says no more than that it failed.
pub(super) fn describe(status: &Status) -> String {
    match std::error::Error::source(status) {
        Some(source) => reason(source),
        None if status.message().is_empty() => status.code().description().to_owned(),
        None => status.message().to_owned(),
    }
}
