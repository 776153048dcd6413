//! What is printed: tables for people, JSON for scripts. The only place that writes to standard output.

use std::io::{self, BufWriter, IsTerminal, Stdout, Write};

use serde::Serialize;

use crate::failure::Failure;

/// Standard output.
pub(crate) struct Output {
    json: bool,
    out: BufWriter<Stdout>,
}

impl Output {
    /// For people, or as JSON.
    pub(crate) fn new(json: bool) -> Self {
        Self { json, out: BufWriter::with_capacity(64 << 10, io::stdout()) }
    }

    /// Whether a person is looking.
    pub(crate) fn is_terminal(&self) -> bool {
        !self.json && io::stdout().is_terminal()
    }

    /// Prints JSON when asked to, else the lines.
    pub(crate) fn value_or_lines(&mut self, value: &impl Serialize, lines: impl FnOnce() -> Vec<String>) -> Result<(), Failure> {
        if self.json {
            let text = serde_json::to_string_pretty(value).map_err(|error| Failure::Defect(error.to_string()))?;
            return self.line(&text);
        }
        for line in lines() {
            self.put(line.as_bytes())?;
            self.put(b"\n")?;
        }
        self.flush()
    }

    /// Prints JSON when asked to, else a table.
    pub(crate) fn table(&mut self, value: &impl Serialize, head: &[&str], rows: &[Vec<String>]) -> Result<(), Failure> {
        self.value_or_lines(value, || table(head, rows))
    }

    /// Prints a line and makes it seen.
    pub(crate) fn line(&mut self, text: &str) -> Result<(), Failure> {
        self.put(text.as_bytes())?;
        self.put(b"\n")?;
        self.flush()
    }

    /// Prints bytes as they are, and makes them seen.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.put(bytes)?;
        self.flush()
    }

    /// Prints bytes when the buffer is full; end with [`Output::flush`].
    pub(crate) fn put(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.out.write_all(bytes).map_err(closed)
    }

    /// Makes everything seen.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.out.flush().map_err(closed)
    }
}

fn closed(error: io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::OutputClosed,
        _ => Failure::Failed(format!("standard output: {error}")),
    }
}

/// Columns as wide as their widest cell.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([head[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect::<Vec<_>>();
        padded.join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(head.to_vec())];
    lines.extend(rows.iter().map(|row| line(row.iter().map(String::as_str).collect())));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tables_columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["flights".to_owned(), "1".to_owned()], vec!["a".to_owned(), "12".to_owned()]];
        assert_eq!(table(&["TOPIC", "PARTITIONS"], &rows), ["TOPIC    PARTITIONS", "flights  1", "a        12"]);
    }
}
