//! Programs that need more of something than there may be.

use std::{
    ffi::CString,
    fs,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{THROUGHPUT, load, no_fault::NoFault, pid_ns::PidNs};
use crate::{
    Error, Result,
    network::{Scenario, Stage, Values, host::HostValues, rest_of_second, rounds_per_second},
    processor::on_processor,
    programs,
};

const TUNER: &str = "proc-limits";

/// A tree of directories, and how many of them inotify could watch.
pub(super) struct Tree {
    pub(super) root: tempfile::TempDir,
    paths: Vec<CString>,
}

impl Tree {
    pub(super) fn new(directories: usize) -> Result<Tree> {
        let root = tempfile::tempdir().map_err(Error::doing("cannot make a directory"))?;
        let mut paths = Vec::new();
        for at in 0..directories {
            let path = root.path().join(format!("{}/{at}", at / 100));
            fs::create_dir_all(&path).map_err(Error::doing("cannot make a directory"))?;
            let text = path.into_os_string().into_encoded_bytes();
            paths.push(CString::new(text).expect("a path has no NUL"));
        }
        Ok(Tree { root, paths })
    }

    /// As an editor or a build server does: one instance, a watch a directory, then a thread for what it found. The
    /// instance, and how many there are.
    pub(super) fn watch(&self) -> Result<(OwnedFd, usize)> {
        // SAFETY: inotify_init1(2) takes a number and gives a descriptor.
        let fd = unsafe { libc::inotify_init1(libc::IN_CLOEXEC) };
        if fd < 0 {
            return Err(Error::doing("inotify_init1(2)")(
                std::io::Error::last_os_error(),
            ));
        }
        // SAFETY: the kernel just gave it to us.
        let instance = unsafe { OwnedFd::from_raw_fd(fd) };
        let watched = |path: &&CString| {
            // SAFETY: an open descriptor and a string that ends with NUL.
            unsafe {
                libc::inotify_add_watch(instance.as_raw_fd(), path.as_ptr(), libc::IN_CREATE) >= 0
            }
        };
        let count = self.paths.iter().filter(watched).count();
        let _ = std::thread::spawn(|| {}).join();
        Ok((instance, count))
    }
}

/// 12,000 directories are to be watched, 8,192 watches there may be: the limit before Linux 5.11.
pub(super) struct Watches;

impl Scenario for Watches {
    fn tuner(&self) -> &'static str {
        TUNER
    }
    fn name(&self) -> &'static str {
        "12,000 directories watched"
    }
    fn metric(&self) -> (&'static str, &'static str) {
        ("directories watched", "%")
    }
    fn by_hand(&self) -> Values {
        &[("fs.inotify.max_user_watches", "524288")]
    }
    fn tuned(&self) -> (&'static str, Values) {
        THROUGHPUT
    }
    fn turns(&self) -> usize {
        5
    }
    fn host_wide(&self) -> bool {
        true
    }
    fn stage(&self) -> Result<Box<dyn Stage>> {
        let mut host = HostValues::default();
        host.set("fs.inotify.max_user_watches", "8192")?;
        Ok(Box::new(Watched {
            tree: Tree::new(12_000)?,
            _host: host,
        }))
    }
}

struct Watched {
    tree: Tree,
    _host: HostValues,
}

impl Stage for Watched {
    /// It comes and goes each second.
    fn turn(&mut self) -> Result<f64> {
        let start = Instant::now();
        let (_, watched) = self.tree.watch()?;
        rest_of_second(start);
        Ok(watched as f64 * 100.0 / self.tree.paths.len() as f64)
    }
}

/// An AIO context of so many requests, as databases make them.
pub(super) struct Context(libc::c_ulong);

impl Context {
    pub(super) fn new(requests: u32) -> Option<Context> {
        let mut context: libc::c_ulong = 0;
        // SAFETY: io_setup(2) writes one word, to `context`.
        let failed = unsafe { libc::syscall(libc::SYS_io_setup, requests, &raw mut context) };
        (failed == 0).then_some(Context(context))
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: io_destroy(2) of a context that io_setup(2) gave.
        unsafe { libc::syscall(libc::SYS_io_destroy, self.0) };
    }
}

/// Ten workers with 10,000 asynchronous requests each; the kernel counts double, and has room for 65,536.
pub(super) struct Aio;

impl Scenario for Aio {
    fn tuner(&self) -> &'static str {
        TUNER
    }
    fn name(&self) -> &'static str {
        "10 database workers with AIO"
    }
    fn metric(&self) -> (&'static str, &'static str) {
        ("workers that got their AIO context", "%")
    }
    fn by_hand(&self) -> Values {
        &[("fs.aio-max-nr", "1048576")]
    }
    fn tuned(&self) -> (&'static str, Values) {
        THROUGHPUT
    }
    fn turns(&self) -> usize {
        5
    }
    fn host_wide(&self) -> bool {
        true
    }
    fn stage(&self) -> Result<Box<dyn Stage>> {
        let mut host = HostValues::default();
        host.set("fs.aio-max-nr", "65536")?;
        Ok(Box::new(Workers { _host: host }))
    }
}

struct Workers {
    _host: HostValues,
}

