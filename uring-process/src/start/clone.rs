//! Executors clone3 and clone: the child shares our memory, and this thread goes on.

use std::{
    mem::size_of,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use super::{
    Executor, Pending, Scratch, Started, Watch, Wiring, error_of, fork,
    ladder::{self, has_close_range},
};
use crate::{
    Error, ExecPlan, Stage,
    child::{self, Job},
    command::FdPolicy,
    slot::Slot,
    sys::{mask::Blocked, raw},
};

/// `struct clone_args` of `include/uapi/linux/sched.h`, Linux 5.7.
#[repr(C)]
#[derive(Debug, Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

const _: () = assert!(size_of::<CloneArgs>() == 88);

/// `CLONE_CLEAR_SIGHAND` and `CLONE_INTO_CGROUP`, of clone3 only.
const CLEAR_SIGHAND: u64 = 1 << 32;
const INTO_CGROUP: u64 = 1 << 33;

/// # Errors
/// No process was made, by no executor from this one on.
pub(super) fn start(
    plan: &ExecPlan,
    mut executor: Executor,
    watch: Watch,
    wiring: Wiring,
    scratch: &mut Scratch,
    blocked: &Blocked,
) -> Result<Started, Error> {
    let inner = &plan.0;
    let mut slot = Slot::acquire().map_err(|source| inner.error(Stage::Prepare, source))?;
    // Whatever the child takes from a shared table must stay open until it has a copy, also if the
    // caller drops the handle: the slot sees to that.
    let (report, theirs) = wiring.report.unzip();
    let report_fd = theirs.as_ref().map(AsRawFd::as_raw_fd);
    scratch.ends.extend(theirs);
    let mut procs: Option<i32> = None;
    let shares_table =
        watch == Watch::Word && inner.policy == FdPolicy::Mapped && has_close_range();
    let mut first_refusal = None;
    loop {
        if let (Some(cgroup), Executor::Clone) = (&inner.cgroup, executor) {
            let file =
                fork::cgroup_procs(cgroup).map_err(|source| inner.error(Stage::Cgroup, source))?;
            procs = Some(file.as_raw_fd());
            scratch.ends.push(file);
        }
        slot.arm(plan.clone(), &scratch.map, &mut scratch.ends);
        let job = slot.job();
        // SAFETY: no child has the job, and the slot keeps the plan until none has it any more.
        unsafe {
            inner.fill(job);
            (*job).unshare_from = shares_table.then(|| {
                let procs_end = procs.map_or(0, |fd| fd as u32 + 1);
                wiring.end.max(procs_end)
            });
            (*job).reset_handlers = executor == Executor::Clone;
            (*job).cgroup_procs = procs;
            (*job).no_close_range = fork::no_close_range();
            (*job).mask = inner.mask.unwrap_or(blocked.before);
            (*job).hook = None;
            // The launcher's report is in the map; the child itself has the slot to report to,
            // which a caller that waits for the pipe looks at too.
            (*job).report = report_fd;
        }
        let mut pidfd = -1;
        // SAFETY: `arm` and the lines above have made the job complete.
        let result = unsafe { make(executor, &slot, shares_table, plan, &mut pidfd) };
        if result > 0 {
            // An argument that is too new may be that of the cgroup alone.
            let of_the_call = |error: &std::io::Error| {
                matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM))
            };
            if first_refusal
                .as_ref()
                .is_some_and(|error| inner.cgroup.is_none() || of_the_call(error))
            {
                ladder::keep(executor);
            }
            // SAFETY: the kernel has just made it for us.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            if !shares_table {
                // The child has copies of its own, and a reader would wait for ours in vain.
                slot.close_ends();
            }
            let pending = Pending::new(plan.clone(), slot, watch, report);
            return Ok(Started {
                pid: result as i32,
                pidfd,
                pending,
                pipes: wiring.pipes,
            });
        }
        slot.disarm();
        slot.take_ends(&mut scratch.ends);
        let error = error_of(result);
        let refused = matches!(
            error.raw_os_error(),
            Some(libc::ENOSYS | libc::EPERM | libc::EINVAL | libc::E2BIG)
        );
        let error = first_refusal.unwrap_or(error);
        if !refused || ladder::forced().executor.is_some() {
            return Err(inner.error(Stage::Clone, error));
        }
        match executor {
            Executor::Clone3 => {
                executor = Executor::Clone;
                first_refusal = Some(error);
            }
            _ => {
                // It needs a pipe to report by, so begin anew.
                drop(slot);
                drop(report);
                ladder::keep(Executor::Fork);
                return fork::start_anew(plan, scratch, blocked);
            }
        }
    }
}

/// Returns the PID or a negative errno.
///
/// # Safety
/// The slot's job is complete and no child has it.
unsafe fn make(
    executor: Executor,
    slot: &Slot,
    shares_table: bool,
    plan: &ExecPlan,
    pidfd: &mut i32,
) -> isize {
    let job: *mut Job = slot.job();
    let (stack, stack_size) = slot.stack();
    let mut flags = libc::CLONE_VM | libc::CLONE_PIDFD | libc::CLONE_CHILD_CLEARTID;
    if shares_table {
        flags |= libc::CLONE_FILES;
    }
    if ladder::forced().vfork {
        flags |= libc::CLONE_VFORK;
    }
    // SAFETY: the stack is the slot's, which no other child uses; `run` never returns, and what
    // the job leads to lives until the word is cleared; the word lives as long as the slot.
    unsafe {
        let tid = (&raw mut (*job).held).cast::<u32>();
        if executor == Executor::Clone {
            let flags = flags as usize | libc::SIGCHLD as usize;
            let top = stack.add(stack_size).cast();
            return raw::clone(flags, top, pidfd, tid, child::run, job.cast());
        }
        let mut args = CloneArgs {
            flags: flags as u64 | CLEAR_SIGHAND,
            pidfd: std::ptr::from_mut(pidfd) as u64,
            child_tid: tid as u64,
            exit_signal: libc::SIGCHLD as u64,
            stack: stack as u64,
            stack_size: stack_size as u64,
            ..CloneArgs::default()
        };
        // Without a cgroup the first version of the structure does, which 5.3 knows.
        let mut size = 64;
        if let Some(cgroup) = &plan.0.cgroup {
            args.flags |= INTO_CGROUP;
            args.cgroup = cgroup.dir.as_raw_fd() as u64;
            size = size_of::<CloneArgs>();
        }
        raw::clone3((&raw const args).cast(), size, child::run, job.cast())
    }
}
