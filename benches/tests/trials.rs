//! Trials, watchdog and reverter in real namespaces, by a daemon that is told to do harm.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use bpftune_core::Machine;
use lab::{
    daemon::{Daemon, binary, command, rig},
    link::{Link, Shape},
    netns::Netns,
};
use nix::sys::signal::Signal;

mod common;

use common::*;

const START: &str = "4096 16384 4194304";

/// Short connections for ever, so that each meets the limits of its moment.
struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(link: &Link) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let to = (link.addr_b(), 4000);
        let listener = link.b.run(|| TcpListener::bind(to).unwrap());
        let (one, other) = (stop.clone(), stop.clone());
        let server = link.b.spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { break };
                if one.load(Ordering::Relaxed) {
                    break;
                }
                std::thread::spawn(move || std::io::copy(&mut stream, &mut std::io::sink()));
            }
        });
        let clients = (0..4).map(|_| {
            let stop = other.clone();
            link.a.spawn(move || {
                let data = vec![7; 200 << 10];
                while !stop.load(Ordering::Relaxed) {
                    let Ok(mut stream) = TcpStream::connect(to) else {
                        continue;
                    };
                    let _ = stream.write_all(&data);
                    let _ = stream.shutdown(std::net::Shutdown::Write);
                    let _ = stream.read(&mut [0]);
                }
            })
        });
        let mut threads: Vec<_> = clients.collect();
        threads.push(server);
        Load { stop, threads }
    }

    fn stop(self, link: &Link) {
        self.stop.store(true, Ordering::Relaxed);
        let to = (link.addr_b(), 4000);
        let _ = link.a.run(|| TcpStream::connect(to));
        for thread in self.threads {
            thread.join().unwrap();
        }
    }
}

fn link() -> Link {
    let link = Link::new(Shape::new(Duration::from_millis(5))).unwrap();
    link.a.set_sysctl(WMEM, START).unwrap();
    link
}

fn start(netns: &[&Netns], args: &[&str]) -> Daemon {
    Daemon::start(&rig().unwrap(), netns, args).unwrap()
}

fn logged(daemon: &Daemon, part: &str) -> bool {
    daemon.log().iter().any(|line| line.contains(part))
}

