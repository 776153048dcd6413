//! The executable as a shell sees it, without a server: exit codes and texts.
#![allow(clippy::unwrap_used, reason = "a test may fail where it stands")]

use std::process::{Command, Output};

fn lakefall(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lakefall"));
    command.args(arguments).env_clear();
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn run(arguments: &[&str]) -> Output {
    lakefall(arguments).output().unwrap()
}

#[test]
fn a_role_that_lacks_what_it_works_with_names_the_flag_and_the_role_that_needs_none() {
    for (role, flag) in [("gateway", "--metadata"), ("metadata", "--database"), ("compactor", "--metadata")] {
        let output = run(&[role]);
        assert_eq!(output.status.code(), Some(2));
        let told = text(&output.stderr);
        assert!(told.contains(flag) && told.contains("lakefall dev"), "{told}");
    }
    let told = text(&run(&["gateway", "--metadata", "http://127.0.0.1:1"]).stderr);
    assert!(told.contains("--store"), "{told}");
}

#[test]
fn a_server_that_is_not_there_is_exit_code_3() {
    // Port 1 is reserved (tcpmux), and nothing listens there.
    for command in [&["topic", "list"][..], &["bench", "produce", "t"], &["consume", "t"]] {
        let output = run(&[command, &["--url", "http://127.0.0.1:1"]].concat());
        assert_eq!(output.status.code(), Some(3), "{command:?}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains("cannot reach the server"));
    }
}

#[test]
fn the_effective_configuration_is_printed_without_secrets() {
    let output = lakefall(&["config", "print"])
        .env("LAKEFALL_STORE__SECRET_ACCESS_KEY", "hunter2")
        .env("LAKEFALL_SEGMENT__TARGET_BYTES", "4096")
        .output()
        .unwrap();
    let printed = text(&output.stdout);
    assert!(output.status.success() && printed.contains("target_bytes = 4096"), "{printed}");
    assert!(printed.contains("secret_access_key") && !printed.contains("hunter2"), "{printed}");
}

#[test]
fn an_unknown_setting_refuses_to_start() {
    let output = lakefall(&["dev"]).env("LAKEFALL_UPLOADS__MOX", "3").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let told = text(&output.stderr);
    assert!(told.contains("uploads.mox") && told.contains("LAKEFALL_UPLOADS__MOX"), "{told}");
}

#[test]
fn completions_are_printed_for_shells() {
    for shell in ["bash", "zsh", "fish"] {
        let output = run(&["completions", shell]);
        assert!(output.status.success() && text(&output.stdout).contains("lakefall"));
    }
}
