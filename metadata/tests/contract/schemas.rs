//! Subjects and schemas in the tables. Rows by hand: what a ledger makes of them is not the stores' affair.

use lakefall_queue::ledger::{Row, RowKey, proto};
use lakefall_queue::{NamespaceName, SubjectName};

use crate::bench::{Bench, sorted};
use crate::queues::written;
use crate::suite::Kind;

fn subject(name: &str, revision: u64) -> Row {
    Row::Subject(proto::SubjectRow {
        namespace: "default".to_owned(),
        name: name.to_owned(),
        revision,
        created_ms: -1,
        compatibility: 3,
        next_version: u32::MAX,
    })
}

fn schema(subject: &str, version: u32, text: &str) -> Row {
    let schema = proto::SchemaText { kind: 2, text: text.to_owned(), message: (version > 1).then(|| "a.B".to_owned()) };
    Row::Schema(proto::SchemaRow {
        namespace: "default".to_owned(),
        subject: subject.to_owned(),
        version,
        id: u32::MAX - version,
        created_ms: 7,
        schema: Some(schema),
    })
}

async fn stored(bench: &Bench) -> Vec<Row> {
    let of_schemas = |row: &Row| matches!(row, Row::Subject(_) | Row::Schema(_));
    sorted(bench.load().await.rows.into_iter().filter(of_schemas).collect())
}

pub(crate) async fn rows_of_schemas_are_written_replaced_and_deleted<K: Kind>() {
    let mut bench = Bench::of::<K>().await;
    let first = [
        subject("orders", 1),
        subject("other", u64::MAX),
        schema("orders", 1, "a \0 \\0 ü"),
        schema("orders", u32::MAX, ""),
        schema("other", 1, "x"),
    ];
    written(&mut bench, &first, &[]).await;
    assert_eq!(stored(&bench).await, sorted(first.to_vec()));

    let key = |name: &str| (NamespaceName::default_name(), SubjectName::new(name).unwrap());
    let gone =
        [RowKey::Subject(key("other")), RowKey::Schema(key("other"), 1), RowKey::Schema(key("orders"), 1), RowKey::Schema(key("none"), 1)];
    written(&mut bench, &[subject("orders", 2)], &gone).await;
    assert_eq!(stored(&bench).await, sorted(vec![subject("orders", 2), schema("orders", u32::MAX, "")]));
}

pub(crate) async fn many_large_schemas_are_all_written<K: Kind>() {
    let mut bench = Bench::of::<K>().await;
    let text = "x".repeat(64 << 10);
    let many: Vec<Row> = (1..=100).map(|version| schema("orders", version, &text)).collect();
    written(&mut bench, &many, &[]).await;
    assert_eq!(stored(&bench).await, sorted(many));
}
