//! One thread that sleeps until something happens that a future waits for.
//!
//! It is started by the first future and by nothing else. Futures hand it what to wait for
//! ([`Interest`]) and who is to be told ([`Listener`]) through a queue; all tables are its own. It
//! waits on a ring of its own ([`uring`]), or by epoll where io_uring is refused ([`epoll`]).
//!
//! After a fork(2) without exec the child has no such thread: it starts one of its own at its
//! first future, and leaves the parent's alone, whose locks may be held for ever.

mod epoll;
mod starts;
mod table;
mod uring;
mod wait;

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    panic::{AssertUnwindSafe, catch_unwind},
    ptr::null_mut,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use io_uring::squeue;
use starts::Starts;
use table::Table;
pub(crate) use wait::{Timer, Wait};

use crate::start::{Watch, ladder};

/// A descriptor that stays open while it is waited for.
pub(crate) type SharedFd = Arc<dyn AsFd + Send + Sync>;

/// What to wait for, once.
pub(crate) enum Interest {
    Readable(SharedFd),
    Writable(SharedFd),
    /// Until the word has no longer this value. Only where [`Reactor::watch`] says `Word`.
    Word(Word, u32),
    Until(Instant),
}

/// A word in memory that is never freed.
#[derive(Clone, Copy)]
pub(crate) struct Word(*const u32);

// SAFETY: the pointer is handed to the kernel only, which reads an atomic word by it.
unsafe impl Send for Word {}

impl Word {
    /// # Safety
    /// The word is never freed.
    pub(crate) unsafe fn new(word: &std::sync::atomic::AtomicU32) -> Self {
        Self(word.as_ptr())
    }
}

/// Who is told. Called by the reactor's thread: must not block.
pub(crate) trait Listener: Send + Sync {
    /// What `what` stands for has happened, or it is worth to look again.
    fn fired(self: Arc<Self>, what: usize);
    /// The entry that was [submitted](Reactor::submit) has this result.
    fn heard(self: Arc<Self>, what: usize, result: i32) {
        let _ = result;
        self.fired(what);
    }
}

/// A wait that was handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key(u64);

/// Of the reactor's own descriptor for wake-ups.
const WAKE: Key = Key(0);

enum Op {
    Arm(Key, Interest, Arc<dyn Listener>, usize),
    Cancel(Key),
}

/// A way to wait for descriptors, and maybe words.
trait Backend: Send {
    /// Each wait that was armed fires once, unless it is cancelled.
    ///
    /// # Errors
    /// It is not armed.
    fn arm(&mut self, key: Key, interest: &Interest) -> io::Result<()>;
    /// Returns whether it is over: else it will fire soon, and the descriptor is needed till then.
    fn cancel(&mut self, key: Key) -> bool;
    /// Sleeps until something has fired or time is up. Of what has fired, `false` is said where
    /// waiting has failed.
    fn wait(&mut self, timeout: Option<Duration>, fired: &mut Vec<(Key, bool)>);
    /// It can wait for words.
    fn has_words(&self) -> bool;
}

#[derive(Default)]
struct Queue {
    ops: Vec<Op>,
    /// The thread does not look at `ops` before it is woken.
    asleep: bool,
}

pub(crate) struct Reactor {
    /// The process whose reactor it is.
    pid: i32,
    watch: Watch,
    /// An eventfd(2) that wakes the thread.
    wake: Arc<OwnedFd>,
    queue: Mutex<Queue>,
    runs: AtomicBool,
    /// The ring by which the kernel is asked for processes; none where it cannot be.
    starts: Option<Arc<Starts>>,
    /// Until the thread takes it.
    backend: Mutex<Option<Box<dyn Backend>>>,
}

static CURRENT: AtomicPtr<Reactor> = AtomicPtr::new(null_mut());
static KEYS: AtomicU64 = AtomicU64::new(WAKE.0 + 1);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn this_process() -> i32 {
    // SAFETY: has no preconditions.
    unsafe { libc::getpid() }
}

