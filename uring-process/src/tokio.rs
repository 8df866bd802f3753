//! tokio's names, for programs that use `tokio::process`.
//!
//! [`Command`] and [`Child`] have the methods of tokio's, and the streams have its traits. What
//! differs: streams are set by this crate's [`Stdio`]; a child gets only
//! the descriptors that are mapped to it ([`FdPolicy`](crate::FdPolicy)); and it runs on the
//! [futures](crate::future) of this crate, so the runtime needs neither an I/O driver nor a signal
//! handler, and no runtime is needed at all.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! use tokio::io::{AsyncBufReadExt, BufReader};
//! use uring_process::{Stdio, tokio::Command};
//!
//! let mut child = Command::new("echo").arg("hello").stdout(Stdio::piped()).spawn()?;
//! if let Some(stdout) = child.stdout.take() {
//!     let mut lines = BufReader::new(stdout).lines();
//!     assert_eq!(lines.next_line().await?.as_deref(), Some("hello"));
//! }
//! assert!(child.wait().await?.success());
//! # Ok(())
//! # }
//! ```

use std::{
    ffi::OsStr,
    io,
    path::Path,
    pin::Pin,
    process::{ExitStatus, Output},
    task::{Context, Poll},
};

use ::tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub use crate::{
    Stdio,
    future::{ChildStderr, ChildStdin, ChildStdout},
};
use crate::{future, reactor::Reactor};

/// What to run, and how; as `tokio::process::Command`.
///
/// What tokio has no name for is set on the [command within](Self::as_command_mut).
#[derive(Debug)]
pub struct Command {
    inner: crate::Command,
    kill_on_drop: bool,
}

impl From<crate::Command> for Command {
    fn from(inner: crate::Command) -> Self {
        Self {
            inner,
            kill_on_drop: false,
        }
    }
}

