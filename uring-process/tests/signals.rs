//! Signals around a child's making, on every executor.

mod common;

use std::{
    os::{fd::AsRawFd, unix::process::ExitStatusExt},
    sync::atomic::{AtomicI32, AtomicUsize, Ordering},
    thread,
};

use common::{again_with_all, in_child, sh, show_status, status_line};
use uring_process::Command;

again_with_all!();

static HANDLED: AtomicUsize = AtomicUsize::new(0);
static HANDLED_ELSEWHERE: AtomicUsize = AtomicUsize::new(0);
static OWN_PID: AtomicI32 = AtomicI32::new(0);

extern "C" fn handler(_: i32) {
    // SAFETY: has no preconditions, and is a system call here.
    let pid = unsafe { libc::syscall(libc::SYS_getpid) } as i32;
    // A child that shares our memory counts here too.
    let counter = match OWN_PID.load(Ordering::Relaxed) {
        own if own == pid => &HANDLED,
        _ => &HANDLED_ELSEWHERE,
    };
    counter.fetch_add(1, Ordering::Relaxed);
}

fn handle(signal: i32) {
    // SAFETY: the handler only counts.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        action.sa_flags = libc::SA_RESTART;
        assert_eq!(
            libc::sigaction(signal, &raw const action, std::ptr::null_mut()),
            0
        );
    }
}

#[test]
fn handlers_never_run_in_a_child() {
    in_child("handlers_never_run_in_a_child", || {
        OWN_PID.store(std::process::id() as i32, Ordering::Relaxed);
        handle(libc::SIGUSR1);
        handle(libc::SIGCHLD);
        let plan = Command::new("/bin/true").plan().unwrap();
        let (mut killed, mut ran) = (0, 0);
        for _ in 0..500 {
            let starting = plan.start().unwrap();
            // To the child alone, as early as can be: before its exec, most often.
            // SAFETY: no pointers but a null one.
            unsafe {
                let fd = starting.pidfd().as_raw_fd();
                libc::syscall(libc::SYS_pidfd_send_signal, fd, libc::SIGUSR1, 0, 0);
            }
            let status = starting.wait().unwrap().wait().unwrap();
            match status.signal() {
                Some(libc::SIGUSR1) => killed += 1,
                None if status.success() => ran += 1,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(HANDLED_ELSEWHERE.load(Ordering::Relaxed), 0);
        assert!(
            killed > 0,
            "{killed} killed, {ran} ran: the signal came too late to prove it"
        );
        assert!(
            HANDLED.load(Ordering::Relaxed) > 0,
            "ours still works: SIGCHLD"
        );
    });
}

#[test]
fn a_child_killed_before_its_exec_ends_so() {
    in_child("a_child_killed_before_its_exec_ends_so", || {
        // It would never end by itself; most are killed before their exec.
        let plan = Command::new("sleep").arg("600").plan().unwrap();
        let mut killed = 0;
        for _ in 0..200 {
            let starting = plan.start().unwrap();
            // SAFETY: no pointers but a null one.
            unsafe {
                let fd = starting.pidfd().as_raw_fd();
                libc::syscall(libc::SYS_pidfd_send_signal, fd, libc::SIGKILL, 0, 0);
            }
            let status = starting.wait().unwrap().wait().unwrap();
            killed += usize::from(status.signal() == Some(libc::SIGKILL));
        }
        assert_eq!(killed, 200);
        common::no_zombie_stays();
        let before = common::open_fds();
        let mut child = plan.spawn().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        drop(child);
        assert_eq!(common::open_fds(), before);
    });
}

#[test]
fn sigchld_may_be_ignored() {
    in_child("sigchld_may_be_ignored", || {
        // SAFETY: the process is the test's own.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
        let first = sh("exit 7").status();
        match first {
            Ok(status) => assert_eq!(status.code(), Some(7)),
            // Before 6.15 the kernel has thrown it away.
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::ECHILD));
                println!("SKIP: this kernel keeps no status of such a child");
                return;
            }
        }
        assert_eq!(sh("kill -9 $$").status().unwrap().signal(), Some(9));
        assert!(Command::new("/nonexistent").status().is_err());
        let output = sh("echo x").output().unwrap();
        assert_eq!(output.stdout, b"x\n");
    });
}

#[test]
fn somebody_else_may_wait_for_all_children() {
    in_child("somebody_else_may_wait_for_all_children", || {
        thread::spawn(|| {
            loop {
                // SAFETY: a null status is allowed.
                if unsafe { libc::waitpid(-1, std::ptr::null_mut(), 0) } < 0 {
                    thread::yield_now();
                }
            }
        });
        for code in 0..100 {
            match sh(&format!("exit {code}")).status() {
                Ok(status) => assert_eq!(status.code(), Some(code)),
                Err(error) if error.raw_os_error() == Some(libc::ECHILD) => {
                    println!("SKIP: this kernel keeps no status of such a child");
                    return;
                }
                Err(error) => panic!("{error}"),
            }
        }
    });
}

#[test]
fn mask_and_dispositions_are_as_with_std() {
    in_child("mask_and_dispositions_are_as_with_std", || {
        let std = |key: &str| {
            let output = std::process::Command::new("cat")
                .arg("/proc/self/status")
                .output()
                .unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            text.lines()
                .find_map(|line| line.strip_prefix(key))
                .unwrap()[1..]
                .trim()
                .to_owned()
        };
        // SAFETY: the process is the test's own; the sets are made before they are read.
        unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigaddset(&raw mut set, libc::SIGUSR2);
            libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
            libc::signal(libc::SIGHUP, libc::SIG_IGN);
        }
        handle(libc::SIGUSR1);
        // glibc's posix_spawn leaves its own two signals, 32 and 33, ignored.
        let of = |text: String| u64::from_str_radix(&text, 16).unwrap() & !(3 << 31);
        for key in ["SigBlk", "SigIgn", "SigCgt"] {
            assert_eq!(
                of(status_line(&mut show_status(), key)),
                of(std(key)),
                "{key}"
            );
        }
        assert_eq!(
            status_line(&mut show_status(), "SigBlk"),
            format!("{:016x}", 1 << 11)
        );
        assert_eq!(
            status_line(show_status().signal_mask(0), "SigBlk"),
            "0".repeat(16)
        );
        let pipe = 1u64 << (libc::SIGPIPE - 1);
        let hangup = 1u64 << (libc::SIGHUP - 1);
        let ignored = status_line(show_status().keep_sigpipe(true), "SigIgn");
        assert_eq!(of(ignored), pipe | hangup);
        // Ours is what it was.
        let own = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        assert!(own.contains(&format!("SigBlk:\t{:016x}", 1 << 11)), "{own}");
    });
}
