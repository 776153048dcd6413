//! The end of a run: three readers read everything, and the history is judged.

use std::sync::Arc;
use std::time::Duration;

use crate::Row;
use crate::checker::{Demands, Report, check, context};
use crate::load::{Run, Ways};

/// Readers of the last read, numbered apart from those that read during the run.
const LAST: u32 = 1_000;

/// How long a gateway may still send readers away.
const READABLE: Duration = Duration::from_secs(20);

/// Reads the whole topic as JSON pages, NDJSON and Arrow, each through the next of the ways, and judges. Panics with the first
/// violations, and leaves the history in a file.
pub async fn judge(test: &str, run: Arc<Run>, ways: impl Into<Ways>, demands: Demands) -> Report {
    // Who was in doubt a moment ago may say so for a moment more.
    let mut ways = ways.into().persistent(READABLE);
    let ends = ways.now().ends(run.topic).await;
    for (partition, (start, end)) in ends.into_iter().enumerate() {
        let partition = partition as u32;
        assert_eq!(start, 0, "nothing was trimmed");
        let asked = [0, 1, 2].map(|reader| run.recorder.ask(LAST + reader, true, partition, start));
        let pages = ways.now().read_pages(run.topic, partition, start).await;
        ways.turn();
        let lines = ways.now().read_lines(run.topic, partition, start).await;
        ways.turn();
        let arrow = ways.now().read_arrow(run.topic, partition, start).await;
        for (op, rows) in asked.into_iter().zip([pages, lines, arrow]) {
            run.recorder.saw(op, rows.iter().map(Row::seen), end);
        }
    }
    println!("{test}: {:?}", run.tally);
    let run = Arc::into_inner(run).expect("all clients have ended");
    let history = run.recorder.finish();
    let report = check(&history, demands);
    println!("{test}: {report}");
    if !report.violations.is_empty() {
        let path = std::env::temp_dir().join(format!("lakefall-{test}-history.jsonl"));
        let kept =
            history.write(&path).map_or_else(|error| format!("the history could not be written: {error}"), |()| path.display().to_string());
        let around = context(&report.violations[0].subject, &history.events);
        panic!("{report}\n{:#?}\n{around:#?}\nhistory: {kept}", &report.violations[..report.violations.len().min(10)]);
    }
    report
}