/// Waits up to 30 s.
fn until_slowly(what: &str, daemon: &Daemon, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(
            Instant::now() < deadline,
            "not within 30 s: {what}\n{}",
            daemon.log().join("\n")
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn verdict(args: &[&str]) -> (Link, Daemon) {
    let link = link();
    let load = Load::start(&link);
    std::thread::sleep(Duration::from_millis(500));
    let daemon = start(&[&link.a], args);
    until_slowly("a verdict", &daemon, || logged(&daemon, " without, "));
    std::thread::sleep(Duration::from_millis(200));
    load.stop(&link);
    (link, daemon)
}

#[test]
fn a_harmful_change_is_reverted_by_its_trial() {
    need_root!();
    for layout in [None, Some("--interleaved")] {
        let args: Vec<&str> = ["--to", "4096 4096 4096"]
            .into_iter()
            .chain(layout)
            .collect();
        let (link, daemon) = verdict(&args);
        assert!(
            logged(&daemon, "worse: goodput"),
            "{}",
            daemon.log().join("\n")
        );
        assert_eq!(link.a.sysctl(WMEM).unwrap(), START);
        assert!(logged(&daemon, "its trial says worse"));
    }
}

#[test]
fn a_second_change_is_judged_against_the_first_not_against_the_start() {
    need_root!();
    let link = link();
    link.a.set_sysctl(WMEM, "4096 4096 8192").unwrap();
    let load = Load::start(&link);
    std::thread::sleep(Duration::from_millis(500));
    // Signals never pause in between.
    let args = ["--to", START, "--then", "4096 16384 40000"];
    let daemon = start(&[&link.a], &args);
    let verdicts = |daemon: &Daemon| {
        let log = daemon.log();
        log.iter()
            .filter(|line| line.contains(" without, "))
            .count()
    };
    until_slowly("both are tried", &daemon, || verdicts(&daemon) >= 2);
    load.stop(&link);
    // Windows of its own, so not the same figure to the last bit.
    assert_ne!(without(&daemon, "D1"), without(&daemon, "D2"));
}

/// The goodput that a decision's trial found without the change.
fn without(daemon: &Daemon, id: &str) -> f64 {
    // The rig has no such verb.
    let explain = ["explain", id, "--json"];
    let (code, out, err) = command(&binary().unwrap(), &daemon.state(), &explain).unwrap();
    assert_eq!(code, Some(0), "{err}");
    let decision: serde_json::Value = serde_json::from_str(&out).unwrap();
    let trial = decision["trial"].as_str().unwrap();
    let record: bpftune_core::trial::Record = serde_json::from_str(trial).unwrap();
    record.guards[0].without.unwrap()
}

#[test]
fn a_harmless_change_is_kept() {
    need_root!();
    const TO: &str = "4096 16384 4200000";
    // A trial errs once in some dozens: of three, two must agree.
    let logs: Vec<String> = (0..3)
        .filter_map(|_| {
            let (link, daemon) = verdict(&["--to", TO, "--interleaved"]);
            let kept = !logged(&daemon, "worse: ") && link.a.sysctl(WMEM).unwrap() == TO;
            (!kept).then(|| daemon.log().join("\n"))
        })
        .collect();
    assert!(logs.len() < 2, "{}", logs.join("\n\n"));
}

#[test]
fn what_cannot_be_told_goes_back_where_the_policy_says_so() {
    need_root!();
    // No traffic at all: nothing can be told.
    let link = link();
    let daemon = start(
        &[&link.a],
        &["--to", "4096 16384 5000000", "--unclear-reverts"],
    );
    let on_trial = || {
        let (code, out, err) = command(&binary().unwrap(), &daemon.state(), &["status"]).unwrap();
        assert_eq!(code, Some(0), "{err}");
        out.contains("1 changes, 0 reversals, on trial")
    };
    until_slowly("it is on trial", &daemon, on_trial);
    until_slowly("it is taken back", &daemon, || {
        logged(&daemon, "cannot tell: unclear")
    });
    until_slowly("its trial is over", &daemon, || !on_trial());
    assert_eq!(link.a.sysctl(WMEM).unwrap(), START);
}

#[test]
fn harm_to_the_host_takes_every_recent_change_back_at_once_and_the_tuner_rests() {
    need_root!();
    let places: Vec<Netns> = (0..5).map(|_| Netns::new().unwrap()).collect();
    for place in &places {
        place.set_sysctl(WMEM, START).unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    let harm = dir.path().join("harm");
    let to = "4096 16384 5000000";
    let refs: Vec<&Netns> = places.iter().collect();
    let daemon = start(&refs, &["--to", to, "--harm", harm.to_str().unwrap()]);
    let all = |value: &str| {
        places
            .iter()
            .all(|place| place.sysctl(WMEM).unwrap() == value)
    };
    until_slowly("all are changed", &daemon, || all(to));
    std::fs::write(&harm, "the lamps went dark").unwrap();
    until_slowly("all are back", &daemon, || all(START));
    until("it says so", || {
        logged(
            &daemon,
            "the lamps went dark: 5 of 5 recent changes are put back",
        )
    });
    until("it rests", || logged(&daemon, "rig rests for 600 s"));
}

/// A control group whose only process waits for memory a third of the time, and for no disk: it reads a file of
/// nothing but a hole through too little page cache. cgroup v1 bounds the memory, v2 measures.
struct Thrashing {
    groups: Vec<PathBuf>,
    child: std::process::Child,
    files: tempfile::TempDir,
}

impl Thrashing {
    fn start() -> Option<Thrashing> {
        let name = format!("bpftune-test-{}", std::process::id());
        let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
        let place = |wanted: &dyn Fn(&[&str]) -> bool| {
            let line = mounts
                .lines()
                .map(|line| line.split(' ').collect::<Vec<_>>());
            line.into_iter()
                .find(|fields| wanted(fields))
                .map(|fields| PathBuf::from(fields[1]).join(&name))
        };
        let v2 = place(&|f| f[2] == "cgroup2")?;
        let v1 = place(&|f| f[2] == "cgroup" && f[3].split(',').any(|o| o == "memory"))?;
        for group in [&v2, &v1] {
            std::fs::create_dir(group).ok()?;
        }
        let files = tempfile::tempdir().ok()?;
        std::fs::write(v1.join("memory.limit_in_bytes"), "1048576").ok()?;
        let hole = std::fs::File::create(files.path().join("data")).ok()?;
        hole.set_len(1 << 30).ok()?;
        std::os::unix::fs::symlink(v2.join("memory.pressure"), files.path().join("memory")).ok()?;
        std::os::unix::fs::symlink(v2.join("io.pressure"), files.path().join("io")).ok()?;
        let script = format!(
            "echo $$ > {0}/cgroup.procs; echo $$ > {1}/cgroup.procs; \
             while :; do cat {2}/data {2}/data > /dev/null; done",
            v1.display(),
            v2.display(),
            files.path().display()
        );
        let child = std::process::Command::new("sh")
            .args(["-c", &script])
            .stdin(std::process::Stdio::null())
            .spawn()
            .ok()?;
        Some(Thrashing {
            groups: vec![v2, v1],
            child,
            files,
        })
    }

    /// Stops all of it, or lets it go on.
    fn signal(&self, signal: Signal) {
        let members = std::fs::read_to_string(self.groups[0].join("cgroup.procs")).unwrap();
        for pid in members.lines().map(|pid| pid.parse().unwrap()) {
            // A `cat` may have ended.
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal);
        }
    }
}

impl Drop for Thrashing {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for group in &self.groups {
            // A `cat` of it may still end.
            for _ in 0..100 {
                if std::fs::remove_dir(group).is_ok() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }
}

#[test]
fn a_stalled_host_takes_changes_back() {
    need_root!();
    let link = link();
    let Some(thrashing) = Thrashing::start() else {
        eprintln!(
            "SKIP: needs a cgroup v1 memory controller and cgroup v2 to stall something for memory"
        );
        return;
    };
    let files = thrashing.files.path().to_owned();
    let stalled = || {
        let text = std::fs::read_to_string(files.join("memory")).unwrap_or_default();
        let total = |text: &str| -> f64 {
            text.lines()
                .last()
                .and_then(|l| l.split_once("total="))
                .map_or(0.0, |(_, n)| n.trim().parse().unwrap())
        };
        total(&text) / 1e6
    };
    let until_it_stalls = Instant::now() + Duration::from_secs(20);
    while stalled() < 0.2 && Instant::now() < until_it_stalls {
        std::thread::sleep(Duration::from_millis(100));
    }
    if stalled() < 0.2 {
        eprintln!(
            "SKIP: nothing waits for memory on this machine, stalled {} s",
            stalled()
        );
        return;
    }
    // The change is made while all is well, and then it is not.
    thrashing.signal(Signal::SIGSTOP);
    let daemon = start(
        &[&link.a],
        &[
            "--to",
            "4096 16384 5000000",
            "--pressure",
            files.to_str().unwrap(),
        ],
    );
    until_slowly("it is changed", &daemon, || {
        link.a.sysctl(WMEM).unwrap() == "4096 16384 5000000"
    });
    thrashing.signal(Signal::SIGCONT);
    until_slowly("it is taken back", &daemon, || {
        link.a.sysctl(WMEM).unwrap() == START
    });
    assert!(
        logged(&daemon, "all tasks waited for memory"),
        "{}",
        daemon.log().join("\n")
    );
    // They waited for what their group allows.
    if Machine::now().unwrap().has_memory_to_spare() {
        assert!(
            !logged(&daemon, "the host is short of memory"),
            "{}",
            daemon.log().join("\n")
        );
    }
}

#[test]
fn a_daemon_that_hangs_is_killed_and_its_changes_go_back() {
    need_root!();
    let link = link();
    let mut daemon = start(&[&link.a], &["--to", "4096 16384 5000000", "--hang"]);
    until("it is changed", || {
        link.a.sysctl(WMEM).unwrap() == "4096 16384 5000000"
    });
    let deadline = Instant::now() + Duration::from_secs(60);
    while link.a.sysctl(WMEM).unwrap() != START {
        assert!(Instant::now() < deadline, "{}", daemon.log().join("\n"));
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(
        logged(&daemon, "gave no sign for 30 s"),
        "{}",
        daemon.log().join("\n")
    );
    assert_eq!(
        daemon.stop(Signal::SIGTERM).unwrap(),
        None,
        "killed by its reverter"
    );
}

#[test]
fn a_reverter_that_is_killed_is_replaced() {
    need_root!();
    let link = link();
    let mut daemon = start(&[&link.a], &["--to", "4096 16384 5000000"]);
    let first = daemon.reverter();
    assert_ne!(first, 0);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(first as i32), Signal::SIGKILL).unwrap();
    until("another is there", || {
        !matches!(daemon.reverter(), 0) && daemon.reverter() != first
    });
    daemon.stop(Signal::SIGKILL).unwrap();
    assert_eq!(link.a.sysctl(WMEM).unwrap(), START);
}

#[test]
fn systemd_hears_signs_of_life_only_while_changes_are_on_trial() {
    need_root!();
    let link = link();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    let script = dir.path().join("rig");
    let text = format!(
        "#!/bin/sh\nNOTIFY_SOCKET={} WATCHDOG_USEC=6000000 exec {} \"$@\"\n",
        path.display(),
        rig().unwrap().display()
    );
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let daemon = Daemon::start(
        &script,
        &[&link.a],
        &["--to", "4096 16384 5000000", "--watch", "10"],
    )
    .unwrap();
    let mut heard = Vec::new();
    let mut listen = |seconds: u64| {
        let until = Instant::now() + Duration::from_secs(seconds);
        let mut buffer = [0; 512];
        let from = heard.len();
        while Instant::now() < until {
            if let Ok(length) = socket.recv(&mut buffer) {
                heard.push(String::from_utf8_lossy(&buffer[..length]).trim().to_owned());
            }
        }
        heard[from..].to_vec()
    };
    let busy = listen(14);
    let never = "WATCHDOG_USEC=18446744073709551615";
    assert_eq!(busy[0], never, "nothing is on trial at the start");
    assert!(busy.contains(&"READY=1".to_owned()), "{busy:?}");
    assert!(
        busy.contains(&"WATCHDOG_USEC=6000000".to_owned()),
        "{busy:?}"
    );
    let beats = busy.iter().filter(|line| *line == "WATCHDOG=1").count();
    assert!((4..16).contains(&beats), "{busy:?}");
    assert_eq!(
        busy.last().unwrap(),
        never,
        "and at the end of the window: {busy:?}"
    );
    assert_eq!(listen(3), Vec::<String>::new(), "idle is silent");
    drop(daemon);
}

/// Resident KiB, and how often the process gave up a processor by itself.
fn cost(pid: u32) -> (u64, u64) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let number = |name: &str| {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap();
        line.trim_start_matches(':')
            .split_ascii_whitespace()
            .next()
            .unwrap()
            .parse()
            .unwrap()
    };
    (number("VmRSS"), number("voluntary_ctxt_switches"))
}

#[test]
fn a_thousand_namespaces_cost_under_ten_megabytes_and_no_wakeup() {
    need_root!();
    use nix::sys::resource::{Resource, setrlimit};
    setrlimit(Resource::RLIMIT_NOFILE, 4096, 4096).unwrap();
    let to = "4096 16384 5000000";
    let run = |count: usize| {
        let places: Vec<Netns> = (0..count).map(|_| Netns::new().unwrap()).collect();
        let refs: Vec<&Netns> = places.iter().collect();
        let daemon = start(&refs, &["--to", to, "--watch", "10"]);
        let (mut left, deadline) = (places.len(), Instant::now() + Duration::from_secs(120));
        while left > 0 {
            assert!(
                Instant::now() < deadline,
                "{left} of {count} are not changed yet"
            );
            std::thread::sleep(Duration::from_millis(500));
            left = places
                .iter()
                .filter(|place| place.sysctl(WMEM).unwrap() != to)
                .count();
        }
        // Trials and the watchdog's window end.
        let mut last = cost(daemon.pid()).1;
        loop {
            assert!(Instant::now() < deadline, "it does not come to rest");
            std::thread::sleep(Duration::from_secs(5));
            let now = cost(daemon.pid()).1;
            if now == last {
                break;
            }
            last = now;
        }
        std::thread::sleep(Duration::from_secs(5));
        let (kib, switches) = cost(daemon.pid());
        assert_eq!(
            switches, last,
            "{count} namespaces wake it while nothing goes on"
        );
        let reverter = cost(daemon.reverter()).0;
        drop(daemon);
        for place in &places {
            assert_ne!(place.sysctl(WMEM).unwrap(), to, "restored");
        }
        (kib, reverter)
    };
    let (few, _) = run(2);
    let (many, reverter) = run(1000);
    println!(
        "resident: {few} KiB with 2 namespaces, {many} KiB with 1000; the reverter {reverter} KiB"
    );
    assert!(
        many - few < 10 << 10,
        "{few} KiB with 2 namespaces, {many} KiB with 1000"
    );
}