impl Stage for Workers {
    fn turn(&mut self) -> Result<f64> {
        let start = Instant::now();
        let all_tried = std::sync::Barrier::new(10);
        let worker = || {
            let context = Context::new(10_000);
            all_tried.wait();
            // They work side by side for a while; whoever got none gives up.
            if context.is_some() {
                std::thread::sleep(Duration::from_millis(200));
            }
            context.is_some()
        };
        let got = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..10).map(|_| scope.spawn(worker)).collect();
            let got = workers
                .into_iter()
                .map(|worker| worker.join().unwrap_or(false));
            got.filter(|got| *got).count()
        });
        rest_of_second(start);
        Ok(got as f64 * 10.0)
    }
}

/// A place with a limit on tasks, and what is run in it each turn.
struct Crowded {
    place: PidNs,
    words: [&'static str; 2],
    /// What the load's figure becomes.
    judge: fn(f64) -> f64,
}

impl Crowded {
    fn stage(
        pid_max: u32,
        words: [&'static str; 2],
        judge: fn(f64) -> f64,
    ) -> Result<Box<dyn Stage>> {
        let place = PidNs::new(pid_max, &load::program()?)?;
        Ok(Box::new(Crowded {
            place,
            words,
            judge,
        }))
    }
}

impl Stage for Crowded {
    fn set(&mut self, _: &str, value: &str) -> Result<bool> {
        let value = value
            .parse()
            .map_err(|_| Error::other("no number", value))?;
        self.place.write(value).map(|()| true)
    }
    fn launcher(&self, program: &Path) -> Result<Option<PathBuf>> {
        self.place.launcher(program).map(Some)
    }
    fn turn(&mut self) -> Result<f64> {
        let start = Instant::now();
        let mut command = self.place.command(&load::program()?);
        let figure = programs::figure(command.args(self.words))?;
        rest_of_second(start);
        Ok((self.judge)(figure))
    }
}

const STARTED: (&str, &str) = ("threads that could be started", "%");

/// A server with 6,000 threads where there may be 4,000 tasks.
pub(super) struct Threads;

impl Scenario for Threads {
    fn tuner(&self) -> &'static str {
        TUNER
    }
    fn name(&self) -> &'static str {
        "6,000 threads"
    }
    fn metric(&self) -> (&'static str, &'static str) {
        STARTED
    }
    fn by_hand(&self) -> Values {
        &[("kernel.pid_max", "32768")]
    }
    fn tuned(&self) -> (&'static str, Values) {
        THROUGHPUT
    }
    fn turns(&self) -> usize {
        5
    }
    fn host_wide(&self) -> bool {
        true
    }
    fn stage(&self) -> Result<Box<dyn Stage>> {
        Crowded::stage(4000, ["threads", "6000"], |threads| threads / 60.0)
    }
}

/// Each second 3,000 threads where there may be 4,000, and none again: as good before as after.
pub(super) const BY_TURNS: NoFault =
    NoFault::trap(TUNER, "3,000 threads that come and go", STARTED, || {
        Crowded::stage(4000, ["threads", "3000"], |threads| threads / 30.0)
    })
    .settles(0.0);

/// A fork bomb where there may be 1,000 tasks.
pub(super) const BOMB: NoFault = NoFault::trap(
    TUNER,
    "fork bomb",
    ("limit for each hundred tasks that the bomb got", ""),
    || {
        Crowded::stage(BOMB_TASKS, ["bomb", "1500"], |tasks| {
            f64::from(BOMB_TASKS) * 100.0 / tasks.max(1.0)
        })
    },
)
.turns(4, 4);

/// That the bomb may come to.
const BOMB_TASKS: u32 = 1000;

/// Watches and a context that are held, files and threads that come and go, all well within what there may be.
pub(super) const NOTHING_WRONG: NoFault = NoFault::nothing_wrong(
    TUNER,
    "nothing wrong",
    ("rounds of files and threads, beside watches and AIO", "/s"),
    || {
        let tree = Tree::new(200)?;
        // In memory: a disk has its own ups and downs.
        let dir =
            tempfile::tempdir_in("/dev/shm").map_err(Error::doing("cannot make a directory"))?;
        Ok(Box::new(Mixed {
            file: dir.path().join("file"),
            _dir: dir,
            _watching: tree.watch()?.0,
            _context: Context::new(128),
            _tree: tree,
        }))
    },
)
.runs(20)
.bpf_share(0.02);

/// Watches and context are held: to give one back waits for other processors, which is no work.
struct Mixed {
    file: PathBuf,
    _dir: tempfile::TempDir,
    _watching: OwnedFd,
    _context: Option<Context>,
    _tree: Tree,
}

impl Stage for Mixed {
    /// All on one processor: where the kernel puts each thread is drawn anew in each run, and worth a tenth.
    fn turn(&mut self) -> Result<f64> {
        on_processor(0, || {
            rounds_per_second(|| {
                for _ in 0..50 {
                    fs::write(&self.file, [0; 512]).map_err(Error::doing("cannot write a file"))?;
                    fs::read(&self.file).map_err(Error::doing("cannot read a file"))?;
                }
                std::thread::scope(|scope| {
                    for _ in 0..8 {
                        scope.spawn(std::thread::yield_now);
                    }
                });
                Ok(())
            })
        })
    }
}
