//! A real OTLP receiver (the OpenTelemetry collector's own; `tests/otlp`): started, killed, paused, and asked what it got. Must never
//! be a fake: it refuses what a collector refuses.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::port::Port;
use crate::process::{LOOK, Process};

/// How long a start may take.
const START: Duration = Duration::from_secs(30);
/// How long a stop may take.
const STOP: Duration = Duration::from_secs(30);

/// A receiver, running or not.
#[derive(Debug)]
pub struct Otlp {
    running: Mutex<Option<Process>>,
    grpc: Port,
    http: Port,
    home: TempDir,
}

impl Otlp {
    /// Addresses of a receiver that is not started.
    pub fn reserve() -> Self {
        let home = tempfile::Builder::new().prefix("lakefall-otlp-").tempdir().unwrap();
        Self { running: Mutex::new(None), grpc: Port::reserve(), http: Port::reserve(), home }
    }

    /// A receiver that got nothing yet.
    pub async fn start() -> Self {
        let receiver = Self::reserve();
        receiver.start_again().await;
        receiver
    }

    /// Starts it at the same addresses. What it got before is kept.
    pub async fn start_again(&self) {
        let mut running = self.running.lock().await;
        assert!(running.as_mut().is_none_or(|process| process.ended().is_some()), "the receiver runs");
        let mut command: Vec<OsString> = vec![executable().into()];
        command.extend(["-grpc".into(), self.grpc.address().to_string().into(), "-http".into(), self.http.address().to_string().into()]);
        command.extend(["-out".into(), self.file().into()]);
        let mut process = Process::spawn(command, &[], self.home.path());
        let deadline = Instant::now() + START;
        for port in [&self.grpc, &self.http] {
            while TcpStream::connect(port.address()).await.is_err() {
                assert!(process.ended().is_none(), "the receiver ended at its start:\n{}", process.log());
                assert!(Instant::now() < deadline, "the receiver is not ready after {START:?}:\n{}", process.log());
                tokio::time::sleep(LOOK).await;
            }
        }
        *running = Some(process);
    }

    /// Where it takes gRPC: `http://127.0.0.1:port`.
    pub fn grpc(&self) -> String {
        format!("http://{}", self.grpc.address())
    }

    /// Where it takes HTTP: `http://127.0.0.1:port`.
    pub fn http(&self) -> String {
        format!("http://{}", self.http.address())
    }

    /// `kill -9`, and waits for the end.
    pub async fn kill_nine(&self) {
        let Some(mut process) = self.running.lock().await.take() else { return };
        process.signal(Signal::KILL);
        process.wait_for_end(STOP).await;
    }

    /// SIGSTOP: connections are taken by the kernel, nothing answers.
    pub async fn pause(&self) {
        if let Some(process) = &mut *self.running.lock().await {
            process.signal(Signal::STOP);
        }
    }

    /// SIGCONT.
    pub async fn resume(&self) {
        if let Some(process) = &mut *self.running.lock().await {
            process.signal(Signal::CONT);
        }
    }

    /// What it got so far: each a request as OTLP has it in JSON, with the names and values of its `headers` beside.
    pub fn received(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.file()).unwrap_or_default();
        // The last line may be half written.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }

    fn file(&self) -> PathBuf {
        self.home.path().join("received.jsonl")
    }
}

/// The receiver's executable: `LAKEFALL_TEST_OTLP_RECEIVER`, or where `.ci/otlp-receiver` leaves it.
fn executable() -> PathBuf {
    if let Some(path) = std::env::var_os("LAKEFALL_TEST_OTLP_RECEIVER") {
        return path.into();
    }
    let found = std::fs::read_dir(crate::target::servers()).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let built = found.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("otlp-receiver-")));
    let is_executable = |path: &PathBuf| path.is_file();
    let newest = built
        .map(|folder| folder.join("otlp-receiver"))
        .filter(is_executable)
        .max_by_key(|path| path.metadata().unwrap().modified().unwrap());
    newest.expect("there is no OTLP receiver: run `.ci/otlp-receiver`, which builds it, or set LAKEFALL_TEST_OTLP_RECEIVER")
}
