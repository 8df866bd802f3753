//! The daemon and settings of the whole host. A binary of its own, so that no other test of this workspace runs
//! meanwhile; one test at a time.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use bpftune_core::{
    Machine,
    trial::{Counter, Meter, ProcMeter, Resource},
};
use lab::{
    daemon::{Daemon, binary},
    link::Link,
    scenario::{SMALL, set_buffers},
    traffic::{Transfer, TransferOptions},
};

mod common;

use common::*;

/// Held by the test that changes something of the host: threads of this run and other runs wait for it.
fn alone() -> File {
    let file = File::open("/proc/sys/net/ipv4/tcp_mem").unwrap();
    file.lock().unwrap();
    file
}

/// A host-wide sysctl, put back when dropped.
struct Global {
    path: &'static str,
    before: String,
    _alone: File,
}

impl Global {
    fn save(path: &'static str) -> Global {
        let alone = alone();
        Global {
            path,
            before: fs::read_to_string(path).unwrap(),
            _alone: alone,
        }
    }
}

impl Drop for Global {
    fn drop(&mut self) {
        fs::write(self.path, &self.before).unwrap();
    }
}

#[test]
fn a_fixed_buffer_that_was_cut_down_raises_the_hosts_maximum() {
    need_root!();
    let maximum = Global::save("/proc/sys/net/core/wmem_max");
    fs::write(maximum.path, "212992").unwrap();
    let link = starved();
    set_buffers(&link, ("4096 131072 67108864", SMALL.1)).unwrap();
    let huge = TransferOptions {
        send_buffer: Some(1 << 30),
        ..TransferOptions::default()
    };
    let _running = Transfer::start_with(&link.a, &link.b, link.addr_b().into(), huge).unwrap();
    let daemon = Daemon::start(&binary().unwrap(), &[], &[]).unwrap();
    let now = || {
        fs::read_to_string(maximum.path)
            .unwrap()
            .trim()
            .parse::<i64>()
            .unwrap()
    };
    until("the maximum rises", || now() > 212_992);
    drop(daemon);
    assert_eq!(now(), 212_992);
}

#[test]
fn tcp_memory_rises_while_the_host_has_plenty() {
    need_root!();
    let tcp_mem = Global::save("/proc/sys/net/ipv4/tcp_mem");
    let link = starved();
    set_buffers(&link, ("4096 131072 67108864", "4096 16384 67108864")).unwrap();
    let small = "50\t100\t150\n";
    fs::write(tcp_mem.path, small).unwrap();
    let daemon = Daemon::start(&binary().unwrap(), &[], &[]).unwrap();
    // The kernel cuts an unfixed buffer down quietly instead of refusing it memory.
    let fixed = TransferOptions {
        send_buffer: Some(1 << 20),
        ..TransferOptions::default()
    };
    let start = || Transfer::start_with(&link.a, &link.b, link.addr_b().into(), fixed.clone());
    let _running = [(); 8].map(|()| start().unwrap());
    let now = || fs::read_to_string(tcp_mem.path).unwrap();
    until("tcp_mem rises", || {
        last(now().trim_end().rsplit('\t').next().unwrap()) > 150
    });
    drop(daemon);
    assert_eq!(now(), small);
}

/// A memory control group too small for what its one process does, which therefore stalls for memory.
struct Squeezed {
    child: Child,
    group: PathBuf,
    written: PathBuf,
}

impl Squeezed {
    const LIMIT: &str = "20000000";

    fn start() -> Result<Squeezed, String> {
        let name = format!("bpftune-test-{}", std::process::id());
        let try_group = |root: &str, limit: &str| {
            let group = Path::new(root).join(&name);
            fs::create_dir(&group).ok()?;
            // Not made where it is missing: the directory may be no control group, or one without memory.
            let file = File::options().write(true).open(group.join(limit));
            if file.is_ok_and(|mut file| file.write_all(Self::LIMIT.as_bytes()).is_ok()) {
                return Some(group);
            }
            fs::remove_dir(&group).ok()?;
            None
        };
        let group = try_group("/sys/fs/cgroup", "memory.max")
            .or_else(|| try_group("/sys/fs/cgroup/memory", "memory.limit_in_bytes"))
            .ok_or("no memory control group can be made here")?;
        let written = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&name);
        let child = Command::new("sh")
            .args(["-c", "echo $$ > $1/cgroup.procs && while :; do dd if=/dev/zero of=$2 bs=1M count=100; done", "sh"])
            .args([&group, &written])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Ok(Squeezed {
            child,
            group,
            written,
        })
    }
}

impl Drop for Squeezed {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // A dd may outlive its shell for a moment.
        for _ in 0..500 {
            for pid in fs::read_to_string(self.group.join("cgroup.procs"))
                .unwrap_or_default()
                .lines()
            {
                let pid = nix::unistd::Pid::from_raw(pid.parse().unwrap());
                let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            }
            if fs::remove_dir(&self.group).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = fs::remove_file(&self.written);
    }
}

