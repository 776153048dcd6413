//! How the server goes about the statements that run often, in tables with many rows: by the key, and no further than
//! needed. <https://www.postgresql.org/docs/current/using-explain.html>

use std::sync::Arc;

use lakefall_servers::Postgres;

use super::config::PLANNER;
use super::{PostgresConfig, PostgresStore, extents, journal};

/// 200,000 extents in 8 partitions; each has 10 records, 1,000 bytes, and the time of its number.
const MANY: &str = "
    INSERT INTO extents (shard, partition, topic, base_offset, records, object, object_size, position, length, first_timestamp_ms,
        max_timestamp_ms, latest_ms, appended_ms)
    SELECT shard, partition, 1, n * 10, 10, gen_random_uuid(), 8000000, n, 1000, n, n, n, n
    FROM generate_series(0, 1) shard, generate_series(0, 3) partition, generate_series(0, 24999) n;
    ANALYZE extents;";

async fn filled() -> (Arc<Postgres>, String) {
    let server = Postgres::shared().await;
    let database = server.fresh_database().await;
    PostgresStore::migrate(&PostgresConfig::new(server.url_for(&database))).await.unwrap();
    server.sql(&database, MANY).await;
    (server, database)
}

/// What running a prepared statement with these values did, with a plan for any values as the store's connections come to
/// use (`generic`), or for these alone.
async fn explained((server, database): &(Arc<Postgres>, String), generic: bool, sql: &str, values: &str) -> String {
    let mode = if generic { "force_generic_plan" } else { "force_custom_plan" };
    let settings: String = PLANNER.iter().map(|(name, value)| format!("SET {name} = {value}; ")).collect();
    let explain = "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF, BUFFERS OFF)";
    server
        .sql(
            database,
            &format!("{settings} SET plan_cache_mode = {mode}; BEGIN; PREPARE it AS {sql}; {explain} EXECUTE it({values}); ROLLBACK"),
        )
        .await
}

/// The most rows that a node over this table saw in one go, those included that it threw away.
fn most_rows(plan: &str) -> u64 {
    let number_after = |line: &str, word: &str| -> Option<u64> {
        let digits: String = line.split(word).nth(1)?.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    };
    let rows = plan.lines().filter_map(|line| number_after(line, "actual rows="));
    let thrown = plan.lines().filter_map(|line| number_after(line, "Rows Removed by Filter: "));
    rows.chain(thrown).max().unwrap_or(u64::MAX)
}

fn by_key_alone(plan: &str) -> bool {
    plan.contains("using extents_pkey on extents") && !plan.contains("Seq Scan on extents") && !plan.contains("Sort Method")
}

#[tokio::test]
async fn a_scan_of_extents_reads_its_page_by_the_key_and_no_row_more() {
    let place = filled().await;
    for generic in [true, false] {
        for (from, below, limit) in [(0, 250_000, 32), (123_455, 250_000, 32), (249_999, 250_000, 32), (10, 30, 8_192), (0, 10, 1)] {
            let plan = explained(&place, generic, &extents::scan_sql(), &format!("1, 1, 2, {from}, {below}, {limit}")).await;
            assert!(by_key_alone(&plan), "{plan}");
            assert!(most_rows(&plan) <= limit, "{plan}");
        }
    }
}

#[tokio::test]
async fn an_extent_is_found_by_time_in_a_few_looks() {
    let place = filled().await;
    for generic in [true, false] {
        for (from, at) in [(0, 0), (0, 12_345), (0, 24_999), (123_455, 20_000), (0, 25_000), (150_000, 5)] {
            let plan = explained(&place, generic, &extents::find_sql(), &format!("1, 1, 2, {from}, {at}")).await;
            assert!(by_key_alone(&plan), "{plan}");
            // One for each bit of the range of offsets.
            assert!(most_rows(&plan) <= 40, "{plan}");
        }
    }
}

#[tokio::test]
async fn extents_are_added_and_let_go_by_the_key() {
    let place = filled().await;
    let array = |kind: &str, value: fn(u32) -> String| {
        let values: Vec<String> = (0..300).map(value).collect();
        format!("'{{{}}}'::{kind}[]", values.join(","))
    };
    let (one, partition) = (|_| "1".to_owned(), |n: u32| (n / 75).to_string());
    let (fresh, uuid) = (|n: u32| (250_000 + n).to_string(), |n: u32| format!("{n:032x}"));
    let mut values = vec!["1".to_owned(), array("bigint", one), array("int", partition), array("bigint", fresh)];
    let plan = explained(&place, false, extents::LATEST, &values.join(", ")).await;
    assert!(by_key_alone(&plan) && most_rows(&plan) <= 300, "{plan}");
    values.extend([array("bigint", one), array("uuid", uuid)]);
    values.extend(std::iter::repeat_n(array("bigint", one), 6));
    values.extend([array("smallint", one), array("bigint", one)]);
    let plan = explained(&place, false, extents::PUT, &values.join(", ")).await;
    assert!(plan.contains("Conflict Arbiter Indexes: extents_pkey") && most_rows(&plan) <= 300, "{plan}");
    let values = ["1".to_owned(), array("bigint", one), array("int", partition), array("bigint", |n| n.to_string())];
    let plan = explained(&place, false, extents::DELETE, &values.join(", ")).await;
    assert!(!plan.contains("Seq Scan on extents") && most_rows(&plan) <= 300 * 30, "{plan}");
}

#[tokio::test]
async fn an_append_touches_one_table_of_the_journal() {
    let (server, database) = filled().await;
    server.sql(&database, "INSERT INTO shards (id) SELECT generate_series(0, 15)").await;
    for statement in super::schema::journal_tables(3).split_inclusive(';').filter(|s| !s.trim().is_empty()) {
        server.sql(&database, statement).await;
    }
    let sql = journal::append_sql(lakefall_queue::ShardId(3), lakefall_queue::id::JournalSeq(2_049));
    let values = "3, 2049, 0, gen_random_uuid(), '\\x00'";
    let place = (server, database);
    for generic in [true, false] {
        let plan = explained(&place, generic, &sql, values).await;
        assert!(plan.contains("Insert on journal_3_1") && !plan.contains("journal_3_0"), "{plan}");
    }
}
