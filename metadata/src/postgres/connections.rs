//! Open connections: given out, and taken back only when all went well. Must never take back one on which anything failed
//! or whose user was cancelled: its state, and whether a transaction is open on it, is not known.
//!
//! sqlx's own pool takes them back (<https://github.com/launchbadge/sqlx/issues/4393>), and asks the server before each use.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Executor as _, Row as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use super::config::PostgresConfig;
use super::error::{Class, Failure};
use crate::store::StoreError;

/// Connections older than this are replaced: the server's address may be another by now.
const MAX_AGE: Duration = Duration::from_secs(30 * 60);

/// Connections to one database, at most so many.
pub(super) struct Connections {
    options: PgConnectOptions,
    connect_timeout: Duration,
    acquire_timeout: Duration,
    most: u32,
    permits: Arc<Semaphore>,
    /// The one used last is used next.
    idle: Mutex<Vec<Open>>,
}

struct Open {
    connection: PgConnection,
    born: Instant,
}

/// A connection in use. Dropped without [`Lent::back`], it is closed, and the server rolls back what is open on it.
pub(super) struct Lent<'a> {
    open: Open,
    /// It was used before, so the server may have closed it since.
    reused: bool,
    home: &'a Connections,
    _permit: OwnedSemaphorePermit,
}

impl Connections {
    pub(super) fn new(options: PgConnectOptions, config: &PostgresConfig, most: u32) -> Self {
        Self {
            options,
            connect_timeout: config.connect_timeout,
            acquire_timeout: config.acquire_timeout,
            most,
            permits: Arc::new(Semaphore::new(most.max(1) as usize)),
            idle: Mutex::default(),
        }
    }

    /// An open connection to the primary. Errors: nothing was asked yet, so nothing happened.
    pub(super) async fn get(&self) -> Result<Lent<'_>, StoreError> {
        self.lend(Self::pop).await
    }

    /// The same, opened now.
    pub(super) async fn fresh(&self) -> Result<Lent<'_>, StoreError> {
        self.lend(|_| None).await
    }

    async fn lend(&self, idle: fn(&Self) -> Option<Open>) -> Result<Lent<'_>, StoreError> {
        let permit = timeout(self.acquire_timeout, Arc::clone(&self.permits).acquire_owned()).await;
        let Ok(Ok(permit)) = permit else {
            return Err(StoreError::NotApplied(format!(
                "all {} connections to PostgreSQL were in use for {:?}",
                self.most, self.acquire_timeout
            )));
        };
        let (open, reused) = match idle(self) {
            Some(open) => (open, true),
            None => (self.open().await.map_err(running)?, false),
        };
        Ok(Lent { open, reused, home: self, _permit: permit })
    }

    /// Opens a connection now: at a start-up, to learn what is wrong.
    pub(super) async fn open_one(&self) -> Result<PgConnection, StoreError> {
        self.open().await.map(|open| open.connection)
    }

    /// Takes in a connection that is in order.
    pub(super) fn keep(&self, connection: PgConnection) {
        self.lock().push(Open { connection, born: Instant::now() });
    }

    fn pop(&self) -> Option<Open> {
        let mut idle = self.lock();
        let open = idle.pop()?;
        if open.born.elapsed() < MAX_AGE {
            return Some(open);
        }
        // What lies below it is older or of its age.
        idle.clear();
        None
    }

    async fn open(&self) -> Result<Open, StoreError> {
        let opened = timeout(self.connect_timeout, async {
            let mut connection = self.options.connect().await?;
            let standby = connection.fetch_one("SELECT pg_is_in_recovery()").await?;
            Ok::<_, sqlx::Error>((connection, standby.try_get::<bool, _>(0)?))
        });
        let failed = |failure: Failure| Err(failure.of_connect(&self.options));
        match opened.await {
            Ok(Ok((connection, false))) => Ok(Open { connection, born: Instant::now() }),
            // R11: it lags behind, and takes no writes.
            Ok(Ok((_, true))) => Err(StoreError::Misconfigured(format!(
                "PostgreSQL at {} is a standby: name the primary, or an address that always leads to it",
                PostgresConfig::place(&self.options)
            ))),
            Ok(Err(error)) => failed(error.into()),
            Err(_) => failed(Failure::Silent),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Open>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was wrong at a start-up must be put right by a person; later on, a server that was in order may be again.
fn running(error: StoreError) -> StoreError {
    match error {
        StoreError::Misconfigured(reason) => StoreError::NotApplied(reason),
        other => other,
    }
}

impl Lent<'_> {
    /// All went well, no transaction is open: another may use it.
    pub(super) fn back(self) {
        let Self { open, home, _permit, .. } = self;
        home.lock().push(open);
    }

    /// Something failed: it is closed. If the server closed it, it closed the idle ones as well. Whether another one, a
    /// fresh one, may do better at once.
    pub(super) fn failed(self, failure: &Failure) -> bool {
        let lost = failure.class() == Class::Lost;
        if lost {
            self.home.lock().clear();
        }
        lost && self.reused && !matches!(failure, Failure::Silent)
    }
}

impl std::ops::Deref for Lent<'_> {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.open.connection
    }
}

impl std::ops::DerefMut for Lent<'_> {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.open.connection
    }
}
