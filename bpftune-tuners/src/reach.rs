//! A copy of another process's descriptor, to change a setting of what it stands for.

use std::os::fd::OwnedFd;

use rustix::{
    fs::fstat,
    io::{Errno, Result},
    process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open},
};

/// Takes the copy (pidfd_getfd(2), Linux 5.6, CAP_SYS_PTRACE).
///
/// Process and descriptor numbers are used again, so it is checked that this is the wanted inode still.
///
/// # Errors
/// Where the process is gone or may not be reached, or the descriptor means something else now (`EBADF`).
pub(crate) fn copy_of(process: u32, descriptor: u32, inode: u64) -> Result<OwnedFd> {
    let process = i32::try_from(process).ok().and_then(Pid::from_raw);
    let process = pidfd_open(process.ok_or(Errno::SRCH)?, PidfdFlags::empty())?;
    let descriptor = i32::try_from(descriptor).map_err(|_| Errno::BADF)?;
    let copy = pidfd_getfd(process, descriptor, PidfdGetfdFlags::empty())?;
    if fstat(&copy)?.st_ino == inode {
        Ok(copy)
    } else {
        Err(Errno::BADF)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::fd::AsRawFd, os::unix::fs::MetadataExt};

    use super::*;

    #[test]
    fn only_what_is_still_the_same_is_copied() {
        let file = File::open("/proc/self/status").unwrap();
        let inode = file.metadata().unwrap().ino();
        let (me, descriptor) = (std::process::id(), file.as_raw_fd() as u32);
        match copy_of(me, descriptor, inode) {
            Ok(copy) => assert_eq!(fstat(&copy).unwrap().st_ino, inode),
            Err(Errno::PERM | Errno::NOSYS) => {
                println!("SKIP: pidfd_getfd(2) is not allowed here");
                return;
            }
            Err(other) => panic!("{other}"),
        }
        assert_eq!(copy_of(me, descriptor, inode + 1).unwrap_err(), Errno::BADF);
        assert_eq!(copy_of(0, descriptor, inode).unwrap_err(), Errno::SRCH);
    }
}
