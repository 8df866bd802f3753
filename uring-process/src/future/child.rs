//! [`Child`]: a process whose program runs, as futures see it.

use std::{
    future::poll_fn,
    io,
    os::fd::{AsFd, BorrowedFd},
    process::{ExitStatus, Output},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use super::{ChildStderr, ChildStdin, ChildStdout, capture::Streams, process::Process};
use crate::{reactor::Timer, start::Pipes};

/// A running process.
///
/// Dropped, it goes on to run, unless [`kill_on_drop`](Self::kill_on_drop) is set. In both cases
/// it is waited for in the background, so that no zombie stays.
pub struct Child {
    /// The writing end of its standard input, if that is piped.
    pub stdin: Option<ChildStdin>,
    /// The reading end of its standard output, if that is piped.
    pub stdout: Option<ChildStdout>,
    /// The reading end of its standard error, if that is piped.
    pub stderr: Option<ChildStderr>,
    process: Arc<Process>,
    kill_on_drop: bool,
}

impl Child {
    pub(super) fn new(process: Arc<Process>, pipes: Pipes, kill_on_drop: bool) -> io::Result<Self> {
        let mut child = Self {
            stdin: None,
            stdout: None,
            stderr: None,
            process,
            kill_on_drop,
        };
        child.stdin = pipes.stdin.map(ChildStdin::new).transpose()?;
        child.stdout = pipes.stdout.map(ChildStdout::new).transpose()?;
        child.stderr = pipes.stderr.map(ChildStderr::new).transpose()?;
        Ok(child)
    }

    /// From the blocking door's start, whose program runs.
    #[cfg(feature = "tokio")]
    pub(crate) fn adopt(
        reactor: &'static crate::reactor::Reactor,
        mut started: crate::start::Started,
        kill_on_drop: bool,
    ) -> io::Result<Self> {
        let pipes = std::mem::take(&mut started.pipes);
        Self::new(Process::adopt(reactor, started), pipes, kill_on_drop)
    }

    /// The PID. It may be another process's once this one has ended: it is waited for in the
    /// background. The [`pidfd`](Self::pidfd) never is.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.pid() as u32
    }

    /// The pidfd: a descriptor that stands for the process (pidfd_open(2)).
    ///
    /// Waiting by it takes the status away from [`wait`](Self::wait), on kernels before 6.15.
    #[must_use]
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.process.as_fd()
    }

    /// Whether the process is killed where this handle is dropped before its end.
    pub fn kill_on_drop(&mut self, kill: bool) -> &mut Self {
        self.kill_on_drop = kill;
        self
    }

    /// Sends SIGKILL and does not wait. Does nothing to a process that is over.
    ///
    /// # Errors
    /// `EPERM` (kind `PermissionDenied`) if it has other ids than this process.
    pub fn start_kill(&mut self) -> io::Result<()> {
        self.process.kill()
    }

    /// Sends SIGKILL and waits for the end.
    ///
    /// Cancel safe: dropped while it waits, the signal has been sent.
    ///
    /// # Errors
    /// As [`start_kill`](Self::start_kill) and [`wait`](Self::wait).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// use uring_process::Command;
    /// let mut child = Command::new("sleep").arg("60").spawn_async().await?;
    /// child.kill().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn kill(&mut self) -> io::Result<()> {
        self.start_kill()?;
        self.wait().await.map(drop)
    }

    /// Waits for its end. Closes its standard input first, so that it cannot wait for us.
    ///
    /// Cancel safe; may be called again, also after the end.
    ///
    /// # Errors
    /// `ECHILD` if somebody else has waited for it, or SIGCHLD is ignored, and the kernel is older
    /// than 6.15.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// use uring_process::Command;
    /// let mut child = Command::new("true").spawn_async().await?;
    /// assert!(child.wait().await?.success());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        drop(self.stdin.take());
        poll_fn(|cx| self.poll_wait(cx)).await
    }

    /// As [`wait`](Self::wait), as a poll, and without closing standard input. The last task that
    /// polled is woken.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<ExitStatus>> {
        self.process
            .poll_end(cx)
            .map_err(io::Error::from_raw_os_error)
    }

    /// As [`wait`](Self::wait), but gives `None` where the process still runs after `time`.
    ///
    /// The process goes on; [`kill`](Self::kill) ends it.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// use std::time::Duration;
    /// use uring_process::Command;
    /// let mut child = Command::new("sleep").arg("60").spawn_async().await?;
    /// if child.wait_timeout(Duration::from_millis(10)).await?.is_none() {
    ///     child.kill().await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn wait_timeout(&mut self, time: Duration) -> io::Result<Option<ExitStatus>> {
        drop(self.stdin.take());
        let mut timer = Timer::after(time)?;
        poll_fn(|cx| match self.poll_wait(cx) {
            Poll::Ready(status) => Poll::Ready(status.map(Some)),
            Poll::Pending => timer.poll(cx).map(|()| Ok(None)),
        })
        .await
    }

    /// The status, if it is over.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.process
            .try_wait()
            .transpose()
            .map_err(io::Error::from_raw_os_error)
    }

    /// Reads standard output and error, as far as they are piped, to their end, and waits. Closes
    /// standard input first.
    ///
    /// Dropped before it is done, it drops the child.
    ///
    /// # Errors
    /// As [`wait`](Self::wait), or reading fails.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// use uring_process::{Command, Stdio};
    /// let mut child = Command::new("cat")
    ///     .stdin(Stdio::piped())
    ///     .stdout(Stdio::piped())
    ///     .spawn_async()
    ///     .await?;
    /// if let Some(stdin) = &mut child.stdin {
    ///     stdin.write_all(b"hello").await?;
    /// }
    /// assert_eq!(child.wait_with_output().await?.stdout, b"hello");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn wait_with_output(mut self) -> io::Result<Output> {
        drop(self.stdin.take());
        let mut streams = Streams::of(&mut self);
        poll_fn(|cx| streams.poll_read(cx, usize::MAX)).await?;
        let status = self.wait().await?;
        Ok(streams.into_output(status))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.kill_on_drop {
            let _ = self.process.kill();
        }
        self.process.forget_waker();
    }
}

impl std::fmt::Debug for Child {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Child")
            .field("pid", &self.process.pid())
            .field("stdin", &self.stdin)
            .field("stdout", &self.stdout)
            .field("stderr", &self.stderr)
            .field("kill_on_drop", &self.kill_on_drop)
            .finish_non_exhaustive()
    }
}
