//! From a plan to a process: the executors, and which of them this kernel allows.
//!
//! | executor | how | kernel |
//! |---|---|---|
//! | kernel | the kernel makes the process, by an entry of an io_uring | none that is released |
//! | clone3 | shares memory and, until its first act, the descriptor table | 5.5 |
//! | clone | the same by the older call, where a sandbox refuses clone3 | 5.2 |
//! | fork | a copy of this process: for `pre_exec`, and where nothing else works | 5.3 |
//!
//! The first that works is kept for the life of the process. `URING_PROCESS_FORCE` names one to
//! use in any case, for tests and measurements ([`ladder`]). The kernel's operation is asked by the doors that have
//! a ring ([`Launch`]); the others begin at clone3.

mod clone;
mod fork;
pub(crate) mod ladder;
mod launch;
pub(crate) mod local;
mod operation;
mod pending;
mod request;

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
};

pub(crate) use ladder::Executor;
pub(crate) use launch::Launch;
pub(crate) use operation::{Heard, Operation, Wanted};
pub(crate) use pending::{Await, Pending, Progress};
pub(crate) use request::Request;

use crate::{
    Error, ExecPlan, Stage,
    child::{Move, Source},
    plan::{Origin, needed_end},
    sys::mask::Blocked,
};

/// How the caller learns that the program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watch {
    /// By the word that the kernel clears: the caller can wait on a futex.
    Word,
    /// By a pipe that the exec closes: the caller can wait for descriptors only.
    Pipe,
}

/// This process's ends of the pipes of a child.
#[derive(Debug, Default)]
pub(crate) struct Pipes {
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
}

impl Pipes {
    /// Our end of what the child has as its descriptor `target`.
    fn put(&mut self, target: i32, ours: OwnedFd) {
        match target {
            libc::STDIN_FILENO => self.stdin = Some(ours),
            libc::STDOUT_FILENO => self.stdout = Some(ours),
            _ => self.stderr = Some(ours),
        }
    }
}

/// A process, by its number and by what never means another.
#[derive(Debug)]
pub(crate) struct Born {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
}

/// A process that has been made; whether the program runs in it is still open.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
    pub(crate) pending: Pending,
    pub(crate) pipes: Pipes,
}

/// What a start needs besides the plan, kept by the caller so that a next one allocates nothing.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    map: Vec<Move>,
    ends: Vec<OwnedFd>,
}

impl Scratch {
    pub(crate) const fn new() -> Self {
        Self {
            map: Vec::new(),
            ends: Vec::new(),
        }
    }
}

/// Descriptors of one start.
struct Wiring {
    pipes: Pipes,
    /// What a copy of the table must hold.
    end: u32,
    /// The pipe that a failure is reported by: our end, and the child's.
    report: Option<(OwnedFd, OwnedFd)>,
}

/// Makes a process of the plan. Returns when it is made, not when its program runs.
///
/// # Errors
/// The process could not be made; there is none.
pub(crate) fn start(
    plan: &ExecPlan,
    watch: Watch,
    scratch: &mut Scratch,
) -> Result<Started, Error> {
    let result = start_with(plan, watch, scratch);
    // What a failure has left: nothing stays open until the next start.
    scratch.ends.clear();
    result
}

fn start_with(plan: &ExecPlan, watch: Watch, scratch: &mut Scratch) -> Result<Started, Error> {
    scratch.map.clear();
    let started = try_start(plan, watch, scratch);
    // Where it failed, the child's ends of pipes are still here.
    scratch.ends.clear();
    started
}

fn try_start(plan: &ExecPlan, watch: Watch, scratch: &mut Scratch) -> Result<Started, Error> {
    let inner = &plan.0;
    let executor = if inner.needs_fork {
        Executor::Fork
    } else {
        ladder::current()
    };
    let needs_report =
        watch == Watch::Pipe || executor == Executor::Fork || inner.launcher.is_some();
    let result = wire(plan, needs_report, scratch)
        .map_err(|source| inner.error(Stage::Prepare, source))
        .and_then(|wiring| {
            let blocked = Blocked::all();
            if executor == Executor::Fork {
                return fork::start(plan, wiring, scratch, &blocked);
            }
            clone::start(plan, executor, watch, wiring, scratch, &blocked)
        });
    // After a failure these are nobody's; the scratch may be kept for long.
    scratch.ends.clear();
    result
}

/// Runs the plan in this process. Returns only where that fails.
pub(crate) fn replace(plan: &ExecPlan) -> Error {
    let mut scratch = Scratch::default();
    let wiring = match wire(plan, false, &mut scratch) {
        Ok(wiring) => wiring,
        Err(source) => return plan.0.error(Stage::Prepare, source),
    };
    let blocked = Blocked::all();
    let (stage, errno) = fork::run_here(plan, &mut scratch, &blocked);
    drop(wiring);
    let stage = Stage::from_raw(stage).unwrap_or(Stage::Exec);
    plan.0.error(stage, io::Error::from_raw_os_error(errno))
}

/// A pipe, close-on-exec, whose ends are ours to keep.
fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = io::pipe()?;
    Ok((reader.into(), writer.into()))
}

/// The child's end and ours.
fn pipe_for(child_reads: bool) -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = pipe()?;
    Ok(if child_reads {
        (reader, writer)
    } else {
        (writer, reader)
    })
}

fn wire(plan: &ExecPlan, needs_report: bool, scratch: &mut Scratch) -> io::Result<Wiring> {
    let inner = &plan.0;
    let (map, mut end) = inner.map();
    scratch.map.extend_from_slice(map);
    let mut pipes = Pipes::default();
    for (at, (target, origin)) in inner.fds().iter().enumerate() {
        let Origin::Pipe { child_reads } = origin else {
            continue;
        };
        let (theirs, ours) = pipe_for(*child_reads)?;
        scratch.map[at].source = Source::Copy(theirs.as_raw_fd());
        end = end.max(needed_end(&scratch.map[at]));
        scratch.ends.push(theirs);
        pipes.put(*target, ours);
    }
    let report = if needs_report { Some(pipe()?) } else { None };
    if let Some((_, theirs)) = &report {
        let fd = theirs.as_raw_fd();
        end = end.max(fd as u32 + 1);
        if let Some(launcher) = &inner.launcher {
            let at = scratch
                .map
                .iter()
                .position(|entry| entry.target == launcher.report);
            if let Some(at) = at {
                scratch.map[at].source = Source::Copy(fd);
            }
        }
    }
    if let Some(cgroup) = &inner.cgroup {
        end = end.max(cgroup.dir.as_raw_fd() as u32 + 1);
    }
    Ok(Wiring { pipes, end, report })
}

/// The errno of a negative result of a raw system call.
fn error_of(result: isize) -> io::Error {
    io::Error::from_raw_os_error(-result as i32)
}
