//! The real executable as a child process on free loopback ports and a data folder of its own: started, killed,
//! stopped, started again. Must never outlive its test: dropping it kills the process.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::client::{Client, Endpoint};

/// How long a start may take before the test fails: generous, as several tests share the machine.
const START: Duration = Duration::from_secs(60);
/// How long a stop may take: what the server promises, and what a loaded machine adds.
const STOP: Duration = Duration::from_secs(40);
/// Between two looks at a child that is starting or ending.
const LOOK: Duration = Duration::from_millis(5);

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
        let data_dir = self.data_dir.clone().unwrap_or_else(|| home.path().join("data"));
        let mut server = Server { options: self, home, data_dir, running: None, endpoint: Endpoint::default(), admin: String::new() };
        server.start().await;
        server
    }
}

/// A running (or killed) server.
pub struct Server {
    options: Options,
    home: TempDir,
    data_dir: PathBuf,
    running: Option<Running>,
    endpoint: Endpoint,
    admin: String,
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already, which is just as well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Server {
    /// A server with default settings.
    pub async fn start_default() -> Self {
        Options::default().start().await
    }

    /// Starts the process anew on the same data folder; clients made before follow to its new address.
    pub async fn start(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.log_path()).unwrap();
        let mut command = command();
        command.args(["dev", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--data-dir"]).arg(&self.data_dir);
        command.envs(self.options.env.clone()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{} does not start: {error}", binary().display()));
        let lines = lines_of(child.stdout.take().unwrap());
        self.running = Some(Running(child));
        let deadline = Instant::now() + START;
        let (mut api, mut admin) = (None, None);
        while api.is_none() || admin.is_none() {
            match lines.try_recv() {
                Ok(line) => {
                    api = api.or_else(|| address(&line, "HTTP API"));
                    admin = admin.or_else(|| address(&line, "Admin"));
                }
                Err(mpsc::TryRecvError::Empty) => self.wait_a_little(deadline).await,
                Err(mpsc::TryRecvError::Disconnected) => panic!("the server ended before it was ready:\n{}", self.log()),
            }
        }
        self.endpoint.set(&api.unwrap());
        self.admin = admin.unwrap();
        while self.client().get(&format!("{}/readyz", self.admin)).await.map_or(0, |answer| answer.status) != 200 {
            self.wait_a_little(deadline).await;
        }
    }

    async fn wait_a_little(&mut self, deadline: Instant) {
        assert!(Instant::now() < deadline, "the server is not ready after {START:?}:\n{}", self.log());
        if let Some(status) = self.ended() {
            panic!("the server ended with {status} before it was ready:\n{}", self.log());
        }
        tokio::time::sleep(LOOK).await;
    }

    /// `kill -9`, and waits for the end.
    pub fn kill_nine(&mut self) {
        let Some(mut running) = self.running.take() else { return };
        running.0.kill().unwrap();
        assert_eq!(running.0.wait().unwrap().signal(), Some(9));
    }

    /// Sends SIGTERM and does not wait.
    pub fn send_sigterm(&self) {
        kill_process(self.pid(), Signal::TERM).unwrap();
    }

    /// How the process ended; `None` while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.running.as_mut().and_then(|running| running.0.try_wait().unwrap())
    }

    /// Waits for the end.
    pub async fn wait_for_end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + STOP;
        loop {
            if let Some(status) = self.ended() {
                self.running = None;
                return status;
            }
            assert!(Instant::now() < deadline, "the server still runs {STOP:?} after it was told to stop:\n{}", self.log());
            tokio::time::sleep(LOOK).await;
        }
    }

    /// SIGTERM, and waits for the end, which must be in order.
    pub async fn stop(&mut self) {
        self.send_sigterm();
        let status = self.wait_for_end().await;
        assert_eq!(status.code(), Some(0), "the server ended with {status}:\n{}", self.log());
    }

    /// A client of this server, wherever it is started again.
    pub fn client(&self) -> Client {
        Client::new(self.endpoint.clone())
    }

    /// `127.0.0.1:port` of the public API.
    pub fn address(&self) -> String {
        self.endpoint.url().trim_start_matches("http://").to_owned()
    }

    /// `http://127.0.0.1:port` of the admin port.
    pub fn admin(&self) -> &str {
        &self.admin
    }

    /// Where data is kept.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.running.as_ref().expect("the server runs").0)
    }

    /// The sum over all labels of a metric; 0 where it was never touched.
    pub async fn metric(&self, name: &str) -> f64 {
        let text = self.client().get(&format!("{}/metrics", self.admin)).await.unwrap().text();
        let of_name = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
        text.lines().filter(of_name).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Resident memory in KiB.
    pub fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid().as_raw_nonzero())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux tells VmRSS");
        line.trim().trim_end_matches("kB").trim().parse().unwrap()
    }

    /// CPU time used so far, in seconds.
    pub fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid().as_raw_nonzero())).unwrap();
        // Fields 14 and 15 (proc_pid_stat(5)), counted after the name, which may hold spaces.
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
        ticks / rustix::param::clock_ticks_per_second() as f64
    }

    fn log_path(&self) -> PathBuf {
        self.home.path().join("server.log")
    }

    /// The end of what the server logged.
    pub fn log(&self) -> String {
        let bytes = std::fs::read(self.log_path()).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// All that the server logged.
    pub fn whole_log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.running = None;
        if std::thread::panicking() {
            eprintln!("--- the server's log ends with:\n{}\n---", self.log());
        }
    }
}

/// Reads lines in a thread, so that the server never blocks on a full pipe.
fn lines_of(stdout: std::process::ChildStdout) -> mpsc::Receiver<String> {
    let (lines, received) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            // Nobody listens after the start; reading goes on all the same.
            let _ = lines.send(line);
        }
    });
    received
}

fn address(line: &str, name: &str) -> Option<String> {
    let rest = line.trim_start().strip_prefix(name)?.trim_start();
    rest.starts_with("http://").then(|| rest.split_whitespace().next().unwrap().to_owned())
}

/// The executable without the settings of whoever runs the tests: their `LAKEFALL_*` variables would be its own.
pub fn command() -> Command {
    let mut command = Command::new(binary());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("LAKEFALL_")) {
        command.env_remove(name);
    }
    command
}

/// The executable: `LAKEFALL_BIN`, or what `cargo build -p lakefall` left beside this test.
pub fn binary() -> PathBuf {
    let path = match std::env::var_os("LAKEFALL_BIN") {
        Some(path) => PathBuf::from(path),
        // target/<profile>/deps/<test>
        None => std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("lakefall"),
    };
    assert!(path.is_file(), "there is no executable at {}: run `cargo build -p lakefall` first, or set LAKEFALL_BIN", path.display());
    path
}
