//! The request, as it lies in a submission queue entry.

use std::mem::{offset_of, size_of};

use crate::RawSqe;

bitflags::bitflags! {
    /// Flags of the operation itself; they lie where other operations have `ioprio`, as those of
    /// accept and send do.
    #[repr(transparent)]
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
    pub struct OpFlags: u16 {
        /// Complete when the process has ended, with its status as `waitpid(2)` gives it, instead of
        /// with the PID when its program runs.
        ///
        /// The process reaps itself, as if SIGCHLD were ignored: no signal, nothing to wait for, and
        /// its times are not added to those of the submitter's children. As long as the request is
        /// pending, cancelling it ends the program, and so does a
        /// [`LinkTimeout`](io_uring::opcode::LinkTimeout) behind it, or the end of the ring or of
        /// the thread that submitted. A status other than 0 breaks a soft link.
        const EXIT = 1 << 0;
        /// Together with [`EXIT`](Self::EXIT), else `EINVAL`: the submitter is about to wait for this
        /// process and for nothing else, so both may share a processor. A hint, as
        /// `SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP` is elsewhere; the other half of it, being woken on
        /// that processor, needs a ring with
        /// [`DEFER_TASKRUN`](io_uring::Builder::setup_defer_taskrun).
        const SYNC = 1 << 1;
        /// Check attributes and path, make no process, complete with 0 or the error.
        ///
        /// The bit is chosen so that an operation that is not this one refuses the entry: most
        /// take no `ioprio` at all, for reads and writes it is an I/O priority class that does not
        /// exist, and for sockets a flag that does not exist.
        const PROBE = 1 << 15;
    }
}

/// `struct io_uring_process`: a submission queue entry as the process operation reads it.
///
/// The offsets are those of [`RawSqe`], to and from which it converts without loss. On a ring with
/// 128-byte entries the second half must be zero.
///
/// [`opcode::Process`](crate::opcode::Process) fills it in.
///
/// # Lifetime of the pointers
/// `path`, `argv`, `envp` and `attributes`, and everything they point at, must stay valid and
/// unchanged until the completion has been taken: the new process reads them, not the submission.
///
/// # Errors, as the completion's result
/// `EINVAL`: a reserved field or unknown bit is set, or [`IOSQE_FIXED_FILE`] or buffer selection
/// is asked for. `E2BIG`: see [`sized`](crate::sized). Else those of `execveat(2)`, `clone(2)` and
/// of the calls that [`Stage`](super::Stage) names.
///
/// # Example
/// ```
/// use uring_sys_ext::{RawSqe, process::Request};
///
/// let path = c"/bin/true";
/// let request = Request { path: path.as_ptr() as u64, dirfd: -100, ..Request::default() };
/// let raw = RawSqe::from(request);
/// assert_eq!((raw.addr, raw.fd), (path.as_ptr() as u64, -100));
/// assert_eq!(Request::from(raw), request);
/// ```
///
/// [`IOSQE_FIXED_FILE`]: io_uring::squeue::Flags
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Request {
    /// Number of the operation in this kernel.
    pub opcode: u8,
    /// `IOSQE_*` bits.
    pub flags: u8,
    /// [`OpFlags`].
    pub op_flags: u16,
    /// Directory from which a relative `path` starts, or `AT_FDCWD`: a plain descriptor.
    pub dirfd: i32,
    /// Pointer to an array of pointers to NUL-terminated strings, ended by a null pointer.
    pub argv: u64,
    /// Pointer to a NUL-terminated path.
    pub path: u64,
    /// Size in bytes of what `attributes` points at; 0 if there are none.
    pub attributes_size: u32,
    /// `AT_EMPTY_PATH` and `AT_SYMLINK_NOFOLLOW`, as in `execveat(2)`.
    pub exec_flags: u32,
    /// Handed back in the completion.
    pub user_data: u64,
    /// Must be zero.
    pub reserved: u16,
    /// Registered credentials that the new process starts with; 0 is those of the submitter.
    pub personality: u16,
    /// Must be zero.
    pub reserved2: u32,
    /// Pointer to an array of the kind of `argv`.
    pub envp: u64,
    /// Pointer to [`Attributes`](super::Attributes), or 0; the kernel writes to it too.
    pub attributes: u64,
}

const _: () = {
    assert!(size_of::<Request>() == size_of::<RawSqe>());
    assert!(offset_of!(Request, opcode) == offset_of!(RawSqe, opcode));
    assert!(offset_of!(Request, flags) == offset_of!(RawSqe, flags));
    assert!(offset_of!(Request, op_flags) == offset_of!(RawSqe, ioprio));
    assert!(offset_of!(Request, dirfd) == offset_of!(RawSqe, fd));
    assert!(offset_of!(Request, argv) == offset_of!(RawSqe, off));
    assert!(offset_of!(Request, path) == offset_of!(RawSqe, addr));
    assert!(offset_of!(Request, attributes_size) == offset_of!(RawSqe, len));
    assert!(offset_of!(Request, exec_flags) == offset_of!(RawSqe, op_flags));
    assert!(offset_of!(Request, user_data) == offset_of!(RawSqe, user_data));
    assert!(offset_of!(Request, reserved) == offset_of!(RawSqe, buf_index));
    assert!(offset_of!(Request, personality) == offset_of!(RawSqe, personality));
    assert!(offset_of!(Request, reserved2) == offset_of!(RawSqe, file_index));
    assert!(offset_of!(Request, envp) == offset_of!(RawSqe, addr3));
    assert!(offset_of!(Request, attributes) == offset_of!(RawSqe, pad2));
};

impl From<Request> for RawSqe {
    fn from(request: Request) -> Self {
        // SAFETY: both are `repr(C)`, integers only, of the same size and without padding, and
        // every field lies at the same offset, as checked above.
        unsafe { std::mem::transmute::<Request, RawSqe>(request) }
    }
}

impl From<RawSqe> for Request {
    fn from(raw: RawSqe) -> Self {
        // SAFETY: as above, the other way.
        unsafe { std::mem::transmute::<RawSqe, Request>(raw) }
    }
}
