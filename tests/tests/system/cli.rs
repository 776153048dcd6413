//! The client commands of the executable against a running server: what they print, and their exit codes.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use lakefall_tests::Server;
use lakefall_tests::process::binary;
use serde_json::{Value, json};

/// Runs the executable against a server.
struct Shell(String);

impl Shell {
    fn run_with(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut command = Command::new(binary());
        command.args(arguments).env_clear().env("LAKEFALL_URL", &self.0);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // A command that takes no input may have closed it.
        let _ = child.stdin.take().unwrap().write_all(input);
        child.wait_with_output().unwrap()
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.run_with(arguments, b"")
    }

    /// What a command that succeeds prints.
    fn out(&self, arguments: &[&str], input: &[u8]) -> String {
        let output = self.run_with(arguments, input);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let text = self.out(&[arguments, &["--json"]].concat(), b"");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?} printed no JSON ({error}): {text}"))
    }

    /// A command that fails: its exit code, and what it says.
    fn fails(&self, arguments: &[&str], code: i32, says: &str) {
        let output = self.run(arguments);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {told}");
        assert!(told.contains(says), "{arguments:?} does not say {says:?}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_created_listed_described_and_deleted() {
    let server = Server::start_default().await;
    let shell = Shell(format!("http://{}", server.address()));
    assert_eq!(shell.json(&["topic", "create", "t", "--partitions", "3", "--retention-age", "7d"])["partitions"], 3);
    shell.fails(&["topic", "create", "t"], 1, "already_exists");
    shell.out(&["topic", "create", "t", "--if-not-exists"], b"");
    shell.out(&["topic", "create", "u"], b"");
    let names: Vec<Value> = shell.json(&["topic", "list"]).as_array().unwrap().iter().map(|t| t["name"].clone()).collect();
    assert_eq!(names, [json!("t"), json!("u")]);
    assert_eq!(shell.json(&["topic", "describe", "t"])["partition_status"].as_array().unwrap().len(), 3);
    assert!(shell.out(&["topic", "describe", "t"], b"").contains("LOG START"));
    shell.fails(&["topic", "delete", "t"], 2, "--yes");
    shell.out(&["topic", "delete", "t", "--yes"], b"");
    shell.fails(&["topic", "describe", "t"], 1, "topic_not_found");
    shell.fails(&["topic", "create", "bad/name"], 1, "invalid_argument");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_produced_is_consumed() {
    let server = Server::start_default().await;
    let shell = Shell(format!("http://{}", server.address()));
    shell.out(&["topic", "create", "t"], b"");
    shell.out(&["produce", "t", "--key", "/k"], b"{\"k\":\"a\",\"n\":1}\n{\"k\":\"b\",\"n\":2.50}\n");
    assert_eq!(shell.out(&["consume", "t", "--format", "value"], b""), "{\"k\":\"a\",\"n\":1}\n{\"k\":\"b\",\"n\":2.50}\n");
    shell.out(&["produce", "t", "--format", "lines"], "plain text\nsecond \"line\" ä\n".as_bytes());
    shell.out(&["produce", "t", "--format", "records"], b"{\"value\":{\"x\":1},\"headers\":{\"h\":\"v\"}}\n");
    shell.out(&["produce", "t", "--format", "raw", "--content-type", "image/png"], &[0, 159, 146, 150]);
    let lines = shell.out(&["consume", "t", "--from", "2", "--format", "ndjson"], b"");
    let records: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records.iter().map(|r| r["offset"].as_u64().unwrap()).collect::<Vec<_>>(), [2, 3, 4, 5]);
    assert_eq!((&records[0]["value"], &records[1]["value"]), (&json!("plain text"), &json!("second \"line\" ä")));
    assert_eq!(records[2]["headers"]["h"], "v");
    assert_eq!(records[3]["encoding"], "base64");
    let all: Value = serde_json::from_str(&shell.out(&["consume", "t", "--format", "json", "-n", "3"], b"")).unwrap();
    assert_eq!(all.as_array().unwrap().len(), 3);
    let last = shell.out(&["consume", "t", "--last", "1", "--format", "ndjson"], b"");
    assert_eq!(last.lines().count(), 1);
    shell.fails(&["produce", "t", "/nowhere/file.ndjson"], 2, "/nowhere/file.ndjson");
    shell.fails(&["produce", "nowhere", file(b"1\n").path().to_str().unwrap()], 1, "topic_not_found");
    shell.fails(&["produce", "t", file(b"{\"open\":\n").path().to_str().unwrap()], 1, "malformed_record");
    shell.fails(&["consume", "nowhere"], 1, "topic_not_found");
    assert_eq!(server.client().ends("t").await, [(0, 6)]);
}

fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn cursors_are_set_shown_reset_and_deleted() {
    let server = Server::start_default().await;
    let shell = Shell(format!("http://{}", server.address()));
    shell.out(&["topic", "create", "t", "--partitions", "2"], b"");
    shell.out(&["produce", "t", "--partition", "1"], b"1\n2\n3\n");
    shell.out(&["cursor", "set", "c", "t", "1=2"], b"");
    let cursor = shell.json(&["cursor", "get", "c"]);
    assert!(cursor.to_string().contains("\"1\":2"), "{cursor}");
    assert!(shell.out(&["cursor", "list"], b"").contains('c'));
    shell.out(&["cursor", "reset", "c", "--to", "earliest"], b"");
    assert!(shell.json(&["cursor", "get", "c"]).to_string().contains("\"1\":0"));
    shell.fails(&["cursor", "set", "c", "t", "one=two"], 2, "partition=offset");
    shell.out(&["cursor", "delete", "c"], b"");
    shell.fails(&["cursor", "get", "c"], 1, "cursor_not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_usage_is_exit_code_2_and_nobody_there_is_3() {
    let shell = Shell("http://127.0.0.1:1".to_owned());
    shell.fails(&["topic", "list"], 3, "cannot reach the server");
    shell.fails(&["no-such-command"], 2, "no-such-command");
    shell.fails(&["topic", "create"], 2, "NAME");
    shell.fails(&["topic", "create", "t", "--cleanup", "never"], 2, "never");
    shell.fails(&["dev", "--listen", "nowhere"], 2, "listen");
    shell.fails(&["config", "print", "--config", "/nowhere/lakefall.toml"], 2, "/nowhere/lakefall.toml");
    assert!(shell.out(&["config", "print"], b"").contains("[segment]"));
    for name in ["bash", "zsh", "fish"] {
        assert!(shell.out(&["completions", name], b"").contains("lakefall"));
    }
    shell.fails(&["completions", "cobol"], 2, "cobol");
}

#[tokio::test(flavor = "multi_thread")]
async fn schemas_are_registered_checked_shown_and_deleted() {
    let server = Server::start_default().await;
    let shell = Shell(format!("http://{}", server.address()));
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let first = file("order.json", r#"{"type":"object","properties":{"id":{"type":"integer"}}}"#);
    let stricter = file("stricter.json", r#"{"type":"object","required":["id"]}"#);
    let proto = file("order.proto", "syntax = \"proto3\"; message Order { int32 id = 1; }");
    assert_eq!(shell.json(&["schema", "register", "orders", &first])["version"], 1);
    assert_eq!(shell.json(&["schema", "register", "protos", &proto])["type"], "protobuf");
    assert_eq!(shell.out(&["schema", "check", "orders", &first], b""), "compatible\n");
    shell.fails(&["schema", "check", "orders", &stricter], 1, "not compatible");
    shell.fails(&["schema", "register", "orders", &stricter], 1, "schema_incompatible");
    shell.fails(&["schema", "register", "orders", &file("order.txt", "x")], 2, "--type");
    shell.out(&["schema", "config", "orders", "--compatibility", "none"], b"");
    let text = std::fs::read(&stricter).unwrap();
    shell.out(&["schema", "register", "orders", "-", "--type", "json"], &text);
    assert_eq!(shell.json(&["schema", "list", "orders"]).as_array().unwrap().len(), 2);
    assert!(shell.out(&["schema", "list"], b"").contains("COMPATIBILITY"));
    assert!(shell.out(&["schema", "show", "orders", "--version", "1"], b"").contains("\"integer\""));
    assert!(shell.out(&["schema", "show", "protos"], b"").starts_with("syntax"));
    shell.fails(&["schema", "delete", "orders"], 2, "--yes");
    shell.out(&["schema", "delete", "orders", "--version", "1", "--yes"], b"");
    shell.out(&["schema", "delete", "orders", "--yes"], b"");
    shell.fails(&["schema", "show", "orders"], 1, "schema_not_found");
}
