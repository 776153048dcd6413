//! `lakefall fsck`: every extent that the metadata names must be in its segment, whole and with its checksum. Reads only;
//! the server must be stopped. Holds one object at a time, and some 100 bytes for each extent.

mod known;
mod objects;
mod report;

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use clap::Args;
use lakefall_service::Config;
use lakefall_service::config::Sources;
use lakefall_storage::store::Store;
use url::Url;

use self::known::Known;
use self::report::Report;
use super::Output;
use super::stored::{Stored, unreadable};
use crate::failure::Failure;
use crate::roles::parts::open_store;

/// Verifies what is stored.
#[derive(Debug, Args)]
pub(crate) struct FsckArgs {
    /// The folder of everything kept on local disk [default: ./lakefall-data].
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<String>,
    /// Where objects are kept, if not inside the data folder.
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// Where order is kept, if not inside the data folder: sqlite:///… or postgres://….
    #[arg(long, value_name = "URL")]
    database: Option<String>,
    /// The server's configuration file (TOML).
    #[arg(long, value_name = "FILE", env = "LAKEFALL_CONFIG")]
    config: Option<PathBuf>,
}

/// Runs `lakefall fsck`.
pub(crate) fn fsck(args: &FsckArgs, output: &mut Output) -> Result<(), Failure> {
    let flags =
        [("data_dir", "--data-dir", &args.data_dir), ("store.url", "--store", &args.store), ("metadata.url", "--database", &args.database)];
    let flags = flags.into_iter().filter_map(|(key, flag, text)| Some((key, flag, text.clone()?))).collect();
    let config = Config::load(Config::dev(), &Sources { file: args.config.clone(), flags, ..Sources::from_process() })?;
    // What is named apart from the folder needs none.
    if !config.data_dir.is_dir() && (config.store.url.is_none() || config.metadata.url.is_none()) {
        return Err(Failure::Usage(format!("{} is not a folder: --data-dir names another", config.data_dir.display())));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Failed(format!("the runtime did not start: {error}")))?;
    let report = runtime.block_on(Box::pin(check(&config)))?;
    output.value_or_lines(&report, || report.lines())?;
    match report.damage.len() {
        0 => Ok(()),
        1 => Err(Failure::Failed("1 problem was found".to_owned())),
        many => Err(Failure::Failed(format!("{many} problems were found"))),
    }
}

async fn check(config: &Config) -> Result<Report, Failure> {
    let url = config.metadata_url()?;
    // Held until the end: no server starts while we read. A cluster's replicas can only be asked for, not kept, to stop.
    let _lock = url.strip_prefix("sqlite://").map(|path| lock(Path::new(path))).transpose()?;
    let metadata = Stored::open(config).await?;
    let mut report = Report::default();
    let known = Known::load(&metadata, &mut report).await.map_err(|error| unreadable(&error))?;
    let (store, local) = open_objects(config)?;
    objects::check(&store, &known, &mut report).await?;
    if let Some(folder) = local {
        report.staging = objects::staging_files(&folder)?;
    }
    report.close();
    Ok(report)
}

/// The lock that a server holds as long as it runs.
fn lock(metadata: &Path) -> Result<Option<File>, Failure> {
    let mut name = metadata.as_os_str().to_owned();
    name.push(".lock");
    let path = Path::new(&name);
    let cannot = |error: std::io::Error| Failure::Failed(format!("cannot lock {}: {error}", path.display()));
    let file = match File::open(path) {
        Ok(file) => file,
        // A copy of the store, or a backup.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(cannot(error)),
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => {
            Err(Failure::Failed(format!("a lakefall server is running on {}: stop it, then verify", metadata.display())))
        }
        Err(TryLockError::Error(error)) => Err(cannot(error)),
    }
}

/// The object store, and its folder if it is one.
fn open_objects(config: &Config) -> Result<(Store, Option<PathBuf>), Failure> {
    let url: Url = config.store_url()?;
    let folder = (url.scheme() == "file").then(|| url.to_file_path().ok()).flatten();
    if let Some(folder) = &folder
        && !folder.is_dir()
    {
        // Opening it would create it, and all objects would seem to be missing.
        return Err(Failure::Usage(format!("there is no object store {}: --store names another", folder.display())));
    }
    Ok((open_store(config)?, folder))
}
