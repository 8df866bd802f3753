//! The one error type of the crate.

use std::{ffi::OsString, io};

use crate::Stage;

/// What went wrong, on what, and the way out.
///
/// The std-like calls return [`io::Error`] with the kind that std would give it and this inside;
/// [`Error::of`] takes it out again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A string has a NUL byte within, which no C string can carry.
    #[error("cannot run {program:?}: nul byte found in {what}")]
    Nul {
        /// The program.
        program: OsString,
        /// Which string.
        what: &'static str,
    },

    /// The process could not be made, or the program not started in it. There is no process left.
    #[error("cannot run {program:?}: {stage}: {source}{}", hint(*stage, source))]
    Start {
        /// The program.
        program: OsString,
        /// The step that failed.
        stage: Stage,
        /// Its errno.
        source: io::Error,
    },

    /// Two entries of a descriptor map have one target, or it is negative.
    #[error("cannot run {program:?}: descriptor {target} of the child is {fault}")]
    FdMap {
        /// The program.
        program: OsString,
        /// The number in the child.
        target: i32,
        /// What is wrong with it.
        fault: &'static str,
    },

    /// The tag of a ring's door has bits that do not fit.
    #[error(
        "a tag takes the upper {bits} bits of user_data, so it must be below {bound}; got {given}"
    )]
    Tag {
        /// What was given.
        given: u64,
        /// Number of bits of a tag.
        bits: u32,
        /// First number that is too large.
        bound: u64,
    },
}

fn hint(stage: Stage, source: &io::Error) -> &'static str {
    match (stage, source.raw_os_error()) {
        (Stage::Exec, Some(libc::ENOEXEC)) => {
            "; it is no program: a script needs a first line such as #!/bin/sh"
        }
        (Stage::Exec, Some(libc::E2BIG)) => {
            "; arguments and environment together are too long, see execve(2)"
        }
        (Stage::Clone, Some(libc::EAGAIN)) => {
            "; a limit of processes is reached: RLIMIT_NPROC, pids.max of the cgroup, kernel.pid_max"
        }
        (Stage::Prepare | Stage::Clone, Some(libc::EMFILE)) => {
            "; this process has no descriptor left, see RLIMIT_NOFILE"
        }
        _ => "",
    }
}

impl Error {
    /// The error of this crate within an [`io::Error`] that it returned.
    ///
    /// ```
    /// let error = uring_process::Command::new("/nonexistent").spawn().unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    /// let inner = uring_process::Error::of(&error).unwrap();
    /// assert_eq!(inner.raw_os_error(), Some(2)); // ENOENT
    /// ```
    #[must_use]
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }

    /// The errno, where there is one.
    ///
    /// [`io::Error::raw_os_error`] has none for errors that say more than a number.
    #[must_use]
    pub fn raw_os_error(&self) -> Option<i32> {
        match self {
            Self::Start { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }

    /// The step that failed, where the failure is one of the child's making.
    #[must_use]
    pub fn stage(&self) -> Option<Stage> {
        match self {
            Self::Start { stage, .. } => Some(*stage),
            _ => None,
        }
    }

    /// The kind that std would give it.
    #[must_use]
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Start { source, .. } => source.kind(),
            Self::Nul { .. } | Self::FdMap { .. } | Self::Tag { .. } => io::ErrorKind::InvalidInput,
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::new(error.kind(), error)
    }
}
