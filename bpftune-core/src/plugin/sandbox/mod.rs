//! What a process plugin may be and do: a user of its own, no privileges, few system calls, little of
//! everything.

mod cgroup;
mod seccomp;
mod user;

use std::{
    fs::File,
    io::{self, PipeReader, PipeWriter},
    os::fd::{AsFd, OwnedFd},
};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use uring_process::{Command, Starting};

pub use self::{cgroup::Cgroup, user::pick};
use super::Limits;

/// The number of the descriptor that a plugin's own program has in it, open for reading: scripts are
/// opened by their interpreter after the exec.
const PROGRAM_FD: i32 = 3;

/// A process that has been made, and our ends of its streams; they do not block.
#[derive(Debug)]
pub struct Spawned {
    /// The process; whether its program runs is open.
    pub starting: Starting,
    /// Its standard input.
    pub stdin: PipeWriter,
    /// Its standard output.
    pub stdout: PipeReader,
    /// Its standard error.
    pub stderr: PipeReader,
}

/// Starts `program` confined; returns at once.
///
/// What is run is the open file, whatever its path leads to by now.
///
/// # Errors
/// The process could not be made, or this architecture has no filter.
pub fn spawn(
    name: &str,
    program: &File,
    uid: u32,
    limits: &Limits,
    cgroup: Option<&Cgroup>,
) -> io::Result<Spawned> {
    let filter = seccomp::filter().ok_or_else(|| {
        io::Error::other("no system call filter for this architecture, so no process plugins")
    })?;
    let (stdin_child, stdin) = io::pipe()?;
    let (stdout, stdout_child) = io::pipe()?;
    let (stderr, stderr_child) = io::pipe()?;
    unblock(&stdin)?;
    unblock(&stdout)?;
    unblock(&stderr)?;
    let Limits {
        memory,
        processes,
        files,
        cpu_seconds,
    } = *limits;
    let mut command = Command::new(format!("/proc/self/fd/{PROGRAM_FD}"));
    command
        .arg0(name)
        .stdin(OwnedFd::from(stdin_child))
        .stdout(OwnedFd::from(stdout_child))
        .stderr(OwnedFd::from(stderr_child))
        .fd_map(PROGRAM_FD, OwnedFd::from(program.try_clone()?))
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("LANG", "C.UTF-8")
        .env("BPFTUNE_PLUGIN", name)
        .current_dir("/")
        .groups(&[])
        .gid(uid)
        .uid(uid)
        .setsid(true)
        .umask(0o077)
        .nice(10)
        .signal_mask(0)
        .no_new_privs()
        .seccomp_filter(&filter);
    for (resource, limit) in [
        (libc::RLIMIT_AS, memory),
        (libc::RLIMIT_NPROC, processes),
        (libc::RLIMIT_NOFILE, files),
        (libc::RLIMIT_CPU, cpu_seconds),
        // Nothing is written but pipes.
        (libc::RLIMIT_FSIZE, 0),
        (libc::RLIMIT_CORE, 0),
        (libc::RLIMIT_MEMLOCK, 0),
        (libc::RLIMIT_MSGQUEUE, 0),
    ] {
        command.rlimit(resource, limit, limit);
    }
    if let Some(cgroup) = cgroup {
        command.cgroup(cgroup.dir()?);
    }
    let starting = command.start()?;
    Ok(Spawned {
        starting,
        stdin,
        stdout,
        stderr,
    })
}

fn unblock(fd: &impl AsFd) -> io::Result<()> {
    fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok(())
}
