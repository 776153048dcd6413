//! `lakefall fsck`: every extent that the metadata names must be in its segment, whole and with its checksum. Reads only;
//! the server must be stopped.

use std::path::PathBuf;

use clap::Args;

use super::Output;
use crate::failure::Failure;

/// Verifies what is stored.
#[derive(Debug, Args)]
pub(crate) struct FsckArgs {
    /// The folder of everything kept on local disk.
    #[arg(long, default_value = "./lakefall-data")]
    data_dir: PathBuf,
}

/// Runs `lakefall fsck`.
pub(crate) fn fsck(args: &FsckArgs, _output: &mut Output) -> Result<(), Failure> {
    if !args.data_dir.is_dir() {
        return Err(Failure::Usage(format!("{} is not a folder: --data-dir names another", args.data_dir.display())));
    }
    Err(Failure::Failed("fsck is not wired to storage and metadata yet".to_owned()))
}
