//! The door for async code: futures that need no runtime.
//!
//! They run under any executor, also under several at a time, and are woken by a thread of their
//! own, which the first of them starts (its name is `uring-process`) and which sleeps while nothing
//! happens. It waits on an io_uring of its own, or by epoll where io_uring is refused or the kernel
//! is older than 5.11. Processes are made by the thread that polls, and read and written by it; where the kernel makes
//! them, a thread that ends waits until those that it asked for run their programs, for a second at most.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! use uring_process::Command;
//!
//! let output = Command::new("echo").arg("hello").output_async().await?;
//! assert_eq!(output.stdout, b"hello\n");
//! # Ok(())
//! # }
//! ```
//!
//! # Many at a time
//! A plan is made once and started often. Here each run has a second and room for 64 KiB:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! use std::time::Duration;
//! use uring_process::Command;
//!
//! let plan = Command::new("echo").arg("hello").capture_plan()?;
//! let capture = || plan.output_async().timeout(Duration::from_secs(1)).limit(64 << 10);
//! let runs: Vec<_> = (0..20).map(|_| tokio::spawn(capture())).collect();
//! for run in runs {
//!     assert_eq!(run.await.unwrap()?.stdout, b"hello\n");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! # Dropping
//! Every future here may be dropped at any time. A process whose handle is gone is waited for in
//! the background: it leaves no zombie. It is killed first only where that was asked for
//! (`kill_on_drop`). A start that is dropped before it is done, and that takes the next executor's try after the kernel's
//! own operation, ends there. A pipe that is dropped is closed; where it was being waited for, that is done
//! by the other thread, within moments.
//!
//! # Fork
//! In a child that this process makes by fork(2) without exec, the thread is missing. New futures
//! there start another one. Those made before the fork must not be polled there; they may be
//! dropped, which does nothing to processes of the parent.

mod capture;
mod child;
mod pipe;
mod process;
mod spawn;

use std::{
    io,
    process::{ExitStatus, Output},
    time::Duration,
};

pub use capture::Capture;
pub use child::Child;
pub use pipe::{ChildStderr, ChildStdin, ChildStdout};
pub use spawn::Spawn;

use crate::{Command, ExecPlan};

impl Command {
    /// Starts the command; the future is done when its program runs. Streams are inherited unless
    /// set otherwise.
    ///
    /// # Errors
    /// Of the future: as of [`spawn`](Self::spawn). Nothing of the process is left then.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// use uring_process::{Command, Stdio};
    ///
    /// let mut child = Command::new("echo").arg("hi").stdout(Stdio::piped()).spawn_async().await?;
    /// let mut text = Vec::new();
    /// if let Some(stdout) = &mut child.stdout {
    ///     stdout.read_to_end(&mut text).await?;
    /// }
    /// assert_eq!(text, b"hi\n");
    /// assert!(child.wait().await?.success());
    /// # Ok(())
    /// # }
    /// ```
    pub fn spawn_async(&mut self) -> Spawn {
        Spawn::new(self.plan())
    }

    /// Runs the command to its end; standard output and error are captured, standard input is
    /// empty, unless set otherwise.
    ///
    /// # Errors
    /// Of the future: as of [`spawn`](Self::spawn), or reading fails.
    pub fn output_async(&mut self) -> Capture {
        Capture::new(self.get_program().to_owned(), self.capture_plan())
    }

    /// As [`output_async`](Self::output_async) with a [`timeout`](Capture::timeout), which kills
    /// the process.
    ///
    /// # Errors
    /// Of the future: kind [`TimedOut`](io::ErrorKind::TimedOut) after that time; else as of
    /// [`output_async`](Self::output_async).
    pub fn output_timeout(
        &mut self,
        time: Duration,
    ) -> impl Future<Output = io::Result<Output>> + Send + use<> {
        self.output_async().timeout(time)
    }

    /// Runs the command to its end; streams are inherited unless set otherwise.
    ///
    /// # Errors
    /// Of the future: as of [`spawn`](Self::spawn).
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// assert!(uring_process::Command::new("true").status_async().await?.success());
    /// # Ok(())
    /// # }
    /// ```
    pub fn status_async(&mut self) -> impl Future<Output = io::Result<ExitStatus>> + Send + use<> {
        let spawn = self.spawn_async();
        async move { spawn.await?.wait().await }
    }
}

impl ExecPlan {
    /// Starts the command; see [`Command::spawn_async`].
    ///
    /// # Errors
    /// Of the future: as of [`Command::spawn`].
    pub fn spawn_async(&self) -> Spawn {
        Spawn::new(Ok(self.clone()))
    }

    /// Runs the command to its end and gives what it wrote to the streams that are piped: both for
    /// a [`Command::capture_plan`]. Standard input, if it is piped, is closed at once.
    ///
    /// # Errors
    /// Of the future: as of [`Command::output_async`].
    pub fn output_async(&self) -> Capture {
        Capture::new(self.program().to_owned(), Ok(self.clone()))
    }
}
