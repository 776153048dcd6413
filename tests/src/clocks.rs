//! Machines whose clocks are off, made by libfaketime.

use std::path::PathBuf;

use crate::process::Process;

/// Lets a process see another time of day from its next start on; its monotonic clock stays.
pub fn shift(process: &mut Process, by: &str) {
    process.set_env("LD_PRELOAD", library().display());
    process.set_env("FAKETIME", by);
    process.set_env("DONT_FAKE_MONOTONIC", 1);
    process.set_env("FAKETIME_DONT_RESET", 1);
}

/// Gives it the right time again, from its next start on.
pub fn restore(process: &mut Process) {
    for name in ["LD_PRELOAD", "FAKETIME", "DONT_FAKE_MONOTONIC", "FAKETIME_DONT_RESET"] {
        process.unset_env(name);
    }
}

fn library() -> PathBuf {
    let given = std::env::var_os("LAKEFALL_TEST_FAKETIME").map(PathBuf::from);
    let folders = ["x86_64", "aarch64"].map(|machine| PathBuf::from(format!("/usr/lib/{machine}-linux-gnu/faketime/libfaketime.so.1")));
    let found = given.into_iter().chain(folders).find(|path| path.is_file());
    found.expect("there is no libfaketime: run `.ci/faketime`, which installs it, or set LAKEFALL_TEST_FAKETIME")
}
