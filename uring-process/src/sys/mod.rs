//! System calls that no library offers in the form needed here.

#[cfg(target_arch = "aarch64")]
#[path = "aarch64.rs"]
pub(crate) mod raw;
#[cfg(target_arch = "x86_64")]
#[path = "x86_64.rs"]
pub(crate) mod raw;
#[cfg(not(any(target_arch = "aarch64", target_arch = "x86_64")))]
#[path = "portable.rs"]
pub(crate) mod raw;

pub(crate) mod mask;
pub(crate) mod pidfd;

/// The result of a raw system call, or its errno.
pub(crate) fn checked(result: isize) -> Result<usize, i32> {
    // The kernel's own bound, include/linux/err.h.
    if (-4095..0).contains(&result) {
        Err(-result as i32)
    } else {
        Ok(result as usize)
    }
}
