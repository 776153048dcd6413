//! A replica's side: accepts connections, checks callers, and stops without leaving anyone unanswered.

mod certificate;
mod connections;
mod host;
mod service;
mod session;
mod watch;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use lakefall_service::Tasks;
use lakefall_service::net::Listener;
use tokio_util::sync::CancellationToken;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;

pub use host::Host;

use super::proto::metadata_server::MetadataServer;
use super::{CONNECTION_WINDOW, MAX_MESSAGE, Renewal, STREAM_WINDOW, ServerSecurity, ServerTls};
use certificate::Certificate;
use service::{Guard, Service};

/// A peer that shows no sign of life for so long is asked for one.
const KEEPALIVE: Duration = Duration::from_secs(2);
/// And is gone when it gives none within this time.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(2);
/// Calls under way on one connection: a client has one session, one watch and few others.
const STREAMS: u32 = 64;
/// Largest sum of a call's headers, in bytes.
const HEADERS: u32 = 16 << 10;
/// How long connections may stay open after all streams were told to end.
const CLOSE: Duration = Duration::from_secs(5);

/// Why the service cannot start. A person must mend the certificates.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("metadata.tls: {0}")]
pub struct ServeError(String);

/// What is served, as far as it may be changed.
pub struct Serving {
    certificate: Option<Certificate>,
}

impl fmt::Debug for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serving").field("encrypted", &self.certificate.is_some()).finish()
    }
}

impl Serving {
    /// Looks at a renewed certificate; what comes back puts it into use for connections to come, and leaves those that are open.
    /// Where nothing is encrypted, nothing is renewed.
    pub fn renewal(&self, tls: &ServerTls) -> Result<Renewal, ServeError> {
        match &self.certificate {
            Some(certificate) => Ok(Box::new(certificate.renewal(tls)?)),
            None => Ok(Box::new(|| {})),
        }
    }
}

/// Serves `host` to gateways, compactors and other replicas, in tasks of its own, until `stop` is cancelled. Then it takes no
/// new connection, tells those that are there to ask elsewhere, and ends when what was asked is answered. Cancel it after the
/// host gave its shards away: until then it should be reached.
pub fn serve(
    listener: impl Listener,
    host: Arc<dyn Host>,
    security: &ServerSecurity,
    tasks: &Tasks,
    stop: CancellationToken,
) -> Result<Serving, ServeError> {
    let certificate = security.tls.as_ref().map(Certificate::new).transpose()?;
    let mut server = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(STREAMS)
        .http2_max_header_list_size(HEADERS);
    let (health, health_service) = tonic_health::server::health_reporter();
    let service = MetadataServer::new(Service::new(host, tasks.clone(), stop.clone()))
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE);
    let service = InterceptedService::new(service, Guard::new(security.token.clone()));
    let router = server.add_service(health_service).add_service(service);
    let connections = connections::accept(listener, certificate.clone());
    tasks.spawn_critical("metadata-rpc", async move {
        health.set_serving::<MetadataServer<Service>>().await;
        let stopping = async {
            stop.cancelled().await;
            health.set_not_serving::<MetadataServer<Service>>().await;
            health.set_service_status("", tonic_health::ServingStatus::NotServing).await;
        };
        let late = async {
            stop.cancelled().await;
            tokio::time::sleep(CLOSE).await;
        };
        tokio::select! {
            served = router.serve_with_incoming_shutdown(connections, stopping) => served,
            () = late => {
                tracing::warn!("metadata clients kept their connections open: they are cut");
                Ok(())
            }
        }
    });
    Ok(Serving { certificate })
}

/// An error with all that caused it.
pub(super) fn reason(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}
