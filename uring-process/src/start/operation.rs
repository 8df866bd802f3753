//! Executor kernel: `IORING_OP_PROCESS`, where the kernel has proved to have it.
//!
//! The process is made by the kernel as the entry is submitted, and the completion says that the program runs or
//! that there is no process. What the operation has no attribute for, and all that an exec does besides running the
//! one file that was found first, is left to the next executor: [`Heard::Next`].

use std::{
    ffi::{CStr, CString, c_char},
    fs, io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    sync::Arc,
};

use io_uring::squeue;
use uring_sys_ext::{
    opcode::{self, OpCode},
    process::{Attributes, FdMapping, Stage as OpStage},
};

use super::{Born, Pipes, Scratch, ladder, pipe_for, request::State};
use crate::{Error, ExecPlan, Stage, command::FdPolicy, plan::Origin, slot::Slot, sys::mask};

/// What a plan wants of the operation besides program and descriptors; made only where it can have it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) groups: Option<Arc<[u32]>>,
    pub(crate) dir: Option<CString>,
    pub(crate) process_group: Option<i32>,
    pub(crate) setsid: bool,
    pub(crate) keep_sigpipe: bool,
}

/// A process that the kernel is asked for, or about to be.
pub(crate) struct Operation {
    number: OpCode,
    plan: ExecPlan,
    path: *const c_char,
    mask: mask::Set,
    dir: Option<i32>,
    /// Until it is decided.
    slot: Option<Slot>,
    /// The entry has been handed out.
    asked: bool,
}

// SAFETY: the pointer leads to a string of the plan, which never changes and lives as long as this.
unsafe impl Send for Operation {}

/// What has become of it.
#[derive(Debug)]
pub(crate) enum Heard {
    /// The kernel has it still, whatever a completion said.
    Open,
    Runs(Born),
    /// There is no process.
    Failed(Error),
    /// There is no process, and the next executor is to try.
    Next {
        /// The ring has refused the operation as such.
        refused: bool,
    },
}

