//! What the tests share: a ring, a request with its memory, and the programs that are run.

use std::{
    ffi::CString,
    fs::File,
    io::{self, Read},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    ptr::{null, null_mut},
    sync::{Mutex, MutexGuard, OnceLock},
    thread,
    time::{Duration, Instant},
};

use io_uring::{
    IoUring,
    opcode::{AsyncCancel, LinkTimeout},
    squeue::{Entry, Flags},
    types,
};
use uring_sys_ext::{
    discovery::{self, Candidates},
    opcode::{OpCode, Process},
    process::{Attributes, FdMapping, OpFlags, Stage},
};

/// Tests wait for children of the whole process: one at a time. `None`, after saying so, where
/// the kernel has no such operation.
pub(crate) fn alone() -> Option<MutexGuard<'static, ()>> {
    static ALONE: Mutex<()> = Mutex::new(());
    let guard = ALONE
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    match found() {
        Some(_) => Some(guard),
        None => {
            println!("SKIP: this kernel has no process operation");
            None
        }
    }
}

fn found() -> Option<OpCode> {
    static FOUND: OnceLock<Option<OpCode>> = OnceLock::new();
    *FOUND.get_or_init(|| discovery::get(&Candidates::default()).ok()?.process)
}

pub(crate) fn number() -> OpCode {
    found().expect("alone() said so")
}

/// Leaves the test where the operation is not there.
macro_rules! guest {
    () => {
        let Some(_alone) = crate::guest::alone() else {
            return;
        };
    };
}
pub(crate) use guest;

pub(crate) fn ring() -> IoUring {
    IoUring::new(64).unwrap()
}

/// A request and all that it points at.
pub(crate) struct Request {
    path: CString,
    strings: Vec<CString>,
    argv: Vec<*const libc::c_char>,
    envp: Vec<*const libc::c_char>,
    pub(crate) dirfd: i32,
    pub(crate) exec_flags: u32,
    pub(crate) op_flags: OpFlags,
    pub(crate) attributes: Attributes,
    pub(crate) map: Vec<FdMapping>,
    pub(crate) groups: Vec<u32>,
    pub(crate) pidfd: i32,
}

impl Request {
    pub(crate) fn new(path: &str, args: &[&str]) -> Box<Self> {
        let strings: Vec<CString> = args.iter().map(|arg| CString::new(*arg).unwrap()).collect();
        let argv = strings.iter().map(|arg| arg.as_ptr()).chain([null()]);
        Box::new(Self {
            path: CString::new(path).unwrap(),
            argv: argv.collect(),
            strings,
            envp: vec![c"A=b".as_ptr(), null()],
            dirfd: libc::AT_FDCWD,
            exec_flags: 0,
            op_flags: OpFlags::empty(),
            attributes: Attributes::new(),
            map: Vec::new(),
            groups: Vec::new(),
            pidfd: -1,
        })
    }

    /// A program that ends at once, with 0.
    pub(crate) fn of_true() -> Box<Self> {
        Self::new("/bin/true", &["true"])
    }

    /// Sets attributes.
    pub(crate) fn with(
        mut self: Box<Self>,
        set: impl FnOnce(Attributes) -> Attributes,
    ) -> Box<Self> {
        self.attributes = set(self.attributes);
        self
    }

    /// Has it complete at the end of the process.
    pub(crate) fn to_exit(mut self: Box<Self>) -> Box<Self> {
        self.op_flags |= OpFlags::EXIT;
        self
    }

    /// Adds a descriptor to the map.
    pub(crate) fn map(mut self: Box<Self>, source: i32, target: i32) -> Box<Self> {
        self.map.push(FdMapping { source, target });
        self.attributes = self
            .attributes
            .fd_map(self.map.as_ptr(), self.map.len() as u32);
        self
    }

    pub(crate) fn groups(mut self: Box<Self>, groups: &[u32]) -> Box<Self> {
        self.groups = groups.to_vec();
        self.attributes = self
            .attributes
            .groups(self.groups.as_ptr(), self.groups.len() as u32);
        self
    }

    pub(crate) fn pidfd(mut self: Box<Self>) -> Box<Self> {
        let to = &raw mut self.pidfd;
        self.attributes = self.attributes.pidfd(to);
        self
    }

