//! The blocking door: std's way.

mod capture;
mod child;

use std::{
    cell::Cell,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    process::{ExitStatus, Output},
};

pub use child::Child;

use crate::{
    ChildStderr, ChildStdin, ChildStdout, Command, Error, ExecPlan,
    command::Streams,
    start::{self, Await, Pending, Progress, Scratch, Started, Watch, local},
    sys::pidfd,
};

impl Command {
    /// Starts the command and waits until its program runs, as [`std::process::Command::spawn`].
    ///
    /// # Errors
    /// The program could not be run: kind as std's, and an [`Error`] within that names the program
    /// and the step. Nothing of it is left then.
    ///
    /// ```
    /// use uring_process::Command;
    /// let mut child = Command::new("true").spawn()?;
    /// assert!(child.wait()?.success());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn spawn(&mut self) -> io::Result<Child> {
        self.plan()?.spawn()
    }

    /// Starts the command and returns at once; see [`Starting`].
    ///
    /// # Errors
    /// The process could not be made.
    ///
    /// ```
    /// use uring_process::Command;
    /// let starting = Command::new("true").start()?; // takes some 20 microseconds
    /// let mut child = starting.wait()?; // the program runs
    /// child.wait()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn start(&mut self) -> io::Result<Starting> {
        self.plan()?.start()
    }

    /// Runs the command to its end; standard output and error are captured, standard input is
    /// empty, unless set otherwise.
    ///
    /// # Errors
    /// As [`spawn`](Self::spawn), or reading fails.
    pub fn output(&mut self) -> io::Result<Output> {
        self.plan_with(Streams::Capture)?
            .spawn()?
            .wait_with_output()
    }

    /// Runs the command to its end; streams are inherited unless set otherwise.
    ///
    /// # Errors
    /// As [`spawn`](Self::spawn).
    pub fn status(&mut self) -> io::Result<ExitStatus> {
        self.spawn()?.wait()
    }

    /// Replaces this process by the command's program. Returns only where that fails.
    ///
    /// As with std, what was done until then stays done: directory, ids, descriptors. Open
    /// descriptors are inherited whatever the [policy](Self::fd_policy) says.
    pub fn exec(&mut self) -> io::Error {
        match self.exec_plan() {
            Ok(plan) => start::replace(&plan).into(),
            Err(error) => error.into(),
        }
    }
}

thread_local! {
    /// Kept from start to start, so that these allocate nothing.
    static SCRATCH: Cell<Scratch> = const { Cell::new(Scratch::new()) };
}

impl ExecPlan {
    /// Starts the command and waits until its program runs; see [`Command::spawn`].
    ///
    /// # Errors
    /// As [`Command::spawn`].
    pub fn spawn(&self) -> io::Result<Child> {
        self.until_running().map(Child::new)
    }

    /// As [`spawn`](Self::spawn), for another kind of child.
    pub(crate) fn until_running(&self) -> io::Result<Started> {
        let mut scratch = SCRATCH.try_with(Cell::take).unwrap_or_default();
        let started = local::run(self, &mut scratch);
        let _ = SCRATCH.try_with(|kept| kept.set(scratch));
        match started? {
            Some(started) => Ok(started),
            None => self.start()?.until_running(),
        }
    }

    /// Starts the command and returns at once; see [`Starting`].
    ///
    /// # Errors
    /// The process could not be made.
    pub fn start(&self) -> io::Result<Starting> {
        // While the thread ends it may be gone.
        let mut scratch = SCRATCH.try_with(Cell::take).unwrap_or_default();
        let started = start::start(self, Watch::Word, &mut scratch);
        let _ = SCRATCH.try_with(|kept| kept.set(scratch));
        Ok(Starting { started: started? })
    }
}

/// A process that has been made; its program may not run yet, and may turn out not to exist.
///
/// Dropped, it goes its way, as a [`Child`] that is dropped does.
#[derive(Debug)]
#[must_use = "whether the program runs is known only after `wait`"]
pub struct Starting {
    started: Started,
}

impl Starting {
    /// The PID.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.started.pid as u32
    }

    /// The pidfd: a descriptor that stands for the process (pidfd_open(2)).
    #[must_use]
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.started.pidfd.as_fd()
    }

    /// Waits until the program runs.
    ///
    /// # Errors
    /// It could not be run, see [`Command::spawn`]. The process is gone then.
    pub fn wait(self) -> io::Result<Child> {
        self.until_running().map(Child::new)
    }

    /// As [`wait`](Self::wait), for another kind of child.
    pub(crate) fn until_running(mut self) -> io::Result<Started> {
        loop {
            match self.started.pending.advance() {
                Progress::Again => wait_for(&self.started.pending)?,
                Progress::Running => return Ok(self.started),
                Progress::Failed(error) => return Err(self.over(error)),
            }
        }
    }

    /// The child if its program runs by now, else this again.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn try_wait(mut self) -> io::Result<Result<Child, Self>> {
        match self.started.pending.advance() {
            Progress::Again => Ok(Err(self)),
            Progress::Running => Ok(Ok(Child::new(self.started))),
            Progress::Failed(error) => Err(self.over(error)),
        }
    }

    /// Takes away the process, which is about to end by itself.
    fn over(self, error: Error) -> io::Error {
        let _ = pidfd::wait(self.started.pidfd.as_fd());
        error.into()
    }
}

/// Blocks until it is worth to look again.
fn wait_for(pending: &Pending) -> io::Result<()> {
    match pending.next() {
        Await::Word(word, held) => {
            let forever = std::ptr::null::<libc::timespec>();
            // SAFETY: the word lives as long as `pending`; the kernel reads it only. Not private:
            // the kernel wakes it as shared. An error means: look again.
            unsafe {
                libc::syscall(
                    libc::SYS_futex,
                    word.as_ptr(),
                    libc::FUTEX_WAIT,
                    held,
                    forever,
                )
            };
        }
        Await::Readable(fd) => {
            let mut poll = libc::pollfd {
                fd: fd.as_raw_fd(),
                events: libc::POLLIN,
                revents: 0,
            };
            // SAFETY: one entry, for the time of the call.
            if unsafe { libc::poll(&raw mut poll, 1, -1) } < 0 {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
        Await::Nothing => {}
    }
    Ok(())
}

fn stdin(fd: Option<OwnedFd>) -> Option<ChildStdin> {
    fd.map(Into::into)
}

fn stdout(fd: Option<OwnedFd>) -> Option<ChildStdout> {
    fd.map(Into::into)
}

fn stderr(fd: Option<OwnedFd>) -> Option<ChildStderr> {
    fd.map(Into::into)
}
