//! A real S3 server (versitygw over a temporary folder; docs/testing.md says why this one): started, killed, paused, with
//! accounts of its own. Must never be a fake: it checks signatures and conditions as a store in the cloud does.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::port::Port;
use crate::process::{LOOK, Process};

/// How long a start may take: it is there in tens of milliseconds on an idle machine.
const START: Duration = Duration::from_secs(30);
/// How long a stop may take.
const STOP: Duration = Duration::from_secs(30);
/// How long an answer of the server may take to one that administers it.
const ASK: Duration = Duration::from_secs(30);
/// How long it may take to say that it is there.
const HEALTH: Duration = Duration::from_secs(2);

/// Where the server keeps what it is about to store, in each bucket.
const STAGING: &str = ".sgwtmp";

/// The account that may do everything.
const ACCESS_KEY: &str = "LAKEFALLROOT";
const SECRET: &str = "secret-of-the-root-account";
/// The region that signatures must name.
pub const REGION: &str = "us-east-1";

/// A server, running or not. All its data goes away with it.
#[derive(Debug)]
pub struct S3 {
    running: Mutex<Option<Process>>,
    port: Port,
    buckets: AtomicU32,
    home: TempDir,
}

impl S3 {
    /// Starts a server without buckets.
    pub async fn start() -> Self {
        let home = tempfile::Builder::new().prefix("lakefall-s3-").tempdir().unwrap();
        for folder in ["buckets", "accounts"] {
            std::fs::create_dir(home.path().join(folder)).unwrap();
        }
        let s3 = Self { running: Mutex::new(None), port: Port::reserve(), buckets: AtomicU32::new(0), home };
        s3.start_again().await;
        s3
    }

