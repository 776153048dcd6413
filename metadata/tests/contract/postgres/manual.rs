//! The manual tells the truth: every query in `docs/metadata.md` runs and finds what it promises, and every table is there.

use lakefall_queue::ledger::{Command, RetiredExtent, Row, proto};
use lakefall_queue::verbs::CursorMove;
use lakefall_queue::{CursorName, Offset, TopicId};

use crate::bench::Bench;
use crate::fixtures::{P0, commit, ns, put_topic, segment, topic_name};
use crate::suite::{Kind, PostgresPlace};

const MANUAL: &str = include_str!("../../../../docs/metadata.md");

/// What one of the answer's lines must hold, by the sentence before the query.
const ANSWERS: [(&str, &str); 13] = [
    ("Who owns what", "|http://replica-1:7400|00:0"),
    ("Which replicas are alive", "http://replica-1:7400|00:0"),
    ("Journal entries that no checkpoint holds", "0|2|"),
    ("The largest topics", "default|orders|2|20|"),
    ("How far each cursor is behind", "default|billing|orders|13|"),
    ("The biggest objects", "|977 kB|1|1000 bytes|"),
    ("Objects that nothing refers to", "0|f|1|977 kB|"),
    ("Partitions that got nothing", "default|orders|1|"),
    ("Where one offset of a topic is stored", "|16|1000|0|10|"),
    ("How many messages each queue has", "default|billing|15|12|2|5|0"),
    ("How far each queue is in each partition", "default|billing|orders|0|4|6|8|20|"),
    ("The queues whose state", "default|billing|1|2|"),
    ("What the tables take on disk", "extents|"),
];

/// The queries, each with the paragraph before it.
fn queries() -> Vec<(&'static str, &'static str)> {
    let mut parts = MANUAL.split("```sql\n");
    let mut before = parts.next().unwrap();
    let mut queries = Vec::new();
    for part in parts {
        let (query, after) = part.split_once("```").unwrap();
        queries.push((before.trim_end().rsplit("\n\n").next().unwrap().trim_start(), query));
        before = after;
    }
    queries
}

/// A queue that is done with offsets 0 to 3 and 5 of 20, leases 4 and 6, and looked at none from 8 on. As rows: what a ledger
/// makes of queues is not the manual's affair.
fn queue(topic: TopicId) -> [Row; 3] {
    let queue = proto::QueueRow {
        id: 1,
        namespace: ns().to_string(),
        name: "billing".to_owned(),
        config_json: "{}".to_owned(),
        acked_total: 5,
        ..Default::default()
    };
    let place = proto::QueuePartitionRow { queue: 1, topic: topic.0, partition: 0, floor: 4, head: 6, scanned: 8 };
    let mut finished = vec![0; 512];
    finished[0] = 0b0010_1111;
    let block = proto::QueueBlockRow {
        queue: 1,
        topic: topic.0,
        partition: 0,
        finished: finished.into(),
        entries: vec![0; 24].into(),
        ..Default::default()
    };
    [Row::Queue(queue), Row::QueuePartition(place), Row::QueueBlock(block)]
}

/// A shard with something of everything.
async fn filled() -> (PostgresPlace, Bench) {
    let place = PostgresPlace::place().await;
    let store = place.open().await;
    store.initialize(1).await.unwrap();
    let mut bench = Bench::on(store, ()).await;
    let topic = bench.topic("orders", 2).await;
    let other = bench.topic("other", 1).await;
    bench.group(vec![commit(1, topic, 10), commit(2, topic, 10), commit(3, other, 1)]).await;
    let offsets = vec![(P0, Offset(7))];
    let change = CursorMove { cursor: CursorName::new("billing").unwrap(), topic: topic_name("orders"), offsets, if_version: None };
    let trim = Command::Trim { topic: other, partition: None, before: Offset(1) };
    bench.group(vec![Command::PutCursor { namespace: ns(), change }, trim]).await;
    let extents = vec![RetiredExtent { base_offset: Offset(0), records: 1, length: 100, object: segment(3) }];
    bench
        .group(vec![
            Command::Retire { topic: other, partition: P0, extents, generation: None },
            Command::RefuseSegments { segments: vec![segment(9)] },
        ])
        .await;
    let mut checkpoint = bench.ledger.checkpoint();
    checkpoint.puts.extend(queue(topic));
    bench.store.checkpoint(&bench.lease, &checkpoint).await.unwrap();
    bench.ledger.checkpointed(&checkpoint, 0);
    bench.group(vec![commit(4, topic, 1)]).await;
    bench.group(vec![put_topic("third", 1)]).await;
    bench.store.renew(&[bench.lease]).await.unwrap();
    (place, bench)
}

#[tokio::test]
async fn every_query_of_the_manual_finds_what_it_promises() {
    let (place, _bench) = filled().await;
    let queries = queries();
    assert_eq!(queries.len(), ANSWERS.len());
    for ((sentence, query), (begins, holds)) in queries.into_iter().zip(ANSWERS) {
        assert!(sentence.starts_with(begins), "{sentence:?} is not {begins:?}");
        let told = place.sql(query).await;
        assert!(told.lines().any(|line| line.contains(holds)), "{sentence}\n{query}\nno line holds {holds:?}:\n{told}");
    }
}

#[tokio::test]
async fn the_manual_names_every_table_and_every_column() {
    let (place, _bench) = filled().await;
    let columns = place
        .sql(
            "SELECT table_name || ' ' || column_name FROM information_schema.columns
             WHERE table_schema = 'public' AND table_name !~ '^(journal_|lakefall_|_sqlx)' AND (table_name, column_name) <> ('cluster', 'one')",
        )
        .await;
    let tables: Vec<&str> = MANUAL.lines().filter(|line| line.starts_with("| `")).collect();
    for line in columns.lines() {
        let (table, column) = line.split_once(' ').unwrap();
        let row = tables.iter().find(|row| row.starts_with(&format!("| `{table}` |"))).unwrap_or_else(|| panic!("{table} is missing"));
        let words = row.split(|c: char| !c.is_alphanumeric() && c != '_');
        assert!(words.into_iter().any(|word| word == column), "{table}.{column} is missing in {row}");
    }
    let listed = columns.lines().filter_map(|line| line.split(' ').next()).collect::<std::collections::BTreeSet<_>>();
    assert_eq!(tables.len(), listed.len(), "the manual has tables that are not there");
}
