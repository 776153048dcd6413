//! Records chosen in SQL: their offsets, for a bounded window of a partition at a time.

use std::sync::Arc;

use lakefall_queue::error::{Error, Result};
use lakefall_queue::sql::{Parameters, RowsForm, SqlRefusal, Statement};
use lakefall_queue::verbs::{Caller, Verbs};
use lakefall_queue::{Offset, PartitionIndex, TopicName};
use lakefall_sql::check_predicate;

/// Offsets of one window, and the fewest that it is made smaller to where a statement may not do as much.
const WINDOW: (u64, u64) = (50_000, 500);

/// A predicate over the topic's table.
pub(super) struct Predicate {
    topic: TopicName,
    text: Arc<str>,
    window: u64,
}

/// What was chosen of a window.
pub(super) struct Chosen {
    /// In order.
    pub(super) offsets: Vec<Offset>,
    /// Where the window ends.
    pub(super) until: Offset,
}

impl Predicate {
    /// Refuses what is no predicate over the topic's table as it is.
    pub(super) async fn new(verbs: &dyn Verbs, caller: &Caller, topic: &TopicName, text: Arc<str>) -> Result<Self> {
        check_predicate(&text).map_err(told)?;
        let predicate = Self { topic: topic.clone(), text, window: WINDOW.0 };
        // Of no record: whether it can be planned.
        predicate.ask(verbs, caller, PartitionIndex(0), Offset(0), Offset(0)).await.map_err(told)?;
        Ok(predicate)
    }

    /// What it chooses of the next window from an offset on, which ends at `end` at the latest.
    pub(super) async fn next(
        &mut self,
        verbs: &dyn Verbs,
        caller: &Caller,
        partition: PartitionIndex,
        from: Offset,
        end: Offset,
    ) -> Result<Chosen> {
        loop {
            let until = from.plus(self.window).min(end);
            match self.ask(verbs, caller, partition, from, until).await {
                Ok(offsets) => return Ok(Chosen { offsets, until }),
                // There is too much in it for one statement.
                Err(Error::Sql(SqlRefusal::LimitExceeded { .. } | SqlRefusal::TimedOut { .. })) if self.window > WINDOW.1 => {
                    self.window /= 2;
                }
                Err(error) => return Err(told(error)),
            }
        }
    }

    async fn ask(&self, verbs: &dyn Verbs, caller: &Caller, partition: PartitionIndex, from: Offset, until: Offset) -> Result<Vec<Offset>> {
        // On lines of its own: it may end in a comment.
        let text = format!(
            "SELECT _offset FROM \"{}\" WHERE _partition = {partition} AND _offset >= {from} AND _offset < {until} AND (\n{}\n) ORDER BY _offset",
            self.topic, self.text
        );
        let statement =
            Statement { text: text.into(), parameters: Parameters::None, form: RowsForm::JsonRows, max_rows: None, timeout: None };
        let mut rows = verbs.sql(caller, statement).await?;
        let seen = rows.watermarks().iter().find(|mark| mark.topic == self.topic && mark.partition == partition);
        if seen.is_none_or(|mark| mark.end < until) {
            return Err(Error::unavailable(format!("partition {partition} of topic {} is not seen up to offset {until} yet", self.topic)));
        }
        let mut json = vec![b'['];
        while let Some(portion) = rows.next().await? {
            json.extend_from_slice(&portion);
        }
        json.push(b']');
        if rows.statistics().truncated {
            let reason = "the predicate chooses more records than a statement may answer".to_owned();
            return Err(SqlRefusal::LimitExceeded { reason }.into());
        }
        let rows: Vec<(u64,)> = serde_json::from_slice(&json).map_err(|e| Error::Internal(format!("offsets that are no numbers: {e}")))?;
        Ok(rows.into_iter().map(|(offset,)| Offset(offset)).collect())
    }
}

/// As the caller of the replay sees it, who did not write the statement around the predicate.
fn told(error: Error) -> Error {
    match error {
        Error::Sql(SqlRefusal::Invalid { reason, .. }) => {
            SqlRefusal::Invalid { reason: format!("/from/where: {reason}"), place: None }.into()
        }
        Error::Sql(SqlRefusal::LimitExceeded { reason }) => SqlRefusal::LimitExceeded { reason: format!("/from/where: {reason}") }.into(),
        Error::TooLarge { limit, actual, .. } => Error::TooLarge { what: "the predicate", limit, actual },
        other => other,
    }
}
