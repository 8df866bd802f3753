use io_uring::squeue::Entry;

use super::OpCode;
use crate::RawSqe;

/// Starts a chain whose further entries run in a new process: the `IORING_OP_CLONE` of the RFC
/// patches of December 2024.
///
/// The entry must be the first of a chain ([`IO_LINK`] or [`IO_HARDLINK`]), else `EINVAL`. Its own
/// result is 0 or a negative errno, never a PID. Only operations that complete at once can follow,
/// as the last one [`Exec`]. The first failure behind a soft link ends the process; a chain without
/// an exec that succeeds ends in SIGKILL.
///
/// # Kernel
/// In no released one; [`discovery`](crate::discovery) tells.
///
/// ```
/// use uring_sys_ext::opcode::{Clone, Exec, OpCode};
/// use io_uring::squeue::Flags;
///
/// # // SAFETY: built only, never submitted.
/// # let (clone, exec) = unsafe { (OpCode::assume(58), OpCode::assume(59)) };
/// let argv = [c"true".as_ptr(), std::ptr::null()];
/// let envp = [std::ptr::null()];
/// let chain = [
///     Clone::new(clone).build().flags(Flags::IO_LINK),
///     Exec::new(exec, libc::AT_FDCWD, c"/bin/true".as_ptr(), argv.as_ptr(), envp.as_ptr()).build(),
/// ];
/// assert_eq!(chain[1].get_opcode(), 59);
/// ```
///
/// [`IO_LINK`]: io_uring::squeue::Flags::IO_LINK
/// [`IO_HARDLINK`]: io_uring::squeue::Flags::IO_HARDLINK
#[derive(Debug)]
pub struct Clone {
    number: OpCode,
}

impl Clone {
    /// A new process.
    #[must_use]
    pub fn new(number: OpCode) -> Self {
        Self { number }
    }

    /// The entry, all zero but for the number: anything else is `EINVAL`.
    #[must_use]
    pub fn build(self) -> Entry {
        RawSqe {
            opcode: self.number.get(),
            ..RawSqe::default()
        }
        .into()
    }
}

/// Runs a program in the process that [`Clone`](struct@Clone) started: the RFC's `IORING_OP_EXEC`,
/// `execveat(2)` as an entry.
///
/// Result: 0, or a negative errno; `EINVAL` outside of a chain that [`Clone`](struct@Clone) heads.
/// After one that succeeds the rest of the chain is cancelled, so a search in `PATH` is a run of
/// these with [`IO_HARDLINK`](io_uring::squeue::Flags::IO_HARDLINK).
///
/// # Lifetime of the pointers
/// `path`, `argv` and `envp` must stay valid and unchanged until this entry's own completion.
///
/// # Kernel
/// In no released one; [`discovery`](crate::discovery) tells. For an example see
/// [`Clone`](struct@Clone).
#[derive(Debug)]
pub struct Exec {
    raw: RawSqe,
}

impl Exec {
    /// Runs `path`, relative to `dirfd`, a plain descriptor; both arrays end with a null pointer.
    #[must_use]
    pub fn new(
        number: OpCode,
        dirfd: i32,
        path: *const libc::c_char,
        argv: *const *const libc::c_char,
        envp: *const *const libc::c_char,
    ) -> Self {
        let raw = RawSqe {
            opcode: number.get(),
            fd: dirfd,
            addr: path as u64,
            off: argv as u64,
            addr3: envp as u64,
            ..RawSqe::default()
        };
        Self { raw }
    }

    /// `AT_EMPTY_PATH`, `AT_SYMLINK_NOFOLLOW`.
    #[must_use]
    pub fn flags(mut self, flags: u32) -> Self {
        self.raw.op_flags = flags;
        self
    }

    /// The entry, for the queue.
    #[must_use]
    pub fn build(self) -> Entry {
        self.raw.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_those_of_the_rfc() {
        // SAFETY: never submitted.
        let (clone, exec) = unsafe { (OpCode::assume(58), OpCode::assume(59)) };
        let raw = RawSqe::from(Clone::new(clone).build());
        assert_eq!(
            raw,
            RawSqe {
                opcode: 58,
                ..RawSqe::default()
            }
        );

        let argv = [c"a".as_ptr(), std::ptr::null()];
        let envp = [c"B=c".as_ptr(), std::ptr::null()];
        let path = c"p";
        let raw = RawSqe::from(
            Exec::new(exec, 7, path.as_ptr(), argv.as_ptr(), envp.as_ptr())
                .flags(0x100)
                .build(),
        );
        let expected = RawSqe {
            opcode: 59,
            fd: 7,
            off: argv.as_ptr() as u64,
            addr: path.as_ptr() as u64,
            op_flags: 0x100,
            addr3: envp.as_ptr() as u64,
            ..RawSqe::default()
        };
        assert_eq!(raw, expected);
    }
}
