//! The ring by which threads have the kernel make processes.
//!
//! The thread that polls a future submits, so that the child has its credentials, filters and priority; the reactor's
//! thread takes the completions. A thread that ends takes along what has not become a program (io_uring cancels its
//! requests), so before it ends it waits for that.

use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use io_uring::{IoUring, squeue};

use super::{Interest, Listener, Reactor, SharedFd, lock};

const ENTRIES: u32 = 16;
const COMPLETIONS: u32 = 1024;

pub(super) struct Starts {
    /// A copy of the ring's, to wait by.
    fd: OwnedFd,
    ring: Mutex<Inner>,
}

struct Inner {
    ring: IoUring,
    next: u64,
    waiting: HashMap<u64, Waiting>,
}

struct Waiting {
    listener: Arc<dyn Listener>,
    what: usize,
    _open: Open,
}

impl Starts {
    pub(super) fn new() -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_cqsize(COMPLETIONS)
            .build(ENTRIES)?;
        // SAFETY: the number is the ring's, which lives.
        let fd = unsafe { BorrowedFd::borrow_raw(ring.as_raw_fd()) }.try_clone_to_owned()?;
        Ok(Self {
            fd,
            ring: Mutex::new(Inner {
                ring,
                next: 0,
                waiting: HashMap::new(),
            }),
        })
    }

    /// Waits for completions from now on.
    pub(super) fn listen(self: &Arc<Self>, reactor: &'static Reactor) {
        let listener = Arc::new(Completions(Arc::clone(self), reactor));
        reactor.arm(
            Interest::Readable(Arc::clone(self) as SharedFd),
            listener,
            0,
        );
    }

    pub(super) fn submit(
        &self,
        entry: squeue::Entry,
        listener: Arc<dyn Listener>,
        what: usize,
    ) -> io::Result<()> {
        let mut inner = lock(&self.ring);
        let Inner {
            ring,
            next,
            waiting,
        } = &mut *inner;
        *next += 1;
        let number = *next;
        // SAFETY: what an entry of a start points at stays until the kernel is done with it.
        unsafe { ring.submission().push(&entry.user_data(number)) }.map_err(io::Error::other)?;
        let open = Open::new();
        let waiting_one = Waiting {
            listener,
            what,
            _open: open,
        };
        waiting.insert(number, waiting_one);
        loop {
            match ring.submit() {
                Ok(_) => return Ok(()),
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
                // Not taken yet: a later submission takes it along.
                Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EBUSY)) => {
                    return Ok(());
                }
                Err(error) => {
                    waiting.remove(&number);
                    return Err(error);
                }
            }
        }
    }

    /// What has come, with who is to hear of it.
    fn take(&self) -> Vec<(Waiting, i32)> {
        let mut inner = lock(&self.ring);
        // Also fetches what found no room, and what was not taken before.
        let _ = inner.ring.submit();
        let Inner { ring, waiting, .. } = &mut *inner;
        ring.completion()
            .filter_map(|completion| {
                let heard = waiting.remove(&completion.user_data())?;
                Some((heard, completion.result()))
            })
            .collect()
    }
}

impl AsFd for Starts {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

struct Completions(Arc<Starts>, &'static Reactor);

impl Listener for Completions {
    fn fired(self: Arc<Self>, _: usize) {
        for (Waiting { listener, what, .. }, result) in self.0.take() {
            listener.heard(what, result);
        }
        let interest = Interest::Readable(Arc::clone(&self.0) as SharedFd);
        let reactor = self.1;
        reactor.arm(interest, self, 0);
    }
}

/// A start that is open, counted by the thread that submitted it.
struct Open(Arc<AtomicUsize>);

impl Open {
    fn new() -> Self {
        let count = MINE
            .try_with(|mine| Arc::clone(&mine.0))
            .unwrap_or_default();
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

/// Holds the end of a thread up until its starts are decided.
#[derive(Default)]
struct Leaving(Arc<AtomicUsize>);

/// An exec that takes longer is taken back.
const PATIENCE: Duration = Duration::from_secs(1);

impl Drop for Leaving {
    fn drop(&mut self) {
        let end = Instant::now() + PATIENCE;
        while self.0.load(Ordering::Acquire) > 0 && Instant::now() < end {
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

thread_local! {
    static MINE: Leaving = Leaving::default();
}
