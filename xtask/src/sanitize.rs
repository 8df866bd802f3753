//! `cargo xtask sanitize`: the tests of uring-process under AddressSanitizer and valgrind.

use std::process::{Command, Output};

use crate::process::{Result, cargo, check, shown};

/// Only what the tools can run on: the compiler's target, and a directory of its own.
const TARGET: &str = "x86_64-unknown-linux-gnu";
const TARGET_DIR: &str = "target/sanitize";
/// Tests that leak on purpose, take away the memory that the sanitizer itself needs, or measure what
/// it keeps.
const NOT_FOR_IT: [&str; 3] = [
    "a_spawner_forgotten",
    "without_memory_for_a_stack",
    "twenty_thousand_leave_nothing",
];

pub(crate) fn run() -> Result {
    address()?;
    valgrind()
}

fn skip(reason: &str) -> Result {
    println!("SKIP: {reason}");
    Ok(())
}

fn answer(command: &mut Command) -> Option<Output> {
    command
        .output()
        .ok()
        .filter(|output| output.status.success())
}

fn address() -> Result {
    // `+nightly` is rustup's cargo, which is not the one that runs us.
    let nightly = || {
        let mut cargo = Command::new("cargo");
        cargo
            .env_remove("RUSTUP_TOOLCHAIN")
            .env_remove("RUSTC")
            .env_remove("RUSTDOC")
            .current_dir(crate::process::root())
            .arg("+nightly");
        cargo
    };
    if !cfg!(all(target_arch = "x86_64", target_env = "gnu")) {
        return skip("AddressSanitizer is run on x86_64 with glibc only");
    }
    if answer(nightly().arg("--version")).is_none() {
        return skip("AddressSanitizer needs the nightly toolchain (rustup toolchain add nightly)");
    }
    let mut tests = nightly();
    tests
        .args(["test", "-p", "uring-process", "--lib", "--tests"])
        .args(["--target", TARGET, "--target-dir", TARGET_DIR, "--"])
        .args(["--skip", "forced_"])
        .args(NOT_FOR_IT.iter().flat_map(|name| ["--skip", *name]))
        .env("RUSTFLAGS", "-Zsanitizer=address");
    check(&mut tests)
}

/// What valgrind cannot do is a child that shares memory; a forked one it can follow.
fn valgrind() -> Result {
    if answer(Command::new("valgrind").arg("--version")).is_none() {
        return skip("valgrind is not installed");
    }
    let mut build = cargo();
    build.args([
        "test",
        "-p",
        "uring-process",
        "--test",
        "conformance",
        "--no-run",
    ]);
    build.args(["--message-format", "json"]);
    let output = answer(&mut build).ok_or_else(|| format!("`{}` failed", shown(&build)))?;
    let program = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter_map(|message| Some(message["executable"].as_str()?.to_owned()))
        .next_back()
        .ok_or("cargo named no test binary")?;
    let mut tests = Command::new("valgrind");
    tests
        .args(["-q", "--error-exitcode=9", "--child-silent-after-fork=yes"])
        .arg(program)
        .args(["command::", "streams::", "--test-threads=1"])
        .env("URING_PROCESS_FORCE", "fork");
    let output = tests
        .output()
        .map_err(|error| format!("cannot run `{}`: {error}", shown(&tests)))?;
    let text = String::from_utf8_lossy(&output.stderr);
    // pidfd_open(2), without which there is no child.
    if text.contains("unhandled amd64-linux syscall: 434") {
        return skip("this valgrind does not know pidfd_open(2)");
    }
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "`{}` failed ({}):\n{}{text}",
        shown(&tests),
        output.status,
        String::from_utf8_lossy(&output.stdout)
    ))
}
