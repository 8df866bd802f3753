//! `run`, `demo`, `lab`: set up, build for speed, become the program.

use std::process::Command;

use crate::{
    process::{Result, become_root, cargo, check, target_dir},
    setup,
};

/// Builds the daemon as it is measured and run.
pub(crate) fn build_daemon() -> Result {
    setup::ensure()?;
    check(cargo().args([
        "build",
        "--release",
        "--package",
        "bpftune-tuners",
        "--bins",
    ]))
}

/// `bpftune run` on this host. Signals and the exit status are the daemon's own: we become it.
pub(crate) fn daemon(args: &[String]) -> Result {
    build_daemon()?;
    let args: Vec<String> = std::iter::once("run".to_owned())
        .chain(args.iter().cloned())
        .collect();
    become_root(&target_dir()?.join("release/bpftune"), &args)
}

/// Tuners of the system that are tried by `lab system` without being in a default build.
const SYSTEM: &[&str] = &[
    "blk-queue",
    "blk-readahead",
    "cpu-sched",
    "irq-steer",
    "proc-limits",
    "vm-reclaim",
    "vm-thp",
    "vm-writeback",
];

/// A program of the lab crate, told where the daemon is.
pub(crate) fn lab(program: &str, args: &[String]) -> Result {
    setup::ensure()?;
    let mut build = cargo();
    build.args([
        "build",
        "--release",
        "--package",
        "bpftune-tuners",
        "--package",
        "lab",
        "--bins",
    ]);
    // Tried there without being a default one yet; everywhere else the daemon is the one that `run` builds.
    if args.iter().any(|arg| arg == "system") {
        let features = SYSTEM.iter().map(|name| format!("bpftune-tuners/{name}"));
        build.args(features.flat_map(|feature| ["--features".to_owned(), feature]));
    }
    check(&mut build)?;
    let release = target_dir()?.join("release");
    let mut all = vec![
        "--bpftune".to_owned(),
        release.join("bpftune").display().to_string(),
    ];
    all.extend(args.iter().cloned());
    become_root(&release.join(program), &all)
}

/// The simulator of the lab crate; it needs no privilege.
pub(crate) fn sim(args: &[String]) -> Result {
    setup::ensure()?;
    check(cargo().args(["build", "--release", "--package", "lab", "--bin", "sim"]))?;
    check(Command::new(target_dir()?.join("release/sim")).args(args))
}
