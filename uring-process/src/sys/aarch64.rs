//! aarch64: system calls without libc (no errno, so no thread-local storage), and clone.
//!
//! Calling convention: syscall(2), and `arch/arm64/kernel/syscall.c` in the kernel.

use std::{arch::asm, ffi::c_void};

use super::super::child::Entry;

/// A process can be made that shares this one's memory.
pub(crate) const HAS_CLONE: bool = true;

/// A system call with six arguments, of which the kernel ignores those that it does not take.
///
/// # Safety
/// As the system call's; it must not return twice.
#[inline(always)]
pub(crate) unsafe fn syscall(number: usize, args: [usize; 6]) -> isize {
    let result;
    // SAFETY: the kernel changes x0 only, and the memory that the call is about.
    unsafe {
        asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") args[0] => result,
            in("x1") args[1],
            in("x2") args[2],
            in("x3") args[3],
            in("x4") args[4],
            in("x5") args[5],
            options(nostack),
        );
    }
    result
}

/// clone3(2): in the child calls `entry(arg)` on the stack that `args` names.
///
/// # Safety
/// `args` points to `size` bytes of `struct clone_args` with a stack of its own for the child;
/// `entry` does not return, and what it uses outlives it.
pub(crate) unsafe fn clone3(
    args: *const c_void,
    size: usize,
    entry: Entry,
    arg: *mut c_void,
) -> isize {
    let result;
    // SAFETY: the parent goes on behind the label with its registers as they were; the child has
    // the same registers but another stack, and never comes there.
    unsafe {
        asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x0, {arg}",
            "blr {entry}",
            "brk 1",
            "2:",
            arg = in(reg) arg,
            entry = in(reg) entry,
            in("x8") libc::SYS_clone3 as usize,
            inlateout("x0") args => result,
            in("x1") size,
            // The child's path writes it; the parent's does not.
            out("x30") _,
            options(nostack),
        );
    }
    result
}

/// clone(2), for kernels and sandboxes without clone3: as [`clone3`].
///
/// # Safety
/// As [`clone3`]'s; `stack` is the upper end, `pidfd` and `tid` as clone(2) says.
pub(crate) unsafe fn clone(
    flags: usize,
    stack: *mut c_void,
    pidfd: *mut i32,
    tid: *mut u32,
    entry: Entry,
    arg: *mut c_void,
) -> isize {
    let result;
    // SAFETY: as above. On this architecture the thread-local storage comes before the tid.
    unsafe {
        asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x0, {arg}",
            "blr {entry}",
            "brk 1",
            "2:",
            arg = in(reg) arg,
            entry = in(reg) entry,
            in("x8") libc::SYS_clone as usize,
            inlateout("x0") flags => result,
            in("x1") stack,
            in("x2") pidfd,
            in("x3") 0,
            in("x4") tid,
            out("x30") _,
            options(nostack),
        );
    }
    result
}
