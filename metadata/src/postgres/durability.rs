//! Whether the server keeps what it acknowledges (R1, R11). Must never let a server pass silently that does not.

use sqlx::Row as _;
use sqlx::postgres::PgConnection;

use super::error::Failure;
use crate::store::StoreError;

/// gen_random_uuid() is built in since 13.
const OLDEST_SERVER: i32 = 130_000;

const SETTINGS: &str = "SELECT current_setting('fsync') = 'on', current_setting('full_page_writes') = 'on',
    current_setting('synchronous_commit'), current_setting('synchronous_standby_names') <> '', current_setting('server_version_num')::int";

/// Refuses what may lose an acknowledged record in a crash; warns of what may lose it in a failover.
pub(super) async fn check(connection: &mut PgConnection, allow_unsafe: bool) -> Result<(), StoreError> {
    let read = |error: sqlx::Error| Failure::from(error).of_read();
    let row = sqlx::query(SETTINGS).fetch_one(connection).await.map_err(read)?;
    let on = |i: usize| row.try_get::<bool, _>(i).map_err(read);
    let (fsync, full_page_writes, standby) = (on(0)?, on(1)?, on(3)?);
    let commit: String = row.try_get(2).map_err(read)?;
    let version: i32 = row.try_get(4).map_err(read)?;
    if version < OLDEST_SERVER {
        let major = version / 10_000;
        return Err(StoreError::Misconfigured(format!("the server is PostgreSQL {major}, Lakefall needs 13 or later: upgrade it")));
    }
    for (unsafe_setting, is_so) in
        [("fsync is off", !fsync), ("full_page_writes is off", !full_page_writes), ("synchronous_commit is off", commit == "off")]
    {
        if is_so && !allow_unsafe {
            return Err(StoreError::Misconfigured(format!(
                "{unsafe_setting} in PostgreSQL: acknowledged records would be lost in a crash; turn it on, or allow unsafe durability \
                 where that does not matter"
            )));
        }
        if is_so {
            tracing::warn!("{unsafe_setting} in PostgreSQL: acknowledged records may be lost in a crash");
        }
    }
    if !standby {
        tracing::warn!("PostgreSQL has no synchronous standby: a failover may lose acknowledged records (see synchronous_standby_names)");
    } else if commit == "local" || commit == "remote_write" {
        tracing::warn!(synchronous_commit = commit, "commits do not wait until the standby has them on disk: a failover may lose some");
    }
    Ok(())
}
