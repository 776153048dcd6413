//! Who may call, and what is told to who may not.

use std::time::Duration;

use lakefall_metadata::Metadata;
use lakefall_metadata::rpc::{Client, ClientConfig, ClientSecurity, ClientTls, ServerSecurity, ServerTls, proto, serve};
use lakefall_queue::ShardId;
use lakefall_queue::error::Outcome;
use lakefall_queue::ledger::{Answer, Query};
use lakefall_service::{Secret, Tasks, system_ambient};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tonic::{Code, Request};

use super::world::{World, channel};

fn token(text: &str) -> Option<Secret<String>> {
    Some(Secret::new(text.to_owned()))
}

#[tokio::test]
async fn the_right_token_lets_in_and_a_wrong_one_is_told_at_once() {
    let mut world = World::alone();
    world.server.token = token("correct horse");
    world.client.token = token("correct horse");
    let replica = world.replica().await;
    let client = world.client(&[&replica]).await;
    assert!(matches!(client.query(ShardId(0), Query::Position).await, Ok(Answer::Position(_))));
    for wrong in [token("battery staple"), None] {
        let security = ClientSecurity { token: wrong, tls: None };
        let client = world.connect(ClientConfig { security, ..world.config_of(&[&replica]) });
        let told = tokio::time::timeout(Duration::from_secs(5), client.ready()).await.expect("it was retried for ever").unwrap_err();
        assert!(told.to_string().contains("metadata.token"), "{told}");
        let started = Instant::now();
        let told = client.query(ShardId(0), Query::Position).await.unwrap_err();
        assert!(started.elapsed() < Duration::from_secs(2), "it was retried for {:?}", started.elapsed());
        assert!(told.outcome() == Outcome::NotApplied && told.to_string().contains("metadata.token"), "{told}");
        assert!(!told.to_string().contains("correct") && !told.to_string().contains("staple"));
    }
}

#[tokio::test]
async fn calls_without_the_headers_of_a_role_are_refused_and_health_is_not() {
    let mut world = World::alone();
    world.server.token = token("t");
    let replica = world.replica().await;
    let mut raw = proto::metadata_client::MetadataClient::new(channel(&replica.url).await);
    let told = raw.describe(proto::DescribeRequest {}).await.unwrap_err();
    assert_eq!(told.code(), Code::Unauthenticated);
    for (versions, cluster, code) in [
        (None, None, Code::FailedPrecondition),
        (Some("7-9"), None, Code::FailedPrecondition),
        (Some("1-9"), Some("another"), Code::FailedPrecondition),
    ] {
        let mut request = Request::new(proto::DescribeRequest {});
        request.metadata_mut().insert("authorization", "Bearer t".parse().unwrap());
        if let Some(versions) = versions {
            request.metadata_mut().insert("lakefall-protocol", versions.parse().unwrap());
        }
        if let Some(cluster) = cluster {
            request.metadata_mut().insert("lakefall-cluster", cluster.parse().unwrap());
        }
        let told = raw.describe(request).await.unwrap_err();
        assert_eq!(told.code(), code, "{told}");
    }
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel(&replica.url).await);
    for service in ["", "lakefall.metadata.v1.Metadata"] {
        let request = tonic_health::pb::HealthCheckRequest { service: service.to_owned() };
        let status = health.check(request).await.unwrap().into_inner().status;
        assert_eq!(status, tonic_health::pb::health_check_response::ServingStatus::Serving as i32);
    }
}

/// An authority, and what it certified.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    fn pem(&self) -> Vec<u8> {
        self.issuer.pem().into_bytes()
    }

    fn certify(&self, name: &str) -> (Vec<u8>, Secret<Vec<u8>>) {
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        (cert.pem().into_bytes(), Secret::new(key.serialize_pem().into_bytes()))
    }
}

fn tls(authority: &Authority, both: bool) -> (ServerSecurity, ClientSecurity) {
    let (cert, key) = authority.certify("127.0.0.1");
    let server = ServerTls { cert, key, client_ca: both.then(|| authority.pem()) };
    let client = ClientTls { ca: authority.pem(), identity: both.then(|| authority.certify("gateway")), domain: None };
    (ServerSecurity { token: None, tls: Some(server) }, ClientSecurity { token: None, tls: Some(client) })
}

#[tokio::test]
async fn certificates_are_checked_on_both_sides() {
    for both in [false, true] {
        let authority = Authority::new();
        let mut world = World::alone();
        (world.server, world.client) = tls(&authority, both);
        world.scheme = "https";
        let replica = world.replica().await;
        let client = world.client(&[&replica]).await;
        assert!(matches!(client.query(ShardId(0), Query::Position).await, Ok(Answer::Position(_))));
        let stranger = Authority::new();
        let mut wrong = vec![tls(&stranger, both).1];
        if both {
            wrong.push(ClientSecurity { token: None, tls: Some(ClientTls { ca: authority.pem(), identity: None, domain: None }) });
            let identity = Some(stranger.certify("gateway"));
            wrong.push(ClientSecurity { token: None, tls: Some(ClientTls { ca: authority.pem(), identity, domain: None }) });
        }
        for security in wrong {
            let config = ClientConfig { security, deadline: Duration::from_millis(500), ..world.config_of(&[&replica]) };
            let client = world.connect(config);
            let told = client.query(ShardId(0), Query::Position).await.unwrap_err();
            assert!(told.outcome() == Outcome::NotApplied && told.to_string().contains("metadata.tls"), "{told}");
        }
    }
}

