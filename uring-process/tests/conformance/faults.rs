//! What fails in this process: limits, and nothing is left of it.

use std::io::ErrorKind;

use io_uring::IoUring;
use uring_process::{Command, Error, Stage, ring::Spawner};

use crate::common::{alone, children, errno, fds, limit, root};

/// The next free descriptor of this process.
fn next() -> u64 {
    // SAFETY: makes a descriptor and closes it.
    unsafe {
        let fd = libc::dup(1);
        assert!(fd >= 0);
        libc::close(fd);
        fd as u64
    }
}

#[test]
fn without_descriptors_each_step_fails_cleanly() {
    alone(|| {
        let mut ids = Command::new("true");
        let by_launcher = crate::ids::can_change();
        if by_launcher {
            ids.uid(65534);
        }
        let pre_exec = |command: &mut Command| {
            // SAFETY: does nothing.
            unsafe { command.pre_exec(|| Ok(())) };
        };
        let commands: [&dyn Fn() -> Command; 4] = [
            &|| Command::new("true"),
            &|| {
                let mut command = Command::new("true");
                pre_exec(&mut command);
                command
            },
            &|| {
                let mut command = Command::new("true");
                if by_launcher {
                    command.uid(65534);
                }
                command
            },
            &|| {
                let mut command = Command::new("true");
                command.umask(0);
                command
            },
        ];
        assert!(ids.status().unwrap().success());
        assert!(Command::new("true").output().unwrap().status.success());
        let (used, before) = (next(), fds());
        for (at, command) in commands.iter().enumerate() {
            let mut worked = false;
            for room in 0..14 {
                limit(libc::RLIMIT_NOFILE, used + room);
                let result = command().output();
                limit(libc::RLIMIT_NOFILE, 1024);
                match result {
                    Ok(output) => {
                        assert!(output.status.success(), "{output:?}");
                        worked = true;
                    }
                    Err(error) => {
                        assert!(
                            !worked,
                            "command {at} worked with less than {room}: {error}"
                        );
                        assert_eq!(errno(&error), Some(libc::EMFILE), "room {room}: {error}");
                        assert!(Error::of(&error).unwrap().stage().is_some());
                    }
                }
                assert_eq!(children(), []);
            }
            assert!(worked);
        }
        assert!(Command::new("true").status().unwrap().success());
        assert_eq!(fds(), before);
    });
}

#[test]
fn without_descriptors_the_ring_goes_on() {
    alone(|| {
        let mut ring = IoUring::new(8).unwrap();
        let mut spawner = Spawner::new(&ring, 1).unwrap();
        let plan = Command::new("true").capture_plan().unwrap();
        crate::ring::run(&mut ring, &mut spawner, &[&plan, &plan]);
        let (used, before) = (next(), fds());
        for room in 0..12 {
            limit(libc::RLIMIT_NOFILE, used + room);
            let result = spawner.submit(&plan);
            limit(libc::RLIMIT_NOFILE, 1024);
            match result {
                Ok(_) => crate::ring::finish(&mut ring, &mut spawner),
                Err(error) => {
                    assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
                    assert_eq!(fds(), before, "held after a failure with room for {room}");
                }
            }
        }
        assert_eq!(fds(), before);
        assert_eq!(children(), []);
    });
}

#[test]
fn at_the_limit_of_processes_of_a_user() {
    if !root() {
        return;
    }
    alone(|| {
        // One that nobody else uses.
        let user = 200_000 + std::process::id();
        limit(libc::RLIMIT_NPROC, 1);
        // SAFETY: this process becomes another user, for good.
        unsafe {
            assert_eq!(libc::setgroups(0, std::ptr::null()), 0);
            assert_eq!(libc::setgid(user), 0);
            assert_eq!(libc::setuid(user), 0);
        }
        let before = fds();
        for _ in 0..20 {
            let error = Command::new("true").output().unwrap_err();
            assert_eq!(
                (error.kind(), errno(&error)),
                (ErrorKind::WouldBlock, Some(libc::EAGAIN))
            );
            assert_eq!(Error::of(&error).unwrap().stage(), Some(Stage::Clone));
            let std = std::process::Command::new("true").output().unwrap_err();
            assert_eq!(std.kind(), error.kind());
        }
        assert_eq!(fds(), before);
        limit(libc::RLIMIT_NPROC, 100);
        assert!(Command::new("true").status().unwrap().success());
        // Without the right to, the ids do not change, as with std.
        let error = Command::new("true").uid(0).spawn().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert!(Command::new("true").uid(user).status().unwrap().success());
        let error = Command::new("true").groups(&[0]).spawn().unwrap_err();
        assert_eq!(Error::of(&error).unwrap().stage(), Some(Stage::Groups));
    });
}

#[test]
fn without_memory_for_a_stack() {
    alone(|| {
        limit(libc::RLIMIT_AS, 1 << 20);
        let result = Command::new("true").spawn();
        limit(libc::RLIMIT_AS, libc::RLIM_INFINITY);
        match result {
            // Fork needs none, and the stack of an earlier child is used again.
            Ok(mut child) => drop(child.wait().unwrap()),
            Err(error) => assert_eq!(errno(&error), Some(libc::ENOMEM), "{error}"),
        }
        assert!(Command::new("true").status().unwrap().success());
        assert_eq!(children(), []);
    });
}
