//! `lakefall-check`: judges histories in files. Must end with 1 when one is broken, and with 2 when one cannot be judged.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use lakefall_check::checker::Check;
use lakefall_check::generate::{Size, generate};
use lakefall_check::history::Expect;
use lakefall_check::{file, report};

/// Judges histories: files of what clients saw, one event per line (docs/history-format.md).
///
/// Ends with 0 when all hold, 1 when one is broken or proves nothing, and 2 when one cannot be read.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    judge: Judge,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Args)]
struct Judge {
    /// The histories
    files: Vec<PathBuf>,
    /// Prints one JSON object per file instead of Markdown
    #[arg(long)]
    json: bool,
    /// A check that must have looked at something, as H1; besides those of the header
    #[arg(long, value_parser = check)]
    expect: Vec<Check>,
    /// A kind of fault that must have been injected; besides those of the header
    #[arg(long)]
    fault: Vec<String>,
    /// How many records and messages must have been acknowledged
    #[arg(long, default_value_t)]
    acked: u64,
}

#[derive(Subcommand)]
enum Command {
    /// Writes a history that holds, to measure the checker with
    Generate {
        /// Records of a topic
        #[arg(long, default_value_t)]
        records: u64,
        /// Records of a batch
        #[arg(long, default_value_t = 20)]
        batch: u32,
        /// Messages of a queue
        #[arg(long, default_value_t)]
        messages: u64,
        /// Where to; standard output if absent
        #[arg(long)]
        out: Option<PathBuf>,
    },
}

fn check(name: &str) -> Result<Check, String> {
    serde_json::from_value(name.into()).map_err(|error| error.to_string())
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        Some(Command::Generate { records, batch, messages, out }) => write(Size { records, batch, messages }, out.as_deref()).map(|()| 0),
        None => judge(&cli.judge),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        // Of a reader that went away, nobody is left to tell.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::from(2),
        Err(error) => {
            // The last word: if it cannot be said, the exit code says it.
            let _ = writeln!(std::io::stderr(), "lakefall-check: {error}");
            ExitCode::from(2)
        }
    }
}

fn write(size: Size, to: Option<&Path>) -> std::io::Result<()> {
    let mut to: Box<dyn Write> = match to {
        Some(path) => Box::new(BufWriter::with_capacity(1 << 20, File::create(path)?)),
        None => Box::new(BufWriter::new(std::io::stdout().lock())),
    };
    generate(size, &mut to)?;
    to.flush()
}

fn judge(judge: &Judge) -> std::io::Result<u8> {
    let more = Expect {
        checks: judge.expect.iter().copied().collect(),
        faults: judge.fault.iter().cloned().collect(),
        fault_count: 0,
        acked: judge.acked,
    };
    let mut worst = 0;
    let mut out = std::io::stdout().lock();
    for path in &judge.files {
        let name = path.display().to_string();
        match file::judge(path, &more) {
            Ok(judged) => {
                if !judged.report.broken().is_empty() {
                    worst = worst.max(1);
                }
                let text = if judge.json { report::json(&name, &judged).to_string() } else { report::markdown(&name, &judged) };
                writeln!(out, "{text}")?;
            }
            Err(error) => {
                worst = 2;
                writeln!(std::io::stderr(), "lakefall-check: {name}: {error}")?;
            }
        }
    }
    out.flush()?;
    Ok(worst)
}
