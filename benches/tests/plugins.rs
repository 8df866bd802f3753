//! Plugins in a real daemon: both examples at work, files that come and go, configuration.

use std::{net::Ipv4Addr, time::Duration};

use lab::{
    daemon::{Daemon, binary, command},
    netns::Netns,
};
use nix::sys::signal::Signal;
use serde_json::Value as Json;

mod common;
mod plugin_files;

use common::*;
use plugin_files::*;

const BUCKETS: &str = "net.ipv4.tcp_max_tw_buckets";
const RETRIES: &str = "net.ipv4.tcp_synack_retries";

/// Begins more connections than a listener has room for, and lets them be.
fn overflow(netns: &Netns) {
    netns.run(|| {
        let address = (Ipv4Addr::LOCALHOST, 4001);
        let _listener = small_listener(address.1);
        let streams: Vec<_> = (0..40).map(|_| begin_connect(address)).collect();
        std::thread::sleep(Duration::from_millis(50));
        drop(streams);
    });
}

fn tried(daemon: &Daemon, tunable: &str) -> Option<Json> {
    let (_, out, err) = daemon.command(&["history", "--json"]).unwrap();
    let history: Json = serde_json::from_str(&out).expect(&err);
    let decisions = history.as_array().cloned().unwrap_or_default();
    decisions.into_iter().find(|decision| {
        decision["tunable"] == tunable
            && decision["verdict"] == "applied"
            && !decision["trial"].is_null()
    })
}

#[test]
fn both_examples_change_a_namespace_are_tried_and_restored() {
    need_plugins!();
    let netns = Netns::new().unwrap();
    netns.set_sysctl(BUCKETS, "1024").unwrap();
    netns.set_sysctl(RETRIES, "5").unwrap();
    let plugins = Plugins::new();
    plugins.example("tw-buckets.toml");
    plugins.example("synack-retries.py");
    let mut daemon = Daemon::start(&binary().unwrap(), &[&netns], &plugins.args()).unwrap();
    until("both are loaded", || {
        state(&daemon, "tw-buckets").as_deref() == Some("on")
            && state(&daemon, "synack-retries").as_deref() == Some("on")
    });
    within(Duration::from_secs(40), "both change their tunable", || {
        close_many(&netns, 1500);
        overflow(&netns);
        netns.sysctl(BUCKETS).unwrap() != "1024" && netns.sysctl(RETRIES).unwrap() != "5"
    });
    within(Duration::from_secs(20), "both changes are tried", || {
        tried(&daemon, BUCKETS).is_some() && tried(&daemon, RETRIES).is_some()
    });
    for (tunable, tuner, reason) in [
        (BUCKETS, "tw-buckets", "TcpExt.TCPTimeWaitOverflow grows by"),
        (RETRIES, "synack-retries", "listeners drop"),
    ] {
        let decision = tried(&daemon, tunable).unwrap();
        assert_eq!(decision["tuner"], tuner);
        let said = decision["reason"].as_str().unwrap();
        assert!(said.contains(reason), "{said}");
        let id = format!("D{}", decision["id"]);
        let (code, story, _) = daemon.command(&["explain", &id]).unwrap();
        assert!(code == Some(0) && story.contains(reason), "{story}");
    }
    let hooks = daemon.status().unwrap()["hooks"].to_string();
    assert!(hooks.contains("process, own user"), "{hooks}");
    assert_eq!(daemon.stop(Signal::SIGTERM).unwrap(), Some(0));
    assert_eq!(netns.sysctl(BUCKETS).unwrap(), "1024");
    assert_eq!(netns.sysctl(RETRIES).unwrap(), "5");
    assert!(
        processes_of("synack-retries").is_empty(),
        "it ends with the daemon"
    );
}

/// A program that wants another value at each tick and logs what it is told.
const WANTS: &str = r#"
import json, sys
def say(**m): print(json.dumps(m), flush=True)
say(type="hello", protocol=1, name=NAME, version="1", about="wants",
    tunables=[{"name": "net.ipv4.tcp_orphan_retries", "unit": "retries", "bounds": [[0, 8]],
               "trial": {"settle": "100ms", "windows_after": 4, "each_after": "50ms"}}],
    subscribe=[{"timer": "1s"}])
