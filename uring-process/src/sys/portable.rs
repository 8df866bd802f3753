//! Architectures without a clone of our own: processes come from fork(2), the last executor.

use std::ffi::c_void;

use super::super::child::Entry;

/// A process can be made that shares this one's memory.
pub(crate) const HAS_CLONE: bool = false;

/// A system call with six arguments, of which the kernel ignores those that it does not take.
///
/// # Safety
/// As the system call's.
#[inline(always)]
pub(crate) unsafe fn syscall(number: usize, args: [usize; 6]) -> isize {
    let [a, b, c, d, e, f] = args;
    // SAFETY: as the caller promised. A forked child has errno to itself.
    let result = unsafe { libc::syscall(number as libc::c_long, a, b, c, d, e, f) };
    if result == -1 {
        // SAFETY: libc's own thread-local.
        return -(unsafe { *libc::__errno_location() } as isize);
    }
    result as isize
}

/// Not there: ENOSYS.
///
/// # Safety
/// None needed.
pub(crate) unsafe fn clone3(_: *const c_void, _: usize, _: Entry, _: *mut c_void) -> isize {
    -(libc::ENOSYS as isize)
}

/// Not there: ENOSYS.
///
/// # Safety
/// None needed.
pub(crate) unsafe fn clone(
    _: usize,
    _: *mut c_void,
    _: *mut i32,
    _: *mut u32,
    _: Entry,
    _: *mut c_void,
) -> isize {
    -(libc::ENOSYS as isize)
}
