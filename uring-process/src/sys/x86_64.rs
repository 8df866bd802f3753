//! x86_64: system calls without libc (no errno, so no thread-local storage), and clone.
//!
//! Calling convention: syscall(2), and `arch/x86/entry/entry_64.S` in the kernel.

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
    // SAFETY: the kernel changes rax, rcx and r11 only, and the memory that the call is about.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") args[0],
            in("rsi") args[1],
            in("rdx") args[2],
            in("r10") args[3],
            in("r8") args[4],
            in("r9") args[5],
            out("rcx") _,
            out("r11") _,
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
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "mov rdi, {arg}",
            "call {entry}",
            "ud2",
            "2:",
            arg = in(reg) arg,
            entry = in(reg) entry,
            inlateout("rax") libc::SYS_clone3 as usize => result,
            in("rdi") args,
            in("rsi") size,
            out("rcx") _,
            out("r11") _,
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
    // SAFETY: as above.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "mov rdi, {arg}",
            "call {entry}",
            "ud2",
            "2:",
            arg = in(reg) arg,
            entry = in(reg) entry,
            inlateout("rax") libc::SYS_clone as usize => result,
            in("rdi") flags,
            in("rsi") stack,
            in("rdx") pidfd,
            in("r10") tid,
            in("r8") 0,
            out("rcx") _,
            out("r11") _,
            options(nostack),
        );
    }
    result
}
