//! The first process of the virtual machine of `cargo xtask vm`: mounts what programs expect, runs
//! the tests that lie in `/tests`, says how each ended and what the kernel has complained of, and
//! switches the machine off.
//!
//! Lines for the host begin with `GUEST: `. On the kernel's command line `guest.shell` asks for a
//! shell instead; words of the form `NAME=value` come here as environment, and go on to the tests.

use std::{
    ffi::CString,
    fs, io,
    os::unix::process::{CommandExt, ExitStatusExt},
    process::Command,
    ptr::{null, null_mut},
};

use nix::{kmod::ModuleInitFlags, libc};

fn main() {
    // On a host this program would switch it off.
    if std::process::id() != 1 {
        eprintln!("guest-init: only as the first process of a virtual machine");
        std::process::exit(1);
    }
    mounts();
    controllers();
    modules();
    limits();
    let words = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    if words.split_whitespace().any(|word| word == "guest.shell") {
        shell();
    } else {
        tests();
        complaints();
        println!("GUEST: done");
    }
    // SAFETY: nothing else runs that would mind.
    unsafe {
        libc::sync();
        libc::reboot(libc::RB_POWER_OFF);
    }
}

fn mounts() {
    for (kind, at) in [
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("devtmpfs", "/dev"),
        ("devpts", "/dev/pts"),
        ("tmpfs", "/dev/shm"),
        ("tmpfs", "/tmp"),
        ("tmpfs", "/run"),
        ("tmpfs", "/var/lib"),
        ("cgroup2", "/sys/fs/cgroup"),
        ("debugfs", "/sys/kernel/debug"),
    ] {
        // Those of sysfs are there or not, as the kernel likes.
        let _ = fs::create_dir_all(at);
        let (kind, at) = (CString::new(kind), CString::new(at));
        let (Ok(kind), Ok(at)) = (kind, at) else {
            continue;
        };
        // SAFETY: strings that end with NUL, valid during the call; no data.
        unsafe { libc::mount(kind.as_ptr(), at.as_ptr(), kind.as_ptr(), 0, null()) };
    }
    for (link, to) in [
        ("fd", "fd"),
        ("stdin", "fd/0"),
        ("stdout", "fd/1"),
        ("stderr", "fd/2"),
    ] {
        let _ = std::os::unix::fs::symlink(format!("/proc/self/{to}"), format!("/dev/{link}"));
    }
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o1777);
    let _ = fs::set_permissions("/tmp", mode);
}

/// Control groups may limit memory and tasks, as on a host with systemd.
fn controllers() {
    let _ = fs::write("/sys/fs/cgroup/cgroup.subtree_control", "+memory +pids");
}

/// Loads what lies in /modules; one that the kernel refuses is named.
fn modules() {
    for entry in fs::read_dir("/modules").into_iter().flatten().flatten() {
        let loaded = fs::File::open(entry.path()).and_then(|file| {
            Ok(nix::kmod::finit_module(
                &file,
                c"",
                ModuleInitFlags::empty(),
            )?)
        });
        if let Err(error) = loaded {
            println!("GUEST: kernel: {}: {error}", entry.path().display());
        }
    }
}

/// As many descriptors may be had as on a common host.
fn limits() {
    let limit = libc::rlimit {
        rlim_cur: 1024,
        rlim_max: 65536,
    };
    // SAFETY: reads the structure.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
}

fn shell() {
    let mut shell = Command::new("/bin/sh");
    // SAFETY: a few system calls of the new process.
    unsafe {
        shell.pre_exec(|| {
            libc::setsid();
            libc::ioctl(0, libc::TIOCSCTTY as _, 1);
            Ok(())
        });
    }
    shell.arg("-i").env("PATH", "/bin").env("HOME", "/tmp");
    if let Err(error) = shell.status() {
        println!("GUEST: no shell: {error}");
    }
}

fn tests() {
    let mut names: Vec<_> = fs::read_dir("/tests")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    let args = fs::read_to_string("/arguments").unwrap_or_default();
    for name in names {
        println!("GUEST: run {name}");
        let mut command = Command::new(format!("/tests/{name}"));
        command
            .args(args.lines())
            .current_dir("/tmp")
            .env("PATH", "/bin")
            .env("HOME", "/tmp")
            .env("RUST_TEST_THREADS", "1");
        match run(&mut command) {
            Ok(status) => println!("GUEST: exit {name} {status}"),
            Err(error) => println!("GUEST: exit {name} {error}"),
        }
    }
}

/// Runs it, and reaps what it leaves to us, up to its own end.
fn run(command: &mut Command) -> io::Result<std::process::ExitStatus> {
    let child = command.spawn()?;
    loop {
        let mut status = 0;
        // SAFETY: writes the status.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, 0) };
        if pid < 0 {
            return Err(io::Error::last_os_error());
        }
        if pid == child.id() as i32 {
            return Ok(std::process::ExitStatus::from_raw(status));
        }
    }
}

/// What the kernel has said that it should not have had to.
fn complaints() {
    // kmemleak tells of an object after two looks at it.
    let leaks = "/sys/kernel/debug/kmemleak";
    if fs::exists(leaks).unwrap_or(false) {
        for _ in 0..2 {
            std::thread::sleep(std::time::Duration::from_secs(6));
            let _ = fs::write(leaks, "scan");
        }
        for line in fs::read_to_string(leaks).unwrap_or_default().lines() {
            println!("GUEST: kernel: kmemleak: {line}");
        }
    }
    for line in log().lines() {
        if COMPLAINTS.iter().any(|word| line.contains(word)) {
            println!("GUEST: kernel: {line}");
        }
    }
}

const COMPLAINTS: [&str; 16] = [
    "BUG",
    "WARNING",
    "INFO: ",
    "Oops",
    "Call Trace",
    "KASAN",
    "DEBUG_LOCKS_WARN_ON",
    "possible circular locking",
    "possible recursive locking",
    "held lock",
    "lock held",
    "ODEBUG",
    "general protection",
    "refcount_t",
    "unreferenced object",
    "list_add corruption",
];

/// The kernel's log, all that it keeps.
fn log() -> String {
    const READ_ALL: i32 = 3;
    const SIZE: i32 = 10;
    // SAFETY: asks for a size.
    let size = unsafe { libc::klogctl(SIZE, null_mut(), 0) };
    let mut text = vec![0u8; usize::try_from(size).unwrap_or(0)];
    // SAFETY: the buffer has that many bytes.
    let read = unsafe { libc::klogctl(READ_ALL, text.as_mut_ptr().cast(), text.len() as i32) };
    text.truncate(usize::try_from(read).unwrap_or(0));
    String::from_utf8_lossy(&text).into_owned()
}
