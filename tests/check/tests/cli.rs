//! The executable: exit codes, reports, and files that are no histories.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails where it stands, and tells what it saw")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn run(arguments: &[&str], file: Option<&Path>) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lakefall-check")).args(arguments).args(file).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A generated history in a folder, changed line by line.
fn planted(folder: &Path, mut change: impl FnMut(usize, &str) -> Option<String>) -> PathBuf {
    let path = folder.join("history.jsonl");
    let made = run(&["generate", "--records", "3000", "--messages", "200", "--out"], Some(&path));
    assert!(made.status.success(), "{}", text(&made.stderr));
    let history = std::fs::read_to_string(&path).unwrap();
    let lines: String = history.lines().enumerate().filter_map(|(at, line)| change(at + 1, line)).map(|line| line + "\n").collect();
    std::fs::write(&path, lines).unwrap();
    path
}

#[test]
fn a_history_that_holds_ends_with_0_and_says_what_each_check_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let path = planted(folder.path(), |_, line| Some(line.to_owned()));
    let (people, programs) = (run(&[], Some(&path)), run(&["--json"], Some(&path)));
    assert_eq!((people.status.code(), programs.status.code()), (Some(0), Some(0)), "{}{}", text(&people.stdout), text(&people.stderr));
    assert!(text(&people.stdout).contains("| H1 | "), "{}", text(&people.stdout));
    let report: Value = serde_json::from_slice(&programs.stdout).unwrap();
    assert_eq!((report["ok"].as_bool(), report["lost"].as_u64(), report["faults"].as_u64()), (Some(true), Some(0), Some(1)));
    for check in ["H1", "H2", "H3", "H4", "H5", "H6", "H7", "Q1", "Q3"] {
        assert!(report["checks"][check]["examined"].as_u64() > Some(0), "{check}: {report}");
    }
}

#[test]
fn a_violation_ends_with_1_and_is_shown_with_what_is_around_it() {
    let folder = tempfile::tempdir().unwrap();
    // An acknowledged batch stands elsewhere than the readers find it.
    let path = planted(folder.path(), |at, line| {
        Some(if at == 4 { line.replace("\"at\":[[0,0,20]]", "\"at\":[[0,5000,20]]") } else { line.to_owned() })
    });
    let people = run(&[], Some(&path));
    assert_eq!(people.status.code(), Some(1));
    let report = text(&people.stdout);
    assert!(report.contains("## The first violation") && report.contains("\n4: {\"t_ns\":"), "{report}");
    let programs: Value = serde_json::from_slice(&run(&["--json"], Some(&path)).stdout).unwrap();
    assert_eq!(programs["ok"], false);
    assert!(programs["around_first"].as_array().is_some_and(|around| !around.is_empty()), "{programs}");
}

#[test]
fn a_history_that_shows_less_than_is_expected_ends_with_1() {
    let folder = tempfile::tempdir().unwrap();
    let path = planted(folder.path(), |_, line| Some(line.to_owned()));
    let cases = [
        (vec!["--expect", "Q2"], "Q2 looked at nothing"),
        (vec!["--fault", "pause"], "\"pause\" never fired"),
        (vec!["--acked", "9999"], "of 9999"),
    ];
    for (flags, why) in cases {
        let judged = run(&flags, Some(&path));
        assert_eq!(judged.status.code(), Some(1));
        assert!(text(&judged.stdout).contains(why), "{}", text(&judged.stdout));
    }
    let path = planted(folder.path(), |_, line| (!line.contains("\"type\":\"fault\"")).then(|| line.to_owned()));
    assert!(text(&run(&[], Some(&path)).stdout).contains("\"kill -9\" never fired"));
}

#[test]
fn a_file_that_is_no_history_ends_with_2_and_the_line() {
    let folder = tempfile::tempdir().unwrap();
    type Change = fn(&str) -> String;
    let cases: [(Change, &str); 4] = [
        (|_| "{}".to_owned(), "line 9: missing field"),
        (|line| line[..line.len() / 2].to_owned(), "line 9: "),
        (|_| "{\"t_ns\":9,\"type\":\"ok\",\"op_id\":4,\"end\":1}".to_owned(), "line 9: t_ns goes back"),
        (|_| "{\"t_ns\":9000,\"type\":\"ok\",\"op_id\":4000,\"end\":1}".to_owned(), "line 9: operation 4000 ends"),
    ];
    for (change, why) in cases {
        let path = planted(folder.path(), |at, line| Some(if at == 9 { change(line) } else { line.to_owned() }));
        let judged = run(&[], Some(&path));
        assert_eq!(judged.status.code(), Some(2), "{why}: {}", text(&judged.stdout));
        assert!(text(&judged.stderr).contains(why), "{why}: {}", text(&judged.stderr));
    }
    let absent = run(&[], Some(&folder.path().join("absent")));
    assert_eq!(absent.status.code(), Some(2));
    assert!(text(&absent.stderr).contains("cannot be opened"));
}

#[test]
fn the_same_numbers_generate_the_same_history() {
    let once = run(&["generate", "--records", "2000", "--messages", "50", "--batch", "7"], None).stdout;
    assert!(once.len() > 10_000);
    assert_eq!(once, run(&["generate", "--records", "2000", "--messages", "50", "--batch", "7"], None).stdout);
}