    /// Has argv lie elsewhere.
    pub(crate) fn argv_at(mut self: Box<Self>, argv: *const libc::c_char) -> Box<Self> {
        self.argv = vec![argv, null()];
        self
    }

    pub(crate) fn entry(&mut self) -> Entry {
        assert!(self.argv.len() > self.strings.len().min(1));
        Process::new(number(), self.dirfd, self.path.as_ptr())
            .argv(self.argv.as_ptr())
            .envp(self.envp.as_ptr())
            .exec_flags(self.exec_flags)
            .op_flags(self.op_flags)
            .attributes(&raw mut self.attributes)
            .build()
    }

    /// Submits, and waits for the result.
    pub(crate) fn run_on(&mut self, ring: &mut IoUring) -> i32 {
        let entry = self.entry();
        one(ring, entry)
    }

    pub(crate) fn run(&mut self) -> i32 {
        self.run_on(&mut ring())
    }

    /// Runs it, and checks that it fails so, and that nothing is left of it.
    #[track_caller]
    pub(crate) fn fails(&mut self, errno: i32, stage: Stage) {
        let fds = open_fds();
        let result = self.run();
        assert_eq!(
            (result, self.attributes.failed_stage()),
            (-errno, Some(stage))
        );
        assert_no_child();
        assert_eq!(open_fds(), fds);
    }

    /// Runs it, waits for its end, and returns the status.
    #[track_caller]
    pub(crate) fn ends(&mut self) -> i32 {
        let pid = self.run();
        assert!(pid > 0, "{pid} at {:?}", self.attributes.failed_stage());
        assert_eq!(self.attributes.failed_stage(), Some(Stage::None));
        wait(pid)
    }

    /// Runs it with standard output mapped, and returns what it wrote.
    #[track_caller]
    pub(crate) fn output(self: Box<Self>) -> String {
        self.output_on(&mut ring())
    }

    #[track_caller]
    pub(crate) fn output_on(self: Box<Self>, ring: &mut IoUring) -> String {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut request = self.map(writer.as_raw_fd(), 1);
        let pid = request.run_on(ring);
        assert!(pid > 0, "{pid} at {:?}", request.attributes.failed_stage());
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(wait(pid), 0, "{text}");
        text
    }
}

/// A request whose output is the status of its own process.
pub(crate) fn status() -> Box<Request> {
    Request::new("/bin/cat", &["cat", "/proc/self/status"])
}

/// The words of a line of such an output.
pub(crate) fn field(status: &str, name: &str) -> Vec<String> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let line = line.unwrap_or_else(|| panic!("no {name} in {status}"));
    line.split_whitespace().map(str::to_owned).collect()
}

/// Pushes an entry.
pub(crate) fn push(ring: &mut IoUring, entry: &Entry) {
    // SAFETY: what entries of these tests point at lives until their completion.
    unsafe { ring.submission().push(entry) }.unwrap();
}

/// Submits one entry, and waits for its result.
pub(crate) fn one(ring: &mut IoUring, entry: Entry) -> i32 {
    push(ring, &entry.user_data(1));
    results(ring, 1)[0].1
}

/// Submits, and waits for this many completions, in the order in which they come.
#[track_caller]
pub(crate) fn results(ring: &mut IoUring, count: usize) -> Vec<(u64, i32)> {
    let mut results = Vec::new();
    while results.len() < count {
        let limit = types::Timespec::from(Duration::from_secs(60));
        let args = types::SubmitArgs::new().timespec(&limit);
        match ring.submitter().submit_with_args(1, &args) {
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
            Err(error) => panic!(
                "no completion in time ({error}); there were {results:?}, and children are {}",
                what_children_do()
            ),
            Ok(_) => {}
        }
        for completion in ring.completion() {
            results.push((completion.user_data(), completion.result()));
        }
    }
    results
}

/// Submits, and waits for the results of 1 and of 2, whichever comes first.
#[track_caller]
pub(crate) fn both(ring: &mut IoUring) -> (i32, i32) {
    let mut done = results(ring, 2);
    done.sort_unstable();
    assert_eq!((done[0].0, done[1].0), (1, 2), "{done:?}");
    (done[0].1, done[1].1)
}

