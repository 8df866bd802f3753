//! What the handles do: wait, kill, pidfd, exec, `pre_exec`.

use std::{
    io::{self, ErrorKind},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd},
        unix::process::ExitStatusExt,
    },
    time::{Duration, Instant},
};

use uring_process::{Command, Error, Stage, Stdio};

use crate::common::{Outcome, alone, children, dumpable, until};

fn sleeper() -> Command {
    let mut command = Command::new("sleep");
    command.arg("60");
    command
}

fn is_over(pidfd: BorrowedFd<'_>) -> bool {
    let mut poll = libc::pollfd {
        fd: pidfd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one entry.
    unsafe { libc::poll(&raw mut poll, 1, 10_000) == 1 }
}

#[test]
fn statuses_are_stds() {
    for script in [
        "exit 0",
        "exit 7",
        "exit 255",
        "kill -9 $$",
        "kill -15 $$",
        "kill -1 $$",
    ] {
        let ours = Command::new("sh").args(["-c", script]).status().unwrap();
        let std = std::process::Command::new("sh")
            .args(["-c", script])
            .status()
            .unwrap();
        assert_eq!(ours.into_raw(), std.into_raw(), "{script}");
    }
    let mut dumps = Command::new("sh");
    dumps
        .args(["-c", "kill -ABRT $$"])
        .rlimit(libc::RLIMIT_CORE, 0, 0);
    assert_eq!(dumps.status().unwrap().signal(), Some(libc::SIGABRT));
}

#[test]
fn kill_wait_and_wait_again() {
    let mut child = sleeper().spawn().unwrap();
    assert_eq!(child.try_wait().unwrap(), None);
    child.kill().unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.signal(), Some(libc::SIGKILL));
    assert_eq!(child.wait().unwrap(), status);
    assert_eq!(child.try_wait().unwrap(), Some(status));
    child.kill().unwrap();
}

#[test]
fn try_wait_sees_the_end_and_killing_a_zombie_is_well() {
    let mut child = Command::new("true").spawn().unwrap();
    assert!(is_over(child.pidfd()));
    child.kill().unwrap();
    let status = child.try_wait().unwrap();
    assert!(status.unwrap().success());
}

#[test]
fn a_dropped_child_lives_on_as_with_std() {
    alone(|| {
        let child = sleeper().spawn().unwrap();
        let pid = child.id() as i32;
        let pidfd = child.pidfd().try_clone_to_owned().unwrap();
        drop(child);
        until("it sleeps", || children().contains(&(pid, 'S')));
        // SAFETY: our own child, not waited for.
        unsafe { libc::kill(pid, libc::SIGKILL) };
        assert!(is_over(pidfd.as_fd()));
        until("it is a zombie", || children() == [(pid, 'Z')]);
        // SAFETY: as above.
        unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
    });
}

#[test]
fn the_pidfd_is_the_childs() {
    let mut command = sleeper();
    let child = command.create_pidfd(true).spawn().unwrap();
    let (pid, pidfd) = (child.id(), child.into_pidfd());
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).unwrap();
    assert!(
        info.lines().any(|line| line == format!("Pid:\t{pid}")),
        "{info}"
    );
    // SAFETY: a null siginfo is allowed.
    unsafe {
        let none = std::ptr::null::<libc::siginfo_t>();
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            libc::SIGKILL,
            none,
            0,
        );
    }
    assert!(is_over(pidfd.as_fd()));
    // SAFETY: our own child.
    unsafe { libc::waitpid(pid as i32, std::ptr::null_mut(), 0) };
}

