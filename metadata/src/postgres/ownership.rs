//! Who owns which shard, on the server's clock. Each question is one statement, so that a paused caller never sits between
//! a look and a change.

use std::time::Duration;

use lakefall_queue::id::Epoch;
use lakefall_queue::{ShardId, Timestamp};
use sqlx::Row as _;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::types::Uuid;

use crate::store::{Holding, Identity, Lease, Replica, ReplicaId, Roll};

/// Takes the lease and raises the epoch, for which it waits until the append under way in that shard has ended. The lease
/// counts from before the waiting.
pub(super) const TAKE: &str = "
    WITH free AS (
        UPDATE leases SET epoch = epoch + 1, replica = $2, address = $3, until = clock_timestamp() + $4 * interval '1 millisecond'
        WHERE shard = $1 AND (replica IS NULL OR replica = $2 OR until <= clock_timestamp())
        RETURNING shard, epoch
    ), raised AS (
        UPDATE shards SET epoch = free.epoch FROM free WHERE shards.id = free.shard RETURNING shards.epoch
    )
    SELECT (SELECT epoch FROM raised), EXISTS (SELECT 1 FROM leases WHERE shard = $1)";

/// A lease that has ended is lost, although nobody took the shard: what was told to be free must not be held. The rows told
/// are those from before, but for the renewed ones. Replicas that are dead for an hour are forgotten; who meets another at it leaves it to that one.
pub(super) const RENEW: &str = "
    WITH clock AS MATERIALIZED (SELECT clock_timestamp() AS now),
    me AS (
        INSERT INTO replicas (id, address, alive_until) SELECT $1, $2, now + $3 * interval '1 millisecond' FROM clock
        ON CONFLICT (id) DO UPDATE SET address = EXCLUDED.address, alive_until = EXCLUDED.alive_until
    ), forgotten AS (
        DELETE FROM replicas WHERE id IN (
            SELECT id FROM replicas, clock WHERE alive_until < now - interval '1 hour' AND id <> $1 FOR UPDATE OF replicas SKIP LOCKED
        )
    ), renewed AS (
        UPDATE leases SET until = now + $3 * interval '1 millisecond', address = $2
        FROM clock, unnest($4::int[], $5::bigint[]) AS held (shard, epoch)
        WHERE leases.shard = held.shard AND leases.epoch = held.epoch AND leases.replica = $1 AND leases.until > now
        RETURNING leases.shard
    )
    SELECT NULL::int AS shard, NULL::uuid AS replica, NULL::text AS address, (extract(epoch FROM now) * 1000)::bigint AS ms, false AS renewed,
        NULL::bigint AS epoch
    FROM clock
    UNION ALL
    SELECT NULL, id, replicas.address, 0, false, NULL FROM replicas, clock WHERE alive_until > now AND id <> $1
    UNION ALL
    SELECT leases.shard, CASE WHEN until > now THEN replica END, leases.address,
        (extract(epoch FROM least(greatest(until - now, interval '0'), interval '100 years')) * 1000)::bigint, renewed.shard IS NOT NULL,
        leases.epoch
    FROM clock, leases LEFT JOIN renewed ON renewed.shard = leases.shard
    ORDER BY shard NULLS FIRST, replica NULLS FIRST";

pub(super) const RELEASE: &str =
    "UPDATE leases SET replica = NULL, address = NULL, until = clock_timestamp() WHERE shard = $1 AND epoch = $2 AND replica = $3";

pub(super) const LEAVE: &str = "
    WITH gone AS (DELETE FROM replicas WHERE id = $1)
    UPDATE leases SET replica = NULL, address = NULL, until = clock_timestamp() WHERE replica = $1";

const IDENTITY: &str = "
    SELECT cluster.id::text, system_identifier::text, pg_walfile_name(pg_current_wal_lsn()), pg_database.oid::bigint
    FROM cluster, pg_control_system(), pg_database WHERE datname = current_database()";

fn ms(duration: Duration) -> f64 {
    duration.as_millis() as f64
}

fn uuid(id: ReplicaId) -> Uuid {
    Uuid::from_u128(id.0)
}

