//! What the tests share.
#![allow(dead_code)] // Each test file uses its own part.

use std::{
    env, fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use uring_process::Command;

/// Set in a subprocess that runs one test alone.
const ALONE: &str = "URING_PROCESS_TEST_ALONE";

/// Runs `body` in a process of its own, under the name of the test that calls it: for what
/// changes the whole process (limits, filters, standard streams, signal dispositions).
pub(crate) fn in_child(test: &str, body: impl FnOnce()) {
    if env::var_os(ALONE).is_some() {
        return body();
    }
    let output = process::Command::new(env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let ran = text.contains("1 passed");
    assert!(
        output.status.success() && ran,
        "{test} in a process of its own: {}\n{text}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    for line in text.lines().filter(|line| line.starts_with("SKIP: ")) {
        println!("{line}");
    }
}

/// Runs all tests of this file again, but those named `again_*`, with another executor.
pub(crate) fn again(force: &str) {
    let output = process::Command::new(env::current_exe().unwrap())
        .args(["--skip", "again_"])
        .env("URING_PROCESS_FORCE", force)
        .env_remove(ALONE)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "with {force}: {}\n{text}",
        output.status
    );
    assert!(
        !text.contains(" 0 passed"),
        "with {force}: no test ran\n{text}"
    );
}

/// Makes tests that run the file again with each executor.
macro_rules! again_with_all {
    () => {
        #[test]
        fn again_with_clone() {
            common::again("clone");
        }
        #[test]
        fn again_with_fork() {
            common::again("fork");
        }
        #[test]
        fn again_with_vfork() {
            common::again("vfork");
        }
        #[test]
        fn again_with_pipe() {
            common::again("pipe");
        }
    };
}
pub(crate) use again_with_all;

pub(crate) fn is_root() -> bool {
    // SAFETY: has no preconditions.
    unsafe { libc::geteuid() == 0 }
}

/// The executor that the environment asks for.
pub(crate) fn forced() -> String {
    env::var("URING_PROCESS_FORCE").unwrap_or_default()
}

/// A program that `sh` runs.
pub(crate) fn sh(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

/// Its standard output, which must be all it says.
pub(crate) fn says(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {} {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// A line of the child's /proc/self/status.
pub(crate) fn status_line(command: &mut Command, key: &str) -> String {
    let text = says(command);
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {key} in {text}"))
        .trim()
        .to_owned()
}

pub(crate) fn show_status() -> Command {
    let mut command = Command::new("cat");
    command.arg("/proc/self/status");
    command
}

pub(crate) fn write_file(dir: &TempDir, name: &str, text: &str, mode: u32) -> PathBuf {
    let path = dir.path().join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

/// Children of this process that are over and that nobody has waited for.
pub(crate) fn zombies() -> Vec<i32> {
    let me = process::id().to_string();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else {
            continue;
        };
        // pid (name) state ppid ...
        let Some((_, rest)) = stat.rsplit_once(") ") else {
            continue;
        };
        let mut words = rest.split(' ');
        if words.next() == Some("Z") && words.next() == Some(&me) {
            found.push(pid);
        }
    }
    found
}

/// Other tests of this process may have some for a moment.
pub(crate) fn no_zombie_stays() {
    eventually("no zombie is left", || zombies().is_empty());
}

pub(crate) fn open_fds() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count() - 1
}

pub(crate) fn threads() -> usize {
    fs::read_dir("/proc/self/task").unwrap().count()
}

/// Waits until it is so; panics after ten seconds.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(Instant::now() < until, "not within 10 s: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A cgroup of our own, removed at the end.
pub(crate) struct Cgroup(PathBuf);

impl Cgroup {
    /// `None`: version 2 is not mounted, or not ours to change; says so.
    pub(crate) fn new(name: &str) -> Option<Self> {
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        let root = mounts.lines().find_map(|line| {
            let mut words = line.split(' ');
            let (_, at, kind) = (words.next()?, words.next()?, words.next()?);
            (kind == "cgroup2").then(|| PathBuf::from(at))
        });
        let Some(root) = root else {
            println!("SKIP: cgroup v2 is not mounted");
            return None;
        };
        let dir = root.join(format!(
            "uring-process-{name}-{}-{}",
            process::id(),
            forced()
        ));
        match fs::create_dir(&dir) {
            Ok(()) => Some(Self(dir)),
            Err(error) => {
                println!("SKIP: cannot make a cgroup: {error}");
                None
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn open(&self) -> fs::File {
        fs::File::open(&self.0).unwrap()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // A process that has just ended may still count for a moment.
        for _ in 0..200 {
            match fs::remove_dir(&self.0) {
                Ok(()) => return,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return,
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }
}

/// A seccomp filter that answers these system calls by an errno, for `seccomp_filter` or for this
/// process.
pub(crate) fn refusing(calls: &[(libc::c_long, i32)]) -> Vec<uring_process::SockFilter> {
    use uring_process::SockFilter;
    let op = |code, jt, jf, k| SockFilter { code, jt, jf, k };
    // Load the number; compare with each; allow what is none of them.
    let mut filter = vec![op(0x20, 0, 0, 0)];
    for (number, errno) in calls {
        filter.push(op(0x15, 0, 1, *number as u32));
        filter.push(op(0x06, 0, 0, 0x0005_0000 | *errno as u32));
    }
    filter.push(op(0x06, 0, 0, 0x7fff_0000));
    filter
}

/// Confines this process, all its threads.
pub(crate) fn confine(filter: &[uring_process::SockFilter]) {
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_ptr().cast_mut().cast(),
    };
    // SAFETY: the filter is valid for the time of the calls; `SockFilter` has the layout of
    // `struct sock_filter`.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let flags = libc::SECCOMP_FILTER_FLAG_TSYNC;
        let mode = libc::SECCOMP_SET_MODE_FILTER;
        assert_eq!(
            libc::syscall(libc::SYS_seccomp, mode, flags, &raw const program),
            0
        );
    }
}
