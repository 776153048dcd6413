//! The end of a run: three readers read everything, and the history is judged.

use std::sync::Arc;

use lakefall_tests::Client;
use lakefall_tests::checker::{Demands, Report, check};
use lakefall_tests::history::Asked;

use super::load::Run;

/// Readers of the last read, numbered apart from those that read during the run.
const LAST: u32 = 1_000;

/// Reads the whole topic as JSON pages, NDJSON and Arrow, and judges. Panics with the first violations, and leaves the
/// history in a file.
pub(crate) async fn judge(test: &str, run: Arc<Run>, client: &Client, demands: Demands) -> Report {
    let ends = client.ends(run.topic).await;
    for (partition, (start, end)) in ends.into_iter().enumerate() {
        let partition = partition as u32;
        assert_eq!(start, 0, "nothing was trimmed");
        let at = run.recorder.now();
        let pages = client.read_pages(run.topic, partition, start).await;
        let lines = client.read_lines(run.topic, partition, start).await;
        let arrow = client.read_arrow(run.topic, partition, start).await;
        for (reader, rows) in [pages, lines, arrow].iter().enumerate() {
            let asked = Asked { reader: LAST + reader as u32, last: true, at, partition, from: start };
            run.recorder.read(asked, rows, end);
        }
    }
    let run = Arc::into_inner(run).expect("all clients have ended");
    let history = run.recorder.finish();
    let report = check(&history, demands);
    println!("{test}: {report}");
    if !report.violations.is_empty() {
        let path = std::env::temp_dir().join(format!("lakefall-{test}-history.jsonl"));
        let kept =
            history.write(&path).map_or_else(|error| format!("the history could not be written: {error}"), |()| path.display().to_string());
        panic!("{report}\n{:#?}\nhistory: {kept}", &report.violations[..report.violations.len().min(10)]);
    }
    report
}
