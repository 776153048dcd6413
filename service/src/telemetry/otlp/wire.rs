//! OTLP over gRPC and over HTTP (https://opentelemetry.io/docs/specs/otlp): one request and what it was answered with. Must never
//! show a header, whose value may be a key.

use std::error::Error;
use std::str::FromStr;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use prost::Message;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{StatusCode, redirect};
use tonic::metadata::{KeyAndValueRef, MetadataMap};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Status};
use url::Url;

use super::sender::Request;
use crate::config::TelemetryProtocol;

/// Larger answers are not looked into: a whole one has a few bytes.
const ANSWER_MAX: u64 = 64 << 10;

/// After so long without a word from the collector, an HTTP/2 connection is asked whether it lives. A collector whose host is gone is
/// noticed in this and [`ANSWER_TO_PING`], instead of after the quarter of an hour for which the kernel repeats what nobody takes.
///
/// A collector in Go counts pings while nothing is under way, and closes the connection at the third without an answer of its own
/// between (https://github.com/grpc/proposal/blob/master/A8-client-side-keepalive.md): with metrics each minute there are two at most.
/// A connection that it closes is opened again with the next request.
const PING: Duration = Duration::from_secs(30);
/// How long the answer to that may take.
const ANSWER_TO_PING: Duration = Duration::from_secs(10);

/// What a collector took not.
pub(super) struct Rejected {
    pub(super) items: u64,
    pub(super) reason: String,
}

/// Why a request came to nothing.
#[derive(Debug)]
pub(super) enum Failed {
    /// Send it again after a while.
    ForNow(String),
    /// It will not be taken.
    ForGood(String),
}

/// How a collector is reached, as the settings have it.
pub(super) struct Target {
    pub(super) endpoint: Url,
    pub(super) protocol: TelemetryProtocol,
    /// The setting that the headers come from, their names and values; secrets.
    pub(super) headers: (&'static str, Vec<(String, String)>),
    /// PEM.
    pub(super) ca: Option<Vec<u8>>,
    /// Longest attempt to connect.
    pub(super) timeout: Duration,
}

/// A way to a collector that nobody went yet. What is wrong with the settings is told when it is made.
pub(super) enum Way {
    Grpc { endpoint: Box<Endpoint>, headers: MetadataMap },
    Http { client: reqwest::Client, base: Url, headers: HeaderMap },
}

impl Way {
    /// The error names the setting, and shows no header.
    pub(super) fn new(target: Target) -> Result<Self, String> {
        let Target { endpoint: base, protocol, headers: (key, pairs), ca, timeout } = target;
        let headers = headers(key, &pairs)?;
        let authorities = ca.as_deref().map(authorities).transpose()?;
        let is_encrypted = base.scheme() == "https";
        let wrong = |error: &dyn Error| format!("telemetry.endpoint: {}", whole(error));
        match protocol {
            TelemetryProtocol::Grpc => {
                let mut endpoint = Endpoint::from_shared(base.to_string())
                    .map_err(|error| wrong(&error))?
                    .connect_timeout(timeout)
                    .http2_keep_alive_interval(PING)
                    .keep_alive_timeout(ANSWER_TO_PING)
                    .keep_alive_while_idle(true);
                if is_encrypted {
                    let tls = match ca {
                        Some(pem) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)),
                        None => ClientTlsConfig::new().with_native_roots(),
                    };
                    endpoint = endpoint.tls_config(tls).map_err(|error| wrong(&error))?;
                }
                Ok(Self::Grpc { endpoint: Box::new(endpoint), headers: MetadataMap::from_headers(headers) })
            }
            TelemetryProtocol::Http => {
                // A redirect would take the headers to a place that nobody named.
                let mut client = reqwest::Client::builder()
                    .redirect(redirect::Policy::none())
                    .connect_timeout(timeout)
                    .http2_keep_alive_interval(PING)
                    .http2_keep_alive_timeout(ANSWER_TO_PING)
                    .http2_keep_alive_while_idle(true);
                if authorities.is_some() || !is_encrypted {
                    // The system's are looked for only where they are needed: not every system has some.
                    client = client.tls_certs_only(authorities.unwrap_or_default());
                }
                let client = client.build().map_err(|error| wrong(&error))?;
                Ok(Self::Http { client, base, headers })
            }
        }
    }

    /// From within the runtime.
    pub(super) fn open(&self) -> Wire {
        match self {
            Self::Grpc { endpoint, headers } => Wire::Grpc { channel: endpoint.connect_lazy(), headers: headers.clone() },
            Self::Http { client, base, headers } => Wire::Http { client: client.clone(), base: base.clone(), headers: headers.clone() },
        }
    }
}

/// The way to a collector. It is connected with the first request, and again when that is lost.
pub(super) enum Wire {
    Grpc { channel: Channel, headers: MetadataMap },
    Http { client: reqwest::Client, base: Url, headers: HeaderMap },
}

impl Wire {
    /// Sends it once. The answer says what was not taken of it.
    pub(super) async fn send(&self, request: &Request) -> Result<Option<Rejected>, Failed> {
        match self {
            Self::Grpc { channel, headers } => call(channel.clone(), headers, request.clone()).await.map_err(|status| from_status(&status)),
            Self::Http { client, base, headers } => post(client, base, headers, request).await,
        }
    }
}

