//! `lakefall doctor` and `lakefall bucket init`: what a store must do for Lakefall, tried out; a bucket made and set up.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use lakefall_service::Config;
use lakefall_service::config::Sources;
use lakefall_storage::bucket::{self, Check, InitOptions, Report, Verdict};
use lakefall_storage::store::Encryption;

use super::Output;
use crate::failure::Failure;
use crate::roles::parts;

/// Which store.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// Where objects are kept: s3://bucket/prefix, gs://…, az://… or file:///… [default: what the settings name].
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// A configuration file (TOML).
    #[arg(long, value_name = "FILE", env = "LAKEFALL_CONFIG")]
    config: Option<PathBuf>,
}

/// What to do to a bucket.
#[derive(Debug, Args)]
pub(crate) struct BucketArgs {
    #[command(subcommand)]
    command: BucketCommand,
}

#[derive(Debug, Subcommand)]
enum BucketCommand {
    /// Create a bucket of S3 and set it up: no public access, abandoned uploads cleared away, encryption. May be repeated.
    Init(InitArgs),
}

#[derive(Debug, Args)]
struct InitArgs {
    #[command(flatten)]
    place: DoctorArgs,
    /// How the bucket encrypts: none, AES256, or the id of a key of the key management service.
    #[arg(long, value_name = "HOW", default_value = "AES256")]
    encryption: String,
    /// Days after which an abandoned multipart upload is cleared away.
    #[arg(long, value_name = "DAYS", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=365))]
    abandoned_upload_days: u16,
    /// Leave public access as it is.
    #[arg(long)]
    allow_public_access: bool,
}

impl DoctorArgs {
    fn load(&self) -> Result<Config, Failure> {
        let flags = self.store.iter().map(|url| ("store.url", "--store", url.clone())).collect();
        Ok(Config::load(Config::default(), &Sources { file: self.config.clone(), flags, ..Sources::from_process() })?)
    }
}

/// Runs `lakefall doctor`.
pub(crate) fn doctor(args: &DoctorArgs, output: &mut Output) -> Result<(), Failure> {
    let config = args.load()?;
    let url = config.store_url()?;
    let report = block_on(bucket::doctor(&url, &parts::store_options(&config)))?;
    print(&report, output, "the store cannot be used as it is")
}

/// Runs `lakefall bucket`.
pub(crate) fn bucket(args: &BucketArgs, output: &mut Output) -> Result<(), Failure> {
    let BucketCommand::Init(args) = &args.command;
    let config = args.place.load()?;
    let init = InitOptions {
        block_public_access: !args.allow_public_access,
        abandoned_upload_days: args.abandoned_upload_days,
        encryption: Encryption::from(args.encryption.clone()),
    };
    let url = config.store_url()?;
    let report = block_on(bucket::init(&url, &parts::store_options(&config), &init))?;
    let report = report.map_err(|error| Failure::Usage(error.to_string()))?;
    print(&report, output, "the bucket is not set up")
}

fn block_on<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    Ok(runtime.map_err(|error| Failure::Failed(format!("the runtime did not start: {error}")))?.block_on(Box::pin(work)))
}

fn print(report: &Report, output: &mut Output, failed: &str) -> Result<(), Failure> {
    output.value_or_lines(report, || report.checks.iter().flat_map(lines).collect())?;
    match report.worst() {
        Verdict::Ok | Verdict::Skipped | Verdict::Warn => Ok(()),
        Verdict::Fail => Err(Failure::Failed(failed.to_owned())),
    }
}

fn lines(check: &Check) -> Vec<String> {
    let verdict = match check.verdict {
        Verdict::Ok => "ok",
        Verdict::Skipped => "skipped",
        Verdict::Warn => "warning",
        Verdict::Fail => "FAILED",
    };
    let mut lines = vec![format!("{verdict:<8} {:<20} {}", check.name, check.seen)];
    lines.extend(check.advice.iter().map(|advice| format!("{:<29} → {advice}", "")));
    lines
}
