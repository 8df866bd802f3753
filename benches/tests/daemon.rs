//! The daemon on real traffic: tunes, restores, obeys, and says what it cannot do.

use std::{path::PathBuf, process::Command, sync::Arc, time::Duration};

use lab::{
    daemon::{Daemon, binary, command},
    link::Link,
    scenario::{SMALL, set_buffers},
    traffic::{Transfer, TransferOptions},
};
use nix::{
    mount::{MsFlags, mount, umount},
    sched::{CloneFlags, unshare},
    sys::signal::Signal,
};

mod common;

use common::*;

fn start(link: &Link, args: &[&str]) -> Daemon {
    Daemon::start(&binary().unwrap(), &[&link.a, &link.b], args).unwrap()
}

/// Whether a finding of `doctor` is about a tuner of a default build, as this one is.
fn is_default(what: &str) -> bool {
    let tuner = what.split(':').next().unwrap();
    bpftune_tuners::ALL.iter().any(|(name, _)| *name == tuner) || tuner == "admin-watch"
}

#[test]
fn every_hook_loads_on_this_kernel() {
    need_root!();
    // Some are found by their number there, and not every machine has it mounted.
    let none: Option<&str> = None;
    let tracefs = || {
        let flags = MsFlags::empty();
        mount(
            Some("tracefs"),
            "/sys/kernel/tracing",
            Some("tracefs"),
            flags,
            none,
        )
    };
    let mut doctor = Command::new(binary().unwrap());
    doctor.args(["doctor", "--json"]);
    let doctor = with_mounts(tracefs, || doctor.output().unwrap());
    let findings: Vec<serde_json::Value> = serde_json::from_slice(&doctor.stdout).unwrap();
    let hooks = || {
        let what =
            |finding: &&serde_json::Value| finding["what"].as_str().unwrap().contains(": hook ");
        findings.iter().filter(what)
    };
    assert!(hooks().count() > 15, "{findings:#?}");
    let off = hooks().filter(|hook| hook["ok"] != true);
    // Some of the tuners that are not on by default need tracepoints of newer kernels.
    let newer = |hook: &&serde_json::Value| {
        let why = hook["why"].as_str().unwrap();
        why.contains("has no tracepoint") && !is_default(hook["what"].as_str().unwrap())
    };
    let off: Vec<_> = off.filter(|hook| !newer(hook)).collect();
    assert!(off.is_empty(), "{off:#?}");
}

#[test]
fn tunes_explains_and_restores() {
    need_root!();
    let link = starved();
    let running = transfer(&link);
    let mut daemon = start(&link, &[]);
    until("both limits rise", || raised(&link));
    // The trial ends three seconds after the last change.
    until("a trial says better", || {
        let (_, out, _) = daemon.command(&["history", "--json"]).unwrap();
        out.contains("\"better: ")
    });
    let (code, out, _) = daemon.command(&["explain", "D1"]).unwrap();
    assert_eq!(code, Some(0));
    for part in [
        "D1: applied",
        "Mbit/s over a round trip of 2",
        "did it help?",
        "min_rtt",
        "raised from",
    ] {
        assert!(out.contains(part), "{part} is not in:\n{out}");
    }
    let (code, _, err) = daemon.command(&["explain", "D999"]).unwrap();
    assert!(code == Some(66) && err.contains("D999"), "{err}");
    let (code, out, _) = daemon.command(&["status"]).unwrap();
    assert!(
        code == Some(0) && out.contains("attached") && out.contains(RMEM),
        "{out}"
    );
    assert_eq!(daemon.changes().unwrap().1, 0, "no reversals");
    running.stop().unwrap();
    assert_eq!(daemon.stop(Signal::SIGINT).unwrap(), Some(0));
    assert!(restored(&link));
}

#[test]
fn revert_takes_everything_back_and_it_stays_back() {
    need_root!();
    let link = starved();
    let _running = transfer(&link);
    let daemon = start(&link, &[]);
    until("both limits rise", || raised(&link));
    let (code, out, err) = daemon.command(&["revert"]).unwrap();
    assert!(code == Some(0) && out.contains("restored"), "{out}{err}");
    assert!(restored(&link));
    std::thread::sleep(Duration::from_millis(500));
    assert!(
        restored(&link),
        "traffic goes on, the operator's word stands"
    );
}

