//! What a sandbox refuses: the next executor takes over, the behaviour is the same.

use std::io::ErrorKind;

use io_uring::IoUring;
use uring_process::{Command, ring::Spawner};

use crate::{
    both,
    common::{alone, children, dumpable, errno, fds, only_clone3, refuse},
};

/// std itself does not work everywhere.
fn works_as_ever(std_works: bool) {
    if std_works {
        both!("sh", |c| c.args(["-c", "echo out; echo err >&2; exit 3"]));
        both!("/nonexistent");
        both!("true", |c| c.current_dir("/nonexistent"));
    }
    let output = Command::new("sh")
        .args(["-c", "echo out; exit 3"])
        .output()
        .unwrap();
    assert_eq!(
        (output.status.code(), &output.stdout[..]),
        (Some(3), &b"out\n"[..])
    );
    let before = fds();
    for _ in 0..20 {
        assert!(Command::new("true").output().unwrap().status.success());
        assert_eq!(
            Command::new("/nonexistent").spawn().unwrap_err().kind(),
            ErrorKind::NotFound
        );
    }
    let mut ring = IoUring::new(8).unwrap();
    let mut spawner = Spawner::new(&ring, 1).unwrap();
    let plan = Command::new("true").capture_plan().unwrap();
    let lost = Command::new("/nonexistent").plan().unwrap();
    crate::ring::run(&mut ring, &mut spawner, &[&plan, &lost, &plan]);
    drop((ring, spawner, plan, lost));
    assert_eq!(children(), []);
    assert_eq!(fds(), before);
    if crate::ids::can_change() {
        let output = Command::new("id").arg("-u").uid(65534).output().unwrap();
        assert_eq!(output.stdout, b"65534\n");
        assert_eq!(dumpable(), 1);
    }
}

#[test]
fn clone3_is_not_there() {
    if only_clone3() {
        return;
    }
    alone(|| {
        refuse(&[libc::SYS_clone3], libc::ENOSYS);
        works_as_ever(true);
    });
}

#[test]
fn clone3_is_forbidden() {
    if only_clone3() {
        return;
    }
    alone(|| {
        refuse(&[libc::SYS_clone3], libc::EPERM);
        works_as_ever(false);
    });
}

#[test]
fn close_range_is_not_there() {
    alone(|| {
        refuse(&[libc::SYS_close_range], libc::ENOSYS);
        works_as_ever(true);
        let output = Command::new("ls").arg("/proc/self/fd").output().unwrap();
        assert_eq!(output.stdout, b"0\n1\n2\n3\n");
    });
}

#[test]
fn both_are_not_there() {
    if only_clone3() {
        return;
    }
    alone(|| {
        refuse(&[libc::SYS_clone3, libc::SYS_close_range], libc::ENOSYS);
        works_as_ever(true);
    });
}

#[test]
fn io_uring_is_forbidden() {
    alone(|| {
        refuse(&[libc::SYS_io_uring_setup], libc::EPERM);
        assert!(IoUring::new(8).is_err());
        both!("sh", |c| c.args(["-c", "echo out; exit 3"]));
        both!("/nonexistent");
        assert!(Command::new("true").status().unwrap().success());
    });
}

#[test]
fn pidfd_open_is_forbidden() {
    alone(|| {
        refuse(&[libc::SYS_pidfd_open], libc::EPERM);
        // This thread may keep a ring from its first start on.
        let _ = Command::new("true").status();
        let before = fds();
        // Only fork(2) needs it.
        match Command::new("true").status() {
            Ok(status) => assert!(status.success()),
            Err(error) => assert_eq!(errno(&error), Some(libc::EPERM)),
        }
        assert_eq!(children(), []);
        assert_eq!(fds(), before);
    });
}
