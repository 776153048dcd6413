//! The real executable as a child process: started, killed, stopped, paused, looked at. Must never outlive its test:
//! dropping it kills the process.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

/// How long a start may take before the test fails: generous, as several tests share the machine.
const START: Duration = Duration::from_secs(60);
/// How long a stop may take: what the server promises, and what a loaded machine adds.
const STOP: Duration = Duration::from_secs(40);
/// Between two looks at a child that is starting or ending.
const LOOK: Duration = Duration::from_millis(5);
/// For answers of the admin port: one that takes longer comes from a process that is paused.
const ADMIN: Duration = Duration::from_secs(10);

/// A process, running or not: what it is started with, and where it told that it listens.
pub struct Process {
    name: String,
    arguments: Vec<OsString>,
    env: Vec<(String, String)>,
    log: PathBuf,
    running: Option<Running>,
    /// What it told at its start, by the name at the beginning of the line.
    addresses: HashMap<&'static str, String>,
    wanted: &'static [&'static str],
    http: reqwest::Client,
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already, which is just as well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    /// A process that is not started yet. `name` is for people, its log is appended to `log`, and it is ready when it has told
    /// the addresses in `wanted` (`Admin` among them) and says so on its admin port.
    pub fn new(name: &str, arguments: Vec<OsString>, env: Vec<(String, String)>, log: PathBuf, wanted: &'static [&'static str]) -> Self {
        let http = reqwest::Client::builder().no_proxy().timeout(ADMIN).build().unwrap();
        Self { name: name.to_owned(), arguments, env, log, running: None, addresses: HashMap::new(), wanted, http }
    }

    /// Sets a variable for the starts to come.
    pub fn set_env(&mut self, name: &str, value: impl ToString) {
        self.unset_env(name);
        self.env.push((name.to_owned(), value.to_string()));
    }

    /// Takes a variable back.
    pub fn unset_env(&mut self, name: &str) {
        self.env.retain(|(known, _)| known != name);
    }

    /// Replaces an argument for the starts to come.
    pub fn replace_argument(&mut self, before: &str, after: &str) {
        let argument = self.arguments.iter_mut().find(|argument| *argument == before).expect("it has that argument");
        *argument = after.into();
    }

    /// Starts it and waits until it is ready.
    pub async fn start(&mut self) {
        if let Err(told) = self.try_start().await {
            panic!("{told}");
        }
    }

    /// The same; an error is what it said when it ended instead.
    pub async fn try_start(&mut self) -> Result<(), String> {
        let log = std::fs::File::options().create(true).append(true).open(&self.log).unwrap();
        let mut command = command();
        command.args(&self.arguments).envs(self.env.clone()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{} does not start: {error}", binary().display()));
        let lines = lines_of(child.stdout.take().unwrap());
        self.running = Some(Running(child));
        self.addresses.clear();
        let deadline = Instant::now() + START;
        while self.addresses.len() < self.wanted.len() {
            match lines.try_recv() {
                Ok(line) => self.addresses.extend(self.wanted.iter().filter_map(|name| Some((*name, address(&line, name)?)))),
                Err(mpsc::TryRecvError::Empty) => self.wait_a_little(deadline).await?,
                Err(mpsc::TryRecvError::Disconnected) => {
                    let status = self.wait_for_end().await;
                    return Err(format!("{} ended with {status} before it was ready:\n{}", self.name, self.log()));
                }
            }
        }
        while !self.is_ready().await {
            self.wait_a_little(deadline).await?;
        }
        Ok(())
    }

    async fn wait_a_little(&mut self, deadline: Instant) -> Result<(), String> {
        assert!(Instant::now() < deadline, "{} is not ready after {START:?}:\n{}", self.name, self.log());
        if let Some(status) = self.ended() {
            self.running = None;
            return Err(format!("{} ended with {status} before it was ready:\n{}", self.name, self.log()));
        }
        tokio::time::sleep(LOOK).await;
        Ok(())
    }

    /// Whether `/readyz` says yes.
    pub async fn is_ready(&self) -> bool {
        let answer = self.http.get(format!("{}/readyz", self.admin())).send().await;
        answer.is_ok_and(|answer| answer.status() == 200)
    }

    /// What it told under a name: `http://127.0.0.1:port`, or `https` where it is encrypted.
    pub fn address(&self, name: &str) -> &str {
        self.addresses.get(name).unwrap_or_else(|| panic!("{} was never started, or tells no {name}", self.name))
    }

    /// The admin port.
    pub fn admin(&self) -> &str {
        self.address("Admin")
    }

    /// Whether the process is there, paused or not.
    pub fn is_running(&mut self) -> bool {
        self.running.is_some() && self.ended().is_none()
    }

    /// Whether it was started and neither killed nor seen to end.
    pub fn has_started(&self) -> bool {
        self.running.is_some()
    }

    /// `kill -9`, and waits for the end.
    pub fn kill_nine(&mut self) {
        let Some(mut running) = self.running.take() else { return };
        running.0.kill().unwrap();
        assert_eq!(running.0.wait().unwrap().signal(), Some(9), "{} ended by itself:\n{}", self.name, self.log());
    }

    /// Sends a signal and does not wait.
    pub fn send(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// SIGSTOP: connections stay, nothing answers.
    pub fn pause(&self) {
        self.send(Signal::STOP);
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.send(Signal::CONT);
    }

    /// How the process ended; `None` while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.running.as_mut().and_then(|running| running.0.try_wait().unwrap())
    }

    /// Waits for the end.
    pub async fn wait_for_end(&mut self) -> ExitStatus {
        self.wait_for_end_within(STOP).await
    }

    /// Waits for the end, at most so long.
    pub async fn wait_for_end_within(&mut self, within: Duration) -> ExitStatus {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.ended() {
                self.running = None;
                return status;
            }
            assert!(Instant::now() < deadline, "{} still runs after {within:?}:\n{}", self.name, self.log());
            tokio::time::sleep(LOOK).await;
        }
    }

    /// SIGTERM, and waits for the end, which must be in order.
    pub async fn stop(&mut self) {
        self.send(Signal::TERM);
        let status = self.wait_for_end().await;
        assert_eq!(status.code(), Some(0), "{} ended with {status}:\n{}", self.name, self.log());
    }

    /// What people call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process id.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.running.as_ref().unwrap_or_else(|| panic!("{} does not run", self.name)).0)
    }

    /// The sum over all labels of a metric; 0 where it was never touched.
    pub async fn metric(&self, name: &str) -> f64 {
        self.metric_of(name, "").await
    }

    /// The sum over those labels that contain a text, like `outcome="ok"`.
    pub async fn metric_of(&self, name: &str, labels: &str) -> f64 {
        let text = self.http.get(format!("{}/metrics", self.admin())).send().await.unwrap().text().await.unwrap();
        let of_name = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']) && rest.contains(labels));
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

    /// The end of what it logged, over all its starts.
    pub fn log(&self) -> String {
        let text = self.whole_log();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// All that it logged, over all its starts.
    pub fn whole_log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.running = None;
        if std::thread::panicking() {
            eprintln!("--- the log of {} ends with:\n{}\n---", self.name, self.log());
        }
    }
}

/// Reads lines in a thread, so that the process never blocks on a full pipe.
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
    ["http://", "https://"].iter().any(|scheme| rest.starts_with(scheme)).then(|| rest.split_whitespace().next().unwrap().to_owned())
}

/// The executable without the settings of whoever runs the tests: their `LAKEFALL_*` and `AWS_*` variables would be its own.
pub fn command() -> Command {
    let mut command = Command::new(binary());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("LAKEFALL_") || name.starts_with("AWS_")) {
        command.env_remove(name);
    }
    command
}

/// The executable: `LAKEFALL_BIN`, or what `cargo build -p lakefall` left beside this test.
pub fn binary() -> PathBuf {
    let path = match std::env::var_os("LAKEFALL_BIN") {
        Some(path) => PathBuf::from(path),
        // target/<profile>/deps/<test>, or target/<profile>/<executable>
        None => {
            let this = std::env::current_exe().unwrap();
            let folder = this.parent().unwrap();
            (if folder.ends_with("deps") { folder.parent().unwrap() } else { folder }).join("lakefall")
        }
    };
    assert!(path.is_file(), "there is no executable at {}: run `cargo build -p lakefall` first, or set LAKEFALL_BIN", path.display());
    path
}