for line in sys.stdin:
    m = json.loads(line)
    print(m["type"], m.get("verdict"), m.get("why"), m.get("action"), m.get("for_ms"), file=sys.stderr, flush=True)
    if m["type"] == "timer":
        now = m["values"]["net.ipv4.tcp_orphan_retries"][0]
        say(type="propose", id="p", tunable="net.ipv4.tcp_orphan_retries", netns=m["netns"], target=[min(8, now + 1)], reason="it ticks")
"#;
const ORPHANS: &str = "net.ipv4.tcp_orphan_retries";

#[test]
fn a_program_is_told_what_becomes_of_its_wishes() {
    need_plugins!();
    let netns = Netns::new().unwrap();
    let before = netns.sysctl(ORPHANS).unwrap();
    let plugins = Plugins::new();
    plugins.program("wants", WANTS);
    let advise = [&plugins.args()[..], &["--mode", "advise"]].concat();
    let daemon = Daemon::start(&binary().unwrap(), &[&netns], &advise).unwrap();
    until("advice is told", || says(&daemon, "decision advise"));
    assert_eq!(netns.sysctl(ORPHANS).unwrap(), before);
    drop(daemon);
    let daemon = Daemon::start(&binary().unwrap(), &[&netns], &plugins.args()).unwrap();
    until("a change and its trial are told", || {
        says(&daemon, "decision apply") && says(&daemon, "trial None None kept")
    });
    assert_ne!(netns.sysctl(ORPHANS).unwrap(), before);
    // Somebody else's word: it is refused, and told why.
    netns.set_sysctl(ORPHANS, "3").unwrap();
    until("a refusal is told", || says(&daemon, "decision refuse"));
    // It is taken out: its change stays the admin's, its tunable is nobody's.
    let (code, ..) = daemon.command(&["disable", "wants"]).unwrap();
    assert_eq!(code, Some(0));
    until("it is told to be quiet", || {
        says(&daemon, "quiet None None None")
    });
}

#[test]
fn files_come_change_and_go() {
    need_plugins!();
    let netns = Netns::new().unwrap();
    let before = netns.sysctl(ORPHANS).unwrap();
    let above = tempfile::tempdir().unwrap();
    let plugins = Plugins::at(above.path().join("some/plugins.d"));
    let daemon = Daemon::start(&binary().unwrap(), &[&netns], &plugins.args()).unwrap();
    let asleep = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("voluntary_ctxt"));
        line.unwrap().to_owned()
    };
    // The host's memory pressure may wake it for good reason, so one quiet window of a few is enough.
    let slept = (0..8).any(|_| {
        let then = asleep();
        std::thread::sleep(Duration::from_secs(2));
        asleep() == then
    });
    assert!(slept, "an idle daemon does not wake");
    // The directory comes, then a program.
    plugins.make();
    plugins.program("wants", WANTS);
    until("it is loaded", || {
        state(&daemon, "wants").as_deref() == Some("on")
    });
    until("it changes something", || {
        netns.sysctl(ORPHANS).unwrap() != before
    });
    // Written anew: another version runs.
    plugins.program("wants", &WANTS.replace("version=\"1\"", "version=\"2\""));
    until("the new one runs", || {
        about(&daemon, "wants").contains("version 2")
    });
    // Anybody could write it: it goes, named, and what it changed is restored.
    plugins.chmod("wants.py", 0o777);
    until("it is refused", || {
        state(&daemon, "wants").as_deref() == Some("refused")
    });
    assert!(about(&daemon, "wants").contains("chmod go-w"));
    until("its change is restored", || {
        netns.sysctl(ORPHANS).unwrap() == before
    });
    plugins.remove("wants.py");
    until("it is gone", || state(&daemon, "wants").is_none());
    // A rule with a mistake has its line in status; mended, it runs.
    let rule = std::fs::read_to_string(example("tw-buckets.toml")).unwrap();
    plugins.put(
        "rule.toml",
        &rule.replace("every = \"2s\"", "evry = \"2s\""),
        0o644,
    );
    until("the rule is refused", || {
        state(&daemon, "rule").as_deref() == Some("refused")
    });
    let why = about(&daemon, "rule");
    assert!(
        why.contains("rule.toml:13:1:") && why.contains("evry"),
        "{why}"
    );
    plugins.put("rule.toml", &rule, 0o644);
    until("the rule runs", || {
        state(&daemon, "rule").as_deref() == Some("on")
    });
    // A second owner of its tunable is refused, and says who the first is.
    plugins.put("second.toml", &rule, 0o644);
    until("the second is refused", || {
        state(&daemon, "second").as_deref() == Some("refused")
    });
    assert!(
        about(&daemon, "second").contains("rule owns"),
        "{}",
        about(&daemon, "second")
    );
    plugins.remove("rule.toml");
    until("the second takes its place", || {
        state(&daemon, "second").as_deref() == Some("on")
    });
    // The whole directory is open to others: nothing in it is trusted.
    plugins.chmod("", 0o777);
    until("all are gone", || state(&daemon, "second").is_none());
    let hooks = daemon.status().unwrap()["hooks"].to_string();
    assert!(
        hooks.contains("plugins.d can be written by others"),
        "{hooks}"
    );
}

