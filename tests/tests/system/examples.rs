//! The examples of the documentation, run as they stand against one server: each says what it expects and fails if it is not so.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use futures::stream::{self, StreamExt};
use lakefall_tests::Server;
use lakefall_tests::process::binary;
use tokio::process::Command;
use tokio::time::Instant;

use super::machine;

/// Longest time for one example.
const PATIENCE: Duration = Duration::from_secs(60);
/// Examples at a time: most of their time they wait.
const AT_ONCE: usize = 4;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples").canonicalize().unwrap()
}

/// The examples' names: `01-simple.sh`, …
fn examples() -> BTreeSet<String> {
    let names = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let found: BTreeSet<String> = names.filter(|name| name.starts_with(|c: char| c.is_ascii_digit())).collect();
    assert!(!found.is_empty(), "there are no examples in {}", folder().display());
    found
}

/// Runs one: how long it took, or what it said when it failed.
async fn run(name: &str, url: &str) -> Result<Duration, String> {
    let program = binary();
    let path = format!("{}:{}", program.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("bash");
    command.arg(folder().join(name)).stdin(Stdio::null()).kill_on_drop(true);
    for (variable, _) in std::env::vars().filter(|(variable, _)| variable.starts_with("LAKEFALL_")) {
        command.env_remove(variable);
    }
    let began = Instant::now();
    let output = command.env("PATH", path).env("LAKEFALL_URL", url).output();
    let Ok(output) = tokio::time::timeout(PATIENCE, output).await else {
        return Err(format!("{name} does not end within {PATIENCE:?}"));
    };
    let output = output.unwrap();
    let told = [output.stdout, output.stderr].map(|told| String::from_utf8_lossy(&told).into_owned()).join("\n");
    if output.status.success() { Ok(began.elapsed()) } else { Err(format!("{name} ended with {}:\n{told}", output.status)) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_example_of_the_documentation_does_what_it_says() {
    let _machine = machine().await;
    let server = Server::start_default().await;
    let url = format!("http://{}", server.address());
    let only = std::env::var("LAKEFALL_TEST_EXAMPLE").unwrap_or_default();
    let names: Vec<String> = examples().into_iter().filter(|name| name.contains(&only)).collect();
    let each = names.into_iter().map(|name| {
        let url = url.clone();
        async move {
            let ended = run(&name, &url).await;
            (name, ended)
        }
    });
    let mut failed = Vec::new();
    let mut ended = stream::iter(each).buffered(AT_ONCE);
    while let Some((name, ended)) = ended.next().await {
        match ended {
            Ok(took) => println!("examples: {name} in {took:.1?}"),
            Err(told) => failed.push(told),
        }
    }
    assert!(failed.is_empty(), "{} of the examples failed\n\n{}", failed.len(), failed.join("\n\n"));
}

#[test]
fn the_list_of_examples_names_each_script_and_no_other() {
    let readme = std::fs::read_to_string(folder().join("README.md")).unwrap();
    let linked = readme.split("](").skip(1).filter_map(|rest| rest.split(')').next()).filter(|name| name.ends_with(".sh"));
    assert_eq!(linked.map(str::to_owned).collect::<BTreeSet<String>>(), examples());
    for name in examples() {
        let script = std::fs::read_to_string(folder().join(&name)).unwrap();
        assert!(script.starts_with("#!/usr/bin/env bash\n# "), "{name} does not begin with what it shows");
    }
}
