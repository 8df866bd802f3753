//! What a child is besides its program, on every executor. Ids take root.

mod common;

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    os::unix::process::CommandExt,
    process as std_process,
};

use common::{again_with_all, is_root, refusing, says, sh, show_status, status_line};
use tempfile::TempDir;
use uring_process::{Command, Error, FdPolicy, Stage};

again_with_all!();

fn dumpable() -> i32 {
    // SAFETY: takes no further argument.
    unsafe { libc::prctl(libc::PR_GET_DUMPABLE) }
}

#[test]
fn ids_change_in_the_child_and_nowhere_else() {
    if !is_root() {
        println!("SKIP: changing ids needs root");
        return;
    }
    for policy in [FdPolicy::Mapped, FdPolicy::InheritAll] {
        let of = |command: &mut Command| says(command.fd_policy(policy));
        assert_eq!(
            of(Command::new("id").uid(12345).gid(23456)),
            "uid=12345 gid=23456 groups=23456\n"
        );
        assert_eq!(
            of(Command::new("id").uid(12345).gid(23456).groups(&[111, 222])),
            "uid=12345 gid=23456 groups=23456,111,222\n"
        );
        let groups = says(sh("id -G").gid(23456).fd_policy(policy));
        assert_eq!(groups.split_whitespace().next(), Some("23456"));
        // All three of each kind.
        let mut status = show_status();
        status.uid(12345).gid(23456).fd_policy(policy);
        assert_eq!(
            status_line(&mut status, "Uid"),
            "12345\t12345\t12345\t12345"
        );
        let ids = status_line(status.setsid(true), "Gid");
        assert_eq!(ids, "23456\t23456\t23456\t23456");
    }
    assert_eq!(dumpable(), 1, "the launcher is there for this");
    // To what they are already.
    assert_eq!(says(sh("id -u").uid(0).gid(0)), "0\n");
    assert_eq!(dumpable(), 1);
}

#[test]
fn supplementary_groups_are_dropped_as_std_does() {
    if !is_root() {
        println!("SKIP: changing ids needs root");
        return;
    }
    let mut std = std_process::Command::new("cat");
    let output = std.arg("/proc/self/status").uid(12345).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let std = text
        .lines()
        .find_map(|line| line.strip_prefix("Groups:"))
        .unwrap()
        .trim();
    assert_eq!(status_line(show_status().uid(12345), "Groups"), std);
}

#[test]
fn a_program_that_the_new_ids_may_not_run_is_not_run() {
    if !is_root() {
        println!("SKIP: changing ids needs root");
        return;
    }
    let dir = TempDir::new().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let path = common::write_file(&dir, "tool", "#!/bin/sh\necho ran\n", 0o755);
    assert_eq!(says(&mut Command::new(&path)), "ran\n");
    let error = Command::new(&path).uid(12345).spawn().unwrap_err();
    let error = Error::of(&error).unwrap();
    assert_eq!(
        (error.stage(), error.raw_os_error()),
        (Some(Stage::Exec), Some(libc::EACCES))
    );
    // With the new ids, as std does it.
    let error = Command::new("true")
        .uid(12345)
        .current_dir(dir.path())
        .spawn()
        .unwrap_err();
    let error = Error::of(&error).unwrap();
    assert_eq!(error.stage(), Some(Stage::CurrentDir));
    common::no_zombie_stays();
}

#[test]
fn ids_that_may_not_be_taken_are_an_error() {
    common::in_child("ids_that_may_not_be_taken_are_an_error", || {
        if is_root() {
            // SAFETY: this process is the test's own; root must not come back.
            unsafe { assert_eq!(libc::setresuid(12345, 12345, 12345), 0) };
        }
        let error = Command::new("true").uid(1).spawn().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
        assert_eq!(Error::of(&error).unwrap().stage(), Some(Stage::Uid));
        // SAFETY: has no preconditions.
        let own = unsafe { libc::getuid() };
        assert_eq!(says(sh("id -u").uid(own)), format!("{own}\n"));
    });
}

#[test]
fn roots_and_directories() {
    assert_eq!(says(Command::new("pwd").current_dir("/usr")), "/usr\n");
    if !is_root() {
        println!("SKIP: chroot needs root");
        return;
    }
    // What is within: a static program does not come with the tests, so the proof is the error.
    let dir = TempDir::new().unwrap();
    let error = Command::new("/bin/sh")
        .chroot(dir.path())
        .spawn()
        .unwrap_err();
    let error = Error::of(&error).unwrap();
    assert_eq!(
        (error.stage(), error.raw_os_error()),
        (Some(Stage::Exec), Some(libc::ENOENT))
    );
    assert_eq!(
        says(Command::new("pwd").chroot("/")),
        "/\n",
        "the directory follows"
    );
    assert_eq!(
        says(Command::new("pwd").current_dir("/usr").chroot("/")),
        "/usr\n"
    );
    let error = Command::new("true")
        .chroot("/nonexistent")
        .spawn()
        .unwrap_err();
    assert_eq!(Error::of(&error).unwrap().stage(), Some(Stage::Chroot));
}

