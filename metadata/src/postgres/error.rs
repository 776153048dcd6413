//! What a failure of PostgreSQL means, by its SQLSTATE (<https://www.postgresql.org/docs/current/errcodes-appendix.html>).
//! Must never call anything "not applied" that may have been committed.

use sqlx::error::DatabaseError;
use sqlx::postgres::{PgConnectOptions, PgDatabaseError, PgSeverity};

use super::config::PostgresConfig;
use crate::store::StoreError;

/// A statement or a connection that failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// As the driver tells it.
    Sql(sqlx::Error),
    /// No answer within the time that the server itself allows, and more.
    Silent,
}

/// What follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Rolled back, because of another transaction: the same statement may be run again at once.
    Conflict,
    /// Rolled back, or never begun.
    Refused,
    /// The connection is gone, and with it the answer: what was asked may have been done.
    Lost,
    /// What is stored cannot be read.
    Damaged,
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl Failure {
    pub(super) fn class(&self) -> Class {
        match self {
            Self::Silent => Class::Lost,
            Self::Sql(sqlx::Error::Database(error)) => of_server(&**error),
            Self::Sql(sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) | sqlx::Error::ColumnNotFound(_)) => Class::Damaged,
            // Never sent.
            Self::Sql(sqlx::Error::Encode(_) | sqlx::Error::Configuration(_)) => Class::Refused,
            Self::Sql(_) => Class::Lost,
        }
    }

    /// For a statement that writes.
    pub(super) fn of_write(self) -> StoreError {
        match self.class() {
            Class::Conflict | Class::Refused => StoreError::NotApplied(self.text()),
            Class::Lost => StoreError::Unknown(self.text()),
            Class::Damaged => StoreError::Corrupt(self.text()),
        }
    }

    /// For a statement that only reads, or whose effect does not matter if nobody hears of it.
    pub(super) fn of_read(self) -> StoreError {
        match self.class() {
            Class::Conflict | Class::Refused | Class::Lost => StoreError::NotApplied(self.text()),
            Class::Damaged => StoreError::Corrupt(self.text()),
        }
    }

    /// For opening a connection, when nothing was asked yet. At a start-up these say what to do.
    pub(super) fn of_connect(self, options: &PgConnectOptions) -> StoreError {
        let place = PostgresConfig::place(options);
        let user = options.get_username();
        let database = options.get_database().unwrap_or(user);
        let code = match &self {
            Self::Sql(sqlx::Error::Database(error)) => error.code().unwrap_or_default().into_owned(),
            Self::Sql(_) | Self::Silent => String::new(),
        };
        match code.as_str() {
            "28P01" => StoreError::Misconfigured(format!(
                "PostgreSQL at {place} refuses the password of user {user:?}: correct the password, in the setting, its file or the environment"
            )),
            "28000" => StoreError::Misconfigured(format!(
                "PostgreSQL at {place} does not let user {user:?} in ({}): create the user, or allow it in pg_hba.conf",
                self.text()
            )),
            "3D000" => StoreError::Misconfigured(format!(
                "there is no database {database:?} at {place}: create it (CREATE DATABASE \"{database}\"), or correct the URL"
            )),
            "42501" => StoreError::Misconfigured(format!(
                "user {user:?} may not connect to database {database:?} at {place}: GRANT CONNECT on it, or use another user"
            )),
            "53300" => StoreError::NotApplied(format!(
                "PostgreSQL at {place} has no connection left ({}): raise its max_connections, or lower the pool's",
                self.text()
            )),
            _ => match self {
                Self::Sql(sqlx::Error::Tls(why)) => no_tls(&place, &*why),
                // A certificate that is not accepted.
                Self::Sql(sqlx::Error::Io(why)) if why.kind() == std::io::ErrorKind::InvalidData => no_tls(&place, &why),
                Self::Sql(sqlx::Error::Configuration(why)) => StoreError::Misconfigured(format!("PostgreSQL's settings: {why}")),
                other => StoreError::NotApplied(format!(
                    "PostgreSQL at {place} cannot be reached: {}; check the address, the network and that the server runs",
                    other.text()
                )),
            },
        }
    }

    pub(super) fn text(&self) -> String {
        match self {
            Self::Silent => "PostgreSQL did not answer in time".to_owned(),
            Self::Sql(sqlx::Error::Database(error)) => {
                format!("PostgreSQL: {} ({})", error.message(), error.code().unwrap_or_default())
            }
            Self::Sql(error) => format!("PostgreSQL: {error}"),
        }
    }
}

fn no_tls(place: &str, why: &dyn std::fmt::Display) -> StoreError {
    StoreError::Misconfigured(format!(
        "no TLS with PostgreSQL at {place}: {why}; name the authority that signed its certificate, or choose another tls mode"
    ))
}

fn of_server(error: &dyn DatabaseError) -> Class {
    let severity = error.try_downcast_ref::<PgDatabaseError>().map(PgDatabaseError::severity);
    match error.code().unwrap_or_default().as_ref() {
        // serialization_failure, deadlock_detected, lock_not_available
        "40001" | "40P01" | "55P03" => Class::Conflict,
        // data_corrupted, index_corrupted
        "XX001" | "XX002" => Class::Damaged,
        // The connection is over; whether before or after a commit, nobody says: connection exceptions, and
        // admin_shutdown, crash_shutdown, cannot_connect_now.
        code if code.starts_with("08") || code.starts_with("57P0") => Class::Lost,
        // An ERROR means that the statement's transaction was rolled back; FATAL and PANIC end the connection.
        _ => match severity {
            Some(PgSeverity::Error) => Class::Refused,
            _ => Class::Lost,
        },
    }
}