/// What came of an attempt to take a shard.
pub(super) enum Taken {
    Epoch(Epoch),
    Held,
    NoSuchShard,
}

pub(super) async fn take(db: &mut PgConnection, shard: ShardId, me: &Replica, lease: Duration) -> Result<Taken, sqlx::Error> {
    let query = sqlx::query(TAKE).bind(shard.0 as i32).bind(uuid(me.id)).bind(&me.address).bind(ms(lease));
    let row = query.fetch_one(db).await?;
    Ok(match (row.try_get::<Option<i64>, _>(0)?, row.try_get(1)?) {
        (Some(epoch), _) => Taken::Epoch(Epoch(epoch as u64)),
        (None, true) => Taken::Held,
        (None, false) => Taken::NoSuchShard,
    })
}

pub(super) async fn renew(db: &mut PgConnection, leases: &[Lease], me: &Replica, lease: Duration) -> Result<Roll, sqlx::Error> {
    let shards: Vec<i32> = leases.iter().map(|held| held.shard.0 as i32).collect();
    let epochs: Vec<i64> = leases.iter().map(|held| held.epoch.0 as i64).collect();
    let query = sqlx::query(RENEW).bind(uuid(me.id)).bind(&me.address).bind(ms(lease)).bind(shards).bind(epochs);
    let rows = query.fetch_all(db).await?;
    let mut roll = Roll { now: Timestamp::from_millis(0), replicas: vec![me.clone()], holdings: Vec::new(), renewed: Vec::new() };
    for row in &rows {
        let number: i64 = row.try_get(3)?;
        match (row.try_get::<Option<i32>, _>(0)?, replica(row)?) {
            (None, None) => roll.now = Timestamp::from_millis(number),
            (None, Some(other)) => roll.replicas.push(other),
            (Some(shard), owner) => {
                let (shard, renewed) = (ShardId(shard as u32), row.try_get(4)?);
                // It was to be renewed by the rows from before, and was not: taken at this moment.
                let epoch = row.try_get::<Option<i64>, _>(5)?.unwrap_or_default() as u64;
                let lost = leases.iter().any(|held| (held.shard, held.epoch.0) == (shard, epoch));
                let (owner, remaining) = match owner {
                    _ if renewed => (Some(me.clone()), lease),
                    Some(_) if lost => (None, Duration::ZERO),
                    Some(owner) => (Some(owner), Duration::from_millis(number as u64)),
                    None => (None, Duration::ZERO),
                };
                roll.holdings.push(Holding { shard, owner, remaining });
                if renewed {
                    roll.renewed.push(shard);
                }
            }
        }
    }
    roll.replicas.sort();
    Ok(roll)
}

fn replica(row: &PgRow) -> Result<Option<Replica>, sqlx::Error> {
    let Some(id) = row.try_get::<Option<Uuid>, _>(1)? else { return Ok(None) };
    Ok(Some(Replica { id: ReplicaId(id.as_u128()), address: row.try_get::<Option<String>, _>(2)?.unwrap_or_default() }))
}

/// Whether it was still held.
pub(super) async fn release(db: &mut PgConnection, lease: &Lease, me: &Replica) -> Result<bool, sqlx::Error> {
    let query = sqlx::query(RELEASE).bind(lease.shard.0 as i32).bind(lease.epoch.0 as i64).bind(uuid(me.id));
    Ok(query.execute(db).await?.rows_affected() == 1)
}

pub(super) async fn leave(db: &mut PgConnection, me: &Replica) -> Result<(), sqlx::Error> {
    sqlx::query(LEAVE).bind(uuid(me.id)).execute(db).await.map(|_| ())
}

/// A restore to an earlier point and a failover begin a new timeline, which is how the names of the log's files begin; a
/// copy by dump has another system identifier, one by template another database.
pub(super) async fn identity(db: &mut PgConnection) -> Result<Identity, sqlx::Error> {
    let row = sqlx::query(IDENTITY).fetch_one(db).await?;
    let (cluster, system, file): (String, String, String) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let timeline = file.get(..8).unwrap_or(&file);
    Ok(Identity { cluster, incarnation: format!("{system}/{timeline}/{}", row.try_get::<i64, _>(3)?) })
}
