//! `IORING_REGISTER_QUERY` (Linux 6.18): what io_uring can do here, asked without a ring.
//!
//! Layouts: `include/uapi/linux/io_uring/query.h`; behaviour: `io_uring/query.c`.
//!
//! The answer cannot tell which operation has which number; for those that this crate is about
//! there is [`discovery`](crate::discovery).

use std::{
    io,
    mem::{offset_of, size_of},
};

use crate::{Error, error::is_refusal};

/// Number of the register operation.
pub const IORING_REGISTER_QUERY: u32 = 35;

/// Value of [`QueryHeader::query_op`] that asks for [`Opcodes`].
pub const IO_URING_QUERY_OPCODES: u32 = 0;

/// `struct io_uring_query_hdr`: one question.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueryHeader {
    /// Pointer to the next question, or 0.
    pub next_entry: u64,
    /// Pointer to where the answer goes; it must be valid during the system call.
    pub query_data: u64,
    /// What is asked: `IO_URING_QUERY_*`.
    pub query_op: u32,
    /// In: size in bytes of the room at `query_data`. Out: how many of them were filled.
    pub size: u32,
    /// In: 0. Out: 0 or a negative errno, `EOPNOTSUPP` for a question that the kernel does not
    /// know.
    pub result: i32,
    /// Must be zero.
    pub reserved: [u32; 3],
}

/// `struct io_uring_query_opcode`: how many operations there are, and which flags are valid.
///
/// A field that the kernel does not fill is zero.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Opcodes {
    /// Number of request operations, `IORING_OP_LAST`.
    pub request_opcodes: u32,
    /// Number of register operations, `IORING_REGISTER_LAST`.
    pub register_opcodes: u32,
    /// `IORING_FEAT_*` bits.
    pub feature_flags: u64,
    /// `IORING_SETUP_*` bits that `io_uring_setup(2)` accepts.
    pub setup_flags: u64,
    /// `IORING_ENTER_*` bits that `io_uring_enter(2)` accepts.
    pub enter_flags: u64,
    /// `IOSQE_*` bits that an entry may have.
    pub sqe_flags: u64,
    /// Number of questions that can be asked; 0 where the kernel does not say.
    pub query_opcodes: u32,
    /// Zero.
    pub reserved: u32,
}

const _: () = {
    assert!(size_of::<QueryHeader>() == 40);
    assert!(offset_of!(QueryHeader, next_entry) == 0);
    assert!(offset_of!(QueryHeader, query_data) == 8);
    assert!(offset_of!(QueryHeader, query_op) == 16);
    assert!(offset_of!(QueryHeader, size) == 20);
    assert!(offset_of!(QueryHeader, result) == 24);
    assert!(offset_of!(QueryHeader, reserved) == 28);
    assert!(size_of::<Opcodes>() == 48);
    assert!(offset_of!(Opcodes, request_opcodes) == 0);
    assert!(offset_of!(Opcodes, register_opcodes) == 4);
    assert!(offset_of!(Opcodes, feature_flags) == 8);
    assert!(offset_of!(Opcodes, setup_flags) == 16);
    assert!(offset_of!(Opcodes, enter_flags) == 24);
    assert!(offset_of!(Opcodes, sqe_flags) == 32);
    assert!(offset_of!(Opcodes, query_opcodes) == 40);
};

/// Asks the kernel for its operations and flags. Does not block and needs no ring.
///
/// # Errors
/// [`Error::QueryUnknown`] before Linux 6.18, [`Error::Refused`] where io_uring is forbidden,
/// [`Error::Query`] for anything else.
///
/// # Example
/// ```
/// use uring_sys_ext::{Error, query};
///
/// match query::opcodes() {
///     Ok(known) => println!("{} operations", known.request_opcodes),
///     Err(error) if error.is_unsupported() => println!("{error}"),
///     Err(error) => return Err(error),
/// }
/// # Ok::<(), Error>(())
/// ```
pub fn opcodes() -> Result<Opcodes, Error> {
    let mut answer = Opcodes::default();
    let mut header = QueryHeader {
        query_data: &raw mut answer as u64,
        query_op: IO_URING_QUERY_OPCODES,
        size: size_of::<Opcodes>() as u32,
        ..QueryHeader::default()
    };
    // SAFETY: the header names one question and room for its answer, which is integers only; both
    // live in this function.
    unsafe { ask(&mut header) }.map_err(explain)?;
    if header.result < 0 {
        let source = io::Error::from_raw_os_error(-header.result);
        return Err(Error::Query {
            what: "IO_URING_QUERY_OPCODES",
            source,
        });
    }
    Ok(answer)
}

