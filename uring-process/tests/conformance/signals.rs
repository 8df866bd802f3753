//! Signals: no handler of ours ever runs in a child, and what a child inherits.

use std::{
    collections::HashSet,
    os::unix::process::ExitStatusExt,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering},
    },
    thread,
};

use uring_process::Command;

use crate::{
    both,
    common::{alone, children, forced, times},
};

static RUNS: AtomicUsize = AtomicUsize::new(0);
static ELSEWHERE: AtomicUsize = AtomicUsize::new(0);
static OWN_PID: AtomicI32 = AtomicI32::new(0);

/// Counts itself, by the PID that the kernel gives.
extern "C" fn count(_: i32) {
    // SAFETY: takes nothing; async-signal-safe.
    let pid = unsafe { libc::syscall(libc::SYS_getpid) } as i32;
    match pid == OWN_PID.load(Ordering::Relaxed) {
        true => RUNS.fetch_add(1, Ordering::Relaxed),
        false => ELSEWHERE.fetch_add(1, Ordering::Relaxed),
    };
}

fn handle(signal: i32) {
    OWN_PID.store(std::process::id() as i32, Ordering::Relaxed);
    // SAFETY: all zeroes is a value of it; the handler is async-signal-safe.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = count as *const () as usize;
        action.sa_flags = libc::SA_RESTART;
        assert_eq!(
            libc::sigaction(signal, &raw const action, std::ptr::null_mut()),
            0
        );
    }
}

#[test]
fn no_handler_runs_in_a_child() {
    alone(|| {
        handle(libc::SIGUSR1);
        handle(libc::SIGCHLD);
        handle(libc::SIGUSR2);
        // A process group of our own, which the children are in; signals to one and to all.
        let group = std::process::id() as i32;
        let targets: Mutex<Vec<std::os::fd::OwnedFd>> = Mutex::new(Vec::new());
        let done = AtomicBool::new(false);
        let mut killed = 0;
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    // SAFETY: the group is ours: the tests' runner has made it for this process.
                    unsafe { libc::kill(-group, libc::SIGUSR1) };
                    for pidfd in &*targets.lock().unwrap() {
                        use std::os::fd::AsRawFd;
                        // SAFETY: a null siginfo is allowed.
                        unsafe {
                            let none = std::ptr::null::<libc::siginfo_t>();
                            let number = libc::SYS_pidfd_send_signal;
                            libc::syscall(number, pidfd.as_raw_fd(), libc::SIGUSR2, none, 0);
                        }
                    }
                    thread::yield_now();
                }
            });
            for _ in 0..times(1000) {
                let starting = Command::new("true").start().unwrap();
                let pidfd = starting.pidfd().try_clone_to_owned().unwrap();
                targets.lock().unwrap().push(pidfd);
                let status = starting.wait().unwrap().wait().unwrap();
                targets.lock().unwrap().clear();
                // Default dispositions: it ends by the signal, or by itself.
                killed += usize::from(!status.success());
                let by = status.signal();
                assert!(status.success() || by == Some(libc::SIGUSR1) || by == Some(libc::SIGUSR2));
            }
            done.store(true, Ordering::Relaxed);
        });
        assert_eq!(ELSEWHERE.load(Ordering::Relaxed), 0);
        assert!(RUNS.load(Ordering::Relaxed) > 100);
        assert!(killed > 10, "no signal ever met a child: {killed}");
    });
}

