//! Statements whose answers are known beforehand.

use std::collections::VecDeque;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use lakefall_queue::sql::*;
use lakefall_queue::*;

struct Known {
    columns: Vec<Column>,
    watermarks: Vec<Watermark>,
    portions: VecDeque<Result<Bytes>>,
}

#[async_trait]
impl Rows for Known {
    fn columns(&self) -> &[Column] {
        &self.columns
    }

    fn watermarks(&self) -> &[Watermark] {
        &self.watermarks
    }

    async fn next(&mut self) -> Result<Option<Bytes>> {
        self.portions.pop_front().transpose()
    }

    fn statistics(&self) -> Statistics {
        Statistics { rows: 2, ..Statistics::default() }
    }
}

pub(super) fn answer(statement: Statement) -> Result<Box<dyn Rows>> {
    let refusal = match &*statement.text {
        "wrong" => SqlRefusal::Invalid { reason: "no such word".to_owned(), place: Some((1, 3)) },
        "nowhere" => SqlRefusal::TableNotFound { table: "nowhere".to_owned(), hint: String::new() },
        "large" => SqlRefusal::LimitExceeded { reason: "too much".to_owned() },
        "slow" => SqlRefusal::TimedOut { after: statement.timeout.unwrap_or(Duration::from_secs(60)) },
        "busy" => return Err(Error::unavailable("busy")),
        _ => return Ok(Box::new(known(&statement))),
    };
    Err(refusal.into())
}

fn known(statement: &Statement) -> Known {
    let portions: [&str; 2] = match statement.form {
        RowsForm::JsonRows => ["[1,\"a\"]", ",[2,null]"],
        RowsForm::Lines => ["{\"n\":1}\n", "{\"n\":2}\n"],
        RowsForm::Csv => ["n\n1\n", "2\n"],
        RowsForm::Arrow => ["arrow", "stream"],
    };
    let mut portions: VecDeque<Result<Bytes>> = portions.into_iter().map(|portion| Ok(Bytes::from(portion))).collect();
    match &*statement.text {
        "breaks" => portions.push_back(Err(Error::unavailable("the store went away"))),
        "breaks at once" => portions = VecDeque::from([Err(SqlRefusal::LimitExceeded { reason: "too much".to_owned() }.into())]),
        "asks" => {
            let asked = format!("{:?} {:?} {:?}", statement.parameters, statement.max_rows, statement.timeout);
            portions = VecDeque::from([Ok(Bytes::from(serde_json::json!([asked]).to_string()))]);
        }
        _ => {}
    }
    let column = |name: &str, kind: &str| Column { name: name.to_owned(), kind: kind.to_owned(), nullable: true };
    let watermark = Watermark { topic: TopicName::new("t").unwrap(), partition: PartitionIndex(0), log_start: Offset(1), end: Offset(9) };
    Known { columns: vec![column("n", "Int64"), column("s", "Utf8View")], watermarks: vec![watermark], portions }
}
