//! Who may call: a token that all roles share, certificates, or both. Secrets are compared in constant time and never shown.

use lakefall_service::Secret;
use subtle::ConstantTimeEq;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tonic::Status;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

/// How a replica knows its callers. Without any, whoever reaches the port may change everything.
#[derive(Clone, Debug, Default)]
pub struct ServerSecurity {
    /// Asked of every caller, if set.
    pub token: Option<Secret<String>>,
    /// Encrypts, if set.
    pub tls: Option<ServerTls>,
}

/// A replica's certificate.
#[derive(Clone, Debug)]
pub struct ServerTls {
    /// PEM, the leaf first.
    pub cert: Vec<u8>,
    /// PEM.
    pub key: Secret<Vec<u8>>,
    /// PEM: callers must show a certificate from this authority, if set.
    pub client_ca: Option<Vec<u8>>,
}

/// How a caller shows who it is, and knows the replicas.
#[derive(Clone, Debug, Default)]
pub struct ClientSecurity {
    /// Sent with every call, if set.
    pub token: Option<Secret<String>>,
    /// For endpoints that begin with `https`.
    pub tls: Option<ClientTls>,
}

/// A caller's side of TLS.
#[derive(Clone, Debug)]
pub struct ClientTls {
    /// PEM: replicas must show a certificate from this authority.
    pub ca: Vec<u8>,
    /// PEM certificate and key that the caller shows, if the replicas ask for one.
    pub identity: Option<(Vec<u8>, Secret<Vec<u8>>)>,
    /// The name that replicas' certificates must bear. Default none: the host of the address that is called.
    pub domain: Option<String>,
}

impl ClientTls {
    /// Whether there is an authority in `ca`. What opens connections passes over what it cannot read, and then trusts nobody.
    pub(super) fn trusts_somebody(&self) -> bool {
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.ca).collect();
        found.is_ok_and(|found| RootCertStore::empty().add_parsable_certificates(found).0 > 0)
    }

    pub(super) fn config(&self) -> ClientTlsConfig {
        let mut config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&self.ca));
        if let Some((cert, key)) = &self.identity {
            config = config.identity(Identity::from_pem(cert, key.expose()));
        }
        match &self.domain {
            Some(domain) => config.domain_name(domain),
            None => config,
        }
    }
}

const AUTHORIZATION: &str = "authorization";

/// The header that shows the token. The error says what is wrong with it, without it.
pub(super) fn bearer(token: &Secret<String>) -> Result<MetadataValue<Ascii>, &'static str> {
    let mut value: MetadataValue<Ascii> =
        format!("Bearer {}", token.expose()).parse().map_err(|_| "metadata.token has characters that a header cannot carry")?;
    value.set_sensitive(true);
    Ok(value)
}

/// Adds the header.
pub(super) fn show(headers: &mut MetadataMap, bearer: &MetadataValue<Ascii>) {
    headers.insert(AUTHORIZATION, bearer.clone());
}

/// Refuses a caller that does not show the token.
pub(super) fn check(token: Option<&Secret<String>>, headers: &MetadataMap) -> Result<(), Status> {
    let Some(token) = token else { return Ok(()) };
    let shown = headers.get(AUTHORIZATION).and_then(|value| value.as_encoded_bytes().strip_prefix(b"Bearer "));
    let Some(shown) = shown else {
        return Err(Status::unauthenticated("the metadata service asks for a token: set metadata.token to the one of its replicas"));
    };
    // Differing lengths are told apart at once: only the token's length could be learned.
    if bool::from(shown.ct_eq(token.expose().as_bytes())) {
        return Ok(());
    }
    Err(Status::unauthenticated("this is not the token of the metadata service: set metadata.token to the one of its replicas"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(value: &'static str) -> MetadataMap {
        let mut headers = MetadataMap::new();
        headers.insert(AUTHORIZATION, MetadataValue::from_static(value));
        headers
    }

    #[test]
    fn only_the_very_token_lets_in() {
        let token = Secret::new("correct horse".to_owned());
        assert!(check(Some(&token), &headers("Bearer correct horse")).is_ok());
        for bad in ["Bearer correct hors", "Bearer correct horse ", "Bearer ", "Bearer", "correct horse", "Basic correct horse"] {
            assert!(check(Some(&token), &headers(bad)).is_err(), "{bad:?}");
        }
        assert!(check(Some(&token), &MetadataMap::new()).is_err());
        assert!(check(None, &MetadataMap::new()).is_ok());
    }

    #[test]
    fn a_token_is_not_shown_in_what_is_printed() {
        let token = Secret::new("hunter2".to_owned());
        let mut map = MetadataMap::new();
        show(&mut map, &bearer(&token).unwrap());
        assert!(check(Some(&token), &map).is_ok());
        let security = ServerSecurity { token: Some(token), tls: None };
        assert!(!format!("{map:?} {security:?}").contains("hunter2"));
    }
}
