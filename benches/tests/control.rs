//! The operator's commands against a running daemon on real traffic, and clients that are not ours.

use std::{
    io::{Read, Write},
    os::unix::{net::UnixStream, process::ExitStatusExt},
    process::{Command, Stdio},
    sync::{
        Arc, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use lab::{
    daemon::{Daemon, binary},
    link::Link,
};
use serde_json::{Value as Json, json};

mod common;

use common::*;

fn start(link: &Link, args: &[&str]) -> Daemon {
    Daemon::start(&binary().unwrap(), &[&link.a, &link.b], args).unwrap()
}

/// Runs a command that must succeed.
fn ok(daemon: &Daemon, args: &[&str]) -> String {
    let (code, out, err) = daemon.command(args).unwrap();
    assert_eq!(code, Some(0), "{args:?}: {out}{err}");
    out
}

fn json_of(daemon: &Daemon, args: &[&str]) -> Json {
    serde_json::from_str(&ok(daemon, args)).unwrap()
}

/// The advice that waits for a parameter.
fn advice(daemon: &Daemon, tunable: &str) -> Option<i64> {
    let wishes = json_of(daemon, &["plan", "--json"]);
    wishes
        .as_array()
        .unwrap()
        .iter()
        .find(|wish| wish["tunable"] == tunable && wish["id"].is_i64())
        .and_then(|wish| wish["id"].as_i64())
}

#[test]
fn advice_is_planned_approved_and_rejected() {
    need_root!();
    let link = starved();
    let _running = transfer(&link);
    let daemon = start(&link, &["--mode", "advise"]);
    // The sender's buffer is the narrower one; the receiver's is felt once that has room.
    until("advice for the sender waits", || {
        advice(&daemon, WMEM).is_some()
    });
    let plan = ok(&daemon, &["plan"]);
    assert!(
        plan.contains("why: ") && plan.contains("bpftune approve D"),
        "{plan}"
    );
    assert!(restored(&link), "planning writes nothing");

    let id = format!("D{}", advice(&daemon, WMEM).unwrap());
    let report = ok(&daemon, &["approve", &id]);
    assert!(report.contains(&format!("approved {id}")), "{report}");
    assert!(last(&link.a.sysctl(WMEM).unwrap()) > 50_000, "{report}");
    assert!(ok(&daemon, &["explain", &id]).contains("carried out as D"));
    until("its trial says something", || {
        let history = json_of(&daemon, &["history", "--verdict", "applied", "--json"]);
        history[0]["outcome"]
            .as_str()
            .is_some_and(|o| !o.is_empty())
    });
    let (code, _, err) = daemon.command(&["approve", &id]).unwrap();
    assert!(
        code == Some(1) && err.contains("was approved"),
        "once: {err}"
    );

    until("advice for the receiver waits", || {
        advice(&daemon, RMEM).is_some()
    });
    let id = format!("D{}", advice(&daemon, RMEM).unwrap());
    ok(&daemon, &["reject", &id, "--reason", "change freeze"]);
    assert!(ok(&daemon, &["explain", &id]).contains("change freeze"));
    assert_eq!(link.b.sysctl(RMEM).unwrap(), lab::scenario::SMALL.0);
    let (code, _, err) = daemon.command(&["approve", "D99999"]).unwrap();
    assert!(code == Some(66) && err.contains("the newest is D"), "{err}");
    drop(daemon);
    assert!(
        restored(&link),
        "what was approved is restored like any change"
    );
}

#[test]
fn tuners_rest_and_work_again() {
    need_root!();
    let link = starved();
    let daemon = start(&link, &[]);
    ok(&daemon, &["disable", "tcp-buffer"]);
    let tuner = |daemon: &Daemon| {
        let all = json_of(daemon, &["tuners", "--json"]);
        let mut all = all.as_array().expect("a list").iter();
        let its = |tuner: &&Json| tuner["name"] == "tcp-buffer";
        all.find(its).expect("it is in this build").clone()
    };
    let state = |daemon: &Daemon| tuner(daemon)["state"].clone();
    assert_eq!(state(&daemon), "disabled");
    let _running = transfer(&link);
    until("signals are seen", || {
        tuner(&daemon)["signals"].as_u64() > Some(1)
    });
    std::thread::sleep(Duration::from_millis(500));
    assert!(restored(&link), "nothing is changed meanwhile");
    ok(&daemon, &["pause", "1s"]);
    ok(&daemon, &["enable", "tcp-buffer"]);
    assert_eq!(state(&daemon), "paused", "the pause still holds");
    until("after the pause it works", || raised(&link));
    assert_eq!(state(&daemon), "on");
    ok(&daemon, &["pause", "1h", "--tuner", "tcp-buffer"]);
    assert_eq!(state(&daemon), "paused");
    ok(&daemon, &["resume"]);
    assert_eq!(state(&daemon), "on");
    for words in [
        &["disable", "tcp-bufer"][..],
        &["tunables", "tcp_buffer"],
        &["history", "--tuner", "tcpbuffer"],
    ] {
        let (code, _, err) = daemon.command(words).unwrap();
        assert!(
            code == Some(66) && err.contains("\"tcp-buffer\"?"),
            "{words:?}: {err}"
        );
    }
}

#[test]
fn watch_history_and_diff_tell_what_happens() {
    need_root!();
    let link = starved();
    let mut daemon = start(&link, &[]);
    let mut watch = Command::new(binary().unwrap())
        .args(["watch", "--json", "--count", "2", "--control"])
        .arg(daemon.state().path().join("control"))
        .stdout(Stdio::piped())
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let running = transfer(&link);
    until("both limits rise", || raised(&link));
    let mut out = String::new();
    watch
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut out)
        .unwrap();
    assert!(watch.wait().unwrap().success());
    let events: Vec<Json> = out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(events[0]["kind"], "watching");
    assert_eq!(events[1]["kind"], "applied");
    assert!(events[1]["decision"]["tunable"].is_string(), "{out}");
    running.stop().unwrap();

    let diff = json_of(&daemon, &["diff", "--json"]);
    let find = |diff: &Json, tunable: &str| -> Option<Json> {
        diff.as_array()
            .unwrap()
            .iter()
            .find(|d| d["tunable"] == tunable)
            .cloned()
    };
    let rmem = find(&diff, RMEM).unwrap();
    assert_eq!(rmem["before"], "4096 131072 131072");
    assert_eq!(rmem["after"], link.b.sysctl(RMEM).unwrap());
    let lines = ok(&daemon, &["diff", "--sysctl"]);
    let set = format!("sysctl -w {RMEM}=\"{}\"", link.b.sysctl(RMEM).unwrap());
    assert!(lines.contains(&set), "{lines}");
    let applied = json_of(
        &daemon,
        &[
            "history",
            "--verdict",
            "applied",
            "--tunable",
            RMEM,
            "--since",
            "1h",
            "--json",
        ],
    );
    let applied = applied.as_array().unwrap();
    assert!(!applied.is_empty() && applied.iter().all(|d| d["tunable"] == RMEM));
    let newest = format!("D{}", applied[0]["id"]);
    let since = json_of(&daemon, &["diff", &newest, "--json"]);
    assert!(
        find(&since, RMEM).is_none(),
        "nothing since its last change: {since}"
    );
    assert_eq!(
        json_of(&daemon, &["history", "--since", "@9999999999", "--json"]),
        json!([])
    );

    // The same from the journal, after the daemon has gone and restored.
    let state = daemon.state();
    daemon.stop(nix::sys::signal::Signal::SIGTERM).unwrap();
    let run = |args: &[&str]| lab::daemon::command(&binary().unwrap(), &state, args).unwrap();
    let (code, out, _) = run(&["diff", "--json"]);
    assert_eq!((code, out.trim()), (Some(0), "[]"), "all is back");
    let (code, out, _) = run(&["history", "--export"]);
    assert_eq!(code, Some(0));
    let kinds: Vec<Json> = out
        .lines()
        .map(|line| serde_json::from_str::<Json>(line).unwrap()["kind"].clone())
        .collect();
    assert!(kinds.contains(&json!("run")) && kinds.contains(&json!("decision")));
    assert!(out.contains("\"verdict\":\"restored\""), "{out}");
}

#[test]
fn a_stock_client_talks_to_it() {
    need_root!();
    use varlink::{Connection, MethodCall, OrgVarlinkServiceClient, OrgVarlinkServiceInterface};
    let link = starved();
    let daemon = start(&link, &[]);
    let address = format!("unix:{}", daemon.state().path().join("control").display());
    let connection: Arc<RwLock<Connection>> = Connection::with_address(&address).unwrap();
    let mut service = OrgVarlinkServiceClient::new(connection.clone());
    let info = service.get_info().unwrap();
    assert!(
        info.interfaces
            .iter()
            .any(|name| name == "io.bpftune.Control")
    );
    let described = service
        .get_interface_description("io.bpftune.Control")
        .unwrap();
    assert_eq!(
        described.description.unwrap(),
        include_str!("../../docs/io.bpftune.Control.varlink")
    );
    let mut status = MethodCall::<Json, Json, varlink::Error>::new(
        connection.clone(),
        "io.bpftune.Control.GetStatus",
        json!({}),
    );
    assert_eq!(status.call().unwrap()["pid"], daemon.pid());
    let mut wrong = MethodCall::<Json, Json, varlink::Error>::new(
        connection.clone(),
        "io.bpftune.Control.Explain",
        json!({ "id": 77 }),
    );
    let error = format!("{:?}", wrong.call().unwrap_err());
    assert!(error.contains("NoSuchDecision"), "{error}");
    let mut watch = MethodCall::<Json, Json, varlink::Error>::new(
        connection,
        "io.bpftune.Control.Watch",
        json!({}),
    );
    let watch = watch.more().unwrap();
    assert_eq!(watch.recv().unwrap()["event"]["kind"], "watching");
    ok(&daemon, &["pause", "1s"]);
    assert_eq!(watch.recv().unwrap()["event"]["kind"], "tuner");
}

#[test]
fn varlinkctl_talks_to_it() {
    need_root!();
    let link = starved();
    let daemon = start(&link, &[]);
    let address = format!("unix:{}", daemon.state().path().join("control").display());
    let run = |args: &[&str]| Command::new("varlinkctl").args(args).output();
    let Ok(described) = run(&["introspect", &address, "io.bpftune.Control"]) else {
        eprintln!("SKIP: no varlinkctl here (systemd 255 or newer has it)");
        return;
    };
    assert!(described.status.success());
    assert!(String::from_utf8_lossy(&described.stdout).contains("GetStatus"));
    let status = run(&["call", &address, "io.bpftune.Control.GetStatus", "{}"]).unwrap();
    assert!(status.status.success());
}

#[test]
fn a_reader_that_goes_ends_the_command_without_a_word() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = Command::new(binary().unwrap())
        .args(["config", "--default"])
        .stdout(writer)
        .output()
        .unwrap();
    assert_eq!(output.status.signal(), Some(nix::libc::SIGPIPE));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn doctor_names_what_is_off_and_the_way_out() {
    need_root!();
    let doctor = |without: &str| {
        let output = Command::new(binary().unwrap())
            .args(["doctor", "--json"])
            .env("BPFTUNE_WITHOUT_HOOKS", without)
            .output()
            .unwrap();
        let findings: Vec<Json> = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code(), findings)
    };
    let is_off = |finding: &&Json| finding["ok"] == false;
    let (code, findings) = doctor("");
    assert!(findings.len() > 8, "{findings:?}");
    assert_eq!(code == Some(0), !findings.iter().any(|f| is_off(&f)));
    let (code, findings) = doctor("receive_space");
    assert_eq!(code, Some(1));
    let off = findings
        .iter()
        .filter(is_off)
        .find(|finding| finding["what"].as_str().unwrap().contains("receive_space"))
        .expect("the hook that is switched off");
    assert!(
        off["way_out"]
            .as_str()
            .unwrap()
            .contains("BPFTUNE_WITHOUT_HOOKS"),
        "{off}"
    );
    assert!(
        findings
            .iter()
            .filter(is_off)
            .all(|f| f["why"].is_string() && f["way_out"].is_string())
    );
}

