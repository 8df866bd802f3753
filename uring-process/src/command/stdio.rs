//! Standard streams of a child.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use super::Streams;
use crate::plan::Origin;

/// What a standard stream of the child is.
///
/// ```
/// use uring_process::{Command, Stdio};
///
/// let log = std::fs::File::open("/dev/null")?;
/// Command::new("true").stdin(Stdio::from(log)).stdout(Stdio::null()).status()?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Stdio(pub(super) Kind);

#[derive(Debug)]
pub(super) enum Kind {
    Inherit,
    Null,
    Piped,
    Fd(Arc<OwnedFd>),
    /// This process's own standard stream of that number; it could not be duplicated.
    Broken(i32),
}

impl Stdio {
    /// This process's own stream.
    #[must_use]
    pub fn inherit() -> Self {
        Self(Kind::Inherit)
    }

    /// /dev/null.
    #[must_use]
    pub fn null() -> Self {
        Self(Kind::Null)
    }

    /// A pipe, whose other end the handle of the child gets.
    #[must_use]
    pub fn piped() -> Self {
        Self(Kind::Piped)
    }
}

impl From<OwnedFd> for Stdio {
    fn from(fd: OwnedFd) -> Self {
        Self(Kind::Fd(Arc::new(fd)))
    }
}

macro_rules! from_owned {
    ($($source:ty),*) => {
        $(impl From<$source> for Stdio {
            fn from(source: $source) -> Self {
                OwnedFd::from(source).into()
            }
        })*
    };
}

from_owned!(
    File,
    io::PipeReader,
    io::PipeWriter,
    std::os::unix::net::UnixStream,
    std::net::TcpStream,
    std::process::ChildStdin,
    std::process::ChildStdout,
    std::process::ChildStderr
);

fn own(stream: &impl AsFd, number: i32) -> Stdio {
    match stream.as_fd().try_clone_to_owned() {
        Ok(fd) => fd.into(),
        Err(_) => Stdio(Kind::Broken(number)),
    }
}

impl From<io::Stdout> for Stdio {
    fn from(stream: io::Stdout) -> Self {
        own(&stream, libc::STDOUT_FILENO)
    }
}

impl From<io::Stderr> for Stdio {
    fn from(stream: io::Stderr) -> Self {
        own(&stream, libc::STDERR_FILENO)
    }
}

pub(super) fn origin(stdio: Option<&Stdio>, default: Streams, target: i32) -> Origin {
    let is_input = target == libc::STDIN_FILENO;
    let null = Origin::Null { write: !is_input };
    let pipe = Origin::Pipe {
        child_reads: is_input,
    };
    match stdio.map(|stdio| &stdio.0) {
        None => match default {
            Streams::Inherit => Origin::Inherit,
            Streams::Capture if is_input => null,
            Streams::Capture => pipe,
        },
        Some(Kind::Inherit) => Origin::Inherit,
        Some(Kind::Null) => null,
        Some(Kind::Piped) => pipe,
        Some(Kind::Fd(fd)) => Origin::Owned(Arc::clone(fd)),
        // As good as what could not be had: the child's copy fails or succeeds as that would.
        Some(Kind::Broken(number)) if *number == target => Origin::Inherit,
        Some(Kind::Broken(number)) => Origin::Borrowed(*number),
    }
}