/// Puts any questions to the kernel, for those that [`opcodes`] does not cover.
///
/// What was wrong with a single question stands in its [`QueryHeader::result`].
///
/// # Errors
/// The errno of the system call: `EINVAL` or `EBADF` before Linux 6.18, `EFAULT` for a bad pointer,
/// `ERANGE` for a chain of too many questions, `EPERM` or `ENOSYS` where io_uring is forbidden.
///
/// # Safety
/// `query_data` must point at `size` bytes that may be written, holding a value of a type of which
/// any bytes are a value, and `next_entry` must be 0 or point at another such header. The kernel is
/// done with all of it when the call returns.
///
/// ```
/// use uring_sys_ext::query::{self, QueryHeader};
///
/// let mut header = QueryHeader { query_op: u32::MAX, ..QueryHeader::default() };
/// // SAFETY: no room for an answer, and no further question.
/// match unsafe { query::ask(&mut header) } {
///     Ok(()) => assert_eq!(header.result, -libc::EOPNOTSUPP),
///     Err(error) => println!("before Linux 6.18, or forbidden: {error}"),
/// }
/// ```
pub unsafe fn ask(first: &mut QueryHeader) -> io::Result<()> {
    // SAFETY: as the caller promised; -1 stands for "no ring".
    let returned = unsafe {
        libc::syscall(
            libc::SYS_io_uring_register,
            -1,
            IORING_REGISTER_QUERY,
            &raw mut *first,
            0,
        )
    };
    if returned < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Older kernels look at the descriptor (-1) or at the operation first.
fn explain(source: io::Error) -> Error {
    match source.raw_os_error() {
        Some(libc::EINVAL | libc::EBADF | libc::EOPNOTSUPP) => Error::QueryUnknown,
        _ if is_refusal(&source) => Error::Refused(source),
        _ => Error::Query {
            what: "IO_URING_QUERY_OPCODES",
            source,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_older_kernels_and_sandboxes_are_told_apart() {
        let of = |errno| explain(io::Error::from_raw_os_error(errno));
        assert!(matches!(of(libc::EINVAL), Error::QueryUnknown));
        assert!(matches!(of(libc::EBADF), Error::QueryUnknown));
        assert!(matches!(of(libc::EPERM), Error::Refused(_)));
        assert!(matches!(of(libc::ENOSYS), Error::Refused(_)));
        assert!(matches!(of(libc::EFAULT), Error::Query { .. }));
        assert!(!of(libc::EFAULT).is_unsupported());
    }

    #[test]
    fn this_kernel_answers() {
        let known = match opcodes() {
            Err(error) if error.is_unsupported() => {
                eprintln!("SKIP: {error}");
                return;
            }
            other => other.unwrap(),
        };
        // What 6.18, the first kernel with it, has.
        assert!(known.request_opcodes >= 63, "{known:?}");
        assert!(known.register_opcodes > IORING_REGISTER_QUERY, "{known:?}");
        assert_eq!(known.sqe_flags & 0x7f, 0x7f, "{known:?}");
        assert_ne!(
            known.feature_flags & 1,
            0,
            "IORING_FEAT_SINGLE_MMAP: {known:?}"
        );
        assert_ne!(
            known.setup_flags & (1 << 10),
            0,
            "IORING_SETUP_SQE128: {known:?}"
        );
        assert_ne!(
            known.enter_flags & 1,
            0,
            "IORING_ENTER_GETEVENTS: {known:?}"
        );
        assert_eq!(known.reserved, 0);
    }
}
