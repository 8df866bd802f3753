//! A process that the reactor follows, whether anybody waits for it or not.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    process::ExitStatus,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    task::{Context, Poll, Waker},
};

use crate::{
    Error, ExecPlan,
    machine::{Machine, News, Signal, Start, World},
    reactor::{Interest, Key, Listener, Reactor, SharedFd, Word},
    start::{Await, Born, Launch, Pending, Pipes, Scratch},
    sys::pidfd,
};

/// What followers of a process share. The reactor has it until the process is over and waited for.
pub(super) struct Process {
    /// Empty until there is a process.
    born: OnceLock<Born>,
    reactor: &'static Reactor,
    inner: Mutex<Inner>,
}

struct Inner {
    machine: Machine,
    launch: Launch,
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
    born: Option<&'a Born>,
    launch: &'a mut Launch,
    /// Of the next executor's try.
    next: Option<Start<Error>>,
    status: &'a mut Option<Result<ExitStatus, i32>>,
}

impl World for Body<'_> {
    type Error = Error;
    type Status = ();

    fn start(&mut self) -> Start<Error> {
        self.next.take().unwrap_or_else(|| self.launch.look())
    }

    fn end(&mut self) -> Option<()> {
        let status = match pidfd::try_wait(self.born?.pidfd.as_fd()) {
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
        match self.born.get() {
            Some(born) => born.pidfd.as_fd(),
            None => unreachable!("asked for before there is a process"),
        }
    }
}

const START: usize = 0;
const END: usize = 1;

impl Process {
    /// Makes a process of the plan, or asks the kernel for it.
    pub(super) fn start(plan: &ExecPlan) -> io::Result<Arc<Self>> {
        let reactor = Reactor::get()?;
        let (watch, by_operation) = (reactor.watch(), reactor.by_operation());
        let launch = Launch::new(plan, watch, by_operation, &mut Scratch::default())?;
        Ok(Self::follow(reactor, launch))
    }

    /// Follows one that has been made elsewhere, and whose start is decided.
    #[cfg(feature = "tokio")]
    pub(super) fn adopt(reactor: &'static Reactor, started: crate::start::Started) -> Arc<Self> {
        let this = Self::follow(reactor, Launch::made(started, reactor.watch()));
        this.look(Signal::Start);
        this
    }

    fn follow(reactor: &'static Reactor, launch: Launch) -> Arc<Self> {
        let this = Arc::new(Self {
            born: OnceLock::new(),
            reactor,
            inner: Mutex::new(Inner {
                machine: launch.machine(),
                launch,
                keys: [None, None],
                phase: Phase::Starting,
                status: None,
                waker: None,
            }),
        });
        let mut inner = this.lock();
        this.settle(&mut inner.launch);
        if let Some(entry) = inner.launch.entry() {
            inner.machine.arm().for_each(drop);
            drop(inner);
            let listener = Arc::clone(&this) as Arc<dyn Listener>;
            if let Err(error) = reactor.submit(entry, listener, START) {
                // As though the ring had said it.
                Arc::clone(&this).heard(START, -error.raw_os_error().unwrap_or(libc::EAGAIN));
            }
        } else {
            this.arm(&mut inner);
            drop(inner);
        }
        this
    }

    /// Takes over what has become known of the process.
    fn settle(&self, launch: &mut Launch) {
        if let Some(born) = launch.take_born() {
            let _ = self.born.set(born);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for all that is to be waited for and is not yet.
    fn arm(self: &Arc<Self>, inner: &mut Inner) {
        for signal in inner.machine.arm() {
            let (what, interest) = match signal {
                Signal::End => (END, Interest::Readable(Arc::clone(self) as SharedFd)),
                Signal::Start => (
                    START,
                    inner.launch.pending().map_or_else(later, start_interest),
                ),
            };
            if inner.keys[what].is_none() {
                let listener = Arc::clone(self) as Arc<dyn Listener>;
                inner.keys[what] = Some(self.reactor.arm(interest, listener, what));
            }
        }
    }

    /// Looks whether what the signal stands for is so.
    fn look(self: &Arc<Self>, signal: Signal) {
        self.look_at(self.lock(), signal, None);
    }

    fn look_at(
        self: &Arc<Self>,
        mut guard: MutexGuard<'_, Inner>,
        signal: Signal,
        next: Option<Start<Error>>,
    ) {
        let inner = &mut *guard;
        let mut body = Body {
            born: self.born.get(),
            launch: &mut inner.launch,
            next,
            status: &mut inner.status,
        };
        let phase = &mut inner.phase;
        inner.machine.signal(signal, &mut body, |news| match news {
            News::Running => *phase = Phase::Running,
            News::Failed(error) => *phase = Phase::Failed(Some(error)),
            // `Body` has kept it.
            News::Ended(_) => {}
        });
        self.settle(&mut inner.launch);
        if matches!(inner.phase, Phase::Failed(_)) {
            drop(inner.launch.take_pipes());
        }
        if inner.machine.is_started()
            && let Some(pending) = inner.launch.pending()
        {
            pending.settle();
        }
        if inner.status.is_none() {
            self.arm(inner);
        } else if let Some(key) = inner.keys[START].take() {
            // Somebody else may hold the pipe for reports open.
            self.reactor.cancel(key);
        }
        let decided = !matches!(inner.phase, Phase::Starting) || inner.launch.wants_next();
        let waker = inner.waker.take_if(|_| decided);
        drop(guard);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The pipes once the program runs; the error once what could not run it is gone.
    pub(super) fn poll_running(
        self: &Arc<Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Pipes, Error>> {
        let mut inner = self.lock();
        if inner.launch.wants_next() {
            // Here, not in the reactor's thread: a child is as its maker is.
            let next = inner.launch.next();
            self.look_at(inner, Signal::Start, Some(next));
            inner = self.lock();
        }
        let over = inner.status.is_some() || inner.machine.is_finished();
        match &mut inner.phase {
            Phase::Running => return Poll::Ready(Ok(inner.launch.take_pipes())),
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
            let (pipes, waker) = (inner.launch.take_pipes(), inner.waker.take());
            drop(inner);
            drop((pipes, waker));
        }
    }

    /// 0 while there is no process.
    pub(super) fn pid(&self) -> i32 {
        self.born.get().map_or(0, |born| born.pid)
    }

    /// Sends SIGKILL, unless it is over.
    pub(super) fn kill(&self) -> io::Result<()> {
        if !self.reactor.is_ours() {
            return Ok(());
        }
        let inner = self.lock();
        let Some(born) = self.born.get() else {
            return inner.launch.signal_later(libc::SIGKILL);
        };
        drop(inner);
        match pidfd::signal(born.pidfd.as_fd(), libc::SIGKILL) {
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

fn start_interest(pending: &mut Pending) -> Interest {
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
    fn heard(self: Arc<Self>, _: usize, result: i32) {
        let mut inner = self.lock();
        inner.launch.hear(result);
        self.look_at(inner, Signal::Start, None);
    }

    fn fired(self: Arc<Self>, what: usize) {
        self.lock().keys[what] = None;
        self.look(if what == START {
            Signal::Start
        } else {
            Signal::End
        });
    }
}
