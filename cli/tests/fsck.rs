//! `lakefall fsck` over a data folder that a real server wrote.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test may fail where it stands, and waits in real time"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

fn lakefall(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lakefall"));
    command.args(arguments).env_clear();
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A server over a folder, and where it listens.
struct Server {
    process: Child,
    url: String,
}

impl Server {
    fn start(folder: &Path) -> Self {
        Self::start_with(folder, &[])
    }

    fn start_with(folder: &Path, settings: &[(&str, &str)]) -> Self {
        let flags = ["dev", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--data-dir", folder.to_str().unwrap()];
        let mut command = lakefall(&flags);
        command.envs(settings.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let url = loop {
            let line = lines.next().unwrap_or_else(|| panic!("the server ended before it was ready")).unwrap();
            if let Some((_, rest)) = line.split_once("HTTP API") {
                break rest.split_whitespace().next().unwrap().to_owned();
            }
        };
        // The banner's other lines go nowhere; the server does not mind.
        Self { process, url }
    }

    fn run(&self, arguments: &[&str], input: &str) {
        let mut command = lakefall(arguments).args(["--url", &self.url]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        command.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        assert!(command.wait().unwrap().success(), "{arguments:?}");
    }

    /// The body of an answer, with its head.
    fn get(&self, path: &str) -> String {
        let address = self.url.trim_start_matches("http://").trim_end_matches('/');
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn stop(mut self) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.process), rustix::process::Signal::TERM).unwrap();
        assert!(self.process.wait().unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // After `stop` there is nothing left to kill.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Two topics, three objects.
fn filled(folder: &Path) -> Server {
    let server = Server::start(folder);
    for (topic, input) in [("orders", "{\"a\":1}\n{\"a\":2}\n"), ("orders", "{\"a\":3}\n"), ("other", "{\"b\":1}\n")] {
        server.run(&["topic", "create", topic, "--if-not-exists"], "");
        server.run(&["produce", topic], input);
    }
    server
}

fn stopped() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path()).stop();
    folder
}

fn fsck(folder: &Path) -> Output {
    lakefall(&["fsck", "--data-dir", folder.to_str().unwrap(), "--json"]).output().unwrap()
}

/// The report, which must be one of damage or not.
fn report(folder: &Path, clean: bool) -> Value {
    let output = fsck(folder);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output.stderr)));
    assert_eq!(output.status.code(), Some(i32::from(!clean)), "{report:#}");
    assert_eq!(report["clean"], clean, "{report:#}");
    report
}

fn objects(folder: &Path) -> Vec<PathBuf> {
    let files = |folder: PathBuf| std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> = files(folder.join("objects/seg")).flat_map(files).collect();
    // Ids begin with the time at which they were minted.
    found.sort_by_key(|path| path.file_name().unwrap().to_owned());
    found
}

fn assert_first_object_is_named(report: &Value, object: &Path, kind: &str) {
    let damage = report["damage"].as_array().unwrap();
    assert_eq!(damage.len(), 1, "{report:#}");
    assert_eq!(damage[0]["kind"], kind);
    assert!(damage[0]["place"].as_str().unwrap().ends_with(object.file_name().unwrap().to_str().unwrap()), "{report:#}");
    let lost = &damage[0]["lost"][0];
    assert_eq!(
        (&lost["topic"], &lost["first_offset"], &lost["next_offset"]),
        (&"default/orders".into(), &0.into(), &2.into()),
        "{report:#}"
    );
}

#[test]
fn a_folder_of_a_server_that_was_stopped_is_clean() {
    let folder = stopped();
    let report = report(folder.path(), true);
    assert_eq!((&report["objects"], &report["referenced"], &report["orphans"]), (&3.into(), &3.into(), &Value::Array(Vec::new())));
    assert_eq!((&report["topics"][0]["topic"], &report["topics"][0]["records"]), (&"default/orders".into(), &3.into()));
    let people = lakefall(&["fsck", "--data-dir", folder.path().to_str().unwrap()]).output().unwrap();
    let told = text(&people.stdout);
    assert!(people.status.success() && told.contains("default/orders") && told.trim_end().ends_with("clean"), "{told}");
}

#[test]
fn a_folder_of_a_server_that_was_killed_is_clean_and_its_staging_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    drop(filled(folder.path()));
    let staging = format!("{}#1", objects(folder.path())[0].display());
    std::fs::write(&staging, b"half of a segm").unwrap();
    let report = report(folder.path(), true);
    assert_eq!((&report["objects"], &report["topics"][0]["records"]), (&3.into(), &3.into()));
    assert!(staging.ends_with(report["staging"][0].as_str().unwrap()), "{report:#}");
}

#[test]
fn a_folder_of_a_server_that_was_killed_after_a_swap_and_before_its_checkpoint_is_clean() {
    let folder = tempfile::tempdir().unwrap();
    // The last checkpoint takes the segments to the tables; what takes their place then is in the journal alone.
    filled(folder.path()).stop();
    let server = Server::start_with(folder.path(), &[("LAKEFALL_COMPACTOR__MERGE_INTERVAL_SECONDS", "1")]);
    server.run(&["produce", "orders"], "{\"a\":4}\n");
    let began = Instant::now();
    while !server.get("/v1/topics/orders/objects").contains("\"merged\"") {
        assert!(began.elapsed() < Duration::from_secs(60), "{}", server.get("/v1/topics/orders/objects"));
        std::thread::sleep(Duration::from_millis(50));
    }
    drop(server);
    let report = report(folder.path(), true);
    assert_eq!((&report["topics"][0]["topic"], &report["topics"][0]["records"]), (&"default/orders".into(), &4.into()), "{report:#}");
}

#[test]
fn while_a_server_runs_it_refuses_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let server = filled(folder.path());
    let output = fsck(folder.path());
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("a lakefall server is running"), "{}", text(&output.stderr));
    server.stop();
}

#[test]
fn a_flipped_bit_is_found_and_its_records_are_named() {
    let folder = stopped();
    let object = &objects(folder.path())[0];
    let mut bytes = std::fs::read(object).unwrap();
    // Past the mark and the batch's header: in the records.
    bytes[8 + 61 + 3] ^= 1;
    std::fs::write(object, bytes).unwrap();
    assert_first_object_is_named(&report(folder.path(), false), object, "damaged_object");
}

#[test]
fn a_truncated_object_is_found_and_its_records_are_named() {
    let folder = stopped();
    let object = &objects(folder.path())[0];
    std::fs::File::options().write(true).open(object).unwrap().set_len(40).unwrap();
    assert_first_object_is_named(&report(folder.path(), false), object, "damaged_object");
}

#[test]
fn a_missing_object_is_found_and_its_records_are_named() {
    let folder = stopped();
    let object = &objects(folder.path())[0];
    std::fs::remove_file(object).unwrap();
    assert_first_object_is_named(&report(folder.path(), false), object, "missing_object");
}

#[test]
fn an_object_that_the_metadata_does_not_know_is_listed_and_no_damage() {
    let folder = stopped();
    let stray = folder.path().join("objects/seg/00/stray.seg");
    std::fs::write(&stray, b"?").unwrap();
    let report = report(folder.path(), true);
    assert_eq!(report["orphans"][0], "seg/00/stray.seg");
}

#[test]
fn a_folder_without_a_store_is_a_wrong_argument() {
    let folder = tempfile::tempdir().unwrap();
    let output = fsck(folder.path());
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    assert!(!folder.path().join("objects").exists(), "nothing is created");
}
