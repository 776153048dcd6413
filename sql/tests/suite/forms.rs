//! The forms in which rows come.

use std::sync::Arc;

use lakefall_queue::sql::{RowsForm, Statement};
use lakefall_sql::{Sql, SqlConfig};
use serde_json::json as value;

use crate::heap::{Heap, collect, json, statement};

async fn bytes(text: &str, form: RowsForm) -> Vec<u8> {
    let heap = Heap::new();
    heap.create("t", 1);
    let values = [value!({"n": 1, "s": "a \"b\",\nc", "d": {"x": [1, null]}}), value!({"n": 2.5, "s": null})];
    heap.append("t", values.iter().zip(0..).map(|(value, n)| json(0, n, value)).collect());
    let sql = Sql::new(SqlConfig::default());
    let mut rows = sql.run(heap as Arc<_>, Statement { form, ..statement(text) }).await.unwrap();
    collect(&mut *rows).await.unwrap()
}

async fn text(text: &str, form: RowsForm) -> String {
    String::from_utf8(bytes(text, form).await).unwrap()
}

const ALL: &str = "SELECT n, s, d, _timestamp AS at FROM t ORDER BY _offset";

#[tokio::test]
async fn lines_are_objects() {
    let lines = text(ALL, RowsForm::Lines).await;
    let expected = "{\"n\":1.0,\"s\":\"a \\\"b\\\",\\nc\",\"d\":{\"x\":[1,null]},\"at\":\"2023-11-14T22:13:20.000Z\"}\n\
                    {\"n\":2.5,\"s\":null,\"d\":null,\"at\":\"2023-11-14T22:13:21.000Z\"}\n";
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn csv_has_a_header_and_json_where_a_value_has_parts() {
    let csv = text(ALL, RowsForm::Csv).await;
    let expected = "n,s,d,at\n1.0,\"a \"\"b\"\",\nc\",\"{\"\"x\"\":[1,null]}\",2023-11-14T22:13:20.000Z\n2.5,,,2023-11-14T22:13:21.000Z\n";
    assert_eq!(csv, expected);
    assert_eq!(text("SELECT n, s FROM t WHERE n > 10", RowsForm::Csv).await, "n,s\n", "also without rows");
}

#[tokio::test]
async fn arrow_is_one_stream_with_the_types() {
    let stream = bytes("SELECT n, _key FROM t ORDER BY _offset", RowsForm::Arrow).await;
    let reader = arrow_ipc::reader::StreamReader::try_new(std::io::Cursor::new(stream), None).unwrap();
    let batches: Vec<_> = reader.map(Result::unwrap).collect();
    let types: Vec<String> = batches[0].schema().fields().iter().map(|field| field.data_type().to_string()).collect();
    assert_eq!(types, ["Float64", "Utf8View"]);
    assert_eq!(batches.iter().map(arrow_array::RecordBatch::num_rows).sum::<usize>(), 2);
    let none = bytes("SELECT n FROM t WHERE n > 10", RowsForm::Arrow).await;
    let none = arrow_ipc::reader::StreamReader::try_new(std::io::Cursor::new(none), None).unwrap();
    assert_eq!((none.schema().fields().len(), none.count()), (1, 0));
}

#[tokio::test]
async fn columns_of_the_same_name_are_told_apart() {
    let lines = text("SELECT a._offset, b._offset FROM t a JOIN t b ON a._offset = b._offset WHERE a._offset = 1", RowsForm::Lines).await;
    assert_eq!(lines, "{\"_offset\":1,\"_offset:1\":1}\n");
}
