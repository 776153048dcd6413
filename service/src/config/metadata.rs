//! The section `metadata`: where order is kept, and how the roles reach it. Data only; bounds are enforced in `bounds`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::Secret;
use crate::secret::serialize_url;

/// Where order is kept: journal, checkpoint, ownership.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MetadataConfig {
    /// `sqlite:///file`, `postgres://user@host/database` or `memory:` (lost at exit). Only Postgres serves several replicas.
    /// Default: `metadata.sqlite` in `data_dir`.
    #[serde(serialize_with = "serialize_url")]
    pub url: Option<String>,
    /// Ledgers that order independently of each other; a namespace lives in one. More spread load over owners and cost a
    /// lease each. Fixed when a cluster is created. Default 16, in dev 1; 1 to 1,024.
    pub shards: u32,
    /// Where a metadata replica's RPC listens. Default 127.0.0.1:8082; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The URL under which gateways and other replicas reach this one, like `http://10.0.0.7:8082`. Default none: made of
    /// `metadata.listen`, which must then be an address that others reach.
    pub advertise: Option<String>,
    /// Metadata replicas that a gateway or compactor asks first; they name the others. One that is always there is enough,
    /// a load balancer's name is fine. Default none.
    pub endpoints: Vec<String>,
    /// How long a replica owns its shards without renewing them. A dead one is replaced that much later; a shorter lease
    /// renews more often (every fifth of it) and takes a slow network for a dead owner. Default 5,000 ms; 1,000 to 60,000.
    pub lease_ms: u64,
    /// How long a gateway or compactor goes on asking before it answers that the outcome is unknown.
    /// Default 10,000 ms; 500 to 120,000.
    pub deadline_ms: u64,
    /// The token that gateways, compactors and replicas show each other. Without it and without TLS, whoever reaches the port
    /// may change everything. Default none.
    pub token: Option<Secret<String>>,
    /// A file with that token, for secrets that are mounted. Default none.
    pub token_file: Option<PathBuf>,
    /// Certificates of the RPC.
    pub tls: MetadataTlsConfig,
    /// Journal entries after which a checkpoint is written. Fewer start faster after a crash, hold
    /// callers up for less time each, and write more. Default 2,000; 1 to 1,000,000.
    pub checkpoint_entries: u64,
    /// Journal bytes after which a checkpoint is written. Default 16 MiB; 64 KiB to 4 GiB.
    pub checkpoint_bytes: u64,
    /// Extents of each partition that stay in memory after a checkpoint, about 100 bytes each; older ones are read from the
    /// store. Default 256; 1 to 100,000.
    pub recent_extents: usize,
    /// How Postgres is reached.
    pub postgres: PostgresSettings,
}

impl Default for MetadataConfig {
    fn default() -> Self {
        Self {
            url: None,
            shards: 16,
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8082)),
            advertise: None,
            endpoints: Vec::new(),
            lease_ms: 5_000,
            deadline_ms: 10_000,
            token: None,
            token_file: None,
            tls: MetadataTlsConfig::default(),
            checkpoint_entries: 2_000,
            checkpoint_bytes: 16 << 20,
            recent_extents: 256,
            postgres: PostgresSettings::default(),
        }
    }
}

/// Certificates of the metadata RPC, PEM files. All three: both sides prove who they are. Only `ca`: the client checks the
/// server. Only `cert` and `key`: the server shows them and asks for none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MetadataTlsConfig {
    /// The authority that the other side's certificate must come from. Read again when the file changes. Default none.
    pub ca: Option<PathBuf>,
    /// This process's certificate. Read again when the file changes. Default none.
    pub cert: Option<PathBuf>,
    /// The key of that certificate. Read again when the file changes. Default none.
    pub key: Option<PathBuf>,
    /// The name that the certificates of replicas must bear. Default none: the host of the URL that is called, which is an address
    /// where replicas advertise one, as pods do.
    pub server_name: Option<String>,
}

/// How Postgres is reached, beside `metadata.url`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PostgresSettings {
    /// The password, if not in the URL. Default none.
    pub password: Option<Secret<String>>,
    /// A file with the password, for secrets that are mounted. Default none.
    pub password_file: Option<PathBuf>,
    /// `disable`, `prefer`, `require` (encrypted, whoever it is) or `verify-full` (encrypted, and the certificate names the
    /// host). Default none: what `sslmode` in the URL says, else prefer.
    pub tls: Option<PostgresTls>,
    /// The authority of the server's certificate, a PEM file. Default none: the system's.
    pub ca_file: Option<PathBuf>,
    /// Connections of this process at most. Each busy shard uses one, checkpoints and reads some more. Default 16; 2 to 1,000.
    pub max_connections: u32,
    /// How long to wait for a connection. Default 5,000 ms; 100 to 60,000.
    pub connect_timeout_ms: u64,
    /// `statement_timeout` of ordinary statements. Default 10,000 ms; 100 to 600,000.
    pub statement_timeout_ms: u64,
    /// `lock_timeout`: how long an ambiguous append waits for its first attempt. Default 2,000 ms; 100 to 60,000.
    pub lock_timeout_ms: u64,
    /// `idle_in_transaction_session_timeout`. Default 10,000 ms; 100 to 600,000.
    pub idle_timeout_ms: u64,
    /// Starts although the server runs with `fsync` or `synchronous_commit` off: acknowledged records are lost when it
    /// crashes. Default false.
    pub allow_unsafe_durability: bool,
}

impl Default for PostgresSettings {
    fn default() -> Self {
        Self {
            password: None,
            password_file: None,
            tls: None,
            ca_file: None,
            max_connections: 16,
            connect_timeout_ms: 5_000,
            statement_timeout_ms: 10_000,
            lock_timeout_ms: 2_000,
            idle_timeout_ms: 10_000,
            allow_unsafe_durability: false,
        }
    }
}

/// Whether the way to Postgres is encrypted, as libpq's `sslmode` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PostgresTls {
    /// In clear.
    Disable,
    /// Encrypted if the server can.
    Prefer,
    /// Encrypted, whoever the server is.
    Require,
    /// Encrypted, and the certificate must name the host.
    VerifyFull,
}