    /// The server that the tests of this process share; the last handle stops it. Take a [`S3::fresh_bucket`], and do not
    /// stop, kill or pause it.
    pub async fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<S3>> = Mutex::const_new(Weak::new());
        let mut shared = SHARED.lock().await;
        if let Some(running) = shared.upgrade() {
            return running;
        }
        let started = Arc::new(Self::start().await);
        *shared = Arc::downgrade(&started);
        started
    }

    /// `http://127.0.0.1:port`, the same over all starts. Buckets are addressed by path.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address())
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// The access key of the account that may do everything.
    pub fn access_key(&self) -> &str {
        ACCESS_KEY
    }

    /// Its secret.
    pub fn secret(&self) -> &str {
        SECRET
    }

    /// The region that signatures must name.
    pub fn region(&self) -> &str {
        REGION
    }

    /// Creates a bucket of the root account.
    pub async fn create_bucket(&self, name: &str) {
        self.create_bucket_of(name, ACCESS_KEY).await;
    }

    /// Creates a bucket of another account, which may then do everything in it.
    pub async fn create_bucket_of(&self, name: &str, owner: &str) {
        self.administer(&["create-bucket", "--bucket", name, "--owner", owner]).await;
    }

    /// A bucket of its own for one test, by name.
    pub async fn fresh_bucket(&self) -> String {
        let name = format!("test-{}", self.buckets.fetch_add(1, Ordering::Relaxed));
        self.create_bucket(&name).await;
        name
    }

    /// Creates an account that may do nothing but in buckets of its own.
    pub async fn create_user(&self, access_key: &str, secret: &str) {
        self.administer(&["create-user", "--access", access_key, "--secret", secret, "--role", "user"]).await;
    }

    /// Changes the secret of an account: requests signed with the old one get 403 from now on.
    pub async fn set_secret(&self, access_key: &str, secret: &str) {
        self.administer(&["update-user", "--access", access_key, "--secret", secret]).await;
    }

    /// Deletes an account: its requests get 403 from now on.
    pub async fn delete_user(&self, access_key: &str) {
        self.administer(&["delete-user", "--access", access_key]).await;
    }

    async fn administer(&self, arguments: &[&str]) {
        let mut command = Command::new(executable());
        command.args(["admin", "--access", ACCESS_KEY, "--secret", SECRET, "--region", REGION, "--endpoint-url", &self.endpoint()]);
        let ended = tokio::time::timeout(ASK, command.args(arguments).kill_on_drop(true).output()).await;
        let output = ended.unwrap_or_else(|_| panic!("no answer to {arguments:?} after {ASK:?}:\n{}", self.log())).unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && told.is_empty(), "{arguments:?}: {told}");
    }

    /// Starts the stopped or killed server on its data, and waits until it answers.
    pub async fn start_again(&self) {
        let mut running = self.running.lock().await;
        assert!(running.as_mut().is_none_or(|process| process.ended().is_some()), "the server runs");
        let mut process = self.spawn();
        let deadline = Instant::now() + START;
        while !self.is_healthy().await {
            assert!(process.ended().is_none(), "the server ended at its start:\n{}", process.log());
            assert!(Instant::now() < deadline, "the server is not ready after {START:?}:\n{}", process.log());
            tokio::time::sleep(LOOK).await;
        }
        *running = Some(process);
    }

    fn spawn(&self) -> Process {
        let mut command: Vec<OsString> = vec![executable().into()];
        command.extend(["--access", ACCESS_KEY, "--secret", SECRET, "--region", REGION, "--quiet", "--keep-alive"].map(Into::into));
        command.extend(["--health".into(), "/healthz".into(), "--port".into(), self.address().to_string().into()]);
        // Its folders must be absolute, as it changes to the folder of the buckets.
        command.extend(["--iam-cache-disable".into(), "--iam-dir".into(), self.home.path().join("accounts").into()]);
        command.extend(["posix".into(), self.home.path().join("buckets").into()]);
        Process::spawn(command, &[], self.home.path())
    }

    async fn is_healthy(&self) -> bool {
        let ask = async {
            let mut stream = TcpStream::connect(self.address()).await?;
            stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            std::io::Result::Ok(answer.starts_with("HTTP/1.1 200"))
        };
        // Asked again if it says nothing: that it listens does not mean that it serves.
        tokio::time::timeout(HEALTH, ask).await.is_ok_and(|answer| answer.unwrap_or(false))
    }

    /// SIGTERM, and waits for the end.
    pub async fn stop(&self) {
        self.end_by(Signal::TERM).await;
    }

    /// `kill -9`, and waits for the end.
    pub async fn kill_nine(&self) {
        self.end_by(Signal::KILL).await;
    }

    async fn end_by(&self, signal: Signal) {
        let Some(mut process) = self.running.lock().await.take() else { return };
        process.signal(signal);
        process.wait_for_end(STOP).await;
    }

    /// `kill -9` and a start.
    pub async fn restart(&self) {
        self.kill_nine().await;
        self.start_again().await;
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

    /// Whether the process is there, paused or not.
    pub async fn is_running(&self) -> bool {
        self.running.lock().await.as_mut().is_some_and(|process| process.ended().is_none())
    }

    /// The process id, while it runs.
    pub async fn pid(&self) -> Option<u32> {
        self.running.lock().await.as_ref().map(|process| process.pid().as_raw_nonzero().get().unsigned_abs())
    }

    /// The file that holds an object, for tests that damage or remove it behind the server's back.
    pub fn object_path(&self, bucket: &str, key: &str) -> PathBuf {
        self.home.path().join("buckets").join(bucket).join(key)
    }

    /// Creates a bucket with what the bucket of that name of another server holds. Nobody may write there meanwhile.
    pub async fn take_bucket(&self, from: &Self, name: &str) {
        self.create_bucket(name).await;
        copy(&from.object_path(name, ""), &self.object_path(name, "")).await;
    }

    /// Keeps what a bucket holds now, as old versions would: to be given to [`S3::bring_back`].
    pub async fn versions(&self, bucket: &str) -> PathBuf {
        let kept = self.home.path().join(format!("versions-of-{bucket}"));
        std::fs::create_dir_all(&kept).unwrap();
        copy(&self.object_path(bucket, ""), &kept).await;
        kept
    }

    /// Brings back what was deleted since; what is there stays as it is.
    pub async fn bring_back(&self, bucket: &str, versions: &Path) {
        copy(versions, &self.object_path(bucket, "")).await;
    }

    /// The end of what the server logged.
    pub fn log(&self) -> String {
        crate::process::end_of(&self.home.path().join("server.log"))
    }
}

/// Copies what is in a folder, with the attributes in which the server keeps what it knows of an object; not over what is there.
async fn copy(from: &Path, to: &Path) {
    let mut missing = Vec::new();
    let mut folders = vec![from.to_owned()];
    while let Some(folder) = folders.pop() {
        // What is deleted meanwhile is not there.
        for entry in std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok) {
            let path = entry.path();
            let name = path.strip_prefix(from).unwrap();
            if name.starts_with(STAGING) {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if !to.join(name).exists() {
                missing.push(name.to_owned());
            }
        }
    }
    if missing.is_empty() {
        return;
    }
    let mut copying = Command::new("cp");
    copying.args(["-a", "--parents", "-t"]).arg(to).arg("--").args(&missing).current_dir(from);
    let copied = tokio::time::timeout(ASK, copying.kill_on_drop(true).output()).await;
    let output = copied.unwrap_or_else(|_| panic!("{} is not copied after {ASK:?}", from.display())).unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.lines().all(|line| line.contains("No such file or directory")), "{told}");
}

/// The server's executable: `LAKEFALL_TEST_S3_SERVER`, or where `.ci/s3-server` leaves it.
fn executable() -> PathBuf {
    if let Some(path) = std::env::var_os("LAKEFALL_TEST_S3_SERVER") {
        return path.into();
    }
    let found = std::fs::read_dir(crate::target::servers()).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let built = found.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("versitygw-")));
    let newest = built.map(|folder| folder.join("versitygw")).filter(|path| path.is_file()).max();
    newest.expect("there is no S3 server: run `.ci/s3-server`, which builds it, or set LAKEFALL_TEST_S3_SERVER")
}
