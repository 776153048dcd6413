//! A real Iceberg REST catalog (the reference implementation of the Iceberg project over SQLite; `tests/iceberg`): started, killed,
//! paused. It reads and writes tables in local folders. Must never be a fake: it refuses what a catalog refuses.

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

/// How long a start may take: Java, on a machine that is busy.
const START: Duration = Duration::from_secs(120);
/// How long a stop may take.
const STOP: Duration = Duration::from_secs(30);
/// Compiled as it is started.
const MAIN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../iceberg/Catalog.java");

/// A catalog, running or not.
#[derive(Debug)]
pub struct IcebergCatalog {
    running: Mutex<Option<Process>>,
    port: Port,
    home: TempDir,
}

impl IcebergCatalog {
    /// The address of a catalog that is not started.
    pub fn reserve() -> Self {
        let home = tempfile::Builder::new().prefix("lakefall-iceberg-").tempdir().unwrap();
        Self { running: Mutex::new(None), port: Port::reserve(), home }
    }

    /// A catalog without tables.
    pub async fn start() -> Self {
        let catalog = Self::reserve();
        catalog.start_again().await;
        catalog
    }

    /// Starts it at the same address, with the tables that it has.
    pub async fn start_again(&self) {
        let mut running = self.running.lock().await;
        assert!(running.as_mut().is_none_or(|process| process.ended().is_some()), "the catalog runs");
        let mut classes = jars().into_os_string();
        classes.push("/*");
        let mut command: Vec<OsString> =
            ["java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"].map(OsString::from).to_vec();
        let (port, home) = (self.port.number().to_string(), self.home.path());
        command.extend([classes, MAIN.into(), port.into(), home.join("catalog.db").into(), home.join("warehouse").into()]);
        let mut process = Process::spawn(command, &[], home);
        let deadline = Instant::now() + START;
        while TcpStream::connect(self.port.address()).await.is_err() {
            assert!(process.ended().is_none(), "the catalog ended at its start:\n{}", process.log());
            assert!(Instant::now() < deadline, "the catalog is not ready after {START:?}:\n{}", process.log());
            tokio::time::sleep(LOOK).await;
        }
        *running = Some(process);
    }

    /// What stands before `/v1`: `http://127.0.0.1:port`.
    pub fn uri(&self) -> String {
        format!("http://{}", self.port.address())
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
}

/// The folder of its jars: `LAKEFALL_TEST_ICEBERG_CATALOG`, or where `.ci/iceberg-catalog` leaves it.
fn jars() -> PathBuf {
    if let Some(path) = std::env::var_os("LAKEFALL_TEST_ICEBERG_CATALOG") {
        return path.into();
    }
    let found = std::fs::read_dir(crate::target::servers()).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let fetched = found.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("iceberg-catalog-")));
    let newest = fetched.max_by_key(|path| path.metadata().unwrap().modified().unwrap());
    newest.expect("there is no Iceberg catalog: run `.ci/iceberg-catalog`, which fetches it, or set LAKEFALL_TEST_ICEBERG_CATALOG")
}
