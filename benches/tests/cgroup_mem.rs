//! A service that holds memory which it does not miss: real pages of a real control group (v2). Only where no services are,
//! as in a guest of `cargo xtask vm`: the tuner would take a host's own.

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use common::within;
use lab::daemon::{Daemon, binary};
use nix::sys::signal::Signal;

const SLICE: &str = "/sys/fs/cgroup/system.slice";
const MIB: u64 = 1 << 20;
/// What the service has read, and what of that it reads again and again.
const HELD: u64 = 256;
const USED: u64 = 16;

/// What is missing here, if anything.
fn missing(bpftune: &Path) -> Option<&'static str> {
    let given = fs::read_to_string("/sys/fs/cgroup/cgroup.subtree_control").unwrap_or_default();
    if !given.split_ascii_whitespace().any(|name| name == "memory") {
        return Some("no cgroup v2 that gives memory to its groups here");
    }
    if Path::new(SLICE).exists() {
        return Some("this host has services of its own");
    }
    if !Path::new("/proc/pressure/memory").exists() {
        return Some("no pressure information");
    }
    let help = Command::new(bpftune).args(["help", "run"]).output();
    let help = help.map(|output| output.stdout).unwrap_or_default();
    if !String::from_utf8_lossy(&help).contains("cgroup-mem") {
        return Some("a daemon without cgroup-mem");
    }
    first_free().is_err().then_some("no loop device")
}

fn losetup(args: &[&str]) -> Result<String, String> {
    let output = Command::new("losetup").args(args).output();
    let output = output.map_err(|error| format!("losetup: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(text(&output.stderr))
    }
}

fn first_free() -> Result<String, String> {
    losetup(&["-f"])
}

/// A disk on memory; it goes on drop.
struct Disk {
    device: String,
    _file: tempfile::NamedTempFile,
}

impl Disk {
    fn new() -> Disk {
        let file = tempfile::NamedTempFile::new_in("/dev/shm").unwrap();
        file.as_file().set_len(HELD * MIB).unwrap();
        let device = first_free().unwrap();
        losetup(&[&device, file.path().to_str().unwrap()]).unwrap();
        Disk {
            device,
            _file: file,
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Err(error) = losetup(&["-d", &self.device]) {
            eprintln!("{error}");
        }
    }
}

/// A control group as systemd makes them for services, and one shell in it. All of it goes on drop.
struct Service {
    group: PathBuf,
    shell: Child,
    all: tempfile::NamedTempFile,
}

impl Service {
    /// Reads all of the disk once, then some of it over and over; all of it while a file has something in it. What was
    /// read stays in memory as long as somebody has the disk open.
    fn start(disk: &Disk) -> Service {
        fs::create_dir(SLICE).unwrap();
        fs::write(Path::new(SLICE).join("cgroup.subtree_control"), "+memory").unwrap();
        let group = Path::new(SLICE).join("lab.service");
        fs::create_dir(&group).unwrap();
        let all = tempfile::NamedTempFile::new().unwrap();
        let program = format!(
            "echo $$ > {group}/cgroup.procs && exec 3< {disk} && dd if={disk} of=/dev/null bs=1M; \
             while sleep 0.2; do \
             if [ -s {all} ]; then some={HELD}; else some={USED}; fi; \
             dd if={disk} of=/dev/null bs=1M count=$some; done",
            group = group.display(),
            disk = disk.device,
            all = all.path().display(),
        );
        let shell = Command::new("sh")
            .args(["-c", &program])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Service { group, shell, all }
    }

    fn read(&self, file: &str) -> String {
        let text = fs::read_to_string(self.group.join(file)).unwrap();
        text.trim().to_owned()
    }

    /// MiB.
    fn held(&self) -> u64 {
        self.read("memory.current").parse::<u64>().unwrap() / MIB
    }

    /// MiB; `None` without a limit.
    fn limit(&self) -> Option<u64> {
        let limit = self.read("memory.high").parse::<u64>();
        limit.ok().map(|bytes| bytes / MIB)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = fs::write(self.group.join("cgroup.kill"), "1");
        let _ = self.shell.wait();
        let gone = |path: &Path| fs::remove_dir(path).is_ok() || !path.exists();
        let deadline = Instant::now() + Duration::from_secs(5);
        while !gone(&self.group) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = fs::remove_dir(SLICE);
    }
}

#[test]
fn what_a_service_does_not_miss_is_taken_and_given_back_once_it_does() {
    need_root!();
    let bpftune = binary().unwrap();
    if let Some(why) = missing(&bpftune) {
        eprintln!("SKIP: {why}");
        return;
    }
    let disk = Disk::new();
    let service = Service::start(&disk);
    within(Duration::from_secs(60), "all of it was read", || {
        service.held() >= HELD
    });
    let before = service.held();
    let mut daemon = Daemon::start(&bpftune, &[], &["--tuner", "cgroup-mem"]).unwrap();
    let start = Instant::now();
    within(Duration::from_secs(300), "a fifth was taken", || {
        service.held() * 5 <= before * 4
    });
    let (held, limit, took) = (service.held(), service.limit(), start.elapsed());
    println!(
        "{before} MiB held, {held} after {:.0} s, with a limit of {limit:?}",
        took.as_secs_f64()
    );
    let limit = limit.expect("it is what took them");

    fs::write(service.all.path(), "all\n").unwrap();
    let start = Instant::now();
    within(Duration::from_secs(60), "it gets more again", || {
        service.limit().is_none_or(|now| now > limit)
    });
    println!(
        "needed all again: the limit is {:?} after {:.0} s",
        service.limit(),
        start.elapsed().as_secs_f64()
    );
    assert_eq!(daemon.stop(Signal::SIGTERM).unwrap(), Some(0));
    assert_eq!(service.limit(), None, "restored");
}
