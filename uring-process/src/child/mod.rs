//! What runs in the new process, between its making and the new program.
//!
//! On the clone executors the child shares the caller's memory, on a stack of its own, while the
//! caller goes on. It also shares the calling thread's thread-local storage. So nothing here may
//! allocate, panic, lock, or call libc: raw system calls only, on memory that was laid out before
//! ([`Job`]) and that nobody else touches until the child has let go of it.

mod fds;

use std::{
    ffi::{c_char, c_void},
    sync::atomic::{AtomicU32, Ordering},
};

pub(crate) use fds::{Move, Source};

use crate::{
    Stage,
    sys::{
        checked,
        mask::{self, Set},
        raw::syscall,
    },
};

/// What a clone calls in the child.
pub(crate) type Entry = unsafe extern "C" fn(*mut c_void) -> !;

/// A function that returns an errno or 0, and its argument.
pub(crate) type Hook = (unsafe fn(*mut c_void) -> i32, *mut c_void);

/// One system call of the child's, laid out in advance.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawCall {
    pub(crate) number: usize,
    pub(crate) args: [usize; 6],
    pub(crate) stage: u32,
    /// An errno that is no failure, or 0.
    pub(crate) ignore: i32,
}

/// What the child shall do. All pointers are valid until the child has let go of its memory.
#[repr(C)]
pub(crate) struct Job {
    /// Not zero until the kernel, on behalf of the child, has let go of the caller's memory
    /// (`CLONE_CHILD_CLEARTID`): by an exec, or by its end.
    pub(crate) held: AtomicU32,
    /// Errno of the failure, 0 without one; written before `held` becomes zero.
    pub(crate) errno: AtomicU32,
    /// The stage of the failure.
    pub(crate) stage: AtomicU32,

    /// The descriptor table is shared with the caller: keep a copy of those below this.
    pub(crate) unshare_from: Option<u32>,
    /// Signal handlers are not reset by the clone itself.
    pub(crate) reset_handlers: bool,
    /// `cgroup.procs` of the cgroup to move to, where the clone itself could not.
    pub(crate) cgroup_procs: Option<i32>,
    pub(crate) map: *mut Move,
    pub(crate) map_len: usize,
    /// Ranges, both ends included, that the new program does not get.
    pub(crate) gaps: *const (u32, u32),
    pub(crate) gaps_len: usize,
    /// close_range(2) is not there: go through the numbers below this.
    pub(crate) no_close_range: Option<u32>,
    pub(crate) calls: *const RawCall,
    pub(crate) calls_len: usize,
    /// The signal mask of the new program.
    pub(crate) mask: Set,
    /// Runs in a forked child only.
    pub(crate) hook: Option<Hook>,
    /// Calls after the hook.
    pub(crate) late_calls: *const RawCall,
    pub(crate) late_calls_len: usize,
    /// Descriptor of the launcher's image, in the child.
    pub(crate) launcher: Option<i32>,
    pub(crate) candidates: *const *const c_char,
    pub(crate) candidates_len: usize,
    pub(crate) argv: *const *const c_char,
    pub(crate) envp: *const *const c_char,
    /// Where a failure is written to besides this structure; close-on-exec.
    pub(crate) report: Option<i32>,
}

/// The child of a clone: does the job, never returns.
///
/// # Safety
/// `job` is a [`Job`] whose pointers are valid; no other thread touches what they lead to.
pub(crate) unsafe extern "C" fn run(job: *mut c_void) -> ! {
    let job: *mut Job = job.cast();
    // SAFETY: as the caller promised.
    unsafe {
        let failure = attempt(job);
        give_up(job, failure)
    }
}

/// A stage and an errno.
pub(crate) type Failure = (u32, i32);

/// Does the job. Returns only where it failed.
///
/// # Safety
/// As [`run`].
pub(crate) unsafe fn attempt(job: *mut Job) -> Failure {
    // SAFETY: as the caller promised.
    unsafe {
        if let Err(failure) = prepare(job) {
            return failure;
        }
        if let Some(image) = (*job).launcher {
            let empty = c"".as_ptr() as usize;
            let (argv, envp) = ((*job).argv as usize, (*job).envp as usize);
            let args = [
                image as usize,
                empty,
                argv,
                envp,
                libc::AT_EMPTY_PATH as usize,
                0,
            ];
            let result = syscall(libc::SYS_execveat as usize, args);
            return (Stage::Launcher as u32, -result as i32);
        }
        (Stage::Exec as u32, search(job))
    }
}

