//! A command's run from start to end with its output kept, as one future.

use std::{
    ffi::OsString,
    io,
    pin::Pin,
    process::{ExitStatus, Output},
    task::{Context, Poll, ready},
    time::Duration,
};

use super::{Child, ChildStderr, ChildStdout, Spawn};
use crate::{ExecPlan, reactor::Timer};

/// What is read from a child, and what has been.
#[derive(Default)]
pub(super) struct Streams {
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
    out: Vec<u8>,
    err: Vec<u8>,
}

impl Streams {
    pub(super) fn of(child: &mut Child) -> Self {
        Self {
            stdout: child.stdout.take(),
            stderr: child.stderr.take(),
            ..Self::default()
        }
    }

    /// Reads both to their end, side by side; `true` where one has more than `limit` bytes.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        limit: usize,
    ) -> Poll<io::Result<bool>> {
        if let Some(pipe) = &mut self.stdout
            && let Poll::Ready(done) = pipe.poll_to_end(cx, &mut self.out, limit)
        {
            self.stdout = None;
            done?;
        }
        if let Some(pipe) = &mut self.stderr
            && let Poll::Ready(done) = pipe.poll_to_end(cx, &mut self.err, limit)
        {
            self.stderr = None;
            done?;
        }
        if self.out.len() > limit || self.err.len() > limit {
            return Poll::Ready(Ok(true));
        }
        if self.stdout.is_some() || self.stderr.is_some() {
            return Poll::Pending;
        }
        Poll::Ready(Ok(false))
    }

    pub(super) fn into_output(self, status: ExitStatus) -> Output {
        Output {
            status,
            stdout: self.out,
            stderr: self.err,
        }
    }
}

/// Runs a command to its end and gives what it wrote. Made by [`Command::output_async`] and
/// [`ExecPlan::output_async`].
///
/// Nothing happens before the first poll. Dropped before its end, it closes the pipes and leaves
/// the process on its way, unless [`kill_on_drop`](Self::kill_on_drop) says otherwise; the process
/// is waited for in any case.
///
/// [`Command::output_async`]: crate::Command::output_async
#[must_use = "a future does nothing unless it is awaited"]
pub struct Capture {
    program: OsString,
    spawn: Spawn,
    child: Option<Child>,
    streams: Streams,
    limit: usize,
    timeout: Option<Duration>,
    timer: Option<Timer>,
    kill_on_drop: bool,
}

impl Capture {
    pub(crate) fn new(program: OsString, plan: io::Result<ExecPlan>) -> Self {
        Self {
            program,
            spawn: Spawn::new(plan),
            child: None,
            streams: Streams::default(),
            limit: usize::MAX,
            timeout: None,
            timer: None,
            kill_on_drop: false,
        }
    }

    /// Gives the process this much time, from the first poll to its end and that of its output.
    ///
    /// Then it is killed and the error is of kind [`TimedOut`](io::ErrorKind::TimedOut). That is
    /// said at once; the process is waited for in the background. Processes that it started
    /// itself are not killed.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// use std::{io::ErrorKind, time::Duration};
    /// use uring_process::Command;
    /// let sleep = Command::new("sleep").arg("60").output_async();
    /// let error = sleep.timeout(Duration::from_millis(20)).await.unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::TimedOut);
    /// # }
    /// ```
    pub fn timeout(mut self, time: Duration) -> Self {
        self.timeout = Some(time);
        self
    }

    /// Keeps at most this many bytes of standard output, and of standard error.
    ///
    /// Where one has more, the process is killed and the error is of kind
    /// [`FileTooLarge`](io::ErrorKind::FileTooLarge).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// use std::io::ErrorKind;
    /// use uring_process::Command;
    /// let error = Command::new("yes").output_async().limit(1 << 20).await.unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::FileTooLarge);
    /// # }
    /// ```
    pub fn limit(mut self, bytes: usize) -> Self {
        self.limit = bytes;
        self
    }

    /// Whether the process is killed where this future is dropped before its end. Not so, unless
    /// it is set.
    pub fn kill_on_drop(mut self, kill: bool) -> Self {
        self.kill_on_drop = kill;
        self.spawn.set_kill_on_drop(kill);
        self
    }

    /// Makes the process now, unless it has been made.
    #[cfg(feature = "tokio")]
    pub(crate) fn begin(&mut self) {
        self.spawn.begin();
    }

    /// Ends the process.
    fn give_up(&mut self, kind: io::ErrorKind, why: &str) -> io::Error {
        self.spawn.set_kill_on_drop(true);
        self.spawn = Spawn::new(Err(kind.into()));
        if let Some(mut child) = self.child.take() {
            let _ = child.start_kill();
        }
        self.streams = Streams::default();
        io::Error::new(kind, format!("killed {:?}: {why}", self.program))
    }

    fn poll_output(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Output>> {
        if self.child.is_none() {
            let mut child = ready!(Pin::new(&mut self.spawn).poll(cx))?;
            drop(child.stdin.take());
            self.streams = Streams::of(&mut child);
            self.child = Some(child);
        }
        if ready!(self.streams.poll_read(cx, self.limit))? {
            let why = format!("its output exceeds {} bytes", self.limit);
            return Poll::Ready(Err(self.give_up(io::ErrorKind::FileTooLarge, &why)));
        }
        let Some(child) = &mut self.child else {
            unreachable!("set above");
        };
        let status = ready!(child.poll_wait(cx))?;
        self.child = None;
        let streams = std::mem::take(&mut self.streams);
        Poll::Ready(Ok(streams.into_output(status)))
    }
}

impl Future for Capture {
    type Output = io::Result<Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Some(time) = this.timeout.take() {
            this.timer = Some(Timer::after(time)?);
        }
        if let Poll::Ready(output) = this.poll_output(cx) {
            this.timer = None;
            return Poll::Ready(output);
        }
        if let Some(timer) = &mut this.timer {
            ready!(timer.poll(cx));
            this.timer = None;
            let why = "it did not end in time";
            return Poll::Ready(Err(this.give_up(io::ErrorKind::TimedOut, why)));
        }
        Poll::Pending
    }
}

impl std::fmt::Debug for Capture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Capture")
            .field("program", &self.program)
            .field("child", &self.child)
            .field("limit", &self.limit)
            .field("kill_on_drop", &self.kill_on_drop)
            .finish_non_exhaustive()
    }
}
