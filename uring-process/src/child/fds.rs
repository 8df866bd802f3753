//! Descriptors of the child: placing them where the new program expects them.

use super::Job;
use crate::sys::{checked, raw::syscall};

/// Where a descriptor of the child comes from.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// Stays as it is, if it is there at all.
    Keep,
    /// A copy of this one.
    Copy(i32),
    /// A copy of this one that goes away with the next exec.
    CopyCloexec(i32),
    /// /dev/null, opened by the child: costs the caller nothing.
    Null { write: bool },
}

/// One descriptor of the child.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Move {
    pub(crate) target: i32,
    pub(crate) source: Source,
}

unsafe fn fcntl(fd: i32, command: i32, arg: usize) -> Result<usize, i32> {
    let args = [fd as usize, command as usize, arg, 0, 0, 0];
    // SAFETY: integers only.
    checked(unsafe { syscall(libc::SYS_fcntl as usize, args) })
}

/// # Safety
/// As [`super::run`]; the descriptor table is the child's own by now.
pub(super) unsafe fn place(job: *mut Job) -> Result<(), i32> {
    // SAFETY: `map_len` moves lie at `map`, the child's to change; the rest are descriptors.
    unsafe {
        let (map, len) = ((*job).map, (*job).map_len);
        // First out of the way what a target would overwrite: so any map works, swaps too.
        for at in 0..len {
            let entry = map.add(at);
            match (*entry).source {
                Source::Copy(fd) if fd != (*entry).target => {
                    (*entry).source = Source::Copy(out_of_the_way(fd, map, len)?);
                }
                Source::CopyCloexec(fd) if fd != (*entry).target => {
                    (*entry).source = Source::CopyCloexec(out_of_the_way(fd, map, len)?);
                }
                _ => {}
            }
        }
        if let Some(report) = (*job).report {
            (*job).report = Some(out_of_the_way(report, map, len)?);
        }
        for at in 0..len {
            let Move { target, source } = *map.add(at);
            match source {
                Source::Keep => {}
                Source::Copy(fd) => copy(fd, target, 0)?,
                Source::CopyCloexec(fd) => copy(fd, target, libc::O_CLOEXEC)?,
                Source::Null { write } => null(target, write)?,
            }
        }
        // Of a table that was shared, the copy ends there.
        let end = (*job).unshare_from.unwrap_or(u32::MAX);
        for at in 0..(*job).gaps_len {
            let (first, last) = *(*job).gaps.add(at);
            if first < end {
                close_on_exec(first, last, (*job).no_close_range)?;
            }
        }
    }
    Ok(())
}

/// The descriptor, or a copy of it where a target has its number.
unsafe fn out_of_the_way(fd: i32, map: *const Move, len: usize) -> Result<i32, i32> {
    let mut fd = fd;
    let mut lowest = 0;
    // SAFETY: as in `place`.
    unsafe {
        while is_target(fd, map, len) {
            fd = fcntl(fd, libc::F_DUPFD_CLOEXEC, lowest)? as i32;
            lowest = fd as usize + 1;
        }
    }
    Ok(fd)
}

/// By halves: the map is sorted by target.
unsafe fn is_target(fd: i32, map: *const Move, len: usize) -> bool {
    let (mut low, mut high) = (0, len);
    while low < high {
        let middle = low.wrapping_add(high) / 2;
        // SAFETY: below `len`.
        let target = unsafe { (*map.add(middle)).target };
        if target == fd {
            return true;
        }
        if target < fd {
            low = middle.wrapping_add(1);
        } else {
            high = middle;
        }
    }
    false
}

unsafe fn copy(fd: i32, target: i32, flags: i32) -> Result<(), i32> {
    // SAFETY: integers only.
    unsafe {
        if fd == target {
            let flag = if flags == 0 { 0 } else { libc::FD_CLOEXEC };
            return fcntl(fd, libc::F_SETFD, flag as usize).map(drop);
        }
        let args = [fd as usize, target as usize, flags as usize, 0, 0, 0];
        checked(syscall(libc::SYS_dup3 as usize, args)).map(drop)
    }
}

unsafe fn null(target: i32, write: bool) -> Result<(), i32> {
    let path = c"/dev/null".as_ptr() as usize;
    let flags = if write {
        libc::O_WRONLY
    } else {
        libc::O_RDONLY
    };
    // SAFETY: the path is a static string, the rest integers.
    unsafe {
        // Most often that makes it the first number that is free.
        syscall(libc::SYS_close as usize, [target as usize, 0, 0, 0, 0, 0]);
        let args = [libc::AT_FDCWD as usize, path, flags as usize, 0, 0, 0];
        let fd = checked(syscall(libc::SYS_openat as usize, args))? as i32;
        if fd != target {
            copy(fd, target, 0)?;
            syscall(libc::SYS_close as usize, [fd as usize, 0, 0, 0, 0, 0]);
        }
    }
    Ok(())
}

/// The new program does not get them; what is still needed until then stays.
unsafe fn close_on_exec(first: u32, last: u32, no_close_range: Option<u32>) -> Result<(), i32> {
    // SAFETY: integers only.
    unsafe {
        if let Some(bound) = no_close_range {
            let mut fd = first;
            while fd <= last && fd < bound {
                // Those that are not open say EBADF.
                let _ = fcntl(fd as i32, libc::F_SETFD, libc::FD_CLOEXEC as usize);
                fd = fd.wrapping_add(1);
            }
            return Ok(());
        }
        let flags = libc::CLOSE_RANGE_CLOEXEC as usize;
        let args = [first as usize, last as usize, flags, 0, 0, 0];
        checked(syscall(libc::SYS_close_range as usize, args)).map(drop)
    }
}
