//! One file for each command, and what they share: the client, the output. No command knows another, but that
//! `usage` goes by the prices of `cost`.

pub(crate) mod bucket;
mod client;
pub(crate) mod compactor;
mod completions;
pub(crate) mod config;
pub(crate) mod consume;
pub(crate) mod cost;
pub(crate) mod cursor;
pub(crate) mod fsck;
mod operation;
mod output;
pub(crate) mod produce;
pub(crate) mod queue;
pub(crate) mod receive;
pub(crate) mod recover;
pub(crate) mod replay;
pub(crate) mod schema;
pub(crate) mod send;
pub(crate) mod sql;
mod stored;
pub(crate) mod topic;
pub(crate) mod usage;
pub(crate) mod work;

pub(crate) use client::{Client, segment};
pub(crate) use output::Output;

use crate::args::{Cli, Command};
use crate::failure::Failure;
use crate::roles::CompactorCommand;
use crate::{bench, roles};

/// Runs the command that was asked for.
pub(crate) fn run(cli: Cli) -> Result<(), Failure> {
    let client = || Client::new(&cli.client);
    let json = cli.client.json;
    let mut output = Output::new(json);
    match cli.command {
        Command::Dev(args) => roles::dev(args),
        Command::Gateway(args) => roles::gateway(args),
        Command::Metadata(args) => roles::metadata(args),
        Command::Compactor(args) => match &args.command {
            Some(CompactorCommand::Status(args)) => compactor::status(args, &mut output),
            None => roles::compactor(args),
        },
        Command::Topic(args) => topic::topic(&args, &client()?, &mut output),
        Command::Schema(args) => schema::schema(&args, &client()?, &mut output),
        Command::Produce(args) => produce::produce(&args, &client()?, &mut output),
        Command::Consume(args) => consume::consume(&args, &client()?, &mut output),
        Command::Cursor(args) => cursor::cursor(&args, &client()?, &mut output),
        Command::Queue(args) => queue::queue(&args, &client()?, &mut output),
        Command::Send(args) => send::send(&args, &client()?, &mut output),
        Command::Receive(args) => receive::receive(&args, &client()?, &mut output),
        Command::Work(args) => work::work(&args, &client()?, &mut output),
        Command::Replay(args) => replay::replay(&args, &client()?, &mut output),
        Command::Sql(args) => sql::sql(&args, &client()?, &mut output, json),
        Command::Fsck(args) => fsck::fsck(&args, &mut output),
        Command::Recover(args) => recover::recover(&args, &mut output),
        Command::Doctor(args) => bucket::doctor(&args, &mut output),
        Command::Bucket(args) => bucket::bucket(&args, &mut output),
        Command::Bench(args) => bench::bench(&args, &client()?, &mut output),
        Command::Config(args) => config::config(&args, &mut output),
        Command::Cost(args) => cost::cost(&args, &mut output),
        Command::Usage(args) => usage::usage(&args, &client()?, &mut output),
        Command::Completions { shell } => completions::completions(shell, &mut output),
    }
}
