//! The place where unknown operations are tried: a thread with a descriptor table of its own.

use std::{
    io,
    mem::MaybeUninit,
    os::fd::AsRawFd,
    ptr::null_mut,
    thread,
    time::{Duration, Instant},
};

use io_uring::IoUring;

use crate::{Error, error::is_refusal};

/// The place. Exists only on a thread that [`run`] made.
pub(super) struct Place(());

/// Runs `work` on a thread of its own whose descriptor table is its own and empty.
pub(super) fn run<T: Send>(
    work: impl FnOnce(&Place) -> Result<T, Error> + Send,
) -> Result<T, Error> {
    thread::scope(|scope| {
        let worker = thread::Builder::new()
            .name("uring-probe".into())
            .spawn_scoped(scope, || {
                block_signals();
                empty_descriptor_table()?;
                work(&Place(()))
            })
            .map_err(|source| Error::Discovery {
                what: "start a thread",
                source,
            })?;
        match worker.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// A handler of the program that ran on this thread would not find its descriptors.
fn block_signals() {
    let mut all = MaybeUninit::uninit();
    // SAFETY: the first call initialises the set that the second one reads; the mask is this
    // thread's own. Neither fails with these arguments.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), null_mut());
    }
}

/// Gives this thread a table of its own and closes all in it; other threads keep theirs.
fn empty_descriptor_table() -> Result<(), Error> {
    // SAFETY: takes integers only. With CLOSE_RANGE_UNSHARE (Linux 5.9) the table that is emptied
    // is this thread's copy, so descriptors that others own stay open in theirs; this thread owns
    // none.
    let closed = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            0u32,
            u32::MAX,
            libc::CLOSE_RANGE_UNSHARE,
        )
    };
    if closed < 0 {
        let source = io::Error::last_os_error();
        return Err(Error::Discovery {
            what: "close_range with CLOSE_RANGE_UNSHARE",
            source,
        });
    }
    Ok(())
}

impl Place {
    /// A ring that is not descriptor 0: nothing is.
    pub(super) fn ring(&self) -> Result<IoUring, Error> {
        let first = new_ring()?;
        // While the first one holds number 0, the second one cannot get it.
        if first.as_raw_fd() != 0 {
            Ok(first)
        } else {
            new_ring()
        }
    }

    /// Waits for the processes that a CLONE has left: they are over, or about to be.
    ///
    /// `__WNOTHREAD` keeps to children of this thread, so none of the caller's can be taken.
    pub(super) fn reap_children(&self) {
        let until = Instant::now() + Duration::from_secs(1);
        while Instant::now() < until {
            let flags = libc::__WALL | libc::__WNOTHREAD | libc::WNOHANG;
            // SAFETY: a null status is allowed.
            match unsafe { libc::waitpid(-1, null_mut(), flags) } {
                -1 => return,
                0 => thread::sleep(Duration::from_millis(1)),
                _ => {}
            }
        }
    }
}

fn new_ring() -> Result<IoUring, Error> {
    let ring = IoUring::new(8).map_err(|source| match is_refusal(&source) {
        true => Error::Refused(source),
        false => Error::Discovery {
            what: "io_uring_setup",
            source,
        },
    })?;
    if !ring.params().is_feature_ext_arg() {
        let source = io::Error::from_raw_os_error(libc::EOPNOTSUPP);
        return Err(Error::Discovery {
            what: "wait with a time limit (Linux 5.11)",
            source,
        });
    }
    Ok(ring)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thread_has_only_its_ring_and_takes_no_signals() {
        let done = run(|place| {
            // A later ring, too, must not be descriptor 0.
            let rings = [place.ring()?, place.ring()?];
            let ours = rings.each_ref().map(AsRawFd::as_raw_fd);
            for fd in 0..64 {
                // SAFETY: F_GETFD looks at the table only.
                let is_open = unsafe { libc::fcntl(fd, libc::F_GETFD) } >= 0;
                assert_eq!(is_open, ours.contains(&fd), "descriptor {fd}");
            }
            assert!(!ours.contains(&0));

            let mut mask = MaybeUninit::uninit();
            // SAFETY: with a null set the call only writes the mask, which is then initialised.
            let mask = unsafe {
                libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), mask.as_mut_ptr());
                mask.assume_init()
            };
            for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGCHLD, libc::SIGUSR1] {
                // SAFETY: the set is initialised.
                assert_eq!(unsafe { libc::sigismember(&raw const mask, signal) }, 1);
            }
            Ok(())
        });
        match done {
            Ok(()) => {}
            Err(error) => eprintln!("SKIP: {error}"),
        }
    }

    #[test]
    fn children_of_other_threads_are_not_reaped() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let done = run(|place| {
            place.reap_children();
            Ok(())
        });
        // Reaped by somebody else it would be ECHILD.
        assert!(child.wait().unwrap().success());
        if let Err(error) = done {
            eprintln!("SKIP: {error}");
        }
    }
}
