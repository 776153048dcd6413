//! What is the PostgreSQL store's own.

mod faults;
mod manual;
mod start;
mod tables;

use std::time::Duration;

use sqlx::PgConnection;
use tokio::time::{Instant, sleep};

use crate::suite::PostgresPlace;

/// Within which anything must come about.
const PATIENCE: Duration = Duration::from_secs(30);

impl PostgresPlace {
    /// A session of the test's own, as superuser.
    async fn session(&self) -> PgConnection {
        <PgConnection as sqlx::Connection>::connect(&self.server.superuser_url(&self.database)).await.unwrap()
    }

    /// Waits until a query answers `t`.
    async fn until(&self, query: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.sql(query).await != "t" {
            if Instant::now() >= deadline {
                let sessions =
                    self.sql("SELECT state, wait_event_type, wait_event, query FROM pg_stat_activity WHERE datname = current_database()");
                panic!("it never comes about: {query}\n{}", sessions.await);
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until so many of the store's statements that begin like this wait for a lock.
    async fn until_waiting(&self, sessions: u32, like: &str) {
        let condition = format!("state = 'active' AND wait_event_type = 'Lock' AND usename = 'lakefall' AND query ~ '{like}'");
        self.until(&format!("SELECT count(*) = {sessions} FROM pg_stat_activity WHERE datname = current_database() AND {condition}")).await;
    }
}

/// Runs statements on a session.
async fn run(session: &mut PgConnection, statements: &'static str) {
    sqlx::raw_sql(statements).execute(session).await.unwrap();
}
