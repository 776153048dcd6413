//! `lakefall dev` on free loopback ports and a data folder of its own: started, killed, stopped, started again. Must never
//! outlive its test: dropping it kills the process.

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::client::{Client, Endpoint};
use crate::clocks;
use crate::load::Ways;
use crate::process::Process;

/// How a server is started.
#[derive(Clone, Debug, Default)]
pub struct Options {
    env: Vec<(String, String)>,
    data_dir: Option<PathBuf>,
}

impl Options {
    /// Sets a `LAKEFALL_*` variable of the server.
    pub fn env(mut self, name: &str, value: impl ToString) -> Self {
        self.env.push((name.to_owned(), value.to_string()));
        self
    }

    /// Keeps data in this folder instead of a temporary one.
    pub fn data_dir(mut self, folder: &Path) -> Self {
        self.data_dir = Some(folder.to_owned());
        self
    }

    /// Starts the server and waits until it is ready.
    pub async fn start(self) -> Server {
        let home = tempfile::Builder::new().prefix("lakefall-test-").tempdir().unwrap();
        let data_dir = self.data_dir.unwrap_or_else(|| home.path().join("data"));
        let mut arguments = ["dev", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--data-dir"].map(Into::into).to_vec();
        arguments.push(data_dir.clone().into());
        let process = Process::new("the server", arguments, self.env, home.path().join("server.log"), &["HTTP API", "Admin"]);
        let mut server = Server { process, data_dir, endpoint: Endpoint::default(), _home: home };
        server.start().await;
        server
    }
}

/// A running (or killed) server.
pub struct Server {
    process: Process,
    data_dir: PathBuf,
    endpoint: Endpoint,
    _home: TempDir,
}

impl Server {
    /// A server with default settings.
    pub async fn start_default() -> Self {
        Options::default().start().await
    }

    /// Starts the process anew on the same data folder; clients made before follow to its new address.
    pub async fn start(&mut self) {
        self.process.start().await;
        self.endpoint.set(self.process.address("HTTP API"));
    }

    /// Sets a variable from the next start on.
    pub fn set_env(&mut self, name: &str, value: impl ToString) {
        self.process.set_env(name, value);
    }

    /// Unsets it from the next start on.
    pub fn unset_env(&mut self, name: &str) {
        self.process.unset_env(name);
    }

    /// Lets it see another time of day from the next start on.
    pub fn shift_clock(&mut self, by: &str) {
        clocks::shift(&mut self.process, by);
    }

    /// Starts a process that kills itself, and waits until it has: before it is ready, or later.
    pub async fn start_until_killed(&mut self) {
        match self.process.try_start().await {
            Ok(()) => assert_eq!(self.process.wait_for_end().await.signal(), Some(9), "{}", self.process.log()),
            Err(told) => assert!(told.contains("signal: 9"), "{told}"),
        }
    }

    /// `kill -9`, and waits for the end.
    pub fn kill_nine(&mut self) {
        self.process.kill_nine();
    }

    /// Sends SIGTERM and does not wait.
    pub fn send_sigterm(&self) {
        self.process.send(Signal::TERM);
    }

    /// How the process ended; `None` while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.process.ended()
    }

    /// Waits for the end.
    pub async fn wait_for_end(&mut self) -> ExitStatus {
        self.process.wait_for_end().await
    }

    /// SIGTERM, and waits for the end, which must be in order.
    pub async fn stop(&mut self) {
        self.process.stop().await;
    }

    /// A client of this server, wherever it is started again.
    pub fn client(&self) -> Client {
        Client::new(self.endpoint.clone())
    }

    /// The only way there is.
    pub fn ways(&self) -> Ways {
        self.client().into()
    }

    /// `127.0.0.1:port` of the public API.
    pub fn address(&self) -> String {
        self.endpoint.url().trim_start_matches("http://").to_owned()
    }

    /// `http://127.0.0.1:port` of the admin port.
    pub fn admin(&self) -> &str {
        self.process.admin()
    }

    /// Where data is kept.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The sum over all labels of a metric; 0 where it was never touched.
    pub async fn metric(&self, name: &str) -> f64 {
        self.process.metric(name).await
    }

    /// Resident memory in KiB.
    pub fn resident_kib(&self) -> u64 {
        self.process.resident_kib()
    }

    /// CPU time used so far, in seconds.
    pub fn cpu_seconds(&self) -> f64 {
        self.process.cpu_seconds()
    }

    /// The end of what the server logged.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// All that the server logged.
    pub fn whole_log(&self) -> String {
        self.process.whole_log()
    }
}