#[test]
fn reverts_one_decision() {
    need_root!();
    let link = starved();
    let running = transfer(&link);
    let daemon = start(&link, &[]);
    until("both limits rise", || raised(&link));
    running.stop().unwrap();
    let (_, out, _) = daemon.command(&["history", "--json"]).unwrap();
    let history: serde_json::Value = serde_json::from_str(&out).unwrap();
    let newest = history
        .as_array()
        .unwrap()
        .iter()
        .find(|d| d["tunable"] == RMEM)
        .unwrap();
    let id = format!("D{}", newest["id"]);
    let (code, _, err) = daemon.command(&["revert", &id]).unwrap();
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(
        link.b.sysctl(RMEM).unwrap(),
        newest["old"].as_str().unwrap()
    );
    let (code, _, err) = daemon.command(&["revert", &id]).unwrap();
    assert!(
        code == Some(1) && err.contains("is \""),
        "a second time there is nothing to take back: {err}"
    );
}

#[test]
fn a_killed_daemons_values_are_restored_by_its_reverter() {
    need_root!();
    let link = starved();
    let running = transfer(&link);
    let mut daemon = start(&link, &[]);
    until("both limits rise", || raised(&link));
    // Returns when the log ends, which is when the reverter has ended too.
    daemon.stop(Signal::SIGKILL).unwrap();
    running.stop().unwrap();
    assert!(restored(&link), "{:?}", daemon.log());
}

#[test]
fn where_the_reverter_is_killed_too_the_next_start_or_revert_restores() {
    need_root!();
    let link = starved();
    for by_revert in [false, true] {
        let running = transfer(&link);
        let mut daemon = start(&link, &[]);
        until("both limits rise", || raised(&link));
        let state = daemon.state();
        daemon.kill_with_reverter().unwrap();
        running.stop().unwrap();
        assert!(raised(&link), "SIGKILL leaves the values");
        if by_revert {
            let (code, out, err) = command(&binary().unwrap(), &state, &["revert"]).unwrap();
            assert!(code == Some(0) && out.contains("restored"), "{out}{err}");
        } else {
            let next = Daemon::start_in(
                &binary().unwrap(),
                state,
                &[&link.a, &link.b],
                &["--mode", "observe"],
            )
            .unwrap();
            assert!(
                next.log()
                    .iter()
                    .any(|line| line.contains("an earlier run ended without restoring"))
            );
        }
        assert!(restored(&link));
    }
}

#[test]
fn the_admins_word_stands_until_rearmed() {
    need_root!();
    let link = starved();
    let running = transfer(&link);
    let mut daemon = start(&link, &[]);
    until("both limits rise", || raised(&link));
    let theirs = "4096 131072 300000";
    link.b
        .run(|| std::fs::write("/proc/sys/net/ipv4/tcp_rmem", theirs))
        .unwrap();
    let held = |daemon: &Daemon| {
        let status = daemon.status().unwrap();
        let knobs = status["knobs"].as_array().unwrap().clone();
        knobs
            .iter()
            .any(|knob| knob["tunable"] == RMEM && knob["held_by"].is_string())
    };
    until("the write is seen", || held(&daemon));
    drop(running);
    // New connections starve on it, and it stays all the same.
    let running = transfer(&link);
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(link.b.sysctl(RMEM).unwrap(), theirs);

    // Also by the next run, and its end restores ours but not theirs.
    let state = daemon.state();
    daemon.stop(Signal::SIGTERM).unwrap();
    assert_eq!(link.b.sysctl(RMEM).unwrap(), theirs);
    assert_eq!(link.a.sysctl(WMEM).unwrap(), SMALL.1);
    let daemon = Daemon::start_in(&binary().unwrap(), state, &[&link.a, &link.b], &[]).unwrap();
    drop(running);
    let running = transfer(&link);
    until("the sender's side rises", || {
        last(&link.a.sysctl(WMEM).unwrap()) > 100_000
    });
    assert_eq!(link.b.sysctl(RMEM).unwrap(), theirs);
    assert!(held(&daemon));

    let (code, out, err) = daemon.command(&["rearm", RMEM]).unwrap();
    assert!(
        code == Some(0) && out.contains("may be tuned again"),
        "{out}{err}"
    );
    until("re-armed, it rises", || {
        last(&link.b.sysctl(RMEM).unwrap()) > 400_000
    });
    drop(running);
    drop(daemon);
    assert_eq!(
        link.b.sysctl(RMEM).unwrap(),
        theirs,
        "restored to the admin's value"
    );
}

