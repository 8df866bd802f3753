//! What a pidfd tells and does: pidfd_open(2), pidfd_send_signal(2), waitid(2) with `P_PIDFD`.

use std::{
    io,
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::process::ExitStatusExt,
    },
    process::ExitStatus,
};

/// A pidfd of a child of this process (Linux 5.3).
pub(crate) fn open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: takes integers only; the descriptor that it returns is nobody else's.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just made.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// The kernel copies a descriptor table by whole words of its bitmap (`sane_fdtable_size()`, `fs/file.c`):
/// however few a child keeps, it gets copies of all that are open below this, and has to close them.
const WORD: i32 = 64;

/// Makes a pidfd of one number another one above those that every child gets a copy of. As it was, where that cannot be.
pub(crate) fn out_of_the_way(pidfd: OwnedFd) -> OwnedFd {
    if pidfd.as_raw_fd() >= WORD {
        return pidfd;
    }
    // SAFETY: integers only.
    let fd = unsafe { libc::fcntl(pidfd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, WORD) };
    if fd < 0 {
        return pidfd;
    }
    // SAFETY: just made.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Sends a signal to the process, never to one that got its number later (Linux 5.1).
///
/// # Errors
/// `ESRCH` if it is over.
pub(crate) fn signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null siginfo is allowed.
    let sent = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            info,
            0,
        )
    };
    if sent < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Takes the status of a child that is over (Linux 5.4); `None` while it runs.
///
/// A child that somebody else has waited for, or that the kernel threw away because SIGCHLD is
/// ignored, still has its status where the kernel keeps it at the pidfd (`PIDFD_GET_INFO`, Linux
/// 6.15); else `ECHILD`.
pub(crate) fn try_wait(pidfd: BorrowedFd<'_>) -> io::Result<Option<ExitStatus>> {
    wait_with(pidfd, libc::WNOHANG)
}

/// As [`try_wait`], but waits for the end.
pub(crate) fn wait(pidfd: BorrowedFd<'_>) -> io::Result<ExitStatus> {
    loop {
        match wait_with(pidfd, 0) {
            Ok(Some(status)) => return Ok(status),
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn wait_with(pidfd: BorrowedFd<'_>, flags: i32) -> io::Result<Option<ExitStatus>> {
    // SAFETY: integers and null pointers; zero is a value of it.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let fd = pidfd.as_raw_fd() as libc::id_t;
    // SAFETY: `info` is writable for the time of the call.
    let done = unsafe { libc::waitid(libc::P_PIDFD, fd, &raw mut info, libc::WEXITED | flags) };
    if done == 0 {
        // SAFETY: waitid has filled the fields for SIGCHLD, or left zeros.
        let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
        return Ok((pid != 0).then(|| status_of(info.si_code, status)));
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() != Some(libc::ECHILD) {
        return Err(error);
    }
    // Nobody's to wait for. Over, or only not yet?
    if !is_over(pidfd)? {
        if flags & libc::WNOHANG != 0 {
            return Ok(None);
        }
        until_over(pidfd)?;
    }
    kept_status(pidfd).map(Some).ok_or(error)
}

/// waitid's code and status in the form of wait(2).
fn status_of(code: i32, status: i32) -> ExitStatus {
    ExitStatus::from_raw(match code {
        libc::CLD_EXITED => (status & 0xff) << 8,
        libc::CLD_DUMPED => status & 0x7f | 0x80,
        _ => status & 0x7f,
    })
}

fn poll(pidfd: BorrowedFd<'_>, timeout_ms: i32) -> io::Result<bool> {
    let mut entry = libc::pollfd {
        fd: pidfd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one entry, for the time of the call.
    match unsafe { libc::poll(&raw mut entry, 1, timeout_ms) } {
        0 => Ok(false),
        n if n > 0 => Ok(true),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether the process is over, also if it has been waited for.
fn is_over(pidfd: BorrowedFd<'_>) -> io::Result<bool> {
    poll(pidfd, 0)
}

fn until_over(pidfd: BorrowedFd<'_>) -> io::Result<()> {
    poll(pidfd, -1).map(drop)
}

/// `struct pidfd_info` of `include/uapi/linux/pidfd.h`, its first version.
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroupid: u64,
    pid: u32,
    tgid: u32,
    ppid: u32,
    ids: [u32; 8],
    exit_code: i32,
}

const _: () = assert!(size_of::<PidfdInfo>() == 64);

/// `PIDFD_INFO_EXIT`: the exit code is asked for, and was given.
const INFO_EXIT: u64 = 1 << 3;

/// `PIDFD_GET_INFO`, an ioctl of pidfds: `_IOWR(0xff, 11, struct pidfd_info)`, whose size part says
/// how much the caller has room for.
const GET_INFO: libc::c_ulong =
    3 << 30 | (size_of::<PidfdInfo>() as libc::c_ulong) << 16 | 0xff << 8 | 11;

/// The status that the kernel keeps at the pidfd of a process that has been reaped.
///
/// A pidfd says that its process is over a moment before the kernel stores
/// this, so it is asked again for a while.
fn kept_status(pidfd: BorrowedFd<'_>) -> Option<ExitStatus> {
    for _ in 0..100 {
        let mut info = PidfdInfo {
            mask: INFO_EXIT,
            ..PidfdInfo::default()
        };
        // SAFETY: the structure has the size that the request names.
        let done = unsafe { libc::ioctl(pidfd.as_raw_fd(), GET_INFO as _, &raw mut info) };
        if done == 0 && info.mask & INFO_EXIT != 0 {
            return Some(ExitStatus::from_raw(info.exit_code));
        }
        let error = io::Error::last_os_error().raw_os_error();
        if done != 0 && error != Some(libc::ESRCH) {
            return None;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    None
}