impl Operation {
    /// Asks for nothing yet. `None`: this plan is for the next executor.
    ///
    /// # Errors
    /// What the plan needs in this process cannot be had; or the operation is asked for by `URING_PROCESS_FORCE`
    /// and not there.
    pub(crate) fn new(
        plan: &ExecPlan,
        scratch: &mut Scratch,
    ) -> Result<Option<(Self, Pipes)>, Error> {
        let inner = &plan.0;
        let number = ladder::operation().map_err(|source| inner.error(Stage::Clone, source))?;
        let (Some(number), Some(wanted)) = (number, &inner.operation) else {
            return Ok(None);
        };
        let Some(path) = inner.first_there() else {
            return Ok(None);
        };
        let dir = match &wanted.dir {
            None => None,
            Some(dir) => match open(dir, libc::O_PATH | libc::O_DIRECTORY) {
                Ok(dir) => Some(dir),
                // It is the child's to say what is wrong with it.
                Err(_) => return Ok(None),
            },
        };
        let mut slot = Slot::without_stack();
        let result = place(plan, slot.request().map(), &mut scratch.ends);
        let dir_fd = dir.as_ref().map(AsRawFd::as_raw_fd);
        scratch.ends.extend(dir);
        let pipes = match result {
            Ok(pipes) => pipes,
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                scratch.ends.clear();
                return Ok(None);
            }
            Err(source) => {
                scratch.ends.clear();
                return Err(inner.error(Stage::Prepare, source));
            }
        };
        slot.keep(plan.clone(), &mut scratch.ends);
        let operation = Self {
            number,
            plan: plan.clone(),
            path,
            mask: inner.mask.unwrap_or_else(mask::current),
            dir: dir_fd,
            slot: Some(slot),
            asked: false,
        };
        Ok(Some((operation, pipes)))
    }

    pub(crate) fn plan(&self) -> &ExecPlan {
        &self.plan
    }

    /// The entry, to be handed to the kernel, once. All that it points at stays until the kernel is done with it,
    /// also if this is dropped or forgotten.
    pub(crate) fn entry(&mut self) -> Option<squeue::Entry> {
        if std::mem::replace(&mut self.asked, true) {
            return None;
        }
        let request = self.slot.as_mut()?.request();
        let inner = &self.plan.0;
        let mut attributes = Attributes::new().signal_mask(self.mask);
        if let Some(wanted) = &inner.operation {
            let Wanted {
                uid,
                gid,
                groups,
                dir: _,
                process_group,
                setsid,
                keep_sigpipe,
            } = wanted;
            if let Some(groups) = groups {
                attributes = attributes.groups(groups.as_ptr(), groups.len() as u32);
            }
            attributes = gid.map_or(attributes, |gid| attributes.gid(gid));
            attributes = uid.map_or(attributes, |uid| attributes.uid(uid));
            attributes = process_group.map_or(attributes, |group| attributes.pgid(group));
            if *setsid {
                attributes = attributes.setsid();
            }
            if !keep_sigpipe {
                attributes = attributes.signal_default(1 << (libc::SIGPIPE - 1));
            }
        }
        attributes = self.dir.map_or(attributes, |dir| attributes.cwd_fd(dir));
        if let Some(cgroup) = &inner.cgroup {
            attributes = attributes.cgroup_fd(cgroup.dir.as_raw_fd());
        }
        let only_mapped = inner.policy == FdPolicy::Mapped;
        let attributes = request.arm(attributes, only_mapped);
        let (argv, envp) = inner.argv_envp();
        let entry = opcode::Process::new(self.number, libc::AT_FDCWD, self.path)
            .argv(argv)
            .envp(envp)
            .attributes(attributes);
        Some(entry.build())
    }

    /// A completion has come, or what claims to be one. PID and errno are taken from it, all else is looked at.
    pub(crate) fn heard(&mut self, result: i32) -> Heard {
        let Some(slot) = self.slot.as_mut().filter(|_| self.asked) else {
            return Heard::Open;
        };
        let heard = match slot.request().state() {
            // Before the operation began to read: a ring that may not do it, or that was cancelled. The memory stays
            // with the slot, which waits for the kernel's word.
            State::Open { begun: false } if is_answer_of_the_ring(result) => Heard::Next {
                refused: is_refusal(result),
            },
            State::Open { .. } => return Heard::Open,
            State::Runs => match slot.request().take_pidfd() {
                Some(pidfd) => Heard::Runs(Born {
                    pid: pid_of(result, pidfd.as_fd()),
                    pidfd,
                }),
                None => return Heard::Open,
            },
            State::Failed(stage) => self.failed(stage, -result),
        };
        // Closes our copies of the child's ends of pipes, before anybody waits for them.
        self.slot = None;
        heard
    }

    fn failed(&self, stage: u32, errno: i32) -> Heard {
        let inner = &self.plan.0;
        let is_one = inner.is_one_path();
        let stage = match (OpStage::from_raw(stage), errno) {
            // Killed before anybody knew of it, as by a signal to the whole group: it is made again.
            (_, libc::EINTR) => return Heard::Next { refused: false },
            // Others may be found, or the file is about to be closed by who writes it.
            (Some(OpStage::Exec | OpStage::Path), libc::ETXTBSY) => {
                return Heard::Next { refused: false };
            }
            (Some(OpStage::Exec | OpStage::Path), _) if !is_one && may_go_on(errno) => {
                return Heard::Next { refused: false };
            }
            // Giving up groups is no must, see `Command::uid`.
            (Some(OpStage::Groups), libc::EPERM) => return Heard::Next { refused: false },
            // A map beyond the limit of descriptors, or one of them closed meanwhile: the child's own calls say it as
            // ever.
            (Some(OpStage::Attributes | OpStage::Descriptors), libc::EINVAL | libc::EBADF) => {
                return Heard::Next { refused: false };
            }
            (Some(OpStage::Clone), _) => Stage::Clone,
            (Some(OpStage::FdMap), _) => Stage::Descriptors,
            (Some(OpStage::Groups), _) => Stage::Groups,
            (Some(OpStage::Gid), _) => Stage::Gid,
            (Some(OpStage::Uid), _) => Stage::Uid,
            (Some(OpStage::Cwd), _) => Stage::CurrentDir,
            (Some(OpStage::ProcessGroup), _) => Stage::ProcessGroup,
            (Some(OpStage::Session), _) => Stage::Session,
            (Some(OpStage::Signals), _) => Stage::Signals,
            (Some(OpStage::Exec | OpStage::Path), _) => Stage::Exec,
            _ => Stage::Prepare,
        };
        let errno = if errno > 0 { errno } else { libc::EIO };
        Heard::Failed(inner.error(stage, io::Error::from_raw_os_error(errno)))
    }
}