/// Cancels 1: its result, and that of cancelling.
#[track_caller]
pub(crate) fn cancel(ring: &mut IoUring) -> (i32, i32) {
    push(ring, &AsyncCancel::new(1).build().user_data(2));
    both(ring)
}

/// Runs a request that a timeout is linked to: its result, and that of the timeout.
#[track_caller]
pub(crate) fn within(ring: &mut IoUring, request: &mut Request, limit: Duration) -> (i32, i32) {
    let limit = types::Timespec::from(limit);
    let entry = request.entry().user_data(1).flags(Flags::IO_LINK);
    push(ring, &entry);
    push(
        ring,
        &LinkTimeout::new(&raw const limit).build().user_data(2),
    );
    both(ring)
}

/// Cancels requests, each a little later than the one before. Those that were over by then are given to `over`, with
/// their result; nothing may be left.
pub(crate) fn cancel_at_any_moment(rounds: u64, new: fn() -> Box<Request>, over: fn(i32)) {
    let mut ring = ring();
    let mut cancelled = 0;
    for round in 0..rounds {
        let mut request = new();
        push(&mut ring, &request.entry().user_data(1));
        ring.submit().unwrap();
        let until = Instant::now() + Duration::from_micros(round * 37);
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        match cancel(&mut ring) {
            (result, found) if result >= 0 => {
                assert_eq!(found, -libc::ENOENT, "{result}");
                over(result);
            }
            done => {
                assert_eq!(done, (-libc::ECANCELED, 0));
                cancelled += 1;
            }
        }
        assert_no_child();
    }
    println!("of {rounds} {cancelled} were cancelled");
}

/// That the children of this process end, within ten seconds.
#[track_caller]
pub(crate) fn assert_children_end() {
    for _ in 0..500 {
        if children().is_empty() {
            break;
        }
        thread::sleep(Duration::from_millis(20));
    }
    assert_no_child();
}

/// Waits for a child's end: its exit code, or 128 and the signal.
#[track_caller]
pub(crate) fn wait(pid: i32) -> i32 {
    let mut status = 0;
    // SAFETY: writes the status.
    let waited = unsafe { libc::waitpid(pid, &raw mut status, 0) };
    assert_eq!(waited, pid, "{}", io::Error::last_os_error());
    if libc::WIFEXITED(status) {
        libc::WEXITSTATUS(status)
    } else {
        128 + libc::WTERMSIG(status)
    }
}

/// That this process has no child, whatever its kind, alive or not.
#[track_caller]
pub(crate) fn assert_no_child() {
    // Before one of them is waited for: proc_pid_stat(5) says which signal each ends by.
    let left: Vec<_> = children()
        .iter()
        .map(|pid| std::fs::read_to_string(format!("/proc/{pid}/stat")))
        .collect();
    // SAFETY: a null status is allowed.
    let waited = unsafe { libc::waitpid(-1, null_mut(), libc::WNOHANG | libc::__WALL) };
    let errno = io::Error::last_os_error().raw_os_error();
    assert_eq!((waited, errno), (-1, Some(libc::ECHILD)), "{left:?}");
    assert!(left.is_empty(), "{left:?}");
}

/// Where the kernel has them.
fn what_children_do() -> String {
    let stack = |pid: &i32| std::fs::read_to_string(format!("/proc/{pid}/stack"));
    let all = children();
    let each = all.iter().map(|pid| format!("{pid}: {:?}", stack(pid)));
    each.collect::<Vec<_>>().join("; ")
}

/// The processes whose parent this process is.
pub(crate) fn children() -> Vec<i32> {
    let ours = std::process::id().to_string();
    let pids = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        std::fs::read_to_string(format!("/proc/{pid}/status"))
            .is_ok_and(|text| field(&text, "PPid") == [ours.clone()])
    })
    .collect()
}

