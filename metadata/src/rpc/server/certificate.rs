//! A replica's certificate: each connection is taken with the one that holds when it comes, so that a renewed one needs no restart.
//! Must never let a caller in without the certificate that is asked of it.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use lakefall_service::net::Wire;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use tokio_rustls::server::TlsStream;

use super::super::ServerTls;
use super::ServeError;

/// A handshake that takes longer is given up.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// The protocol that both sides agree on during the handshake (RFC 7301): gRPC is spoken over HTTP/2 alone.
const HTTP2: &[u8] = b"h2";

/// The certificate in use, and whom it asks for one. Clones share it.
#[derive(Clone)]
pub(super) struct Certificate(Arc<RwLock<Arc<ServerConfig>>>);

impl Certificate {
    pub(super) fn new(tls: &ServerTls) -> Result<Self, ServeError> {
        Ok(Self(Arc::new(RwLock::new(config(tls)?))))
    }

    /// Looks at another one; what comes back puts it into use for connections to come.
    pub(super) fn renewal(&self, tls: &ServerTls) -> Result<impl FnOnce() + Send + use<>, ServeError> {
        let (renewed, current) = (config(tls)?, Arc::clone(&self.0));
        Ok(move || *current.write().unwrap_or_else(PoisonError::into_inner) = renewed)
    }

    /// Encrypts a connection; `None` if its caller is not let in, or takes too long over it.
    pub(super) async fn accept<S: Wire>(&self, stream: S) -> Option<TlsStream<S>> {
        let current = Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner));
        let reason = match timeout(HANDSHAKE, TlsAcceptor::from(current).accept(stream)).await {
            Ok(Ok(stream)) => return Some(stream),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it takes too long".to_owned(),
        };
        tracing::debug!(reason, "a metadata connection was not let in");
        None
    }
}

fn config(tls: &ServerTls) -> Result<Arc<ServerConfig>, ServeError> {
    let wrong = |what: &str, error: &dyn std::error::Error| ServeError(format!("{what}: {}", super::reason(error)));
    let certificates = |pem: &[u8], what: &str| {
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        let found = found.map_err(|error| wrong(what, &error))?;
        if found.is_empty() { Err(ServeError(format!("{what}: there is no certificate in it"))) } else { Ok(found) }
    };
    let builder = ServerConfig::builder();
    let builder = match &tls.client_ca {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(certificates(ca, "ca")?);
            let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().map_err(|error| wrong("ca", &error))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let key = PrivateKeyDer::from_pem_slice(tls.key.expose()).map_err(|error| wrong("key", &error))?;
    let mut config = builder.with_single_cert(certificates(&tls.cert, "cert")?, key).map_err(|error| wrong("cert and key", &error))?;
    config.alpn_protocols = vec![HTTP2.to_vec()];
    Ok(Arc::new(config))
}
