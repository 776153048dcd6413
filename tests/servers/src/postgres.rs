//! A real PostgreSQL with a data folder of its own: started, stopped in every way, killed, paused, doubled by a standby.
//! Must never weaken what a test is about: `fsync` and `synchronous_commit` are on, passwords are asked for.

mod files;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::account::Account;
use crate::port::Port;
use crate::process::{LOOK, Process};

/// How long a start may take, recovery included: generous, as several tests share the machine.
const START: Duration = Duration::from_secs(60);
/// How long a stop may take.
const STOP: Duration = Duration::from_secs(30);
/// How long a program of PostgreSQL, or a statement, may take.
const PROGRAM: Duration = Duration::from_secs(90);

/// The user that tests connect as: may create databases, and nothing else.
pub const USER: &str = "lakefall";
/// Its password.
pub const PASSWORD: &str = "password-of-lakefall";
/// The database that is there from the start.
pub const DATABASE: &str = "lakefall";
/// The superuser, whose password is in [`Postgres::superuser_url`].
const SUPERUSER: &str = "postgres";
const SUPERUSER_PASSWORD: &str = "password-of-the-superuser";

/// How a server is set up.
#[derive(Clone, Debug, Default)]
pub struct Options {
    settings: Vec<(String, String)>,
    tls: bool,
    own_identity: bool,
    on_disk: bool,
}

impl Options {
    /// Sets a line of `postgresql.conf`. The value is put between quotes.
    pub fn setting(mut self, name: &str, value: impl ToString) -> Self {
        self.settings.push((name.to_owned(), value.to_string()));
        self
    }

    /// How many connections it takes; 3 more are kept for the superuser, as PostgreSQL does by default.
    pub fn max_connections(self, connections: u32) -> Self {
        self.setting("max_connections", connections + 3)
    }

    /// Answers TLS with a certificate for `127.0.0.1` and `localhost` ([`Postgres::ca_certificate`] signed it), and takes no
    /// connection without.
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Gives it a system identifier of its own. By default, servers are copies of one and have the same, which only a
    /// program that compares them could notice.
    pub fn own_identity(mut self) -> Self {
        self.own_identity = true;
        self
    }

    /// Keeps data in the folder for temporary files. By default it is in memory where the machine has that: what a process
    /// wrote outlives its `kill -9` all the same, while on a disk that a build is using each sync takes tenths of a second.
    /// What measures times needs the disk.
    pub fn on_disk(mut self) -> Self {
        self.on_disk = true;
        self
    }

    /// Makes the data folder and starts the server.
    pub async fn start(self) -> Postgres {
        let postgres = Postgres::prepare(self);
        files::start_first(&postgres).await;
        postgres
    }
}

/// A server, running or not. All its data goes away with it.
#[derive(Debug)]
pub struct Postgres {
    running: Mutex<Option<Process>>,
    options: Options,
    account: Option<Account>,
    port: Port,
    databases: AtomicU32,
    home: TempDir,
}

impl Postgres {
    /// Sets up and starts a server.
    pub async fn start(options: Options) -> Self {
        options.start().await
    }

