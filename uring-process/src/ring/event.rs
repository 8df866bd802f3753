//! What a spawner tells.

use std::process::ExitStatus;

use super::Token;
use crate::{ChildStderr, ChildStdin, ChildStdout, Error, start::Pipes};

/// Something has become known about a process.
///
/// Each process that was submitted gives either one `Failed`, or one `Started` and later one
/// `Ended`.
#[derive(Debug)]
pub enum Event {
    /// The program runs, or it was killed before it could: then `Ended` says so.
    Started(Started),
    /// The program could not be run; no process is left.
    Failed {
        /// Which process.
        token: Token,
        /// Why.
        error: Error,
    },
    /// The process is over and has been waited for.
    Ended {
        /// Which process.
        token: Token,
        /// Its PID, which is free for others now.
        pid: i32,
        /// How it ended. `None` if that is lost: somebody else has waited for it, or SIGCHLD is
        /// ignored, and the kernel is older than 6.15, which keeps the status at the pidfd.
        status: Option<ExitStatus>,
    },
}

/// A program that runs.
#[derive(Debug)]
#[non_exhaustive]
pub struct Started {
    /// Which process.
    pub token: Token,
    /// Its PID, valid until its `Ended` has been told.
    pub pid: i32,
    /// The writing end of its standard input, if that is piped.
    pub stdin: Option<ChildStdin>,
    /// The reading end of its standard output, if that is piped.
    pub stdout: Option<ChildStdout>,
    /// The reading end of its standard error, if that is piped.
    pub stderr: Option<ChildStderr>,
}

impl Started {
    pub(super) fn new(token: Token, pid: i32, pipes: Pipes) -> Self {
        let Pipes {
            stdin,
            stdout,
            stderr,
        } = pipes;
        Self {
            token,
            pid,
            stdin: stdin.map(Into::into),
            stdout: stdout.map(Into::into),
            stderr: stderr.map(Into::into),
        }
    }
}
