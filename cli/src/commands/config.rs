//! `lakefall config`: what holds, from which layers it came together, without secrets.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use lakefall_service::Config;
use lakefall_service::config::{ConfigError, Sources};

use super::Output;
use crate::failure::Failure;

/// Shows the configuration.
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Print the effective configuration, secrets redacted.
    Print {
        /// The configuration file (TOML).
        #[arg(long, env = "LAKEFALL_CONFIG")]
        config: Option<PathBuf>,
        /// The defaults of a cluster instead of those of `lakefall dev`.
        #[arg(long)]
        cluster: bool,
    },
}

/// Runs `lakefall config`.
pub(crate) fn config(args: &ConfigArgs, output: &mut Output) -> Result<(), Failure> {
    let ConfigCommand::Print { config, cluster } = &args.command;
    let base = if *cluster { Config::default() } else { Config::dev() };
    let config = Config::load(base, &Sources { file: config.clone(), ..Sources::from_process() })?;
    let text = config.render()?;
    output.value_or_lines(&config, || text.lines().map(str::to_owned).collect())
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Usage(error.to_string())
    }
}
