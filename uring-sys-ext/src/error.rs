//! The one error type of the crate.

use std::io;

/// What went wrong, on what, and the way out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel has no `IORING_REGISTER_QUERY`.
    #[error(
        "io_uring_register(IORING_REGISTER_QUERY): this kernel does not know it; it takes Linux \
         6.18 or newer, on an older one use io_uring::Submitter::register_probe"
    )]
    QueryUnknown,

    /// The kernel or a sandbox does not let this process use io_uring.
    #[error(
        "io_uring is refused ({0}): see the sysctl kernel.io_uring_disabled, the seccomp filter \
         of the container, and whether the kernel has CONFIG_IO_URING"
    )]
    Refused(io::Error),

    /// The place where operations are tried, a thread and a ring, could not be made or used.
    #[error(
        "discovery of process operations: {what}: {source}; go on as if the kernel had none of them"
    )]
    Discovery {
        /// What was attempted.
        what: &'static str,
        /// What the kernel said to it.
        source: io::Error,
    },

    /// The kernel answered a query with an error.
    #[error(
        "io_uring_register(IORING_REGISTER_QUERY, {what}): {source}; \
         io_uring::Submitter::register_probe asks another way"
    )]
    Query {
        /// What was asked for.
        what: &'static str,
        /// What the kernel said to it.
        source: io::Error,
    },

    /// A structure carries data that this version of it does not know.
    #[error(
        "a structure of {given} bytes carries data behind byte {known}, which is all that this \
         side knows; clear what it does not know, or use a newer version"
    )]
    TooBig {
        /// Size in bytes that was given.
        given: usize,
        /// Size in bytes that is understood.
        known: usize,
    },

    /// A structure is shorter than its first version.
    #[error("a structure of {given} bytes is shorter than its first version of {least} bytes")]
    TooSmall {
        /// Size in bytes that was given.
        given: usize,
        /// Size in bytes of the first version.
        least: usize,
    },
}

impl Error {
    /// Whether the error says that io_uring, or the part asked for, is not there: fall back.
    ///
    /// ```
    /// assert!(uring_sys_ext::Error::QueryUnknown.is_unsupported());
    /// ```
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        matches!(self, Self::QueryUnknown | Self::Refused(_))
    }
}

/// Is this how a kernel or sandbox says no to io_uring as a whole?
pub(crate) fn is_refusal(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOSYS | libc::EPERM | libc::EACCES)
    )
}