#[test]
fn the_configuration_says_which_and_what_they_may() {
    need_plugins!();
    let netns = Netns::new().unwrap();
    let plugins = Plugins::new();
    plugins.example("tw-buckets.toml");
    plugins.program("wants", WANTS);
    let config = Plugins::new();
    let directories = format!("directories = [\"{}\"]\n", plugins.path().display());
    let section = |more: &str| {
        let text = format!("[plugins]\n{directories}{more}");
        config.put("bpftune.toml", &text, 0o644);
    };
    section("");
    let args = ["--config-dir", config.path().to_str().unwrap()];
    let daemon = Daemon::start(&binary().unwrap(), &[&netns], &args).unwrap();
    let both = |wanted: [Option<&str>; 2]| {
        state(&daemon, "tw-buckets").as_deref() == wanted[0]
            && state(&daemon, "wants").as_deref() == wanted[1]
    };
    until("both run", || both([Some("on"), Some("on")]));
    section("deny = [\"*.tcp_orphan_retries\"]\n");
    until("one is denied", || {
        both([Some("on"), Some("rests")]) && about(&daemon, "wants").contains("not for plugins")
    });
    section("enabled = false\n");
    until("none is loaded", || both([None, None]));
    section("[tuner.wants]\nlearner = \"aimd\"\n");
    until("a learner that it does not have is refused", || {
        both([Some("on"), Some("refused")]) && about(&daemon, "wants").contains("no learner")
    });
    section("[tuner.wants]\nenabled = false\n");
    until("it is switched off by name", || {
        both([Some("on"), Some("refused")]) && about(&daemon, "wants").contains("enabled = false")
    });
    section("");
    until("both run again", || both([Some("on"), Some("on")]));
    drop(daemon);
    // Without a daemon.
    let state_dir = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| command(&binary().unwrap(), &state_dir, args).unwrap();
    let check = |name: &str| {
        let path = plugins.path().join(name);
        run(&["plugin", "check", path.to_str().unwrap()])
    };
    let (code, out, err) = check("tw-buckets.toml");
    assert!(code == Some(0) && out.contains(BUCKETS), "{out}{err}");
    let (code, out, err) = check("wants.py");
    assert!(code == Some(0) && out.contains(ORPHANS), "{out}{err}");
    plugins.put("bad.toml", "version = 1\nabuot = \"x\"\n", 0o644);
    let (code, _, err) = check("bad.toml");
    assert!(code == Some(78) && err.contains("bad.toml:2:1"), "{err}");
    plugins.program("silent", "import sys; sys.exit(3)");
    let (code, _, err) = check("silent.py");
    assert!(code == Some(78) && err.contains("exit status: 3"), "{err}");
    // Where plugins are, as scripts of the classic command ask.
    let classic = std::process::Command::new(binary().unwrap())
        .arg("-P")
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&classic.stdout).contains("plugins.d"));
}
