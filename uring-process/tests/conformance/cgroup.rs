//! Starting within a cgroup (version 2), as root.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use uring_process::{Command, Error, Stage};

use crate::common::{alone, errno, forced, only_clone3, refuse, root};

/// A cgroup of the test's own.
struct Group(PathBuf);

impl Group {
    /// None, after a SKIP, where there can be none.
    fn new(kind: &str, name: &str) -> Option<Self> {
        if !root() {
            return None;
        }
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        let Some(at) = mounts.lines().find_map(|line| {
            let mut words = line.split(' ').skip(1);
            let (at, found, options) = (words.next()?, words.next()?, words.next()?);
            let is = match kind {
                "cgroup2" => found == "cgroup2",
                controller => found == "cgroup" && options.split(',').any(|o| o == controller),
            };
            is.then_some(at)
        }) else {
            println!("SKIP: no {kind} is mounted");
            return None;
        };
        let path = Path::new(at).join(format!("uring-process-{name}-{}", std::process::id()));
        if let Err(error) = fs::create_dir(&path) {
            println!("SKIP: cannot make a cgroup at {}: {error}", path.display());
            return None;
        }
        Some(Self(path))
    }

    fn open(&self) -> File {
        File::open(&self.0).unwrap()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for _ in 0..500 {
            match fs::remove_dir(&self.0) {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
                _ => return,
            }
        }
        eprintln!("cannot remove {}", self.0.display());
    }
}

fn is_within(group: &Group) {
    let name = group.0.file_name().unwrap().to_str().unwrap();
    let output = Command::new("cat")
        .arg("/proc/self/cgroup")
        .cgroup(group.open())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find(|line| line.starts_with("0::")).unwrap();
    assert!(line.ends_with(name), "{text}");
}

#[test]
fn the_child_is_in_its_cgroup() {
    let Some(group) = Group::new("cgroup2", "in") else {
        return;
    };
    for _ in 0..20 {
        is_within(&group);
    }
    if !crate::common::root() {
        return;
    }
    let script =
        "grep -q uring-process /proc/self/cgroup && grep -q '^Uid:.65534' /proc/self/status";
    let mut command = Command::new("sh");
    command.args(["-c", script]).cgroup(group.open()).uid(65534);
    assert!(command.status().unwrap().success());
}

#[test]
fn started_within_and_left() {
    use std::os::fd::AsRawFd;
    let Some(group) = Group::new("cgroup2", "left") else {
        return;
    };
    let bystander = tempfile::tempfile().unwrap();
    for _ in 0..crate::common::times(200) {
        let mut command = Command::new("true");
        let starting = command.cgroup(group.open()).start().unwrap();
        let (pid, pidfd) = (
            starting.id() as i32,
            starting.pidfd().try_clone_to_owned().unwrap(),
        );
        drop((command, starting));
        let others: Vec<_> = (0..8).map(|_| bystander.try_clone().unwrap()).collect();
        let mut status = 0;
        // SAFETY: our own child; the status is ours.
        unsafe { libc::waitpid(pid, &raw mut status, 0) };
        assert_eq!(status, 0, "pidfd {}", pidfd.as_raw_fd());
        drop(others);
    }
    assert_eq!(
        bystander.metadata().unwrap().len(),
        0,
        "somebody wrote to a file of ours"
    );
}

#[test]
fn a_removed_cgroup_and_what_is_none() {
    let Some(group) = Group::new("cgroup2", "gone") else {
        return;
    };
    let dir = group.open();
    let mut command = Command::new("true");
    command.cgroup(dir);
    drop(group);
    let error = command.spawn().unwrap_err();
    let by_clone3 = !forced("clone") && !forced("fork");
    let stage = if by_clone3 {
        Stage::Clone
    } else {
        Stage::Cgroup
    };
    let found = Error::of(&error).unwrap();
    assert!(
        matches!(found.raw_os_error(), Some(libc::ENODEV | libc::ENOENT)),
        "{error}"
    );
    assert_eq!(found.stage(), Some(stage));
    let error = Command::new("true")
        .cgroup(File::open("/").unwrap())
        .spawn()
        .unwrap_err();
    let expected = if by_clone3 { libc::EBADF } else { libc::ENOENT };
    assert_eq!(errno(&error), Some(expected));
}

#[test]
fn a_refused_clone3_does_not_lose_the_cgroup() {
    if only_clone3() {
        return;
    }
    let Some(group) = Group::new("cgroup2", "refused") else {
        return;
    };
    drop(group);
    alone(|| {
        let Some(group) = Group::new("cgroup2", "refused") else {
            return;
        };
        refuse(&[libc::SYS_clone3], libc::ENOSYS);
        is_within(&group);
        is_within(&group);
        assert!(Command::new("true").status().unwrap().success());
    });
}

#[test]
fn a_forbidden_clone3_does_not_lose_the_cgroup() {
    if only_clone3() {
        return;
    }
    alone(|| {
        let Some(group) = Group::new("cgroup2", "forbidden") else {
            return;
        };
        refuse(&[libc::SYS_clone3], libc::EPERM);
        is_within(&group);
        assert!(Command::new("true").status().unwrap().success());
    });
}

#[test]
fn at_its_limit_of_processes_a_start_says_so() {
    let Some(group) = Group::new("pids", "max") else {
        return;
    };
    drop(group);
    alone(|| {
        let Some(group) = Group::new("pids", "max") else {
            return;
        };
        let home = fs::read_to_string("/proc/self/cgroup").unwrap();
        let home = home
            .lines()
            .find_map(|line| line.split_once(":pids:"))
            .unwrap()
            .1
            .to_owned();
        let root = group.0.parent().unwrap().to_owned();
        fs::write(group.0.join("cgroup.procs"), "0").unwrap();
        let threads = fs::read_dir("/proc/self/task").unwrap().count();
        fs::write(group.0.join("pids.max"), threads.to_string()).unwrap();
        assert!(std::process::Command::new("true").spawn().is_err());
        let before = crate::common::fds();
        for _ in 0..10 {
            let error = Command::new("true").output().unwrap_err();
            assert_eq!(errno(&error), Some(libc::EAGAIN));
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
            assert!(error.to_string().contains("pids.max"), "{error}");
        }
        assert_eq!(crate::common::fds(), before);
        fs::write(group.0.join("pids.max"), "max").unwrap();
        assert!(Command::new("true").status().unwrap().success());
        fs::write(
            root.join(home.trim_start_matches('/')).join("cgroup.procs"),
            "0",
        )
        .unwrap();
    });
}
