//! A plugin's control group, where the host has controllers for one: memory and processes are limited by it.

use std::{fs, path::PathBuf};

use bpftune_core::plugin::Limits;
use lab::{
    daemon::{Daemon, binary},
    netns::Netns,
};
use nix::sys::signal::Signal;

mod common;
mod plugin_files;

use common::*;
use plugin_files::*;

const NAME: &str = "shell-a";

/// It says hello and reads for ever. A shell, for there may be nothing else.
const PROGRAM: &str = r#"#!/bin/sh
printf '%s' '{"type": "hello", "protocol": 1, "name": "shell-a", "version": "1", "about": "a shell", '
printf '%s\n' '"tunables": [{"name": "net.ipv4.tcp_orphan_retries", "unit": "times", "bounds": [[0, 8]]}]}'
while read -r line; do :; done
"#;

/// Why there is nothing to limit with, if so.
fn no_controllers() -> Option<&'static str> {
    let given = fs::read_to_string("/sys/fs/cgroup/cgroup.subtree_control").unwrap_or_default();
    let gives = |name: &str| given.split_ascii_whitespace().any(|given| given == name);
    (!gives("memory") || !gives("pids"))
        .then_some("no cgroup v2 that gives memory and pids to its groups here")
}

fn group_of(process: &std::path::Path) -> PathBuf {
    let groups = fs::read_to_string(process.join("cgroup")).unwrap();
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/"));
    PathBuf::from("/sys/fs/cgroup").join(path.unwrap())
}

#[test]
fn memory_and_processes_of_a_plugin_are_limited_by_its_group() {
    need_root!();
    if let Some(why) = no_controllers() {
        eprintln!("SKIP: {why}");
        return;
    }
    let (place, plugins) = (Netns::new().unwrap(), Plugins::new());
    plugins.put(NAME, PROGRAM, 0o755);
    let mut daemon = Daemon::start(&binary().unwrap(), &[&place], &plugins.args()).unwrap();
    until("it runs", || state(&daemon, NAME).as_deref() == Some("on"));
    let processes = processes_of(NAME);
    let group = group_of(&processes[0]);
    assert!(group.to_string_lossy().contains(NAME), "{group:?}");
    let limits = Limits::default();
    let limit = |file: &str| {
        fs::read_to_string(group.join(file))
            .unwrap()
            .trim()
            .to_owned()
    };
    assert_eq!(limit("memory.max"), limits.memory.to_string());
    assert_eq!(limit("pids.max"), limits.processes.to_string());
    assert_eq!(daemon.stop(Signal::SIGTERM).unwrap(), Some(0));
    until("nothing of it is left", || processes_of(NAME).is_empty());
}