pub(crate) fn open_fds() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Runs something in a process of its own, which it may change as it likes. It must not panic on
/// another thread. Returns whether it came to its end.
pub(crate) fn apart(work: impl FnOnce()) -> bool {
    // SAFETY: tests run one at a time, and no thread of this process holds a lock that the child
    // needs; where that fails, the test hangs and is ended from outside.
    match unsafe { libc::fork() } {
        0 => {
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            if let Err(panic) = &done {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| panic.downcast_ref::<&str>().map(|t| (*t).to_owned()));
                // Not by eprintln!, which the test harness catches, here for nobody.
                let text = format!("apart: {}\n", text.unwrap_or_default());
                let mut err = std::mem::ManuallyDrop::new(
                    // SAFETY: standard error is open, and stays so.
                    unsafe { File::from_raw_fd(2) },
                );
                let _ = io::Write::write_all(&mut *err, text.as_bytes());
            }
            // SAFETY: ends the process, without the exit handlers of its parent.
            unsafe { libc::_exit(i32::from(done.is_err())) }
        }
        pid => wait(pid) == 0,
    }
}

/// Becomes an ordinary user, for good.
pub(crate) fn become_user(id: u32) {
    // SAFETY: changes ids of this process only.
    unsafe {
        assert_eq!(libc::setgroups(0, null()), 0);
        assert_eq!(libc::setresgid(id, id, id), 0);
        assert_eq!(libc::setresuid(id, id, id), 0);
    }
}

/// A page that nobody may read yet: who does waits until it is filled, or is killed.
pub(crate) struct Trap {
    uffd: OwnedFd,
    page: *mut libc::c_void,
}

// SAFETY: only the address of the page is ever used.
unsafe impl Sync for Trap {}

const PAGE: usize = 4096;

impl Trap {
    pub(crate) fn new() -> Self {
        // From include/uapi/linux/userfaultfd.h.
        const UFFDIO_API: libc::c_ulong = 0xc018_aa3f;
        const UFFDIO_REGISTER: libc::c_ulong = 0xc020_aa00;
        // SAFETY: a new anonymous mapping; the structures are valid during the calls, and as long
        // as the kernel expects.
        unsafe {
            let fd = libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC) as i32;
            assert!(fd >= 0, "userfaultfd: {}", io::Error::last_os_error());
            let uffd = OwnedFd::from_raw_fd(fd);
            let prot = libc::PROT_READ | libc::PROT_WRITE;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let page = libc::mmap(null_mut(), PAGE, prot, flags, -1, 0);
            assert_ne!(page, libc::MAP_FAILED);
            let mut api = [0xaau64, 0, 0];
            assert_eq!(libc::ioctl(fd, UFFDIO_API, &raw mut api), 0);
            let mut range = [page as u64, PAGE as u64, 1, 0];
            assert_eq!(libc::ioctl(fd, UFFDIO_REGISTER, &raw mut range), 0);
            Self { uffd, page }
        }
    }

    pub(crate) fn address(&self) -> *const libc::c_char {
        self.page.cast()
    }

    /// Submits a request, as 1, whose argv lies on the page, and waits until its child has stepped on it.
    pub(crate) fn catch(&self, ring: &mut IoUring, request: Box<Request>) -> Box<Request> {
        let mut request = request.argv_at(self.address());
        push(ring, &request.entry().user_data(1));
        ring.submit().unwrap();
        self.wait_for_victim();
        request
    }

    /// Waits until somebody has stepped on it.
    pub(crate) fn wait_for_victim(&self) {
        let mut poll = libc::pollfd {
            fd: self.uffd.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one valid structure.
        let ready = unsafe { libc::poll(&raw mut poll, 1, 30_000) };
        assert_eq!(ready, 1, "nobody has come");
        let mut message = [0u8; 32];
        let mut file = File::from(self.uffd.try_clone().unwrap());
        assert_eq!(file.read(&mut message).unwrap(), 32);
    }

    /// Lets it go on, with an empty string.
    pub(crate) fn open(&self) {
        const UFFDIO_ZEROPAGE: libc::c_ulong = 0xc020_aa04;
        let mut range = [self.page as u64, PAGE as u64, 0, 0];
        // SAFETY: the structure is valid during the call.
        let done = unsafe { libc::ioctl(self.uffd.as_raw_fd(), UFFDIO_ZEROPAGE, &raw mut range) };
        assert_eq!(done, 0, "{}", io::Error::last_os_error());
    }
}

impl Drop for Trap {
    fn drop(&mut self) {
        // SAFETY: mapped here; nothing refers to it.
        unsafe { libc::munmap(self.page, PAGE) };
    }
}
