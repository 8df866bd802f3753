//! What the tests share: tests in a process of their own, and what a process looks like.

#![allow(dead_code, reason = "each test binary uses a part")]

pub(crate) mod users;

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::process::CommandExt,
    process::{Command, ExitStatus, Output},
    time::{Duration, Instant},
};

/// The name of the test that this process was started for.
const ALONE: &str = "URING_PROCESS_TEST_ALONE";
/// The exit status that says: the test ran, to its end.
const RAN: i32 = 42;

/// Runs the body in a process of its own, where it may change what belongs to a whole process.
///
/// The name of the test is that of the function in which `body` is written.
pub(crate) fn alone<F: FnOnce()>(body: F) {
    let path = std::any::type_name::<F>();
    let name = path.split_once("::").map_or(path, |(_, rest)| rest);
    let name = name.trim_end_matches("::{{closure}}");
    if std::env::var(ALONE).is_ok_and(|wanted| wanted == name) {
        body();
        std::process::exit(RAN);
    }
    let (code, text) = run_self(&["--exact", name, "--nocapture", "--test-threads=1"], |c| {
        c.env(ALONE, name);
    });
    assert_eq!(code, Some(RAN), "{name} in a process of its own:\n{text}");
    for line in text.lines().filter(|line| line.starts_with("SKIP: ")) {
        println!("{line}");
    }
}

/// Runs all tests of this binary again by this executor.
pub(crate) fn again(force: &str) {
    let (code, text) = run_self(&["--skip", "forced_", "--test-threads=2"], |c| {
        c.env("URING_PROCESS_FORCE", force);
    });
    assert_eq!(code, Some(0), "with URING_PROCESS_FORCE={force}:\n{text}");
}

/// Whether this run is one of [`again`] with this word.
pub(crate) fn forced(word: &str) -> bool {
    std::env::var("URING_PROCESS_FORCE").is_ok_and(|force| force.split(',').any(|w| w == word))
}

/// Whether processes are made by the kernel's own operation, where that can do it.
pub(crate) fn by_operation() -> bool {
    use uring_sys_ext::discovery::{self, Candidates};
    let others = ["clone3", "clone", "fork", "vfork", "pipe"];
    !others.iter().any(|word| forced(word))
        && discovery::get(&Candidates::default()).is_ok_and(|found| found.process.is_some())
}

/// Says SKIP where the tests are run by nothing but clone3, for those that refuse it.
pub(crate) fn only_clone3() -> bool {
    let only = forced("clone3");
    if only {
        println!("SKIP: clone3 is what is forced here, so it cannot be refused");
    }
    only
}

/// Whether no executor is forced.
pub(crate) fn plain() -> bool {
    std::env::var_os("URING_PROCESS_FORCE").is_none()
}

/// How often: often in the plain run, less in those for each executor.
pub(crate) fn times(often: usize) -> usize {
    match std::env::var_os("URING_PROCESS_FORCE") {
        None => often,
        Some(_) => often.div_ceil(5),
    }
}

fn run_self(args: &[&str], change: impl FnOnce(&mut Command)) -> (Option<i32>, String) {
    let file = tempfile::NamedTempFile::new().unwrap();
    // Both at its end: neither writes over the other.
    let end = || fs::File::options().append(true).open(file.path()).unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(args)
        .stdin(std::process::Stdio::null())
        .stdout(end())
        .stderr(end())
        .process_group(0);
    change(&mut command);
    let mut child = command.spawn().unwrap();
    // Long enough for a kernel that watches itself, on an emulated machine.
    let end = Instant::now() + Duration::from_secs(240);
    let code = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status.code();
        }
        if Instant::now() > end {
            // SAFETY: integers only; the group is the child's, which has not been waited for.
            unsafe { libc::kill(-(child.id() as i32), libc::SIGKILL) };
            child.wait().unwrap();
            break None;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let text = fs::read(file.path()).unwrap();
    (code, String::from_utf8_lossy(&text).into_owned())
}

/// What became of a command, in a form that is the same for std's and ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Ran(ExitStatus, String, String),
    Failed(io::ErrorKind, Option<i32>),
}

impl Outcome {
    pub(crate) fn of(result: io::Result<Output>) -> Self {
        match result {
            Ok(output) => Self::Ran(
                output.status,
                String::from_utf8_lossy(&output.stdout).into_owned(),
                String::from_utf8_lossy(&output.stderr).into_owned(),
            ),
            Err(error) => Self::Failed(error.kind(), errno(&error)),
        }
    }

    /// What it wrote to standard output.
    #[track_caller]
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Ran(_, text, _) => text,
            Self::Failed(..) => panic!("{self:?}"),
        }
    }
}

/// The errno, whoever's error it is.
pub(crate) fn errno(error: &io::Error) -> Option<i32> {
    match uring_process::Error::of(error) {
        Some(error) => error.raw_os_error(),
        None => error.raw_os_error(),
    }
}