#[test]
fn starting_can_be_watched_and_left() {
    let mut starting = Command::new("true").start().unwrap();
    let end = Instant::now() + Duration::from_secs(10);
    let mut child = loop {
        match starting.try_wait().unwrap() {
            Ok(child) => break child,
            Err(again) => starting = again,
        }
        assert!(Instant::now() < end);
        std::thread::yield_now();
    };
    assert!(child.wait().unwrap().success());
    let error = Command::new("/nonexistent")
        .start()
        .unwrap()
        .wait()
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[test]
fn what_is_started_and_left_runs_all_the_same() {
    use std::io::Read;
    for round in 0..crate::common::times(300) {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut command = Command::new("echo");
        command.arg("x").stdout(writer);
        // By way of the launcher, and not.
        if round % 2 == 0 && crate::ids::can_change() {
            command.uid(65534);
        }
        let starting = command.start().unwrap();
        let pidfd = starting.pidfd().try_clone_to_owned().unwrap();
        let pid = starting.id() as i32;
        drop((command, starting));
        // What another would find at the numbers that are free now.
        let bystander = tempfile::tempfile().unwrap();
        let others: Vec<_> = (0..8).map(|_| bystander.try_clone().unwrap()).collect();
        assert!(is_over(pidfd.as_fd()));
        drop(others);
        let mut status = 0;
        // SAFETY: our own child; the status is ours.
        unsafe { libc::waitpid(pid, &raw mut status, 0) };
        assert_eq!(status, 0, "round {round}");
        // The next start lets go of what the last one held.
        assert!(Command::new("true").status().unwrap().success());
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "x\n");
        assert_eq!(
            bystander.metadata().unwrap().len(),
            0,
            "somebody wrote to a file of ours"
        );
    }
}

#[test]
fn pre_exec_runs_in_order_and_its_errno_arrives() {
    let (reader, writer) = io::pipe().unwrap();
    let raw = writer.as_raw_fd();
    let mut command = Command::new("true");
    for mark in [b"a", b"b", b"c"] {
        // SAFETY: one write(2).
        unsafe {
            command.pre_exec(move || {
                libc::write(raw, mark.as_ptr().cast(), 1);
                Ok(())
            });
        }
    }
    assert!(command.status().unwrap().success());
    drop((command, writer));
    assert_eq!(io::read_to_string(reader).unwrap(), "abc");

    let failing = |error: fn() -> io::Error| {
        let mut ours = Command::new("true");
        // SAFETY: makes an error of a number, or one on the heap as std's own tests do.
        unsafe { ours.pre_exec(move || Err(error())) };
        let mut std = std::process::Command::new("true");
        // SAFETY: as above.
        unsafe { std::os::unix::process::CommandExt::pre_exec(&mut std, move || Err(error())) };
        let ours = ours.output();
        let stage = ours
            .as_ref()
            .err()
            .and_then(Error::of)
            .and_then(Error::stage);
        assert_eq!(stage, Some(Stage::PreExec));
        assert_eq!(Outcome::of(ours), Outcome::of(std.output()));
    };
    failing(|| io::Error::from_raw_os_error(libc::EXDEV));
    failing(|| io::ErrorKind::Other.into());
}

#[test]
fn pre_exec_comes_after_the_attributes() {
    let mut command = Command::new("true");
    command.current_dir("/proc/self").umask(0o22);
    // SAFETY: system calls only.
    unsafe {
        command.pre_exec(|| match libc::access(c"status".as_ptr(), libc::R_OK) {
            0 if libc::umask(0) == 0o22 => Ok(()),
            _ => Err(io::Error::from_raw_os_error(libc::EDOM)),
        });
    }
    assert!(command.status().unwrap().success());
}

#[test]
fn exec_replaces_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out");
    if let Some(path) = std::env::var_os("EXEC_OUT") {
        let error = Command::new("/nonexistent").exec();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let error = Command::new("sh")
            .args(["-c", "echo $A; pwd; ls /proc/self/fd | wc -l"])
            .env("A", "from exec")
            .current_dir("/")
            .stdout(std::fs::File::create(path).unwrap())
            .exec();
        panic!("{error}");
    }
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "handle::exec_replaces_the_process",
            "--nocapture",
        ])
        .env("EXEC_OUT", &path)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.starts_with("from exec\n/\n"), "{text}");
}

#[test]
fn nothing_is_left_of_failures() {
    alone(|| {
        assert!(Command::new("true").status().unwrap().success());
        let before = crate::common::fds();
        for _ in 0..100 {
            Command::new("/nonexistent").output().unwrap_err();
            Command::new("true")
                .current_dir("/nonexistent")
                .stdin(Stdio::piped())
                .spawn()
                .unwrap_err();
            // SAFETY: makes an error of a number.
            unsafe {
                let mut command = Command::new("true");
                command
                    .pre_exec(|| Err(io::Error::from_raw_os_error(1)))
                    .output()
                    .unwrap_err();
            }
        }
        assert_eq!(children(), []);
        assert_eq!(crate::common::fds(), before);
        assert_eq!(dumpable(), 1);
    });
}