/// A program that starts the daemon where /proc/meminfo tells of an eighth of memory available, as on a host that is
/// short of it: to fill this one's memory would harm whatever else runs here.
fn with_little_memory(dir: &Path) -> PathBuf {
    let (meminfo, script) = (dir.join("meminfo"), dir.join("bpftune"));
    let text = fs::read_to_string("/proc/meminfo").unwrap();
    let eighth = Machine::now().unwrap().memory_total / 8 / 1024;
    let lines = text.lines().map(|line| match line.split_once(':') {
        Some(("MemAvailable", _)) => format!("MemAvailable: {eighth} kB\n"),
        _ => format!("{line}\n"),
    });
    fs::write(&meminfo, lines.collect::<String>()).unwrap();
    // Of a directory that is the root by chroot(2) the propagation cannot be changed: that of /proc is enough.
    let text = format!(
        "#!/bin/sh\nexec unshare --mount --propagation unchanged sh -c \
         'mount --make-private /proc && mount --bind {} /proc/meminfo && exec {} \"$@\"' sh \"$@\"\n",
        meminfo.display(),
        binary().unwrap().display()
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    script
}

/// Seconds that some task of the host has waited for memory.
fn waited_for_memory() -> f64 {
    let waited = Counter::Stall {
        resource: Resource::Memory,
        full: false,
    };
    ProcMeter::default().read(&waited).unwrap()
}

/// Enough for a host whose disk is busy with what the squeezed one writes: the daemon's journal is on the disk before a
/// change is made, which takes seconds there.
const BUSY_DISK: Duration = Duration::from_secs(60);

/// Nobody waits for memory, also not because of what another test did just now: the kernel tells of the last two seconds.
fn calm() {
    within(BUSY_DISK, "no task waits for memory", || {
        let before = waited_for_memory();
        std::thread::sleep(Duration::from_secs(2));
        waited_for_memory() - before < 0.02
    });
}

/// Tasks wait for memory while a daemon has raised limits. What its history says at the end; `None` where nothing can be
/// made to wait.
fn history_of_pressure(
    program: &Path,
    enough: impl Fn(&Link, (i64, i64)) -> bool,
) -> Option<String> {
    if !Path::new("/proc/pressure/memory").exists() {
        eprintln!("SKIP: this kernel measures no pressure (PSI)");
        return None;
    }
    let _alone = alone();
    calm();
    let link = starved();
    let daemon = Daemon::start(program, &[&link.a, &link.b], &[]).unwrap();
    let running = transfer(&link);
    until("both limits rise", || raised(&link));
    // Nothing raises them again.
    running.stop().unwrap();
    let before = limits(&link);
    let squeezed = match Squeezed::start() {
        Ok(squeezed) => squeezed,
        Err(why) => {
            eprintln!("SKIP: {why}");
            return None;
        }
    };
    within(
        BUSY_DISK,
        "tasks have waited, and that had its effect",
        || enough(&link, before),
    );
    drop(squeezed);
    // A trial would have its verdict by then.
    std::thread::sleep(Duration::from_secs(5));
    let (_, history, _) = daemon.command(&["history"]).unwrap();
    drop(daemon);
    assert!(restored(&link));
    Some(history)
}

fn limits(link: &Link) -> (i64, i64) {
    (
        last(&link.a.sysctl(WMEM).unwrap()),
        last(&link.b.sysctl(RMEM).unwrap()),
    )
}

#[test]
fn limits_go_back_down_when_the_host_is_short_of_memory() {
    need_root!();
    let dir = tempfile::tempdir().unwrap();
    let shrunk = |link: &Link, before: (i64, i64)| {
        let now = limits(link);
        now.0 < before.0 && now.1 < before.1
    };
    if let Some(history) = history_of_pressure(&with_little_memory(dir.path()), shrunk) {
        assert!(history.contains("short of memory"), "{history}");
        // It is no experiment: a verdict on the throughput could take the memory again.
        let judged = |line: &&str| {
            ["better", "worse", "unclear"]
                .iter()
                .any(|word| line.contains(word))
        };
        let of_memory = |line: &&str| line.contains("short of memory");
        let found: Vec<_> = history.lines().filter(of_memory).filter(judged).collect();
        assert!(found.is_empty(), "{found:?}");
    }
}

#[test]
fn a_group_at_its_limit_on_a_host_with_memory_to_spare_is_no_reason() {
    need_root!();
    if !Machine::now().unwrap().has_memory_to_spare() {
        eprintln!("SKIP: less than a quarter of memory is available here");
        return;
    }
    // So long that the daemon was told: 200 ms of 2 s.
    let told = std::cell::Cell::new(None);
    let waited = |_: &Link, _| {
        let total = waited_for_memory();
        let since = told.get().unwrap_or(total);
        told.set(Some(since));
        total - since > 1.0
    };
    if let Some(history) = history_of_pressure(&binary().unwrap(), waited) {
        assert!(!history.contains("short of memory"), "{history}");
    }
}