fn headers(key: &str, pairs: &[(String, String)]) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let name = HeaderName::from_str(name).map_err(|_| format!("{key} names what is no header"))?;
        let mut value = HeaderValue::from_str(value).map_err(|_| format!("{key}: the value of {name} is none of a header"))?;
        value.set_sensitive(true);
        headers.append(name, value);
    }
    Ok(headers)
}

/// The certificates of a PEM file, each of which can be read.
fn authorities(pem: &[u8]) -> Result<Vec<reqwest::Certificate>, String> {
    let wrong = || "telemetry.ca_file holds no certificate, or one that cannot be read: it must be PEM".to_owned();
    let certificates = reqwest::Certificate::from_pem_bundle(pem).map_err(|_| wrong())?;
    if certificates.is_empty() {
        return Err(wrong());
    }
    // They are read when a client is built with them. This one is built for that alone: tonic leaves out what it cannot read, and
    // then trusts nobody.
    reqwest::Client::builder().tls_certs_only(certificates.clone()).build().map_err(|_| wrong())?;
    Ok(certificates)
}

async fn call(channel: Channel, headers: &MetadataMap, request: Request) -> Result<Option<Rejected>, Status> {
    match request {
        Request::Traces(message) => {
            let answer = TraceServiceClient::new(channel).export(dressed(message, headers)).await?;
            Ok(rejected(answer.into_inner().partial_success.map(|partial| (partial.rejected_spans, partial.error_message))))
        }
        Request::Metrics(message) => {
            let answer = MetricsServiceClient::new(channel).export(dressed(message, headers)).await?;
            Ok(rejected(answer.into_inner().partial_success.map(|partial| (partial.rejected_data_points, partial.error_message))))
        }
        Request::Logs(message) => {
            let answer = LogsServiceClient::new(channel).export(dressed(message, headers)).await?;
            Ok(rejected(answer.into_inner().partial_success.map(|partial| (partial.rejected_log_records, partial.error_message))))
        }
    }
}

fn dressed<T>(message: T, headers: &MetadataMap) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    for header in headers.iter() {
        match header {
            KeyAndValueRef::Ascii(name, value) => {
                request.metadata_mut().append(name.clone(), value.clone());
            }
            KeyAndValueRef::Binary(name, value) => {
                request.metadata_mut().append_bin(name.clone(), value.clone());
            }
        }
    }
    request
}

async fn post(client: &reqwest::Client, base: &Url, headers: &HeaderMap, request: &Request) -> Result<Option<Rejected>, Failed> {
    let (path, body) = match request {
        Request::Traces(message) => ("v1/traces", message.encode_to_vec()),
        Request::Metrics(message) => ("v1/metrics", message.encode_to_vec()),
        Request::Logs(message) => ("v1/logs", message.encode_to_vec()),
    };
    let mut url = base.clone();
    url.set_path(&format!("{}/{path}", base.path().trim_end_matches('/')));
    let sent = client.post(url).headers(headers.clone()).header(CONTENT_TYPE, "application/x-protobuf").body(body).send().await;
    let answer = sent.map_err(|error| Failed::ForNow(whole(&error.without_url())))?;
    let status = answer.status();
    if !status.is_success() {
        let reason = format!("it answered {status}");
        return Err(match status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
                Failed::ForNow(reason)
            }
            _ => Failed::ForGood(reason),
        });
    }
    if answer.content_length().is_none_or(|bytes| bytes == 0 || bytes > ANSWER_MAX) {
        return Ok(None);
    }
    // It was taken: an answer that breaks off, or is none, only hides what was not.
    let Ok(bytes) = answer.bytes().await else { return Ok(None) };
    let partial = match request {
        Request::Traces(_) => ExportTraceServiceResponse::decode(bytes)
            .ok()
            .and_then(|answer| answer.partial_success)
            .map(|partial| (partial.rejected_spans, partial.error_message)),
        Request::Metrics(_) => ExportMetricsServiceResponse::decode(bytes)
            .ok()
            .and_then(|answer| answer.partial_success)
            .map(|partial| (partial.rejected_data_points, partial.error_message)),
        Request::Logs(_) => ExportLogsServiceResponse::decode(bytes)
            .ok()
            .and_then(|answer| answer.partial_success)
            .map(|partial| (partial.rejected_log_records, partial.error_message)),
    };
    Ok(rejected(partial))
}

fn rejected(partial: Option<(i64, String)>) -> Option<Rejected> {
    let (items, reason) = partial?;
    let items = u64::try_from(items).ok().filter(|items| *items > 0)?;
    Some(Rejected { items, reason: reason.chars().take(200).collect() })
}

/// Which codes may be tried again: https://opentelemetry.io/docs/specs/otlp/#failures.
fn from_status(status: &Status) -> Failed {
    let reason = match Error::source(status) {
        Some(source) => whole(source),
        None => format!("{}: {}", status.code().description(), status.message().chars().take(200).collect::<String>()),
    };
    match status.code() {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss
        // What breaks on the way is told so.
        | Code::Unknown => Failed::ForNow(reason),
        Code::Ok
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::Unimplemented
        | Code::Internal
        | Code::Unauthenticated => Failed::ForGood(reason),
    }
}

/// An error with what caused it.
fn whole(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let more = next.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = next.source();
    }
    text
}