/// Everything before the exec.
unsafe fn prepare(job: *mut Job) -> Result<(), Failure> {
    // SAFETY: as in `run`.
    unsafe {
        if let Some(first) = (*job).unshare_from {
            let flags = libc::CLOSE_RANGE_UNSHARE as usize;
            let args = [first as usize, u32::MAX as usize, flags, 0, 0, 0];
            checked(syscall(libc::SYS_close_range as usize, args))
                .map_err(|errno| (Stage::Unshare as u32, errno))?;
        }
        if (*job).reset_handlers {
            reset_handlers();
        }
        if let Some(procs) = (*job).cgroup_procs {
            let args = [procs as usize, c"0".as_ptr() as usize, 1, 0, 0, 0];
            checked(syscall(libc::SYS_write as usize, args))
                .map_err(|errno| (Stage::Cgroup as u32, errno))?;
        }
        fds::place(job).map_err(|errno| (Stage::Descriptors as u32, errno))?;
        calls((*job).calls, (*job).calls_len)?;
        mask::set(
            libc::SIG_SETMASK,
            &raw const (*job).mask,
            std::ptr::null_mut(),
        );
        if let Some((hook, data)) = (*job).hook {
            let errno = hook(data);
            if errno != 0 {
                return Err((Stage::PreExec as u32, errno));
            }
        }
        calls((*job).late_calls, (*job).late_calls_len)
    }
}

unsafe fn calls(list: *const RawCall, len: usize) -> Result<(), Failure> {
    for at in 0..len {
        // SAFETY: `len` calls lie there, whose arguments are valid.
        unsafe {
            let call = list.add(at);
            match checked(syscall((*call).number, (*call).args)) {
                Err(errno) if errno != (*call).ignore => return Err(((*call).stage, errno)),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Tries the candidates as execvp(3) does, but for a file that is no program: that is `ENOEXEC`.
unsafe fn search(job: *mut Job) -> i32 {
    let mut denied = false;
    let mut last = libc::ENOENT;
    // SAFETY: as in `run`.
    unsafe {
        for at in 0..(*job).candidates_len {
            let path = *(*job).candidates.add(at);
            let args = [
                path as usize,
                (*job).argv as usize,
                (*job).envp as usize,
                0,
                0,
                0,
            ];
            last = -syscall(libc::SYS_execve as usize, args) as i32;
            let mut pause_ms = 1;
            // Being written: perhaps no more by anybody but a child of ours between the copy of its
            // descriptors and its own exec. A filter may forbid to pause.
            while last == libc::ETXTBSY && pause_ms <= 8 && (*job).late_calls_len == 0 {
                pause(pause_ms);
                pause_ms *= 2;
                last = -syscall(libc::SYS_execve as usize, args) as i32;
            }
            match last {
                libc::EACCES => denied = true,
                libc::ENOENT | libc::ENOTDIR | libc::ESTALE | libc::ENODEV | libc::ETIMEDOUT => {}
                _ => return last,
            }
        }
    }
    if denied { libc::EACCES } else { last }
}

unsafe fn pause(ms: libc::c_long) {
    let time = [0, ms * 1_000_000];
    let args = [(&raw const time) as usize, 0, 0, 0, 0, 0];
    // SAFETY: the time is two numbers of that size; a null pointer asks for nothing.
    unsafe { syscall(libc::SYS_nanosleep as usize, args) };
}

/// Signals that the caller handles get their default disposition, as `CLONE_CLEAR_SIGHAND` does.
unsafe fn reset_handlers() {
    // handler, flags, restorer and mask of the kernel's structure, each of 8 bytes.
    let mut action = [0usize; 4];
    let default = [0usize; 4];
    for signal in 1..=64 {
        let get = [signal, 0, (&raw mut action) as usize, mask::SIZE, 0, 0];
        let set = [signal, (&raw const default) as usize, 0, mask::SIZE, 0, 0];
        // SAFETY: both structures are large enough; SIGKILL and SIGSTOP are refused, harmlessly.
        unsafe {
            let known = syscall(libc::SYS_rt_sigaction as usize, get) == 0;
            if known && action[0] != libc::SIG_DFL && action[0] != libc::SIG_IGN {
                syscall(libc::SYS_rt_sigaction as usize, set);
            }
        }
    }
}

/// Leaves the failure where the caller finds it, and ends.
unsafe fn give_up(job: *mut Job, (stage, errno): Failure) -> ! {
    // SAFETY: as in `run`.
    unsafe {
        (*job).stage.store(stage, Ordering::Relaxed);
        (*job).errno.store(errno as u32, Ordering::Release);
        if let Some(report) = (*job).report {
            let words = [stage, errno as u32];
            let args = [report as usize, (&raw const words) as usize, 8, 0, 0, 0];
            while syscall(libc::SYS_write as usize, args) == -(libc::EINTR as isize) {}
        }
        loop {
            syscall(libc::SYS_exit_group as usize, [127, 0, 0, 0, 0, 0]);
        }
    }
}