#[test]
fn advice_and_observation_write_nothing() {
    need_root!();
    let link = starved();
    let _running = transfer(&link);
    let daemon = start(&link, &["--mode", "advise"]);
    until("advice is recorded", || {
        let (_, out, _) = daemon.command(&["history"]).unwrap();
        out.contains("advised") && out.contains("should rise from")
    });
    assert!(restored(&link));
    drop(daemon);
    let daemon = start(&link, &["--mode", "observe"]);
    until("signals are counted", || {
        let status = daemon.status().unwrap();
        let mut tuners = status["tuners"].as_array().unwrap().iter();
        tuners.any(|t| t["name"] == "tcp-buffer" && t["signals"].as_u64() > Some(0))
    });
    assert!(restored(&link));
    assert_eq!(daemon.changes().unwrap(), (0, 0));
}

#[test]
fn a_namespace_made_later_is_tuned_and_one_that_goes_does_no_harm() {
    need_root!();
    // No --netns: the whole host is watched, with a link that does not exist yet.
    let daemon = Daemon::start(&binary().unwrap(), &[], &["--no-global"]).unwrap();
    let link = starved();
    // Setting the link up wrote its limits, which counts as an admin's word.
    let mut running = transfer(&link);
    until("the writes are seen", || {
        daemon
            .log()
            .iter()
            .filter(|line| line.contains("hands off"))
            .count()
            >= 4
    });
    assert_eq!(daemon.command(&["rearm"]).unwrap().0, Some(0));
    running.stop().unwrap();
    running = transfer(&link);
    until("both limits rise", || raised(&link));
    drop(running);
    drop(link);
    let mut daemon = daemon;
    assert_eq!(daemon.stop(Signal::SIGTERM).unwrap(), Some(0));
    let log = daemon.log().join("\n");
    assert!(log.contains("is gone, its value with it"), "{log}");
}

#[test]
fn switches_autotuning_on_and_back() {
    need_root!();
    let link = starved();
    let name = "net.ipv4.tcp_moderate_rcvbuf";
    set_buffers(&link, ("4096 131072 6291456", "4096 16384 4194304")).unwrap();
    link.b.set_sysctl(name, "0").unwrap();
    let _running = transfer(&link);
    let daemon = start(&link, &[]);
    until("autotuning is on", || link.b.sysctl(name).unwrap() == "1");
    drop(daemon);
    assert_eq!(link.b.sysctl(name).unwrap(), "0");
}

#[test]
fn a_fixed_buffer_asks_for_the_global_maximum_which_this_run_may_not_touch() {
    need_root!();
    let link = starved();
    let huge = TransferOptions {
        send_buffer: Some(1 << 30),
        ..TransferOptions::default()
    };
    let before = std::fs::read_to_string("/proc/sys/net/core/wmem_max").unwrap();
    let limit: i64 = before.trim().parse().unwrap();
    set_buffers(&link, ("4096 131072 268435456", SMALL.1)).unwrap();
    let _running = Transfer::start_with(&link.a, &link.b, link.addr_b().into(), huge).unwrap();
    let daemon = start(&link, &[]);
    if limit > 8 << 20 {
        eprintln!("SKIP: net.core.wmem_max is {limit} here, too large for this path to fill");
        return;
    }
    until("the refusal is recorded", || {
        let (_, out, _) = daemon.command(&["history"]).unwrap();
        out.contains("refused") && out.contains("net.core.wmem_max") && out.contains("SO_SNDBUF")
    });
    assert_eq!(
        std::fs::read_to_string("/proc/sys/net/core/wmem_max").unwrap(),
        before
    );
}

/// Calls `then` in a mount namespace of its own that `change` has altered; what it starts inherits that.
fn with_mounts<T: Send>(
    change: impl Fn() -> nix::Result<()> + Send + Sync,
    then: impl FnOnce() -> T + Send,
) -> T {
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                unshare(CloneFlags::CLONE_NEWNS).unwrap();
                let none: Option<&str> = None;
                // In a chroot the root is no mount point (EINVAL), but these are.
                for place in ["/", "/proc", "/sys"] {
                    let _ = mount(
                        none,
                        place,
                        none,
                        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
                        none,
                    );
                }
                change().unwrap();
                then()
            })
            .join()
            .unwrap()
    })
}

fn start_with_mounts(
    link: &Link,
    change: impl Fn() -> nix::Result<()> + Send + Sync + 'static,
) -> Daemon {
    // Found before that: a program in a chroot has no path as seen from a new mount namespace.
    let bpftune = binary().unwrap();
    with_mounts(change, || {
        Daemon::start(&bpftune, &[&link.a, &link.b], &[]).unwrap()
    })
}