#[tokio::test]
async fn callers_that_say_nothing_do_not_shut_out_others() {
    lakefall_service::rlimit::raise_open_files();
    let mut world = World::alone();
    (world.server, world.client) = tls(&Authority::new(), true);
    world.scheme = "https";
    let replica = world.replica().await;
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(TcpStream::connect(replica.listens).await.unwrap());
    }
    // Sooner than their handshakes are given up.
    let asked = async { world.client(&[&replica]).await.query(ShardId(0), Query::Position).await };
    let answered = tokio::time::timeout(Duration::from_secs(4), asked).await;
    assert!(matches!(answered, Ok(Ok(Answer::Position(_)))), "{answered:?}");
}

#[tokio::test]
async fn endpoints_and_certificates_that_make_no_sense_are_refused_at_the_start() {
    let authority = Authority::new();
    let connect = |endpoints: &[&str], security: ClientSecurity| {
        let tasks = Tasks::new();
        let endpoints = endpoints.iter().map(|&endpoint| endpoint.to_owned()).collect();
        let config = ClientConfig { endpoints, security, ..ClientConfig::default() };
        Client::connect(config, system_ambient(), &tasks, tasks.token()).map(|_| ()).unwrap_err().to_string()
    };
    let plain = ClientSecurity::default;
    for bad in [&[][..], &["metadata:8082"], &["http://"], &["ftp://metadata:8082"], &["http://ok:1", "10.0.0.7"]] {
        assert!(connect(bad, plain()).contains("metadata.endpoints"), "{bad:?}");
    }
    assert!(connect(&["https://metadata:8082"], plain()).contains("metadata.tls.ca"));
    assert!(connect(&["http://metadata:8082"], tls(&authority, true).1).contains("use https"));
    assert!(connect(&["http://m:1"], ClientSecurity { token: token("line\nbreak"), tls: None }).contains("metadata.token"));
    let world = World::alone();
    let replica = world.replica().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nonsense = ServerTls { cert: b"nonsense".to_vec(), key: Secret::new(b"nonsense".to_vec()), client_ca: None };
    let security = ServerSecurity { token: None, tls: Some(nonsense) };
    let tasks = Tasks::new();
    let told = serve(listener, replica.held.clone(), &security, &tasks, tasks.token()).unwrap_err();
    assert!(told.to_string().starts_with("metadata.tls"), "{told}");
}

#[tokio::test]
async fn a_replica_that_is_called_by_its_address_is_known_by_the_name_in_its_certificate() {
    let authority = Authority::new();
    let (cert, key) = authority.certify("metadata.example");
    let named = |name: &str| ClientSecurity {
        token: None,
        tls: Some(ClientTls { ca: authority.pem(), identity: None, domain: Some(name.to_owned()) }),
    };
    let mut world = World::alone();
    world.server = ServerSecurity { token: None, tls: Some(ServerTls { cert, key, client_ca: None }) };
    world.client = named("metadata.example");
    world.scheme = "https";
    let replica = world.replica().await;
    let client = world.client(&[&replica]).await;
    assert!(matches!(client.query(ShardId(0), Query::Position).await, Ok(Answer::Position(_))));
    let security = named("another.example");
    let client = world.connect(ClientConfig { security, deadline: Duration::from_millis(500), ..world.config_of(&[&replica]) });
    let told = client.query(ShardId(0), Query::Position).await.unwrap_err();
    assert!(told.outcome() == Outcome::NotApplied && told.to_string().contains("metadata.tls"), "{told}");
}

#[tokio::test]
async fn certificates_that_are_renewed_are_used_for_connections_to_come_and_bad_ones_are_refused() {
    let (before, after) = (Authority::new(), Authority::new());
    let mut world = World::alone();
    (world.server, world.client) = tls(&before, true);
    world.scheme = "https";
    let replica = world.replica().await;
    let old = world.client(&[&replica]).await;
    let asks = async |client: &Client| client.query(ShardId(0), Query::Position).await;
    assert!(asks(&old).await.is_ok());
    let (server, client) = tls(&after, true);
    let (server, client) = (server.tls.unwrap(), client.tls.unwrap());

    let nonsense = ServerTls { cert: b"nonsense".to_vec(), ..server.clone() };
    assert!(replica.serving.renewal(&nonsense).is_err_and(|told| told.to_string().starts_with("metadata.tls")));
    // A key that is not the certificate's.
    let foreign = ServerTls { key: before.certify("127.0.0.1").1, ..server.clone() };
    assert!(replica.serving.renewal(&foreign).is_err());
    assert!(
        old.renewal(&ClientTls { ca: b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----".to_vec(), ..client.clone() }).is_err()
    );
    let another = world.client(&[&replica]).await;
    assert!(asks(&another).await.is_ok(), "what was refused is in use");

    replica.serving.renewal(&server).unwrap()();
    // Who has a session goes on with it; who comes anew is told apart.
    assert!(asks(&old).await.is_ok());
    let stranger = world.connect(ClientConfig { deadline: Duration::from_millis(500), ..world.config_of(&[&replica]) });
    assert!(asks(&stranger).await.is_err());
    stranger.renewal(&client).unwrap()();
    let answered = async { while asks(&stranger).await.is_err() {} };
    tokio::time::timeout(Duration::from_secs(10), answered).await.expect("a client does not use its renewed certificate");
    world.client = ClientSecurity { token: None, tls: Some(client) };
    let another = world.client(&[&replica]).await;
    assert!(asks(&another).await.is_ok());
}
