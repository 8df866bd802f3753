//! This process's ends of a child's pipes.

use std::{
    future::poll_fn,
    io::{self, PipeReader, PipeWriter, Read, Write},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    sync::Arc,
    task::{Context, Poll},
};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::reactor::{Interest, SharedFd, Wait};

/// Bytes read at most before other tasks get their turn.
const TURN: u64 = 1 << 20;
/// Room made before a first read, in bytes.
const ROOM: usize = 4096;

fn set_nonblocking(fd: BorrowedFd<'_>, nonblocking: bool) -> io::Result<()> {
    let mut flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    flags.set(OFlag::O_NONBLOCK, nonblocking);
    fcntl(fd, FcntlArg::F_SETFL(flags))?;
    Ok(())
}

/// A pipe's end and the wait for it.
struct End<P> {
    pipe: Arc<P>,
    wait: Wait,
}

impl<P: AsFd + From<OwnedFd> + Send + Sync + 'static> End<P> {
    fn new(fd: OwnedFd) -> io::Result<Self> {
        set_nonblocking(fd.as_fd(), true)?;
        Ok(Self {
            pipe: Arc::new(P::from(fd)),
            wait: Wait::default(),
        })
    }

    /// Tries until it does not block; waits where it does.
    fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        interest: fn(SharedFd) -> Interest,
        mut attempt: impl FnMut(&P) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        loop {
            std::task::ready!(self.wait.poll(cx));
            match attempt(&self.pipe) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let fd = Arc::clone(&self.pipe) as SharedFd;
                    self.wait.arm(interest(fd))?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return Poll::Ready(other),
            }
        }
    }

    fn into_owned_fd(self) -> io::Result<OwnedFd> {
        set_nonblocking(self.pipe.as_fd(), false)?;
        // Not the end itself: the reactor may have it too, for a moment.
        self.pipe.as_fd().try_clone_to_owned()
    }
}

macro_rules! common {
    ($name:ident) => {
        impl $name {
            pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
                End::new(fd).map(Self)
            }

            /// The descriptor, in blocking mode.
            ///
            /// # Errors
            /// `EMFILE`: this process has no descriptor left.
            pub fn into_owned_fd(self) -> io::Result<OwnedFd> {
                self.0.into_owned_fd()
            }
        }

        impl AsFd for $name {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.0.pipe.as_fd()
            }
        }

        impl AsRawFd for $name {
            fn as_raw_fd(&self) -> RawFd {
                self.0.pipe.as_raw_fd()
            }
        }

        impl TryFrom<$name> for crate::Stdio {
            type Error = io::Error;

            /// For a pipe from one child to another.
            fn try_from(from: $name) -> io::Result<Self> {
                from.into_owned_fd().map(Into::into)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_tuple(stringify!($name))
                    .field(&self.0.pipe.as_raw_fd())
                    .finish()
            }
        }
    };
}

macro_rules! reader {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// Dropped, it is closed, within moments where it was being waited for: a child that
        /// writes to it then gets SIGPIPE.
        pub struct $name(End<PipeReader>);

        common!($name);

        impl $name {
            /// Reads what is there, up to `buf.len()` bytes; waits where nothing is. 0 at the end.
            ///
            /// Cancel safe: dropped while it waits, it has read nothing.
            ///
            /// # Errors
            /// Of read(2).
            pub async fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
                poll_fn(|cx| self.poll_read(cx, buf)).await
            }

            /// As [`read`](Self::read), as a poll. The last task that polled is woken.
            ///
            /// # Errors
            /// Of read(2).
            pub fn poll_read(
                &mut self,
                cx: &mut Context<'_>,
                buf: &mut [u8],
            ) -> Poll<io::Result<usize>> {
                let attempt = |mut pipe: &PipeReader| pipe.read(buf);
                self.0.poll(cx, Interest::Readable, attempt)
            }

            /// Appends all until the end to `buf`; returns the number of bytes.
            ///
            /// Dropped before it is done, what was read is in `buf`.
            ///
            /// # Errors
            /// Of read(2).
            pub async fn read_to_end(&mut self, buf: &mut Vec<u8>) -> io::Result<usize> {
                let before = buf.len();
                poll_fn(|cx| self.poll_to_end(cx, buf, usize::MAX)).await?;
                Ok(buf.len() - before)
            }

            /// Until the end, or until `buf` has more than `limit` bytes.
            pub(super) fn poll_to_end(
                &mut self,
                cx: &mut Context<'_>,
                buf: &mut Vec<u8>,
                limit: usize,
            ) -> Poll<io::Result<()>> {
                let above = (limit as u64).saturating_add(1);
                if buf.capacity() - buf.len() < 32 {
                    buf.reserve(ROOM);
                }
                let before = buf.len();
                let turn = TURN.min(above.saturating_sub(buf.len() as u64));
                let mut done = 0;
                let attempt = |pipe: &PipeReader| {
                    // What is read before an error stays in `buf`.
                    let left = turn.saturating_sub((buf.len() - before) as u64);
                    let result = pipe.take(left).read_to_end(buf);
                    done = (buf.len() - before) as u64;
                    result
                };
                std::task::ready!(self.0.poll(cx, Interest::Readable, attempt))?;
                if done < turn || buf.len() as u64 >= above {
                    return Poll::Ready(Ok(()));
                }
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    };
}

reader! {
    /// The reading end of a child's standard output.
    ChildStdout
}

reader! {
    /// The reading end of a child's standard error.
    ChildStderr
}

/// The writing end of a child's standard input. Dropped, it is closed, within moments where it was
/// being waited for: the child reads an end.
pub struct ChildStdin(End<PipeWriter>);

common!(ChildStdin);

impl ChildStdin {
    /// Writes as much of `buf` as there is room for, at least a byte of it; waits where there is
    /// none.
    ///
    /// Cancel safe: dropped while it waits, it has written nothing.
    ///
    /// # Errors
    /// `EPIPE` (kind `BrokenPipe`) where nobody reads any more; a program that does not ignore
    /// SIGPIPE, as Rust's do, gets that.
    pub async fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        poll_fn(|cx| self.poll_write(cx, buf)).await
    }

    /// As [`write`](Self::write), as a poll. The last task that polled is woken.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let attempt = |mut pipe: &PipeWriter| pipe.write(buf);
        self.0.poll(cx, Interest::Writable, attempt)
    }

    /// Writes all of `buf`.
    ///
    /// Dropped before it is done, a part of it has been written.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub async fn write_all(&mut self, mut buf: &[u8]) -> io::Result<()> {
        while !buf.is_empty() {
            let count = self.write(buf).await?;
            if count == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            buf = &buf[count..];
        }
        Ok(())
    }
}
