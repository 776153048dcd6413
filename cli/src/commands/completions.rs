//! `lakefall completions`: what shells source.

use clap::CommandFactory;

use super::Output;
use crate::args::Cli;
use crate::failure::Failure;

/// Prints the completions of a shell.
pub(crate) fn completions(shell: clap_complete::Shell, output: &mut Output) -> Result<(), Failure> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "lakefall", &mut text);
    output.bytes(&text)
}
