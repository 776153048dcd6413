//! How the executable is linked: as small as the linker makes it.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let of = |name: &str| std::env::var(name).unwrap_or_default();
    let target = ["CARGO_CFG_TARGET_OS", "CARGO_CFG_TARGET_ENV", "CARGO_CFG_TARGET_ARCH"].map(of);
    // There the linker is LLVM's unless somebody chose another (Rust 1.90 and later). Elsewhere it may be one that knows none of this.
    let own_linker =
        ["linker", "fuse-ld"].iter().any(|word| of("CARGO_ENCODED_RUSTFLAGS").contains(word)) || !of("RUSTC_LINKER").is_empty();
    if of("PROFILE") != "release" || target != ["linux", "gnu", "x86_64"] || own_linker {
        return;
    }
    // Generic functions that became the same code are kept once.
    println!("cargo::rustc-link-arg-bins=-Wl,--icf=all");
    // What the loader must correct, as a bit for each place instead of 24 bytes. Loaders know it since glibc 2.36.
    if of("HOST") == of("TARGET") && glibc() >= Some((2, 36)) {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// The version of this machine's C library, which is the oldest that the executable will meet.
fn glibc() -> Option<(u32, u32)> {
    let output = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (major, minor) = text.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.split('.').next()?.parse().ok()?))
}