/// Gives std and us the same command; both must do the same, which is returned.
#[macro_export]
macro_rules! both {
    ($program:expr) => {
        $crate::both!($program, |_c| ())
    };
    ($program:expr, |$c:ident| $change:expr) => {{
        let theirs = {
            #[allow(unused_imports)]
            use std::{
                os::unix::process::CommandExt as _,
                process::{Command, Stdio},
            };
            let mut command = Command::new($program);
            let $c = &mut command;
            let _ = $change;
            $crate::common::Outcome::of(command.output())
        };
        let ours = {
            #[allow(unused_imports)]
            use uring_process::{Command, Stdio};
            let mut command = Command::new($program);
            let $c = &mut command;
            let _ = $change;
            $crate::common::Outcome::of(command.output())
        };
        assert_eq!(ours, theirs, "ours, and std's");
        ours
    }};
}

/// This process's descriptors and what they are.
pub(crate) fn fds() -> BTreeMap<i32, String> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir("/proc/self/fd").unwrap().flatten() {
        let Ok(to) = fs::read_link(entry.path()) else {
            continue; // The one of this listing.
        };
        let number = entry.file_name().to_string_lossy().parse().unwrap();
        found.insert(number, to.to_string_lossy().into_owned());
    }
    found.retain(|_, to| !to.ends_with("/fd"));
    found
}

/// PIDs and states of this process's children.
pub(crate) fn children() -> Vec<(i32, char)> {
    let own = std::process::id().to_string();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse() else {
            continue;
        };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else {
            continue;
        };
        let mut rest = stat.rsplit_once(") ").unwrap().1.split(' ');
        let state = rest.next().unwrap().chars().next().unwrap();
        if rest.next() == Some(own.as_str()) {
            found.push((pid, state));
        }
    }
    found
}

/// A field of /proc/self/status.
pub(crate) fn status_field(name: &str) -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_once(':').unwrap().1.trim().to_owned()
}

/// Resident memory in KiB.
pub(crate) fn rss() -> u64 {
    let field = status_field("VmRSS");
    field.split(' ').next().unwrap().parse().unwrap()
}

/// Descriptors that whoever started the tests left open go no further: std's children would have them.
pub(crate) fn pass_on_nothing() {
    let flags = libc::CLOSE_RANGE_CLOEXEC;
    // SAFETY: integers only.
    unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, flags) };
}

/// A number that prctl(2) gives for this process.
pub(crate) fn dumpable() -> i32 {
    // SAFETY: integers only.
    unsafe { libc::prctl(libc::PR_GET_DUMPABLE) }
}

pub(crate) use users::can_change as root;

/// Waits until something is so, for at most ten seconds.
#[track_caller]
pub(crate) fn until(what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !so() {
        assert!(Instant::now() < end, "never so: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Sets the soft limit of a resource of this process.
pub(crate) fn limit(resource: u32, soft: u64) {
    let mut now = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the structure is ours.
    unsafe {
        assert_eq!(libc::getrlimit(resource, &raw mut now), 0);
        now.rlim_cur = soft;
        assert_eq!(libc::setrlimit(resource, &raw const now), 0);
    }
}

/// An instruction without a jump, and the filter that refuses some system calls.
pub(crate) fn filter(refused: &[libc::c_long], errno: i32) -> Vec<uring_process::SockFilter> {
    let plain = |code, k| uring_process::SockFilter {
        code,
        jt: 0,
        jf: 0,
        k,
    };
    // BPF_LD | BPF_W | BPF_ABS of the number; BPF_JMP | BPF_JEQ | BPF_K; BPF_RET | BPF_K.
    let mut code = vec![plain(0x20, 0)];
    for number in refused {
        code.push(uring_process::SockFilter {
            code: 0x15,
            jt: 0,
            jf: 1,
            k: *number as u32,
        });
        code.push(plain(0x06, libc::SECCOMP_RET_ERRNO | errno as u32));
    }
    code.push(plain(0x06, libc::SECCOMP_RET_ALLOW));
    code
}

/// From here on these system calls fail so in this process, for good.
pub(crate) fn refuse(refused: &[libc::c_long], errno: i32) {
    let code = filter(refused, errno);
    let program = libc::sock_fprog {
        len: code.len() as u16,
        filter: code.as_ptr().cast_mut().cast(),
    };
    // SAFETY: the program lives for the time of the call; the instructions have the kernel's form.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let (mode, flags) = (
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_TSYNC,
        );
        let done = libc::syscall(libc::SYS_seccomp, mode, flags, &raw const program);
        assert_eq!(done, 0, "{}", io::Error::last_os_error());
    }
}

/// A SIGCHLD that came while another thread, making a child, had it blocked interrupts the wait of
/// a ring: then it goes round once more.
pub(crate) fn unless_interrupted(waited: std::io::Result<usize>) {
    match waited {
        Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
        other => drop(other.unwrap()),
    }
}