#[test]
fn sessions_and_groups() {
    let stat = |command: &mut Command| {
        let text = says(command.arg("/proc/self/stat"));
        let words: Vec<i32> = text
            .rsplit_once(") ")
            .unwrap()
            .1
            .split(' ')
            .skip(1)
            .take(3)
            .map(|word| word.parse().unwrap())
            .collect();
        let pid: i32 = text.split(' ').next().unwrap().parse().unwrap();
        (pid, words[1], words[2])
    };
    // SAFETY: have no preconditions.
    let (own_group, own_session) = unsafe { (libc::getpgrp(), libc::getsid(0)) };
    let (_, group, session) = stat(&mut Command::new("cat"));
    assert_eq!((group, session), (own_group, own_session));
    let (pid, group, session) = stat(Command::new("cat").process_group(0));
    assert_eq!((group, session), (pid, own_session));
    let (pid, group, session) = stat(Command::new("cat").setsid(true));
    assert_eq!((group, session), (pid, pid));
    let mut leader = Command::new("sleep")
        .arg("60")
        .process_group(0)
        .spawn()
        .unwrap();
    let (_, group, _) = stat(Command::new("cat").process_group(leader.id() as i32));
    assert_eq!(group, leader.id() as i32);
    leader.kill().unwrap();
    leader.wait().unwrap();
    let error = Command::new("true")
        .process_group(i32::MAX)
        .spawn()
        .unwrap_err();
    assert_eq!(
        Error::of(&error).unwrap().stage(),
        Some(Stage::ProcessGroup)
    );
}

#[test]
fn limits_niceness_and_umask() {
    let resource = libc::RLIMIT_NOFILE as u32;
    assert_eq!(
        says(sh("ulimit -Sn; ulimit -Hn").rlimit(resource, 50, 60)),
        "50\n60\n"
    );
    let error = Command::new("true")
        .rlimit(resource, 60, 50)
        .spawn()
        .unwrap_err();
    let error = Error::of(&error).unwrap();
    assert_eq!(
        (error.stage(), error.raw_os_error()),
        (Some(Stage::Limits), Some(libc::EINVAL))
    );

    // SAFETY: have no pointers.
    let own = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
    let higher = (own + 3).min(19);
    assert_eq!(
        says(Command::new("nice").nice(higher)),
        format!("{higher}\n")
    );
    assert_eq!(says(sh("umask").umask(0o027)), "0027\n");
    // SAFETY: as above.
    assert_eq!(
        unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) },
        own,
        "the child's alone"
    );
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, "").unwrap();
    assert_eq!(
        fs::metadata(&path).unwrap().mode() & 0o077,
        0o044,
        "the child's alone"
    );
}

#[test]
fn confinement_is_the_childs() {
    assert_eq!(status_line(&mut show_status(), "NoNewPrivs"), "0");
    assert_eq!(status_line(show_status().no_new_privs(), "NoNewPrivs"), "1");
    let filter = refusing(&[(libc::SYS_uname, libc::EXDEV)]);
    let mut uname = Command::new("uname");
    let output = uname
        .no_new_privs()
        .seccomp_filter(&filter)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && text.contains("cross-device"),
        "{text}"
    );
    assert!(
        Command::new("uname").status().unwrap().success(),
        "the child's alone"
    );
    let mut empty = Command::new("true");
    let error = empty
        .no_new_privs()
        .seccomp_filter(&[])
        .spawn()
        .unwrap_err();
    let error = Error::of(&error).unwrap();
    assert_eq!(
        (error.stage(), error.raw_os_error()),
        (Some(Stage::Confine), Some(libc::EINVAL))
    );
    if is_root() {
        let output = uname.uid(12345).output().unwrap();
        assert!(!output.status.success(), "with the launcher too");
        assert_eq!(dumpable(), 1);
    }
}

#[test]
fn cgroups_are_entered_before_the_first_instruction() {
    let Some(cgroup) = common::Cgroup::new("attributes") else {
        return;
    };
    let name = cgroup
        .path()
        .file_name()
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned();
    let text = says(sh("cat /proc/self/cgroup").cgroup(cgroup.open()));
    assert!(
        text.lines().any(|line| line.ends_with(&format!("/{name}"))),
        "{text}"
    );
    if is_root() {
        let text = says(sh("cat /proc/self/cgroup").cgroup(cgroup.open()).uid(12345));
        assert!(
            text.lines().any(|line| line.ends_with(&format!("/{name}"))),
            "{text}"
        );
    }
    let error = Command::new("true")
        .cgroup(fs::File::open("/").unwrap())
        .spawn()
        .unwrap_err();
    assert!(
        matches!(
            Error::of(&error).unwrap().stage(),
            Some(Stage::Clone | Stage::Cgroup)
        ),
        "{error}"
    );
}

#[test]
fn a_removed_cgroup_is_an_error() {
    let Some(cgroup) = common::Cgroup::new("removed") else {
        return;
    };
    let open = cgroup.open();
    fs::remove_dir(cgroup.path()).unwrap();
    let error = Command::new("true").cgroup(open).spawn().unwrap_err();
    let stage = Error::of(&error).unwrap().stage();
    assert!(
        matches!(stage, Some(Stage::Clone | Stage::Cgroup)),
        "{error}"
    );
    common::no_zombie_stays();
}
