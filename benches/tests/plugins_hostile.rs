//! Hostile plugins under the real sandbox: contained, named and rested, and nobody else waits for them.

use std::time::{Duration, Instant};

use lab::{
    daemon::{Daemon, binary},
    netns::Netns,
};
use nix::sys::signal::Signal;

mod common;
mod plugin_files;

use common::*;
use plugin_files::*;

/// What each begins with.
const HEAD: &str = r#"
import fcntl, json, os, socket, sys, time
def say(**m): print(json.dumps(m), flush=True)
def tunable(name="net.ipv4.tcp_" + NAME.split("-")[-1], **more):
    return {"name": name, "unit": "things", "bounds": [[0, 8]], **more}
def hello(**other):
    say(**{**dict(type="hello", protocol=1, name=NAME, version="1", about="hostile", tunables=[tunable()]), **other})
def welcome():
    return json.loads(sys.stdin.readline())["netns"][0]
def propose(netns, **other):
    say(**{**dict(type="propose", id="1", tunable=tunable()["name"], netns=netns, target=[1], reason="r"), **other})
"#;

/// Name, body, and what is said of it. The last part of a name is the tunable's, so that each owns another.
const HOSTILE: &[(&str, &str, &str)] = &[
    (
        "floods-a",
        "hello(); n = welcome()\nwhile True: propose(n)",
        "floods",
    ),
    (
        "babbles-b",
        "while True: sys.stdout.write('nonsense\\n')",
        "broke the protocol",
    ),
    (
        "shouts-c",
        "hello()\nwhile True: sys.stderr.write('shouts ' * 999 + '\\n')",
        "without end",
    ),
    (
        "foreign-d",
        "hello(); propose(welcome(), tunable='net.ipv4.tcp_rmem')",
        "did not declare",
    ),
    (
        "guarded-e",
        "hello(tunables=[tunable('kernel.core_pattern')])",
        "not for plugins",
    ),
    (
        "path-f",
        "hello(tunables=[tunable('net/../../etc/passwd.x')])",
        "no tunable",
    ),
    (
        "beyond-g",
        "hello(); propose(welcome(), target=[9])",
        "out of the bounds",
    ),
    (
        "numbers-h",
        "hello(); propose(welcome(), target=[1, 2, 3])",
        "3 numbers",
    ),
    ("version-i", "hello(protocol=99)", "protocol 99"),
    ("liar-j", "hello(name='tcp-buffer')", "calls itself"),
    (
        "stranger-k",
        "hello(); welcome(); propose('12345')",
        "never told",
    ),
    (
        "early-l",
        "hello(); propose('1'); time.sleep(60)",
        "before it is welcome",
    ),
    ("twice-m", "hello(); hello(); time.sleep(60)", "hello twice"),
    ("hangs-n", "time.sleep(600)", "did not say hello"),
    (
        "line-o",
        "sys.stdout.write('x' * 200000); sys.stdout.flush(); time.sleep(60)",
        "longer than",
    ),
    (
        "bytes-p",
        "sys.stdout.buffer.write(b'\\xff\\xfe\\n'); sys.stdout.flush(); time.sleep(60)",
        "not UTF-8",
    ),
    ("exits-q", "sys.exit(3)", "exit status: 3"),
    (
        "closes-r",
        "hello(); welcome(); os.close(1)\nwhile True: time.sleep(1)",
        "closed its standard output",
    ),
    ("eats-s", "x = bytearray(1 << 30); hello()", "MemoryError"),
    (
        "unknown-t",
        "hello(); propose(welcome(), urgency='harm')",
        "unknown field",
    ),
    // Its pipe is made small, so that it is full soon.
    (
        "deaf-u",
        "fcntl.fcntl(0, 1031, 4096)\nhello(subscribe=[{'timer': '1s'}] * 32)\nwhile True: time.sleep(1)",
        "did not read",
    ),
    (
        "forks-v",
        "while True:\n  try: os.fork()\n  except OSError: pass",
        "did not say hello",
    ),
];

const GOOD: &str = r#"
hello(tunables=[tunable("net.ipv4.tcp_orphan_retries")], subscribe=[{"timer": "1s"}])
for line in sys.stdin:
    m = json.loads(line)
    if m["type"] == "timer":
        now = m["values"]["net.ipv4.tcp_orphan_retries"][0]
        if now < 8: propose(m["netns"], tunable="net.ipv4.tcp_orphan_retries", target=[now + 1])
"#;

