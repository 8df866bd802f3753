//! Reading two pipes at a time, so that neither fills up while the other is read.

use std::{
    io::{self, Read},
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

use crate::{ChildStderr, ChildStdout};

pub(super) fn both(
    mut out: ChildStdout,
    stdout: &mut Vec<u8>,
    mut err: ChildStderr,
    stderr: &mut Vec<u8>,
) -> io::Result<()> {
    set_nonblocking(out.as_fd())?;
    set_nonblocking(err.as_fd())?;
    let (mut out_open, mut err_open) = (true, true);
    while out_open || err_open {
        let entry = |fd: BorrowedFd<'_>, open| libc::pollfd {
            // A negative one is passed over.
            fd: if open { fd.as_raw_fd() } else { -1 },
            events: libc::POLLIN,
            revents: 0,
        };
        let mut polls = [entry(out.as_fd(), out_open), entry(err.as_fd(), err_open)];
        // SAFETY: two entries, for the time of the call.
        if unsafe { libc::poll(polls.as_mut_ptr(), 2, -1) } < 0 {
            let error = io::Error::last_os_error();
            if error.kind() == io::ErrorKind::Interrupted {
                continue;
            }
            return Err(error);
        }
        if polls[0].revents != 0 {
            out_open = drain(&mut out, stdout)?;
        }
        if polls[1].revents != 0 {
            err_open = drain(&mut err, stderr)?;
        }
    }
    Ok(())
}

/// Reads what is there; returns whether more may come.
fn drain(from: &mut impl Read, to: &mut Vec<u8>) -> io::Result<bool> {
    match from.read_to_end(to) {
        Ok(_) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
        Err(error) => Err(error),
    }
}

pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}
