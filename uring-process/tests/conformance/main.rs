//! One suite for every executor: what std does, we do, and what we promise beyond.
//!
//! The tests named `forced_*` run all others again, by each of the executors.

mod attributes;
mod busy;
mod cgroup;
mod command;
#[path = "../common/mod.rs"]
mod common;
mod descriptors;
mod faults;
mod handle;
mod ids;
mod operation;
mod refused;
mod ring;
mod ring_forged;
mod ring_life;
mod signals;
mod streams;

#[test]
fn forced_kernel() {
    if common::by_operation() {
        common::again("kernel");
    } else {
        println!(
            "SKIP: this kernel has no operation that makes processes; `cargo xtask vm test` has one that does"
        );
    }
}

#[test]
fn forced_clone() {
    common::again("clone");
}

#[test]
fn forced_fork() {
    common::again("fork");
}

#[test]
fn forced_vfork() {
    common::again("vfork");
}

#[test]
fn forced_pipe() {
    common::again("pipe");
}