#[test]
fn without_cgroup2_the_admins_writes_are_found_by_reading_back() {
    need_root!();
    let link = starved();
    let running = transfer(&link);
    let daemon = start_with_mounts(&link, || {
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let cgroup2: Vec<_> = mounts
            .lines()
            .map(|l| l.split(' ').collect::<Vec<_>>())
            .filter(|f| f[2] == "cgroup2")
            .collect();
        cgroup2.iter().try_for_each(|fields| umount(fields[1]))
    });
    let status = daemon.status().unwrap();
    let hook = status["hooks"]
        .as_array()
        .unwrap()
        .iter()
        .find(|hook| hook["owner"] == "admin-watch")
        .unwrap()
        .clone();
    assert!(
        hook["off"]
            .as_str()
            .unwrap()
            .contains("cgroup v2 is not mounted"),
        "{hook}"
    );
    until("the rest works", || raised(&link));
    drop(running);
    let theirs = "4096 131072 150000";
    link.b.set_sysctl(RMEM, theirs).unwrap();
    let _running = transfer(&link);
    until("the foreign value is noticed", || {
        daemon
            .log()
            .iter()
            .any(|line| line.contains("somebody wrote"))
    });
    assert_eq!(link.b.sysctl(RMEM).unwrap(), theirs);
}

#[test]
fn without_btf_every_hook_is_off_and_says_so() {
    need_root!();
    let link = starved();
    let none: Option<&str> = None;
    let daemon = start_with_mounts(&link, move || {
        mount(
            Some("tmpfs"),
            "/sys/kernel/btf",
            Some("tmpfs"),
            MsFlags::empty(),
            none,
        )
    });
    let status = daemon.status().unwrap();
    let hooks = status["hooks"].as_array().unwrap();
    let tracing: Vec<_> = hooks
        .iter()
        .filter(|hook| hook["section"].as_str().unwrap().starts_with("tp_btf"))
        .collect();
    assert!(
        tracing.len() >= 3,
        "tcp-buffer alone has three: {tracing:?}"
    );
    for hook in tracing {
        assert!(
            hook["off"]
                .as_str()
                .unwrap()
                .contains("CONFIG_DEBUG_INFO_BTF"),
            "{hook}"
        );
    }
    assert!(daemon.log().iter().any(|line| line.contains("is off")));
}

#[test]
fn one_hook_off_costs_only_itself() {
    need_root!();
    let link = starved();
    let wrapper =
        Wrapper::new("#!/bin/sh\nBPFTUNE_WITHOUT_HOOKS=receive_space exec \"$REAL\" \"$@\"\n");
    let daemon = Daemon::start(&wrapper.path, &[&link.a, &link.b], &[]).unwrap();
    let _running = transfer(&link);
    until("the sender's side rises", || {
        last(&link.a.sysctl(WMEM).unwrap()) > 100_000
    });
    assert_eq!(
        link.b.sysctl(RMEM).unwrap(),
        SMALL.0,
        "the receiver's side cannot be seen"
    );
    let status = daemon.status().unwrap();
    let off = status["hooks"].as_array().unwrap().iter().filter(|hook| {
        let why = hook["off"].as_str();
        // Not every machine has it mounted.
        why.is_some_and(|why| !why.contains("tracefs is not mounted"))
    });
    let off: Vec<_> = off.map(|hook| hook["name"].as_str().unwrap()).collect();
    assert_eq!(off, ["receive_space"]);
}

/// A script in place of the binary.
struct Wrapper {
    path: PathBuf,
    _dir: tempfile::TempDir,
}

impl Wrapper {
    fn new(script: &str) -> Wrapper {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bpftune");
        let real = binary().unwrap();
        std::fs::write(&path, script.replace("$REAL", real.to_str().unwrap())).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        Wrapper { path, _dir: dir }
    }
}

#[test]
fn a_missing_capability_is_named() {
    need_root!();
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new("setpriv")
        .args(["--bounding-set", "-perfmon"])
        .arg(binary().unwrap())
        .arg("run")
        .arg("--state-dir")
        .arg(dir.path())
        .output()
        .unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(77), "{err}");
    assert!(
        err.contains("CAP_PERFMON") && err.contains("tracepoints"),
        "{err}"
    );
    assert!(!err.contains("CAP_BPF"), "only what is missing: {err}");
}