#[test]
fn dispositions_and_mask_are_as_with_std() {
    alone(|| {
        // SAFETY: integers and a set of our own.
        unsafe {
            // Whoever started the tests may have ignored some, as nohup(1) and a shell's & do.
            for signal in 1..32 {
                libc::signal(signal, libc::SIG_DFL);
            }
            libc::signal(libc::SIGPIPE, libc::SIG_IGN);
            libc::signal(libc::SIGUSR2, libc::SIG_IGN);
            libc::signal(libc::SIGTERM, libc::SIG_IGN);
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigaddset(&raw mut set, libc::SIGHUP);
            libc::sigaddset(&raw mut set, libc::SIGRTMIN() + 3);
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        }
        handle(libc::SIGUSR1);
        handle(libc::SIGRTMAX());
        // Two signals are the C library's own, which lets std's child ignore them.
        let script = "grep ^Sig[BIC] /proc/self/status | sed -E '/^SigIgn/s/..(.{7})$/__\\1/'";
        let outcome = both!("sh", |c| c.args(["-c", script]));
        let usr2 = "SigIgn:\t0000000__0004800";
        assert!(outcome.text().contains(usr2), "{outcome:?}");
        // Our own mask is as before.
        assert_eq!(crate::common::status_field("SigBlk").len(), 16);
        let mut now: libc::sigset_t = unsafe_zeroed();
        // SAFETY: asks only.
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), &raw mut now) };
        // SAFETY: the set is filled.
        let blocked = |signal| unsafe { libc::sigismember(&raw const now, signal) } == 1;
        assert!(blocked(libc::SIGHUP) && !blocked(libc::SIGUSR1) && !blocked(libc::SIGINT));
    });
}

fn unsafe_zeroed() -> libc::sigset_t {
    // SAFETY: all zeroes is the empty set.
    unsafe { std::mem::zeroed() }
}

/// Whether the kernel keeps the status of a child that nobody can wait for (Linux 6.15).
fn kept() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut parts = release
        .split(['.', '-'])
        .map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (parts.next().unwrap(), parts.next().unwrap());
    if version < (6, 15) {
        println!("SKIP: Linux {release} keeps no status of children that are not waited for");
    }
    version >= (6, 15)
}

#[test]
fn with_sigchld_ignored_the_status_arrives() {
    if !kept() {
        return;
    }
    alone(|| {
        // SAFETY: integers only.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
        for round in 0..times(500) {
            let mut command = Command::new("sh");
            command.args(["-c", &format!("exit {}", round % 200)]);
            assert_eq!(command.status().unwrap().code(), Some((round % 200) as i32));
        }
        for _ in 0..times(100) {
            let error = Command::new("/nonexistent").spawn().unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
        }
        let mut sleeper = Command::new("sleep").arg("60").spawn().unwrap();
        assert_eq!(sleeper.try_wait().unwrap(), None);
        sleeper.kill().unwrap();
        assert_eq!(sleeper.wait().unwrap().signal(), Some(libc::SIGKILL));
        assert!(!Command::new("false").output().unwrap().status.success());
        assert_eq!(children(), []);
    });
}

#[test]
fn somebody_else_who_waits_for_all_children() {
    if !kept() {
        return;
    }
    alone(|| {
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    // SAFETY: takes the status of any child; a null pointer asks for nothing.
                    unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) };
                }
            });
            for _ in 0..times(300) {
                let status = Command::new("sh").args(["-c", "exit 9"]).status().unwrap();
                assert_eq!(status.code(), Some(9));
            }
            done.store(true, Ordering::Relaxed);
        });
    });
}

#[test]
fn killed_before_the_exec() {
    use std::os::fd::AsRawFd;
    alone(|| {
        assert!(Command::new("true").status().unwrap().success());
        let before = crate::common::fds();
        // Many candidates: the search takes its time.
        let path = "/nonexistent:".repeat(200) + &std::env::var("PATH").unwrap();
        let mut ends = HashSet::new();
        let mut command = Command::new("sleep");
        command.arg("0").env("PATH", path);
        command
            .stdout(uring_process::Stdio::piped())
            .stdin(uring_process::Stdio::piped());
        for _ in 0..times(1000) {
            let starting = command.start().unwrap();
            // SAFETY: a null siginfo is allowed.
            unsafe {
                let none = std::ptr::null::<libc::siginfo_t>();
                let (number, pidfd) = (libc::SYS_pidfd_send_signal, starting.pidfd().as_raw_fd());
                assert_eq!(libc::syscall(number, pidfd, libc::SIGKILL, none, 0), 0);
            }
            let status = starting.wait().unwrap().wait().unwrap();
            ends.insert(status.signal());
        }
        if !forced("vfork") {
            assert!(ends.contains(&Some(libc::SIGKILL)), "{ends:?}");
        }
        assert!(Command::new("true").status().unwrap().success());
        assert_eq!(crate::common::fds(), before);
        assert_eq!(children(), []);
    });
}
