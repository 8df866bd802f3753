//! The configuration files of a running daemon.

use std::{fs, time::Duration};

use lab::{
    daemon::{Daemon, binary, command},
    link::Link,
    traffic::Transfer,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

mod common;

use common::*;

fn start(link: &Link, files: &Files) -> Daemon {
    Daemon::start(&binary().unwrap(), &[&link.a, &link.b], &files.args()).unwrap()
}

fn logged(daemon: &Daemon, part: &str) -> bool {
    daemon.log().iter().any(|line| line.contains(part))
}

fn config_error(daemon: &Daemon) -> Option<String> {
    daemon.status().unwrap()["config_error"]
        .as_str()
        .map(str::to_owned)
}

#[test]
fn changed_files_hold_at_once_and_bad_ones_never() {
    need_root!();
    let link = starved();
    let files = Files::new("[governor]\nmode = \"advise\"\n");
    let mut daemon = start(&link, &files);
    let running = transfer(&link);
    until("advice", || logged(&daemon, "advice"));
    assert!(restored(&link));
    // A bad file: the old state stays, log and status say so.
    files.put(
        "conf.d/50-bad.toml",
        "[governor]\nmode = \"auto\"\ncooldown = \"1s\"\n",
    );
    until("status has the error", || config_error(&daemon).is_some());
    let error = config_error(&daemon).unwrap();
    assert!(
        error.contains("50-bad.toml:3:1: unknown key \"cooldown\""),
        "{error}"
    );
    assert!(logged(&daemon, "the old configuration stays"));
    std::thread::sleep(Duration::from_millis(300));
    assert!(restored(&link), "nothing of a bad file holds");
    // Mended.
    files.put("conf.d/50-bad.toml", "[governor]\nmode = \"auto\"\n");
    until("both limits rise", || raised(&link));
    assert_eq!(config_error(&daemon), None);
    assert!(logged(&daemon, "[governor] mode: \"advise\" -> \"auto\""));
    assert_eq!(
        daemon.status().unwrap()["config_files"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    running.stop().unwrap();
    assert_eq!(daemon.stop(Signal::SIGINT).unwrap(), Some(0));
    assert!(restored(&link));
}

/// In observe mode a source is asked for a minute's silence.
#[test]
fn what_was_only_observed_is_heard_once_it_may_change() {
    need_root!();
    let link = starved();
    let files = Files::new("[governor]\nmode = \"observe\"\n");
    let daemon = start(&link, &files);
    let running = transfer(&link);
    // Both senders are seen at once; whether a receiver is held up beside a sender that nobody helps is chance.
    let back = Transfer::start(&link.b, &link.a, link.addr_a().into()).unwrap();
    let signals = || {
        let tuners = daemon.status().unwrap()["tuners"].clone();
        let own = tuners.as_array().unwrap().iter();
        own.filter(|tuner| tuner["name"] == "tcp-buffer")
            .any(|tuner| tuner["signals"].as_u64() >= Some(2))
    };
    until("it starves and is seen", signals);
    files.put("conf.d/50-auto.toml", "[governor]\nmode = \"auto\"\n");
    until("both limits rise", || raised(&link));
    back.stop().unwrap();
    running.stop().unwrap();
}

#[test]
fn sighup_reads_the_files_of_a_service_again() {
    need_root!();
    if fs::File::open("/dev/tty").is_ok() {
        eprintln!("SKIP: on a terminal SIGHUP ends the daemon");
        return;
    }
    let link = starved();
    let files = Files::new("[governor]\nmode = \"advise\"\n");
    let mut daemon = start(&link, &files);
    let hup = || kill(Pid::from_raw(daemon.pid() as i32), Signal::SIGHUP).unwrap();
    // Of another owner: refused, with the reason.
    std::os::unix::fs::chown(files.path().join("bpftune.toml"), Some(65534), None).unwrap();
    hup();
    until("the owner is seen", || {
        config_error(&daemon).is_some_and(|error| error.contains("belongs to user 65534"))
    });
    std::os::unix::fs::chown(files.path().join("bpftune.toml"), Some(0), None).unwrap();
    hup();
    until("all is well again", || config_error(&daemon).is_none());
    assert_eq!(daemon.status().unwrap()["mode"], "advise");
    assert_eq!(daemon.stop(Signal::SIGTERM).unwrap(), Some(0));
}

#[test]
fn a_start_with_bad_files_ends_with_the_line() {
    need_root!();
    let state = tempfile::tempdir().unwrap();
    let files = Files::new("[tunable.\"net.ipv4.tcp_rmen\"]\nmax = \"1%\"\n");
    for verb in [&["run"][..], &["config", "check"]] {
        let args = [verb, &files.args()].concat();
        let (code, _, err) = command(&binary().unwrap(), &state, &args).unwrap();
        assert_eq!(code, Some(78), "{err}");
        assert!(err.contains("bpftune.toml:1:10: unknown tunable"), "{err}");
        assert!(err.contains("did you mean \"net.ipv4.tcp_rmem\"?"), "{err}");
    }
    let (code, out, _) = command(&binary().unwrap(), &state, &["config", "--default"]).unwrap();
    assert_eq!(code, Some(0));
    files.put("bpftune.toml", &out);
    let args = [&["config", "check"], &files.args()[..]].concat();
    let (code, out, err) = command(&binary().unwrap(), &state, &args).unwrap();
    assert!(code == Some(0) && out.contains("is good"), "{out}{err}");
    files.put("conf.d/a.toml", "[canary]\npercent = 5\n");
    let args = [&["config", "show"], &files.args()[..]].concat();
    let (_, out, _) = command(&binary().unwrap(), &state, &args).unwrap();
    assert!(out.contains("conf.d/a.toml:2\n"), "{out}");
}

#[test]
fn what_helped_is_kept_where_the_files_say_so() {
    need_root!();
    let link = starved();
    let files = Files::new("[daemon]\nexit = \"restore-if-worse\"\n");
    let running = transfer(&link);
    let mut daemon = start(&link, &files);
    until("both limits rise", || raised(&link));
    let better = |tunable: &str| {
        let (_, out, _) = daemon
            .command(&["history", "--json", "--tunable", tunable])
            .unwrap();
        out.contains("\"better: ")
    };
    until("both trials say better", || better(RMEM) && better(WMEM));
    running.stop().unwrap();
    assert_eq!(daemon.stop(Signal::SIGINT).unwrap(), Some(0));
    assert!(raised(&link), "kept: {:?}", daemon.log());

    // A trial that had no time to say anything keeps nothing.
    let link = starved();
    let running = transfer(&link);
    let mut daemon = start(&link, &files);
    until("both limits rise", || raised(&link));
    assert_eq!(daemon.stop(Signal::SIGINT).unwrap(), Some(0));
    running.stop().unwrap();
    assert!(restored(&link));
}
