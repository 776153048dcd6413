//! The `lakefall` executable: reads the command line, runs one command, turns its failure into a text and an exit code.

mod args;
mod bench;
mod commands;
mod failure;
mod input;
mod roles;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use crate::args::Cli;

/// The C library's own keeps most of what large jobs gave back, for good: of a compaction twice what it needs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match commands::run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let text = failure.to_string();
            if !text.is_empty() {
                // Nobody is left to be told when standard error is closed too.
                let _ = writeln!(std::io::stderr(), "lakefall: {text}");
            }
            ExitCode::from(failure.exit_code())
        }
    }
}