impl Command {
    /// As [`Command::new`](crate::Command::new).
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        crate::Command::new(program).into()
    }

    /// The command within.
    #[must_use]
    pub fn as_command(&self) -> &crate::Command {
        &self.inner
    }

    /// The command within, to be changed.
    ///
    /// ```
    /// use uring_process::tokio::Command;
    /// let mut command = Command::new("true");
    /// command.as_command_mut().nice(5).umask(0o77);
    /// ```
    pub fn as_command_mut(&mut self) -> &mut crate::Command {
        &mut self.inner
    }

    /// The command within.
    #[must_use]
    pub fn into_command(self) -> crate::Command {
        self.inner
    }

    /// As [`arg`](crate::Command::arg).
    pub fn arg(&mut self, arg: impl AsRef<OsStr>) -> &mut Self {
        self.inner.arg(arg);
        self
    }

    /// As [`args`](crate::Command::args).
    pub fn args(&mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> &mut Self {
        self.inner.args(args);
        self
    }

    /// As [`arg0`](crate::Command::arg0).
    pub fn arg0(&mut self, arg: impl AsRef<OsStr>) -> &mut Self {
        self.inner.arg0(arg);
        self
    }

    /// As [`env`](crate::Command::env).
    pub fn env(&mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &mut Self {
        self.inner.env(key, value);
        self
    }

    /// As [`envs`](crate::Command::envs).
    pub fn envs(
        &mut self,
        vars: impl IntoIterator<Item = (impl AsRef<OsStr>, impl AsRef<OsStr>)>,
    ) -> &mut Self {
        self.inner.envs(vars);
        self
    }

    /// As [`env_remove`](crate::Command::env_remove).
    pub fn env_remove(&mut self, key: impl AsRef<OsStr>) -> &mut Self {
        self.inner.env_remove(key);
        self
    }

    /// As [`env_clear`](crate::Command::env_clear).
    pub fn env_clear(&mut self) -> &mut Self {
        self.inner.env_clear();
        self
    }

    /// As [`current_dir`](crate::Command::current_dir).
    pub fn current_dir(&mut self, dir: impl AsRef<Path>) -> &mut Self {
        self.inner.current_dir(dir);
        self
    }

    /// Standard input; inherited where it is not set.
    pub fn stdin(&mut self, stdio: impl Into<Stdio>) -> &mut Self {
        self.inner.stdin(stdio);
        self
    }

    /// Standard output; inherited where it is not set, but by [`output`](Self::output).
    pub fn stdout(&mut self, stdio: impl Into<Stdio>) -> &mut Self {
        self.inner.stdout(stdio);
        self
    }

    /// Standard error; inherited where it is not set, but by [`output`](Self::output).
    pub fn stderr(&mut self, stdio: impl Into<Stdio>) -> &mut Self {
        self.inner.stderr(stdio);
        self
    }

    /// As [`uid`](crate::Command::uid).
    pub fn uid(&mut self, id: u32) -> &mut Self {
        self.inner.uid(id);
        self
    }

    /// As [`gid`](crate::Command::gid).
    pub fn gid(&mut self, id: u32) -> &mut Self {
        self.inner.gid(id);
        self
    }

    /// As [`process_group`](crate::Command::process_group).
    pub fn process_group(&mut self, pgroup: i32) -> &mut Self {
        self.inner.process_group(pgroup);
        self
    }

    /// As [`pre_exec`](crate::Command::pre_exec).
    ///
    /// # Safety
    /// As [`pre_exec`](crate::Command::pre_exec).
    pub unsafe fn pre_exec<F>(&mut self, hook: F) -> &mut Self
    where
        F: FnMut() -> io::Result<()> + Send + Sync + 'static,
    {
        // SAFETY: as the caller promised.
        unsafe { self.inner.pre_exec(hook) };
        self
    }

    /// Whether the process is killed where its handle is dropped before its end, or the future of
    /// [`output`](Self::output) or [`status`](Self::status) is. Not so, unless it is set.
    pub fn kill_on_drop(&mut self, kill: bool) -> &mut Self {
        self.kill_on_drop = kill;
        self
    }

    /// What [`kill_on_drop`](Self::kill_on_drop) was set to.
    #[must_use]
    pub fn get_kill_on_drop(&self) -> bool {
        self.kill_on_drop
    }

    /// Starts the command. As tokio's, it blocks until the program runs, commonly less than a
    /// millisecond; [`Command::spawn_async`](crate::Command::spawn_async) does not.
    ///
    /// # Errors
    /// As [`Command::spawn`](crate::Command::spawn).
    pub fn spawn(&mut self) -> io::Result<Child> {
        let reactor = Reactor::get()?;
        let started = self.inner.plan()?.until_running()?;
        Ok(future::Child::adopt(reactor, started, self.kill_on_drop)?.into())
    }

    /// Runs the command to its end. The process is made at once; this does not block.
    ///
    /// # Errors
    /// Of the future: as [`spawn`](Self::spawn).
    pub fn status(&mut self) -> impl Future<Output = io::Result<ExitStatus>> + Send + use<> {
        let mut spawn = self.inner.spawn_async().kill_on_drop(self.kill_on_drop);
        spawn.begin();
        async move {
            let mut child = spawn.await?;
            child.stdout = None;
            child.stderr = None;
            child.wait().await
        }
    }

    /// Runs the command to its end and gives what it wrote. Standard output and error are captured
    /// in any case. The process is made at once; this does not block.
    ///
    /// # Errors
    /// Of the future: as [`spawn`](Self::spawn), or reading fails.
    pub fn output(&mut self) -> impl Future<Output = io::Result<Output>> + Send + use<> {
        self.stdout(Stdio::piped()).stderr(Stdio::piped());
        let plan = self.inner.plan();
        let program = self.inner.get_program().to_owned();
        let mut capture = future::Capture::new(program, plan).kill_on_drop(self.kill_on_drop);
        capture.begin();
        capture
    }
}

/// A running process; as `tokio::process::Child`.
#[derive(Debug)]
pub struct Child {
    /// The writing end of its standard input, if that is piped.
    pub stdin: Option<ChildStdin>,
    /// The reading end of its standard output, if that is piped.
    pub stdout: Option<ChildStdout>,
    /// The reading end of its standard error, if that is piped.
    pub stderr: Option<ChildStderr>,
    inner: future::Child,
    /// Its end has been told.
    done: bool,
}

impl From<future::Child> for Child {
    fn from(mut inner: future::Child) -> Self {
        Self {
            stdin: inner.stdin.take(),
            stdout: inner.stdout.take(),
            stderr: inner.stderr.take(),
            inner,
            done: false,
        }
    }
}

impl Child {
    /// The PID, until its end has been told by [`wait`](Self::wait) or
    /// [`try_wait`](Self::try_wait).
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        (!self.done).then(|| self.inner.id())
    }

    /// Sends SIGKILL and does not wait.
    ///
    /// # Errors
    /// `InvalidInput` if its end has been told; `PermissionDenied` if it has other ids than this
    /// process.
    pub fn start_kill(&mut self) -> io::Result<()> {
        if self.done {
            let text = "invalid argument: can't kill an exited process";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        self.inner.start_kill()
    }

    /// Sends SIGKILL and waits for the end.
    ///
    /// # Errors
    /// As [`start_kill`](Self::start_kill) and [`wait`](Self::wait).
    pub async fn kill(&mut self) -> io::Result<()> {
        self.start_kill()?;
        self.wait().await.map(drop)
    }

    /// Waits for its end. Closes its standard input first.
    ///
    /// Cancel safe; may be called again, also after the end.
    ///
    /// # Errors
    /// As of [`Child::wait`](future::Child::wait) of the futures.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        drop(self.stdin.take());
        let status = self.inner.wait().await?;
        self.done = true;
        Ok(status)
    }

    /// The status, if it is over.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        let status = self.inner.try_wait()?;
        self.done |= status.is_some();
        Ok(status)
    }

    /// Reads standard output and error, as far as they are piped, to their end, and waits. Closes
    /// standard input first.
    ///
    /// # Errors
    /// As [`wait`](Self::wait), or reading fails.
    pub async fn wait_with_output(mut self) -> io::Result<Output> {
        self.inner.stdout = self.stdout.take();
        self.inner.stderr = self.stderr.take();
        drop(self.stdin.take());
        self.inner.wait_with_output().await
    }
}

macro_rules! async_read {
    ($($name:ident),*) => {
        $(impl AsyncRead for $name {
            fn poll_read(
                mut self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                let count = self.as_mut().get_mut().poll_read(cx, buf.initialize_unfilled());
                let count = std::task::ready!(count)?;
                buf.advance(count);
                Poll::Ready(Ok(()))
            }
        })*
    };
}

async_read!(ChildStdout, ChildStderr);

impl AsyncWrite for ChildStdin {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_write(cx, buf)
    }

    /// Nothing is held back.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Does nothing, as tokio's: drop it to close it.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
