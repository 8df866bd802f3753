//! What `cargo xtask new-tuner` makes: its tests pass, and in a real daemon it tunes and is taken back.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use lab::{
    daemon::{Daemon, binary},
    netns::Netns,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

mod common;

use common::*;

const BUCKETS: &str = "net.ipv4.tcp_max_tw_buckets";

/// The target directory that this test is in.
fn target() -> PathBuf {
    let debug = binary().unwrap().parent().unwrap().to_owned();
    debug.parent().unwrap().to_owned()
}

fn xtask(args: &[&str]) -> Output {
    let xtask = binary().unwrap().with_file_name("xtask");
    assert!(xtask.is_file(), "build it: cargo build -p xtask");
    Command::new(xtask).args(args).output().unwrap()
}

fn make(dir: &Path, name: &str, kind: &str) -> PathBuf {
    let dir = dir.to_str().unwrap();
    let made = xtask(&["new-tuner", name, "--kind", kind, "--dir", dir]);
    assert!(made.status.success(), "{}", said(&made));
    Path::new(dir).join(name)
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

fn succeeds(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = said(&output);
    assert!(output.status.success(), "{command:?}: {said}");
    said
}

fn short_of_room() -> Netns {
    let netns = Netns::new().unwrap();
    netns.set_sysctl(BUCKETS, "16").unwrap();
    netns
}

/// The room is made while it is needed.
fn tunes(netns: &Netns, log: impl Fn() -> String) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while netns.sysctl(BUCKETS).unwrap() == "16" {
        close_many(netns, 60);
        assert!(Instant::now() < deadline, "not within 60 s: {}", log());
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn a_rule_is_good_at_once_and_tunes() {
    need_root!();
    let dir = tempfile::tempdir().unwrap();
    let made = make(dir.path(), "more-room", "rule");
    let file = made.join("more-room.toml");
    let check = ["plugin", "check", file.to_str().unwrap()];
    let said = succeeds(Command::new(binary().unwrap()).args(check));
    assert!(said.contains("rule more-room is good"), "{said}");
    loaded_it_tunes(&made, "more-room");
}

#[test]
fn a_process_passes_its_tests_at_once_and_tunes() {
    need_plugins!();
    let dir = tempfile::tempdir().unwrap();
    let made = make(dir.path(), "more-room", "process");
    let said = succeeds(Command::new("python3").arg(made.join("test.py")));
    assert!(said.contains("Ran 4 tests"), "{said}");
    let file = made.join("more-room.py");
    let check = ["plugin", "check", file.to_str().unwrap()];
    let said = succeeds(Command::new(binary().unwrap()).args(check));
    assert!(said.contains("plugin more-room 0.1 is good"), "{said}");
    loaded_it_tunes(&made, "more-room");
}

/// In bpftune, from a directory of plugins.
fn loaded_it_tunes(plugins: &Path, name: &str) {
    let netns = short_of_room();
    let args = ["--plugin-dir", plugins.to_str().unwrap()];
    let mut daemon = Daemon::start(&binary().unwrap(), &[&netns], &args).unwrap();
    tunes(&netns, || daemon.log().join("\n"));
    let (_, history, _) = daemon.command(&["history", "--tuner", name]).unwrap();
    assert!(history.contains(BUCKETS), "{history}");
    daemon.stop(Signal::SIGTERM).unwrap();
    assert_eq!(netns.sysctl(BUCKETS).unwrap(), "16", "{:?}", daemon.log());
}

#[test]
fn a_crate_passes_its_tests_at_once_and_is_a_daemon() {
    need_root!();
    let dir = tempfile::tempdir().unwrap();
    let made = make(dir.path(), "more-room", "crate");
    // Kept between runs, and beside what this workspace builds: its profile is another.
    let built = target().join("new-tuner");
    let cargo = |verb: &str| {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
        command.arg(verb).current_dir(&made);
        command.env("CARGO_TARGET_DIR", &built);
        command
    };
    let said = succeeds(&mut cargo("test"));
    assert!(
        said.contains("3 passed") && said.contains("1 passed"),
        "{said}"
    );
    // Its counter is that of its own namespace: all of it runs there.
    let netns = short_of_room();
    let path = |name: &str| dir.path().join(name);
    let log = path("log");
    let mut daemon = netns.run(|| {
        Command::new(built.join("debug/more-room"))
            .arg("--state-dir")
            .arg(path("state"))
            .arg("--control")
            .arg(path("control"))
            .arg("--config-dir")
            .arg(path("no-config"))
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(&log).unwrap())
            .spawn()
            .unwrap()
    });
    let logged = || std::fs::read_to_string(&log).unwrap_or_default();
    until("it is ready", || logged().contains("ready after"));
    tunes(&netns, logged);
    let status = succeeds(
        Command::new(binary().unwrap())
            .args(["status", "--control"])
            .arg(path("control")),
    );
    assert!(status.contains("more-room"), "{status}");
    kill(Pid::from_raw(daemon.id() as i32), Signal::SIGTERM).unwrap();
    assert!(daemon.wait().unwrap().success(), "{}", logged());
    assert_eq!(netns.sysctl(BUCKETS).unwrap(), "16", "{}", logged());
}

#[test]
fn what_cannot_be_made_is_refused_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().to_str().unwrap();
    make(dir.path(), "more-room", "rule");
    let before = std::fs::read(dir.path().join("more-room/more-room.toml")).unwrap();
    for (args, why) in [
        (
            ["More", "--kind", "rule", "--dir", place],
            "lower case letters",
        ),
        (
            ["../up", "--kind", "rule", "--dir", place],
            "lower case letters",
        ),
        (
            ["tcp-buffer", "--kind", "rule", "--dir", place],
            "has a tuner tcp-buffer already",
        ),
        (
            ["match", "--kind", "crate", "--dir", place],
            "means something in Rust",
        ),
        (
            ["more-room", "--kind", "rule", "--dir", place],
            "exists already",
        ),
        (
            ["more-room", "--kind", "rule", "--dir", "/nowhere/at/all"],
            "make that directory first",
        ),
        (
            ["more-room", "--kind", "shell", "--dir", place],
            "possible values: crate, process, rule",
        ),
    ] {
        let refused = xtask(&[&["new-tuner"], &args[..]].concat());
        assert!(!refused.status.success(), "{args:?}");
        assert!(said(&refused).contains(why), "{args:?}: {}", said(&refused));
    }
    let entries = std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(entries, 1, "nothing is left behind");
    let after = std::fs::read(dir.path().join("more-room/more-room.toml")).unwrap();
    assert_eq!(before, after, "and nothing written over");
}
