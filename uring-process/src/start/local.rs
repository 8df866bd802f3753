//! The kernel's operation for a caller that waits: each thread that spawns keeps a small ring.

use std::{cell::Cell, io, os::fd::AsRawFd};

use io_uring::IoUring;

use super::{Born, Heard, Operation, Pending, Scratch, Started};
use crate::{Error, ExecPlan, Stage};

/// A ring of this thread, and the process that made it: one that was forked has no part in it.
struct Local {
    ring: IoUring,
    pid: u32,
}

impl Local {
    fn new() -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .build(2)?;
        Ok(Self {
            ring,
            pid: std::process::id(),
        })
    }

    /// That of this thread, taken out.
    fn take() -> io::Result<Self> {
        let kept = RING.try_with(Cell::take).ok().flatten();
        match kept {
            Some(local) if local.pid == std::process::id() => Ok(local),
            Some(of_the_parent) => {
                // SAFETY: the number is the ring's, in this process's table, and forgotten below.
                unsafe { libc::close(of_the_parent.ring.as_raw_fd()) };
                // Its memory is not mapped here.
                std::mem::forget(of_the_parent);
                Self::new()
            }
            None => Self::new(),
        }
    }

    fn keep(self) {
        let _ = RING.try_with(|kept| kept.set(Some(self)));
    }

    /// Has the kernel carry it out, and waits. `None`: the next executor's turn.
    fn run(&mut self, operation: &mut Operation) -> io::Result<Heard> {
        let Some(entry) = operation.entry() else {
            return Ok(Heard::Open);
        };
        // SAFETY: what the entry points at stays until the kernel is done with it, see `Operation::entry`.
        unsafe { self.ring.submission().push(&entry) }.map_err(io::Error::other)?;
        loop {
            match self.ring.submit_and_wait(1) {
                Err(error) if error.raw_os_error() != Some(libc::EINTR) => return Err(error),
                _ => {}
            }
            while let Some(completion) = self.ring.completion().next() {
                match operation.heard(completion.result()) {
                    Heard::Open => {}
                    other => return Ok(other),
                }
            }
        }
    }
}

thread_local! {
    static RING: Cell<Option<Local>> = const { Cell::new(None) };
}

/// Starts the plan by the kernel's operation and waits until the program runs. `None`: the next executor's turn.
///
/// # Errors
/// The program could not be run; there is no process.
pub(crate) fn run(plan: &ExecPlan, scratch: &mut Scratch) -> Result<Option<Started>, Error> {
    let Some((mut operation, pipes)) = Operation::new(plan, scratch)? else {
        return Ok(None);
    };
    let Ok(mut local) = Local::take() else {
        return Ok(None);
    };
    match local.run(&mut operation) {
        Ok(heard) => {
            local.keep();
            match heard {
                Heard::Runs(Born { pid, pidfd }) => Ok(Some(Started {
                    pid,
                    pidfd,
                    pending: Pending::decided(plan.clone()),
                    pipes,
                })),
                Heard::Failed(error) => Err(error),
                Heard::Open | Heard::Next { .. } => Ok(None),
            }
        }
        // Its ring goes with it, and takes back what has not become a program.
        Err(source) => Err(plan.0.error(Stage::Clone, source)),
    }
}
