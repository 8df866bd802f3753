//! A process that the reactor follows, whether anybody waits for it or not.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    process::ExitStatus,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use crate::{
    Error, ExecPlan,
    machine::{Machine, News, Signal, Start, World},
    reactor::{Interest, Key, Listener, Reactor, SharedFd, Word},
    start::{self, Await, Pending, Pipes, Progress, Scratch, Started},
    sys::pidfd,
};

/// What followers of a process share. The reactor has it until the process is over and waited for.
pub(super) struct Process {
    pid: i32,
    pidfd: OwnedFd,
    reactor: &'static Reactor,
    inner: Mutex<Inner>,
}

struct Inner {
    machine: Machine,
    pending: Pending,
    pipes: Pipes,
    /// Waits that are out, for start and end.
    keys: [Option<Key>; 2],
    phase: Phase,
    /// How it ended, or the errno by which that could not be learned.
    status: Option<Result<ExitStatus, i32>>,
    /// The one task that waits.
    waker: Option<Waker>,
}

enum Phase {
    Starting,
    Running,
    Failed(Option<Error>),
}

/// What the machine asks.
struct Body<'a> {
    pidfd: BorrowedFd<'a>,
    pending: &'a mut Pending,
    status: &'a mut Option<Result<ExitStatus, i32>>,
}

impl World for Body<'_> {
    type Error = Error;
    type Status = ();

    fn start(&mut self) -> Start<Error> {
        match self.pending.advance() {
            Progress::Again => Start::Open,
            Progress::Running => Start::Running,
            Progress::Failed(error) => Start::Failed(error),
        }
    }

    fn end(&mut self) -> Option<()> {
        let status = match pidfd::try_wait(self.pidfd) {
            Ok(None) => return None,
            Ok(Some(status)) => Ok(status),
            // Somebody else has taken the status, and this kernel does not keep it.
            Err(error) => Err(error.raw_os_error().unwrap_or(libc::ECHILD)),
        };
        *self.status = Some(status);
        Some(())
    }
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

const START: usize = 0;
const END: usize = 1;

impl Process {
    /// Makes a process of the plan.
    pub(super) fn start(plan: &ExecPlan) -> io::Result<Arc<Self>> {
        let reactor = Reactor::get()?;
        let started = start::start(plan, reactor.watch(), &mut Scratch::default())?;
        Ok(Self::follow(reactor, started))
    }

    /// Follows one that has been made elsewhere, and whose start is decided.
    #[cfg(feature = "tokio")]
    pub(super) fn adopt(reactor: &'static Reactor, started: Started) -> Arc<Self> {
        let this = Self::follow(reactor, started);
        this.look(Signal::Start);
        this
    }