#[test]
fn each_is_contained_named_and_rested_and_nobody_waits() {
    need_plugins!();
    let link = starved();
    let plugins = Plugins::new();
    for (name, body, _) in HOSTILE {
        plugins.program(name, &format!("{HEAD}{body}"));
    }
    plugins.put("no-program", "\0\0\0\0", 0o755);
    plugins.program("good", &format!("{HEAD}{GOOD}"));
    let netns = [&link.a, &link.b];
    let mut daemon = Daemon::start(&binary().unwrap(), &netns, &plugins.args()).unwrap();
    let started = Instant::now();
    // A built-in tuner does its work meanwhile, and the operator gets answers.
    let running = transfer(&link);
    until("both limits rise", || raised(&link));
    running.stop().unwrap();
    let mut slowest = Duration::ZERO;
    let mut most_forks = 0;
    let mut missing: Vec<&str> = Vec::new();
    within(Duration::from_secs(40), "each is named", || {
        let asked = Instant::now();
        let status = daemon.status().unwrap();
        slowest = slowest.max(asked.elapsed());
        most_forks = most_forks.max(processes_of("forks-v").len());
        let log = daemon.log();
        let hooks = status["hooks"].as_array().unwrap();
        missing = HOSTILE
            .iter()
            .filter(|(name, _, why)| {
                let rested = |line: &&String| {
                    line.contains(&format!("plugin {name} (")) && line.contains("rests for")
                };
                let in_log = log.iter().filter(rested).any(|line| line.contains(why));
                let in_status = hooks.iter().any(|hook| hook["owner"] == *name);
                !(in_log && in_status)
            })
            .map(|(name, ..)| *name)
            .collect();
        if started.elapsed() > Duration::from_secs(35) {
            eprintln!("not yet: {missing:?}");
        }
        missing.is_empty()
    });
    assert!(slowest < Duration::from_secs(1), "status took {slowest:?}");
    assert!((2..=16).contains(&most_forks), "{most_forks} forks at once");
    until("what is no program is named", || {
        about(&daemon, "no-program").contains("could not be run")
    });
    // They are tried again, ever more rarely.
    assert!(about(&daemon, "exits-q").contains("(failure "));
    let starts = daemon.log();
    let starts = starts
        .iter()
        .filter(|line| line.contains("plugin exits-q (") && line.contains("rests for"));
    assert!(starts.count() <= 7, "1 + 2 + 4 + 8 + 16 s of rest");
    // The good one was never ended, and its wish was carried out.
    assert_eq!(state(&daemon, "good").as_deref(), Some("on"));
    let retries = |netns: &Netns| netns.sysctl("net.ipv4.tcp_orphan_retries").unwrap();
    until("the good one changes something", || retries(&link.a) != "0");
    // What was hostile is mended: it runs at once.
    let mended = "hello(); welcome()\nfor line in sys.stdin: pass";
    plugins.program(
        "exits-q",
        &format!("{HEAD}{mended}").replace(
            "\"net.ipv4.tcp_\" + NAME.split(\"-\")[-1]",
            "\"net.ipv4.tcp_retries1\"",
        ),
    );
    until("it runs", || {
        state(&daemon, "exits-q").as_deref() == Some("on")
    });
    assert_eq!(daemon.stop(Signal::SIGTERM).unwrap(), Some(0));
    assert!(restored(&link) && retries(&link.a) == "0");
    until("no process is left", || {
        HOSTILE
            .iter()
            .all(|(name, ..)| processes_of(name).is_empty())
    });
}

/// Says in its hello what it could do.
const ESCAPES: &str = r#"
import ctypes, signal
libc_ = ctypes.CDLL(None, use_errno=True)
def libc(result):
    if result: raise OSError(ctypes.get_errno(), "libc")
def attempt(what):
    try:
        what()
        return "done"
    except BaseException as error:
        return type(error).__name__
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
def write():
    path = "/tmp/escaped-" + str(os.getpid())
    with open(path, "w") as file:
        os.unlink(path)
        file.write("x"); file.flush()
parent = os.getppid()
tried = {
    "socket": lambda: socket.socket(),
    "kill": lambda: os.kill(parent, 9),
    "root": lambda: os.setuid(0),
    "session": lambda: os.setsid(),
    "write": write,
    "sysctl": lambda: open("/proc/sys/net/ipv4/tcp_retries1", "w"),
    "daemon": lambda: open("/proc/%d/mem" % parent, "rb"),
    "unshare": lambda: libc(libc_.unshare(0x10000000)),
    "nice": lambda: os.nice(-5),
}
found = " ".join(name + "=" + attempt(what) for name, what in tried.items())
status = {line.split(":")[0]: line.split(":")[1].split() for line in open("/proc/self/status")}
found += " uid=%s groups=%d caps=%s nnp=%s seccomp=%s" % (
    status["Uid"][0], len(status["Groups"]), status["CapEff"][0].lstrip("0") or "0", status["NoNewPrivs"][0], status["Seccomp"][0])
found += " fds=" + ",".join(sorted(fd for fd in os.listdir("/proc/self/fd") if int(fd) < 100))
hello(about=found, tunables=[tunable("net.ipv4.tcp_retries1")])
for line in sys.stdin: pass
"#;

#[test]
fn the_sandbox_leaves_nothing_to_break_out_by() {
    need_plugins!();
    let netns = Netns::new().unwrap();
    let plugins = Plugins::new();
    plugins.program("escapes", &format!("{HEAD}{ESCAPES}"));
    let daemon = Daemon::start(&binary().unwrap(), &[&netns], &plugins.args()).unwrap();
    until("it says what it could do", || {
        state(&daemon, "escapes").as_deref() == Some("on")
    });
    let found = about(&daemon, "escapes");
    for name in [
        "socket", "kill", "root", "session", "sysctl", "daemon", "unshare", "nice",
    ] {
        assert!(
            found.contains(&format!("{name}=PermissionError")),
            "{name}: {found}"
        );
    }
    assert!(found.contains("write=OSError"), "{found}");
    let uid = bpftune_core::plugin::sandbox::pick("escapes", |_| false);
    assert!(
        found.contains(&format!("uid={uid} groups=0 caps=0 nnp=1 seccomp=2")),
        "{found}"
    );
    assert_eq!(processes_of("escapes").len(), 1);
    // A daemon that is killed takes it along: its standard input ends.
    drop(daemon);
    until("it is gone", || processes_of("escapes").is_empty());
}

#[test]
fn none_outlives_a_daemon_that_is_killed() {
    need_plugins!();
    let netns = Netns::new().unwrap();
    let plugins = Plugins::new();
    let stays = "hello(); os.fork()\nwhile True: time.sleep(1)";
    plugins.program("stays-a", &format!("{HEAD}{stays}"));
    let mut daemon = Daemon::start(&binary().unwrap(), &[&netns], &plugins.args()).unwrap();
    until("it has two processes", || {
        processes_of("stays-a").len() == 2
    });
    daemon.stop(Signal::SIGKILL).unwrap();
    until("both are gone", || processes_of("stays-a").is_empty());
}