/// The kernel's completion has the PID; one that is none of it has something else.
fn pid_of(result: i32, pidfd: BorrowedFd<'_>) -> i32 {
    if result > 0 {
        return result;
    }
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd()));
    let info = info.unwrap_or_default();
    let pid = info
        .lines()
        .find_map(|line| line.strip_prefix("Pid:\t")?.parse().ok());
    pid.unwrap_or(0)
}

/// The results by which an io_uring says that it does not, and never will, do the operation.
fn is_refusal(result: i32) -> bool {
    let errno = -result;
    matches!(
        errno,
        libc::EPERM | libc::EACCES | libc::EINVAL | libc::EOPNOTSUPP
    )
}

/// The results by which an io_uring answers instead of the operation.
fn is_answer_of_the_ring(result: i32) -> bool {
    is_refusal(result) || matches!(-result, libc::ECANCELED | libc::ENOMEM | libc::EAGAIN)
}

/// The errnos after which execvp(3) looks further.
fn may_go_on(errno: i32) -> bool {
    matches!(
        errno,
        libc::EPERM
            | libc::EACCES
            | libc::ENOENT
            | libc::ENOTDIR
            | libc::ESTALE
            | libc::ENODEV
            | libc::ETIMEDOUT
    )
}

fn open(path: &CStr, flags: i32) -> io::Result<OwnedFd> {
    // SAFETY: a string; the descriptor that comes back is nobody else's.
    unsafe {
        match libc::open(path.as_ptr(), flags | libc::O_CLOEXEC) {
            -1 => Err(io::Error::last_os_error()),
            fd => Ok(OwnedFd::from_raw_fd(fd)),
        }
    }
}

/// Whether an exec would leave the descriptor open.
fn is_inherited(fd: i32) -> bool {
    // SAFETY: integers only.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
    flags >= 0 && flags & libc::FD_CLOEXEC == 0
}

/// Fills the map; what is opened for it goes to `ends`. Returns our ends of pipes.
fn place(plan: &ExecPlan, map: &mut Vec<FdMapping>, ends: &mut Vec<OwnedFd>) -> io::Result<Pipes> {
    let mut pipes = Pipes::default();
    for (target, origin) in plan.0.fds() {
        let source = match origin {
            Origin::Inherit if plan.0.policy == FdPolicy::InheritAll || !is_inherited(*target) => {
                continue;
            }
            Origin::Inherit => *target,
            Origin::Owned(fd) => fd.as_raw_fd(),
            Origin::Borrowed(fd) => *fd,
            Origin::Null { write } => {
                let null = plan.0.nulls.get(*write);
                null.ok_or(io::ErrorKind::Unsupported)?
            }
            Origin::Pipe { child_reads } => {
                let (theirs, ours) = pipe_for(*child_reads)?;
                let fd = theirs.as_raw_fd();
                ends.push(theirs);
                pipes.put(*target, ours);
                fd
            }
        };
        map.push(FdMapping {
            source,
            target: *target,
        });
    }
    Ok(pipes)
}
