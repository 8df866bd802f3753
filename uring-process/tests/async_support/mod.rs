//! What the tests of futures share: executors of a few lines, and a look at /proc.
#![allow(dead_code, reason = "each test file uses a part of it")]

#[path = "../common/users.rs"]
pub(crate) mod users;

use std::{
    fs,
    pin::{Pin, pin},
    process::Command,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Wake, Waker},
    thread::Thread,
    time::{Duration, Instant},
};

/// Nothing here takes that long on a working system.
pub(crate) const BOUND: Duration = Duration::from_secs(40);

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future in this thread.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    let begun = Instant::now();
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        assert!(begun.elapsed() < BOUND, "the future hangs");
        std::thread::park_timeout(BOUND);
    }
}

/// Polls a future `count` times, each time when it was woken, then drops it; returns the output
/// where it is ready sooner.
pub(crate) fn poll_times<F: Future>(future: F, count: usize) -> Option<F::Output> {
    struct Woken(Mutex<bool>, Condvar);
    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            *self.0.lock().unwrap() = true;
            self.1.notify_one();
        }
    }
    let woken = Arc::new(Woken(Mutex::new(true), Condvar::new()));
    let waker = Waker::from(woken.clone());
    let mut future = pin!(future);
    for _ in 0..count {
        let guard = woken.0.lock().unwrap();
        let (mut guard, timeout) = woken
            .1
            .wait_timeout_while(guard, BOUND, |woken| !*woken)
            .unwrap();
        assert!(!timeout.timed_out(), "the future hangs");
        *guard = false;
        drop(guard);
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Some(output);
        }
    }
    None
}

/// Runs all futures in this thread, each polled only when it was woken itself.
pub(crate) fn join_all<F: Future + Unpin>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    #[derive(Default)]
    struct Ready(Mutex<Vec<usize>>, Condvar);
    struct One(Arc<Ready>, usize);
    impl Wake for One {
        fn wake(self: Arc<Self>) {
            self.0.0.lock().unwrap().push(self.1);
            self.0.1.notify_one();
        }
    }
    let ready = Arc::new(Ready::default());
    let mut tasks: Vec<(Option<F>, Waker, Option<F::Output>)> = futures
        .into_iter()
        .enumerate()
        .map(|(at, f)| (Some(f), Waker::from(Arc::new(One(ready.clone(), at))), None))
        .collect();
    let mut left = tasks.len();
    ready.0.lock().unwrap().extend(0..left);
    while left > 0 {
        let guard = ready.0.lock().unwrap();
        let (mut guard, timeout) = ready
            .1
            .wait_timeout_while(guard, BOUND, |list| list.is_empty())
            .unwrap();
        assert!(!timeout.timed_out(), "{left} futures hang");
        let list = std::mem::take(&mut *guard);
        drop(guard);
        for at in list {
            let (future, waker, output) = &mut tasks[at];
            let Some(running) = future else { continue };
            if let Poll::Ready(done) = Pin::new(running).poll(&mut Context::from_waker(waker)) {
                *future = None;
                *output = Some(done);
                left -= 1;
            }
        }
    }
    tasks.into_iter().map(|task| task.2.unwrap()).collect()
}

/// Tests that count descriptors and children of the whole process run one at a time.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Children of this process, running or not: PID and state.
pub(crate) fn children() -> Vec<(i32, char)> {
    let me = std::process::id().to_string();
    let stat = |entry: fs::DirEntry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        let mut fields = stat.rsplit_once(") ")?.1.split(' ');
        let (state, parent) = (fields.next()?, fields.next()?);
        (parent == me).then(|| (pid, state.chars().next().unwrap_or('?')))
    };
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(stat)
        .collect()
}

/// What this process has open, by number.
pub(crate) fn descriptors() -> Vec<(i32, String)> {
    let entry = |entry: fs::DirEntry| {
        let number = entry.file_name().to_str()?.parse().ok()?;
        let target = fs::read_link(entry.path()).ok()?;
        Some((number, target.display().to_string()))
    };
    let mut all: Vec<_> = fs::read_dir("/proc/self/fd")
        .unwrap()
        .flatten()
        .filter_map(entry)
        .filter(|(_, target)| !target.contains("/proc/"))
        .collect();
    all.sort();
    all
}

/// Threads of this process with the reactor's name.
pub(crate) fn reactors() -> usize {
    fs::read_dir("/proc/self/task")
        .unwrap()
        .flatten()
        .filter(|task| {
            fs::read_to_string(task.path().join("comm"))
                .is_ok_and(|comm| comm.trim() == "uring-process")
        })
        .count()
}

/// Waits until that is so.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(
            begun.elapsed() < BOUND,
            "{what}: not so; children {:?}, descriptors {:?}",
            children(),
            descriptors()
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until neither a child nor a descriptor is there that was not before.
pub(crate) fn nothing_is_left(before: &[(i32, String)]) {
    eventually("no child is left", || children().is_empty());
    eventually("no descriptor is left", || {
        descriptors().iter().all(|one| before.contains(one))
    });
}

/// As many descriptors as this process may have.
pub(crate) fn more_descriptors() {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the structure is ours.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
    }
}

/// Set in a process that runs the tests again.
const AGAIN: &str = "URING_PROCESS_TEST_AGAIN";

/// Runs this file's tests again with the library's switch set; nothing within such a run.
pub(crate) fn run_again(forced: &str) {
    if std::env::var_os(AGAIN).is_some() {
        return;
    }
    let _alone = alone();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--skip", "again_"])
        .env(AGAIN, "1")
        .env("URING_PROCESS_FORCE", forced)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{forced}:\n{text}\n{errors}");
    assert!(text.contains("test result: ok."), "{forced}:\n{text}");
    assert!(!text.contains(" 0 passed"), "{forced}:\n{text}");
}

/// One test a way to run.
#[macro_export]
macro_rules! run_again_by {
    ($($name:ident: $forced:literal,)*) => {
        $(#[test]
        fn $name() {
            async_support::run_again($forced);
        })*
    };
}