    fn follow(reactor: &'static Reactor, started: Started) -> Arc<Self> {
        let Started {
            pid,
            pidfd,
            pending,
            pipes,
        } = started;
        let this = Arc::new(Self {
            pid,
            pidfd,
            reactor,
            inner: Mutex::new(Inner {
                machine: Machine::new(),
                pending,
                pipes,
                keys: [None, None],
                phase: Phase::Starting,
                status: None,
                waker: None,
            }),
        });
        this.arm(&mut this.lock());
        this
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for all that is to be waited for and is not yet.
    fn arm(self: &Arc<Self>, inner: &mut Inner) {
        for signal in inner.machine.arm() {
            let (what, interest) = match signal {
                Signal::End => (END, Interest::Readable(Arc::clone(self) as SharedFd)),
                Signal::Start => (START, start_interest(&inner.pending)),
            };
            if inner.keys[what].is_none() {
                let listener = Arc::clone(self) as Arc<dyn Listener>;
                inner.keys[what] = Some(self.reactor.arm(interest, listener, what));
            }
        }
    }

    /// Looks whether what the signal stands for is so.
    fn look(self: &Arc<Self>, signal: Signal) {
        let mut guard = self.lock();
        let inner = &mut *guard;
        let mut body = Body {
            pidfd: self.pidfd.as_fd(),
            pending: &mut inner.pending,
            status: &mut inner.status,
        };
        let (phase, pipes) = (&mut inner.phase, &mut inner.pipes);
        inner.machine.signal(signal, &mut body, |news| match news {
            News::Running => *phase = Phase::Running,
            News::Failed(error) => {
                *phase = Phase::Failed(Some(error));
                *pipes = Pipes::default();
            }
            // `Body` has kept it.
            News::Ended(_) => {}
        });
        if inner.machine.is_started() {
            inner.pending.settle();
        }
        if inner.status.is_none() {
            self.arm(inner);
        } else if let Some(key) = inner.keys[START].take() {
            // Somebody else may hold the pipe for reports open.
            self.reactor.cancel(key);
        }
        let decided = !matches!(inner.phase, Phase::Starting);
        let waker = inner.waker.take_if(|_| decided);
        drop(guard);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The pipes once the program runs; the error once what could not run it is gone.
    pub(super) fn poll_running(&self, cx: &mut Context<'_>) -> Poll<Result<Pipes, Error>> {
        let mut inner = self.lock();
        let over = inner.status.is_some();
        match &mut inner.phase {
            Phase::Running => return Poll::Ready(Ok(std::mem::take(&mut inner.pipes))),
            Phase::Failed(error) if over => {
                if let Some(error) = error.take() {
                    return Poll::Ready(Err(error));
                }
            }
            _ => {}
        }
        set_waker(inner, cx)
    }

    /// How it ended, or the errno by which that could not be learned.
    pub(super) fn poll_end(&self, cx: &mut Context<'_>) -> Poll<Result<ExitStatus, i32>> {
        let inner = self.lock();
        match inner.status {
            Some(status) => Poll::Ready(status),
            None => set_waker(inner, cx),
        }
    }

    /// How it ended, if it has.
    pub(super) fn try_wait(self: &Arc<Self>) -> Option<Result<ExitStatus, i32>> {
        if self.lock().status.is_none() {
            self.look(Signal::End);
        }
        self.lock().status
    }

    /// The task waits no longer.
    pub(super) fn forget_waker(&self) {
        // In a fork of the process that follows it the lock may be held for ever.
        if self.reactor.is_ours() {
            let waker = self.lock().waker.take();
            drop(waker);
        }
    }

    /// Nobody will ask for the pipes: else the process could wait for us for ever.
    pub(super) fn abandon(&self) {
        if self.reactor.is_ours() {
            let mut inner = self.lock();
            let (pipes, waker) = (std::mem::take(&mut inner.pipes), inner.waker.take());
            drop(inner);
            drop((pipes, waker));
        }
    }

    pub(super) fn pid(&self) -> i32 {
        self.pid
    }

    /// Sends SIGKILL, unless it is over.
    pub(super) fn kill(&self) -> io::Result<()> {
        if !self.reactor.is_ours() {
            return Ok(());
        }
        match pidfd::signal(self.pidfd.as_fd(), libc::SIGKILL) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            other => other,
        }
    }
}

fn set_waker<T>(mut inner: MutexGuard<'_, Inner>, cx: &Context<'_>) -> Poll<T> {
    let old = match &inner.waker {
        Some(waker) if waker.will_wake(cx.waker()) => None,
        _ => inner.waker.replace(cx.waker().clone()),
    };
    drop(inner);
    // It may be the last handle of a task, whose end is anybody's code: not under the lock.
    drop(old);
    Poll::Pending
}

fn start_interest(pending: &Pending) -> Interest {
    match pending.next() {
        // SAFETY: it is a slot's, and those are never freed.
        Await::Word(word, held) => Interest::Word(unsafe { Word::new(word) }, held),
        // A copy of its own, since `pending` closes the other as soon as it knows enough.
        Await::Readable(fd) => match fd.try_clone_to_owned() {
            Ok(fd) => Interest::Readable(Arc::new(fd)),
            Err(_) => later(),
        },
        Await::Nothing => Interest::Until(std::time::Instant::now()),
    }
}

/// No descriptor is left: look again after a while.
fn later() -> Interest {
    Interest::Until(std::time::Instant::now() + std::time::Duration::from_millis(10))
}

impl Listener for Process {
    fn fired(self: Arc<Self>, what: usize) {
        self.lock().keys[what] = None;
        self.look(if what == START {
            Signal::Start
        } else {
            Signal::End
        });
    }
}
