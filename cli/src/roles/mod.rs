//! The roles as processes: what all of them share (runtime, signals, telemetry, admin port, the frame of start and stop) and
//! one file for each. A role's file says what it starts and in which order that stops; nothing else does.

mod certificates;
mod compactor;
mod dev;
mod frontend;
mod gateway;
mod metadata;
pub(crate) mod parts;
mod receipts;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use futures::future::BoxFuture;
use lakefall_queue::clock::Ambient;
use lakefall_service::admin::Admin;
use lakefall_service::config::Sources;
use lakefall_service::live::Hangups;
use lakefall_service::telemetry::Telemetry;
use lakefall_service::{Config, LiveConfig, Readiness, Tasks, rlimit, shutdown, system_ambient};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::commands::Output;
use crate::failure::Failure;

pub(crate) use compactor::{CompactorArgs, CompactorCommand, compactor};
pub(crate) use dev::{DevArgs, dev};
pub(crate) use gateway::{GatewayArgs, gateway};
pub(crate) use metadata::{MetadataArgs, metadata};

/// What stopping may take beyond `http.drain_ms`: the last flush and commit. Operators are told of 10 s: the admin port takes one of the
/// others, the last of the telemetry three.
const STOP_MARGIN: Duration = Duration::from_secs(5);

/// Threads for file system calls and compression: enough for all uploads at once. Each that allocates much keeps some of it.
const BLOCKING_THREADS: usize = 32;

/// What every role takes.
#[derive(Debug, Args)]
pub(crate) struct CommonArgs {
    /// Where health, metrics and debug pages listen [default: 127.0.0.1:8081].
    #[arg(long, value_name = "ADDRESS")]
    admin_listen: Option<String>,
    /// A configuration file (TOML).
    #[arg(long, value_name = "FILE", env = "LAKEFALL_CONFIG")]
    config: Option<PathBuf>,
}

/// A setting's key, the flag that sets it, and its text if it was given.
type Flag<'a> = (&'static str, &'static str, &'a Option<String>);

impl CommonArgs {
    /// The role's settings: each flag wins over the environment, which wins over the file.
    fn load<const N: usize>(&self, base: Config, flags: [Flag<'_>; N]) -> Result<LiveConfig, Failure> {
        let common: [Flag<'_>; 1] = [("admin_listen", "--admin-listen", &self.admin_listen)];
        let flags = common.into_iter().chain(flags).filter_map(|(key, flag, text)| Some((key, flag, text.clone()?))).collect();
        let sources = Sources { file: self.config.clone(), flags, ..Sources::from_process() };
        Ok(LiveConfig::load(base, sources)?)
    }
}

/// What a role starts with.
#[derive(Clone)]
pub(crate) struct Frame {
    /// The settings of the start.
    pub(crate) config: Arc<Config>,
    /// Tells of those that change afterwards.
    pub(crate) live: LiveConfig,
    /// Everything that runs; its token is cancelled when the process is to stop.
    pub(crate) tasks: Tasks,
    pub(crate) ambient: Ambient,
}

/// What a started role tells people: lines of a name and what to know.
struct Started {
    role: &'static str,
    lines: Vec<(&'static str, String)>,
    /// What to try first.
    hint: String,
}

/// Runs a role until it is told to stop. `start` returns when the role serves; what it started runs in the frame's tasks.
fn run(live: LiveConfig, role: &str, start: impl FnOnce(Frame) -> BoxFuture<'static, Result<Started, Failure>>) -> Result<(), Failure> {
    let telemetry = Telemetry::install(&live.current(), role).map_err(|error| Failure::Usage(error.to_string()))?;
    rlimit::raise_open_files();
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores)
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_name("lakefall")
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| Failure::Failed(format!("the runtime did not start: {error}")))?;
    let ended = runtime.block_on(Box::pin(serve(live, telemetry, start)));
    // What still runs was given its time; blocking threads must not hold the exit up.
    runtime.shutdown_background();
    ended
}

async fn serve(
    live: LiveConfig,
    telemetry: Telemetry,
    start: impl FnOnce(Frame) -> BoxFuture<'static, Result<Started, Failure>>,
) -> Result<(), Failure> {
    let (config, tasks, readiness) = (live.current(), Tasks::new(), Readiness::default());
    telemetry.start();
    let signals = |error| Failure::Failed(format!("signals: {error}"));
    shutdown::listen(&tasks).map_err(signals)?;
    let hangups = Hangups::listen().map_err(signals)?;
    let logs = telemetry.log_filter().clone();
    live.on_change(move |config| logs.prepare(&config.log.level));
    let admin_stop = CancellationToken::new();
    let admin = Admin { config: live.clone(), readiness: readiness.clone(), tasks: tasks.clone(), telemetry: telemetry.clone() };
    let listener = bind(config.admin_listen).await?;
    let admin_address = local_address(&listener)?;
    // Outside of the tasks that shutdown waits for: it tells of the shutdown itself, and is stopped last.
    let admin = tokio::spawn(admin.serve(listener, admin_stop.clone()));
    tasks.spawn("metrics upkeep", telemetry.clone().upkeep(tasks.token()));

    let frame = Frame { config: Arc::clone(&config), live: live.clone(), tasks: tasks.clone(), ambient: system_ambient() };
    let ended = match start(frame).await {
        Ok(mut started) => {
            tasks.spawn("settings", live.follow(hangups, tasks.token()));
            readiness.set_ready();
            started.lines.insert(1.min(started.lines.len()), ("Admin", format!("http://{admin_address}   (/readyz, /metrics)")));
            banner(&started)?;
            tasks.stopping().await;
            readiness.set_not_ready("stopping");
            let grace = Duration::from_millis(config.http.drain_ms) + STOP_MARGIN;
            tasks.shutdown(grace).await.map_err(|failure| Failure::Failed(failure.to_string()))
        }
        Err(failure) => {
            tasks.token().cancel();
            Err(failure)
        }
    };
    admin_stop.cancel();
    // A scraper that keeps its connection open must not keep the process.
    let _ = tokio::time::timeout(Duration::from_secs(1), admin).await;
    telemetry.close().await;
    ended
}

/// Binds an address, or says which one is taken.
async fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| Failure::Failed(format!("cannot listen on {address}: {error}")))
}

fn local_address(listener: &TcpListener) -> Result<SocketAddr, Failure> {
    listener.local_addr().map_err(|error| Failure::Failed(error.to_string()))
}

fn banner(started: &Started) -> Result<(), Failure> {
    let mut text = format!("{} is ready.\n\n", started.role);
    for (name, value) in &started.lines {
        text.push_str(&format!("  {name:<10} {value}\n"));
    }
    if !started.hint.is_empty() {
        text.push_str(&format!("\n{}\n", started.hint));
    }
    match Output::new(false).bytes(text.as_bytes()) {
        // Whoever started us may have stopped reading; the server goes on.
        Ok(()) | Err(Failure::OutputClosed) => Ok(()),
        Err(failure) => Err(failure),
    }
}

/// Waits for `ready`, unless the process is told to stop or `limit` is over.
async fn until_ready<T>(
    ready: impl Future<Output = T>,
    tasks: &Tasks,
    limit: Duration,
    late: impl FnOnce() -> String,
) -> Result<T, Failure> {
    tokio::select! {
        ready = ready => Ok(ready),
        () = tasks.stopping() => Err(match tasks.failure() {
            Some(failure) => Failure::Failed(failure.to_string()),
            None => Failure::Failed("stopped before it was ready".to_owned()),
        }),
        () = tokio::time::sleep(limit) => Err(Failure::Failed(late())),
    }
}
