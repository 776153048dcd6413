//! Judges a history in a file, reading it line by line: twice more where it is broken, to show what is around the first
//! violation.

use std::fs::File;
use std::io::{BufReader, Error};
use std::path::Path;

use crate::checker::{Checker, Context, Report};
use crate::history::{Bad, Expect, Reader};

/// Why a file could not be judged.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// It cannot be opened. Look at the path.
    #[error("cannot be opened: {0}")]
    Open(#[from] Error),
    /// It is no history. The line says where it ceases to be one.
    #[error(transparent)]
    Bad(#[from] Bad),
}

/// What was found in a file.
#[derive(Debug)]
pub struct Judged {
    /// The judgement.
    pub report: Report,
    /// The lines around the first violation, with their numbers.
    pub around: Vec<(u64, String)>,
}

fn open(path: &Path) -> Result<Reader<BufReader<File>>, Unreadable> {
    Ok(Reader::new(BufReader::with_capacity(1 << 20, File::open(path)?))?)
}

/// Judges a file by its header, and by what is expected of it besides.
pub fn judge(path: &Path, more: &Expect) -> Result<Judged, Unreadable> {
    let mut reader = open(path)?;
    let mut header = reader.header().clone();
    header.expect.checks.extend(&more.checks);
    header.expect.faults.extend(more.faults.iter().cloned());
    header.expect.fault_count = header.expect.fault_count.max(more.fault_count);
    header.expect.acked = header.expect.acked.max(more.acked);
    let mut checker = Checker::new(header);
    while let Some((line, event)) = reader.next_event()? {
        checker.take(event).map_err(|cause| Bad { line, cause })?;
    }
    let report = checker.finish();
    let around = match report.violations.first() {
        None => Vec::new(),
        Some(violation) => {
            let mut context = Context::new(violation.subject.clone());
            let (mut first, mut second) = (open(path)?, open(path)?);
            while let Some((_, event)) = first.next_event()? {
                context.note(&event);
            }
            while let Some((line, event)) = second.next_event()? {
                context.show(line, &event);
            }
            context.finish()
        }
    };
    Ok(Judged { report, around })
}
