//! The thread's signal mask, all 64 signals of it.
//!
//! libc's own calls leave out the two or three signals that it uses itself; around a clone every
//! one must be blocked, so these ask the kernel (`rt_sigprocmask(2)`).

use super::raw;

/// A set of signals, bit n-1 for signal n: the kernel's `sigset_t`.
pub(crate) type Set = u64;

/// Size in bytes that the kernel wants to hear.
pub(crate) const SIZE: usize = size_of::<Set>();

/// All signals of this thread are blocked while this lives.
pub(crate) struct Blocked {
    /// The mask before.
    pub(crate) before: Set,
}

impl Blocked {
    pub(crate) fn all() -> Self {
        let all: Set = !0;
        let mut before: Set = 0;
        // SAFETY: both pointers are to sets of the size given, for the time of the call.
        unsafe {
            set(libc::SIG_BLOCK, &raw const all, &raw mut before);
        }
        Self { before }
    }
}

/// This thread's mask.
pub(crate) fn current() -> Set {
    let mut now: Set = 0;
    // SAFETY: the set has the size given; a null pointer changes nothing.
    unsafe { set(libc::SIG_BLOCK, std::ptr::null(), &raw mut now) };
    now
}

impl Drop for Blocked {
    fn drop(&mut self) {
        // SAFETY: as above; a null pointer asks for nothing.
        unsafe {
            set(
                libc::SIG_SETMASK,
                &raw const self.before,
                std::ptr::null_mut(),
            );
        }
    }
}

/// # Safety
/// `new` is readable, `old` writable or null.
#[inline(always)]
pub(crate) unsafe fn set(how: i32, new: *const Set, old: *mut Set) {
    let args = [how as usize, new as usize, old as usize, SIZE, 0, 0];
    // SAFETY: as the caller promised. It cannot fail with valid pointers and size.
    unsafe { raw::syscall(libc::SYS_rt_sigprocmask as usize, args) };
}
