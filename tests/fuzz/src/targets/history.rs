//! Histories as the judge of system tests and simulations reads them.

use lakefall_check::checker::{Checker, Report};
use lakefall_check::history::{History, Reader};

/// Bytes are a history or refused; one is read as it was written; and its judgement is the same each time.
pub fn history(input: &[u8]) -> bool {
    let Some(history) = read(input) else { return false };
    let mut written = Vec::new();
    history.write_to(&mut written).unwrap();
    assert_eq!(read(&written).as_ref(), Some(&history), "a history changed when it was written");
    let judged = judged(&history);
    assert_eq!(self::judged(&history), judged, "another judgement of the same history");
    judged.is_some()
}

fn read(bytes: &[u8]) -> Option<History> {
    let mut reader = Reader::new(bytes).ok()?;
    let header = reader.header().clone();
    let mut events = Vec::new();
    while let Some((_, event)) = reader.next_event().ok()? {
        events.push(event);
    }
    Some(History { header, events })
}

/// None where the events do not fit each other.
fn judged(history: &History) -> Option<Report> {
    let mut checker = Checker::new(history.header.clone());
    history.events.iter().try_for_each(|event| checker.take(event.clone())).ok()?;
    Some(checker.finish())
}