#[test]
fn hostile_clients_delay_neither_the_engine_nor_others() {
    need_root!();
    let link = starved();
    let daemon = start(&link, &[]);
    let path = daemon.state().path().join("control");
    let stop = Arc::new(AtomicBool::new(false));
    let floods: Vec<_> = (0..3)
        .map(|_| {
            let mut stream = UnixStream::connect(&path).unwrap();
            stream
                .set_write_timeout(Some(Duration::from_millis(100)))
                .unwrap();
            let stop = stop.clone();
            std::thread::spawn(move || {
                // Asks without end and never reads.
                let call = b"{\"method\":\"io.bpftune.Control.GetStatus\"}\0".repeat(500);
                while !stop.load(Ordering::Relaxed) {
                    if stream.write_all(&call).is_err() {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                }
            })
        })
        .collect();
    let mut half = UnixStream::connect(&path).unwrap();
    half.write_all(b"{\"method\":").unwrap();
    let mut rubbish = UnixStream::connect(&path).unwrap();
    let _ = rubbish.write_all(&vec![0xff; 1 << 20]);
    let _silent = UnixStream::connect(&path).unwrap();

    let _running = transfer(&link);
    let started = Instant::now();
    until("both limits rise all the same", || raised(&link));
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
    // A process is started each time: that too takes its time on a busy machine.
    let longest = (0..10)
        .map(|_| {
            let started = Instant::now();
            ok(&daemon, &["status", "--json"]);
            started.elapsed()
        })
        .max()
        .unwrap();
    assert!(longest < Duration::from_secs(1), "{longest:?}");
    stop.store(true, Ordering::Relaxed);
    for flood in floods {
        flood.join().unwrap();
    }
}
