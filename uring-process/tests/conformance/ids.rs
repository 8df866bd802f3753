//! User and group ids, as root.

use std::{io, os::fd::AsRawFd};

use uring_process::{Command, Error, FdPolicy, Stage};

use crate::{
    both,
    common::{alone, dumpable, errno, limit, refuse, root},
};

/// Nobody.
const ID: u32 = 65534;
const SHOW: &str = "grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Sig(Blk|Cgt))' /proc/self/status";

/// Does not say SKIP: it is a part of tests that go on without.
pub(crate) fn can_change() -> bool {
    crate::common::users::why_not().is_none()
}

#[test]
fn ids_are_stds_and_this_process_stays_dumpable() {
    if !root() {
        return;
    }
    alone(|| {
        // Groups to be dropped, or not.
        let mine = [4, 20, 24];
        // SAFETY: three ids.
        assert_eq!(unsafe { libc::setgroups(3, mine.as_ptr()) }, 0);
        let outcome = both!("sh", |c| c.args(["-c", SHOW]).uid(ID));
        assert!(outcome.text().contains("Groups:\t \n"), "{outcome:?}");
        let outcome = both!("sh", |c| c.args(["-c", SHOW]).gid(ID));
        assert!(outcome.text().contains("Groups:\t4 20 24"), "{outcome:?}");
        both!("sh", |c| c.args(["-c", SHOW]).uid(ID).gid(ID));
        both!("sh", |c| c.args(["-c", SHOW]).uid(0));
        both!("sh", |c| c.args(["-c", SHOW]).gid(0));
        both!("/nonexistent", |c| c.uid(ID));
        both!("nonexistent", |c| c.uid(ID));
        both!("true", |c| c.uid(ID).current_dir("/nonexistent"));
        both!("true", |c| c.uid(u32::MAX));
        both!("true", |c| c.gid(u32::MAX));
        both!("sh", |c| c
            .args(["-c", SHOW])
            .uid(ID)
            .gid(1)
            .current_dir("/")
            .arg0("x")
            .env("A", "b"));
        both!("sh", |c| c
            .args([
                "-c",
                "read p n s pp g r < /proc/$$/stat; test $p = $g && echo $A $PATH"
            ])
            .uid(ID)
            .process_group(0)
            .env("A", "b"));
        let same = Command::new("sh")
            .args(["-c", SHOW])
            .uid(ID)
            .groups(&[7, 9])
            .output()
            .unwrap();
        assert!(
            String::from_utf8_lossy(&same.stdout).contains("Groups:\t7 9"),
            "{same:?}"
        );
        let inherit = FdPolicy::InheritAll;
        assert!(
            Command::new("true")
                .uid(ID)
                .fd_policy(inherit)
                .status()
                .unwrap()
                .success()
        );
        // SAFETY: does nothing.
        unsafe {
            let mut command = Command::new("true");
            assert!(
                command
                    .uid(ID)
                    .pre_exec(|| Ok(()))
                    .status()
                    .unwrap()
                    .success()
            );
        }
        assert_eq!(dumpable(), 1);
    });
}

#[test]
fn groups_alone_need_no_launcher() {
    if !root() {
        return;
    }
    let output = Command::new("sh")
        .args(["-c", SHOW])
        .groups(&[1, 2, 3])
        .output()
        .unwrap();
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("Groups:\t1 2 3"),
        "{output:?}"
    );
    let none = Command::new("sh")
        .args(["-c", SHOW])
        .groups(&[])
        .output()
        .unwrap();
    assert!(
        String::from_utf8_lossy(&none.stdout).contains("Groups:\t \n"),
        "{none:?}"
    );
    assert_eq!(dumpable(), 1);
}

#[test]
fn descriptors_pass_the_launcher() {
    if !root() {
        return;
    }
    alone(|| {
        let (reader, writer) = io::pipe().unwrap();
        let open = std::fs::File::open("/proc/version").unwrap();
        // SAFETY: a flag of our own descriptor.
        unsafe { libc::fcntl(open.as_raw_fd(), libc::F_SETFD, 0) };
        let output = Command::new("ls")
            .arg("/proc/self/fd")
            .fd_map(7, writer)
            .uid(ID)
            .output()
            .unwrap();
        // The last is ls's own.
        assert_eq!(output.stdout, b"0\n1\n2\n3\n7\n");
        assert_eq!(io::read_to_string(reader).unwrap(), "");
        drop(open);
    });
}

#[test]
fn a_mask_and_a_filter_pass_the_launcher() {
    if !root() {
        return;
    }
    let output = Command::new("grep")
        .args([
            "-E",
            "^(Seccomp|SigBlk|NoNewPrivs|Uid):",
            "/proc/self/status",
        ])
        .uid(ID)
        .signal_mask(1 << 9)
        .no_new_privs()
        .seccomp_filter(&crate::common::filter(&[libc::SYS_mkdir], libc::EPERM))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    for line in [
        "Seccomp:\t2",
        "SigBlk:\t0000000000000200",
        "NoNewPrivs:\t1",
        "Uid:\t65534\t65534",
    ] {
        assert!(text.contains(line), "{text}");
    }
}

fn ids_without_the_launcher() {
    refuse(&[libc::SYS_memfd_create], libc::EPERM);
    both!("sh", |c| c
        .args(["-c", "grep -E '^(Uid|Gid|Groups):' /proc/self/status"])
        .uid(ID));
    both!("/nonexistent", |c| c.uid(ID));
    assert_eq!(dumpable(), 1);
}

#[test]
fn without_memory_files_ids_are_still_right() {
    if root() {
        alone(|| {
            assert_eq!(dumpable(), 1);
            ids_without_the_launcher();
        });
    }
}

#[test]
fn without_memory_files_any_more_ids_are_still_right() {
    if root() {
        alone(|| {
            assert!(Command::new("true").uid(ID).status().unwrap().success());
            ids_without_the_launcher();
        });
    }
}

#[test]
fn a_limit_of_processes_of_the_other_user() {
    if !root() {
        return;
    }
    alone(|| {
        // One that nobody else uses.
        let user = 100_000 + std::process::id();
        let mut one = Command::new("sleep").arg("60").uid(user).spawn().unwrap();
        limit(libc::RLIMIT_NPROC, 0);
        // exec(2) itself says so, after setuid(2).
        let error = Command::new("true").uid(user).spawn().unwrap_err();
        assert_eq!(errno(&error), Some(libc::EAGAIN));
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(Error::of(&error).unwrap().stage(), Some(Stage::Exec));
        both!("true", |c| c.uid(user));
        one.kill().unwrap();
        one.wait().unwrap();
        limit(libc::RLIMIT_NPROC, 1000);
        assert!(Command::new("true").uid(user).status().unwrap().success());
        assert_eq!(dumpable(), 1);
    });
}
