//! [`Child`]: a process whose program runs.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    process::{ExitStatus, Output},
};

use super::{capture, stderr, stdin, stdout};
use crate::{
    ChildStderr, ChildStdin, ChildStdout,
    start::{Pipes, Started},
    sys::pidfd,
};

/// A running process, with the names and the meaning of [`std::process::Child`].
///
/// As with std, a child that is dropped goes on to run, and stays a zombie after its end until
/// this process ends: wait for it.
#[derive(Debug)]
pub struct Child {
    /// The writing end of its standard input, if that is piped.
    pub stdin: Option<ChildStdin>,
    /// The reading end of its standard output, if that is piped.
    pub stdout: Option<ChildStdout>,
    /// The reading end of its standard error, if that is piped.
    pub stderr: Option<ChildStderr>,
    pid: i32,
    pidfd: OwnedFd,
    status: Option<ExitStatus>,
}

impl Child {
    pub(crate) fn new(started: Started) -> Self {
        let Started {
            pid,
            pidfd,
            pending: _,
            pipes,
        } = started;
        let Pipes {
            stdin: input,
            stdout: output,
            stderr: errors,
        } = pipes;
        Self {
            stdin: stdin(input),
            stdout: stdout(output),
            stderr: stderr(errors),
            pid,
            pidfd,
            status: None,
        }
    }

    /// The PID.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.pid as u32
    }

    /// The pidfd: a descriptor that stands for the process (pidfd_open(2)). It can be polled, and
    /// never means another process.
    ///
    /// Waiting by it outside of this handle takes the status away from [`wait`](Self::wait), on
    /// kernels before 6.15.
    #[must_use]
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// The pidfd, given up by the handle.
    #[must_use]
    pub fn into_pidfd(self) -> OwnedFd {
        self.pidfd
    }

    /// Sends SIGKILL. Does nothing to a process that has been waited for.
    ///
    /// # Errors
    /// `EPERM` (kind `PermissionDenied`) if it has other ids than this process.
    pub fn kill(&mut self) -> io::Result<()> {
        if self.status.is_some() {
            return Ok(());
        }
        match pidfd::signal(self.pidfd.as_fd(), libc::SIGKILL) {
            // Over, and waited for by somebody else.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            other => other,
        }
    }

    /// Waits for its end. Closes its standard input first, so that it cannot wait for us.
    ///
    /// # Errors
    /// `ECHILD` if somebody else has waited for it, or SIGCHLD is ignored, and the kernel is older
    /// than 6.15.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        drop(self.stdin.take());
        if let Some(status) = self.status {
            return Ok(status);
        }
        let status = pidfd::wait(self.pidfd.as_fd())?;
        self.status = Some(status);
        Ok(status)
    }

    /// The status, if it is over.
    ///
    /// # Errors
    /// As [`wait`](Self::wait).
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.status.is_none() {
            self.status = pidfd::try_wait(self.pidfd.as_fd())?;
        }
        Ok(self.status)
    }

    /// Reads standard output and error, as far as they are piped, to their end, and waits.
    ///
    /// # Errors
    /// As [`wait`](Self::wait), or reading fails.
    pub fn wait_with_output(mut self) -> io::Result<Output> {
        drop(self.stdin.take());
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        match (self.stdout.take(), self.stderr.take()) {
            (None, None) => {}
            (Some(mut out), None) => drop(io::Read::read_to_end(&mut out, &mut stdout)?),
            (None, Some(mut err)) => drop(io::Read::read_to_end(&mut err, &mut stderr)?),
            (Some(out), Some(err)) => capture::both(out, &mut stdout, err, &mut stderr)?,
        }
        let status = self.wait()?;
        Ok(Output {
            status,
            stdout,
            stderr,
        })
    }
}