impl Reactor {
    /// This process's reactor, with its thread running.
    ///
    /// # Errors
    /// It could not be started: no descriptors, memory or threads left.
    pub(crate) fn get() -> io::Result<&'static Self> {
        let pid = this_process();
        loop {
            let at = CURRENT.load(Ordering::Acquire);
            // SAFETY: null, or made by `Box::into_raw` below and never freed.
            if let Some(current) = unsafe { at.as_ref() }
                && current.pid == pid
            {
                current.ensure_thread()?;
                return Ok(current);
            }
            let new = Box::into_raw(Box::new(Self::new(pid)?));
            if CURRENT
                .compare_exchange(at, new, Ordering::AcqRel, Ordering::Acquire)
                .is_err()
            {
                // SAFETY: made above; nobody else has seen it.
                drop(unsafe { Box::from_raw(new) });
            }
        }
    }

    fn new(pid: i32) -> io::Result<Self> {
        // SAFETY: integers only; the descriptor that it returns is nobody else's.
        let wake = unsafe {
            match libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) {
                -1 => return Err(io::Error::last_os_error()),
                fd => OwnedFd::from_raw_fd(fd),
            }
        };
        let ring = if ladder::forced().epoll {
            None
        } else {
            uring::Uring::new().ok()
        };
        let backend: Box<dyn Backend> = match ring {
            Some(ring) => Box::new(ring),
            None => Box::new(epoll::Epoll::new()?),
        };
        let by_word = backend.has_words() && !ladder::forced().pipe;
        let may_ask = !ladder::forced().epoll && !matches!(ladder::operation(), Ok(None));
        Ok(Self {
            pid,
            watch: if by_word { Watch::Word } else { Watch::Pipe },
            wake: Arc::new(wake),
            queue: Mutex::default(),
            runs: AtomicBool::new(false),
            starts: may_ask.then(|| Starts::new().ok()).flatten().map(Arc::new),
            backend: Mutex::new(Some(backend)),
        })
    }

    fn ensure_thread(&'static self) -> io::Result<()> {
        if self.runs.load(Ordering::Acquire) {
            return Ok(());
        }
        let queue = lock(&self.queue);
        if self.runs.load(Ordering::Acquire) {
            return Ok(());
        }
        // The new thread inherits the mask. libc leaves out the signals that it uses among
        // threads itself: with those blocked, setuid(3) would wait for this thread for ever.
        let before = nix::sys::signal::SigSet::all()
            .thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_SETMASK)?;
        let thread = std::thread::Builder::new()
            .name("uring-process".into())
            .spawn(|| self.run());
        before.thread_set_mask()?;
        thread?;
        self.runs.store(true, Ordering::Release);
        drop(queue);
        if let Some(starts) = &self.starts {
            starts.listen(self);
        }
        Ok(())
    }

    /// What starts are to be watched by.
    pub(crate) fn watch(&self) -> Watch {
        self.watch
    }

    /// Processes may be asked for by [`Reactor::submit`].
    pub(crate) fn by_operation(&self) -> bool {
        self.starts.is_some()
    }

    /// Has the kernel take an entry, in this thread; `listener` hears of its result, in the other.
    ///
    /// # Errors
    /// It was not taken, and nobody is going to hear.
    pub(crate) fn submit(
        &self,
        entry: squeue::Entry,
        listener: Arc<dyn Listener>,
        what: usize,
    ) -> io::Result<()> {
        match &self.starts {
            Some(starts) => starts.submit(entry, listener, what),
            None => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Whether it is this process's, not that of one which this was forked from.
    pub(crate) fn is_ours(&self) -> bool {
        self.pid == this_process()
    }

    /// Waits for `interest`, then tells `listener`.
    pub(crate) fn arm(&self, interest: Interest, listener: Arc<dyn Listener>, what: usize) -> Key {
        let key = Key(KEYS.fetch_add(1, Ordering::Relaxed));
        self.push(Op::Arm(key, interest, listener, what));
        key
    }

    /// Waits no longer. The listener may be told one last time.
    pub(crate) fn cancel(&self, key: Key) {
        self.push(Op::Cancel(key));
    }

    fn push(&self, op: Op) {
        if !self.is_ours() {
            return;
        }
        let mut queue = lock(&self.queue);
        queue.ops.push(op);
        if std::mem::take(&mut queue.asleep) {
            drop(queue);
            let one = 1u64;
            // SAFETY: eight bytes are there to read from. It can fail only where the counter is
            // so high that the thread is woken anyway.
            unsafe { libc::write(self.wake.as_raw_fd(), (&raw const one).cast(), 8) };
        }
    }

    fn drain_wake(&self) {
        let mut count = 0u64;
        // SAFETY: eight bytes are there to write to; it does not block.
        unsafe { libc::read(self.wake.as_raw_fd(), (&raw mut count).cast(), 8) };
    }

    fn run(&'static self) {
        let Some(backend) = lock(&self.backend).take() else {
            return;
        };
        let mut table = Table::new(backend);
        let mut ops = Vec::new();
        let mut tell = Vec::new();
        table.arm_wake(Arc::clone(&self.wake) as SharedFd);
        loop {
            {
                let mut queue = lock(&self.queue);
                queue.asleep = false;
                std::mem::swap(&mut ops, &mut queue.ops);
            }
            for op in ops.drain(..) {
                table.apply(op);
            }
            let may_sleep = {
                let mut queue = lock(&self.queue);
                queue.asleep = queue.ops.is_empty();
                queue.asleep
            };
            let woken = table.wait(may_sleep, &mut tell);
            lock(&self.queue).asleep = false;
            if woken {
                self.drain_wake();
                table.arm_wake(Arc::clone(&self.wake) as SharedFd);
            }
            for (listener, what) in tell.drain(..) {
                // Wakers are others' code: a panic there must not end this thread.
                let _ = catch_unwind(AssertUnwindSafe(|| listener.fired(what)));
            }
        }
    }
}

impl Interest {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Readable(fd) | Self::Writable(fd) => Some(fd.as_fd()),
            Self::Word(..) | Self::Until(_) => None,
        }
    }
}

#[cfg(test)]
mod tests;
