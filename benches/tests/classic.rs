//! The classic bpftune's flags: units and scripts written for it work unchanged.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::{Command, Output},
    time::{Duration, Instant},
};

use lab::{
    daemon::{Daemon, binary},
    link::Link,
};
use nix::sys::signal::Signal;
use serde_json::Value as Json;

mod common;

use common::*;

fn start(link: &Link, flags: &[&str]) -> Daemon {
    Daemon::start_classic(&binary().unwrap(), &[&link.a, &link.b], flags).unwrap()
}

fn run(args: &[&str]) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(binary().unwrap()).args(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

/// A port that was free just now.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

#[test]
fn tells_version_libdir_and_support() {
    for flag in ["-V", "--version"] {
        let (code, out, _) = run(&[flag]);
        assert!(code == Some(0) && out.starts_with("bpftune v"), "{out}");
    }
    for flag in ["-P", "--print-libdir"] {
        let (code, out, _) = run(&[flag]);
        assert!(code == Some(0) && out.starts_with('/'), "{out}");
    }
    let (code, out, _) = run(&["-h"]);
    assert!(code == Some(0) && out.contains("-q"), "{out}");
    need_root!();
    for flag in ["-S", "--support"] {
        let (code, _, err) = run(&[flag]);
        assert_eq!(code, Some(0), "{err}");
        assert!(
            err.contains("bpftune works")
                && err.contains("supports per-netns policy (via netns cookie)"),
            "{err}"
        );
        // Never "fully" with a hook off.
        assert_eq!(
            err.contains("works fully"),
            !err.contains("is off"),
            "{err}"
        );
    }
    let off = Command::new(binary().unwrap())
        .arg("-S")
        .env("BPFTUNE_WITHOUT_HOOKS", "receive_space")
        .output()
        .unwrap();
    let err = String::from_utf8(off.stderr).unwrap();
    assert!(
        err.contains("works in part") && err.contains("receive_space"),
        "{err}"
    );
}

#[test]
fn wrong_words_are_named() {
    for (args, status, part) in [
        (&["-r", "5"][..], 2, "5"),
        (&["-q", "stats"], 2, "\"status\""),
        (&["-p", "0"], 2, "0"),
        (&["-a", "tcp_bufer", "-s"], 66, "\"tcp-buffer\""),
        (&["-c", "/nonexistent", "-s"], 1, "/nonexistent"),
        (&["-l", "/nonexistent", "-s"], 1, "/nonexistent"),
        (
            &["-q", "status", "--control", "/nonexistent/socket"],
            69,
            "bpftune run",
        ),
    ] {
        let (code, _, err) = run(args);
        assert!(
            code == Some(status) && err.contains(part),
            "{args:?}: {code:?} {err}"
        );
    }
}

#[test]
fn runs_with_all_its_flags_logs_its_phrases_and_rolls_back() {
    need_root!();
    let link = starved();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().to_str().unwrap();
    let flags = [
        "-s",
        "-d",
        "-R",
        "-L",
        "-r",
        "4",
        "-a",
        "tcp_buffer_tuner.so",
        "-a",
        "udp_buffer_tuner.so",
        "-c",
        folder,
        "-l",
        folder,
    ];
    let running = transfer(&link);
    let mut daemon = start(&link, &flags);
    assert!(
        daemon.ready_after < Duration::from_secs(1),
        "{:?}",
        daemon.ready_after
    );
    let comm = std::fs::read_to_string(format!("/proc/{}/comm", daemon.pid())).unwrap();
    assert_eq!(comm.trim(), "bpftune");
    until("both limits rise", || raised(&link));
    running.stop().unwrap();
    let started = Instant::now();
    assert_eq!(daemon.stop(Signal::SIGTERM).unwrap(), Some(0));
    assert!(
        started.elapsed() < Duration::from_secs(1),
        "{:?}",
        started.elapsed()
    );
    assert!(restored(&link), "-R");
    let log = daemon.log().join("\n");
    for phrase in [
        "bpftune works fully",
        "bpftune supports per-netns policy (via netns cookie)",
        "Scenario 'receive-limited' occurred for tunable 'net.ipv4.tcp_rmem' in non-global ns. ",
        "change net.ipv4.tcp_rmem(min default max) from (4096 131072 131072) -> (4096 131072 ",
        "Rolling back sysctl values for 'net.ipv4.tcp_rmem' from (4096 131072 ",
        "Summary: scenario 'receive-limited' occurred ",
        "sysctl 'net.ipv4.tcp_rmem' changed from (4096 131072 131072) -> (4096 131072 ",
        "sysctl -w net.ipv4.tcp_rmem=\"4096 131072 ",
        "there is no tuner udp-buffer here",
    ] {
        assert!(log.contains(phrase), "{phrase} is not in:\n{log}");
    }
}

#[test]
fn without_rollback_values_stay_and_others_writes_are_named() {
    need_root!();
    let link = starved();
    let running = transfer(&link);
    let mut daemon = start(&link, &["-s"]);
    until("both limits rise", || raised(&link));
    link.a.set_sysctl(WMEM, "4096 16384 200000").unwrap();
    until("the admin's write is named", || {
        daemon
            .log()
            .iter()
            .any(|line| line.contains("modified sysctl"))
    });
    running.stop().unwrap();
    let raised_to = link.b.sysctl(RMEM).unwrap();
    assert_eq!(daemon.stop(Signal::SIGTERM).unwrap(), Some(0));
    assert_eq!(link.b.sysctl(RMEM).unwrap(), raised_to, "it stays");
    assert_eq!(link.a.sysctl(WMEM).unwrap(), "4096 16384 200000");
}

#[test]
fn a_low_learning_rate_takes_small_steps() {
    need_root!();
    let link = starved();
    let _running = transfer(&link);
    let daemon = start(&link, &["-s", "-R", "-r", "2"]);
    until("some steps are made", || daemon.changes().unwrap().0 >= 4);
    let (_, out, _) = daemon
        .command(&["history", "--verdict", "applied", "--json"])
        .unwrap();
    let history: Json = serde_json::from_str(&out).unwrap();
    for decision in history.as_array().unwrap() {
        let (old, new) = (
            last(decision["old"].as_str().unwrap()) as f64,
            last(decision["new"].as_str().unwrap()) as f64,
        );
        assert!((new / old - 1.0).abs() <= 0.0626, "{old} -> {new}");
    }
}

#[test]
fn goes_to_the_background() {
    need_root!();
    let state = tempfile::tempdir().unwrap();
    let path = |name: &str| state.path().join(name).to_str().unwrap().to_owned();
    let status = Command::new(binary().unwrap())
        .args([
            "-D",
            "-s",
            "-R",
            "--no-global",
            "--state-dir",
            &path("state"),
            "--control",
            &path("control"),
        ])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .stdin(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "the parent ends at once");
    until("it answers", || {
        run(&["-q", "tuners", "--control", &path("control")]).0 == Some(0)
    });
    let (_, out, _) = run(&["status", "--json", "--control", &path("control")]);
    let status: Json = serde_json::from_str(&out).unwrap();
    let pid = nix::unistd::Pid::from_raw(status["pid"].as_i64().unwrap() as i32);
    assert_ne!(pid, nix::unistd::Pid::this());
    assert_eq!(
        nix::unistd::getsid(Some(pid)).unwrap(),
        pid,
        "a session of its own"
    );
    nix::sys::signal::kill(pid, Signal::SIGTERM).unwrap();
    let ended = Instant::now();
    // Init may take its time to reap it.
    until("it ends", || {
        std::fs::read_to_string(format!("/proc/{pid}/stat"))
            .map_or(true, |stat| stat.contains(") Z "))
    });
    assert!(
        ended.elapsed() < Duration::from_secs(1),
        "{:?}",
        ended.elapsed()
    );
}

/// The tuners of this build by their classic names, a line each.
fn every_tuner() -> String {
    let names = bpftune_tuners::ALL.iter();
    names
        .map(|(name, _)| name.replace('-', "_") + "\n")
        .collect()
}

#[test]
fn answers_every_query_by_socket_and_by_port() {
    need_root!();
    let link = starved();
    let port = free_port().to_string();
    let running = transfer(&link);
    let daemon = start(&link, &["-s", "-R", "-p", &port]);
    until("both limits rise", || raised(&link));
    running.stop().unwrap();
    let control = daemon.state().path().join("control");
    let control = control.to_str().unwrap();
    let host = |name: &str| std::fs::read_to_string(name).unwrap();
    for way in [&["--control", control][..], &["-p", &port]] {
        let ask = |word: &str| {
            let (code, out, err) = run(&[&["-q", word], way].concat());
            assert_eq!(code, Some(0), "{word} {way:?}: {err}");
            out
        };
        assert!(ask("help").contains("jstatus"));
        assert_eq!(ask("tuners").trim(), every_tuner().trim());
        assert!(ask("tunables").contains("tcp_buffer net.ipv4.tcp_rmem"));
        let about: Json = serde_json::from_str(&ask("jtunables")).unwrap();
        assert!(about["tcp_buffer"]["net.ipv4.tcp_rmem"].is_string());
        assert!(ask("status").contains("tcp_buffer net.ipv4.tcp_rmem "));
        let status: Json = serde_json::from_str(&ask("jstatus")).unwrap();
        let rmem: Vec<i64> = host("/proc/sys/net/ipv4/tcp_rmem")
            .split_whitespace()
            .map(|number| number.parse().unwrap())
            .collect();
        assert_eq!(
            status["tcp_buffer"]["net.ipv4.tcp_rmem"],
            serde_json::json!(rmem)
        );
        assert!(status["tcp_buffer"]["net.core.rmem_max"].is_i64());
        assert!(ask("summary").contains("sysctl 'net.ipv4.tcp_rmem' changed from ("));
    }
    let (code, out, _) = run(&["-p", &port, "-q", "rollback"]);
    assert!(
        code == Some(0) && out.contains("restored"),
        "root may: {out}"
    );
    assert!(restored(&link));
}

#[test]
fn the_port_is_the_hosts_own_and_never_blocks() {
    need_root!();
    let link = starved();
    let port = free_port();
    let daemon = start(&link, &["-s", "-R", "-p", &port.to_string()]);
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let listens = format!("0100007F:{port:04X} 00000000:0000 0A");
    assert!(table.contains(&listens), "on 127.0.0.1");
    assert!(!table.contains(&format!("00000000:{port:04X} 00000000:0000 0A")));
    // Silent ones, one that never reads, one that floods.
    let connect = || TcpStream::connect(("127.0.0.1", port)).unwrap();
    let _silent: Vec<TcpStream> = (0..20).map(|_| connect()).collect();
    let mut flood = connect();
    let _ = flood.write_all(&b"jstatus\n".repeat(1000));
    let mut long = connect();
    let _ = long.write_all(&vec![b'x'; 1 << 20]);
    let running = transfer(&link);
    until("both limits rise all the same", || raised(&link));
    let started = Instant::now();
    let mut asks = connect();
    asks.write_all(b"tuners\n").unwrap();
    let mut text = String::new();
    asks.read_to_string(&mut text).unwrap();
    assert_eq!(text, every_tuner());
    assert!(
        started.elapsed() < Duration::from_secs(1),
        "{:?}",
        started.elapsed()
    );
    running.stop().unwrap();
    // Whoever is not root may ask, and not change.
    let stranger = std::thread::spawn(move || {
        // A raw call, not the C library's: this thread alone becomes somebody else.
        // SAFETY: integers only.
        let changed = unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) };
        assert_eq!(changed, 0);
        let mut asks = TcpStream::connect(("127.0.0.1", port)).unwrap();
        asks.write_all(b"rollback\n").unwrap();
        let mut text = String::new();
        asks.read_to_string(&mut text).unwrap();
        text
    });
    let text = stranger.join().unwrap();
    assert!(text.contains("only root"), "{text}");
    assert!(raised(&link));
    drop(daemon);
}
