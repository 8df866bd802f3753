//! Making processes: a plan, an entry of the queue, a caller held up, many in flight.

use std::{io, os::unix::process::ExitStatusExt, process::ExitStatus};

use io_uring::{IoUring, squeue::Entry};
use uring_process::{
    Command, ExecPlan, Stdio,
    ring::{Event, Spawner},
};
use uring_sys_ext::{
    opcode::{self, OpCode},
    process::Attributes,
};

/// A command as build tools have them, compiled.
///
/// # Errors
/// Does not fail in practice.
pub fn compile() -> io::Result<ExecPlan> {
    let mut command = Command::new("/bin/true");
    command
        .args([
            "--crate-name",
            "lab",
            "--edition",
            "2024",
            "-C",
            "opt-level=3",
        ])
        .env_clear()
        .envs([("PATH", "/usr/bin:/bin"), ("HOME", "/root"), ("LANG", "C")])
        .current_dir("/")
        .stdin(Stdio::null());
    command.plan()
}

/// An entry that asks the kernel for a process, with attributes.
pub(super) fn entry(attributes: &mut Attributes) -> Entry {
    // SAFETY: the entry is only looked at, never submitted.
    let number = unsafe { OpCode::assume(200) };
    *attributes = Attributes::new().uid(1000).gid(1000).setsid();
    opcode::Process::new(number, libc::AT_FDCWD, c"/bin/true".as_ptr())
        .attributes(attributes)
        .build()
        .user_data(1)
}

/// An error where the child failed.
///
/// # Errors
/// That.
pub fn check(status: ExitStatus) -> io::Result<()> {
    if status.into_raw() == 0 {
        Ok(())
    } else {
        Err(io::Error::other("the child failed"))
    }
}

/// A spawner on a ring of its own, for one thread.
pub struct Ring {
    ring: IoUring,
    spawner: Spawner,
    /// Calls of io_uring_enter(2) so far.
    pub enters: u64,
}

impl Ring {
    /// # Errors
    /// Without io_uring.
    pub fn new() -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .build(4096)
            .or_else(|_| IoUring::new(4096))?;
        let spawner = Spawner::new(&ring, 0xBEEF)?;
        Ok(Self {
            ring,
            spawner,
            enters: 0,
        })
    }

    /// Makes so many processes, up to `in_flight` at a time, and waits for the end of each.
    ///
    /// # Errors
    /// Where one cannot be made, or fails.
    pub fn many(&mut self, plan: &ExecPlan, count: usize, in_flight: usize) -> io::Result<()> {
        let Self {
            ring,
            spawner,
            enters,
        } = self;
        let (mut begun, mut ended) = (0, 0);
        while ended < count {
            while begun < count && spawner.in_flight() < in_flight {
                spawner.submit(plan)?;
                begun += 1;
            }
            spawner.push(&mut ring.submission());
            *enters += 1;
            ring.submit_and_wait(1)?;
            for completion in ring.completion() {
                spawner.complete(completion.user_data(), completion.result());
            }
            while let Some(event) = spawner.next_event() {
                match event {
                    Event::Started(_) => {}
                    Event::Failed { error, .. } => return Err(error.into()),
                    Event::Ended { status, .. } => {
                        check(status.ok_or(io::ErrorKind::NotFound)?)?;
                        ended += 1;
                    }
                }
            }
        }
        Ok(())
    }
}
