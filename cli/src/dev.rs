//! `lakefall dev`: all roles in this process. Owns the order of start and stop; the roles themselves are put together in
//! `dev_parts`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use lakefall_service::admin::Admin;
use lakefall_service::config::Sources;
use lakefall_service::telemetry::Telemetry;
use lakefall_service::{Config, Readiness, Tasks, rlimit, shutdown, system_ambient};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::commands::Output;
use crate::dev_parts;
use crate::failure::Failure;

/// What stopping may take beyond `http.drain_ms`: the last flush and commit.
const STOP_MARGIN: Duration = Duration::from_secs(5);

/// Threads for file system calls and compression: enough for all uploads at once. Each that allocates much keeps some of it.
const BLOCKING_THREADS: usize = 32;

/// Flags of `lakefall dev`; each wins over the environment, which wins over the file.
#[derive(Debug, Args)]
pub(crate) struct DevArgs {
    /// Where the HTTP API listens [default: 127.0.0.1:8080].
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Where health, metrics and debug pages listen [default: 127.0.0.1:8081].
    #[arg(long, value_name = "ADDRESS")]
    admin_listen: Option<String>,
    /// The folder of everything kept [default: ./lakefall-data].
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<String>,
    /// Where objects are kept: file:///…, memory:/// or s3://bucket/prefix [default: inside the data folder].
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// A configuration file (TOML).
    #[arg(long, value_name = "FILE", env = "LAKEFALL_CONFIG")]
    config: Option<PathBuf>,
}

impl DevArgs {
    fn sources(&self) -> Sources {
        let flags = [
            ("listen", "--listen", &self.listen),
            ("admin_listen", "--admin-listen", &self.admin_listen),
            ("data_dir", "--data-dir", &self.data_dir),
            ("store.url", "--store", &self.store),
        ];
        let flags = flags.into_iter().filter_map(|(key, flag, text)| Some((key, flag, text.clone()?))).collect();
        Sources { file: self.config.clone(), flags, ..Sources::from_process() }
    }
}

/// Runs `lakefall dev` until it is told to stop.
pub(crate) fn dev(args: DevArgs) -> Result<(), Failure> {
    let config = Arc::new(Config::load(Config::dev(), &args.sources())?);
    let telemetry = Telemetry::install(&config.log).map_err(|error| Failure::Usage(error.to_string()))?;
    rlimit::raise_open_files();
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores)
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_name("lakefall")
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| Failure::Failed(format!("the runtime did not start: {error}")))?;
    let ended = runtime.block_on(Box::pin(serve(config, telemetry)));
    // What still runs was given its time; blocking threads must not hold the exit up.
    runtime.shutdown_background();
    ended
}

async fn serve(config: Arc<Config>, telemetry: Telemetry) -> Result<(), Failure> {
    let (tasks, readiness) = (Tasks::new(), Readiness::default());
    shutdown::listen(&tasks).map_err(|error| Failure::Failed(format!("signals: {error}")))?;
    let admin_stop = CancellationToken::new();
    let admin = Admin { config: Arc::clone(&config), readiness: readiness.clone(), tasks: tasks.clone(), telemetry: telemetry.clone() };
    let listener = bind(config.admin_listen).await?;
    let admin_address = local_address(&listener)?;
    // Outside of the tasks that shutdown waits for: it tells of the shutdown itself, and is stopped last.
    let admin = tokio::spawn(admin.serve(listener, admin_stop.clone()));
    tasks.spawn("metrics upkeep", telemetry.upkeep(tasks.token()));

    let started = dev_parts::start(Arc::clone(&config), tasks.clone(), system_ambient(), readiness.clone()).await;
    let ended = match started {
        Ok(address) => {
            readiness.set_ready();
            banner(&config, address, admin_address)?;
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
    ended
}

/// Binds an address, or says which one is taken.
pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| Failure::Failed(format!("cannot listen on {address}: {error}")))
}

fn local_address(listener: &TcpListener) -> Result<SocketAddr, Failure> {
    listener.local_addr().map_err(|error| Failure::Failed(error.to_string()))
}

fn banner(config: &Config, address: SocketAddr, admin: SocketAddr) -> Result<(), Failure> {
    let store = config.store_url()?;
    let at = if address.port() == 8080 && address.ip().is_loopback() { String::new() } else { format!(" --url http://{address}") };
    let text = format!(
        "Lakefall is ready.

  HTTP API   http://{address}   (manual: http://{address}/docs)
  Admin      http://{admin}   (/readyz, /metrics)
  Data       {}
  Objects    {store}

Try it:
  lakefall topic create hello{at}
  echo '{{\"hello\":\"world\"}}' | lakefall produce hello{at}
  lakefall consume hello --from earliest --follow{at}
",
        config.data_dir.display(),
    );
    match Output::new(false).bytes(text.as_bytes()) {
        // Whoever started us may have stopped reading; the server goes on.
        Ok(()) | Err(Failure::OutputClosed) => Ok(()),
        Err(failure) => Err(failure),
    }
}
