//! How to reach PostgreSQL, and how long to wait for it. Must never put a password into a log or an error.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use crate::store::StoreError;

/// Whether the connection is encrypted, and whether the server must prove who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// Never encrypted: for loopback and private links.
    Disable,
    /// Encrypted if the server offers it. Protects against nobody who can alter traffic.
    Prefer,
    /// Always encrypted. The server's certificate must be signed by [`PostgresConfig::ca_file`] if there is one; without,
    /// any is taken.
    Require,
    /// Always encrypted, and the certificate must be valid for the host's name. Needs a CA that signed it.
    VerifyFull,
}

/// How to reach PostgreSQL. The defaults are those of [`PostgresConfig::new`].
#[derive(Clone)]
pub struct PostgresConfig {
    /// `postgres://user@host:5432/database`. Must name the primary: a standby is refused (R11).
    pub url: String,
    /// The password, if the URL does not hold it.
    pub password: Option<String>,
    /// `None`: what the URL says in `sslmode`, else [`TlsMode::Prefer`].
    pub tls: Option<TlsMode>,
    /// The certificate authorities to trust, as PEM. `None`: those of the web.
    pub ca_file: Option<PathBuf>,
    /// Connections for everything but the journal. Each shard that is owned here has one more for its journal.
    pub max_connections: u32,
    /// How long a call waits for one of them. Past it, nothing happened.
    pub acquire_timeout: Duration,
    /// How long opening a connection may take.
    pub connect_timeout: Duration,
    /// How long the server works on a statement before it gives up. An append that got no answer for this long and
    /// [`PostgresConfig::connect_timeout`] more is in doubt.
    pub statement_timeout: Duration,
    /// After how long an append that got no answer is written again on another connection, beside the first attempt: its answer may
    /// be lost, and the shard waits for it. Shorter costs a connection whenever the server is slow.
    pub second_append_after: Duration,
    /// How long a statement waits for a lock. It bounds how long a takeover waits for an append that hangs.
    pub lock_timeout: Duration,
    /// After how long the server ends a transaction whose client fell silent: a paused owner's checkpoint.
    pub idle_in_transaction_timeout: Duration,
    /// What `pg_stat_activity` shows.
    pub application_name: String,
    /// Bring the schema up to date when connecting. `false`: somebody runs [`super::PostgresStore::migrate`] before; the
    /// user then needs no right to create tables but for the first start, which makes the shards' journals.
    pub migrate: bool,
    /// Accept a server that may lose what it acknowledged (`fsync`, `full_page_writes` or `synchronous_commit` off). Never
    /// where data matters: an acknowledged record may be gone after a crash.
    pub allow_unsafe_durability: bool,
}

/// Every statement goes by a key and wants a few rows: whatever the planner's figures say, which are old when a table was
/// small a moment ago. Loads, which read whole shards, set it back ([`LOADS`]). And compiling such statements costs more than
/// it saves.
pub(super) const PLANNER: [(&str, &str); 5] =
    [("enable_seqscan", "off"), ("enable_bitmapscan", "off"), ("enable_hashjoin", "off"), ("enable_mergejoin", "off"), ("jit", "off")];

/// See [`PLANNER`].
pub(super) const LOADS: &str = "SET LOCAL enable_seqscan = on; SET LOCAL enable_bitmapscan = on";

impl PostgresConfig {
    /// The defaults: 10 connections, 5 s to get or open one, 10 s for a statement, 2 s for an append without an answer, 2 s for a
    /// lock, 5 s of silence in a transaction.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            password: None,
            tls: None,
            ca_file: None,
            max_connections: 10,
            acquire_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(10),
            second_append_after: Duration::from_secs(2),
            lock_timeout: Duration::from_secs(2),
            idle_in_transaction_timeout: Duration::from_secs(5),
            application_name: "lakefall".to_owned(),
            migrate: true,
            allow_unsafe_durability: false,
        }
    }

    pub(super) fn options(&self) -> Result<PgConnectOptions, StoreError> {
        let of_postgres = self.url.starts_with("postgres://") || self.url.starts_with("postgresql://");
        let parsed = PgConnectOptions::from_str(&self.url).ok().filter(|_| of_postgres);
        // The parser's error may repeat parts of the URL, and so a password.
        let wrong = || StoreError::Misconfigured("the PostgreSQL URL is malformed: write it as postgres://user@host:5432/database".into());
        let mut options = parsed.ok_or_else(wrong)?;
        if let Some(password) = &self.password {
            options = options.password(password);
        }
        if let Some(tls) = self.tls {
            options = options.ssl_mode(match tls {
                TlsMode::Disable => PgSslMode::Disable,
                TlsMode::Prefer => PgSslMode::Prefer,
                TlsMode::Require if self.ca_file.is_some() => PgSslMode::VerifyCa,
                TlsMode::Require => PgSslMode::Require,
                TlsMode::VerifyFull => PgSslMode::VerifyFull,
            });
        }
        if let Some(file) = &self.ca_file {
            options = options.ssl_root_cert(file);
        }
        let ms = |timeout: Duration| timeout.as_millis().to_string();
        let settings = [
            ("statement_timeout", ms(self.statement_timeout)),
            ("lock_timeout", ms(self.lock_timeout)),
            ("idle_in_transaction_session_timeout", ms(self.idle_in_transaction_timeout)),
            // The statements are written for it; a database may have another default.
            ("default_transaction_isolation", "read committed".to_owned()),
            ("default_transaction_read_only", "off".to_owned()),
        ];
        let options = options.application_name(&self.application_name).options(settings).options(PLANNER);
        // Statements carry no values but in parameters, yet they are many; errors are logged where they are handled.
        Ok(options.disable_statement_logging())
    }

    /// Where the server is, as errors name it.
    pub(super) fn place(options: &PgConnectOptions) -> String {
        match options.get_socket() {
            Some(socket) => format!("{} (port {})", socket.display(), options.get_port()),
            None => format!("{}:{}", options.get_host(), options.get_port()),
        }
    }
}

impl fmt::Debug for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresConfig").field("application_name", &self.application_name).finish_non_exhaustive()
    }
}