    /// The server that the tests of this process share; the last handle stops it. Take a [`Postgres::fresh_database`], and
    /// do not stop, kill or pause it.
    pub async fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Postgres>> = Mutex::const_new(Weak::new());
        let mut shared = SHARED.lock().await;
        if let Some(running) = shared.upgrade() {
            return running;
        }
        let started = Arc::new(Options::default().start().await);
        *shared = Arc::downgrade(&started);
        started
    }

    fn prepare(options: Options) -> Self {
        let folder = files::place(options.on_disk);
        let home = tempfile::Builder::new().prefix("lakefall-postgres-").tempdir_in(folder).unwrap();
        let account = Account::for_postgres();
        Account::give(account, home.path());
        Self { running: Mutex::new(None), options, account, port: Port::reserve(), databases: AtomicU32::new(0), home }
    }

    /// The port of 127.0.0.1, the same over all starts.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> std::net::SocketAddr {
        self.port.address()
    }

    /// `postgres://…` of the database [`DATABASE`], as [`USER`].
    pub fn url(&self) -> String {
        self.url_for(DATABASE)
    }

    /// The same of another database.
    pub fn url_for(&self, database: &str) -> String {
        self.url_at(self.address(), database)
    }

    /// The same through something that stands before the server.
    pub fn url_at(&self, address: std::net::SocketAddr, database: &str) -> String {
        format!("postgres://{USER}:{PASSWORD}@{address}/{database}")
    }

    /// The same as superuser.
    pub fn superuser_url(&self, database: &str) -> String {
        format!("postgres://{SUPERUSER}:{SUPERUSER_PASSWORD}@{}/{database}", self.address())
    }

    /// The file with the certificate of who signed the server's, if it speaks TLS.
    pub fn ca_certificate(&self) -> Option<PathBuf> {
        self.options.tls.then(|| self.home.path().join("ca.pem"))
    }

    /// Creates a database that belongs to [`USER`].
    pub async fn create_database(&self, name: &str) {
        self.sql("postgres", &format!("create database {name} owner {USER}")).await;
    }

    /// A database of its own for one test, by name.
    pub async fn fresh_database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.create_database(&name).await;
        name
    }

    /// Runs statements as superuser; one transaction, unless they say otherwise. Answers with rows as lines, columns
    /// separated by `|`. A refused statement fails the test.
    pub async fn sql(&self, database: &str, statements: &str) -> String {
        let mut psql = self.client("psql");
        psql.args(["--no-psqlrc", "--no-align", "--tuples-only", "--quiet", "--set=ON_ERROR_STOP=1", "--dbname", database]);
        let text = run(psql.args(["--command", statements])).await;
        text.trim_end().to_owned()
    }

    /// The same; nothing if the server is not there, or refuses.
    pub async fn try_sql(&self, database: &str, statements: &str) -> Option<String> {
        let mut psql = self.client("psql");
        psql.args(["--no-psqlrc", "--no-align", "--tuples-only", "--quiet", "--set=ON_ERROR_STOP=1", "--dbname", database]);
        let output = psql.args(["--command", statements]).stdin(std::process::Stdio::null()).output().await.ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }

    /// `alter system set`, and tells the server.
    pub async fn set(&self, name: &str, value: &str) {
        self.sql("postgres", &format!("alter system set {name} = '{value}'")).await;
        self.sql("postgres", "select pg_reload_conf()").await;
    }

    /// Starts the stopped or killed server on its data, and waits until it takes connections.
    pub async fn start_again(&self) {
        let mut running = self.running.lock().await;
        assert!(running.as_mut().is_none_or(|process| process.ended().is_some()), "the server runs");
        let deadline = Instant::now() + START;
        loop {
            let mut process = self.spawn();
            if self.is_ready(&mut process, deadline).await {
                *running = Some(process);
                return;
            }
            // Backends of a killed server may still hold its shared memory for a moment.
            let log = process.log();
            assert!(log.ends_with("still running.") || log.contains("still in use"), "the server ended at its start:\n{log}");
            assert!(Instant::now() < deadline, "the server does not start within {START:?}:\n{log}");
            tokio::time::sleep(LOOK * 10).await;
        }
    }

    fn spawn(&self) -> Process {
        let mut command = Account::prefix(self.account);
        command.extend([program("postgres").into(), OsString::from("-D"), self.data().into()]);
        Process::spawn(command, &[("LC_ALL", "C")], self.home.path())
    }

    /// Whether it came up: `pg_ctl` looks at the same line of the same file. False if it ended.
    async fn is_ready(&self, process: &mut Process, deadline: Instant) -> bool {
        let pid = process.pid().as_raw_nonzero().to_string();
        loop {
            let file = std::fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
            let lines: Vec<&str> = file.lines().map(str::trim).collect();
            if lines.first() == Some(&pid.as_str()) && lines.get(7).is_some_and(|state| *state == "ready" || *state == "standby") {
                return true;
            }
            if process.ended().is_some() {
                return false;
            }
            assert!(Instant::now() < deadline, "the server is not ready after {START:?}:\n{}", process.log());
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Stops it in order: transactions under way are rolled back, a checkpoint is written (`pg_ctl stop -m fast`).
    pub async fn stop_fast(&self) {
        self.stop(Signal::INT).await;
    }

    /// Stops it without a checkpoint (`pg_ctl stop -m immediate`): the next start recovers from the log.
    pub async fn stop_immediate(&self) {
        self.stop(Signal::QUIT).await;
    }

    async fn stop(&self, signal: Signal) {
        let Some(mut process) = self.running.lock().await.take() else { return };
        process.signal(signal);
        process.wait_for_end(STOP).await;
    }

    /// `pg_ctl restart -m immediate`.
    pub async fn restart_immediate(&self) {
        self.stop_immediate().await;
        self.start_again().await;
    }

    /// `pg_ctl restart -m fast`.
    pub async fn restart_fast(&self) {
        self.stop_fast().await;
        self.start_again().await;
    }

    /// `kill -9` of the postmaster and of all its processes at once, as when the machine's power goes (but for what the
    /// kernel had not yet written).
    pub async fn kill_nine(&self) {
        let Some(mut process) = self.running.lock().await.take() else { return };
        process.signal_all(Signal::KILL);
        process.wait_for_end(STOP).await;
    }

    /// `kill -9` of the postmaster alone: its processes go on with what they do, and end when they notice.
    pub async fn kill_postmaster(&self) {
        let Some(mut process) = self.running.lock().await.take() else { return };
        process.signal(Signal::KILL);
        process.wait_for_end(STOP).await;
    }

    /// SIGSTOP to the postmaster and all its processes: connections stay, nothing answers.
    pub async fn pause(&self) {
        if let Some(process) = &mut *self.running.lock().await {
            process.signal_all(Signal::STOP);
        }
    }

    /// SIGCONT to the same.
    pub async fn resume(&self) {
        if let Some(process) = &mut *self.running.lock().await {
            process.signal_all(Signal::CONT);
        }
    }

    /// Whether the process is there, paused or not.
    pub async fn is_running(&self) -> bool {
        self.running.lock().await.as_mut().is_some_and(|process| process.ended().is_none())
    }

    /// The postmaster's process id, while it runs.
    pub async fn pid(&self) -> Option<u32> {
        self.running.lock().await.as_ref().map(|process| process.pid().as_raw_nonzero().get().unsigned_abs())
    }

    /// A second server that follows this one by streaming replication. It is asynchronous until
    /// `set("synchronous_standby_names", "*")` here.
    pub async fn standby(&self) -> Self {
        let standby = Self::prepare(self.options.clone());
        let mut copy = self.client("pg_basebackup");
        copy.args(["--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync", "--pgdata"]).arg(standby.data());
        run(&mut copy).await;
        files::configure(&standby);
        standby.start_again().await;
        standby
    }

    /// Makes a standby a server of its own, on a new timeline, and waits until it takes writes.
    pub async fn promote(&self) {
        let promoted = self.sql("postgres", "select pg_promote(true, 60)").await;
        assert_eq!(promoted, "t", "the standby was not promoted:\n{}", self.log());
    }

    /// A dump of a database in one snapshot, as an operator makes one while the server runs. The file goes with the server.
    pub async fn dump(&self, database: &str) -> PathBuf {
        let file = self.home.path().join(format!("{database}.dump"));
        run(self.client("pg_dump").args(["--format=custom", "--dbname", database, "--file"]).arg(&file)).await;
        file
    }

    /// Restores a dump of another server into a database that is there and empty.
    pub async fn restore(&self, database: &str, dump: &Path) {
        let file = self.home.path().join("restored.dump");
        std::fs::copy(dump, &file).unwrap();
        Account::give(self.account, &file);
        run(self.client("pg_restore").args(["--exit-on-error", "--dbname", database]).arg(&file)).await;
    }

    /// A client program of PostgreSQL, connected as superuser.
    fn client(&self, name: &str) -> Command {
        let mut command = self.command(name);
        let port = self.port().to_string();
        command.args(["--host", "127.0.0.1", "--port", port.as_str(), "--username", SUPERUSER]);
        command.env("PGPASSWORD", SUPERUSER_PASSWORD).env("PGCONNECT_TIMEOUT", "20");
        command
    }

    /// A program of PostgreSQL, run as the server's user.
    fn command(&self, name: &str) -> Command {
        let mut words = Account::prefix(self.account);
        words.push(program(name).into());
        let mut command = Command::new(&words[0]);
        // The folders of who runs the tests may be closed to that user, and their settings are none of the server's.
        command.args(&words[1..]).current_dir(self.home.path()).kill_on_drop(true).env_clear();
        command.env("HOME", self.home.path()).env("LC_ALL", "C").envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command
    }

    fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// The end of what the server logged.
    pub fn log(&self) -> String {
        crate::process::end_of(&self.home.path().join("server.log"))
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(process) = self.running.get_mut() {
            process.signal_all(Signal::CONT);
            // At once, but so that its processes end before their folder goes.
            process.signal(Signal::QUIT);
            process.block_until_end(Duration::from_secs(5));
        }
        self.running.get_mut().take();
    }
}

/// Runs a program to its end and gives what it printed; fails the test with what it said if it fails.
async fn run(command: &mut Command) -> String {
    command.kill_on_drop(true);
    let ended = tokio::time::timeout(PROGRAM, command.stdin(std::process::Stdio::null()).output()).await;
    let output = ended.unwrap_or_else(|_| panic!("{:?} has not ended after {PROGRAM:?}", command.as_std())).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?} ended with {}:\n{errors}", command.as_std(), output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// A program of PostgreSQL: from the folder `LAKEFALL_TEST_POSTGRES_BIN`, or of the newest version where Debian puts them.
fn program(name: &str) -> PathBuf {
    let folder = std::env::var_os("LAKEFALL_TEST_POSTGRES_BIN").map(PathBuf::from).or_else(newest);
    let path = folder.unwrap_or_default().join(name);
    assert!(path.is_file(), "there is no PostgreSQL ({}): run `.ci/postgres`, which installs it", path.display());
    path
}

fn newest() -> Option<PathBuf> {
    let versions = std::fs::read_dir(Path::new("/usr/lib/postgresql")).ok()?;
    let numbers = versions.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    numbers.filter(|version| folder_of(*version).join("initdb").is_file()).max().map(folder_of)
}

fn folder_of(version: u32) -> PathBuf {
    format!("/usr/lib/postgresql/{version}/bin").into()
}
