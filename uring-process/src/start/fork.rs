//! Executor fork: a copy of this process. For `pre_exec`, and where nothing else works.
//!
//! Its cost grows with this process's memory, since the page tables are copied.

use std::{
    ffi::c_void,
    io,
    os::fd::{AsRawFd, OwnedFd},
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{Pending, Scratch, Started, Wiring, ladder::has_close_range, wire};
use crate::{
    Error, ExecPlan, Stage,
    child::{self, Job},
    plan::{Cgroup, Hook},
    sys::{mask::Blocked, pidfd},
};

/// As [`start`], with descriptors wired again.
pub(super) fn start_anew(
    plan: &ExecPlan,
    scratch: &mut Scratch,
    blocked: &Blocked,
) -> Result<Started, Error> {
    scratch.map.clear();
    scratch.ends.clear();
    let wiring =
        wire(plan, true, scratch).map_err(|source| plan.0.error(Stage::Prepare, source))?;
    start(plan, wiring, scratch, blocked)
}

/// # Errors
/// No process was made.
pub(super) fn start(
    plan: &ExecPlan,
    wiring: Wiring,
    scratch: &mut Scratch,
    blocked: &Blocked,
) -> Result<Started, Error> {
    let inner = &plan.0;
    let prepared = |source| inner.error(Stage::Prepare, source);
    let procs = inner.cgroup.as_ref().map(cgroup_procs).transpose();
    let procs = procs.map_err(|source| inner.error(Stage::Cgroup, source))?;
    // The child waits behind this until it has a pidfd: where SIGCHLD is ignored, or somebody waits
    // for any child, its number could be another process's by then.
    let (gate, opener) = super::pipe().map_err(prepared)?;
    let mut job = Job::idle();
    job.gate = Some((gate.as_raw_fd(), opener.as_raw_fd()));
    // Held while the child is made, so that no other thread is within a closure then.
    let mut hooks = inner.hooks.as_deref().map(lock);
    // SAFETY: the plan outlives the job; the child has a copy of both.
    unsafe { inner.fill(&raw mut job) };
    job.map = scratch.map.as_mut_ptr();
    job.map_len = scratch.map.len();
    job.reset_handlers = true;
    job.cgroup_procs = procs.as_ref().map(AsRawFd::as_raw_fd);
    job.no_close_range = no_close_range();
    job.mask = inner.mask.unwrap_or(blocked.before);
    job.hook = hooks.as_mut().map(hook_of);
    job.report = wiring.report.as_ref().map(|(_, theirs)| theirs.as_raw_fd());

    // SAFETY: the child has this thread only; it makes raw system calls and runs the closures,
    // whose author has promised that they may run so, and never returns from `run`.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: the job is complete, on memory that is the child's own.
        unsafe { child::run((&raw mut job).cast()) };
    }
    let failed = io::Error::last_os_error();
    drop(hooks);
    if pid < 0 {
        return Err(inner.error(Stage::Clone, failed));
    }
    let pidfd = match pidfd::open(pid) {
        Ok(pidfd) => pidfd,
        Err(error) => {
            // It ends by itself before a gate that never opens.
            drop(opener);
            // SAFETY: our child, not yet waited for; all signals are blocked, so it is not
            // interrupted.
            unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
            return Err(prepared(error));
        }
    };
    // Cannot fail or block: a pipe that is empty, and whose reading end we have too.
    // SAFETY: one byte to read from.
    unsafe { libc::write(opener.as_raw_fd(), c"x".as_ptr().cast(), 1) };
    drop((gate, opener));
    scratch.ends.clear();
    let pending = Pending::forked(plan.clone(), wiring.report);
    Ok(Started {
        pid,
        pidfd,
        pending,
        pipes: wiring.pipes,
    })
}

/// Carries out the plan in this process. Returns only where that fails.
pub(super) fn run_here(
    plan: &ExecPlan,
    scratch: &mut Scratch,
    blocked: &Blocked,
) -> child::Failure {
    let inner = &plan.0;
    let mut job = Job::idle();
    let mut hooks = inner.hooks.as_deref().map(lock);
    // SAFETY: the plan outlives the job.
    unsafe { inner.fill(&raw mut job) };
    job.map = scratch.map.as_mut_ptr();
    job.map_len = scratch.map.len();
    job.mask = inner.mask.unwrap_or(blocked.before);
    job.hook = hooks.as_mut().map(hook_of);
    // SAFETY: the job is complete, and nobody else has it.
    unsafe { child::attempt(&raw mut job) }
}

/// As the job takes it.
fn hook_of(hooks: &mut MutexGuard<'_, Vec<Hook>>) -> child::Hook {
    let list: *mut Vec<Hook> = &raw mut **hooks;
    (run_hooks, list.cast())
}

fn lock(hooks: &Mutex<Vec<Hook>>) -> MutexGuard<'_, Vec<Hook>> {
    hooks.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs the closures of `pre_exec`; returns an errno, or 0.
///
/// # Safety
/// `list` is a `Vec<Hook>` that nobody else uses: in a forked child, whose mutex is held.
unsafe fn run_hooks(list: *mut c_void) -> i32 {
    // SAFETY: as the caller promised.
    let hooks = unsafe { &mut *list.cast::<Vec<Hook>>() };
    for hook in hooks {
        if let Err(error) = hook() {
            return error.raw_os_error().unwrap_or(libc::EINVAL);
        }
    }
    0
}

/// The file by which a process moves itself into the cgroup.
pub(super) fn cgroup_procs(cgroup: &Cgroup) -> io::Result<OwnedFd> {
    use nix::{fcntl, sys::stat::Mode};
    let flags = fcntl::OFlag::O_WRONLY | fcntl::OFlag::O_CLOEXEC;
    Ok(fcntl::openat(
        &*cgroup.dir,
        "cgroup.procs",
        flags,
        Mode::empty(),
    )?)
}

/// Without close_range(2): one more than the highest number that a descriptor can have.
pub(super) fn no_close_range() -> Option<u32> {
    if has_close_range() {
        return None;
    }
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is writable for the time of the call.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    Some(limit.rlim_cur.min(1 << 20) as u32)
}
