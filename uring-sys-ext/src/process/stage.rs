//! How far a request came.

/// The step of a process request at which it failed, in the order in which they are taken.
///
/// The kernel writes the number to [`Attributes::stage`](super::Attributes::stage) before it posts
/// the completion; the completion's result is the errno of that step.
///
/// ```
/// use uring_sys_ext::process::Stage;
/// assert_eq!(Stage::from_raw(Stage::Uid as u32), Some(Stage::Uid));
/// assert_eq!(Stage::from_raw(1000), None); // of a newer kernel
/// ```
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// No step failed: the new program runs, or the probe found no fault.
    None = 0,
    /// The attributes: unknown flags or bits (`EINVAL`), newer than the kernel (`E2BIG`).
    Attributes = 1,
    /// Reading the path: `ENOENT` if empty, `ENAMETOOLONG`, `EFAULT`.
    Path = 2,
    /// Looking up the descriptors that the attributes name (`EBADF`).
    Descriptors = 3,
    /// Making the process: `EAGAIN` at a limit, `ENOMEM`, `EPERM` for a namespace or cgroup.
    Clone = 4,
    /// Making the pidfd and handing it over: `EMFILE`, `ENFILE`, `EFAULT`.
    Pidfd = 5,
    /// Placing the mapped descriptors.
    FdMap = 6,
    /// `setgroups(2)`.
    Groups = 7,
    /// `setresgid(2)`.
    Gid = 8,
    /// `setresuid(2)`.
    Uid = 9,
    /// `fchdir(2)`.
    Cwd = 10,
    /// `setpgid(2)`.
    ProcessGroup = 11,
    /// `setsid(2)`.
    Session = 12,
    /// Signal mask and dispositions.
    Signals = 13,
    /// `execveat(2)` itself.
    Exec = 14,
}

impl Stage {
    const ALL: [Self; 15] = [
        Self::None,
        Self::Attributes,
        Self::Path,
        Self::Descriptors,
        Self::Clone,
        Self::Pidfd,
        Self::FdMap,
        Self::Groups,
        Self::Gid,
        Self::Uid,
        Self::Cwd,
        Self::ProcessGroup,
        Self::Session,
        Self::Signals,
        Self::Exec,
    ];

    /// The stage of a number, or `None` for one that this version does not know.
    #[must_use]
    pub fn from_raw(raw: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| *stage as u32 == raw)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_dense_and_stay() {
        for (at, stage) in Stage::ALL.into_iter().enumerate() {
            assert_eq!(stage as usize, at);
            assert_eq!(Stage::from_raw(at as u32), Some(stage));
        }
        assert_eq!(Stage::from_raw(Stage::ALL.len() as u32), None);
    }
}