#[test]
fn a_read_only_sysctl_is_logged_and_nothing_is_half_done() {
    need_root!();
    let link = starved();
    let none: Option<&str> = None;
    let daemon = start_with_mounts(&link, move || {
        mount(Some("/proc/sys"), "/proc/sys", none, MsFlags::MS_BIND, none)?;
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(none, "/proc/sys", none, flags, none)
    });
    let _running = transfer(&link);
    until("the refusal is logged", || {
        daemon
            .log()
            .iter()
            .any(|line| line.contains("Read-only file system"))
    });
    assert!(restored(&link));
    let (_, out, _) = daemon.command(&["history"]).unwrap();
    assert!(out.contains("failed"), "{out}");
}

#[test]
fn what_cannot_be_journalled_is_not_changed() {
    need_root!();
    let link = starved();
    let state = Arc::new(tempfile::tempdir().unwrap());
    std::fs::create_dir(state.path().join("state")).unwrap();
    mount(
        Some("tmpfs"),
        &state.path().join("state"),
        Some("tmpfs"),
        MsFlags::empty(),
        Some("size=200k"),
    )
    .unwrap();
    struct Unmount(PathBuf);
    impl Drop for Unmount {
        fn drop(&mut self) {
            umount(&self.0).unwrap();
        }
    }
    let unmount = Unmount(state.path().join("state"));
    let daemon =
        Daemon::start_in(&binary().unwrap(), state.clone(), &[&link.a, &link.b], &[]).unwrap();
    // The disk fills after the daemon has started, as disks do.
    let _ = std::fs::write(unmount.0.join("filler"), vec![0; 1 << 20]);
    let _running = transfer(&link);
    until("it says so", || {
        daemon
            .log()
            .iter()
            .any(|line| line.contains("cannot be journalled"))
    });
    assert!(restored(&link));
    drop(daemon);
    drop(unmount);
}

#[test]
fn a_damaged_journal_changes_nothing_and_gives_up_what_is_safe() {
    need_root!();
    let link = starved();
    let running = transfer(&link);
    let mut daemon = start(&link, &[]);
    until("both limits rise", || raised(&link));
    let state = daemon.state();
    daemon.kill_with_reverter().unwrap();
    running.stop().unwrap();
    let db = rusqlite::Connection::open(state.path().join("state/journal.db")).unwrap();
    db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE); PRAGMA user_version = 99;")
        .unwrap();
    drop(db);
    let failed = Daemon::start_in(&binary().unwrap(), state.clone(), &[&link.a, &link.b], &[])
        .err()
        .unwrap();
    assert!(failed.to_string().contains("schema 99"), "{failed}");
    let mut guides: Vec<_> = [&link.a, &link.b]
        .map(|netns| netns.command("sleep").arg("30").spawn().unwrap())
        .into();
    let (code, out, err) = command(&binary().unwrap(), &state, &["revert"]).unwrap();
    assert!(
        code == Some(74) && out.contains("safe to restore"),
        "{out}{err}"
    );
    assert!(raised(&link), "nothing is done unasked");
    let (code, out, err) = command(&binary().unwrap(), &state, &["revert", "--salvage"]).unwrap();
    for guide in &mut guides {
        guide.kill().unwrap();
        guide.wait().unwrap();
    }
    assert!(code == Some(0), "{out}{err}");
    assert!(restored(&link));
}

#[test]
fn one_daemon_a_state_directory() {
    need_root!();
    let link = starved();
    let first = start(&link, &[]);
    let second = Daemon::start_in(&binary().unwrap(), first.state(), &[&link.a], &[])
        .err()
        .unwrap()
        .to_string();
    assert!(
        second.contains("another bpftune") && second.contains(&first.pid().to_string()),
        "{second}"
    );
}

#[test]
fn wrong_words_name_the_near_ones() {
    let run = |args: &[&str]| {
        let output = Command::new(binary().unwrap()).args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(run(&["run", "--tuner", "tcp-bufer"]).contains("'tcp-buffer'"));
    assert!(run(&["run", "--moed", "auto"]).contains("'--mode'"));
    assert!(run(&["stats"]).contains("'status'"));
    assert!(run(&["explain", "forty"]).contains("D42"));
}

#[test]
fn no_daemon_is_said() {
    let state = tempfile::tempdir().unwrap();
    for (args, status, part) in [
        (["status"], 69, "bpftune run"),
        (["plan"], 69, "bpftune run"),
        (["revert"], 66, "no journal"),
        (["diff"], 66, "no journal"),
    ] {
        let (code, _, err) = command(&binary().unwrap(), &state, &args).unwrap();
        assert!(code == Some(status) && err.contains(part), "{code:?} {err}");
    }
}
